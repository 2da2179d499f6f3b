//! The own lease: how it is got, renewed and lost, and what the store's answers and silences mean for it.

use super::super::store::{MemberRecord, Renewal, Session, StoreError};
use super::super::time::LeaseTime;
use super::{News, PoolCore};

#[derive(Debug)]
pub(super) enum Lease {
    /// There is none, and one is asked for at this time.
    None {
        ask_at: LeaseTime,
    },
    /// It was asked for at this time, and told this of the node.
    Asking {
        sent_at: LeaseTime,
        record: Box<MemberRecord>,
    },
    Held(Box<HeldLease>),
    /// It was given up for good.
    Over,
}

#[derive(Debug)]
pub(super) struct HeldLease {
    pub(super) session: Session,
    /// When it was got first.
    pub(super) since: LeaseTime,
    pub(super) renew_at: LeaseTime,
    /// When the renewal that is under way was asked for, with what it tells.
    pub(super) renewing: Option<(LeaseTime, MemberRecord)>,
    /// What the store knows of this node.
    pub(super) told: MemberRecord,
}

impl PoolCore {
    pub(super) fn session(&self) -> Option<&Session> {
        match &self.lease {
            Lease::Held(lease) => Some(&lease.session),
            Lease::None { .. } | Lease::Asking { .. } | Lease::Over => None,
        }
    }

    pub(super) fn joined(&mut self, result: Result<Session, StoreError>, now: LeaseTime) {
        let Lease::Asking { sent_at, record } = &self.lease else {
            return;
        };
        let (sent_at, told) = (*sent_at, MemberRecord::clone(record));
        match result {
            Ok(session) => {
                // Nothing that was held before is held with this lease.
                self.fence.clear();
                self.fence.extend(sent_at + self.timing.publish, now);
                self.lease = Lease::Held(Box::new(HeldLease {
                    session,
                    since: now,
                    renew_at: sent_at + self.timing.renew_every,
                    renewing: None,
                    told,
                }));
                for camera in self.cameras.values_mut() {
                    camera.forget_lease();
                }
                self.news.push(News::Joined);
                self.answers();
                self.rank_members();
            }
            Err(error) => {
                self.lease = Lease::None {
                    ask_at: now + self.timing.retry,
                };
                self.failed(error);
            }
        }
    }

    pub(super) fn renewed(
        &mut self,
        of: &Session,
        result: Result<Renewal, StoreError>,
        now: LeaseTime,
    ) {
        let Lease::Held(lease) = &mut self.lease else {
            return;
        };
        if lease.session != *of {
            return;
        }
        let Some((sent_at, told)) = lease.renewing.take() else {
            return;
        };
        match result {
            Ok(Renewal::Renewed) => {
                lease.renew_at = sent_at + self.timing.renew_every;
                lease.told = told;
                self.fence.extend(sent_at + self.timing.publish, now);
                self.answers();
            }
            Ok(Renewal::Lost) => {
                self.answers();
                self.lose_lease(now);
            }
            Err(error) => {
                lease.renew_at = now + self.timing.retry;
                self.failed(error);
            }
        }
    }

    pub(super) fn lose_lease(&mut self, now: LeaseTime) {
        let session = self.session().cloned();
        let held = self.keys.values().filter(|key| key.holder == session);
        let held = held.count() + std::mem::take(&mut self.freed);
        self.fence.clear();
        self.lease = Lease::None { ask_at: now };
        self.news.push(News::LeaseLost(held));
        self.ops.clear();
        for camera in self.cameras.values_mut() {
            camera.forget_lease();
        }
    }

    pub(super) fn failed(&mut self, error: StoreError) {
        self.news.push(News::StoreFailed(error.clone()));
        self.trouble = Some(error);
    }

    pub(super) fn answers(&mut self) {
        if self.trouble.take().is_some() {
            self.news.push(News::StoreAnswers);
        }
    }
}
