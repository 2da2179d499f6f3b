//! The handles of previews, and the thread that encodes: workers offer frames to [`Previews`], and whoever looks holds a [`Watch`].

use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::Notify;

use super::core::{
    Core, Form, MAX_FPS, MAX_STREAMS, MAX_WATCHES, Missed, Poll, Task, WatchId, Wish, stream_bit,
};
use super::encoder::{EncodeError, PictureEncoder};
use crate::detect::{ModelInfo, Object};
use crate::telemetry::metrics::{Metrics, PreviewResult};
use twinsight_client::rate_limit::{RATE_LIMIT, RateLimit};
use twinsight_client::stream_id::StreamId;
use twinsight_client::thread::{Joined, ThreadError, try_spawn_named, yield_to_all_others};
use twinsight_media::picture::{Frame, PictureSize};

/// Whoever offers a frame waits no longer than this for the lock, which nobody holds for long work: the thread that
/// encodes may hold it at a moment at which the system gives its processor to others.
const OFFER_LIMIT: Duration = Duration::from_millis(1);

/// The name of the thread that encodes.
const THREAD: &str = "preview";

/// What somebody wants to look at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WatchOptions {
    /// How wide the picture is shown. It gets the next of a few widths, and is never wider than the frame. Without it, it has the
    /// width of the frame.
    pub width_px: Option<u32>,
    /// Whether objects are drawn on the picture.
    pub boxes: bool,
    /// So many pictures a second of each stream, and at most [`MAX_FPS`].
    pub fps: f64,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self {
            width_px: None,
            boxes: false,
            fps: MAX_FPS,
        }
    }
}

/// A picture of an inferred frame.
#[derive(Debug, Clone)]
pub struct Picture {
    /// The stream that it is of.
    pub stream: StreamId,
    /// The picture.
    pub jpeg: Bytes,
    /// The number of the event that holds for this frame, if there was one: its own, or under the motion gate that of the last frame
    /// that was inferred.
    pub sequence: Option<u64>,
    /// The size of the frame, in whose pixels events say where objects are. The picture may be smaller.
    pub frame_size: PictureSize,
    /// When the frame was offered, which is just after its objects were found.
    pub at: Instant,
}

/// What is drawn on a picture.
#[derive(Debug, Clone)]
pub struct Seen {
    /// What was found in the frame.
    pub objects: Vec<Object>,
    /// The model that found it.
    pub model: ModelInfo,
}

/// Why there is no watch.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// All places are taken.
    #[error(
        "{MAX_WATCHES} watchers look at pictures of this node already, which is the limit: close a page that shows it, or try again later"
    )]
    TooManyWatches,
    /// One watch wants too much.
    #[error("one watcher can look at {MAX_STREAMS} streams at once: ask for fewer")]
    TooManyStreams,
    /// There is no thread that would encode pictures.
    #[error(transparent)]
    Thread(#[from] ThreadError),
    /// The node ends.
    #[error("the node is stopping and gives no more pictures")]
    Stopped,
}

/// Where workers offer frames and watchers get pictures. Clones are the same.
#[derive(Debug, Clone)]
pub struct Previews {
    owner: Arc<Owner>,
}

/// Somebody who looks at streams. Dropping it ends that.
#[derive(Debug)]
pub struct Watch {
    owner: Arc<Owner>,
    id: WatchId,
    told: Arc<Notify>,
}

/// A frame as it waits to be encoded.
#[derive(Debug)]
pub(super) struct Offered {
    pub(super) frame: Frame,
    pub(super) sequence: Option<u64>,
    pub(super) seen: Option<Seen>,
    pub(super) at: Instant,
}

/// Makes the bytes of a picture.
type Encode = Box<dyn FnMut(&Offered, Form) -> Result<Bytes, EncodeError> + Send>;

/// Stops the thread when the last handle is gone.
struct Owner {
    shared: Arc<Shared>,
    /// There once somebody has looked.
    thread: Mutex<Option<Joined>>,
    thread_name: &'static str,
    /// Makes the encoder of the thread.
    encoder: fn() -> Encode,
}

/// What the handles and the thread share.
struct Shared {
    metrics: Arc<Metrics>,
    /// The [`stream_bit`]s of the streams that are watched: all that a worker looks at while nobody watches.
    watched: AtomicU64,
    state: Mutex<State>,
    /// Tells the thread that there may be something to encode.
    work: Condvar,
}

#[derive(Debug, Default)]
struct State {
    core: Core<Arc<Offered>, Picture>,
    told: HashMap<WatchId, Arc<Notify>>,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    /// Frames are encoded for whoever watches.
    #[default]
    Open,
    /// The node ends, and nothing is encoded any more.
    Stopped,
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owner").finish_non_exhaustive()
    }
}

impl Previews {
    /// Previews that count into these metrics. The thread starts with the first watch.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self::with_encoder(metrics, THREAD, || {
            let mut encoder = PictureEncoder::default();
            Box::new(move |offered, form| encoder.encode(offered, form))
        })
    }

    fn with_encoder(
        metrics: Arc<Metrics>,
        thread_name: &'static str,
        encoder: fn() -> Encode,
    ) -> Self {
        let shared = Arc::new(Shared {
            metrics,
            watched: AtomicU64::new(0),
            state: Mutex::default(),
            work: Condvar::new(),
        });
        Self {
            owner: Arc::new(Owner {
                shared,
                thread: Mutex::default(),
                thread_name,
                encoder,
            }),
        }
    }

    /// Offers the newest frame of a stream, with the number of its event. `seen` runs only if somebody wants to see objects on
    /// pictures of it. While nobody looks at the stream, nothing is locked, copied or allocated.
    pub fn offer(
        &self,
        stream: &StreamId,
        frame: &Frame,
        sequence: Option<u64>,
        seen: impl FnOnce() -> Seen,
    ) {
        let shared = &self.owner.shared;
        let watched = shared.watched.load(Ordering::Relaxed);
        if watched == 0 || watched & stream_bit(stream) == 0 {
            return;
        }
        shared.offer(stream, frame, sequence, seen);
    }

    /// Looks at a stream.
    ///
    /// # Errors
    /// When there are as many watches as there may be, the system grants no thread, or the node ends.
    pub fn watch(&self, stream: &StreamId, options: WatchOptions) -> Result<Watch, WatchError> {
        self.watch_many(vec![stream.clone()], options)
    }

    /// Looks at several streams at once. Each has its turn, and the options hold for each.
    ///
    /// # Errors
    /// As [`watch`](Self::watch), and when there are more than [`MAX_STREAMS`].
    pub fn watch_many(
        &self,
        streams: Vec<StreamId>,
        options: WatchOptions,
    ) -> Result<Watch, WatchError> {
        if streams.len() > MAX_STREAMS {
            return Err(WatchError::TooManyStreams);
        }
        self.owner.start_thread()?;
        let WatchOptions {
            width_px,
            boxes,
            fps,
        } = options;
        let wish = Wish::new(width_px, boxes, fps);
        let shared = &self.owner.shared;
        let told = Arc::new(Notify::new());
        let mut state = shared.state();
        if state.phase == Phase::Stopped {
            return Err(WatchError::Stopped);
        }
        let Some(id) = state.core.open(streams, wish, Instant::now()) else {
            drop(state);
            shared.metrics.preview_watchers_refused.inc();
            return Err(WatchError::TooManyWatches);
        };
        state.told.insert(id, Arc::clone(&told));
        shared.watches_changed(&state);
        drop(state);
        Ok(Watch {
            owner: Arc::clone(&self.owner),
            id,
            told,
        })
    }

    /// How many watches are open, of [`MAX_WATCHES`].
    pub fn watches(&self) -> usize {
        let count = self.owner.shared.metrics.preview_watchers.get();
        usize::try_from(count).unwrap_or(0)
    }

    /// Ends all watches and the thread, and waits for the picture that is being encoded.
    pub fn stop(&self) {
        self.owner.stop();
    }
}

impl Watch {
    /// The newest picture that this watch has not had, as soon as there is one and its time has come. `None` means that the node
    /// ends. Frames are encoded only while this is awaited, so that whoever is slow gets fewer pictures.
    pub async fn next(&mut self) -> Option<Picture> {
        let shared = &self.owner.shared;
        let mut waiting = Waiting {
            shared,
            id: self.id,
            is_noted: false,
        };
        loop {
            let until = match waiting.poll() {
                Polled::Ended => return None,
                Polled::Locked => {
                    // The thread that encodes may have the lock and no processor, and the runtime's thread has other work.
                    tokio::time::sleep(OFFER_LIMIT).await;
                    continue;
                }
                Polled::Core(Poll::Picture(picture)) => return Some(picture),
                Polled::Core(Poll::Wait(until)) => until,
            };
            shared.work.notify_one();
            let told = self.told.notified();
            match until {
                // Whether it was told or the time has passed, the loop looks again.
                Some(until) => {
                    let _ = tokio::time::timeout_at(until.into(), told).await;
                }
                None => told.await,
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let shared = &self.owner.shared;
        let mut state = shared.state();
        state.core.close(self.id);
        state.told.remove(&self.id);
        shared.watches_changed(&state);
    }
}

/// Somebody awaits a watch's next picture. Dropping it says that nobody does any more.
struct Waiting<'a> {
    shared: &'a Shared,
    id: WatchId,
    /// The watch is noted as one that is waited for.
    is_noted: bool,
}

/// What came of asking for a watch's next picture.
enum Polled {
    /// The node ends, and there are no more pictures.
    Ended,
    /// Somebody else has the lock.
    Locked,
    /// This is what there is.
    Core(Poll<Picture>),
}

impl Waiting<'_> {
    fn poll(&mut self) -> Polled {
        let Some(mut state) = self.shared.state.try_lock() else {
            return Polled::Locked;
        };
        if state.phase == Phase::Stopped {
            return Polled::Ended;
        }
        let polled = state.core.poll(self.id, Instant::now());
        self.is_noted = matches!(polled, Poll::Wait(_));
        state.core.set_waiting(self.id, self.is_noted);
        Polled::Core(polled)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.is_noted {
            self.shared.state().core.set_waiting(self.id, false);
        }
    }
}

impl Owner {
    fn start_thread(&self) -> Result<(), ThreadError> {
        let mut thread = self.thread.lock();
        if thread.is_none() && self.shared.state().phase == Phase::Open {
            let (shared, encode) = (Arc::clone(&self.shared), (self.encoder)());
            let started = try_spawn_named(self.thread_name, move || run(&shared, encode));
            *thread = Some(started.map_err(|error| ThreadError::new(self.thread_name, error))?);
        }
        Ok(())
    }

    fn stop(&self) {
        let told: Vec<_> = {
            let mut state = self.shared.state();
            state.phase = Phase::Stopped;
            self.shared.watched.store(0, Ordering::Relaxed);
            state.told.values().map(Arc::clone).collect()
        };
        self.shared.work.notify_one();
        for told in told {
            told.notify_one();
        }
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            thread.join();
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Tells workers and metrics which watches there are.
    fn watches_changed(&self, state: &State) {
        let bits = match state.phase {
            Phase::Open => state.core.watched_bits(),
            Phase::Stopped => 0,
        };
        self.watched.store(bits, Ordering::Relaxed);
        let count = i64::try_from(state.core.watches()).unwrap_or(i64::MAX);
        self.metrics.preview_watchers.set(count);
    }

    fn offer(
        &self,
        stream: &StreamId,
        frame: &Frame,
        sequence: Option<u64>,
        seen: impl FnOnce() -> Seen,
    ) {
        let busy = || self.metrics.preview_picture(PreviewResult::EncoderBusy);
        let wants = match self.state.try_lock_for(OFFER_LIMIT) {
            Some(state) => state.core.wants(stream),
            None => return busy(),
        };
        let Some(boxes) = wants else {
            return;
        };
        let now = Instant::now();
        let offered = Arc::new(Offered {
            frame: frame.clone(),
            sequence,
            seen: boxes.then(seen),
            at: now,
        });
        let Some(mut state) = self.state.try_lock_for(OFFER_LIMIT) else {
            return busy();
        };
        let width_px = frame.size().width_px;
        let (replaced, missed) = state.core.offer(stream, offered, width_px, now);
        drop(state);
        self.work.notify_one();
        drop(replaced);
        match missed {
            Some(Missed::Encoder) => busy(),
            Some(Missed::Watcher) => self.metrics.preview_picture(PreviewResult::WatcherBusy),
            None => {}
        }
    }

    /// Waits for something to encode. `None` means that the node ends.
    fn next_task(&self) -> Option<Task<Arc<Offered>>> {
        let mut state = self.state();
        loop {
            if state.phase == Phase::Stopped {
                return None;
            }
            if let Some(task) = state.core.task(Instant::now()) {
                return Some(task);
            }
            self.work.wait(&mut state);
        }
    }

    /// Hands a picture to those who wait for it.
    fn made(&self, task: &Task<Arc<Offered>>, jpeg: Option<Bytes>) {
        self.metrics.preview_picture(match jpeg {
            Some(_) => PreviewResult::Encoded,
            None => PreviewResult::Failed,
        });
        let picture = jpeg.map(|jpeg| Picture {
            stream: task.stream.clone(),
            jpeg,
            sequence: task.frame.sequence,
            frame_size: task.frame.frame.size(),
            at: task.frame.at,
        });
        let told: Vec<_> = {
            let mut state = self.state();
            let ids = state.core.made(task, picture, Instant::now());
            ids.iter()
                .filter_map(|id| state.told.get(id).map(Arc::clone))
                .collect()
        };
        for told in told {
            told.notify_one();
        }
    }
}

/// Runs on the thread that encodes. Whatever happens to a frame, the thread goes on with the next one.
fn run(shared: &Shared, mut encode: Encode) {
    yield_to_all_others();
    let warn: RateLimit<StreamId> = RateLimit::new(RATE_LIMIT);
    while let Some(task) = shared.next_task() {
        let result = catch_unwind(AssertUnwindSafe(|| encode(&task.frame, task.form)));
        let failure = match result {
            Ok(Ok(jpeg)) => {
                shared.made(&task, Some(jpeg));
                continue;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the encoder panicked".to_owned(),
        };
        shared.made(&task, None);
        if let Some(suppressed) = warn.allow(task.stream.clone(), Instant::now()) {
            tracing::error!(camera = %task.stream, %failure, suppressed, "a frame could not be made a picture for the dashboard: this is a bug in Twinsight; detection goes on");
        }
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
