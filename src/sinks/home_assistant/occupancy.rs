//! Whether something is there: how many objects of a label each frame of a camera shows comes in, with the time, and whether the place
//! is occupied and how many there are goes out. Single false detections change nothing, and neither does a frame that misses
//! what the next one shows again.

use std::time::{Duration, Instant};

/// What is seen in two frames within this time, or in two frames in a row, is there.
pub(super) const CONFIRM_WITHIN: Duration = Duration::from_secs(1);

/// What no frame has shown for this long is gone.
pub(super) const GONE_AFTER: Duration = Duration::from_secs(10);

/// A count is told at most this often.
pub(super) const COUNT_EVERY: Duration = Duration::from_secs(1);

/// Objects of one label before one camera.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Occupancy {
    presence: Presence,
    count: usize,
    told: Option<(usize, Instant)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Presence {
    /// Nothing is there.
    #[default]
    Absent,
    /// One frame showed something. `missed` says that one after it did not.
    Glimpsed { at: Instant, missed: bool },
    /// Something is there. `missed` says that the newest frame did not show it.
    Present { seen_at: Instant, missed: bool },
}

impl Occupancy {
    /// Takes in a frame that came at `at` and shows so many objects.
    pub(super) fn frame(&mut self, at: Instant, count: usize) {
        self.count = count;
        self.presence = match (self.presence, count > 0) {
            (Presence::Absent, true) => Presence::Glimpsed { at, missed: false },
            (Presence::Absent, false) => Presence::Absent,
            (Presence::Glimpsed { at: first, missed }, true) => {
                let is_confirmed = !missed || at.saturating_duration_since(first) <= CONFIRM_WITHIN;
                if is_confirmed {
                    Presence::Present {
                        seen_at: at,
                        missed: false,
                    }
                } else {
                    Presence::Glimpsed { at, missed: false }
                }
            }
            (Presence::Glimpsed { at: first, .. }, false) => {
                if at.saturating_duration_since(first) > CONFIRM_WITHIN {
                    Presence::Absent
                } else {
                    Presence::Glimpsed {
                        at: first,
                        missed: true,
                    }
                }
            }
            (Presence::Present { .. }, true) => Presence::Present {
                seen_at: at,
                missed: false,
            },
            (Presence::Present { seen_at, .. }, false) => Presence::Present {
                seen_at,
                missed: true,
            },
        };
        self.pass(at);
    }

    /// Lets time pass for a camera that is seen. Something goes only if a frame did not show it: a camera that sends few frames has
    /// not lost sight of it.
    pub(super) fn pass(&mut self, now: Instant) {
        if let Presence::Present {
            seen_at,
            missed: true,
        } = self.presence
            && now.saturating_duration_since(seen_at) >= GONE_AFTER
        {
            self.presence = Presence::Absent;
        }
    }

    /// The camera is seen again after it was not: what was there has its whole time to be seen again.
    pub(super) fn look_again(&mut self, now: Instant) {
        match &mut self.presence {
            Presence::Absent => {}
            Presence::Glimpsed { .. } => self.presence = Presence::Absent,
            Presence::Present { seen_at, .. } => *seen_at = now,
        }
    }

    pub(super) fn is_occupied(&self) -> bool {
        matches!(self.presence, Presence::Present { .. })
    }

    /// True while neither a frame nor a confirmation is remembered.
    pub(super) fn is_absent(&self) -> bool {
        self.presence == Presence::Absent
    }

    /// The newest count, if it is to be told now.
    pub(super) fn count_to_tell(&mut self, now: Instant) -> Option<usize> {
        let is_due = self.told.is_none_or(|(told, at)| {
            told != self.count && now.saturating_duration_since(at) >= COUNT_EVERY
        });
        is_due.then(|| {
            self.told = Some((self.count, now));
            self.count
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Lets frames pass, each with its time in ms and its count, and says after which the place is occupied.
    fn occupied(frames: &[(u64, usize)]) -> Vec<bool> {
        let t = Instant::now();
        let mut occupancy = Occupancy::default();
        let one = |&(at, count): &(u64, usize)| {
            occupancy.frame(t + ms(at), count);
            occupancy.is_occupied()
        };
        frames.iter().map(one).collect()
    }

    #[test]
    fn two_frames_make_it_occupied_and_one_does_not() {
        assert_eq!(occupied(&[(0, 1), (66, 1)]), [false, true]);
        assert_eq!(occupied(&[(0, 1), (66, 0), (132, 1)]), [false, false, true]);
        // A camera with a frame in five seconds.
        assert_eq!(occupied(&[(0, 1), (5000, 2)]), [false, true]);
        // Two false detections that are far from each other.
        assert_eq!(
            occupied(&[(0, 1), (66, 0), (2000, 1), (2066, 0)]),
            [false; 4]
        );
    }

    #[test]
    fn it_is_free_ten_seconds_after_the_last_sight() {
        let t = Instant::now();
        let mut occupancy = Occupancy::default();
        occupancy.frame(t, 1);
        occupancy.frame(t + ms(100), 1);
        occupancy.frame(t + ms(200), 0);
        occupancy.pass(t + ms(10_099));
        assert!(occupancy.is_occupied());
        occupancy.pass(t + ms(10_100));
        assert!(!occupancy.is_occupied() && occupancy.is_absent());
    }

    #[test]
    fn a_camera_that_shows_no_frames_loses_sight_of_nothing() {
        let t = Instant::now();
        let mut occupancy = Occupancy::default();
        occupancy.frame(t, 1);
        occupancy.frame(t + ms(100), 1);
        occupancy.pass(t + ms(60_000));
        assert!(occupancy.is_occupied());
        occupancy.look_again(t + ms(60_000));
        occupancy.frame(t + ms(60_100), 0);
        assert!(occupancy.is_occupied(), "it has its time to be seen again");
        occupancy.pass(t + ms(70_000));
        assert!(!occupancy.is_occupied());
    }

    #[test]
    fn counts_are_told_on_change_and_at_most_once_a_second() {
        let t = Instant::now();
        let mut occupancy = Occupancy::default();
        assert_eq!(occupancy.count_to_tell(t), Some(0));
        occupancy.frame(t, 2);
        assert_eq!(occupancy.count_to_tell(t + ms(500)), None);
        occupancy.frame(t + ms(600), 3);
        assert_eq!(occupancy.count_to_tell(t + ms(1000)), Some(3));
        assert_eq!(occupancy.count_to_tell(t + ms(9000)), None);
    }

    proptest! {
        #[test]
        fn it_is_never_occupied_long_after_the_last_sight(
            frames in prop::collection::vec((1_u64..5000, 0_usize..3), 1..200)
        ) {
            let t = Instant::now();
            let mut occupancy = Occupancy::default();
            let (mut now, mut seen) = (0, None);
            for (gap, count) in frames {
                now += gap;
                occupancy.frame(t + ms(now), count);
                if count > 0 {
                    seen = Some(now);
                }
                if occupancy.is_occupied() {
                    prop_assert!(now - seen.unwrap() < 10_000);
                }
            }
        }
    }
}
