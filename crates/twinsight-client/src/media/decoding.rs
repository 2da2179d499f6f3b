//! A stream's decode thread: it is started when somebody wants frames, and asked for again of a system that granted
//! none. The stream's task owns it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::inbound_router::InboundRouter;
use super::worker::{DecodeParts, DecodeWorker, NoThread};
use crate::backoff::Backoff;

/// Decoding, which may not have begun yet.
pub(super) struct Decoding {
    state: DecodingState,
    retry_at: Option<Instant>,
    backoff: Backoff,
}

enum DecodingState {
    /// Nobody has wanted frames, or there was no thread.
    NotYet(Box<DecodeParts>),
    Running(DecodeWorker),
    /// Between the two.
    Starting,
}

impl Decoding {
    pub(super) fn new(parts: DecodeParts) -> Self {
        Self {
            state: DecodingState::NotYet(Box::new(parts)),
            retry_at: None,
            backoff: Backoff::default(),
        }
    }

    /// When the thread is to be asked for again.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Starts the thread unless it runs. Gives whether the system grants it, if that is news.
    pub(super) fn start(&mut self, router: &InboundRouter, now: Instant) -> Option<bool> {
        let parts = match std::mem::replace(&mut self.state, DecodingState::Starting) {
            DecodingState::NotYet(parts) => parts,
            running => {
                self.state = running;
                return None;
            }
        };
        match DecodeWorker::spawn(*parts, Arc::clone(&router.queue)) {
            Ok(worker) => {
                router.decodes.store(true, Ordering::Release);
                self.state = DecodingState::Running(worker);
                self.retry_at.take().map(|_| true)
            }
            Err(error) => {
                if self.retry_at.is_none() {
                    tracing::error!(%error, "a camera cannot be decoded: it is tried again");
                }
                let NoThread { source: _, parts } = error;
                self.state = DecodingState::NotYet(parts);
                self.retry_at = Some(now + self.backoff.next_delay(rand::random()));
                Some(false)
            }
        }
    }

    /// Ends the thread and waits for that.
    pub(super) async fn stop(self) {
        if let DecodingState::Running(worker) = self.state {
            // Joining may take as long as one decode: not on a thread of the runtime.
            let _ = tokio::task::spawn_blocking(move || worker.stop()).await;
        }
    }
}
