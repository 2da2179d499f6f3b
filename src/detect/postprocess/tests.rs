//! Outputs of every kind, read from arrays that are written by hand.

use super::*;
use crate::detect::manifest::ModelError;
use crate::detect::manifest::file::{
    Background, BoxFormat, BoxUnits, Column, Keypoints, Kind, OutputTable,
};
use crate::preprocess::TensorSpec;
use crate::preprocess::affine::ChannelAffine;
use crate::preprocess::tensor::{ChannelOrder, Fit};
use std::path::Path;
use twinsight_media::picture::PictureSize;

/// Width and height of the tensor.
const INPUT: (usize, usize) = (100, 200);

/// Numbers that are no scores.
const NO_SCORES: [f32; 6] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 5.0, 1.02, -0.5];

/// Numbers that are no edges of boxes.
const NO_EDGES: [f32; 3] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];

#[path = "tests/any.rs"]
mod any;

#[path = "tests/explained.rs"]
mod explained;

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

#[test]
fn unused_and_unwanted_classes_do_not_pass() {
    let labels = ["person", "-", "car"].map(str::to_owned);
    let mut filter = Filter::new(&labels);
    filter.set(0.5, &[]);
    let passing = |filter: &Filter| {
        (0..4)
            .filter(|&c| filter.passes(c, 0.5))
            .collect::<Vec<_>>()
    };
    assert_eq!(passing(&filter), [0, 2]);
    filter.set(0.5, &[1, 2, 9]);
    assert_eq!(passing(&filter), [2]);
    assert!(!filter.passes(2, 0.49) && !filter.passes(2, f32::NAN));
}

#[test]
fn rounding_is_no_lie_and_a_score_stays_one() {
    for rounded in [-0.009, -0.0, 0.0, 1.0, 1.009] {
        assert!(is_score(rounded), "{rounded}");
    }
    for none in NO_SCORES {
        assert!(!is_score(none), "{none}");
    }
    let rows = table(Kind::Rows);
    let found = read_table(&rows, 1, &[1, 1, 6], &[0.0, 0.0, 1.0, 1.0, 1.009, 0.0]).unwrap();
    assert_eq!(found, [(0.0, 0.0, 1.0, 1.0, 1.0, 0)]);
    let vast = [-3e38, 0.0, 3e38, 1.0, 0.5, 0.0];
    assert_eq!(
        read_table(&rows, 1, &[1, 1, 6], &vast)
            .unwrap_err()
            .to_string(),
        "output `out` has inf as an edge of a box, which should be finite: the model or its manifest (`output.box_format`) is wrong"
    );
}

#[test]
fn an_objectness_a_little_below_zero_makes_no_object() {
    let values = [10.0, 20.0, 4.0, 8.0, -0.005, 0.1, 0.2];
    let found = read_table(&table(Kind::YoloObjectness), 2, &[1, 1, 7], &values);
    assert_eq!(found.unwrap(), []);
}

#[test]
fn classes_between_two_numbers_and_vast_boxes_are_refused() {
    let rows = table(Kind::Rows);
    let of = |right: f32, class: f32| {
        read_table(&rows, 3, &[1, 1, 6], &[1.0, 2.0, right, 4.0, 0.9, class])
    };
    assert_eq!(of(3.0, 1.004).unwrap()[0].5, 1);
    assert_eq!(
        of(3.0, 0.4).unwrap_err().to_string(),
        "output `out` has 0.4 as the class of a box, which should be a whole number: the model or its manifest (`output.columns`) is wrong"
    );
    assert!(of(700.0, 1.0).is_ok());
    let error = of(1e6, 1.0).unwrap_err().to_string();
    assert!(
        error.contains("should be no longer than 8 inputs"),
        "{error}"
    );
}

#[test]
fn lengths_must_be_filled() {
    let values = [0.0; 6];
    let of = |dims: &[i64]| array("o", dims, &values).lengths::<2>();
    assert_eq!(of(&[2, 3]), Some([2, 3]));
    assert_eq!(of(&[1, 1, 2, 3]), Some([2, 3]));
    assert_eq!(of(&[2, 1, 3]), None);
    assert_eq!(of(&[2, 2]), None);
    assert_eq!(of(&[6]), None);
    assert_eq!(of(&[-2, -3]), None);
    assert_eq!(of(&[i64::MAX, i64::MAX]), None);
}

#[test]
fn rows_with_a_known_class_and_enough_score_are_taken() {
    #[rustfmt::skip]
    let values = [
        1.0, 2.0, 3.0, 4.0, 0.9, 1.0,
        1.0, 2.0, 3.0, 4.0, 0.3, 1.0, // low
        1.0, 2.0, 3.0, 4.0, 0.3, 2.0, // no such class, and low
        f32::NAN, 2.0, 3.0, 4.0, 0.9, -1.0, // padding
        3.0, 2.0, 3.0, 4.0, 0.9, 0.0, // no area
        5.0, 6.0, 7.0, 8.0, 0.5, 0.0,
    ];
    let good = [(1.0, 2.0, 3.0, 4.0, 0.9, 1), (5.0, 6.0, 7.0, 8.0, 0.5, 0)];
    let rows = table(Kind::Rows);
    assert_eq!(read_table(&rows, 2, &[1, 6, 6], &values).unwrap(), good);
    // Without a batch, as PaddlePaddle's, with the columns in another order and one that says nothing.
    let other: Vec<f32> = values
        .chunks(6)
        .flat_map(|row| [row[5], row[4], 7.0, row[0], row[1], row[2], row[3]])
        .collect();
    let mut columns = rows.clone();
    columns.columns = Some(vec![
        Column::Class,
        Column::Score,
        Column::Ignore,
        Column::Box,
    ]);
    assert_eq!(read_table(&columns, 2, &[6, 7], &other).unwrap(), good);
    let error = read_table(&rows, 2, &[1, 2, 5], &[0.0; 10]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "output `out` should have shape [1, N, 6] and has [1, 2, 5]"
    );
}

#[test]
fn numbers_in_rows_that_cannot_be_are_refused() {
    #[rustfmt::skip]
    let good = [
        1.0, 2.0, 3.0, 4.0, 0.9, 1.0,
        f32::NAN, f32::INFINITY, 3.0, 4.0, 0.1, 0.0, // too low to matter
        -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, // padding
    ];
    let run = |values: &[f32]| read_table(&table(Kind::Rows), 2, &[1, 3, 6], values);
    refuses(&NO_SCORES, 4, &good, run);
    // Of a row that is too low, too.
    refuses(&NO_SCORES, 10, &good, run);
    refuses(&[f32::NAN, f32::INFINITY, 2.0, 40.0], 5, &good, run);
    for edge in 0..4 {
        refuses(&NO_EDGES, edge, &good, run);
    }
    // Inside out.
    refuses(&[-1.0, -500.0], 2, &good, run);
    refuses(&[9.0, 500.0], 1, &good, run);
    // Far outside of the picture, and only a little.
    let beyond = |left: f32| {
        let mut values = good.to_vec();
        (values[0], values[2]) = (left, left + 10.0);
        run(&values)
    };
    assert!(beyond(126.0).is_err() && beyond(-36.0).is_err());
    assert!(beyond(124.0).is_ok() && beyond(-34.0).is_ok());
}

#[test]
fn yolo_takes_the_best_class_of_each_anchor_either_way_round() {
    #[rustfmt::skip]
    let values = [
        10.0, 50.0, 90.0, // cx
        20.0, 60.0, 90.0, // cy
         4.0, 10.0,  2.0, // w
         8.0, 20.0,  2.0, // h
         0.9,  0.3,  0.1, // class 0
         0.2,  0.7,  0.2, // class 1
    ];
    let good = [
        (8.0, 16.0, 12.0, 24.0, 0.9, 0),
        (45.0, 50.0, 55.0, 70.0, 0.7, 1),
    ];
    let yolo = table(Kind::Yolo);
    assert_eq!(read_table(&yolo, 2, &[1, 6, 3], &values).unwrap(), good);
    assert_eq!(
        read_table(&yolo, 2, &[1, 3, 6], &turned(&values, 6)).unwrap(),
        good
    );
    // The same in shares, as corners.
    let mut shares = yolo.clone();
    shares.box_units = Some(BoxUnits::Shares);
    shares.box_format = Some(BoxFormat::Xywh);
    #[rustfmt::skip]
    let numbers = [
        0.08, 0.08, 0.04, 0.04, 0.9, 0.2,
        0.45, 0.25, 0.10, 0.10, 0.3, 0.7,
    ];
    let found = read_table(&shares, 2, &[1, 2, 6], &numbers).unwrap();
    for (found, good) in found.iter().zip(good) {
        assert!(
            (found.0 - good.0).abs() < 1e-4 && (found.3 - good.3).abs() < 1e-4,
            "{found:?}"
        );
    }
    // With another number of labels it is said of the labels.
    let error = read_table(&yolo, 1, &[1, 6, 9], &[0.0; 54]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "output `out` should have numbers for 1 class, as there is 1 label, and has numbers for 2"
    );
    assert!(read_table(&yolo, 2, &[1, 6, 0], &[]).unwrap().is_empty());
}

#[test]
fn numbers_of_anchors_that_cannot_be_are_refused() {
    #[rustfmt::skip]
    let good = [
        10.0, f32::NAN, // cx; the second anchor is too low to matter
        20.0, f32::INFINITY, // cy
         4.0, 1.0, // w
         8.0, 1.0, // h
         0.9, 0.3, // class 0
         0.2, 0.1, // class 1
    ];
    let run = |values: &[f32]| read_table(&table(Kind::Yolo), 2, &[1, 6, 2], values);
    for score in 8..12 {
        refuses(&NO_SCORES, score, &good, run);
    }
    for edge in [0, 2, 4, 6] {
        refuses(&NO_EDGES, edge, &good, run);
    }
    refuses(&[-4.0], 4, &good, run);
}

#[test]
fn objectness_multiplies_and_logits_become_scores() {
    #[rustfmt::skip]
    let values = [
        10.0, 20.0, 4.0, 8.0, 0.8, 0.1, 1.0,
        10.0, 20.0, 4.0, 8.0, 0.3, 0.9, 1.0,
    ];
    let mut objectness = table(Kind::YoloObjectness);
    let found = read_table(&objectness, 2, &[1, 2, 7], &values).unwrap();
    assert_eq!(found, [(8.0, 16.0, 12.0, 24.0, 0.8, 1)]);
    objectness.activation = Some(Activation::Sigmoid);
    let logit = |p: f32| (p / (1.0 - p)).ln();
    let logits: Vec<f32> = values
        .iter()
        .enumerate()
        .map(|(n, &value)| {
            if n % 7 < 4 {
                value
            } else {
                logit(value.clamp(0.001, 0.9))
            }
        })
        .collect();
    let found = read_table(&objectness, 2, &[1, 2, 7], &logits).unwrap();
    assert_eq!(found.len(), 1);
    assert!((found[0].4 - 0.72).abs() < 1e-4, "{found:?}");
}

#[test]
fn yolox_is_decoded_on_its_grids() {
    let mut yolox = table(Kind::Yolox);
    yolox.strides = Some(vec![50, 100]);
    // Two by four cells of 50 pixels, and one by two of 100: the sixth is at 50, 100.
    let mut values = vec![0.0; 10 * 6];
    values[5 * 6..6 * 6].copy_from_slice(&[0.5, 0.2, 0.4f32.ln(), 0.2f32.ln(), 0.9, 1.0]);
    values[9 * 6..10 * 6].copy_from_slice(&[0.5, 0.5, 0.1f32.ln(), 0.1f32.ln(), 0.5, 1.0]);
    let found = read_table(&yolox, 1, &[1, 10, 6], &values).unwrap();
    let near = |a: Plain, b: Plain| {
        [a.0 - b.0, a.1 - b.1, a.2 - b.2, a.3 - b.3, a.4 - b.4]
            .iter()
            .all(|d| d.abs() < 1e-3)
    };
    assert!(
        near(found[0], (65.0, 105.0, 85.0, 115.0, 0.9, 0)),
        "{found:?}"
    );
    assert!(
        near(found[1], (45.0, 145.0, 55.0, 155.0, 0.5, 0)),
        "{found:?}"
    );
    yolox.strides = Some(vec![50]);
    let error = read_table(&yolox, 1, &[1, 10, 6], &values).unwrap_err();
    assert!(error.to_string().contains("8 candidates"), "{error}");
}

#[test]
fn ssd_takes_the_best_class_and_scales_to_the_tensor() {
    let scores = [0.1, 0.8, 0.3, 0.2, 0.6, 0.1];
    let boxes = [
        0.125, 0.25, 0.25, 0.5, 0.0, 0.0, 1.0, 1.0, 0.5, 0.5, 0.6, 0.6,
    ];
    let ssd = table(Kind::Ssd);
    let run =
        |table: &OutputTable, classes, score_dims: &[i64], box_dims: &[i64], scores: &[f32]| {
            let arrays = [
                array("scores", score_dims, scores),
                array("boxes", box_dims, &boxes),
            ];
            read(
                &postprocessor(table, classes),
                &arrays,
                &filter(classes, 0.7),
            )
        };
    let good = [(25.0, 25.0, 50.0, 50.0, 0.8, 1)];
    assert_eq!(
        run(&ssd, 2, &[1, 3, 2], &[1, 3, 1, 4], &scores).unwrap(),
        good
    );
    assert_eq!(run(&ssd, 2, &[1, 3, 2], &[1, 3, 4], &scores).unwrap(), good);
    let mut with_nothing = ssd.clone();
    with_nothing.background = Some(Background::First);
    assert_eq!(
        run(&with_nothing, 1, &[1, 3, 2], &[1, 3, 4], &scores).unwrap(),
        [(25.0, 25.0, 50.0, 50.0, 0.8, 0)]
    );
    let labels = run(&ssd, 3, &[1, 3, 2], &[1, 3, 4], &scores).unwrap_err();
    assert!(
        labels.to_string().contains("numbers for 3 classes"),
        "{labels}"
    );
    let fewer = run(&ssd, 2, &[1, 3, 2], &[1, 2, 6], &scores).unwrap_err();
    assert_eq!(
        fewer.to_string(),
        "output `boxes` should have shape [1, 3, 4] and has [1, 2, 6]"
    );
    for place in 0..6 {
        refuses(&NO_SCORES, place, &scores, |scores| {
            run(&ssd, 2, &[1, 3, 2], &[1, 3, 4], scores)
        });
    }
}

#[test]
fn a_class_that_the_model_never_uses_is_passed_over() {
    let labels = ["person", "-"].map(str::to_owned);
    let mut filter = Filter::new(&labels);
    filter.set(0.4, &[]);
    let ssd = postprocessor(&table(Kind::Ssd), 2);
    let boxes = [0.0, 0.0, 1.0, 1.0];
    let arrays = [
        array("scores", &[1, 1, 2], &[0.5, 0.9]),
        array("boxes", &[1, 1, 4], &boxes),
    ];
    assert_eq!(
        read(&ssd, &arrays, &filter).unwrap(),
        [(0.0, 0.0, 100.0, 200.0, 0.5, 0)]
    );
}

#[test]
fn offsets_start_from_anchors() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("a.txt"),
        "0.5 0.5 0.2 0.4\n0.1, 0.1, 0.1, 0.1\n",
    )
    .unwrap();
    let mut ssd = table(Kind::Ssd);
    ssd.anchors = Some("a.txt".to_owned());
    let at = dir.path().join("m.toml");
    let run = |table: &OutputTable, offsets: [f32; 4]| {
        let output = table.resolve(&at, 1).unwrap();
        let postprocessor = Postprocessor::new(output, INPUT);
        let boxes = [&offsets[..], &[0.0; 4]].concat();
        let arrays = [
            array("scores", &[1, 2, 1], &[0.9, 0.1]),
            array("boxes", &[1, 2, 4], &boxes),
        ];
        read(&postprocessor, &arrays, &filter(1, 0.4)).unwrap()[0]
    };
    // TensorFlow's order is y, x, height, width.
    let (x1, y1, x2, y2, ..) = run(&ssd, [1.0, -1.0, 0.0, 5.0 * 2f32.ln()]);
    let good = [28.0, 68.0, 68.0, 148.0];
    assert!(
        [x1, y1, x2, y2]
            .iter()
            .zip(good)
            .all(|(a, b)| (a - b).abs() < 1e-3)
    );
    ssd.box_format = Some(BoxFormat::Cxcywh);
    let (x1, y1, x2, y2, ..) = run(&ssd, [-1.0, 1.0, 5.0 * 2f32.ln(), 0.0]);
    assert!(
        [x1, y1, x2, y2]
            .iter()
            .zip(good)
            .all(|(a, b)| (a - b).abs() < 1e-3)
    );
    std::fs::write(dir.path().join("a.txt"), "0.5 0.5 0.2\n").unwrap();
    let error = ssd.resolve(&at, 1).unwrap_err();
    assert!(
        matches!(
            error,
            ModelError::Value {
                key: "output.anchors",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn detr_has_logits_with_or_without_nothing() {
    let boxes = [0.5, 0.5, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1];
    let run = |table: &OutputTable, classes, logits: &[f32]| {
        let dims = [1, 2, i64::try_from(logits.len() / 2).unwrap()];
        let arrays = [
            array("scores", &dims, logits),
            array("boxes", &[1, 2, 4], &boxes),
        ];
        read(
            &postprocessor(table, classes),
            &arrays,
            &filter(classes, 0.4),
        )
    };
    let mut detr = table(Kind::Detr);
    let found = run(&detr, 2, &[2.0, -3.0, -4.0, -5.0]).unwrap();
    assert_eq!(found.len(), 1);
    assert!(
        (found[0].4 - 0.8808).abs() < 1e-4 && found[0].5 == 0,
        "{found:?}"
    );
    assert!(
        (found[0].0 - 40.0).abs() < 1e-3 && (found[0].3 - 110.0).abs() < 1e-3,
        "{found:?}"
    );
    detr.activation = Some(Activation::Softmax);
    let found = run(&detr, 2, &[0.0, 3.0, 0.0, 0.0, 0.0, 3.0]).unwrap();
    assert_eq!(found.len(), 1);
    assert!(
        (found[0].4 - 0.9094).abs() < 1e-4 && found[0].5 == 1,
        "{found:?}"
    );
    for place in 0..3 {
        let logits = [0.0, 3.0, 0.0, 0.0, 0.0, 3.0];
        refuses(&[f32::NAN, f32::INFINITY], place, &logits, |logits| {
            run(&detr, 2, logits)
        });
    }
}

#[test]
fn lists_may_have_a_count_a_first_class_for_nothing_and_scores_with_the_boxes() {
    let boxes = [0.1, 0.2, 0.3, 0.4, 0.0, 0.0, 1.0, 1.0, 9.0, 9.0, 9.0, 9.0];
    let mut lists = table(Kind::BoxesLabelsScores);
    lists.scores = Some("scores".to_owned());
    lists.count = Some("count".to_owned());
    lists.box_format = Some(BoxFormat::Yxyx);
    lists.box_units = Some(BoxUnits::Shares);
    lists.background = Some(Background::First);
    let run = |table: &OutputTable, labels: &[f32], scores: &[f32], count: f32| {
        let arrays = [
            array("boxes", &[1, 3, 4], &boxes),
            array("labels", &[1, 3], labels),
            array("scores", &[1, 3], scores),
            array("count", &[1], std::slice::from_ref(&count)),
        ];
        read(&postprocessor(table, 2), &arrays, &filter(2, 0.4))
    };
    let found = run(&lists, &[2.0, 0.0, 1.0], &[0.9, 0.8, 0.9], 2.0).unwrap();
    assert_eq!(found.len(), 1);
    assert!(
        (found[0].0 - 20.0).abs() < 1e-4 && found[0].5 == 1,
        "{found:?}"
    );
    // The third box, beyond the count, is far outside of the picture.
    run(&lists, &[2.0, 0.0, 1.0], &[0.9, 0.8, 0.9], 3.0).unwrap_err();
    let error = run(&lists, &[3.0, 0.0, 1.0], &[0.9, 0.8, 0.9], 2.0).unwrap_err();
    assert!(error.to_string().contains("(`labels`)"), "{error}");
    assert!(matches!(
        run(&lists, &[1.0, 1.0, 1.0], &[0.9, 0.8, 0.9], -1.0),
        Err(OutputError::Shape(_))
    ));

    let dets = [1.0, 2.0, 3.0, 4.0, 0.9];
    let arrays = [
        array("boxes", &[1, 1, 5], &dets),
        array("labels", &[1, 1], &[1.0]),
    ];
    let mmdetection = postprocessor(&table(Kind::BoxesLabelsScores), 2);
    let found = read(&mmdetection, &arrays, &filter(2, 0.4)).unwrap();
    assert_eq!(found, [(1.0, 2.0, 3.0, 4.0, 0.9, 1)]);
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

fn objects(table: &OutputTable, classes: usize, arrays: &[Array<'_>]) -> Vec<Object> {
    postprocessor(table, classes)
        .objects(
            arrays,
            &filter(classes, 0.4),
            &mut Scratch::default(),
            0.5,
            &placement(),
        )
        .unwrap()
}

#[test]
fn centerface_finds_faces_and_their_points() {
    let mut face = table(Kind::Centerface);
    face.landmarks = Some("points".to_owned());
    // A heatmap of two columns and one row: a place has 50 by 200 pixels.
    let (heat, logs) = ([0.1, 0.9], [0.0, 0.1f32.ln(), 0.0, 0.4f32.ln()]);
    let offset = [0.0, 0.1, 0.0, -0.2];
    let mut points = [0.0; 20];
    points[1] = 0.5;
    points[3] = 0.25;
    let arrays = [
        array("heatmap", &[1, 1, 1, 2], &heat),
        array("size", &[1, 2, 1, 2], &logs),
        array("offset", &[1, 2, 1, 2], &offset),
        array("points", &[1, 10, 1, 2], &points),
    ];
    let found = objects(&face, 1, &arrays);
    assert_eq!(found.len(), 1);
    let bbox = found[0].bbox;
    // The centre is at 65, 120 of the tensor, and the box is 20 by 20.
    assert!(
        (bbox.x - 110.0).abs() < 1e-3 && (bbox.y - 110.0).abs() < 1e-3,
        "{bbox:?}"
    );
    assert!(
        (bbox.width - 40.0).abs() < 1e-3 && (bbox.height - 20.0).abs() < 1e-3,
        "{bbox:?}"
    );
    let point = found[0].keypoints[0];
    assert_eq!(found[0].keypoints.len(), 5);
    assert!(
        (point.x - 120.0).abs() < 1e-3 && (point.y - 120.0).abs() < 1e-3,
        "{point:?}"
    );
}

#[test]
fn poses_have_points_in_the_picture() {
    let mut pose = table(Kind::YoloPose);
    #[rustfmt::skip]
    let values = [
        50.0, 100.0, 20.0, 40.0, 0.9, 45.0, 90.0, 0.8, 55.0, 500.0, 1.004,
        10.0, 10.0, 20.0, 40.0, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0,
    ];
    let check = |found: &[Object]| {
        assert_eq!(found.len(), 1);
        let [first, second] = found[0].keypoints[..] else {
            panic!("{found:?}");
        };
        assert_eq!((first.x, first.y, first.score), (90.0, 90.0, 0.8));
        // A point beyond the picture lies at its edge.
        assert_eq!((second.x, second.y, second.score), (110.0, 200.0, 1.0));
    };
    check(&objects(&pose, 1, &[array("out", &[1, 2, 11], &values)]));
    check(&objects(
        &pose,
        1,
        &[array("out", &[1, 11, 2], &turned(&values, 2))],
    ));
    // NMS in the graph.
    #[rustfmt::skip]
    let rows = [40.0, 80.0, 60.0, 120.0, 0.9, 0.0, 45.0, 90.0, 0.8, 55.0, 500.0, 1.004];
    pose.columns = Some(vec![
        Column::Box,
        Column::Score,
        Column::Class,
        Column::Keypoints,
    ]);
    pose.box_format = Some(BoxFormat::Xyxy);
    check(&objects(&pose, 1, &[array("out", &[1, 1, 12], &rows)]));
}

#[test]
fn segments_have_an_outline_in_the_picture() {
    let seg = table(Kind::YoloSeg);
    // Two prototypes of 10 by 20: the left half of one is set, the whole of the other is.
    let left: Vec<f32> = (0..200)
        .map(|at| if at % 10 < 5 { 1.0 } else { -1.0 })
        .collect();
    let prototypes = [left, vec![1.0; 200]].concat();
    let values = [50.0, 100.0, 60.0, 80.0, 0.9, 1.0, 0.0];
    let arrays = [
        array("out", &[1, 7, 1], &values),
        array("prototypes", &[1, 2, 20, 10], &prototypes),
    ];
    let found = objects(&seg, 1, &arrays);
    assert_eq!(found.len(), 1);
    let outline = &found[0].outline;
    assert!((4..=32).contains(&outline.len()), "{outline:?}");
    // The left half of the box: 20 to 50 of the tensor's 100 columns, which are 200 of the picture.
    let bounds = |axis: usize| {
        let all = outline.iter().map(|point| point[axis]);
        (
            all.clone().fold(f32::INFINITY, f32::min),
            all.fold(0.0, f32::max),
        )
    };
    assert_eq!(bounds(0), (40.0, 100.0));
    assert_eq!(bounds(1), (60.0, 140.0));
    assert!(found[0].keypoints.is_empty());
}
