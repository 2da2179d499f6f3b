//! Accepts connections and serves each on a task of its own until it is told to stop, within limits on how many there are and how
//! long they take. What is served is said in `routes`. The node runs it.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use futures_util::future::BoxFuture;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use socket2::TcpKeepalive;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio_util::sync::CancellationToken;

use super::access::Peer;
use super::connections::{AnswerBody, ConnectionLimits, SharedActivity, TrackedSocket};
use super::probe::reachable;
use super::routes::{CLOSED, Serves, router};
use super::state::HttpState;
use crate::descriptors::Descriptors;
use crate::telemetry::metrics::{ConnectionEnd, Metrics};
use twinsight_client::os_error::{explain_io, is_out_of_files};
use twinsight_client::rate_limit::{RATE_LIMIT, RateLimit};
use twinsight_client::secret::Secret;

/// When the server stops, requests that are under way have this long.
const GRACE: Duration = Duration::from_secs(1);

/// How often a connection sees whether its time is over.
const TICK: Duration = Duration::from_secs(1);

/// The longest head of a request.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Bytes that are read of a connection before they are answered.
const MAX_BUFFER_BYTES: usize = 64 * 1024;

/// How long the server waits after a listener has failed, the first time and at most. The time doubles.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// The system keeps no more than about this much of an answer that a client is slow to take: what is kept of a live picture is old.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// When a client has been silent for so long, the system asks it whether it is there: a machine that lost its power or its network
/// closes nothing, and would else keep a watcher's place for as long as there is nothing to send to it.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// A client that confirms nothing for so long, neither what was sent nor that question, is gone.
const UNCONFIRMED: Duration = Duration::from_secs(20);

/// Why the node is not served.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Another process listens on the port.
    #[error("{0} is in use: stop what listens there, or set `http.listen` to another port")]
    InUse(SocketAddr),
    /// The system refuses the address.
    #[error(
        "cannot listen on {address} ({source}): set `http.listen` to an address of this machine"
    )]
    Bind {
        /// The address of `http.listen`.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The listener failed while serving.
    #[error("the HTTP server failed ({0}): restart the node")]
    Serve(#[source] io::Error),
}

/// Listens on the configured address.
///
/// # Errors
/// When the port is in use, or the address is not one of this machine.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, HttpError> {
    TcpListener::bind(address).await.map_err(|source| {
        if source.kind() == io::ErrorKind::AddrInUse {
            HttpError::InUse(address)
        } else {
            HttpError::Bind { address, source }
        }
    })
}

/// Serves until `stop` resolves, and then gives whole requests a second to be answered. With a token the API asks for it
/// even on loopback, where a proxy may stand; without one it answers on loopback only. How many connections it has at once
/// follows from the process's limit of open files.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    state: HttpState,
    token: Option<Secret>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), HttpError> {
    let limits = ConnectionLimits::new(Descriptors::of_process().http_connections());
    serve_within(listener, state, token, limits, stop).await
}

/// As [`serve`], within these limits.
///
/// # Errors
/// When the listener fails.
pub async fn serve_within(
    listener: TcpListener,
    state: HttpState,
    token: Option<Secret>,
    limits: ConnectionLimits,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), HttpError> {
    let open = OpenConnections::new(Serves::Node, limits, state, listener.local_addr(), token)?;
    serve_until(listener, open, Box::pin(stop)).await
}

/// Serves metrics and probes of a program that only bridges cameras, as [`serve`] does those of a node. There is nothing that needs
/// a token.
///
/// # Errors
/// When the listener fails.
pub async fn serve_bridge(
    listener: TcpListener,
    state: HttpState,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), HttpError> {
    let limits = ConnectionLimits::new(Descriptors::of_process().http_connections());
    let open = OpenConnections::new(Serves::Bridge, limits, state, listener.local_addr(), None)?;
    serve_until(listener, open, Box::pin(stop)).await
}

/// Says in the log what is served where.
fn announce(serves: Serves, address: SocketAddr, has_token: bool, connections: usize) {
    if serves == Serves::Bridge {
        tracing::info!(%address, connections, "metrics and probes are served");
    } else if !has_token && !address.ip().is_loopback() {
        tracing::info!(%address, connections, "metrics and probes are served");
        tracing::warn!("{CLOSED}");
    } else {
        let named = SocketAddr::new(reachable(address.ip()), address.port());
        let dashboard = format!("http://{named}/");
        tracing::info!(%address, connections, dashboard, "metrics and probes are served");
    }
}

async fn serve_until(
    listener: TcpListener,
    mut open: OpenConnections,
    mut stop: BoxFuture<'static, ()>,
) -> Result<(), HttpError> {
    let mut backoff = BACKOFF.0;
    let warnings = RateLimit::new(RATE_LIMIT);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(ended) = open.tasks.join_next_with_id() => {
                open.ended(ended.map_or_else(|error| error.id(), |(id, ())| id));
                continue;
            }
            () = &mut stop => break,
        };
        let error = match accepted {
            Ok((stream, peer)) => {
                backoff = BACKOFF.0;
                open.start(stream, Peer(peer.ip())).await;
                continue;
            }
            Err(error) => error,
        };
        if is_of_the_client(&error) {
            continue;
        }
        if let Some(suppressed) = warnings.allow((), Instant::now()) {
            tracing::warn!(
                error = explain_io(&error),
                suppressed,
                "a connection cannot be accepted"
            );
        }
        // A connection that is closed gives the file that is missing. The client waits in the listener's queue meanwhile.
        if is_out_of_files(&error) && open.replace_one().await {
            continue;
        }
        tokio::select! {
            () = tokio::time::sleep(backoff) => backoff = (backoff * 2).min(BACKOFF.1),
            () = &mut stop => break,
        }
    }
    drop(listener);
    open.end().await;
    Ok(())
}

/// True for errors of a client that went before its connection was accepted.
fn is_of_the_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

/// The connections that are open, each on a task of its own.
struct OpenConnections {
    limits: ConnectionLimits,
    metrics: Arc<Metrics>,
    router: Router,
    tasks: JoinSet<()>,
    slots: HashMap<Id, ConnectionSlot>,
    stop: CancellationToken,
}

struct ConnectionSlot {
    activity: SharedActivity,
    task: AbortHandle,
}

impl OpenConnections {
    fn new(
        serves: Serves,
        limits: ConnectionLimits,
        state: HttpState,
        address: io::Result<SocketAddr>,
        token: Option<Secret>,
    ) -> Result<Self, HttpError> {
        let address = address.map_err(HttpError::Serve)?;
        announce(serves, address, token.is_some(), limits.connections);
        let stop = CancellationToken::new();
        Ok(Self {
            limits,
            metrics: Arc::clone(&state.metrics),
            router: router(serves, state, address, token, stop.clone()),
            tasks: JoinSet::new(),
            slots: HashMap::new(),
            stop,
        })
    }

    /// Serves a new connection, for which another one is closed if there are too many.
    async fn start(&mut self, stream: TcpStream, peer: Peer) {
        // The new one is open already, so that the limit holds for files too.
        while self.slots.len() >= self.limits.connections {
            if !self.replace_one().await {
                break;
            }
        }
        let activity = SharedActivity::new(Instant::now());
        let connection = ConnectionTask {
            limits: self.limits,
            metrics: Arc::clone(&self.metrics),
            activity: activity.clone(),
            peer,
            stop: self.stop.clone(),
        };
        let task = self
            .tasks
            .spawn(connection.run(stream, self.router.clone()));
        self.slots
            .insert(task.id(), ConnectionSlot { activity, task });
        self.count();
    }

    /// Closes the connection with the lowest rank and waits until it is closed. False means that there is none.
    async fn replace_one(&mut self) -> bool {
        let now = Instant::now();
        let rank = |slot: &ConnectionSlot| slot.activity.get().rank(now);
        let Some((&id, slot)) = self.slots.iter().min_by_key(|(_, slot)| rank(slot)) else {
            return false;
        };
        slot.task.abort();
        self.metrics.http_connection_closed(ConnectionEnd::Replaced);
        while self.slots.contains_key(&id) {
            match self.tasks.join_next_with_id().await {
                Some(ended) => self.ended(ended.map_or_else(|error| error.id(), |(id, ())| id)),
                None => self.slots.clear(),
            }
        }
        true
    }

    fn ended(&mut self, id: Id) {
        self.slots.remove(&id);
        self.count();
    }

    fn count(&self) {
        let open = i64::try_from(self.slots.len()).unwrap_or(i64::MAX);
        self.metrics.http_connections.set(open);
    }

    /// Gives requests that are under way their time, and closes all connections.
    async fn end(mut self) {
        self.stop.cancel();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        // Dropping the set aborts those that are left.
        let _ = tokio::time::timeout(GRACE, ended).await;
        self.metrics.http_connections.set(0);
    }
}

/// The task of one connection.
struct ConnectionTask {
    limits: ConnectionLimits,
    metrics: Arc<Metrics>,
    activity: SharedActivity,
    peer: Peer,
    stop: CancellationToken,
}

impl ConnectionTask {
    async fn run(self, stream: TcpStream, router: Router) {
        // Answers are short, and with Nagle's algorithm some would wait for an acknowledgement.
        let _ = stream.set_nodelay(true);
        let options = socket2::SockRef::from(&stream);
        let _ = options.set_send_buffer_size(SEND_BUFFER_BYTES);
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE)
            .with_interval(KEEPALIVE / 2);
        let _ = options.set_tcp_keepalive(&keepalive);
        let _ = options.set_tcp_user_timeout(Some(UNCONFIRMED));
        let socket = TrackedSocket {
            stream,
            activity: self.activity.clone(),
        };
        let router = TowerToHyperService::new(router);
        let (activity, peer) = (self.activity.clone(), self.peer);
        let service = service_fn(move |mut request: axum::http::Request<Incoming>| {
            activity.get().asked(Instant::now());
            request.extensions_mut().insert(peer);
            let (answer, activity) = (router.call(request), activity.clone());
            async move {
                let answer = answer.await?;
                activity.get().answers(&answer, Instant::now());
                Ok::<_, std::convert::Infallible>(answer.map(|body| AnswerBody { body, activity }))
            }
        });
        let mut builder = http1::Builder::new();
        builder
            // A client that has asked for everything may close its half of the connection, as `nc -N` does.
            .half_close(true)
            .header_read_timeout(None::<Duration>)
            .max_header_size(MAX_HEAD_BYTES)
            .max_buf_size(MAX_BUFFER_BYTES);
        let mut is_ending = false;
        let mut connection = pin!(builder.serve_connection(TokioIo::new(socket), service));
        loop {
            tokio::select! {
                // An error means that the client went or does not speak HTTP.
                _ = connection.as_mut() => return,
                () = tokio::time::sleep(TICK.min(self.limits.request)) => {
                    let (at, why) = self.activity.get().end(&self.limits);
                    if at <= Instant::now() {
                        self.metrics.http_connection_closed(why);
                        return;
                    }
                }
                () = self.stop.cancelled(), if !is_ending => {
                    // Of a connection that a browser opened in advance, or of half a request, nothing more is awaited.
                    if self.activity.get().awaits_request() {
                        return;
                    }
                    is_ending = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}
