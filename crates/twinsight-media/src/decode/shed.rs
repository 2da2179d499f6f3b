//! The overload ladder of one stream: how late its units are, how long decoding them takes and for how long decoding
//! starves inference come in, and how much to leave out goes out. Sans-IO; the stream's
//! [`ReceivePath`](super::path::ReceivePath) owns it.
//!
//! It escalates while units are late and do not become less so, before the gate would have to skip everything up to the
//! next keyframe. It relaxes after nothing was late for long, if the units of the next lower level can be decoded in time:
//! lateness alone cannot tell, since no unit is late while only keyframes are decoded. A level that had to be taken again
//! is given up later each time.

use std::time::{Duration, Instant};

use super::load::{Load, UnitClass};
use crate::access_unit::AccessUnit;
use crate::ledger::ShedLevel;

/// The first pause before the ladder relaxes by a level, and the longest.
const RELAX_AFTER: Duration = Duration::from_secs(5);
const MAX_RELAX_AFTER: Duration = Duration::from_secs(320);

/// If the ladder escalates within this time after it relaxed, or within the pause before that, it relaxed too early.
const PROBATION: Duration = Duration::from_secs(300);

/// For this long after it relaxed, a stream is on trial: if the machine turns out to be too small for all streams, this one
/// yields before those that had settled.
const TRIAL: Duration = Duration::from_secs(30);

/// The share of time that decoding may take at a lower level that decodes more. It is low because wall time grows late and
/// steeply when processors are shared, so that what looks like half of the time may be all there is.
const HEADROOM: f64 = 0.4;

/// The same for a level that decodes no more units but infers more, which competes for the same processors.
const HEADROOM_TO_INFER: f64 = 0.95;

/// A share above the headroom and up to this just fits: the ladder relaxes after this many pauses.
const TIGHT: f64 = 0.85;
const TIGHT_PAUSES: u32 = 12;

/// A stream of which no unit came for this long sheds nothing any more, since what overloaded it has ended.
const GONE_AFTER: Duration = Duration::from_secs(10);

/// Leaving out disposable units helps if they are at least this share of all.
const WORTHWHILE: f64 = 0.1;

/// A change of the level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShedChange {
    /// The level until now.
    pub from: ShedLevel,
    /// The level from now on.
    pub to: ShedLevel,
    /// The time from the last packet of the current unit to the start of its decoding, plus the time for which decoding
    /// lately starved inference.
    pub lateness: Duration,
}

/// The ladder of one stream.
#[derive(Debug)]
pub(super) struct Ladder {
    limits: Limits,
    level: ShedLevel,
    load: Load,
    late: Option<Late>,
    /// How long units may be late without becoming less so. It has a jitter from the first change on.
    patience: Duration,
    stepped_at: Option<Instant>,
    window: Option<Window>,
    /// Since when nothing was late and the level did not change.
    calm_since: Option<Instant>,
    /// The pause before the ladder relaxes, without its jitter and with it.
    pause: Duration,
    jittered_pause: Duration,
    relaxed_at: Option<Instant>,
    /// When the last unit came.
    arrived_at: Option<Instant>,
    random: u64,
}

/// What counts as late, as fractions of the backlog at which the gate gives up.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// A unit is late above this.
    late: Duration,
    /// The same for a stream on trial. It is longer than packets wait behind a hole.
    late_on_trial: Duration,
    /// The same for levels that cost pictures.
    too_late: Duration,
    /// Above this the gate is about to give up, so that there is no time to see whether the lateness shrinks.
    urgent: Duration,
    /// Up to this nothing is late.
    calm: Duration,
    /// For how long lateness may fail to shrink. With the jitter one of several streams is the first to react, and the
    /// others see whether that helped.
    patience: Duration,
    /// After a change the ladder waits this long, since one backlog has many units. The least late unit in such a time
    /// tells whether all is calm.
    settle: Duration,
}

/// Units have been late without a break.
#[derive(Debug, Clone, Copy)]
struct Late {
    least: Duration,
    /// Since when it has not shrunk.
    since: Instant,
}

/// Units in a row and how late the least late of them was. One late unit says little: behind a large unit, all are late for
/// a moment.
#[derive(Debug, Clone, Copy)]
struct Window {
    ends_at: Instant,
    least: Duration,
}

impl Ladder {
    /// A ladder at its lowest level. `max_backlog` is the lateness at which the gate gives up, and `seed` spreads the
    /// moments at which streams change.
    pub(super) fn new(max_backlog: Duration, seed: u64) -> Self {
        let mut ladder = Self {
            limits: Limits {
                late: max_backlog * 3 / 10,
                late_on_trial: max_backlog / 4,
                too_late: max_backlog / 2,
                urgent: max_backlog * 4 / 5,
                calm: max_backlog / 5,
                patience: max_backlog / 4,
                settle: max_backlog / 2,
            },
            level: ShedLevel::None,
            load: Load::default(),
            late: None,
            patience: max_backlog / 4,
            stepped_at: None,
            window: None,
            calm_since: None,
            pause: RELAX_AFTER,
            jittered_pause: RELAX_AFTER,
            relaxed_at: None,
            arrived_at: None,
            random: seed,
        };
        ladder.set_pause(RELAX_AFTER);
        ladder
    }

    /// How much to leave out.
    pub(super) fn level(&self) -> ShedLevel {
        self.level
    }

    /// A unit came whose decoding could start now, whether or not it will be decoded. `lag` is for how long decoding lately
    /// starved inference: the unit's frame will wait that long, too.
    pub(super) fn arrived(
        &mut self,
        unit: &AccessUnit,
        lag: Duration,
        now: Instant,
    ) -> Option<ShedChange> {
        self.load.arrived(UnitClass::of(unit)?, now);
        self.arrived_at = Some(now);
        let backlog = now.saturating_duration_since(unit.completed_at);
        let lateness = backlog + lag;
        self.watch_calm(lateness, now);
        let to = if self.is_overloaded(lateness, backlog, now) {
            self.escalate(now)?
        } else {
            self.relax(now)?
        };
        self.stepped_at = Some(now);
        self.late = None;
        self.calm_since = None;
        self.patience = self.limits.patience.mul_f64(1.0 + 5.0 * self.random());
        self.load.close_period(now);
        let from = std::mem::replace(&mut self.level, to);
        Some(ShedChange { from, to, lateness })
    }

    /// When a ladder above its lowest level is to be reset if no unit comes until then.
    pub(super) fn gone_at(&self) -> Option<Instant> {
        self.arrived_at
            .filter(|_| self.level > ShedLevel::None)
            .map(|at| at + GONE_AFTER)
    }

    /// Decoding a unit begins.
    pub(super) fn began(&mut self, class: UnitClass, now: Instant) {
        self.load.began(class, now);
    }

    /// The unit that was being decoded is done.
    pub(super) fn done(&mut self, now: Instant) {
        self.load.done(now);
    }

    /// True if units are late and do not become less so, or if the gate is about to give up.
    fn is_overloaded(&mut self, lateness: Duration, backlog: Duration, now: Instant) -> bool {
        let on_trial = self
            .relaxed_at
            .is_some_and(|at| now.saturating_duration_since(at) < TRIAL);
        let (limit, patience) = match self.level {
            _ if on_trial => (self.limits.late_on_trial, self.limits.patience),
            ShedLevel::None => (self.limits.late, self.patience),
            _ => (self.limits.too_late, self.patience),
        };
        if lateness <= limit {
            self.late = None;
            return false;
        }
        let late = self.late.get_or_insert(Late {
            least: lateness,
            since: now,
        });
        if lateness < late.least {
            (late.least, late.since) = (lateness, now);
        }
        let stuck = now.saturating_duration_since(late.since) >= patience;
        let settles = self
            .stepped_at
            .is_some_and(|at| now.saturating_duration_since(at) < self.limits.settle);
        stuck || backlog > self.limits.urgent && !settles
    }

    fn watch_calm(&mut self, lateness: Duration, now: Instant) {
        let window = self.window.get_or_insert(Window {
            ends_at: now + self.limits.settle,
            least: lateness,
        });
        window.least = window.least.min(lateness);
        if now >= window.ends_at {
            if window.least > self.limits.calm {
                self.calm_since = None;
            } else {
                self.calm_since.get_or_insert(now);
            }
            self.window = None;
        }
    }

    /// The next higher level, if there is one.
    fn escalate(&mut self, now: Instant) -> Option<ShedLevel> {
        let to = match self.level {
            ShedLevel::None => ShedLevel::InferLess,
            ShedLevel::InferLess if self.has_disposable() => ShedLevel::ReferencesOnly,
            ShedLevel::InferLess | ShedLevel::ReferencesOnly => ShedLevel::KeyframesOnly,
            ShedLevel::KeyframesOnly => return None,
        };
        // Of several changes in a row only the first one says whether the ladder relaxed too early.
        if let Some(at) = self.relaxed_at.take() {
            let soon = now.saturating_duration_since(at) < PROBATION.max(self.pause);
            self.set_pause(if soon {
                (self.pause * 2).min(MAX_RELAX_AFTER)
            } else {
                (self.pause / 2).max(RELAX_AFTER)
            });
        }
        Some(to)
    }

    /// The next lower level, if it will probably last.
    fn relax(&mut self, now: Instant) -> Option<ShedLevel> {
        let (to, headroom) = match self.level {
            ShedLevel::None => return None,
            ShedLevel::InferLess => (ShedLevel::None, HEADROOM_TO_INFER),
            ShedLevel::KeyframesOnly if self.has_disposable() => {
                (ShedLevel::ReferencesOnly, HEADROOM)
            }
            ShedLevel::ReferencesOnly | ShedLevel::KeyframesOnly => {
                (ShedLevel::InferLess, HEADROOM)
            }
        };
        let calm_for = now.saturating_duration_since(self.calm_since?);
        let share = self.load.busy_share(to);
        let pause = if share <= headroom {
            self.jittered_pause
        } else if share <= TIGHT {
            self.jittered_pause * TIGHT_PAUSES
        } else {
            return None;
        };
        if calm_for < pause {
            return None;
        }
        self.relaxed_at = Some(now);
        self.set_pause(self.pause);
        Some(to)
    }

    fn has_disposable(&self) -> bool {
        self.load.disposable_share() >= WORTHWHILE
    }

    fn set_pause(&mut self, pause: Duration) {
        self.pause = pause;
        self.jittered_pause = pause.mul_f64(1.0 + 2.0 * self.random());
    }

    /// A number from 0 to 1, by the finalizer of splitmix64, which is good enough to spread streams.
    fn random(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        f64::from(u32::try_from(mixed >> 33).unwrap_or(0)) / f64::from(1_u32 << 31)
    }
}
