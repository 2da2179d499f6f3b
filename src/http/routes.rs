//! The one table of what the node serves and what each route needs. A router is made of it; tests walk it, and compare it with
//! `openapi.json`, which describes it.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Extension;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{
    DefaultBodyLimit, FromRequestParts, OriginalUri, Path, RawQuery, Request, State,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post, put};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::access::{Access, COOKIE, Login, Peer, Refusal};
use super::api::Detail;
use super::state::HttpState;
use super::{answer, assets, events, live, scene_edit, tracks};
use crate::config::shown;
use twinsight_client::secret::Secret;

/// Texts of all metrics that are in memory at once. Each may have megabytes, and stays as long as its client is slow.
const MAX_SCRAPES: usize = 8;

/// Whoever wants one more waits this long.
const SCRAPE_WAIT: Duration = Duration::from_secs(2);

/// Pictures of tracks that are encoded at once. Others wait, so that video has the other processors.
const MAX_SHOT_ENCODERS: usize = 2;

/// The longest form of the login page.
const MAX_FORM_BYTES: usize = 4096;

/// What a route needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: it is for probes and scrapers, or shows nothing of the node.
    Nothing,
    /// The token, where one is set. Without one it is for loopback only.
    Token,
    /// The token, and that the configuration lets those who bear it change it (`http.edit`).
    Edit,
}

/// Something that is served.
#[derive(Debug)]
pub struct Route {
    /// `GET`, `POST` or `PUT`.
    pub method: &'static str,
    /// Its path, with names of parameters in braces.
    pub path: &'static str,
    /// What it needs.
    pub needs: Needs,
    /// Whether its answer goes on until the client goes.
    pub streams: bool,
    /// The names that its query may have. Where there are none, nobody looks at the query.
    pub query: &'static [&'static str],
    handler: fn() -> MethodRouter<Shared>,
}

const fn open(path: &'static str, handler: fn() -> MethodRouter<Shared>) -> Route {
    route("GET", path, Needs::Nothing, false, handler)
}

const fn guarded(path: &'static str, handler: fn() -> MethodRouter<Shared>) -> Route {
    route("GET", path, Needs::Token, false, handler)
}

const fn streaming(path: &'static str, handler: fn() -> MethodRouter<Shared>) -> Route {
    route("GET", path, Needs::Token, true, handler)
}

const fn route(
    method: &'static str,
    path: &'static str,
    needs: Needs,
    streams: bool,
    handler: fn() -> MethodRouter<Shared>,
) -> Route {
    Route {
        method,
        path,
        needs,
        streams,
        query: &[],
        handler,
    }
}

impl Route {
    const fn takes(self, query: &'static [&'static str]) -> Self {
        Self { query, ..self }
    }
}

/// All that is served.
pub const ROUTES: &[Route] = &[
    open("/metrics", || get(metrics)),
    open("/healthz", || get(healthz)).takes(&["cameras"]),
    open("/readyz", || get(readyz)),
    open("/assets/{name}", || get(assets::asset)),
    route("POST", "/login", Needs::Nothing, false, || post(log_in)),
    route("POST", "/logout", Needs::Nothing, false, || post(log_out)),
    guarded("/", || get(assets::index)),
    guarded("/api/node", || get(node)),
    guarded("/api/cameras", || get(cameras)).takes(&["history"]),
    guarded("/api/cameras/{twin}/{stream}", || get(camera)),
    guarded("/api/cameras/{twin}/{stream}/frame.jpg", || {
        get(live::frame)
    })
    .takes(&["width", "boxes", "after"]),
    route(
        "PUT",
        "/api/cameras/{twin}/{stream}/scene",
        Needs::Edit,
        false,
        || put(scene_edit::put).layer(DefaultBodyLimit::max(scene_edit::MAX_SCENE_BYTES)),
    ),
    streaming("/api/cameras/{twin}/{stream}/live", || get(live::one))
        .takes(&["width", "boxes", "fps"]),
    streaming("/api/live", || get(live::many)).takes(&["camera", "width", "boxes", "fps"]),
    guarded("/api/tracks", || get(tracks::tracks)).takes(&["camera", "stream", "state"]),
    guarded("/api/tracks/{id}/best.jpg", || get(tracks::best_shot)).takes(&["n"]),
    streaming("/api/events", || get(events::events)).takes(&["camera", "type"]),
    guarded("/api/config", || get(config)),
    guarded("/api/openapi.json", || get(openapi)),
];

/// What a program serves that only bridges cameras.
const BRIDGE_ROUTES: &[Route] = &[
    open("/", || get(about_bridge)),
    open("/metrics", || get(metrics)),
    open("/healthz", || get(healthz)).takes(&["cameras"]),
    open("/readyz", || get(readyz)),
];

/// Which program is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Serves {
    /// A node: [`ROUTES`].
    Node,
    /// A program that only bridges cameras: metrics and probes.
    Bridge,
}

/// The description of [`ROUTES`].
pub const OPENAPI: &str = include_str!("openapi.json");

/// Why nobody may see the dashboard, and what to do.
pub(super) const CLOSED: &str = "the dashboard and the API are closed: `http.listen` is not loopback and there is no `http.token_file`, set one";

/// What the handlers share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) state: HttpState,
    pub(super) stop: CancellationToken,
    access: Arc<Access>,
    scrapes: Arc<Semaphore>,
    pub(super) shot_encoders: Arc<Semaphore>,
}

/// The router of all routes. When `stop` is cancelled, answers that go on end.
pub(super) fn router(
    serves: Serves,
    state: HttpState,
    address: SocketAddr,
    token: Option<Secret>,
    stop: CancellationToken,
) -> Router {
    let shared = Shared {
        state,
        stop,
        access: Arc::new(Access::new(address.ip(), token)),
        scrapes: Arc::new(Semaphore::new(MAX_SCRAPES)),
        shot_encoders: Arc::new(Semaphore::new(MAX_SHOT_ENCODERS)),
    };
    let mut router = Router::new();
    let routes = match serves {
        Serves::Node => ROUTES,
        Serves::Bridge => BRIDGE_ROUTES,
    };
    for route in routes {
        let mut handler = (route.handler)();
        if !route.query.is_empty() {
            let check =
                async |asked: Request, next: Next| query_checked(route.query, asked, next).await;
            handler = handler.layer(middleware::from_fn(check));
        }
        if route.needs != Needs::Nothing {
            handler = handler.layer(middleware::from_fn_with_state(shared.clone(), guard));
        }
        router = router.route(route.path, handler);
    }
    let router = match serves {
        Serves::Node => router.fallback(nothing_here),
        Serves::Bridge => router.fallback(about_bridge),
    };
    router
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
        .layer(middleware::map_response(async |answer: Response| {
            answer::secured(answer)
        }))
        .with_state(shared)
}

/// The camera that a path names.
pub(super) struct CameraPath {
    pub(super) twin_id: String,
    pub(super) stream: String,
}

impl<S: Send + Sync> FromRequestParts<S> for CameraPath {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path((twin_id, stream))) => Ok(Self { twin_id, stream }),
            Err(_) => Err(answer::error(
                StatusCode::BAD_REQUEST,
                "twin and stream are UTF-8 texts: percent-encode both in the path, as UTF-8",
            )),
        }
    }
}

/// The keys and values of a query or a form. Text that is none gives none.
pub(super) fn pairs(text: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    form_urlencoded::parse(text.as_bytes())
}

/// The value of a key in a query.
pub(super) fn value_of<'a>(query: Option<&'a str>, key: &str) -> Option<Cow<'a, str>> {
    pairs(query.unwrap_or_default())
        .find(|(each, _)| each == key)
        .map(|(_, value)| value)
}

/// The answer for a value that a key of the query cannot have.
pub(super) fn bad_value(key: &str, takes: &str) -> Response {
    let sentence = format!("`{}` of the query takes {takes}", shown(key));
    answer::error(StatusCode::BAD_REQUEST, sentence)
}

/// Refuses a query with a name that the route does not know. A name that is mistyped would be no filter and no wish, and whoever asked would
/// take the answer for what was asked for.
async fn query_checked(names: &'static [&'static str], request: Request, next: Next) -> Response {
    match unknown_name(request.uri().query(), names) {
        Some(sentence) => answer::error(StatusCode::BAD_REQUEST, sentence),
        None => next.run(request).await,
    }
}

/// What to say of the first name of a query that is none of these.
fn unknown_name(query: Option<&str>, names: &[&str]) -> Option<String> {
    let (unknown, _) = pairs(query?).find(|(name, _)| !names.contains(&name.as_ref()))?;
    let (last, others) = names.split_last()?;
    let mut there_are = format!("`{last}`");
    if !others.is_empty() {
        there_are = format!("`{}` and {there_are}", others.join("`, `"));
    }
    let unknown = shown(&unknown);
    Some(format!(
        "the query takes {there_are}, and not `{unknown}`: correct or remove it"
    ))
}

/// A key of the query that is on or off.
pub(super) fn flag(key: &str, value: &str) -> Result<bool, Box<Response>> {
    match value {
        "1" => Ok(true),
        "0" => Ok(false),
        _ => Err(Box::new(bad_value(key, "0 or 1"))),
    }
}

/// A key that is off unless the query says that it is on.
fn is_on(query: Option<&str>, key: &str) -> Result<bool, Box<Response>> {
    value_of(query, key).map_or(Ok(false), |value| flag(key, &value))
}

async fn guard(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let refusal = match shared.access.check(request.headers(), Instant::now()) {
        Ok(()) => return next.run(request).await,
        Err(refusal) => refusal,
    };
    let is_page = request.uri().path() == "/";
    let closed = |sentence| match is_page {
        true => assets::closed_page(sentence),
        false => answer::error(StatusCode::FORBIDDEN, sentence),
    };
    match refusal {
        Refusal::NoToken if is_page => assets::login_page(StatusCode::UNAUTHORIZED, ""),
        Refusal::NoToken => {
            let mut answer = answer::error(
                StatusCode::UNAUTHORIZED,
                "the API needs the header `Authorization: Bearer TOKEN` with the token of `http.token_file`, or a login at `/`",
            );
            let challenge = HeaderValue::from_static("Bearer");
            answer
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, challenge);
            answer
        }
        Refusal::Closed => closed(CLOSED),
        Refusal::ForeignHost => closed(
            "without a token only this machine's own names are served: ask for localhost or an address, or set `http.token_file`",
        ),
    }
}

/// The text of all metrics, compressed or not. It counts against [`MAX_SCRAPES`] until it was sent.
struct Scrape {
    text: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Scrape {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

async fn metrics(State(shared): State<Shared>, asked: HeaderMap) -> Response {
    let permit = tokio::time::timeout(SCRAPE_WAIT, shared.scrapes.acquire_owned()).await;
    let Ok(Ok(permit)) = permit else {
        let text = "others are reading the metrics and do not take them: ask again\n";
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    };
    // With hundreds of cameras these are megabytes, which would keep a thread that carries video for too long.
    let metrics = Arc::clone(&shared.state.metrics);
    let takes_gzip = answer::takes_gzip(&asked);
    let encoded = tokio::task::spawn_blocking(move || {
        let text = metrics.encode();
        Scrape {
            text: if takes_gzip {
                answer::gzip(text.as_bytes())
            } else {
                text.into()
            },
            _permit: permit,
        }
    });
    let Ok(scrape) = encoded.await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    let body = Body::from(Bytes::from_owner(scrape));
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::VARY, "accept-encoding"),
    ];
    let mut answer = (headers, body).into_response();
    if takes_gzip {
        let encoding = HeaderValue::from_static("gzip");
        answer
            .headers_mut()
            .insert(header::CONTENT_ENCODING, encoding);
    }
    answer
}

async fn healthz(State(shared): State<Shared>, RawQuery(query): RawQuery) -> Response {
    let state = &shared.state;
    let with_cameras = match is_on(query.as_deref(), "cameras") {
        Ok(on) => on,
        Err(answer) => return *answer,
    };
    let mut wrong = state.health.complaints(Instant::now());
    if with_cameras {
        wrong.extend(state.node.lock().share.trouble_line());
        let cameras = state.camera_views(Detail::Now);
        wrong.extend(
            cameras
                .iter()
                .filter_map(super::api::CameraView::blind_line),
        );
    }
    probe(wrong)
}

async fn readyz(State(shared): State<Shared>) -> Response {
    probe(shared.state.readiness.missing())
}

/// The answer of a probe: 200, or 503 with a line for each thing that is wrong.
fn probe(wrong: Vec<String>) -> Response {
    if wrong.is_empty() {
        return "ok\n".into_response();
    }
    let text = wrong.join("\n") + "\n";
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

async fn node(State(shared): State<Shared>, asked: HeaderMap) -> Response {
    answer::json(&asked, &shared.state.node_view())
}

async fn cameras(
    State(shared): State<Shared>,
    RawQuery(query): RawQuery,
    asked: HeaderMap,
) -> Response {
    let detail = match is_on(query.as_deref(), "history") {
        Ok(true) => Detail::History,
        Ok(false) => Detail::Now,
        Err(answer) => return *answer,
    };
    // As with the metrics: of hundreds of cameras this is too much for a thread that carries video.
    let made = tokio::task::spawn_blocking(move || {
        answer::json(&asked, &shared.state.camera_views(detail))
    });
    made.await
        .unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

async fn camera(
    State(shared): State<Shared>,
    CameraPath { twin_id, stream }: CameraPath,
    asked: HeaderMap,
) -> Response {
    match shared.state.camera(&twin_id, &stream) {
        Some(view) => answer::json(&asked, &view),
        None => no_such_camera(),
    }
}

/// The answer for a camera that is not configured.
pub(super) fn no_such_camera() -> Response {
    let sentence = "there is no camera stream of this twin id and name: `/api/cameras` lists them";
    answer::error(StatusCode::NOT_FOUND, sentence)
}

async fn config(State(shared): State<Shared>, asked: HeaderMap) -> Response {
    let facts = shared.state.config.lock().clone();
    answer::json(&asked, &facts.view())
}

async fn openapi(asked: HeaderMap) -> Response {
    answer::body(&asked, "application/json", OPENAPI.into())
}

async fn log_in(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    asked: HeaderMap,
    form: Result<Bytes, BytesRejection>,
) -> Response {
    let Ok(form) = form else {
        let sentence =
            format!("the form of a login has at most {MAX_FORM_BYTES} bytes: send `token=…` alone");
        return answer::error(StatusCode::PAYLOAD_TOO_LARGE, sentence);
    };
    let form = String::from_utf8_lossy(&form);
    let token = value_of(Some(&form), "token").unwrap_or_default();
    match shared.access.log_in(&token, peer, Instant::now()) {
        Login::Session(session) => {
            // A proxy in front of the node says whether the browser came by TLS.
            let proto = asked.get("x-forwarded-proto");
            let secure = proto.is_some_and(|proto| proto == "https");
            let cookie = format!(
                "{COOKIE}={session}; Path=/; HttpOnly; SameSite=Strict; Max-Age=604800{}",
                if secure { "; Secure" } else { "" }
            );
            to_dashboard(&cookie)
        }
        Login::Wrong => assets::login_page(
            StatusCode::UNAUTHORIZED,
            "This is not the token. It is the text in the file that http.token_file names.",
        ),
        Login::TooSoon => {
            let sentence =
                "A wrong token was given from your address a moment ago. Try again in a second.";
            let mut answer = assets::login_page(StatusCode::TOO_MANY_REQUESTS, sentence);
            let headers = answer.headers_mut();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            answer
        }
    }
}

async fn log_out(State(shared): State<Shared>, asked: HeaderMap) -> Response {
    shared.access.log_out(&asked);
    to_dashboard(&format!(
        "{COOKIE}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0"
    ))
}

fn to_dashboard(cookie: &str) -> Response {
    let headers = [(header::LOCATION, "/"), (header::SET_COOKIE, cookie)];
    (StatusCode::SEE_OTHER, headers).into_response()
}

async fn nothing_here(OriginalUri(uri): OriginalUri) -> Response {
    let sentence = "nothing here: `/` is the dashboard, `/api/openapi.json` describes the API, and probes are at /metrics, /healthz and /readyz";
    if uri.path().starts_with("/api/") {
        return answer::error(StatusCode::NOT_FOUND, sentence);
    }
    (StatusCode::NOT_FOUND, format!("{sentence}\n")).into_response()
}

/// A bridge says what it is to whoever looks for a dashboard, at `/` and at every path that it does not have.
async fn about_bridge(OriginalUri(uri): OriginalUri) -> Response {
    let status = match uri.path() {
        "/" => StatusCode::OK,
        _ => StatusCode::NOT_FOUND,
    };
    let text = "this is a Twinsight bridge, which makes twins of IP cameras: /metrics says how they are, and probes are /healthz and /readyz\n";
    (status, text).into_response()
}

async fn wrong_method(method: Method) -> Response {
    let sentence = format!("{method} is not for this path: the header `Allow` says what is");
    answer::error(StatusCode::METHOD_NOT_ALLOWED, sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_a_query_that_there_is_not_is_answered_with_those_that_there_are() {
        let names = ["camera", "stream", "state"];
        for query in [
            None,
            Some(""),
            Some("&&"),
            Some("state=x&camera&c%61mera=2"),
        ] {
            assert_eq!(unknown_name(query, &names), None, "{query:?}");
        }
        assert_eq!(
            unknown_name(Some("camera=a&camra=b"), &names).unwrap(),
            "the query takes `camera`, `stream` and `state`, and not `camra`: correct or remove it"
        );
        assert_eq!(
            unknown_name(Some("Camera=a"), &["camera"]).unwrap(),
            "the query takes `camera`, and not `Camera`: correct or remove it"
        );
        for query in ["=", "%1b[2J", &"x".repeat(9000)] {
            let sentence = unknown_name(Some(query), &names).unwrap();
            assert!(
                sentence.len() < 300 && !sentence.contains('\u{1b}'),
                "{sentence}"
            );
        }
    }
}
