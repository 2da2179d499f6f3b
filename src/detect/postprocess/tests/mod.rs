//! Outputs of every kind, read from arrays that are written by hand.

mod any;
mod boxes;
mod explained;
mod numbers;
mod points;

use std::path::Path;

use super::*;
use crate::detect::manifest::file::{BoxFormat, Column, Keypoints, Kind, OutputTable};
use crate::preprocess::TensorSpec;
use crate::preprocess::affine::ChannelAffine;
use crate::preprocess::tensor::{ChannelOrder, Fit};
use twinsight_media::picture::PictureSize;

/// Width and height of the tensor.
const INPUT: (usize, usize) = (100, 200);

/// Numbers that are no scores.
const NO_SCORES: [f32; 6] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 5.0, 1.02, -0.5];

/// Numbers that are no edges of boxes.
const NO_EDGES: [f32; 3] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];

/// A filter of `classes` used labels.
fn filter(classes: usize, min_score: f32) -> Filter {
    let labels: Vec<String> = (0..classes).map(|i| format!("class {i}")).collect();
    let mut filter = Filter::new(&labels);
    filter.set(min_score, &[]);
    filter
}

/// A table of this kind that names its outputs `out`, `boxes`, `scores` and so on.
fn table(kind: Kind) -> OutputTable {
    let mut table = OutputTable::of(kind);
    let named = |name: &str| Some(name.to_owned());
    for key in kind.keys().0 {
        match *key {
            "predictions" => table.predictions = named("out"),
            "boxes" => table.boxes = named("boxes"),
            "scores" => table.scores = named("scores"),
            "logits" => table.logits = named("scores"),
            "labels" => table.labels = named("labels"),
            "prototypes" => table.prototypes = named("prototypes"),
            "heatmap" => table.heatmap = named("heatmap"),
            "size" => table.size = named("size"),
            "offset" => table.offset = named("offset"),
            "keypoints" => table.keypoints = Some(Keypoints::Count(2)),
            other => panic!("{other}"),
        }
    }
    table
}

fn postprocessor(table: &OutputTable, classes: usize) -> Postprocessor {
    let output = table.resolve(Path::new("m.toml"), classes);
    Postprocessor::new(output.expect("a good table"), INPUT)
}

fn array<'a>(name: &'a str, dims: &'a [i64], values: &'a [f32]) -> Array<'a> {
    Array { name, dims, values }
}

/// A candidate as `(x1, y1, x2, y2, score, class)`.
type Plain = (f32, f32, f32, f32, f32, usize);

fn read(
    postprocessor: &Postprocessor,
    arrays: &[Array<'_>],
    filter: &Filter,
) -> Result<Vec<Plain>, OutputError> {
    let mut scratch = Scratch::default();
    postprocessor.candidates(arrays, filter, &mut scratch)?;
    let one = |c: &Candidate| {
        let at = c.corners;
        (at.x1, at.y1, at.x2, at.y2, c.score, c.class_id)
    };
    Ok(scratch.candidates.iter().map(one).collect())
}

/// Reads one output that has all numbers.
fn read_table(
    table: &OutputTable,
    classes: usize,
    dims: &[i64],
    values: &[f32],
) -> Result<Vec<Plain>, OutputError> {
    let postprocessor = postprocessor(table, classes);
    read(
        &postprocessor,
        &[array("out", dims, values)],
        &filter(classes, 0.4),
    )
}

/// Puts each of `bad` at `place` of good values: what `run` makes of them must be refused.
fn refuses(
    bad: &[f32],
    place: usize,
    good: &[f32],
    run: impl Fn(&[f32]) -> Result<Vec<Plain>, OutputError>,
) {
    assert!(run(good).is_ok());
    for &bad in bad {
        let mut values = good.to_vec();
        values[place] = bad;
        assert!(
            matches!(run(&values), Err(OutputError::Numbers(_))),
            "{bad} at {place}"
        );
    }
}

/// Columns and rows swapped, of `rows` rows.
fn turned(values: &[f32], rows: usize) -> Vec<f32> {
    let columns = values.len() / rows;
    (0..columns)
        .flat_map(|column| (0..rows).map(move |row| values[row * columns + column]))
        .collect()
}

fn placement() -> Placement {
    let plain = ChannelAffine {
        gain: 1.0,
        bias: 0.0,
    };
    let spec = TensorSpec {
        width: INPUT.0,
        height: INPUT.1,
        order: ChannelOrder::Rgb,
        affine: [plain; 3],
        fit: Fit::Stretch,
    };
    // Twice as wide as the tensor and as high.
    let size = PictureSize {
        width_px: 200,
        height_px: 200,
    };
    Placement::new(&spec, size)
}
