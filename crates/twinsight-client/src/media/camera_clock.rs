//! The clock of a camera: its own timestamps come in, timestamps of a track that never run back go out. Plain state;
//! `local_track` owns it.

use std::time::{Duration, Instant};

/// Ticks in a second.
const HZ: u64 = 90_000;

/// The camera's clock and ours may differ by this much from one unit to the next: units come in bursts, and a camera that holds
/// pictures back sends them later. Beyond it the camera has another clock, since it restarted or was asked anew.
const MAX_JITTER: Duration = Duration::from_secs(5);

/// A unit whose time is at most this much after that of the one before continues its camera's clock, however late it comes: this
/// program or the network stood still, and what was held up comes in a burst. With times of our own clock, the burst would be of
/// the future.
const CONTINUES_WITHIN: Duration = Duration::from_secs(2);

/// Follows the clock of a camera.
#[derive(Debug, Default)]
pub(super) struct CameraClock {
    last: Option<Last>,
}

#[derive(Debug)]
struct Last {
    camera_90k: u32,
    rtp_90k: u32,
    received_at: Instant,
}

impl CameraClock {
    /// The RTP timestamp of the unit that came next. The first one gets `begin`.
    pub(super) fn rtp(&mut self, camera_90k: u32, received_at: Instant, begin: u32) -> u32 {
        let rtp_90k = match &self.last {
            None => begin,
            Some(last) => {
                let elapsed = received_at.saturating_duration_since(last.received_at);
                let step = camera_90k.wrapping_sub(last.camera_90k);
                let is_even = step != 0 && {
                    let taken = Duration::from_micros(u64::from(step) * 1_000_000 / HZ);
                    taken.abs_diff(elapsed) <= MAX_JITTER
                        || (taken <= CONTINUES_WITHIN && taken < elapsed)
                };
                // Where the camera's clock jumps, our own says how much time has passed.
                let step = if is_even {
                    step
                } else {
                    to_90khz(elapsed).max(1)
                };
                last.rtp_90k.wrapping_add(step)
            }
        };
        self.last = Some(Last {
            camera_90k,
            rtp_90k,
            received_at,
        });
        rtp_90k
    }
}

/// A duration on a 90 kHz clock, which wraps.
pub(super) fn to_90khz(elapsed: Duration) -> u32 {
    let ticks = elapsed.as_micros() * 9 / 100;
    u32::try_from(ticks & u128::from(u32::MAX)).expect("32 bits were kept")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The steps from each RTP timestamp to the next, for units with these times of the camera and of ours.
    fn steps(units: &[(u32, u64)]) -> Vec<u32> {
        let begin = Instant::now();
        let mut clock = CameraClock::default();
        let rtp: Vec<u32> = units
            .iter()
            .map(|(camera, ms)| {
                clock.rtp(*camera, begin + Duration::from_millis(*ms), u32::MAX - 10)
            })
            .collect();
        assert_eq!(rtp[0], u32::MAX - 10);
        rtp.windows(2)
            .map(|pair| pair[1].wrapping_sub(pair[0]))
            .collect()
    }

    #[test]
    fn the_cameras_own_steps_are_kept_however_late_units_come() {
        let units = [(900, 0), (3900, 50), (6900, 51), (9900, 400), (12_900, 401)];
        assert_eq!(steps(&units), [3000; 4]);
        // The camera's clock begins near its end, so that it wraps during the test.
        assert_eq!(steps(&[(u32::MAX - 999, 0), (2000, 33)]), [3000]);
        // A picture every four seconds.
        assert_eq!(steps(&[(0, 0), (360_000, 4100)]), [360_000]);
    }

    #[test]
    fn what_was_held_up_keeps_its_time_and_is_never_of_the_future() {
        let mut units = vec![(0_u32, 0_u64), (6000, 66)];
        // Nothing is read for 20 s, and then 300 pictures at once.
        units.extend((2..302_u32).map(|n| (n * 6000, 20_000 + u64::from(n))));
        units.extend((302..310_u32).map(|n| (n * 6000, 20_302 + 66 * u64::from(n - 301))));
        assert_eq!(steps(&units), vec![6000; units.len() - 1]);
    }

    #[test]
    fn a_jump_goes_on_by_our_own_clock_and_nothing_runs_back() {
        for jumped in [0_u32, 2_000_000_000, 4_000_000_000, 900] {
            let units = [
                (900, 0),
                (3900, 33),
                (jumped, 2033),
                (jumped.wrapping_add(3000), 2066),
            ];
            assert_eq!(steps(&units), [3000, 180_000, 3000], "{jumped}");
        }
        // The same time twice, and a step back by a frame.
        assert_eq!(steps(&[(900, 0), (900, 0), (0, 10)]), [1, 900]);
    }

    #[test]
    fn a_duration_in_ticks_wraps() {
        assert_eq!(to_90khz(Duration::from_millis(1)), 90);
        assert_eq!(to_90khz(Duration::from_secs(48_000)), 25_032_704);
    }
}
