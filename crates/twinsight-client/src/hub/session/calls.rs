//! Calls of the hub, and who awaits their acknowledgements.

use std::time::Instant;

use serde_json::{Map, Value, json};

use super::super::answer::{CallError, CallResult};
use super::super::away_reason::AwayReason;
use super::super::options::HubMode;
use super::super::socket_io::Packet;
use super::{Output, Session};

/// Calls that may await their acknowledgement at once.
pub(super) const MAX_PENDING: usize = 1024;

#[derive(Debug)]
pub(super) struct Pending<T> {
    pub(super) expires_at: Instant,
    pub(super) awaits: Awaits<T>,
}

/// Who awaits an acknowledgement.
#[derive(Debug)]
pub(super) enum Awaits<T> {
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
pub(super) fn frame(packet: &Packet) -> String {
    let (mut text, _) = packet.encode();
    text.insert(0, '4');
    text
}

impl<T> Session<T> {
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

    /// Answers an event of the hub's.
    pub fn acknowledge(&mut self, id: u64, answer: Value) {
        let text = frame(&Packet::ack(id, vec![answer]));
        self.outputs.push_back(Output::Write(text));
    }

    pub(super) fn answer(&mut self, token: T, result: CallResult) {
        self.outputs.push_back(Output::Answer { token, result });
    }

    pub(super) fn reply(&mut self, ack: Option<u64>, status: &str, message: &str) {
        if let Some(id) = ack {
            self.acknowledge(id, json!({ "status": status, "message": message }));
        }
    }

    pub(super) fn call_now(
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

    pub(super) fn encode_now(
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

    /// The id of the next acknowledgement; `None` if too many are awaited.
    pub(super) fn expect_ack(&mut self, awaits: Awaits<T>, now: Instant) -> Option<u64> {
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

    pub(super) fn expired(&mut self, awaits: Awaits<T>, now: Instant) {
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
}
