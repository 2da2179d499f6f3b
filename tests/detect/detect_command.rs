//! `twinsight detect`: files that cannot be used have their sentence and do not stop the others; annotated pictures
//! are written; the classes asked for must be the model's.

use std::path::PathBuf;
use std::time::Duration;

use twinsight::detect::{BBox, FakeDetector, Object, RuntimeOptions};
use twinsight::dev::detect::{DetectOptions, DetectSummary, run_with};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn options(files: Vec<PathBuf>) -> DetectOptions {
    DetectOptions {
        files,
        models: root().join("models"),
        model: "fake".to_owned(),
        min_score: 0.4,
        classes: Vec::new(),
        out: None,
        json: false,
        runtime: RuntimeOptions::default(),
        execution_providers: Vec::new(),
    }
}

fn fake() -> Box<FakeDetector> {
    let bbox = BBox {
        x: 100.04,
        y: 50.0,
        width: 80.0,
        height: 120.0,
    };
    let object = Object {
        class_id: 0,
        score: 0.87654,
        bbox,
        keypoints: Vec::new(),
        outline: Vec::new(),
    };
    Box::new(FakeDetector::new(Duration::ZERO, vec![object]))
}

fn run(options: &DetectOptions) -> (DetectSummary, String) {
    let mut out = Vec::new();
    let summary = run_with(fake(), options, &mut out).expect("the command runs");
    (summary, String::from_utf8(out).expect("UTF-8"))
}

#[test]
fn bad_files_have_their_sentence_and_the_others_go_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).expect("a file");
        path
    };
    let picture = std::fs::read(root().join("tests/data/pictures/messi5.jpg")).expect("a picture");
    let files = vec![
        dir.path().join("nowhere.jpg"),
        write("notes.txt", b"hello"),
        write("empty.png", b""),
        write("half.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),
        write("headless.h264", &[0, 0, 0, 1, 0x41, 0x9a, 0x22]),
        write("broken.h264", &[0, 0, 0, 1, 0x65, 0x88, 0x80, 0x10]),
        write("good.jpg", &picture),
    ];
    let (summary, out) = run(&options(files));
    let sentences: Vec<String> = summary
        .failures
        .iter()
        .map(|error| {
            error
                .to_string()
                .replace(&format!("{}/", dir.path().display()), "")
        })
        .collect();
    let starts = [
        "nowhere.jpg: cannot be read: No such file or directory",
        "notes.txt: is neither a JPEG or PNG picture nor an H.264 byte stream (Annex B)",
        "empty.png: is neither a JPEG",
        "half.png: is not a whole picture: ",
        "headless.h264: is an H.264 byte stream without a keyframe",
        "broken.h264: 1 of its 1 access units could not be decoded",
    ];
    assert_eq!(sentences.len(), starts.len(), "{sentences:#?}");
    for (sentence, start) in sentences.iter().zip(starts) {
        assert!(sentence.starts_with(start), "{sentence}");
        assert!(!sentence.contains('\n'), "{sentence}");
    }
    assert_eq!(summary.pictures, 1);
    assert!(out.contains("good.jpg (548x342): person 0.88 in "), "{out}");
}

#[test]
fn what_cannot_be_decoded_or_is_cut_off_is_told_after_what_is_whole() {
    let faults = root().join("tests/data/faults");
    let dir = tempfile::tempdir().expect("a folder");
    let matroska = dir.path().join("clip.mkv");
    std::fs::write(&matroska, [0x1a, 0x45, 0xdf, 0xa3, 0, 0, 1, 0x67]).expect("a file");
    let cases = [
        (faults.join("trunc50.jpg"), 0, "is not a whole picture: "),
        (matroska, 0, "is a Matroska or WebM file, and clips are"),
        (
            faults.join("faststart_cut.mp4"),
            5,
            "is a damaged MP4 file: it ends before its last picture",
        ),
        (
            faults.join("interlaced.h264"),
            0,
            "7 of its 7 access units could not be decoded: the video is interlaced, which is not supported",
        ),
        (
            faults.join("hi10.h264"),
            0,
            "10 bits a sample (profile_idc 110), and only 8 are supported",
        ),
        (
            faults.join("yuv422.h264"),
            0,
            "4:2:2 chroma (profile_idc 122)",
        ),
        (faults.join("cut_last.mp4"), 6, "is a damaged MP4 file: "),
    ];
    for (file, pictures, sentence) in cases {
        let mut options = options(vec![file]);
        options.json = true;
        let (summary, out) = run(&options);
        assert_eq!(
            (summary.pictures, out.lines().count()),
            (pictures, pictures)
        );
        let told: Vec<String> = summary.failures.iter().map(ToString::to_string).collect();
        assert!(told.len() == 1 && told[0].contains(sentence), "{told:?}");
        assert!(!told[0].contains('\n'), "{told:?}");
    }
}

#[test]
fn a_line_of_json_has_the_events_form() {
    let mut options = options(vec![root().join("tests/data/pictures/messi5.jpg")]);
    options.json = true;
    let (_, out) = run(&options);
    let line: serde_json::Value = serde_json::from_str(&out).expect("one line of JSON");
    let expected = serde_json::json!({
        "file": options.files[0],
        "frame": 0,
        "width": 548,
        "height": 342,
        "objects": [{"label": "person", "classId": 0, "score": 0.8765,
                     "box": {"x": 100.0, "y": 50.0, "width": 80.0, "height": 120.0}}]
    });
    assert_eq!(line, expected);
}

#[test]
fn annotated_pictures_are_written_beside_no_input() {
    let dir = tempfile::tempdir().expect("a folder");
    let pictures = root().join("tests/data/pictures");
    let mut options = options(vec![
        pictures.join("messi5.jpg"),
        pictures.join("basketball1.png"),
    ]);
    options.out = Some(dir.path().join("new/folder"));
    let (summary, _) = run(&options);
    assert!(summary.failures.is_empty(), "{:?}", summary.failures);
    for (name, original) in [
        ("messi5-detected.jpg", "messi5.jpg"),
        ("basketball1-detected.png", "basketball1.png"),
    ] {
        let drawn = image::open(dir.path().join("new/folder").join(name)).expect("a picture");
        let original = image::open(pictures.join(original))
            .expect("a picture")
            .to_rgb8();
        let drawn = drawn.to_rgb8();
        assert_eq!(drawn.dimensions(), original.dimensions());
        assert_ne!(drawn.get_pixel(99, 100), original.get_pixel(99, 100));
    }
}

#[test]
fn a_class_of_no_model_is_refused_with_the_nearest() {
    let mut options = options(Vec::new());
    options.classes = vec!["car".to_owned(), "persn".to_owned()];
    let error = run_with(fake(), &options, &mut Vec::new()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "class `persn` is none of the model fake's; is `person` meant?"
    );
}
