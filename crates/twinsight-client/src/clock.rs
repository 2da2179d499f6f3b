//! The clocks of the system, for the threads that decode.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use twinsight_media::clock::Clock;

/// The clocks of the system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn thread_cpu(&self) -> Duration {
        thread_cpu()
    }
}

/// Processor time of the calling thread since it began. A call costs some 0.3 µs: for frames, not for packets.
pub fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanoseconds)
}
