//! What a camera's picture is divided into: zones, lines and masks, in parts of the picture from 0 to 1. The checks of the
//! configuration make them, and `track` judges by them.

use std::sync::Arc;
use std::time::Duration;

use super::polygon::{Point, Polygon};

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
