//! The life of a hub connection, sans-IO: frames, calls and the time come in; frames to write,
//! messages, answers and the state come out of [`Session::poll`]. One session lives as long as the
//! client and remembers the subscriptions across sockets; the client's task runs it.

mod calls;
mod joining;
mod output;
mod subscriptions;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Instant;

use bytes::Bytes;
use serde_json::{Map, Value};

pub use self::calls::encode_call;
use self::calls::{Awaits, Pending, frame};
pub use self::output::Output;
use super::answer::{CallError, failed};
use super::away_reason::AwayReason;
use super::engine_io::{self, Handshake};
use super::message::{Twin, TwinMessage, TwinUpdate};
use super::profile::Profile;
use super::socket_io::{Assembler, Body, Event, Packet, SocketIoError};
use crate::secret::Secret;

/// A ping's text comes back in the pong; no hub sends more than a word.
const MAX_PING_BYTES: usize = 125;

/// A hub connection and what outlives it. `T` identifies a call to its caller.
#[derive(Debug)]
pub struct Session<T> {
    profile: Profile,
    stage: Stage,
    own_twin_id: String,
    /// By twin, how many want it.
    subscriptions: BTreeMap<String, usize>,
    /// Subscriptions that the hub did not grant, and when they are asked for again.
    refused: BTreeSet<String>,
    ask_again_at: Option<Instant>,
    assembler: Assembler,
    handshake: Option<Handshake>,
    silent_since: Instant,
    pending: HashMap<u64, Pending<T>>,
    next_ack: u64,
    outputs: VecDeque<Output<T>>,
}

/// How far joining the hub has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// There is no socket, or none worth keeping.
    Away,
    /// The socket is open, the hub's terms are awaited until then.
    Opening(Instant),
    /// The terms are known, the namespace is awaited until then.
    Connecting(Instant),
    /// Direct mode: `deviceAuthenticated` is awaited until then.
    Authenticating(Instant),
    /// An acknowledgement of joining is awaited.
    Joining,
    /// The own twin is subscribed.
    Joined,
}

impl<T> Session<T> {
    /// A session without a socket.
    pub fn new(profile: Profile, now: Instant) -> Self {
        Self {
            own_twin_id: profile.twin_id.clone(),
            profile,
            stage: Stage::Away,
            subscriptions: BTreeMap::new(),
            refused: BTreeSet::new(),
            ask_again_at: None,
            assembler: Assembler::default(),
            handshake: None,
            silent_since: now,
            pending: HashMap::new(),
            next_ack: 0,
            outputs: VecDeque::new(),
        }
    }

    /// What is to be done next; ask until there is nothing.
    pub fn poll(&mut self) -> Option<Output<T>> {
        self.outputs.pop_front()
    }

    /// True from `Joined` to the loss of the connection.
    pub fn is_joined(&self) -> bool {
        self.stage == Stage::Joined
    }

    /// The own twin; empty in direct mode until the hub has told it.
    pub fn own_twin_id(&self) -> &str {
        &self.own_twin_id
    }

    /// The longest message that both sides take, in bytes.
    pub fn max_message_bytes(&self) -> usize {
        self.handshake
            .as_ref()
            .map_or(engine_io::MAX_PACKET_BYTES, |h| {
                h.max_payload.min(engine_io::MAX_PACKET_BYTES)
            })
    }

    /// The key for the next connections.
    pub fn set_access_key(&mut self, key: Secret) {
        self.profile.access_key = Some(key);
    }

    /// The key that connections are made with.
    pub fn access_key(&self) -> Option<&Secret> {
        self.profile.access_key.as_ref()
    }

    /// A WebSocket is open; dialling began at `started_at`.
    pub fn opened(&mut self, started_at: Instant, now: Instant) {
        self.disconnected();
        self.assembler = Assembler::default();
        self.handshake = None;
        self.silent_since = now;
        self.stage = Stage::Opening(started_at + self.profile.connect_limit);
    }

    /// The WebSocket is gone: whoever awaits an answer gets none.
    pub fn disconnected(&mut self) {
        self.stage = Stage::Away;
        self.refused.clear();
        self.ask_again_at = None;
        for (_, pending) in self.pending.drain() {
            if let Awaits::Call(token) | Awaits::Subscription(_, Some(token)) = pending.awaits {
                self.outputs.push_back(Output::Answer {
                    token,
                    result: Err(CallError::Disconnected),
                });
            }
        }
    }

    /// A text frame came.
    pub fn text(&mut self, text: &str, now: Instant) {
        if self.stage == Stage::Away {
            return;
        }
        self.silent_since = now;
        match engine_io::Packet::decode_text(text) {
            Ok(packet) => self.engine_packet(packet, now),
            Err(error) => self.malformed(error),
        }
    }

    /// A binary frame came.
    pub fn binary(&mut self, data: Bytes, now: Instant) {
        if self.stage == Stage::Away {
            return;
        }
        self.silent_since = now;
        match engine_io::Packet::decode_binary(data) {
            Ok(packet) => self.engine_packet(packet, now),
            Err(error) => self.malformed(error),
        }
    }

    /// Nothing was read until now, so the hub's silence begins here.
    pub fn did_not_listen(&mut self, now: Instant) {
        self.silent_since = now;
    }

    /// When [`Session::tick`] has something to do at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        let own = match self.stage {
            Stage::Away => return None,
            Stage::Opening(until) | Stage::Connecting(until) | Stage::Authenticating(until) => {
                Some(until)
            }
            Stage::Joining | Stage::Joined => None,
        };
        let silence = self
            .handshake
            .as_ref()
            .map(|h| self.silent_since + h.silence_limit());
        let acks = self.pending.values().map(|p| p.expires_at).min();
        [own, silence, acks, self.ask_again_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// Ends what has waited too long at `now`; call it at [`Session::deadline`].
    pub fn tick(&mut self, now: Instant) {
        match self.stage {
            Stage::Away => return,
            Stage::Opening(until) | Stage::Connecting(until) if now >= until => {
                return self.lose(AwayReason::ConnectTimeout(self.profile.connect_limit));
            }
            Stage::Authenticating(until) if now >= until => {
                return self.lose(AwayReason::NoAnswer("authenticate"));
            }
            _ => {}
        }
        if let Some(handshake) = &self.handshake {
            let limit = handshake.silence_limit();
            if now >= self.silent_since + limit {
                return self.lose(AwayReason::PingTimeout(limit));
            }
        }
        let expired: Vec<u64> = self
            .pending
            .iter()
            .filter_map(|(id, pending)| (now >= pending.expires_at).then_some(*id))
            .collect();
        for id in expired {
            if let Some(pending) = self.pending.remove(&id) {
                self.expired(pending.awaits, now);
            }
        }
        if self.ask_again_at.is_some_and(|at| now >= at) {
            self.ask_again_at = None;
            for twin_id in std::mem::take(&mut self.refused) {
                let payload = self.subscription(&twin_id);
                let awaits = Awaits::Subscription(twin_id, None);
                self.call_now("twinSubscribe", payload, awaits, now);
            }
        }
    }

    fn engine_packet(&mut self, packet: engine_io::Packet, now: Instant) {
        use engine_io::Packet as Engine;
        match packet {
            Engine::Open(handshake) => {
                let Stage::Opening(until) = self.stage else {
                    return self.malformed("a second Engine.IO open packet");
                };
                self.handshake = Some(handshake);
                self.stage = Stage::Connecting(until);
                let connect = Packet::root(Body::Connect(Some(self.profile.auth())));
                self.outputs.push_back(Output::Write(frame(&connect)));
            }
            Engine::Close => self.lose(AwayReason::Closed),
            Engine::Ping(text) if text.len() > MAX_PING_BYTES => {
                self.malformed("a ping with more than a word in it");
                self.outputs.push_back(Output::Pong("3".to_owned()));
            }
            Engine::Ping(text) => self.outputs.push_back(Output::Pong(format!("3{text}"))),
            Engine::Message(text) => {
                let mut packet = self.assembler.text(&text);
                if let Err(error @ SocketIoError::MissingAttachments { .. }) = packet {
                    self.malformed(error);
                    packet = self.assembler.text(&text);
                }
                self.assembled(packet, now);
            }
            Engine::Binary(data) => {
                let packet = self.assembler.binary(data);
                self.assembled(packet, now);
            }
            Engine::Pong(_) | Engine::Upgrade | Engine::Noop => {}
        }
    }

    fn assembled(&mut self, packet: Result<Option<Packet>, SocketIoError>, now: Instant) {
        match packet {
            Ok(Some(packet)) if packet.namespace == super::socket_io::ROOT => {
                self.packet(packet.body, now);
            }
            Ok(Some(_)) => self.malformed("a packet of a namespace that was not joined"),
            Ok(None) => {}
            Err(error) => self.malformed(error),
        }
    }

    fn packet(&mut self, body: Body, now: Instant) {
        match (body, self.stage) {
            (Body::Connect(_), Stage::Connecting(_)) => self.connected(now),
            (Body::Connect(_), _) => self.malformed("an unexpected CONNECT packet"),
            (Body::ConnectError(error), _) => self.connect_error(&error),
            (Body::Disconnect, _) => self.lose(AwayReason::Disconnected),
            (_, Stage::Opening(_) | Stage::Connecting(_)) => {
                self.malformed("a packet before the namespace was granted");
            }
            (Body::Event(event), _) => self.event(event, now),
            (Body::Ack(ack), _) => {
                if let Some(pending) = self.pending.remove(&ack.id) {
                    let answer = ack.args.into_iter().next().unwrap_or(Value::Null);
                    self.acknowledged(pending.awaits, answer, now);
                } else if ack.id >= self.next_ack {
                    self.malformed("an acknowledgement of a call that was never made");
                }
                // Any other is too late: nobody waits for it.
            }
        }
    }

    fn event(&mut self, mut event: Event, now: Instant) {
        let payload = if event.args.is_empty() {
            Value::Null
        } else {
            // Some hubs append further arguments: they mean nothing here.
            event.args.swap_remove(0)
        };
        match event.name.as_str() {
            "twinMessage" => match TwinMessage::from_value(payload) {
                Some(message) => self.outputs.push_back(Output::Message {
                    message,
                    ack: event.ack,
                }),
                None => {
                    self.malformed("a twinMessage without a usable twinId or data");
                    self.reply(
                        event.ack,
                        "error",
                        "the message has no usable twinId or no data",
                    );
                }
            },
            "twinUpdated" => {
                match TwinUpdate::from_value(payload) {
                    Some(update) => {
                        if update.twin_id == self.own_twin_id {
                            self.outputs.push_back(Output::OwnTwin(update.twin.clone()));
                        }
                        self.outputs.push_back(Output::TwinUpdated(update));
                    }
                    None => self.malformed("a twinUpdated without a twin"),
                }
                self.reply(event.ack, "success", "Update taken");
            }
            "deviceAuthenticated" => {
                if matches!(self.stage, Stage::Authenticating(_)) {
                    self.authenticated(&payload, now);
                }
                self.reply(event.ack, "success", "");
            }
            _ => self.reply(event.ack, "warning", "No listeners found for this event"),
        }
    }

    fn acknowledged(&mut self, awaits: Awaits<T>, answer: Value, now: Instant) {
        match awaits {
            Awaits::Call(token) => self.answer(token, Ok(answer)),
            Awaits::ConnectDevice => self.device_connected(answer, now),
            Awaits::OwnTwin => {
                if let Some(twin) = answer.get("twin").cloned().and_then(Twin::from_value) {
                    self.outputs.push_back(Output::OwnTwin(twin));
                }
            }
            Awaits::OwnSubscription if failed(&answer) => self.lose(AwayReason::Rejected {
                step: "twinSubscribe",
                message: self.hub_message(&answer),
            }),
            Awaits::OwnSubscription => {
                self.stage = Stage::Joined;
                self.outputs.push_back(Output::Joined {
                    twin_id: self.own_twin_id.clone(),
                });
            }
            Awaits::Subscription(twin_id, token) => {
                if failed(&answer) {
                    self.ask_again(&twin_id, now);
                }
                match token {
                    Some(token) => self.answer(token, Ok(answer)),
                    None if failed(&answer) => {
                        let reason = self.hub_message(&answer);
                        self.outputs
                            .push_back(Output::SubscriptionFailed { twin_id, reason });
                    }
                    None => {}
                }
            }
        }
    }

    fn malformed(&mut self, what: impl ToString) {
        self.outputs.push_back(Output::Malformed(what.to_string()));
    }

    fn lose(&mut self, reason: AwayReason) {
        self.disconnected();
        self.outputs.push_back(Output::Lost(reason));
    }

    fn refuse(&mut self, message: String) {
        self.disconnected();
        self.outputs.push_back(Output::Refused(message));
    }
}

/// The object that a `json!` literal is.
fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
