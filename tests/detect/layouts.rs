//! Every layout of outputs that exporters write, as small graphs with known objects (`tests/interop/layouts.py` makes them): read as
//! the manifest says, their labels, scores and boxes are the known ones; and with any key of the manifest wrong, the model is refused.

use std::path::Path;

use serde_json::Value;
use toml::Value as Toml;
use twinsight::detect::{DetectSettings, Detector, ModelError, Object, OnnxDetector};

use crate::made_layouts::{Expected, Graph, Shown, graphs, manifest, runtime, write};

/// Loads a model that has the manifest `toml` in the folder of the graphs.
fn load(folder: &Path, name: &str, toml: &toml::Table) -> Result<OnnxDetector, ModelError> {
    write(folder, name, toml);
    OnnxDetector::load(&runtime(), folder, name, &[])
}

fn see(detector: &mut OnnxDetector, shown: &Shown) -> Vec<(String, Object)> {
    let settings = DetectSettings {
        min_score: 0.4,
        classes: Vec::new(),
    };
    let found = detector
        .detect(shown.picture(), &settings)
        .expect("results");
    let named = |object: Object| (detector.model().label(object.class_id).to_owned(), object);
    found.objects.into_iter().map(named).collect()
}

/// What differs between the objects that are seen and the known ones of a graph, in both pictures; nothing if they are the same.
fn difference(detector: &mut OnnxDetector, graph: &Graph, toml: &toml::Table) -> Option<String> {
    [Shown::new(false), Shown::new(true)]
        .iter()
        .find_map(|shown| {
            let expected = Expected::of(graph, toml, shown);
            let found = see(detector, shown);
            let objects = found.iter().map(|(label, object)| {
                let bbox = object.bbox;
                let corners = [bbox.x, bbox.y, bbox.x + bbox.width, bbox.y + bbox.height];
                (label.as_str(), object.score, corners.map(f64::from), object)
            });
            let objects: Vec<_> = objects.collect();
            let plain: Vec<_> = objects
                .iter()
                .map(|&(label, score, corners, _)| (label, f64::from(score), corners))
                .collect();
            expected.difference(&plain).or_else(|| {
                objects
                    .iter()
                    .zip(&expected.objects)
                    .find_map(|((_, _, _, object), known)| {
                        let points: Vec<_> = object
                            .keypoints
                            .iter()
                            .map(|p| [p.x, p.y, p.score].map(f64::from))
                            .collect();
                        let outline: Vec<_> =
                            object.outline.iter().map(|p| p.map(f64::from)).collect();
                        known
                            .difference_of_points(&points)
                            .or_else(|| known.difference_of_outline(&outline))
                    })
            })
        })
}

#[test]
fn every_layout_is_read_as_its_manifest_says() {
    let made = graphs();
    let mut wrong = Vec::new();
    for graph in &made.graphs {
        let toml = manifest(graph);
        let outcome = match load(made.folder.path(), &graph.name, &toml) {
            Ok(mut detector) => difference(&mut detector, graph, &toml),
            Err(error) => Some(error.to_string()),
        };
        if let Some(outcome) = outcome {
            wrong.push(format!("{}: {outcome}", graph.name));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        made.graphs.len(),
        wrong.join("\n")
    );
}

/// Keys whose wrong value shows in no output, so that no program can tell it. Licence and origin are words for people. The others
/// say how the picture becomes a tensor: a model that gets it in other colours, with other contrast or proportions still gives
/// plausible boxes, only worse ones. With `nms_iou` they are fewer or more.
const UNTOLD: &[&str] = &[
    "licence",
    "source",
    "nms_iou",
    "input.color_order",
    "input.scale",
    "input.mean",
    "input.std",
    "input.resize",
    "input.align",
    "input.pad",
];

/// Wrong values of a key, given that it has this one.
fn wrong_values(key: &str, value: &Toml, graph: &Graph) -> Vec<Toml> {
    let text = |words: &[&str]| -> Vec<Toml> {
        let others = words.iter().filter(|word| value.as_str() != Some(word));
        others.map(|&word| Toml::from(word)).collect()
    };
    match key {
        "sha256" => vec!["0".repeat(64).into()],
        "labels" => {
            let all = value.as_array().expect("a list");
            vec![
                Toml::from(all[..1].to_vec()),
                Toml::from([all.clone(), vec![Toml::from("one more")]].concat()),
            ]
        }
        "input.width" | "input.height" => {
            let side = value.as_integer().expect("a number");
            vec![(side + 32).into(), (side / 2).into()]
        }
        "input.layout" => text(&["nchw", "nhwc"]),
        "input.extra" => {
            let extra = value.as_table().expect("a table");
            let mut wrong = vec![Toml::Table(toml::Table::new())];
            for (name, word) in extra {
                for other in ["width_height", "height_width", "ones"] {
                    let mut changed = extra.clone();
                    changed.insert(name.clone(), other.into());
                    if word.as_str() != Some(other) {
                        wrong.push(changed.into());
                    }
                }
            }
            wrong
        }
        "output.kind" => text(&[
            "ssd",
            "rows",
            "yolo",
            "yolo_objectness",
            "yolox",
            "detr",
            "boxes_labels_scores",
            "centerface",
            "yolo_pose",
            "yolo_seg",
        ]),
        "output.box_format" => text(&["xyxy", "yxyx", "cxcywh", "xywh"]),
        "output.box_units" => text(&["pixels", "shares"]),
        "output.activation" => text(&["none", "sigmoid", "softmax"]),
        "output.background" => text(&["none", "first", "last"]),
        "output.columns" => {
            let columns = value.as_array().expect("a list");
            let swapped = (1..columns.len()).map(|place| {
                let mut columns = columns.clone();
                columns.swap(place - 1, place);
                Toml::from(columns)
            });
            swapped.chain([Toml::from(columns[1..].to_vec())]).collect()
        }
        "output.strides" => [[8, 16, 64], [32, 16, 8]]
            .map(|all| Toml::from(all.to_vec()))
            .to_vec(),
        "output.variances" => vec![Toml::from(vec![1.0, 1.0])],
        "output.keypoints" => vec![16.into(), 34.into()],
        "output.keypoint_numbers" => vec![2.into()],
        "file" | "output.anchors" => vec!["none".into()],
        // The names of inputs and outputs: one that is not there, and those of the others.
        _ => {
            let names = graph.keys.values().filter_map(Value::as_str);
            let others = names.filter(|name| value.as_str() != Some(name) && graph.is_outlet(name));
            others.chain(["none"]).map(Toml::from).collect()
        }
    }
}

/// Sets a key as in `output.kind`.
fn set(toml: &mut toml::Table, key: &str, value: Toml) {
    match key.split_once('.') {
        None => toml.insert(key.to_owned(), value),
        Some((table, key)) => toml[table]
            .as_table_mut()
            .expect("a table")
            .insert(key.to_owned(), value),
    };
}

#[test]
fn a_wrong_key_is_refused() {
    let made = graphs();
    let mut silent = Vec::new();
    let mut rows = Vec::new();
    for graph in made
        .graphs
        .iter()
        .filter(|graph| graph.name.ends_with("-1"))
    {
        let toml = manifest(graph);
        let (mut refused, mut named, mut harmless, mut tried) = (0, 0, 0, 0);
        for (key, value) in graph.all_keys(&toml) {
            let is_open = !graph.keys.contains_key(&key)
                && ["input.width", "input.height"].contains(&key.as_str());
            if UNTOLD.contains(&key.as_str()) || is_open {
                continue;
            }
            for wrong in wrong_values(&key, &value, graph) {
                let mut changed = toml.clone();
                set(&mut changed, &key, wrong.clone());
                tried += 1;
                match load(made.folder.path(), &graph.name, &changed) {
                    Err(error) => {
                        refused += 1;
                        let name = key.rsplit('.').next().unwrap_or(&key);
                        let said = error.to_string();
                        if said.contains(name) {
                            named += 1;
                        } else {
                            println!("{} {key} = {wrong}: {said}", graph.name);
                        }
                    }
                    Ok(mut detector) => match difference(&mut detector, graph, &changed) {
                        None => harmless += 1,
                        Some(difference) => {
                            silent.push(format!("{} {key} = {wrong}: {difference}", graph.name))
                        }
                    },
                }
            }
        }
        rows.push(format!(
            "{:22} {tried:5} {refused:7} {named:5} {harmless:8}",
            graph.layout
        ));
    }
    println!(
        "layout                 tried refused named harmless\n{}",
        rows.join("\n")
    );
    assert!(
        silent.is_empty(),
        "{} silently wrong:\n{}",
        silent.len(),
        silent.join("\n")
    );
}
