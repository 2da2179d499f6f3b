//! Checks `[node]`: which share of the cameras is this node's, and where the leases of its pool are kept.

use std::path::PathBuf;
use std::time::Duration;

use super::error::ConfigError;
use super::file::{File, Given, LeaseSection, NodeSection, Origin, ShardSection};
use super::resolve::Resolver;
use super::values::{CameraConfig, Connect};
use twinsight_client::hub::HubOptions;
use twinsight_client::hub::text::redacted_url;
use twinsight_client::secret::Secret;
use twinsight_media::label_enum;
use url::Url;

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
    /// All of them are, as for a node that is alone.
    #[default]
    All,
    /// A fixed part of them is, whether the nodes of the other parts live or not.
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
    /// In etcd, bound to leases of its own kind.
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
    /// What the node shows to an etcd that asks its clients for certificates.
    pub client: Option<ClientCertificate>,
    /// Who the node is to etcd.
    pub username: Option<String>,
    /// The password of that user.
    pub password: Option<Secret>,
}

/// A certificate of the node's own, as files that are read anew for each connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, with those between it and its authority behind it, in PEM form.
    pub cert_file: PathBuf,
    /// Its private key in PEM form.
    pub key_file: PathBuf,
}

/// The shortest and the longest lease, in milliseconds. With a shorter one, a busy moment of the node or of etcd would cost cameras.
const LEASE_MS: (u32, u32) = (3_000, 60_000);

/// The longest name of a pool, so that names of objects that are made of it and a hash are DNS labels.
const MAX_POOL: usize = 40;

impl NodeConfig {
    /// A node that is alone.
    pub fn alone() -> Self {
        Self {
            name: "node".to_owned(),
            capacity: DEFAULT_CAPACITY,
            share: ShareConfig::All,
        }
    }
}

const DEFAULT_CAPACITY: u32 = 10;
const MAX_LABEL: usize = 63;

impl Resolver<'_> {
    pub(super) fn node(&self, file: &File, hub: Option<&HubOptions>) -> NodeConfig {
        let node = &file.node;
        let name = match &node.name {
            Some(given) => {
                if !is_label(&given.value, MAX_LABEL) {
                    self.note(self.bad("node.name", given, &label_of(MAX_LABEL)));
                }
                given.value.clone()
            }
            None => own_name(hub),
        };
        let capacity = node.capacity.as_ref().map_or(DEFAULT_CAPACITY, |given| {
            self.or(
                self.integer("node.capacity", given, (1, 10_000)),
                DEFAULT_CAPACITY,
            )
        });
        NodeConfig {
            name,
            capacity,
            share: self.share(&file.node),
        }
    }

    fn share(&self, node: &NodeSection) -> ShareConfig {
        let shard = self.shard(&node.shard);
        let Some(pool) = &node.pool else {
            if let Some(origin) = first_of(&node.lease) {
                self.note(ConfigError::LeaseWithoutPool {
                    place: self.place(origin),
                });
            }
            return shard.unwrap_or_default();
        };
        if shard.is_some() {
            self.note(ConfigError::PoolAndShard {
                place: self.place(&pool.origin),
            });
        }
        if !is_label(&pool.value, MAX_POOL) {
            self.note(self.bad("node.pool", pool, &label_of(MAX_POOL)));
        }
        let duration = node.lease.duration_ms.as_ref().map_or(6_000, |given| {
            self.or(
                self.integer("node.lease.duration_ms", given, LEASE_MS),
                6_000,
            )
        });
        let Some(engine) = self.lease_engine(pool, &node.lease) else {
            return ShareConfig::All;
        };
        ShareConfig::Pool(PoolConfig {
            name: pool.value.clone(),
            lease_duration: Duration::from_millis(u64::from(duration)),
            engine,
        })
    }

    fn shard(&self, shard: &ShardSection) -> Option<ShareConfig> {
        let ShardSection { index, count } = shard;
        let (index, count) = match (index, count) {
            (None, None) => return None,
            (Some(index), Some(count)) => (index, count),
            (Some(given), None) | (None, Some(given)) => {
                self.note(ConfigError::HalfAShard {
                    place: self.place(&given.origin),
                });
                return None;
            }
        };
        let parts = self.or(self.integer("node.shard.count", count, (1, 10_000)), 1);
        let part = self.or(self.integer("node.shard.index", index, (0, parts - 1)), 0);
        Some(ShareConfig::Shard {
            index: part,
            count: parts,
        })
    }

    /// Where the leases are kept. `None` means that something is missing or wrong, which is noted.
    fn lease_engine(
        &self,
        pool: &Given<String>,
        lease: &LeaseSection,
    ) -> Option<LeaseEngineConfig> {
        let Some(given) = &lease.engine else {
            self.note(ConfigError::PoolWithoutLease {
                place: self.place(&pool.origin),
            });
            return None;
        };
        let engine = self.choice("node.lease.engine", given, Engine::ALL, Engine::as_str);
        let engine = self.or(engine.map(Some), None)?;
        let others: &[&'static str] = match engine {
            Engine::Etcd => &["namespace"],
            Engine::Kubernetes => &[
                "url",
                "ca_file",
                "client_cert_file",
                "client_key_file",
                "username",
                "password_file",
            ],
        };
        for key in others {
            if let Some(origin) = lease.origin(key) {
                self.note(ConfigError::KeyOfAnotherEngine {
                    place: self.place(origin),
                    key,
                    engine: engine.as_str(),
                });
            }
        }
        if !engine.is_built() {
            self.note(ConfigError::NotBuilt {
                place: self.place(&given.origin),
                key: "node.lease.engine",
                feature: engine.as_str(),
            });
            return None;
        }
        match engine {
            Engine::Kubernetes => {
                if let Some(given) = &lease.namespace
                    && !is_label(&given.value, MAX_LABEL)
                {
                    self.note(self.bad("node.lease.namespace", given, &label_of(MAX_LABEL)));
                }
                Some(LeaseEngineConfig::Kubernetes {
                    namespace: lease.namespace.as_ref().map(|given| given.value.clone()),
                })
            }
            Engine::Etcd => self.etcd(&given.origin, lease).map(LeaseEngineConfig::Etcd),
        }
    }

    fn etcd(&self, engine: &Origin, lease: &LeaseSection) -> Option<EtcdConfig> {
        let Some(url) = &lease.url else {
            self.note(ConfigError::EtcdWithoutUrl {
                place: self.place(engine),
            });
            return None;
        };
        let is_address = |text: &String| {
            Url::parse(text).is_ok_and(|url| {
                matches!(url.scheme(), "http" | "https")
                    && url.has_host()
                    && url.username().is_empty()
                    && url.password().is_none()
                    && matches!(url.path(), "" | "/")
                    && url.query().is_none()
                    && url.fragment().is_none()
            })
        };
        if url.value.0.is_empty() || !url.value.0.iter().all(is_address) {
            let takes = "addresses like \"http://etcd:2379\", with the user in `username` and the password in `password_file`";
            let shown = Given {
                value: url
                    .value
                    .0
                    .iter()
                    .map(|url| redacted_url(url))
                    .collect::<Vec<_>>(),
                origin: url.origin.clone(),
            };
            self.note(self.bad("node.lease.url", &shown, takes));
            return None;
        }
        let half = match (&lease.username, &lease.password_file) {
            (Some(given), None) => Some(("username", "password_file", &given.origin)),
            (None, Some(given)) => Some(("password_file", "username", &given.origin)),
            _ => None,
        };
        if let Some((key, missing, origin)) = half {
            self.note(ConfigError::HalfALoginOfEtcd {
                place: self.place(origin),
                key,
                missing,
            });
        }
        let password = lease
            .password_file
            .as_ref()
            .map(|given| self.secret_file("node.lease.password_file", given))
            .transpose();
        Some(EtcdConfig {
            urls: url.value.0.clone(),
            ca_file: self.or(
                self.path("node.lease.ca_file", lease.ca_file.as_ref()),
                None,
            ),
            client: self.client_certificate(lease, &url.value.0),
            username: lease.username.as_ref().map(|given| given.value.clone()),
            password: self.or(password, None),
        })
    }

    fn client_certificate(
        &self,
        lease: &LeaseSection,
        urls: &[String],
    ) -> Option<ClientCertificate> {
        let (cert, key) = match (&lease.client_cert_file, &lease.client_key_file) {
            (None, None) => return None,
            (Some(cert), Some(key)) => (cert, key),
            (Some(given), None) => {
                self.half_a_certificate("client_cert_file", "client_key_file", given);
                return None;
            }
            (None, Some(given)) => {
                self.half_a_certificate("client_key_file", "client_cert_file", given);
                return None;
            }
        };
        if !urls.iter().all(|url| url.starts_with("https://")) {
            self.note(ConfigError::PlainEtcd {
                place: self.place(&cert.origin),
            });
        }
        let path = |name, given| self.or(self.path(name, Some(given)), None);
        Some(ClientCertificate {
            cert_file: path("node.lease.client_cert_file", cert)?,
            key_file: path("node.lease.client_key_file", key)?,
        })
    }

    fn half_a_certificate(&self, key: &'static str, missing: &'static str, given: &Given<String>) {
        self.note(ConfigError::HalfACertificateOfEtcd {
            place: self.place(&given.origin),
            key,
            missing,
        });
    }

    /// A camera that dials a node cannot be handed to another.
    pub(super) fn check_share(&self, file: &File, node: &NodeConfig, cameras: &[CameraConfig]) {
        if node.share == ShareConfig::All {
            return;
        }
        let origin = match (&file.node.pool, &file.node.shard.index) {
            (Some(pool), _) => &pool.origin,
            (None, Some(index)) => &index.origin,
            (None, None) => return,
        };
        let dials =
            |camera: &&CameraConfig| camera.connect == Connect::Accept && camera.source.is_none();
        if let Some(camera) = cameras.iter().find(dials) {
            self.note(ConfigError::SharedCameraDials {
                place: self.place(origin),
                twin_id: camera.id.twin_id.to_string(),
            });
        }
    }
}

label_enum! {
    /// Where leases can be kept. The names are those of the Cargo features, too.
    pub enum Engine {
        /// `Lease` objects of Kubernetes.
        Kubernetes = "kubernetes",
        /// Leases of etcd, by its own client.
        Etcd = "etcd",
    }
}

impl Engine {
    fn is_built(self) -> bool {
        match self {
            Self::Kubernetes => cfg!(feature = "kubernetes"),
            Self::Etcd => cfg!(feature = "etcd"),
        }
    }
}

fn first_of(lease: &LeaseSection) -> Option<&Origin> {
    LeaseSection::KEYS
        .iter()
        .find_map(|key| lease.origin(key.name))
}

fn label_of(limit: usize) -> String {
    format!("1 to {limit} small letters, digits and hyphens, with no hyphen at its ends")
}

/// True for a DNS label (RFC 1123).
fn is_label(text: &str, limit: usize) -> bool {
    (1..=limit).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// What a node is called that nobody has given a name.
fn own_name(hub: Option<&HubOptions>) -> String {
    let twin_id = hub.map(|hub| hub.twin_id.as_str()).unwrap_or_default();
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = match twin_id {
        "" => host(),
        id => id.to_owned(),
    };
    let label: String = name
        .trim()
        .chars()
        .map(|c| match c.to_ascii_lowercase() {
            c @ ('a'..='z' | '0'..='9') => c,
            _ => '-',
        })
        .take(MAX_LABEL)
        .collect();
    match label.trim_matches('-') {
        "" => "node".to_owned(),
        label => label.to_owned(),
    }
}

#[cfg(test)]
#[path = "node_tests.rs"]
mod tests;
