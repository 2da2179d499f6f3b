//! The recorded RTP streams of `tests/data` (see its README), and a path with its clock simulated.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each module uses its own part of this one, and a test stops at what it did not expect"
)]

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use twinsight_media::clock::ManualClock;
use twinsight_media::codec::Codec;
use twinsight_media::decode::decoder::DecoderKind;
use twinsight_media::decode::gate::KeyframeReason;
use twinsight_media::decode::path::{DecodeConfig, PathError, ReceivePath};
use twinsight_media::picture::Frame;
use twinsight_media::rtp::{Arrival, RtpPacket, RtpTimestamp, SequenceNumber, Ssrc};

/// Frames from one keyframe to the next in every recording.
pub(crate) const KEYFRAME_INTERVAL: usize = 20;
/// Time between two frames of a recording, which is played three times as fast as it was filmed.
pub(crate) const FRAME_TIME: Duration = Duration::from_micros(33_333);

/// A recorded stream.
pub(crate) struct Recording {
    pub(crate) packets: Vec<RtpPacket>,
    /// For each picture in display order, half of the SHA-256 of ffmpeg's I420 samples, in hex.
    pub(crate) sha256: Vec<String>,
    /// RTP timestamp to index in display order.
    pub(crate) index: HashMap<RtpTimestamp, usize>,
}

impl Recording {
    pub(crate) fn load(name: &str) -> Self {
        // Beside the crate that includes this file, or above it.
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
        let folder = crates
            .map(|folder| folder.join("tests/data"))
            .find(|folder| folder.is_dir())
            .unwrap();
        let bytes = std::fs::read(folder.join(format!("rtp_{name}.bin"))).unwrap();
        let hashes = std::fs::read_to_string(folder.join(format!("rtp_{name}.sha256"))).unwrap();
        let arrived_at = Instant::now();
        let codec = if name.starts_with("vp8") {
            Codec::Vp8
        } else {
            Codec::H264
        };
        let mut packets = Vec::new();
        let mut rest = &bytes[..];
        while let Some((length, behind)) = rest.split_first_chunk::<2>() {
            let (packet, behind) = behind.split_at(usize::from(u16::from_be_bytes(*length)));
            rest = behind;
            assert_eq!(packet[0], 0x80, "no padding, extension or CSRC");
            packets.push(RtpPacket {
                sequence: SequenceNumber(u16::from_be_bytes([packet[2], packet[3]])),
                timestamp: RtpTimestamp(u32::from_be_bytes([
                    packet[4], packet[5], packet[6], packet[7],
                ])),
                marker: packet[1] & 0x80 != 0,
                ssrc: Ssrc(1),
                codec,
                payload: Bytes::copy_from_slice(&packet[12..]),
                arrived_at,
            });
        }
        let first = packets[0].timestamp;
        for packet in &mut packets {
            let ticks = packet.timestamp.ticks_since(first);
            packet.timestamp = first.wrapping_add((ticks / 3).cast_unsigned());
        }
        let mut order: Vec<i32> = packets
            .iter()
            .map(|packet| packet.timestamp.ticks_since(first))
            .collect();
        order.sort_unstable();
        order.dedup();
        let index = order
            .iter()
            .enumerate()
            .map(|(i, ticks)| (first.wrapping_add(ticks.cast_unsigned()), i))
            .collect();
        Self {
            packets,
            sha256: hashes.lines().map(str::to_owned).collect(),
            index,
        }
    }

    /// The packets of each access unit, in decoding order.
    pub(crate) fn units(&self) -> Vec<&[RtpPacket]> {
        self.packets
            .chunk_by(|a, b| a.timestamp == b.timestamp)
            .collect()
    }
}

pub(crate) fn sha256(frame: &Frame) -> String {
    let planes = frame.planes();
    let mut hash = Sha256::new();
    for plane in [planes.y, planes.u, planes.v] {
        hash.update(plane.data);
    }
    hash.finalize()
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A quick hash, for pictures of this process.
pub(crate) fn quick_hash(frame: &Frame) -> u64 {
    let planes = frame.planes();
    let mut hash = DefaultHasher::new();
    for plane in [planes.y, planes.u, planes.v] {
        hash.write(plane.data);
    }
    hash.finish()
}

/// A receive path whose clock the test moves.
pub(crate) struct Simulation {
    pub(crate) path: ReceivePath,
    pub(crate) config: DecodeConfig,
    pub(crate) now: Instant,
    pub(crate) errors: Vec<PathError>,
    pub(crate) requests: Vec<(Instant, KeyframeReason)>,
}

impl Simulation {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        let clock = Arc::new(ManualClock::at(now));
        let config = DecodeConfig::new(Arc::default(), clock, DecoderKind::Software);
        Self {
            path: ReceivePath::new(&config),
            config,
            now,
            errors: Vec::new(),
            requests: Vec::new(),
        }
    }

    /// Moves the clock, and does on the way what was due.
    pub(crate) fn advance_to(&mut self, at: Instant, on_frame: &mut dyn FnMut(Frame)) {
        while let Some(deadline) = self.path.deadline()
            && deadline <= at
        {
            self.now = self.now.max(deadline);
            self.work(on_frame);
        }
        self.now = at;
    }

    /// A packet arrives now.
    pub(crate) fn arrive(&mut self, packet: &RtpPacket, on_frame: &mut dyn FnMut(Frame)) {
        let mut packet = packet.clone();
        packet.arrived_at = self.now;
        self.path.take(Arrival::Rtp(packet));
        self.work(on_frame);
    }

    /// Packets arrive at the pace of the recording, none missing.
    pub(crate) fn play(&mut self, packets: &[RtpPacket], on_frame: &mut dyn FnMut(Frame)) {
        for unit in packets.chunk_by(|a, b| a.timestamp == b.timestamp) {
            for packet in unit {
                self.arrive(packet, on_frame);
            }
            self.advance_to(self.now + FRAME_TIME, on_frame);
        }
    }

    fn work(&mut self, on_frame: &mut dyn FnMut(Frame)) {
        while self.path.step(self.now, on_frame) {}
        self.errors.extend(self.path.take_error());
        while let Some(reason) = self.path.keyframe_request(self.now) {
            self.requests.push((self.now, reason));
        }
    }

    /// Closes the books: units received, frames decoded.
    pub(crate) fn close(mut self) -> (u64, u64) {
        self.path.finish(self.now);
        let ledger = &self.config.ledger;
        assert_eq!(
            ledger.units_held(),
            0,
            "the ledger of access units balances"
        );
        (ledger.units_received(), ledger.frames_decoded())
    }
}
