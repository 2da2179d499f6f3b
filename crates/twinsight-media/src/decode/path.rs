//! The receive path of one stream: RTP packets come in, and frames go out of reorder, the codec's depacketizer and
//! [`DecodeStream`] in a row. The stream's decode thread runs it; tests and benches run it in simulated time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::cpu_pressure::CpuPressure;
use super::decoder::{DecoderError, DecoderKind};
use super::gate::KeyframeReason;
use super::load::UnitClass;
use super::shed::{Ladder, ShedChange};
use super::stream::DecodeStream;
use crate::access_unit::AccessUnit;
use crate::clock::Clock;
use crate::codec::Codec;
use crate::h264::depacketize as h264;
use crate::h264::parameter_sets::ParameterSets;
use crate::ledger::{ShedLevel, StreamLedger};
use crate::picture::Frame;
use crate::rtp::reorder::{Ordered, Reorder};
use crate::rtp::{Arrival, PacketId};
use crate::vp8::depacketize as vp8;

/// How often lost packets are asked for again, by whoever holds the connection; a hole in the packets waits a multiple of
/// it. Default of [`DecodeConfig::nack_interval`].
pub const NACK_INTERVAL: Duration = Duration::from_millis(20);
/// Default of [`DecodeConfig::max_backlog`].
pub const MAX_BACKLOG: Duration = Duration::from_millis(500);

/// No keyframe is asked for while one is coming, each of its packets within this time of the one before: on a slow link
/// another one would only be in its way.
const KEYFRAME_PAUSE: Duration = Duration::from_millis(500);
/// A keyframe that takes longer than this does not prevent requests any more.
const KEYFRAME_PATIENCE: Duration = Duration::from_secs(10);

/// The settings of one stream's decoding.
#[derive(Debug, Clone)]
pub struct DecodeConfig {
    /// Where packets, units and frames are counted.
    pub ledger: Arc<StreamLedger>,
    /// The clock that decoding reads.
    pub clock: Arc<dyn Clock>,
    /// How often missing packets are asked for again. Packets behind a hole wait twice that time plus the jitter.
    pub nack_interval: Duration,
    /// Units whose last packet came longer than this before their decoding could start are skipped, up to the next
    /// keyframe.
    pub max_backlog: Duration,
    /// Which decoder to make.
    pub decoder: DecoderKind,
    /// Parameter sets of the session description (`sprop-parameter-sets`).
    pub parameter_sets: ParameterSets,
    /// Spreads the moments at which streams shed more or less.
    pub seed: u64,
    /// For how long decoding starves inference, shared by all streams: a frame that cannot be inferred in time need not be
    /// decoded.
    pub cpu_pressure: Arc<CpuPressure>,
}

impl DecodeConfig {
    /// The defaults of a stream.
    pub fn new(ledger: Arc<StreamLedger>, clock: Arc<dyn Clock>, decoder: DecoderKind) -> Self {
        Self {
            ledger,
            clock,
            nack_interval: NACK_INTERVAL,
            max_backlog: MAX_BACKLOG,
            decoder,
            parameter_sets: ParameterSets::default(),
            seed: 0,
            cpu_pressure: Arc::default(),
        }
    }
}

/// What went wrong with the stream's input, for the log. It is counted already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{kind} ({packet})")]
pub struct PathError {
    /// What went wrong.
    pub kind: PathErrorKind,
    /// The malformed packet, or the last one of the unit that gave no picture.
    pub packet: PacketId,
}

/// What may go wrong with a stream's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PathErrorKind {
    /// A payload of H.264 was malformed.
    #[error("a malformed H.264 payload spoiled an access unit: {0}")]
    H264(#[from] h264::PayloadError),
    /// A payload of VP8 was malformed.
    #[error("a malformed VP8 payload spoiled a frame: {0}")]
    Vp8(#[from] vp8::PayloadError),
    /// A unit gave no picture.
    #[error(transparent)]
    Decoder(#[from] DecoderError),
}

impl<E: Into<PathErrorKind>> From<(E, PacketId)> for PathError {
    fn from((error, packet): (E, PacketId)) -> Self {
        Self {
            kind: error.into(),
            packet,
        }
    }
}

/// Reorder, depacketizers and decoder of one stream. The sender may change between the codecs that were negotiated, while
/// its sequence numbers go on.
#[derive(Debug)]
pub struct ReceivePath {
    ledger: Arc<StreamLedger>,
    clock: Arc<dyn Clock>,
    reorder: Reorder,
    /// The codec of the last packet.
    codec: Codec,
    h264: h264::Depacketizer,
    vp8: vp8::Depacketizer,
    stream: DecodeStream,
    ladder: Ladder,
    max_backlog: Duration,
    seed: u64,
    cpu_pressure: Arc<CpuPressure>,
    shed_change: Option<ShedChange>,
}

impl ReceivePath {
    /// A path that has seen no packet.
    pub fn new(config: &DecodeConfig) -> Self {
        Self {
            ledger: Arc::clone(&config.ledger),
            clock: Arc::clone(&config.clock),
            reorder: Reorder::new(config.nack_interval),
            codec: Codec::H264,
            h264: h264::Depacketizer::new(config.parameter_sets.clone()),
            vp8: vp8::Depacketizer::default(),
            stream: DecodeStream::new(
                Arc::clone(&config.ledger),
                Arc::clone(&config.clock),
                config.decoder,
                config.max_backlog,
            ),
            ladder: Ladder::new(config.max_backlog, config.seed),
            max_backlog: config.max_backlog,
            seed: config.seed,
            cpu_pressure: Arc::clone(&config.cpu_pressure),
            shed_change: None,
        }
    }

    /// Takes a packet or report. Call [`step`](Self::step) after each until it gives false.
    pub fn take(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Rtp(packet) => {
                self.ledger.receive_packet();
                self.reorder.push(packet);
            }
            Arrival::SenderReport {
                ntp, rtp_timestamp, ..
            } => self.stream.sender_report(ntp, rtp_timestamp),
        }
    }

    /// Does the next piece of work, in which at most three access units are decoded. False if there is no more work until
    /// something arrives or the [`deadline`](Self::deadline) passes. The time between two calls counts as time that the
    /// work of the first one took.
    pub fn step(&mut self, now: Instant, on_frame: &mut dyn FnMut(Frame)) -> bool {
        let did_something = self.next(now, on_frame);
        let (h264, vp8) = (self.h264.take_malformed(), self.vp8.take_malformed());
        self.ledger.refuse_payloads(Codec::H264, h264);
        self.ledger.refuse_payloads(Codec::Vp8, vp8);
        did_something
    }

    fn next(&mut self, now: Instant, on_frame: &mut dyn FnMut(Frame)) -> bool {
        self.ladder.done(now);
        let Some(ordered) = self.reorder.pop(now) else {
            if self.ladder.gone_at().is_some_and(|at| at <= now) {
                self.reset(now);
            }
            return false;
        };
        match &ordered {
            Ordered::Lost { count, .. } => {
                self.ledger.lose_packets(u64::from(*count));
            }
            Ordered::Restart => {
                self.stream.source_changed();
                // The load of the last source says nothing about this one.
                self.reset(now);
            }
            Ordered::Packet(packet) if packet.codec != self.codec => {
                if let Some(unit) = self.finish_unit(now) {
                    self.decode(unit, now, on_frame);
                }
                self.codec = packet.codec;
            }
            Ordered::Packet(_) => {}
        }
        if matches!(ordered, Ordered::Restart) {
            if let Some(unit) = self.finish_unit(now) {
                self.decode(unit, now, on_frame);
            }
            return true;
        }
        match self.codec {
            Codec::H264 => {
                for unit in self.h264.push(ordered) {
                    self.decode(unit, now, on_frame);
                }
            }
            Codec::Vp8 => {
                for unit in self.vp8.push(ordered) {
                    self.decode(unit, now, on_frame);
                }
            }
        }
        true
    }

    /// The reason for a keyframe request that is due.
    pub fn keyframe_request(&mut self, now: Instant) -> Option<KeyframeReason> {
        if self.keyframe_awaited_until().is_some_and(|at| now < at) {
            return None;
        }
        self.stream.keyframe_request(now)
    }

    /// When there will be something to do although nothing arrives.
    pub fn deadline(&self) -> Option<Instant> {
        let request = self.stream.deadline();
        let request = request.map(|at| {
            self.keyframe_awaited_until()
                .map_or(at, |until| at.max(until))
        });
        let deadlines = [self.reorder.deadline(), request, self.ladder.gone_at()];
        deadlines.into_iter().flatten().min()
    }

    /// How many units the decoder holds.
    pub fn held(&self) -> usize {
        self.stream.held()
    }

    /// The last change of how much is left out. It is given once.
    pub fn take_shed_change(&mut self) -> Option<ShedChange> {
        self.shed_change.take()
    }

    /// The last error. It is given once.
    pub fn take_error(&mut self) -> Option<PathError> {
        let h264 = self.h264.take_error().map(PathError::from);
        h264.or_else(|| self.vp8.take_error().map(PathError::from))
            .or_else(|| self.stream.take_error().map(PathError::from))
    }

    /// Stops decoding. Units that are held, and all that come from now on, are dropped as `shutdown`.
    pub fn stop(&mut self) {
        self.stream.stop();
    }

    /// Counts what is left after [`stop`](Self::stop), also packets behind a hole and the open unit, so that the ledger
    /// adds up.
    pub fn finish(&mut self, now: Instant) {
        self.stream.stop();
        self.reorder.finish();
        while self.step(now, &mut |_| {}) {}
        if let Some(unit) = self.finish_unit(now) {
            self.stream.push(unit, now, &mut |_| {});
        }
    }

    /// Begins with another ladder, which knows nothing of the stream's load.
    fn reset(&mut self, now: Instant) {
        let from = self.ladder.level();
        if from > ShedLevel::None {
            self.shed_change = Some(ShedChange {
                from,
                to: ShedLevel::None,
                lateness: Duration::ZERO,
            });
        }
        self.ladder = Ladder::new(self.max_backlog, self.seed);
        self.stream.shed(ShedLevel::None, now);
    }

    fn decode(&mut self, unit: AccessUnit, now: Instant, on_frame: &mut dyn FnMut(Frame)) {
        let lag = self.cpu_pressure.lately(now);
        if let Some(change) = self.ladder.arrived(&unit, lag, now) {
            self.stream.shed(change.to, now);
            self.shed_change = Some(change);
        }
        let class = UnitClass::of(&unit);
        let before = self.clock.thread_cpu();
        let let_through = self.stream.push(unit, now, on_frame);
        self.cpu_pressure
            .decoded(self.clock.thread_cpu().saturating_sub(before));
        if let_through && let Some(class) = class {
            self.ladder.began(class, now);
        }
    }

    /// Ends the open unit. The next one of its codec follows a loss, so that only a keyframe passes.
    fn finish_unit(&mut self, now: Instant) -> Option<AccessUnit> {
        let unit = match self.codec {
            Codec::H264 => self.h264.finish(),
            Codec::Vp8 => self.vp8.finish(),
        };
        // Only now is it known that no more of it comes, and how long its sender was silent does not count as lateness.
        unit.map(|unit| AccessUnit {
            completed_at: unit.completed_at.max(now),
            ..unit
        })
    }

    /// Until when to wait for the rest of a keyframe, if one is coming.
    fn keyframe_awaited_until(&self) -> Option<Instant> {
        let coming = match self.codec {
            Codec::H264 => self.h264.keyframe_under_way(),
            Codec::Vp8 => self.vp8.keyframe_under_way(),
        }?;
        let patience_ends = coming.first_packet + KEYFRAME_PATIENCE;
        Some(patience_ends.min(coming.last_packet + KEYFRAME_PAUSE))
    }
}

#[cfg(test)]
#[cfg(feature = "openh264")]
#[path = "path_tests/mod.rs"]
mod tests;
