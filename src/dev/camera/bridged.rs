//! Another camera's pictures: its units go to the track's viewers as they come.

use crate::bridge::source::{Source, SourceEvent, SourceState};
use crate::config::SourceConfig;
use twinsight_client::media::{LocalTrack, UnitTime};
use twinsight_client::realtime::warnings::allowed;

/// What is kept for viewers that come is at most this large: 16 s of 4 Mbit/s.
const MAX_GOP_BYTES: usize = 8 << 20;

/// The track of another camera, which cannot be asked for a keyframe.
pub(super) fn track() -> LocalTrack {
    LocalTrack::video("video").with_gop_cache(MAX_GOP_BYTES)
}

/// Asks the camera for its pictures, and sends them to the viewers of the track until the source is closed.
pub(super) fn open(name: &str, config: SourceConfig, track: &LocalTrack) -> Source {
    let track = track.clone();
    let handler = move |event| match event {
        SourceEvent::Unit(unit) => {
            let at = UnitTime::Camera {
                timestamp_90k: unit.timestamp_90k,
                received_at: unit.received_at,
            };
            track.send_unit_with(unit.data, at);
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
        SourceEvent::State(SourceState::Receiving(facts)) => {
            if let Some(profile_level_id) = facts.profile_level_id {
                track.set_profile_level_id(profile_level_id);
            }
        }
        // The source tells the log itself.
        SourceEvent::State(_) => {}
    };
    Source::open(name, config, Box::new(handler))
}
