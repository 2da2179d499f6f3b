//! Where the values of `[defaults]` and `[[cameras]]` came from.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::file::{CameraSection, DefaultsSection, File, Given, Origin};
use super::super::in_force::{EntryInForce, Level, SectionInForce};
use super::super::polygon::{Point, Polygon};
use super::super::scene::SceneConfig;
use super::super::source::{RtspTransport, SourceConfig};
use super::super::track::TrackConfig;
use super::super::values::CameraConfig;
use super::Origins;

impl Origins<'_> {
    pub(super) fn camera(&self, camera: &CameraConfig, section: &CameraSection) -> SectionInForce {
        let (rtsp, device) = match &camera.source {
            None => (None, None),
            Some(SourceConfig::Rtsp(rtsp)) => (Some(rtsp), None),
            Some(SourceConfig::Device(device)) => (None, Some(&device.path)),
        };
        let mut settings = self.file.defaults.clone();
        settings.overlay(&section.settings());
        let own = [
            ("twin_id", Value::from(camera.id.twin_id.as_ref())),
            ("name", camera.name.as_str().into()),
            ("rtsp", rtsp.map(|rtsp| rtsp.url.to_string()).into()),
            (
                "device",
                device.map(|device| device.display().to_string()).into(),
            ),
        ];
        let entries = own
            .into_iter()
            .chain(stream_values(camera))
            .chain(rtsp_values(camera.source.as_ref(), &settings))
            .chain(track_values(&camera.track))
            .chain(scene_values(&camera.scene))
            .map(|(key, value)| {
                // Lists say where they begin.
                let own = match key.strip_prefix("track.") {
                    Some(key) => section.track.origin(key).cloned(),
                    None => section.origin(key).cloned().or_else(|| {
                        let byte = match key {
                            "zones" => section.zones.first()?.span().start,
                            "lines" => section.lines.first()?.span().start,
                            "masks" => section.masks.first()?.span().start,
                            _ => return None,
                        };
                        Some(Origin::File(byte))
                    }),
                };
                let (origin, from) = match (own.as_ref(), defaults_origin(self.file, key)) {
                    (Some(own), _) => (Some(own), Level::Camera),
                    (None, Some(default)) => (Some(default), Level::Defaults),
                    (None, None) => (None, Level::BuiltIn),
                };
                let entry = EntryInForce {
                    from: Some(from),
                    ..self.entry(value, origin)
                };
                (key, entry)
            });
        SectionInForce(entries.collect())
    }
}

/// The settings that a camera may have of its own, in the order of the file.
pub(super) fn stream_values(camera: &CameraConfig) -> Vec<(&'static str, Value)> {
    let CameraConfig {
        id,
        name: _,
        model,
        connect,
        codecs,
        max_fps,
        max_age,
        min_score,
        classes,
        emit_empty,
        detections,
        motion,
        track: _,
        scene: _,
        dialect,
        allow_unsigned,
        source: _,
    } = camera;
    let codecs: Vec<&str> = codecs.iter().map(|codec| codec.as_str()).collect();
    // By way of its text 0.4 stays 0.4, which as a number of 64 bits it would not.
    let min_score: f64 = min_score.to_string().parse().unwrap_or_default();
    vec![
        ("model", model.as_str().into()),
        ("connect", connect.as_str().into()),
        ("stream", id.stream.as_ref().into()),
        ("codecs", json!(codecs)),
        ("max_fps", json!(max_fps)),
        ("max_age_ms", ms(*max_age)),
        ("min_score", json!(min_score)),
        ("classes", json!(classes)),
        ("emit_empty", (*emit_empty).into()),
        ("detections", detections.as_str().into()),
        ("motion", motion.mode.as_str().into()),
        ("motion_max_skip_ms", ms(motion.max_skip)),
        ("dialect", dialect.as_str().into()),
        ("allow_unsigned", (*allow_unsigned).into()),
    ]
}

/// How IP cameras are asked, as it is given or in force for one. The password is a secret, and the path of its file is none.
pub(super) fn rtsp_values(
    source: Option<&SourceConfig>,
    given: &DefaultsSection,
) -> [(&'static str, Value); 3] {
    let text = |given: &Option<Given<String>>| given.as_ref().map(|given| given.value.clone());
    let (user, transport) = match source {
        Some(SourceConfig::Rtsp(rtsp)) => (
            rtsp.credentials.as_ref().map(|who| who.user.clone()),
            Some(rtsp.transport.as_str().to_owned()),
        ),
        Some(SourceConfig::Device(_)) | None => {
            (text(&given.rtsp_user), text(&given.rtsp_transport))
        }
    };
    let transport = transport.unwrap_or_else(|| RtspTransport::Tcp.as_str().to_owned());
    [
        ("rtsp_user", user.into()),
        ("rtsp_password_file", text(&given.rtsp_password_file).into()),
        ("rtsp_transport", transport.into()),
    ]
}

pub(super) fn track_values(track: &TrackConfig) -> [(&'static str, Value); 5] {
    let TrackConfig {
        enabled,
        confirm,
        lost,
        stationary,
        update,
    } = track;
    [
        ("track.enabled", (*enabled).into()),
        ("track.confirm_ms", ms(*confirm)),
        ("track.lost_ms", ms(*lost)),
        ("track.stationary_ms", ms(*stationary)),
        ("track.update_ms", ms(*update)),
    ]
}

/// Zones, lines and masks as they are written in the file.
fn scene_values(scene: &SceneConfig) -> [(&'static str, Value); 3] {
    let SceneConfig {
        zones,
        lines,
        masks,
    } = scene;
    let point = |point: &Point| json!([point.x, point.y]);
    let points = |polygon: &Polygon| -> Value { polygon.corners().iter().map(point).collect() };
    let labels = |labels: &[Arc<str>]| -> Value { labels.iter().map(AsRef::as_ref).collect() };
    let zones = zones.iter().map(|zone| {
        json!({"name": &*zone.name, "points": points(&zone.polygon), "labels": labels(&zone.labels),
               "min_dwell_ms": ms(zone.min_dwell)})
    });
    let lines = lines.iter().map(|line| {
        json!({"name": &*line.name, "from": point(&line.from), "to": point(&line.to),
               "labels": labels(&line.labels)})
    });
    let masks = masks
        .iter()
        .map(|mask| json!({"points": points(&mask.polygon), "labels": labels(&mask.labels)}));
    [
        ("zones", zones.collect()),
        ("lines", lines.collect()),
        ("masks", masks.collect()),
    ]
}

/// Where a key of `[defaults]` or of `[defaults.track]` was given.
pub(super) fn defaults_origin<'a>(file: &'a File, key: &str) -> Option<&'a Origin> {
    match key.strip_prefix("track.") {
        Some(key) => file.defaults.track.origin(key),
        None => file.defaults.origin(key),
    }
}

fn ms(duration: Duration) -> Value {
    u64::try_from(duration.as_millis())
        .unwrap_or(u64::MAX)
        .into()
}
