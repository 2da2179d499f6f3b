//! Subscriptions of twins, which outlive connections and are counted.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::calls::{Awaits, Pending, encode_call};
use super::{Output, Session, object};

/// A subscription that the hub did not grant is asked for again after this.
pub(super) const ASK_AGAIN_AFTER: Duration = Duration::from_secs(5);

impl<T> Session<T> {
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

    pub(super) fn subscription(&self, twin_id: &str) -> Map<String, Value> {
        object(json!({
            "twinId": twin_id,
            "sourceTwinId": self.own_twin_id,
            "sourceDeviceId": self.profile.device_id,
        }))
    }

    /// The hub may not know the twin yet.
    pub(super) fn ask_again(&mut self, twin_id: &str, now: Instant) {
        if self.subscriptions.contains_key(twin_id) {
            self.refused.insert(twin_id.to_owned());
            self.ask_again_at.get_or_insert(now + ASK_AGAIN_AFTER);
        }
    }
}
