//! Who holds which camera, as the store last told or answered, and the own writes of which it is not known yet whether they were
//! carried out.

use std::sync::Arc;

use super::super::store::{HolderSeen, Session, StoreError, Version, Write, Written};
use super::super::time::LeaseTime;
use super::lease::Lease;
use super::{News, Op, PoolCore};

/// What is known of who holds a camera.
#[derive(Debug, Clone, Default)]
pub(super) struct Key {
    pub(super) version: Version,
    pub(super) exists: bool,
    pub(super) holder: Option<Session>,
}

/// A write of the own that may still be carried out.
#[derive(Debug)]
pub(super) struct OwnWrite {
    pub(super) write: Write,
    /// The version that was known when it was asked for.
    pub(super) at: Version,
    /// When it is to be asked for again. `None` while an answer is awaited.
    pub(super) retry_at: Option<LeaseTime>,
}

impl PoolCore {
    /// Forgets all that is known of holders, for a store that has begun anew.
    pub(super) fn forget_keys(&mut self) {
        let session = self.session().cloned();
        for (name, key) in std::mem::take(&mut self.keys) {
            if key.holder.is_some() && key.holder == session {
                self.news.push(News::Lost(Arc::clone(&name)));
            }
            self.fence.close(&name);
        }
        for camera in self.cameras.values_mut() {
            camera.forget_lease();
        }
    }

    /// Takes in who holds a camera, unless something newer is known.
    pub(super) fn note(&mut self, seen: HolderSeen, now: LeaseTime) {
        self.newest = self.newest.max(seen.version);
        let key = self.keys.entry(Arc::clone(&seen.camera)).or_default();
        if seen.version < key.version {
            return;
        }
        let own = match &self.lease {
            Lease::Held(lease) => Some(&lease.session),
            Lease::None { .. } | Lease::Asking { .. } | Lease::Over => None,
        };
        let was_own = own.is_some() && key.holder.as_ref() == own;
        let is_own = own.is_some() && seen.holder.as_ref() == own;
        *key = Key {
            version: seen.version,
            exists: seen.exists,
            holder: seen.holder,
        };
        match (was_own, is_own) {
            (false, true) => {
                self.news.push(News::Taken(Arc::clone(&seen.camera)));
                // One that is not configured is to be given back.
                self.camera_mut(&seen.camera);
            }
            (true, false) => {
                self.fence.close(&seen.camera);
                let holder = self.keys[&seen.camera].holder.clone();
                let given = self.cameras.get(&seen.camera).is_some_and(|camera| {
                    let write = camera.write.as_ref();
                    write.is_some_and(|own| own.write.holder == holder)
                });
                let camera = seen.camera;
                let ran_out = self.fence.until().is_none_or(|until| until <= now);
                self.news.push(match (given, holder) {
                    (true, Some(to)) => News::Given(camera, self.name_of(&to)),
                    // It was given back, since it is not configured any more.
                    (true, None) => return,
                    (false, None)
                        if self.cameras.get(&camera).is_none_or(|known| !known.wanted) =>
                    {
                        return;
                    }
                    // It went with the lease, of whose end the store tells next.
                    (false, _) if ran_out => {
                        self.freed += 1;
                        return;
                    }
                    (false, _) => News::Lost(camera),
                });
            }
            (true, true) | (false, false) => {}
        }
    }

    pub(super) fn written(
        &mut self,
        write: Write,
        result: Result<Written, StoreError>,
        now: LeaseTime,
    ) {
        let session = self.session().cloned();
        let is_own = |holder: &Session| Some(holder) == session.as_ref();
        let known = self.keys.get(&write.camera).map_or(0, |key| key.version);
        let Some(camera) = self.cameras.get_mut(&write.camera) else {
            return;
        };
        let is_awaited = camera
            .write
            .as_ref()
            .is_some_and(|own| own.write == write && own.retry_at.is_none());
        if !is_awaited {
            // It was asked for with a lease that is gone.
            return;
        }
        match result {
            Ok(Written::Yes(version)) => {
                let written = HolderSeen {
                    camera: Arc::clone(&write.camera),
                    version,
                    exists: write.holder.is_some(),
                    holder: write.holder.clone(),
                };
                // The store may have told it already, and what became of it since.
                if version > known {
                    self.note(written, now);
                }
                self.camera_mut(&write.camera).write = None;
                self.answers();
            }
            Ok(Written::Outdated) => {
                let own = camera.write.take();
                camera.outdated = own.map(|own| own.at);
                self.answers();
            }
            Ok(Written::NoSuchMember) => {
                // Nothing was changed. The store tells soon who is gone; if it is this node, its next renewal tells.
                match write.holder.filter(|holder| !is_own(holder)) {
                    Some(gone) => {
                        camera.write = None;
                        self.members.remove(&gone);
                        self.rank_members();
                    }
                    None => {
                        if let Some(own) = &mut camera.write {
                            own.retry_at = Some(now + self.timing.retry);
                        }
                    }
                }
                self.answers();
            }
            Err(error) => {
                if let Some(own) = &mut camera.write {
                    own.retry_at = Some(now + self.timing.retry);
                }
                self.failed(error);
            }
        }
    }

    /// Asks for a write. Nothing of the camera is published before it is known what came of it.
    pub(super) fn write(&mut self, name: &Arc<str>, key: &Key, holder: Option<Session>) {
        let write = Write {
            camera: Arc::clone(name),
            expected: key.exists.then_some(key.version),
            holder,
        };
        self.camera_mut(name).write = Some(OwnWrite {
            write: write.clone(),
            at: key.version,
            retry_at: None,
        });
        self.ops.push_back(Op::Write(write));
    }
}
