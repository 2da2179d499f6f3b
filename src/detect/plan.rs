//! How inference uses the cores: the numbers of threads and camera streams come in; the number of workers, each with a session
//! of its own, and of threads in a session go out. `docs/design/performance.md` has the measurements behind it.

use std::fmt;
use std::thread::available_parallelism;

/// The workers of inference and their threads.
///
/// Sessions of one thread do most with a core: a run that is split over threads leaves cores idle between its parts, some 15 %
/// of two cores. But a camera has one frame in inference at a time, so more sessions than camera streams would find nothing to
/// do. With half as many streams as threads, or fewer, each run is split. Threads that are left over go to receiving and
/// decoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SessionPlan {
    /// The number of workers, each with a session for each model.
    pub(crate) workers: usize,
    /// The number of threads in a session, with the worker's own.
    pub(crate) threads: usize,
}

impl SessionPlan {
    /// Makes a plan for `threads` threads (`runtime.threads`; 0 stands for as many as the process may use cores) and so many
    /// camera streams. No streams are planned for as many, since the hub's settings may bring them later.
    pub(crate) fn new(threads: usize, streams: usize) -> Self {
        let cores = || available_parallelism().map_or(1, usize::from);
        let threads = if threads == 0 { cores() } else { threads };
        let workers = match streams {
            0 => threads,
            streams => streams.min(threads),
        };
        Self {
            workers,
            threads: threads / workers,
        }
    }
}

impl fmt::Display for SessionPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |count| if count == 1 { "" } else { "s" };
        let (sessions, threads) = (self.workers, self.threads);
        write!(
            f,
            "{sessions} session{} of {threads} thread{}",
            plural(sessions),
            plural(threads)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(threads: usize, streams: usize) -> (usize, usize) {
        let plan = SessionPlan::new(threads, streams);
        (plan.workers, plan.threads)
    }

    #[test]
    fn sessions_are_as_many_as_cameras_can_keep_busy() {
        assert_eq!(plan(1, 1), (1, 1));
        assert_eq!(plan(1, 50), (1, 1));
        assert_eq!(plan(2, 1), (1, 2));
        assert_eq!(plan(2, 2), (2, 1));
        // No more threads than were given, even if one is left.
        assert_eq!(plan(4, 3), (3, 1));
        assert_eq!(plan(8, 3), (3, 2));
        assert_eq!(plan(8, 50), (8, 1));
        assert_eq!(plan(8, 0), (8, 1));
    }

    #[test]
    fn the_log_says_it() {
        let said = |threads, streams| SessionPlan::new(threads, streams).to_string();
        assert_eq!(said(2, 1), "1 session of 2 threads");
        assert_eq!(said(2, 5), "2 sessions of 1 thread");
    }
}
