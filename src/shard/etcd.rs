//! Leases in etcd, by its own client. A member is a key with its record, bound to its lease; who holds a camera is a key with the
//! member's session in it, bound to the holder's lease. What runs out with a lease is removed by etcd itself, at one moment.
//!
//! ```text
//! /twinsight/POOL/members/SESSION   {"name": "node-1", "capacity": 10, …}
//! /twinsight/POOL/cameras/TWIN      SESSION
//! ```
//!
//! A session is the number of its lease in hexadecimal digits.

mod advice;
mod members;
mod tls;
mod trouble;

use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, Error, EventType, GetOptions, KeyValue, PutOptions, Txn, TxnOp,
    WatchOptions,
};
use tokio::sync::mpsc;

use self::members::{EtcdMembers, Watched};
use self::trouble::{Failure, failed, said};
use super::store::{
    HolderSeen, LeaseStore, MemberRecord, Renewal, Seen, Session, StoreError, Version, Write,
    Written,
};
use crate::config::{EtcdConfig, PoolConfig};

/// The largest answer that is taken: a record of twenty thousand cameras has about two million bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// The leases of a pool in etcd.
#[derive(Debug)]
pub(super) struct EtcdStore {
    members: EtcdMembers,
    prefix: String,
    duration: Duration,
    /// No question takes longer.
    limit: Duration,
}

impl EtcdStore {
    /// Leases that last as long as the pool says. Nothing is connected yet.
    ///
    /// # Errors
    /// When a file that etcd is reached with is of no use.
    pub(super) fn new(etcd: &EtcdConfig, pool: &PoolConfig) -> Result<Self, StoreError> {
        let limit = pool.lease_duration / 3;
        let prefix = format!("/twinsight/{}/", pool.name);
        Ok(Self {
            members: EtcdMembers::new(etcd, &prefix, limit)?,
            prefix,
            duration: pool.lease_duration,
            limit,
        })
    }

    fn member_key(&self, session: &str) -> String {
        format!("{}members/{session}", self.prefix)
    }

    fn camera_key(&self, camera: &str) -> String {
        format!("{}cameras/{camera}", self.prefix)
    }

    /// What a key and its value say. `None` for one that is no node's.
    fn read(&self, kv: &KeyValue, is_gone: bool) -> Option<Seen> {
        let key = kv.key_str().ok()?.strip_prefix(&self.prefix)?;
        if let Some(session) = key.strip_prefix("members/") {
            let record = match is_gone {
                true => None,
                false => Some(MemberRecord::of_json(kv.value())?),
            };
            return Some(Seen::Member(session.into(), record));
        }
        let camera = key.strip_prefix("cameras/")?;
        Some(Seen::Holder(HolderSeen {
            camera: camera.into(),
            version: version(kv.mod_revision()),
            exists: !is_gone,
            holder: match is_gone {
                true => None,
                false => Some(kv.value_str().ok()?.into()),
            },
        }))
    }

    /// Reads all that there is. Gives the revision at which it was so, too.
    async fn read_all(&self, client: &Client) -> Result<(i64, Seen), Failure> {
        let mut kv = client
            .kv_client()
            .max_decoding_message_size(MAX_ANSWER_BYTES);
        let options = GetOptions::new().with_prefix();
        let answer = kv
            .get(self.prefix.as_str(), Some(options))
            .await
            .map_err(|error| failed(&error))?;
        let revision = answer
            .header()
            .map_or(0, etcd_client::ResponseHeader::revision);
        let (mut members, mut holders) = (Vec::new(), Vec::new());
        for kv in answer.kvs() {
            match self.read(kv, false) {
                Some(Seen::Member(session, Some(record))) => members.push((session, record)),
                Some(Seen::Holder(holder)) => holders.push(holder),
                _ => {}
            }
        }
        let all = Seen::All {
            version: version(revision),
            members,
            holders,
        };
        Ok((revision, all))
    }

    /// Lets a question take no longer than the limit.
    async fn within<T>(
        &self,
        asking: impl Future<Output = Result<T, Failure>> + Send,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(self.limit, asking).await {
            Ok(answer) => answer,
            Err(_) => Err(self.members.unanswered().into()),
        }
    }

    /// Watches until that fails, or another member is asked. The error says why.
    async fn follow(&self, seen: &mpsc::Sender<Vec<Seen>>) -> Result<(), StoreError> {
        let watched = self.members.watched().await?;
        let connection = watched.connection;
        let ended = self.follow_member(watched, seen).await;
        ended.map_err(|failure| self.members.failed(connection, failure))
    }

    async fn follow_member(
        &self,
        watched: Watched,
        seen: &mpsc::Sender<Vec<Seen>>,
    ) -> Result<(), Failure> {
        let Watched {
            client,
            mut another,
            ..
        } = watched;
        let (revision, all) = self.within(self.read_all(&client)).await?;
        let mut client = client
            .watch_client()
            .max_decoding_message_size(MAX_ANSWER_BYTES);
        let options = WatchOptions::new()
            .with_prefix()
            .with_start_revision(revision.saturating_add(1));
        let watching = async {
            let stream = client.watch(self.prefix.as_str(), Some(options)).await;
            stream.map_err(|error| failed(&error))
        };
        let mut stream = self.within(watching).await?;
        tell(seen, vec![all]).await?;
        // A connection that hangs tells nothing, and neither does a pool in which nothing happens: so it is asked whether it is there.
        let mut asking = tokio::time::interval(self.limit);
        // After a pause of the node all that it missed would be asked at once, with no time for an answer.
        asking.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut unanswered = 0_u32;
        loop {
            let message = tokio::select! {
                message = stream.message() => message.map_err(|error| failed(&error))?,
                _ = another.changed() => {
                    return Err(StoreError::new("another member is watched").into());
                }
                _ = asking.tick() => {
                    if unanswered >= 3 {
                        return Err(StoreError::new("its watch does not answer").into());
                    }
                    unanswered += 1;
                    stream.request_progress().await.map_err(|error| failed(&error))?;
                    continue;
                }
            };
            let Some(message) = message else {
                return Err(StoreError::new("the watch has ended").into());
            };
            if message.canceled() {
                let reason = message.cancel_reason();
                return Err(said(format!("the watch was ended: {reason}")));
            }
            unanswered = 0;
            let events = message.events().iter().filter_map(|event| {
                let is_gone = event.event_type() == EventType::Delete;
                self.read(event.kv()?, is_gone)
            });
            let events: Vec<Seen> = events.collect();
            if !events.is_empty() {
                tell(seen, events).await?;
            }
        }
    }
}

impl LeaseStore for EtcdStore {
    async fn join(&self, record: MemberRecord) -> Result<Session, StoreError> {
        let ttl = self.duration.as_millis().div_ceil(1000);
        let ttl = i64::try_from(ttl).unwrap_or(i64::MAX);
        let record = &record;
        let join = |mut client: Client| async move {
            let lease = client.lease_grant(ttl, None).await;
            let id = lease.map_err(|error| failed(&error))?.id();
            let session = session(id);
            let options = PutOptions::new().with_lease(id);
            let key = self.member_key(&session);
            let put = client.put(key, record.to_json(), Some(options)).await;
            put.map_err(|error| failed(&error))?;
            Ok(session)
        };
        self.members.ask(join).await
    }

    async fn renew(
        &self,
        session: Session,
        record: Option<MemberRecord>,
    ) -> Result<Renewal, StoreError> {
        let Some(id) = lease_id(&session) else {
            return Ok(Renewal::Lost);
        };
        let (session, record) = (&session, &record);
        let renew = |mut client: Client| async move {
            // The stream of one question is opened for each renewal, so that none waits behind one that hangs.
            match client.lease_keep_alive(id).await {
                Ok(_) => {}
                Err(Error::LeaseKeepAliveError(_)) => return Ok(Renewal::Lost),
                Err(error) if is_not_found(&error) => return Ok(Renewal::Lost),
                Err(error) => return Err(failed(&error)),
            }
            if let Some(record) = record {
                let options = PutOptions::new().with_lease(id);
                let key = self.member_key(session);
                match client.put(key, record.to_json(), Some(options)).await {
                    Ok(_) => {}
                    Err(error) if is_not_found(&error) => return Ok(Renewal::Lost),
                    Err(error) => return Err(failed(&error)),
                }
            }
            Ok(Renewal::Renewed)
        };
        self.members.ask(renew).await
    }

    async fn write(&self, write: Write) -> Result<Written, StoreError> {
        let key = self.camera_key(&write.camera);
        let is_as_expected = match write.expected {
            Some(version) => {
                let revision = i64::try_from(version).unwrap_or(i64::MAX);
                Compare::mod_revision(key.as_str(), CompareOp::Equal, revision)
            }
            None => Compare::create_revision(key.as_str(), CompareOp::Equal, 0),
        };
        let change = match &write.holder {
            Some(holder) => {
                let Some(id) = lease_id(holder) else {
                    return Ok(Written::NoSuchMember);
                };
                let options = PutOptions::new().with_lease(id);
                TxnOp::put(key.as_str(), holder.as_bytes(), Some(options))
            }
            None => TxnOp::delete(key.as_str(), None),
        };
        let txn = Txn::new().when([is_as_expected]).and_then([change]);
        let txn = &txn;
        let write = |mut client: Client| async move {
            match client.txn(txn.clone()).await {
                Ok(answer) if answer.succeeded() => {
                    let revision = answer.header().map(etcd_client::ResponseHeader::revision);
                    Ok(Written::Yes(version(revision.unwrap_or_default())))
                }
                Ok(_) => Ok(Written::Outdated),
                Err(error) if is_not_found(&error) => Ok(Written::NoSuchMember),
                Err(error) => Err(failed(&error)),
            }
        };
        self.members.ask(write).await
    }

    async fn leave(&self, session: Session) -> Result<(), StoreError> {
        let Some(id) = lease_id(&session) else {
            return Ok(());
        };
        let leave = |mut client: Client| async move {
            match client.lease_revoke(id).await {
                Ok(_) => Ok(()),
                Err(error) if is_not_found(&error) => Ok(()),
                Err(error) => Err(failed(&error)),
            }
        };
        self.members.ask(leave).await
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

fn session(id: i64) -> Session {
    format!("{id:016x}").into()
}

fn lease_id(session: &str) -> Option<i64> {
    i64::from_str_radix(session, 16).ok()
}

fn version(revision: i64) -> Version {
    Version::try_from(revision).unwrap_or_default()
}

/// The lease that was named is not there.
fn is_not_found(error: &Error) -> bool {
    matches!(error, Error::GRpcStatus(status) if status.code() == tonic::Code::NotFound)
}
