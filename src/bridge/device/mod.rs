//! Video devices of this machine (V4L2). Which device and how large its pictures are to be comes in; its access units and what
//! becomes of it go out. A thread of each device asks it again and again: `session` is one time of asking, `v4l2` the calls of the
//! kernel, `pictures` makes units of pictures (`pixels`, `huffman` and `h264` are its parts), and `error` has a sentence for
//! everything that goes wrong.
//!
//! Everything but `v4l2` is tested with a device that gives pictures of memory. `v4l2` itself was compared with the C header,
//! and has not met a device yet.

mod capture;
mod error;
mod h264;
mod huffman;
mod pictures;
mod pixels;
mod session;
mod v4l2;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel};
use std::time::{Duration, Instant};

use self::capture::Capture;
use self::error::DeviceError;
use self::session::Session;
use self::v4l2::V4l2Device;
use crate::bridge::source::{KeyframeWish, SourceEvent, SourceHandler, SourceState};
use crate::config::DeviceConfig;
use crate::telemetry::health::panic_message;
use twinsight_client::backoff::Backoff;
use twinsight_client::thread::try_spawn_named;

/// The first pause before a device is asked again, and the longest. A camera that is plugged in again is there soon.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Opens a device. The tests have another one.
type Open = Box<dyn Fn(&Path) -> io::Result<Box<dyn Capture>> + Send>;

/// Takes pictures of a device until `stop` comes, and tells the handler what it gives.
pub(super) async fn run(
    config: DeviceConfig,
    wish: KeyframeWish,
    handler: SourceHandler,
    stop: impl Future<Output = ()> + Send,
) {
    let open: Open = Box::new(|path| Ok(Box::new(V4l2Device::open(path)?)));
    run_with(config, wish, handler, open, stop).await;
}

async fn run_with(
    config: DeviceConfig,
    wish: KeyframeWish,
    handler: SourceHandler,
    open: Open,
    stop: impl Future<Output = ()> + Send,
) {
    let (stopping, stopped) = channel::<()>();
    let name = config.path.file_name().unwrap_or_default();
    let name = format!("v4l-{}", name.to_string_lossy());
    let path = config.path.clone();
    let span = tracing::Span::current();
    let mut worker = Worker {
        config,
        wish,
        handler,
        open,
        stopped,
    };
    match try_spawn_named(name, move || span.in_scope(|| worker.run())) {
        Ok(thread) => {
            // It is dropped before the thread if this task is dropped here, and so ends the thread, which is waited for then.
            let stopping = stopping;
            stop.await;
            drop(stopping);
            // It ends within a fraction of a second, which no task is to wait for.
            let _ = tokio::task::spawn_blocking(move || drop(thread)).await;
        }
        Err(error) => {
            let reason = DeviceError::NoThread(path);
            tracing::error!(%reason, %error, "the camera gives no pictures");
            stop.await;
        }
    }
}

/// What the thread of a device has.
struct Worker {
    config: DeviceConfig,
    wish: KeyframeWish,
    handler: SourceHandler,
    open: Open,
    /// Disconnected when the thread is to end.
    stopped: Receiver<()>,
}

impl Worker {
    fn run(&mut self) {
        let begun = Instant::now();
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut attempt = 0_u32;
        let mut last_reason: Option<Arc<str>> = None;
        loop {
            attempt = attempt.saturating_add(1);
            (self.handler)(SourceEvent::State(SourceState::Connecting { attempt }));
            let mut session = Session {
                config: &self.config,
                wish: &self.wish,
                handler: &mut self.handler,
                begun,
                has_received: false,
            };
            let (open, stopped, path) = (&self.open, &self.stopped, &self.config.path);
            let is_stopped = || stopped.try_recv() == Err(TryRecvError::Disconnected);
            let ended = catch_unwind(AssertUnwindSafe(|| {
                let opened = open(path).map_err(|error| DeviceError::of(path, "open it", error));
                opened.and_then(|mut device| session.run(&mut *device, &is_stopped))
            }));
            let has_received = session.has_received;
            let error = match ended {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error,
                Err(panic) => {
                    let message = panic_message(panic.as_ref());
                    tracing::error!(
                        message,
                        "the pictures of a video device made this program panic: this is a bug, please report it with the camera's model"
                    );
                    DeviceError::Panicked(path.clone())
                }
            };
            if has_received {
                backoff.reset();
                attempt = 1;
            }
            let retry_in = backoff.next_delay(rand::random());
            let reason: Arc<str> = error.to_string().into();
            if last_reason.as_ref() != Some(&reason) || attempt.is_power_of_two() {
                let retry_in_ms = retry_in.as_millis();
                tracing::warn!(%reason, attempt, retry_in_ms, "the camera gives no pictures");
            }
            last_reason = Some(Arc::clone(&reason));
            (self.handler)(SourceEvent::State(SourceState::Down {
                reason,
                attempt,
                retry_in,
                refused: error.is_refusal(),
            }));
            if has_received {
                attempt = 0;
            }
            if self.stopped.recv_timeout(retry_in) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
