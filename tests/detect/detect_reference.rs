//! Detections are right: `twinsight detect` against `tests/interop/detect_reference.py`, which does the same with numpy,
//! OpenCV and Python's onnxruntime, on two pictures (the RGB path) and 50 frames of the clip (the I420 path).
#![allow(clippy::print_stdout, reason = "says what it measured")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use twinsight::dev::detect::run;
use twinsight::preprocess::affine::ChannelAffine;
use twinsight::preprocess::tensor::{Align, ChannelOrder, Fit};
use twinsight::preprocess::{Picture, Preprocessor, TensorSpec};
use twinsight_media::h264::clip::Clip;
use twinsight_media::picture::{Color, I420, Matrix, PictureSize};

/// The frames compared: from an IDR in the middle of the clip, where people cross.
const FIRST_FRAME: usize = 390;
const FRAMES: usize = 50;

#[derive(Debug, Deserialize)]
struct Line {
    file: String,
    frame: usize,
    width: usize,
    height: usize,
    objects: Vec<Object>,
}

#[derive(Debug, Deserialize)]
struct Object {
    label: String,
    score: f64,
    #[serde(rename = "box")]
    bbox: BBox,
}

#[derive(Debug, Deserialize)]
struct BBox {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn reference(arguments: &[&str]) -> String {
    let python = std::env::var_os("TWINSIGHT_TEST_PYTHON")
        .map_or_else(|| root().join(".venv/bin/python"), PathBuf::from);
    assert!(
        python.exists(),
        "{} is not there: run `scripts/setup --test`, or set TWINSIGHT_TEST_PYTHON",
        python.display()
    );
    let output = Command::new(python)
        .arg(root().join("tests/interop/detect_reference.py"))
        .args(arguments)
        .output()
        .expect("Python starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).expect("JSON is UTF-8")
}

/// The two pictures, and the frames of the clip as a clip of their own in `dir`.
fn files(dir: &Path) -> Vec<PathBuf> {
    let clip = Clip::read(&root().join("media/pedestrians.h264")).expect("the clip");
    let part = &clip.units()[FIRST_FRAME..FIRST_FRAME + FRAMES];
    assert!(part[0].is_idr);
    let part: Vec<u8> = part
        .iter()
        .flat_map(|unit| unit.data.iter().copied())
        .collect();
    let part_path = dir.join("part.h264");
    std::fs::write(&part_path, part).expect("a part of the clip");
    let pictures = root().join("tests/data/pictures");
    vec![
        pictures.join("messi5.jpg"),
        pictures.join("basketball1.png"),
        part_path,
    ]
}

fn parse(lines: &str) -> Vec<Line> {
    let parse = |line| serde_json::from_str(line).expect("a line of JSON");
    lines.lines().map(parse).collect()
}

fn iou(a: &BBox, b: &BBox) -> f64 {
    let width = (a.x + a.width).min(b.x + b.width) - a.x.max(b.x);
    let height = (a.y + a.height).min(b.y + b.height) - a.y.max(b.y);
    let shared = width.max(0.0) * height.max(0.0);
    shared / (a.width * a.height + b.width * b.height - shared)
}

/// How far two boxes of the same object may be apart.
#[derive(Clone, Copy)]
struct Tolerance {
    least_iou: f64,
    score: f64,
}

/// The network computes in floating point, so what differs is the last bit of a pixel.
const FLOAT: Tolerance = Tolerance {
    least_iou: 0.95,
    score: 0.03,
};

/// An activation has 256 steps, and the last bit of a pixel may move it to the next one. The layers after it make more of that.
const INT8: Tolerance = Tolerance {
    least_iou: 0.9,
    score: 0.05,
};

/// The boxes over 0.5 of one side beside those of the other.
#[derive(Default)]
struct Matches<'a> {
    boxes: u32,
    missing: Vec<&'a Object>,
    /// Differences of the scores of those that match.
    scores: Vec<f64>,
}

/// Looks up the boxes over 0.5 of `ours` in `theirs`: each of theirs answers for one of ours.
fn matches<'a>(ours: &'a Line, theirs: &Line, tolerance: Tolerance) -> Matches<'a> {
    let mut free: Vec<&Object> = theirs.objects.iter().collect();
    let mut found = Matches::default();
    for object in ours.objects.iter().filter(|object| object.score > 0.5) {
        found.boxes += 1;
        let twin = free.iter().position(|other| {
            other.label == object.label
                && (other.score - object.score).abs() <= tolerance.score
                && iou(&other.bbox, &object.bbox) >= tolerance.least_iou
        });
        match twin {
            Some(index) => {
                let twin = free.swap_remove(index);
                found.scores.push((twin.score - object.score).abs());
            }
            None => found.missing.push(object),
        }
    }
    found
}

fn compare(model: &str, tolerance: Tolerance) {
    let dir = tempfile::tempdir().expect("a folder");
    let files = files(dir.path());
    let options = crate::json_options(files.clone(), root().join("models"), model, 0.4);
    let mut out = Vec::new();
    let summary = run(&options, &mut out).expect("the command runs");
    assert!(summary.failures.is_empty(), "{:?}", summary.failures);
    assert_eq!(summary.pictures, FRAMES + 2);

    let ours = parse(std::str::from_utf8(&out).expect("UTF-8"));
    let mut arguments = vec!["detect", model];
    arguments.extend(files.iter().map(|file| file.to_str().expect("UTF-8")));
    let theirs = parse(&reference(&arguments));
    assert_eq!(ours.len(), FRAMES + 2);
    assert_eq!(theirs.len(), FRAMES + 2);

    // The RGB path and the I420 path each on its own, so that many frames do not hide two pictures.
    for (path, is_clip) in [("pictures", false), ("clip", true)] {
        let pairs = ours.iter().zip(&theirs);
        let pairs = pairs.filter(|(line, _)| line.file.ends_with(".h264") == is_clip);
        let (mut boxes, mut bad, mut scores) = (0, Vec::new(), Vec::new());
        for (our, their) in pairs {
            assert_eq!(
                (&our.file, our.frame, our.width, our.height),
                (&their.file, their.frame, their.width, their.height)
            );
            for (of, side, other) in [("ours", our, their), ("theirs", their, our)] {
                let found = matches(side, other, tolerance);
                boxes += found.boxes;
                scores.extend(found.scores);
                let missing = found.missing.into_iter();
                bad.extend(missing.map(|object| (of, our.frame, object)));
            }
        }
        let share = 1.0 - bad.len() as f64 / f64::from(boxes);
        println!(
            "{model}, {path}: {boxes} boxes over 0.5 on both sides, {:.2} % matched; their scores differ by {:.4} at most and {:.4} \
             on average",
            100.0 * share,
            scores.iter().copied().fold(0.0, f64::max),
            scores.iter().sum::<f64>() / scores.len() as f64
        );
        assert!(
            boxes >= if is_clip { 100 } else { 4 },
            "{model}, {path}: only {boxes} boxes"
        );
        assert!(
            share >= 0.98,
            "{model}, {path}: {} of {boxes} unmatched: {bad:#?}",
            bad.len()
        );
    }
}

#[test]
fn nanodet_sees_what_the_reference_sees() {
    compare("nanodet_g_coco", FLOAT);
}

#[test]
fn nanodet_in_8_bits_sees_what_the_reference_sees() {
    compare("nanodet_g_coco_int8", INT8);
}

#[test]
fn ssd_sees_what_the_reference_sees() {
    compare("ssdlite_mobilenet_v2_coco", FLOAT);
}

#[test]
fn centernet_sees_what_the_reference_sees() {
    compare("centernet_mobilenet_v3_coco", FLOAT);
}

fn preprocessor(fit: Fit, size: usize) -> Preprocessor {
    Preprocessor::new(TensorSpec {
        width: size,
        height: size,
        order: ChannelOrder::Rgb,
        affine: [ChannelAffine {
            gain: 1.0,
            bias: 0.0,
        }; 3],
        fit,
    })
}

fn mean_difference(tensor: &[f32], fit: &str, size: usize, file: &Path) -> f64 {
    let out = tempfile::NamedTempFile::new().expect("a file");
    let (file, path) = (
        file.to_str().expect("UTF-8"),
        out.path().to_str().expect("UTF-8"),
    );
    reference(&["tensor", fit, &size.to_string(), file, path]);
    difference(tensor, out.path())
}

/// The mean absolute difference to a tensor that the reference wrote.
fn difference(tensor: &[f32], theirs: &Path) -> f64 {
    let bytes = std::fs::read(theirs).expect("the tensor");
    assert_eq!(bytes.len(), 4 * tensor.len());
    let theirs = bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|value| f32::from_le_bytes(*value));
    let total: f64 = tensor
        .iter()
        .zip(theirs)
        .map(|(a, b)| f64::from((a - b).abs()))
        .sum();
    total / tensor.len() as f64
}

#[test]
fn tensors_are_opencvs() {
    let dir = tempfile::tempdir().expect("a folder");
    let files = files(dir.path());
    let center = Fit::Letterbox {
        align: Align::Center,
        pad: 0,
    };
    let png = &files[1];
    let image = image::open(png).expect("a picture").to_rgb8();
    let picture = Picture::Rgb {
        data: image.as_raw(),
        size: PictureSize {
            width_px: image.width() as usize,
            height_px: image.height() as usize,
        },
    };
    for (fit, name, size) in [
        (Fit::Stretch, "stretch", 300),
        (center, "center", 416),
        (center, "center", 800),
    ] {
        let mut preprocessor = preprocessor(fit, size);
        preprocessor.run(&picture).expect("a whole picture");
        let mean = mean_difference(preprocessor.tensor(), name, size, png);
        println!("RGB {name} {size}: {mean:.3} of 255");
        assert!(mean < 0.5, "{name} {size}: {mean}");
    }

    let (packed, size) = first_frame(&files[2]);
    for (fit, name, side) in [(Fit::Stretch, "stretch", 300), (center, "center", 416)] {
        let mut preprocessor = preprocessor(fit, side);
        let planes = I420::from_packed(&packed, size, Default::default());
        preprocessor
            .run(&Picture::I420(planes))
            .expect("a whole picture");
        let mean = mean_difference(preprocessor.tensor(), name, side, &files[2]);
        println!("I420 {name} {side}: {mean:.3} of 255");
        assert!(mean < 0.5, "{name} {side}: {mean}");
    }
}

/// All sizes that a camera and a model are likely to have: a decoded frame (of 768x576, repeated to fill the size) and
/// noise, in each matrix and range that a stream may name.
#[test]
fn tensors_of_720p_and_1080p_are_opencvs() {
    let dir = tempfile::tempdir().expect("a folder");
    let (frame, frame_size) = first_frame(&files(dir.path())[2]);
    let mut arguments = vec!["tensor".to_owned()];
    let mut ours = Vec::new();
    for (width_px, height_px) in [(1280, 720), (1920, 1080)] {
        let size = PictureSize {
            width_px,
            height_px,
        };
        for (content, packed) in [
            ("frame", repeated(&frame, frame_size, size)),
            ("noise", noise(size.i420_bytes())),
        ] {
            for (matrix, full_range) in [
                (Matrix::Bt601, false),
                (Matrix::Bt601, true),
                (Matrix::Bt709, false),
                (Matrix::Bt709, true),
            ] {
                let color = Color { matrix, full_range };
                let name = format!(
                    "{content}_{width_px}_{height_px}_{}_{}",
                    if matrix == Matrix::Bt601 { 601 } else { 709 },
                    if full_range { "full" } else { "limited" }
                );
                let file = dir.path().join(format!("{name}.i420"));
                std::fs::write(&file, &packed).expect("a file of planes");
                let center = Fit::Letterbox {
                    align: Align::Center,
                    pad: 0,
                };
                for (fit, fit_name, side) in [
                    (Fit::Stretch, "stretch", 300),
                    (center, "center", 416),
                    (center, "center", 640),
                ] {
                    let mut preprocessor = preprocessor(fit, side);
                    let planes = I420::from_packed(&packed, size, color);
                    preprocessor
                        .run(&Picture::I420(planes))
                        .expect("a whole picture");
                    let case = format!("{name} {fit_name} {side}");
                    let out = dir.path().join(&case);
                    let paths = [&file, &out].map(|path| path.to_str().expect("UTF-8").to_owned());
                    arguments.extend([fit_name.to_owned(), side.to_string()]);
                    arguments.extend(paths);
                    ours.push((case, preprocessor, out));
                }
            }
        }
    }
    reference(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    for (case, preprocessor, out) in ours {
        let mean = difference(preprocessor.tensor(), &out);
        println!("{case}: {mean:.3} of 255");
        assert!(mean < 0.5, "{case}: {mean}");
    }
}

/// The first picture of a clip of 768x576.
fn first_frame(clip: &Path) -> (Vec<u8>, PictureSize) {
    let clip = Clip::read(clip).expect("the part");
    let mut decoder = openh264::decoder::Decoder::new().expect("a decoder");
    let decoded = decoder
        .decode(&clip.units()[0].data)
        .expect("decodes")
        .expect("a picture");
    let size = PictureSize {
        width_px: 768,
        height_px: 576,
    };
    (packed(&decoded, size), size)
}

/// A picture beside and below itself, as often as it takes.
fn repeated(packed: &[u8], from: PictureSize, to: PictureSize) -> Vec<u8> {
    let picture = I420::from_packed(packed, from, Color::default());
    let mut bytes = Vec::new();
    for (plane, from, to) in [
        (picture.y, from.height_px, (to.width_px, to.height_px)),
        (
            picture.u,
            from.chroma_height_px(),
            (to.chroma_width_px(), to.chroma_height_px()),
        ),
        (
            picture.v,
            from.chroma_height_px(),
            (to.chroma_width_px(), to.chroma_height_px()),
        ),
    ] {
        for row in 0..to.1 {
            let row = &plane.data[row % from * plane.stride..][..plane.stride];
            bytes.extend(row.iter().cycle().take(to.0));
        }
    }
    bytes
}

/// Bytes that look random and are the same every time.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..count).map(|_| next()).collect()
}

/// The planes of a decoded picture without padding.
fn packed(decoded: &openh264::decoder::DecodedYUV<'_>, size: PictureSize) -> Vec<u8> {
    use openh264::formats::YUVSource;
    let (y, u, v) = decoded.strides();
    let (width, height) = (size.chroma_width_px(), size.chroma_height_px());
    let mut bytes = Vec::new();
    for (plane, stride, width, height) in [
        (decoded.y(), y, size.width_px, size.height_px),
        (decoded.u(), u, width, height),
        (decoded.v(), v, width, height),
    ] {
        for row in 0..height {
            bytes.extend_from_slice(&plane[row * stride..][..width]);
        }
    }
    bytes
}
