//! Access units to RTP payloads (RFC 6184, packetization mode 1): an access unit comes in as a byte stream (Annex B),
//! payloads go out, of which the last one gets the marker. Whoever sends video calls it.

use bytes::{BufMut, Bytes, BytesMut};

use super::nal::{NalType, annex_b};

/// The payloads of one access unit: parameter sets are aggregated (STAP-A), other NAL units go out as they are if they fit,
/// and else in fragments (FU-A). `max_payload_bytes` below 3 counts as 3.
pub fn packetize(unit: &[u8], max_payload_bytes: usize) -> Vec<Bytes> {
    let max = max_payload_bytes.clamp(3, usize::from(u16::MAX));
    let mut payloads = Vec::new();
    let mut sets: Vec<&[u8]> = Vec::new();
    for nal in annex_b(unit) {
        let is_set = matches!(NalType::of(nal[0]), NalType::Sps | NalType::Pps);
        if !(is_set && aggregate_bytes(&sets) + 2 + nal.len() <= max) {
            flush(&mut sets, max, &mut payloads);
        }
        if is_set {
            sets.push(nal);
        } else {
            single_or_fragments(nal, max, &mut payloads);
        }
    }
    flush(&mut sets, max, &mut payloads);
    payloads
}

fn aggregate_bytes(sets: &[&[u8]]) -> usize {
    1 + sets.iter().map(|set| 2 + set.len()).sum::<usize>()
}

/// Sends the collected parameter sets: several in one STAP-A (section 5.7.1).
fn flush(sets: &mut Vec<&[u8]>, max: usize, payloads: &mut Vec<Bytes>) {
    if let [set] = sets[..] {
        single_or_fragments(set, max, payloads);
    } else if !sets.is_empty() {
        let reference = sets.iter().map(|set| set[0] & 0x60).max().unwrap_or(0);
        let mut payload = BytesMut::with_capacity(aggregate_bytes(sets));
        payload.put_u8(reference | 24);
        for set in sets.iter() {
            let size = u16::try_from(set.len()).expect(
                "a set of an aggregate is below its maximum, because it was let in by size",
            );
            payload.put_u16(size);
            payload.put_slice(set);
        }
        payloads.push(payload.freeze());
    }
    sets.clear();
}

fn single_or_fragments(nal: &[u8], max: usize, payloads: &mut Vec<Bytes>) {
    if nal.len() <= max {
        payloads.push(Bytes::copy_from_slice(nal));
        return;
    }
    // Section 5.8: the NAL header travels in the indicator (reference bits) and FU header (type).
    let (header, body) = (nal[0], &nal[1..]);
    let chunks = body.chunks(max - 2);
    let last = chunks.len() - 1;
    for (i, chunk) in chunks.enumerate() {
        let start = if i == 0 { 0x80 } else { 0 };
        let end = if i == last { 0x40 } else { 0 };
        let mut payload = BytesMut::with_capacity(2 + chunk.len());
        payload.put_u8(header & 0xe0 | 28);
        payload.put_u8(start | end | header & 0x1f);
        payload.put_slice(chunk);
        payloads.push(payload.freeze());
    }
}
