//! What the exporters in use write, by name, type and shape: the first way to read it is the right one. `tests/detect/model_add.rs` tries
//! the whole with graphs whose objects are known.

use super::family::Family;
use super::outputs::{Reading, Sight};
use super::testing::outlet;
use super::*;
use crate::detect::judge::OwnedArray;
use crate::detect::manifest::file::{Activation, Background, BoxFormat, BoxUnits, Column};
use crate::detect::manifest::{Element, Outlet};

/// An output: its name, type and shape, and what number `row` of its elements is.
struct Out(&'static str, Element, &'static [i64], fn(usize) -> f32);

struct Case {
    outputs: Vec<Out>,
    metadata: Metadata,
    extra: Vec<&'static str>,
    is_from_tensorflow: bool,
    hints: Hints,
}

impl Case {
    fn of(outputs: Vec<Out>) -> Self {
        Self {
            outputs,
            metadata: Metadata::default(),
            extra: Vec::new(),
            is_from_tensorflow: false,
            hints: Hints::default(),
        }
    }

    fn readings(&self) -> Result<Vec<Reading>, Unrecognized> {
        self.look(|sight| sight.readings())
    }

    fn look<T>(&self, look: impl FnOnce(&Sight<'_>) -> T) -> T {
        let outlets: Vec<Outlet> = self
            .outputs
            .iter()
            .map(|Out(name, element, dims, _)| outlet(name, element.clone(), dims))
            .collect();
        let arrays: Vec<OwnedArray> = self
            .outputs
            .iter()
            .map(|Out(name, _, dims, value)| {
                let count: i64 = dims.iter().product();
                OwnedArray {
                    name: (*name).to_owned(),
                    dims: dims.to_vec(),
                    values: (0..usize::try_from(count).unwrap()).map(value).collect(),
                }
            })
            .collect();
        let mut sight = Sight::new(&outlets, &arrays, (640, 640), &self.metadata, &self.hints);
        sight.extra.clone_from(&self.extra);
        sight.is_from_tensorflow = self.is_from_tensorflow;
        look(&sight)
    }

    fn first(&self) -> Reading {
        let readings = self.readings().unwrap();
        readings.into_iter().next().expect("a way to read it")
    }
}

/// Numbers that are pixels of a box in every place of a row.
fn pixels(at: usize) -> f32 {
    [100.0, 120.0, 300.0, 320.0][at % 4]
}

fn nought(_: usize) -> f32 {
    0.0
}

fn shares(at: usize) -> f32 {
    [0.2, 0.3, 0.6, 0.7][at % 4]
}

fn logits(at: usize) -> f32 {
    if at.is_multiple_of(7) { 2.0 } else { -4.0 }
}

fn table(dims: &'static [i64]) -> Case {
    Case::of(vec![Out("output0", Element::F32, dims, nought)])
}

fn with_names(dims: &'static [i64], task: &str, names: usize) -> Case {
    let mut case = table(dims);
    case.metadata = Metadata {
        names: Some((0..names).map(|n| format!("thing {n}")).collect()),
        task: Some(task.to_owned()),
        is_ultralytics: true,
        ..Metadata::default()
    };
    case
}

#[test]
fn tables_are_told_apart_by_their_shapes() {
    let kind = |dims| {
        let first = table(dims).first();
        (first.output.kind, first.classes, first.family)
    };
    // At 640 x 640 the grids have 8400 cells, and anchors are three times as many.
    assert_eq!(kind(&[1, 84, 8400]), (Kind::Yolo, Some(80), Family::Other));
    assert_eq!(kind(&[1, 8400, 84]), (Kind::Yolo, Some(80), Family::Other));
    assert_eq!(
        kind(&[1, 25200, 85]),
        (Kind::YoloObjectness, Some(80), Family::Yolo)
    );
    assert_eq!(kind(&[1, 8400, 85]), (Kind::Yolox, Some(80), Family::Yolox));
    assert_eq!(kind(&[1, 300, 6]), (Kind::Rows, None, Family::Other));
    assert_eq!(kind(&[37, 7]).0, Kind::Rows);
    assert_eq!(kind(&[1, 56, 8400]).0, Kind::YoloPose);
    assert_eq!(kind(&[1, 5, 8400]), (Kind::Yolo, Some(1), Family::Other));
}

#[test]
fn numbers_that_fit_the_labels_are_those_of_a_candidate() {
    // There are fewer candidates than numbers.
    let first = table(&[1, 84, 10]).first();
    assert_eq!((first.output.kind, first.classes), (Kind::Yolo, Some(80)));
    let first = table(&[1, 10, 84]).first();
    assert_eq!((first.output.kind, first.classes), (Kind::Yolo, Some(80)));
    let first = with_names(&[1, 10, 24], "detect", 20).first();
    assert_eq!(first.classes, Some(20));
}

#[test]
fn metadata_decides_where_shapes_do_not() {
    let first = with_names(&[1, 6, 8400], "detect", 2).first();
    assert_eq!(
        (first.output.kind, first.classes, first.family),
        (Kind::Yolo, Some(2), Family::Yolo)
    );
    let mut pose = with_names(&[1, 17, 8400], "pose", 1);
    pose.metadata.keypoints = Some((4, 3));
    let first = pose.first();
    assert_eq!(first.output.kind, Kind::YoloPose);
    assert_eq!(first.output.keypoint_numbers, Some(3));
    assert!(matches!(
        with_names(&[1, 1000], "classify", 1000).readings(),
        Err(Unrecognized::Task { task }) if task == "classify"
    ));
}

#[test]
fn prototypes_make_it_an_outline() {
    let seg = |dims| {
        Case::of(vec![
            Out("output0", Element::F32, dims, nought),
            Out("output1", Element::F32, &[1, 32, 160, 160], nought),
        ])
        .first()
    };
    let v8 = seg(&[1, 116, 8400]);
    assert_eq!(
        (v8.output.kind, v8.classes, v8.output.columns.clone()),
        (Kind::YoloSeg, Some(80), None)
    );
    let v5 = seg(&[1, 25200, 117]);
    assert_eq!(v5.classes, Some(80));
    assert!(v5.output.columns.unwrap().contains(&Column::Objectness));
    let end_to_end = seg(&[1, 300, 38]);
    assert_eq!(end_to_end.classes, None);
    assert!(end_to_end.output.columns.unwrap().contains(&Column::Class));
}

#[test]
fn rows_of_paddle_have_the_class_first() {
    fn row(at: usize) -> f32 {
        [2.0, 0.8, 100.0, 120.0, 300.0, 320.0][at % 6]
    }
    let mut case = Case::of(vec![
        Out("multiclass_nms3_0.tmp_0", Element::F32, &[100, 6], row),
        Out("multiclass_nms3_0.tmp_2", Element::I32, &[1], |_| 100.0),
    ]);
    case.extra = vec!["scale_factor"];
    let first = case.first();
    assert_eq!(
        (first.output.kind, first.family),
        (Kind::Rows, Family::Paddle)
    );
    assert_eq!(
        first.output.columns.unwrap(),
        [Column::Class, Column::Score, Column::Box]
    );
    assert_eq!(first.output.box_units, Some(BoxUnits::Pixels));
}

#[test]
fn transformers_have_boxes_and_logits() {
    let pair = |boxes, scores, dims| {
        Case::of(vec![
            Out(scores, Element::F32, dims, logits),
            Out(boxes, Element::F32, &[1, 100, 4], shares),
        ])
        .first()
    };
    let hugging_face = pair("pred_boxes", "logits", &[1, 100, 80]);
    assert_eq!(hugging_face.output.kind, Kind::Detr);
    assert_eq!(hugging_face.output.activation, Some(Activation::Sigmoid));
    assert_eq!(hugging_face.classes, Some(80));
    assert_eq!(hugging_face.family, Family::RtDetr);
    let rf_detr = pair("dets", "labels", &[1, 100, 91]);
    assert_eq!(rf_detr.output.logits.as_deref(), Some("labels"));
    assert_eq!((rf_detr.family, rf_detr.classes), (Family::Detr, Some(91)));

    // DETR's last number stands for "nothing", which most queries are.
    fn mostly_nothing(at: usize) -> f32 {
        if at % 92 == 91 { 8.0 } else { -3.0 }
    }
    let detr = Case::of(vec![
        Out("logits", Element::F32, &[1, 100, 92], mostly_nothing),
        Out("pred_boxes", Element::F32, &[1, 100, 4], shares),
        Out("last_hidden_state", Element::F32, &[1, 100, 256], logits),
    ])
    .first();
    assert_eq!(detr.output.activation, Some(Activation::Softmax));
    assert_eq!(detr.output.background, Some(Background::Last));
    assert_eq!((detr.family, detr.classes), (Family::Detr, Some(91)));
}

#[test]
fn boxes_with_scores_of_many_candidates_are_an_ssd() {
    fn scores(at: usize) -> f32 {
        if at.is_multiple_of(21) { 0.9 } else { 0.005 }
    }
    let mut case = Case::of(vec![
        Out("scores", Element::F32, &[1, 3000, 21], scores),
        Out("boxes", Element::F32, &[1, 3000, 4], shares),
    ]);
    let first = case.first();
    assert_eq!(first.output.kind, Kind::Ssd);
    assert_eq!(first.output.background, Some(Background::First));
    assert_eq!(first.output.box_format, Some(BoxFormat::Xyxy));
    case.is_from_tensorflow = true;
    assert_eq!(case.first().output.box_format, Some(BoxFormat::Yxyx));
    // What TensorFlow leaves has no class for "nothing", even where the file does not say that it is TensorFlow's.
    case.is_from_tensorflow = false;
    case.outputs[0].3 = |at| if at.is_multiple_of(50) { 0.9 } else { 0.0 };
    let first = case.first();
    assert_eq!(first.output.background, Some(Background::None));
    assert_eq!(first.output.box_format, Some(BoxFormat::Yxyx));
    // Numbers of which hardly any four are a box are offsets.
    case.outputs[1].3 = |at| [0.5, -0.3, -0.8, 0.2, -0.1, 0.4, 0.9][at % 7];
    assert!(case.first().needs_anchors);
}

#[test]
fn lists_are_told_apart_by_who_made_them() {
    let f = Element::F32;
    let boxes = |name, dims| Out(name, Element::F32, dims, pixels);
    let score = |_| 0.8;
    let torchvision = Case::of(vec![
        boxes("boxes", &[100, 4]),
        Out("labels", Element::I64, &[100], |_| 1.0),
        Out("scores", f.clone(), &[100], score),
    ])
    .first();
    assert_eq!(
        (torchvision.output.kind, torchvision.family),
        (Kind::BoxesLabelsScores, Family::Torchvision)
    );
    assert_eq!(torchvision.output.background, Some(Background::First));
    assert_eq!(torchvision.assumed, 90);

    let tensorflow = Case::of(vec![
        Out("detection_boxes", f.clone(), &[1, 100, 4], shares),
        Out("detection_classes", f.clone(), &[1, 100], |_| 3.0),
        Out("detection_scores", f.clone(), &[1, 100], score),
        Out("num_detections", f.clone(), &[1], |_| 100.0),
        Out("raw_detection_boxes", f.clone(), &[1, 1917, 4], shares),
        Out("raw_detection_scores", f.clone(), &[1, 1917, 91], score),
    ])
    .first();
    assert_eq!(tensorflow.family, Family::TfDetection);
    assert_eq!(tensorflow.output.box_format, Some(BoxFormat::Yxyx));
    assert_eq!(tensorflow.output.box_units, Some(BoxUnits::Shares));
    assert_eq!(tensorflow.output.count.as_deref(), Some("num_detections"));

    let mmdetection = Case::of(vec![
        Out("dets", f.clone(), &[1, 100, 5], |at| {
            [10.0, 20.0, 90.0, 80.0, 0.7][at % 5]
        }),
        Out("labels", Element::I64, &[1, 100], nought),
    ])
    .first();
    assert_eq!(
        (mmdetection.family, mmdetection.output.scores),
        (Family::MmDetection, None)
    );
    assert_eq!(mmdetection.output.background, Some(Background::None));

    let mut d_fine = Case::of(vec![
        Out("labels", Element::I64, &[1, 300], nought),
        boxes("boxes", &[1, 300, 4]),
        Out("scores", f.clone(), &[1, 300], score),
    ]);
    d_fine.extra = vec!["orig_target_sizes"];
    let d_fine = d_fine.first();
    assert_eq!(d_fine.family, Family::RtDetr);
    assert_eq!(d_fine.output.background, Some(Background::None));

    let tensor_rt = Case::of(vec![
        Out("num_dets", Element::I32, &[1, 1], |_| 3.0),
        boxes("det_boxes", &[1, 100, 4]),
        Out("det_scores", f, &[1, 100], score),
        Out("det_classes", Element::I32, &[1, 100], nought),
    ])
    .first();
    assert_eq!(tensor_rt.output.labels.as_deref(), Some("det_classes"));
    assert_eq!(tensor_rt.output.count.as_deref(), Some("num_dets"));
}

#[test]
fn classes_are_not_invented_where_nothing_says_that_it_is_a_table() {
    let none = |dims| assert_eq!(table(dims).readings().unwrap(), [], "{dims:?}");
    // A reader of text, a map of text, a classifier, and one of PicoDet's heads.
    none(&[1, 1600, 130]);
    none(&[1, 1, 640, 640]);
    none(&[1, 1000]);
    none(&[1, 6400, 80]);
    // One or three candidates in each cell, also where networks have a finer grid.
    for dims in [
        &[1, 25200, 8][..],
        &[1, 8, 8400],
        &[1, 34000, 9],
        &[1, 8500, 9],
    ] {
        let first = table(dims).first();
        assert!(first.rank < 3, "{dims:?}: {first:?}");
    }
    // A list has to show what it is.
    assert!(table(&[1, 300, 17]).first().rank >= 3);
    // Whoever knows the labels or the kind is believed.
    let mut case = table(&[1, 1600, 130]);
    case.hints.kind = Some(Kind::Yolo);
    assert!(!case.readings().unwrap().is_empty());
    assert!(
        !with_names(&[1, 1600, 130], "detect", 126)
            .readings()
            .unwrap()
            .is_empty()
    );
    let head = |name, dims| Out(name, Element::F32, dims, nought);
    let heads = Case::of(vec![
        head("a", &[1, 400, 17]),
        head("b", &[1, 100, 17]),
        head("c", &[1, 400, 32]),
        head("d", &[1, 100, 32]),
    ]);
    let purpose = |case: &Case| {
        case.look(|sight| sight.other_purpose(""))
            .map(|why| why.to_string())
    };
    assert!(purpose(&heads).unwrap().contains("raw heads"));
    let classifier = purpose(&table(&[1, 1000])).unwrap();
    assert!(
        classifier.contains("one vector for each picture"),
        "{classifier}"
    );
    assert_eq!(purpose(&table(&[1, 1600, 130])), None);
    let readings = heads.readings().unwrap();
    assert!(
        readings
            .iter()
            .all(|reading| reading.output.kind != Kind::Yolo),
        "{readings:?}"
    );
}

#[test]
fn the_outputs_of_transformers_are_no_tables() {
    for (scores, boxes) in [("logits", "pred_boxes"), ("labels", "dets")] {
        let case = Case::of(vec![
            Out(scores, Element::F32, &[1, 100, 92], logits),
            Out(boxes, Element::F32, &[1, 100, 4], logits),
        ]);
        let readings = case.readings().unwrap();
        let is_pair = |reading: &Reading| reading.output.predictions.is_none();
        assert!(
            !readings.is_empty() && readings.iter().all(is_pair),
            "{readings:?}"
        );
    }
}

#[test]
fn heatmaps_are_faces() {
    let first = Case::of(vec![
        Out("537", Element::F32, &[1, 1, 160, 160], nought),
        Out("538", Element::F32, &[1, 2, 160, 160], nought),
        Out("539", Element::F32, &[1, 2, 160, 160], nought),
        Out("540", Element::F32, &[1, 10, 160, 160], nought),
    ])
    .first();
    assert_eq!(
        (first.output.kind, first.classes),
        (Kind::Centerface, Some(1))
    );
    assert_eq!(first.output.size.as_deref(), Some("538"));
    assert_eq!(first.output.landmarks.as_deref(), Some("540"));
}

#[test]
fn the_kind_that_is_asked_for_is_the_only_one() {
    let mut case = table(&[1, 8400, 85]);
    case.hints.kind = Some(Kind::YoloObjectness);
    let readings = case.readings().unwrap();
    assert!(
        readings
            .iter()
            .all(|reading| reading.output.kind == Kind::YoloObjectness)
    );
    assert_eq!(readings[0].classes, Some(80));
    case.hints.kind = Some(Kind::Ssd);
    assert_eq!(case.readings().unwrap(), []);
}

#[test]
fn settings_take_their_place_in_the_manifest() {
    let reading = table(&[1, 84, 8400]).first();
    let text = format!(
        "file = \"m.onnx\"\nsha256 = \"00\"\nlicence = \"MIT\"\nsource = \"x\"\nlabels = [\"a\"]\nnms_iou = 0.5\n[input]\nname = \"i\"\n\
         width = 32\nheight = 32\nlayout = \"nchw\"\ncolor_order = \"rgb\"\nscale = 1.0\nresize = \"stretch\"\n[output]\nkind = \"{}\"\npredictions = \"o\"\n",
        reading.output.kind
    );
    let file = ManifestFile::parse(&text, std::path::Path::new("m.toml")).unwrap();
    let set = |key: &str, value: toml::Value| with_settings(&file, &[(key.to_owned(), value)]);
    let changed = set("output.box_units", "shares".into()).unwrap();
    assert_eq!(changed.output.box_units, Some(BoxUnits::Shares));
    let error = set("output.strides", "8".into()).unwrap_err().to_string();
    assert!(
        error.ends_with("as in `--set 'output.strides=[8, 16, 32]'`"),
        "{error}"
    );
    let changed = set("input.extra.size", "width_height".into()).unwrap();
    assert_eq!(changed.input.extra.len(), 1);
    for (key, value) in [
        ("output.box_units", "share"),
        ("nms_iou", "much"),
        ("file.name", "x"),
    ] {
        let error = set(key, value.into()).unwrap_err();
        assert!(matches!(error, Unrecognized::Setting { .. }), "{error}");
        assert!(error.to_string().contains(key), "{error}");
    }
}
