//! What is known of the leases of a pool in Kubernetes. Objects come in, as they are listed and watched, in the order in which they
//! were written; what it means for members and holders goes out. It is plain state with `now` passed in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;

use super::super::store::{HolderSeen, MemberRecord, Seen, Session, Version};
use super::super::time::LeaseTime;
use super::{CAMERA, RECORD, version_of};

/// A member that could not be buried is tried again after this time.
const AGAIN: Duration = Duration::from_secs(1);

/// The members and the holders of cameras.
#[derive(Debug, Default)]
pub(super) struct View {
    members: BTreeMap<Session, Member>,
    cameras: BTreeMap<Arc<str>, (Version, Session)>,
    /// When anything was heard last.
    heard_at: Option<LeaseTime>,
}

#[derive(Debug)]
struct Member {
    name: String,
    uid: Option<String>,
    version: Version,
    record: MemberRecord,
    duration: Duration,
    /// When this version was seen first.
    since: LeaseTime,
    buried_at: Option<LeaseTime>,
}

/// The lease of a member that is dead.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Doomed {
    pub(super) name: String,
    pub(super) version: Version,
    pub(super) uid: Option<String>,
}

enum Object {
    Member(Session, Member),
    Camera(Arc<str>, Version, Session),
}

impl View {
    /// Takes in all that there is at this version.
    pub(super) fn read_all(
        &mut self,
        version: Version,
        leases: Vec<Lease>,
        now: LeaseTime,
    ) -> Seen {
        let before = std::mem::take(&mut self.members);
        self.cameras.clear();
        let silence = self.heard_at.replace(now).map(|at| now.since(at));
        for lease in leases {
            match read(&lease, now) {
                Some(Object::Member(session, mut member)) => {
                    // Its time goes on while nobody watches, and begins anew where it may not have been able to renew.
                    let could_renew =
                        silence.is_some_and(|silence| !is_deaf(silence, member.duration));
                    if let Some(known) = before.get(&session)
                        && known.version == member.version
                        && could_renew
                    {
                        member.since = known.since;
                    }
                    self.members.insert(session, member);
                }
                Some(Object::Camera(camera, version, holder)) => {
                    self.cameras.insert(camera, (version, holder));
                }
                None => {}
            }
        }
        let members = self.members.iter();
        let cameras = self.cameras.iter();
        Seen::All {
            version,
            members: members
                .map(|(session, member)| (Arc::clone(session), member.record.clone()))
                .collect(),
            holders: cameras
                .map(|(camera, (version, holder))| self.holder(camera, *version, holder))
                .collect(),
        }
    }

    /// Takes in an object that is new or was written again.
    pub(super) fn changed(&mut self, lease: Lease, now: LeaseTime) -> Vec<Seen> {
        self.heard_at = Some(now);
        match read(&lease, now) {
            Some(Object::Member(session, member)) => {
                let known = self.members.get(&session).map(|known| &known.record);
                let is_news = known != Some(&member.record);
                let seen = Seen::Member(Arc::clone(&session), Some(member.record.clone()));
                self.members.insert(session, member);
                is_news.then_some(seen).into_iter().collect()
            }
            Some(Object::Camera(camera, version, holder)) => {
                let seen = self.holder(&camera, version, &holder);
                self.cameras.insert(camera, (version, holder));
                vec![Seen::Holder(seen)]
            }
            None => Vec::new(),
        }
    }

    /// Takes in that an object was deleted. What a member held is free then.
    pub(super) fn deleted(&mut self, lease: &Lease) -> Vec<Seen> {
        match read(lease, LeaseTime::now()) {
            Some(Object::Member(session, _)) => {
                self.members.remove(&session);
                let held = self
                    .cameras
                    .iter()
                    .filter(|(_, (_, holder))| *holder == session);
                let freed = held.map(|(camera, (version, holder))| {
                    Seen::Holder(self.holder(camera, *version, holder))
                });
                let mut seen: Vec<Seen> = freed.collect();
                seen.push(Seen::Member(session, None));
                seen
            }
            Some(Object::Camera(camera, version, _)) => {
                self.cameras.remove(&camera);
                vec![Seen::Holder(HolderSeen {
                    camera,
                    version,
                    exists: false,
                    holder: None,
                })]
            }
            None => Vec::new(),
        }
    }

    /// The leases of members that have not changed for their duration.
    pub(super) fn dead(&mut self, now: LeaseTime) -> Vec<Doomed> {
        let mut dead = Vec::new();
        let silence = self.heard_at.map_or(Duration::MAX, |at| now.since(at));
        for member in self.members.values_mut() {
            if is_deaf(silence, member.duration) {
                continue;
            }
            let was_tried = member.buried_at.is_some_and(|at| now.since(at) < AGAIN);
            if now.since(member.since) <= member.duration || was_tried {
                continue;
            }
            member.buried_at = Some(now);
            dead.push(Doomed {
                name: member.name.clone(),
                version: member.version,
                uid: member.uid.clone(),
            });
        }
        dead
    }

    /// What is written of a camera. A holder that is no member holds nothing: its lease was deleted, and whoever is a member was one
    /// before it could be written as a holder.
    fn holder(&self, camera: &Arc<str>, version: Version, holder: &Session) -> HolderSeen {
        let is_member = self.members.contains_key(holder);
        HolderSeen {
            camera: Arc::clone(camera),
            version,
            exists: true,
            holder: is_member.then(|| Arc::clone(holder)),
        }
    }
}

/// True after a silence in which members may have been unable to renew leases of this duration. A node that watches a server which
/// is well hears at least its own renewals, each third of that.
fn is_deaf(silence: Duration, duration: Duration) -> bool {
    silence >= duration / 2
}

/// Reads an object. `None` for one that is none of ours.
fn read(lease: &Lease, now: LeaseTime) -> Option<Object> {
    let spec = lease.spec.as_ref()?;
    let holder: Session = spec.holder_identity.as_deref()?.into();
    let annotations = lease.metadata.annotations.as_ref()?;
    if let Some(camera) = annotations.get(CAMERA) {
        let camera = camera.as_str().into();
        return Some(Object::Camera(camera, version_of(lease), holder));
    }
    // What a newer version says of itself may not be understood here. Such a node lives all the same and keeps what it holds, and
    // nothing is meant for it.
    let record = MemberRecord::of_json(annotations.get(RECORD)?.as_bytes());
    let record = record.unwrap_or_else(|| MemberRecord {
        name: Session::clone(&holder),
        capacity: 1,
        started_at: 0,
        leaving: true,
        ready: BTreeSet::new(),
        configured: super::super::store::Configured::default(),
    });
    let seconds = u64::try_from(spec.lease_duration_seconds?).ok()?;
    let member = Member {
        name: lease.metadata.name.clone()?,
        uid: lease.metadata.uid.clone(),
        version: version_of(lease),
        record,
        duration: Duration::from_secs(seconds),
        since: now,
        buried_at: None,
    };
    Some(Object::Member(holder, member))
}
