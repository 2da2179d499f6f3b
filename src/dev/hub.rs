//! The development hub: clients come in over long-polling or WebSocket, twin messages go to the
//! rooms of their twins. It speaks the simulator mode of the hub's protocol (which is PhyOS's too)
//! and the direct one, makes up twins that it was not told of, and forgets everything when it ends.
//! A twin is Online while its client is connected; of those in its file it says what the file says.
//! Not for production: it believes whoever connects.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use socketioxide::adapter::LocalAdapter;
use socketioxide::extract::{AckSender, Event, SocketRef, TryData};
use socketioxide::handler::{ConnectHandler, FromMessageParts, MessageHandler, Value as RawValue};
use socketioxide::socket::Socket;
use socketioxide::{ParserConfig, SocketIo};

use crate::clock::WallClock;
use twinsight_client::secret::Secret;

/// The longest message, in bytes.
const MAX_PAYLOAD: usize = 1 << 20;

/// Messages that may wait for a client; more are dropped.
const CLIENT_QUEUE: usize = 1024;

/// Clients at once.
const MAX_CLIENTS: usize = 1024;

/// Rooms of a client.
const MAX_ROOMS: usize = 1024;

/// Twins that are stored; made-up ones are stored when they report.
const MAX_TWINS: usize = 10_000;

/// The longest twin id, in bytes.
const MAX_ID_BYTES: usize = 256;

/// How long open requests may take to end after the clients were told to go.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// What the hub plays.
#[derive(Debug, Clone)]
pub struct DevHubOptions {
    /// The twins that it knows from the start, as the protocol writes them.
    pub twins: Vec<Value>,
    /// Know only those twins; else an unknown one is made up, of type Edge.
    pub strict: bool,
    /// Deliver a message also to its sender, as some hubs do.
    pub echo: bool,
    /// The answer to `getIceServers`.
    pub ice_servers: Vec<Value>,
    /// How long that answer holds, in seconds.
    pub ice_ttl_seconds: u64,
    /// Who may connect in direct mode.
    pub direct: DirectAccess,
    /// How often clients are pinged.
    pub ping_interval: Duration,
    /// How long they may take to answer.
    pub ping_timeout: Duration,
}

/// Who may connect in direct mode.
#[derive(Debug, Clone)]
pub enum DirectAccess {
    /// Every device with any key.
    Any,
    /// These devices, each with its key.
    Keys(BTreeMap<String, Secret>),
    /// Nobody.
    Nobody,
}

/// Why the development hub does not start.
#[derive(Debug, thiserror::Error)]
pub enum DevHubError {
    /// The file of twins cannot be read.
    #[error("the twins file {path} cannot be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file of twins is no JSON array of twins.
    #[error("the twins file {path} is no JSON array of twins: {what}")]
    Twins {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The listener broke.
    #[error("the development hub stopped: {0}")]
    Serve(#[from] std::io::Error),
}

impl Default for DevHubOptions {
    fn default() -> Self {
        Self {
            twins: Vec::new(),
            strict: false,
            echo: false,
            ice_servers: Vec::new(),
            ice_ttl_seconds: 3600,
            direct: DirectAccess::Any,
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
        }
    }
}

/// Reads a JSON array of twins; each needs an `id`.
pub fn read_twins(path: &Path) -> Result<Vec<Value>, DevHubError> {
    let text = std::fs::read_to_string(path).map_err(|source| DevHubError::Read {
        path: path.to_owned(),
        source,
    })?;
    let wrong = |what: String| DevHubError::Twins {
        path: path.to_owned(),
        what,
    };
    let twins: Vec<Value> =
        serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    if let Some(index) = twins.iter().position(|twin| twin_id(twin).is_none()) {
        return Err(wrong(format!("entry {index} has no text `id`")));
    }
    if twins.len() > MAX_TWINS {
        return Err(wrong(format!("it has more than {MAX_TWINS} entries")));
    }
    Ok(twins)
}

/// Serves until `shutdown` completes; then every client is disconnected.
pub async fn run(
    listener: tokio::net::TcpListener,
    options: DevHubOptions,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), DevHubError> {
    boxed(listener, options, Box::pin(shutdown)).await
}

/// The server's future, boxed where nothing is generic: each program that awaited it unboxed would compile the whole
/// server anew.
fn boxed(
    listener: tokio::net::TcpListener,
    options: DevHubOptions,
    shutdown: BoxFuture<'static, ()>,
) -> BoxFuture<'static, Result<(), DevHubError>> {
    Box::pin(serve(listener, options, shutdown))
}

async fn serve(
    listener: tokio::net::TcpListener,
    options: DevHubOptions,
    shutdown: BoxFuture<'static, ()>,
) -> Result<(), DevHubError> {
    let (layer, io) = SocketIo::builder()
        .max_payload(MAX_PAYLOAD as u64)
        .ws_max_message_size(MAX_PAYLOAD)
        .ws_max_frame_size(MAX_PAYLOAD)
        .max_buffer_size(CLIENT_QUEUE)
        .ping_interval(options.ping_interval)
        .ping_timeout(options.ping_timeout)
        .with_parser(
            ParserConfig::common()
                .max_incoming_binaries(twinsight_client::hub::socket_io::MAX_ATTACHMENTS)
                .max_incoming_binary_buf_size(MAX_PAYLOAD),
        )
        .build_layer();
    let hub = Arc::new(Hub::new(options));
    let admit = {
        let hub = Arc::clone(&hub);
        move |socket: SocketRef, TryData(auth): TryData<Value>| {
            let admitted = admit(&hub, &socket, auth.unwrap_or_default());
            async move { admitted }
        }
    };
    // All is set up before the namespace is granted: the client's first call finds its handler.
    io.ns("/", (async || {}).with(admit));
    let app = axum::Router::new()
        .route(
            "/",
            axum::routing::get(async || "Twinsight development hub\n"),
        )
        .layer(layer);
    let (told, all_told) = tokio::sync::oneshot::channel();
    let closing = async move {
        shutdown.await;
        io.close().await;
        let _ = told.send(());
    };
    let serving = axum::serve(listener, app).with_graceful_shutdown(closing);
    tokio::select! {
        served = async { serving.await } => served?,
        () = async {
            // An error means that serving has ended, which the other branch reports.
            if all_told.await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(CLOSE_LIMIT).await;
        } => {}
    }
    Ok(())
}

/// What all clients share.
#[derive(Debug)]
struct Hub {
    options: DevHubOptions,
    twins: Mutex<BTreeMap<String, Value>>,
    /// Twins of its file: their status is what the file says, or nothing.
    told: BTreeSet<String>,
    /// Who is connected, and how often: twins, and devices behind [`DEVICE`].
    online: Mutex<HashMap<String, usize>>,
    clients: AtomicUsize,
}

/// Marks a device among those that are connected; no twin's id begins like this.
const DEVICE: &str = "\0";

/// How a client has introduced itself.
#[derive(Debug, Clone)]
enum Client {
    /// As a twin, in simulator mode.
    Twin(String),
    /// In direct mode, nothing proved yet.
    Stranger,
    /// As this device, with a valid key.
    Device(String),
}

/// The handler of one client's events. Socketioxide would run async handlers in any order; this one
/// runs where the packets are read, so messages keep theirs.
#[derive(Debug)]
struct Handler {
    hub: Arc<Hub>,
    client: Arc<Mutex<Client>>,
}

/// Marks [`Handler`] for socketioxide's overload by argument lists.
#[derive(Debug)]
struct InOrder;

/// What a method gives: the acknowledgement.
type Answer = Value;

/// Takes a client in, or says why not.
fn admit(hub: &Arc<Hub>, socket: &SocketRef, auth: Value) -> Result<(), String> {
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
    if hub.clients.fetch_add(1, Ordering::Relaxed) >= MAX_CLIENTS {
        hub.clients.fetch_sub(1, Ordering::Relaxed);
        return Err(format!("{MAX_CLIENTS} clients are connected already"));
    }
    if let Client::Twin(twin_id) = &client {
        tracing::info!(twin_id, transport = ?socket.transport_type(), "a client connected");
        hub.came(twin_id.clone());
        socket.join(twin_id.clone());
    }
    let client = Arc::new(Mutex::new(client));
    let (leaving, left) = (Arc::clone(hub), Arc::clone(&client));
    socket.on_disconnect(move || {
        leaving.clients.fetch_sub(1, Ordering::Relaxed);
        match &*left.lock() {
            Client::Twin(twin_id) => leaving.went(twin_id),
            Client::Device(device_id) => leaving.went(&format!("{DEVICE}{device_id}")),
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
    /// Handles an event; what it gives is the acknowledgement, where one is asked for.
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
            self.hub.came(format!("{DEVICE}{device_id}"));
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
        // Stored, so that it is found by its id from now on.
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
                // Its owner before learns that it is not any more.
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

impl Hub {
    fn new(options: DevHubOptions) -> Self {
        let twins = options
            .twins
            .iter()
            .filter_map(|twin| Some((twin_id(twin)?.to_owned(), twin.clone())))
            .collect();
        Self {
            told: options
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

    /// A client introduced itself.
    fn came(&self, who: String) {
        *self.online.lock().entry(who).or_default() += 1;
    }

    /// A client that had introduced itself is gone.
    fn went(&self, who: &str) {
        let mut online = self.online.lock();
        if let Some(count) = online.get_mut(who) {
            *count -= 1;
            if *count == 0 {
                online.remove(who);
            }
        }
    }

    /// A twin with the status that it has now: a peripheral has its app's, a device's twin the device's.
    fn present(&self, mut twin: Value) -> Value {
        let Some(id) = twin_id(&twin) else {
            return twin;
        };
        if self.told.contains(id) {
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

    /// A twin that is known or may be made up.
    fn twin(&self, id: &str) -> Option<Value> {
        let known = self.twins.lock().get(id).cloned();
        let made_up = || {
            let may_be = !self.options.strict && !id.is_empty() && id.len() <= MAX_ID_BYTES;
            may_be.then(|| new_twin(id, "Edge", "dev-device"))
        };
        Some(self.present(known.or_else(made_up)?))
    }

    /// The Device twin of a device, made up if need be.
    fn device_twin(&self, device_id: &str) -> Value {
        let known = self
            .twins
            .lock()
            .values()
            .find(|twin| twin["type"] == "Device" && twin["deviceId"] == device_id)
            .cloned();
        known.unwrap_or_else(|| new_twin(&format!("device-{device_id}"), "Device", device_id))
    }

    /// Merges properties into a twin's `desired` or `reported`.
    fn merge(&self, id: Option<&str>, side: &str, properties: &Value) -> Result<Value, Answer> {
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

    fn store(&self, twin: Value) -> Result<Value, Answer> {
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

    fn peripherals(&self, instance_id: &str) -> Vec<Value> {
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

    /// Creates the peripheral of a hardware id, or hands it to its new owner.
    fn create_peripheral(&self, own: &str, data: &Value) -> Answer {
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

    fn delete_peripheral(&self, id: Option<&str>) -> Answer {
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

/// Acknowledges a change of a twin and tells its room.
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

/// Tells a client that was quicker than socketioxide: that grants the namespace a moment before it
/// takes events for the client, and would drop this one.
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

fn failure(message: impl Into<String>) -> Answer {
    json!({ "status": "error", "message": message.into() })
}

fn twin_id(twin: &Value) -> Option<&str> {
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

/// Marks a twin as changed now.
fn touch(twin: &mut Value) {
    let clock = WallClock::read();
    twin["version"] = (twin["version"].as_u64().unwrap_or(0) + 1).into();
    twin["updatedAt"] = clock.unix_ms(clock.instant()).into();
}
