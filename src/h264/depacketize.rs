//! RTP payloads of H.264 to access units (RFC 6184, packetization modes 0 and 1): packets in order
//! and losses come in, access units go out in the byte stream format. Sans-IO; the stream's decode
//! thread owns it.
//!
//! A unit closes with the marker or when the timestamp changes. Units say whether a packet of them is
//! missing, and whether anything was lost since the unit before: only then is what a decoder
//! makes of them known to be right.

use std::time::Instant;

use bytes::BytesMut;
use prometheus::IntCounter;
use thiserror::Error;

use super::nal::{NalType, START_CODE, SliceStart, is_referred_to};
use super::parameter_sets::ParameterSets;
use super::sps::{Sps, SpsError};
use crate::decode::unit::{
    AccessUnit, Completeness, MAX_UNIT_BYTES, PictureKind, Sequence, UnitMemory,
};
use crate::rtp::RtpPacket;
use crate::rtp::reorder::Ordered;

/// What is wrong with a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PayloadError {
    /// It ends too early.
    #[error("it ends within its header")]
    Short,
    /// `forbidden_zero_bit` is set.
    #[error("the forbidden bit is set")]
    Forbidden,
    /// Interleaved modes and reserved types, which nobody negotiated.
    #[error("NAL unit type {0} was not negotiated")]
    Type(u8),
    /// A unit of an aggregation packet has size 0 or goes over its end.
    #[error("a unit in an aggregation packet does not fit")]
    Aggregate,
    /// A fragment without its start, with another type, or a start before an end.
    #[error("a fragment does not continue the one before")]
    Fragment,
    /// A parameter set that cannot be read.
    #[error(transparent)]
    ParameterSet(#[from] SpsError),
    /// A slice whose header cannot be read.
    #[error("a slice header cannot be read")]
    Slice,
}

/// Makes access units from one stream's packets.
#[derive(Debug)]
pub struct Depacketizer {
    malformed: IntCounter,
    last_error: Option<PayloadError>,
    /// From the session description: they survive a change of the source.
    declared: ParameterSets,
    sets: ParameterSets,
    ssrc: Option<u32>,
    memory: UnitMemory,
    open: Option<OpenUnit>,
    /// Loss since the last unit closed.
    gap: Gap,
    /// The sender marks the last packet of a unit.
    marks: bool,
    /// The sender's IDR pictures come with their own parameter sets.
    sends_sets: bool,
}

/// What is missing between two units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gap {
    /// Nothing.
    None,
    /// Something, and no more than the marked last packet of the unit before.
    Before,
    /// Something that may belong to the next unit.
    Unknown,
}

#[derive(Debug)]
struct OpenUnit {
    data: BytesMut,
    rtp_timestamp: u32,
    received_at: Instant,
    completed_at: Instant,
    picture: PictureKind,
    sps: Option<Sps>,
    gap: Gap,
    /// A packet is missing or malformed.
    broken: bool,
    oversize: bool,
    /// Packets lost behind the last one that came.
    lost_behind: u16,
    /// Where a fragmented NAL unit begins in `data`, and its type.
    fragment: Option<(usize, NalType)>,
    /// Complete parameter sets in it.
    sequence_sets: usize,
    picture_sets: usize,
    /// A slice of it has a `nal_ref_idc` that is not 0.
    referred_to: bool,
}

impl Depacketizer {
    /// `malformed` counts payloads that break RFC 6184; `declared` are the parameter sets of the
    /// session description, if it has any.
    pub fn new(malformed: IntCounter, declared: ParameterSets) -> Self {
        Self {
            malformed,
            last_error: None,
            sets: declared.clone(),
            declared,
            ssrc: None,
            memory: UnitMemory::default(),
            open: None,
            gap: Gap::Unknown,
            marks: false,
            sends_sets: false,
        }
    }

    /// Takes the next packet or loss, and gives the units that it closes, in order.
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
        closed.into_iter().flatten()
    }

    /// Closes the open unit, whose end is not known; what comes next begins anew.
    pub fn finish(&mut self) -> Option<AccessUnit> {
        self.gap = Gap::Unknown;
        let mut open = self.open.take()?;
        open.broken |= self.marks || open.lost_behind > 0;
        Some(self.close(open))
    }

    /// What was wrong with the last malformed payload, once.
    pub fn take_error(&mut self) -> Option<PayloadError> {
        self.last_error.take()
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
        }
        // Padding that probes the bandwidth: a sequence number and no more.
        if packet.payload.is_empty() {
            return closed;
        }
        if let Some(mut open) = self
            .open
            .take_if(|open| open.rtp_timestamp != packet.timestamp)
        {
            // That it is complete is known only now.
            open.completed_at = open.completed_at.max(packet.arrived_at);
            closed[0] = Some(self.close_without_marker(open));
        }
        let gap = self.gap;
        let mut open = match self.open.take() {
            Some(open) => open.continued(packet),
            None => OpenUnit::new(packet, gap, self.memory.begin()),
        };
        if let Err(error) = self.payload(&mut open, &packet.payload) {
            self.malformed.inc();
            self.last_error = Some(error);
            open.broken = true;
            open.fragment = None;
        }
        if open.broken || open.oversize {
            open.data.clear();
        }
        if packet.marker {
            self.marks = true;
            self.gap = Gap::None;
            closed[1] = Some(self.close(open));
        } else {
            self.open = Some(open);
        }
        closed
    }

    /// The timestamp changed under an open unit: its last packet is lost, or its sender marks none.
    fn close_without_marker(&mut self, mut open: OpenUnit) -> AccessUnit {
        self.gap = match (open.lost_behind, self.marks) {
            (0, _) => Gap::None,
            // The packet that would have had the marker is the one that is missing.
            (1, true) => Gap::Before,
            _ => Gap::Unknown,
        };
        open.broken |= open.lost_behind > 0;
        self.close(open)
    }

    fn close(&mut self, mut open: OpenUnit) -> AccessUnit {
        let own_sets = open.sequence_sets > 0 && open.picture_sets > 0;
        let disposable = open.is_disposable();
        if open.fragment.is_some() {
            open.broken = true;
        }
        // What was lost in front of the first slice can have been parameter sets that this sender
        // puts there, and that differ from those we know.
        let idr = open.picture == PictureKind::Key;
        if open.gap == Gap::Unknown && idr && self.sends_sets && !own_sets {
            open.broken = true;
        }
        let completeness = if open.oversize {
            Completeness::Oversize
        } else if open.broken {
            open.data.clear();
            Completeness::Incomplete
        } else {
            Completeness::Complete
        };
        // A broken keyframe tells as much as a whole one when it has sets; that it has none, only one
        // whose start is certain can tell.
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
            picture: open.picture,
            hidden: false,
            disposable,
            sequence: open.sps.map(Sequence::H264),
            completeness,
            after_loss: open.gap != Gap::None,
        }
    }

    /// Section 5.2: what a payload is, by the type in its first byte.
    fn payload(&mut self, open: &mut OpenUnit, payload: &[u8]) -> Result<(), PayloadError> {
        let (&header, rest) = payload.split_first().ok_or(PayloadError::Short)?;
        if header & 0x80 != 0 {
            return Err(PayloadError::Forbidden);
        }
        match header & 0x1f {
            28 => return self.fragment(open, header, rest),
            _ if open.fragment.is_some() => return Err(PayloadError::Fragment),
            1..=23 => self.whole(open, payload)?,
            24 => self.aggregate(open, rest)?,
            other => return Err(PayloadError::Type(other)),
        }
        Ok(())
    }

    /// STAP-A (section 5.7.1): units with 16 bits of size before each.
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
            if header & 0x80 != 0 {
                return Err(PayloadError::Forbidden);
            }
            if !matches!(header & 0x1f, 1..=23) {
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

    /// FU-A (section 5.8).
    fn fragment(
        &mut self,
        open: &mut OpenUnit,
        indicator: u8,
        rest: &[u8],
    ) -> Result<(), PayloadError> {
        let (&fu, data) = rest.split_first().ok_or(PayloadError::Short)?;
        let (start, end) = (fu & 0x80 != 0, fu & 0x40 != 0);
        if !matches!(fu & 0x1f, 1..=23) {
            return Err(PayloadError::Type(fu & 0x1f));
        }
        let kind = NalType::of(fu);
        match (start, open.fragment) {
            (true, None) => {
                let header = indicator & 0xe0 | fu & 0x1f;
                if kind.is_slice() {
                    let mut prefix = [0; 48];
                    let taken = data.len().min(47);
                    prefix[0] = header;
                    prefix[1..=taken].copy_from_slice(&data[..taken]);
                    self.slice(open, kind, &prefix[..=taken])?;
                }
                let at = open.data.len();
                open.append(&START_CODE);
                open.append(&[header]);
                open.fragment = Some((at, kind));
            }
            (false, Some((_, began))) if began == kind => {}
            // The start was lost: not this payload's fault, and known already.
            (false, None) if open.broken || open.gap != Gap::None => {
                open.broken = true;
                open.saw(kind);
                return Ok(());
            }
            _ => return Err(PayloadError::Fragment),
        }
        open.append(data);
        if end {
            let (at, _) = open.fragment.take().ok_or(PayloadError::Fragment)?;
            if matches!(kind, NalType::Sps | NalType::Pps) && !open.broken && !open.oversize {
                let nal = open.data.split_off(at + START_CODE.len());
                self.parameter_set(open, kind, &nal)?;
                open.data.unsplit(nal);
            }
        }
        Ok(())
    }

    /// A whole NAL unit.
    fn whole(&mut self, open: &mut OpenUnit, nal: &[u8]) -> Result<(), PayloadError> {
        let kind = nal
            .first()
            .map_or(NalType::Filler, |&header| NalType::of(header));
        match kind {
            NalType::Filler => return Ok(()),
            NalType::Sps | NalType::Pps => self.parameter_set(open, kind, nal)?,
            _ if kind.is_slice() => self.slice(open, kind, nal)?,
            _ => {}
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
            open.sequence_sets += 1;
        } else {
            open.picture_sets += 1;
        }
        Ok(())
    }

    /// A slice begins; `nal` holds at least its header.
    fn slice(
        &mut self,
        open: &mut OpenUnit,
        kind: NalType,
        nal: &[u8],
    ) -> Result<(), PayloadError> {
        let first = open.picture == PictureKind::None;
        open.saw(kind);
        open.referred_to |= is_referred_to(nal);
        let start = SliceStart::parse(nal).ok_or(PayloadError::Slice)?;
        if start.bidirectional && kind != NalType::IdrSlice {
            open.picture = PictureKind::Bidirectional;
        }
        if !first {
            return Ok(());
        }
        // Slices of a picture come in order, so one that begins at 0 is the first: whatever was
        // lost before it holds no part of the picture.
        if open.gap == Gap::Unknown && start.first_mb != 0 {
            open.broken = true;
        }
        open.sps = self.sets.active(start.pps_id);
        let all_here = open.sequence_sets > 0
            && open.picture_sets > 0
            && open.sequence_sets + open.picture_sets >= self.sets.len();
        if kind == NalType::IdrSlice && !all_here {
            for nal in self.sets.nals() {
                open.append(&START_CODE);
                open.append(nal);
            }
        }
        Ok(())
    }
}

impl OpenUnit {
    fn new(packet: &RtpPacket, gap: Gap, data: BytesMut) -> Self {
        Self {
            data,
            rtp_timestamp: packet.timestamp,
            received_at: packet.arrived_at,
            completed_at: packet.arrived_at,
            picture: PictureKind::None,
            sps: None,
            gap,
            broken: false,
            oversize: false,
            lost_behind: 0,
            fragment: None,
            sequence_sets: 0,
            picture_sets: 0,
            referred_to: false,
        }
    }

    /// Parameter sets are needed whatever they come with.
    fn is_disposable(&self) -> bool {
        let has_sets = self.sequence_sets + self.picture_sets > 0;
        self.picture != PictureKind::None && !self.referred_to && !has_sets
    }

    /// Another packet of this unit came; a loss behind the one before was within the unit.
    fn continued(mut self, packet: &RtpPacket) -> Self {
        if self.lost_behind > 0 {
            self.broken = true;
            self.fragment = None;
            self.lost_behind = 0;
        }
        self.received_at = self.received_at.min(packet.arrived_at);
        self.completed_at = self.completed_at.max(packet.arrived_at);
        self
    }

    /// Notes that a slice of this type is in the unit.
    fn saw(&mut self, kind: NalType) {
        self.picture = match (kind, self.picture) {
            (NalType::IdrSlice, _) => PictureKind::Key,
            (_, PictureKind::None) if kind.is_slice() => PictureKind::Forward,
            (_, same) => same,
        };
    }

    fn append(&mut self, bytes: &[u8]) {
        self.oversize |= self.data.len() + bytes.len() > MAX_UNIT_BYTES;
        if !self.oversize && !self.broken {
            self.data.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
#[path = "depacketize_tests.rs"]
mod tests;
