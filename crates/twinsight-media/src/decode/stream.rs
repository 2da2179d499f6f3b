//! Decodes one stream: access units come in, frames go out with their times. It also keeps the ledger, in which units
//! received are frames decoded plus units dropped plus units held by the decoder. The stream's decode thread runs it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::decoder::{Decoder, DecoderError, DecoderKind, Picture};
use super::gate::{Gate, KeyframeReason, Verdict};
use crate::access_unit::{AccessUnit, OutputOrder, PictureKind, Sequence};
use crate::clock::Clock;
use crate::ledger::{DecodeWork, ShedLevel, StreamLedger, UnitDrop};
use crate::picture::{Color, Frame, FrameTiming, PlanePool};
use crate::rtp::timeline::Timeline;
use crate::rtp::{PacketId, RtpTimestamp};

/// The most macroblocks of a frame: 4096 × 2304, as at level 5.2 of H.264.
const MAX_MACROBLOCKS: usize = 36_864;
/// The most units that are held: the 16 pictures of a decoder, and some units that gave none.
const MAX_HELD: usize = 32;
/// The reordering depth of streams that have B slices and do not declare one. B pictures that others refer to need 2.
const UNDECLARED_DEPTH: usize = 2;
/// Picture buffers in the pool: for the frame in the slot, for the one in inference, and some more.
const POOL_BUFFERS: usize = 4;

/// Decodes the access units of one stream.
#[derive(Debug)]
pub struct DecodeStream {
    ledger: Arc<StreamLedger>,
    clock: Arc<dyn Clock>,
    kind: DecoderKind,
    /// There is none until the first keyframe, and none after an error until the next keyframe.
    decoder: Option<Decoder>,
    /// How many pictures wait for one that comes later and is shown earlier.
    reorder_depth: usize,
    /// The decoder gives pictures late, and another one has to take its place once it is drained.
    lags: bool,
    sequence: Option<Sequence>,
    saw_b_slices: bool,
    gate: Gate,
    timeline: Timeline,
    pool: PlanePool,
    /// Units whose frame has not gone out, in decoding order.
    held: VecDeque<HeldUnit>,
    next_tag: u64,
    /// An empty list whose memory is reused.
    pictures: Vec<Picture>,
    /// The last packet of the unit that was pushed last.
    last_packet: Option<PacketId>,
    last_error: Option<(DecoderError, PacketId)>,
    stopped: bool,
    /// Processor time of the thread when the last unit had been decoded.
    cpu: Option<Duration>,
}

/// A unit whose frame has not gone out yet.
#[derive(Debug)]
struct HeldUnit {
    tag: u64,
    rtp_timestamp: RtpTimestamp,
    received_at: Instant,
    completed_at: Instant,
    captured_at_unix_ms: Option<u64>,
    color: Color,
    /// Its picture, once it is decoded.
    picture: Option<Picture>,
}

impl DecodeStream {
    /// A stream that waits for its first keyframe. Units that waited longer than `max_backlog` are skipped.
    pub fn new(
        ledger: Arc<StreamLedger>,
        clock: Arc<dyn Clock>,
        kind: DecoderKind,
        max_backlog: Duration,
    ) -> Self {
        Self {
            ledger,
            clock,
            kind,
            decoder: None,
            reorder_depth: 0,
            lags: false,
            sequence: None,
            saw_b_slices: false,
            gate: Gate::new(max_backlog),
            timeline: Timeline::default(),
            pool: PlanePool::new(POOL_BUFFERS),
            held: VecDeque::new(),
            next_tag: 1,
            pictures: Vec::new(),
            last_packet: None,
            last_error: None,
            stopped: false,
            cpu: None,
        }
    }

    /// Takes a unit whose decoding can start now. Frames that come out go to `on_frame`. True if the unit was let through
    /// to the decoder.
    pub fn push(
        &mut self,
        unit: AccessUnit,
        now: Instant,
        on_frame: &mut dyn FnMut(Frame),
    ) -> bool {
        self.ledger.receive_unit();
        self.last_packet = Some(unit.last_packet);
        if self.stopped {
            self.ledger.drop_unit(UnitDrop::Shutdown);
            return false;
        }
        let verdict = self.gate.admit(&unit, now);
        match verdict {
            Verdict::Decode => self.decode(unit, now, on_frame),
            Verdict::Drop(reason) => self.ledger.drop_unit(reason),
        }
        // Pictures that are decoded already are right, whatever was lost behind them.
        if self.gate.is_awaiting_keyframe() && !self.held.is_empty() {
            self.drain(now, UnitDrop::Reset, on_frame);
        }
        verdict == Verdict::Decode
    }

    /// Leaves out as much from now on as the level says.
    pub fn shed(&mut self, level: ShedLevel, now: Instant) {
        if !self.stopped {
            self.gate.shed(level, now);
            self.ledger.set_shed_level(level);
        }
    }

    /// Takes a sender report of this stream.
    pub fn sender_report(&mut self, ntp: u64, rtp_timestamp: RtpTimestamp) {
        self.timeline.sender_report(ntp, rtp_timestamp);
    }

    /// Another source takes over, which has a clock of its own.
    pub fn source_changed(&mut self) {
        self.timeline.reset();
    }

    /// The reason for a keyframe request that is due.
    pub fn keyframe_request(&mut self, now: Instant) -> Option<KeyframeReason> {
        if self.stopped {
            return None;
        }
        self.gate.keyframe_request(now)
    }

    /// When [`keyframe_request`](Self::keyframe_request) is to be called next.
    pub fn deadline(&self) -> Option<Instant> {
        self.gate.deadline()
    }

    /// Why the last unit was refused and which packet ended it, once.
    pub fn take_error(&mut self) -> Option<(DecoderError, PacketId)> {
        self.last_error.take()
    }

    /// How many units the decoder holds.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Ends the stream. Units that are held, and all that come from now on, are dropped as `shutdown`.
    pub fn stop(&mut self) {
        self.stopped = true;
        self.ledger.set_shed_level(ShedLevel::None);
        self.drop_held(UnitDrop::Shutdown);
        self.decoder = None;
    }

    fn decode(&mut self, unit: AccessUnit, now: Instant, on_frame: &mut dyn FnMut(Frame)) {
        let started = self.clock.now();
        // The unit had nothing for a base decoder, which would take an empty unit for the end of the stream.
        if unit.data.is_empty() {
            return self.ledger.drop_unit(UnitDrop::NoPicture);
        }
        if let (PictureKind::Key, Some(sequence)) = (unit.picture, unit.sequence)
            && let Err(error) = self.prepare(sequence, now, on_frame)
        {
            self.ledger.drop_unit(UnitDrop::DecodeError);
            return self.fail(error, now);
        }
        if unit.picture == PictureKind::Bidirectional
            && !self.saw_b_slices
            && let Some(sequence) = self.sequence
            && sequence.output == OutputOrder::Undeclared
        {
            self.saw_b_slices = true;
            self.gate.close(KeyframeReason::Reordering, now);
            self.ledger.drop_unit(UnitDrop::AwaitingKeyframe);
            return;
        }
        let Some(decoder) = &mut self.decoder else {
            // The gate opens at a keyframe, which makes a decoder, so that there should be one here.
            self.ledger.drop_unit(UnitDrop::AwaitingKeyframe);
            return self.gate.close(KeyframeReason::DecodeError, now);
        };
        let tag = self.next_tag;
        self.next_tag += 1;
        self.held.push_back(HeldUnit {
            tag,
            rtp_timestamp: unit.rtp_timestamp,
            received_at: unit.received_at,
            completed_at: unit.completed_at,
            captured_at_unix_ms: self.timeline.captured_at_unix_ms(unit.rtp_timestamp),
            color: self.sequence.map(|known| known.color).unwrap_or_default(),
            picture: None,
        });
        let mut pictures = std::mem::take(&mut self.pictures);
        let begun = self.clock.thread_cpu();
        let result = decoder.decode(&unit.data, tag, &self.pool, &*self.clock, &mut pictures);
        self.account(begun, &pictures);
        self.assign(&mut pictures);
        self.pictures = pictures;
        if let Err(error) = result {
            self.forget(tag, UnitDrop::DecodeError);
            return self.fail(error, now);
        }
        if !unit.gives_picture() {
            self.forget(tag, UnitDrop::NoPicture);
            if unit.is_keyframe() {
                self.gate.open(now);
            }
            return;
        }
        if !self.lags && self.held.back().is_some_and(|unit| unit.picture.is_none()) {
            self.forget(tag, UnitDrop::NoPicture);
            return self.fail(DecoderError::NoPicture, now);
        }
        if self.held.len() > MAX_HELD
            && let Some(oldest) = self.held.front()
        {
            self.forget(oldest.tag, UnitDrop::NoPicture);
        }
        self.emit(
            self.reorder_depth,
            now + self.clock.now().saturating_duration_since(started),
            on_frame,
        );
        if unit.is_keyframe() {
            self.gate.open(now);
        }
    }

    /// Counts the processor time of the thread since the last call. It has been decoding since `begun`.
    fn account(&mut self, begun: Duration, pictures: &[Picture]) {
        let now = self.clock.thread_cpu();
        let copying = pictures.iter().map(|picture| picture.copy_cpu).sum();
        let decoding = now.saturating_sub(begun).saturating_sub(copying);
        let before = self.cpu.replace(now).unwrap_or(begun);
        self.ledger
            .spend_cpu(DecodeWork::Depacketize, begun.saturating_sub(before));
        self.ledger.spend_cpu(DecodeWork::Decode, decoding);
        self.ledger.spend_cpu(DecodeWork::Copy, copying);
    }

    /// Prepares for a keyframe: everything older goes out, and a decoder is made if there is none or if another one is
    /// needed.
    fn prepare(
        &mut self,
        sequence: Sequence,
        now: Instant,
        on_frame: &mut dyn FnMut(Frame),
    ) -> Result<(), DecoderError> {
        if sequence.macroblocks > MAX_MACROBLOCKS {
            return Err(DecoderError::TooLarge(sequence.size));
        }
        if !self.held.is_empty() {
            self.drain(now, UnitDrop::NoPicture, on_frame);
        }
        if self.sequence != Some(sequence) {
            // B slices of the last sequence say nothing about this one.
            self.saw_b_slices = false;
            if self.sequence.map(|known| known.codec) != Some(sequence.codec) {
                self.decoder = None;
            }
            self.sequence = Some(sequence);
        }
        self.reorder_depth = match sequence.output {
            OutputOrder::Reordered { frames } => usize::try_from(frames)
                .unwrap_or(MAX_HELD)
                .min(MAX_HELD / 2),
            OutputOrder::Undeclared if self.saw_b_slices => UNDECLARED_DEPTH,
            OutputOrder::Undeclared | OutputOrder::Decoding => 0,
        };
        if sequence.delays_output || self.lags {
            self.decoder = None;
        }
        self.lags = sequence.delays_output;
        if self.decoder.is_none() {
            self.decoder = Some(Decoder::new(self.kind, sequence.codec)?);
        }
        Ok(())
    }

    /// The decoder's state is not known any more, so the next keyframe gets another one.
    fn fail(&mut self, error: DecoderError, now: Instant) {
        self.note(error);
        self.gate.close(KeyframeReason::DecodeError, now);
        self.decoder = None;
    }

    /// Keeps an error for the log.
    fn note(&mut self, error: DecoderError) {
        self.last_error = self.last_packet.map(|packet| (error, packet));
    }

    /// Gets all pictures out of the decoder. Units that gave none are dropped for `reason`.
    fn drain(&mut self, now: Instant, reason: UnitDrop, on_frame: &mut dyn FnMut(Frame)) {
        let started = self.clock.now();
        let mut pictures = std::mem::take(&mut self.pictures);
        if self.lags
            && let Some(mut decoder) = self.decoder.take()
            && let Err(error) = decoder.drain(&self.pool, &*self.clock, &mut pictures)
        {
            self.note(error);
        }
        self.assign(&mut pictures);
        self.pictures = pictures;
        self.emit(
            0,
            now + self.clock.now().saturating_duration_since(started),
            on_frame,
        );
        self.drop_held(reason);
    }

    /// Gives decoded pictures to their units. Further pictures of one unit are dropped.
    fn assign(&mut self, pictures: &mut Vec<Picture>) {
        for picture in pictures.drain(..) {
            if let Some(unit) = self.held.iter_mut().find(|unit| unit.tag == picture.tag) {
                unit.picture.get_or_insert(picture);
            }
        }
    }

    /// Passes frames on in the order of their timestamps, until `keep` decoded ones are left.
    fn emit(&mut self, keep: usize, decoded_at: Instant, on_frame: &mut dyn FnMut(Frame)) {
        loop {
            let mut decoded = self.held.iter().filter(|unit| unit.picture.is_some());
            if decoded.clone().count() <= keep {
                return;
            }
            let earliest = decoded.next().map(|first| {
                decoded.fold(
                    (first.tag, first.rtp_timestamp),
                    |(tag, timestamp), unit| {
                        if timestamp.is_after(unit.rtp_timestamp) {
                            (unit.tag, unit.rtp_timestamp)
                        } else {
                            (tag, timestamp)
                        }
                    },
                )
            });
            let at =
                earliest.and_then(|(tag, _)| self.held.iter().position(|unit| unit.tag == tag));
            let Some(unit) = at.and_then(|at| self.held.remove(at)) else {
                return;
            };
            let Some(picture) = unit.picture else {
                return;
            };
            let timing = FrameTiming {
                received_at: unit.received_at,
                completed_at: unit.completed_at,
                decoded_at,
                rtp_timestamp: unit.rtp_timestamp,
                captured_at_unix_ms: unit.captured_at_unix_ms,
            };
            self.ledger.decode_frame(&timing);
            on_frame(Frame::new(picture.planes, picture.size, unit.color, timing));
        }
    }

    /// Drops a held unit for `reason`.
    fn forget(&mut self, tag: u64, reason: UnitDrop) {
        let before = self.held.len();
        self.held.retain(|unit| unit.tag != tag);
        if self.held.len() < before {
            self.ledger.drop_unit(reason);
        }
    }

    fn drop_held(&mut self, reason: UnitDrop) {
        for _ in self.held.drain(..) {
            self.ledger.drop_unit(reason);
        }
    }
}
