//! A server that events are posted to. Events come out of the sink's lane one after the other, and each becomes a request
//! with its signature (`request`). `verdict` reads the answer, and `schedule` decides when it is tried again and when it is given
//! up. What the log has of it is in `report`. The node's sinks run the task.

mod report;
mod request;
mod schedule;
mod verdict;

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use twinsight_client::secret::Secret;

use self::report::Report;
use self::request::Delivery;
use self::schedule::{Schedule, Step};
use self::verdict::Verdict;
use super::unsettled::Unsettled;
use crate::clock::WallClock;
use crate::config::WebhookConfig;
use crate::publish::lane::{SinkEvent, SinkLane};
use crate::telemetry::ledger::EventDrop;
use crate::web_client::WebClient;

/// From connecting to the whole answer, a try may take this long.
const TRY_LIMIT: Duration = Duration::from_secs(5);

/// The most of an answer that is read. Nothing but the beginning of a refusal is looked at.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// States that a receiver did not get are told again this often while nothing else is to be told, so that it has them soon
/// after it is back.
const RESTATE_EVERY: Duration = Duration::from_secs(30);

/// Posts what comes out of the lane until the node stops. What waits then is tried once.
pub(super) async fn run(config: WebhookConfig, lane: SinkLane) {
    Webhook::new(config, lane).run().await;
}

struct Webhook {
    url: Secret,
    secret: Option<Secret>,
    schedule: Schedule,
    report: Report,
    client: Client,
    /// Since when the receiver lacks a state that it should have been told.
    owes_states_since: Option<Instant>,
    restate_every: Duration,
    try_limit: Duration,
    lane: SinkLane,
}

/// The HTTP client, which cannot be made before its file of certificates is there.
enum Client {
    Unmade { ca_file: Option<PathBuf> },
    Made(Box<WebClient>),
}

impl Webhook {
    fn new(config: WebhookConfig, lane: SinkLane) -> Self {
        Self {
            url: config.url,
            secret: config.secret,
            schedule: Schedule::new(config.max_age),
            report: Report::new(lane.metrics().name()),
            client: Client::Unmade {
                ca_file: config.ca_file,
            },
            owes_states_since: None,
            restate_every: RESTATE_EVERY,
            try_limit: TRY_LIMIT,
            lane,
        }
    }

    async fn run(mut self) {
        while let Some(event) = self.next().await {
            self.deliver(event).await;
        }
    }

    /// The next event of the lane. While there is none, states that the receiver lacks become events again.
    async fn next(&mut self) -> Option<SinkEvent> {
        loop {
            let Some(since) = self.owes_states_since else {
                return self.lane.next().await;
            };
            match tokio::time::timeout_at((since + self.restate_every).into(), self.lane.next())
                .await
            {
                Ok(next) => return next,
                Err(_) => self.tell_states_again(),
            }
        }
    }

    fn tell_states_again(&mut self) {
        self.owes_states_since = None;
        self.lane.resend_statuses();
    }

    /// Tries an event until the receiver takes or refuses it, or until it is too old.
    async fn deliver(&mut self, event: SinkEvent) {
        let is_state = event.status().is_some();
        let mut delivery = None;
        // A clone, since what is pending must not borrow what the tries change.
        let lane = self.lane.clone();
        let pending = Unsettled::new(&lane, event);
        let event = pending.event();
        let result = loop {
            let now = Instant::now();
            let is_closing = lane.is_closed();
            match self.schedule.step(event.age(now), now) {
                Step::Try => {}
                Step::Drop(reason) => break Err(reason),
                Step::WaitUntil(_) if is_closing => {}
                Step::WaitUntil(at) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(at.into()) => {}
                        () = lane.closed() => {}
                    }
                    continue;
                }
            }
            // The camera may have become another node's while the event waited for this try.
            if !lane.may_publish(event) {
                break Err(EventDrop::NotHeld);
            }
            // The body is the same in each try, so that the receiver can tell that it is the same event.
            let delivery = delivery.get_or_insert_with(|| {
                Delivery::new(event.event_type(), &lane.json(event, &WallClock::read()))
            });
            let verdict = self.attempt(delivery).await;
            let now = Instant::now();
            self.schedule.tried(&verdict, now, rand::random());
            self.note(&verdict, now);
            match verdict {
                Verdict::Taken => break Ok(()),
                Verdict::Refused { .. } => break Err(EventDrop::Refused),
                Verdict::Later { .. } if is_closing => break Err(EventDrop::SinkUnreachable),
                Verdict::Later { .. } => {}
            }
        };
        pending.settle(result);
        match result {
            Ok(()) if self.owes_states_since.is_some() => self.tell_states_again(),
            Ok(()) => {}
            Err(reason) => {
                self.report.dropped(reason, Instant::now());
                // Of a camera that is another node's the receiver lacks nothing.
                let is_owed = !matches!(reason, EventDrop::Refused | EventDrop::NotHeld);
                if is_state && is_owed {
                    self.owes_states_since.get_or_insert_with(Instant::now);
                }
            }
        }
    }

    async fn attempt(&mut self, delivery: &Delivery) -> Verdict {
        if let Client::Unmade { ca_file } = &self.client {
            match WebClient::new(ca_file.as_deref()) {
                Ok(client) => self.client = Client::Made(Box::new(client)),
                Err(error) => return Verdict::later(error.to_string()),
            }
        }
        let Client::Made(client) = &self.client else {
            unreachable!("it was made just now, or we would have returned")
        };
        let request = delivery.request(
            self.url.expose(),
            self.secret.as_ref(),
            WallClock::read().unix_s(),
        );
        match request {
            Ok(request) => {
                let answer = client.send(request, self.try_limit, MAX_ANSWER_BYTES).await;
                Verdict::of(answer, SystemTime::now())
            }
            Err(error) => Verdict::later(error.to_string()),
        }
    }

    /// Tells the metrics and the log how the receiver is.
    fn note(&mut self, verdict: &Verdict, now: Instant) {
        let metrics = self.lane.metrics();
        metrics
            .connected
            .set(i64::from(matches!(verdict, Verdict::Taken)));
        metrics.set_trouble(verdict.trouble());
        if self.report.tried(verdict, now) {
            metrics.reconnects.inc();
        }
    }
}

#[cfg(test)]
#[path = "webhook_tests.rs"]
mod tests;
