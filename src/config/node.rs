//! Checks `[node]`: which share of the cameras is this node's, and where the leases of its pool are kept.

use std::path::PathBuf;
use std::time::Duration;

use super::file::File;
use super::resolve::Resolver;
use twinsight_client::secret::Secret;

/// The node among others.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeConfig {
    /// What it is called among the nodes of its pool, a DNS label. No two nodes of a pool have the same name.
    pub name: String,
    /// How many cameras it can carry. A node with twice the capacity gets twice as many cameras.
    pub capacity: u32,
    /// Which cameras of the configuration are its own.
    pub share: ShareConfig,
}

/// Which cameras of the configuration are a node's own.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum ShareConfig {
    /// All of them.
    #[default]
    All,
    /// A fixed part.
    Shard {
        /// Which of the parts, from 0 on.
        index: u32,
        /// How many parts there are.
        count: u32,
    },
    /// What falls to it among the nodes of a pool that live.
    Pool(PoolConfig),
}

/// The nodes that share the cameras of a configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolConfig {
    /// What the pool is called, a DNS label.
    pub name: String,
    /// A node that has not renewed its lease for this long is taken for dead.
    pub lease_duration: Duration,
    /// Where the leases are kept.
    pub engine: LeaseEngineConfig,
}

/// Where the leases of a pool are kept.
#[derive(Debug, Clone, PartialEq)]
pub enum LeaseEngineConfig {
    /// In etcd.
    Etcd(EtcdConfig),
    /// In `Lease` objects of the Kubernetes cluster that the node runs in.
    Kubernetes {
        /// The namespace; that of the node's own pod unless given.
        namespace: Option<String>,
    },
}

/// How etcd is reached.
#[derive(Debug, Clone, PartialEq)]
pub struct EtcdConfig {
    /// Addresses of its members, `http://…` or `https://…`. There is at least one.
    pub urls: Vec<String>,
    /// Certificates to trust beside the built-in roots.
    pub ca_file: Option<PathBuf>,
    /// Who the node is to etcd.
    pub username: Option<String>,
    /// The password of that user.
    pub password: Option<Secret>,
}

impl Resolver<'_> {
    pub(super) fn node(&self, _file: &File) -> NodeConfig {
        NodeConfig {
            name: "node".to_owned(),
            capacity: 10,
            share: ShareConfig::All,
        }
    }
}
