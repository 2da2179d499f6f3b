//! How the hub is joined: the credentials in direct mode, the own twin, then its room and those of others.

use std::time::Instant;

use serde_json::{Value, json};

use super::super::answer::{hub_message, succeeded, text_of};
use super::super::away_reason::AwayReason;
use super::super::message::Twin;
use super::super::options::HubMode;
use super::super::refusal::refuses_credentials;
use super::super::socket_io::Packet;
use super::super::text::brief_without;
use super::calls::{Awaits, frame};
use super::{Output, Session, Stage, object};
use crate::secret::Secret;

impl<T> Session<T> {
    pub(super) fn connected(&mut self, now: Instant) {
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

    pub(super) fn connect_error(&mut self, error: &Value) {
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
    pub(super) fn refuses_credentials(&self, answer: &Value) -> bool {
        let device_id = Secret::new(self.profile.device_id.as_str());
        let text = text_of(answer).map(|text| {
            let text = brief_without(text, self.access_key());
            brief_without(&text, Some(&device_id))
        });
        refuses_credentials(answer, text.as_deref())
    }

    pub(super) fn authenticated(&mut self, payload: &Value, now: Instant) {
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

    pub(super) fn device_connected(&mut self, mut answer: Value, now: Instant) {
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
    pub(super) fn subscribe_all(&mut self, now: Instant) {
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

    /// The hub's own words in an answer, without the key.
    pub(super) fn hub_message(&self, answer: &Value) -> String {
        hub_message(answer, self.access_key())
    }
}
