//! Judgements of outputs that are written by hand: rightly read ones fit, and each key that is wrong is named.

use std::path::Path;

use super::mirror::judge_labels;
use super::*;
use crate::detect::manifest::file::{
    Activation, Background, BoxFormat, BoxUnits, Column, Keypoints, Kind, OutputTable,
};
use crate::preprocess::affine::ChannelAffine;
use crate::preprocess::tensor::{Align, ChannelOrder, Fit};
use crate::preprocess::{TensorBox, TensorSpec};

const SIDE: usize = 320;

/// Objects as x1, y1, x2, y2 in pixels of the tensor, score and class: one near each edge of the picture.
const OBJECTS: [([f32; 4], f32, usize); 3] = [
    ([20.0, 30.0, 80.0, 190.0], 0.9, 0),
    ([100.0, 120.0, 300.0, 180.0], 0.8, 1),
    ([250.0, 10.0, 310.0, 60.0], 0.7, 2),
];

const CLASSES: usize = 3;

fn placement() -> Placement {
    let plain = ChannelAffine {
        gain: 1.0,
        bias: 0.0,
    };
    let spec = TensorSpec {
        width: SIDE,
        height: SIDE,
        order: ChannelOrder::Rgb,
        affine: [plain; 3],
        fit: Fit::Letterbox {
            align: Align::TopLeft,
            pad: 0,
        },
    };
    let picture = TestPicture::new();
    Placement::new(&spec, picture.as_it_is().size())
}

fn xyxy(numbers: [f32; 4]) -> [f32; 4] {
    numbers
}

fn cxcywh([x1, y1, x2, y2]: [f32; 4]) -> [f32; 4] {
    [(x1 + x2) / 2.0, (y1 + y2) / 2.0, x2 - x1, y2 - y1]
}

fn mirror([x1, y1, x2, y2]: [f32; 4]) -> [f32; 4] {
    [320.0 - x2, y1, 320.0 - x1, y2]
}

fn output(name: &str, dims: &[i64], values: Vec<f32>) -> OwnedArray {
    OwnedArray {
        name: name.to_owned(),
        dims: dims.to_vec(),
        values,
    }
}

/// A table of 40 candidates, a row each, whose first ones are the objects.
fn yolo(numbers: impl Fn([f32; 4]) -> [f32; 4], score: impl Fn(f32) -> f32) -> Vec<OwnedArray> {
    let mut values = Vec::new();
    for row in 0..40u8 {
        let (corners, score_of, class) = OBJECTS.get(usize::from(row)).copied().unwrap_or((
            [10.0, 10.0, 30.0, 30.0],
            0.001 * f32::from(row),
            9,
        ));
        values.extend(numbers(corners));
        for other in 0..CLASSES {
            let is_it = class == other || class == 9;
            values.push(score(if is_it { score_of } else { 0.002 }));
        }
    }
    vec![output("out", &[1, 40, 7], values)]
}

fn labels() -> Vec<String> {
    ["bolt", "nut", "screw"].map(str::to_owned).into()
}

fn table(kind: Kind) -> OutputTable {
    let mut table = OutputTable::of(kind);
    table.predictions = Some("out".to_owned());
    table
}

fn judged(table: &OutputTable, first: &[OwnedArray], mirrored: &[OwnedArray]) -> Judgement {
    let output = table.resolve(Path::new("m.toml"), CLASSES).unwrap();
    let postprocessor = Postprocessor::new(output, (SIDE, SIDE));
    judge(&postprocessor, &labels(), first, mirrored, &placement())
}

/// The key that is named, and the rest of the refusal.
fn refusal(table: &OutputTable, outputs: &[OwnedArray]) -> (&'static str, String) {
    match judged(table, outputs, outputs) {
        Judgement::Refused { seen, key, remedy } => (key, seen + &remedy),
        other => panic!("{other:?}"),
    }
}

#[test]
fn outputs_that_are_read_rightly_fit() {
    let outputs = yolo(cxcywh, |score| score);
    let mirrored = yolo(|corners| cxcywh(mirror(corners)), |score| score);
    let yolo_table = table(Kind::Yolo);
    assert_eq!(
        judged(&yolo_table, &outputs, &outputs),
        Judgement::Fits(Evidence {
            strong: 3,
            top_score: 0.9,
            mirrored: None,
            top_class: Some(0),
        })
    );
    assert_eq!(
        judged(&yolo_table, &outputs, &mirrored),
        Judgement::Fits(Evidence {
            strong: 3,
            top_score: 0.9,
            mirrored: Some(1.0),
            top_class: Some(0),
        })
    );
}

#[test]
fn a_wrong_activation_is_named_with_the_right_one() {
    let mut yolo_table = table(Kind::Yolo);
    let logits = yolo(cxcywh, |score| (score / (1.0 - score)).max(1e-6).ln());
    let (key, said) = refusal(&yolo_table, &logits);
    assert_eq!(key, "output.activation");
    assert!(said.ends_with(": `sigmoid` fits what was seen"), "{said}");
    yolo_table.activation = Some(Activation::Sigmoid);
    assert!(matches!(
        judged(&yolo_table, &logits, &logits),
        Judgement::Fits(_)
    ));
    let (key, said) = refusal(&yolo_table, &yolo(cxcywh, |score| score));
    assert_eq!(key, "output.activation");
    assert!(said.ends_with(": `none` fits what was seen"), "{said}");
}

#[test]
fn wrong_units_and_formats_are_named() {
    let mut yolo_table = table(Kind::Yolo);
    let shares = yolo(|corners| cxcywh(corners).map(|n| n / 320.0), |score| score);
    let (key, said) = refusal(&yolo_table, &shares);
    assert_eq!(key, "output.box_units");
    assert!(said.ends_with(": `shares` fits what was seen"), "{said}");
    yolo_table.box_units = Some(BoxUnits::Shares);
    assert!(matches!(
        judged(&yolo_table, &shares, &shares),
        Judgement::Fits(_)
    ));
    let (key, said) = refusal(&yolo_table, &yolo(cxcywh, |score| score));
    assert_eq!(key, "output.box_units");
    assert!(said.ends_with(": `pixels` fits what was seen"), "{said}");
    yolo_table.box_units = None;
    for format in [BoxFormat::Xyxy, BoxFormat::Yxyx, BoxFormat::Xywh] {
        yolo_table.box_format = Some(format);
        let (key, said) = refusal(&yolo_table, &yolo(cxcywh, |score| score));
        assert_eq!(key, "output.box_format", "{format}: {said}");
    }
}

#[test]
fn the_mirror_image_tells_which_number_is_which() {
    // Small boxes in the middle, whose numbers make boxes inside the picture in any order.
    let center = |[x1, y1, _, _]: [f32; 4]| {
        let (x, y) = (100.0 + x1 / 4.0, 80.0 + y1 / 8.0);
        [x, y, x + 60.0, y + 70.0]
    };
    let outputs = yolo(|corners| xyxy(center(corners)), |score| score);
    let mirrored = yolo(|corners| xyxy(mirror(center(corners))), |score| score);
    let mut yolo_table = table(Kind::Yolo);
    yolo_table.box_format = Some(BoxFormat::Yxyx);
    assert!(matches!(
        judged(&yolo_table, &outputs, &outputs),
        Judgement::Fits(Evidence { mirrored: None, .. })
    ));
    let Judgement::Refused { seen, key, remedy } = judged(&yolo_table, &outputs, &mirrored) else {
        panic!("it is not refused");
    };
    assert_eq!(key, "output.box_format");
    assert!(
        seen.contains("mirror image") && remedy.contains("`xyxy`"),
        "{seen}{remedy}"
    );
}

#[test]
fn what_is_the_same_everywhere_is_no_result() {
    let constant = vec![output("out", &[1, 40, 7], vec![0.25; 280])];
    assert_eq!(refusal(&table(Kind::Yolo), &constant).0, "output.kind");
    let crowd = yolo(cxcywh, |_| 0.6 + 0.0001);
    let mut varied = crowd;
    varied[0].values[6] = 0.0;
    assert_eq!(refusal(&table(Kind::Yolo), &varied).0, "output.activation");
    // Scores of 0 alone are no fault if the boxes are not the same everywhere.
    let nothing = yolo(cxcywh, |_| 0.0);
    let mirrored = yolo(|corners| cxcywh(mirror(corners)), |_| 0.0);
    let yolo_table = table(Kind::Yolo);
    assert_eq!(refusal(&yolo_table, &nothing).0, "output.kind");
    assert!(matches!(
        judged(&yolo_table, &nothing, &mirrored),
        Judgement::Fits(Evidence { strong: 0, .. })
    ));
    // Rows of zeros are padding: nothing was found.
    let rows = vec![output("out", &[1, 40, 6], vec![0.0; 240])];
    assert!(matches!(
        judged(&table(Kind::Rows), &rows, &rows),
        Judgement::Fits(Evidence { strong: 0, .. })
    ));
}

#[test]
fn columns_and_labels_of_rows_are_named() {
    let rows: Vec<f32> = OBJECTS
        .iter()
        .flat_map(|(corners, score, class)| {
            [
                &corners[..],
                &[*score, f32::from(u8::try_from(*class).unwrap())],
            ]
            .concat()
        })
        .collect();
    let rows = vec![output("out", &[1, 3, 6], rows)];
    let mut rows_table = table(Kind::Rows);
    assert!(matches!(
        judged(&rows_table, &rows, &rows),
        Judgement::Fits(_)
    ));
    rows_table.columns = Some(vec![Column::Box, Column::Class, Column::Score]);
    assert_eq!(refusal(&rows_table, &rows).0, "output.columns");
    rows_table.columns = Some(vec![Column::Class, Column::Score, Column::Box]);
    assert_eq!(refusal(&rows_table, &rows).0, "output.columns");
    rows_table.columns = None;
    let output = rows_table.resolve(Path::new("m.toml"), 2).unwrap();
    let two_labels = Postprocessor::new(output, (SIDE, SIDE));
    let Judgement::Refused { key, seen, .. } =
        judge(&two_labels, &labels(), &rows, &rows, &placement())
    else {
        panic!("it is not refused");
    };
    assert_eq!(key, "labels", "{seen}");
}

#[test]
fn another_order_of_columns_that_shows_something_is_the_right_one() {
    // The class of all objects is 0, which is no score.
    let rows = OBJECTS
        .iter()
        .flat_map(|(corners, score, _)| [&corners[..], &[*score, 0.0]].concat());
    let rows = vec![output("out", &[1, 3, 6], rows.collect())];
    let mut rows_table = table(Kind::Rows);
    assert!(matches!(
        judged(&rows_table, &rows, &rows),
        Judgement::Fits(_)
    ));
    rows_table.columns = Some(vec![Column::Box, Column::Class, Column::Score]);
    let (key, said) = refusal(&rows_table, &rows);
    assert_eq!(key, "output.columns", "{said}");
}

#[test]
fn rows_of_padding_and_classes_that_are_not_seen_are_no_fault() {
    let fits = |table: &OutputTable, outputs: &[OwnedArray]| {
        matches!(judged(table, outputs, outputs), Judgement::Fits(_))
    };
    let padded = [&OBJECTS[0].0[..], &[0.9, 0.0], &[-1.0; 6], &[-1.0; 6]].concat();
    let padded = vec![output("out", &[1, 3, 6], padded)];
    assert!(fits(&table(Kind::Rows), &padded));
    // A class of 1 would be a score if the columns were in another order.
    let unseen = [&OBJECTS[0].0[..], &[0.0004, 1.0]].concat();
    let unseen = vec![output("out", &[1, 1, 6], unseen)];
    assert!(fits(&table(Kind::Rows), &unseen));
    // What lies behind the count is not written.
    let mut lists = OutputTable::of(Kind::BoxesLabelsScores);
    let named = |name: &str| Some(name.to_owned());
    (lists.boxes, lists.labels) = (named("boxes"), named("labels"));
    (lists.scores, lists.count) = (named("scores"), named("count"));
    let boxes = [OBJECTS[0].0, [9e9; 4]].concat();
    let counted = vec![
        output("boxes", &[1, 2, 4], boxes),
        output("labels", &[1, 2], vec![0.0, 77.3]),
        output("scores", &[1, 2], vec![0.9, f32::NAN]),
        output("count", &[1], vec![1.0]),
    ];
    assert!(fits(&lists, &counted));
}

#[test]
fn an_object_in_the_padding_and_an_unsure_one_beyond_it_are_no_fault() {
    let at = |corners: [f32; 4]| {
        move |sure: f32| {
            let only_first = move |score| if score == 0.9 { sure } else { 0.01 };
            yolo(move |_| cxcywh(corners), only_first)
        }
    };
    let yolo_table = table(Kind::Yolo);
    let fits = |outputs: &[OwnedArray]| {
        matches!(
            judged(&yolo_table, outputs, outputs),
            Judgement::Fits(Evidence { strong: 1, .. })
        )
    };
    // The picture is at the top of the input.
    let (padding, beyond) = (
        at([100.0, 280.0, 140.0, 310.0]),
        at([100.0, 310.0, 140.0, 350.0]),
    );
    assert!(fits(&padding(0.8)));
    assert!(fits(&beyond(0.4)));
    assert_eq!(refusal(&yolo_table, &beyond(0.8)).0, "output.box_format");
}

#[test]
fn what_is_wrong_on_the_mirror_image_alone_is_refused_too() {
    let outputs = yolo(cxcywh, |score| score);
    let mut mirrored = outputs.clone();
    mirrored[0].values[2] = f32::NAN;
    let Judgement::Refused { seen, key, .. } = judged(&table(Kind::Yolo), &outputs, &mirrored)
    else {
        panic!("it is not refused");
    };
    assert_eq!(key, "output.box_format");
    assert!(seen.contains("on the mirror image"), "{seen}");
}

#[test]
fn formats_that_fit_are_named() {
    let mut yolo_table = table(Kind::Yolo);
    yolo_table.box_format = Some(BoxFormat::Cxcywh);
    let (key, said) = refusal(&yolo_table, &yolo(xyxy, |score| score));
    assert_eq!(key, "output.box_format");
    assert!(said.contains("`xyxy`"), "{said}");
}

#[test]
fn coco_s_labels_know_the_player() {
    let coco = include_str!("../../../models/coco_80.txt");
    let labels: Vec<String> = coco.lines().map(str::to_owned).collect();
    let strong = |class_id| {
        let corners = TensorBox {
            x1: 0.0,
            y1: 0.0,
            x2: 9.0,
            y2: 9.0,
        };
        vec![Candidate::new(corners, 0.6, class_id).unwrap()]
    };
    assert_eq!(judge_labels(&labels, &strong(0)), Ok(()));
    let Err(Judgement::Refused { key, seen, .. }) = judge_labels(&labels, &strong(1)) else {
        panic!("it is not refused");
    };
    assert_eq!(
        (key, &*seen),
        ("labels", "a footballer with a ball is taken for `bicycle`")
    );
    assert_eq!(judge_labels(&labels[1..], &strong(1)), Ok(()));
}

#[test]
fn keypoints_are_near_their_object() {
    let mut pose = table(Kind::YoloPose);
    pose.keypoints = Some(Keypoints::Count(3));
    let mut values = Vec::new();
    for row in 0..40u8 {
        let (corners, score, _) = OBJECTS.get(usize::from(row)).copied().unwrap_or((
            [10.0, 10.0, 30.0, 30.0],
            0.001 * f32::from(row),
            0,
        ));
        let [cx, cy, ..] = cxcywh(corners);
        values.extend(cxcywh(corners));
        values.extend([score, 0.0, 0.0]);
        values.extend([cx, cy, 0.9, cx + 2.0, cy, 0.9]);
    }
    let outputs = vec![output("out", &[1, 40, 13], values)];
    pose.keypoints = Some(Keypoints::Count(2));
    assert!(matches!(
        judged(&pose, &outputs, &outputs),
        Judgement::Fits(_)
    ));
    pose.keypoints = Some(Keypoints::Count(3));
    pose.keypoint_numbers = Some(2);
    assert_eq!(refusal(&pose, &outputs).0, "output.keypoint_numbers");
    // Another number of points is another number of columns.
    pose.keypoint_numbers = None;
    assert!(matches!(
        judged(&pose, &outputs, &outputs),
        Judgement::Shape(_)
    ));
}

#[test]
fn nothing_is_what_most_candidates_of_a_softmax_are() {
    let mut detr = OutputTable::of(Kind::Detr);
    detr.boxes = Some("boxes".to_owned());
    detr.logits = Some("logits".to_owned());
    // The last number of each of 40 queries is that for "nothing".
    let outputs = |nothing: f32| {
        let (mut boxes, mut logits) = (Vec::new(), Vec::new());
        for row in 0..40usize {
            let known = OBJECTS.get(row);
            let corners = known.map_or([10.0, 10.0, 30.0, 30.0], |(corners, ..)| *corners);
            boxes.extend(cxcywh(corners).map(|n| n / 320.0));
            let of_class = |class| match known {
                Some((.., known)) if *known == class => 2.0,
                // None of the classes is the likeliest of most queries.
                _ if (row + class) % CLASSES == 0 => -4.0,
                _ => -5.0,
            };
            logits.extend((0..CLASSES).map(of_class));
            logits.push(if known.is_some() { -9.0 } else { nothing });
        }
        vec![
            output("boxes", &[1, 40, 4], boxes),
            output("logits", &[1, 40, 4], logits),
        ]
    };
    let (as_detr, as_rf_detr) = (outputs(5.0), outputs(-9.0));
    detr.activation = Some(Activation::Softmax);
    detr.background = Some(Background::Last);
    let fits = |table: &OutputTable, outputs: &[OwnedArray]| {
        matches!(judged(table, outputs, outputs), Judgement::Fits(_))
    };
    assert!(fits(&detr, &as_detr));
    let (key, said) = refusal(&detr, &as_rf_detr);
    assert_eq!(key, "output.activation", "{said}");
    assert!(said.ends_with(": `sigmoid` fits what was seen"), "{said}");
    detr.activation = Some(Activation::Sigmoid);
    assert!(fits(&detr, &as_rf_detr));
    detr.activation = Some(Activation::Softmax);
    detr.background = Some(Background::First);
    let (key, said) = refusal(&detr, &as_detr);
    assert_eq!(key, "output.background", "{said}");
    assert!(said.ends_with(": `last` fits what was seen"), "{said}");
}
