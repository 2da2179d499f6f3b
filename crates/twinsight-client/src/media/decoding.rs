//! Starts a stream's decode thread when somebody wants frames, and tries again after a while if the system grants no thread. The
//! stream's task owns it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::inbound_router::InboundRouter;
use super::worker::{DecodeParts, DecodeWorker, NoThread};
use crate::backoff::Backoff;

/// The decoding of a stream, which may not have begun yet.
pub(super) struct Decoding {
    state: DecodingState,
    retry_at: Option<Instant>,
    backoff: Backoff,
}

enum DecodingState {
    /// Nobody has wanted frames yet, or the system has granted no thread.
    NotYet(Box<DecodeParts>),
    Running(DecodeWorker),
    /// The thread is being started.
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

    /// When the system is to be asked for the thread again.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Starts the thread unless it runs. Gives whether the system grants it, if that differs from the last time.
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

    /// Ends the thread and waits until it has ended.
    pub(super) async fn stop(self) {
        if let DecodingState::Running(worker) = self.state {
            // To join the thread may take as long as it takes to decode a picture, which would block a thread of the runtime.
            let _ = tokio::task::spawn_blocking(move || worker.stop()).await;
        }
    }
}
