//! Pictures for people who watch. An inferred frame comes in with what was seen on it; a JPEG of the size that is shown goes out
//! to whoever watches its camera, a few times a second. Nothing is copied, encoded or kept while nobody watches. One thread
//! of the lowest priority encodes; `core` says who wants what, `encode` makes a picture.

mod core;
mod encode;
mod inbox;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use self::core::{PendingFrame, PreviewCore, Wanted};
use self::encode::encode;
use self::inbox::Inbox;
use crate::detect::{ModelInfo, Object};
use crate::telemetry::metrics::Metrics;
use twinsight_client::stream_id::StreamId;
use twinsight_client::thread::{Joined, ThreadError, try_spawn_named};
use twinsight_media::picture::{Frame, PictureSize};

/// At most this many watch at once.
pub const MAX_WATCHERS: usize = 32;

/// At most this many cameras may be watched by one watcher.
pub const MAX_CAMERAS: usize = 64;

/// At most this many pictures of a camera a second for each watcher.
pub const MAX_FPS: f64 = 5.0;

/// The widths of pictures. What is asked for is rounded up to one of them.
const WIDTHS_PX: [usize; 8] = [160, 240, 320, 480, 640, 960, 1280, 1920];

/// What a watcher wants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WatchOptions {
    /// The width at which pictures are shown. They are about as wide, and never wider than the frame. `None` takes the frame's.
    pub width_px: Option<usize>,
    /// Whether objects are drawn on the pictures.
    pub boxes: bool,
    /// At most this many pictures of a camera a second; more than [`MAX_FPS`] are not given.
    pub max_fps: f64,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self {
            width_px: None,
            boxes: false,
            max_fps: MAX_FPS,
        }
    }
}

impl WatchOptions {
    fn interval(self) -> Duration {
        // NaN and what is no rate are the most that is given.
        let fps = if self.max_fps > 0.0 {
            self.max_fps
        } else {
            MAX_FPS
        };
        Duration::from_secs_f64(1.0 / fps.clamp(0.01, MAX_FPS))
    }

    fn form(self) -> Form {
        let width = self.width_px.and_then(|width| {
            let fits = |each: &&usize| **each >= width;
            WIDTHS_PX.iter().find(fits).copied()
        });
        Form {
            max_width_px: width.unwrap_or(usize::MAX),
            boxes: self.boxes,
        }
    }
}

/// The form of a picture. Watchers who want the same one share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    max_width_px: usize,
    boxes: bool,
}

/// A picture of a camera.
#[derive(Debug, Clone)]
pub struct Picture {
    /// The camera.
    pub id: StreamId,
    /// The file.
    pub jpeg: Bytes,
    /// The number of the event that tells what was seen on it. `None` if the frame had no event.
    pub sequence: Option<u64>,
    /// The size of the frame, in whose pixels the event's boxes are. The picture may be smaller.
    pub frame_size: PictureSize,
}

/// Why nobody more may watch.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// As many watch already as may.
    #[error("{MAX_WATCHERS} others watch pictures already: close one of them, or ask again later")]
    TooMany,
    /// The system grants no thread for it.
    #[error(transparent)]
    Thread(#[from] ThreadError),
    /// The node stops.
    #[error("the node stops")]
    Closed,
}

/// The pictures of a node. Clones share them.
#[derive(Debug, Clone)]
pub struct Previews {
    shared: Arc<PreviewState>,
}

#[derive(Debug)]
struct PreviewState {
    metrics: Arc<Metrics>,
    /// How many watch. The path of a frame reads it without a lock.
    watchers: AtomicUsize,
    work: Mutex<Work>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Work {
    core: PreviewCore,
    thread: Option<Joined>,
    closed: bool,
}

/// Somebody who watches cameras. Dropping it ends that.
#[derive(Debug)]
pub struct Watch {
    previews: Previews,
    id: u64,
    inbox: Arc<Inbox>,
}

impl Previews {
    /// Nobody watches yet, and no thread runs.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            shared: Arc::new(PreviewState {
                metrics,
                watchers: AtomicUsize::new(0),
                work: Mutex::default(),
                changed: Condvar::new(),
            }),
        }
    }

    /// Hands over a frame that was inferred. It is called on the worker's thread, and costs one reading of a number while nobody
    /// watches. `seen` is asked only if somebody wants objects drawn.
    pub(crate) fn offer(
        &self,
        id: &StreamId,
        frame: &Frame,
        sequence: Option<u64>,
        seen: impl FnOnce() -> (Vec<Object>, ModelInfo),
    ) {
        if self.shared.watchers.load(Ordering::Relaxed) == 0 {
            return;
        }
        let now = Instant::now();
        let mut work = self.shared.work.lock();
        let Some(wants_boxes) = work.core.is_due(id, now) else {
            return;
        };
        let pending = PendingFrame {
            frame: frame.clone(),
            sequence,
            seen: wants_boxes.then(seen),
        };
        let was_replaced = work.core.offer(id, pending, now);
        drop(work);
        if was_replaced {
            self.shared.metrics.pictures_skipped.inc();
        }
        self.shared.changed.notify_one();
    }

    /// Watches a camera.
    ///
    /// # Errors
    /// When there are too many watchers, or the system grants no thread.
    pub fn watch(&self, id: &StreamId, options: WatchOptions) -> Result<Watch, WatchError> {
        self.watch_many(vec![id.clone()], options)
    }

    /// Watches several cameras, of which no more than [`MAX_CAMERAS`] are taken.
    ///
    /// # Errors
    /// When there are too many watchers, or the system grants no thread.
    pub fn watch_many(
        &self,
        mut ids: Vec<StreamId>,
        options: WatchOptions,
    ) -> Result<Watch, WatchError> {
        ids.truncate(MAX_CAMERAS);
        let mut work = self.shared.work.lock();
        if work.closed {
            return Err(WatchError::Closed);
        }
        if self.watchers() >= MAX_WATCHERS {
            self.shared.metrics.watchers_refused.inc();
            return Err(WatchError::TooMany);
        }
        if work.thread.is_none() {
            let shared = Arc::clone(&self.shared);
            let thread = try_spawn_named("preview", move || run(&shared))
                .map_err(|error| ThreadError::new("preview", error))?;
            work.thread = Some(thread);
        }
        let inbox = Arc::new(Inbox::new(ids.len()));
        let id = work
            .core
            .add(&ids, options.form(), options.interval(), &inbox);
        self.shared.watchers.fetch_add(1, Ordering::Relaxed);
        self.count();
        Ok(Watch {
            previews: self.clone(),
            id,
            inbox,
        })
    }

    /// How many watch.
    pub fn watchers(&self) -> usize {
        self.shared.watchers.load(Ordering::Relaxed)
    }

    /// Ends the thread. Nobody gets a picture after this.
    pub(crate) fn close(&self) {
        let thread = {
            let mut work = self.shared.work.lock();
            work.closed = true;
            work.thread.take()
        };
        self.shared.changed.notify_all();
        if let Some(thread) = thread {
            thread.join();
        }
    }

    fn count(&self) {
        let watchers = i64::try_from(self.watchers()).unwrap_or(i64::MAX);
        self.shared.metrics.picture_watchers.set(watchers);
    }
}

impl Watch {
    /// Waits for the next picture, of whichever camera has had one waiting for the longest. It is always that camera's newest.
    pub async fn next(&mut self) -> Picture {
        self.inbox.next().await
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.previews.shared.work.lock().core.remove(self.id);
        self.previews
            .shared
            .watchers
            .fetch_sub(1, Ordering::Relaxed);
        self.previews.count();
    }
}

/// The thread that encodes.
fn run(shared: &PreviewState) {
    /// It takes only what all others leave.
    const NICE: i32 = 19;
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "the thread of previews keeps its priority");
    }
    loop {
        let (id, pending, wanted) = {
            let mut work = shared.work.lock();
            loop {
                if work.closed {
                    return;
                }
                if let Some(taken) = work.core.take() {
                    break taken;
                }
                shared.changed.wait(&mut work);
            }
        };
        for Wanted { form, inboxes } in wanted {
            let made = catch_unwind(AssertUnwindSafe(|| encode(&pending, form)));
            let Ok(jpeg) = made else {
                shared.metrics.pictures_failed.inc();
                continue;
            };
            shared.metrics.pictures_encoded.inc();
            for (inbox, at) in inboxes {
                let was_replaced = inbox.put(
                    at,
                    Picture {
                        id: id.clone(),
                        jpeg: jpeg.clone(),
                        sequence: pending.sequence,
                        frame_size: pending.frame.size(),
                    },
                );
                if was_replaced {
                    shared.metrics.pictures_skipped.inc();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::encode::tests::grey;
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn id(twin: &str) -> StreamId {
        StreamId::new(twin, "default")
    }

    fn nothing() -> (Vec<Object>, ModelInfo) {
        panic!("nobody wants objects")
    }

    async fn next(watch: &mut Watch) -> Picture {
        tokio::time::timeout(LIMIT, watch.next()).await.unwrap()
    }

    #[tokio::test]
    async fn a_watcher_gets_the_frame_with_its_number_at_the_width_that_is_shown() {
        let previews = Previews::new(Arc::new(Metrics::new()));
        let options = WatchOptions {
            width_px: Some(300),
            ..WatchOptions::default()
        };
        let mut watch = previews.watch(&id("a"), options).unwrap();
        previews.offer(&id("b"), &grey(640, 360), Some(1), nothing);
        previews.offer(&id("a"), &grey(640, 360), Some(7), nothing);
        let picture = next(&mut watch).await;
        assert_eq!((picture.id, picture.sequence), (id("a"), Some(7)));
        assert_eq!(picture.frame_size.width_px, 640);
        let image = image::load_from_memory(&picture.jpeg).unwrap();
        assert_eq!((image.width(), image.height()), (320, 180));
        previews.close();
    }

    #[tokio::test]
    async fn nobody_who_watches_means_no_work_and_no_thread() {
        let previews = Previews::new(Arc::new(Metrics::new()));
        previews.offer(&id("a"), &grey(64, 36), Some(1), nothing);
        assert!(previews.shared.work.lock().thread.is_none());
        drop(previews.watch(&id("a"), WatchOptions::default()).unwrap());
        previews.offer(&id("a"), &grey(64, 36), Some(1), nothing);
        assert!(previews.shared.work.lock().core.take().is_none());
    }

    #[tokio::test]
    async fn who_is_slow_gets_the_newest_of_each_camera() {
        let metrics = Arc::new(Metrics::new());
        let previews = Previews::new(Arc::clone(&metrics));
        let both = vec![id("a"), id("b")];
        let mut slow = previews.watch_many(both, WatchOptions::default()).unwrap();
        for sequence in 1..=3 {
            for twin in ["a", "b"] {
                previews.offer(&id(twin), &grey(64, 36), Some(sequence), nothing);
            }
            let deadline = Instant::now() + LIMIT;
            while metrics.pictures_encoded.get() < 2 * sequence {
                assert!(Instant::now() < deadline);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            previews.shared.work.lock().core.forget_pace();
        }
        let first = next(&mut slow).await;
        let second = next(&mut slow).await;
        assert_eq!((first.sequence, second.sequence), (Some(3), Some(3)));
        assert_ne!(first.id, second.id);
        assert!(slow.next().now_or_never().is_none());
        assert_eq!(metrics.pictures_skipped.get(), 4);
    }

    #[tokio::test]
    async fn watchers_are_bounded_and_counted() {
        let metrics = Arc::new(Metrics::new());
        let previews = Previews::new(Arc::clone(&metrics));
        let watch = || previews.watch(&id("a"), WatchOptions::default());
        let mut all: Vec<_> = (0..MAX_WATCHERS).map(|_| watch().unwrap()).collect();
        assert!(matches!(watch(), Err(WatchError::TooMany)));
        assert_eq!(metrics.watchers_refused.get(), 1);
        all.pop();
        drop(watch().unwrap());
        all.clear();
        assert_eq!(metrics.picture_watchers.get(), 0);
        previews.close();
        assert!(matches!(watch(), Err(WatchError::Closed)));
    }

    #[test]
    fn widths_are_rounded_up_and_rates_have_a_bound() {
        let form = |width_px| {
            let options = WatchOptions {
                width_px,
                ..WatchOptions::default()
            };
            options.form().max_width_px
        };
        let widths = [Some(0), Some(160), Some(161), Some(1920), Some(9999), None].map(form);
        assert_eq!(widths, [160, 160, 240, 1920, usize::MAX, usize::MAX]);
        let interval = |max_fps| {
            let options = WatchOptions {
                max_fps,
                ..WatchOptions::default()
            };
            options.interval()
        };
        for fps in [f64::NAN, 0.0, -1.0, 5.0, 1e9, f64::INFINITY] {
            assert_eq!(interval(fps), Duration::from_millis(200), "{fps}");
        }
        assert_eq!(interval(1.0), Duration::from_secs(1));
        assert_eq!(interval(1e-9), Duration::from_secs(100));
    }
}
