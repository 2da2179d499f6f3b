//! A node's end of a pool whose other end is a test. What the task of a pool would do to it, the test does by calling these methods.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::fence::Passage;
use super::time::LeaseTime;
use super::{Duties, Duty, Parting, PoolEnd, Share, ShareFacts, Shared};

impl Share {
    /// A share of a pool, which holds nothing and has no lease yet.
    pub(crate) fn by_hand() -> Self {
        Self {
            shared: Arc::new(Shared {
                duties: watch::Sender::new(Arc::new(Duties::These(BTreeMap::new()))),
                pool: Some(PoolEnd {
                    margin: Duration::from_secs(60),
                    ..PoolEnd::default()
                }),
                facts: Mutex::new(ShareFacts::default()),
            }),
        }
    }

    /// Renews the lease, which lasts for this long from now on.
    pub(crate) fn renew(&self, lasts: Duration) {
        let now = LeaseTime::now();
        self.pool_end().fence.extend(now + lasts, now);
    }

    /// Makes it that the lease ran out so long ago.
    pub(crate) fn run_out(&self, ago: Duration) {
        let now = LeaseTime::now();
        let since_start = now.since(LeaseTime::at(Duration::ZERO));
        let until = LeaseTime::at(since_start.saturating_sub(ago));
        self.pool_end().fence.extend(until, now);
    }

    /// Lets events of a camera through.
    pub(crate) fn open(&self, twin: &str) {
        self.pool_end().fence.set(&twin.into(), Passage::Open);
    }

    /// Lets nothing of a camera through any more.
    pub(crate) fn close(&self, twin: &str) {
        self.pool_end().fence.close(twin);
    }

    /// The time of being open that a camera is in.
    pub(crate) fn epoch(&self, twin: &str) -> Option<u64> {
        self.pool_end().fence.epoch(twin, LeaseTime::now())
    }

    /// Begins to give a camera away to the node of this name.
    pub(crate) fn give_away(&self, twin: &str, to: &str) -> Parting {
        let (end, twin) = (self.pool_end(), twin.into());
        end.fence.set(&twin, Passage::OutOnly);
        let epoch = end.fence.closing_epoch(&twin);
        Parting {
            twin,
            to: Some(to.into()),
            epoch: epoch.expect("it was set to this just now"),
        }
    }

    /// Says what the node does with this camera, and that all others are other nodes'.
    pub(crate) fn set_duty(&self, twin: &str, duty: Duty) {
        let duties = BTreeMap::from([(twin.into(), duty)]);
        let duties = Arc::new(Duties::These(duties));
        self.shared.duties.send_replace(duties);
    }

    /// Whether the pool's task would be told that the node has pictures of a camera.
    pub(crate) fn is_ready(&self, twin: &str) -> bool {
        self.pool_end().inbox.lock().inferred.contains(twin)
    }
}
