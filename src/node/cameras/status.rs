//! What the node says of a camera. The state of its stream, why its frames are not inferred though they come, and why its bridge has
//! none, come in; a [`CameraStatus`] goes to the publisher whenever one of them changed. The handlers run on the stream's task, on
//! its decoding thread and on the task that looks for blind cameras.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::publish::event::CameraStatus;
use crate::publish::publisher::Publisher;
use crate::shard::Share;
use twinsight_client::media::camera::StateHandler;
use twinsight_client::media::stream_state::StreamState;
use twinsight_client::stream_id::StreamId;
use twinsight_client::telemetry::CameraState;

/// The reason in the status of a camera that sends and whose frames come too slowly.
pub(super) const SLOW_REASON: &str =
    "every frame takes longer to come than max_age_ms, so none is inferred";

/// Publishes the status of one camera whenever something about it changed.
#[derive(Debug)]
pub(in crate::node) struct StatusLine {
    id: StreamId,
    name: SharedName,
    publisher: Publisher,
    facts: Mutex<StatusFacts>,
}

/// The statuses of the cameras that run, for whoever must not wait until a change of the cameras is made. Clones share them.
#[derive(Debug, Clone)]
pub(in crate::node) struct StatusLines {
    share: Share,
    /// Notified when any status changed.
    changed: Arc<Notify>,
    lines: Arc<Mutex<BTreeMap<StreamId, Arc<StatusLine>>>>,
}

/// What a camera's status is made of.
#[derive(Debug, Default)]
struct StatusFacts {
    /// The state that its stream told last. `None` until it tells one.
    state: Option<StreamState>,
    /// Why its model infers none of its frames.
    blind: Option<String>,
    /// True while all of its frames come too slowly to be inferred.
    slow: bool,
    /// Why nothing of it is published although the node sees it.
    fenced: Option<String>,
    /// Why its bridge has no pictures of it, for a camera that this node makes a twin of.
    bridge: Option<Arc<str>>,
}

/// The camera's name for people. It may change while its stream goes on.
#[derive(Debug, Clone)]
pub(in crate::node) struct SharedName(Arc<RwLock<Arc<str>>>);

impl StatusFacts {
    /// Why nothing of the camera is published, and what it has to say of itself, whichever of them there are.
    fn reason(&self, state: &StreamState) -> Option<String> {
        let own = self.own_reason(state);
        match (&self.fenced, own) {
            (Some(fenced), Some(own)) => Some(format!("{fenced}; and {own}")),
            (Some(fenced), None) => Some(fenced.clone()),
            (None, own) => own,
        }
    }

    /// The stream's own reason, or else why its frames are not inferred. Where none come and the camera's bridge knows why, that
    /// is the reason: it is nearer to the camera.
    fn own_reason(&self, state: &StreamState) -> Option<String> {
        if state.state != CameraState::Receiving
            && let Some(reason) = &self.bridge
        {
            return Some(reason.to_string());
        }
        let blind = self.slow.then_some(SLOW_REASON).or(self.blind.as_deref());
        let blind = blind.filter(|_| state.state == CameraState::Receiving);
        state.reason.as_deref().or(blind).map(str::to_owned)
    }
}

impl StatusLine {
    pub(in crate::node) fn new(id: StreamId, name: SharedName, publisher: Publisher) -> Self {
        Self {
            id,
            name,
            publisher,
            facts: Mutex::default(),
        }
    }

    pub(in crate::node) fn set_state(&self, state: StreamState) {
        let mut facts = self.facts.lock();
        facts.state = Some(state);
        self.publish(&facts);
    }

    /// True means that this is new, and was published.
    pub(super) fn set_blind(&self, blind: Option<String>) -> bool {
        let mut facts = self.facts.lock();
        if facts.blind == blind {
            return false;
        }
        facts.blind = blind;
        self.publish(&facts);
        true
    }

    /// True means that this is new, and was published.
    pub(super) fn set_fenced(&self, fenced: Option<String>) -> bool {
        let mut facts = self.facts.lock();
        if facts.fenced == fenced {
            return false;
        }
        facts.fenced = fenced;
        self.publish(&facts);
        true
    }

    /// True means that this is new, and was published.
    pub(super) fn set_bridge(&self, bridge: Option<Arc<str>>) -> bool {
        let mut facts = self.facts.lock();
        if facts.bridge == bridge {
            return false;
        }
        facts.bridge = bridge;
        self.publish(&facts);
        true
    }

    /// True means that this is new, and was published.
    pub(super) fn set_slow(&self, slow: bool) -> bool {
        let mut facts = self.facts.lock();
        if facts.slow == slow {
            return false;
        }
        facts.slow = slow;
        self.publish(&facts);
        true
    }

    /// The status of the camera, if its stream is in this state.
    pub(super) fn read(&self, state: &StreamState) -> CameraStatus {
        self.status(&self.facts.lock(), state)
    }

    fn status(&self, facts: &StatusFacts, state: &StreamState) -> CameraStatus {
        CameraStatus {
            id: self.id.clone(),
            name: self.name.get(),
            state: state.state,
            since: state.since,
            reason: facts.reason(state),
            attempt: state.attempt,
        }
    }

    /// The caller holds the lock of the facts, so that the event that is sent last tells the newest state.
    fn publish(&self, facts: &StatusFacts) {
        if let Some(state) = &facts.state {
            self.publisher.set_status(self.status(facts, state));
        }
    }
}

impl StatusLines {
    pub(in crate::node) fn new(share: Share, changed: Arc<Notify>) -> Self {
        Self {
            share,
            changed,
            lines: Arc::default(),
        }
    }

    pub(in crate::node) fn add(&self, line: &Arc<StatusLine>) {
        let mut lines = self.lines.lock();
        lines.insert(line.id.clone(), Arc::clone(line));
    }

    pub(super) fn remove(&self, id: &StreamId) {
        self.lines.lock().remove(id);
    }

    /// Publishes it when the node's lease in its pool may have run out, so that nothing of its cameras is published, and when it has
    /// it again.
    pub(in crate::node) fn look_at_share(&self) {
        // Of two who look at the same time, the one that publishes last has looked last.
        let lines = self.lines.lock();
        let fenced = self.share.fenced();
        for (id, line) in lines.iter() {
            let is_own = self.share.held_last(&id.twin_id);
            if line.set_fenced(fenced.clone().filter(|_| is_own)) {
                self.changed.notify_one();
            }
        }
    }
}

impl SharedName {
    pub(in crate::node) fn new(name: &Arc<str>) -> Self {
        Self(Arc::new(RwLock::new(Arc::clone(name))))
    }

    pub(super) fn get(&self) -> Arc<str> {
        Arc::clone(&self.0.read())
    }

    pub(super) fn set(&self, name: &Arc<str>) {
        *self.0.write() = Arc::clone(name);
    }
}

/// Makes the handler of the stream's states, which publishes each.
pub(super) fn status_handler(status: Arc<StatusLine>, changed: Arc<Notify>) -> StateHandler {
    Box::new(move |current| {
        status.set_state(current);
        changed.notify_one();
    })
}

/// Makes the handler that publishes it when frames begin to come too slowly to be inferred, and when they no longer do.
pub(super) fn slowness_handler(
    status: Arc<StatusLine>,
    changed: Arc<Notify>,
) -> impl Fn(bool) + Send + 'static {
    move |slow| {
        if status.set_slow(slow) {
            changed.notify_one();
        }
    }
}
