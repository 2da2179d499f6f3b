//! How a camera stream did lately, for the dashboard: rates, ages and drops. The node reads the stream's counters into it once a
//! second; the API asks for what came of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::stream::StreamMetrics;
use crate::telemetry::history::Steps;
use crate::telemetry::ledger::{EventDrop, FrameDrop};
use twinsight_media::ledger::UnitDrop;

/// How many of something there were a second, over the last ten seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StreamRates {
    /// Access units of which a packet came.
    pub received: f64,
    /// Pictures that the decoder gave.
    pub decoded: f64,
    /// Frames that went through the model.
    pub inferred: f64,
    /// Events written to the hub's socket.
    pub published: f64,
}

/// The counts of the last minutes, in steps of [`STEP`](crate::telemetry::history::STEP), the oldest first.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamHistory {
    /// When the last step ended.
    pub until: Instant,
    /// Access units of which a packet came.
    pub received: Vec<u32>,
    /// Frames that went through the model.
    pub inferred: Vec<u32>,
    /// Events written to the hub's socket.
    pub published: Vec<u32>,
    /// Access units, frames and events that were dropped.
    pub dropped: [Vec<u32>; 3],
    /// The same by reason, as `frames.stale`. Reasons that did not occur are left out.
    pub reasons: BTreeMap<String, Vec<u32>>,
}

/// Where the counters of the ledger stand in [`StreamMetrics::books`].
const RECEIVED: usize = 0;
const UNIT_DROPS: usize = RECEIVED + 1;
const DECODED: usize = UNIT_DROPS + UnitDrop::ALL.len();
const FRAME_DROPS: usize = DECODED + 1;
const INFERRED: usize = FRAME_DROPS + FrameDrop::ALL.len();
const PUBLISHED: usize = INFERRED + 1;
const EVENT_DROPS: usize = PUBLISHED + 1;

/// How many counters a ledger has.
pub(super) const BOOKS: usize = EVENT_DROPS + EventDrop::OF_HUB.len();

impl StreamMetrics {
    /// Reads the counters into the history. The node calls it once a second.
    pub fn sample(&self, now: Instant) {
        self.history.lock().sample(self.books(), now);
    }

    /// Takes in the age of an event that was published now.
    pub fn published_at_age(&self, age: Duration, now: Instant) {
        self.frame_age.observe(age.as_secs_f64());
        self.recent_ages.lock().add(age, now);
    }

    /// The rates of the last ten seconds.
    pub fn rates(&self) -> StreamRates {
        let Some(rates) = self.history.lock().rates() else {
            return StreamRates::default();
        };
        StreamRates {
            received: rates[RECEIVED],
            decoded: rates[DECODED],
            inferred: rates[INFERRED],
            published: rates[PUBLISHED],
        }
    }

    /// The median and the 99th percentile of the ages of the last minute's events.
    pub fn age_percentiles(&self, now: Instant) -> Option<(Duration, Duration)> {
        self.recent_ages.lock().percentiles(now)
    }

    /// What was counted in the last minutes. `None` in the first seconds.
    pub fn history(&self) -> Option<StreamHistory> {
        let Steps { until, mut grown } = self.history.lock().steps()?;
        let names = UnitDrop::ALL.iter().map(|r| ("units", r.as_str()));
        let names = names.chain(FrameDrop::ALL.iter().map(|r| ("frames", r.as_str())));
        let names = names.chain(EventDrop::OF_HUB.iter().map(|r| ("events", r.as_str())));
        let drops = [
            UNIT_DROPS..DECODED,
            FRAME_DROPS..INFERRED,
            EVENT_DROPS..BOOKS,
        ];
        let sum = |of: std::ops::Range<usize>| -> Vec<u32> {
            (0..grown[RECEIVED].len())
                .map(|step| {
                    grown[of.clone()]
                        .iter()
                        .map(|counts| counts[step])
                        .fold(0, u32::saturating_add)
                })
                .collect()
        };
        let dropped = drops.clone().map(sum);
        let reasons = drops
            .into_iter()
            .flatten()
            .zip(names)
            .filter(|(at, _)| grown[*at].iter().any(|count| *count > 0))
            .map(|(at, (stage, reason))| (format!("{stage}.{reason}"), grown[at].clone()))
            .collect();
        Some(StreamHistory {
            until,
            received: std::mem::take(&mut grown[RECEIVED]),
            inferred: std::mem::take(&mut grown[INFERRED]),
            published: std::mem::take(&mut grown[PUBLISHED]),
            dropped,
            reasons,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Metrics;
    use super::*;
    use twinsight_client::stream_id::StreamId;

    #[test]
    fn the_counters_of_the_history_are_those_of_the_books() {
        let stream = Metrics::new().stream(&StreamId::new("cam", "default"));
        assert_eq!(stream.books().count(), BOOKS);
        let start = Instant::now();
        stream.sample(start);
        stream.access_units_received.inc_by(75);
        stream.frames_decoded.inc_by(74);
        stream.frames_inferred.inc_by(50);
        stream.events_published.inc_by(49);
        stream.unit_dropped(UnitDrop::Shutdown);
        stream.frame_dropped(FrameDrop::Stale);
        stream.frame_dropped(FrameDrop::Replaced);
        stream.event_dropped(EventDrop::HubDisconnected);
        let now = start + Duration::from_secs(5);
        stream.sample(now);
        let rates = StreamRates {
            received: 15.0,
            decoded: 14.8,
            inferred: 10.0,
            published: 9.8,
        };
        assert_eq!(stream.rates(), rates);
        let reason = |name: &str| (name.to_owned(), vec![1]);
        assert_eq!(
            stream.history().unwrap(),
            StreamHistory {
                until: now,
                received: vec![75],
                inferred: vec![50],
                published: vec![49],
                dropped: [vec![1], vec![2], vec![1]],
                reasons: [
                    "events.hub_disconnected",
                    "frames.replaced",
                    "frames.stale",
                    "units.shutdown"
                ]
                .map(reason)
                .into(),
            }
        );
    }
}
