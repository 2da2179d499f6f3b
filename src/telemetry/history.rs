//! What became of a camera stream lately. Readings of its counters come in once a second, and the ages of its events as they
//! are published; rates over the last seconds, percentiles of the ages and the counts of the last minutes go out. All of it
//! has a fixed size, so that nothing is allocated while it runs.

use std::time::{Duration, Instant};

/// Rates are over this time.
const RATE_SPAN: Duration = Duration::from_secs(10);

/// So many readings are kept for the rates.
const READINGS: usize = 12;

/// The length of a step of the history.
pub const STEP: Duration = Duration::from_secs(5);

/// A step may end so much early. Readings come a second apart, and never to the very moment: without this, every other step
/// would wait for one more reading and count six seconds.
const TOLERANCE: Duration = Duration::from_millis(500);

/// So many steps are kept: five minutes.
pub const STEPS: usize = 60;

/// So many ages are kept, of the last minute at most.
const AGES: (usize, Duration) = (256, Duration::from_secs(60));

/// Counters that only grow, read again and again: how fast they grow, and by how much in each step.
#[derive(Debug)]
pub struct CounterHistory {
    /// How many counters there are.
    width: usize,
    /// The last readings, the newest at `(next - 1) % READINGS`.
    readings: Vec<(Instant, Box<[u64]>)>,
    next: usize,
    /// The counters when the step that is under way began.
    step_began: Option<(Instant, Box<[u64]>)>,
    /// The growth in each step, `width` numbers a step, in a ring.
    steps: Box<[u32]>,
    next_step: usize,
    full_steps: usize,
}

/// What the history of counters tells.
#[derive(Debug, Clone, PartialEq)]
pub struct Steps {
    /// When the last step ended.
    pub until: Instant,
    /// The growth of each counter in each step, the oldest step first.
    pub grown: Vec<Vec<u32>>,
}

impl CounterHistory {
    /// A history of so many counters.
    pub fn new(width: usize) -> Self {
        Self {
            width,
            readings: Vec::new(),
            next: 0,
            step_began: None,
            steps: vec![0; width * STEPS].into(),
            next_step: 0,
            full_steps: 0,
        }
    }

    /// Takes in a reading. The counters come in the same order each time.
    pub fn sample(&mut self, counters: impl Iterator<Item = u64>, now: Instant) {
        if self.readings.len() < READINGS {
            self.readings
                .push((now, vec![0; self.width].into_boxed_slice()));
            self.next = self.readings.len() - 1;
        }
        let at = self.next % READINGS;
        self.readings[at].0 = now;
        for (kept, counter) in self.readings[at].1.iter_mut().zip(counters) {
            *kept = counter;
        }
        self.next = (at + 1) % READINGS;
        let counters = &self.readings[at].1;
        let Some((began, before)) = &mut self.step_began else {
            self.step_began = Some((now, counters.clone()));
            return;
        };
        if now.saturating_duration_since(*began) + TOLERANCE < STEP {
            return;
        }
        let to = (self.next_step * self.width)..((self.next_step + 1) * self.width);
        for ((grown, counter), before) in self.steps[to].iter_mut().zip(counters).zip(&**before) {
            *grown = u32::try_from(counter.saturating_sub(*before)).unwrap_or(u32::MAX);
        }
        before.copy_from_slice(counters);
        *began = now;
        self.next_step = (self.next_step + 1) % STEPS;
        self.full_steps = (self.full_steps + 1).min(STEPS);
    }

    /// How fast each counter grew over the last ten seconds, a second. Without two readings there are none.
    pub fn rates(&self) -> Option<Vec<f64>> {
        let newest = self.readings.iter().max_by_key(|(at, _)| *at)?;
        let oldest = self
            .readings
            .iter()
            .filter(|(at, _)| newest.0.saturating_duration_since(*at) <= RATE_SPAN)
            .min_by_key(|(at, _)| *at)?;
        let span = newest.0.saturating_duration_since(oldest.0).as_secs_f64();
        if span <= 0.0 {
            return None;
        }
        let growth = newest.1.iter().zip(&oldest.1);
        #[expect(clippy::cast_precision_loss, reason = "counts of seconds are small")]
        let rates = growth.map(|(new, old)| new.saturating_sub(*old) as f64 / span);
        Some(rates.collect())
    }

    /// The steps that are over. `None` before the first one is.
    pub fn steps(&self) -> Option<Steps> {
        let (until, _) = self.step_began.as_ref().filter(|_| self.full_steps > 0)?;
        let oldest = self.next_step + STEPS - self.full_steps;
        let grown = (0..self.width)
            .map(|counter| {
                (oldest..oldest + self.full_steps)
                    .map(|step| self.steps[(step % STEPS) * self.width + counter])
                    .collect()
            })
            .collect();
        Some(Steps {
            until: *until,
            grown,
        })
    }
}

/// The ages of the last events, from a frame's first packet to its event.
#[derive(Debug)]
pub struct RecentAges {
    kept: Box<[(Option<Instant>, Duration)]>,
    next: usize,
}

impl Default for RecentAges {
    fn default() -> Self {
        Self {
            kept: vec![(None, Duration::ZERO); AGES.0].into(),
            next: 0,
        }
    }
}

impl RecentAges {
    /// Takes in the age of an event that was published now.
    pub fn add(&mut self, age: Duration, now: Instant) {
        self.kept[self.next] = (Some(now), age);
        self.next = (self.next + 1) % self.kept.len();
    }

    /// The ages below which half of the last minute's events were, and 99 % of them. `None` without any.
    pub fn percentiles(&self, now: Instant) -> Option<(Duration, Duration)> {
        let is_recent = |at: &Instant| now.saturating_duration_since(*at) <= AGES.1;
        let mut ages: Vec<Duration> = self
            .kept
            .iter()
            .filter(|(at, _)| at.as_ref().is_some_and(is_recent))
            .map(|(_, age)| *age)
            .collect();
        ages.sort_unstable();
        let of = |per_cent: usize| {
            let rank = (ages.len() * per_cent).div_ceil(100);
            ages.get(rank.max(1) - 1).copied()
        };
        Some((of(50)?, of(99)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn rates_are_those_of_the_last_ten_seconds() {
        let start = Instant::now();
        let mut history = CounterHistory::new(2);
        assert_eq!(history.rates(), None);
        for second in 0..100 {
            let fast = if second < 89 {
                second
            } else {
                89 + 15 * (second - 89)
            };
            history.sample([fast, 7].into_iter(), start + s(second));
        }
        assert_eq!(history.rates(), Some(vec![15.0, 0.0]));
    }

    #[test]
    fn steps_hold_what_was_counted_in_each_and_the_oldest_go() {
        let start = Instant::now();
        let mut history = CounterHistory::new(2);
        history.sample([100, 0].into_iter(), start);
        assert_eq!(history.steps(), None);
        for second in 1..=17 {
            history.sample([100 + second, 2 * second].into_iter(), start + s(second));
        }
        assert_eq!(
            history.steps(),
            Some(Steps {
                until: start + s(15),
                grown: vec![vec![5, 5, 5], vec![10, 10, 10]]
            })
        );
        for second in 18..=1000 {
            history.sample([100 + second, 0].into_iter(), start + s(second));
        }
        let steps = history.steps().unwrap();
        assert_eq!(steps.grown[0], vec![5; STEPS]);
        assert_eq!(steps.until, start + s(1000));
    }

    #[test]
    fn a_step_has_five_readings_though_each_comes_a_little_early_or_late() {
        let start = Instant::now() + s(1);
        let mut history = CounterHistory::new(1);
        for second in 0..=100_u64 {
            let at = start + s(second);
            let at = match second % 3 {
                0 => at + Duration::from_millis(3),
                1 => at,
                _ => at - Duration::from_millis(2),
            };
            history.sample([15 * second].into_iter(), at);
        }
        assert_eq!(history.steps().unwrap().grown, [vec![75; 20]]);
    }

    #[test]
    fn percentiles_are_those_of_the_last_minute() {
        let start = Instant::now();
        let mut ages = RecentAges::default();
        assert_eq!(ages.percentiles(start), None);
        ages.add(s(9), start);
        let now = start + s(61);
        for ms in 1..=100 {
            ages.add(Duration::from_millis(ms), now);
        }
        let ms = Duration::from_millis;
        assert_eq!(ages.percentiles(now), Some((ms(50), ms(99))));
        for _ in 0..1000 {
            ages.add(ms(7), now);
        }
        assert_eq!(ages.percentiles(now), Some((ms(7), ms(7))));
        assert_eq!(ages.percentiles(now + s(61)), None);
    }
}
