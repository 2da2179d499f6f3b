//! What there is to say of a node's share, for the API and the probes.

use serde::Serialize;

use crate::config::{LeaseEngineConfig, NodeConfig, PoolConfig};

/// Which cameras are a node's, and how it stands with the others.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ShareFacts {
    /// `all`, `shard` or `pool`.
    pub mode: &'static str,
    /// What the node is called among the others. `None` for a node that has all cameras.
    pub node: Option<String>,
    /// How many cameras it can carry, in a pool.
    pub capacity: Option<u32>,
    /// The pool.
    pub pool: Option<String>,
    /// Where the leases are kept: `etcd` or `kubernetes`.
    pub engine: Option<&'static str>,
    /// The nodes of the pool that live, itself among them, in the order of their names.
    pub members: Vec<MemberFacts>,
    /// Since when the store does not tell who lives, in milliseconds since 1970: the members are those of then. `None` while it does.
    pub members_stale_since: Option<u64>,
    /// How many cameras it holds and publishes.
    pub held: usize,
    /// How many cameras it is connected to without publishing them, because it is about to take them over or has no lease.
    pub warm: usize,
    /// For how long it may go on to publish without another renewal of its lease, in milliseconds. 0 means that it publishes nothing.
    pub lease_remaining_ms: Option<u64>,
    /// What is wrong with the pool, and what to do about it.
    pub trouble: Option<String>,
}

/// A node of a pool.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberFacts {
    /// What it is called.
    pub name: String,
    /// How many cameras it can carry.
    pub capacity: u32,
    /// How many camera twins its configuration has. `None` for a shard, and for a node of an older version.
    pub cameras: Option<u32>,
    /// How long its leases last, in milliseconds.
    pub lease_duration_ms: Option<u64>,
    /// What its configuration does not have in common with that of this node for more than a minute.
    pub differs: Option<String>,
}

impl Default for ShareFacts {
    /// All cameras are this node's.
    fn default() -> Self {
        Self {
            mode: "all",
            node: None,
            capacity: None,
            pool: None,
            engine: None,
            members: Vec::new(),
            members_stale_since: None,
            held: 0,
            warm: 0,
            lease_remaining_ms: None,
            trouble: None,
        }
    }
}

impl ShareFacts {
    /// What is wrong with the pool, as a line of a probe.
    pub(crate) fn trouble_line(&self) -> Option<String> {
        Some(format!(
            "pool {}: {}",
            self.pool.as_ref()?,
            self.trouble.as_ref()?
        ))
    }

    pub(super) fn shard(index: u32, count: u32) -> Self {
        Self {
            mode: "shard",
            node: Some(format!("shard-{index}")),
            members: (0..count.min(256))
                .map(|n| MemberFacts {
                    name: format!("shard-{n}"),
                    capacity: 1,
                    ..MemberFacts::default()
                })
                .collect(),
            ..Self::default()
        }
    }

    pub(super) fn pool(config: &NodeConfig, pool: &PoolConfig) -> Self {
        Self {
            mode: "pool",
            node: Some(config.name.clone()),
            capacity: Some(config.capacity),
            pool: Some(pool.name.clone()),
            engine: Some(engine_name(&pool.engine)),
            lease_remaining_ms: Some(0),
            ..Self::default()
        }
    }
}

pub(super) fn engine_name(engine: &LeaseEngineConfig) -> &'static str {
    match engine {
        LeaseEngineConfig::Etcd(_) => "etcd",
        LeaseEngineConfig::Kubernetes { .. } => "kubernetes",
    }
}

/// What to do about a store of this engine where its error does not tell.
pub(super) fn engine_remedy(engine: &str) -> &'static str {
    match engine {
        "etcd" => {
            "see that etcd runs and can be reached from here, and correct `node.lease.url` if not"
        }
        _ => {
            "see that the API server can be reached from here, and that the node's service account is allowed get, list, watch, create, \
             update and delete of leases"
        }
    }
}
