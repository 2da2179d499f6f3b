//! The lines of `twinsight detect`: what was found in a picture, a frame or a clip comes in, and is written as a sentence or as JSON.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::{Command, Problem};
use crate::detect::Detections;
use crate::publish::object::{ObjectJson, SeenObject};
use twinsight_media::picture::PictureSize;

/// The JSON line of a picture or frame.
#[derive(Debug, Serialize)]
struct JsonLine<'a> {
    file: &'a str,
    frame: usize,
    width: usize,
    height: usize,
    objects: Vec<ObjectJson<'a>>,
}

/// The sums over the frames of a clip, for its line.
#[derive(Debug, Default)]
pub(super) struct ClipTotals {
    pub(super) frames: usize,
    pub(super) labels: BTreeMap<String, usize>,
    pub(super) busy: Duration,
}

impl Command<'_> {
    pub(super) fn json_line(
        &mut self,
        file: &Path,
        frame: usize,
        size: PictureSize,
        found: &Detections,
    ) -> Result<(), Problem> {
        let model = self.detector.model();
        let seen = found.objects.iter();
        let seen: Vec<SeenObject> = seen.map(|object| SeenObject::of(object, model)).collect();
        let objects = seen
            .iter()
            .map(|seen| ObjectJson::new(seen, &model.keypoints));
        let line = JsonLine {
            file: &file.to_string_lossy(),
            frame,
            width: size.width_px,
            height: size.height_px,
            objects: objects.collect(),
        };
        serde_json::to_writer(&mut *self.out, &line)
            .map_err(|error| Problem::Output(error.into()))?;
        writeln!(self.out).map_err(Problem::Output)
    }

    pub(super) fn picture_line(
        &mut self,
        file: &Path,
        size: PictureSize,
        found: &Detections,
    ) -> Result<(), Problem> {
        let model = self.detector.model();
        let seen: Vec<String> = found
            .objects
            .iter()
            .map(|object| format!("{} {:.2}", model.label(object.class_id), object.score))
            .collect();
        let busy = found.preprocess.wall + found.inference.wall + found.postprocess.wall;
        let seen = if seen.is_empty() {
            "nothing".to_owned()
        } else {
            seen.join(", ")
        };
        writeln!(
            self.out,
            "{} ({}x{}): {seen} in {:.1} ms",
            file.display(),
            size.width_px,
            size.height_px,
            1000.0 * busy.as_secs_f64(),
        )
        .map_err(Problem::Output)
    }

    pub(super) fn clip_line(
        &mut self,
        file: &Path,
        size: PictureSize,
        totals: &ClipTotals,
    ) -> Result<(), Problem> {
        let mut seen: Vec<(&String, &usize)> = totals.labels.iter().collect();
        seen.sort_by(|a, b| b.1.cmp(a.1));
        let seen: Vec<String> = seen
            .iter()
            .map(|(label, count)| format!("{count} x {label}"))
            .collect();
        let seen = if seen.is_empty() {
            "nothing".to_owned()
        } else {
            seen.join(", ")
        };
        let frames = u32::try_from(totals.frames).unwrap_or(u32::MAX).max(1);
        writeln!(
            self.out,
            "{} ({}x{}, {} frames): {seen} in {:.1} ms a frame",
            file.display(),
            size.width_px,
            size.height_px,
            totals.frames,
            1000.0 * (totals.busy / frames).as_secs_f64(),
        )
        .map_err(Problem::Output)
    }
}
