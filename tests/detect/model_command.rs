//! `twinsight model`: models are listed, shown, added, compared and removed; what cannot be done has its sentence, and leaves nothing
//! behind. `model_add.rs` adds every layout.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::made_models;

const NANODET: &str = "nanodet_g_coco_int8";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// What a run of the program said.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    log: String,
}

impl Said {
    fn succeeded(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// Checks that the command failed with a sentence that has these words.
    fn failed(&self, words: &[&str]) {
        assert_eq!(self.code, Some(1), "{self:?}");
        for word in words {
            assert!(self.log.contains(word), "{word}: {self:?}");
        }
    }
}

/// A folder to work in, with a folder of models in it.
struct Work {
    folder: tempfile::TempDir,
}

impl Work {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("models")).expect("a folder");
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn models(&self) -> PathBuf {
        self.path("models")
    }

    /// Installs a tiny model that sees a person.
    fn install(&self, name: &str) {
        let model = made_models::constant(made_models::PERSON);
        made_models::install(&self.models(), name, &model);
    }

    /// The files in a folder, sorted.
    fn files(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path().join(folder)).expect("a folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        let mut names: Vec<String> = names
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// Runs `twinsight model` with the folder of models in the variable.
    fn model(&self, args: &[&str]) -> Said {
        let output = Command::new(env!("CARGO_BIN_EXE_twinsight"))
            .arg("model")
            .args(args)
            .current_dir(self.folder.path())
            .env("TWINSIGHT_RUNTIME__MODELS_DIR", "models")
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .output()
            .expect("the program runs");
        Said {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            log: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

fn shipped(name: &str) -> String {
    root().join("models").join(name).display().to_string()
}

fn toml(path: &Path) -> toml::Table {
    let text = fs::read_to_string(path).expect("a manifest");
    text.parse().expect("TOML")
}

#[test]
fn the_list_has_what_is_installed_and_what_is_wrong_with_it() {
    let work = Work::new();
    let empty = work.model(&["list"]).succeeded();
    assert!(
        empty.starts_with("models holds no models; `twinsight model add FILE.onnx"),
        "{empty}"
    );
    work.install("tiny");
    work.install("torn");
    let torn = work.models().join("torn.toml");
    let text = fs::read_to_string(&torn).expect("a manifest");
    fs::write(&torn, text.replace("nms_iou", "nms")).expect("a manifest");
    let list = work.model(&["list"]).succeeded();
    let line = |name: &str| {
        let found = list.lines().find(|line| line.starts_with(name));
        found.unwrap_or_else(|| panic!("{name}: {list}")).to_owned()
    };
    let words: Vec<String> = line("tiny").split_whitespace().map(str::to_owned).collect();
    assert_eq!(words[..4], ["tiny", "yolo", "32x32", "1"], "{words:?}");
    assert_eq!(words.last().map(String::as_str), Some("MIT"));
    assert!(
        line("torn").contains("cannot be used: models/torn.toml, line 7: unknown field `nms`"),
        "{list}"
    );
    // The shipped ones, of which one is the default, fit on a terminal of 80 columns.
    let folder = root().join("models").display().to_string();
    let list = work.model(&["list", "--models", &folder]).succeeded();
    assert!(
        list.contains(&format!("{NANODET}*")) && list.contains("* is the default"),
        "{list}"
    );
}

#[test]
fn a_model_is_shown_with_its_defaults_and_its_file() {
    let work = Work::new();
    work.install("tiny");
    let shown = work.model(&["show", "tiny"]).succeeded();
    for line in [
        "  box_format = \"cxcywh\"",
        "  box_units = \"pixels\"",
        "  activation = \"none\"",
        "  columns = [\"box\", \"scores\"]",
        "    `images` f32 [1, 3, 32, 32]",
        "    `output0` f32 [1, 5, 1]",
        "It loads, and its results on the test picture can be those of a detector.",
    ] {
        assert!(shown.lines().any(|found| found == line), "{line}: {shown}");
    }
    let sha256 = toml(&work.models().join("tiny.toml"))["sha256"].to_string();
    assert!(shown.contains(sha256.trim_matches('"')), "{shown}");
    work.model(&["show", "tinny"])
        .failed(&["model `tinny` is not installed", "installed are tiny"]);

    let path = work.models().join("tiny.onnx");
    fs::write(&path, made_models::identity(8, 17)).expect("a file");
    let other = work.model(&["show", "tiny"]);
    other.failed(&["model tiny cannot be used"]);
    assert!(
        other
            .out
            .contains("It cannot be used: models/tiny.onnx: its SHA-256 should be "),
        "{other:?}"
    );
}

#[test]
fn shipped_models_are_recognised_as_their_manifests_say() {
    let work = Work::new();
    for name in [
        NANODET,
        "ssdlite_mobilenet_v2_coco",
        "centernet_mobilenet_v3_coco",
    ] {
        let file = shipped(&format!("{name}.onnx"));
        let said = work.model(&["add", &file, "--name", "again"]).succeeded();
        assert!(said.contains("Seen on the test picture: person "), "{said}");
        let (found, known) = (
            toml(&work.models().join("again.toml")),
            toml(Path::new(&shipped(&format!("{name}.toml")))),
        );
        assert_eq!(found["sha256"], known["sha256"], "{name}");
        for (table, keys) in [
            (
                "input",
                &["name", "width", "height", "layout", "color_order"][..],
            ),
            ("output", &["kind"][..]),
        ] {
            for &key in keys {
                assert_eq!(found[table][key], known[table][key], "{name} {key}");
            }
        }
        let scale = |table: &toml::Table| table["input"]["scale"].as_float().expect("a number");
        assert!(
            (scale(&found) - scale(&known)).abs() < 1e-6,
            "{name}: {said}"
        );
        let labels = |table: &toml::Table, folder: &Path| {
            let file = table["labels"].as_str().expect("a file").to_owned();
            fs::read_to_string(folder.join(file)).expect("labels")
        };
        assert_eq!(
            labels(&found, &work.models()),
            labels(&known, &root().join("models")),
            "{name}"
        );
        assert!(
            said.contains("Installed: models/again.onnx, models/again.toml and models/again.txt\n"),
            "{said}"
        );
        assert!(
            said.contains("twinsight detect --model again PICTURE"),
            "{said}"
        );
        // Only lists do not say how many classes there are.
        let is_list = name == "centernet_mobilenet_v3_coco";
        assert_eq!(said.contains("\nCheck:"), is_list, "{said}");
        // The file's metadata knows the licence.
        assert!(
            known["licence"]
                .to_string()
                .contains(found["licence"].as_str().expect("a text"))
        );
        assert_eq!(
            work.files("models"),
            ["again.onnx", "again.toml", "again.txt"]
        );
        let picture = fs::read(work.path("again-detected.jpg")).expect("an annotated picture");
        assert!(picture.starts_with(&[0xff, 0xd8]));
        work.model(&["show", "again"]).succeeded();
        let removed = work.model(&["remove", "again", "--yes"]).succeeded();
        assert!(removed.contains("models/again.onnx"), "{removed}");
        assert!(work.files("models").is_empty());
    }
}

#[test]
fn what_nobody_says_is_unknown_and_what_is_said_counts() {
    let work = Work::new();
    let file = work.path("my person.onnx");
    fs::write(&file, made_models::constant(made_models::PERSON)).expect("a file");
    let file = file.display().to_string();
    let labels = work.path("labels.txt");
    fs::write(&labels, "walker\n").expect("a file");
    let labels = labels.display().to_string();
    let add = |more: &[&str]| {
        let args = [&["add", &file, "--labels", &labels][..], more].concat();
        work.model(&args)
    };
    let said = add(&[]).succeeded();
    assert!(said.contains("Licence: unknown; source: unknown"), "{said}");
    let manifest = toml(&work.models().join("my_person.toml"));
    assert_eq!(manifest["licence"].as_str(), Some("unknown"));
    assert_eq!(manifest["labels"].to_string(), "[\"walker\"]");

    add(&[]).failed(&[
        "models/my_person.toml is there already",
        "`--name`",
        "`--force`",
    ]);
    let said = add(&[
        "--force",
        "--licence",
        "GPL-3.0-only",
        "--source",
        "made here",
        "--scale",
        "1",
        "--resize",
        "letterbox",
        "--align",
        "top_left",
        "--pad",
        "7",
        "--set",
        "nms_iou=0.25",
        "--out",
        "shown.png",
    ])
    .succeeded();
    assert!(said.contains("whether you may is your decision"), "{said}");
    let manifest = toml(&work.models().join("my_person.toml"));
    assert_eq!(manifest["source"].as_str(), Some("made here"));
    assert_eq!(manifest["nms_iou"].as_float(), Some(0.25));
    let input = &manifest["input"];
    assert_eq!(input["scale"].as_float(), Some(1.0));
    assert_eq!(
        (input["align"].as_str(), input["pad"].as_integer()),
        (Some("top_left"), Some(7))
    );
    assert!(
        fs::read(work.path("shown.png"))
            .expect("a picture")
            .starts_with(b"\x89PNG")
    );
}

#[test]
fn what_cannot_be_added_has_its_sentence_and_leaves_nothing() {
    let work = Work::new();
    let write = |name: &str, bytes: &[u8]| {
        let path = work.path(name);
        fs::write(&path, bytes).expect("a file");
        path.display().to_string()
    };
    let person = write("person.onnx", &made_models::constant(made_models::PERSON));
    work.model(&["add", &person]).failed(&[
        "nothing says what its classes are, 1 in number",
        "`--labels FILE`",
    ]);
    let identity = write("identity.onnx", &made_models::identity(8, 17));
    work.model(&["add", &identity]).failed(&[
        "cannot tell what its outputs hold",
        "`logits` f32 [1, 3, 8, 8]",
        "`--kind`",
    ]);
    let text = write("text.onnx", b"hello");
    work.model(&["add", &text])
        .failed(&["not usable as an ONNX model"]);
    work.model(&["add", "none.onnx"])
        .failed(&["none.onnx: cannot be read", "No such file"]);
    work.model(&["add", &person, "--name", "a/b"])
        .failed(&["model name `a/b`", "`--name`"]);
    let labels = write("labels.txt", b"one\ntwo\n");
    work.model(&["add", &person, "--labels", &labels])
        .failed(&["the number of its classes is 1, and 2 labels are given"]);
    let empty = write("empty.txt", b"one\n\nthree\n");
    work.model(&["add", &person, "--labels", &empty])
        .failed(&["an empty line"]);
    let one = write("one.txt", b"one\n");
    let with =
        |more: &[&str]| work.model(&[&["add", &person, "--labels", &one][..], more].concat());
    with(&["--picture", &text]).failed(&["text.onnx: cannot be read"]);
    with(&["--kind", "detr"]).failed(&[
        "cannot be those of the kind `detr`",
        "`output0` f32 [1, 5, 1]",
    ]);
    with(&["--set", "output.box_units=shares"]).failed(&["no way to read its outputs fits"]);
    let usage = |more: &[&str], sentence: &str| {
        let said = with(more);
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.log.contains(sentence), "{said:?}");
    };
    usage(
        &["--set", "output.box_unit=shares"],
        "is `output.box_units` meant?",
    );
    usage(&["--kind", "yolo8"], "it takes one of ssd, rows, yolo,");
    usage(&["--size", "640"], "as in 640x384");
    assert!(
        work.files("models").is_empty(),
        "{:?}",
        work.files("models")
    );
}

#[test]
fn a_file_that_two_manifests_name_stays() {
    let work = Work::new();
    work.install("tiny");
    let manifest = fs::read_to_string(work.models().join("tiny.toml")).expect("a manifest");
    fs::write(work.models().join("other.toml"), manifest).expect("a manifest");
    let said = work.model(&["remove", "other"]).succeeded();
    assert!(
        said.contains("Kept, since another model needs it: models/tiny.onnx"),
        "{said}"
    );
    assert_eq!(work.files("models"), ["tiny.onnx", "tiny.toml"]);
    work.model(&["remove", "tiny"]).succeeded();
    assert!(work.files("models").is_empty());
    work.model(&["remove", "tiny"])
        .failed(&["model `tiny` is not installed"]);
    work.install(NANODET);
    work.model(&["remove", NANODET])
        .failed(&["is the default model", "`--yes`"]);
    work.model(&["remove", NANODET, "--yes"]).succeeded();
}

#[test]
fn two_models_are_compared_on_pictures_and_on_a_clip() {
    let work = Work::new();
    let folder = root().join("models").display().to_string();
    let picture = root()
        .join("tests/data/pictures/messi5.jpg")
        .display()
        .to_string();
    let args = ["compare", "nanodet_g_coco", NANODET, "--models", &folder];
    let line = work
        .model(&[&args[..], &["--picture", &picture, "--json"]].concat())
        .succeeded();
    let json: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(json["a"]["name"], "nanodet_g_coco");
    assert_eq!(json["b"]["name"], NANODET);
    assert_eq!(json["pictures"], 1);
    assert!(json["decodeMs"].is_null());
    let matched = json["a"]["matchedAtIou50"].as_f64().expect("a share");
    assert!(matched > 0.7, "{line}");
    assert!(json["a"]["inferenceMs"].as_f64().expect("a time") > 0.0);

    let clip = fs::read(root().join("media/pedestrians.h264")).expect("the clip");
    let short = work.path("short.h264");
    fs::write(&short, &clip[..200_000]).expect("a file");
    let clip = short.display().to_string();
    let small = "ssdlite_mobilenet_v2_coco";
    let table = work
        .model(&[
            "compare", small, small, "--models", &folder, "--clip", &clip,
        ])
        .succeeded();
    // A model agrees with itself.
    assert!(
        table.contains("of them, the other has too (IoU 0.7)"),
        "{table}"
    );
    assert_eq!(table.matches("100 %").count(), 4, "{table}");
    assert!(table.contains("+0.000"), "{table}");
    let widest = table
        .lines()
        .filter(|line| !line.contains(".h264"))
        .map(|line| line.chars().count())
        .max();
    assert!(widest <= Some(80), "{table}");
    work.model(&["compare", small, "none", "--models", &folder])
        .failed(&["model `none` is not installed"]);
}

#[test]
fn what_is_said_wrongly_of_outputs_and_labels_is_refused() {
    let work = Work::new();
    let file = shipped("nanodet_g_coco.onnx");
    let coco = fs::read_to_string(shipped("coco_80.txt")).expect("labels");
    let lines: Vec<&str> = coco.lines().collect();
    let mut sorted = lines.clone();
    sorted.sort_unstable();
    let write = |name: &str, labels: &[&str]| {
        let path = work.path(name);
        fs::write(&path, labels.join("\n")).expect("a file");
        path.display().to_string()
    };
    let (sorted, fewer) = (
        write("sorted.txt", &sorted),
        write("fewer.txt", &lines[..79]),
    );
    for (args, words) in [
        (
            ["--set", "output.box_format=xyxy"],
            &["`--set output.box_format=xyxy`", "without it, as `yolo`"][..],
        ),
        (
            ["--set", "output.box_units=shares"],
            &["`--set output.box_units=shares`"][..],
        ),
        (
            ["--labels", &sorted],
            &["`--labels`", "a footballer with a ball is taken for"],
        ),
        (
            ["--labels", &fewer],
            &["the number of its classes is 80, and 79 labels are given"],
        ),
    ] {
        let args = [&["add", &file, "--name", "wrong"][..], &args].concat();
        work.model(&args).failed(words);
        assert!(work.files("models").is_empty());
    }
}

#[test]
fn keys_that_are_set_take_the_place_of_options() {
    let work = Work::new();
    let file = work.path("person.onnx");
    fs::write(&file, made_models::constant(made_models::PERSON)).expect("a file");
    let file = file.display().to_string();
    fs::write(work.path("labels.txt"), "walker\n").expect("a file");
    for labels in ["labels=labels.txt", "labels=[\"walker\"]"] {
        work.model(&[
            "add",
            &file,
            "--force",
            "--set",
            labels,
            "--set",
            "licence=MIT",
            "--set",
            "source=made here",
            "--set",
            "input.pad=7",
        ])
        .succeeded();
        let manifest = toml(&work.models().join("person.toml"));
        assert_eq!(manifest["labels"].to_string(), "[\"walker\"]");
        assert_eq!(manifest["licence"].as_str(), Some("MIT"));
        assert_eq!(manifest["source"].as_str(), Some("made here"));
        assert_eq!(manifest["input"]["resize"].as_str(), Some("letterbox"));
        assert_eq!(manifest["input"]["pad"].as_integer(), Some(7));
    }
    work.model(&["add", &file, "--name", "other", "--size", "64x64"])
        .failed(&["has a fixed size, so it cannot be 64x64"]);
    work.model(&["add", &file, "--name", "other", "--layout", "nhwc"])
        .failed(&["the layout `nhwc` contradicts the file"]);
}

/// An SSD of torchvision, whose lists do not say how many classes there are: one person, as a constant.
#[test]
fn labels_that_are_only_assumed_are_said() {
    let work = Work::new();
    let file = work.path("lists.onnx");
    fs::write(&file, made_models::lists()).expect("a file");
    let file = file.display().to_string();
    let said = work.model(&["add", &file, "--models", "mine"]).succeeded();
    assert!(
        said.contains("\nCheck: the labels are COCO's, though"),
        "{said}"
    );
    assert!(
        said.contains("  twinsight detect --model lists --models mine PICTURE"),
        "{said}"
    );
}

#[test]
fn folders_and_pictures_are_said_as_the_user_knows_them() {
    let work = Work::new();
    let file = work.path("person.onnx");
    fs::write(&file, made_models::constant(made_models::PERSON)).expect("a file");
    let file = file.display().to_string();
    let labels = work.path("labels.txt");
    fs::write(&labels, "walker\n").expect("a file");
    let labels = labels.display().to_string();
    // A file in the place of the folder takes nothing, whoever asks.
    let inside = format!("{labels}/models");
    let said = work.model(&["add", &file, "--labels", &labels, "--models", &inside]);
    said.failed(&[
        "nothing can be written into this folder of models",
        "`--models DIR`",
    ]);
    assert!(
        !said.log.contains("adding-") && said.out.is_empty(),
        "{said:?}"
    );
    work.model(&["list", "--models", "none"])
        .failed(&["none: cannot be listed", "`--models DIR`"]);
    // What failed leaves no folder behind.
    let said = work.model(&["add", &file, "--models", "new/er"]);
    said.failed(&["nothing says what its classes are"]);
    assert!(said.out.contains("  inputs\n"), "{said:?}");
    assert!(!work.path("new").exists());
    let picture = root().join("tests/data/pictures/messi5.jpg");
    let said = work.model(&[
        "add",
        &file,
        "--labels",
        &labels,
        "--picture",
        &picture.display().to_string(),
        "--set",
        "output.box_units=shares",
    ]);
    said.failed(&["your picture"]);
    assert!(!said.log.contains("the test picture"), "{said:?}");
    // Inputs and outputs are there once.
    assert!(!said.out.contains("  inputs\n"), "{said:?}");
    assert_eq!(said.log.matches("  inputs\n").count(), 1, "{said:?}");
}
