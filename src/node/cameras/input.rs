//! Where the frames of a camera come from: by the hub from a twin, or straight from a camera that is none, in a node without a hub.
//! What a camera is opened with comes in, and frames and changes of state go out to the same handlers either way.

use tokio::sync::watch;

use crate::bridge::source::{Source, SourceEvent, SourceHandler, SourceState, UnitLoss};
use crate::config::SourceConfig;
use twinsight_client::media::camera::CameraStream;
use twinsight_client::media::direct::{DirectStream, SourceProgress, UnitInput};
use twinsight_client::media::stream_state::StreamState;
use twinsight_media::ledger::UnitDrop;

/// Opens the source of a camera. Tests have another one.
pub(super) type SourceOpener = fn(&str, SourceConfig, SourceHandler) -> Source;

/// The input of a camera, which [`close`](Self::close) ends.
#[derive(Debug)]
pub(super) enum CameraInput {
    /// The camera is a twin, which is met by the hub.
    Subscribed(CameraStream),
    /// Access units come straight from the camera.
    Direct {
        source: Source,
        stream: DirectStream,
    },
}

impl CameraInput {
    /// The state of the stream, with every change of it.
    pub(super) fn state(&self) -> watch::Receiver<StreamState> {
        match self {
            Self::Subscribed(stream) => stream.state(),
            Self::Direct { stream, .. } => stream.state(),
        }
    }

    /// True when one of its tasks is gone, which nothing but a panic brings about before [`close`](Self::close).
    pub(super) fn is_gone(&self) -> bool {
        match self {
            Self::Subscribed(stream) => stream.is_gone(),
            Self::Direct { source, stream } => source.is_gone() || stream.is_gone(),
        }
    }

    /// Closes the connection, ends decoding and waits for both. No frame comes after it.
    pub(super) async fn close(self) {
        match self {
            Self::Subscribed(stream) => stream.close().await,
            Self::Direct { source, stream } => {
                source.close().await;
                stream.close().await;
            }
        }
    }
}

/// Makes the handler that hands what a source tells to a stream.
pub(super) fn source_handler(mut input: UnitInput) -> SourceHandler {
    Box::new(move |event| match event {
        SourceEvent::Unit(unit) => input.unit(
            &unit.data,
            unit.timestamp_90k,
            unit.received_at,
            unit.completed_at,
        ),
        // The next unit builds on none of these, so that the decoder has nothing to wait for.
        SourceEvent::Dropped(reason, count) => input.lost(lost_as(reason), count),
        SourceEvent::State(state) => input.progress(progress(state)),
    })
}

fn lost_as(reason: UnitLoss) -> UnitDrop {
    match reason {
        UnitLoss::PacketsLost | UnitLoss::Malformed => UnitDrop::Incomplete,
        UnitLoss::AwaitingKeyframe => UnitDrop::AwaitingKeyframe,
    }
}

fn progress(state: SourceState) -> SourceProgress {
    match state {
        SourceState::Connecting { .. } => SourceProgress::Connecting,
        SourceState::Receiving(_) => SourceProgress::Connected,
        SourceState::Down {
            reason, refused, ..
        } => SourceProgress::Lost { reason, refused },
    }
}

#[cfg(test)]
#[path = "input_tests.rs"]
mod tests;
