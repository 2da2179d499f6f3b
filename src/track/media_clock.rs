//! The time of a camera stream's frames. RTP timestamps and times of arrival come in, and a time goes out that goes on as the
//! camera's does and never backwards: also when the camera begins its timestamps anew. The stage runs it.
//!
//! The camera's own time is the better one, since frames arrive late and in bursts. But cameras restart their timestamps, and some
//! count wrongly; time of arrival is never far off. So the camera is followed as long as both agree within a second, and believed again
//! when they have agreed for ten.

use std::time::{Duration, Instant};

/// The camera's time and that of arrival may differ by this much. Networks hold frames back for less.
const MOST_APART_NS: i64 = 1_000_000_000;
/// After they did not agree, both have to go on alike for this long before the camera is followed again.
const TRIAL_NS: i64 = 10_000_000_000;
/// Clocks drift apart. What they are apart goes with this time constant, so that it never adds up.
const SETTLING_NS: i64 = 10_000_000_000;
/// Ticks of the RTP clock of video (RFC 6184 section 8.2.1) become nanoseconds by these.
const NS_FOR_NINE_TICKS: i64 = 100_000;

/// Makes the media time of one camera stream.
#[derive(Debug, Default)]
pub(super) struct MediaClock {
    last: Option<Last>,
    source: Source,
}

/// The last frame.
#[derive(Debug, Clone, Copy)]
struct Last {
    /// When the first frame came, from which arrival counts.
    first: Instant,
    timestamp_90k: u32,
    arrival_ns: i64,
    media_ns: i64,
}

/// Whose time it is.
#[derive(Debug, Clone, Copy)]
enum Source {
    /// The camera's. `ns` is its time in media time, which can lie before the last media time where frames come out of order.
    Camera { ns: i64 },
    /// That of arrival, since the camera's made no sense. `ahead_ns` is by how much the camera has gone on more than
    /// arrival since `since_ns`.
    Arrival { since_ns: i64, ahead_ns: i64 },
}

impl Default for Source {
    fn default() -> Self {
        Self::Camera { ns: 0 }
    }
}

impl MediaClock {
    /// The media time of a frame, since the first one.
    pub(super) fn time(&mut self, timestamp_90k: u32, received_at: Instant) -> Duration {
        let last = *self.last.get_or_insert(Last {
            first: received_at,
            timestamp_90k,
            arrival_ns: 0,
            media_ns: 0,
        });
        let arrival = received_at.saturating_duration_since(last.first).as_nanos();
        // 292 years fit.
        let arrival_ns = i64::try_from(arrival)
            .unwrap_or(i64::MAX / 4)
            .max(last.arrival_ns);
        let arrival_step = arrival_ns - last.arrival_ns;
        // The difference of 32 bits is right as long as less than half of them, 6.6 hours, lie between two frames.
        let ticks = timestamp_90k.wrapping_sub(last.timestamp_90k).cast_signed();
        let camera_step = i64::from(ticks) * NS_FOR_NINE_TICKS / 9;
        let media_ns = match &mut self.source {
            Source::Camera { ns } => {
                let camera = *ns + camera_step;
                let ahead = camera - arrival_ns;
                if ahead.abs() < MOST_APART_NS {
                    let settled = ahead / (SETTLING_NS / arrival_step.clamp(1, SETTLING_NS));
                    *ns = camera - settled;
                    *ns
                } else {
                    self.source = Source::Arrival {
                        since_ns: arrival_ns,
                        ahead_ns: 0,
                    };
                    towards_arrival(&last, arrival_ns)
                }
            }
            Source::Arrival { since_ns, ahead_ns } => {
                *ahead_ns += camera_step - arrival_step;
                let media = towards_arrival(&last, arrival_ns);
                if ahead_ns.abs() >= MOST_APART_NS {
                    (*since_ns, *ahead_ns) = (arrival_ns, 0);
                } else if arrival_ns - *since_ns >= TRIAL_NS && media == arrival_ns {
                    self.source = Source::Camera { ns: media };
                }
                media
            }
        };
        let media_ns = media_ns.max(last.media_ns);
        self.last = Some(Last {
            timestamp_90k,
            arrival_ns,
            media_ns,
            ..last
        });
        Duration::from_nanos(media_ns.unsigned_abs())
    }
}

/// The time of arrival, once media time is there. Where it is ahead it goes on at half the pace until then, so that it stands still
/// nowhere.
fn towards_arrival(last: &Last, arrival_ns: i64) -> i64 {
    let slowly = last.media_ns + (arrival_ns - last.arrival_ns) / 2;
    arrival_ns.max(slowly)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A clock, and frames that it gets: ticks and the time of arrival in milliseconds.
    struct Run {
        clock: MediaClock,
        begin: Instant,
    }

    impl Run {
        fn new() -> Self {
            Self {
                clock: MediaClock::default(),
                begin: Instant::now(),
            }
        }

        /// Media time in milliseconds.
        fn ms(&mut self, timestamp_90k: u32, arrival_ms: u64) -> f64 {
            let at = self.begin + Duration::from_millis(arrival_ms);
            self.clock.time(timestamp_90k, at).as_secs_f64() * 1000.0
        }
    }

    #[track_caller]
    fn assert_near(ms: f64, expected: f64, tolerance: f64) {
        assert!((ms - expected).abs() <= tolerance, "{ms} is not {expected}");
    }

    #[test]
    fn goes_as_the_camera_does_and_not_as_frames_arrive() {
        let mut run = Run::new();
        let mut last = 0.0;
        for n in 0..1000_u32 {
            // Ten frames a second, which come four at a time, over the wrap of the timestamps.
            let timestamp = (u32::MAX - 500_000).wrapping_add(n * 9000);
            let ms = run.ms(timestamp, u64::from(n / 4 * 400 + 300));
            if n > 0 {
                assert_near(ms - last, 100.0, 20.0);
            }
            last = ms;
        }
        assert_near(last, 99_900.0, 300.0);
    }

    #[test]
    fn a_clock_that_drifts_is_followed_without_end() {
        // The camera's clock is 200 ppm fast, for a day at two frames a second.
        let mut run = Run::new();
        for n in 0..172_800_u32 {
            let ms = run.ms(n.wrapping_mul(45_009), u64::from(n) * 500);
            assert_near(ms, f64::from(n) * 500.0, 10.0);
        }
    }

    #[test]
    fn a_camera_that_begins_anew_goes_on() {
        let mut run = Run::new();
        for n in 0..100_u32 {
            let ms = run.ms(1_000_000 + n * 9000, u64::from(n) * 100);
            assert_near(ms, f64::from(n) * 100.0, 1.0);
        }
        for n in 100..1000_u32 {
            // Other timestamps, and then frames arrive late now and then.
            let late = if n > 300 && n.is_multiple_of(10) {
                80
            } else {
                0
            };
            let ms = run.ms(7_000 + n * 9000, u64::from(n) * 100 + late);
            assert_near(ms, f64::from(n) * 100.0, 20.0);
        }
    }

    #[test]
    fn a_pause_is_a_pause() {
        let mut run = Run::new();
        run.ms(0, 0);
        run.ms(9000, 100);
        assert_near(run.ms(9000 + 90 * 600_000, 600_100), 600_100.0, 1.0);
        // The camera did not count during the next one.
        assert_near(run.ms(9000 + 90 * 600_100, 1_200_100), 1_200_100.0, 1.0);
    }

    #[test]
    fn timestamps_that_lie_are_not_believed_again_and_again() {
        // A camera that says 25 frames a second and sends 10; one that always says the same.
        for step in [3600_u32 * 25 / 4, 0] {
            let mut run = Run::new();
            let mut last = 0.0;
            for n in 0..3000_u32 {
                let ms = run.ms(n * step, u64::from(n) * 100);
                assert_near(ms, f64::from(n) * 100.0, 1000.0);
                if n > 300 {
                    assert_near(ms - last, 100.0, 1.0);
                }
                last = ms;
            }
        }
    }

    #[test]
    fn frames_out_of_order_take_no_time() {
        let mut run = Run::new();
        run.ms(0, 0);
        let late = run.ms(9000, 100);
        assert_near(run.ms(6000, 110), late, 0.001);
        assert_near(run.ms(12_000, 140), 133.0, 2.0);
    }

    #[test]
    fn an_arrival_before_the_first_is_no_time_at_all() {
        let mut clock = MediaClock::default();
        let later = Instant::now() + Duration::from_secs(5);
        clock.time(0, later);
        assert_eq!(
            clock.time(0, later - Duration::from_secs(3)),
            Duration::ZERO
        );
    }

    proptest! {
        #[test]
        fn never_backwards_and_never_far_from_arrival(
            frames in proptest::collection::vec((any::<u32>(), 0_u64..5000, 0..4_u8), 1..200)
        ) {
            let mut run = Run::new();
            let (mut timestamp, mut arrival, mut last) = (0_u32, 0, 0.0);
            run.ms(timestamp, arrival);
            for (noise, step, kind) in frames {
                arrival += step;
                let honest = u32::try_from(step).unwrap() * 90;
                timestamp = match kind {
                    0 => noise,
                    1 => timestamp.wrapping_add(noise % 9000),
                    _ => timestamp.wrapping_add(honest),
                };
                let ms = run.ms(timestamp, arrival);
                prop_assert!(ms >= last);
                #[expect(clippy::cast_precision_loss, reason = "a few hours in milliseconds")]
                let off = ms - arrival as f64;
                prop_assert!(off.abs() <= 1000.001, "{} {}", ms, arrival);
                last = ms;
            }
        }
    }
}
