//! Whose signals a link accepts: a twin message comes in, yes or no goes out. The hub client's task runs it. Most links are
//! a camera's, so the peer is called the camera here.

use std::sync::Arc;

use crate::hub::message::TwinMessage;

/// Whose signals a link accepts. The names of signals do not tell peers apart: the offers of all cameras that dial us have the
/// same names, and so have the answers of all cameras that we dial.
pub(super) enum SourceFilter {
    /// Every source, in the legacy dialect: its room is the camera's own.
    Anybody,
    /// The camera alone, or also a twin that signs with our own id.
    Camera {
        camera: Arc<str>,
        or_unsigned: Option<String>,
    },
    /// The camera, and anybody who knows the `peerId` that we minted: some cameras sign their answer with another twin.
    Answering {
        camera: Arc<str>,
        peer_id: Option<String>,
    },
}

impl SourceFilter {
    pub(super) fn include(&self, message: &TwinMessage) -> bool {
        let source = message.source_twin_id.as_str();
        match self {
            Self::Anybody => true,
            Self::Camera {
                camera,
                or_unsigned,
            } => source == &**camera || or_unsigned.as_deref() == Some(source),
            Self::Answering { camera, peer_id } => {
                let theirs = message
                    .data
                    .get("peerId")
                    .and_then(serde_json::Value::as_str);
                source == &**camera || (theirs.is_some() && theirs == peer_id.as_deref())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn message(source: &str, data: Value) -> TwinMessage {
        TwinMessage {
            twin_id: "node".to_owned(),
            source_twin_id: source.to_owned(),
            source_device_id: String::new(),
            data,
        }
    }

    #[test]
    fn an_answer_is_taken_from_its_camera_or_by_its_peer_id() {
        let senders = SourceFilter::Answering {
            camera: "cam-a".into(),
            peer_id: Some("p".to_owned()),
        };
        assert!(senders.include(&message("cam-a", json!({}))));
        assert!(senders.include(&message("edge-of-a", json!({"peerId": "p"}))));
        assert!(
            !senders.include(&message("cam-b", json!({}))),
            "another plain responder's"
        );
        assert!(!senders.include(&message("cam-b", json!({"peerId": "q"}))));
    }

    #[test]
    fn an_offer_is_taken_from_its_camera_and_unsigned_only_where_allowed() {
        let senders = |own: Option<&str>| SourceFilter::Camera {
            camera: "cam-a".into(),
            or_unsigned: own.map(str::to_owned),
        };
        assert!(senders(None).include(&message("cam-a", json!({}))));
        assert!(!senders(None).include(&message("node", json!({}))));
        assert!(senders(Some("node")).include(&message("node", json!({}))));
        assert!(!senders(Some("node")).include(&message("cam-b", json!({}))));
    }
}
