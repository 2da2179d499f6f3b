//! Whose CPU time it was: `/proc` is read before and after, the difference goes out by what the threads are
//! for. Read by the command's task at the edges of a step.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

/// The unit of times in `/proc`, the same on every Linux.
const TICK_MS: u64 = 10;

/// What a thread is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    /// The cameras and the hub, which are elsewhere in real life.
    Outside,
    /// A stream's reordering and decoding.
    Decoding,
    /// Receiving, inference and the rest of the node.
    Node,
}

/// CPU time so far.
#[derive(Debug)]
pub(super) struct CpuReading {
    at: Instant,
    threads: HashMap<String, (Group, Duration)>,
    /// Of all programs; none where the system does not tell it.
    machine: Option<Duration>,
}

/// CPU time between two readings, as cores that were busy.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct CpuUse {
    /// The node's, decoding included.
    pub(super) node: f64,
    /// Of it, decoding.
    pub(super) decoding: f64,
    /// The cameras' and the hub's.
    pub(super) outside: f64,
    /// Other programs'.
    pub(super) others: f64,
}

impl CpuReading {
    /// Reads it; `outside` is the name of the threads of the cameras and the hub.
    pub(super) fn now(outside: &str) -> Self {
        let tasks = fs::read_dir("/proc/self/task").into_iter().flatten();
        let threads = tasks.flatten().filter_map(|task| {
            // A thread may end meanwhile.
            let stat = fs::read_to_string(task.path().join("stat")).ok()?;
            let (name, ticks) = thread_time(&stat)?;
            // A camera works for less than a tick in a second, so that ticks may say nothing of it. What tells
            // nanoseconds is an option of the kernel's, and zeros without.
            let precise = fs::read_to_string(task.path().join("schedstat")).ok();
            let spent = precise
                .and_then(|stat| time_on_cpu(&stat))
                .filter(|spent| !spent.is_zero())
                .unwrap_or(ticks);
            let group = match name {
                name if name == outside => Group::Outside,
                name if name.starts_with("dec-") => Group::Decoding,
                _ => Group::Node,
            };
            let id = task.file_name().to_string_lossy().into_owned();
            Some((id, (group, spent)))
        });
        Self {
            at: Instant::now(),
            threads: threads.collect(),
            machine: fs::read_to_string("/proc/stat")
                .ok()
                .and_then(|stat| machine_time(&stat)),
        }
    }

    /// What was used since an earlier reading. A thread that ended meanwhile is left out.
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

/// Name and CPU time of a thread, from its `stat`.
fn thread_time(stat: &str) -> Option<(&str, Duration)> {
    // The name is in brackets, and may have any in it. Behind it utime and stime are the 12th and 13th.
    let (_, rest) = stat.split_once('(')?;
    let (name, fields) = rest.rsplit_once(')')?;
    Some((name, ticks(fields.split_whitespace().skip(11).take(2))?))
}

/// CPU time of a thread, from its `schedstat`: nanoseconds on a CPU, then waiting for one, then turns.
fn time_on_cpu(schedstat: &str) -> Option<Duration> {
    let on_cpu = schedstat.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(on_cpu))
}

/// CPU time of all programs, from the first line of `/proc/stat`.
fn machine_time(stat: &str) -> Option<Duration> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?;
    // user, nice and system; then idle and iowait, which are none; irq and softirq.
    let fields = fields.split_whitespace().enumerate();
    let busy = fields.filter_map(|(n, field)| matches!(n, 0..=2 | 5..=6).then_some(field));
    ticks(busy)
}

fn ticks<'a>(fields: impl Iterator<Item = &'a str>) -> Option<Duration> {
    let mut sum: u64 = 0;
    for field in fields {
        sum = sum.checked_add(field.parse().ok()?)?;
    }
    Some(Duration::from_millis(sum.checked_mul(TICK_MS)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_with_any_name_is_read() {
        let stat =
            "2140 (dec-a) b) R 2137 2137 24794 0 -1 4194304 102 0 0 0 150 25 0 0 20 0 1 0 2567081";
        assert_eq!(
            thread_time(stat),
            Some(("dec-a) b", Duration::from_millis(1750)))
        );
        assert_eq!(thread_time("nonsense"), None);
    }

    #[test]
    fn less_than_a_tick_is_counted() {
        let schedstat = "4123456 47100 12\n";
        assert_eq!(
            time_on_cpu(schedstat),
            Some(Duration::from_nanos(4_123_456))
        );
        assert_eq!(time_on_cpu("\n"), None);
    }

    #[test]
    fn idle_time_is_not_counted() {
        let stat = "cpu  100 20 30 5000 600 4 6 7 8 9\ncpu0 1 2 3\n";
        assert_eq!(machine_time(stat), Some(Duration::from_millis(1600)));
    }

    #[test]
    fn time_is_told_apart_by_the_threads_names() {
        let start = Instant::now();
        let reading = |at, outside: u64, decoding, node, machine| CpuReading {
            at: start + Duration::from_secs(at),
            threads: [
                ("1", Group::Outside, outside),
                ("2", Group::Decoding, decoding),
                ("3", Group::Node, node),
            ]
            .map(|(id, group, ms)| (id.to_owned(), (group, Duration::from_millis(ms))))
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
