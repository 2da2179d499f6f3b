//! The access unit whose packets are coming: packets and pieces of NAL units come in from the
//! [`Depacketizer`](super::depacketize::Depacketizer), which decides where the unit ends; what is known of the unit by
//! then goes out.

use std::time::Instant;

use bytes::BytesMut;

use super::nal::{NalType, START_CODE, is_referred_to};
use super::sps::Sps;
use crate::access_unit::{Completeness, MAX_UNIT_BYTES, PictureKind};
use crate::rtp::{PacketId, RtpPacket, RtpTimestamp};

/// What is missing between two units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gap {
    /// No packet was lost between them.
    None,
    /// Packets were lost, and the only one that matters is the marked last packet of the unit before.
    Before,
    /// Packets were lost that may belong to the next unit.
    Unknown,
}

/// How far an access unit has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnitState {
    /// Nothing is missing, and every NAL unit that began has ended.
    BetweenNals,
    /// Nothing is missing, and more fragments of a NAL unit are expected.
    WithinNal {
        /// Where the start code of the NAL unit stands in the data.
        start: usize,
        /// The type that the first fragment says.
        kind: NalType,
    },
    /// A packet is missing or malformed. No data is kept; packets are read on to know where the unit ends and what it was.
    Incomplete {
        /// More fragments of a NAL unit are expected.
        within_nal: bool,
    },
    /// The unit is larger than [`MAX_UNIT_BYTES`]. As with `Incomplete`, no data is kept.
    Oversize {
        /// More fragments of a NAL unit are expected.
        within_nal: bool,
    },
}

/// An access unit whose packets are coming.
#[derive(Debug)]
pub(super) struct OpenUnit {
    /// NAL units behind start codes.
    pub(super) data: BytesMut,
    pub(super) rtp_timestamp: RtpTimestamp,
    /// Arrival of the packet that came first.
    pub(super) received_at: Instant,
    /// Arrival of the packet that came last.
    pub(super) completed_at: Instant,
    /// The packet that came last in the order of sequence numbers.
    pub(super) last_packet: PacketId,
    /// What was lost before this unit.
    pub(super) gap: Gap,
    /// Packets lost behind the last one that came: the next packet says whether this unit had them.
    pub(super) lost_behind: u16,
    pub(super) picture: PictureKind,
    /// The sequence parameter set of the first slice, if it is known.
    pub(super) sps: Option<Sps>,
    pub(super) sets: SetCounts,
    pub(super) packets: PacketCounts,
    state: UnitState,
    /// A slice has a `nal_ref_idc` other than 0.
    referred_to: bool,
}

/// Complete parameter sets in a unit.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SetCounts {
    pub(super) sequence: usize,
    pub(super) picture: usize,
}

/// What the packets of a unit hold, from which follows what its sender puts markers on.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PacketCounts {
    /// Packets with the marker.
    pub(super) marked: u32,
    /// The packet that came last has the marker.
    pub(super) last_is_marked: bool,
    /// Packets in which a NAL unit begins.
    pub(super) with_nal: u32,
    /// Packets in which a slice ends.
    pub(super) with_slice: u32,
    /// A NAL unit begins in the packet at hand.
    nal_begins: bool,
    /// A slice ends in the packet at hand.
    slice_ends: bool,
}

impl OpenUnit {
    /// The unit that begins with a packet; `data` is empty.
    pub(super) fn new(packet: &RtpPacket, gap: Gap, data: BytesMut) -> Self {
        Self {
            data,
            rtp_timestamp: packet.timestamp,
            received_at: packet.arrived_at,
            completed_at: packet.arrived_at,
            last_packet: packet.id(),
            gap,
            lost_behind: 0,
            picture: PictureKind::None,
            sps: None,
            sets: SetCounts::default(),
            packets: PacketCounts::default(),
            state: UnitState::BetweenNals,
            referred_to: false,
        }
    }

    /// Another packet of this unit came, so that what was lost before it belonged to the unit.
    pub(super) fn continued(mut self, packet: &RtpPacket) -> Self {
        if self.lost_behind > 0 {
            self.spoil();
            self.lost_behind = 0;
        }
        self.last_packet = packet.id();
        self.received_at = self.received_at.min(packet.arrived_at);
        self.completed_at = self.completed_at.max(packet.arrived_at);
        self
    }

    /// The payload of a packet was read.
    pub(super) fn packet_read(&mut self, marker: bool) {
        let packets = &mut self.packets;
        packets.with_nal += u32::from(std::mem::take(&mut packets.nal_begins));
        packets.with_slice += u32::from(std::mem::take(&mut packets.slice_ends));
        packets.last_is_marked = marker;
        packets.marked += u32::from(marker);
    }

    /// Something of the unit is missing. If a NAL unit had begun, no more of its fragments are expected.
    pub(super) fn spoil(&mut self) {
        self.data.clear();
        self.state = match self.state {
            UnitState::Oversize { .. } => UnitState::Oversize { within_nal: false },
            _ => UnitState::Incomplete { within_nal: false },
        };
    }

    /// Notes that something of the unit is missing, while the fragments of a NAL unit go on.
    pub(super) fn spoil_within(&mut self) {
        let within_nal = self.is_within_nal();
        self.spoil();
        self.set_within_nal(within_nal);
    }

    fn set_within_nal(&mut self, is_within: bool) {
        if let UnitState::Incomplete { within_nal } | UnitState::Oversize { within_nal } =
            &mut self.state
        {
            *within_nal = is_within;
        }
    }

    /// A NAL unit begins in the packet at hand.
    pub(super) fn nal_begins(&mut self) {
        self.packets.nal_begins = true;
    }

    /// A slice ends in the packet at hand.
    pub(super) fn slice_ends(&mut self) {
        self.packets.slice_ends = true;
    }

    /// The first fragment of a NAL unit came: its header is appended, and its data is to follow.
    pub(super) fn begin_fragments(&mut self, header: u8) {
        let (start, kind) = (self.data.len(), NalType::of(header));
        match self.state {
            UnitState::BetweenNals | UnitState::WithinNal { .. } => {
                self.state = UnitState::WithinNal { start, kind };
            }
            _ => self.set_within_nal(true),
        }
        self.append(&START_CODE);
        self.append(&[header]);
    }

    /// No more fragments of a NAL unit are expected. Gives where it begins in the data and its type, if a NAL unit had
    /// begun and nothing of the access unit is missing.
    pub(super) fn end_fragments(&mut self) -> Option<(usize, NalType)> {
        if let UnitState::WithinNal { start, kind } = self.state {
            self.state = UnitState::BetweenNals;
            return Some((start, kind));
        }
        self.set_within_nal(false);
        None
    }

    /// Appends to the data, unless something is missing already.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        if self.data.len() + bytes.len() > MAX_UNIT_BYTES {
            let within_nal = self.is_within_nal();
            self.data.clear();
            self.state = UnitState::Oversize { within_nal };
        }
        if self.is_whole() {
            self.data.extend_from_slice(bytes);
        }
    }

    /// Notes that a slice of this type, or a part of one, is in the unit.
    pub(super) fn saw(&mut self, kind: NalType) {
        self.picture = match (kind, self.picture) {
            (NalType::IdrSlice, _) => PictureKind::Key,
            (_, PictureKind::None) if kind.is_slice() => PictureKind::Forward,
            (_, same) => same,
        };
    }

    /// Notes whether other pictures may refer to that of this slice.
    pub(super) fn note_reference(&mut self, slice: &[u8]) {
        self.referred_to |= is_referred_to(slice);
    }

    /// Nothing is missing between the first packet that came and the last one.
    pub(super) fn is_whole(&self) -> bool {
        self.completeness() == Completeness::Complete
    }

    /// More fragments of a NAL unit are expected.
    pub(super) fn is_within_nal(&self) -> bool {
        match self.state {
            UnitState::BetweenNals => false,
            UnitState::WithinNal { .. } => true,
            UnitState::Incomplete { within_nal } | UnitState::Oversize { within_nal } => within_nal,
        }
    }

    /// What the unit is if it ends here.
    pub(super) fn completeness(&self) -> Completeness {
        match self.state {
            UnitState::BetweenNals | UnitState::WithinNal { .. } => Completeness::Complete,
            UnitState::Incomplete { .. } => Completeness::Incomplete,
            UnitState::Oversize { .. } => Completeness::Oversize,
        }
    }

    /// True when no other picture refers to the unit's. Parameter sets are needed whatever they come with.
    pub(super) fn is_disposable(&self) -> bool {
        self.picture != PictureKind::None && !self.referred_to && self.sets.count() == 0
    }

    /// Checks, where debug assertions are on, what holds between any two packets.
    pub(super) fn check_invariants(&self) {
        let packets = &self.packets;
        debug_assert!(self.data.len() <= MAX_UNIT_BYTES);
        debug_assert!(self.data.is_empty() || self.data.starts_with(&START_CODE));
        debug_assert!(self.is_whole() || self.data.is_empty());
        if let UnitState::WithinNal { start, .. } = self.state {
            debug_assert!(self.data[start..].starts_with(&START_CODE));
        }
        debug_assert!(self.received_at <= self.completed_at);
        debug_assert!(self.sps.is_none() || self.picture != PictureKind::None);
        debug_assert!(!packets.last_is_marked || packets.marked > 0);
        debug_assert!(!packets.nal_begins && !packets.slice_ends);
    }
}

impl SetCounts {
    pub(super) fn count(self) -> usize {
        self.sequence + self.picture
    }

    /// There is at least one of each kind.
    pub(super) fn has_both(self) -> bool {
        self.sequence > 0 && self.picture > 0
    }
}
