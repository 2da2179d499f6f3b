//! What a camera's picture is divided into: zones, lines and masks, in parts of the picture from 0 to 1. The checks of the
//! configuration make them, and `track` judges by them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::error::{ConfigError, PartOfCamera};
use super::file::{CameraSection, Given, Origin};
use super::polygon::{Point, Polygon, PolygonError};
use super::resolve::Resolver;
use super::shown::shown;

/// The most zones, lines and masks of each kind that a camera has.
const MAX_PARTS: usize = 32;

/// The longest name of a zone or a line, in characters.
const MAX_NAME: usize = 64;

/// The longest time for which somebody may have to be in a zone.
const MAX_DWELL_MS: u64 = 3_600_000;

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
            let part = Part::new(
                twin,
                ("zone", "cameras.zones"),
                n + 1,
                zone.name.as_ref(),
                &at,
            );
            if n == MAX_PARTS {
                self.note(self.too_many_parts(&part, camera.zones.len()));
                break;
            }
            let names = scene.zones.iter().map(|zone| &zone.name);
            let name = self.part_name(&part, zone.name.as_ref(), names);
            let polygon = self.polygon(&part, zone.points.as_ref());
            let labels = self.labels(&part, zone.labels.as_ref());
            let min_dwell = self.min_dwell(&part, zone.min_dwell_ms.as_ref());
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
            let part = Part::new(
                twin,
                ("line", "cameras.lines"),
                n + 1,
                line.name.as_ref(),
                &at,
            );
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
            let part = Part::new(twin, ("mask", "cameras.masks"), n + 1, None, &at);
            if n == MAX_PARTS {
                self.note(self.too_many_parts(&part, camera.masks.len()));
                break;
            }
            let polygon = self.polygon(&part, mask.points.as_ref());
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
        if !is_name(&given.value) {
            let takes = format!("1 to {MAX_NAME} characters in one line");
            self.note(self.bad_part(part, "name", given, &takes));
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

    fn polygon(&self, part: &Part<'_>, given: Option<&Given<Vec<Vec<f64>>>>) -> Option<Polygon> {
        let Some(given) = given else {
            self.note(self.part_without(part, "points"));
            return None;
        };
        let corner = |point: &Vec<f64>| match point[..] {
            [x, y] => Some(Point { x, y }),
            _ => None,
        };
        let Some(corners) = given.value.iter().map(corner).collect() else {
            let odd = given.value.iter().find(|point| point.len() != 2).cloned();
            let odd = Given {
                value: odd.unwrap_or_default(),
                origin: given.origin.clone(),
            };
            let takes = "points of two numbers each, as in `[0.1, 0.5]`";
            self.note(self.bad_part(part, "points", &odd, takes));
            return None;
        };
        Polygon::new(corners)
            .map_err(|error: PolygonError| {
                self.note(ConfigError::BadPolygon {
                    place: self.place(&given.origin),
                    twin_id: part.twin.to_owned(),
                    part: part.to_string(),
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
        given: Option<&Given<Vec<f64>>>,
    ) -> Option<Point> {
        let Some(given) = given else {
            self.note(self.part_without(part, key));
            return None;
        };
        match given.value[..] {
            [x, y] if (0.0..=1.0).contains(&x) && (0.0..=1.0).contains(&y) => Some(Point { x, y }),
            _ => {
                let takes = "a point in parts of the picture, two numbers from 0 to 1";
                self.note(self.bad_part(part, key, given, takes));
                None
            }
        }
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
            self.note(self.bad_part(part, "labels", &first, &takes));
            return Vec::new();
        }
        given
            .value
            .iter()
            .map(|label| label.as_str().into())
            .collect()
    }

    /// How long somebody has to be in a zone.
    fn min_dwell(&self, part: &Part<'_>, given: Option<&Given<i64>>) -> Duration {
        let Some(given) = given else {
            return Duration::ZERO;
        };
        let ms = u64::try_from(given.value).ok();
        let ms = ms.filter(|ms| *ms <= MAX_DWELL_MS).unwrap_or_else(|| {
            let takes = format!("a whole number from 0 to {MAX_DWELL_MS}");
            self.note(self.bad_part(part, "min_dwell_ms", given, &takes));
            0
        });
        Duration::from_millis(ms)
    }

    fn part_without(&self, part: &Part<'_>, key: &'static str) -> ConfigError {
        ConfigError::PartWithout {
            place: self.place(part.at),
            twin_id: part.twin.to_owned(),
            part: part.to_string(),
            key,
        }
    }

    fn bad_part<T: fmt::Debug>(
        &self,
        part: &Part<'_>,
        key: &str,
        given: &Given<T>,
        takes: &str,
    ) -> ConfigError {
        ConfigError::BadPart {
            place: self.place(&given.origin),
            part: Box::new(PartOfCamera {
                twin_id: part.twin.to_owned(),
                name: part.to_string(),
            }),
            key: format!("{}.{key}", part.table),
            found: format!("{:?}", given.value),
            takes: takes.to_owned(),
        }
    }
}

/// True for a name that a zone or a line may have.
fn is_name(name: &str) -> bool {
    !name.trim().is_empty() && name.chars().count() <= MAX_NAME && !name.contains(char::is_control)
}

/// A line must be at least this long, in parts of the picture.
const SHORTEST: f64 = 0.001;

/// A zone, a line or a mask, for errors.
struct Part<'a> {
    twin: &'a str,
    kind: &'static str,
    /// The table that it is in.
    table: &'static str,
    /// Which one of its kind it is, counted from 1.
    number: usize,
    /// Its name, if it has one that it may have.
    name: Option<&'a str>,
    at: &'a Origin,
}

impl<'a> Part<'a> {
    /// The part of this number and name, from its kind and its table in the file. A name that cannot be one is left out.
    fn new(
        twin: &'a str,
        (kind, table): (&'static str, &'static str),
        number: usize,
        name: Option<&'a Given<String>>,
        at: &'a Origin,
    ) -> Self {
        Self {
            twin,
            kind,
            table,
            number,
            name: name.map(|given| &*given.value).filter(|name| is_name(name)),
            at,
        }
    }
}

impl fmt::Display for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            Some(name) => write!(f, "{} \"{name}\"", self.kind),
            None => write!(f, "{} {}", self.kind, self.number),
        }
    }
}

#[cfg(test)]
#[path = "scene_tests.rs"]
mod tests;
