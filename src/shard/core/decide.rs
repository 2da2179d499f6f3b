//! What is to be done now: whether the lease is asked for or renewed, and of each camera whether the node runs it, takes it, publishes
//! it or gives it away.

use std::sync::Arc;

use super::super::fence::Passage;
use super::super::rendezvous::{CameraDigest, rank, target};
use super::super::store::{Session, Version};
use super::super::time::LeaseTime;
use super::keys::{Key, OwnWrite};
use super::lease::Lease;
use super::{News, Op, PARTING_LIMIT, PoolCore};

#[derive(Debug)]
pub(super) struct Camera {
    pub(super) digest: CameraDigest,
    /// It is in the node's configuration.
    pub(super) wanted: bool,
    /// Which member it is meant for.
    pub(super) target: Option<Session>,
    /// The node has a connection to it.
    pub(super) runs: bool,
    /// A frame of it was inferred since.
    pub(super) inferred: bool,
    /// Nobody holds it since then.
    pub(super) free_since: Option<LeaseTime>,
    pub(super) parting: Option<Parting>,
    pub(super) write: Option<OwnWrite>,
    /// Somebody has written something newer than this, which the store has not told yet.
    pub(super) outdated: Option<Version>,
}

/// A camera that is about to be given away.
#[derive(Debug)]
pub(super) struct Parting {
    pub(super) to: Session,
    pub(super) since: LeaseTime,
    /// Nothing is under way any more.
    pub(super) done: bool,
}

impl Camera {
    /// Forgets all that was about to be done with a lease that is gone.
    pub(super) fn forget_lease(&mut self) {
        (self.write, self.parting, self.free_since, self.outdated) = (None, None, None, None);
    }
}

impl PoolCore {
    pub(super) fn camera_mut(&mut self, name: &Arc<str>) -> &mut Camera {
        let (candidates, sessions) = (&self.candidates, &self.sessions);
        self.cameras.entry(Arc::clone(name)).or_insert_with(|| {
            let digest = CameraDigest::new(name);
            Camera {
                digest,
                wanted: false,
                target: target(candidates, digest).map(|at| Arc::clone(&sessions[at])),
                runs: false,
                inferred: false,
                free_since: None,
                parting: None,
                write: None,
                outdated: None,
            }
        })
    }

    /// Decides all that there is to decide.
    pub(super) fn work(&mut self, now: LeaseTime) {
        match &self.lease {
            Lease::None { ask_at } if *ask_at <= now && !self.leaving => {
                // One that was asked for and whose answer was lost is older than this one.
                self.own.started_at += 1;
                let record = self.record(None);
                self.lease = Lease::Asking {
                    sent_at: now,
                    record: Box::new(record.clone()),
                };
                self.ops.push_back(Op::Join(record));
                return;
            }
            Lease::None { .. } | Lease::Asking { .. } | Lease::Over => return,
            Lease::Held(_) => {}
        }
        // With a lease that may have run out nothing is decided: it is renewed first, or lost.
        if self.fence.until().is_some_and(|until| now < until) {
            let names: Vec<_> = self.cameras.keys().cloned().collect();
            for name in names {
                self.decide(&name, now);
            }
            let keys = &self.keys;
            self.cameras.retain(|name, camera| {
                let is_free = || keys.get(name).is_none_or(|key| key.holder.is_none());
                camera.wanted || camera.write.is_some() || camera.runs || !is_free()
            });
        }
        let record = self.record(self.session());
        if let Lease::Held(lease) = &mut self.lease
            && lease.renewing.is_none()
            && (lease.renew_at <= now || (lease.told != record && self.trouble.is_none()))
        {
            let news = (lease.told != record).then(|| record.clone());
            lease.renewing = Some((now, record));
            let op = Op::Renew(Arc::clone(&lease.session), news);
            self.ops.push_back(op);
        }
    }

    fn decide(&mut self, name: &Arc<str>, now: LeaseTime) {
        let Lease::Held(lease) = &self.lease else {
            return;
        };
        let (session, since) = (Arc::clone(&lease.session), lease.since);
        let key = self.keys.get(name).cloned().unwrap_or_default();
        let Some(camera) = self.cameras.get_mut(name) else {
            return;
        };
        if let Some(own) = &camera.write {
            let Some(retry_at) = own.retry_at else {
                // Its answer is awaited.
                return;
            };
            // Once something newer was written, it cannot be carried out any more.
            if key.version > own.at {
                camera.write = None;
            } else if now < retry_at {
                return;
            }
        }
        if camera
            .outdated
            .is_some_and(|version| key.version <= version)
        {
            self.fence.close(name);
            return;
        }
        camera.outdated = None;
        if key.holder.as_ref() == Some(&session) {
            self.decide_held(name, &key, &session, now);
            return;
        }
        self.fence.close(name);
        let has_settled = self.has_seen_all && now.since(since) >= self.timing.settle;
        let is_meant = camera.target.as_ref() == Some(&session);
        camera.parting = None;
        let runs = camera.wanted && is_meant && (camera.runs || key.holder.is_some());
        camera.inferred &= runs;
        camera.runs = runs;
        if key.holder.is_some() || !has_settled || !camera.wanted {
            camera.free_since = None;
            return;
        }
        let free_since = *camera.free_since.get_or_insert(now);
        let free_for = now.since(free_since);
        // Where the one that it is meant for does not take it, the next one does, since the first may not know the camera.
        let (digest, retrying) = (camera.digest, camera.write.is_some());
        let is_turn = is_meant
            || (free_for >= self.timing.renew_every && {
                let own = self.sessions.iter().position(|member| *member == session);
                own.is_some_and(|own| {
                    let before = rank(&self.candidates, own, digest);
                    let before = u32::try_from(before).unwrap_or(u32::MAX);
                    free_for >= self.timing.renew_every.saturating_mul(before)
                })
            });
        if retrying || (is_turn && !self.leaving) {
            self.write(name, &key, Some(session));
        }
    }

    fn decide_held(&mut self, name: &Arc<str>, key: &Key, session: &Session, now: LeaseTime) {
        let Some(camera) = self.cameras.get_mut(name) else {
            return;
        };
        (camera.free_since, camera.inferred) = (None, false);
        if !camera.wanted {
            self.fence.close(name);
            (camera.runs, camera.parting) = (false, None);
            self.write(name, key, None);
            return;
        }
        // Whoever takes it over must have pictures of it.
        let taker = camera.target.clone().filter(|target| {
            let member = self.members.get(target);
            target != session && member.is_some_and(|member| member.ready.contains(name))
        });
        if camera.write.is_some() {
            // Whether it was given away is not known. It is asked for again, or taken back.
            self.fence.close(name);
            let holder = taker.unwrap_or_else(|| Arc::clone(session));
            self.write(name, key, Some(holder));
            return;
        }
        camera.runs = true;
        let Some(taker) = taker else {
            camera.parting = None;
            self.fence.set(name, Passage::Open);
            return;
        };
        let has_begun = camera.parting.is_some();
        let parting = camera.parting.get_or_insert_with(|| Parting {
            to: Arc::clone(&taker),
            since: now,
            done: false,
        });
        parting.to = Arc::clone(&taker);
        let is_over = parting.done || now.since(parting.since) >= PARTING_LIMIT;
        if !has_begun {
            self.fence.set(name, Passage::OutOnly);
            let epoch = self.fence.closing_epoch(name).unwrap_or_default();
            let to = self.name_of(&taker);
            self.news.push(News::Parting(Arc::clone(name), to, epoch));
        } else if is_over {
            self.fence.close(name);
            self.write(name, key, Some(taker));
        }
    }
}
