//! `twinsight model add` recognises every layout of outputs that exporters write, without hints, and `twinsight detect` then sees the
//! known objects. The programs, the files and the pictures are real; the graphs are those of `tests/interop/layouts.py`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use toml::Value as Toml;

use crate::made_layouts::{Agreement, Expected, Graph, Made, Shown, graphs};

/// What became of a graph: a row of the table, and what is wrong.
struct Row {
    layout: String,
    kind: String,
    keys: String,
    agreement: Result<Agreement, String>,
}

/// Runs the program in a folder, where it leaves the annotated pictures.
fn twinsight(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_twinsight"))
        .args(args)
        .current_dir(folder)
        .env_remove("TWINSIGHT_RUNTIME__MODELS_DIR")
        .stdin(Stdio::null())
        .output()
        .expect("the program runs")
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Numbers are equal if they agree to six digits, as f32 do.
fn is_same(expected: &Value, found: &Toml) -> bool {
    let number = |found: &Toml| match found {
        Toml::Integer(whole) => whole.to_string().parse().ok(),
        found => found.as_float(),
    };
    match (expected, found) {
        (Value::Number(expected), found) => {
            let (Some(a), Some(b)) = (expected.as_f64(), number(found)) else {
                return false;
            };
            (a - b).abs() <= 1e-6 * a.abs().max(1e-3)
        }
        (Value::Array(expected), Toml::Array(found)) => {
            expected.len() == found.len() && expected.iter().zip(found).all(|(a, b)| is_same(a, b))
        }
        (Value::Object(expected), Toml::Table(found)) => {
            let inner = |(key, value): (&String, &Value)| {
                found.get(key).is_some_and(|found| is_same(value, found))
            };
            expected.len() == found.len() && expected.iter().all(inner)
        }
        (expected, found) => expected.as_str().is_some() && expected.as_str() == found.as_str(),
    }
}

/// The first key of the manifest that is not as the layout says, and those of the normalisation that are not as the family says.
fn differing_keys(graph: &Graph, manifest: &toml::Table) -> (Option<String>, Vec<String>) {
    let found = |key: &str| {
        let (table, key) = key.split_once('.')?;
        manifest.get(table)?.get(key)
    };
    let differs = |key: &str, value: &Value| match found(key) {
        // Keypoints may have names in place of their number.
        Some(Toml::Array(names)) if key == "output.keypoints" => {
            value.as_u64() != u64::try_from(names.len()).ok()
        }
        Some(found) => !is_same(value, found),
        None => !graph.may_be_left_out.iter().any(|other| other == key),
    };
    let wrong = graph.keys.iter().find(|(key, value)| differs(key, value));
    let wrong =
        wrong.map(|(key, value)| format!("`{key}` should be {value} and is {:?}", found(key)));
    let normalisation = graph
        .normalisation
        .iter()
        .filter(|(key, value)| differs(key, value));
    (wrong, normalisation.map(|(key, _)| key.clone()).collect())
}

/// What `detect` sees on a picture: label, score, and left, top, right and bottom.
fn objects(line: &Value) -> Vec<(&str, f64, [f64; 4])> {
    let number = |value: &Value| value.as_f64().expect("a number");
    let object = |object: &'_ Value| {
        let [x, y, width, height] =
            ["x", "y", "width", "height"].map(|key| number(&object["box"][key]));
        (number(&object["score"]), [x, y, x + width, y + height])
    };
    let all = line["objects"].as_array().expect("a list");
    let named = all
        .iter()
        .map(|one| (one["label"].as_str().expect("a label"), object(one)));
    named
        .map(|(label, (score, corners))| (label, score, corners))
        .collect()
}

fn points(object: &Value) -> Vec<[f64; 3]> {
    let all = object["keypoints"].as_array().into_iter().flatten();
    all.map(|point| ["x", "y", "score"].map(|key| point[key].as_f64().expect("a number")))
        .collect()
}

fn outline(object: &Value) -> Vec<[f64; 2]> {
    let all = object["outline"].as_array().into_iter().flatten();
    all.map(|point| [0, 1].map(|n| point[n].as_f64().expect("a number")))
        .collect()
}

/// The pictures as files.
struct Pictures(Vec<(PathBuf, Shown)>);

impl Pictures {
    fn new(folder: &Path) -> Self {
        let shown = [false, true].map(|is_mirrored| {
            let path = folder.join(format!("mirrored-{is_mirrored}.png"));
            let shown = Shown::new(is_mirrored);
            shown.image.save(&path).expect("a picture");
            (path, shown)
        });
        Self(shown.into())
    }
}

/// Adds a graph and detects with it.
fn row(made: &Made, graph: &Graph, pictures: &Pictures, models: &Path) -> Row {
    let folder = made.folder.path();
    let file = text(&folder.join(format!("{}.onnx", graph.name)));
    let labels = folder.join(format!("{}.labels.txt", graph.name));
    let models = text(models);
    let mut arguments = vec!["model", "add", &file, "--models", &models];
    let labels_file = text(&labels);
    if graph.needs_labels {
        fs::write(&labels, graph.labels.join("\n")).expect("a file");
        arguments.extend(["--labels", &labels_file]);
    }
    let added = twinsight(folder, &arguments);
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&added.stdout),
        String::from_utf8_lossy(&added.stderr)
    );
    let mut row = Row {
        layout: graph.name.clone(),
        kind: "-".to_owned(),
        keys: String::new(),
        agreement: Err(said.clone()),
    };
    if let Some(asked) = &graph.asks {
        // Nothing in the file tells it, so it has to be asked for by its name.
        row.kind = format!("asks for {asked}");
        if !added.status.success() && said.contains(asked) {
            row.agreement = Ok(Agreement::default());
        }
        return row;
    }
    let Ok(manifest) = fs::read_to_string(Path::new(&models).join(format!("{}.toml", graph.name)))
    else {
        return row;
    };
    let manifest: toml::Table = toml::from_str(&manifest).expect("TOML");
    let kind = manifest["output"]["kind"]
        .as_str()
        .expect("a kind")
        .to_owned();
    let (wrong, normalisation) = differing_keys(graph, &manifest);
    row.keys = normalisation.join(" ");
    row.kind.clone_from(&kind);
    row.agreement = if kind == graph.kind {
        wrong.map_or_else(|| agreement(graph, &manifest, pictures, &models), Err)
    } else {
        Err(format!("`{kind}` in place of `{}`: {said}", graph.kind))
    };
    row
}

fn agreement(
    graph: &Graph,
    manifest: &toml::Table,
    pictures: &Pictures,
    models: &str,
) -> Result<Agreement, String> {
    let mut arguments = vec![
        "detect",
        "--json",
        "--model",
        &graph.name,
        "--models",
        models,
    ];
    let paths: Vec<String> = pictures.0.iter().map(|(path, _)| text(path)).collect();
    arguments.extend(paths.iter().map(String::as_str));
    let detected = twinsight(Path::new(models), &arguments);
    if !detected.status.success() {
        return Err(String::from_utf8_lossy(&detected.stderr).into_owned());
    }
    let mut all = Agreement::default();
    let lines = String::from_utf8(detected.stdout).expect("UTF-8");
    for (line, (_, shown)) in lines.lines().zip(&pictures.0) {
        let line: Value = serde_json::from_str(line).expect("JSON");
        let expected = Expected::of(graph, manifest, shown);
        all = all.and(expected.agreement(&objects(&line))?);
        for (object, known) in line["objects"]
            .as_array()
            .expect("a list")
            .iter()
            .zip(&expected.objects)
        {
            let difference = known.difference_of_points(&points(object));
            if let Some(difference) =
                difference.or_else(|| known.difference_of_outline(&outline(object)))
            {
                return Err(difference);
            }
        }
    }
    Ok(all)
}

#[test]
fn every_layout_is_recognised_without_hints() {
    let made = graphs();
    let models = tempfile::tempdir().expect("a folder");
    let pictures = Pictures::new(made.folder.path());
    let rows = Mutex::new(Vec::new());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(graph) = made.graphs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let row = row(&made, graph, &pictures, models.path());
                    rows.lock().expect("no panic").push(row);
                }
            });
        }
    });
    let mut rows = rows.into_inner().expect("no panic");
    rows.sort_by(|a, b| a.layout.cmp(&b.layout));
    println!("| layout | kind | off: score, box | normalised otherwise |");
    for Row {
        layout,
        kind,
        keys,
        agreement,
    } in &rows
    {
        let off = agreement
            .as_ref()
            .map_or_else(|_| "-".to_owned(), Agreement::to_string);
        println!("| {layout} | {kind} | {off} | {keys} |");
    }
    let wrong = |row: &Row| Some(format!("{}: {}", row.layout, row.agreement.as_ref().err()?));
    let wrong: Vec<String> = rows.iter().filter_map(wrong).collect();
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        rows.len(),
        wrong.join("\n")
    );
}
