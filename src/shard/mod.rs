//! Which cameras of the configuration are this node's: all of them, a fixed part, or what falls to it among the nodes of a pool that
//! live. The configuration and what the node does with its cameras come in; which cameras are to run, and what may be published of
//! them, goes out. A pool has a task of its own (`task`), which runs the plain state of `core` on a store of leases: `etcd` or
//! `kubernetes`.

#[cfg(test)]
mod by_hand;
mod core;
mod differences;
mod facts;
mod fence;
mod probe;
mod rendezvous;
mod store;
mod task;
mod time;

#[cfg(feature = "etcd")]
mod etcd;
#[cfg(feature = "kubernetes")]
mod kubernetes;
#[cfg(test)]
mod memory;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};

pub(crate) use self::core::Duty;
use self::core::Timing;
pub use self::facts::{MemberFacts, ShareFacts};
use self::fence::Fence;
pub(crate) use self::probe::{PoolLost, probe};
use self::rendezvous::{CameraDigest, Candidate, target};
pub(crate) use self::task::ShareTask;
use self::time::LeaseTime;
use crate::config::{LeaseEngineConfig, NodeConfig, PoolConfig, ShareConfig};
use crate::telemetry::health::Health;
use crate::telemetry::metrics::Metrics;
use twinsight_client::stream_id::StreamId;

/// What a node does with each camera of the configuration.
#[derive(Debug, Clone)]
pub(crate) enum Duties {
    /// It holds all of them.
    All,
    /// It holds its fixed part.
    Shard(Arc<Shard>),
    /// It holds some of them and is about to take others over. The others are other nodes'.
    These(BTreeMap<Arc<str>, Duty>),
}

/// A fixed part of all cameras.
#[derive(Debug)]
pub(crate) struct Shard {
    parts: Vec<Candidate>,
    index: usize,
}

/// A camera that is about to be no longer this node's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parting {
    /// The camera.
    pub(crate) twin: Arc<str>,
    /// The node that takes it. `None` means that this node ends, and that nobody was there to take it in time.
    pub(crate) to: Option<Arc<str>>,
    /// Which time of being open ends.
    pub(crate) epoch: u64,
}

/// Which cameras are this node's. Clones share it, and no method waits but where it says so.
#[derive(Debug, Clone)]
pub(crate) struct Share {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    duties: watch::Sender<Arc<Duties>>,
    /// What the node has to tell to the pool's task. `None` without a pool.
    pool: Option<PoolEnd>,
    facts: Mutex<ShareFacts>,
}

/// What the node and the task of its pool have in common.
#[derive(Debug, Default)]
struct PoolEnd {
    fence: Arc<Fence>,
    /// From when nothing is published any more, nobody else can have a camera of this node for this long.
    margin: Duration,
    inbox: Mutex<Inbox>,
    wake: Notify,
    partings: Mutex<VecDeque<Parting>>,
    parting: Notify,
    /// The cameras whose tracks were begun anew for this node, each with the time of being open that they were begun for, so that their events are whole.
    begun: RwLock<BTreeMap<Arc<str>, u64>>,
    pictures: Mutex<Pictures>,
}

/// Which cameras that the node does not hold it has pictures of.
#[derive(Debug, Default)]
struct Pictures {
    /// The configured streams of each camera.
    streams: BTreeMap<Arc<str>, BTreeSet<StreamId>>,
    /// Those of which a frame was inferred.
    seen: BTreeSet<StreamId>,
    /// The cameras of which the pool's task was told it.
    told: BTreeSet<Arc<str>>,
}

/// What the task has not taken in yet. Each camera is in it once.
#[derive(Debug, Default)]
struct Inbox {
    cameras: Option<BTreeSet<Arc<str>>>,
    inferred: BTreeSet<Arc<str>>,
    lost: BTreeSet<Arc<str>>,
    parted: BTreeSet<Arc<str>>,
    leave: bool,
}

impl Duties {
    /// What the node does with this camera. `None` means that it is another node's.
    pub(crate) fn of(&self, twin: &str) -> Option<Duty> {
        match self {
            Self::All => Some(Duty::Hold { epoch: 0 }),
            Self::Shard(shard) => shard.has(twin).then_some(Duty::Hold { epoch: 0 }),
            Self::These(duties) => duties.get(twin).copied(),
        }
    }
}

impl Shard {
    fn new(index: u32, count: u32) -> Self {
        let part = |n| Candidate::new(format!("shard-{n}").into(), 1);
        Self {
            parts: (0..count).map(part).collect(),
            index: usize::try_from(index).unwrap_or(usize::MAX),
        }
    }

    fn has(&self, twin: &str) -> bool {
        target(&self.parts, CameraDigest::new(twin)) == Some(self.index)
    }
}

impl Share {
    /// All cameras are this node's.
    pub(crate) fn all() -> Self {
        Self::fixed(Duties::All, ShareFacts::default())
    }

    /// A fixed part of all cameras is this node's.
    pub(crate) fn shard(index: u32, count: u32) -> Self {
        let shard = Duties::Shard(Arc::new(Shard::new(index, count)));
        Self::fixed(shard, ShareFacts::shard(index, count))
    }

    fn fixed(duties: Duties, facts: ShareFacts) -> Self {
        Self {
            shared: Arc::new(Shared {
                duties: watch::Sender::new(Arc::new(duties)),
                pool: None,
                facts: Mutex::new(facts),
            }),
        }
    }

    /// Begins to be a part of the pool, if there is one. It needs a tokio runtime.
    ///
    /// # Errors
    /// When this build cannot reach the store of the leases, or a file that it is reached with is of no use.
    pub(crate) fn spawn(
        config: &NodeConfig,
        metrics: &Arc<Metrics>,
        health: &Health,
    ) -> anyhow::Result<(Self, ShareTask)> {
        match &config.share {
            ShareConfig::All => Ok((Self::all(), ShareTask::none())),
            ShareConfig::Shard { index, count } => {
                Ok((Self::shard(*index, *count), ShareTask::none()))
            }
            ShareConfig::Pool(pool) => Self::in_pool(config, pool, metrics, health),
        }
    }

    fn in_pool(
        config: &NodeConfig,
        pool: &PoolConfig,
        metrics: &Arc<Metrics>,
        health: &Health,
    ) -> anyhow::Result<(Self, ShareTask)> {
        let share = Self::of_pool(config, pool);
        let task = match &pool.engine {
            #[cfg(feature = "etcd")]
            LeaseEngineConfig::Etcd(etcd) => {
                let store = self::etcd::EtcdStore::new(etcd, pool)?;
                ShareTask::spawn(store, share.clone(), config, pool, metrics, health)
            }
            #[cfg(feature = "kubernetes")]
            LeaseEngineConfig::Kubernetes { namespace } => {
                let store = self::kubernetes::KubernetesStore::new(namespace.clone(), pool);
                ShareTask::spawn(store, share.clone(), config, pool, metrics, health)
            }
            #[cfg(not(feature = "etcd"))]
            LeaseEngineConfig::Etcd(_) => anyhow::bail!(
                "`node.lease.engine = \"etcd\"` needs a build with the feature `etcd`"
            ),
            #[cfg(not(feature = "kubernetes"))]
            LeaseEngineConfig::Kubernetes { .. } => anyhow::bail!(
                "`node.lease.engine = \"kubernetes\"` needs a build with the feature `kubernetes`"
            ),
        };
        Ok((share, task))
    }

    /// The node's end of a pool, which holds nothing yet.
    fn of_pool(config: &NodeConfig, pool: &PoolConfig) -> Self {
        Self {
            shared: Arc::new(Shared {
                duties: watch::Sender::new(Arc::new(Duties::These(BTreeMap::new()))),
                pool: Some(PoolEnd {
                    margin: Timing::of(pool.lease_duration).margin,
                    ..PoolEnd::default()
                }),
                facts: Mutex::new(ShareFacts::pool(config, pool)),
            }),
        }
    }

    /// Says which camera streams are configured.
    pub(crate) fn set_cameras(&self, ids: impl IntoIterator<Item = StreamId>) {
        let Some(pool) = &self.shared.pool else {
            return;
        };
        let mut streams: BTreeMap<Arc<str>, BTreeSet<StreamId>> = BTreeMap::new();
        for id in ids {
            let of_camera = streams.entry(Arc::clone(&id.twin_id)).or_default();
            of_camera.insert(id);
        }
        let twins = streams.keys().cloned().collect();
        pool.pictures.lock().streams = streams;
        self.tell(|inbox| inbox.cameras = Some(twins));
    }

    /// What the node does with each camera, and every change of it.
    pub(crate) fn duties(&self) -> watch::Receiver<Arc<Duties>> {
        self.shared.duties.subscribe()
    }

    /// Whether an event of the camera may enter the way out of the node.
    pub(crate) fn admits(&self, twin: &str) -> bool {
        match &self.shared.pool {
            Some(pool) => {
                let begun = pool.begun.read().get(twin).copied();
                begun.is_some() && pool.fence.epoch(twin, LeaseTime::now()) == begun
            }
            None => true,
        }
    }

    /// Whether an event of the camera may leave the node at this moment.
    pub(crate) fn may_publish(&self, twin: &str) -> bool {
        match &self.shared.pool {
            Some(pool) => pool.fence.lets_out(twin, LeaseTime::now()),
            None => true,
        }
    }

    /// Whether this node is the one that tells how the camera is. When nothing is published any more, it still has the time to say so
    /// before another node can have taken the camera.
    pub(crate) fn tells(&self, twin: &str) -> bool {
        let Some(pool) = &self.shared.pool else {
            return true;
        };
        let until = pool.fence.until();
        pool.fence.knows(twin) && until.is_some_and(|until| LeaseTime::now() < until + pool.margin)
    }

    /// Whether this node held the camera when the store last told. Its lease may have run out since.
    pub(crate) fn held_last(&self, twin: &str) -> bool {
        let pool = self.shared.pool.as_ref();
        pool.is_none_or(|pool| pool.fence.knows(twin))
    }

    /// Lets events of a camera in for this time of being open, or no more. The node begins the camera's tracks anew before it does.
    pub(crate) fn set_begun(&self, twin: &Arc<str>, epoch: Option<u64>) {
        if let Some(pool) = &self.shared.pool {
            let mut begun = pool.begun.write();
            match epoch {
                Some(epoch) => begun.insert(Arc::clone(twin), epoch),
                None => begun.remove(twin),
            };
        }
    }

    /// The time of being open that events of a camera are let in for.
    pub(crate) fn begun(&self, twin: &str) -> Option<u64> {
        let pool = self.shared.pool.as_ref()?;
        pool.begun.read().get(twin).copied()
    }

    /// Whether this time of being open comes to its end because the camera is given away.
    pub(crate) fn is_closing(&self, twin: &str, epoch: u64) -> bool {
        let pool = self.shared.pool.as_ref();
        pool.is_some_and(|pool| pool.fence.closing_epoch(twin) == Some(epoch))
    }

    /// When the lease ran out that let events through for this time of being open, or now.
    pub(crate) fn closed_at(&self, epoch: u64) -> Instant {
        let pool = self.shared.pool.as_ref();
        let lease_now = LeaseTime::now();
        let ago = pool.map_or(Duration::ZERO, |pool| {
            lease_now.since(pool.fence.closed_at(epoch, lease_now))
        });
        let now = Instant::now();
        now.checked_sub(ago).unwrap_or(now)
    }

    /// True for a node whose cameras come and go with the nodes of a pool.
    pub(crate) fn is_pool(&self) -> bool {
        self.shared.pool.is_some()
    }

    /// Says that a frame of a camera stream was inferred that the node does not publish yet. The node is ready to take the camera over
    /// when each of its streams had one.
    pub(crate) fn inferred(&self, id: &StreamId) {
        let Some(pool) = &self.shared.pool else {
            return;
        };
        let twin = &id.twin_id;
        let mut pictures = pool.pictures.lock();
        if pictures.told.contains(twin) {
            return;
        }
        // Another stream of the camera, of which nothing was ever seen, may have left the configuration since.
        pictures.seen.insert(id.clone());
        let streams = pictures.streams.get(twin);
        if streams.is_none_or(|streams| streams.is_subset(&pictures.seen)) {
            pictures.told.insert(Arc::clone(twin));
            drop(pictures);
            self.tell(|inbox| {
                inbox.lost.remove(twin);
                inbox.inferred.insert(Arc::clone(twin));
            });
        }
    }

    /// Says that no frames of a camera stream come any more.
    pub(crate) fn lost_picture(&self, id: &StreamId) {
        let Some(pool) = &self.shared.pool else {
            return;
        };
        let mut pictures = pool.pictures.lock();
        pictures.seen.remove(id);
        if pictures.told.remove(&id.twin_id) {
            drop(pictures);
            self.tell(|inbox| {
                inbox.inferred.remove(&id.twin_id);
                inbox.lost.insert(Arc::clone(&id.twin_id));
            });
        }
    }

    /// Waits for cameras that are about to be no longer this node's. What is under way of it is to be sent, and then [`parted`](Self::parted)
    /// to be called for each.
    pub(crate) async fn next_partings(&self) -> Vec<Parting> {
        let Some(pool) = &self.shared.pool else {
            return std::future::pending().await;
        };
        loop {
            let woken = pool.parting.notified();
            let all: Vec<Parting> = pool.partings.lock().drain(..).collect();
            if !all.is_empty() {
                return all;
            }
            woken.await;
        }
    }

    /// Says that nothing of a camera is under way any more.
    pub(crate) fn parted(&self, twin: &Arc<str>) {
        self.tell(|inbox| {
            inbox.parted.insert(Arc::clone(twin));
        });
    }

    /// What there is to say of it.
    pub(crate) fn facts(&self) -> ShareFacts {
        self.shared.facts.lock().clone()
    }

    /// Why nothing is published of cameras that this node held last: the lease may have run out.
    pub(crate) fn fenced(&self) -> Option<String> {
        let pool = self.shared.pool.as_ref()?;
        let until = pool.fence.until()?;
        if LeaseTime::now() < until {
            return None;
        }
        let facts = self.shared.facts.lock();
        let trouble = facts
            .trouble
            .as_deref()
            .unwrap_or("it was not renewed in time");
        Some(format!(
            "nothing is published, since the node's lease in the pool has run out: {trouble}"
        ))
    }

    fn tell(&self, what: impl FnOnce(&mut Inbox)) {
        if let Some(pool) = &self.shared.pool {
            what(&mut pool.inbox.lock());
            pool.wake.notify_one();
        }
    }

    fn pool_end(&self) -> &PoolEnd {
        let pool = self.shared.pool.as_ref();
        pool.expect("the share has a pool, because its task is started only then")
    }
}

/// How long a node that leaves waits until others have taken what it holds.
const LEAVE_LIMIT: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_camera_is_of_exactly_one_shard_at_every_count() {
        for count in 1..=12 {
            let shards: Vec<Shard> = (0..count).map(|index| Shard::new(index, count)).collect();
            for n in 0..200 {
                let camera = format!("camera-{n}");
                let holders = shards.iter().filter(|shard| shard.has(&camera)).count();
                assert_eq!(holders, 1, "{camera} of {count}");
            }
        }
    }

    #[test]
    fn a_camera_is_ready_once_the_stream_that_never_came_is_no_longer_configured() {
        let share = Share::by_hand();
        let [main, sub] = ["main", "sub"].map(|stream| StreamId::new("a", stream));
        share.set_cameras([main.clone(), sub]);
        share.inferred(&main);
        assert!(!share.is_ready("a"), "one of its streams was never seen");
        share.set_cameras([main.clone()]);
        share.inferred(&main);
        assert!(share.is_ready("a"));
    }
}
