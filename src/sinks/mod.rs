//! Sinks: where events go besides the hub. Events come in by a lane for each sink, and go to an MQTT broker or are posted to a
//! webhook. Each sink has a task of its own; the node starts them, and stops them after the stages before them.

mod mqtt;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::config::{SinkConfig, SinkTarget};
use crate::publish::lane::SinkLane;
use crate::telemetry::ledger::EventDrop;
use crate::telemetry::metrics::Metrics;

/// The running sinks.
#[derive(Debug)]
pub struct Sinks {
    running: Vec<RunningSink>,
}

#[derive(Debug)]
struct RunningSink {
    lane: SinkLane,
    task: JoinHandle<()>,
}

impl Sinks {
    /// Starts a task for each sink. One that is away is not an error. It needs a tokio runtime.
    pub fn start(configs: &[SinkConfig], run_id: &str, metrics: &Arc<Metrics>) -> Self {
        let start = |(index, config): (usize, &SinkConfig)| {
            let lane = SinkLane::new(index, config.events.clone(), run_id, Arc::clone(metrics));
            let theirs = lane.clone();
            let task = match config.target.clone() {
                SinkTarget::Mqtt(target) => tokio::spawn(mqtt::run(target, theirs)),
                SinkTarget::Webhook(target) => tokio::spawn(webhook::run(target, theirs)),
            };
            RunningSink { lane, task }
        };
        Self {
            running: configs.iter().enumerate().map(start).collect(),
        }
    }

    /// The ways to the sinks, for the publisher.
    pub fn lanes(&self) -> impl Iterator<Item = SinkLane> {
        self.running.iter().map(|sink| sink.lane.clone())
    }

    /// Takes no more events, gives the sinks at most `limit` to send what waits, and counts the rest as dropped.
    pub async fn shutdown(self, limit: Duration) {
        let ends = self
            .running
            .into_iter()
            .map(|RunningSink { lane, mut task }| async move {
                lane.close();
                if tokio::time::timeout(limit, &mut task).await.is_err() {
                    task.abort();
                    // The task must have ended, or it could still take what is counted as dropped below.
                    let _ = task.await;
                }
                lane.abandon(EventDrop::SinkUnreachable);
            });
        futures_util::future::join_all(ends).await;
    }
}
