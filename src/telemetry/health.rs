//! Whether the node lives, and whether it is of use. Loops beat as they go round, tasks are watched for panics, and stages say
//! when they are ready; the HTTP server asks what is wrong. Time is passed in.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use parking_lot::Mutex;

use crate::clock::SuspendDetector;
use twinsight_client::thread::{Joined, ThreadError, try_spawn_named};

/// How the sentence about a silent loop goes on after its name.
pub(crate) const SILENT: &str = "has not gone round for";

/// How the sentence about a task that panicked goes on after its name.
pub(crate) const PANICKED: &str = "ended by a panic";

/// So many tasks that panicked are named. More of them are only counted.
const MAX_PANICKED: usize = 16;

/// So many bytes are kept of a panic's message.
const MAX_MESSAGE_BYTES: usize = 200;

/// How often the clock of [`Health::start_clock`] looks at the time.
const CLOCK_PERIOD: Duration = Duration::from_millis(500);

/// The loops and tasks of the node. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Health {
    loops: Arc<Mutex<Vec<Arc<Loop>>>>,
    panicked: Arc<Mutex<PanickedTasks>>,
    clock: Arc<Mutex<SuspensionClock>>,
}

#[derive(Debug, Default)]
struct PanickedTasks {
    named: Vec<Panicked>,
    unnamed: u64,
}

/// A task of the node that ended by a panic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Panicked {
    /// What the sentence calls the task.
    pub name: String,
    /// The beginning of the panic's message.
    pub message: String,
}

/// Recognises that the whole process did not run for a while.
#[derive(Debug)]
struct SuspensionClock {
    detector: SuspendDetector,
    resumed_at: Option<Instant>,
}

impl Default for SuspensionClock {
    fn default() -> Self {
        Self {
            detector: SuspendDetector::new(CLOCK_PERIOD),
            resumed_at: None,
        }
    }
}

/// The thread that tells a process that was stopped from one whose loops hang. Dropping this ends it.
#[derive(Debug)]
pub struct HealthClock {
    stop: Option<std::sync::mpsc::Sender<()>>,
    _thread: Joined,
}

impl Drop for HealthClock {
    fn drop(&mut self) {
        // The thread waits for this to happen. The field after this one joins it.
        self.stop = None;
    }
}

/// Held by a loop, which beats each time it goes round, whether it had something to do or not.
///
/// Dropping it takes the loop off the list. A loop that ends by a panic stays on the list and is silent from then on.
#[derive(Debug)]
pub struct Heartbeat {
    this: Arc<Loop>,
    loops: Arc<Mutex<Vec<Arc<Loop>>>>,
}

/// A loop that has not beaten in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silent {
    /// What the sentence calls the loop.
    pub name: String,
    /// How long it has been silent.
    pub silence: Duration,
    /// How long it may be silent.
    pub max_silence: Duration,
}

#[derive(Debug)]
struct Loop {
    name: String,
    max_silence: Duration,
    since: Instant,
    /// When it beat last, in milliseconds after `since`.
    last_beat_ms: AtomicU64,
}

impl Health {
    /// Puts a loop on the list, which counts as a beat. It is silent after `max_silence` without one.
    pub fn register(
        &self,
        name: impl Into<String>,
        max_silence: Duration,
        now: Instant,
    ) -> Heartbeat {
        let this = Arc::new(Loop {
            name: name.into(),
            max_silence,
            since: now,
            last_beat_ms: AtomicU64::new(0),
        });
        self.loops.lock().push(Arc::clone(&this));
        Heartbeat {
            this,
            loops: Arc::clone(&self.loops),
        }
    }

    /// The loops that have been silent for too long. Time in which the whole process did not run does not count.
    pub fn silent(&self, now: Instant) -> Vec<Silent> {
        // After a stop, whoever asks may run before the clock's thread does.
        self.note_suspension(now, false);
        let resumed_at = self.resumed_at();
        let loops = self.loops.lock();
        loops
            .iter()
            .map(|each| {
                let running = resumed_at.map(|at| now.saturating_duration_since(at));
                Silent {
                    name: each.name.clone(),
                    silence: each.silence(now).min(running.unwrap_or(Duration::MAX)),
                    max_silence: each.max_silence,
                }
            })
            .filter(|each| each.silence > each.max_silence)
            .collect()
    }

    /// A sentence for each thing that is wrong. Without any the node is healthy.
    pub fn complaints(&self, now: Instant) -> Vec<String> {
        let mut complaints: Vec<String> =
            self.silent(now).iter().map(ToString::to_string).collect();
        let panicked = self.panicked.lock();
        complaints.extend(panicked.named.iter().map(ToString::to_string));
        if panicked.unnamed > 0 {
            complaints.push(format!("more tasks ended by a panic: {}", panicked.unnamed));
        }
        complaints
    }

    /// Watches a task. If it ends by a panic, the node is unhealthy from then on, since nobody does the task's work any more.
    /// A task that is dropped or aborted has not panicked.
    pub fn watch<F: Future>(
        &self,
        name: &str,
        task: F,
    ) -> impl Future<Output = F::Output> + use<F> {
        let (name, health) = (name.to_owned(), self.clone());
        async move {
            match AssertUnwindSafe(task).catch_unwind().await {
                Ok(output) => output,
                Err(panic) => {
                    health.panicked(name, panic.as_ref());
                    resume_unwind(panic)
                }
            }
        }
    }

    /// Notes that a task has ended by a panic.
    pub fn panicked(&self, name: String, panic: &(dyn Any + Send)) {
        let message = panic_message(panic);
        let end = message.floor_char_boundary(MAX_MESSAGE_BYTES);
        let message = message[..end].replace(char::is_control, " ");
        let mut panicked = self.panicked.lock();
        if panicked.named.iter().any(|each| each.name == name) {
            return;
        }
        if panicked.named.len() < MAX_PANICKED {
            panicked.named.push(Panicked { name, message });
        } else {
            panicked.unnamed += 1;
        }
    }

    /// Starts the clock by which a stop of the whole process is recognised.
    ///
    /// # Errors
    /// When the system grants no thread.
    pub fn start_clock(&self) -> Result<HealthClock, ThreadError> {
        let health = self.clone();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let thread = try_spawn_named("clock", move || {
            use std::sync::mpsc::RecvTimeoutError;
            health.tick(Instant::now());
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(CLOCK_PERIOD) {
                health.tick(Instant::now());
            }
        })
        .map_err(|source| ThreadError::new("clock", source))?;
        Ok(HealthClock {
            stop: Some(stop),
            _thread: thread,
        })
    }

    /// Looks at the time, which the clock's thread does all the while.
    pub fn tick(&self, now: Instant) {
        self.note_suspension(now, true);
    }

    /// When the process began to run again, if all of it had been stopped. Time limits that were running then begin anew at
    /// this moment.
    pub fn resumed_at(&self) -> Option<Instant> {
        self.clock.lock().resumed_at
    }

    fn note_suspension(&self, now: Instant, tick: bool) {
        let stopped = {
            let mut clock = self.clock.lock();
            let stopped = clock.detector.stopped(now);
            if stopped.is_some() {
                clock.resumed_at = Some(now);
            }
            if tick || stopped.is_some() {
                clock.detector.skip(now);
            }
            stopped
        };
        if let Some(stopped) = stopped {
            tracing::warn!(
                seconds = stopped.as_secs_f64(),
                "the whole process did not run for a while: it was stopped, or its machine was"
            );
        }
    }
}

/// The message of a panic.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

impl Heartbeat {
    /// Notes that the loop has gone round.
    pub fn beat(&self, now: Instant) {
        let ms = now.saturating_duration_since(self.this.since).as_millis();
        let ms = u64::try_from(ms).unwrap_or(u64::MAX);
        self.this.last_beat_ms.fetch_max(ms, Ordering::Relaxed);
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.loops
            .lock()
            .retain(|each| !Arc::ptr_eq(each, &self.this));
    }
}

impl Loop {
    fn silence(&self, now: Instant) -> Duration {
        let last_beat = Duration::from_millis(self.last_beat_ms.load(Ordering::Relaxed));
        now.saturating_duration_since(self.since)
            .saturating_sub(last_beat)
    }
}

impl fmt::Display for Silent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {SILENT} {:.1} s, and {:.1} s is the most",
            self.name,
            self.silence.as_secs_f64(),
            self.max_silence.as_secs_f64()
        )
    }
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {PANICKED} ({}): restart the node, this is a bug in Twinsight",
            self.name, self.message
        )
    }
}

/// Whether the node is of use: its models are warm and its hub is joined, if it has one. A camera that fails does not count.
#[derive(Debug, Default)]
pub struct Readiness {
    model_warm: AtomicBool,
    hub_joined: AtomicBool,
    without_hub: AtomicBool,
    inference_errors: Mutex<Vec<String>>,
    /// What is wrong with the pool that the node shares its cameras with.
    pool_trouble: Mutex<Option<String>>,
    /// Which hub is not joined and why. Empty until somebody says it.
    hub_last_error: Mutex<String>,
}

impl Readiness {
    /// Says whether every model has made its first inference.
    pub fn set_model_warm(&self, warm: bool) {
        self.model_warm.store(warm, Ordering::Relaxed);
    }

    /// Says whether the hub is joined.
    pub fn set_hub_joined(&self, joined: bool) {
        self.hub_joined.store(joined, Ordering::Relaxed);
    }

    /// Says that there is no hub to be joined.
    pub fn set_without_hub(&self) {
        self.without_hub.store(true, Ordering::Relaxed);
    }

    /// Says what is wrong with the pool that the node is in.
    pub fn set_pool_trouble(&self, trouble: Option<String>) {
        *self.pool_trouble.lock() = trouble;
    }

    /// Says what is wrong with inference now, in a sentence for each thing.
    pub fn set_inference_errors(&self, errors: Vec<String>) {
        *self.inference_errors.lock() = errors;
    }

    /// Says which hub is not joined and why. The text ends the sentence "the hub is not joined: ".
    pub fn set_hub_last_error(&self, error: impl Into<String>) {
        *self.hub_last_error.lock() = error.into();
    }

    /// A sentence for each thing that is missing. Without any the node is ready.
    pub fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        if !self.model_warm.load(Ordering::Relaxed) {
            missing.push("the model is not warm yet".to_owned());
        }
        let needs_hub = !self.without_hub.load(Ordering::Relaxed);
        if needs_hub && !self.hub_joined.load(Ordering::Relaxed) {
            let error = self.hub_last_error.lock();
            missing.push(match error.as_str() {
                "" => "the hub is not joined".to_owned(),
                error => format!("the hub is not joined: {error}"),
            });
        }
        let errors = self.inference_errors.lock();
        missing.extend(errors.iter().cloned());
        missing.extend(self.pool_trouble.lock().clone());
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_secs(5);

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_loop_that_beats_is_healthy_and_one_that_stops_is_named() {
        let t = Instant::now();
        let health = Health::default();
        let one = health.register("scheduler", MAX, t);
        let _two = health.register("publisher", MAX, t);
        assert_eq!(health.silent(t + s(5)), []);
        one.beat(t + s(4));
        let silent = health.silent(t + s(8));
        assert_eq!(
            silent.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["publisher has not gone round for 8.0 s, and 5.0 s is the most"]
        );
    }

    #[test]
    fn a_loop_that_ends_leaves_the_list() {
        let t = Instant::now();
        let health = Health::default();
        drop(health.register("camera a", MAX, t));
        assert_eq!(health.silent(t + s(60)), []);
    }

    #[test]
    fn a_loop_that_panics_stays_on_the_list() {
        let t = Instant::now();
        let health = Health::default();
        let heartbeat = health.register("camera a", MAX, t);
        twinsight_client::thread::spawn_named("panics", move || {
            let _held = heartbeat;
            panic!("as a bug would");
        })
        .join();
        assert_eq!(health.silent(t + s(60)).len(), 1);
    }

    #[test]
    fn a_process_that_was_stopped_gives_its_loops_a_new_start() {
        let t = Instant::now();
        let health = Health::default();
        let one = health.register("scheduler", MAX, t);
        health.tick(t);
        health.tick(t + Duration::from_millis(500));
        assert_eq!(health.resumed_at(), None);
        assert_eq!(health.silent(t + s(30)), [], "asked before the clock woke");
        assert_eq!(health.resumed_at(), Some(t + s(30)));
        for half in 61..=80 {
            health.tick(t + Duration::from_millis(500 * half));
        }
        let silent = health.silent(t + s(40));
        assert_eq!(silent.len(), 1, "it ran again and did not go round");
        assert_eq!(silent[0].silence, s(10));
        one.beat(t + s(40));
        assert_eq!(health.silent(t + s(41)), []);
    }

    #[test]
    fn loops_that_hang_while_the_clock_runs_are_told() {
        let t = Instant::now();
        let health = Health::default();
        let _one = health.register("scheduler", MAX, t);
        for second in 0..=30 {
            health.tick(t + s(second));
        }
        assert_eq!(health.silent(t + s(30)).len(), 1);
    }

    #[tokio::test]
    async fn a_task_that_panics_is_named_and_one_that_ends_or_is_aborted_is_not() {
        let health = Health::default();
        let ends = tokio::spawn(health.watch("reload", async { 7 }));
        assert_eq!(ends.await.unwrap(), 7);
        let hangs = tokio::spawn(health.watch("publisher", std::future::pending::<()>()));
        hangs.abort();
        assert!(hangs.await.unwrap_err().is_cancelled());
        assert!(health.complaints(Instant::now()).is_empty());
        for n in 0..20 {
            let panics = health.watch(&format!("camera {n}"), async { panic!("a\nbug") });
            let panics = tokio::spawn(panics);
            assert!(panics.await.unwrap_err().is_panic());
        }
        let complaints = health.complaints(Instant::now());
        assert_eq!(
            complaints[0],
            "camera 0 ended by a panic (a bug): restart the node, this is a bug in Twinsight"
        );
        assert_eq!(complaints.len(), MAX_PANICKED + 1);
        assert_eq!(complaints[16], "more tasks ended by a panic: 4");
    }

    #[test]
    fn the_clock_ends_with_its_handle() {
        let health = Health::default();
        let clock = health.start_clock().unwrap();
        drop(clock);
        assert_eq!(Arc::strong_count(&health.clock), 1);
    }

    #[test]
    fn an_old_beat_does_not_undo_a_newer_one() {
        let t = Instant::now();
        let health = Health::default();
        let heartbeat = health.register("a", MAX, t);
        heartbeat.beat(t + s(9));
        heartbeat.beat(t + s(1));
        assert_eq!(health.silent(t + s(13)), []);
    }

    #[test]
    fn readiness_names_what_is_missing() {
        let readiness = Readiness::default();
        assert_eq!(
            readiness.missing(),
            ["the model is not warm yet", "the hub is not joined"]
        );
        readiness.set_model_warm(true);
        assert_eq!(readiness.missing(), ["the hub is not joined"]);
        readiness.set_hub_last_error("http://h:1 is away");
        assert_eq!(
            readiness.missing(),
            ["the hub is not joined: http://h:1 is away"]
        );
        readiness.set_hub_joined(true);
        assert!(readiness.missing().is_empty());
        readiness.set_inference_errors(vec!["model m is set aside: its code panicked".to_owned()]);
        assert_eq!(
            readiness.missing(),
            ["model m is set aside: its code panicked"]
        );
        readiness.set_inference_errors(Vec::new());
        assert!(readiness.missing().is_empty());
    }
}
