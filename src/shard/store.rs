//! Where the leases of a pool are kept, as the nodes see it. etcd and Kubernetes are such stores, and one of memory for tests.
//!
//! A store knows members and holders. A member is a node with a lease that it renews; what it says of itself is its record. The
//! holder of a camera is a member, and is written only if nobody has written it since the writer looked. What a member holds is
//! free when its lease has run out, and not before.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

/// Names one lease of one member. A node that comes back has another.
pub(super) type Session = Arc<str>;

/// Orders all that was ever written to a store.
pub(super) type Version = u64;

/// What a member says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MemberRecord {
    /// What the node is called.
    pub(super) name: Arc<str>,
    /// How many cameras it can carry.
    pub(super) capacity: u32,
    /// When it came, in milliseconds since 1970. Of two with one name, this tells which is the newer.
    pub(super) started_at: u64,
    /// It goes: no camera is meant for it any more.
    pub(super) leaving: bool,
    /// The cameras of others that it has pictures of, so that it can take them over without a gap.
    pub(super) ready: BTreeSet<Arc<str>>,
    /// What its configuration says that all nodes of a pool are to have in common.
    pub(super) configured: Configured,
}

/// What the nodes of a pool are to have in common. An older version tells nothing of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Configured {
    /// The camera twins. `None` until they are known.
    pub(super) cameras: Option<CameraList>,
    /// How long a lease lasts.
    pub(super) lease_ms: Option<u64>,
}

/// Which camera twins a configuration has, in so few words that each node can tell all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CameraList {
    /// How many there are.
    pub(super) count: u32,
    /// The beginning of a hash of their ids. Two configurations with other cameras have another one.
    pub(super) digest: u64,
}

impl CameraList {
    pub(super) fn of(twins: &BTreeSet<Arc<str>>) -> Self {
        let mut hash = Sha256::new();
        for twin in twins {
            hash.update(twin.as_bytes());
            hash.update(b"\n");
        }
        let hash: [u8; 32] = hash.finalize().into();
        let (digest, _) = hash
            .split_first_chunk()
            .expect("eight bytes are there, because the hash has 32");
        Self {
            count: u32::try_from(twins.len()).unwrap_or(u32::MAX),
            digest: u64::from_be_bytes(*digest),
        }
    }
}

/// A [`MemberRecord`] as stores keep it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredRecord {
    name: String,
    capacity: u32,
    started_at: u64,
    #[serde(default)]
    leaving: bool,
    #[serde(default)]
    ready: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cameras: Option<CameraList>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lease_ms: Option<u64>,
}

impl MemberRecord {
    pub(super) fn to_json(&self) -> String {
        let stored = StoredRecord {
            name: self.name.to_string(),
            capacity: self.capacity,
            started_at: self.started_at,
            leaving: self.leaving,
            ready: self.ready.iter().map(ToString::to_string).collect(),
            cameras: self.configured.cameras,
            lease_ms: self.configured.lease_ms,
        };
        serde_json::to_string(&stored).expect("a record serialises, because its keys are texts")
    }

    /// Reads what another node says of itself. A newer version may say what this one does not understand: such a node is none
    /// for this one.
    pub(super) fn of_json(json: &[u8]) -> Option<Self> {
        let stored: StoredRecord = serde_json::from_slice(json)
            .inspect_err(|error| {
                tracing::debug!(%error, "what a node of the pool says of itself is not understood");
            })
            .ok()?;
        Some(Self {
            name: stored.name.into(),
            capacity: stored.capacity.max(1),
            started_at: stored.started_at,
            leaving: stored.leaving,
            ready: stored.ready.into_iter().map(Arc::from).collect(),
            configured: Configured {
                cameras: stored.cameras,
                lease_ms: stored.lease_ms,
            },
        })
    }
}

/// Says who holds a camera.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) camera: Arc<str>,
    /// The version that it takes the place of. `None` means that there must be none.
    pub(super) expected: Option<Version>,
    /// The new holder. `None` removes what is there.
    pub(super) holder: Option<Session>,
}

/// What came of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// It was written, and has this version.
    Yes(Version),
    /// Somebody else wrote before, so that nothing was changed.
    Outdated,
    /// The new holder has no lease any more, so that nothing was changed.
    #[cfg_attr(
        not(feature = "etcd"),
        allow(
            dead_code,
            reason = "only etcd knows of the holder's lease when it writes"
        )
    )]
    NoSuchMember,
}

/// What came of renewing a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renewal {
    /// It holds for its duration again.
    Renewed,
    /// It has run out, and all that was held with it is free.
    Lost,
}

/// The store did not answer, or its answer makes no sense. Whether it did what was asked is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) struct StoreError {
    /// What went wrong.
    pub(super) reason: String,
    /// What somebody has to do about it. Without that it may well pass by itself.
    pub(super) remedy: Option<String>,
}

impl StoreError {
    pub(super) fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            remedy: None,
        }
    }

    pub(super) fn with_remedy(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            remedy: Some(remedy.into()),
        }
    }
}

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.remedy {
            Some(remedy) => write!(f, "{}: {remedy}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

/// What is written of a camera.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HolderSeen {
    pub(super) camera: Arc<str>,
    pub(super) version: Version,
    /// True unless it was removed. Where something is written without a holder, whoever takes the camera must name its version.
    pub(super) exists: bool,
    /// The member that holds it, if one does.
    pub(super) holder: Option<Session>,
}

/// Something was seen in the store. What was written is seen in its order, and all that changed at once is seen at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// All that there was at this version.
    All {
        version: Version,
        members: Vec<(Session, MemberRecord)>,
        holders: Vec<HolderSeen>,
    },
    /// A member came, or says something else. `None` means that its lease has ended.
    Member(Session, Option<MemberRecord>),
    /// Another holder of a camera.
    Holder(HolderSeen),
}

/// A place where leases are kept. None of its methods takes longer than the limit that the store was made with.
pub(super) trait LeaseStore: Send + Sync + 'static {
    /// Makes the node a member, by a lease that runs out if it is not renewed for its duration.
    fn join(
        &self,
        record: MemberRecord,
    ) -> impl Future<Output = Result<Session, StoreError>> + Send;

    /// Renews a lease, and tells what the member has to say if that is new.
    fn renew(
        &self,
        session: Session,
        record: Option<MemberRecord>,
    ) -> impl Future<Output = Result<Renewal, StoreError>> + Send;

    /// Says who holds a camera, unless somebody wrote that since.
    fn write(&self, write: Write) -> impl Future<Output = Result<Written, StoreError>> + Send;

    /// Gives a lease up, and with it all that is held.
    fn leave(&self, session: Session) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Tells all that there is, and then what changes, until that fails.
    fn watch(&self, seen: mpsc::Sender<Vec<Seen>>) -> impl Future<Output = StoreError> + Send;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_of_an_older_version_is_understood_and_so_is_one_of_a_newer() {
        let older = br#"{"name":"a","capacity":3,"startedAt":7,"leaving":false,"ready":["x"]}"#;
        let mut record = MemberRecord::of_json(older).unwrap();
        assert_eq!(record.configured, Configured::default());
        assert_eq!(record.to_json().as_bytes(), older);
        let twins = BTreeSet::from(["x".into(), "y".into()]);
        record.configured = Configured {
            cameras: Some(CameraList::of(&twins)),
            lease_ms: Some(6_000),
        };
        let newer = record.to_json();
        assert_eq!(MemberRecord::of_json(newer.as_bytes()), Some(record));
        let newest = newer.replace("\"name\"", "\"more\":{},\"name\"");
        assert!(MemberRecord::of_json(newest.as_bytes()).is_some());
    }
}
