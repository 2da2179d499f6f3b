//! Which camera streams are counted, and what is left of those that were. A stream is forgotten once nothing of it can change.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::MutexGuard;

use super::stream::{LedgerReading, StreamMetrics};
use super::{Metrics, totals};
use twinsight_client::stream_id::StreamId;
use twinsight_media::ledger::ShedLevel;

/// The camera streams that are counted, and what is left of those that were.
#[derive(Debug, Default)]
pub(super) struct CountedStreams {
    live: HashMap<StreamId, Arc<StreamMetrics>>,
    /// The ledgers of forgotten streams, summed up, in the order of [`StreamMetrics::books`].
    forgotten: Vec<u64>,
}

/// What came of [`Metrics::forget`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ForgetOutcome {
    /// Its series have ended.
    Yes,
    /// Somebody holds the stream's metrics and may still count.
    InUse,
    /// Nobody holds them, but the ledger does not balance: what became of something in flight may still be told.
    Open(LedgerReading),
}

impl Metrics {
    /// The metrics of a camera stream. They are made at the first call, and the same ones are returned until the stream is
    /// forgotten.
    pub fn stream(&self, id: &StreamId) -> Arc<StreamMetrics> {
        if let Some(stream) = self.known_stream(id) {
            return stream;
        }
        let _making = self.making.lock();
        if let Some(stream) = self.known_stream(id) {
            return stream;
        }
        let stream = Arc::new(StreamMetrics::new(
            &self.vectors,
            &self.shedding,
            self.first_sink,
            &self.sinks,
            id,
        ));
        let made = Arc::clone(&stream);
        self.streams().live.insert(id.clone(), made);
        stream
    }

    /// The metrics of a camera stream if there are any. None are made.
    pub fn known_stream(&self, id: &StreamId) -> Option<Arc<StreamMetrics>> {
        self.streams().live.get(id).map(Arc::clone)
    }

    /// The metrics of all camera streams that are not forgotten.
    pub fn all_streams(&self) -> Vec<Arc<StreamMetrics>> {
        self.streams().live.values().map(Arc::clone).collect()
    }

    /// Ends the series of a camera stream that was removed. What it counted stays in the node's totals. Nothing happens while
    /// anybody holds its metrics or its ledger does not balance, so that no count is ever lost.
    pub(crate) fn forget(&self, id: &StreamId) -> ForgetOutcome {
        self.forget_if(id, LedgerReading::balances)
    }

    /// Does the same as [`forget`](Self::forget) even if the ledger does not balance, for a stream that was removed so long ago
    /// that it never will.
    pub(crate) fn forget_open(&self, id: &StreamId) -> ForgetOutcome {
        self.forget_if(id, |_| true)
    }

    fn forget_if(&self, id: &StreamId, allowed: fn(&LedgerReading) -> bool) -> ForgetOutcome {
        let _making = self.making.lock();
        let mut streams = self.streams();
        let Some(stream) = streams.live.get(id) else {
            return ForgetOutcome::Yes;
        };
        // Metrics are given out under this lock only, so nobody else can get hold of them meanwhile.
        if Arc::strong_count(stream) > 1 {
            return ForgetOutcome::InUse;
        }
        let ledger = stream.ledger();
        if !allowed(&ledger) {
            return ForgetOutcome::Open(ledger);
        }
        if let Some(stream) = streams.live.remove(id) {
            totals::add(&mut streams.forgotten, stream.books());
            drop(streams);
            stream.set_shed_level(ShedLevel::None);
            self.vectors.remove(&stream, self.first_sink, &self.sinks);
        }
        ForgetOutcome::Yes
    }

    fn streams(&self) -> MutexGuard<'_, CountedStreams> {
        self.streams.lock()
    }

    /// Brings the node's totals up to date.
    pub(super) fn add_up(&self) {
        let streams = self.streams();
        let mut sums = streams.forgotten.clone();
        for stream in streams.live.values() {
            totals::add(&mut sums, stream.books());
        }
        for (total, sum) in self.totals.iter().zip(sums) {
            total.inc_by(sum.saturating_sub(total.get()));
        }
    }
}
