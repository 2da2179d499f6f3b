//! One stream's decoding without a thread: access units come in, frames go out with their times, and
//! the ledger is kept: units received = frames decoded + units dropped + units held by the decoder.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::decoder::{Decoder, DecoderError, DecoderKind, OutputOrder, Picture};
use super::frame::{Color, Frame, FrameTiming, PlanePool};
use super::gate::{Gate, KeyframeReason, Verdict};
use crate::h264::depacketize::{AccessUnit, PictureKind};
use crate::h264::sps::Sps;
use crate::rtp::timeline::Timeline;
use crate::telemetry::ledger::{Stage, UnitDrop};
use crate::telemetry::metrics::StreamMetrics;

/// Macroblocks of a frame at level 5.2: 4096 × 2304.
const MAX_MACROBLOCKS: u32 = 36_864;
/// Units that a decoder may hold: its 16 pictures, and some that gave none.
const MAX_HELD: usize = 32;
/// Unused picture buffers kept for the next pictures.
const POOL_BUFFERS: usize = 4;

/// Decodes the access units of one stream.
#[derive(Debug)]
pub struct DecodeStream {
    metrics: Arc<StreamMetrics>,
    kind: DecoderKind,
    /// None until the first keyframe, and after an error until the next one.
    decoder: Option<Decoder>,
    order: OutputOrder,
    sps: Option<Sps>,
    saw_b_slices: bool,
    gate: Gate,
    timeline: Timeline,
    pool: PlanePool,
    /// Units in the decoder, in decoding order.
    held: VecDeque<HeldUnit>,
    next_tag: u64,
    /// Reused between calls.
    pictures: Vec<Picture>,
    last_error: Option<DecoderError>,
    stopped: bool,
}

/// A unit whose picture has not come out yet.
#[derive(Debug, Clone, Copy)]
struct HeldUnit {
    tag: u64,
    rtp_timestamp: u32,
    received_at: Instant,
    completed_at: Instant,
    captured_at_unix_ms: Option<u64>,
    color: Color,
}

impl DecodeStream {
    /// A stream that waits for its first keyframe; units older than `max_backlog` are skipped.
    pub fn new(metrics: Arc<StreamMetrics>, kind: DecoderKind, max_backlog: Duration) -> Self {
        Self {
            metrics,
            kind,
            decoder: None,
            order: OutputOrder::Immediate,
            sps: None,
            saw_b_slices: false,
            gate: Gate::new(max_backlog),
            timeline: Timeline::default(),
            pool: PlanePool::new(POOL_BUFFERS),
            held: VecDeque::new(),
            next_tag: 1,
            pictures: Vec::new(),
            last_error: None,
            stopped: false,
        }
    }

    /// Takes a unit; `now` is when its decoding can start. Frames that come out go to `on_frame`.
    pub fn push(&mut self, unit: AccessUnit, now: Instant, on_frame: &mut dyn FnMut(Frame)) {
        self.metrics.access_units_received.inc();
        if self.stopped {
            self.metrics.unit_dropped(UnitDrop::Shutdown);
            return;
        }
        match self.gate.admit(&unit, now) {
            Verdict::Decode => self.decode(unit, now, on_frame),
            Verdict::Drop(reason) => self.metrics.unit_dropped(reason),
        }
        // What is decoded already is right, whatever was lost behind it.
        if self.gate.is_awaiting_keyframe() && !self.held.is_empty() {
            self.drain(now, UnitDrop::Reset, on_frame);
        }
    }

    /// Takes a sender report of this stream.
    pub fn sender_report(&mut self, ntp: u64, rtp_timestamp: u32) {
        self.timeline.sender_report(ntp, rtp_timestamp);
    }

    /// The source began anew: its clock is another one.
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

    /// Why the last unit was refused, once.
    pub fn take_error(&mut self) -> Option<DecoderError> {
        self.last_error.take()
    }

    /// Units that the decoder holds.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Ends the stream: what is held, and every unit from now on, is counted as `shutdown`.
    pub fn stop(&mut self) {
        self.stopped = true;
        self.drop_held(UnitDrop::Shutdown);
        self.decoder = None;
    }

    fn decode(&mut self, unit: AccessUnit, now: Instant, on_frame: &mut dyn FnMut(Frame)) {
        let started = Instant::now();
        if let (PictureKind::Idr, Some(sps)) = (unit.picture, unit.sps)
            && let Err(error) = self.prepare(sps, now, on_frame)
        {
            self.metrics.unit_dropped(UnitDrop::DecodeError);
            return self.fail(error, now);
        }
        if unit.picture == PictureKind::Bidirectional
            && self.order == OutputOrder::Immediate
            && self.sps.is_some_and(|sps| !sps.is_baseline())
        {
            self.saw_b_slices = true;
            self.gate.close(KeyframeReason::Reordering, now);
            self.metrics.unit_dropped(UnitDrop::AwaitingKeyframe);
            return;
        }
        let Some(decoder) = &mut self.decoder else {
            // The gate opens on a keyframe only, which makes one; without it there is nothing to do.
            self.metrics.unit_dropped(UnitDrop::AwaitingKeyframe);
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
            color: self.sps.map(|sps| sps.color).unwrap_or_default(),
        });
        let mut pictures = std::mem::take(&mut self.pictures);
        let result = decoder.decode(&unit.data, tag, self.order, &self.pool, &mut pictures);
        self.emit(&mut pictures, now + started.elapsed(), on_frame);
        self.pictures = pictures;
        if let Err(error) = result {
            self.forget(tag, UnitDrop::DecodeError);
            return self.fail(error, now);
        }
        if unit.picture == PictureKind::None {
            self.forget(tag, UnitDrop::NoPicture);
            return;
        }
        if self.order == OutputOrder::Immediate && self.forget(tag, UnitDrop::NoPicture) {
            return self.fail(DecoderError::NoPicture, now);
        }
        if self.held.len() > MAX_HELD
            && let Some(oldest) = self.held.front()
        {
            self.forget(oldest.tag, UnitDrop::NoPicture);
        }
        if unit.picture == PictureKind::Idr {
            self.gate.open();
        }
    }

    /// Before an IDR picture: everything older goes out, and the decoder is made or made anew.
    fn prepare(
        &mut self,
        sps: Sps,
        now: Instant,
        on_frame: &mut dyn FnMut(Frame),
    ) -> Result<(), DecoderError> {
        if sps.macroblocks > MAX_MACROBLOCKS {
            return Err(DecoderError::TooLarge(sps.size));
        }
        if !self.held.is_empty() {
            self.drain(now, UnitDrop::NoPicture, on_frame);
        }
        if self.sps != Some(sps) {
            // B slices of another sequence say nothing about this one.
            self.saw_b_slices = false;
            self.sps = Some(sps);
        }
        let reorders = self.saw_b_slices || sps.max_num_reorder_frames.is_some_and(|n| n > 0);
        let order = if reorders && !sps.is_baseline() {
            OutputOrder::Display
        } else {
            OutputOrder::Immediate
        };
        if self.decoder.is_none() || order != self.order {
            self.order = order;
            self.decoder = None;
            self.decoder = Some(Decoder::new(self.kind)?);
        }
        Ok(())
    }

    /// The decoder's state is not known any more: the next keyframe gets a fresh one.
    fn fail(&mut self, error: DecoderError, now: Instant) {
        self.last_error = Some(error);
        self.gate.close(KeyframeReason::DecodeError, now);
        self.drop_held(UnitDrop::Reset);
        self.decoder = None;
    }

    /// Gets every picture out of the decoder; units that gave none are dropped for `reason`.
    fn drain(&mut self, now: Instant, reason: UnitDrop, on_frame: &mut dyn FnMut(Frame)) {
        let started = Instant::now();
        let mut pictures = std::mem::take(&mut self.pictures);
        if let Some(decoder) = &mut self.decoder
            && let Err(error) = decoder.drain(&self.pool, &mut pictures)
        {
            self.last_error = Some(error);
        }
        self.emit(&mut pictures, now + started.elapsed(), on_frame);
        self.pictures = pictures;
        self.drop_held(reason);
    }

    fn emit(
        &mut self,
        pictures: &mut Vec<Picture>,
        decoded_at: Instant,
        on_frame: &mut dyn FnMut(Frame),
    ) {
        for picture in pictures.drain(..) {
            let Some(at) = self.held.iter().position(|unit| unit.tag == picture.tag) else {
                continue; // A second picture of one unit: its first one has gone out.
            };
            let Some(unit) = self.held.remove(at) else {
                continue;
            };
            let timing = FrameTiming {
                received_at: unit.received_at,
                completed_at: unit.completed_at,
                decoded_at,
                rtp_timestamp: unit.rtp_timestamp,
                captured_at_unix_ms: unit.captured_at_unix_ms,
            };
            let spent = |from: Instant, to: Instant| to.saturating_duration_since(from);
            self.metrics.frames_decoded.inc();
            self.metrics.stage(
                Stage::Receive,
                spent(timing.received_at, timing.completed_at),
            );
            self.metrics
                .stage(Stage::Decode, spent(timing.completed_at, decoded_at));
            on_frame(Frame::new(picture.planes, picture.size, unit.color, timing));
        }
    }

    /// Drops a held unit; false if its picture has come out.
    fn forget(&mut self, tag: u64, reason: UnitDrop) -> bool {
        let before = self.held.len();
        self.held.retain(|unit| unit.tag != tag);
        let found = self.held.len() < before;
        if found {
            self.metrics.unit_dropped(reason);
        }
        found
    }

    fn drop_held(&mut self, reason: UnitDrop) {
        for _ in self.held.drain(..) {
            self.metrics.unit_dropped(reason);
        }
    }
}
