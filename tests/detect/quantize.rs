//! `scripts/quantize.py` makes a model in 8 bits that the node takes: what it writes is loaded by its manifest, is smaller, and sees what
//! the f32 model sees.
#![allow(clippy::print_stdout, reason = "says why it did not run")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use twinsight::dev::detect::run;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn python(arguments: &[&str]) -> (bool, String) {
    let python = std::env::var_os("TWINSIGHT_TEST_PYTHON")
        .map_or_else(|| root().join(".venv/bin/python"), PathBuf::from);
    let output = Command::new(python)
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("Python starts, which `scripts/setup --test` installs");
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

/// Labels of what the model `own_int8` sees with a score over a half, the highest score first.
fn labels(models: &Path) -> Vec<String> {
    let options = crate::json_options(
        vec![root().join("tests/data/pictures/messi5.jpg")],
        models.to_owned(),
        "own_int8",
        0.5,
    );
    let mut out = Vec::new();
    let summary = run(&options, &mut out).expect("the command runs");
    assert!(summary.failures.is_empty(), "{:?}", summary.failures);
    let line: Value = serde_json::from_slice(&out).expect("a line of JSON");
    let objects = line["objects"].as_array().expect("a list");
    let label = |object: &Value| object["label"].as_str().expect("text").to_owned();
    objects.iter().map(label).collect()
}

#[test]
fn a_model_of_ones_own_in_8_bits() {
    let (there, said) = python(&["-c", "import onnx, sympy"]);
    if !there {
        println!("not run: the packages of scripts/quantize.py are not installed: {said}");
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let models = root().join("models");
    let own = dir.path().join("own_int8.onnx");
    let own_text = own.to_str().expect("UTF-8");
    std::fs::copy(models.join("coco_80.txt"), dir.path().join("coco_80.txt")).expect("labels");
    let f32_model = "models/nanodet_g_coco.onnx";
    let manifest = ["--manifest", "models/nanodet_g_coco.toml"];
    let every = ["--every", "60"];

    let (_, said) = python(
        &[
            &["scripts/quantize.py", f32_model, own_text, "config"],
            &manifest[..],
        ]
        .concat(),
    );
    assert!(
        said.contains("there is no picture of at least 200 pixels in config"),
        "{said}"
    );

    let calibration = ["tests/data/pictures", "media/pedestrians.h264"];
    let (made, said) = python(
        &[
            &["scripts/quantize.py", f32_model, own_text],
            &calibration[..],
            &manifest,
            &every,
        ]
        .concat(),
    );
    assert!(made, "{said}");
    assert!(said.contains("calibrated on 16 pictures"), "{said}");
    let bytes = |path: &Path| std::fs::metadata(path).expect("a file").len();
    assert!(3 * bytes(&own) < 2 * bytes(&root().join(f32_model)));
    assert_eq!(labels(dir.path()), ["person", "sports ball"]);
}
