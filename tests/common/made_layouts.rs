//! The graphs that `tests/interop/layouts.py` makes, their manifests, and the objects that are to be seen in them.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::print_stdout,
    unreachable_pub,
    reason = "each program of tests uses a part of it, and stops at what it did not expect"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use toml::Value as Toml;
use twinsight::detect::{Picture, Runtime, RuntimeOptions};
use twinsight_media::picture::PictureSize;

/// The pictures that are shown: they fill a letterbox of 320 x 256 or of a square with whole pixels.
pub const PICTURE: (u32, u32) = (640, 400);

/// A graph, and what is known of it.
#[derive(Debug, Deserialize)]
pub struct Graph {
    pub name: String,
    pub layout: String,
    pub kind: String,
    /// The keys of the manifest that follow from the layout, as in `output.boxes`.
    pub keys: Map<String, Value>,
    /// Those of them that may be left out, since they have the default.
    pub may_be_left_out: Vec<String>,
    /// Keys that the layout's family has, and that cannot be seen in the file.
    pub normalisation: Map<String, Value>,
    pub labels: Vec<String>,
    /// Whether the file does not tell how many labels there are, nor which.
    pub needs_labels: bool,
    /// What `model add` cannot know.
    pub asks: Option<String>,
    /// Whether boxes scale with the input.
    pub scales: bool,
    /// Whether objects have outlines.
    pub outline: bool,
    pub objects: Vec<Known>,
}

/// A known object. The box is left, top, right and bottom in pixels of the input.
#[derive(Debug, Clone, Deserialize)]
pub struct Known {
    pub label: String,
    pub score: f64,
    #[serde(rename = "box")]
    pub corners: [f64; 4],
    #[serde(default)]
    pub keypoints: Vec<[f64; 3]>,
    #[serde(skip)]
    pub outline: bool,
}

#[derive(Deserialize)]
struct File {
    width: f64,
    height: f64,
    graphs: Vec<Graph>,
}

pub struct Made {
    pub folder: tempfile::TempDir,
    pub graphs: Vec<Graph>,
}

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Makes the graphs in a folder of their own.
pub fn graphs() -> Made {
    let folder = tempfile::tempdir().unwrap();
    let made = Command::new(root().join(".venv/bin/python"))
        .arg(root().join("tests/interop/layouts.py"))
        .arg(folder.path())
        .status()
        .unwrap();
    assert!(
        made.success(),
        "`scripts/setup --test` installs what this needs"
    );
    let text = std::fs::read_to_string(folder.path().join("expected.json")).unwrap();
    let file: File = serde_json::from_str(&text).unwrap();
    assert_eq!((file.width, file.height), (320.0, 256.0));
    Made {
        folder,
        graphs: file.graphs,
    }
}

pub fn runtime() -> Runtime {
    let options = RuntimeOptions {
        dylib_path: std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from),
        threads: 1,
        ..RuntimeOptions::default()
    };
    Runtime::load(&options).expect("ONNX Runtime, which `scripts/setup` installs")
}

fn toml_of(value: &Value) -> Toml {
    Toml::try_from(value).unwrap()
}

/// The manifest that the layout should have.
pub fn manifest(graph: &Graph) -> toml::Table {
    let mut toml: toml::Table = toml::from_str(
        "licence = \"MIT\"\nsource = \"made by a test\"\nnms_iou = 0.5\n[input]\nwidth = 320\nheight = 256\n\
         layout = \"nchw\"\ncolor_order = \"rgb\"\nscale = 1\nresize = \"stretch\"\n[output]\n",
    )
    .unwrap();
    toml.insert("file".to_owned(), format!("{}.onnx", graph.name).into());
    let labels: Vec<Toml> = graph
        .labels
        .iter()
        .map(|label| Toml::from(label.as_str()))
        .collect();
    toml.insert("labels".to_owned(), labels.into());
    let kind = ("output.kind".to_owned(), Value::from(graph.kind.as_str()));
    let keys = graph
        .normalisation
        .iter()
        .chain(&graph.keys)
        .map(|(key, value)| (key.clone(), value.clone()));
    for (key, value) in keys.chain([kind]) {
        let (table, key) = key.split_once('.').unwrap();
        toml[table]
            .as_table_mut()
            .unwrap()
            .insert(key.to_owned(), toml_of(&value));
    }
    toml
}

/// Writes a manifest into the folder of its graph, with the hash of the file unless it has one.
pub fn write(folder: &Path, name: &str, toml: &toml::Table) {
    let mut toml = toml.clone();
    let bytes = std::fs::read(folder.join(format!("{name}.onnx"))).unwrap();
    let hash: String = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    toml.entry("sha256").or_insert(hash.into());
    std::fs::write(
        folder.join(format!("{name}.toml")),
        toml::to_string(&toml).unwrap(),
    )
    .unwrap();
}

impl Graph {
    /// True for the name of an input or output.
    pub fn is_outlet(&self, name: &str) -> bool {
        let names = [
            "name",
            "predictions",
            "boxes",
            "scores",
            "logits",
            "labels",
            "count",
            "prototypes",
            "heatmap",
            "size",
            "offset",
            "landmarks",
        ];
        self.keys.iter().any(|(key, value)| {
            names.contains(&key.split_once('.').unwrap().1) && value.as_str() == Some(name)
        })
    }

    /// All keys of the manifest with their values, those that it leaves out with the value that holds then.
    pub fn all_keys(&self, toml: &toml::Table) -> Vec<(String, Toml)> {
        let mut keys = vec![("sha256".to_owned(), Toml::from(""))];
        for (key, value) in toml {
            match value {
                Toml::Table(table) => keys.extend(
                    table
                        .iter()
                        .map(|(inner, value)| (format!("{key}.{inner}"), value.clone())),
                ),
                value => keys.push((key.clone(), value.clone())),
            }
        }
        let (format, units, activation) = match self.kind.as_str() {
            "ssd" => ("yxyx", "shares", "none"),
            "rows" | "boxes_labels_scores" => ("xyxy", "pixels", "none"),
            "detr" => ("cxcywh", "shares", "sigmoid"),
            _ => ("cxcywh", "pixels", "none"),
        };
        let mut left_out = vec![("output.activation", Toml::from(activation))];
        if !matches!(self.kind.as_str(), "yolox" | "centerface") {
            left_out.extend([
                ("output.box_format", format.into()),
                ("output.box_units", units.into()),
            ]);
        }
        if matches!(
            self.kind.as_str(),
            "ssd" | "rows" | "detr" | "boxes_labels_scores"
        ) {
            left_out.push(("output.background", "none".into()));
        }
        let columns: &[&str] = match self.kind.as_str() {
            "yolo" => &["box", "scores"],
            "rows" => &["box", "score", "class"],
            "yolo_objectness" | "yolox" => &["box", "objectness", "scores"],
            "yolo_pose" => &["box", "scores", "keypoints"],
            "yolo_seg" => &["box", "scores", "coefficients"],
            _ => &[],
        };
        if !columns.is_empty() {
            left_out.push((
                "output.columns",
                columns
                    .iter()
                    .map(|&column| Toml::from(column))
                    .collect::<Vec<_>>()
                    .into(),
            ));
        }
        match self.kind.as_str() {
            "yolox" => left_out.push(("output.strides", vec![8, 16, 32].into())),
            "yolo_pose" => left_out.push(("output.keypoint_numbers", 3.into())),
            "ssd" if self.keys.contains_key("output.anchors") => {
                left_out.push(("output.variances", vec![0.1, 0.2].into()))
            }
            _ => {}
        }
        for (key, value) in left_out {
            if !keys.iter().any(|(given, _)| given == key) {
                keys.push((key.to_owned(), value));
            }
        }
        keys
    }
}

/// A picture that is brighter on one side.
pub struct Shown {
    pub image: image::RgbImage,
    pub is_mirrored: bool,
}

impl Shown {
    pub fn new(is_mirrored: bool) -> Self {
        let (width, height) = PICTURE;
        let image = image::RgbImage::from_fn(width, height, |x, y| {
            let x = if is_mirrored { width - 1 - x } else { x };
            let light = |step: u32| u8::try_from(220 - x / 4 - y / step).unwrap();
            image::Rgb([light(100), light(16), light(16) / 2])
        });
        Self { image, is_mirrored }
    }

    pub fn picture(&self) -> Picture<'_> {
        Picture::Rgb {
            data: self.image.as_raw(),
            size: PictureSize {
                width_px: PICTURE.0 as usize,
                height_px: PICTURE.1 as usize,
            },
        }
    }
}

/// What is to be seen in a picture, best first.
pub struct Expected {
    pub objects: Vec<Known>,
}

impl Expected {
    /// The known objects of a graph in pixels of the picture, given how the manifest fits the picture to the input.
    pub fn of(graph: &Graph, toml: &toml::Table, shown: &Shown) -> Self {
        let input = &toml["input"];
        let side = |key: &str| input[key].as_integer().unwrap() as f64;
        let (width, height) = (side("width"), side("height"));
        let (wide, high) = (f64::from(PICTURE.0), f64::from(PICTURE.1));
        let stretch = input["resize"].as_str() == Some("stretch");
        let scale = (width / wide).min(height / high);
        let (across, down) = if stretch {
            (width / wide, height / high)
        } else {
            (scale, scale)
        };
        let is_centred = !stretch && input.get("align").and_then(Toml::as_str) != Some("top_left");
        let (left, top) = if is_centred {
            ((width - wide * scale) / 2.0, (height - high * scale) / 2.0)
        } else {
            (0.0, 0.0)
        };
        let grown = if graph.scales {
            (width / 320.0, height / 256.0)
        } else {
            (1.0, 1.0)
        };
        // Boxes are mirrored in the input that the graph was made for.
        let x =
            |x: f64| ((if shown.is_mirrored { 320.0 - x } else { x }) * grown.0 - left) / across;
        let y = |y: f64| (y * grown.1 - top) / down;
        let place = |known: &Known| {
            let [x1, y1, x2, y2] = known.corners;
            let (x1, x2) = if shown.is_mirrored {
                (x2, x1)
            } else {
                (x1, x2)
            };
            Known {
                corners: [x(x1), y(y1), x(x2), y(y2)],
                keypoints: if shown.is_mirrored {
                    // The points of a mirrored object are laid out anew within its box.
                    known
                        .keypoints
                        .iter()
                        .map(|[px, py, score]| [x(x1 + x2 - px), y(*py), *score])
                        .collect()
                } else {
                    known
                        .keypoints
                        .iter()
                        .map(|[px, py, score]| [x(*px), y(*py), *score])
                        .collect()
                },
                outline: graph.outline,
                ..known.clone()
            }
        };
        Self {
            objects: graph.objects.iter().map(place).collect(),
        }
    }

    /// What differs from objects that were seen: label, score, and left, top, right and bottom.
    pub fn difference(&self, found: &[(&str, f64, [f64; 4])]) -> Option<String> {
        self.agreement(found).err()
    }

    /// How far objects that were seen are off, if they are the known ones.
    pub fn agreement(&self, found: &[(&str, f64, [f64; 4])]) -> Result<Agreement, String> {
        if found.len() != self.objects.len() {
            return Err(format!(
                "{} objects in place of {}: {found:?}",
                found.len(),
                self.objects.len()
            ));
        }
        let mut all = Agreement::default();
        for ((label, score, corners), known) in found.iter().zip(&self.objects) {
            let off = corners
                .iter()
                .zip(&known.corners)
                .map(|(a, b)| (a - b).abs());
            let one = Agreement {
                score: (score - known.score).abs(),
                box_px: off.fold(0.0, f64::max),
            };
            if *label != known.label || one.score > 0.001 || one.box_px > 0.5 {
                return Err(format!(
                    "{label} {score:.4} {corners:.1?} in place of {} {:.4} {:.1?}",
                    known.label, known.score, known.corners
                ));
            }
            all = all.and(one);
        }
        Ok(all)
    }
}

/// By how much the objects that were seen differ most from the known ones.
#[derive(Debug, Clone, Copy, Default)]
pub struct Agreement {
    pub score: f64,
    /// In pixels of the picture.
    pub box_px: f64,
}

impl Agreement {
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            score: self.score.max(other.score),
            box_px: self.box_px.max(other.box_px),
        }
    }
}

impl std::fmt::Display for Agreement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.4}, {:.2} px", self.score, self.box_px)
    }
}

impl Known {
    pub fn difference_of_points(&self, found: &[[f64; 3]]) -> Option<String> {
        if self.keypoints.is_empty() && found.is_empty() {
            return None;
        }
        let off =
            |(a, b): (&[f64; 3], &[f64; 3])| (a[0] - b[0]).abs() > 0.5 || (a[1] - b[1]).abs() > 0.5;
        let is_same =
            found.len() == self.keypoints.len() && !found.iter().zip(&self.keypoints).any(off);
        (!is_same).then(|| format!("points {found:.1?} in place of {:.1?}", self.keypoints))
    }

    /// The outline is a rhombus that fills the box, on a grid of eight pixels of the picture.
    pub fn difference_of_outline(&self, found: &[[f64; 2]]) -> Option<String> {
        if !self.outline {
            return (!found.is_empty()).then(|| format!("an outline {found:?}"));
        }
        let [x1, y1, x2, y2] = self.corners;
        let (cx, cy, w, h) = ((x1 + x2) / 2.0, (y1 + y2) / 2.0, x2 - x1, y2 - y1);
        let edge = |[x, y]: &[f64; 2]| {
            ((x - cx).abs() / (w / 2.0) + (y - cy).abs() / (h / 2.0) - 1.0) * w.min(h) / 2.0
        };
        let is_on_edge = found.iter().all(|point| edge(point).abs() < 12.0);
        let area = found
            .iter()
            .zip(found.iter().cycle().skip(1))
            .map(|(a, b)| a[0] * b[1] - b[0] * a[1])
            .sum::<f64>()
            .abs()
            / 2.0;
        let is_whole = (area / (w * h / 2.0) - 1.0).abs() < 0.15;
        let is_same = (3..=32).contains(&found.len()) && is_on_edge && is_whole;
        (!is_same).then(|| {
            format!(
                "an outline of {area:.0} px² {found:.0?} in place of a rhombus in {:.0?}",
                self.corners
            )
        })
    }
}
