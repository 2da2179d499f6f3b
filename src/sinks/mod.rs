//! Sinks: where events go besides the hub. Events come in by a lane for each sink, and go to an MQTT broker or are posted to a
//! webhook; Home Assistant is told of entities by the broker. Each sink has a task of its own; the node starts them, and stops them after the stages before them.

mod home_assistant;
mod mqtt;
mod unsettled;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use self::home_assistant::{Home, HomeInputs};
use self::mqtt::MqttSink;
use crate::config::{Config, EventKind, MqttConfig, SinkConfig, SinkTarget};
use crate::preview::Previews;
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

/// What sinks are given beside their lanes.
#[derive(Debug, Clone, Copy)]
pub struct SinkContext<'a> {
    /// The identity of this run, as it is in events.
    pub run_id: &'a str,
    /// Where events are counted.
    pub metrics: &'a Arc<Metrics>,
    /// Where pictures come from.
    pub previews: &'a Previews,
    /// Notices tasks that panic.
    pub health: &'a Health,
}

#[derive(Debug)]
struct RunningSink {
    lane: SinkLane,
    task: JoinHandle<()>,
    /// Tells Home Assistant, where that is wanted. It has nothing to finish at the end.
    home: Option<JoinHandle<()>>,
}

impl Sinks {
    /// Starts a task for each sink. One that is away is not an error. It needs a tokio runtime.
    pub fn start(config: &Config, context: SinkContext<'_>) -> Self {
        let sinks = config.sinks.iter().enumerate();
        let start = |(index, sink): (usize, &SinkConfig)| match &sink.target {
            SinkTarget::Mqtt(target) => start_mqtt(config, context, index, sink, target),
            SinkTarget::Webhook(target) => {
                let lane = context.lane(index, &sink.events);
                let running = webhook::run(target.clone(), lane.clone());
                RunningSink {
                    lane,
                    task: context.spawn(&sink.name, running),
                    home: None,
                }
            }
        };
        Self {
            running: sinks.map(start).collect(),
        }
    }

    /// The ways to the sinks, for the publisher.
    pub fn lanes(&self) -> impl Iterator<Item = SinkLane> {
        self.running.iter().map(|sink| sink.lane.clone())
    }

    /// Takes no more events, gives the sinks at most `limit` to send what waits, and counts the rest as dropped.
    pub async fn shutdown(self, limit: Duration) {
        let ends = self.running.into_iter().map(|sink| async move {
            let RunningSink {
                lane,
                mut task,
                home,
            } = sink;
            lane.close();
            if tokio::time::timeout(limit, &mut task).await.is_err() {
                task.abort();
                // The task must have ended, or it could still take what is counted as dropped below.
                let _ = task.await;
            }
            if let Some(home) = home {
                home.abort();
                let _ = home.await;
            }
            lane.abandon(EventDrop::SinkUnreachable);
        });
        futures_util::future::join_all(ends).await;
    }
}

impl SinkContext<'_> {
    fn lane(&self, index: usize, events: &[EventKind]) -> SinkLane {
        SinkLane::new(
            index,
            events.to_vec(),
            self.run_id,
            Arc::clone(self.metrics),
        )
    }

    fn spawn(&self, sink: &str, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        tokio::spawn(self.health.watch(&format!("the sink {sink}"), task))
    }
}

fn start_mqtt(
    config: &Config,
    context: SinkContext<'_>,
    index: usize,
    sink: &SinkConfig,
    target: &MqttConfig,
) -> RunningSink {
    let node = target
        .node
        .clone()
        .unwrap_or_else(|| node_id(config.hub.as_ref()));
    if !target.home_assistant {
        let lane = context.lane(index, &sink.events);
        let broker = MqttSink::new(target.clone(), &node, lane.clone(), None);
        return RunningSink {
            lane,
            task: context.spawn(&sink.name, broker.run()),
            home: None,
        };
    }
    let mut events = sink.events.clone();
    if !events.contains(&EventKind::CameraStatus) {
        // Home Assistant's entities read the states of cameras.
        events.push(EventKind::CameraStatus);
    }
    let (lane, observed) =
        SinkLane::tapped(index, events, context.run_id, Arc::clone(context.metrics));
    let (home, link, told) = Home::new(target, &node, &config.cameras);
    let inputs = HomeInputs {
        observed,
        told,
        previews: context.previews.clone(),
    };
    let broker = MqttSink::new(target.clone(), &node, lane.clone(), Some(link));
    RunningSink {
        lane,
        task: context.spawn(&sink.name, broker.run()),
        home: Some(context.spawn(
            &format!("{} for Home Assistant", sink.name),
            home.run(inputs),
        )),
    }
}

/// Tries whether an MQTT broker lets the node in, and says what is wrong if not.
pub(crate) async fn probe_broker(target: &MqttConfig, node: &str) -> Result<(), String> {
    // Nothing is sent, so that nothing is counted.
    let metrics = Arc::new(Metrics::with_sinks([String::new()]));
    let lane = SinkLane::new(0, Vec::new(), "", metrics);
    let sink = MqttSink::new(target.clone(), node, lane, None);
    sink.probe().await.map_err(|trouble| trouble.to_string())
}

/// How the node is called where no hub is: by the id of its twin, else by that of its device, else by the name of its machine.
pub(crate) fn node_id(hub: Option<&HubOptions>) -> String {
    let ids = hub.map(|hub| [&hub.twin_id, &hub.device_id]);
    if let Some(id) = ids.into_iter().flatten().find(|id| !id.is_empty()) {
        return id.clone();
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
