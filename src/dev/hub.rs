//! The development hub: clients connect over long-polling or WebSocket, and their twin messages go to the rooms of the twins. It speaks
//! the simulator mode of the hub's protocol (which PhyOS has too) and the direct mode. It makes twins up that it does not know, and
//! forgets everything when it ends. A twin is Online while its client is connected; one of the twins file has the status that the
//! file says. It is not for production, since it believes every client.

mod session;
mod state;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::Value;
use socketioxide::extract::{SocketRef, TryData};
use socketioxide::handler::ConnectHandler;
use socketioxide::{ParserConfig, SocketIo};

use self::session::admit;
use self::state::{HubState, twin_id};
use twinsight_client::secret::Secret;

/// A message has at most this many bytes.
const MAX_PAYLOAD: usize = 1 << 20;

/// At most this many messages wait for a client; more are dropped.
const CLIENT_QUEUE: usize = 1024;

/// At most this many clients are connected at the same time.
const MAX_CLIENTS: usize = 1024;

/// A client is in at most this many rooms.
const MAX_ROOMS: usize = 1024;

/// At most this many twins are stored. A twin that was made up is stored once it reports something.
const MAX_TWINS: usize = 10_000;

/// The id of a twin has at most this many bytes.
const MAX_ID_BYTES: usize = 256;

/// Requests that are under way may take this long to end after the clients were disconnected.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// How the hub behaves.
#[derive(Debug, Clone)]
pub struct DevHubOptions {
    /// The twins that it knows from the start, as JSON of the protocol.
    pub twins: Vec<Value>,
    /// Whether it knows only those twins. Otherwise it makes an unknown twin up, of the type Edge.
    pub strict: bool,
    /// Whether it delivers a message to its sender too, as some hubs do.
    pub echo: bool,
    /// The servers in its answer to `getIceServers`.
    pub ice_servers: Vec<Value>,
    /// For how many seconds that answer holds.
    pub ice_ttl_seconds: u64,
    /// Who may connect in direct mode.
    pub direct: DirectAccess,
    /// The time between two pings to a client.
    pub ping_interval: Duration,
    /// How long a client may take to answer a ping.
    pub ping_timeout: Duration,
}

/// Who may connect in direct mode.
#[derive(Debug, Clone)]
pub enum DirectAccess {
    /// Every device may, with any key.
    Any,
    /// These devices may, each with its key.
    Keys(BTreeMap<String, Secret>),
    /// No device may.
    Nobody,
}

/// Why the development hub does not start.
#[derive(Debug, thiserror::Error)]
pub enum DevHubError {
    /// The file of twins cannot be read.
    #[error("the twins file {path} cannot be read: {source}")]
    Read {
        /// The path of the file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file of twins is no JSON array of twins.
    #[error("the twins file {path} is no JSON array of twins: {what}")]
    Twins {
        /// The path of the file.
        path: PathBuf,
        /// What is wrong in it.
        what: String,
    },
    /// The listening socket failed.
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

/// Reads a file with a JSON array of twins, each of which needs an `id`.
///
/// # Errors
/// If the file cannot be read or is no such array.
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

/// Serves until `shutdown` completes, then disconnects every client.
///
/// # Errors
/// If the listening socket fails.
pub async fn run(
    listener: tokio::net::TcpListener,
    options: DevHubOptions,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), DevHubError> {
    boxed(listener, options, Box::pin(shutdown)).await
}

/// The server's future. It is boxed here, where nothing is generic, since otherwise each program that awaits it would compile the
/// whole server anew.
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
    let hub = Arc::new(HubState::new(options));
    let admit = {
        let hub = Arc::clone(&hub);
        move |socket: SocketRef, TryData(auth): TryData<Value>| {
            let admitted = admit(&hub, &socket, auth.unwrap_or_default());
            async move { admitted }
        }
    };
    // All is set up before the namespace is granted, so that the client's first call finds its handler.
    io.ns("/", (async || {}).with(admit));
    let app = axum::Router::new()
        .route(
            "/",
            axum::routing::get(async || "Twinsight development hub\n"),
        )
        .layer(layer);
    let (closed, all_closed) = tokio::sync::oneshot::channel();
    let closing = async move {
        shutdown.await;
        io.close().await;
        let _ = closed.send(());
    };
    let serving = axum::serve(listener, app).with_graceful_shutdown(closing);
    tokio::select! {
        served = async { serving.await } => served?,
        () = async {
            // An error means that serving has ended, which the other branch reports.
            if all_closed.await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(CLOSE_LIMIT).await;
        } => {}
    }
    Ok(())
}
