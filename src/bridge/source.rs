//! A camera's pictures, wherever they come from. A configuration comes in; access units and changes of state go out to a
//! handler, for ever: a source that breaks off is tried again until it is closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};
use tracing::Instrument;

use super::{device, rtsp};
use crate::config::SourceConfig;
use twinsight_client::media::{LocalTrack, UnitTime};
use twinsight_media::label_enum;
use twinsight_media::picture::PictureSize;

/// What is kept for viewers that come is at most this large: 16 s of 4 Mbit/s.
const MAX_GOP_BYTES: usize = 8 << 20;

/// One access unit, as the camera encoded it.
#[derive(Debug, Clone)]
pub struct SourceUnit {
    /// The unit as a byte stream (Annex B). An IDR picture has its parameter sets in front.
    pub data: Bytes,
    /// True for an IDR picture.
    pub is_keyframe: bool,
    /// The camera's time in ticks of 90 kHz, which wraps.
    pub timestamp_90k: u32,
    /// When its first packet came.
    pub received_at: Instant,
    /// When it was whole.
    pub completed_at: Instant,
}

/// What a source tells.
#[derive(Debug, Clone)]
pub enum SourceEvent {
    /// An access unit. All units since the last keyframe came before it.
    Unit(SourceUnit),
    /// So many units were left out.
    Dropped(UnitLoss, u64),
    /// The source is in another state.
    State(SourceState),
}

label_enum! {
    /// Why a unit of a source is not passed on.
    pub enum UnitLoss {
        /// Packets of it were lost on the way from the camera.
        PacketsLost = "packets_lost",
        /// A unit that it builds on is missing, so it waits for the next keyframe.
        AwaitingKeyframe = "awaiting_keyframe",
        /// It has no picture that can be passed on.
        Malformed = "malformed",
    }
}

/// Where a source stands.
#[derive(Debug, Clone)]
pub enum SourceState {
    /// The camera is asked, for the so many-th time since it last gave pictures.
    Connecting {
        /// Counts from 1.
        attempt: u32,
    },
    /// Pictures come.
    Receiving(SourceFacts),
    /// There are none.
    Down {
        /// Why, as a sentence with its remedy. It holds no secret.
        reason: Arc<str>,
        /// Counts from 1.
        attempt: u32,
        /// When the camera is asked again.
        retry_in: Duration,
        /// The camera has said no, or sends what cannot be used, so that asking again does not help before something is changed.
        refused: bool,
    },
}

/// What a camera says of its pictures.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceFacts {
    /// Width and height, once they are known.
    pub size: Option<PictureSize>,
    /// Profile, constraints and level of the stream in hex, as SDP has them (RFC 6184 section 8.1).
    pub profile_level_id: Option<[u8; 3]>,
    /// Frames a second, if the camera says so.
    pub fps: Option<f64>,
}

/// A track for the pictures of a source. Few cameras make a keyframe when one is needed, so what came since the last one is kept for
/// viewers that come.
pub fn source_track() -> LocalTrack {
    LocalTrack::video("video").with_gop_cache(MAX_GOP_BYTES)
}

impl SourceEvent {
    /// Sends a unit to the track's viewers, and tells the track which H.264 it is. Other events change nothing.
    pub fn send_to(&self, track: &LocalTrack) {
        match self {
            Self::Unit(unit) => {
                let at = UnitTime::Camera {
                    timestamp_90k: unit.timestamp_90k,
                    received_at: unit.received_at,
                };
                track.send_unit_with(&unit.data, at);
            }
            Self::State(SourceState::Receiving(SourceFacts {
                profile_level_id: Some(profile_level_id),
                ..
            })) => track.set_profile_level_id(*profile_level_id),
            Self::Dropped(..) | Self::State(_) => {}
        }
    }
}

/// Takes what a source tells. It runs on the source's task and must not wait.
pub type SourceHandler = Box<dyn FnMut(SourceEvent) + Send>;

/// A source that runs. Dropping it ends it in the background.
#[derive(Debug)]
pub struct Source {
    stop: DropGuard,
    task: JoinHandle<()>,
    keyframes: KeyframeWish,
}

/// Whether a viewer needs a keyframe, as the source asks before each picture.
#[derive(Debug, Clone, Default)]
pub struct KeyframeWish(Arc<AtomicBool>);

impl KeyframeWish {
    /// Wants the next picture to be a keyframe.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Wants what the viewers of a track want, for as long as it is polled.
    pub async fn of_viewers(&self, track: &LocalTrack) {
        loop {
            track.keyframe_requested().await;
            self.ask();
        }
    }

    /// True once for each time that it is wanted, or for several.
    pub(super) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl Source {
    /// Asks a camera for its pictures, again and again. `camera` names it in the log. It needs a tokio runtime.
    pub fn open(camera: &str, config: SourceConfig, handler: SourceHandler) -> Self {
        let keyframes = KeyframeWish::default();
        let wanted = keyframes.clone();
        let mut source = Self::spawn(camera, |ended| async move {
            match config {
                SourceConfig::Rtsp(config) => rtsp::run(config, handler, ended).await,
                SourceConfig::Device(device) => device::run(device, wanted, handler, ended).await,
            }
        });
        source.keyframes = keyframes;
        source
    }

    /// Runs a source, which has to end when the future that it gets completes.
    pub fn spawn<R: Future<Output = ()> + Send + 'static>(
        camera: &str,
        run: impl FnOnce(WaitForCancellationFutureOwned) -> R,
    ) -> Self {
        let stop = CancellationToken::new();
        let span = tracing::info_span!("source", camera);
        let running = run(stop.clone().cancelled_owned());
        Self {
            stop: stop.drop_guard(),
            task: tokio::spawn(running.instrument(span)),
            keyframes: KeyframeWish::default(),
        }
    }

    /// Where it is asked for keyframes. IP cameras do not listen, and devices do whose pictures are encoded here.
    pub fn keyframes(&self) -> KeyframeWish {
        self.keyframes.clone()
    }

    /// Waits until its task has ended, which only a panic can cause while it is open.
    pub async fn ended(&mut self) {
        if self.task.is_finished() {
            return;
        }
        // A panic was logged where it happened.
        let _ = (&mut self.task).await;
    }

    /// True when its task is gone, which nothing but a panic brings about before [`close`](Self::close).
    pub fn is_gone(&self) -> bool {
        self.task.is_finished()
    }

    /// Ends it, and waits until it has let go of the camera.
    pub async fn close(self) {
        drop(self.stop);
        if self.task.is_finished() {
            return;
        }
        // A panic was logged where it happened.
        let _ = self.task.await;
    }
}
