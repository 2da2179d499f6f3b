//! Signals, by which peers find each other through the hub: the `data` of a twin message comes in and a [`SignalEnvelope`] goes
//! out, and the other way round. Such data is `{"type": "PREFIX-NAME-TARGET:SIGNAL", "data": …, "peerId": …}`. Links and
//! acceptors call it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::sdp::{Description, SdpError};
use crate::dialect::Dialect;
pub use crate::hub::connection_events::ChannelKind;

/// A candidate line larger than this is refused.
const MAX_CANDIDATE_BYTES: usize = 2 * 1024;

/// A `peerId` longer than this is refused; ours have 32 digits.
const MAX_PEER_ID_BYTES: usize = 128;

/// The names of the signals of one channel or stream, as one side sends and receives them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignalNames {
    /// The twin that our signals are sent to: the other side's, or in the legacy dialect the one whose room both sides share.
    room: String,
    incoming: String,
    outgoing: String,
    dialect: Dialect,
}

/// The content of a signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// The initiator's description.
    Offer {
        /// Its offer.
        sdp: Description,
    },
    /// The responder's description.
    Answer {
        /// Its answer.
        sdp: Description,
    },
    /// A trickled candidate.
    Ice(Candidate),
}

/// An ICE candidate as it travels in an `ice` signal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// The candidate attribute; empty means the end of candidates.
    #[serde(default)]
    pub candidate: String,
    /// The media section it belongs to.
    #[serde(default)]
    pub sdp_mid: Option<String>,
    /// The index of that section.
    #[serde(default, rename = "sdpMLineIndex")]
    pub sdp_mline_index: Option<u16>,
    /// The ICE generation it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username_fragment: Option<String>,
}

/// A signal, and the id of the connection that it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignalEnvelope {
    /// The signal.
    pub signal: Signal,
    /// The id that the initiator has minted; absent in the legacy dialect and from plain responders.
    pub peer_id: Option<String>,
}

/// Why a signal addressed to us cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignalError {
    /// The description is missing, or of the wrong type.
    #[error("its session description is missing, or not of the signal's type")]
    Description,
    /// The description cannot be read.
    #[error("its session description cannot be read: {0}")]
    Sdp(#[from] SdpError),
    /// The candidate is not an object with the known fields, or too large.
    #[error("its candidate cannot be read")]
    Candidate,
    /// It is neither an offer, nor an answer, nor a candidate.
    #[error("it is of no known kind")]
    Kind,
    /// The `peerId` is not a short string.
    #[error("its peerId is not a short string")]
    PeerId,
}

impl SignalNames {
    /// The names for a channel or stream between our twin and another one.
    ///
    /// `responder` is the twin that answers: in the legacy dialect both sides use its room.
    pub fn new(
        kind: ChannelKind,
        dialect: Dialect,
        name: &str,
        own: &str,
        other: &str,
        responder: &str,
    ) -> Self {
        let prefix = match (kind, dialect) {
            (ChannelKind::Media, Dialect::Current) => format!("media-{name}-"),
            (ChannelKind::Data, Dialect::Current) => format!("dc-{name}-"),
            (ChannelKind::Media, Dialect::Legacy) => "media-".to_owned(),
            (ChannelKind::Data, Dialect::Legacy) => "channel-".to_owned(),
        };
        let (room, incoming_target) = match dialect {
            Dialect::Current => (other, own),
            Dialect::Legacy => (responder, responder),
        };
        Self {
            room: room.to_owned(),
            incoming: format!("{prefix}{incoming_target}:"),
            outgoing: format!("{prefix}{room}:"),
            dialect,
        }
    }

    /// The twin id that our signals are sent to.
    pub fn room(&self) -> &str {
        &self.room
    }

    /// True if the type of a twin message's data is one of these names. It is called for every message, so it leaves reading the
    /// content to [`parse`](Self::parse), which runs on the task that the signal is for.
    pub fn matches(&self, data: &Value) -> bool {
        let kind = data.get("type").and_then(Value::as_str);
        kind.is_some_and(|kind| kind.starts_with(&self.incoming))
    }

    /// Reads the signal in a twin message's data; none if its type is not one of these names.
    pub fn parse(&self, data: &Value) -> Option<Result<SignalEnvelope, SignalError>> {
        let kind = data.get("type")?.as_str()?.strip_prefix(&self.incoming)?;
        Some(parse_content(kind, data))
    }

    /// The data of a twin message that carries a signal.
    pub fn encode(&self, signal: &Signal, peer_id: Option<&str>) -> Value {
        let (kind, content) = match signal {
            Signal::Offer { sdp } => ("offer", json!({"sdp": sdp.as_str(), "type": "offer"})),
            Signal::Answer { sdp } => ("answer", json!({"sdp": sdp.as_str(), "type": "answer"})),
            Signal::Ice(candidate) => ("ice", json!(candidate)),
        };
        let mut data = json!({"type": format!("{}{kind}", self.outgoing), "data": content});
        if let (Dialect::Current, Some(peer_id)) = (self.dialect, peer_id) {
            data["peerId"] = json!(peer_id);
        }
        data
    }
}

/// A new `peerId`: 32 hexadecimal digits.
pub fn mint_peer_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

fn parse_content(kind: &str, data: &Value) -> Result<SignalEnvelope, SignalError> {
    let content = data.get("data").unwrap_or(&Value::Null);
    let signal = match kind {
        "offer" => Signal::Offer {
            sdp: parse_sdp(content, "offer")?,
        },
        "answer" => Signal::Answer {
            sdp: parse_sdp(content, "answer")?,
        },
        "ice" => Signal::Ice(parse_candidate(content)?),
        _ => return Err(SignalError::Kind),
    };
    let peer_id = match data.get("peerId") {
        None | Some(Value::Null) => None,
        Some(Value::String(id)) if id.len() <= MAX_PEER_ID_BYTES => Some(id.clone()),
        Some(_) => return Err(SignalError::PeerId),
    };
    Ok(SignalEnvelope { signal, peer_id })
}

fn parse_sdp(content: &Value, kind: &str) -> Result<Description, SignalError> {
    let sdp = content
        .get("sdp")
        .and_then(Value::as_str)
        .ok_or(SignalError::Description)?;
    let stated = content.get("type").and_then(Value::as_str).unwrap_or(kind);
    if stated != kind {
        return Err(SignalError::Description);
    }
    // A description that cannot be read is refused here, before it can replace an attempt.
    Ok(Description::parse(sdp)?)
}

fn parse_candidate(content: &Value) -> Result<Candidate, SignalError> {
    if content.is_null() {
        return Ok(Candidate {
            candidate: String::new(),
            sdp_mid: None,
            sdp_mline_index: None,
            username_fragment: None,
        });
    }
    let candidate = Candidate::deserialize(content).map_err(|_| SignalError::Candidate)?;
    let bytes = candidate.candidate.len()
        + candidate.sdp_mid.as_ref().map_or(0, String::len)
        + candidate.username_fragment.as_ref().map_or(0, String::len);
    if bytes > MAX_CANDIDATE_BYTES {
        Err(SignalError::Candidate)
    } else {
        Ok(candidate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SDP: &str = "v=0\r\na=ice-ufrag:abcd\r\n";

    fn sdp() -> Description {
        Description::parse(SDP).unwrap()
    }

    fn dialling(dialect: Dialect) -> SignalNames {
        SignalNames::new(
            ChannelKind::Media,
            dialect,
            "default",
            "node-1",
            "cam",
            "cam",
        )
    }

    #[test]
    fn the_current_dialect_names_the_receiver() {
        let node = dialling(Dialect::Current);
        let offer = Signal::Offer { sdp: sdp() };
        let data = node.encode(&offer, Some("p"));
        assert_eq!(node.room(), "cam");
        assert_eq!(
            data,
            json!({"type": "media-default-cam:offer", "data": {"sdp": SDP, "type": "offer"}, "peerId": "p"})
        );
        let camera = SignalNames::new(
            ChannelKind::Media,
            Dialect::Current,
            "default",
            "cam",
            "node-1",
            "cam",
        );
        assert_eq!(
            camera.parse(&data),
            Some(Ok(SignalEnvelope {
                signal: offer,
                peer_id: Some("p".to_owned())
            }))
        );
        assert_eq!(
            node.parse(&data),
            None,
            "a viewer's offer in the camera's room is not ours"
        );
    }

    #[test]
    fn the_legacy_dialect_has_one_room_for_both() {
        let node = dialling(Dialect::Legacy);
        let data = node.encode(&Signal::Offer { sdp: sdp() }, Some("p"));
        assert_eq!(
            (node.room(), data["type"].as_str(), data.get("peerId")),
            ("cam", Some("media-cam:offer"), None)
        );
        let answer = json!({"type": "media-cam:answer", "data": {"sdp": SDP, "type": "answer"}});
        assert!(matches!(
            node.parse(&answer),
            Some(Ok(SignalEnvelope {
                signal: Signal::Answer { .. },
                peer_id: None
            }))
        ));
    }

    #[test]
    fn one_name_is_not_mistaken_for_another_that_begins_like_it() {
        let other = json!({"type": "media-default-2-node-1:answer", "data": {"sdp": SDP}});
        assert_eq!(dialling(Dialect::Current).parse(&other), None);
    }

    #[test]
    fn broken_signals_are_errors() {
        let names = dialling(Dialect::Current);
        let parse = |kind: &str, data: Value| {
            names.parse(&json!({"type": format!("media-default-node-1:{kind}"), "data": data}))
        };
        assert_eq!(
            parse("offer", json!({"sdp": "v=0", "type": "offer"})),
            Some(Err(SignalError::Sdp(SdpError::IceUfrag))),
            "no ICE generation"
        );
        assert_eq!(
            parse("answer", json!("text")),
            Some(Err(SignalError::Description))
        );
        assert_eq!(
            parse("answer", json!({"sdp": SDP, "type": "offer"})),
            Some(Err(SignalError::Description))
        );
        assert_eq!(
            parse(
                "answer",
                json!({"sdp": format!("{SDP}{}", "a=x\n".repeat(20_000))})
            ),
            Some(Err(SignalError::Sdp(SdpError::Bytes(SDP.len() + 80_000))))
        );
        assert_eq!(
            parse("ice", json!({"candidate": 7})),
            Some(Err(SignalError::Candidate))
        );
        assert_eq!(
            parse(
                "ice",
                json!({"candidate": "x".repeat(MAX_CANDIDATE_BYTES + 1)})
            ),
            Some(Err(SignalError::Candidate))
        );
        assert_eq!(parse("bye", json!({})), Some(Err(SignalError::Kind)));
        let data =
            json!({"type": "media-default-node-1:answer", "data": {"sdp": SDP}, "peerId": 7});
        assert_eq!(names.parse(&data), Some(Err(SignalError::PeerId)));
    }

    #[test]
    fn minted_ids_have_32_digits_and_differ() {
        let (a, b) = (mint_peer_id(), mint_peer_id());
        assert!(a.len() == 32 && a.bytes().all(|c| c.is_ascii_hexdigit()) && a != b);
    }

    proptest! {
        #[test]
        fn signals_survive_the_wire(tail in "[ -~]{1,80}", mid in proptest::option::of("[0-9]{1,2}"), index in proptest::option::of(0_u16..9)) {
            let node = dialling(Dialect::Current);
            let camera = SignalNames::new(ChannelKind::Media, Dialect::Current, "default", "cam", "node-1", "cam");
            let sdp = Description::parse(&format!("{SDP}a={tail}\r\n")).unwrap();
            let ice = Candidate { candidate: tail, sdp_mid: mid, sdp_mline_index: index, username_fragment: None };
            for signal in [Signal::Offer { sdp: sdp.clone() }, Signal::Answer { sdp: sdp.clone() }, Signal::Ice(ice)] {
                let parsed = camera.parse(&node.encode(&signal, None));
                prop_assert_eq!(parsed, Some(Ok(SignalEnvelope { signal, peer_id: None })));
            }
        }
    }
}
