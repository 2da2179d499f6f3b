//! Sinks: where events go besides the hub. Events come in by a lane for each sink, and go to an MQTT broker or are posted to a
//! webhook. Each sink has a task of its own; the node starts them, and stops them after the stages before them.

mod mqtt;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use self::mqtt::MqttSink;
use crate::config::{Config, SinkConfig, SinkTarget};
use crate::publish::lane::SinkLane;
use crate::telemetry::health::Health;
use crate::telemetry::ledger::EventDrop;
use crate::telemetry::metrics::Metrics;
use twinsight_client::hub::HubOptions;

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
    pub fn start(config: &Config, run_id: &str, metrics: &Arc<Metrics>, health: &Health) -> Self {
        let node = node_id(config.hub.as_ref());
        let start = |(index, config): (usize, &SinkConfig)| {
            let lane = SinkLane::new(index, config.events.clone(), run_id, Arc::clone(metrics));
            let theirs = lane.clone();
            let task_name = format!("the sink {}", config.name);
            let task = match config.target.clone() {
                SinkTarget::Mqtt(target) => {
                    let sink = MqttSink::new(target, &node, theirs, config.events.clone(), None);
                    tokio::spawn(health.watch(&task_name, sink.run()))
                }
                SinkTarget::Webhook(target) => {
                    tokio::spawn(health.watch(&task_name, webhook::run(target, theirs)))
                }
            };
            RunningSink { lane, task }
        };
        Self {
            running: config.sinks.iter().enumerate().map(start).collect(),
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

/// How the node is called where no hub is: by the id of its twin, else by that of its device, else by the name of its machine.
fn node_id(hub: Option<&HubOptions>) -> String {
    let ids = hub
        .into_iter()
        .flat_map(|hub| [&hub.twin_id, &hub.device_id]);
    for id in ids {
        if !id.is_empty() {
            return id.clone();
        }
    }
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "node".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use twinsight_client::hub::HubMode;

    #[test]
    fn the_node_is_called_by_what_stays_the_same() {
        assert!(!node_id(None).is_empty());
        let mut hub = HubOptions::new(HubMode::Direct, String::new());
        assert!(!node_id(Some(&hub)).is_empty());
        hub.device_id = "device".to_owned();
        assert_eq!(node_id(Some(&hub)), "device");
        hub.twin_id = "twin".to_owned();
        assert_eq!(node_id(Some(&hub)), "twin");
    }
}
