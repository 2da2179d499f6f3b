//! The members of the pool: which of them each camera is meant for, and what this node says of itself to the others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::rendezvous::{Candidate, target};
use super::super::store::{MemberRecord, Session};
use super::PoolCore;
use super::decide::Camera;

impl PoolCore {
    pub(super) fn name_of(&self, session: &Session) -> Arc<str> {
        match self.members.get(session) {
            Some(member) => Arc::clone(&member.name),
            None => Arc::clone(session),
        }
    }

    /// Brings up to date which member each camera is meant for.
    pub(super) fn rank_members(&mut self) {
        let own = self.session().cloned();
        let mut newest: BTreeMap<&Arc<str>, (&Session, &MemberRecord)> = BTreeMap::new();
        let own_record = own.as_ref().map(|session| (session, &self.own));
        let others = self
            .members
            .iter()
            .filter(|(session, _)| Some(*session) != own.as_ref());
        for (session, member) in others.chain(own_record) {
            let is_leaving = match Some(session) == own.as_ref() {
                true => self.leaving,
                false => member.leaving,
            };
            let age = |(session, member): (&Session, &MemberRecord)| {
                (member.started_at, Session::clone(session))
            };
            let is_newer = newest
                .get(&member.name)
                .is_none_or(|before| age((session, member)) > age(*before));
            if !is_leaving && is_newer {
                newest.insert(&member.name, (session, member));
            }
        }
        let (sessions, candidates): (Vec<Session>, Vec<Candidate>) = newest
            .into_iter()
            .map(|(name, (session, member))| {
                let candidate = Candidate::new(Arc::clone(name), member.capacity);
                (Arc::clone(session), candidate)
            })
            .unzip();
        if candidates == self.candidates && sessions == self.sessions {
            return;
        }
        for camera in self.cameras.values_mut() {
            let at = target(&candidates, camera.digest);
            camera.target = at.map(|at| Arc::clone(&sessions[at]));
        }
        (self.candidates, self.sessions) = (candidates, sessions);
    }

    /// What the node has to say of itself, with this session.
    pub(super) fn record(&self, session: Option<&Session>) -> MemberRecord {
        let is_ready = |(name, camera): &(&Arc<str>, &Camera)| {
            let holder = self.keys.get(*name).and_then(|key| key.holder.as_ref());
            camera.runs
                && camera.inferred
                && holder.is_some_and(|holder| Some(holder) != session)
                && camera.target.as_ref() == session
        };
        let ready = self.cameras.iter().filter(is_ready);
        MemberRecord {
            leaving: self.leaving,
            ready: match session {
                Some(_) => ready.map(|(name, _)| Arc::clone(name)).collect(),
                None => BTreeSet::new(),
            },
            ..self.own.clone()
        }
    }
}
