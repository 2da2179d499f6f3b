//! How many requests may be under way at once: their starts and ends come in, with the time, and a number of slots goes out. It is the
//! smallest number that gives the most answers a second, within 5 %, as far as that was measured: more would only make frames wait at
//! the server in place of here, where a newer frame replaces them. It is plain state; the model runs it.
//!
//! Measuring takes place only while all slots are in use, since otherwise the cameras and not the server say how many answers there
//! are. And it begins when whoever starts requests has fetched the number, which it does a few times a second.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A number of slots is judged after this long at least.
const SHORTEST_WINDOW: Duration = Duration::from_millis(300);

/// And after so many answers at least.
const ANSWERS: u32 = 24;

/// And after so many for each slot.
const ROUNDS: u32 = 8;

/// Slots may be free for this share of a window, since a worker takes a moment to fetch its next frame.
const MOST_IDLE: f64 = 0.1;

/// A larger number has to give this much more to go on climbing.
const BETTER: f64 = 1.02;

/// Climbing ends after so many numbers that were no better.
const MISSES: u32 = 2;

/// A number suffices that gives this share of the most.
const ENOUGH: f64 = 0.96;

/// What was settled on is compared with its neighbours after this long.
const SETTLED_FOR: Duration = Duration::from_secs(30);

/// Rates may differ by this much from what was settled on before it is all measured anew, if they do so twice in a row.
const ODD: f64 = 0.25;

/// After a deadline there are no more slots than then for this long.
const CEILING_FOR: Duration = Duration::from_secs(30);

/// Finds the number of slots.
#[derive(Debug)]
pub(super) struct Limit {
    most: usize,
    /// The time that a request has.
    deadline: Duration,
    slots: usize,
    /// The number that whoever starts requests goes by. While it is another one, what is seen is of this one.
    fetched: usize,
    obeyed: Obeyed,
    in_flight: usize,
    search: Search,
    /// Answers a second by number of slots, as they were measured in this search.
    rates: BTreeMap<usize, f64>,
    window: Window,
    /// There may be no more slots until then.
    ceiling: Option<(usize, Instant)>,
    /// When there were fewer slots last, and that was known. Deadlines of requests from before say nothing of the number that there is now.
    cut_at: Option<Instant>,
}

/// Whether whoever starts requests goes by the number of slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Obeyed {
    /// It has fetched the number.
    Yes,
    /// There is a new number that it does not know, so that what is seen is of the one before.
    NotYet,
}

/// What is being looked for.
#[derive(Debug, Clone, PartialEq)]
enum Search {
    /// A number beyond which there is nothing to gain.
    Climbing {
        /// How many numbers in a row were no better.
        misses: u32,
    },
    /// The smallest number that suffices: `few` is known not to, and `enough` does.
    Narrowing { few: usize, enough: usize },
    /// Nothing, for a while.
    Settled {
        since: Instant,
        rate: f64,
        /// How often in a row the rate was another one.
        odd: u32,
    },
    /// Whether there is something to gain beyond the number that was settled on.
    TryingMore { home: usize, rate: f64 },
    /// Whether a smaller number than the one that was settled on suffices by now.
    TryingFewer { home: usize, rate: f64 },
}

/// A measurement.
#[derive(Debug, Default)]
struct Window {
    /// So many answers are let pass first, since they are of requests from before.
    settling: usize,
    began_at: Option<Instant>,
    answers: u32,
    latencies: Duration,
    idle: Duration,
    /// The most requests that were under way.
    peak: usize,
    /// When a slot was last looked at.
    seen_at: Option<Instant>,
}

impl Limit {
    /// A limit between 1 and `most`, of requests that have this long.
    pub(super) fn new(most: usize, deadline: Duration) -> Self {
        Self {
            most: most.max(1),
            deadline,
            slots: 1,
            fetched: 1,
            obeyed: Obeyed::NotYet,
            in_flight: 0,
            search: Search::Climbing { misses: 0 },
            rates: BTreeMap::new(),
            window: Window::default(),
            ceiling: None,
            cut_at: None,
        }
    }

    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    /// Gives the number to whoever starts requests, which goes by it from now on.
    pub(super) fn fetch(&mut self, now: Instant) -> usize {
        if self.slots < self.fetched {
            self.cut_at = Some(now);
        }
        self.fetched = self.slots;
        if self.obeyed != Obeyed::Yes {
            self.obeyed = Obeyed::Yes;
            self.restart_window(self.slots.max(self.in_flight));
        }
        self.slots
    }

    /// A request was started.
    pub(super) fn started(&mut self, now: Instant) {
        self.look(now);
        self.in_flight += 1;
        self.window.peak = self.window.peak.max(self.in_flight);
    }

    /// A request was answered, this long after it was started.
    pub(super) fn answered(&mut self, latency: Duration, now: Instant) {
        self.look(now);
        self.in_flight = self.in_flight.saturating_sub(1);
        if self.obeyed != Obeyed::Yes {
            return;
        }
        let window = &mut self.window;
        if window.settling > 0 {
            window.settling -= 1;
            return;
        }
        let Some(began_at) = window.began_at else {
            window.began_at = Some(now);
            window.idle = Duration::ZERO;
            window.peak = self.in_flight;
            return;
        };
        window.answers += 1;
        window.latencies += latency;
        let lasted = now.saturating_duration_since(began_at);
        // A server that works in batches answers all slots at once, so that only whole rounds tell how fast it is.
        let slots = u32::try_from(self.slots).unwrap_or(u32::MAX);
        let is_whole = window.answers.is_multiple_of(slots);
        let is_enough = window.answers >= ANSWERS && window.answers / slots >= ROUNDS;
        if !is_whole || !is_enough || lasted < SHORTEST_WINDOW {
            return;
        }
        let window = std::mem::take(window);
        self.window.seen_at = window.seen_at;
        let busy = lasted.saturating_sub(window.idle).as_secs_f64();
        if window.idle.as_secs_f64() > MOST_IDLE * lasted.as_secs_f64() || busy <= 0.0 {
            let under_way = window.latencies.as_secs_f64() / lasted.as_secs_f64();
            if window.peak < self.slots && under_way > (1.0 - MOST_IDLE) * window.peak as f64 {
                self.is_not_filled(window.peak, now);
            }
            return;
        }
        if self.slots > 1 && 2 * window.latencies / window.answers > self.deadline {
            // So near to the deadline some answers would be too late.
            self.cut(now);
            return;
        }
        self.judge(f64::from(window.answers) / busy, now);
    }

    /// A request that was started then was not answered by its deadline. There is one slot less at once, and more than one if there are
    /// many.
    pub(super) fn deadline(&mut self, started_at: Instant, now: Instant) {
        self.failed(now);
        let is_of_now = self.cut_at.is_none_or(|cut_at| started_at >= cut_at);
        // Where there are to be fewer already, those are to be tried first.
        if self.slots >= self.fetched && is_of_now {
            self.cut(now);
        }
    }

    /// A request ended without an answer for another reason. What was measured up to it does not count.
    pub(super) fn failed(&mut self, now: Instant) {
        self.look(now);
        self.in_flight = self.in_flight.saturating_sub(1);
        self.restart_window(0);
    }

    fn look(&mut self, now: Instant) {
        if let Some(seen_at) = self.window.seen_at
            && self.in_flight < self.slots
        {
            self.window.idle += now.saturating_duration_since(seen_at);
        }
        self.window.seen_at = Some(now);
    }

    /// Takes slots away from the number that is obeyed: nothing is known of a larger one that nobody has fetched.
    fn cut(&mut self, now: Instant) {
        self.cut_at = Some(now);
        let from = self.slots.min(self.fetched);
        if from == 1 {
            self.set(1);
            return;
        }
        let fewer = (from * 3 / 4).min(from - 1).max(1);
        self.ceiling = Some((fewer, now + CEILING_FOR));
        self.rates.clear();
        self.search = Search::Climbing { misses: 0 };
        self.set(fewer);
    }

    fn set(&mut self, slots: usize) {
        if slots != self.slots {
            self.slots = slots;
            self.obeyed = Obeyed::NotYet;
        }
        self.restart_window(slots);
    }

    fn restart_window(&mut self, settling: usize) {
        self.window = Window {
            settling,
            seen_at: self.window.seen_at,
            ..Window::default()
        };
    }

    /// The most slots that there may be now.
    fn bound(&self, now: Instant) -> usize {
        match self.ceiling {
            Some((ceiling, until)) if now < until => ceiling.min(self.most),
            _ => self.most,
        }
    }

    fn best(&self) -> f64 {
        self.rates.values().copied().fold(0.0, f64::max)
    }

    /// Takes how many answers a second the slots gave, and goes on with the search.
    fn judge(&mut self, rate: f64, now: Instant) {
        let bound = self.bound(now);
        match self.search.clone() {
            Search::Climbing { misses } => {
                let is_better = rate > BETTER * self.best();
                self.rates.insert(self.slots, rate);
                let misses = if is_better { 0 } else { misses + 1 };
                let next = more(self.slots).min(bound);
                if misses < MISSES && next > self.slots {
                    self.search = Search::Climbing { misses };
                    self.set(next);
                } else {
                    self.narrow(now);
                }
            }
            Search::Narrowing { few, enough } => {
                self.rates.insert(self.slots, rate);
                let suffices = rate >= ENOUGH * self.best();
                let (few, enough) = if suffices {
                    (few, self.slots)
                } else {
                    (self.slots, enough)
                };
                self.look_between(few, enough, now);
            }
            Search::Settled {
                since,
                rate: usual,
                odd,
            } => {
                let is_odd = (rate - usual).abs() > ODD * usual;
                if is_odd && odd > 0 {
                    // The server is another one by now, or others use it.
                    self.rates.clear();
                    self.search = Search::Climbing { misses: 0 };
                    self.set(self.slots.div_ceil(2).min(bound));
                } else if !is_odd && now.saturating_duration_since(since) >= SETTLED_FOR {
                    let home = self.slots;
                    self.rates = BTreeMap::from([(home, rate)]);
                    let next = (home + home.div_ceil(2)).min(bound);
                    if next > home {
                        self.search = Search::TryingMore { home, rate };
                        self.set(next);
                    } else {
                        self.try_fewer(home, rate, now);
                    }
                } else {
                    let odd = if is_odd { odd + 1 } else { 0 };
                    self.search = Search::Settled {
                        since,
                        rate: usual,
                        odd,
                    };
                }
            }
            Search::TryingMore { home, rate: usual } => {
                self.rates.insert(self.slots, rate);
                let next = more(self.slots).min(bound);
                if rate * ENOUGH <= usual {
                    self.try_fewer(home, usual, now);
                } else if next > self.slots {
                    self.search = Search::Climbing { misses: 0 };
                    self.set(next);
                } else {
                    self.narrow(now);
                }
            }
            Search::TryingFewer { home, rate: usual } => {
                self.rates.insert(self.slots, rate);
                if rate >= ENOUGH * usual {
                    self.look_between(0, self.slots, now);
                } else {
                    self.settle(home, usual, now);
                }
            }
        }
    }

    /// Cameras keep `most` requests under way all the time and have no more, so that this number of slots will never be judged, although
    /// all that they have may wait at the server. Theirs is measured in its place, and then what was measured decides.
    fn is_not_filled(&mut self, most: usize, now: Instant) {
        match self.search {
            Search::Climbing { .. } if self.rates.contains_key(&most) => self.narrow(now),
            Search::Climbing { .. } => self.set(most),
            Search::TryingMore { home, rate } => self.try_fewer(home, rate, now),
            _ => {}
        }
    }

    fn try_fewer(&mut self, home: usize, rate: f64, now: Instant) {
        if home == 1 {
            self.settle(home, rate, now);
        } else {
            self.search = Search::TryingFewer { home, rate };
            self.set(home - 1);
        }
    }

    /// Looks for the smallest number that suffices among those that were measured, and between them.
    fn narrow(&mut self, now: Instant) {
        let wanted = ENOUGH * self.best();
        let enough = self.rates.iter().find(|(_, rate)| **rate >= wanted);
        let enough = enough.map_or(self.slots, |(slots, _)| *slots);
        let below = self.rates.range(..enough).next_back();
        self.look_between(below.map_or(0, |(slots, _)| *slots), enough, now);
    }

    fn look_between(&mut self, few: usize, enough: usize, now: Instant) {
        if enough - few <= 1 {
            let rate = self.rates.get(&enough).copied().unwrap_or_default();
            self.settle(enough, rate, now);
        } else {
            self.search = Search::Narrowing { few, enough };
            self.set(few + (enough - few) / 2);
        }
    }

    fn settle(&mut self, slots: usize, rate: f64, now: Instant) {
        self.search = Search::Settled {
            since: now,
            rate,
            odd: 0,
        };
        self.set(slots);
    }
}

/// The number that is tried after this one.
fn more(slots: usize) -> usize {
    match slots {
        ..4 => slots + 1,
        _ => slots + slots / 2,
    }
}

#[cfg(test)]
#[path = "limit_tests.rs"]
mod tests;
