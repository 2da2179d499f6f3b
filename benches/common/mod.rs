//! Recorded streams, which several benches play.
#![allow(
    dead_code,
    reason = "each bench is a program of its own and uses a part of it"
)]

use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use twinsight_media::codec::Codec;
use twinsight_media::rtp::RtpPacket;

/// The time between two frames of a recording, in ticks of 90 kHz.
const TICKS: u32 = 9000;

/// Loads the packets of a recording, all with the time of arrival `at`.
pub(crate) fn load(name: &str, codec: Codec, at: Instant) -> Vec<RtpPacket> {
    let file = format!("tests/data/rtp_{name}.bin");
    let bytes = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(file))
        .expect("the recording is in the repository");
    let mut packets = Vec::new();
    let mut rest = &bytes[..];
    while let Some((length, behind)) = rest.split_first_chunk::<2>() {
        let (packet, behind) = behind.split_at(usize::from(u16::from_be_bytes(*length)));
        rest = behind;
        packets.push(RtpPacket {
            sequence: u16::from_be_bytes([packet[2], packet[3]]).into(),
            timestamp: u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]).into(),
            marker: packet[1] & 0x80 != 0,
            ssrc: 1.into(),
            codec,
            payload: Bytes::copy_from_slice(&packet[12..]),
            arrived_at: at,
        });
    }
    packets
}

/// A recording that goes on for ever, as a camera does: it is played again and again, while its sequence numbers and timestamps go on.
#[derive(Debug)]
pub(crate) struct Playback {
    packets: Vec<RtpPacket>,
    next: usize,
    /// This is added to the sequence numbers of this round.
    sequences: u16,
    ticks: u32,
}

impl Playback {
    /// A recording that begins with its first packet.
    pub(crate) fn new(name: &str, codec: Codec) -> Self {
        Self {
            packets: load(name, codec, Instant::now()),
            next: 0,
            sequences: 0,
            ticks: 0,
        }
    }

    /// Gives the next packet, as if it arrived at `now`.
    pub(crate) fn next(&mut self, now: Instant) -> RtpPacket {
        if self.next == self.packets.len() {
            let (first, last) = (&self.packets[0], &self.packets[self.next - 1]);
            let sequences = last.sequence.packets_since(first.sequence).cast_unsigned();
            self.sequences = self.sequences.wrapping_add(sequences).wrapping_add(1);
            let ticks = last.timestamp.ticks_since(first.timestamp).cast_unsigned() + TICKS;
            self.ticks = self.ticks.wrapping_add(ticks);
            self.next = 0;
        }
        let mut packet = self.packets[self.next].clone();
        self.next += 1;
        packet.sequence = packet.sequence.wrapping_add(self.sequences);
        packet.timestamp = packet.timestamp.wrapping_add(self.ticks);
        packet.arrived_at = now;
        packet
    }
}
