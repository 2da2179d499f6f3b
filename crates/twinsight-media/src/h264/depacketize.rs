//! RTP payloads of H.264 to access units (RFC 6184, packetization modes 0 and 1): packets in order
//! and losses come in, access units go out in the byte stream format. Sans-IO; the stream's decode
//! thread owns it.
//!
//! A unit ends with the marker or when the timestamp changes. Each says whether packets of it are missing and whether
//! packets were lost before it, so that the gate knows which pictures will be right.
//!
//! Many senders deviate from the payload format: they send byte streams in place of NAL units, fragments without an end or
//! of another type than the first, and markers on every NAL unit. As long as no packet is missing their meaning is clear,
//! and they are accepted. NAL units that a base decoder has to ignore are left out.

use thiserror::Error;

use super::nal::{NalType, START_CODE, SliceStart, split_at_start_codes};
use super::open_unit::{Gap, OpenUnit};
use super::parameter_sets::ParameterSets;
use super::sps::SpsError;
use crate::access_unit::{AccessUnit, Completeness, PictureKind, UnderWay, UnitMemory};
use crate::rtp::reorder::Ordered;
use crate::rtp::{PacketId, RtpPacket, RtpTimestamp, Ssrc};

/// What is wrong with a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PayloadError {
    /// The payload ends too early.
    #[error("it ends within its header")]
    Short,
    /// `forbidden_zero_bit` is set.
    #[error("the forbidden bit is set")]
    Forbidden,
    /// The type is of an interleaved mode or reserved, and was not negotiated.
    #[error("NAL unit type {0} was not negotiated")]
    Type(u8),
    /// A unit in an aggregation packet has size 0, or is longer than the packet.
    #[error("a unit in an aggregation packet does not fit")]
    Aggregate,
    /// A fragmented NAL unit has no first fragment, although no packet was lost.
    #[error("a fragment has no start")]
    Fragment,
    /// A parameter set cannot be read.
    #[error(transparent)]
    ParameterSet(#[from] SpsError),
    /// The header of a slice cannot be read.
    #[error("a slice header cannot be read")]
    Slice,
}

/// Makes access units from one stream's packets.
#[derive(Debug)]
pub struct Depacketizer {
    malformed: u64,
    last_error: Option<(PayloadError, PacketId)>,
    /// Parameter sets of the session description, which hold for every source.
    declared: ParameterSets,
    sets: ParameterSets,
    ssrc: Option<Ssrc>,
    memory: UnitMemory,
    open: Option<OpenUnit>,
    /// What was lost since the last unit ended.
    gap: Gap,
    markers: Markers,
    /// The last picture that ended with a marker.
    closed_by_marker: Option<Closed>,
    /// The sender puts parameter sets before each IDR picture.
    sends_sets: bool,
}

/// Which packets the sender sets the marker on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Markers {
    /// None so far.
    None,
    /// The last packet of a unit, as RFC 6184 section 5.1 says.
    LastPacket,
    /// Also packets before the last one, so that a unit ends where the timestamp changes.
    Any {
        /// How many units in a row had one marker, on their last packet.
        behaved: u32,
    },
}

/// A picture that ended with a marker.
#[derive(Debug, Clone, Copy)]
struct Closed {
    rtp_timestamp: RtpTimestamp,
    /// The picture before it had the same timestamp, so that timestamps say nothing about this sender.
    repeats: bool,
}

/// After this many units in a row with one marker, on their last packet, the sender is taken to mark only last packets.
const BEHAVES_AFTER: u32 = 30;

impl Depacketizer {
    /// A depacketizer that has seen no packet. `declared` are the parameter sets of the session description.
    pub fn new(declared: ParameterSets) -> Self {
        Self {
            malformed: 0,
            last_error: None,
            sets: declared.clone(),
            declared,
            ssrc: None,
            memory: UnitMemory::default(),
            open: None,
            gap: Gap::Unknown,
            markers: Markers::None,
            closed_by_marker: None,
            sends_sets: false,
        }
    }

    /// Takes the next packet or loss, and gives the units that end with it, in order.
    pub fn push(&mut self, ordered: Ordered) -> impl Iterator<Item = AccessUnit> + use<> {
        let mut closed = [None, None];
        match ordered {
            Ordered::Packet(packet) => closed = self.packet(&packet),
            Ordered::Lost { count, .. } => match &mut self.open {
                Some(open) => open.lost_behind = open.lost_behind.saturating_add(count),
                None => self.gap = Gap::Unknown,
            },
            Ordered::Restart => closed[0] = self.finish(),
        }
        self.check_invariants();
        closed.into_iter().flatten()
    }

    /// Ends the open unit, although its last packet may not have come. The next unit follows a loss.
    pub fn finish(&mut self) -> Option<AccessUnit> {
        self.gap = Gap::Unknown;
        let mut open = self.open.take()?;
        let has_end = open.packets.last_is_marked || self.markers == Markers::None;
        if !has_end || open.lost_behind > 0 || open.is_within_nal() {
            open.spoil();
        }
        Some(self.close(open))
    }

    /// When the packets of the open unit came, if it is a keyframe of which nothing is missing so far.
    pub(crate) fn keyframe_under_way(&self) -> Option<UnderWay> {
        let open = self.open.as_ref()?;
        let is_key = open.picture == PictureKind::Key
            || open.picture == PictureKind::None && open.sets.sequence > 0;
        let is_whole = open.is_whole() && open.lost_behind == 0;
        (is_key && is_whole).then_some(UnderWay {
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
    pub(super) fn check_invariants(&self) {
        let Some(open) = &self.open else {
            return;
        };
        open.check_invariants();
        // A marked packet that is not the unit's last one is in the middle of a NAL unit, or its sender marks others, too.
        debug_assert!(
            !open.packets.last_is_marked
                || open.is_within_nal()
                || self.markers != Markers::LastPacket
        );
    }

    fn packet(&mut self, packet: &RtpPacket) -> [Option<AccessUnit>; 2] {
        let mut closed = [None, None];
        if self
            .ssrc
            .replace(packet.ssrc)
            .is_some_and(|ssrc| ssrc != packet.ssrc)
        {
            self.sets = self.declared.clone();
            self.sends_sets = false;
            self.markers = Markers::None;
            self.closed_by_marker = None;
        }
        // Empty payloads are padding by which senders probe the bandwidth.
        if packet.payload.is_empty() {
            return closed;
        }
        if let Some(mut open) = self
            .open
            .take_if(|open| open.rtp_timestamp != packet.timestamp)
        {
            // Only now is it known that the unit has ended.
            open.completed_at = open.completed_at.max(packet.arrived_at);
            closed[0] = Some(self.close_without_marker(open));
        }
        let gap = self.gap;
        let mut open = match self.open.take() {
            Some(open) => open.continued(packet),
            None => OpenUnit::new(packet, gap, self.memory.begin()),
        };
        let payload = self.payload(&mut open, &packet.payload);
        self.note(&mut open, payload);
        open.packet_read(packet.marker);
        if open.completeness() == Completeness::Oversize
            && matches!(self.markers, Markers::Any { .. })
        {
            // The unit grew too large because timestamps do not end units either.
            self.markers = Markers::LastPacket;
        }
        if packet.marker && self.markers == Markers::None {
            self.markers = Markers::LastPacket;
        }
        // A marker in the middle of a fragmented NAL unit is not at the end of the access unit.
        if packet.marker && self.markers == Markers::LastPacket && !open.is_within_nal() {
            self.gap = Gap::None;
            if open.picture != PictureKind::None {
                let before = self.closed_by_marker.map(|closed| closed.rtp_timestamp);
                self.closed_by_marker = Some(Closed {
                    rtp_timestamp: open.rtp_timestamp,
                    repeats: before == Some(open.rtp_timestamp),
                });
            }
            closed[1] = Some(self.close(open));
        } else {
            self.open = Some(open);
        }
        closed
    }

    /// The timestamp changed while a unit was open: its last packet is lost, or its sender does not mark last packets
    /// alone.
    fn close_without_marker(&mut self, mut open: OpenUnit) -> AccessUnit {
        self.gap = match (open.lost_behind, self.markers) {
            (0, _) => Gap::None,
            // The one packet that is missing had the marker.
            (1, Markers::LastPacket | Markers::Any { .. }) if !open.packets.last_is_marked => {
                Gap::Before
            }
            _ => Gap::Unknown,
        };
        if open.lost_behind > 0 {
            open.spoil_within();
        }
        if let Markers::Any { behaved } = &mut self.markers
            && open.lost_behind == 0
            && open.completeness() != Completeness::Incomplete
        {
            let packets = &open.packets;
            if packets.marked > 1 || !packets.last_is_marked {
                *behaved = 0;
            } else if packets.with_slice > 1 {
                *behaved = BEHAVES_AFTER;
            } else if packets.with_nal > 1 {
                *behaved += 1;
            }
            if *behaved >= BEHAVES_AFTER {
                self.markers = Markers::LastPacket;
            }
        }
        self.close(open)
    }

    /// Counts a malformed payload, and spoils its unit.
    fn note(&mut self, open: &mut OpenUnit, result: Result<(), PayloadError>) {
        if let Err(error) = result {
            self.malformed += 1;
            self.last_error = Some((error, open.last_packet));
            open.spoil();
        }
    }

    fn close(&mut self, mut open: OpenUnit) -> AccessUnit {
        // A NAL unit whose last fragment is not marked as such ends here, if nothing is missing.
        let ended = self.end_fragment(&mut open);
        self.note(&mut open, ended);
        let own_sets = open.sets.has_both();
        let disposable = open.is_disposable();
        // The packets that were lost may have had parameter sets that this sender puts before IDR pictures, and that
        // differ from those known here.
        let idr = open.picture == PictureKind::Key;
        if open.gap == Gap::Unknown && idr && self.sends_sets && !own_sets {
            open.spoil();
        }
        let completeness = open.completeness();
        // A damaged keyframe with sets shows that the sender puts them there. That it does not, only a keyframe shows whose
        // start is not missing.
        if idr && own_sets {
            self.sends_sets = true;
        } else if idr && completeness == Completeness::Complete && open.gap != Gap::Unknown {
            self.sends_sets = false;
        }
        AccessUnit {
            data: self.memory.end(open.data),
            rtp_timestamp: open.rtp_timestamp,
            received_at: open.received_at,
            completed_at: open.completed_at,
            last_packet: open.last_packet,
            picture: open.picture,
            hidden: false,
            disposable,
            sequence: open.sps.map(|sps| sps.sequence()),
            completeness,
            after_loss: open.gap != Gap::None,
        }
    }

    /// Reads a payload by the type in its first byte (section 5.2).
    fn payload(&mut self, open: &mut OpenUnit, payload: &[u8]) -> Result<(), PayloadError> {
        let (&header, rest) = payload.split_first().ok_or(PayloadError::Short)?;
        if header & 0x80 != 0 {
            return Err(PayloadError::Forbidden);
        }
        if header & 0x1f == 28 {
            return self.fragment(open, header, rest);
        }
        self.end_fragment(open)?;
        match header & 0x1f {
            24 => self.aggregate(open, rest),
            // These are of the interleaved mode. Their content would be missing, so the unit is spoiled.
            kind @ (25..=27 | 29) => Err(PayloadError::Type(kind)),
            _ => self.whole(open, payload),
        }
    }

    /// Reads a STAP-A (section 5.7.1): NAL units with 16 bits of size before each.
    fn aggregate(&mut self, open: &mut OpenUnit, mut rest: &[u8]) -> Result<(), PayloadError> {
        if rest.is_empty() {
            return Err(PayloadError::Short);
        }
        while let Some((size, behind)) = rest.split_first_chunk::<2>() {
            let size = usize::from(u16::from_be_bytes(*size));
            let (nal, behind) = behind
                .split_at_checked(size)
                .ok_or(PayloadError::Aggregate)?;
            let &header = nal.first().ok_or(PayloadError::Aggregate)?;
            if matches!(header & 0x1f, 24..=29) {
                return Err(PayloadError::Type(header & 0x1f));
            }
            self.whole(open, nal)?;
            rest = behind;
        }
        if rest.is_empty() {
            Ok(())
        } else {
            Err(PayloadError::Aggregate)
        }
    }

    /// Reads a FU-A (section 5.8). The first fragment says the type of the NAL unit.
    fn fragment(
        &mut self,
        open: &mut OpenUnit,
        indicator: u8,
        rest: &[u8],
    ) -> Result<(), PayloadError> {
        let (&fu, data) = rest.split_first().ok_or(PayloadError::Short)?;
        let (start, end) = (fu & 0x80 != 0, fu & 0x40 != 0);
        if start {
            self.end_fragment(open)?;
            self.start_fragment(open, indicator & 0xe0 | fu & 0x1f, data)?;
        } else if !open.is_within_nal() {
            // If packets were lost, the first fragment was among them, and this payload is not malformed.
            if open.is_whole() && open.gap == Gap::None {
                return Err(PayloadError::Fragment);
            }
            open.spoil();
            open.saw(NalType::of(fu));
            return Ok(());
        }
        open.append(data);
        if end { self.end_fragment(open) } else { Ok(()) }
    }

    fn start_fragment(
        &mut self,
        open: &mut OpenUnit,
        header: u8,
        data: &[u8],
    ) -> Result<(), PayloadError> {
        if matches!(header & 0x1f, 24..=29) {
            return Err(PayloadError::Type(header & 0x1f));
        }
        open.nal_begins();
        let kind = NalType::of(header);
        if kind.is_slice() {
            let mut prefix = [0; 48];
            let taken = data.len().min(47);
            prefix[0] = header;
            prefix[1..=taken].copy_from_slice(&data[..taken]);
            self.slice(open, kind, &prefix[..=taken])?;
        }
        open.begin_fragments(header);
        Ok(())
    }

    /// Ends a fragmented NAL unit, if there is one.
    fn end_fragment(&mut self, open: &mut OpenUnit) -> Result<(), PayloadError> {
        let Some((at, kind)) = open.end_fragments() else {
            return Ok(());
        };
        let nal = &open.data[at + START_CODE.len()..];
        let is_one = split_at_start_codes(nal)
            .next()
            .is_some_and(|piece| piece.len() == nal.len());
        if is_one && kind.is_slice() {
            open.slice_ends();
            return Ok(());
        }
        let nal = nal.to_vec();
        open.data.truncate(at);
        self.pieces(open, &nal)
    }

    /// Takes a NAL unit that came in one piece.
    fn whole(&mut self, open: &mut OpenUnit, nal: &[u8]) -> Result<(), PayloadError> {
        open.nal_begins();
        self.pieces(open, nal)
    }

    /// Takes what was sent as one NAL unit, and is several if it has start codes inside.
    fn pieces(&mut self, open: &mut OpenUnit, nal: &[u8]) -> Result<(), PayloadError> {
        let mut pieces = split_at_start_codes(nal).peekable();
        if pieces.peek().is_none() {
            self.malformed += 1;
        }
        pieces.try_for_each(|piece| self.piece(open, piece))
    }

    fn piece(&mut self, open: &mut OpenUnit, nal: &[u8]) -> Result<(), PayloadError> {
        let &header = nal.first().ok_or(PayloadError::Short)?;
        if header & 0x80 != 0 {
            return Err(PayloadError::Forbidden);
        }
        let kind = NalType::of(header);
        match kind {
            NalType::Sps | NalType::Pps => self.parameter_set(open, kind, nal)?,
            _ if kind.is_slice() => {
                open.slice_ends();
                self.slice(open, kind, nal)?;
            }
            // No extension of the standard uses these types, and they change no picture.
            NalType::Other(0 | 24..) => {
                self.malformed += 1;
                return Ok(());
            }
            _ => return Ok(()),
        }
        open.append(&START_CODE);
        open.append(nal);
        Ok(())
    }

    fn parameter_set(
        &mut self,
        open: &mut OpenUnit,
        kind: NalType,
        nal: &[u8],
    ) -> Result<(), PayloadError> {
        self.sets.remember(nal)?;
        if kind == NalType::Sps {
            open.sets.sequence += 1;
        } else {
            open.sets.picture += 1;
        }
        Ok(())
    }

    /// A slice begins. `nal` has at least its header.
    fn slice(
        &mut self,
        open: &mut OpenUnit,
        kind: NalType,
        nal: &[u8],
    ) -> Result<(), PayloadError> {
        let first = open.picture == PictureKind::None;
        open.saw(kind);
        open.note_reference(nal);
        let start = SliceStart::parse(nal).ok_or(PayloadError::Slice)?;
        if start.bidirectional && kind != NalType::IdrSlice {
            open.picture = PictureKind::Bidirectional;
        }
        if !first {
            return Ok(());
        }
        // Slices of a picture come in order. If its first one to come does not begin with the first macroblock, the packets
        // that were lost before it had a part of the picture.
        if open.gap == Gap::Unknown && start.first_mb != 0 {
            open.spoil_within();
        }
        // The last marker was in the middle of this picture, whose first part went out as a unit.
        if start.first_mb != 0
            && self
                .closed_by_marker
                .is_some_and(|closed| closed.rtp_timestamp == open.rtp_timestamp && !closed.repeats)
        {
            self.markers = Markers::Any { behaved: 0 };
            open.spoil_within();
        }
        open.sps = self.sets.active(start.pps_id);
        let all_here = open.sets.has_both() && open.sets.count() >= self.sets.len();
        if kind == NalType::IdrSlice && !all_here {
            for nal in self.sets.nals() {
                open.append(&START_CODE);
                open.append(nal);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "depacketize_tests.rs"]
mod tests;
