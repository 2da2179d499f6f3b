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
    /// How often a camera was opened. It never begins anew, so that no two times of being open are taken for one.
    openings: u64,
    cameras: HashMap<Arc<str>, (Passage, u64)>,
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
    /// Lets everything of these cameras through until the lease may have run out. Those that nothing came through any more are opened
    /// anew.
    pub(super) fn extend(&self, until: LeaseTime, now: LeaseTime) {
        let state = &mut *self.0.write();
        if !state.holds(now) {
            let open = state.cameras.values_mut();
            for (_, epoch) in open.filter(|(passage, _)| *passage == Passage::Open) {
                state.openings += 1;
                *epoch = state.openings;
            }
        }
        state.until = Some(until);
    }

    /// Forgets the lease and all cameras.
    pub(super) fn clear(&self) {
        let state = &mut *self.0.write();
        state.until = None;
        state.cameras.clear();
    }

    pub(super) fn set(&self, camera: &Arc<str>, passage: Passage) {
        let known = self.0.read().cameras.get(camera).copied();
        let epoch = match (known, passage) {
            (Some((known, _)), passage) if known == passage => return,
            (Some((_, epoch)), Passage::OutOnly) => epoch,
            (_, Passage::Open) | (None, Passage::OutOnly) => {
                let mut state = self.0.write();
                state.openings += 1;
                state.openings
            }
        };
        let mut state = self.0.write();
        state.cameras.insert(Arc::clone(camera), (passage, epoch));
    }

    pub(super) fn close(&self, camera: &str) {
        let is_open = self.0.read().cameras.contains_key(camera);
        if is_open {
            self.0.write().cameras.remove(camera);
        }
    }

    /// Which time of being open it is, if anything of the camera may be published.
    pub(super) fn epoch(&self, camera: &str, now: LeaseTime) -> Option<u64> {
        let state = self.0.read();
        let (_, epoch) = state.cameras.get(camera).filter(|_| state.holds(now))?;
        Some(*epoch)
    }

    /// The same if everything of the camera may be published.
    pub(super) fn open_epoch(&self, camera: &str, now: LeaseTime) -> Option<u64> {
        let state = self.0.read();
        match state.cameras.get(camera).filter(|_| state.holds(now))? {
            (Passage::Open, epoch) => Some(*epoch),
            (Passage::OutOnly, _) => None,
        }
    }

    /// Which time of being open comes to its end, for a camera that is given away.
    pub(super) fn closing_epoch(&self, camera: &str) -> Option<u64> {
        match self.0.read().cameras.get(camera)? {
            (Passage::OutOnly, epoch) => Some(*epoch),
            (Passage::Open, _) => None,
        }
    }

    /// Whether everything of the camera may be published.
    #[cfg(test)]
    pub(super) fn admits(&self, camera: &str, now: LeaseTime) -> bool {
        self.open_epoch(camera, now).is_some()
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
