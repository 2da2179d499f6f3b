//! One side of a twin's properties, each time it changes.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::{Stream, StreamExt};
use serde_json::{Map, Value};

use super::instance::WeakInstance;
use super::message::TwinUpdate;
use super::twin_updates::TwinUpdates;

/// One side of a twin's properties, as a JSON object, each time it changes: [`Instance::desired_updates`](super::Instance::desired_updates)
/// and [`Instance::reported_updates`](super::Instance::reported_updates).
#[derive(Debug)]
pub struct PropertyUpdates {
    instance: WeakInstance,
    updates: TwinUpdates,
    side: Side,
    last: Option<Map<String, Value>>,
}

/// A side of a twin's properties.
#[derive(Debug, Clone, Copy)]
pub(super) enum Side {
    /// What its operator wants.
    Desired,
    /// What the twin says.
    Reported,
}

impl PropertyUpdates {
    pub(super) fn new(instance: WeakInstance, updates: TwinUpdates, side: Side) -> Self {
        Self {
            instance,
            updates,
            side,
            last: None,
        }
    }

    /// The properties after their next change; `None` once the client is gone.
    pub async fn recv(&mut self) -> Option<Map<String, Value>> {
        loop {
            let update = self.updates.recv().await?;
            let own_id = self.instance.upgrade()?.twin_id();
            if let Some(properties) = self.changed(update, &own_id) {
                return Some(properties);
            }
        }
    }

    /// Updates of any twin that were lost because this receiver lagged behind. The next update tells all of the
    /// properties, so nothing of what they are is lost for long.
    pub fn missed(&self) -> u64 {
        self.updates.missed()
    }

    /// The properties, if the update changes them.
    fn changed(&mut self, update: TwinUpdate, own_id: &str) -> Option<Map<String, Value>> {
        if update.twin_id != own_id {
            return None;
        }
        let properties = match self.side {
            Side::Desired => update.twin.properties.desired,
            Side::Reported => update.twin.properties.reported,
        };
        if self.last.as_ref() == Some(&properties) {
            return None;
        }
        self.last = Some(properties.clone());
        Some(properties)
    }
}

impl Stream for PropertyUpdates {
    type Item = Map<String, Value>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let Some(update) = ready!(self.updates.poll_next_unpin(context)) else {
                return Poll::Ready(None);
            };
            let Some(instance) = self.instance.upgrade() else {
                return Poll::Ready(None);
            };
            if let Some(properties) = self.changed(update, &instance.twin_id()) {
                return Poll::Ready(Some(properties));
            }
        }
    }
}
