//! Tries the store of a pool's leases, without taking part in the pool: a lease is got, renewed and given up, by a member that leaves
//! already, so that no camera is meant for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::differences::Difference;
use super::facts::{engine_name, engine_remedy};
use super::store::{CameraList, Configured, LeaseStore, MemberRecord, Renewal, Seen, StoreError};
use crate::config::{LeaseEngineConfig, NodeConfig, PoolConfig};

/// What was found of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PoolFound {
    /// `etcd` or `kubernetes`.
    pub(crate) engine: &'static str,
    /// The nodes that live, by their names. Of one whose configuration differs from that of the node that asks, what differs.
    pub(crate) members: BTreeMap<String, Option<String>>,
}

/// Why the store of a pool is of no use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PoolLost {
    /// What went wrong.
    pub(crate) reason: String,
    /// What to do about it.
    pub(crate) remedy: String,
}

/// Asks the store of a pool. The error says why it is of no use.
pub(crate) async fn probe(
    config: &NodeConfig,
    pool: &PoolConfig,
    cameras: &BTreeSet<Arc<str>>,
) -> Result<PoolFound, PoolLost> {
    let asked = match &pool.engine {
        #[cfg(feature = "etcd")]
        LeaseEngineConfig::Etcd(etcd) => match super::etcd::EtcdStore::new(etcd, pool) {
            Ok(store) => ask(store, config).await,
            Err(error) => Err(error),
        },
        #[cfg(feature = "kubernetes")]
        LeaseEngineConfig::Kubernetes { namespace } => {
            let store = super::kubernetes::KubernetesStore::new(namespace.clone(), pool);
            ask(store, config).await
        }
        #[cfg(not(all(feature = "etcd", feature = "kubernetes")))]
        _ => Err(StoreError::new(
            "this build has not the feature that it needs",
        )),
    };
    let engine = engine_name(&pool.engine);
    let members = asked.map_err(|StoreError { reason, remedy }| PoolLost {
        reason,
        remedy: remedy.unwrap_or_else(|| engine_remedy(engine).to_owned()),
    })?;
    let own = Configured {
        cameras: Some(CameraList::of(cameras)),
        lease_ms: u64::try_from(pool.lease_duration.as_millis()).ok(),
    };
    let members = members.into_iter().map(|member| {
        let difference = Difference::between(&own, &member.configured);
        let differs = difference.map(|difference| difference.sentence());
        (member.name.to_string(), differs)
    });
    Ok(PoolFound {
        engine,
        members: members.collect(),
    })
}

async fn ask<S: LeaseStore>(
    store: S,
    config: &NodeConfig,
) -> Result<Vec<MemberRecord>, StoreError> {
    let session = store
        .join(MemberRecord {
            name: format!("{}-check", config.name).into(),
            capacity: 1,
            started_at: 0,
            leaving: true,
            ready: BTreeSet::new(),
            configured: Configured::default(),
        })
        .await?;
    let found = look(&store, &session).await;
    // Its lease runs out by itself where this fails.
    let _ = store.leave(session).await;
    found
}

async fn look<S: LeaseStore>(store: &S, session: &str) -> Result<Vec<MemberRecord>, StoreError> {
    if store.renew(session.into(), None).await? == Renewal::Lost {
        return Err(StoreError::new("it forgot a lease that it had just given"));
    }
    let (sender, mut seen) = mpsc::channel(1);
    let first = async {
        tokio::select! {
            error = store.watch(sender) => Err(error),
            seen = seen.recv() => Ok(seen.unwrap_or_default()),
        }
    };
    let limit = Duration::from_secs(10);
    let all = tokio::time::timeout(limit, first)
        .await
        .map_err(|_| StoreError::new("it does not tell what it has"))??;
    let members = all.into_iter().flat_map(|seen| match seen {
        Seen::All { members, .. } => members,
        Seen::Member(..) | Seen::Holder(_) => Vec::new(),
    });
    let others = members.filter(|(other, member)| **other != *session && !member.leaving);
    Ok(others.map(|(_, member)| member).collect())
}
