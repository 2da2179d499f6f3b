//! What decoding a stream costs: its units and the time spent on them come in, and the share of time that decoding would
//! take at a shed level goes out. Sans-IO; the stream's [`Ladder`](super::shed::Ladder) owns it.
//!
//! It measures wall time, because that grows when the processors are shared by more threads than they can carry, and this
//! is what the ladder has to see.

use std::time::{Duration, Instant};

use crate::access_unit::{AccessUnit, PictureKind};
use crate::ledger::ShedLevel;

/// For how long units are counted before the counts change the estimates.
const PERIOD: Duration = Duration::from_secs(2);

/// How much longer than another reference a keyframe is taken to decode until that is known.
const KEYFRAME_WEIGHT: f64 = 1.5;

/// The classes of units that levels tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnitClass {
    /// Decoding can begin with it.
    Key,
    /// Other pictures refer to it.
    Reference,
    /// No other picture refers to it.
    Disposable,
}

/// The rates and costs of one stream's units.
#[derive(Debug)]
pub(super) struct Load {
    period_began: Option<Instant>,
    /// What was counted in this period, by class.
    counts: [Counts; 3],
    /// The class of the unit that is being decoded, and since when.
    busy: Option<(UnitClass, Instant)>,
    /// Units a second by class, smoothed; none before the first period is over.
    per_second: Option<[f64; 3]>,
    /// How long a unit of each class takes, as a multiple of a reference. This is a property of the stream, while the time
    /// that a reference takes depends on the machine, too.
    weights: [f64; 3],
    /// How long a reference takes. While only keyframes are decoded, it is concluded from what those take.
    reference_seconds: Option<f64>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    arrived: u32,
    decoded: u32,
    spent: Duration,
}

impl UnitClass {
    /// The class of a unit; none if it has no picture.
    pub(super) fn of(unit: &AccessUnit) -> Option<Self> {
        match unit.picture {
            PictureKind::None => None,
            PictureKind::Key => Some(Self::Key),
            _ if unit.disposable => Some(Self::Disposable),
            PictureKind::Forward | PictureKind::Bidirectional => Some(Self::Reference),
        }
    }

    /// True if units of the class are decoded at a level.
    fn is_decoded_at(self, level: ShedLevel) -> bool {
        match self {
            Self::Key => true,
            Self::Reference => level < ShedLevel::KeyframesOnly,
            Self::Disposable => level < ShedLevel::ReferencesOnly,
        }
    }
}

impl Default for Load {
    fn default() -> Self {
        Self {
            period_began: None,
            counts: Default::default(),
            busy: None,
            per_second: None,
            weights: [KEYFRAME_WEIGHT, 1.0, 1.0],
            reference_seconds: None,
        }
    }
}

impl Load {
    /// A unit came.
    pub(super) fn arrived(&mut self, class: UnitClass, now: Instant) {
        let began = *self.period_began.get_or_insert(now);
        if now.saturating_duration_since(began) >= PERIOD {
            self.close_period(now);
        }
        self.counts[class as usize].arrived += 1;
    }

    /// Decoding a unit begins.
    pub(super) fn began(&mut self, class: UnitClass, now: Instant) {
        self.done(now);
        self.counts[class as usize].decoded += 1;
        self.busy = Some((class, now));
    }

    /// Nothing is decoded any more.
    pub(super) fn done(&mut self, now: Instant) {
        if let Some((class, began)) = self.busy.take() {
            self.counts[class as usize].spent += now.saturating_duration_since(began);
        }
    }

    /// Lets the counts change the estimates, and begins to count anew.
    pub(super) fn close_period(&mut self, now: Instant) {
        let Some(began) = self.period_began.replace(now) else {
            return;
        };
        let counts = std::mem::take(&mut self.counts);
        let seconds = now.saturating_duration_since(began).as_secs_f64();
        // The period was too short to conclude anything from it.
        if seconds < PERIOD.as_secs_f64() / 4.0 {
            self.period_began = Some(began);
            self.counts = counts;
            return;
        }
        let rates = counts.map(|each| f64::from(each.arrived) / seconds);
        let known = self.per_second.get_or_insert(rates);
        for (known, rate) in known.iter_mut().zip(rates) {
            *known = f64::midpoint(*known, rate);
        }
        let taken = counts.map(|each| {
            (each.decoded > 0).then(|| each.spent.as_secs_f64() / f64::from(each.decoded))
        });
        let [key, reference, _] = taken;
        let reference = reference.filter(|seconds| *seconds > 0.0);
        if let Some(reference) = reference {
            for (weight, taken) in self.weights.iter_mut().zip(taken) {
                if let Some(taken) = taken {
                    *weight = f64::midpoint(*weight, taken / reference);
                }
            }
        }
        let now_takes = reference.or(key.map(|key| key / self.weights[UnitClass::Key as usize]));
        if let Some(seconds) = now_takes {
            let before = self.reference_seconds.unwrap_or(seconds);
            self.reference_seconds = Some(f64::midpoint(before, seconds));
        }
    }

    /// The share of time that decoding would take at a level; 0 as long as nothing is known.
    pub(super) fn busy_share(&self, level: ShedLevel) -> f64 {
        let (Some(rates), Some(reference)) = (self.per_second, self.reference_seconds) else {
            return 0.0;
        };
        let classes = [UnitClass::Key, UnitClass::Reference, UnitClass::Disposable];
        let decoded = classes.iter().filter(|class| class.is_decoded_at(level));
        decoded
            .map(|&class| rates[class as usize] * self.weights[class as usize] * reference)
            .sum()
    }

    /// The share of units to which no other picture refers.
    pub(super) fn disposable_share(&self) -> f64 {
        let rates = self
            .per_second
            .unwrap_or_else(|| self.counts.map(|each| f64::from(each.arrived)));
        let all: f64 = rates.iter().sum();
        if all > 0.0 {
            rates[UnitClass::Disposable as usize] / all
        } else {
            0.0
        }
    }
}
