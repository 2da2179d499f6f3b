//! A webhook as a sink.

use crate::config::WebhookConfig;
use crate::publish::lane::SinkLane;
use crate::telemetry::ledger::EventDrop;

pub(super) async fn run(_config: WebhookConfig, lane: SinkLane) {
    while let Some(event) = lane.next().await {
        lane.settled(event, Err(EventDrop::SinkUnreachable));
    }
}
