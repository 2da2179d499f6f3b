//! When an event is tried, and when it is given up. Ages and answers come in, and the next step goes out, without a clock or a
//! socket.

use std::time::{Duration, Instant};

use super::verdict::Verdict;
use crate::telemetry::ledger::EventDrop;
use twinsight_client::backoff::Backoff;

/// The first wait after a try that failed. Each one after it is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// The longest wait that the node chooses by itself.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The schedule of one receiver. It outlives events: a receiver that is away is not asked more often because there is more to
/// tell it.
#[derive(Debug)]
pub(super) struct Schedule {
    max_age: Duration,
    backoff: Backoff,
    /// The receiver is not asked before this moment.
    resting_until: Option<Instant>,
}

/// What is to be done with the event that is the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It is posted now.
    Try,
    /// The receiver is left in peace until then, and the event will not be too old by that time.
    WaitUntil(Instant),
    /// It is too old, or will be before the receiver may be asked again.
    Drop(EventDrop),
}

impl Schedule {
    /// Events may be this old at their last try.
    pub(super) fn new(max_age: Duration) -> Self {
        Self {
            max_age,
            backoff: Backoff::new(FIRST_WAIT, LONGEST_WAIT),
            resting_until: None,
        }
    }

    /// What is to be done with an event of this age.
    pub(super) fn step(&self, age: Duration, now: Instant) -> Step {
        let rest = self
            .resting_until
            .map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        if age + rest > self.max_age {
            // Of a receiver that answers, the event has waited for others before it. Else nobody could have taken it.
            return Step::Drop(match self.backoff.failures() {
                0 => EventDrop::Stale,
                _ => EventDrop::SinkUnreachable,
            });
        }
        if rest.is_zero() {
            Step::Try
        } else {
            Step::WaitUntil(now + rest)
        }
    }

    /// Takes in what came of a try that has just ended. `random` is drawn uniformly from 0 to 1.
    pub(super) fn tried(&mut self, verdict: &Verdict, now: Instant, random: f64) {
        let Verdict::Later { after, .. } = verdict else {
            // A refusal is an answer too: the next event may be one that the receiver wants.
            self.backoff.reset();
            self.resting_until = None;
            return;
        };
        let wait = self.backoff.next_delay(random);
        // What waits longer than the limit is dropped anyway, so a receiver cannot silence its sink for longer.
        let asked_for = after.unwrap_or_default().min(self.max_age);
        self.resting_until = Some(now + wait.max(asked_for));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGE: Duration = Duration::from_secs(10);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn later(after: Option<u64>) -> Verdict {
        Verdict::Later {
            reason: "it is away".to_owned(),
            after: after.map(Duration::from_secs),
        }
    }

    /// The moments of an event's tries, in milliseconds from its beginning, if all of them fail at once, and why it is given up.
    fn tries(schedule: &mut Schedule, random: f64, after: Option<u64>) -> (Vec<u128>, EventDrop) {
        let t = Instant::now();
        let (mut now, mut tries) = (t, Vec::new());
        loop {
            match schedule.step(now - t, now) {
                Step::Try => {
                    tries.push((now - t).as_millis());
                    schedule.tried(&later(after), now, random);
                }
                Step::WaitUntil(at) => now = at,
                Step::Drop(reason) => return (tries, reason),
            }
        }
    }

    #[test]
    fn waits_grow_from_half_a_second_to_five_and_end_with_the_events_age() {
        let (moments, reason) = tries(&mut Schedule::new(AGE), 1.0, None);
        assert_eq!(moments, [0, 500, 1500, 3500, 7500]);
        assert_eq!(reason, EventDrop::SinkUnreachable);
        // The jitter makes each wait as short as half of it.
        let (moments, _) = tries(&mut Schedule::new(AGE), 0.0, None);
        assert_eq!(moments, [0, 250, 750, 1750, 3750, 6250, 8750]);
    }

    #[test]
    fn a_receiver_that_is_away_is_not_asked_more_often_because_there_is_more_to_tell_it() {
        let t = Instant::now();
        let mut schedule = Schedule::new(AGE);
        for _ in 0..9 {
            schedule.tried(&later(None), t, 1.0);
        }
        // A new event waits for the receiver's next turn, and not for a turn of its own.
        assert_eq!(
            schedule.step(Duration::ZERO, t),
            Step::WaitUntil(t + ms(5000))
        );
        assert_eq!(schedule.step(ms(5000), t + ms(5000)), Step::Try);
        // One that would be too old by then is given up at once.
        assert_eq!(
            schedule.step(ms(5001), t),
            Step::Drop(EventDrop::SinkUnreachable)
        );
    }

    #[test]
    fn a_receiver_is_asked_when_it_wants_to_be_within_the_age() {
        let (moments, _) = tries(&mut Schedule::new(AGE), 1.0, Some(4));
        assert_eq!(moments, [0, 4000, 8000]);
        // It cannot ask for less than the node waits by itself.
        let (moments, _) = tries(&mut Schedule::new(AGE), 1.0, Some(0));
        assert_eq!(moments, [0, 500, 1500, 3500, 7500]);
        // Nor can it silence the sink for an hour.
        let t = Instant::now();
        let mut schedule = Schedule::new(AGE);
        schedule.tried(&later(Some(3600)), t, 1.0);
        assert_eq!(
            schedule.step(ms(1), t),
            Step::Drop(EventDrop::SinkUnreachable)
        );
        assert_eq!(schedule.step(Duration::ZERO, t + AGE), Step::Try);
    }

    #[test]
    fn an_event_that_waited_too_long_for_a_receiver_that_answers_is_stale() {
        let t = Instant::now();
        let mut schedule = Schedule::new(AGE);
        assert_eq!(schedule.step(AGE, t), Step::Try);
        assert_eq!(schedule.step(AGE + ms(1), t), Step::Drop(EventDrop::Stale));
        schedule.tried(&later(None), t, 1.0);
        schedule.tried(&Verdict::Taken, t, 1.0);
        assert_eq!(schedule.step(AGE + ms(1), t), Step::Drop(EventDrop::Stale));
        assert_eq!(schedule.step(Duration::ZERO, t), Step::Try);
    }
}
