//! The shipped models on the shipped pictures, through ONNX Runtime.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use twinsight::config::DEFAULT_MODEL;
use twinsight::detect::{
    CandidateFate, DetectError, DetectSettings, Detector, MAX_EXPLAINED, OnnxDetector, Picture,
    Runtime, RuntimeOptions,
};
use twinsight_media::picture::PictureSize;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn runtime() -> Runtime {
    let options = RuntimeOptions {
        dylib_path: std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from),
        ..RuntimeOptions::default()
    };
    Runtime::load(&options).expect("ONNX Runtime, which `scripts/setup` installs")
}

fn load(name: &str) -> OnnxDetector {
    OnnxDetector::load(&runtime(), &root().join("models"), name, &[]).expect("a shipped model")
}

fn picture(name: &str) -> image::RgbImage {
    let path = Path::new("tests/data/pictures").join(name);
    image::open(root().join(path))
        .expect("a shipped picture")
        .to_rgb8()
}

fn rgb(image: &image::RgbImage) -> Picture<'_> {
    Picture::Rgb {
        data: image.as_raw(),
        size: PictureSize {
            width_px: image.width() as usize,
            height_px: image.height() as usize,
        },
    }
}

#[test]
fn every_model_sees_the_player_and_the_ball() {
    let image = picture("messi5.jpg");
    for name in [
        DEFAULT_MODEL,
        "nanodet_g_coco",
        "ssdlite_mobilenet_v2_coco",
        "centernet_mobilenet_v3_coco",
    ] {
        let mut detector = load(name);
        assert_eq!(detector.execution_provider(), "CPUExecutionProvider");
        let found = detector
            .detect(rgb(&image), &DetectSettings::default())
            .unwrap();
        let labels: Vec<&str> = found
            .objects
            .iter()
            .map(|object| detector.model().label(object.class_id))
            .collect();
        assert!(
            labels.contains(&"person") && labels.contains(&"sports ball"),
            "{name}: {labels:?}"
        );
        for object in &found.objects {
            let bbox = object.bbox;
            assert!(bbox.x >= 0.0 && bbox.y >= 0.0 && bbox.width > 0.0 && bbox.height > 0.0);
            assert!(
                bbox.x + bbox.width <= image.width() as f32 + 0.01,
                "{bbox:?}"
            );
            assert!(
                bbox.y + bbox.height <= image.height() as f32 + 0.01,
                "{bbox:?}"
            );
        }
    }
}

#[test]
fn wanted_classes_are_all_that_comes() {
    let image = picture("messi5.jpg");
    let mut detector = load("ssdlite_mobilenet_v2_coco");
    let ball = detector.model().class_id("sports ball").unwrap();
    let settings = DetectSettings {
        min_score: 0.4,
        classes: vec![ball],
    };
    let found = detector.detect(rgb(&image), &settings).unwrap();
    assert_eq!(found.objects.len(), 1);
    assert_eq!(found.objects[0].class_id, ball);
}

#[test]
fn what_is_explained_as_kept_is_what_is_detected() {
    let image = picture("messi5.jpg");
    for name in [
        DEFAULT_MODEL,
        "ssdlite_mobilenet_v2_coco",
        "centernet_mobilenet_v3_coco",
    ] {
        let mut detector = load(name);
        let ball = detector.model().class_id("sports ball").unwrap();
        for (min_score, classes) in [(0.4, vec![]), (0.2, vec![ball]), (0.01, vec![])] {
            let settings = DetectSettings { min_score, classes };
            let detected = detector.detect(rgb(&image), &settings).unwrap();
            let explained = detector.explain(rgb(&image), &settings, 0.05).unwrap();
            assert_eq!(explained.detections.objects, detected.objects, "{name}");
            let mut kept = 0;
            for (n, candidate) in explained.candidates.iter().enumerate() {
                let is_asked =
                    settings.classes.is_empty() || settings.classes.contains(&candidate.class_id);
                match candidate.fate {
                    CandidateFate::Kept { object } => {
                        let object = &detected.objects[object];
                        assert_eq!(
                            (object.bbox, object.score, object.class_id),
                            (candidate.bbox, candidate.score, candidate.class_id)
                        );
                        kept += 1;
                    }
                    CandidateFate::BelowScore => assert!(candidate.score < min_score),
                    CandidateFate::ClassNotAsked => {
                        assert!(candidate.score >= min_score && !is_asked);
                    }
                    CandidateFate::Suppressed { by } => {
                        let better = explained.candidates[by].fate;
                        assert!(by < n && !matches!(better, CandidateFate::Suppressed { .. }));
                    }
                }
            }
            assert_eq!(kept, detected.objects.len(), "{name}");
            let told = explained.candidates.len();
            assert!(told > kept || told == MAX_EXPLAINED, "{name}");
        }
    }
}

#[test]
fn a_short_picture_is_an_error_and_the_next_is_detected() {
    let image = picture("messi5.jpg");
    let mut detector = load("ssdlite_mobilenet_v2_coco");
    let short = Picture::Rgb {
        data: &image.as_raw()[1..],
        size: rgb(&image).size(),
    };
    let settings = DetectSettings::default();
    assert!(matches!(
        detector.detect(short, &settings),
        Err(DetectError::Picture { width_px: 548, .. })
    ));
    assert!(
        !detector
            .detect(rgb(&image), &settings)
            .unwrap()
            .objects
            .is_empty()
    );
}

#[test]
fn a_terminated_detector_fails_and_leaves_others_alone() {
    let image = picture("messi5.jpg");
    let settings = DetectSettings::default();
    let mut ended = load("ssdlite_mobilenet_v2_coco");
    (ended.terminator().expect("it can be ended"))();
    let error = ended.detect(rgb(&image), &settings).unwrap_err();
    assert!(matches!(error, DetectError::Run { .. }), "{error}");
    assert!(ended.recover());
    ended.detect(rgb(&image), &settings).unwrap();
    load("ssdlite_mobilenet_v2_coco")
        .detect(rgb(&image), &settings)
        .unwrap();
}

#[test]
fn a_model_that_does_not_fit_its_manifest_is_refused() {
    let models = root().join("models");
    let dir = tempfile::tempdir().unwrap();
    let manifest = std::fs::read_to_string(models.join("nanodet_g_coco.toml")).unwrap();
    for file in ["nanodet_g_coco.onnx", "coco_80.txt"] {
        std::fs::copy(models.join(file), dir.path().join(file)).unwrap();
    }
    let refusal = |from: &str, to: &str| {
        assert!(manifest.contains(from));
        let path = dir.path().join("nanodet_g_coco.toml");
        std::fs::write(path, manifest.replace(from, to)).unwrap();
        let error = OnnxDetector::load(&runtime(), dir.path(), "nanodet_g_coco", &[]).unwrap_err();
        error
            .to_string()
            .replace(&format!("{}/", dir.path().display()), "")
    };
    assert_eq!(
        refusal("width = 416", "width = 320"),
        "nanodet_g_coco.onnx: its input should be `images` f32, f16 or u8 [1, 3, 416, 320] and is `images` f32 [1, 3, 416, 416]; correct `input.width` in the manifest or install the file that it describes"
    );
    assert_eq!(
        refusal("kind = \"yolo\"", "kind = \"rows\""),
        "nanodet_g_coco.onnx: output `output0` should have shape [1, N, 6] and has [1, 84, 3549]; correct `output` in the manifest or install the file that it describes"
    );
    std::fs::write(dir.path().join("coco_80.txt"), "person\ncar\n").unwrap();
    assert_eq!(
        refusal("kind = \"yolo\"", "kind = \"yolo\""),
        "nanodet_g_coco.onnx: output `output0` should have numbers for 2 classes, as many as there are labels, and has numbers for 80; correct `labels` in the manifest or install the file that it describes"
    );
}

#[test]
fn a_wrong_format_of_real_boxes_is_refused_with_the_right_one() {
    let models = root().join("models");
    for (name, right, wrong) in [
        ("centernet_mobilenet_v3_coco", "xyxy", ["yxyx", "xywh"]),
        ("ssdlite_mobilenet_v2_coco", "yxyx", ["xyxy", "cxcywh"]),
        ("nanodet_g_coco_int8", "cxcywh", ["xywh", "yxyx"]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let manifest = std::fs::read_to_string(models.join(format!("{name}.toml"))).unwrap();
        for file in [&format!("{name}.onnx"), "coco_80.txt", "coco_90.txt"] {
            std::fs::copy(models.join(file), dir.path().join(file)).unwrap();
        }
        for format in wrong {
            let path = dir.path().join(format!("{name}.toml"));
            std::fs::write(path, format!("{manifest}box_format = \"{format}\"\n")).unwrap();
            let error = OnnxDetector::load(&runtime(), dir.path(), name, &[]).unwrap_err();
            let sentence = error.to_string();
            assert!(
                sentence.contains("correct `output.box_format` in the manifest"),
                "{name} as {format}: {sentence}"
            );
            // Where the mirror image told it, it told the right one, too.
            assert!(
                !sentence.contains("mirror image") || sentence.contains(&format!("`{right}` fits")),
                "{name} as {format}: {sentence}"
            );
        }
    }
}

/// A model of this test's own.
fn made(model: &[u8]) -> OnnxDetector {
    let folder = tempfile::tempdir().expect("a folder");
    crate::made_models::install(folder.path(), "made", model);
    OnnxDetector::load(&runtime(), folder.path(), "made", &[]).expect("a model of the test's")
}

#[test]
fn numbers_that_cannot_be_are_no_result_of_a_picture_and_a_reason_to_refuse_the_model() {
    let image = picture("messi5.jpg");
    let settings = DetectSettings::default();
    let [cx, cy, width, height, score] = crate::made_models::PERSON;
    let mut good = made(&crate::made_models::constant([
        cx, cy, width, height, score,
    ]));
    assert_eq!(
        good.detect(rgb(&image), &settings).unwrap().objects.len(),
        1
    );
    for (values, said, judged, key) in [
        (
            [cx, cy, width, height, 5.0],
            "has 5 as a score",
            "are 5 on the test picture",
            "output.activation",
        ),
        (
            [cx, cy, width, height, f32::NAN],
            "has NaN as a score",
            "has NaN as a score",
            "input.scale",
        ),
        (
            [cx, cy, width, height, f32::INFINITY],
            "has inf as a score",
            "are inf on the test picture",
            "output.activation",
        ),
        (
            [f32::NAN, cy, width, height, score],
            "has NaN as an edge of a box",
            "has NaN as an edge of a box",
            "output.box_format",
        ),
        (
            [cx, cy, width, f32::INFINITY, score],
            "inf as an edge of a box",
            "inf as an edge of a box",
            "output.box_format",
        ),
        (
            [cx, cy, -width, height, score],
            "has 12 as an edge of a box",
            "has 12 as an edge of a box",
            "output.box_format",
        ),
        (
            [50.0 * cx, cy, width, height, score],
            "has 796 as an edge of a box, which should be within the picture",
            "has 796 as an edge of a box",
            "output.box_units",
        ),
    ] {
        // A model that lies about pictures with contrast passes, and its frames fail.
        let mut lies = made(&crate::made_models::liar(values));
        let error = lies.detect(rgb(&image), &settings).unwrap_err();
        assert!(
            matches!(error, DetectError::Numbers { .. }) && error.to_string().contains(said),
            "{error}"
        );
        // A model that lies about all of them is refused.
        let folder = tempfile::tempdir().unwrap();
        let always = crate::made_models::constant(values);
        crate::made_models::install(folder.path(), "made", &always);
        let error = OnnxDetector::load(&runtime(), folder.path(), "made", &[]).unwrap_err();
        let sentence = error.to_string();
        assert!(
            sentence.contains(judged)
                && sentence.contains(&format!("correct `{key}` in the manifest")),
            "{sentence}"
        );
    }
}

#[test]
fn a_run_without_end_is_ended_and_the_detector_is_used_again() {
    let image = picture("messi5.jpg");
    let settings = DetectSettings::default();
    let mut hangs = made(&crate::made_models::endless());
    let end = hangs.terminator().expect("it can be ended");
    let (over, ended) = channel::<()>();
    std::thread::scope(|scope| {
        let end = scope.spawn(move || {
            // Late enough that the run has begun, and again if it had not.
            while ended.recv_timeout(Duration::from_millis(200)) == Err(RecvTimeoutError::Timeout) {
                end();
            }
        });
        let error = hangs.detect(rgb(&image), &settings).unwrap_err();
        drop(over);
        end.join().unwrap();
        assert!(matches!(error, DetectError::Run { .. }), "{error}");
    });
    assert!(hangs.recover());
    let grey = Picture::Rgb {
        data: &[114; 3 * 8 * 8],
        size: PictureSize {
            width_px: 8,
            height_px: 8,
        },
    };
    assert_eq!(hangs.detect(grey, &settings).unwrap().objects.len(), 1);
}
