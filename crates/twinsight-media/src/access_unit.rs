//! What the depacketizers hand to the decoder, whatever the codec: an access unit, in H.264's words, is
//! all that was coded of one picture; with VP8 it is a frame.

use std::time::Instant;

use bytes::{Bytes, BytesMut};

use crate::codec::Codec;
use crate::picture::{Color, PictureSize};
use crate::rtp::{PacketId, RtpTimestamp};

/// The most bytes of an access unit; what is larger goes out as [`Completeness::Oversize`].
pub const MAX_UNIT_BYTES: usize = 8 * 1024 * 1024;
/// A unit larger than this does not leave its memory to the next ones.
const MAX_KEPT_BYTES: usize = 1024 * 1024;

/// All that was coded of one picture.
#[derive(Debug, Clone)]
pub struct AccessUnit {
    /// What the decoder takes: NAL units behind start codes of four bytes (H.264 Annex B), or a frame
    /// (RFC 6386 section 9.1); empty unless the unit is complete.
    pub data: Bytes,
    /// Media time at 90 kHz ([`VIDEO_CLOCK_HZ`](crate::rtp::VIDEO_CLOCK_HZ)).
    pub rtp_timestamp: RtpTimestamp,
    /// Arrival of the packet that came first.
    pub received_at: Instant,
    /// Arrival of the packet that came last.
    pub completed_at: Instant,
    /// The packet that came last in the order of sequence numbers.
    pub last_packet: PacketId,
    /// What kind of picture it holds.
    pub picture: PictureKind,
    /// It is decoded for the sake of later ones and never shown: an alternate reference frame of VP8.
    pub hidden: bool,
    /// No other picture refers to it: the rest decodes the same without it.
    pub disposable: bool,
    /// The sequence that it belongs to, where that is known.
    pub sequence: Option<Sequence>,
    /// Whether all of it came.
    pub completeness: Completeness,
    /// Packets were lost between the unit before and this one, or the source began anew.
    pub after_loss: bool,
}

/// When packets of a unit came that is not whole yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnderWay {
    /// The packet that came first.
    pub first_packet: Instant,
    /// The packet that came last.
    pub last_packet: Instant,
}

/// What an access unit holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PictureKind {
    /// No slice: parameter sets or messages alone.
    None,
    /// An IDR picture or a key frame, from which decoding can begin.
    Key,
    /// A picture that refers to earlier ones: of P or I slices, or an interframe.
    Forward,
    /// A picture with B slices: it may go out later than it came.
    Bidirectional,
}

/// Whether all of an access unit came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completeness {
    /// All packets came.
    Complete,
    /// A packet is missing or malformed, or may be missing.
    Incomplete,
    /// Larger than [`MAX_UNIT_BYTES`].
    Oversize,
}

/// What holds from one keyframe to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sequence {
    /// Which decoder it takes.
    pub codec: Codec,
    /// Size of the pictures after cropping.
    pub size: PictureSize,
    /// Macroblocks of a picture before cropping.
    pub macroblocks: usize,
    /// How YUV maps to RGB.
    pub color: Color,
    /// In which order its pictures are shown.
    pub output: OutputOrder,
    /// The decoder gives its pictures some units late and has to be drained.
    pub delays_output: bool,
}

/// In which order the pictures of a sequence are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputOrder {
    /// In the order of decoding.
    Decoding,
    /// In the order of their timestamps: at most so many pictures precede another in decoding and follow it in output.
    Reordered {
        /// `max_num_reorder_frames` (H.264 Annex E).
        frames: u32,
    },
    /// The sequence does not say; if it has B slices, in the order of their timestamps.
    Undeclared,
}

/// Memory that a stream's units are put together in, one after the other: once the unit before is gone, the next one
/// takes its place, and nothing is allocated.
#[derive(Debug, Default)]
pub struct UnitMemory {
    idle: BytesMut,
    largest_bytes: usize,
}

impl UnitMemory {
    /// An empty buffer for the next unit.
    pub fn begin(&mut self) -> BytesMut {
        let mut data = std::mem::take(&mut self.idle);
        // From the front of the memory if nobody holds the unit before, else in new memory.
        data.reserve(self.largest_bytes);
        data
    }

    /// The unit that was put together in a buffer of [`begin`](Self::begin).
    pub fn end(&mut self, mut data: BytesMut) -> Bytes {
        // Also one that was cleared for its size: its memory is as large as it was.
        if data.len() > MAX_KEPT_BYTES || data.capacity() > 4 * MAX_KEPT_BYTES {
            return data.freeze();
        }
        self.largest_bytes = self.largest_bytes.max(data.len());
        let unit = data.split().freeze();
        self.idle = data;
        unit
    }
}

impl AccessUnit {
    /// True for a picture from which decoding can begin.
    pub fn is_keyframe(&self) -> bool {
        self.picture == PictureKind::Key
    }

    /// True where the decoder owes a picture for it.
    pub fn gives_picture(&self) -> bool {
        self.picture != PictureKind::None && !self.hidden
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(memory: &mut UnitMemory, bytes: &[u8]) -> Bytes {
        let mut data = memory.begin();
        data.extend_from_slice(bytes);
        memory.end(data)
    }

    #[test]
    fn a_unit_takes_the_place_of_the_one_before() {
        let mut memory = UnitMemory::default();
        let first = unit(&mut memory, &[1; 3000]);
        let place = first.as_ptr();
        drop(first);
        for bytes in [2000, 3000, 10, 2900] {
            let next = unit(&mut memory, &vec![2; bytes]);
            assert_eq!((next.as_ptr(), next.len()), (place, bytes));
        }
    }

    #[test]
    fn a_unit_that_is_held_stays_as_it_is() {
        let mut memory = UnitMemory::default();
        let units: Vec<_> = (0..4).map(|n| unit(&mut memory, &[n; 100])).collect();
        for (n, unit) in (0..).zip(units) {
            assert_eq!(unit, vec![n; 100]);
        }
    }

    #[test]
    fn a_large_unit_leaves_nothing_behind() {
        let mut memory = UnitMemory::default();
        drop(unit(&mut memory, &vec![0; MAX_KEPT_BYTES + 1]));
        assert_eq!(memory.begin().capacity(), 0);
    }
}
