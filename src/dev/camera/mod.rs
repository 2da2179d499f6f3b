//! A camera twin: sends a clip as it is, a picture, a test pattern or what an IP camera sends, to every viewer
//! that dials it, or dials one node itself. All viewers share one track; a keyframe request is answered
//! with the next frame, where the camera makes its frames itself. It outlives the hub and its viewers: it goes on where
//! they come back.

mod bridged;
pub mod encode;
pub mod pattern;
mod source;

use std::pin::pin;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, MissedTickBehavior, interval};

pub use self::source::CameraSource;
use self::source::{Feed, OwnSource};
use crate::bridge::source::source_track;
use twinsight_client::hub::{ConnectionChange, HubClient, HubError, HubStatus};
use twinsight_client::media::{AcceptStreamsOptions, LocalTrack, MediaStreamOptions};
use twinsight_client::realtime::ice::IceSettings;
use twinsight_client::realtime::names::shortened;
use twinsight_client::realtime::warnings::allowed;

/// The slowest camera, with a frame in a quarter of an hour, and the fastest.
const MIN_FPS: f64 = 0.001;
const MAX_FPS: f64 = 240.0;

/// What a camera twin sends, and to whom.
#[derive(Debug, Clone)]
pub struct CameraOptions {
    /// The stream's name.
    pub stream: String,
    /// The node to dial; none: wait for viewers.
    pub dial: Option<String>,
    /// Frames a second, unless another camera decides about them.
    pub fps: f64,
    /// Access unit of a clip to begin with, so that several cameras show different scenes.
    pub start: usize,
    /// How connections find their way.
    pub ice: IceSettings,
}

/// Sends until the hub refuses the camera, or the future is dropped. The hub may be away at the start
/// and later.
///
/// # Errors
/// When the hub refuses the camera's twin, or the client was closed.
pub async fn run(
    hub: HubClient,
    source: impl Into<CameraSource>,
    options: CameraOptions,
) -> Result<()> {
    serve(hub, source.into(), options, std::future::pending()).await
}

/// Sends as [`run`] does until `stop` comes, and lets go of the camera that the pictures come from.
///
/// # Errors
/// As [`run`].
pub async fn run_until(
    hub: HubClient,
    source: impl Into<CameraSource>,
    options: CameraOptions,
    stop: impl Future<Output = ()>,
) -> Result<()> {
    serve(hub, source.into(), options, stop).await
}

async fn serve(
    hub: HubClient,
    source: CameraSource,
    options: CameraOptions,
    stop: impl Future<Output = ()>,
) -> Result<()> {
    let mut stop = pin!(stop);
    check_fps(options.fps)?;
    tokio::select! {
        joined = hub.joined() => { joined?; }
        () = &mut stop => return Ok(()),
    }
    let instance = hub.instance();
    let video = match &source {
        CameraSource::Bridged(_) => source_track(),
        // What a viewer asks for comes with the next frame, however many there are in a second.
        CameraSource::Clip(_) | CameraSource::Pictures(_) => {
            LocalTrack::video("video").with_keyframe_interval(Duration::ZERO)
        }
    };
    let stream = MediaStreamOptions::sending([video.clone()])
        .named(&options.stream)
        .with_ice(options.ice.clone());
    let (_dialled, _acceptor) = match &options.dial {
        Some(node) => (Some(instance.open_media_stream(node, stream)?), None),
        None => {
            let options = AcceptStreamsOptions::from(stream);
            let acceptor = instance.accept_media_streams(options, |_| std::future::ready(()))?;
            (None, Some(acceptor))
        }
    };
    let own = match source {
        CameraSource::Clip(clip) => OwnSource::Clip(clip),
        CameraSource::Pictures(pictures) => OwnSource::Pictures(pictures),
        CameraSource::Bridged(config) => {
            let source = bridged::open(&hub.instance().twin_id(), config, &video);
            let keyframes = source.keyframes();
            let result = tokio::select! {
                () = keyframes.of_viewers(&video) => Ok(()),
                () = log_connections(&hub, &options) => Err(HubError::Closed.into()),
                error = refusal(hub.clone()) => Err(error.into()),
                () = &mut stop => Ok(()),
            };
            source.close().await;
            return result;
        }
    };
    tokio::select! {
        result = send(&video, &own, &options) => result,
        () = &mut stop => Ok(()),
        () = log_connections(&hub, &options) => Err(HubError::Closed.into()),
        error = refusal(hub.clone()) => Err(error.into()),
    }
}

/// Refuses what no camera sends.
///
/// # Errors
/// For anything but a number from 0.001 to 240.
pub fn check_fps(fps: f64) -> Result<()> {
    if !(MIN_FPS..=MAX_FPS).contains(&fps) {
        bail!("a camera sends {MIN_FPS} to {MAX_FPS} frames a second");
    }
    Ok(())
}

/// Waits for the hub's refusal, which may come at any reconnect.
async fn refusal(hub: HubClient) -> HubError {
    let mut status = hub.status();
    let refused = status
        .wait_for(|status| matches!(status, HubStatus::Refused { .. }))
        .await;
    match refused.as_deref() {
        Ok(HubStatus::Refused { reason }) => HubError::Refused {
            reason: reason.clone(),
        },
        _ => HubError::Closed,
    }
}

/// Sends the source's frames while there are viewers. The first of them sees it from its beginning.
async fn send(video: &LocalTrack, source: &OwnSource, options: &CameraOptions) -> Result<()> {
    let mut frame_due = interval(Duration::from_secs_f64(1.0 / options.fps));
    frame_due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut feed = None;
    loop {
        let at = tokio::select! {
            at = frame_due.tick() => at,
            // At a frame in a quarter of an hour, a viewer that comes is not to wait for its first.
            () = video.viewer_joined() => {
                frame_due.reset();
                Instant::now()
            }
        };
        if video.viewers() == 0 {
            feed = None;
            continue;
        }
        let feed = match &mut feed {
            Some(feed) => feed,
            none => none.insert(Feed::new(source, options.start, options.fps)?),
        };
        let unit = feed.next(video.take_keyframe_request()).await?;
        video.send_unit_at(unit, at.into_std());
    }
}

/// Says in the log how the connections go, until the hub's client is closed.
async fn log_connections(hub: &HubClient, options: &CameraOptions) {
    let mut events = hub.connection_events();
    while let Some(event) = events.recv().await {
        let twin = shortened(&event.target_twin_id);
        match (event.change, &options.dial) {
            (ConnectionChange::Disconnected, Some(_)) => {
                tracing::info!(node = twin, "the node is gone: it is dialled again");
            }
            (ConnectionChange::Disconnected, None) => {
                if let Some(suppressed) = allowed("a viewer is gone") {
                    tracing::info!(viewer = twin, suppressed, "a viewer is gone");
                }
            }
            (ConnectionChange::Error { reason }, Some(_)) => {
                if let Some(suppressed) = allowed("the node was not reached") {
                    tracing::warn!(node = twin, reason, suppressed, "the node was not reached");
                }
            }
            (ConnectionChange::Error { reason }, None) => {
                if let Some(suppressed) = allowed("a viewer was lost") {
                    tracing::warn!(viewer = twin, reason, suppressed, "a viewer was lost");
                }
            }
            _ => {}
        }
    }
}
