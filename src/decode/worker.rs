//! The decode thread of one stream: takes arrivals out of the queue, runs the [`ReceivePath`], hands
//! frames and keyframe requests to its owner's callbacks. Whoever subscribed to the stream owns it.

use std::fmt;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

pub use super::path::DecodeConfig;
use super::path::{PathError, ReceivePath};
use super::queue::QueueEvent;
pub use super::queue::{Arrival, ArrivalQueue};
use super::shed::ShedChange;
use super::{decoder::DecoderError, frame::Frame, gate::KeyframeReason};
use crate::telemetry::ledger::{ShedLevel, UnitDrop};
use crate::telemetry::logging::{RATE_LIMIT, RateLimit};
use crate::thread::{Joined, try_spawn_named};

/// A stream's decode thread. Dropping it stops the thread and waits for it.
pub struct DecodeWorker {
    queue: Arc<ArrivalQueue>,
    thread: Option<Joined>,
}

impl fmt::Debug for DecodeWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecodeWorker")
            .field("thread", &self.thread)
            .finish_non_exhaustive()
    }
}

/// What a decode thread is started with. Both callbacks run on it and must not wait.
pub struct DecodeParts {
    /// How frames are decoded.
    pub config: DecodeConfig,
    /// Gets each frame.
    pub on_frame: Box<dyn FnMut(Frame) + Send>,
    /// Is told when and why a picture loss indication is due.
    pub request_keyframe: Box<dyn FnMut(KeyframeReason) + Send>,
}

impl fmt::Debug for DecodeParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecodeParts")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// The system grants no thread for decoding. What was to be started can be tried again.
#[derive(Debug, thiserror::Error)]
#[error(
    "the system grants no thread to decode {} ({source}): raise the limit of processes and threads (`ulimit -u`, `pids_limit` of a container)",
    parts.config.id
)]
pub struct NoThread {
    /// What the system said.
    pub source: io::Error,
    /// What was to be started.
    pub parts: Box<DecodeParts>,
}

impl DecodeWorker {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system grants none.
    pub fn spawn(parts: DecodeParts, queue: Arc<ArrivalQueue>) -> Result<Self, NoThread> {
        let name = format!("dec-{}", parts.config.id);
        // The thread takes them out once it runs; where there is none they are here to be tried again.
        let parts = Arc::new(Mutex::new(Some(Box::new(parts))));
        let (arrivals, theirs) = (Arc::clone(&queue), Arc::clone(&parts));
        let take = |parts: &Mutex<Option<Box<DecodeParts>>>| parts.lock().take();
        let body = move || {
            if let Some(mut parts) = take(&theirs) {
                let DecodeParts {
                    config,
                    on_frame,
                    request_keyframe,
                } = &mut *parts;
                run(config, &arrivals, &mut **on_frame, &mut **request_keyframe);
            }
        };
        match try_spawn_named(name, body) {
            Ok(thread) => Ok(Self {
                queue,
                thread: Some(thread),
            }),
            Err(source) => Err(NoThread {
                source,
                parts: take(&parts)
                    .expect("the parts are there, because no thread has run to take them"),
            }),
        }
    }

    /// Closes the queue and waits for the thread; units in flight are counted as `shutdown`.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for DecodeWorker {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(thread) = self.thread.take() {
            thread.join();
        }
    }
}

/// A path that panics has a bug, whatever it was given: it is replaced, and its units are counted.
fn run(
    config: &DecodeConfig,
    queue: &ArrivalQueue,
    on_frame: &mut dyn FnMut(Frame),
    request_keyframe: &mut dyn FnMut(KeyframeReason),
) {
    let errors = RateLimit::new(RATE_LIMIT);
    loop {
        let path = AssertUnwindSafe(|| run_path(config, queue, on_frame, request_keyframe));
        if std::panic::catch_unwind(path).is_ok() {
            return;
        }
        let [held, ..] = config.metrics.ledger().in_flight();
        for _ in 0..held {
            config.metrics.unit_dropped(UnitDrop::Reset);
        }
        config.metrics.set_shed_level(ShedLevel::None);
        config.restarts.inc();
        if queue.is_closed() {
            return;
        }
        if let Some(suppressed) = errors.allow((), Instant::now()) {
            tracing::error!(camera = %config.id, suppressed, "decoding panicked and begins anew: this is a bug in Twinsight");
        }
    }
}

fn run_path(
    config: &DecodeConfig,
    queue: &ArrivalQueue,
    on_frame: &mut dyn FnMut(Frame),
    request_keyframe: &mut dyn FnMut(KeyframeReason),
) {
    let mut path = ReceivePath::new(config);
    let warnings = RateLimit::new(RATE_LIMIT);
    let changes = RateLimit::new(RATE_LIMIT);
    loop {
        match queue.pop(path.deadline()) {
            QueueEvent::Arrival(arrival) => path.take(arrival),
            QueueEvent::Deadline => {}
            QueueEvent::Closed => break,
        }
        if queue.is_closed() {
            path.stop();
        }
        // The clock is read anew for each piece of work: decoding takes time, and age decides.
        while path.step(Instant::now(), on_frame) {}
        if let Some(reason) = path.keyframe_request(Instant::now()) {
            tracing::debug!(camera = %config.id, ?reason, "a keyframe is needed");
            request_keyframe(reason);
        }
        if let Some(change) = path.take_shed_change()
            && let Some(suppressed) = changes.allow((change.from, change.to), Instant::now())
        {
            log_shed_change(config, change, suppressed);
        }
        if let Some(error) = path.take_error() {
            log_error(config, error, &warnings);
        }
    }
    path.finish(Instant::now());
}

fn log_error(config: &DecodeConfig, error: PathError, warnings: &RateLimit<bool>) {
    let hopeless = matches!(error, PathError::Decoder(DecoderError::Unsupported(_)));
    let Some(suppressed) = warnings.allow(hopeless, Instant::now()) else {
        return;
    };
    let camera = &config.id;
    if hopeless {
        tracing::warn!(%camera, suppressed, %error, "this camera's video cannot be decoded");
    } else {
        tracing::warn!(%camera, suppressed, %error, "a picture was lost to bad input");
    }
}

/// Levels, lateness, and one sentence.
fn log_shed_change(config: &DecodeConfig, change: ShedChange, suppressed: u64) {
    let ShedChange { from, to, lateness } = change;
    let (camera, late_ms) = (&config.id, lateness.as_millis());
    match (from < to, to) {
        (false, ShedLevel::None) => {
            tracing::info!(%camera, %from, %to, late_ms, suppressed, "decoding keeps up: nothing is left out any more");
        }
        (false, _) => {
            tracing::info!(%camera, %from, %to, late_ms, suppressed, "decoding has time to spare: less is left out");
        }
        (true, ShedLevel::None | ShedLevel::InferLess) => {
            tracing::warn!(%camera, %from, %to, late_ms, suppressed, "decoding is late: frames are inferred half as often");
        }
        (true, ShedLevel::ReferencesOnly) => {
            tracing::warn!(%camera, %from, %to, late_ms, suppressed, "decoding is late: pictures that no other needs are left out");
        }
        (true, ShedLevel::KeyframesOnly) => {
            tracing::warn!(%camera, %from, %to, late_ms, suppressed, "decoding is late: nothing but keyframes is decoded");
        }
    }
}
