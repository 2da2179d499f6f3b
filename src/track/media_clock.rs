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
