//! What a camera's picture is divided into: zones, lines and masks, in parts of the picture from 0 to 1. The checks of the
//! configuration make them, and `track` judges by them.

use std::sync::Arc;
use std::time::Duration;

use super::error::ConfigError;
use super::file::{CameraSection, Given, Origin};
use super::polygon::{Point, Polygon, PolygonError};
use super::resolve::Resolver;
use super::shown::shown;

/// The most zones, lines and masks of each kind that a camera has.
const MAX_PARTS: usize = 32;

/// The longest name of a zone or a line, in characters.
const MAX_NAME: usize = 64;

/// The longest list of labels of a part.
const MAX_LABELS: usize = 64;

/// The zones, lines and masks of one camera stream.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SceneConfig {
    /// Regions that tell what is in them. No two have the same name.
    pub zones: Vec<ZoneConfig>,
    /// Lines that count what crosses them. No two have the same name.
    pub lines: Vec<LineConfig>,
    /// Regions in which nothing is detected.
    pub masks: Vec<MaskConfig>,
}

/// A region that tells what is in it.
#[derive(Debug, Clone, PartialEq)]
pub struct ZoneConfig {
    /// Its name in events, metrics and on the dashboard.
    pub name: Arc<str>,
    /// The region. Who stands in it with the bottom centre of the box is in the zone.
    pub polygon: Polygon,
    /// The labels that count; none means all.
    pub labels: Vec<Arc<str>>,
    /// Who is in the region for this long is in the zone.
    pub min_dwell: Duration,
}

/// A line that counts what crosses it.
#[derive(Debug, Clone, PartialEq)]
pub struct LineConfig {
    /// Its name in events, metrics and on the dashboard.
    pub name: Arc<str>,
    /// Where its arrow begins. What crosses from the left of the arrow to its right goes `in`.
    pub from: Point,
    /// Where its arrow ends.
    pub to: Point,
    /// The labels that count; none means all.
    pub labels: Vec<Arc<str>>,
}

/// A region in which detections are dropped, which is judged at the bottom centre of the box as for a zone.
#[derive(Debug, Clone, PartialEq)]
pub struct MaskConfig {
    /// The region.
    pub polygon: Polygon,
    /// The labels that are dropped; none means all.
    pub labels: Vec<Arc<str>>,
}

impl Resolver<'_> {
    /// Checks the zones, lines and masks of a camera. One that is wrong is noted and left out.
    pub(super) fn scene(&self, camera: &CameraSection) -> SceneConfig {
        let twin = camera.twin_id.as_ref().map_or("", |given| &given.value);
        let mut scene = SceneConfig::default();
        for (n, spanned) in camera.zones.iter().enumerate() {
            let (zone, at) = (spanned.get_ref(), Origin::File(spanned.span().start));
            let part = Part {
                twin,
                kind: "zone",
                table: "cameras.zones",
                at: &at,
            };
            if n == MAX_PARTS {
                self.note(self.too_many_parts(&part, camera.zones.len()));
                break;
            }
            let names = scene.zones.iter().map(|zone| &zone.name);
            let name = self.part_name(&part, zone.name.as_ref(), names);
            let polygon = self.polygon(&part, name.as_deref(), zone.points.as_ref());
            let labels = self.labels(&part, zone.labels.as_ref());
            let key = "cameras.zones.min_dwell_ms";
            let given = zone.min_dwell_ms.as_ref();
            let min_dwell = self.ms(key, given, (0, 3_600_000), Duration::ZERO);
            if let (Some(name), Some(polygon)) = (name, polygon) {
                scene.zones.push(ZoneConfig {
                    name,
                    polygon,
                    labels,
                    min_dwell,
                });
            }
        }
        for (n, spanned) in camera.lines.iter().enumerate() {
            let (line, at) = (spanned.get_ref(), Origin::File(spanned.span().start));
            let part = Part {
                twin,
                kind: "line",
                table: "cameras.lines",
                at: &at,
            };
            if n == MAX_PARTS {
                self.note(self.too_many_parts(&part, camera.lines.len()));
                break;
            }
            let names = scene.lines.iter().map(|line| &line.name);
            let name = self.part_name(&part, line.name.as_ref(), names);
            let from = self.end(&part, "from", line.from.as_ref());
            let to = self.end(&part, "to", line.to.as_ref());
            let labels = self.labels(&part, line.labels.as_ref());
            if let (Some(name), Some(from), Some(to)) = (name, from, to) {
                if (from.x - to.x).hypot(from.y - to.y) < SHORTEST {
                    self.note(ConfigError::LineWithoutLength {
                        place: self.place(&at),
                        twin_id: twin.to_owned(),
                        name: name.to_string(),
                    });
                    continue;
                }
                scene.lines.push(LineConfig {
                    name,
                    from,
                    to,
                    labels,
                });
            }
        }
        for (n, spanned) in camera.masks.iter().enumerate() {
            let (mask, at) = (spanned.get_ref(), Origin::File(spanned.span().start));
            let part = Part {
                twin,
                kind: "mask",
                table: "cameras.masks",
                at: &at,
            };
            if n == MAX_PARTS {
                self.note(self.too_many_parts(&part, camera.masks.len()));
                break;
            }
            let number = (n + 1).to_string();
            let polygon = self.polygon(&part, Some(&number), mask.points.as_ref());
            let labels = self.labels(&part, mask.labels.as_ref());
            if let Some(polygon) = polygon {
                scene.masks.push(MaskConfig { polygon, labels });
            }
        }
        scene
    }

    fn too_many_parts(&self, part: &Part<'_>, found: usize) -> ConfigError {
        ConfigError::TooManyParts {
            place: self.place(part.at),
            twin_id: part.twin.to_owned(),
            kind: part.kind,
            found,
            limit: MAX_PARTS,
        }
    }

    /// The name of a zone or a line, which no other of the camera may have.
    fn part_name<'n>(
        &self,
        part: &Part<'_>,
        given: Option<&Given<String>>,
        mut others: impl Iterator<Item = &'n Arc<str>>,
    ) -> Option<Arc<str>> {
        let Some(given) = given else {
            self.note(self.part_without(part, "name"));
            return None;
        };
        let fits = !given.value.trim().is_empty()
            && given.value.chars().count() <= MAX_NAME
            && !given.value.contains(char::is_control);
        if !fits {
            let takes = format!("1 to {MAX_NAME} characters in one line");
            self.note(self.bad(&format!("{}.name", part.table), given, &takes));
            return None;
        }
        if others.any(|other| **other == *given.value) {
            self.note(ConfigError::PartTwice {
                place: self.place(&given.origin),
                twin_id: part.twin.to_owned(),
                kind: part.kind,
                name: given.value.clone(),
            });
            return None;
        }
        Some(given.value.as_str().into())
    }

    fn polygon(
        &self,
        part: &Part<'_>,
        name: Option<&str>,
        given: Option<&Given<Vec<[f64; 2]>>>,
    ) -> Option<Polygon> {
        let Some(given) = given else {
            self.note(self.part_without(part, "points"));
            return None;
        };
        let corners = given.value.iter().map(|&[x, y]| Point { x, y });
        Polygon::new(corners.collect())
            .map_err(|error: PolygonError| {
                self.note(ConfigError::BadPolygon {
                    place: self.place(&given.origin),
                    twin_id: part.twin.to_owned(),
                    kind: part.kind,
                    name: name.unwrap_or_default().to_owned(),
                    error: Box::new(error),
                });
            })
            .ok()
    }

    /// One end of a line.
    fn end(
        &self,
        part: &Part<'_>,
        key: &'static str,
        given: Option<&Given<[f64; 2]>>,
    ) -> Option<Point> {
        let Some(given) = given else {
            self.note(self.part_without(part, key));
            return None;
        };
        let [x, y] = given.value;
        if !(0.0..=1.0).contains(&x) || !(0.0..=1.0).contains(&y) {
            let key = format!("{}.{key}", part.table);
            let takes = "a point in parts of the picture, both numbers from 0 to 1";
            self.note(self.bad(&key, given, takes));
            return None;
        }
        Some(Point { x, y })
    }

    fn labels(&self, part: &Part<'_>, given: Option<&Given<Vec<String>>>) -> Vec<Arc<str>> {
        let Some(given) = given else {
            return Vec::new();
        };
        let fits = given.value.len() <= MAX_LABELS
            && given
                .value
                .iter()
                .all(|label| !label.trim().is_empty() && label.len() <= 128);
        if !fits {
            let first = Given {
                value: given
                    .value
                    .iter()
                    .map(|label| shown(label))
                    .take(4)
                    .collect::<Vec<_>>(),
                origin: given.origin.clone(),
            };
            let takes = format!("at most {MAX_LABELS} of the model's labels");
            self.note(self.bad(&format!("{}.labels", part.table), &first, &takes));
            return Vec::new();
        }
        given
            .value
            .iter()
            .map(|label| label.as_str().into())
            .collect()
    }

    fn part_without(&self, part: &Part<'_>, key: &'static str) -> ConfigError {
        ConfigError::PartWithout {
            place: self.place(part.at),
            twin_id: part.twin.to_owned(),
            kind: part.kind,
            key,
        }
    }
}

/// A line must be at least this long, in parts of the picture.
const SHORTEST: f64 = 0.001;

/// A zone, a line or a mask, for errors.
struct Part<'a> {
    twin: &'a str,
    kind: &'static str,
    /// The table that it is in.
    table: &'static str,
    at: &'a Origin,
}
