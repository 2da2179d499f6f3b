//! Engine.IO v4 packets: WebSocket frames come in, typed packets go out, and back. Over WebSocket a
//! frame is a packet: a text frame starts with the packet's type, a binary frame is all payload.
//! See <https://socket.io/docs/v4/engine-io-protocol/>.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;

/// The longest packet that is taken or sent, in bytes.
pub const MAX_PACKET_BYTES: usize = 1 << 20;

/// The longest ping interval or time-out that is believed.
const MAX_HEARTBEAT: Duration = Duration::from_secs(600);

/// What a WebSocket carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A text frame.
    Text(String),
    /// A binary frame.
    Binary(Bytes),
}

/// A packet of the transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// The hub's first packet: its terms.
    Open(Handshake),
    /// The sender will close the socket.
    Close,
    /// Sent by the hub; the text (`probe`, mostly nothing) comes back in the pong.
    Ping(String),
    /// The answer to a ping.
    Pong(String),
    /// A text message for the layer above.
    Message(String),
    /// A binary message for the layer above.
    Binary(Bytes),
    /// Ends the upgrade of a polling transport.
    Upgrade,
    /// Means nothing.
    Noop,
}

/// The terms of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// The session's id.
    pub sid: String,
    /// How often the hub pings.
    pub ping_interval: Duration,
    /// How long beyond the interval silence is tolerated.
    pub ping_timeout: Duration,
    /// The longest message that the hub takes, in bytes.
    pub max_payload: usize,
}

/// Why a frame is no packet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineIoError {
    /// A text frame without a single character.
    #[error("an Engine.IO packet is empty")]
    Empty,
    /// A type that the protocol does not have.
    #[error("an Engine.IO packet has the unknown type {0:?}")]
    UnknownType(char),
    /// More bytes than a packet may have.
    #[error("an Engine.IO packet has {bytes} bytes, more than {MAX_PACKET_BYTES}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The open packet's JSON is not a handshake.
    #[error("an Engine.IO open packet holds no handshake")]
    Handshake,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireHandshake {
    #[serde(default)]
    sid: String,
    ping_interval: u64,
    ping_timeout: u64,
    max_payload: Option<u64>,
}

impl Packet {
    /// Reads the packet of a text frame.
    pub fn decode_text(text: &str) -> Result<Self, EngineIoError> {
        if text.len() > MAX_PACKET_BYTES {
            return Err(EngineIoError::TooLong { bytes: text.len() });
        }
        let mut chars = text.chars();
        let kind = chars.next().ok_or(EngineIoError::Empty)?;
        let rest = chars.as_str();
        match kind {
            '0' => Handshake::decode(rest).map(Self::Open),
            '1' => Ok(Self::Close),
            '2' => Ok(Self::Ping(rest.to_owned())),
            '3' => Ok(Self::Pong(rest.to_owned())),
            '4' => Ok(Self::Message(rest.to_owned())),
            '5' => Ok(Self::Upgrade),
            '6' => Ok(Self::Noop),
            other => Err(EngineIoError::UnknownType(other)),
        }
    }

    /// Reads the packet of a binary frame, which is always a message.
    pub fn decode_binary(data: Bytes) -> Result<Self, EngineIoError> {
        if data.len() > MAX_PACKET_BYTES {
            return Err(EngineIoError::TooLong { bytes: data.len() });
        }
        Ok(Self::Binary(data))
    }

    /// Reads the packet of a frame.
    pub fn decode(frame: Frame) -> Result<Self, EngineIoError> {
        match frame {
            Frame::Text(text) => Self::decode_text(&text),
            Frame::Binary(data) => Self::decode_binary(data),
        }
    }

    /// The frame of the packet.
    pub fn encode(&self) -> Frame {
        Frame::Text(match self {
            Self::Binary(data) => return Frame::Binary(data.clone()),
            Self::Open(handshake) => format!("0{}", handshake.encode()),
            Self::Close => "1".to_owned(),
            Self::Ping(text) => format!("2{text}"),
            Self::Pong(text) => format!("3{text}"),
            Self::Message(text) => format!("4{text}"),
            Self::Upgrade => "5".to_owned(),
            Self::Noop => "6".to_owned(),
        })
    }
}

impl Handshake {
    /// Silence for longer than this means that the link is dead.
    pub fn silence_limit(&self) -> Duration {
        self.ping_interval + self.ping_timeout
    }

    fn decode(json: &str) -> Result<Self, EngineIoError> {
        let wire: WireHandshake =
            serde_json::from_str(json).map_err(|_| EngineIoError::Handshake)?;
        let heartbeat = |ms| Duration::from_millis(ms).min(MAX_HEARTBEAT);
        let max_payload = wire
            .max_payload
            .filter(|bytes| *bytes > 0)
            .and_then(|bytes| usize::try_from(bytes).ok())
            .unwrap_or(MAX_PACKET_BYTES);
        Ok(Self {
            sid: wire.sid,
            ping_interval: heartbeat(wire.ping_interval),
            ping_timeout: heartbeat(wire.ping_timeout),
            max_payload,
        })
    }

    fn encode(&self) -> String {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        serde_json::json!({
            "sid": self.sid,
            "upgrades": [],
            "pingInterval": ms(self.ping_interval),
            "pingTimeout": ms(self.ping_timeout),
            "maxPayload": self.max_payload,
        })
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet() -> impl Strategy<Value = Packet> {
        let handshake = (
            any::<String>(),
            0_u64..600_000,
            0_u64..600_000,
            1_usize..1 << 40,
        )
            .prop_map(|(sid, interval, timeout, max_payload)| {
                Packet::Open(Handshake {
                    sid,
                    ping_interval: Duration::from_millis(interval),
                    ping_timeout: Duration::from_millis(timeout),
                    max_payload,
                })
            });
        prop_oneof![
            handshake,
            Just(Packet::Close),
            Just(Packet::Upgrade),
            Just(Packet::Noop),
            any::<String>().prop_map(Packet::Ping),
            any::<String>().prop_map(Packet::Pong),
            any::<String>().prop_map(Packet::Message),
            prop::collection::vec(any::<u8>(), 0..200).prop_map(|b| Packet::Binary(b.into())),
        ]
    }

    proptest! {
        #[test]
        fn packets_survive_the_wire(packet in packet()) {
            prop_assert_eq!(Packet::decode(packet.encode()), Ok(packet));
        }

        #[test]
        fn no_text_panics(text in any::<String>(), kind in 0_u8..10) {
            let _ = Packet::decode_text(&text);
            let _ = Packet::decode_text(&format!("{kind}{text}"));
        }
    }

    #[test]
    fn reads_the_handshake_of_the_official_servers() {
        let text = r#"0{"sid":"lv_VI97HAXpY6yYWAAAC","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#;
        let Ok(Packet::Open(handshake)) = Packet::decode_text(text) else {
            panic!("not an open packet");
        };
        assert_eq!(handshake.silence_limit(), Duration::from_secs(45));
        assert_eq!(handshake.max_payload, 1_000_000);
    }

    #[test]
    fn refuses_what_is_no_packet() {
        assert_eq!(Packet::decode_text(""), Err(EngineIoError::Empty));
        assert_eq!(
            Packet::decode_text("9"),
            Err(EngineIoError::UnknownType('9'))
        );
        assert_eq!(Packet::decode_text("0{}"), Err(EngineIoError::Handshake));
        let long = "4".repeat(MAX_PACKET_BYTES + 1);
        assert!(matches!(
            Packet::decode_text(&long),
            Err(EngineIoError::TooLong { .. })
        ));
        let long = Bytes::from(vec![0; MAX_PACKET_BYTES + 1]);
        assert!(matches!(
            Packet::decode_binary(long),
            Err(EngineIoError::TooLong { .. })
        ));
    }

    #[test]
    fn a_handshake_cannot_switch_the_heartbeat_off() {
        let text = r#"0{"pingInterval":18446744073709551615,"pingTimeout":18446744073709551615}"#;
        let Ok(Packet::Open(handshake)) = Packet::decode_text(text) else {
            panic!("not an open packet");
        };
        assert_eq!(handshake.silence_limit(), MAX_HEARTBEAT * 2);
    }
}
