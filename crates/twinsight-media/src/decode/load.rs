//! What a stream's decoding costs: its units and the time spent on them come in, the share of time that decoding would
//! take at a level goes out. Sans-IO; it belongs to the stream's [`Ladder`](super::shed::Ladder).
//!
//! Time is wall time: on a machine whose processors are shared by more than they can carry, everything takes longer,
//! and that is what is to be seen.

use std::time::{Duration, Instant};

use crate::access_unit::{AccessUnit, PictureKind};
use crate::ledger::ShedLevel;

/// How long units are counted before they change what is known.
const PERIOD: Duration = Duration::from_secs(2);

/// What a keyframe takes, in units that others refer to, until it is known.
const KEYFRAME_WEIGHT: f64 = 1.5;

/// What units are to the ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitClass {
    /// Decoding can begin with it.
    Key,
    /// Others refer to it.
    Reference,
    /// No other refers to it.
    Disposable,
}

/// Rates and costs of one stream's units.
#[derive(Debug)]
pub struct Load {
    period_began: Option<Instant>,
    /// In this period, by class.
    counts: [Counts; 3],
    busy: Option<(UnitClass, Instant)>,
    /// Smoothed, by class; none before the first period is over.
    per_second: Option<[f64; 3]>,
    /// What a unit of each class takes, as a multiple of one that others refer to: a property of the stream, while
    /// the time that both take is one of the machine, too.
    weights: [f64; 3],
    /// What a unit takes that others refer to; while none is decoded, by what keyframes take.
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
    pub fn of(unit: &AccessUnit) -> Option<Self> {
        match unit.picture {
            PictureKind::None => None,
            PictureKind::Key => Some(Self::Key),
            _ if unit.disposable => Some(Self::Disposable),
            PictureKind::Forward | PictureKind::Bidirectional => Some(Self::Reference),
        }
    }

    /// Whether it is decoded at a level.
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
    pub fn arrived(&mut self, class: UnitClass, now: Instant) {
        let began = *self.period_began.get_or_insert(now);
        if now.saturating_duration_since(began) >= PERIOD {
            self.close_period(now);
        }
        self.counts[class as usize].arrived += 1;
    }

    /// Decoding a unit begins.
    pub fn began(&mut self, class: UnitClass, now: Instant) {
        self.done(now);
        self.counts[class as usize].decoded += 1;
        self.busy = Some((class, now));
    }

    /// Nothing is decoded any more.
    pub fn done(&mut self, now: Instant) {
        if let Some((class, began)) = self.busy.take() {
            self.counts[class as usize].spent += now.saturating_duration_since(began);
        }
    }

    /// What was counted changes what is known, and counting begins anew.
    pub fn close_period(&mut self, now: Instant) {
        let Some(began) = self.period_began.replace(now) else {
            return;
        };
        let counts = std::mem::take(&mut self.counts);
        let seconds = now.saturating_duration_since(began).as_secs_f64();
        // Too few units to tell anything.
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

    /// The share of time that decoding takes at a level; 0 if nothing is known yet.
    pub fn busy_share(&self, level: ShedLevel) -> f64 {
        let (Some(rates), Some(reference)) = (self.per_second, self.reference_seconds) else {
            return 0.0;
        };
        let classes = [UnitClass::Key, UnitClass::Reference, UnitClass::Disposable];
        let decoded = classes.iter().filter(|class| class.is_decoded_at(level));
        decoded
            .map(|&class| rates[class as usize] * self.weights[class as usize] * reference)
            .sum()
    }

    /// The share of units to which no other refers.
    pub fn disposable_share(&self) -> f64 {
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
