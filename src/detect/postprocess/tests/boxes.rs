//! Boxes of each kind of output.

use super::*;
use crate::detect::manifest::ModelError;
use crate::detect::manifest::file::{Background, BoxUnits};

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
