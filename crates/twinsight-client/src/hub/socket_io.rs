//! Socket.IO v5 packets: the messages of Engine.IO come in, typed packets go out, and back. A packet
//! with binary attachments spans several messages; the [`Assembler`] holds it until it is whole.
//! See <https://socket.io/docs/v4/socket-io-protocol/>.

use std::fmt::Write;

use bytes::Bytes;
use serde_json::Value;

/// The most bytes of a packet, attachments included.
pub const MAX_PACKET_BYTES: usize = super::engine_io::MAX_PACKET_BYTES;

/// The most binary attachments of a packet.
pub const MAX_ATTACHMENTS: usize = 10;

/// The namespace that everything of the hub happens in.
pub const ROOT: &str = "/";

/// A packet and the namespace that it belongs to.
#[derive(Debug, Clone, PartialEq)]
pub struct Packet {
    /// `/`, or another that starts with `/` and holds no comma.
    pub namespace: String,
    /// What it says.
    pub body: Body,
}

/// What a packet says.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// Asks to join the namespace (with credentials), or grants it (with a session id).
    Connect(Option<Value>),
    /// Leaves the namespace, or throws out.
    Disconnect,
    /// An event.
    Event(Event),
    /// The acknowledgement of an event.
    Ack(Ack),
    /// The namespace was refused.
    ConnectError(Value),
}

/// An event: its name and arguments.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The event's name.
    pub name: String,
    /// Its arguments; binary ones are `{"_placeholder": true, "num": index}`.
    pub args: Vec<Value>,
    /// The id under which the sender awaits an acknowledgement.
    pub ack: Option<u64>,
    /// The binary arguments.
    pub attachments: Vec<Bytes>,
}

/// The acknowledgement of an event.
#[derive(Debug, Clone, PartialEq)]
pub struct Ack {
    /// The id that the event had.
    pub id: u64,
    /// The answer.
    pub args: Vec<Value>,
    /// The answer's binary arguments.
    pub attachments: Vec<Bytes>,
}

/// Why a message is no packet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SocketIoError {
    /// A message without a single character.
    #[error("a Socket.IO packet is empty")]
    Empty,
    /// A type that the protocol does not have.
    #[error("a Socket.IO packet has the unknown type {0:?}")]
    UnknownType(char),
    /// The number of attachments is missing or no number.
    #[error("a binary Socket.IO packet does not say how many attachments it has")]
    AttachmentCount,
    /// More attachments than are taken.
    #[error("a Socket.IO packet announces {count} attachments, more than {MAX_ATTACHMENTS}")]
    TooManyAttachments {
        /// How many it announces.
        count: usize,
    },
    /// More bytes than are taken.
    #[error("a Socket.IO packet has {bytes} bytes, more than {MAX_PACKET_BYTES}")]
    TooLong {
        /// How many so far.
        bytes: usize,
    },
    /// A namespace without its comma.
    #[error("a Socket.IO packet has a namespace without an end")]
    Namespace,
    /// The id is no number or missing where one must be.
    #[error("a Socket.IO packet has no usable acknowledgement id")]
    AckId,
    /// The payload is not the JSON that the packet's type wants.
    #[error("a Socket.IO packet of type {kind} holds {found}")]
    Payload {
        /// The packet's type.
        kind: &'static str,
        /// What it holds instead.
        found: &'static str,
    },
    /// A binary message that no packet announced.
    #[error("a binary message came that no Socket.IO packet announced")]
    UnexpectedAttachment,
    /// The next packet began before all attachments had come.
    #[error("a Socket.IO packet lacks {missing} of its attachments")]
    MissingAttachments {
        /// How many had not come.
        missing: usize,
    },
}

/// Puts packets together from text messages and the attachments that follow them.
#[derive(Debug, Default)]
pub struct Assembler {
    waiting: Option<Partial>,
}

#[derive(Debug)]
struct Partial {
    packet: Packet,
    missing: usize,
    bytes: usize,
}

/// Writes a value behind a text, without a text of its own in between.
fn append(text: &mut String, value: &Value) {
    write!(text, "{value}").expect("a text takes all that is written, because it grows");
}

impl Packet {
    /// A packet of the root namespace.
    pub fn root(body: Body) -> Self {
        Self {
            namespace: ROOT.to_owned(),
            body,
        }
    }

    /// An event of the root namespace without attachments.
    pub fn event(name: impl Into<String>, args: Vec<Value>, ack: Option<u64>) -> Self {
        Self::root(Body::Event(Event {
            name: name.into(),
            args,
            ack,
            attachments: Vec::new(),
        }))
    }

    /// The acknowledgement of an event of the root namespace.
    pub fn ack(id: u64, args: Vec<Value>) -> Self {
        Self::root(Body::Ack(Ack {
            id,
            args,
            attachments: Vec::new(),
        }))
    }

    /// The packet's text and the attachments to send after it.
    pub fn encode(&self) -> (String, &[Bytes]) {
        let attachments = match &self.body {
            Body::Event(event) => event.attachments.as_slice(),
            Body::Ack(ack) => ack.attachments.as_slice(),
            Body::Connect(_) | Body::Disconnect | Body::ConnectError(_) => &[],
        };
        let mut text = String::new();
        text.push(match (&self.body, attachments.is_empty()) {
            (Body::Connect(_), _) => '0',
            (Body::Disconnect, _) => '1',
            (Body::Event(_), true) => '2',
            (Body::Ack(_), true) => '3',
            (Body::ConnectError(_), _) => '4',
            (Body::Event(_), false) => '5',
            (Body::Ack(_), false) => '6',
        });
        if !attachments.is_empty() {
            text.push_str(&format!("{}-", attachments.len()));
        }
        if self.namespace != ROOT {
            text.push_str(&self.namespace);
            text.push(',');
        }
        match &self.body {
            Body::Connect(Some(data)) | Body::ConnectError(data) => {
                append(&mut text, data);
            }
            Body::Connect(None) | Body::Disconnect => {}
            Body::Event(event) => {
                if let Some(id) = event.ack {
                    text.push_str(&id.to_string());
                }
                text.push('[');
                append(&mut text, &Value::from(event.name.as_str()));
                for arg in &event.args {
                    text.push(',');
                    append(&mut text, arg);
                }
                text.push(']');
            }
            Body::Ack(ack) => {
                text.push_str(&ack.id.to_string());
                text.push('[');
                for (index, arg) in ack.args.iter().enumerate() {
                    if index > 0 {
                        text.push(',');
                    }
                    append(&mut text, arg);
                }
                text.push(']');
            }
        }
        (text, attachments)
    }

    /// Reads a text message; the number is how many attachments follow.
    fn decode(text: &str) -> Result<(Self, usize), SocketIoError> {
        let mut chars = text.chars();
        let kind = chars.next().ok_or(SocketIoError::Empty)?;
        let mut rest = chars.as_str();
        let mut attachments = 0;
        if matches!(kind, '5' | '6') {
            let (count, after) = rest.split_once('-').ok_or(SocketIoError::AttachmentCount)?;
            attachments = parse_digits(count).ok_or(SocketIoError::AttachmentCount)?;
            if attachments > MAX_ATTACHMENTS {
                return Err(SocketIoError::TooManyAttachments { count: attachments });
            }
            rest = after;
        }
        let mut namespace = ROOT;
        if rest.starts_with('/') {
            // DISCONNECT of a namespace may end without the comma.
            let (name, after) = match rest.split_once(',') {
                Some(parts) => parts,
                None if matches!(kind, '0' | '1') => (rest, ""),
                None => return Err(SocketIoError::Namespace),
            };
            (namespace, rest) = (name, after);
        }
        let body = match kind {
            '0' if rest.is_empty() => Body::Connect(None),
            '0' => Body::Connect(Some(parse_json(rest, "CONNECT")?)),
            '1' => Body::Disconnect,
            '2' | '5' => Body::Event(Event::decode(rest)?),
            '3' | '6' => Body::Ack(Ack::decode(rest)?),
            '4' if rest.is_empty() => Body::ConnectError(Value::Null),
            '4' => Body::ConnectError(parse_json(rest, "CONNECT_ERROR")?),
            other => return Err(SocketIoError::UnknownType(other)),
        };
        Ok((
            Self {
                namespace: namespace.to_owned(),
                body,
            },
            attachments,
        ))
    }

    fn attach(&mut self, data: Bytes) {
        match &mut self.body {
            Body::Event(event) => event.attachments.push(data),
            Body::Ack(ack) => ack.attachments.push(data),
            Body::Connect(_) | Body::Disconnect | Body::ConnectError(_) => {}
        }
    }
}

impl Event {
    fn decode(text: &str) -> Result<Self, SocketIoError> {
        let (ack, json) = split_id(text)?;
        let mut args = parse_array(json, "EVENT")?.into_iter();
        let Some(Value::String(name)) = args.next() else {
            return Err(SocketIoError::Payload {
                kind: "EVENT",
                found: "no event name",
            });
        };
        Ok(Self {
            name,
            args: args.collect(),
            ack,
            attachments: Vec::new(),
        })
    }
}

impl Ack {
    fn decode(text: &str) -> Result<Self, SocketIoError> {
        let (id, json) = split_id(text)?;
        Ok(Self {
            id: id.ok_or(SocketIoError::AckId)?,
            args: parse_array(json, "ACK")?,
            attachments: Vec::new(),
        })
    }
}

impl Assembler {
    /// Takes a text message. `None` means that attachments must come first.
    ///
    /// # Errors
    /// If the text is no packet, or if the packet before it lacks attachments: that one is given up
    /// and the text should be passed in again.
    pub fn text(&mut self, text: &str) -> Result<Option<Packet>, SocketIoError> {
        if let Some(partial) = self.waiting.take() {
            return Err(SocketIoError::MissingAttachments {
                missing: partial.missing,
            });
        }
        if text.len() > MAX_PACKET_BYTES {
            return Err(SocketIoError::TooLong { bytes: text.len() });
        }
        let (packet, missing) = Packet::decode(text)?;
        if missing == 0 {
            return Ok(Some(packet));
        }
        self.waiting = Some(Partial {
            packet,
            missing,
            bytes: text.len(),
        });
        Ok(None)
    }

    /// Takes a binary message, the next attachment.
    pub fn binary(&mut self, data: Bytes) -> Result<Option<Packet>, SocketIoError> {
        let Some(mut partial) = self.waiting.take() else {
            return Err(SocketIoError::UnexpectedAttachment);
        };
        partial.bytes = partial.bytes.saturating_add(data.len());
        if partial.bytes > MAX_PACKET_BYTES {
            return Err(SocketIoError::TooLong {
                bytes: partial.bytes,
            });
        }
        partial.packet.attach(data);
        partial.missing -= 1;
        if partial.missing == 0 {
            return Ok(Some(partial.packet));
        }
        self.waiting = Some(partial);
        Ok(None)
    }

    /// True while a packet lacks attachments.
    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }
}

/// An optional number before the JSON.
fn split_id(text: &str) -> Result<(Option<u64>, &str), SocketIoError> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, json) = text.split_at(end);
    if digits.is_empty() {
        return Ok((None, json));
    }
    match digits.parse() {
        Ok(id) => Ok((Some(id), json)),
        Err(_) => Err(SocketIoError::AckId),
    }
}

/// A number of decimal digits and nothing else (`str::parse` takes a sign).
fn parse_digits(text: &str) -> Option<usize> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn parse_json(text: &str, kind: &'static str) -> Result<Value, SocketIoError> {
    serde_json::from_str(text).map_err(|_| SocketIoError::Payload {
        kind,
        found: "no JSON",
    })
}

fn parse_array(text: &str, kind: &'static str) -> Result<Vec<Value>, SocketIoError> {
    match parse_json(text, kind)? {
        Value::Array(items) => Ok(items),
        _ => Err(SocketIoError::Payload {
            kind,
            found: "JSON that is no array",
        }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn decode_all(text: &str, attachments: &[Bytes]) -> Result<Option<Packet>, SocketIoError> {
        let mut assembler = Assembler::default();
        let mut packet = assembler.text(text)?;
        for data in attachments {
            assert_eq!(packet, None);
            packet = assembler.binary(data.clone())?;
        }
        Ok(packet)
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn packet() -> impl Strategy<Value = Packet> {
        let args = || prop::collection::vec(json_value(), 0..4);
        let attachments = || {
            prop::collection::vec(
                prop::collection::vec(any::<u8>(), 0..50).prop_map(Bytes::from),
                0..=MAX_ATTACHMENTS,
            )
        };
        let body = prop_oneof![
            // A bare null would read back as `Some(Null)`, which is what it says.
            prop::option::of(json_value()).prop_map(Body::Connect),
            Just(Body::Disconnect),
            (any::<String>(), args(), any::<Option<u64>>(), attachments()).prop_map(
                |(name, args, ack, attachments)| Body::Event(Event {
                    name,
                    args,
                    ack,
                    attachments
                })
            ),
            (any::<u64>(), args(), attachments()).prop_map(|(id, args, attachments)| {
                Body::Ack(Ack {
                    id,
                    args,
                    attachments,
                })
            }),
            json_value().prop_map(Body::ConnectError),
        ];
        ("/|/[a-z0-9/]{1,8}", body).prop_map(|(namespace, body)| Packet { namespace, body })
    }

    proptest! {
        #[test]
        fn packets_survive_the_wire(packet in packet()) {
            let (text, attachments) = packet.encode();
            prop_assert_eq!(decode_all(&text, attachments), Ok(Some(packet.clone())));
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = decode_all(&text, &[]);
        }

        #[test]
        fn nothing_that_looks_like_a_packet_panics(
            text in "[0-9]?[0-9]{0,3}-?(/[a-z,]{0,3})?,?[0-9]{0,25}[\\[{\",a\\]}]{0,6}",
            data in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let mut assembler = Assembler::default();
            let _ = assembler.text(&text);
            let _ = assembler.binary(data.into());
            let _ = assembler.text(&text);
        }
    }

    #[test]
    fn reads_the_examples_of_the_protocol() {
        let packet = decode_all(r#"212["foo"]"#, &[]);
        assert_eq!(packet, Ok(Some(Packet::event("foo", vec![], Some(12)))));
        let packet = decode_all(r#"313["bar"]"#, &[]);
        assert_eq!(packet, Ok(Some(Packet::ack(13, vec![json!("bar")]))));
        let Ok(Some(packet)) = decode_all(r#"0/admin,{"sid":"x"}"#, &[]) else {
            panic!("not a packet");
        };
        assert_eq!(packet.namespace, "/admin");
        let binary = [Bytes::from_static(&[1, 2, 3])];
        let Ok(Some(packet)) = decode_all(r#"51-["hello",{"_placeholder":true,"num":0}]"#, &binary)
        else {
            panic!("not a packet");
        };
        let Body::Event(event) = packet.body else {
            panic!("not an event");
        };
        assert_eq!(
            (event.name.as_str(), event.attachments),
            ("hello", binary.to_vec())
        );
    }

    #[test]
    fn refuses_what_is_no_packet() {
        let error = |text: &str| decode_all(text, &[]).unwrap_err();
        assert_eq!(error(""), SocketIoError::Empty);
        assert_eq!(error("7"), SocketIoError::UnknownType('7'));
        assert_eq!(error("5[]"), SocketIoError::AttachmentCount);
        assert_eq!(error("5+1-[]"), SocketIoError::AttachmentCount);
        assert_eq!(
            error("511-[\"a\"]"),
            SocketIoError::TooManyAttachments { count: 11 }
        );
        assert_eq!(error("2/chat[\"a\"]"), SocketIoError::Namespace);
        assert_eq!(error("3[]"), SocketIoError::AckId);
        assert_eq!(error("399999999999999999999[]"), SocketIoError::AckId);
        assert!(matches!(error("2[]"), SocketIoError::Payload { .. }));
        assert!(matches!(error("2[1]"), SocketIoError::Payload { .. }));
        assert!(matches!(error("2{}"), SocketIoError::Payload { .. }));
        assert!(matches!(error("2[\"a\""), SocketIoError::Payload { .. }));
        // Deeper than the JSON parser goes.
        let deep = format!("2[\"a\",{}", "[".repeat(100_000));
        assert!(matches!(error(&deep), SocketIoError::Payload { .. }));
    }

    #[test]
    fn attachments_are_limited_and_must_be_announced() {
        let mut assembler = Assembler::default();
        assert_eq!(
            assembler.binary(Bytes::new()),
            Err(SocketIoError::UnexpectedAttachment)
        );
        assert_eq!(assembler.text("52-[\"a\"]"), Ok(None));
        assert_eq!(
            assembler.binary(Bytes::from(vec![0; MAX_PACKET_BYTES])),
            Err(SocketIoError::TooLong {
                bytes: MAX_PACKET_BYTES + 8
            })
        );
        assert!(!assembler.is_waiting());
        assert_eq!(assembler.text("52-[\"a\"]"), Ok(None));
        assert_eq!(assembler.binary(Bytes::new()), Ok(None));
        assert_eq!(
            assembler.text("2[\"b\"]"),
            Err(SocketIoError::MissingAttachments { missing: 1 })
        );
        assert_eq!(
            assembler.text("2[\"b\"]"),
            Ok(Some(Packet::event("b", vec![], None)))
        );
    }
}
