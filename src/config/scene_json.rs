//! Zones, lines and masks as JSON, in the API's answers and in what is sent to change them. A [`SceneConfig`] comes in or JSON of a
//! client, and either can be compared with the other. Whether a scene that a client sent makes sense is for the checks of the
//! configuration to say.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::polygon::{Point, Polygon};
use super::scene::{LineConfig, MaskConfig, SceneConfig, ZoneConfig};

/// The zones, lines and masks of a camera stream.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SceneJson {
    /// Regions that tell what is in them.
    pub zones: Vec<ZoneJson>,
    /// Lines that count what crosses them.
    pub lines: Vec<LineJson>,
    /// Regions in which nothing is detected.
    pub masks: Vec<MaskJson>,
}

/// A zone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ZoneJson {
    /// No two zones of a camera have the same.
    pub name: String,
    /// Corners in parts of the picture, from 0 to 1.
    pub points: Vec<[f64; 2]>,
    /// The labels that count; none means all.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Who is in the zone for this long counts.
    #[serde(default)]
    pub min_dwell_ms: u64,
}

/// A line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LineJson {
    /// No two lines of a camera have the same.
    pub name: String,
    /// Where its arrow begins, in parts of the picture.
    pub from: [f64; 2],
    /// Where its arrow ends.
    pub to: [f64; 2],
    /// The labels that count; none means all.
    #[serde(default)]
    pub labels: Vec<String>,
}

/// A mask.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskJson {
    /// Corners in parts of the picture, from 0 to 1.
    pub points: Vec<[f64; 2]>,
    /// The labels that are dropped; none means all.
    #[serde(default)]
    pub labels: Vec<String>,
}

impl SceneJson {
    /// With numbers of four decimals, which is a tenth of a pixel or so: more of them is only noise in a file that people read.
    #[must_use]
    pub fn rounded(mut self) -> Self {
        let polygons = self.zones.iter_mut().map(|zone| &mut zone.points);
        let polygons = polygons.chain(self.masks.iter_mut().map(|mask| &mut mask.points));
        let points = polygons.flatten();
        let ends = self
            .lines
            .iter_mut()
            .flat_map(|line| [&mut line.from, &mut line.to]);
        for number in points.chain(ends).flatten() {
            *number = (*number * 1e4).round() / 1e4;
        }
        self
    }

    /// A text that differs where scenes differ, so that whoever changes one can say which they saw.
    ///
    /// # Panics
    /// Never: it has nothing that JSON cannot have.
    pub fn tag(&self) -> String {
        let json = serde_json::to_vec(self).expect(
            "a scene becomes JSON, because it has only texts and numbers, and one that is none becomes null",
        );
        let hash = Sha256::digest(json);
        hash[..8].iter().fold(String::new(), |mut tag, byte| {
            let _ = write!(tag, "{byte:02x}");
            tag
        })
    }
}

impl From<&SceneConfig> for SceneJson {
    fn from(scene: &SceneConfig) -> Self {
        Self {
            zones: scene.zones.iter().map(ZoneJson::from).collect(),
            lines: scene.lines.iter().map(LineJson::from).collect(),
            masks: scene.masks.iter().map(MaskJson::from).collect(),
        }
    }
}

impl From<&ZoneConfig> for ZoneJson {
    fn from(zone: &ZoneConfig) -> Self {
        Self {
            name: zone.name.to_string(),
            points: points(&zone.polygon),
            labels: labels(&zone.labels),
            min_dwell_ms: ms(zone.min_dwell),
        }
    }
}

impl From<&LineConfig> for LineJson {
    fn from(line: &LineConfig) -> Self {
        Self {
            name: line.name.to_string(),
            from: point(&line.from),
            to: point(&line.to),
            labels: labels(&line.labels),
        }
    }
}

impl From<&MaskConfig> for MaskJson {
    fn from(mask: &MaskConfig) -> Self {
        Self {
            points: points(&mask.polygon),
            labels: labels(&mask.labels),
        }
    }
}

fn points(polygon: &Polygon) -> Vec<[f64; 2]> {
    polygon.corners().iter().map(point).collect()
}

fn point(point: &Point) -> [f64; 2] {
    [point.x, point.y]
}

fn labels(labels: &[Arc<str>]) -> Vec<String> {
    labels.iter().map(ToString::to_string).collect()
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
