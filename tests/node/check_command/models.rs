//! ONNX Runtime and models.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::*;
use crate::made_models;

/// A shared library of C source.
fn library(folder: &Path, source: &str) -> PathBuf {
    let (code, library) = (folder.join("code.c"), folder.join("libonnxruntime.so"));
    fs::write(&code, source).unwrap();
    let status = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &code])
        .status()
        .unwrap();
    assert!(status.success());
    library
}

#[test]
fn an_onnx_runtime_that_cannot_be_used() {
    let url = format!("http://{}", unused_address());
    let check = |library: &Path| {
        let config = format!("[runtime]\nlibrary = {library:?}\n{}", camera("cam", ""));
        let check = Check::run(&url, &config, &[]);
        check.fails(2);
        check.says(
            "skip",
            &format!("model {FAST}"),
            "skipped, because ONNX Runtime is not loaded",
        );
        check
    };
    check(Path::new("/nowhere/libonnxruntime.so")).says(
        "fail",
        "ONNX Runtime",
        "ONNX Runtime not found at /nowhere/libonnxruntime.so; run scripts/setup or set `runtime.library`",
    );
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.so");
    fs::write(&text, "not a library").unwrap();
    let remedy = "; run scripts/setup or set `runtime.library`";
    let refused = check(&text);
    refused.begins(
        "fail",
        "ONNX Runtime",
        &format!(
            "ONNX Runtime at {}: cannot be loaded: failed to load from `",
            text.display()
        ),
    );
    assert!(refused.line("ONNX Runtime").ends_with(remedy));
    let other = library(folder.path(), "int other;");
    check(&other).says(
        "fail",
        "ONNX Runtime",
        &format!(
            "ONNX Runtime at {0}: cannot be loaded: {0} does not export `OrtGetApiBase`{remedy}",
            other.display()
        ),
    );
    let old = library(
        folder.path(),
        "static const void *api(unsigned v) { return 0; }\n\
         static const char *version(void) { return \"1.9.0\"; }\n\
         static const struct { const void *(*api)(unsigned); const char *(*version)(void); } base = { api, version };\n\
         const void *OrtGetApiBase(void) { return &base; }\n",
    );
    check(&old).says(
        "fail",
        "ONNX Runtime",
        &format!(
            "ONNX Runtime at {}: its version should be 1.24 or newer and is 1.9.0{remedy}",
            old.display()
        ),
    );
}

/// A folder with one model and its manifest.
fn models(bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tiny.onnx");
    fs::write(&file, bytes).unwrap();
    let digest = Sha256::digest(bytes);
    let sha256: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let manifest = format!(
        r#"
        file = "tiny.onnx"
        sha256 = "{sha256}"
        licence = "MIT"
        source = "this test"
        labels = ["person"]
        nms_iou = 0.5
        [input]
        name = "images"
        width = 8
        height = 8
        layout = "nchw"
        color_order = "rgb"
        scale = 1.0
        mean = [0.0, 0.0, 0.0]
        std = [1.0, 1.0, 1.0]
        resize = "stretch"
        [output]
        kind = "ssd"
        scores = "scores"
        boxes = "boxes"
        "#
    );
    fs::write(folder.path().join("tiny.toml"), manifest).unwrap();
    (folder, file)
}

#[test]
fn a_model_that_gets_other_pixels_than_it_was_trained_with() {
    let folder = tempfile::tempdir().unwrap();
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let name = "ssdlite_mobilenet_v2_coco";
    for file in [format!("{name}.onnx"), "coco_90.txt".to_owned()] {
        fs::copy(models.join(&file), folder.path().join(&file)).unwrap();
    }
    let manifest = fs::read_to_string(models.join(format!("{name}.toml"))).unwrap();
    let dark = manifest.replace("scale = 1.0", "scale = 0.0001");
    assert_ne!(dark, manifest);
    fs::write(folder.path().join(format!("{name}.toml")), dark).unwrap();
    let config = format!(
        "[runtime]\nmodels_dir = {:?}\n[[cameras]]\ntwin_id = \"cam\"\nmodel = \"{name}\"\n",
        folder.path()
    );
    let check = Check::run(&format!("http://{}", unused_address()), &config, &[]);
    let subject = format!("model {name}");
    check.begins("warn", &subject, "loaded, and one inference ran on ");
    assert!(
        check.line(&subject).contains(", and it sees nothing on a picture of a footballer, although it has labels for it; compare scale"),
        "{}",
        check.line(&subject)
    );
}

#[test]
fn a_model_whose_licence_nobody_said() {
    let folder = tempfile::tempdir().unwrap();
    let model = made_models::constant(made_models::PERSON);
    made_models::install(folder.path(), "tiny", &model);
    let manifest = folder.path().join("tiny.toml");
    let said = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, said.replace("\"MIT\"", "\"unknown\"")).unwrap();
    let config = format!(
        "[runtime]\nmodels_dir = {:?}\n[[cameras]]\ntwin_id = \"cam\"\nmodel = \"tiny\"\n",
        folder.path()
    );
    let check = Check::run(&format!("http://{}", unused_address()), &config, &[]);
    check.begins("warn", "model tiny", "loaded, and one inference ran on ");
    assert!(
        check.line("model tiny").ends_with(
            ", and its manifest does not know its licence; see whether the licence allows what you do with it, and write it into the manifest"
        ),
        "{}",
        check.line("model tiny")
    );
}

#[test]
fn a_model_that_cannot_be_used() {
    let url = format!("http://{}", unused_address());
    let check = |bytes: &[u8]| {
        let (folder, file) = models(bytes);
        let config = format!(
            "[runtime]\nmodels_dir = {:?}\n[[cameras]]\ntwin_id = \"cam\"\nmodel = \"tiny\"\n",
            folder.path()
        );
        let check = Check::run(&url, &config, &[]);
        check.fails(2);
        (check, file.display().to_string())
    };
    let newest_remedy = "; install a newer ONNX Runtime and set `runtime.library`, or export the model again with an older opset";
    for (bytes, version) in [
        (made_models::identity(99, 13), "IR version 99"),
        (made_models::identity(8, 99), "opset 99"),
    ] {
        let (too_new, file) = check(&bytes);
        too_new.begins(
            "fail",
            "model tiny",
            &format!("{file}: is too new for this ONNX Runtime: it is of {version}, and the newest that is known is "),
        );
        assert!(too_new.line("model tiny").ends_with(newest_remedy));
    }
    let (other, file) = check(&made_models::identity(8, 13));
    other.begins(
        "fail",
        "model tiny",
        &format!("{file}: its output should be `boxes` of numbers and is "),
    );
    assert!(other.line("model tiny").ends_with(
        "`logits` f32 [1, 3, 8, 8]; correct `output.boxes` in the manifest or install the file that it describes"
    ));
    let (garbage, file) = check(b"<html>not found</html>");
    garbage.begins(
        "fail",
        "model tiny",
        &format!("{file}: not usable as an ONNX model: "),
    );
    let missing = Check::run(
        &url,
        "[[cameras]]\ntwin_id = \"cam\"\nmodel = \"yolo99\"\n",
        &[],
    );
    missing.begins(
        "fail",
        "model yolo99",
        "model `yolo99` is not installed: there is no models/yolo99.toml; ",
    );
}

#[test]
fn a_class_that_the_model_does_not_have() {
    let url = format!("http://{}", unused_address());
    let check = Check::run(&url, &camera("cam", "classes = [\"persn\"]\n"), &[]);
    check.fails(2);
    check.says(
        "fail",
        "camera cam/default",
        &format!("model `{FAST}` has no class `persn`; did you mean `person`?; correct `classes`"),
    );
    let zone = "[[cameras.zones]]\nname = \"path\"\npoints = [[0, 0], [1, 0], [1, 1]]\nlabels = [\"persn\"]\n";
    let check = Check::run(&url, &camera("cam", zone), &[]);
    check.fails(2);
    check.says(
        "fail",
        "camera cam/default",
        &format!("zone \"path\": model `{FAST}` has no class `persn`; did you mean `person`?; correct its `labels`"),
    );
}
