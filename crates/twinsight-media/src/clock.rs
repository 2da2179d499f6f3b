//! The clock that decoding reads while it runs. Whoever runs the decoder passes one in, so that tests can pass their own.

use std::fmt;
use std::time::{Duration, Instant};

/// Reads the time for the thread that decodes.
///
/// Programs pass `twinsight_client::clock::SystemClock`, tests pass [`ManualClock`].
pub trait Clock: fmt::Debug + Send + Sync {
    /// The current time.
    fn now(&self) -> Instant;

    /// Processor time that the calling thread has used since it started. Decoding asks for it a few times a frame and never
    /// for a packet.
    fn thread_cpu(&self) -> Duration;
}

/// A clock that stands still, for tests.
#[derive(Debug, Clone, Copy)]
pub struct ManualClock {
    now: Instant,
}

impl ManualClock {
    /// A clock that always shows `now`.
    pub fn at(now: Instant) -> Self {
        Self { now }
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        self.now
    }

    fn thread_cpu(&self) -> Duration {
        Duration::ZERO
    }
}
