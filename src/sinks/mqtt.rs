//! An MQTT broker as a sink.

use crate::config::MqttConfig;
use crate::publish::lane::SinkLane;
use crate::telemetry::ledger::EventDrop;

pub(super) async fn run(_config: MqttConfig, lane: SinkLane) {
    while let Some(event) = lane.next().await {
        lane.settled(event, Err(EventDrop::SinkUnreachable));
    }
}
