//! What may be published right now. The state machine of the pool opens and closes it, and whoever is about to publish asks it. It
//! closes by itself when the lease may have run out, whether anybody comes to close it or not.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

use super::time::LeaseTime;

/// The cameras that a node may publish, and until when.
#[derive(Debug, Default)]
pub(super) struct Fence(RwLock<FenceState>);

#[derive(Debug, Default)]
struct FenceState {
    /// Until then the own lease has not run out for sure.
    until: Option<LeaseTime>,
    cameras: HashMap<Arc<str>, Passage>,
}

/// What of a held camera may be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passage {
    /// Everything.
    Open,
    /// What was taken in before it began to be given away.
    OutOnly,
}

impl Fence {
    /// Lets everything of these cameras through until the lease may have run out.
    pub(super) fn extend(&self, until: LeaseTime) {
        self.0.write().until = Some(until);
    }

    /// Forgets the lease and all cameras.
    pub(super) fn clear(&self) {
        *self.0.write() = FenceState::default();
    }

    pub(super) fn set(&self, camera: &Arc<str>, passage: Passage) {
        let is_set = self.0.read().cameras.get(camera) == Some(&passage);
        if !is_set {
            self.0.write().cameras.insert(Arc::clone(camera), passage);
        }
    }

    pub(super) fn close(&self, camera: &str) {
        let is_open = self.0.read().cameras.contains_key(camera);
        if is_open {
            self.0.write().cameras.remove(camera);
        }
    }

    /// Whether an event of the camera may enter the way out.
    pub(super) fn admits(&self, camera: &str, now: LeaseTime) -> bool {
        let state = self.0.read();
        state.holds(now) && state.cameras.get(camera) == Some(&Passage::Open)
    }

    /// Whether an event of the camera may leave the node.
    pub(super) fn lets_out(&self, camera: &str, now: LeaseTime) -> bool {
        let state = self.0.read();
        state.holds(now) && state.cameras.contains_key(camera)
    }

    /// Whether the camera was this node's when the store last told. The lease may have run out since.
    pub(super) fn knows(&self, camera: &str) -> bool {
        self.0.read().cameras.contains_key(camera)
    }

    /// Until when anything may be published.
    pub(super) fn until(&self) -> Option<LeaseTime> {
        self.0.read().until
    }
}

impl FenceState {
    fn holds(&self, now: LeaseTime) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}
