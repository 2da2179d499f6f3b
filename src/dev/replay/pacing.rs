//! Which frames of a clip the scheduler would give to the model: frames come in with their times, and go out in the same order with
//! what becomes of each. It does as the scheduler does for one stream whose model takes no time: one slot, in which a newer frame
//! replaces an older one until the stream is due.

use std::time::Duration;

/// One stream of frames.
#[derive(Debug)]
pub(super) struct Pacing<F> {
    /// At least this time lies between two looks; zero means every frame.
    interval: Duration,
    /// A frame older than this is not looked at.
    max_age: Duration,
    due_at: Option<Duration>,
    /// The frame that waits until the stream is due, and when it came.
    slot: Option<(Duration, F)>,
}

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// The model gets it.
    Look,
    /// A newer one came before the stream was due.
    RateLimited,
    /// It was too old when the stream was due.
    Stale,
}

impl<F> Pacing<F> {
    pub(super) fn new(interval: Duration, max_age: Duration) -> Self {
        Self {
            interval,
            max_age,
            due_at: None,
            slot: None,
        }
    }

    /// Takes the next frame, and gives those of which it is known by now what becomes of them.
    pub(super) fn push(&mut self, at: Duration, frame: F) -> impl Iterator<Item = (F, Turn)> {
        let before = match self.due_at {
            Some(due_at) if due_at < at => self.end(),
            _ => self.slot.take().map(|(_, held)| (held, Turn::RateLimited)),
        };
        let now = if self.due_at.is_none_or(|due_at| due_at <= at) {
            self.keep_cadence(at);
            Some((frame, Turn::Look))
        } else {
            self.slot = Some((at, frame));
            None
        };
        before.into_iter().chain(now)
    }

    /// Gives the frame that still waits, as no other one comes before the stream is due.
    pub(super) fn end(&mut self) -> Option<(F, Turn)> {
        let (came_at, frame) = self.slot.take()?;
        let due_at = self.due_at.unwrap_or(came_at);
        if due_at.saturating_sub(came_at) > self.max_age {
            return Some((frame, Turn::Stale));
        }
        self.keep_cadence(due_at);
        Some((frame, Turn::Look))
    }

    /// Computes when the stream is due again, as the scheduler does.
    fn keep_cadence(&mut self, now: Duration) {
        self.due_at = (!self.interval.is_zero()).then(|| match self.due_at {
            Some(due_at) if now.saturating_sub(due_at) < self.interval => due_at + self.interval,
            _ => now + self.interval,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// The times in milliseconds of the frames that are looked at, of those that come at these times.
    fn looked(interval: u64, times: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let mut pacing = Pacing::new(ms(interval), ms(500));
        let mut all = Vec::new();
        let mut given = Vec::new();
        for time in times {
            given.push(time);
            all.extend(pacing.push(ms(time), time));
        }
        all.extend(pacing.end());
        let order: Vec<u64> = all.iter().map(|(time, _)| *time).collect();
        assert_eq!(order, given, "each frame comes out once, in its order");
        let is_looked = |(time, turn): (u64, Turn)| (turn == Turn::Look).then_some(time);
        all.into_iter().filter_map(is_looked).collect()
    }

    #[test]
    fn without_a_limit_every_frame_is_looked_at() {
        assert_eq!(looked(0, [0, 40, 80, 120]), [0, 40, 80, 120]);
        assert_eq!(looked(100, [0, 100, 200, 300]), [0, 100, 200, 300]);
        // Times that are a little early are not lost: the frame waits until it is due.
        assert_eq!(looked(100, [0, 99, 199, 300]), [0, 99, 199, 300]);
    }

    #[test]
    fn of_more_frames_the_newest_is_looked_at_when_the_stream_is_due() {
        // 25 frames a second, and 10 looks.
        let frames = (0..11).map(|n| n * 40);
        assert_eq!(looked(100, frames), [0, 80, 200, 280, 400]);
    }

    #[test]
    fn a_gap_begins_the_cadence_anew() {
        assert_eq!(
            looked(100, [0, 1050, 1100, 1140, 1160]),
            [0, 1050, 1140, 1160]
        );
    }

    #[test]
    fn what_waits_too_long_is_stale() {
        let mut pacing = Pacing::new(ms(1000), ms(500));
        let mut turns = Vec::new();
        for time in [0, 400, 1100, 1800] {
            turns.extend(pacing.push(ms(time), time));
        }
        turns.extend(pacing.end());
        assert_eq!(
            turns,
            [
                (0, Turn::Look),
                (400, Turn::Stale),
                (1100, Turn::Look),
                (1800, Turn::Look)
            ]
        );
    }
}
