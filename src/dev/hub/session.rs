//! The session of one client of the development hub: its events come in; acknowledgements, and the messages to the rooms of its
//! twins, go out. Socketioxide runs it where the client's packets are read.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use socketioxide::adapter::LocalAdapter;
use socketioxide::extract::{AckSender, Event, SocketRef, TryData};
use socketioxide::handler::{FromMessageParts, MessageHandler, Value as RawValue};
use socketioxide::socket::Socket;

use super::state::{Answer, DEVICE, HubState, failure, twin_id};
use super::{CLOSE_LIMIT, DirectAccess, MAX_CLIENTS, MAX_ID_BYTES, MAX_ROOMS};

/// How a client has introduced itself.
#[derive(Debug, Clone)]
enum Client {
    /// As this twin, in simulator mode.
    Twin(String),
    /// In direct mode, without a valid key so far.
    Stranger,
    /// As this device in direct mode, with a valid key.
    Device(String),
}

/// The handler of one client's events. Socketioxide runs async handlers in any order; this one is not async and runs where the packets
/// are read, so that messages stay in order.
#[derive(Debug)]
struct Handler {
    hub: Arc<HubState>,
    client: Arc<Mutex<Client>>,
}

/// The type by which socketioxide tells [`Handler`] from handlers that are closures.
#[derive(Debug)]
struct InOrder;

/// Admits a client, or gives the reason why not.
pub(super) fn admit(hub: &Arc<HubState>, socket: &SocketRef, auth: Value) -> Result<(), String> {
    let text = |key| auth.get(key).and_then(Value::as_str).unwrap_or_default();
    let client = if !text("instanceId").is_empty() {
        let twin_id = text("instanceId").to_owned();
        if twin_id.len() > MAX_ID_BYTES {
            return Err("the instanceId is too long".to_owned());
        }
        Client::Twin(twin_id)
    } else if !text("deviceId").is_empty() {
        if matches!(hub.options.direct, DirectAccess::Nobody) {
            return Err("this hub does not take the direct mode".to_owned());
        }
        Client::Stranger
    } else {
        return Err("auth holds neither an instanceId nor a deviceId".to_owned());
    };
    if !hub.add_client() {
        return Err(format!("{MAX_CLIENTS} clients are connected already"));
    }
    if let Client::Twin(twin_id) = &client {
        tracing::info!(twin_id, transport = ?socket.transport_type(), "a client connected");
        hub.connected(twin_id.clone());
        socket.join(twin_id.clone());
    }
    let client = Arc::new(Mutex::new(client));
    let (leaving, left) = (Arc::clone(hub), Arc::clone(&client));
    socket.on_disconnect(move || {
        leaving.remove_client();
        match &*left.lock() {
            Client::Twin(twin_id) => leaving.disconnected(twin_id),
            Client::Device(device_id) => leaving.disconnected(&format!("{DEVICE}{device_id}")),
            Client::Stranger => {}
        }
        async {}
    });
    socket.on_fallback(Handler {
        hub: Arc::clone(hub),
        client,
    });
    Ok(())
}

impl MessageHandler<LocalAdapter, InOrder> for Handler {
    fn call(&self, socket: Arc<Socket<LocalAdapter>>, mut raw: RawValue, ack_id: Option<i64>) {
        let Ok(Event(name)) = Event::from_message_parts(&socket, &mut raw, &ack_id) else {
            return;
        };
        let Ok(TryData(payload)) = TryData::<Value>::from_message_parts(&socket, &mut raw, &ack_id);
        let Ok(ack) = AckSender::from_message_parts(&socket, &mut raw, &ack_id);
        let payload = match payload {
            Ok(Value::Object(fields)) => fields,
            _ => Map::new(),
        };
        let socket = SocketRef::from(socket);
        let answer = self.event(&socket, &name, payload);
        // The client may be gone, or not take what it is sent.
        if let Err(error) = ack.send(&answer) {
            tracing::debug!(name, %error, "an acknowledgement was dropped");
        }
    }
}

impl Handler {
    /// Handles an event and gives the acknowledgement, which is sent if the client asks for one.
    fn event(&self, socket: &SocketRef, name: &str, mut payload: Map<String, Value>) -> Answer {
        let client = self.client.lock().clone();
        match client {
            Client::Twin(own) if name == own => {
                let Some(Value::String(method)) = payload.remove("method") else {
                    return failure("the call names no method");
                };
                self.method(socket, &own, &method, &payload)
            }
            Client::Twin(own) => failure(format!("events of this client must be named {own}")),
            Client::Stranger if name == "authenticate" => self.authenticate(socket, &payload),
            Client::Stranger => failure("authenticate first"),
            Client::Device(device_id) if name == "connectDevice" => {
                self.connect_device(socket, &device_id)
            }
            Client::Device(device_id) => {
                let own = self.hub.device_twin(&device_id);
                let own = twin_id(&own).unwrap_or_default();
                self.method(socket, own, name, &payload)
            }
        }
    }

    fn authenticate(&self, socket: &SocketRef, payload: &Map<String, Value>) -> Answer {
        let text = |key| payload.get(key).and_then(Value::as_str).unwrap_or_default();
        let device_id = text("deviceId");
        let valid = match &self.hub.options.direct {
            DirectAccess::Any => !device_id.is_empty() && device_id.len() <= MAX_ID_BYTES,
            DirectAccess::Keys(keys) => keys
                .get(device_id)
                .is_some_and(|key| key.expose() == text("accessKey")),
            DirectAccess::Nobody => false,
        };
        let answer = if valid {
            *self.client.lock() = Client::Device(device_id.to_owned());
            self.hub.connected(format!("{DEVICE}{device_id}"));
            json!({ "status": "success" })
        } else {
            failure("the access key is not valid for this device")
        };
        if socket.connected() {
            emit(socket, "deviceAuthenticated", &answer);
        } else {
            tokio::spawn(emit_soon(socket.clone(), answer.clone()));
        }
        answer
    }

    fn connect_device(&self, socket: &SocketRef, device_id: &str) -> Answer {
        // The twin is stored, so that it is found by its id from now on.
        let own = match self.hub.store(self.hub.device_twin(device_id)) {
            Ok(own) => own,
            Err(answer) => return answer,
        };
        if let Some(id) = twin_id(&own) {
            tracing::info!(device_id, twin_id = id, "a device connected");
            socket.join(id.to_owned());
        }
        let mut twins = vec![own.clone()];
        twins.extend(
            self.hub
                .twins
                .lock()
                .values()
                .filter(|twin| twin["deviceId"] == device_id && twin["id"] != own["id"])
                .cloned(),
        );
        let twins: Vec<Value> = twins.into_iter().map(|t| self.hub.present(t)).collect();
        json!({ "status": "success", "twins": twins })
    }

    fn method(
        &self,
        socket: &SocketRef,
        own: &str,
        method: &str,
        payload: &Map<String, Value>,
    ) -> Answer {
        let hub = &self.hub;
        let data = payload.get("data").cloned().unwrap_or_default();
        let room = payload.get("twinId").and_then(Value::as_str);
        let inner = data.get("twinId").and_then(Value::as_str);
        match method {
            "twinMessage" => self.twin_message(socket, payload),
            "twinSubscribe" => subscribe(socket, room),
            "twinUnsubscribe" => {
                if let Some(room) = room {
                    socket.leave(room.to_owned());
                }
                json!({ "status": "success" })
            }
            "getTwinById" => match inner.and_then(|id| hub.twin(id)) {
                Some(twin) => json!({ "status": "success", "twin": twin }),
                None => failure("Twin not found"),
            },
            "getIceServers" => json!({
                "iceServers": hub.options.ice_servers,
                "ttlSeconds": hub.options.ice_ttl_seconds,
            }),
            "reportEdgeTwinProperties"
            | "reportScreenTwinProperties"
            | "reportPeripheralTwinProperties" => {
                changed(socket, room, hub.merge(room, "reported", &data))
            }
            "updatePeripheralTwinDesired" => {
                changed(socket, room, hub.merge(room, "desired", &data))
            }
            "getPeripheralTwins" => {
                let instance = data["instanceId"].as_str().unwrap_or(own);
                json!({ "status": "success", "twins": hub.peripherals(instance) })
            }
            "createPeripheralTwin" => {
                let answer = hub.create_peripheral(own, &data);
                // The update tells the previous owner that it owns the peripheral no more.
                if let Some(id) = twin_id(&answer["twin"]) {
                    changed(socket, Some(id), Ok(answer["twin"].clone()));
                }
                answer
            }
            "deletePeripheralTwin" => hub.delete_peripheral(inner),
            "getDeviceStatus" => json!({
                "status": "success", "deviceId": "dev-device", "tenantId": "dev-tenant",
                "spaceId": "dev-space", "gridEnv": "dev", "dataResidency": "eu",
                "ip": [{ "ipv4": "127.0.0.1" }],
            }),
            "getDeviceInstance" => json!({ "status": "success", "twin": hub.twin(own) }),
            "getDeviceNetworks" => json!({ "status": "success", "networks": [] }),
            _ => failure(format!(
                "the development hub does not know the method {method}"
            )),
        }
    }

    fn twin_message(&self, socket: &SocketRef, payload: &Map<String, Value>) -> Answer {
        let Some(room) = payload.get("twinId").and_then(Value::as_str) else {
            return failure("the message names no twinId");
        };
        let receivers = if self.hub.options.echo {
            socket.within(room.to_owned()).sockets()
        } else {
            socket.to(room.to_owned()).sockets()
        };
        for receiver in &receivers {
            emit(receiver, "twinMessage", payload);
        }
        json!({ "status": "success", "message": format!("{} receivers", receivers.len()) })
    }
}

/// Acknowledges the change of a twin, and sends the update to its room.
fn changed(socket: &SocketRef, room: Option<&str>, twin: Result<Value, Answer>) -> Answer {
    let (Some(room), Ok(twin)) = (room, &twin) else {
        return twin.unwrap_or_else(|answer| answer);
    };
    let update = json!({ "twinId": room, "data": twin });
    for receiver in socket.within(room.to_owned()).sockets() {
        emit(&receiver, "twinUpdated", &update);
    }
    json!({ "status": "success", "twin": twin })
}

fn subscribe(socket: &SocketRef, room: Option<&str>) -> Answer {
    let Some(room) = room.filter(|id| !id.is_empty() && id.len() <= MAX_ID_BYTES) else {
        return failure("the subscription names no usable twinId");
    };
    let rooms: BTreeSet<_> = socket.rooms().into_iter().collect();
    if rooms.len() >= MAX_ROOMS && !rooms.contains(room) {
        return failure(format!("this client listens to {MAX_ROOMS} twins already"));
    }
    socket.join(room.to_owned());
    json!({ "status": "success", "message": "Subscribed" })
}

/// Emits `deviceAuthenticated` to a client that was quicker than socketioxide, which grants the namespace a moment before it takes
/// events for the client, and would drop this one.
async fn emit_soon(socket: SocketRef, answer: Answer) {
    let _ = tokio::time::timeout(CLOSE_LIMIT, async {
        while !socket.connected() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    emit(&socket, "deviceAuthenticated", &answer);
}

fn emit(socket: &SocketRef, event: &str, payload: &(impl serde::Serialize + ?Sized)) {
    if let Err(error) = socket.emit(event, payload) {
        tracing::warn!(event, %error, "a client takes no more messages: one was dropped");
    }
}
