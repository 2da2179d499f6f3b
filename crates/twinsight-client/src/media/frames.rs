//! Frames for the readers and handlers of a stream: the decode thread gives each frame, and each reader gets the freshest one when
//! it is ready for it. Frames that a reader had no time for are counted and never queued.

use std::fmt;

use tokio::sync::watch;

use crate::hub::handlers::{HandlerId, HandlerTasks, call};
use twinsight_media::picture::Frame;

/// The freshest frame, for any number of readers.
pub(super) struct FrameFeed {
    latest: watch::Sender<Numbered>,
    handlers: HandlerTasks,
}

/// A frame, and its number from 1.
#[derive(Debug, Clone, Default)]
struct Numbered {
    number: u64,
    frame: Option<Frame>,
    closed: bool,
}

/// The frames of a stream. A reader gets the freshest frame; older ones that it has not taken by then are skipped.
pub struct Frames {
    latest: watch::Receiver<Numbered>,
    seen: u64,
    skipped: u64,
}

impl FrameFeed {
    pub(super) fn new() -> Self {
        Self {
            latest: watch::Sender::new(Numbered::default()),
            handlers: HandlerTasks::default(),
        }
    }

    /// True while anybody reads.
    pub(super) fn is_wanted(&self) -> bool {
        self.latest.receiver_count() > 0
    }

    /// Takes a frame, on the decode thread.
    pub(super) fn give(&self, frame: Frame) {
        self.latest.send_if_modified(|latest| {
            latest.number += 1;
            latest.frame = Some(frame);
            true
        });
    }

    /// The frames from now on.
    pub(super) fn frames(&self) -> Frames {
        let mut latest = self.latest.subscribe();
        let seen = latest.borrow_and_update().number;
        Frames {
            latest,
            seen,
            skipped: 0,
        }
    }

    /// Calls a handler with the frames from now on, one call after the other.
    pub(super) fn on_frame<F, R>(&self, mut handler: F) -> HandlerId
    where
        F: FnMut(Frame) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let mut frames = self.frames();
        self.handlers.start(move |mut stopped| async move {
            loop {
                let frame = tokio::select! {
                    _ = &mut stopped => return,
                    frame = frames.recv() => frame,
                };
                let Some(frame) = frame else { return };
                call("frames", &mut handler, frame).await;
            }
        })
    }

    /// Takes a handler off; false if it is not registered.
    pub(super) fn off_frame(&self, handler: HandlerId) -> bool {
        self.handlers.stop(handler)
    }

    /// No frame comes any more.
    pub(super) fn close(&self) {
        self.latest.send_modify(|latest| {
            latest.closed = true;
            latest.frame = None;
        });
    }
}

impl Frames {
    /// Waits for a frame that this reader has not had, and gives the freshest. `None` once the stream is closed.
    ///
    /// ```no_run
    /// # async fn example(stream: twinsight_client::media::MediaStream) {
    /// let mut frames = stream.frames();
    /// while let Some(frame) = frames.recv().await {
    ///     println!("{}x{}, {} left out", frame.width(), frame.height(), frames.skipped());
    /// }
    /// # }
    /// ```
    pub async fn recv(&mut self) -> Option<Frame> {
        loop {
            {
                let latest = self.latest.borrow_and_update();
                if latest.closed {
                    return None;
                }
                if latest.number > self.seen
                    && let Some(frame) = latest.frame.clone()
                {
                    self.skipped += latest.number - self.seen - 1;
                    self.seen = latest.number;
                    return Some(frame);
                }
            }
            self.latest.changed().await.ok()?;
        }
    }

    /// How many frames were skipped because fresher ones came.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }
}

impl fmt::Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames")
            .field("seen", &self.seen)
            .field("skipped", &self.skipped)
            .finish_non_exhaustive()
    }
}
