//! What the log has of a webhook. What came of each try comes in, and lines go out where something changes, and seldom where it
//! stays bad. None of them has the address, which may hold a secret: reasons name the server.

use std::time::{Duration, Instant};

use axum::http::StatusCode;

use super::verdict::Verdict;
use crate::telemetry::ledger::EventDrop;
use twinsight_client::rate_limit::RateLimit;

/// The same thing is said at most this often.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// What is known of the receiver, for the log.
#[derive(Debug)]
pub(super) struct Report {
    sink: String,
    reach: Reach,
    warnings: RateLimit<Warning>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// It was not asked yet.
    Unknown,
    /// It took the last event, or refused it.
    Answering,
    /// The last try failed.
    Away {
        since: Instant,
        /// The events that were dropped since then.
        dropped: u64,
        /// Whether it ever answered before.
        known: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Warning {
    Away,
    Refused(StatusCode),
    Slow,
}

impl Report {
    pub(super) fn new(sink: &str) -> Self {
        Self {
            sink: sink.to_owned(),
            reach: Reach::Unknown,
            warnings: RateLimit::new(WARN_EVERY),
        }
    }

    /// Takes in what came of a try. True if the receiver answers again after it had gone.
    pub(super) fn tried(&mut self, verdict: &Verdict, now: Instant) -> bool {
        let sink = self.sink.as_str();
        match verdict {
            Verdict::Later { reason, .. } => {
                let dropped = match self.reach {
                    Reach::Away { dropped, .. } => dropped,
                    was @ (Reach::Unknown | Reach::Answering) => {
                        self.reach = Reach::Away {
                            since: now,
                            dropped: 0,
                            known: was == Reach::Answering,
                        };
                        0
                    }
                };
                if let Some(suppressed) = self.warnings.allow(Warning::Away, now) {
                    tracing::warn!(
                        sink,
                        dropped,
                        suppressed,
                        "the webhook does not take events ({reason}): see that it runs and can be reached, it is tried again"
                    );
                }
                false
            }
            Verdict::Taken | Verdict::Refused { .. } => {
                let was = std::mem::replace(&mut self.reach, Reach::Answering);
                match was {
                    Reach::Unknown if *verdict == Verdict::Taken => {
                        tracing::info!(sink, "the webhook takes events");
                    }
                    Reach::Unknown | Reach::Answering => {}
                    Reach::Away { since, dropped, .. } => {
                        let away_s = now.saturating_duration_since(since).as_secs();
                        tracing::info!(sink, away_s, dropped, "the webhook answers again");
                    }
                }
                if let Verdict::Refused { status, answer } = verdict
                    && let Some(suppressed) = self.warnings.allow(Warning::Refused(*status), now)
                {
                    let remedy = remedy(*status);
                    tracing::warn!(
                        sink,
                        %status,
                        answer,
                        suppressed,
                        "the webhook refuses events, and they are dropped: {remedy}"
                    );
                }
                matches!(was, Reach::Away { known: true, .. })
            }
        }
    }

    /// Takes in that an event was dropped.
    pub(super) fn dropped(&mut self, reason: EventDrop, now: Instant) {
        if let Reach::Away { dropped, .. } = &mut self.reach {
            *dropped += 1;
        }
        if reason == EventDrop::Stale
            && let Some(suppressed) = self.warnings.allow(Warning::Slow, now)
        {
            tracing::warn!(
                sink = self.sink,
                suppressed,
                "the webhook answers too slowly, and events grow too old: give it fewer of them by `events`, or make it faster"
            );
        }
    }
}

/// What can be done about a refusal with this status.
pub(super) fn remedy(status: StatusCode) -> &'static str {
    match status.as_u16() {
        300..=399 => "it redirects, which is not followed; write the new address into `sinks.url`",
        401 | 403 => "see to its secret in `sinks.secret_file`, or to the key in its address",
        404 | 405 | 410 => "nothing takes events at its address; correct `sinks.url`",
        413 => {
            "the events are too large for it; raise its limit, or leave `detections` out of `events`"
        }
        _ => {
            "its own log says what it does not like, and `events` leaves out what it does not know"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_is_back_once_after_each_time_that_it_was_away() {
        let t = Instant::now();
        let mut report = Report::new("home");
        let away = Verdict::later("it is away".to_owned());
        let refused = Verdict::Refused {
            status: StatusCode::GONE,
            answer: String::new(),
        };
        assert!(!report.tried(&Verdict::Taken, t), "it was never away");
        assert!(!report.tried(&refused, t));
        for _ in 0..5 {
            assert!(!report.tried(&away, t));
            report.dropped(EventDrop::SinkUnreachable, t);
        }
        assert!(matches!(report.reach, Reach::Away { dropped: 5, .. }));
        assert!(report.tried(&refused, t), "a refusal is an answer");
        assert!(!report.tried(&Verdict::Taken, t));
        // One that was away from the beginning is reached for the first time, and not again.
        let mut report = Report::new("home");
        assert!(!report.tried(&away, t));
        assert!(!report.tried(&Verdict::Taken, t));
    }

    #[test]
    fn every_refusal_has_a_remedy() {
        assert!(remedy(StatusCode::MOVED_PERMANENTLY).contains("redirects"));
        assert!(remedy(StatusCode::UNAUTHORIZED).contains("secret"));
        assert!(remedy(StatusCode::GONE).contains("sinks.url"));
        assert!(remedy(StatusCode::PAYLOAD_TOO_LARGE).contains("too large"));
        assert!(remedy(StatusCode::UNPROCESSABLE_ENTITY).contains("log"));
    }
}
