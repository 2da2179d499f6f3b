//! What the clients of the development hub share: its twins, and who is connected. Calls of the clients come in, twins as JSON and
//! acknowledgements go out. [`session`](super::session) calls it for each client.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{DevHubOptions, MAX_CLIENTS, MAX_ID_BYTES, MAX_TWINS};
use crate::clock::WallClock;

/// The state that all clients share.
#[derive(Debug)]
pub(super) struct HubState {
    pub(super) options: DevHubOptions,
    pub(super) twins: Mutex<BTreeMap<String, Value>>,
    /// The ids of the twins of its file, whose status is what the file says, or nothing.
    listed: BTreeSet<String>,
    /// The twins and devices that are connected, and how often. [`DEVICE`] marks the id of a device.
    online: Mutex<HashMap<String, usize>>,
    clients: AtomicUsize,
}

/// Begins the key of a device in [`HubState::online`]; no twin's id begins like this.
pub(super) const DEVICE: &str = "\0";

/// The acknowledgement of a call.
pub(super) type Answer = Value;

impl HubState {
    pub(super) fn new(options: DevHubOptions) -> Self {
        let twins = options
            .twins
            .iter()
            .filter_map(|twin| Some((twin_id(twin)?.to_owned(), twin.clone())))
            .collect();
        Self {
            listed: options
                .twins
                .iter()
                .filter_map(|twin| twin_id(twin).map(str::to_owned))
                .collect(),
            options,
            twins: Mutex::new(twins),
            online: Mutex::default(),
            clients: AtomicUsize::new(0),
        }
    }

    /// Counts a client that has connected; false if there are too many already.
    pub(super) fn add_client(&self) -> bool {
        let is_admitted = self.clients.fetch_add(1, Ordering::Relaxed) < MAX_CLIENTS;
        if !is_admitted {
            self.remove_client();
        }
        is_admitted
    }

    /// Counts a client that has gone.
    pub(super) fn remove_client(&self) {
        self.clients.fetch_sub(1, Ordering::Relaxed);
    }

    /// Notes that a client has introduced itself as this twin or device.
    pub(super) fn connected(&self, who: String) {
        *self.online.lock().entry(who).or_default() += 1;
    }

    /// Notes that a client that had introduced itself has gone.
    pub(super) fn disconnected(&self, who: &str) {
        let mut online = self.online.lock();
        if let Some(count) = online.get_mut(who) {
            *count -= 1;
            if *count == 0 {
                online.remove(who);
            }
        }
    }

    /// Sets the status that the twin has now. A peripheral is Online with its app, and the twin of a device with the device.
    pub(super) fn present(&self, mut twin: Value) -> Value {
        let Some(id) = twin_id(&twin) else {
            return twin;
        };
        if self.listed.contains(id) {
            return twin;
        }
        let online = self.online.lock();
        let is_online = |who: &str| online.contains_key(who);
        let as_other = match twin["type"].as_str() {
            Some("Peripheral") => twin["properties"]["desired"]["instanceId"]
                .as_str()
                .is_some_and(is_online),
            Some("Device") => twin["deviceId"]
                .as_str()
                .is_some_and(|device_id| is_online(&format!("{DEVICE}{device_id}"))),
            _ => false,
        };
        let status = match as_other || is_online(id) {
            true => "Online",
            false => "Offline",
        };
        drop(online);
        twin["status"] = status.into();
        twin
    }

    /// Gives a twin that is known, or makes it up if that is allowed.
    pub(super) fn twin(&self, id: &str) -> Option<Value> {
        let known = self.twins.lock().get(id).cloned();
        let made_up = || {
            let may_be = !self.options.strict && !id.is_empty() && id.len() <= MAX_ID_BYTES;
            may_be.then(|| new_twin(id, "Edge", "dev-device"))
        };
        Some(self.present(known.or_else(made_up)?))
    }

    /// Gives the twin of a device, or makes it up.
    pub(super) fn device_twin(&self, device_id: &str) -> Value {
        let known = self
            .twins
            .lock()
            .values()
            .find(|twin| twin["type"] == "Device" && twin["deviceId"] == device_id)
            .cloned();
        known.unwrap_or_else(|| new_twin(&format!("device-{device_id}"), "Device", device_id))
    }

    /// Merges properties into `desired` or `reported` of a twin, and stores it.
    pub(super) fn merge(
        &self,
        id: Option<&str>,
        side: &str,
        properties: &Value,
    ) -> Result<Value, Answer> {
        let mut twin = id
            .and_then(|id| self.twin(id))
            .ok_or_else(|| failure("Twin not found"))?;
        let Some(properties) = properties.as_object() else {
            return Err(failure("the properties are no object"));
        };
        let mut merged = twin["properties"][side]
            .as_object()
            .cloned()
            .unwrap_or_default();
        merged.extend(properties.clone());
        if !twin["properties"].is_object() {
            twin["properties"] = json!({});
        }
        twin["properties"][side] = Value::Object(merged);
        touch(&mut twin);
        self.store(twin)
    }

    pub(super) fn store(&self, twin: Value) -> Result<Value, Answer> {
        let id = twin_id(&twin).unwrap_or_default().to_owned();
        let mut twins = self.twins.lock();
        if twins.len() >= MAX_TWINS && !twins.contains_key(&id) {
            return Err(failure(format!(
                "the development hub holds {MAX_TWINS} twins already"
            )));
        }
        twins.insert(id, twin.clone());
        drop(twins);
        Ok(self.present(twin))
    }

    pub(super) fn peripherals(&self, instance_id: &str) -> Vec<Value> {
        self.twins
            .lock()
            .values()
            .filter(|twin| {
                twin["type"] == "Peripheral"
                    && twin["properties"]["desired"]["instanceId"] == instance_id
            })
            .cloned()
            .map(|twin| self.present(twin))
            .collect()
    }

    /// Creates the peripheral with this hardware id, or hands it over to the twin that asks.
    pub(super) fn create_peripheral(&self, own: &str, data: &Value) -> Answer {
        let Some(hardware_id) = data["hardwareId"].as_str().filter(|id| !id.is_empty()) else {
            return failure("the peripheral has no hardwareId");
        };
        let instance_id = data["instanceId"].as_str().unwrap_or(own);
        let known = self
            .twins
            .lock()
            .values()
            .find(|twin| {
                twin["type"] == "Peripheral"
                    && twin["properties"]["desired"]["hardwareId"] == hardware_id
            })
            .cloned();
        let created = known.is_none();
        let mut twin = known.unwrap_or_else(|| {
            let id = format!("peripheral-{:032x}", rand::random::<u128>());
            let mut twin = new_twin(&id, "Peripheral", "dev-device");
            if let Some(desired) = data["desiredProperties"].as_object() {
                twin["properties"]["desired"] = Value::Object(desired.clone());
            }
            twin
        });
        let previous = twin["properties"]["desired"]["instanceId"]
            .as_str()
            .map(str::to_owned);
        let desired = &mut twin["properties"]["desired"];
        desired["instanceId"] = instance_id.into();
        desired["hardwareId"] = hardware_id.into();
        desired["peripheralName"] = data["peripheralName"].clone();
        if let Some(device_id) = data["deviceId"].as_str().filter(|id| !id.is_empty()) {
            twin["deviceId"] = device_id.into();
        }
        if data["descriptors"].is_object() {
            twin["descriptors"] = data["descriptors"].clone();
        }
        touch(&mut twin);
        match self.store(twin) {
            Ok(twin) => {
                let mut answer = json!({ "status": "success", "twin": twin, "created": created });
                if let Some(previous) = previous.filter(|previous| previous != instance_id) {
                    answer["handover"] = json!({ "previousInstanceId": previous });
                }
                answer
            }
            Err(answer) => answer,
        }
    }

    pub(super) fn delete_peripheral(&self, id: Option<&str>) -> Answer {
        let mut twins = self.twins.lock();
        match id {
            Some(id)
                if twins
                    .get(id)
                    .is_some_and(|twin| twin["type"] == "Peripheral") =>
            {
                json!({ "status": "success", "twin": twins.remove(id) })
            }
            _ => failure("Twin not found"),
        }
    }
}

pub(super) fn failure(message: impl Into<String>) -> Answer {
    json!({ "status": "error", "message": message.into() })
}

pub(super) fn twin_id(twin: &Value) -> Option<&str> {
    twin.get("id")?.as_str().filter(|id| !id.is_empty())
}

fn new_twin(id: &str, twin_type: &str, device_id: &str) -> Value {
    let clock = WallClock::read();
    let now = clock.unix_ms(clock.instant());
    json!({
        "id": id, "deviceId": device_id, "tenantId": "dev-tenant", "version": 1,
        "status": "Offline", "type": twin_type,
        "properties": { "desired": { "settings": {} }, "reported": {} },
        "descriptors": {}, "createdAt": now, "updatedAt": now,
    })
}

/// Sets the version and the time of a twin that was changed.
fn touch(twin: &mut Value) {
    let clock = WallClock::read();
    twin["version"] = (twin["version"].as_u64().unwrap_or(0) + 1).into();
    twin["updatedAt"] = clock.unix_ms(clock.instant()).into();
}
