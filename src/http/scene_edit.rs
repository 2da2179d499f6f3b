//! Changes of zones, lines and masks over HTTP. A request comes in, is refused unless it may change anything, and goes to the task that
//! follows the configuration; what came of it goes out once it is in force.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::answer;
use super::routes::{CameraPath, Shared, no_such_camera};
use crate::config::SceneJson;
use twinsight_client::stream_id::StreamId;

/// The longest body of a change: 32 zones, lines and masks with 32 points each take half of it.
pub(super) const MAX_SCENE_BYTES: usize = 128 << 10;

/// So many changes may wait for the task that makes them. One more is refused.
const CHANGES: usize = 4;

/// Whoever asks for a change waits at most this long for it.
const CHANGE_LIMIT: Duration = Duration::from_secs(15);

const OFF: &str = "zones, lines and masks are not changed over HTTP here: set `http.edit = true` in the configuration and restart the node, or edit the file";

const NO_TOKEN: &str = "zones, lines and masks are changed over HTTP only by those who bear a token, and this node has none: set `http.token_file` and restart the node";

const NO_FILE: &str = "this node was started without a configuration file, so that no change could be kept: start it with `--config FILE`";

/// What the configuration says of changes over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EditPermission {
    /// There are none.
    Off,
    /// They are wanted, but nobody could prove who they are.
    WithoutToken,
    /// They are for those who bear the token.
    ForToken,
}

/// Which scene a change is meant for, as `If-Match` says it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum MeantFor {
    /// Whatever the camera has.
    #[default]
    Any,
    /// One with one of these tags, which somebody read before.
    Tags(Vec<String>),
}

impl MeantFor {
    /// What a request says.
    fn of(asked: &HeaderMap) -> Self {
        let given = asked.get_all(header::IF_MATCH);
        let mut tags = Vec::new();
        for value in &given {
            for tag in value.to_str().unwrap_or_default().split(',') {
                match tag.trim() {
                    "*" => return Self::Any,
                    tag => tags.push(tag.trim_matches('"').to_owned()),
                }
            }
        }
        match tags.is_empty() {
            true => Self::Any,
            false => Self::Tags(tags),
        }
    }

    /// True for a scene with this tag.
    pub fn is(&self, tag: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Tags(tags) => tags.iter().any(|wanted| wanted == tag),
        }
    }
}

/// A change that is asked for.
#[derive(Debug)]
pub struct SceneChange {
    /// The camera stream.
    pub camera: StreamId,
    /// What it is to have.
    pub scene: SceneJson,
    /// What it is to have it in place of.
    pub meant_for: MeantFor,
    /// Takes what came of it, once it is in force or refused.
    pub answer: oneshot::Sender<Result<(), EditRefusal>>,
}

/// Why a change was not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EditRefusal {
    /// The zones, lines and masks make no sense. Nothing has changed.
    Wrong(String),
    /// They cannot be written as things are.
    Conflict(String),
    /// The camera has others than those that they are meant for. Nothing has changed.
    Stale(String),
}

/// Takes changes to the task that makes them. Clones are the same.
#[derive(Debug, Clone)]
pub struct SceneEditor(Arc<Mutex<Gate>>);

/// Whether there is a way for changes.
#[derive(Debug)]
enum Gate {
    /// There is none, for this reason.
    Closed(&'static str),
    /// They would be allowed, but nobody takes them yet.
    Allowed,
    /// They go this way.
    Open(mpsc::Sender<SceneChange>),
}

impl Default for SceneEditor {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Gate::Closed(OFF))))
    }
}

impl SceneEditor {
    /// Notes what the configuration says.
    pub fn permit(&self, permission: EditPermission) {
        *self.0.lock() = match permission {
            EditPermission::Off => Gate::Closed(OFF),
            EditPermission::WithoutToken => Gate::Closed(NO_TOKEN),
            EditPermission::ForToken => Gate::Allowed,
        };
    }

    /// Opens the way for changes, if they are permitted, and gives its other end to whoever makes them. Without a file there is nothing
    /// that could be changed.
    pub fn open(&self, has_file: bool) -> mpsc::Receiver<SceneChange> {
        let (sender, changes) = mpsc::channel(CHANGES);
        let mut gate = self.0.lock();
        if matches!(*gate, Gate::Allowed) {
            *gate = match has_file {
                true => Gate::Open(sender),
                false => Gate::Closed(NO_FILE),
            };
        }
        changes
    }

    /// Why nothing may be changed, and what to do about it. `None` where it may.
    pub(super) fn refusal(&self) -> Option<&'static str> {
        match &*self.0.lock() {
            Gate::Closed(why) => Some(why),
            Gate::Allowed => Some(NO_FILE),
            Gate::Open(_) => None,
        }
    }

    /// Asks for a change. `None` means that nobody takes it now.
    fn ask(
        &self,
        camera: StreamId,
        scene: SceneJson,
        meant_for: MeantFor,
    ) -> Option<oneshot::Receiver<Result<(), EditRefusal>>> {
        let Gate::Open(sender) = &*self.0.lock() else {
            return None;
        };
        let (answer, outcome) = oneshot::channel();
        let change = SceneChange {
            camera,
            scene,
            meant_for,
            answer,
        };
        sender.try_send(change).ok()?;
        Some(outcome)
    }
}

/// `PUT /api/cameras/TWIN/STREAM/scene`.
pub(super) async fn put(
    State(shared): State<Shared>,
    CameraPath { twin_id, stream }: CameraPath,
    asked: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let state = &shared.state;
    if is_of_another_site(&asked) {
        let sentence = "zones, lines and masks are not changed from pages of other sites: use the node's own dashboard";
        return answer::error(StatusCode::FORBIDDEN, sentence);
    }
    if let Some(refusal) = state.editor.refusal() {
        return answer::error(StatusCode::FORBIDDEN, refusal);
    }
    if !is_json(&asked) {
        let sentence =
            "send zones, lines and masks as JSON, with the header `Content-Type: application/json`";
        return answer::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, sentence);
    }
    let Ok(body) = body else {
        let sentence = format!(
            "the zones, lines and masks of a camera have at most {MAX_SCENE_BYTES} bytes: send fewer"
        );
        return answer::error(StatusCode::PAYLOAD_TOO_LARGE, sentence);
    };
    let Some(facts) = state.facts_of(&twin_id, &stream) else {
        return no_such_camera();
    };
    let scene: SceneJson = match serde_json::from_slice(&body) {
        Ok(scene) => scene,
        Err(error) => {
            let status = match error.is_data() {
                true => StatusCode::UNPROCESSABLE_ENTITY,
                false => StatusCode::BAD_REQUEST,
            };
            let sentence = format!(
                "the body is not `{{\"zones\": […], \"lines\": […], \"masks\": […]}}` ({error}): `/api/openapi.json` describes it"
            );
            return answer::error(status, sentence);
        }
    };
    let later = "others are changing zones, lines and masks, or the node stops: try again";
    let meant_for = MeantFor::of(&asked);
    let id = facts.status.id;
    let Some(outcome) = state.editor.ask(id, scene.rounded(), meant_for) else {
        return answer::too_many(later);
    };
    match tokio::time::timeout(CHANGE_LIMIT, outcome).await {
        Ok(Ok(Ok(()))) => match state.camera(&twin_id, &stream) {
            Some(view) => answer::json(&asked, &view),
            None => no_such_camera(),
        },
        Ok(Ok(Err(EditRefusal::Wrong(sentence)))) => {
            answer::error(StatusCode::UNPROCESSABLE_ENTITY, sentence)
        }
        Ok(Ok(Err(EditRefusal::Conflict(sentence)))) => {
            answer::error(StatusCode::CONFLICT, sentence)
        }
        Ok(Ok(Err(EditRefusal::Stale(sentence)))) => {
            answer::error(StatusCode::PRECONDITION_FAILED, sentence)
        }
        Ok(Err(_)) => answer::too_many(
            "the node stops, and it is not known whether the change was made: look at the camera again once the node runs",
        ),
        Err(_) => answer::too_many(
            "the change is still being made: look at the camera again to see whether it was",
        ),
    }
}

/// True for a request that a page of another site makes. Browsers say so by `Sec-Fetch-Site`, and older ones by `Origin`.
fn is_of_another_site(asked: &HeaderMap) -> bool {
    let text = |name: &str| {
        asked
            .get(name)
            .map(|value| value.to_str().unwrap_or_default())
    };
    if let Some(site) = text("sec-fetch-site") {
        return !["same-origin", "none"].contains(&site);
    }
    let Some(origin) = text("origin") else {
        return false;
    };
    let host = text("x-forwarded-host").or_else(|| text("host"));
    let origin = origin.split_once("://").map(|(_, host)| host);
    origin.is_none() || origin != host
}

fn is_json(asked: &HeaderMap) -> bool {
    let content_type = asked.get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let media_type = content_type.and_then(|value| value.split(';').next());
    media_type.is_some_and(|text| text.trim().eq_ignore_ascii_case("application/json"))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn a_page_of_another_site_is_known() {
        let is_foreign = |headers: &[(&'static str, &'static str)]| {
            let headers = headers.iter().map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            });
            is_of_another_site(&headers.collect())
        };
        for own in [
            &[][..],
            &[("host", "node.example")],
            &[
                ("sec-fetch-site", "same-origin"),
                ("host", "a"),
                ("origin", "https://b"),
            ],
            &[("sec-fetch-site", "none")],
            &[
                ("host", "node.example:9464"),
                ("origin", "http://node.example:9464"),
            ],
            &[
                ("host", "127.0.0.1"),
                ("x-forwarded-host", "node.example"),
                ("origin", "https://node.example"),
            ],
        ] {
            assert!(!is_foreign(own), "{own:?}");
        }
        for foreign in [
            &[("sec-fetch-site", "cross-site")][..],
            &[
                ("sec-fetch-site", "same-site"),
                ("host", "a.example"),
                ("origin", "http://a.example"),
            ],
            &[("sec-fetch-site", "")],
            &[("host", "node.example"), ("origin", "http://evil.example")],
            &[
                ("host", "node.example"),
                ("origin", "http://node.example:81"),
            ],
            &[("host", "node.example"), ("origin", "null")],
            &[("origin", "http://node.example")],
        ] {
            assert!(is_foreign(foreign), "{foreign:?}");
        }
    }

    #[test]
    fn a_change_may_be_meant_for_one_scene_alone() {
        let of = |values: &[&'static str]| {
            let values = values
                .iter()
                .map(|value| (header::IF_MATCH, HeaderValue::from_static(value)));
            MeantFor::of(&values.collect())
        };
        for any in [&[][..], &["*"], &["\"a\", *"]] {
            assert!(of(any).is("x"), "{any:?}");
        }
        for wanted in [&["\"x\""][..], &["\"a\", \"x\""], &["\"a\"", "\"x\""]] {
            assert!(of(wanted).is("x") && !of(wanted).is("y"), "{wanted:?}");
        }
        // A weak tag never is the one of `If-Match`.
        for other in [&["W/\"x\""][..], &[""], &["\"\""]] {
            assert!(!of(other).is("x"), "{other:?}");
        }
    }

    #[test]
    fn changes_go_only_where_they_are_permitted_and_can_be_kept() {
        let id = || StreamId::new("a", "default");
        let ask = |editor: &SceneEditor| editor.ask(id(), SceneJson::default(), MeantFor::Any);
        let editor = SceneEditor::default();
        assert_eq!(editor.refusal(), Some(OFF));
        editor.permit(EditPermission::WithoutToken);
        assert_eq!(editor.refusal(), Some(NO_TOKEN));
        let mut changes = editor.open(true);
        assert_eq!(editor.refusal(), Some(NO_TOKEN));
        assert!(ask(&editor).is_none());
        assert!(changes.try_recv().is_err());
        editor.permit(EditPermission::ForToken);
        let _changes = editor.open(false);
        assert_eq!(editor.refusal(), Some(NO_FILE));
        editor.permit(EditPermission::ForToken);
        let mut changes = editor.open(true);
        assert_eq!(editor.refusal(), None);
        for _ in 0..CHANGES {
            assert!(ask(&editor).is_some());
        }
        assert!(ask(&editor).is_none(), "enough wait");
        assert_eq!(changes.try_recv().unwrap().camera, id());
        drop(changes);
        assert!(ask(&editor).is_none());
    }
}
