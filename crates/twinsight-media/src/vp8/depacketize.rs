//! RTP payloads of VP8 to frames (RFC 7741): packets in order and losses come in, access units of one frame go
//! out. Sans-IO; the stream's decode thread owns it.
//!
//! A frame begins with the start of partition 0, and ends with the marker or when the timestamp changes. As with H.264,
//! each unit says whether packets of it are missing and whether packets were lost before it.

use std::time::Instant;

use bytes::BytesMut;
use thiserror::Error;

use super::descriptor::Descriptor;
use super::header::{FrameHeader, is_key};
use crate::access_unit::{
    AccessUnit, Completeness, MAX_UNIT_BYTES, OutputOrder, PictureKind, Sequence, UnderWay,
    UnitMemory,
};
use crate::codec::Codec;
use crate::picture::{Color, PictureSize};
use crate::rtp::reorder::Ordered;
use crate::rtp::{PacketId, RtpPacket, RtpTimestamp};

/// Luma samples along the edge of a macroblock.
const MACROBLOCK_PX: usize = 16;

/// What is wrong with a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PayloadError {
    /// The payload ends too early.
    #[error("it ends within its descriptor")]
    Short,
    /// The first payload of a frame is not the start of partition 0, although no packet was lost.
    #[error("a frame begins without the start of its first partition")]
    Start,
    /// A frame of which all packets came does not begin with a header of VP8.
    #[error("a frame's header cannot be read")]
    Header,
}

/// Makes access units from one stream's packets.
#[derive(Debug)]
pub struct Depacketizer {
    malformed: u64,
    last_error: Option<(PayloadError, PacketId)>,
    memory: UnitMemory,
    open: Option<OpenUnit>,
    /// Packets were lost since the last unit ended.
    lost: bool,
    /// The sender marks the last packet of a frame.
    marks: bool,
}

#[derive(Debug)]
struct OpenUnit {
    data: BytesMut,
    rtp_timestamp: RtpTimestamp,
    received_at: Instant,
    completed_at: Instant,
    /// The packet that came last in the order of sequence numbers.
    last_packet: PacketId,
    /// Known from the first byte of the frame; `Forward` if that is missing.
    picture: PictureKind,
    /// The descriptor of its first payload has N set: no other frame refers to it.
    non_reference: bool,
    after_loss: bool,
    /// What the frame is if it ends here. No data is kept unless it is complete.
    completeness: Completeness,
    /// Packets were lost behind the last one that came: the next packet says whether this frame had them.
    lost_behind: bool,
}

impl Default for Depacketizer {
    fn default() -> Self {
        Self::new()
    }
}

impl Depacketizer {
    /// A depacketizer that has seen no packet.
    pub fn new() -> Self {
        Self {
            malformed: 0,
            last_error: None,
            memory: UnitMemory::default(),
            open: None,
            lost: true,
            marks: false,
        }
    }

    /// Takes the next packet or loss, and gives the units that end with it, in order.
    pub fn push(&mut self, ordered: Ordered) -> impl Iterator<Item = AccessUnit> + use<> {
        let mut closed = [None, None];
        match ordered {
            Ordered::Packet(packet) => closed = self.packet(&packet),
            Ordered::Lost { .. } => match &mut self.open {
                Some(open) => open.lost_behind = true,
                None => self.lost = true,
            },
            Ordered::Restart => closed[0] = self.finish(),
        }
        self.check_invariants();
        closed.into_iter().flatten()
    }

    /// Ends the open unit, although its last packet may not have come. The next unit follows a loss.
    pub fn finish(&mut self) -> Option<AccessUnit> {
        self.lost = true;
        let mut open = self.open.take()?;
        if self.marks || open.lost_behind {
            open.spoil();
        }
        Some(self.close(open))
    }

    /// When the packets of the open unit came, if it is a key frame of which nothing is missing so far.
    pub(crate) fn keyframe_under_way(&self) -> Option<UnderWay> {
        let open = self.open.as_ref()?;
        let is_whole = open.completeness == Completeness::Complete && !open.lost_behind;
        (open.picture == PictureKind::Key && is_whole).then_some(UnderWay {
            first_packet: open.received_at,
            last_packet: open.completed_at,
        })
    }

    /// How many payloads were malformed since this was last asked.
    pub fn take_malformed(&mut self) -> u64 {
        std::mem::take(&mut self.malformed)
    }

    /// What was wrong with the last malformed payload and which packet had it, once.
    pub fn take_error(&mut self) -> Option<(PayloadError, PacketId)> {
        self.last_error.take()
    }

    /// Checks, where debug assertions are on, what holds between any two calls of [`push`](Self::push).
    fn check_invariants(&self) {
        let Some(open) = &self.open else {
            return;
        };
        debug_assert!(open.data.len() <= MAX_UNIT_BYTES);
        debug_assert_eq!(
            open.data.is_empty(),
            open.completeness != Completeness::Complete
        );
        debug_assert!(open.received_at <= open.completed_at);
        debug_assert!(open.picture != PictureKind::None);
    }

    fn packet(&mut self, packet: &RtpPacket) -> [Option<AccessUnit>; 2] {
        let mut closed = [None, None];
        // Empty payloads are padding by which senders probe the bandwidth.
        if packet.payload.is_empty() {
            return closed;
        }
        if let Some(mut open) = self
            .open
            .take_if(|open| open.rtp_timestamp != packet.timestamp)
        {
            // Its last packet is lost, or its sender marks none. Only now is it known that the unit has ended.
            open.completed_at = open.completed_at.max(packet.arrived_at);
            if open.lost_behind {
                open.spoil();
            }
            self.lost = open.lost_behind;
            closed[0] = Some(self.close(open));
        }
        let begins = self.open.is_none();
        let mut open = match self.open.take() {
            Some(open) => open.continued(packet),
            None => OpenUnit::new(packet, self.lost, self.memory.begin()),
        };
        if let Err(error) = open.payload(begins, &packet.payload) {
            self.malformed(error, open.last_packet);
            open.spoil();
        }
        if packet.marker {
            self.marks = true;
            self.lost = false;
            closed[1] = Some(self.close(open));
        } else {
            self.open = Some(open);
        }
        closed
    }

    fn close(&mut self, mut open: OpenUnit) -> AccessUnit {
        let mut header = None;
        if open.completeness == Completeness::Complete {
            header = FrameHeader::parse(&open.data);
            if header.is_none() {
                self.malformed(PayloadError::Header, open.last_packet);
                open.spoil();
            }
        }
        let (sequence, shown) = match header {
            Some(FrameHeader::Key { size, shown }) => (Some(sequence_of(size)), shown),
            Some(FrameHeader::Inter { shown }) => (None, shown),
            None => (None, true),
        };
        AccessUnit {
            data: self.memory.end(open.data),
            rtp_timestamp: open.rtp_timestamp,
            received_at: open.received_at,
            completed_at: open.completed_at,
            last_packet: open.last_packet,
            picture: open.picture,
            hidden: !shown,
            disposable: open.non_reference && open.picture != PictureKind::Key,
            sequence,
            completeness: open.completeness,
            after_loss: open.after_loss,
        }
    }

    fn malformed(&mut self, error: PayloadError, packet: PacketId) {
        self.malformed += 1;
        self.last_error = Some((error, packet));
    }
}

impl OpenUnit {
    fn new(packet: &RtpPacket, after_loss: bool, data: BytesMut) -> Self {
        Self {
            data,
            rtp_timestamp: packet.timestamp,
            received_at: packet.arrived_at,
            completed_at: packet.arrived_at,
            last_packet: packet.id(),
            picture: PictureKind::Forward,
            non_reference: false,
            after_loss,
            completeness: Completeness::Complete,
            lost_behind: false,
        }
    }

    /// Another packet of this unit came, so that packets lost before it belonged to the unit.
    fn continued(mut self, packet: &RtpPacket) -> Self {
        if std::mem::take(&mut self.lost_behind) {
            self.spoil();
        }
        self.last_packet = packet.id();
        self.received_at = self.received_at.min(packet.arrived_at);
        self.completed_at = self.completed_at.max(packet.arrived_at);
        self
    }

    fn payload(&mut self, begins: bool, payload: &[u8]) -> Result<(), PayloadError> {
        let (descriptor, piece) = Descriptor::split(payload).ok_or(PayloadError::Short)?;
        if begins {
            self.non_reference = descriptor.non_reference;
            match (descriptor.starts_frame, self.after_loss) {
                (true, _) => {
                    if piece.first().is_some_and(|&first| is_key(first)) {
                        self.picture = PictureKind::Key;
                    }
                }
                // The start of the frame was lost, and this payload is not malformed.
                (false, true) => self.spoil(),
                (false, false) => return Err(PayloadError::Start),
            }
        }
        if self.data.len() + piece.len() > MAX_UNIT_BYTES {
            self.data.clear();
            self.completeness = Completeness::Oversize;
        }
        if self.completeness == Completeness::Complete {
            self.data.extend_from_slice(piece);
        }
        Ok(())
    }

    /// Something of the frame is missing or malformed.
    fn spoil(&mut self) {
        self.data.clear();
        if self.completeness == Completeness::Complete {
            self.completeness = Completeness::Incomplete;
        }
    }
}

/// What a key frame of this size begins. VP8 knows BT.601 alone (RFC 6386 section 9.2; the other value of `color_space` is
/// reserved), and its decoders take samples as limited range; `clamping_type` is about rounding. Frames come out of the
/// decoder with their units.
fn sequence_of(size: PictureSize) -> Sequence {
    Sequence {
        codec: Codec::Vp8,
        size,
        macroblocks: size.width_px.div_ceil(MACROBLOCK_PX) * size.height_px.div_ceil(MACROBLOCK_PX),
        color: Color::default(),
        output: OutputOrder::Decoding,
        delays_output: false,
    }
}

#[cfg(test)]
#[path = "depacketize_tests.rs"]
mod tests;
