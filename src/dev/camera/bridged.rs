//! Another camera's pictures: its units go to the track's viewers as they come.

use crate::bridge::source::{Source, SourceEvent};
use crate::config::SourceConfig;
use twinsight_client::media::LocalTrack;
use twinsight_client::realtime::warnings::allowed;

/// Asks the camera for its pictures, and sends them to the viewers of the track until the source is closed.
pub(super) fn open(name: &str, config: SourceConfig, track: &LocalTrack) -> Source {
    let track = track.clone();
    let handler = move |event: SourceEvent| {
        event.send_to(&track);
        // The source tells the log of its states itself.
        if let SourceEvent::Dropped(reason, units) = event
            && let Some(suppressed) = allowed("units of the camera are left out")
        {
            let reason = reason.as_str();
            tracing::debug!(
                reason,
                units,
                suppressed,
                "units of the camera are left out"
            );
        }
    };
    Source::open(name, config, Box::new(handler))
}
