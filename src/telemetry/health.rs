//! Whether the node lives and whether it is of use. Loops beat as they go round, stages say when they
//! are ready; the HTTP server asks. Time is passed in.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How the sentence about a silent loop goes on after its name.
pub const SILENT: &str = "has not gone round for";

/// The loops of the node. Cloning shares them.
#[derive(Debug, Clone, Default)]
pub struct Health {
    loops: Arc<Mutex<Vec<Arc<Loop>>>>,
}

/// Held by a loop that beats each time it goes round, idle or not.
///
/// Dropping it takes the loop off the list; a loop that ends by a panic stays on it, silent.
#[derive(Debug)]
pub struct Heartbeat {
    this: Arc<Loop>,
    loops: Arc<Mutex<Vec<Arc<Loop>>>>,
}

/// A loop that has not beaten in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silent {
    /// The loop's name.
    pub name: String,
    /// How long it has been silent.
    pub silence: Duration,
    /// How long it may be.
    pub max_silence: Duration,
}

#[derive(Debug)]
struct Loop {
    name: String,
    max_silence: Duration,
    since: Instant,
    /// The last beat, in milliseconds after `since`.
    last_beat_ms: AtomicU64,
}

impl Health {
    /// Puts a loop on the list; `now` is its first beat.
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
        self.loops
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::clone(&this));
        Heartbeat {
            this,
            loops: Arc::clone(&self.loops),
        }
    }

    /// The loops that have been silent for too long; none: the node is healthy.
    pub fn silent(&self, now: Instant) -> Vec<Silent> {
        let loops = self.loops.lock().unwrap_or_else(PoisonError::into_inner);
        loops
            .iter()
            .map(|each| Silent {
                name: each.name.clone(),
                silence: each.silence(now),
                max_silence: each.max_silence,
            })
            .filter(|each| each.silence > each.max_silence)
            .collect()
    }
}

impl Heartbeat {
    /// The loop has gone round.
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
            .unwrap_or_else(PoisonError::into_inner)
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

/// Whether the node is of use: its model is warm and its hub is joined. A bad camera is not its business.
#[derive(Debug, Default)]
pub struct Readiness {
    model_warm: AtomicBool,
    hub_joined: AtomicBool,
    /// Which hub is not joined and why; empty where nobody said.
    hub_trouble: Mutex<String>,
}

impl Readiness {
    /// The models have made their first inference, or are gone.
    pub fn set_model_warm(&self, warm: bool) {
        self.model_warm.store(warm, Ordering::Relaxed);
    }

    /// The hub is joined, or away.
    pub fn set_hub_joined(&self, joined: bool) {
        self.hub_joined.store(joined, Ordering::Relaxed);
    }

    /// Which hub is not joined and why; ends the sentence "the hub is not joined: ".
    pub fn set_hub_trouble(&self, trouble: impl Into<String>) {
        *self
            .hub_trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = trouble.into();
    }

    /// What is missing, in words; nothing: the node is ready.
    pub fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        if !self.model_warm.load(Ordering::Relaxed) {
            missing.push("the model is not warm yet".to_owned());
        }
        if !self.hub_joined.load(Ordering::Relaxed) {
            let trouble = self
                .hub_trouble
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            missing.push(match trouble.as_str() {
                "" => "the hub is not joined".to_owned(),
                trouble => format!("the hub is not joined: {trouble}"),
            });
        }
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
        crate::thread::spawn_named("panics", move || {
            let _held = heartbeat;
            panic!("as a bug would");
        })
        .join();
        assert_eq!(health.silent(t + s(60)).len(), 1);
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
        readiness.set_hub_trouble("http://h:1 is away");
        assert_eq!(
            readiness.missing(),
            ["the hub is not joined: http://h:1 is away"]
        );
        readiness.set_hub_joined(true);
        assert!(readiness.missing().is_empty());
    }
}
