//! The life of a hub connection, sans-IO: frames, calls and the time come in; frames to write,
//! messages, answers and the state come out of [`Session::poll`]. One session lives as long as the
//! client and remembers the subscriptions across sockets; the client's task runs it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::answer::{CallError, CallResult, failed, hub_message, succeeded, text_of};
use super::away_reason::AwayReason;
use super::engine_io::{self, Handshake};
use super::message::{Twin, TwinMessage, TwinUpdate};
use super::options::HubMode;
use super::profile::Profile;
use super::refusal::refuses_credentials;
use super::socket_io::{Assembler, Body, Event, Packet, SocketIoError};
use super::text::brief_without;
use crate::secret::Secret;

/// Calls that may await their acknowledgement at once.
const MAX_PENDING: usize = 1024;

/// A ping's text comes back in the pong; no hub sends more than a word.
const MAX_PING_BYTES: usize = 125;

/// A subscription that the hub did not grant is asked for again after this.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// What the session wants done or known.
#[derive(Debug, PartialEq)]
pub enum Output<T> {
    /// Write this text frame.
    Write(String),
    /// Write this text frame before all that waits; it replaces one that is not written yet.
    Pong(String),
    /// Subscriptions are made: messages flow from now on. In direct mode this tells the own twin.
    Joined {
        /// The own twin.
        twin_id: String,
    },
    /// What the hub knows about the own twin.
    OwnTwin(Twin),
    /// A twin message; one with `ack` is to be answered through [`Session::acknowledge`].
    Message {
        /// The message.
        message: TwinMessage,
        /// The id under which the hub awaits an acknowledgement.
        ack: Option<u64>,
    },
    /// A twin changed.
    TwinUpdated(TwinUpdate),
    /// A call's outcome.
    Answer {
        /// What the caller gave.
        token: T,
        /// What came of the call.
        result: CallResult,
    },
    /// A subscription that was repeated by itself was not granted.
    SubscriptionFailed {
        /// The twin that is not listened to.
        twin_id: String,
        /// The hub's words, or that there were none.
        reason: String,
    },
    /// The hub sent something that breaks the protocol; the connection goes on.
    Malformed(String),
    /// The connection is of no use any more: close the socket and connect again.
    Lost(AwayReason),
    /// The hub refused the credentials explicitly: the connection is of no use any more.
    Refused(String),
}

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

#[derive(Debug)]
struct Pending<T> {
    expires_at: Instant,
    awaits: Awaits<T>,
}

/// Who awaits an acknowledgement.
#[derive(Debug)]
enum Awaits<T> {
    /// Direct mode: the call that tells the own twin.
    ConnectDevice,
    /// What the hub knows about the own twin.
    OwnTwin,
    /// The subscription of the own twin, with which the hub is joined.
    OwnSubscription,
    /// A subscription; one that was repeated by itself has no caller.
    Subscription(String, Option<T>),
    /// A call of a handle, which is told the answer.
    Call(T),
}

/// The text frame of a call: by its name in direct mode, else under the name of the own twin.
pub fn encode_call(
    mode: HubMode,
    own_twin_id: &str,
    method: &str,
    payload: Map<String, Value>,
    ack: Option<u64>,
) -> String {
    let packet = match mode {
        HubMode::Direct => Packet::event(method, vec![Value::Object(payload)], ack),
        HubMode::Simulator | HubMode::Phyos => {
            let mut payload = payload;
            payload.insert("method".to_owned(), method.into());
            Packet::event(own_twin_id, vec![Value::Object(payload)], ack)
        }
    };
    frame(&packet)
}

/// The text frame of a packet without attachments.
fn frame(packet: &Packet) -> String {
    let (mut text, _) = packet.encode();
    text.insert(0, '4');
    text
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

    /// Calls a method of the hub's and gives its acknowledgement to `token`. The text frame to write;
    /// none if the answer is here already.
    pub fn call(
        &mut self,
        method: &str,
        payload: Map<String, Value>,
        token: T,
        now: Instant,
    ) -> Option<String> {
        if !self.is_joined() {
            self.answer(token, Err(CallError::Disconnected));
            return None;
        }
        self.encode_now(method, payload, Awaits::Call(token), now)
    }

    /// Nothing was read until now, so the hub's silence begins here.
    pub fn did_not_listen(&mut self, now: Instant) {
        self.silent_since = now;
    }

    /// Remembers a subscription and makes it now if the hub is joined. While it is not, the answer
    /// is a success: the subscription comes with the connection. One that the hub does not grant is
    /// remembered too, and asked for again: the twin may become known. Subscriptions are counted.
    pub fn subscribe(&mut self, twin_id: &str, token: T, now: Instant) {
        *self.subscriptions.entry(twin_id.to_owned()).or_default() += 1;
        if !self.is_joined() {
            self.answer(token, Ok(json!({ "status": "success" })));
            let own = |pending: &Pending<T>| matches!(pending.awaits, Awaits::OwnSubscription);
            if self.pending.values().any(own) {
                // The others are under way with the own one: this one follows them.
                let payload = self.subscription(twin_id);
                let awaits = Awaits::Subscription(twin_id.to_owned(), None);
                self.call_now("twinSubscribe", payload, awaits, now);
            }
            return;
        }
        let payload = self.subscription(twin_id);
        let awaits = Awaits::Subscription(twin_id.to_owned(), Some(token));
        self.call_now("twinSubscribe", payload, awaits, now);
    }

    /// Forgets a subscription; the last one of a twin tells the hub if it is joined.
    pub fn unsubscribe(&mut self, twin_id: &str) {
        let Some(wanted) = self.subscriptions.get_mut(twin_id) else {
            return;
        };
        *wanted -= 1;
        if *wanted > 0 {
            return;
        }
        self.subscriptions.remove(twin_id);
        self.refused.remove(twin_id);
        if !self.is_joined() || twin_id == self.own_twin_id {
            return;
        }
        let payload = object(json!({ "twinId": twin_id, "sourceTwinId": self.own_twin_id }));
        let mode = self.profile.mode;
        let text = encode_call(mode, &self.own_twin_id, "twinUnsubscribe", payload, None);
        self.outputs.push_back(Output::Write(text));
    }

    /// Answers an event of the hub's.
    pub fn acknowledge(&mut self, id: u64, answer: Value) {
        let text = frame(&Packet::ack(id, vec![answer]));
        self.outputs.push_back(Output::Write(text));
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

    fn expired(&mut self, awaits: Awaits<T>, now: Instant) {
        match awaits {
            Awaits::ConnectDevice => self.lose(AwayReason::NoAnswer("connectDevice")),
            Awaits::OwnSubscription => self.lose(AwayReason::NoAnswer("twinSubscribe")),
            Awaits::OwnTwin => {}
            Awaits::Subscription(twin_id, token) => {
                self.ask_again(&twin_id, now);
                match token {
                    Some(token) => self.answer(token, Err(CallError::Expired)),
                    None => self.outputs.push_back(Output::SubscriptionFailed {
                        twin_id,
                        reason: "no answer".to_owned(),
                    }),
                }
            }
            Awaits::Call(token) => self.answer(token, Err(CallError::Expired)),
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

    fn connected(&mut self, now: Instant) {
        match self.profile.mode {
            HubMode::Direct => {
                self.stage = Stage::Authenticating(now + self.profile.ack_limit);
                let packet = Packet::event("authenticate", vec![self.profile.credentials()], None);
                self.outputs.push_back(Output::Write(frame(&packet)));
            }
            HubMode::Simulator | HubMode::Phyos => {
                self.stage = Stage::Joining;
                let payload = object(json!({ "data": { "twinId": self.own_twin_id } }));
                self.call_now("getTwinById", payload, Awaits::OwnTwin, now);
                self.subscribe_all(now);
            }
        }
    }

    fn connect_error(&mut self, error: &Value) {
        let message = self.hub_message(error);
        if self.profile.mode == HubMode::Direct && self.refuses_credentials(error) {
            self.refuse(message);
        } else {
            self.lose(AwayReason::Rejected {
                step: "CONNECT",
                message,
            });
        }
    }

    /// True if an answer to the credentials is an explicit no. Hubs repeat the credentials in it.
    fn refuses_credentials(&self, answer: &Value) -> bool {
        let device_id = Secret::new(self.profile.device_id.as_str());
        let text = text_of(answer).map(|text| {
            let text = brief_without(text, self.access_key());
            brief_without(&text, Some(&device_id))
        });
        refuses_credentials(answer, text.as_deref())
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

    fn authenticated(&mut self, payload: &Value, now: Instant) {
        if !succeeded(payload) {
            if self.refuses_credentials(payload) {
                return self.refuse(self.hub_message(payload));
            }
            // Neither a yes nor a no: a hub in trouble, or another version of it.
            return self.lose(AwayReason::Rejected {
                step: "authenticate",
                message: self.hub_message(payload),
            });
        }
        self.stage = Stage::Joining;
        let Some(id) = self.expect_ack(Awaits::ConnectDevice, now) else {
            return;
        };
        let packet = Packet::event("connectDevice", Vec::new(), Some(id));
        self.outputs.push_back(Output::Write(frame(&packet)));
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

    /// The hub may not know the twin yet.
    fn ask_again(&mut self, twin_id: &str, now: Instant) {
        if self.subscriptions.contains_key(twin_id) {
            self.refused.insert(twin_id.to_owned());
            self.ask_again_at.get_or_insert(now + ASK_AGAIN_AFTER);
        }
    }

    fn device_connected(&mut self, mut answer: Value, now: Instant) {
        let twins: Vec<Twin> = match answer.get_mut("twins").map(Value::take) {
            Some(Value::Array(twins)) => twins.into_iter().filter_map(Twin::from_value).collect(),
            _ => Vec::new(),
        };
        if !succeeded(&answer) {
            return self.lose(AwayReason::Rejected {
                step: "connectDevice",
                message: self.hub_message(&answer),
            });
        }
        let device = twins.iter().position(|twin| twin.r#type == "Device");
        let Some(own) = twins.into_iter().nth(device.unwrap_or(0)) else {
            return self.lose(AwayReason::Rejected {
                step: "connectDevice",
                message: "no twin of this device".to_owned(),
            });
        };
        self.own_twin_id.clone_from(&own.id);
        self.outputs.push_back(Output::OwnTwin(own));
        self.subscribe_all(now);
    }

    /// Subscribes the own twin, then all others.
    fn subscribe_all(&mut self, now: Instant) {
        let own = self.subscription(&self.own_twin_id);
        self.call_now("twinSubscribe", own, Awaits::OwnSubscription, now);
        let others: Vec<String> = self.subscriptions.keys().cloned().collect();
        for twin_id in others {
            if twin_id != self.own_twin_id {
                let payload = self.subscription(&twin_id);
                let awaits = Awaits::Subscription(twin_id, None);
                self.call_now("twinSubscribe", payload, awaits, now);
            }
        }
    }

    fn subscription(&self, twin_id: &str) -> Map<String, Value> {
        object(json!({
            "twinId": twin_id,
            "sourceTwinId": self.own_twin_id,
            "sourceDeviceId": self.profile.device_id,
        }))
    }

    fn call_now(
        &mut self,
        method: &str,
        payload: Map<String, Value>,
        awaits: Awaits<T>,
        now: Instant,
    ) {
        if let Some(text) = self.encode_now(method, payload, awaits, now) {
            self.outputs.push_back(Output::Write(text));
        }
    }

    fn encode_now(
        &mut self,
        method: &str,
        payload: Map<String, Value>,
        awaits: Awaits<T>,
        now: Instant,
    ) -> Option<String> {
        let id = self.expect_ack(awaits, now)?;
        let mode = self.profile.mode;
        Some(encode_call(
            mode,
            &self.own_twin_id,
            method,
            payload,
            Some(id),
        ))
    }

    /// The hub's own words in an answer, without the key.
    fn hub_message(&self, answer: &Value) -> String {
        hub_message(answer, self.access_key())
    }

    /// The id of the next acknowledgement; `None` if too many are awaited.
    fn expect_ack(&mut self, awaits: Awaits<T>, now: Instant) -> Option<u64> {
        if self.pending.len() >= MAX_PENDING {
            match awaits {
                Awaits::Call(token) => self.answer(token, Err(CallError::TooMany)),
                other => self.expired(other, now),
            }
            return None;
        }
        let id = self.next_ack;
        self.next_ack += 1;
        let expires_at = now + self.profile.ack_limit;
        self.pending.insert(id, Pending { expires_at, awaits });
        Some(id)
    }

    fn answer(&mut self, token: T, result: CallResult) {
        self.outputs.push_back(Output::Answer { token, result });
    }

    fn reply(&mut self, ack: Option<u64>, status: &str, message: &str) {
        if let Some(id) = ack {
            self.acknowledge(id, json!({ "status": status, "message": message }));
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
