//! Where the time is read while decoding runs: whoever runs it gives a clock, so that tests can give their own.

use std::fmt;
use std::time::{Duration, Instant};

/// Reads the time for the thread that decodes.
///
/// The system's clock is with whoever runs the decoder (`twinsight_client::clock::SystemClock`); tests use
/// [`ManualClock`].
pub trait Clock: fmt::Debug + Send + Sync {
    /// The time of now.
    fn now(&self) -> Instant;

    /// Processor time of the calling thread since it began. It is asked for a few times a frame, never for a packet.
    fn thread_cpu(&self) -> Duration;
}

/// A clock that stands where it was set.
#[derive(Debug, Clone, Copy)]
pub struct ManualClock {
    now: Instant,
}

impl ManualClock {
    /// A clock that stands at `now`.
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
