//! Whose CPU time it was: the command's task reads `/proc` at the edges of a step, and the difference of two readings goes
//! out, told apart by what the threads are for.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use procfs::process::{Process, Schedstat, Stat, Task};
use procfs::{CurrentSI, KernelStats};

/// What a thread is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    /// It belongs to the cameras or the hub, which run on other machines in real use.
    Outside,
    /// It reorders and decodes a stream.
    Decoding,
    /// It belongs to the rest of the node, such as receiving and inference.
    Node,
}

/// A reading of the CPU time that all threads and programs have used so far.
#[derive(Debug)]
pub(super) struct CpuReading {
    at: Instant,
    threads: HashMap<i32, (Group, Duration)>,
    /// The time of all programs, where the system tells it.
    machine: Option<Duration>,
}

/// The CPU time between two readings, as the number of cores that were busy.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct CpuUse {
    /// What the node used, with decoding.
    pub(super) node: f64,
    /// What decoding used of that.
    pub(super) decoding: f64,
    /// What the cameras and the hub used.
    pub(super) outside: f64,
    /// What other programs used.
    pub(super) others: f64,
}

impl CpuReading {
    /// Reads `/proc`. `outside` is the name of the threads of the cameras and the hub.
    pub(super) fn now(outside: &str) -> Self {
        let tasks = Process::myself().and_then(|process| process.tasks());
        let threads = tasks.into_iter().flatten().flatten().filter_map(|task| {
            let (name, spent) = thread_time(&task)?;
            let group = match name.as_str() {
                name if name == outside => Group::Outside,
                name if name.starts_with("dec-") => Group::Decoding,
                _ => Group::Node,
            };
            Some((task.tid, (group, spent)))
        });
        Self {
            at: Instant::now(),
            threads: threads.collect(),
            machine: KernelStats::current().ok().map(|stat| busy_time(&stat)),
        }
    }

    /// Computes what was used since an earlier reading. A thread that ended meanwhile does not count.
    pub(super) fn since(&self, earlier: &Self) -> CpuUse {
        let elapsed = self.at.saturating_duration_since(earlier.at).as_secs_f64();
        let sum = |wanted: &[Group]| -> f64 {
            let spent = self.threads.iter().filter_map(|(id, (group, spent))| {
                let before = earlier.threads.get(id).map(|(_, spent)| *spent);
                wanted
                    .contains(group)
                    .then(|| spent.saturating_sub(before.unwrap_or_default()))
            });
            spent.sum::<Duration>().as_secs_f64() / elapsed.max(0.001)
        };
        let node = sum(&[Group::Decoding, Group::Node]);
        let outside = sum(&[Group::Outside]);
        let machine = self
            .machine
            .zip(earlier.machine)
            .map(|(later, before)| later.saturating_sub(before).as_secs_f64() / elapsed.max(0.001));
        CpuUse {
            node,
            decoding: sum(&[Group::Decoding]),
            outside,
            others: machine.map_or(0.0, |machine| (machine - node - outside).max(0.0)),
        }
    }
}

/// The name of a thread and its CPU time so far; `None` for a thread that has ended meanwhile.
fn thread_time(task: &Task) -> Option<(String, Duration)> {
    let stat = task.stat().ok()?;
    let spent = spent(
        &stat,
        task.schedstat().ok().as_ref(),
        procfs::ticks_per_second(),
    );
    Some((stat.comm, spent))
}

/// The CPU time of a thread. A camera works for less than a tick in a second, so ticks may say nothing of it; the scheduler's
/// statistics have nanoseconds, but are an option of the kernel, and zero without it.
fn spent(stat: &Stat, schedstat: Option<&Schedstat>, ticks_per_second: u64) -> Duration {
    match schedstat {
        Some(precise) if precise.sum_exec_runtime > 0 => {
            Duration::from_nanos(precise.sum_exec_runtime)
        }
        _ => Duration::from_millis((stat.utime + stat.stime) * 1000 / ticks_per_second.max(1)),
    }
}

/// CPU time of all programs. Waiting for a disk is idle time.
fn busy_time(stat: &KernelStats) -> Duration {
    let total = &stat.total;
    let interrupts =
        total.irq_duration().unwrap_or_default() + total.softirq_duration().unwrap_or_default();
    total.user_duration() + total.nice_duration() + total.system_duration() + interrupts
}

#[cfg(test)]
mod tests {
    use procfs::{ExplicitSystemInfo, FromBufReadSI, FromRead};

    use super::*;

    const STAT: &str = "2140 (dec-a) b) R 2137 2137 24794 0 -1 4194304 102 0 0 0 150 25 0 0 20 0 1 0 2567081 0 0 \
        18446744073709551615 0 0 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0";

    #[test]
    fn a_thread_with_any_name_is_read() {
        let stat = Stat::from_read(STAT.as_bytes()).unwrap();
        assert_eq!(stat.comm, "dec-a) b");
        assert_eq!(spent(&stat, None, 100), Duration::from_millis(1750));
        assert!(Stat::from_read(&b"nonsense"[..]).is_err());
    }

    #[test]
    fn less_than_a_tick_is_counted() {
        let stat = Stat::from_read(STAT.as_bytes()).unwrap();
        let spent = |schedstat: &[u8]| {
            let schedstat = Schedstat::from_read(schedstat).ok();
            spent(&stat, schedstat.as_ref(), 100)
        };
        assert_eq!(
            spent(b"4123456 47100 12\n"),
            Duration::from_nanos(4_123_456)
        );
        assert_eq!(spent(b"0 0 0\n"), Duration::from_millis(1750));
        assert_eq!(spent(b"\n"), Duration::from_millis(1750));
    }

    #[test]
    fn idle_time_is_not_counted() {
        let text =
            "cpu  100 20 30 5000 600 4 6 7 8 9\ncpu0 1 2 3 4\nctxt 1\nbtime 1\nprocesses 1\n";
        let system = ExplicitSystemInfo {
            boot_time_secs: 1,
            ticks_per_second: 100,
            page_size: 4096,
            is_little_endian: true,
        };
        let stat = KernelStats::from_buf_read(text.as_bytes(), &system).unwrap();
        assert_eq!(busy_time(&stat), Duration::from_millis(1600));
    }

    #[test]
    fn time_is_told_apart_by_the_threads_names() {
        let start = Instant::now();
        let reading = |at, outside: u64, decoding, node, machine| CpuReading {
            at: start + Duration::from_secs(at),
            threads: [
                (1, Group::Outside, outside),
                (2, Group::Decoding, decoding),
                (3, Group::Node, node),
            ]
            .map(|(id, group, ms)| (id, (group, Duration::from_millis(ms))))
            .into(),
            machine: Some(Duration::from_millis(machine)),
        };
        let used = reading(4, 500, 1000, 6000, 9000).since(&reading(2, 300, 0, 3000, 2000));
        let expected = CpuUse {
            node: 2.0,
            decoding: 0.5,
            outside: 0.1,
            others: 1.4,
        };
        for (found, expected) in [
            (used.node, expected.node),
            (used.decoding, expected.decoding),
            (used.outside, expected.outside),
            (used.others, expected.others),
        ] {
            assert!((found - expected).abs() < 1e-9, "{used:?}");
        }
    }

    #[test]
    fn this_thread_is_found_by_its_name() {
        let before = CpuReading::now("busy-outside");
        let busy = twinsight_client::thread::spawn_named("busy-outside", || {
            let until = Instant::now() + Duration::from_millis(100);
            while Instant::now() < until {}
            // Its time counts only while it is there.
            let reading = CpuReading::now("busy-outside");
            let outside = reading
                .threads
                .values()
                .filter(|(group, _)| *group == Group::Outside);
            assert_eq!(outside.count(), 1);
        });
        busy.join();
        assert!(!before.threads.is_empty());
    }
}
