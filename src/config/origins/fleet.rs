//! Where the values of `[node]` and `[models]` came from.

use std::path::Path;

use serde_json::{Value, json};

use super::super::file::ModelSection;
use super::super::in_force::SectionInForce;
use super::super::models::RemoteModelConfig;
use super::super::node::{EtcdConfig, LeaseEngineConfig, NodeConfig, PoolConfig, ShareConfig};
use super::{Origins, path};
use twinsight_client::secret::Secret;

/// The values of `[node.lease]` that are in force.
#[derive(Default)]
struct LeaseValues<'a> {
    engine: Option<&'static str>,
    urls: &'a [String],
    duration_ms: Option<Value>,
    namespace: Option<&'a str>,
    ca_file: Option<&'a Path>,
    client_cert_file: Option<&'a Path>,
    client_key_file: Option<&'a Path>,
    username: Option<&'a str>,
    password_file: Option<&'a Path>,
}

impl<'a> LeaseValues<'a> {
    fn of(pool: &'a PoolConfig) -> Self {
        let PoolConfig {
            name: _,
            lease_duration,
            engine,
        } = pool;
        let common = Self {
            duration_ms: Some(json!(lease_duration.as_millis())),
            ..Self::default()
        };
        match engine {
            LeaseEngineConfig::Kubernetes { namespace } => Self {
                engine: Some("kubernetes"),
                namespace: namespace.as_deref(),
                ..common
            },
            LeaseEngineConfig::Etcd(etcd) => {
                let EtcdConfig {
                    urls,
                    ca_file,
                    client,
                    username,
                    password,
                } = etcd;
                Self {
                    engine: Some("etcd"),
                    urls,
                    ca_file: ca_file.as_deref(),
                    client_cert_file: client.as_ref().map(|client| &*client.cert_file),
                    client_key_file: client.as_ref().map(|client| &*client.key_file),
                    username: username.as_deref(),
                    password_file: password.as_ref().and_then(Secret::file),
                    ..common
                }
            }
        }
    }
}

impl Origins<'_> {
    pub(super) fn node(&self, node: &NodeConfig) -> SectionInForce {
        let NodeConfig {
            name,
            capacity,
            share,
        } = node;
        let given = &self.file.node;
        let (shard, pool) = match share {
            ShareConfig::All => (None, None),
            ShareConfig::Shard { index, count } => (Some((*index, *count)), None),
            ShareConfig::Pool(pool) => (None, Some(pool)),
        };
        let lease = pool.map_or_else(LeaseValues::default, LeaseValues::of);
        let of_shard = |key: &'static str, value: Option<u32>| {
            let name = match key {
                "index" => "shard.index",
                _ => "shard.count",
            };
            (
                name,
                self.optional(value.map(Value::from), given.shard.origin(key)),
            )
        };
        let of_lease = |name: &'static str, value: Option<Value>| {
            let key = name.trim_start_matches("lease.");
            (name, self.optional(value, given.lease.origin(key)))
        };
        SectionInForce(vec![
            (
                "name",
                self.entry(name.as_str().into(), given.origin("name")),
            ),
            (
                "capacity",
                self.entry((*capacity).into(), given.origin("capacity")),
            ),
            (
                "pool",
                self.optional(
                    pool.map(|pool| pool.name.as_str().into()),
                    given.origin("pool"),
                ),
            ),
            of_shard("index", shard.map(|(index, _)| index)),
            of_shard("count", shard.map(|(_, count)| count)),
            of_lease("lease.engine", lease.engine.map(Value::from)),
            of_lease(
                "lease.url",
                (!lease.urls.is_empty()).then(|| json!(lease.urls)),
            ),
            of_lease("lease.duration_ms", lease.duration_ms),
            of_lease("lease.namespace", lease.namespace.map(Value::from)),
            of_lease("lease.ca_file", lease.ca_file.map(path)),
            of_lease("lease.client_cert_file", lease.client_cert_file.map(path)),
            of_lease("lease.client_key_file", lease.client_key_file.map(path)),
            of_lease("lease.username", lease.username.map(Value::from)),
            of_lease("lease.password_file", lease.password_file.map(path)),
        ])
    }

    pub(super) fn model(
        &self,
        model: &RemoteModelConfig,
        section: &ModelSection,
    ) -> SectionInForce {
        let RemoteModelConfig {
            name,
            manifest,
            servers,
            model,
            version,
            deadline,
            max_in_flight,
            fallback,
            ca_file,
            token,
        } = model;
        let urls: Vec<String> = servers.iter().map(ToString::to_string).collect();
        let given = |key: &'static str, value: Value| (key, self.entry(value, section.origin(key)));
        let optional = |key: &'static str, value: Option<Value>| {
            (key, self.optional(value, section.origin(key)))
        };
        SectionInForce(vec![
            (
                "name",
                self.entry(name.as_str().into(), section.origin("backend")),
            ),
            given("backend", "kserve".into()),
            given("url", json!(urls)),
            given("model", model.as_str().into()),
            optional("version", version.as_deref().map(Value::from)),
            given("manifest", manifest.as_str().into()),
            given("deadline_ms", json!(deadline.as_millis())),
            given("max_in_flight", json!(max_in_flight)),
            optional("fallback", fallback.as_deref().map(Value::from)),
            optional("ca_file", ca_file.as_deref().map(path)),
            optional(
                "token_file",
                token.as_ref().and_then(Secret::file).map(path),
            ),
        ])
    }
}
