//! Leases in Kubernetes, by the `kube` crate: `Lease` objects of `coordination.k8s.io/v1` in the namespace of the node's pod. There is
//! one for each member, which the member renews, and one for each camera, whose holder is a member. What happens to them is found
//! in `view`; this file asks the API server.
//!
//! | object | `holderIdentity` | annotation |
//! |---|---|---|
//! | `twinsight.POOL.node.SESSION` | the session | `twinsight/record`: what the node says of itself, as JSON |
//! | `twinsight.POOL.camera.HASH` | the session of the holder | `twinsight/camera`: the camera's twin |
//!
//! Kubernetes removes nothing by itself. A member whose lease has not changed for its duration, by the own clock of whoever looks, is
//! dead, and whoever finds that deletes its object, in the version that has not changed: so a member that was renewed meanwhile
//! stays, and one whose object is gone finds that it is not renewed. What it held is free then. No clock is compared with another.

mod view;

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, PostParams, Preconditions, WatchEvent, WatchParams};
use kube::{Api, Client, Error};
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, OnceCell, mpsc};

use self::view::{Doomed, View};
use super::store::{
    LeaseStore, MemberRecord, Renewal, Seen, Session, StoreError, Version, Write, Written,
};
use super::time::LeaseTime;
use crate::config::PoolConfig;

const RECORD: &str = "twinsight/record";
const CAMERA: &str = "twinsight/camera";
const POOL: &str = "twinsight/pool";
const KIND: &str = "twinsight/kind";

/// The watch looks this often for members that have not renewed their leases.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A watch that ends sooner is asked for again after a pause of this length.
const SHORT_WATCH: Duration = Duration::from_secs(1);

/// The leases of a pool in Kubernetes.
pub(super) struct KubernetesStore {
    namespace: Option<String>,
    pool: String,
    duration: Duration,
    /// No question takes longer.
    limit: Duration,
    api: OnceCell<Api<Lease>>,
    /// The own object as it was written last.
    own: Mutex<Option<OwnLease>>,
    view: Mutex<View>,
}

struct OwnLease {
    lease: Lease,
    session: Session,
}

impl KubernetesStore {
    /// Leases that last as long as the pool says. Nothing is connected yet.
    pub(super) fn new(namespace: Option<String>, pool: &PoolConfig) -> Self {
        Self {
            namespace,
            pool: pool.name.clone(),
            duration: pool.lease_duration,
            limit: pool.lease_duration / 3,
            api: OnceCell::new(),
            own: Mutex::new(None),
            view: Mutex::default(),
        }
    }

    /// The same for a cluster that is reached by this client.
    #[cfg(test)]
    fn with_client(client: Client, pool: &PoolConfig) -> Self {
        let api = Api::default_namespaced(client);
        Self {
            api: OnceCell::new_with(Some(api)),
            ..Self::new(None, pool)
        }
    }

    async fn api(&self) -> Result<Api<Lease>, StoreError> {
        let connect = || async {
            let client = Client::try_default()
                .await
                .map_err(|error| failed(&error))?;
            Ok(match &self.namespace {
                Some(namespace) => Api::namespaced(client, namespace),
                None => Api::default_namespaced(client),
            })
        };
        self.api.get_or_try_init(connect).await.cloned()
    }

    /// Lets a question take no longer than the limit.
    async fn within<T>(
        &self,
        asking: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(self.limit, asking).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::new(format!(
                "the API server did not answer within {} ms",
                self.limit.as_millis()
            ))),
        }
    }

    fn member_name(&self, session: &str) -> String {
        format!("twinsight.{}.node.{session}", self.pool)
    }

    fn camera_name(&self, camera: &str) -> String {
        let hash = Sha256::digest(camera.as_bytes());
        let hash: String = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("twinsight.{}.camera.{hash}", self.pool)
    }

    fn metadata(&self, name: String, kind: &str, annotation: (&str, String)) -> ObjectMeta {
        let labels = [
            ("app.kubernetes.io/managed-by", "twinsight"),
            (POOL, self.pool.as_str()),
            (KIND, kind),
        ];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        ObjectMeta {
            name: Some(name),
            labels: Some(BTreeMap::from(labels)),
            annotations: Some(BTreeMap::from([(annotation.0.to_owned(), annotation.1)])),
            ..ObjectMeta::default()
        }
    }

    /// The leases of this pool.
    fn selector(&self) -> String {
        format!("{POOL}={}", self.pool)
    }

    /// Watches until that fails. The error says why.
    async fn follow(&self, seen: &mpsc::Sender<Vec<Seen>>) -> Result<(), StoreError> {
        let api = self.api().await?;
        let params = ListParams::default().labels(&self.selector());
        let all = self
            .within(async { api.list(&params).await.map_err(|error| failed(&error)) })
            .await?;
        let mut version = all.metadata.resource_version.unwrap_or_default();
        let all = self
            .view
            .lock()
            .await
            .read_all(number(&version), all.items, LeaseTime::now());
        tell(seen, vec![all]).await?;
        let params = WatchParams::default().labels(&self.selector());
        let mut heard_at = LeaseTime::now();
        loop {
            let watching = async {
                api.watch(&params, &version)
                    .await
                    .map_err(|error| failed(&error))
            };
            let mut events = Box::pin(self.within(watching).await?);
            let began_at = LeaseTime::now();
            let mut look = tokio::time::interval(LOOK_EVERY);
            look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                let event = tokio::select! {
                    event = events.next() => event,
                    _ = look.tick() => {
                        let now = LeaseTime::now();
                        // A node that renews its own lease sees at least that.
                        if now.since(heard_at) > self.duration {
                            return Err(StoreError::new("its watch tells nothing any more"));
                        }
                        self.bury(&api, now).await;
                        continue;
                    }
                };
                // The API server ends each watch after some minutes, and it goes on where it was.
                let Some(event) = event else {
                    // One that ends each watch at once, as a proxy may, is not asked without a pause.
                    if LeaseTime::now().since(began_at) < SHORT_WATCH {
                        tokio::time::sleep(SHORT_WATCH).await;
                    }
                    break;
                };
                heard_at = LeaseTime::now();
                let what = match event.map_err(|error| failed(&error))? {
                    WatchEvent::Added(lease) | WatchEvent::Modified(lease) => {
                        version = lease.metadata.resource_version.clone().unwrap_or(version);
                        self.view.lock().await.changed(lease, heard_at)
                    }
                    WatchEvent::Deleted(lease) => {
                        version = lease.metadata.resource_version.clone().unwrap_or(version);
                        self.view.lock().await.deleted(&lease)
                    }
                    WatchEvent::Bookmark(bookmark) => {
                        version = bookmark.metadata.resource_version;
                        Vec::new()
                    }
                    WatchEvent::Error(status) => {
                        return Err(StoreError::new(format!("its watch failed: {status}")));
                    }
                };
                if !what.is_empty() {
                    tell(seen, what).await?;
                }
            }
        }
    }

    /// Deletes the leases of members that have not renewed them for their duration.
    async fn bury(&self, api: &Api<Lease>, now: LeaseTime) {
        let dead = self.view.lock().await.dead(now);
        // All at once: the watch is not read meanwhile.
        let buried = dead.into_iter().map(|Doomed { name, version, uid }| async move {
            let params = DeleteParams {
                preconditions: Some(Preconditions {
                    resource_version: Some(version.to_string()),
                    uid,
                }),
                ..DeleteParams::default()
            };
            let deleting = async {
                let deleted = api.delete(&name, &params).await;
                deleted.map(|_| ()).map_err(|error| failed(&error))
            };
            // It was renewed meanwhile, or another node was faster: the watch tells.
            if let Err(error) = self.within(deleting).await {
                tracing::debug!(name, %error, "the lease of a member that seems dead was not deleted");
            }
        });
        futures_util::future::join_all(buried).await;
    }

    /// The lease of the member as it is now. `None` means that it is gone.
    async fn read_own(&self, api: &Api<Lease>, session: &str) -> Result<Option<Lease>, StoreError> {
        let name = self.member_name(session);
        let read = async { api.get_opt(&name).await.map_err(|error| failed(&error)) };
        self.within(read).await
    }
}

impl KubernetesStore {
    /// Writes the time and the record into the member's own lease.
    async fn replace_own(
        &self,
        session: Session,
        record: Option<MemberRecord>,
    ) -> Result<Renewal, StoreError> {
        let api = self.api().await?;
        let mut own = self.own.lock().await;
        let Some(OwnLease { lease, .. }) = own.as_mut().filter(|own| own.session == session) else {
            return Ok(Renewal::Lost);
        };
        if let Some(record) = record {
            let annotations = lease.metadata.annotations.get_or_insert_default();
            annotations.insert(RECORD.to_owned(), record.to_json());
        }
        for is_last in [false, true] {
            // The object's own id keeps the server from making it anew once it was deleted.
            let spec = lease.spec.get_or_insert_default();
            spec.renew_time = Some(MicroTime(Timestamp::now()));
            let name = self.member_name(&session);
            let params = PostParams::default();
            let replaced = tokio::time::timeout(self.limit, api.replace(&name, &params, lease));
            match replaced.await {
                Ok(Ok(written)) => {
                    *lease = written;
                    return Ok(Renewal::Renewed);
                }
                Ok(Err(error)) if code(&error) == Some(404) => return Ok(Renewal::Lost),
                // An earlier renewal may have been written without an answer. Nobody else writes this object.
                Ok(Err(error)) if code(&error) == Some(409) && !is_last => {
                    let Some(there) = self.read_own(&api, &session).await? else {
                        return Ok(Renewal::Lost);
                    };
                    if there.metadata.uid != lease.metadata.uid {
                        return Ok(Renewal::Lost);
                    }
                    lease.metadata.resource_version = there.metadata.resource_version;
                }
                Ok(Err(error)) => return Err(failed(&error)),
                Err(_) => {
                    let limit = self.limit.as_millis();
                    return Err(StoreError::new(format!(
                        "the API server did not answer within {limit} ms"
                    )));
                }
            }
        }
        Err(StoreError::new("somebody else writes the node's own lease"))
    }
}

impl LeaseStore for KubernetesStore {
    async fn join(&self, record: MemberRecord) -> Result<Session, StoreError> {
        let api = self.api().await?;
        let session: Session = format!("{}-{:08x}", record.name, rand::random::<u32>()).into();
        let name = self.member_name(&session);
        let now = MicroTime(Timestamp::now());
        let seconds = self.duration.as_millis().div_ceil(1000);
        let lease = Lease {
            metadata: self.metadata(name, "node", (RECORD, record.to_json())),
            spec: Some(LeaseSpec {
                holder_identity: Some(session.to_string()),
                lease_duration_seconds: Some(i32::try_from(seconds).unwrap_or(i32::MAX)),
                acquire_time: Some(now.clone()),
                renew_time: Some(now),
                ..LeaseSpec::default()
            }),
        };
        let params = PostParams::default();
        let create = async {
            let created = api.create(&params, &lease).await;
            created.map_err(|error| failed(&error))
        };
        let lease = self.within(create).await?;
        *self.own.lock().await = Some(OwnLease {
            lease,
            session: Session::clone(&session),
        });
        Ok(session)
    }

    async fn renew(
        &self,
        session: Session,
        record: Option<MemberRecord>,
    ) -> Result<Renewal, StoreError> {
        // A second try must not take longer than the others may wait.
        self.within(self.replace_own(session, record)).await
    }

    async fn write(&self, write: Write) -> Result<Written, StoreError> {
        let api = self.api().await?;
        let name = self.camera_name(&write.camera);
        self.within(async {
            let there = api.get_opt(&name).await.map_err(|error| failed(&error))?;
            let version = there.as_ref().map(version_of);
            if version != write.expected {
                return Ok(Written::Outdated);
            }
            let metadata = there.map(|lease| lease.metadata).unwrap_or_default();
            let Some(holder) = &write.holder else {
                let params = DeleteParams {
                    preconditions: Some(Preconditions {
                        resource_version: metadata.resource_version.clone(),
                        uid: metadata.uid,
                    }),
                    ..DeleteParams::default()
                };
                return match api.delete(&name, &params).await {
                    // The version of a deletion is told by the watch alone.
                    Ok(_) => Ok(Written::Outdated),
                    Err(error) => refused(&error),
                };
            };
            let annotation = (CAMERA, write.camera.to_string());
            let lease = Lease {
                metadata: ObjectMeta {
                    resource_version: metadata.resource_version,
                    uid: metadata.uid,
                    ..self.metadata(name.clone(), "camera", annotation)
                },
                spec: Some(LeaseSpec {
                    holder_identity: Some(holder.to_string()),
                    acquire_time: Some(MicroTime(Timestamp::now())),
                    ..LeaseSpec::default()
                }),
            };
            let params = PostParams::default();
            let written = match write.expected {
                Some(_) => api.replace(&name, &params, &lease).await,
                None => api.create(&params, &lease).await,
            };
            match written {
                Ok(lease) => Ok(Written::Yes(version_of(&lease))),
                Err(error) => refused(&error),
            }
        })
        .await
    }

    async fn leave(&self, session: Session) -> Result<(), StoreError> {
        let api = self.api().await?;
        let name = self.member_name(&session);
        let params = DeleteParams::default();
        self.within(async {
            match api.delete(&name, &params).await {
                Ok(_) => Ok(()),
                Err(error) if code(&error) == Some(404) => Ok(()),
                Err(error) => Err(failed(&error)),
            }
        })
        .await
    }

    async fn watch(&self, seen: mpsc::Sender<Vec<Seen>>) -> StoreError {
        match self.follow(&seen).await {
            Ok(()) => StoreError::new("the watch has ended"),
            Err(error) => error,
        }
    }
}

async fn tell(seen: &mpsc::Sender<Vec<Seen>>, what: Vec<Seen>) -> Result<(), StoreError> {
    let told = seen.send(what).await;
    told.map_err(|_| StoreError::new("nobody listens"))
}

fn number(version: &str) -> Version {
    // Versions of one kind of object may be compared as numbers: Kubernetes has promised it since 1.35, and always did so.
    version.parse().unwrap_or_default()
}

fn version_of(lease: &Lease) -> Version {
    number(
        lease
            .metadata
            .resource_version
            .as_deref()
            .unwrap_or_default(),
    )
}

fn code(error: &Error) -> Option<u16> {
    match error {
        Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// A write that somebody else was faster with.
fn refused(error: &Error) -> Result<Written, StoreError> {
    match code(error) {
        Some(404 | 409) => Ok(Written::Outdated),
        _ => Err(failed(error)),
    }
}

/// The error with its causes, since the first sentence alone says little.
fn failed(error: &Error) -> StoreError {
    let mut sentence = match error {
        Error::Api(status) => format!("{} ({})", status.message, status.code),
        other => other.to_string(),
    };
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if !text.is_empty() && !sentence.contains(&text) {
            sentence = format!("{sentence}: {text}");
        }
        cause = error.source();
    }
    match code(error) {
        Some(401 | 403) => StoreError::with_remedy(
            sentence,
            "allow the node's service account get, list, watch, create, update and delete of leases",
        ),
        _ => StoreError::new(sentence),
    }
}

#[cfg(test)]
#[path = "kubernetes_tests.rs"]
mod tests;
