//! Which cameras of a pool are this node's. What is seen in the store, what came of own writes and what the node does come in; what
//! is to be done with the store goes out, and which cameras are to run and may be published. It is plain state with `now` passed in.
//!
//! A camera is meant for one of the members (`rendezvous`), and held by at most one. The one it is meant for takes it at once if it
//! is free. Where another holds it, the one it is meant for connects to it and says when it has a picture; then the holder stops
//! publishing and hands it over in one write. So a camera never has two holders, and a move leaves no gap.
//!
//! The holder may publish from when it knows that it holds the camera until its lease may have run out, which it counts from before
//! it asked for the lease or for its renewal. While the outcome of a write of its own is not known, it does not publish.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::fence::{Fence, Passage};
use super::rendezvous::{CameraDigest, Candidate, rank, target};
use super::store::{
    HolderSeen, MemberRecord, Renewal, Seen, Session, StoreError, Version, Write, Written,
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

#[derive(Debug)]
enum Lease {
    /// There is none, and one is asked for at this time.
    None {
        ask_at: LeaseTime,
    },
    /// It was asked for at this time.
    Asking {
        sent_at: LeaseTime,
    },
    Held(HeldLease),
    /// It was given up for good.
    Over,
}

#[derive(Debug)]
struct HeldLease {
    session: Session,
    /// When it was got first.
    since: LeaseTime,
    renew_at: LeaseTime,
    /// When the renewal that is under way was asked for, with what it tells.
    renewing: Option<(LeaseTime, MemberRecord)>,
    /// What the store knows of this node.
    told: MemberRecord,
}

#[derive(Debug)]
struct Camera {
    digest: CameraDigest,
    /// It is in the node's configuration.
    wanted: bool,
    /// Which member it is meant for.
    target: Option<Session>,
    /// The node has a connection to it.
    runs: bool,
    /// A frame of it was inferred since.
    inferred: bool,
    /// Nobody holds it since then.
    free_since: Option<LeaseTime>,
    parting: Option<Parting>,
    write: Option<OwnWrite>,
    /// Somebody has written something newer than this, which the store has not told yet.
    outdated: Option<Version>,
}

/// A camera that is about to be given away.
#[derive(Debug)]
struct Parting {
    to: Session,
    since: LeaseTime,
    /// Nothing is under way any more.
    done: bool,
}

/// A write of the own that may still be carried out.
#[derive(Debug)]
struct OwnWrite {
    write: Write,
    /// The version that was known when it was asked for.
    at: Version,
    /// When it is to be asked for again. `None` while an answer is awaited.
    retry_at: Option<LeaseTime>,
}

/// What is known of who holds a camera.
#[derive(Debug, Clone, Default)]
struct Key {
    version: Version,
    exists: bool,
    holder: Option<Session>,
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

impl Camera {
    /// Forgets all that was about to be done with a lease that is gone.
    fn forget_lease(&mut self) {
        (self.write, self.parting, self.free_since, self.outdated) = (None, None, None, None);
    }
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
            (Op::Join(_), Lease::Asking { sent_at }) => *sent_at = now,
            (
                Op::Renew(..),
                Lease::Held(HeldLease {
                    renewing: Some((sent_at, _)),
                    ..
                }),
            ) => *sent_at = now,
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

    fn session(&self) -> Option<&Session> {
        match &self.lease {
            Lease::Held(lease) => Some(&lease.session),
            Lease::None { .. } | Lease::Asking { .. } | Lease::Over => None,
        }
    }

    fn name_of(&self, session: &Session) -> Arc<str> {
        match self.members.get(session) {
            Some(member) => Arc::clone(&member.name),
            None => Arc::clone(session),
        }
    }

    fn camera_mut(&mut self, name: &Arc<str>) -> &mut Camera {
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

    /// Forgets all that is known of holders, for a store that has begun anew.
    fn forget_keys(&mut self) {
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
    fn note(&mut self, seen: HolderSeen, now: LeaseTime) {
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

    fn joined(&mut self, result: Result<Session, StoreError>, now: LeaseTime) {
        let Lease::Asking { sent_at } = self.lease else {
            return;
        };
        match result {
            Ok(session) => {
                // Nothing that was held before is held with this lease.
                self.fence.clear();
                self.fence.extend(sent_at + self.timing.publish, now);
                self.lease = Lease::Held(HeldLease {
                    session,
                    since: now,
                    renew_at: sent_at + self.timing.renew_every,
                    renewing: None,
                    told: self.record(None),
                });
                for camera in self.cameras.values_mut() {
                    camera.forget_lease();
                }
                self.news.push(News::Joined);
                self.answers();
                self.rank_members();
            }
            Err(error) => {
                self.lease = Lease::None {
                    ask_at: now + self.timing.retry,
                };
                self.failed(error);
            }
        }
    }

    fn renewed(&mut self, of: &Session, result: Result<Renewal, StoreError>, now: LeaseTime) {
        let Lease::Held(lease) = &mut self.lease else {
            return;
        };
        if lease.session != *of {
            return;
        }
        let Some((sent_at, told)) = lease.renewing.take() else {
            return;
        };
        match result {
            Ok(Renewal::Renewed) => {
                lease.renew_at = sent_at + self.timing.renew_every;
                lease.told = told;
                self.fence.extend(sent_at + self.timing.publish, now);
                self.answers();
            }
            Ok(Renewal::Lost) => {
                self.answers();
                self.lose_lease(now);
            }
            Err(error) => {
                lease.renew_at = now + self.timing.retry;
                self.failed(error);
            }
        }
    }

    fn lose_lease(&mut self, now: LeaseTime) {
        let session = self.session().cloned();
        let held = self.keys.values().filter(|key| key.holder == session);
        let held = held.count() + std::mem::take(&mut self.freed);
        self.fence.clear();
        self.lease = Lease::None { ask_at: now };
        self.news.push(News::LeaseLost(held));
        self.ops.clear();
        for camera in self.cameras.values_mut() {
            camera.forget_lease();
        }
    }

    fn written(&mut self, write: Write, result: Result<Written, StoreError>, now: LeaseTime) {
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

    fn failed(&mut self, error: StoreError) {
        self.news.push(News::StoreFailed(error.clone()));
        self.trouble = Some(error);
    }

    fn answers(&mut self) {
        if self.trouble.take().is_some() {
            self.news.push(News::StoreAnswers);
        }
    }

    /// Brings up to date which member each camera is meant for.
    fn rank_members(&mut self) {
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
    fn record(&self, session: Option<&Session>) -> MemberRecord {
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

    /// Decides all that there is to decide.
    fn work(&mut self, now: LeaseTime) {
        match &self.lease {
            Lease::None { ask_at } if *ask_at <= now && !self.leaving => {
                self.lease = Lease::Asking { sent_at: now };
                // One that was asked for and whose answer was lost is older than this one.
                self.own.started_at += 1;
                let record = self.record(None);
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

    /// Asks for a write. Nothing of the camera is published before it is known what came of it.
    fn write(&mut self, name: &Arc<str>, key: &Key, holder: Option<Session>) {
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

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
