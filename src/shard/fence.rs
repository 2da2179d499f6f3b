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
    /// The last time that nothing came through any more.
    lapse: Option<Lapse>,
    cameras: HashMap<Arc<str>, (Passage, u64)>,
}

/// The lease ran out, or was given up.
#[derive(Debug, Clone, Copy)]
struct Lapse {
    /// Nothing came through from then on, or from an earlier moment at which the lease was given up.
    at: LeaseTime,
    /// All times of being open until this one ended with it.
    openings: u64,
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
            state.note_lapse();
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
        state.note_lapse();
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

    /// When this time of being open ended, or now if the lease did not end it.
    pub(super) fn closed_at(&self, epoch: u64, now: LeaseTime) -> LeaseTime {
        let state = self.0.read();
        let lapse = state.lapse.filter(|lapse| epoch <= lapse.openings);
        let ended = lapse.map(|lapse| lapse.at).or(state.until);
        ended.map_or(now, |ended| ended.min(now))
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

    fn note_lapse(&mut self) {
        if let Some(at) = self.until {
            self.lapse = Some(Lapse {
                at,
                openings: self.openings,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(ms: u64) -> LeaseTime {
        LeaseTime::at(Duration::from_millis(ms))
    }

    #[test]
    fn a_time_of_being_open_ended_when_the_lease_ran_out_and_not_when_it_was_renewed() {
        let fence = Fence::default();
        fence.extend(at(1_000), at(0));
        fence.set(&"a".into(), Passage::Open);
        let first = fence.epoch("a", at(0)).unwrap();
        assert_eq!(fence.closed_at(first, at(500)), at(500), "nothing ended it");
        fence.extend(at(2_000), at(900));
        assert_eq!(fence.epoch("a", at(1_500)), Some(first));
        assert_eq!(fence.closed_at(first, at(2_050)), at(2_000));
        // It is renewed too late, before anybody looks.
        fence.extend(at(3_000), at(2_080));
        let second = fence.epoch("a", at(2_100)).unwrap();
        assert_ne!(first, second);
        assert_eq!(fence.closed_at(first, at(2_100)), at(2_000));
        assert_eq!(fence.closed_at(second, at(2_100)), at(2_100));
        // The store says that it is gone, and gives another one.
        fence.clear();
        fence.extend(at(4_500), at(3_500));
        assert_eq!(fence.closed_at(second, at(3_600)), at(3_000));
    }
}
