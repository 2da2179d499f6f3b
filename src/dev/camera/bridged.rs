//! Another camera's pictures: its units go to the track's viewers as they come.

use crate::bridge::source::{Source, SourceEvent};
use crate::config::SourceConfig;
use twinsight_client::media::LocalTrack;
use twinsight_client::realtime::warnings::allowed;

/// Asks the camera for its pictures, and sends them to the viewers of the track until the source is closed.
pub(super) fn open(name: &str, config: SourceConfig, track: &LocalTrack) -> Source {
    let track = track.clone();
    let handler = move |event| match event {
        SourceEvent::Unit(unit) => {
            // The camera sends keyframes when it wants to, and nobody can ask it for one.
            track.take_keyframe_request();
            track.send_unit_at(unit.data, unit.received_at);
        }
        SourceEvent::Dropped(reason, units) => {
            if let Some(suppressed) = allowed("units of the camera are left out") {
                let reason = reason.as_str();
                tracing::debug!(
                    reason,
                    units,
                    suppressed,
                    "units of the camera are left out"
                );
            }
        }
        // The source tells the log itself.
        SourceEvent::State(_) => {}
    };
    Source::open(name, config, Box::new(handler))
}
