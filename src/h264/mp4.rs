//! H.264 out of MP4: a file in memory comes in, its access units go out as a byte stream each
//! (Annex B), in the order of decoding, with the parameter sets before every IDR picture. Clips
//! call it. Only where the bytes lie is read from the file: how fast they play is the caller's choice.

use mp4_atom::{Atom, Avcc, Codec, DecodeMaybe, Header, Moof, Moov, Stbl, StszSamples, Trak};

use super::nal::{NalType, START_CODE};

/// Access units of one file that are taken; at 30 frames a second it is three days.
const MAX_UNITS: usize = 8 << 20;

/// Why a file gives no access units.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mp4Error {
    /// It ends too early, or a size or offset in it leads nowhere.
    #[error("is a damaged MP4 file: {0}")]
    Damaged(&'static str),
    /// The reader's own words.
    #[error("is an MP4 file that cannot be read: {0}")]
    Unreadable(String),
    /// There is no picture track.
    #[error("is an MP4 file without a video track")]
    NoVideo,
    /// The picture track is coded otherwise.
    #[error("is an MP4 file with {codec} video, and only H.264 (`avc1`) is sent and decoded")]
    OtherCodec {
        /// Its four letters.
        codec: String,
    },
}

/// An access unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mp4Unit {
    /// Its NAL units as a byte stream (Annex B).
    pub data: Vec<u8>,
    /// True when decoding can begin with it.
    pub is_idr: bool,
}

/// Where a sample lies in the file.
#[derive(Debug, Clone, Copy)]
struct Extent {
    offset: u64,
    bytes: u32,
}

/// True for what begins like an MP4 or QuickTime file.
pub fn is_mp4(file: &[u8]) -> bool {
    const FIRST_BOXES: [&[u8]; 6] = [b"ftyp", b"styp", b"moov", b"mdat", b"free", b"wide"];
    file.get(4..8)
        .is_some_and(|kind| FIRST_BOXES.contains(&kind))
}

/// The access units of the first H.264 track.
///
/// # Errors
/// When the file is damaged, or has no H.264.
pub fn access_units(file: &[u8]) -> Result<Vec<Mp4Unit>, Mp4Error> {
    let (moov, fragments) = boxes(file)?;
    let (track, avcc) = h264_track(&moov)?;
    let mut extents = Vec::new();
    table_extents(&track.mdia.minf.stbl, &mut extents)?;
    for (at, moof) in &fragments {
        fragment_extents(*at, moof, &moov, track.tkhd.track_id, &mut extents)?;
    }
    extents
        .into_iter()
        .map(|extent| {
            let bytes = usize::try_from(extent.offset)
                .ok()
                .and_then(|from| file.get(from..from.checked_add(extent.bytes as usize)?))
                .ok_or(Mp4Error::Damaged(
                    "it ends before its last picture: copy it again",
                ))?;
            to_annex_b(bytes, avcc)
        })
        .collect()
}

/// The movie box, and the fragments with their place in the file.
fn boxes(file: &[u8]) -> Result<(Moov, Vec<(u64, Moof)>), Mp4Error> {
    let unreadable = |error: mp4_atom::Error| Mp4Error::Unreadable(error.to_string());
    let (mut moov, mut fragments) = (None, Vec::new());
    let mut rest = file;
    while !rest.is_empty() {
        let at = (file.len() - rest.len()) as u64;
        let Some(header) = Header::decode_maybe(&mut rest).map_err(unreadable)? else {
            break;
        };
        let bytes = header.size.unwrap_or(rest.len());
        let Some((mut body, behind)) = rest.split_at_checked(bytes) else {
            // A copy that was cut off in its pictures: those that are whole are known by the movie box.
            break;
        };
        if header.kind == Moov::KIND {
            moov = Some(Moov::decode_body(&mut body).map_err(unreadable)?);
        } else if header.kind == Moof::KIND {
            fragments.push((at, Moof::decode_body(&mut body).map_err(unreadable)?));
        }
        rest = behind;
    }
    let moov = moov.ok_or(Mp4Error::Damaged(
        "it has no table of contents (`moov`), as when a recording was cut off",
    ))?;
    Ok((moov, fragments))
}

fn h264_track(moov: &Moov) -> Result<(&Trak, &Avcc), Mp4Error> {
    let mut other = None;
    for track in &moov.trak {
        if &track.mdia.hdlr.handler.to_string() != "vide" {
            continue;
        }
        for codec in &track.mdia.minf.stbl.stsd.codecs {
            match codec {
                Codec::Avc1(avc1) => return Ok((track, &avc1.avcc)),
                codec => other = other.or_else(|| Some(name(codec))),
            }
        }
    }
    Err(match other {
        Some(codec) => Mp4Error::OtherCodec { codec },
        None => Mp4Error::NoVideo,
    })
}

fn name(codec: &Codec) -> String {
    match codec {
        Codec::Avc3(_) => "avc3".to_owned(),
        Codec::Hev1(_) | Codec::Hvc1(_) => "H.265".to_owned(),
        Codec::Vp08(_) => "VP8".to_owned(),
        Codec::Vp09(_) => "VP9".to_owned(),
        Codec::Av01(_) => "AV1".to_owned(),
        Codec::Unknown(kind, _) => kind.to_string(),
        _ => "another kind of".to_owned(),
    }
}

/// The samples that the movie box lists (ISO/IEC 14496-12, 8.7): sizes one by one, chunks of several
/// samples each, an offset a chunk.
fn table_extents(table: &Stbl, extents: &mut Vec<Extent>) -> Result<(), Mp4Error> {
    let offsets: Vec<u64> = match (&table.stco, &table.co64) {
        (Some(short), _) => short.entries.iter().copied().map(u64::from).collect(),
        (None, Some(long)) => long.entries.clone(),
        (None, None) => Vec::new(),
    };
    let mut sizes: Box<dyn Iterator<Item = u32>> = match &table.stsz.samples {
        StszSamples::Identical { count, size } => {
            Box::new(std::iter::repeat_n(*size, *count as usize))
        }
        StszSamples::Different { sizes } => Box::new(sizes.iter().copied()),
    };
    let mut run = table.stsc.entries.iter().peekable();
    let mut samples_per_chunk = 0;
    for (chunk, mut offset) in (1_u32..).zip(offsets) {
        while let Some(entry) = run.next_if(|entry| entry.first_chunk <= chunk) {
            samples_per_chunk = entry.samples_per_chunk;
        }
        for bytes in sizes.by_ref().take(samples_per_chunk as usize) {
            push(extents, Extent { offset, bytes })?;
            offset = offset.saturating_add(u64::from(bytes));
        }
    }
    if sizes.next().is_some() {
        return Err(Mp4Error::Damaged(
            "it has more pictures than places for them",
        ));
    }
    Ok(())
}

/// The samples of a fragment (8.8): sizes in the run, or the fragment's default, or the track's.
fn fragment_extents(
    at: u64,
    moof: &Moof,
    moov: &Moov,
    track_id: u32,
    extents: &mut Vec<Extent>,
) -> Result<(), Mp4Error> {
    let track_default = moov.mvex.as_ref().and_then(|extends| {
        let of_track = extends.trex.iter().find(|trex| trex.track_id == track_id)?;
        Some(of_track.default_sample_size)
    });
    for traf in moof.traf.iter().filter(|t| t.tfhd.track_id == track_id) {
        let base = traf.tfhd.base_data_offset.unwrap_or(at);
        let default = traf.tfhd.default_sample_size.or(track_default);
        let mut offset = base;
        for run in &traf.trun {
            if let Some(from) = run.data_offset {
                offset = base.saturating_add_signed(i64::from(from));
            }
            for sample in run.samples.iter() {
                let bytes = sample.size.or(default).ok_or(Mp4Error::Damaged(
                    "a fragment does not say how large its pictures are",
                ))?;
                push(extents, Extent { offset, bytes })?;
                offset = offset.saturating_add(u64::from(bytes));
            }
        }
    }
    Ok(())
}

fn push(extents: &mut Vec<Extent>, extent: Extent) -> Result<(), Mp4Error> {
    if extents.len() >= MAX_UNITS {
        return Err(Mp4Error::Damaged("it claims to have millions of pictures"));
    }
    extents.push(extent);
    Ok(())
}

/// A sample's NAL units with start codes in place of their lengths. An IDR picture that brings no
/// parameter sets of its own gets the track's.
fn to_annex_b(sample: &[u8], avcc: &Avcc) -> Result<Mp4Unit, Mp4Error> {
    let nals = split(sample, usize::from(avcc.length_size))?;
    let kind = |nal: &&[u8]| nal.first().map(|header| NalType::of(*header));
    let is_idr = nals.iter().any(|nal| kind(nal) == Some(NalType::IdrSlice));
    let has_sps = nals.iter().any(|nal| kind(nal) == Some(NalType::Sps));
    let mut data = Vec::with_capacity(sample.len() + 64);
    let mut write = |nal: &[u8]| {
        data.extend_from_slice(&START_CODE);
        data.extend_from_slice(nal);
    };
    let mut nals = nals.into_iter().peekable();
    // A delimiter stays the first of its unit.
    if let Some(delimiter) = nals.next_if(|nal| kind(nal) == Some(NalType::Delimiter)) {
        write(delimiter);
    }
    if is_idr && !has_sps {
        let sets = avcc.sequence_parameter_sets.iter();
        sets.chain(&avcc.picture_parameter_sets)
            .for_each(|set| write(set));
    }
    nals.for_each(write);
    Ok(Mp4Unit { data, is_idr })
}

fn split(mut sample: &[u8], length_bytes: usize) -> Result<Vec<&[u8]>, Mp4Error> {
    let mut nals = Vec::new();
    while let Some((length, rest)) = sample.split_at_checked(length_bytes) {
        let length = length
            .iter()
            .fold(0_usize, |value, byte| value << 8 | usize::from(*byte));
        let (nal, behind) = rest
            .split_at_checked(length)
            .ok_or(Mp4Error::Damaged("a picture in it is shorter than it says"))?;
        if !nal.is_empty() {
            nals.push(nal);
        }
        sample = behind;
    }
    Ok(nals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_mp4_is_an_error() {
        assert!(!is_mp4(b"\0\0\0\x01\x67\x42\0\x1f"));
        let only_a_brand = b"\0\0\0\x10ftypisom\0\0\0\0";
        assert!(is_mp4(only_a_brand));
        assert!(matches!(
            access_units(only_a_brand),
            Err(Mp4Error::Damaged(_))
        ));
        assert!(access_units(b"").is_err());
    }

    #[test]
    fn a_picture_that_is_shorter_than_it_says_is_damage() {
        assert_eq!(
            split(&[0, 2, 0x65, 1, 0, 1, 0x41], 2),
            Ok(vec![&[0x65, 1][..], &[0x41]])
        );
        assert!(split(&[0, 9, 0x65], 2).is_err());
    }
}
