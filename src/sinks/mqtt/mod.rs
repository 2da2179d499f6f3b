//! An MQTT broker as a sink. Events come in by the sink's lane and go to topics of their own, and the broker says of the node
//! whether it is there. The task connects for ever: `connection` is one connection, `silence` notices a broker that hangs, `trouble` says what went wrong, and
//! `board` has what the broker is to keep.

pub(super) mod board;
mod connection;
mod flight;
pub(super) mod home;
mod silence;
pub(super) mod topics;
mod trouble;

use std::time::{Duration, Instant};

use twinsight_client::backoff::Backoff;
use twinsight_client::rate_limit::RateLimit;

use self::connection::End;
use self::flight::Refused;
use self::home::HomeLink;
use self::topics::Topics;
use self::trouble::{Retry, Trouble};
use crate::config::MqttConfig;
use crate::publish::lane::SinkLane;

/// What the topic of the node's status has.
pub(super) const ONLINE: &str = "online";
/// What it has when the node has gone, by its own word or by its last will.
pub(super) const OFFLINE: &str = "offline";

/// The delays between attempts go from this
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// to this.
const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// Where somebody has to correct something first, they are this long.
const SELDOM: Duration = Duration::from_mins(2);

/// A connection that held this long was a good one: the next attempt comes soon.
const GOOD_CONNECTION: Duration = Duration::from_secs(2);

/// The same complaint comes at most this often.
const COMPLAINTS: Duration = Duration::from_mins(10);

/// A broker, and what goes there.
#[derive(Debug)]
pub(super) struct MqttSink {
    pub(super) config: MqttConfig,
    pub(super) topics: Topics,
    pub(super) client_id: String,
    pub(super) lane: SinkLane,
    /// There if Home Assistant is told.
    pub(super) home: Option<HomeLink>,
    /// Limits how often the log says of a topic that the broker refuses it.
    pub(super) complaints: RateLimit<String>,
}

/// Says in the metrics that the broker is reached, as long as it is there.
struct Connected<'a>(&'a SinkLane);

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.0.metrics().connected.set(0);
    }
}

/// Who the node is to the broker. Two clients of one name throw each other out, so a second sink at the same broker has another.
fn client_id(node: &str, sink: &str) -> String {
    match sink {
        "" | "mqtt" => format!("twinsight-{node}"),
        sink => format!("twinsight-{node}-{sink}"),
    }
}

impl MqttSink {
    pub(super) fn new(
        config: MqttConfig,
        node: &str,
        lane: SinkLane,
        home: Option<HomeLink>,
    ) -> Self {
        let topics = Topics::new(&config.topic, node);
        Self {
            client_id: client_id(topics.node(), lane.metrics().name()),
            config,
            topics,
            lane,
            home,
            complaints: RateLimit::new(COMPLAINTS),
        }
    }

    /// Connects again and again until the node stops.
    pub(super) async fn run(self) {
        let mut backoff = Backoff::new(FIRST_DELAY, LONGEST_DELAY);
        let mut told: Option<(String, Instant)> = None;
        let mut was_reached = false;
        loop {
            let started = Instant::now();
            let (trouble, reached) = match self.connection(was_reached).await {
                End::Stopped => return,
                End::Lost { trouble, reached } => (trouble, reached),
            };
            if reached {
                was_reached = true;
                // What was said before is to be said again if it comes back.
                told = None;
                if started.elapsed() >= GOOD_CONNECTION {
                    backoff.reset();
                }
            }
            let mut delay = backoff.next_delay(rand::random());
            if trouble.retry() == Retry::Seldom {
                delay = delay.max(SELDOM.mul_f64(0.75 + 0.5 * rand::random::<f64>()));
            }
            self.tell(&trouble, delay, &mut told);
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = self.lane.closed() => return,
            }
        }
    }

    /// Logs why there is no connection, once until it changes, and again now and then.
    fn tell(&self, trouble: &Trouble, delay: Duration, told: &mut Option<(String, Instant)>) {
        let (sink, broker) = (self.lane.metrics().name(), self.broker());
        let retry_in_ms = delay.as_millis();
        let reason = trouble.to_string();
        self.lane.metrics().set_trouble(Some(reason.clone()));
        let is_new = told
            .as_ref()
            .is_none_or(|(before, at)| *before != reason || at.elapsed() >= COMPLAINTS);
        if !is_new {
            tracing::debug!(sink, broker, retry_in_ms, %reason, "the MQTT broker is still not reached");
        } else if trouble.retry() == Retry::Seldom {
            tracing::error!(sink, broker, retry_in_ms, %reason, "the MQTT broker refuses this node, and events for it are dropped");
        } else {
            tracing::warn!(sink, broker, retry_in_ms, %reason, "the MQTT broker is not reached, and events for it are dropped");
        }
        if is_new {
            *told = Some((reason, Instant::now()));
        }
    }

    /// Says that the broker is reached, and counts it if that is not the first time.
    fn connected(&self, was_reached: bool) -> Connected<'_> {
        let (sink, broker) = (self.lane.metrics().name(), self.broker());
        tracing::info!(
            sink,
            broker,
            topic = self.topics.root(),
            "the MQTT broker is reached"
        );
        self.lane.metrics().set_trouble(None);
        self.lane.metrics().connected.set(1);
        if was_reached {
            self.lane.metrics().reconnects.inc();
        }
        Connected(&self.lane)
    }

    /// Logs that the broker does not take a message, if it did not.
    fn complain(&self, refused: Option<Refused>) {
        let Some(Refused { topic, reason }) = refused else {
            return;
        };
        if let Some(suppressed) = self.complaints.allow(topic.clone(), Instant::now()) {
            let sink = self.lane.metrics().name();
            tracing::warn!(
                sink,
                topic,
                reason,
                suppressed,
                "the MQTT broker does not take a message: correct what it allows this user or how much it takes"
            );
        }
    }

    fn broker(&self) -> String {
        format!("{}:{}", self.config.host, self.config.port)
    }
}
