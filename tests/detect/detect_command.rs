//! `twinsight detect`: files that cannot be used have their sentence and do not stop the others; annotated pictures
//! are written; the classes asked for must be the model's.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use twinsight::detect::{
    BBox, DetectError, DetectSettings, Detections, Detector, FakeDetector, Keypoint, ModelInfo,
    Object, Picture, RuntimeOptions,
};
use twinsight::dev::detect::{DetectOptions, DetectSummary, run_with};
use twinsight_media::h264::clip::Clip;

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
        fps: None,
        json: false,
        runtime: RuntimeOptions::default(),
        execution_providers: Vec::new(),
    }
}

fn fake() -> Box<FakeDetector> {
    Box::new(FakeDetector::new(Duration::ZERO, vec![person()]))
}

fn person() -> Object {
    let bbox = BBox {
        x: 100.04,
        y: 50.0,
        width: 80.0,
        height: 120.0,
    };
    Object {
        class_id: 0,
        score: 0.87654,
        bbox,
        keypoints: Vec::new(),
        outline: Vec::new(),
    }
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
        "notes.txt: is neither a JPEG, PNG, WebP or BMP picture nor an H.264 byte stream (Annex B)",
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
fn keypoints_and_outline_are_in_the_line() {
    let mut person = person();
    person.keypoints = vec![Keypoint {
        x: 110.04,
        y: 60.0,
        score: 0.5,
    }];
    person.outline = vec![[100.0, 50.0], [180.0, 50.26], [140.0, 170.0]];
    let detector = Box::new(FakeDetector::new(Duration::ZERO, vec![person]));
    let mut options = options(vec![root().join("tests/data/pictures/messi5.jpg")]);
    options.json = true;
    let mut out = Vec::new();
    run_with(detector, &options, &mut out).expect("the command runs");
    let line: serde_json::Value = serde_json::from_slice(&out).expect("one line of JSON");
    let expected = serde_json::json!({
        "label": "person", "classId": 0, "score": 0.8765,
        "box": {"x": 100.0, "y": 50.0, "width": 80.0, "height": 120.0},
        "keypoints": [{"x": 110.0, "y": 60.0, "score": 0.5}],
        "outline": [[100.0, 50.0], [180.0, 50.3], [140.0, 170.0]]
    });
    assert_eq!(line["objects"], serde_json::json!([expected]));
}

#[test]
fn of_a_folder_its_pictures_and_clips_are_taken_in_order() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path();
    let picture = image::open(root().join("tests/data/pictures/messi5.jpg")).expect("a picture");
    let picture = picture.into_rgb8();
    // Names do not say what a file is.
    let save = |name: &str, format| {
        let path = folder.join(name);
        picture.save_with_format(path, format).expect("a picture");
    };
    save("c.webp", image::ImageFormat::WebP);
    save("a.bmp", image::ImageFormat::Bmp);
    save("b", image::ImageFormat::Png);
    save(".hidden.png", image::ImageFormat::Png);
    std::fs::create_dir(folder.join("inner")).expect("a folder");
    save("inner/d.png", image::ImageFormat::Png);
    let fault = root().join("tests/data/faults/ctrl.mp4");
    std::fs::copy(fault, folder.join("d.mp4")).expect("a clip");
    std::fs::write(folder.join("notes.txt"), "hello").expect("a file");
    std::fs::write(folder.join("broken.png"), b"\x89PNG\r\n\x1a\n").expect("a file");

    let mut options = options(vec![folder.to_owned()]);
    options.out = Some(folder.join("inner"));
    let (summary, out) = run(&options);
    let names: Vec<&str> = out
        .lines()
        .map(|line| line.rsplit_once('/').expect("a path").1)
        .map(|line| line.split(' ').next().expect("a name"))
        .collect();
    assert_eq!(names, ["a.bmp", "b", "c.webp", "d.mp4"]);
    assert_eq!((summary.pictures, summary.files), (3 + 7, 5));
    let told: Vec<String> = summary.failures.iter().map(ToString::to_string).collect();
    assert!(
        told.len() == 1 && told[0].contains("broken.png: is not a whole"),
        "{told:?}"
    );
    for annotated in [
        "a-detected.png",
        "b-detected.png",
        "c-detected.jpg",
        "d-00006-detected.jpg",
    ] {
        assert!(folder.join("inner").join(annotated).exists(), "{annotated}");
    }
}

#[test]
fn a_folder_of_nothing_is_told() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("notes.txt"), "hello").expect("a file");
    std::fs::create_dir(dir.path().join("inner")).expect("a folder");
    for (folder, others) in [(dir.path().join("inner"), 0), (dir.path().to_owned(), 1)] {
        let (summary, out) = run(&options(vec![folder.clone()]));
        let expected = format!(
            "{}: is a folder without pictures and clips ({others} other files): folders inside of it are not searched",
            folder.display()
        );
        let told: Vec<String> = summary.failures.iter().map(ToString::to_string).collect();
        assert_eq!((told, out.as_str()), (vec![expected], ""));
    }
}

fn ffmpeg(arguments: &str, file: &Path) {
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-y"])
        .args(arguments.split_whitespace())
        .arg(file)
        .status();
    assert!(status.expect("ffmpeg").success(), "{arguments}");
}

/// What ffprobe says of the video: its size and the number of its frames, then the time of each frame. Its reader and decoder
/// have nothing to complain of.
fn probe(file: &Path) -> (String, Vec<String>) {
    probe_frames(file, "")
}

/// The same of some frames only.
fn probe_frames(file: &Path, only: &str) -> (String, Vec<String>) {
    let said = |arguments: &str| {
        let output = Command::new("ffprobe")
            .args(["-v", "error", "-select_streams", "v", "-of", "csv=p=0"])
            .args(arguments.split_whitespace())
            .arg(file)
            .output()
            .expect("ffprobe");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(errors, "", "{}", file.display());
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let stream = said("-show_entries stream=codec_name,width,height,nb_frames");
    let times = said(&format!("{only} -show_entries frame=pts_time"));
    let time = |line: &str| {
        line.trim_end_matches(',')
            .split(',')
            .next()
            .map(str::to_owned)
    };
    (
        stream.trim().to_owned(),
        times
            .lines()
            .filter_map(time)
            .filter(|time| !time.is_empty())
            .collect(),
    )
}

/// Milliseconds since the first of these times.
fn since_first(times: &[String]) -> Vec<u128> {
    let seconds = |time: &String| time.parse::<f64>().expect("a number");
    let first = times.first().map_or(0.0, seconds);
    let since = times
        .iter()
        .map(|time| Duration::from_secs_f64(seconds(time) - first));
    since
        .map(|since| (since.as_micros() + 500) / 1000)
        .collect()
}

#[test]
fn an_annotated_clip_has_the_pictures_and_times_of_its_clip() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = |name: &str| dir.path().join(name);
    // Frames of all durations, with B pictures, so that the order of decoding is another one than that of display.
    let source = "-f lavfi -i testsrc2=s=320x240:r=25,hue=s=0 -frames:v 12 -pix_fmt yuv420p -c:v libx264 -preset veryfast \
                  -bf 2 -x264-params b-adapt=0";
    let slower = "-vf settb=1/1000,setpts=20*N*N -vsync passthrough -enc_time_base 1/1000";
    let fragments = "-movflags +frag_keyframe+empty_moov";
    for (name, arguments) in [
        ("clip.mp4", format!("{source} {slower}")),
        ("fragments.mp4", format!("{source} {slower} {fragments}")),
    ] {
        ffmpeg(&arguments, &path(name));
        let mut options = options(vec![path(name)]);
        let annotated = path("new").join(name);
        options.out = Some(annotated.clone());
        let (summary, out) = run(&options);
        assert!(summary.failures.is_empty(), "{:?}", summary.failures);
        assert!(out.contains("(320x240, 12 frames)"), "{out}");
        let (stream, times) = probe(&annotated);
        assert_eq!(stream, "h264,320,240,12");
        assert_eq!(
            since_first(&times),
            since_first(&probe(&path(name)).1),
            "{name}"
        );
        let keyframes = probe_frames(&annotated, "-skip_frame nokey").1;
        assert_eq!(keyframes, ["0.000000", "2.000000"], "one every 2 s");
        assert_eq!(
            (times[0].as_str(), times[11].as_str()),
            ("0.000000", "2.420000")
        );
        let files = std::fs::read_dir(path("new")).expect("a folder");
        assert!(
            files
                .flatten()
                .all(|file| file.file_name().to_string_lossy().ends_with(".mp4"))
        );

        // The box is drawn: its left edge is green in a grey picture.
        let green_at_edge = |clip: &Path| {
            let still = path("still.png");
            ffmpeg(&format!("-i {} -frames:v 1", clip.display()), &still);
            let frame = image::open(still).expect("a frame").into_rgb8();
            let pixels = (60..160).map(|y| frame.get_pixel(99, y).0);
            pixels
                .filter(|[red, green, _]| green.saturating_sub(*red) > 60)
                .count()
        };
        assert_eq!(
            (green_at_edge(&path(name)), green_at_edge(&annotated)),
            (0, 100)
        );
    }
}

/// Makes an annotated clip, and gives what is said of its file.
fn annotated(clip: &Path, fps: Option<f64>) -> (DetectSummary, Option<(String, Vec<String>)>) {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("out.MP4");
    let mut options = options(vec![clip.to_owned()]);
    options.out = Some(file.clone());
    options.fps = fps;
    let (summary, _) = run(&options);
    let left = std::fs::read_dir(dir.path()).expect("a folder").count();
    assert_eq!(left, usize::from(file.exists()), "nothing else is left");
    let seen = file.exists().then(|| probe(&file));
    (summary, seen)
}

#[test]
fn an_annotated_clip_plays_as_fast_as_it_is_told() {
    let stream = root().join("tests/data/faults/ctrl.h264");
    for (clip, fps, last) in [
        (&stream, None, "0.200000"),
        (&stream, Some(12.5), "0.480000"),
        (
            &root().join("tests/data/faults/ctrl.mp4"),
            Some(2.0),
            "3.000000",
        ),
    ] {
        let (summary, seen) = annotated(clip, fps);
        assert!(summary.failures.is_empty(), "{:?}", summary.failures);
        let (stream, times) = seen.expect("a clip");
        assert_eq!(stream, "h264,64,48,7");
        assert_eq!((times.len(), times[6].as_str()), (7, last), "{fps:?}");
    }
}

#[test]
fn an_annotated_clip_is_upright_and_has_one_size() {
    let faults = root().join("tests/data/faults");
    let (_, seen) = annotated(&faults.join("rot90.mp4"), None);
    assert_eq!(seen.expect("a clip").0, "h264,48,64,7");

    // The stream of another camera behind the first.
    let dir = tempfile::tempdir().expect("a folder");
    let (other, both) = (dir.path().join("other.h264"), dir.path().join("both.h264"));
    ffmpeg(
        "-f lavfi -i testsrc2=s=128x64:r=25 -frames:v 3 -pix_fmt yuv420p -c:v libx264",
        &other,
    );
    let streams = [faults.join("ctrl.h264"), other].map(|file| std::fs::read(file).expect("it"));
    std::fs::write(&both, streams.concat()).expect("a file");
    let (summary, seen) = annotated(&both, None);
    assert!(summary.failures.is_empty(), "{:?}", summary.failures);
    assert_eq!(seen.expect("a clip").0, "h264,64,48,10");
}

#[test]
fn of_a_damaged_clip_what_is_whole_is_annotated() {
    let faults = root().join("tests/data/faults");
    let (summary, seen) = annotated(&faults.join("faststart_cut.mp4"), None);
    assert_eq!(summary.failures.len(), 1);
    assert_eq!(seen.expect("a clip").0, "h264,64,48,5");
    let (summary, seen) = annotated(&faults.join("interlaced.h264"), None);
    assert_eq!((summary.failures.len(), seen), (1, None));
}

#[test]
fn an_annotated_clip_is_of_one_clip_and_leaves_no_half_file() {
    let dir = tempfile::tempdir().expect("a folder");
    let clip = dir.path().join("clip.mp4");
    std::fs::copy(root().join("tests/data/faults/ctrl.mp4"), &clip).expect("a clip");
    let folder = dir.path().join("folder");
    std::fs::create_dir(&folder).expect("a folder");
    let picture = root().join("tests/data/pictures/messi5.jpg");
    let out = dir.path().join("out.mp4");
    let told = |files: &[&PathBuf], out: &PathBuf, fps| {
        let mut options = options(files.iter().copied().cloned().collect());
        options.out = Some(out.clone());
        options.fps = fps;
        let result = run_with(fake(), &options, &mut Vec::new());
        match result {
            Err(error) => error.to_string(),
            Ok(summary) => summary.failures.first().expect("a failure").to_string(),
        }
    };
    let two = told(&[&clip, &picture], &out, None);
    assert!(
        two.contains("takes one clip, and 2 files are given: name a folder"),
        "{two}"
    );
    let inside = told(&[&folder], &out, None);
    assert!(
        inside.contains("takes one clip, and a folder is given"),
        "{inside}"
    );
    let still = told(&[&picture], &out, None);
    assert!(
        still.contains("messi5.jpg: is a picture, and `--out "),
        "{still}"
    );
    let itself = told(&[&clip], &dir.path().join("folder/../clip.mp4"), None);
    assert!(itself.contains("is the clip itself"), "{itself}");
    let fps = told(&[&clip], &folder, Some(5.0));
    assert!(fps.starts_with("`--fps` says how fast"), "{fps}");

    for name in ["out.avi", "seen.JPG"] {
        let file = told(&[&clip], &dir.path().join(name), None);
        assert!(
            file.contains(&format!("{name}` looks like a file")),
            "{file}"
        );
        assert!(!dir.path().join(name).exists());
    }

    // A detector that fails when the file is half written.
    std::fs::write(&out, "an older file").expect("a file");
    let mut options = options(vec![clip.clone()]);
    options.out = Some(out.clone());
    let summary = run_with(Box::new(FailsLater::new(3)), &options, &mut Vec::new());
    assert_eq!(summary.expect("the command runs").failures.len(), 1);
    assert_eq!(
        std::fs::read_to_string(&out).expect("the file"),
        "an older file"
    );
    let left = std::fs::read_dir(dir.path()).expect("a folder").count();
    assert_eq!(left, 3, "clip, folder and the older file");
    assert!(Clip::read(&clip).is_ok());
}

/// Detects in so many frames, and then fails.
struct FailsLater {
    detector: Box<FakeDetector>,
    frames: usize,
}

impl FailsLater {
    fn new(frames: usize) -> Self {
        let detector = fake();
        Self { detector, frames }
    }
}

impl Detector for FailsLater {
    fn model(&self) -> &ModelInfo {
        self.detector.model()
    }

    fn detect(
        &mut self,
        picture: Picture<'_>,
        settings: &DetectSettings,
    ) -> Result<Detections, DetectError> {
        self.frames = self.frames.checked_sub(1).ok_or(DetectError::Fake)?;
        self.detector.detect(picture, settings)
    }
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
