//! Serves `/metrics`, `/healthz`, `/readyz` and `/api/cameras` on a listener until it is told to stop. Everybody may read
//! metrics and probes; the API is for loopback, or for whoever bears the token. The node runs it.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use futures_util::future::BoxFuture;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio_util::sync::CancellationToken;

use super::api::CameraView;
use super::connections::{AnswerBody, ConnectionLimits, SharedActivity, TrackedSocket};
use crate::descriptors::Descriptors;
use crate::telemetry::health::{Health, Readiness};
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

/// Texts of all metrics that are in memory at once. Each may have megabytes, and stays as long as its client is slow.
const MAX_SCRAPES: usize = 8;

/// Whoever wants one more waits this long.
const SCRAPE_WAIT: Duration = Duration::from_secs(2);

/// What the answers are made from.
#[derive(Clone)]
pub struct HttpState {
    /// Answers `/metrics`.
    pub metrics: Arc<Metrics>,
    /// Answers `/healthz`.
    pub health: Health,
    /// Answers `/readyz`.
    pub readiness: Arc<Readiness>,
    /// Reads the cameras for `/api/cameras`, and must not wait.
    pub cameras: Arc<dyn Fn() -> Vec<CameraView> + Send + Sync>,
}

impl fmt::Debug for HttpState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpState").finish_non_exhaustive()
    }
}

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

/// Who may use the API.
#[derive(Debug, Clone)]
enum Access {
    /// Everybody, since the listener is on loopback and there is no token.
    Open,
    /// Whoever bears this token.
    Token(Secret),
    /// Nobody, since other machines can connect and there is no token.
    Closed,
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

/// Serves until `stop` resolves, and then gives requests that are under way a second to end. With a token the API asks for it
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
    serve_until(listener, state, token, limits, Box::pin(stop)).await
}

async fn serve_until(
    listener: TcpListener,
    state: HttpState,
    token: Option<Secret>,
    limits: ConnectionLimits,
    mut stop: BoxFuture<'static, ()>,
) -> Result<(), HttpError> {
    let address = listener.local_addr().map_err(HttpError::Serve)?;
    let access = match token {
        Some(token) => Access::Token(token),
        None if address.ip().is_loopback() => Access::Open,
        None => Access::Closed,
    };
    tracing::info!(%address, connections = limits.connections, "metrics and probes are served");
    let mut open = OpenConnections::new(limits, state, access);
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
            Ok((stream, _)) => {
                backoff = BACKOFF.0;
                open.start(stream).await;
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
    fn new(limits: ConnectionLimits, state: HttpState, access: Access) -> Self {
        Self {
            limits,
            metrics: Arc::clone(&state.metrics),
            router: router(state, access),
            tasks: JoinSet::new(),
            slots: HashMap::new(),
            stop: CancellationToken::new(),
        }
    }

    /// Serves a new connection, for which another one is closed if there are too many.
    async fn start(&mut self, stream: TcpStream) {
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
    stop: CancellationToken,
}

impl ConnectionTask {
    async fn run(self, stream: TcpStream, router: Router) {
        // Answers are short, and with Nagle's algorithm some would wait for an acknowledgement.
        let _ = stream.set_nodelay(true);
        let socket = TrackedSocket {
            stream,
            activity: self.activity.clone(),
        };
        let router = TowerToHyperService::new(router);
        let activity = self.activity.clone();
        let service = service_fn(move |request: axum::http::Request<Incoming>| {
            activity.get().asked(Instant::now());
            let (answer, activity) = (router.call(request), activity.clone());
            async move {
                let answer = answer.await?;
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
                    is_ending = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

/// What `/metrics` is answered from.
#[derive(Clone)]
struct Scrapes {
    state: HttpState,
    scrapes: Arc<Semaphore>,
}

fn router(state: HttpState, access: Access) -> Router {
    let api = Router::new()
        .route("/api/cameras", get(cameras))
        .layer(middleware::from_fn_with_state(Arc::new(access), guard));
    let scrapes = Arc::new(Semaphore::new(MAX_SCRAPES));
    let scrapes = Scrapes {
        state: state.clone(),
        scrapes,
    };
    let metrics = Router::new()
        .route("/metrics", get(metrics))
        .with_state(scrapes);
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .merge(api)
        .fallback(nothing_here)
        .with_state(state)
        .merge(metrics)
}

/// The text of all metrics. It counts against [`MAX_SCRAPES`] until it was sent.
struct Scrape {
    text: String,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Scrape {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

async fn metrics(State(shared): State<Scrapes>) -> Response {
    let permit = tokio::time::timeout(SCRAPE_WAIT, shared.scrapes.acquire_owned()).await;
    let Ok(Ok(permit)) = permit else {
        let text = "others are reading the metrics and do not take them: ask again\n";
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    };
    // With hundreds of cameras these are megabytes, which would keep a thread that carries video for too long.
    let metrics = Arc::clone(&shared.state.metrics);
    let encoded = tokio::task::spawn_blocking(move || Scrape {
        text: metrics.encode(),
        _permit: permit,
    });
    let Ok(scrape) = encoded.await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    let body = Body::from(Bytes::from_owner(scrape));
    ([(header::CONTENT_TYPE, content_type)], body).into_response()
}

async fn healthz(State(state): State<HttpState>) -> Response {
    probe(state.health.complaints(Instant::now()))
}

async fn readyz(State(state): State<HttpState>) -> Response {
    probe(state.readiness.missing())
}

/// The answer of a probe: 200, or 503 with a line for each thing that is wrong.
fn probe(wrong: Vec<String>) -> Response {
    if wrong.is_empty() {
        return "ok\n".into_response();
    }
    let text = wrong.join("\n") + "\n";
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

async fn cameras(State(state): State<HttpState>) -> Json<Vec<CameraView>> {
    Json((state.cameras)())
}

async fn nothing_here() -> (StatusCode, &'static str) {
    let text = "nothing here: see /metrics, /healthz, /readyz and /api/cameras\n";
    (StatusCode::NOT_FOUND, text)
}

async fn guard(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    match access.as_ref() {
        Access::Open => next.run(request).await,
        Access::Token(token) if bears(request.headers(), token) => next.run(request).await,
        Access::Token(_) => (
            StatusCode::UNAUTHORIZED,
            [(header::WWW_AUTHENTICATE, "Bearer")],
            "the API needs the header `Authorization: Bearer TOKEN` with the token of `http.token_file`\n",
        )
            .into_response(),
        Access::Closed => (
            StatusCode::FORBIDDEN,
            "the API is closed: `http.listen` is not loopback and there is no `http.token_file`, set one\n",
        )
            .into_response(),
    }
}

fn bears(headers: &HeaderMap, token: &Secret) -> bool {
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    given.is_some_and(|(_, given)| same(given.trim(), token.expose()))
}

/// Compares the digests of two texts, so that the time that it takes tells neither what they are nor how long.
fn same(a: &str, b: &str) -> bool {
    let (a, b) = (Sha256::digest(a), Sha256::digest(b));
    a.as_slice().ct_eq(b.as_slice()).into()
}
