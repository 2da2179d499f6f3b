//! As whom and with what limits a session joins the hub.

use std::time::Duration;

use serde_json::{Value, json};

use super::options::{HubMode, HubOptions};
use crate::secret::Secret;

/// Who joins the hub, and within what limits.
#[derive(Debug, Clone)]
pub struct Profile {
    /// How to talk to the hub.
    pub mode: HubMode,
    /// The own twin; empty in direct mode.
    pub twin_id: String,
    /// The own device; empty but in direct mode.
    pub device_id: String,
    /// The device's key, in direct mode.
    pub access_key: Option<Secret>,
    /// From dialling to the granted namespace.
    pub connect_limit: Duration,
    /// For the acknowledgement of a call.
    pub ack_limit: Duration,
}

impl Profile {
    /// The session's part of the options.
    pub fn of(options: &HubOptions) -> Self {
        Self {
            mode: options.mode,
            twin_id: options.twin_id.clone(),
            device_id: options.device_id.clone(),
            access_key: options.access_key.clone(),
            connect_limit: options.timers.connect,
            ack_limit: options.timers.ack,
        }
    }

    /// What the CONNECT packet of Socket.IO carries.
    pub(super) fn auth(&self) -> Value {
        match self.mode {
            HubMode::Direct => self.credentials(),
            HubMode::Simulator | HubMode::Phyos => json!({ "instanceId": self.twin_id }),
        }
    }

    pub(super) fn credentials(&self) -> Value {
        let key = self.access_key.as_ref().map_or("", Secret::expose);
        json!({ "deviceId": self.device_id, "accessKey": key })
    }
}
