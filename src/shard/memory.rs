//! A store of leases in memory, for tests. It behaves as etcd does: what a member holds goes with its lease, at one moment, and
//! whoever writes must name the version that is there. Time is passed in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::store::{HolderSeen, MemberRecord, Renewal, Seen, Session, Version, Write, Written};
use super::time::LeaseTime;

#[derive(Debug)]
pub(super) struct MemoryStore {
    duration: Duration,
    version: Version,
    members: BTreeMap<Session, (MemberRecord, LeaseTime)>,
    holders: BTreeMap<Arc<str>, (Version, Session)>,
    /// All that was seen so far, so that each watcher reads on from where it is.
    pub(super) history: Vec<Vec<Seen>>,
}

impl MemoryStore {
    pub(super) fn new(duration: Duration) -> Self {
        Self {
            duration,
            version: 1,
            members: BTreeMap::new(),
            holders: BTreeMap::new(),
            history: Vec::new(),
        }
    }

    /// Ends the leases that have run out.
    pub(super) fn expire(&mut self, now: LeaseTime) {
        let over: Vec<Session> = self
            .members
            .iter()
            .filter(|(_, (_, until))| *until <= now)
            .map(|(session, _)| Arc::clone(session))
            .collect();
        for session in over {
            self.end(&session);
        }
    }

    pub(super) fn join(&mut self, record: MemberRecord, now: LeaseTime) -> Session {
        self.expire(now);
        self.version += 1;
        let session: Session = format!("{}#{}", record.name, self.version).into();
        let until = now + self.duration;
        self.members
            .insert(Arc::clone(&session), (record.clone(), until));
        self.history
            .push(vec![Seen::Member(Arc::clone(&session), Some(record))]);
        session
    }

    pub(super) fn renew(
        &mut self,
        session: &Session,
        record: Option<MemberRecord>,
        now: LeaseTime,
    ) -> Renewal {
        self.expire(now);
        let Some((known, until)) = self.members.get_mut(session) else {
            return Renewal::Lost;
        };
        *until = now + self.duration;
        if let Some(record) = record {
            self.version += 1;
            *known = record.clone();
            self.history
                .push(vec![Seen::Member(Arc::clone(session), Some(record))]);
        }
        Renewal::Renewed
    }

    pub(super) fn write(&mut self, write: &Write, now: LeaseTime) -> Written {
        self.expire(now);
        let there = self.holders.get(&write.camera).map(|(version, _)| *version);
        if there != write.expected {
            return Written::Outdated;
        }
        if let Some(holder) = &write.holder
            && !self.members.contains_key(holder)
        {
            return Written::NoSuchMember;
        }
        self.version += 1;
        match &write.holder {
            Some(holder) => {
                let written = (self.version, Arc::clone(holder));
                self.holders.insert(Arc::clone(&write.camera), written);
            }
            None => {
                self.holders.remove(&write.camera);
            }
        }
        self.history.push(vec![Seen::Holder(HolderSeen {
            camera: Arc::clone(&write.camera),
            version: self.version,
            exists: write.holder.is_some(),
            holder: write.holder.clone(),
        })]);
        Written::Yes(self.version)
    }

    pub(super) fn end(&mut self, session: &Session) {
        if self.members.remove(session).is_none() {
            return;
        }
        self.version += 1;
        let (version, mut seen) = (self.version, Vec::new());
        self.holders.retain(|camera, (_, holder)| {
            let goes = holder == session;
            if goes {
                seen.push(Seen::Holder(HolderSeen {
                    camera: Arc::clone(camera),
                    version,
                    exists: false,
                    holder: None,
                }));
            }
            !goes
        });
        seen.push(Seen::Member(Arc::clone(session), None));
        self.history.push(seen);
    }

    /// All that there is, as a watcher reads it that begins.
    pub(super) fn all(&self) -> Seen {
        Seen::All {
            version: self.version,
            members: self
                .members
                .iter()
                .map(|(session, (record, _))| (Arc::clone(session), record.clone()))
                .collect(),
            holders: self
                .holders
                .iter()
                .map(|(camera, (version, holder))| HolderSeen {
                    camera: Arc::clone(camera),
                    version: *version,
                    exists: true,
                    holder: Some(Arc::clone(holder)),
                })
                .collect(),
        }
    }

    /// Who holds each camera.
    pub(super) fn holders(&self) -> BTreeMap<Arc<str>, Session> {
        let holders = self.holders.iter();
        holders
            .map(|(camera, (_, holder))| (Arc::clone(camera), Arc::clone(holder)))
            .collect()
    }

    pub(super) fn sessions(&self) -> BTreeSet<Session> {
        self.members.keys().cloned().collect()
    }
}
