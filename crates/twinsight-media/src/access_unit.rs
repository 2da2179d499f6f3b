//! Access units: the depacketizers make them of RTP payloads, the decoder makes pictures of them. In H.264 an access unit
//! is all the coded data of one picture, in VP8 it is a frame.

use std::time::Instant;

use bytes::{Bytes, BytesMut};

use crate::codec::Codec;
use crate::picture::{Color, PictureSize};
use crate::rtp::{PacketId, RtpTimestamp};

/// The most bytes of an access unit. A larger one goes out empty, as [`Completeness::Oversize`].
pub const MAX_UNIT_BYTES: usize = 8 * 1024 * 1024;
/// The memory of a unit larger than this is not kept for the next ones.
const MAX_KEPT_BYTES: usize = 1024 * 1024;

/// All the coded data of one picture.
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
    /// The picture is decoded because later ones refer to it, and is never shown: an alternate reference frame of VP8.
    pub hidden: bool,
    /// No other picture refers to this one, so that the others decode the same without it.
    pub disposable: bool,
    /// The sequence that it belongs to, if the unit says so and its parameter sets are known.
    pub sequence: Option<Sequence>,
    /// Whether all of its packets came.
    pub completeness: Completeness,
    /// Packets were lost between the unit before and this one, or the source began anew.
    pub after_loss: bool,
}

/// When the packets came of a unit that is not complete yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UnderWay {
    pub(crate) first_packet: Instant,
    pub(crate) last_packet: Instant,
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

/// Memory in which a stream's units are put together, one after the other. Once a unit is dropped, the next one takes its
/// place, so that nothing is allocated.
#[derive(Debug, Default)]
pub(crate) struct UnitMemory {
    idle: BytesMut,
    largest_bytes: usize,
}

impl UnitMemory {
    /// An empty buffer for the next unit.
    pub(crate) fn begin(&mut self) -> BytesMut {
        let mut data = std::mem::take(&mut self.idle);
        // This starts again at the front of the memory if nobody holds the last unit, and else allocates.
        data.reserve(self.largest_bytes);
        data
    }

    /// The unit that was put together in a buffer of [`begin`](Self::begin).
    pub(crate) fn end(&mut self, mut data: BytesMut) -> Bytes {
        // A unit that was cleared because it grew too large still has its memory, so the capacity counts, too.
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

    /// True if the decoder has to give a picture for it.
    pub(crate) fn gives_picture(&self) -> bool {
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
