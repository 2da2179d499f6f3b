//! The overload ladder of one stream: how late its units are, what decoding them takes and how long decoding starves inference
//! come in, how much is to be left out goes out. Sans-IO; the stream's [`ReceivePath`](super::path::ReceivePath) feeds it.
//!
//! It climbs while units are late and the lateness does not shrink, before the gate's rule of the backlog has to throw
//! away everything. It falls when nothing was late for long and what the next lower step would cost fits in the time
//! that there is: at keyframes alone no unit is ever late. A step that had to be taken again is given back later and later.

use std::time::{Duration, Instant};

use super::load::{Load, UnitClass};
use crate::access_unit::AccessUnit;
use crate::ledger::ShedLevel;

/// The first pause before a step is given back, and the longest.
const GIVE_BACK_AFTER: Duration = Duration::from_secs(5);
const MAX_GIVE_BACK_AFTER: Duration = Duration::from_secs(320);

/// A step that is taken again within this time, or within the pause before it, was given back too early.
const PROBATION: Duration = Duration::from_secs(300);

/// So long after it gave a step back a stream is on trial: where the machine turns out to be too small for all, it
/// yields before those that had settled.
const TRIAL: Duration = Duration::from_secs(30);

/// Share of the time that decoding may take after a step that makes it decode more. It is low because wall time grows
/// late and steeply when processors are shared: what looks like half of the time may be all that there is.
const HEADROOM: f64 = 0.4;

/// As above where the step costs no decoding, but inference, which competes for the same processors.
const HEADROOM_TO_INFER: f64 = 0.95;

/// A share above the headroom and up to this fits narrowly: the step is given back after so many pauses.
const TIGHT: f64 = 0.85;
const TIGHT_PAUSES: u32 = 12;

/// A stream of which nothing came for this long sheds nothing: what was too much is over.
const GONE_AFTER: Duration = Duration::from_secs(10);

/// The share of disposable units from which on leaving them out helps.
const WORTHWHILE: f64 = 0.1;

/// A step was taken or given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShedChange {
    /// The level until now.
    pub from: ShedLevel,
    /// The level from now on.
    pub to: ShedLevel,
    /// From the last packet of the unit at hand to the moment at which its decoding could start, and how long
    /// decoding lately starved inference.
    pub lateness: Duration,
}

/// The ladder of one stream.
#[derive(Debug)]
pub struct Ladder {
    limits: Limits,
    level: ShedLevel,
    load: Load,
    late: Option<Late>,
    /// With its jitter, from the first step on.
    patience: Duration,
    stepped_at: Option<Instant>,
    window: Option<Window>,
    /// Nothing was late, and no step taken or given back, since.
    calm_since: Option<Instant>,
    /// The pause before a step is given back, without its jitter.
    pause: Duration,
    jittered_pause: Duration,
    given_back_at: Option<Instant>,
    /// The last unit came.
    arrived_at: Option<Instant>,
    random: u64,
}

/// What is late: fractions of what the gate takes as a backlog.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// A unit is late above this.
    late: Duration,
    /// As above on trial. It is more than a hole in the sequence of packets may wait.
    late_on_trial: Duration,
    /// As above for the steps that cost pictures.
    too_late: Duration,
    /// Above this, and before the gate gives up, there is no time to wait whether lateness shrinks.
    urgent: Duration,
    /// At or below this nothing is late.
    calm: Duration,
    /// How long lateness may fail to shrink. Its jitter lets one of several streams be the first, and the others see
    /// what that helped.
    patience: Duration,
    /// One backlog has many units; and what is calm is told by the least late unit in such a time.
    settle: Duration,
}

/// Every unit is late.
#[derive(Debug, Clone, Copy)]
struct Late {
    least: Duration,
    /// It has not shrunk since.
    since: Instant,
}

/// Units in a row, and whether the least late of them was late: behind a large one all are for a moment.
#[derive(Debug, Clone, Copy)]
struct Window {
    ends_at: Instant,
    least: Duration,
}

impl Ladder {
    /// A ladder at its foot. `max_backlog` is the lateness at which the gate gives up; `seed` spreads the moments at
    /// which streams change.
    pub fn new(max_backlog: Duration, seed: u64) -> Self {
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
            pause: GIVE_BACK_AFTER,
            jittered_pause: GIVE_BACK_AFTER,
            given_back_at: None,
            arrived_at: None,
            random: seed,
        };
        ladder.set_pause(GIVE_BACK_AFTER);
        ladder
    }

    /// How much is to be left out.
    pub fn level(&self) -> ShedLevel {
        self.level
    }

    /// A unit came out of the network whose decoding could start now; it may be left out for this or that reason. `lag` is
    /// how long decoding lately starved inference, which its frame will wait, too.
    pub fn arrived(
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
        let to = if self.is_over_its_head(lateness, backlog, now) {
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

    /// When a ladder that is not at its foot is of no use any more, unless a unit comes.
    pub fn gone_at(&self) -> Option<Instant> {
        self.arrived_at
            .filter(|_| self.level > ShedLevel::None)
            .map(|at| at + GONE_AFTER)
    }

    /// Work on a unit begins.
    pub fn began(&mut self, class: UnitClass, now: Instant) {
        self.load.began(class, now);
    }

    /// Whatever was worked on is done.
    pub fn done(&mut self, now: Instant) {
        self.load.done(now);
    }

    /// Units are late and do not become less so, or the gate is about to give up.
    fn is_over_its_head(&mut self, lateness: Duration, backlog: Duration, now: Instant) -> bool {
        let on_trial = self
            .given_back_at
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
        // Of the steps taken in a row the first one tells.
        if let Some(at) = self.given_back_at.take() {
            let soon = now.saturating_duration_since(at) < PROBATION.max(self.pause);
            self.set_pause(if soon {
                (self.pause * 2).min(MAX_GIVE_BACK_AFTER)
            } else {
                (self.pause / 2).max(GIVE_BACK_AFTER)
            });
        }
        Some(to)
    }

    /// The next lower level, if that is sure to last.
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
        self.given_back_at = Some(now);
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

    /// From 0 to 1, by the finalizer of splitmix64: spreading streams takes no better one.
    fn random(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        f64::from(u32::try_from(mixed >> 33).unwrap_or(0)) / f64::from(1_u32 << 31)
    }
}
