//! Outputs of any shape with any numbers in them: nothing panics, and what comes out of them is an object.

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;
use crate::detect::manifest::file::{Background, BoxUnits};
use crate::preprocess::tensor::Align;

const KINDS: [Kind; 10] = [
    Kind::Ssd,
    Kind::Rows,
    Kind::Yolo,
    Kind::YoloObjectness,
    Kind::Yolox,
    Kind::Detr,
    Kind::BoxesLabelsScores,
    Kind::Centerface,
    Kind::YoloPose,
    Kind::YoloSeg,
];

const CLASSES: usize = 3;

/// Numbers that outputs are made of: mostly those of scores, classes and boxes, and sometimes none that means anything.
fn number() -> impl Strategy<Value = f32> {
    prop_oneof![
        12 => 0.0f32..1.0,
        6 => 0.0f32..200.0,
        3 => -8.0f32..8.0,
        4 => select(vec![0.0, 1.0, 2.0, 3.0, -1.0]),
        1 => select(vec![
            f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, f32::MIN_POSITIVE, -0.0, -0.009, 1.009,
        ]),
    ]
}

/// Numbers of which most outputs can be read.
fn calm_number() -> impl Strategy<Value = f32> {
    prop_oneof![
        40 => 0.0f32..1.0,
        20 => select(vec![0.0, 1.0]),
        1 => number(),
    ]
}

/// A length, mostly one that fits another.
fn length() -> impl Strategy<Value = i64> {
    prop_oneof![
        20 => select(vec![1i64, 2, 4, 5, 6, 7, 8, 10, 13]),
        1 => select(vec![0, 3, -1, i64::MAX]),
    ]
}

/// A table of the kind with some of what may be said of it, and with all outputs that it may have.
fn any_table() -> impl Strategy<Value = OutputTable> {
    let words = (
        select(KINDS.to_vec()),
        proptest::option::of(select(BoxFormat::ALL.to_vec())),
        proptest::option::of(select(vec![BoxUnits::Pixels, BoxUnits::Shares])),
        proptest::option::of(select(vec![
            Activation::None,
            Activation::Sigmoid,
            Activation::Softmax,
        ])),
        proptest::option::of(select(vec![
            Background::None,
            Background::First,
            Background::Last,
        ])),
        any::<[bool; 4]>(),
    );
    words.prop_map(|(kind, format, units, activation, background, more)| {
        let mut made = table(kind);
        let (_, optional) = kind.keys();
        let has = |key: &str| optional.contains(&key);
        let named = |key: &str, is_given: bool| (has(key) && is_given).then(|| key.to_owned());
        made.box_format = format.filter(|_| has("box_format"));
        made.box_units = units.filter(|_| has("box_units"));
        made.activation = activation.filter(|_| has("activation"));
        made.background = background.filter(|_| has("background"));
        if kind == Kind::BoxesLabelsScores {
            made.scores = named("scores", more[0]);
            made.count = named("count", more[1]);
        }
        made.landmarks = named("landmarks", more[0]);
        made.strides = (kind == Kind::Yolox).then(|| vec![100]);
        made.keypoint_numbers = (kind == Kind::YoloPose && more[2]).then_some(2);
        made.columns = match kind {
            Kind::YoloPose if more[3] => Some(vec![
                Column::Box,
                Column::Score,
                Column::Class,
                Column::Keypoints,
            ]),
            Kind::YoloSeg if more[3] => Some(vec![
                Column::Box,
                Column::Score,
                Column::Class,
                Column::Coefficients,
            ]),
            Kind::Rows if more[3] => Some(vec![
                Column::Class,
                Column::Objectness,
                Column::Score,
                Column::Ignore,
                Column::Box,
            ]),
            _ => None,
        };
        made
    })
}

/// The shape that the output of this name should have, with two candidates where it may have any number.
fn shape(output: &Output, name: &str, turned: bool) -> Vec<i64> {
    use crate::detect::output::Outputs;
    let columns = i64::try_from(output.score_columns()).unwrap();
    match (&output.outputs, name) {
        (Outputs::Table { columns, .. }, "out") => {
            let all = i64::try_from(output.widths(columns, 2).all).unwrap();
            if turned {
                vec![1, all, 2]
            } else {
                vec![1, 2, all]
            }
        }
        (_, "prototypes") => vec![1, 2, 6, 5],
        (Outputs::Lists { scores: None, .. }, "boxes") => vec![1, 2, 5],
        (_, "boxes") => vec![1, 2, 4],
        (Outputs::Split { .. }, "scores") => vec![1, 2, columns],
        (_, "scores" | "labels") => vec![1, 2],
        (_, "count") => vec![1],
        (_, "heatmap") => vec![1, 3, 2, 2],
        (_, "size" | "offset") => vec![1, 2, 2, 2],
        _ => vec![1, 10, 2, 2],
    }
}

fn placement_of(is_center: bool, size: PictureSize) -> Placement {
    let plain = ChannelAffine {
        gain: 1.0,
        bias: 0.0,
    };
    let spec = TensorSpec {
        width: INPUT.0,
        height: INPUT.1,
        order: ChannelOrder::Rgb,
        affine: [plain; 3],
        fit: if is_center {
            Fit::Letterbox {
                align: Align::Center,
                pad: 0,
            }
        } else {
            Fit::Stretch
        },
    };
    Placement::new(&spec, size)
}

fn check(object: &Object, size: PictureSize) {
    let (wide, high) = (size.width_px as f32, size.height_px as f32);
    let is_in = |x: f32, y: f32| (0.0..=wide).contains(&x) && (0.0..=high).contains(&y);
    let bbox = object.bbox;
    assert!(object.class_id < CLASSES, "{object:?}");
    assert!((0.0..=1.0).contains(&object.score), "{object:?}");
    assert!(bbox.width > 0.0 && bbox.height > 0.0, "{object:?}");
    assert!(is_in(bbox.x, bbox.y), "{object:?}");
    // The sum may be rounded up.
    assert!(bbox.x + bbox.width <= wide * 1.000_001, "{object:?}");
    assert!(bbox.y + bbox.height <= high * 1.000_001, "{object:?}");
    for point in &object.keypoints {
        assert!(is_in(point.x, point.y), "{object:?}");
        assert!((0.0..=1.0).contains(&point.score), "{object:?}");
    }
    let corners = object.outline.len();
    assert!(corners == 0 || (3..=32).contains(&corners), "{object:?}");
    assert!(
        object.outline.iter().all(|[x, y]| is_in(*x, *y)),
        "{object:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]
    #[test]
    fn no_outputs_panic_or_give_what_is_no_object(
        made in any_table(),
        numbers in prop_oneof![
            prop::collection::vec(number(), 128),
            prop::collection::vec(calm_number(), 128),
        ],
        dims in prop::collection::vec(length(), 1..5),
        broken in proptest::option::weighted(0.2, any::<Index>()),
        start in any::<Index>(),
        flags in any::<[bool; 2]>(),
        min_score in select(vec![0.0f32, 0.05, 0.4, 1.0]),
        size in select(vec![(200usize, 200usize), (64, 48), (1920, 1080), (1, 1)]),
    ) {
        let size = PictureSize { width_px: size.0, height_px: size.1 };
        // Some of what may be said does not go together.
        let Ok(output) = made.resolve(Path::new("m.toml"), CLASSES) else {
            return Ok(());
        };
        let names: Vec<String> = output.names().into_iter().map(str::to_owned).collect();
        let wrong = broken.map(|index| index.index(names.len()));
        let mut at = start.index(numbers.len());
        let outputs: Vec<(&str, Vec<i64>, Vec<f32>)> = names
            .iter()
            .enumerate()
            .map(|(place, name)| {
                let dims = if wrong == Some(place) { dims.clone() } else { shape(&output, name, flags[0]) };
                let count = dims.iter().map(|dim| usize::try_from(*dim).unwrap_or(0)).fold(1, usize::saturating_mul);
                let values = numbers.iter().cycle().skip(at).take(count.min(4096)).copied().collect();
                at = (at + count % 128) % numbers.len();
                (name.as_str(), dims, values)
            })
            .collect();
        let arrays: Vec<Array<'_>> = outputs.iter().map(|(name, dims, values)| array(name, dims, values)).collect();
        let postprocessor = Postprocessor::new(output, INPUT);
        let placement = placement_of(flags[1], size);
        let found = postprocessor.objects(
            &arrays,
            &filter(CLASSES, min_score),
            &mut Scratch::default(),
            0.5,
            &placement,
        );
        for object in found.iter().flatten() {
            check(object, size);
        }
    }
}
