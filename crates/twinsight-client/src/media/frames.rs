//! Frames for the readers and handlers of a stream: the decode thread gives each frame, and each reader gets the freshest one when
//! it is ready for it. Frames that a reader had no time for are counted and never queued.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::{FutureExt, Stream};
use tokio::sync::watch;

use crate::hub::handlers::{HandlerId, HandlerTasks, call};
use crate::wakeup::Wakeup;
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
    missed: u64,
    wakeup: Wakeup,
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
            missed: 0,
            wakeup: Wakeup::default(),
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
    ///     println!("{}x{}, {} left out", frame.width(), frame.height(), frames.missed());
    /// }
    /// # }
    /// ```
    pub async fn recv(&mut self) -> Option<Frame> {
        loop {
            if let Poll::Ready(frame) = self.poll_freshest() {
                return frame;
            }
            self.latest.changed().await.ok()?;
        }
    }

    /// The freshest frame, if it was not given yet.
    fn poll_freshest(&mut self) -> Poll<Option<Frame>> {
        // Without the feed no frame can follow.
        let is_last = self.latest.has_changed().is_err();
        let latest = self.latest.borrow_and_update();
        if latest.closed {
            return Poll::Ready(None);
        }
        if latest.number > self.seen
            && let Some(frame) = latest.frame.clone()
        {
            self.missed += latest.number - self.seen - 1;
            self.seen = latest.number;
            return Poll::Ready(Some(frame));
        }
        if is_last {
            return Poll::Ready(None);
        }
        Poll::Pending
    }

    /// Frames that were decoded and not taken because fresher ones came.
    pub fn missed(&self) -> u64 {
        self.missed
    }
}

impl Stream for Frames {
    type Item = Frame;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Frame>> {
        let mut wakeup = std::mem::take(&mut self.wakeup);
        let arrival = |frames: &Self| {
            let mut latest = frames.latest.clone();
            async move {
                // An error is the end of the feed, which is an arrival too.
                let _ = latest.changed().await;
            }
            .boxed()
        };
        let polled = wakeup.poll(&mut *self, Self::poll_freshest, arrival, context);
        self.wakeup = wakeup;
        polled
    }
}

impl fmt::Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames")
            .field("seen", &self.seen)
            .field("missed", &self.missed)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use futures_util::StreamExt;
    use twinsight_media::picture::{Color, FrameTiming, PictureSize, PlanePool};

    use super::*;

    fn frame() -> Frame {
        let size = PictureSize {
            width_px: 2,
            height_px: 2,
        };
        let planes = PlanePool::new(1).acquire(size.i420_bytes());
        let now = Instant::now();
        let timing = FrameTiming {
            received_at: now,
            completed_at: now,
            decoded_at: now,
            rtp_timestamp: Default::default(),
            captured_at_unix_ms: None,
        };
        Frame::new(planes, size, Color::default(), timing)
    }

    #[tokio::test]
    async fn frames_are_a_stream_that_counts_what_it_missed() {
        let feed = FrameFeed::new();
        let mut frames = feed.frames();
        for _ in 0..3 {
            feed.give(frame());
        }
        assert!(frames.next().await.is_some());
        assert_eq!(frames.missed(), 2);
        let waiting = tokio::spawn(async move {
            let next = frames.next().await;
            (
                next.is_some(),
                frames.missed(),
                frames.next().await.is_none(),
            )
        });
        tokio::task::yield_now().await;
        feed.give(frame());
        tokio::task::yield_now().await;
        feed.close();
        let limit = std::time::Duration::from_secs(60);
        let read = tokio::time::timeout(limit, waiting).await.unwrap();
        assert_eq!(read.unwrap(), (true, 2, true));
    }
}
