//! How long work takes. A stage takes laps of a [`Stopwatch`] and gets the time by the clock and the processor time of its
//! thread; [`RunDelay`] says how long a thread waited for a processor.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use procfs::FromRead;
use procfs::process::Schedstat;
use rustix::time::{ClockId, clock_gettime};
use twinsight_client::clock::thread_cpu;

/// The processor time that all threads of the process have had.
pub fn process_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// How long a piece of work took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spent {
    /// Time by the clock.
    pub wall: Duration,
    /// Processor time of the thread that did it, without what other threads did for it.
    pub cpu: Duration,
}

/// Measures one piece of work after the other, all on one thread.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch {
    at: Instant,
    cpu: Duration,
}

impl Stopwatch {
    /// Starts to measure.
    pub fn start() -> Self {
        Self {
            at: Instant::now(),
            cpu: thread_cpu(),
        }
    }

    /// The time since the start or the last lap.
    pub fn lap(&mut self) -> Spent {
        let now = Self::start();
        let before = std::mem::replace(self, now);
        Spent {
            wall: now.at.saturating_duration_since(before.at),
            cpu: now.cpu.saturating_sub(before.cpu),
        }
    }
}

/// How long a thread was ready to run and had no processor. Where the kernel does not tell, that is never.
///
/// It keeps its file open, since it is read at each inference run: `procfs` by itself opens the file anew for every reading, which
/// takes several system calls instead of one.
#[derive(Debug)]
pub struct RunDelay {
    schedstat: Option<File>,
    last: Duration,
}

impl RunDelay {
    /// Measures the thread that calls.
    pub fn of_this_thread() -> Self {
        let mut delay = Self {
            schedstat: File::open("/proc/thread-self/schedstat").ok(),
            last: Duration::ZERO,
        };
        delay.lap();
        delay
    }

    /// Another measure of the same thread, whose laps are its own. Any thread may take them.
    pub fn of_the_same(&self) -> Self {
        let schedstat = self.schedstat.as_ref();
        Self {
            schedstat: schedstat.and_then(|file| file.try_clone().ok()),
            last: self.last,
        }
    }

    /// The time since the start or the last lap. A call takes some 2 µs.
    pub fn lap(&mut self) -> Duration {
        let now = self.read().unwrap_or(self.last);
        let before = std::mem::replace(&mut self.last, now);
        now.saturating_sub(before)
    }

    fn read(&self) -> Option<Duration> {
        let mut text = [0; 128];
        let length = self.schedstat.as_ref()?.read_at(&mut text, 0).ok()?;
        let read = Schedstat::from_read(text.get(..length)?).ok()?;
        Some(Duration::from_nanos(read.run_delay))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_waits_for_processors() {
        let cores = std::thread::available_parallelism().unwrap().get();
        let busy = |n| {
            let until = Instant::now() + Duration::from_millis(200);
            twinsight_client::thread::spawn_named(format!("crowd-{n}"), move || {
                while Instant::now() < until {}
            })
        };
        let mut delay = RunDelay::of_this_thread();
        if delay.read().is_none() {
            println!("skipped: this kernel does not tell how long threads wait");
            return;
        }
        let crowd: Vec<_> = (0..3 * cores).map(busy).collect();
        let until = Instant::now() + Duration::from_millis(200);
        while Instant::now() < until {}
        let waited = delay.lap();
        crowd
            .into_iter()
            .for_each(twinsight_client::thread::Joined::join);
        assert!(waited > Duration::from_millis(20), "{waited:?}");
    }

    #[test]
    fn work_counts_and_waiting_does_not() {
        let mut watch = Stopwatch::start();
        let mut sum = 0u64;
        let until = thread_cpu() + Duration::from_millis(5);
        while thread_cpu() < until {
            sum = sum.wrapping_mul(31).wrapping_add(1);
        }
        std::hint::black_box(sum);
        let worked = watch.lap();
        assert!(worked.cpu >= Duration::from_millis(5), "{worked:?}");
        let (_sender, nothing) = std::sync::mpsc::channel::<()>();
        let _ = nothing.recv_timeout(Duration::from_millis(50));
        let waited = watch.lap();
        assert!(waited.wall >= Duration::from_millis(50), "{waited:?}");
        assert!(waited.cpu < waited.wall / 2, "{waited:?}");
    }
}
