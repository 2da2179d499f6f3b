//! The task of a node in a pool. It runs the state machine on a store: what the store tells and what the node says go in, what is
//! to be written is written, and duties, facts, metrics and the log follow. The node ends it early in its own end, so that others
//! take over at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::core::{Done, Duty, News, Op, PARTING_LIMIT, PoolCore, Timing};
use super::differences::{Difference, Differences};
use super::facts::{MemberFacts, engine_remedy};
use super::store::{Configured, LeaseStore, MemberRecord, Seen, StoreError};
use super::time::LeaseTime;
use super::{Duties, LEAVE_LIMIT, Parting, Share};
use crate::clock::unix_ms;
use crate::config::{NodeConfig, PoolConfig};
use crate::telemetry::health::{Health, Heartbeat};
use crate::telemetry::metrics::{Metrics, PoolMove};
use twinsight_client::rate_limit::{RATE_LIMIT, RateLimit};

/// The state machine looks at the time this often. What comes in is worked on at once.
const TICK: Duration = Duration::from_millis(100);

/// A store that cannot be watched is asked again after this time.
const WATCH_AGAIN: Duration = Duration::from_millis(500);

/// So many changes may wait. The store's watch waits while there are more.
const SEEN: usize = 64;

/// At the node's end, the store has this long to hear that the lease is given up.
const QUIT_LIMIT: Duration = Duration::from_secs(1);

/// A loop that does not beat for this long makes the node unhealthy.
const MAX_SILENCE: Duration = Duration::from_secs(15);

/// A camera that the node cannot get pictures of for this long stays with its holder, which is said once.
const UNREACHED_FOR: Duration = Duration::from_secs(60);

/// The running task, which the node ends. Without a pool there is none.
#[derive(Debug)]
pub(crate) struct ShareTask {
    share: Option<Share>,
    task: Option<JoinHandle<()>>,
}

struct Driver<S> {
    store: Arc<S>,
    share: Share,
    core: PoolCore,
    metrics: Arc<Metrics>,
    pool: String,
    engine: &'static str,
    ops: FuturesUnordered<BoxFuture<'static, Done>>,
    /// When the node began to leave.
    leaving_since: Option<Instant>,
    unreached: UnreachedCameras,
    failures: RateLimit<Failing>,
    /// Nothing is published, since the lease may have run out.
    is_fenced: bool,
    has_warned_of_namesake: bool,
    /// Since when another node has this node's name.
    namesake_since: Option<Instant>,
    /// So long a lease lasts.
    lease_duration: Duration,
    /// Why the store cannot be watched, since it told something last.
    watch_trouble: Option<StoreError>,
    /// Since when the store does not tell who lives.
    watch_ended_at: Option<SystemTime>,
    differences: Differences,
}

/// What of the store fails, and what is to be done about it. Each is said at once, though another one was said a moment ago.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Failing {
    Lease(Option<String>),
    Watch(Option<String>),
}

/// The cameras that the node has been connecting to for long without a picture.
#[derive(Debug, Default)]
struct UnreachedCameras {
    warm: BTreeMap<Arc<str>, (Instant, bool)>,
}

impl ShareTask {
    pub(super) fn none() -> Self {
        Self {
            share: None,
            task: None,
        }
    }

    pub(super) fn spawn<S: LeaseStore>(
        store: S,
        share: Share,
        config: &NodeConfig,
        pool: &PoolConfig,
        metrics: &Arc<Metrics>,
        health: &Health,
    ) -> Self {
        let record = MemberRecord {
            name: config.name.as_str().into(),
            capacity: config.capacity,
            started_at: unix_ms(SystemTime::now()),
            leaving: false,
            ready: BTreeSet::new(),
            configured: Configured {
                cameras: None,
                lease_ms: u64::try_from(pool.lease_duration.as_millis()).ok(),
            },
        };
        let fence = Arc::clone(&share.pool_end().fence);
        let timing = Timing::of(pool.lease_duration);
        let driver = Driver {
            store: Arc::new(store),
            core: PoolCore::new(record, timing, fence, LeaseTime::now()),
            share: share.clone(),
            metrics: Arc::clone(metrics),
            pool: pool.name.clone(),
            engine: super::facts::engine_name(&pool.engine),
            ops: FuturesUnordered::new(),
            leaving_since: None,
            unreached: UnreachedCameras::default(),
            failures: RateLimit::new(RATE_LIMIT),
            is_fenced: false,
            has_warned_of_namesake: false,
            namesake_since: None,
            lease_duration: pool.lease_duration,
            watch_trouble: None,
            watch_ended_at: None,
            differences: Differences::default(),
        };
        let heartbeat = health.register("the pool", MAX_SILENCE, Instant::now());
        let task = tokio::spawn(health.watch("the pool", driver.run(heartbeat)));
        Self {
            share: Some(share),
            task: Some(task),
        }
    }

    /// Ends it without a word, as a process does that is killed.
    #[cfg(test)]
    pub(super) fn kill(&self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }

    /// How long [`leave`](Self::leave) may take.
    pub(crate) fn leave_limit(&self) -> Duration {
        match &self.task {
            Some(_) => LEAVE_LIMIT + PARTING_LIMIT + QUIT_LIMIT,
            None => Duration::ZERO,
        }
    }

    /// Gives away all that is held, at once or as soon as others have pictures of it, and ends the lease. It takes no longer than
    /// a few seconds.
    pub(crate) async fn leave(self) {
        let (Some(share), Some(task)) = (self.share, self.task) else {
            return;
        };
        share.tell(|inbox| inbox.leave = true);
        // If the task panicked, that was logged where it happened.
        let _ = task.await;
        share.pool_end().fence.clear();
    }
}

impl<S: LeaseStore> Driver<S> {
    async fn run(mut self, heartbeat: Heartbeat) {
        let share = self.share.clone();
        let end = share.pool_end();
        let (sender, mut seen) = mpsc::channel::<Vec<Seen>>(SEEN);
        let mut watching = watch(Arc::clone(&self.store), sender.clone(), Duration::ZERO);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if self.act() {
                break;
            }
            tokio::select! {
                Some(mut all) = seen.recv() => {
                    while let Ok(more) = seen.try_recv() {
                        all.extend(more);
                    }
                    (self.watch_trouble, self.watch_ended_at) = (None, None);
                    self.core.seen(all, LeaseTime::now());
                }
                Some(done) = self.ops.next() => self.core.done(done, LeaseTime::now()),
                error = &mut watching => {
                    self.watch_failed(&error);
                    watching = watch(Arc::clone(&self.store), sender.clone(), WATCH_AGAIN);
                }
                () = end.wake.notified() => self.take_inbox(),
                _ = tick.tick() => self.core.tick(LeaseTime::now()),
            }
            heartbeat.beat(Instant::now());
        }
        drop(watching);
        self.quit().await;
    }

    /// Does what is to be done. True means that the node has left.
    fn act(&mut self) -> bool {
        let now = LeaseTime::now();
        while let Some(op) = self.core.poll(now) {
            self.ops.push(ask(Arc::clone(&self.store), op));
        }
        for news in self.core.take_news() {
            self.tell(news);
        }
        self.publish(now);
        self.leaving_since
            .is_some_and(|since| self.core.may_quit(now) || since.elapsed() >= LEAVE_LIMIT)
    }

    fn take_inbox(&mut self) {
        let inbox = std::mem::take(&mut *self.share.pool_end().inbox.lock());
        let now = LeaseTime::now();
        if let Some(cameras) = inbox.cameras {
            self.metrics.pool().configured.set(number(cameras.len()));
            self.core.set_cameras(&cameras, now);
        }
        for twin in inbox.inferred {
            self.core.inferred(&twin, now);
        }
        for twin in inbox.lost {
            self.core.lost_picture(&twin, now);
        }
        for twin in inbox.parted {
            self.core.parted(&twin, now);
        }
        if inbox.leave && self.leaving_since.is_none() {
            self.leaving_since = Some(Instant::now());
            self.core.leave(now);
        }
    }

    /// Has what is still held sent, and ends the lease.
    async fn quit(mut self) {
        let share = self.share.clone();
        let end = share.pool_end();
        let mut held = self.core.stop_admitting();
        let partings = held.iter().map(|(twin, epoch)| Parting {
            twin: Arc::clone(twin),
            to: None,
            epoch: *epoch,
        });
        end.partings.lock().extend(partings);
        end.parting.notify_one();
        let parted = async {
            while !held.is_empty() {
                let parted = std::mem::take(&mut end.inbox.lock().parted);
                held.retain(|twin, _| !parted.contains(twin));
                if !held.is_empty() {
                    end.wake.notified().await;
                }
            }
        };
        let _ = tokio::time::timeout(PARTING_LIMIT, parted).await;
        self.core.quit();
        self.ops.clear();
        while let Some(op) = self.core.poll(LeaseTime::now()) {
            self.ops.push(ask(Arc::clone(&self.store), op));
        }
        let ended = tokio::time::timeout(QUIT_LIMIT, self.ops.next()).await;
        match ended {
            Ok(Some(Done::Leave(Err(error)))) => {
                tracing::info!(%error, "the pool was left without telling it, so that others take over when the lease runs out");
            }
            Ok(_) => tracing::info!(pool = %self.pool, "the pool was left"),
            Err(_) => {
                tracing::info!(pool = %self.pool, "the pool was left without telling it, so that others take over when the lease runs out");
            }
        }
        self.publish(LeaseTime::now());
    }

    /// Brings up to date what others see of the share.
    fn publish(&mut self, now: LeaseTime) {
        let duties = self.core.duties(now);
        let is_held = |duty: &&Duty| matches!(duty, Duty::Hold { .. });
        let held = duties.values().filter(is_held).count();
        let warm = duties.len() - held;
        self.unreached.look(&duties, &self.core);
        self.share.shared.duties.send_if_modified(|before| {
            let is_same = matches!(&**before, Duties::These(before) if *before == duties);
            if !is_same {
                let mut pictures = self.share.pool_end().pictures.lock();
                // Only of those that it takes over somebody waits for a picture.
                let is_warm = |twin: &Arc<str>| duties.get(twin) == Some(&Duty::Warm);
                pictures.told.retain(|twin| is_warm(twin));
                pictures.seen.retain(|id| is_warm(&id.twin_id));
                drop(pictures);
                *before = Arc::new(Duties::These(duties));
            }
            !is_same
        });
        self.look_at_fence(warm, now);
        let remaining = self.share.pool_end().fence.until();
        let remaining = remaining.map_or(Duration::ZERO, |until| until.since(now));
        self.look_at_configurations(now);
        let differences = &self.differences;
        let mut members: Vec<MemberFacts> = self
            .core
            .members()
            .map(|member| MemberFacts {
                name: member.name.to_string(),
                capacity: member.capacity,
                cameras: member.configured.cameras.map(|cameras| cameras.count),
                lease_duration_ms: member.configured.lease_ms,
                differs: differences
                    .of(&member.name)
                    .map(|difference| difference.sentence()),
            })
            .collect();
        members.sort();
        let metrics = self.metrics.pool();
        metrics.members.set(number(members.len()));
        metrics.held.set(number(held));
        metrics.warm.set(number(warm));
        metrics.lease_remaining.set(remaining.as_secs_f64());
        let trouble = self.trouble(remaining);
        let mut facts = self.share.shared.facts.lock();
        (facts.held, facts.warm, facts.members) = (held, warm, members);
        facts.members_stale_since = self.watch_ended_at.map(unix_ms);
        facts.lease_remaining_ms = u64::try_from(remaining.as_millis()).ok();
        facts.trouble = trouble;
    }

    /// Says which nodes have another configuration, once for each and for what differs.
    fn look_at_configurations(&mut self, now: LeaseTime) {
        let (own, members) = (self.core.own(), self.core.members());
        for (other, difference) in self.differences.look(own, members, now) {
            let (pool, node) = (self.pool.as_str(), &*own.name);
            let Difference { cameras, lease_ms } = difference;
            if let Some((cameras, other_cameras)) = cameras {
                let (cameras, other_cameras) = (cameras.count, other_cameras.count);
                tracing::warn!(pool, node, %other, cameras, other_cameras, "two nodes of the pool do not have the same cameras in their configurations: give both the same file");
            }
            if let Some((duration_ms, other_duration_ms)) = lease_ms {
                tracing::warn!(pool, node, %other, duration_ms, other_duration_ms, "two nodes of the pool do not have the same node.lease.duration_ms: give both the same, and start again the one that had another");
            }
        }
    }

    /// Says when nothing is published any more, and when it is again. `warm` cameras are connected.
    fn look_at_fence(&mut self, warm: usize, now: LeaseTime) {
        let until = self.share.pool_end().fence.until();
        let is_fenced = self.core.is_member() && until.is_some_and(|until| until <= now);
        if is_fenced == self.is_fenced {
            return;
        }
        self.is_fenced = is_fenced;
        let (pool, engine) = (self.pool.as_str(), self.engine);
        if is_fenced {
            tracing::warn!(
                pool,
                engine,
                cameras = warm,
                "nothing of this node's cameras is published, since its lease in the pool may have run out"
            );
        } else if self.core.is_member() {
            tracing::info!(
                pool,
                engine,
                "the node's lease in its pool is renewed, and its cameras are published again"
            );
        }
    }

    /// Says that the store cannot be watched. A watch that the store ends now and then is begun anew without a word.
    fn watch_failed(&mut self, error: &StoreError) {
        tracing::debug!(%error, "the pool's store is watched again");
        self.watch_ended_at.get_or_insert_with(SystemTime::now);
        if self.watch_trouble.is_none() {
            self.watch_trouble = Some(error.clone());
            return;
        }
        self.metrics.pool().lease_errors.inc();
        if self.core.trouble().is_some() {
            // What keeps the node from its lease is said already.
            return;
        }
        let failing = Failing::Watch(error.remedy.clone());
        if let Some(suppressed) = self.failures.allow(failing, Instant::now()) {
            let (pool, engine) = (self.pool.as_str(), self.engine);
            let reason = self.advised(error);
            tracing::warn!(
                pool,
                engine,
                reason,
                suppressed,
                "the store of the pool's leases does not tell what changes"
            );
        }
    }

    /// What a store's error says, with what to do about it.
    fn advised(&self, error: &StoreError) -> String {
        match error.remedy {
            Some(_) => error.to_string(),
            None => format!("{error}: {}", engine_remedy(self.engine)),
        }
    }

    /// What is wrong, for people.
    fn trouble(&mut self, remaining: Duration) -> Option<String> {
        let (engine, pool) = (self.engine, &self.pool);
        let has_namesake = self.core.has_namesake();
        let namesake_since = has_namesake.then(|| self.namesake_since.unwrap_or_else(Instant::now));
        self.namesake_since = namesake_since;
        // The one before it had the name too, and its lease may not have run out yet.
        if namesake_since.is_some_and(|since| since.elapsed() > self.lease_duration) {
            if !std::mem::replace(&mut self.has_warned_of_namesake, true) {
                tracing::error!(
                    pool,
                    "another node of the pool has this node's name, and gets its cameras: give each its own node.name"
                );
            }
            return Some(format!(
                "another node of pool `{pool}` has this node's name and gets its cameras: give each its own `node.name`"
            ));
        }
        self.has_warned_of_namesake = false;
        match self.core.trouble() {
            Some(error) if error.remedy.is_some() => Some(format!(
                "the node and {engine} are not set up for each other: {error}"
            )),
            Some(error) => Some(format!("{engine} does not answer: {}", self.advised(error))),
            None if let Some(error) = &self.watch_trouble
                && !self.core.has_seen_all() =>
            {
                Some(format!(
                    "the leases of pool `{pool}` were not read yet: {}",
                    self.advised(error)
                ))
            }
            None if remaining.is_zero() && self.leaving_since.is_none() => {
                Some(format!("pool `{pool}` is not joined yet"))
            }
            None => None,
        }
    }

    fn tell(&mut self, news: News) {
        let metrics = self.metrics.pool();
        let (pool, engine) = (self.pool.as_str(), self.engine);
        match news {
            News::Joined => {
                tracing::info!(pool, engine, "the node is a member of its pool");
            }
            News::LeaseLost(cameras) => {
                metrics.moved(PoolMove::Lost, u64::try_from(cameras).unwrap_or(u64::MAX));
                tracing::warn!(
                    pool,
                    cameras,
                    "the node's lease in its pool has run out, and its cameras are free for others: it joins again"
                );
            }
            News::StoreFailed(error) => {
                metrics.lease_errors.inc();
                let failing = Failing::Lease(error.remedy.clone());
                if let Some(suppressed) = self.failures.allow(failing, Instant::now()) {
                    let reason = self.advised(&error);
                    if error.remedy.is_some() {
                        tracing::error!(
                            pool,
                            engine,
                            reason,
                            suppressed,
                            "the node and the store of the pool's leases are not set up for each other"
                        );
                    } else {
                        tracing::warn!(
                            pool,
                            engine,
                            reason,
                            suppressed,
                            "the store of the pool's leases does not answer"
                        );
                    }
                }
            }
            News::StoreAnswers => {
                tracing::info!(pool, engine, "the store of the pool's leases answers again");
            }
            News::Taken(camera) => {
                metrics.moved(PoolMove::Taken, 1);
                tracing::info!(%camera, pool, "the camera is this node's now");
            }
            News::Given(camera, to) => {
                metrics.moved(PoolMove::Given, 1);
                tracing::info!(%camera, pool, %to, "the camera was handed to another node");
            }
            News::Lost(camera) => {
                metrics.moved(PoolMove::Lost, 1);
                tracing::warn!(%camera, pool, "the camera is no longer this node's, though it did not give it away");
            }
            News::Parting(twin, to, epoch) => {
                let end = self.share.pool_end();
                end.partings.lock().push_back(Parting {
                    twin,
                    to: Some(to),
                    epoch,
                });
                end.parting.notify_one();
            }
        }
    }
}

impl UnreachedCameras {
    fn look(&mut self, duties: &BTreeMap<Arc<str>, Duty>, core: &PoolCore) {
        let is_waiting =
            |twin: &Arc<str>| duties.get(twin) == Some(&Duty::Warm) && !core.has_picture(twin);
        self.warm.retain(|twin, _| is_waiting(twin));
        for twin in duties.keys().filter(|twin| is_waiting(twin)) {
            let now = Instant::now();
            let (since, said) = self.warm.entry(Arc::clone(twin)).or_insert((now, false));
            if !*said
                && since.elapsed() >= UNREACHED_FOR
                && let Some(holder) = core.holder_of(twin)
            {
                *said = true;
                tracing::warn!(camera = %twin, %holder, "the camera is meant for this node, which gets no picture of it: it stays with its holder");
            }
        }
    }
}

/// Asks the store for something.
fn ask<S: LeaseStore>(store: Arc<S>, op: Op) -> BoxFuture<'static, Done> {
    Box::pin(async move {
        match op {
            Op::Join(record) => Done::Join(store.join(record).await),
            Op::Renew(session, record) => {
                let result = store.renew(Arc::clone(&session), record).await;
                Done::Renew(session, result)
            }
            Op::Write(write) => {
                let result = store.write(write.clone()).await;
                Done::Write(write, result)
            }
            Op::Leave(session) => Done::Leave(store.leave(session).await),
        }
    })
}

fn watch<S: LeaseStore>(
    store: Arc<S>,
    seen: mpsc::Sender<Vec<Seen>>,
    after: Duration,
) -> BoxFuture<'static, StoreError> {
    Box::pin(async move {
        tokio::time::sleep(after).await;
        store.watch(seen).await
    })
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
