//! Serves `/metrics`, `/healthz`, `/readyz` and `/api/cameras` on a bound listener until told to stop.
//! Probes and metrics are open; the API is for loopback or for who bears the token. The node runs it.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;

use super::api::CameraView;
use crate::config::Secret;
use crate::telemetry::health::{Health, Readiness};
use crate::telemetry::metrics::Metrics;

/// Requests under way at the end may take this long.
const GRACE: Duration = Duration::from_secs(1);

/// What the server tells about.
#[derive(Clone)]
pub struct HttpState {
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// For `/healthz`.
    pub health: Health,
    /// For `/readyz`.
    pub readiness: Arc<Readiness>,
    /// For `/api/cameras`: reads the cameras of now; must not wait.
    pub cameras: Arc<dyn Fn() -> Vec<CameraView> + Send + Sync>,
}

impl fmt::Debug for HttpState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpState").finish_non_exhaustive()
    }
}

/// Why the server does not run.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The port belongs to another process.
    #[error("{0} is in use: stop what listens there, or set `http.listen` to another port")]
    InUse(SocketAddr),
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {address} ({source}): set `http.listen` to an address of this machine"
    )]
    Bind {
        /// The configured address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The listener failed while serving.
    #[error("the HTTP server failed ({0}): restart the node")]
    Serve(#[source] io::Error),
}

/// Who may use the API.
#[derive(Debug, Clone)]
enum Access {
    /// Whoever can connect: the listener is on loopback.
    Open,
    /// Who bears the token.
    Token(Secret),
    /// Nobody: the listener is open to others, and there is no token.
    Closed,
}

/// Listens on the configured address.
///
/// # Errors
/// If the port is in use or the address is not of this machine.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, HttpError> {
    TcpListener::bind(address).await.map_err(|source| {
        if source.kind() == io::ErrorKind::AddrInUse {
            HttpError::InUse(address)
        } else {
            HttpError::Bind { address, source }
        }
    })
}

/// Serves until `stop` resolves, then lets requests under way end for a second. With a token the API needs
/// it, on loopback too (a proxy may stand there); without one it answers on loopback only.
///
/// # Errors
/// If the listener fails.
pub async fn serve(
    listener: TcpListener,
    state: HttpState,
    token: Option<Secret>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), HttpError> {
    let address = listener.local_addr().map_err(HttpError::Serve)?;
    let access = match token {
        Some(token) => Access::Token(token),
        None if address.ip().is_loopback() => Access::Open,
        None => Access::Closed,
    };
    tracing::info!(%address, "metrics and probes are served");
    let (stopping, stopped) = tokio::sync::oneshot::channel();
    let server = axum::serve(listener, router(state, access)).with_graceful_shutdown(async move {
        stop.await;
        let _ = stopping.send(());
    });
    tokio::select! {
        result = server => result.map_err(HttpError::Serve),
        () = async {
            // An error means that the server is gone, which the other branch tells.
            let _ = stopped.await;
            tokio::time::sleep(GRACE).await;
        } => Ok(()),
    }
}

fn router(state: HttpState, access: Access) -> Router {
    let api = Router::new()
        .route("/api/cameras", get(cameras))
        .layer(middleware::from_fn_with_state(Arc::new(access), guard));
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .merge(api)
        .fallback(nothing_here)
        .with_state(state)
}

async fn metrics(State(state): State<HttpState>) -> Response {
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    (
        [(header::CONTENT_TYPE, content_type)],
        state.metrics.encode(),
    )
        .into_response()
}

async fn healthz(State(state): State<HttpState>) -> Response {
    let silent = state.health.silent(Instant::now());
    probe(silent.iter().map(ToString::to_string).collect())
}

async fn readyz(State(state): State<HttpState>) -> Response {
    probe(state.readiness.missing())
}

/// 200, or 503 with a line for each thing that is wrong.
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

/// Compares in a time that tells neither content nor length: digests, all bytes of them.
fn same(a: &str, b: &str) -> bool {
    let (a, b) = (Sha256::digest(a), Sha256::digest(b));
    let difference = a.iter().zip(b.iter()).fold(0, |d, (a, b)| d | (a ^ b));
    std::hint::black_box(difference) == 0
}
