//! Which frames of a camera are of the past although they have just come. A sender that cannot make keyframes on demand begins a
//! connection with its pictures since the last keyframe, and sends them again to a receiver that lost a packet: they come
//! faster than they were taken. So do those that were held up while the network or a program on the way stood still; the first
//! of them comes long after its timestamp says. RTP timestamps and times of arrival come in. Only their pace decides, so that no
//! clock of the sender is believed.

use std::time::{Duration, Instant};

/// Ticks of the RTP clock of video in a second.
const CLOCK_HZ: u32 = 90_000;

/// Timestamps that are further apart say nothing of time, since the sender has begun anew.
const LONGEST_STEP: Duration = Duration::from_secs(10);

/// After a pause like this, what comes may be of a new connection.
const PAUSE: Duration = Duration::from_secs(1);

/// After a pause, a frame that comes by so much too early or too late is still in time.
const IN_TIME: Duration = Duration::from_millis(200);

/// A sender may be catching up for so long: a track keeps up to 900 pictures, and sends a hundred of them in a second. Later its
/// pace means nothing, so that one whose timestamps are wrong is not blind for good.
const CATCHES_UP_FOR: Duration = Duration::from_secs(10);

/// Follows the pace of one camera stream.
#[derive(Debug, Default)]
pub(super) struct CatchUp {
    last: Option<Pace>,
}

#[derive(Debug, Clone, Copy)]
struct Pace {
    timestamp_90k: u32,
    arrived_at: Instant,
    /// When the sender began to send what may be of the past.
    began_at: Instant,
    /// How much later than its timestamp says a frame came, compared with the first one.
    lateness: Lateness,
    /// The least of these so far.
    least: Lateness,
    /// It came late after a pause, and was left out for that. The next one is not, or a camera with a picture now and then whose
    /// timestamps are wrong would be blind.
    was_held_up: bool,
}

/// Of when a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    /// It was taken just now.
    Present,
    /// It may be the first of a sender that catches up. The next one tells.
    Unknown,
    /// It was taken before, and those after it have been or will be seen, too.
    Past,
}

/// In microseconds; below 0 for a frame that came sooner than the first one.
type Lateness = i64;

impl CatchUp {
    /// Says of when the next frame is. Nothing tells it of the first frame of a connection.
    pub(super) fn age(&mut self, timestamp_90k: u32, arrived_at: Instant) -> Age {
        let first = Pace {
            timestamp_90k,
            arrived_at,
            began_at: arrived_at,
            lateness: 0,
            least: 0,
            was_held_up: false,
        };
        let Some(last) = self.last else {
            self.last = Some(first);
            return Age::Unknown;
        };
        let step = timestamp_90k.wrapping_sub(last.timestamp_90k).cast_signed();
        let step_time = Duration::from_secs(1) * step.unsigned_abs() / CLOCK_HZ;
        let arrived_after = arrived_at.saturating_duration_since(last.arrived_at);
        if step_time > LONGEST_STEP {
            self.last = Some(first);
            return Age::Unknown;
        }
        if arrived_after > PAUSE {
            let is_late = step > 0 && arrived_after - PAUSE > step_time;
            let was_held_up = is_late && !last.was_held_up;
            self.last = Some(Pace {
                was_held_up,
                ..first
            });
            return match step > 0 && arrived_after.abs_diff(step_time) < IN_TIME {
                _ if was_held_up => Age::Past,
                true => Age::Present,
                false => Age::Unknown,
            };
        }
        let is_fast = arrived_after < step_time / 2;
        if step <= 0 {
            // It begins again with what it has sent before.
            self.last = Some(first);
            return Age::past_if(is_fast);
        }
        let lateness = last.lateness + micros(arrived_after) - micros(step_time);
        // A frame that is in time after one that was late comes fast too, and is no sooner than those before.
        let is_sooner_than_ever = lateness < last.least - micros(step_time / 4);
        let may_catch_up = arrived_at.saturating_duration_since(last.began_at) < CATCHES_UP_FOR;
        self.last = Some(Pace {
            timestamp_90k,
            arrived_at,
            began_at: last.began_at,
            lateness,
            least: last.least.min(lateness),
            was_held_up: false,
        });
        Age::past_if(is_fast && is_sooner_than_ever && may_catch_up)
    }
}

impl Age {
    fn past_if(is_past: bool) -> Self {
        if is_past { Self::Past } else { Self::Present }
    }
}

fn micros(time: Duration) -> Lateness {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START_90K: u32 = u32::MAX - 5 * 6_000;
    const FRAME: u32 = 6_000;

    struct Bench {
        catch_up: CatchUp,
        at: Instant,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                catch_up: CatchUp::default(),
                at: Instant::now(),
            }
        }

        /// Frame `n` of a camera with 15 frames a second comes `ms` after the one before.
        fn age(&mut self, n: u32, ms: u64) -> Age {
            self.at += Duration::from_millis(ms);
            let timestamp = START_90K.wrapping_add(n.wrapping_mul(FRAME));
            self.catch_up.age(timestamp, self.at)
        }

        /// True if it is of the past.
        fn frame(&mut self, n: u32, ms: u64) -> bool {
            self.age(n, ms) == Age::Past
        }
    }

    #[test]
    fn of_a_burst_at_the_beginning_all_but_the_first_are_of_the_past() {
        let mut bench = Bench::new();
        assert_eq!(
            bench.age(0, 0),
            Age::Unknown,
            "nothing tells it of the first"
        );
        let past = (1..30).filter(|n| bench.frame(*n, 10)).count();
        assert_eq!(past, 29);
        for n in 30..60 {
            assert!(!bench.frame(n, 66), "{n}");
        }
    }

    #[test]
    fn what_is_sent_again_is_of_the_past() {
        let mut bench = Bench::new();
        for n in 0..100 {
            assert!(!bench.frame(n, 66), "{n}");
        }
        assert!(bench.frame(80, 30));
        let past = (81..100).filter(|n| bench.frame(*n, 10)).count();
        assert_eq!(past, 19);
        assert!(!bench.frame(100, 66));
    }

    #[test]
    fn a_network_that_delays_frames_makes_none_of_the_past() {
        let mut bench = Bench::new();
        for n in 0..200 {
            // Every fifth frame is 50 ms late, and the next one in time again.
            let ms = match n % 5 {
                3 => 116,
                4 => 16,
                _ => 66,
            };
            assert!(!bench.frame(n, ms), "{n}");
        }
    }

    #[test]
    fn a_new_connection_begins_anew() {
        let mut bench = Bench::new();
        for n in 0..100 {
            bench.frame(n, 66);
        }
        // Two seconds later come the pictures since the last keyframe.
        assert_eq!(bench.age(120, 2000), Age::Unknown);
        assert!(bench.frame(121, 10));
        assert!(
            !bench.frame(4_000_000, 10),
            "a sender with other timestamps"
        );
    }

    #[test]
    fn a_sender_whose_timestamps_run_slowly_is_seen_after_a_while() {
        let mut bench = Bench::new();
        let seen: Vec<u32> = (0..1000).filter(|n| !bench.frame(*n, 20)).collect();
        assert_eq!(seen[0], 0);
        assert!(seen.len() > 450, "{}", seen.len());
    }

    #[test]
    fn all_that_a_track_keeps_is_of_the_past() {
        let mut bench = Bench::new();
        assert!(!bench.frame(0, 0));
        assert_eq!((1..900).filter(|n| bench.frame(*n, 11)).count(), 899);
    }

    #[test]
    fn what_was_held_up_is_of_the_past_with_its_first_frame() {
        let mut bench = Bench::new();
        for n in 0..100 {
            assert!(!bench.frame(n, 66), "{n}");
        }
        // Nothing is read for 10 s, and then all that has waited.
        assert!(bench.frame(100, 10_000));
        assert_eq!((101..250).filter(|n| bench.frame(*n, 1)).count(), 149);
        for n in 250..300 {
            assert!(!bench.frame(n, 66), "{n}");
        }
    }

    #[test]
    fn a_camera_with_a_picture_now_and_then_and_wrong_timestamps_is_not_blind() {
        let mut bench = Bench::new();
        let seen = (0..100).filter(|n| !bench.frame(*n, 4000)).count();
        assert!(seen >= 50, "{seen}");
        // With right ones nobody doubts.
        let mut bench = Bench::new();
        bench.age(0, 0);
        for n in 1..100 {
            assert_eq!(bench.age(n * 60, 4000), Age::Present, "{n}");
        }
    }
}
