//! Messages between the client and the broker. Each event that was handed to the client is counted exactly once: as published when it
//! was written (quality of service 0) or acknowledged, and as dropped when the broker refuses it, or when the connection
//! ends before.

use bytes::Bytes;
use rumqttc::PublishNotice;

use super::super::unsettled::Unsettled;
use super::board::Board;
use super::trouble::refusal;
use crate::telemetry::ledger::EventDrop;

/// What a message is about, for what is done when its end is known.
pub(super) enum Cargo<'a> {
    /// An event of the lane.
    Event(Unsettled<'a>),
    /// A retained message of the board.
    State(&'a Board, Bytes),
    /// A message of the sink itself.
    Own,
}

/// Waits for the end of a message, and gives what the broker said if it refused it.
pub(super) async fn land(
    cargo: Cargo<'_>,
    topic: String,
    notice: PublishNotice,
) -> Option<Refused> {
    let result = notice.wait_completion_async().await;
    let refused = result.as_ref().err().and_then(refusal);
    match cargo {
        Cargo::Event(unsettled) => unsettled.settle(match (&result, &refused) {
            (Ok(()), _) => Ok(()),
            (Err(_), Some(_)) => Err(EventDrop::Refused),
            (Err(_), None) => Err(EventDrop::SinkUnreachable),
        }),
        Cargo::State(board, payload) => {
            if result.is_ok() {
                board.taken(&topic, &payload);
            }
        }
        Cargo::Own => {}
    }
    refused.map(|reason| Refused { topic, reason })
}

/// A message that the broker did not take.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) topic: String,
    pub(super) reason: String,
}
