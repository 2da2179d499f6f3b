//! The decode thread of one stream: arrivals come in from the queue, and frames and keyframe requests go out to two callbacks. It
//! runs the [`ReceivePath`]. The stream's task owns it.

use std::fmt;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

pub use super::queue::ArrivalQueue;
use super::queue::QueueEvent;
use crate::rate_limit::{RATE_LIMIT, RateLimit};
use crate::stream_id::StreamId;
use crate::thread::{Joined, try_spawn_named};
use twinsight_media::decode::decoder::DecoderError;
use twinsight_media::decode::gate::KeyframeReason;
pub use twinsight_media::decode::path::DecodeConfig;
use twinsight_media::decode::path::{PathError, PathErrorKind, ReceivePath};
use twinsight_media::decode::shed::ShedChange;
use twinsight_media::ledger::ShedLevel;
use twinsight_media::picture::Frame;
pub use twinsight_media::rtp::Arrival;

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
    /// The stream.
    pub id: StreamId,
    /// The decoder, its clock, and the ledger that counts what becomes of units.
    pub config: DecodeConfig,
    /// Takes each frame.
    pub on_frame: Box<dyn FnMut(Frame) + Send>,
    /// Called with the reason when the peer is to be asked for a keyframe.
    pub request_keyframe: Box<dyn FnMut(KeyframeReason) + Send>,
}

impl fmt::Debug for DecodeParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecodeParts")
            .field("id", &self.id)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// The system grants no thread for decoding. The parts are given back, so that it can be tried again.
#[derive(Debug, thiserror::Error)]
#[error(
    "the system grants no thread to decode {} ({source}): raise the limit of processes and threads (`ulimit -u`, `pids_limit` of a container)",
    parts.id
)]
pub struct NoThread {
    /// The error of the system.
    pub source: io::Error,
    /// The parts that the thread was to be started with.
    pub parts: Box<DecodeParts>,
}

impl DecodeWorker {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system grants none.
    pub fn spawn(parts: DecodeParts, queue: Arc<ArrivalQueue>) -> Result<Self, NoThread> {
        let name = format!("dec-{}", parts.id);
        // The thread takes the parts out once it runs. If there is no thread, they are given back with the error.
        let parts = Arc::new(Mutex::new(Some(Box::new(parts))));
        let (arrivals, theirs) = (Arc::clone(&queue), Arc::clone(&parts));
        let take = |parts: &Mutex<Option<Box<DecodeParts>>>| parts.lock().take();
        let body = move || {
            if let Some(mut parts) = take(&theirs) {
                run(&mut parts, &arrivals);
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

/// Runs receive paths until the queue is closed. A path that panics has a bug, whatever input it had: it is replaced by a new one,
/// and its units are counted.
fn run(parts: &mut DecodeParts, queue: &ArrivalQueue) {
    let errors = RateLimit::new(RATE_LIMIT);
    loop {
        let path = AssertUnwindSafe(|| run_path(parts, queue));
        if std::panic::catch_unwind(path).is_ok() {
            return;
        }
        parts.config.ledger.path_restarted();
        if queue.is_closed() {
            return;
        }
        if let Some(suppressed) = errors.allow((), Instant::now()) {
            tracing::error!(camera = %parts.id, suppressed, "decoding panicked and begins anew: this is a bug in Twinsight");
        }
    }
}

fn run_path(parts: &mut DecodeParts, queue: &ArrivalQueue) {
    let DecodeParts {
        id,
        config,
        on_frame,
        request_keyframe,
    } = parts;
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
        // The clock is read again before each step, because decoding takes time and units are dropped by their age.
        while path.step(Instant::now(), on_frame) {}
        if let Some(reason) = path.keyframe_request(Instant::now()) {
            tracing::debug!(camera = %id, ?reason, "a keyframe is needed");
            request_keyframe(reason);
        }
        if let Some(change) = path.take_shed_change()
            && let Some(suppressed) = changes.allow((change.from, change.to), Instant::now())
        {
            log_shed_change(id, change, suppressed);
        }
        if let Some(error) = path.take_error() {
            log_error(id, error, &warnings);
        }
    }
    path.finish(Instant::now());
}

fn log_error(camera: &StreamId, error: PathError, warnings: &RateLimit<bool>) {
    let now = Instant::now();
    let PathError { kind, packet } = error;
    let hopeless = matches!(kind, PathErrorKind::Decoder(DecoderError::Unsupported(_)));
    let Some(suppressed) = warnings.allow(hopeless, now) else {
        return;
    };
    let (ssrc, sequence) = (packet.ssrc.0, packet.sequence.0);
    let age_ms = now.saturating_duration_since(packet.arrived_at).as_millis();
    if hopeless {
        tracing::warn!(%camera, suppressed, ssrc, sequence, age_ms, error = %kind, "this camera's video cannot be decoded");
    } else {
        tracing::warn!(%camera, suppressed, ssrc, sequence, age_ms, error = %kind, "a picture was lost to bad input");
    }
}

/// Logs a change of the shed level.
fn log_shed_change(camera: &StreamId, change: ShedChange, suppressed: u64) {
    let ShedChange { from, to, lateness } = change;
    let late_ms = lateness.as_millis();
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
