//! Cameras whose decode threads share simulated processors: all time is simulated, the receive paths are real, and
//! their decoder is the fake, whose work takes as long as the machine says.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use twinsight_media::clock::ManualClock;
use twinsight_media::codec::Codec;
use twinsight_media::decode::decoder::DecoderKind;
use twinsight_media::decode::gate::KeyframeReason;
use twinsight_media::decode::keyframes::KeyframeBudget;
use twinsight_media::decode::path::{DecodeConfig, ReceivePath};
use twinsight_media::decode::shed::ShedChange;
use twinsight_media::ledger::StreamLedger;
use twinsight_media::ledger::{ShedLevel, UnitDrop};
use twinsight_media::picture::PictureSize;
use twinsight_media::rtp::{Arrival, RtpPacket, RtpTimestamp, SequenceNumber, Ssrc};

/// Time between two units of a camera.
pub(crate) const FRAME_TIME: Duration = Duration::from_nanos(66_666_667);
/// From a keyframe request to the moment from which the camera's next unit is a keyframe.
const ROUND_TRIP: Duration = Duration::from_millis(50);
/// The machine's clock goes in steps.
const TICK: Duration = Duration::from_millis(1);

/// What a camera sends.
#[derive(Clone, Copy)]
pub(crate) struct Stream {
    /// Units from one keyframe to the next; none: only those that are asked for.
    pub(crate) keyframe_interval: Option<u32>,
    /// Every second unit but keyframes is one to which no other refers.
    pub(crate) disposable: bool,
    /// Processor time of a unit; a keyframe takes twice as much.
    pub(crate) cost: Duration,
}

/// What came out of a camera.
pub(crate) struct Shown {
    pub(crate) at: Instant,
    pub(crate) age: Duration,
}

pub(crate) struct Camera {
    pub(crate) stream: Stream,
    pub(crate) changes: Vec<(Instant, ShedChange)>,
    pub(crate) shown: Vec<Shown>,
    pub(crate) ledger: Arc<StreamLedger>,
    path: ReceivePath,
    inbox: VecDeque<RtpPacket>,
    next_unit_at: Instant,
    units: u32,
    since_keyframe: u32,
    keyframe_at: Option<Instant>,
    keyframe_is_low_priority: bool,
    /// Processor time that the unit at hand still takes.
    work: Option<Duration>,
    /// When the unit in the decoder came.
    decoding_since: Option<Instant>,
    in_hand_is_key: bool,
    noise: StdRng,
}

pub(crate) struct Machine {
    pub(crate) cameras: Vec<Camera>,
    pub(crate) start: Instant,
    pub(crate) now: Instant,
    pub(crate) processors: f64,
    budget: KeyframeBudget,
}

impl Machine {
    /// `seed` varies what units take.
    pub(crate) fn new(processors: f64, cameras: usize, stream: Stream, seed: u64) -> Self {
        let now = Instant::now();
        let clock = Arc::new(ManualClock::at(now));
        let camera = |index: usize| {
            let size = PictureSize {
                width_px: 16,
                height_px: 16,
            };
            let config = DecodeConfig::new(Arc::default(), clock.clone(), DecoderKind::Fake(size));
            let phase = u32::try_from(index * 37 % 66).unwrap();
            Camera {
                stream,
                changes: Vec::new(),
                shown: Vec::new(),
                path: ReceivePath::new(&config),
                ledger: config.ledger,
                inbox: VecDeque::new(),
                next_unit_at: now + Duration::from_millis(1) * phase,
                units: 0,
                since_keyframe: 0,
                keyframe_at: Some(now),
                keyframe_is_low_priority: false,
                work: None,
                decoding_since: None,
                in_hand_is_key: false,
                noise: StdRng::seed_from_u64(seed * 1000 + u64::try_from(index).unwrap()),
            }
        };
        Self {
            cameras: (0..cameras).map(camera).collect(),
            budget: KeyframeBudget::new(now),
            start: now,
            now,
            processors,
        }
    }

    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            for camera in &mut self.cameras {
                camera.send(self.now);
                if camera.work.is_none() {
                    camera.decode(self.now, &self.budget);
                }
            }
            let active = self.cameras.iter().filter(|camera| camera.work.is_some());
            let active = u32::try_from(active.count()).unwrap();
            let share = (self.processors / f64::from(active.max(1))).min(1.0);
            self.now += TICK;
            for camera in &mut self.cameras {
                if let Some(work) = &mut camera.work {
                    *work = work.saturating_sub(TICK.mul_f64(share));
                    if work.is_zero() {
                        camera.work = None;
                        let received_at = camera.decoding_since.take().unwrap();
                        camera.shown.push(Shown {
                            at: self.now,
                            age: self.now - received_at,
                        });
                        camera.decode(self.now, &self.budget);
                    }
                }
            }
        }
    }

    /// Closes the books, which have to balance.
    pub(crate) fn close(&mut self) {
        for camera in &mut self.cameras {
            camera.path.finish(self.now);
            assert_eq!(camera.ledger.units_held(), 0);
            assert_eq!(camera.ledger.shed_level(), ShedLevel::None);
        }
        assert_eq!(self.highest_level(), ShedLevel::None);
    }

    /// The highest level that a camera is at.
    pub(crate) fn highest_level(&self) -> ShedLevel {
        let levels = self.cameras.iter().map(Camera::level);
        levels.max().unwrap_or_default()
    }
}

impl Camera {
    pub(crate) fn level(&self) -> ShedLevel {
        self.ledger.shed_level()
    }

    pub(crate) fn changes_since(&self, at: Instant) -> usize {
        self.changes.iter().filter(|(when, _)| *when >= at).count()
    }

    /// Frames that came out since then.
    pub(crate) fn frames_since(&self, at: Instant) -> usize {
        self.shown_since(at).count()
    }

    /// The age of the oldest frame since then, when it came out.
    pub(crate) fn oldest_since(&self, at: Instant) -> Duration {
        let ages = self.shown_since(at).map(|shown| shown.age);
        ages.max().unwrap_or_default()
    }

    /// The longest time since then, up to the last frame, without one.
    pub(crate) fn longest_gap_since(&self, at: Instant) -> Duration {
        let times: Vec<Instant> = self.shown_since(at).map(|shown| shown.at).collect();
        let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
        gaps.max().unwrap_or(Duration::MAX)
    }

    fn shown_since(&self, at: Instant) -> impl Iterator<Item = &Shown> {
        self.shown.iter().filter(move |shown| shown.at >= at)
    }

    pub(crate) fn backlogs(&self) -> u64 {
        self.ledger.units_dropped(UnitDrop::DecodeBacklog)
    }

    fn send(&mut self, now: Instant) {
        if now < self.next_unit_at {
            return;
        }
        let scheduled = self.stream.keyframe_interval;
        let key = self.keyframe_at.is_some_and(|at| at <= now)
            || scheduled.is_some_and(|interval| self.since_keyframe + 1 >= interval);
        let disposable = self.stream.disposable && !key && self.since_keyframe.is_multiple_of(2);
        self.since_keyframe = if key { 0 } else { self.since_keyframe + 1 };
        if key {
            self.keyframe_at = None;
        }
        let payload: &[u8] = match (key, disposable) {
            // Descriptor; tag, start code, 16 × 16.
            (true, _) => &[0x10, 0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 16, 0, 16, 0],
            (false, true) => &[0x30, 0x11, 0, 0],
            (false, false) => &[0x10, 0x11, 0, 0],
        };
        self.inbox.push_back(RtpPacket {
            sequence: SequenceNumber(u16::try_from(self.units & 0xffff).unwrap()),
            timestamp: RtpTimestamp(self.units.wrapping_mul(6000)),
            marker: true,
            ssrc: Ssrc(1),
            codec: Codec::Vp8,
            payload: Bytes::from_static(payload),
            arrived_at: self.next_unit_at,
        });
        self.units += 1;
        self.next_unit_at += FRAME_TIME;
    }

    /// As a stream's session does: one that waits for its turn stands for all.
    fn plan_keyframe(&mut self, reason: KeyframeReason, now: Instant, budget: &KeyframeBudget) {
        let low_priority = reason == KeyframeReason::Shedding;
        if self.keyframe_at.is_some() && (low_priority || !self.keyframe_is_low_priority) {
            return;
        }
        let wait = if low_priority {
            budget.reserve_low_priority(now)
        } else {
            budget.reserve(now, 0.5)
        };
        self.keyframe_at = Some(now + wait + ROUND_TRIP);
        self.keyframe_is_low_priority = low_priority;
    }

    /// What the decode thread does until it has decoded a unit, or nothing is left.
    fn decode(&mut self, now: Instant, budget: &KeyframeBudget) {
        loop {
            let mut came = None;
            let more = self.path.step(now, &mut |frame| {
                came = Some(frame.timing().received_at);
            });
            if let Some(change) = self.path.take_shed_change() {
                self.changes.push((now, change));
            }
            if let Some(received_at) = came {
                self.decoding_since = Some(received_at);
                let cost = self.stream.cost * if self.in_hand_is_key { 2 } else { 1 };
                self.work = Some(cost.mul_f64(self.noise.random_range(0.7..1.3)));
                return;
            }
            if more {
                continue;
            }
            if let Some(reason) = self.path.keyframe_request(now) {
                self.plan_keyframe(reason, now, budget);
            }
            match self.inbox.pop_front() {
                Some(packet) => {
                    self.in_hand_is_key = packet.payload.len() > 5;
                    self.path.take(Arrival::Rtp(packet));
                }
                None => return,
            }
        }
    }
}
