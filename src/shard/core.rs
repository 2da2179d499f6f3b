//! Which cameras of a pool are this node's. What is seen in the store, what came of own writes and what the node does come in; what
//! is to be done with the store goes out, and which cameras are to run and may be published. It is plain state with `now` passed in.
//!
//! A camera is meant for one of the members (`rendezvous`), and held by at most one. The one it is meant for takes it at once if it
//! is free. Where another holds it, the one it is meant for connects to it and says when it has a picture; then the holder stops
//! publishing and hands it over in one write. So a camera never has two holders, and a move leaves no gap.
//!
//! The holder may publish from when it knows that it holds the camera until its lease may have run out, which it counts from before
//! it asked for the lease or for its renewal. While the outcome of a write of its own is not known, it does not publish.

mod decide;
mod keys;
mod lease;
mod members;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use self::decide::Camera;
use self::keys::Key;
use self::lease::Lease;
use super::fence::{Fence, Passage};
use super::rendezvous::Candidate;
use super::store::{
    CameraList, HolderSeen, MemberRecord, Renewal, Seen, Session, StoreError, Version, Write,
    Written,
};
use super::time::LeaseTime;

/// What is under way of a camera that is given away may take so long.
pub(super) const PARTING_LIMIT: Duration = Duration::from_millis(500);

/// Times that follow from the duration of a lease.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    /// From when a renewal was asked for, so long it may be published.
    pub(super) publish: Duration,
    /// After that, so long nobody else can hold what this node held.
    pub(super) margin: Duration,
    /// Between two renewals.
    pub(super) renew_every: Duration,
    /// After something failed.
    pub(super) retry: Duration,
    /// A node that just came waits so long for the others that come with it, before it takes what is free.
    pub(super) settle: Duration,
}

impl Timing {
    pub(super) fn of(duration: Duration) -> Self {
        let margin = (duration / 6).max(Duration::from_millis(500));
        Self {
            publish: duration.saturating_sub(margin),
            margin,
            renew_every: duration / 3,
            retry: (duration / 6).min(Duration::from_millis(500)),
            settle: (duration / 3).min(Duration::from_secs(1)),
        }
    }
}

/// What is to be asked of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Op {
    Join(MemberRecord),
    Renew(Session, Option<MemberRecord>),
    Write(Write),
    Leave(Session),
}

/// What came of an [`Op`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Done {
    Join(Result<Session, StoreError>),
    Renew(Session, Result<Renewal, StoreError>),
    Write(Write, Result<Written, StoreError>),
    Leave(Result<(), StoreError>),
}

/// Something happened that is counted or logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum News {
    /// The node is a member.
    Joined,
    /// The lease ran out, and with it so many cameras went.
    LeaseLost(usize),
    /// The store did not do what was asked, for this reason.
    StoreFailed(StoreError),
    /// It answers again.
    StoreAnswers,
    /// The camera is this node's now.
    Taken(Arc<str>),
    /// The camera was handed to the node of this name.
    Given(Arc<str>, Arc<str>),
    /// The camera is no longer this node's, and it did not give it.
    Lost(Arc<str>),
    /// What is under way of this camera is to be sent, since the node of this name takes it. The number says which time of being
    /// open ends.
    Parting(Arc<str>, Arc<str>, u64),
}

/// What a node does with a camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Duty {
    /// It connects to it and infers its frames, and publishes nothing.
    Warm,
    /// It publishes what it sees. The number is another one each time that it begins to.
    Hold { epoch: u64 },
}

/// A node's end of the pool.
#[derive(Debug)]
pub(super) struct PoolCore {
    own: MemberRecord,
    timing: Timing,
    fence: Arc<Fence>,
    lease: Lease,
    members: BTreeMap<Session, MemberRecord>,
    /// The store has told all that there is.
    has_seen_all: bool,
    /// The members that cameras may be meant for, and their sessions in the same order.
    candidates: Vec<Candidate>,
    sessions: Vec<Session>,
    keys: BTreeMap<Arc<str>, Key>,
    cameras: BTreeMap<Arc<str>, Camera>,
    /// The newest version that was told or written.
    newest: Version,
    /// How many cameras the store has freed since the lease may have run out.
    freed: usize,
    /// Why the store does not answer, while it does not.
    trouble: Option<StoreError>,
    leaving: bool,
    ops: VecDeque<Op>,
    news: Vec<News>,
}

impl PoolCore {
    /// A node that begins to be a member now. `record` is what it says of itself.
    pub(super) fn new(
        record: MemberRecord,
        timing: Timing,
        fence: Arc<Fence>,
        now: LeaseTime,
    ) -> Self {
        Self {
            own: record,
            timing,
            fence,
            lease: Lease::None { ask_at: now },
            members: BTreeMap::new(),
            has_seen_all: false,
            candidates: Vec::new(),
            sessions: Vec::new(),
            keys: BTreeMap::new(),
            cameras: BTreeMap::new(),
            newest: 0,
            freed: 0,
            trouble: None,
            leaving: false,
            ops: VecDeque::new(),
            news: Vec::new(),
        }
    }

    /// Takes in which cameras are configured.
    pub(super) fn set_cameras(&mut self, wanted: &BTreeSet<Arc<str>>, now: LeaseTime) {
        self.own.configured.cameras = Some(CameraList::of(wanted));
        for name in wanted {
            self.camera_mut(name).wanted = true;
        }
        for (name, camera) in &mut self.cameras {
            camera.wanted = wanted.contains(name);
        }
        self.work(now);
    }

    /// A frame of a camera was inferred.
    pub(super) fn inferred(&mut self, name: &str, now: LeaseTime) {
        if let Some(camera) = self.cameras.get_mut(name)
            && camera.runs
            && !camera.inferred
        {
            camera.inferred = true;
            self.work(now);
        }
    }

    /// No frames of a camera come any more.
    pub(super) fn lost_picture(&mut self, name: &str, now: LeaseTime) {
        if let Some(camera) = self.cameras.get_mut(name)
            && std::mem::take(&mut camera.inferred)
        {
            self.work(now);
        }
    }

    /// True once the store has told all that there is.
    pub(super) fn has_seen_all(&self) -> bool {
        self.has_seen_all
    }

    /// Nothing of a camera that is given away is under way any more.
    pub(super) fn parted(&mut self, name: &str, now: LeaseTime) {
        if let Some(parting) = self.cameras.get_mut(name).and_then(|c| c.parting.as_mut()) {
            parting.done = true;
            self.work(now);
        }
    }

    /// Takes in what the store tells.
    pub(super) fn seen(&mut self, all: Vec<Seen>, now: LeaseTime) {
        for seen in all {
            match seen {
                Seen::All {
                    version,
                    members,
                    holders,
                } => {
                    if version < self.newest {
                        // Another store is behind the same address, or an older state of this one. Nothing of before holds.
                        self.forget_keys();
                    }
                    self.newest = version;
                    self.members = members.into_iter().collect();
                    self.has_seen_all = true;
                    let named: BTreeSet<_> = holders.iter().map(|h| &h.camera).collect();
                    let gone: Vec<_> = self
                        .keys
                        .iter()
                        .filter(|(name, key)| !named.contains(name) && key.version <= version)
                        .map(|(name, _)| HolderSeen {
                            camera: Arc::clone(name),
                            version,
                            exists: false,
                            holder: None,
                        })
                        .collect();
                    let all = gone.into_iter().chain(holders);
                    all.for_each(|holder| self.note(holder, now));
                    let cameras = &self.cameras;
                    self.keys
                        .retain(|name, key| key.exists || cameras.contains_key(name));
                }
                Seen::Member(session, Some(record)) => {
                    self.members.insert(session, record);
                }
                Seen::Member(session, None) => {
                    self.members.remove(&session);
                    if self.session() == Some(&session) {
                        self.lose_lease(now);
                    }
                }
                Seen::Holder(holder) => self.note(holder, now),
            }
        }
        self.rank_members();
        self.work(now);
    }

    /// Takes in what came of something that was asked of the store.
    pub(super) fn done(&mut self, done: Done, now: LeaseTime) {
        match done {
            Done::Join(result) => self.joined(result, now),
            Done::Renew(session, result) => self.renewed(&session, result, now),
            Done::Write(write, result) => self.written(write, result, now),
            Done::Leave(_) => {}
        }
        self.work(now);
    }

    /// Gives everything away and ends the lease, at the latest when [`quit`](Self::quit) is called.
    pub(super) fn leave(&mut self, now: LeaseTime) {
        self.leaving = true;
        self.rank_members();
        self.work(now);
    }

    /// True when a node that leaves holds nothing any more, or when nobody is there who could take anything.
    pub(super) fn may_quit(&self, now: LeaseTime) -> bool {
        let Some(session) = self.session() else {
            return true;
        };
        if self.fence.until().is_none_or(|until| until <= now) {
            return true;
        }
        let is_busy = |camera: &Camera| camera.write.is_some();
        let others = self.sessions.iter().any(|member| member != session);
        let holds = self
            .keys
            .values()
            .any(|key| key.holder.as_ref() == Some(session));
        !(others && (holds || self.cameras.values().any(is_busy)))
    }

    /// Lets out what is under way of all cameras that are held, and nothing else in. Gives these cameras.
    pub(super) fn stop_admitting(&mut self) -> BTreeMap<Arc<str>, u64> {
        let held = self.cameras.keys().filter(|name| self.fence.knows(name));
        held.filter_map(|name| {
            self.fence.set(name, Passage::OutOnly);
            let epoch = self.fence.closing_epoch(name)?;
            Some((Arc::clone(name), epoch))
        })
        .collect()
    }

    /// Stops publishing and ends the lease now.
    pub(super) fn quit(&mut self) {
        self.fence.clear();
        self.ops.clear();
        let lease = std::mem::replace(&mut self.lease, Lease::Over);
        if let Lease::Held(lease) = lease {
            self.ops.push_back(Op::Leave(lease.session));
        }
        for camera in self.cameras.values_mut() {
            camera.parting = None;
        }
    }

    /// Does what the time asks for. Whoever runs this calls it a few times in a second.
    pub(super) fn tick(&mut self, now: LeaseTime) {
        self.work(now);
    }

    /// What is to be asked of the store next. It is asked at this moment.
    pub(super) fn poll(&mut self, now: LeaseTime) -> Option<Op> {
        let op = self.ops.pop_front()?;
        match (&op, &mut self.lease) {
            (Op::Join(_), Lease::Asking { sent_at, .. }) => *sent_at = now,
            (Op::Renew(..), Lease::Held(lease)) => {
                if let Some((sent_at, _)) = &mut lease.renewing {
                    *sent_at = now;
                }
            }
            _ => {}
        }
        Some(op)
    }

    /// What has happened since this was asked last.
    pub(super) fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    /// What the node is to do with its cameras.
    pub(super) fn duties(&self, now: LeaseTime) -> BTreeMap<Arc<str>, Duty> {
        let runs = self.cameras.iter().filter(|(_, camera)| camera.runs);
        runs.map(|(name, _)| {
            let duty = match self.fence.open_epoch(name, now) {
                Some(epoch) => Duty::Hold { epoch },
                None => Duty::Warm,
            };
            (Arc::clone(name), duty)
        })
        .collect()
    }

    /// Whether a frame of a camera was inferred since the node connected to it.
    pub(super) fn has_picture(&self, camera: &str) -> bool {
        self.cameras
            .get(camera)
            .is_some_and(|camera| camera.inferred)
    }

    /// The name of the member that holds a camera, if it is another one.
    pub(super) fn holder_of(&self, camera: &str) -> Option<Arc<str>> {
        let holder = self.keys.get(camera)?.holder.as_ref()?;
        (self.session() != Some(holder)).then(|| self.name_of(holder))
    }

    /// What this node says of itself, but for what it is about to take over.
    pub(super) fn own(&self) -> &MemberRecord {
        &self.own
    }

    /// The members that live, as far as it is known.
    pub(super) fn members(&self) -> impl Iterator<Item = &MemberRecord> {
        self.members.values()
    }

    /// Why the store does not answer.
    pub(super) fn trouble(&self) -> Option<&StoreError> {
        self.trouble.as_ref()
    }

    /// True while another node that came later has the same name.
    pub(super) fn has_namesake(&self) -> bool {
        let Some(session) = self.session() else {
            return false;
        };
        !self.leaving && self.members.contains_key(session) && !self.sessions.contains(session)
    }

    /// True for a node that has a lease, whether it may have run out or not.
    pub(super) fn is_member(&self) -> bool {
        matches!(self.lease, Lease::Held(_))
    }
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
