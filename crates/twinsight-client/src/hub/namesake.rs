//! Whether somebody else is connected with our twin id. What a hub delivers comes in; whether it proves that there
//! is another one goes out. Two nodes under one id fight: each takes the other's cameras away.
//!
//! Proof is what is signed with our id and we have not sent: a description for another twin's room, or detections
//! of another run. Some hubs deliver our own messages back to us, and rendezvous initiators sign with the twin
//! that they dial, so neither the signature nor an offer in our own room proves anything.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::message::TwinMessage;

/// Descriptions that are remembered; an echo comes within a round trip.
const MAX_SENT: usize = 8192;

/// At a restart the run before may still be heard for a moment.
const LASTS_FOR: Duration = Duration::from_secs(5);

/// Proof that is older than this belongs to something that is over.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// The descriptions that we sent, as hashes; the oldest go.
#[derive(Debug, Default)]
pub(super) struct SentDescriptions {
    hashes: VecDeque<u64>,
}

impl SentDescriptions {
    /// Remembers what is sent, if it is an offer or an answer.
    pub(super) fn remember(&mut self, data: &Value) {
        let Some(sdp) = description(data) else {
            return;
        };
        if self.hashes.len() >= MAX_SENT {
            self.hashes.pop_front();
        }
        self.hashes.push_back(hash(sdp));
    }

    fn has(&self, sdp: &str) -> bool {
        let hash = hash(sdp);
        self.hashes.iter().rev().any(|sent| *sent == hash)
    }
}

/// True for a message that somebody else sent as `own`. `run_id` is that of our own detections.
pub(super) fn is_foreign(
    message: &TwinMessage,
    own: &str,
    run_id: &str,
    sent: &SentDescriptions,
) -> bool {
    if message.source_twin_id != own {
        return false;
    }
    if message.twin_id != own {
        return description(&message.data).is_some_and(|sdp| !sent.has(sdp));
    }
    message.message_type() == Some("edgeInstance:detections")
        && message
            .data
            .get("data")
            .and_then(|event| event.get("runId")?.as_str())
            .is_some_and(|theirs| theirs != run_id)
}

/// The description of a signal.
fn description(data: &Value) -> Option<&str> {
    let kind = data.get("type")?.as_str()?;
    if !kind.ends_with(":offer") && !kind.ends_with(":answer") {
        return None;
    }
    data.get("data")?.get("sdp")?.as_str()
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// Since when there is proof.
#[derive(Debug, Default)]
pub(super) struct Sightings {
    seen: Option<(Instant, Instant)>,
}

impl Sightings {
    /// Takes a proof; true once there has been proof for longer than a restart takes.
    pub(super) fn proved(&mut self, now: Instant) -> bool {
        let (first, last) = self.seen.get_or_insert((now, now));
        if now.saturating_duration_since(*last) > FORGOTTEN_AFTER {
            *first = now;
        }
        *last = now;
        now.saturating_duration_since(*first) >= LASTS_FOR
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(room: &str, source: &str, data: Value) -> TwinMessage {
        TwinMessage {
            twin_id: room.to_owned(),
            source_twin_id: source.to_owned(),
            source_device_id: String::new(),
            data,
        }
    }

    fn offer(room: &str, sdp: &str) -> Value {
        json!({ "type": format!("media-default-{room}:offer"), "data": { "sdp": sdp, "type": "offer" }, "peerId": "p" })
    }

    #[test]
    fn only_what_we_did_not_send_is_foreign() {
        let mut sent = SentDescriptions::default();
        sent.remember(&offer("cam", "ours"));
        sent.remember(&json!({ "type": "edgeInstance:x", "data": {} }));
        let foreign = |room: &str, source: &str, data: Value| {
            is_foreign(&message(room, source, data), "node", "run-1", &sent)
        };
        assert!(!foreign("cam", "node", offer("cam", "ours")), "an echo");
        assert!(foreign("cam", "node", offer("cam", "theirs")));
        assert!(
            !foreign("cam", "viewer", offer("cam", "theirs")),
            "another viewer"
        );
        assert!(
            !foreign("cam", "cam", offer("cam", "theirs")),
            "a rendezvous initiator"
        );
        assert!(
            !foreign("node", "node", offer("node", "theirs")),
            "one that dials us"
        );
        let detections =
            |run: &str| json!({ "type": "edgeInstance:detections", "data": { "runId": run } });
        assert!(!foreign("node", "node", detections("run-1")), "an echo");
        assert!(foreign("node", "node", detections("run-2")));
        assert!(!foreign("node", "cam", detections("run-2")));
        assert!(!foreign(
            "node",
            "node",
            json!({ "type": "edgeInstance:detections", "data": [] })
        ));
        assert!(!foreign("cam", "node", json!(7)));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut sent = SentDescriptions::default();
        for n in 0..MAX_SENT + 100 {
            sent.remember(&offer("cam", &n.to_string()));
        }
        assert_eq!(sent.hashes.len(), MAX_SENT);
        assert!(!sent.has("0") && sent.has("100"));
    }

    #[test]
    fn a_restart_is_no_second_node() {
        let t = Instant::now();
        let mut sightings = Sightings::default();
        let at = |seconds| t + Duration::from_secs(seconds);
        assert!(!sightings.proved(t));
        assert!(!sightings.proved(at(4)));
        assert!(sightings.proved(at(5)));
        assert!(!sightings.proved(at(100)), "that one is gone");
        assert!(sightings.proved(at(106)));
    }
}
