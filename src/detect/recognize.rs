//! Works out how a model is used: what its file says and what its outputs are on the test picture come in, a manifest with the reasons for
//! its values goes out. Names, shapes and metadata give the ways to read it, the likeliest first; each is judged by what it makes of the
//! test picture, and the one with the best evidence is taken. `twinsight model add` runs it.

mod choose;
mod family;
mod input;
mod labels;
mod metadata;
mod outputs;

use std::fmt;

use serde::Deserialize as _;

use super::manifest::file::{Kind, Layout, ManifestFile};
use super::manifest::{ModelError, Outlet};

pub(crate) use self::choose::{Recognized, Run, recognize, trial_manifest};
pub(crate) use self::input::InputHints;
pub(crate) use self::labels::LabelSource;
pub(crate) use self::metadata::Metadata;

/// What the user says about a model.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Hints {
    pub(crate) kind: Option<Kind>,
    pub(crate) labels: Option<Vec<String>>,
    pub(crate) input: InputHints,
    /// Keys of the manifest and their values, which count before what is worked out.
    pub(crate) set: Vec<(String, toml::Value)>,
}

/// Why it is not known how a model is used. The sentences end with what the user can say.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unrecognized {
    #[error(
        "cannot tell which of its inputs takes the picture; a picture is f32, f16 or u8 with 3 channels, and there is\n{inputs}\nexport the model with such an input; say which with `--set input.name=NAME` where there are several"
    )]
    Picture { inputs: String },
    #[error(
        "takes {batch} pictures at once, {input}; export it with a batch of 1 or an open one (`dynamic=True`)"
    )]
    Batch { batch: i64, input: String },
    #[error(
        "the layout `{layout}` contradicts the file, whose input {input} is `{found}`; leave it out"
    )]
    Layout {
        layout: Layout,
        found: Layout,
        input: String,
    },
    #[error(
        "its input {input} has a fixed size, so it cannot be {size}; leave the size out, or export the model with an open or another one"
    )]
    FixedSize { input: String, size: String },
    #[error(
        "cannot tell what its further input {input} takes; say it with `--set input.extra.{name}=width_height`, or `height_width` or `ones`"
    )]
    Extra { input: String, name: String },
    #[error(
        "its metadata says that its task is `{task}`; detection, pose and segmentation (`detect`, `pose`, `segment`) are supported"
    )]
    Task { task: String },
    #[error(
        "cannot tell what its outputs hold:\n{seen}\nsay it with `--kind`, one of {kinds}",
        kinds = kinds(Kind::ALL.iter().copied())
    )]
    Outputs { seen: String },
    #[error(
        "its output {output} is one vector for each picture, as that of a classifier; only detectors, poses and segmentation can be used"
    )]
    Classifier { output: String },
    #[error(
        "its outputs seem to be raw heads, whose boxes are still to be decoded:\n{seen}\nexport it with its boxes decoded"
    )]
    Heads { seen: String },
    #[error(
        "its outputs cannot be those of the kind `{kind}`:\n{seen}\nleave out `--kind`, or name the outputs, as in `--set output.predictions=NAME`"
    )]
    Kind { kind: Kind, seen: String },
    #[error(
        "its outputs can be read in more than one way, and the test picture does not tell which is right:\n{seen}\nsay it with `--kind`, one of {kinds}"
    )]
    Ambiguous { seen: String, kinds: String },
    #[error(
        "no way to read its outputs fits:\n{seen}\n{tried}\nsay what is different with `{flag}`"
    )]
    Nothing {
        seen: String,
        tried: String,
        flag: String,
    },
    #[error(
        "the boxes in its output `{boxes}` are offsets from anchors, which the file does not have; write them into a file, one on each line as centre x, centre y, width and height in shares of the input, and name it with `--set output.anchors=FILE`"
    )]
    Anchors { boxes: String },
    #[error(
        "what is said with {option} contradicts its outputs: with it, {with}; without it, {without}; leave it out, or correct it"
    )]
    Contradicted {
        option: String,
        with: String,
        without: String,
    },
    #[error("cannot be used with what `--set` and other options say: {why}")]
    Setting { why: String },
    #[error(
        "nothing says what its classes are, {classes} in number; name them with `--labels FILE`, a file with a label on each line, {classes} in all"
    )]
    Labels { classes: usize },
    #[error(
        "the number of its classes is {found}, and {labels} {origin}; give a label for each class with `--labels FILE`",
        labels = if *given == 1 { "1 label is".to_owned() } else { format!("{given} labels are") }
    )]
    WrongLabels {
        found: usize,
        given: usize,
        origin: &'static str,
    },
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// Inputs or outputs for people, one on each line.
pub(crate) fn describe(outlets: &[Outlet]) -> String {
    let lines: Vec<String> = outlets
        .iter()
        .map(|outlet| format!("    {}", outlet.text()))
        .collect();
    lines.join("\n")
}

/// Kinds for people, in quotation marks.
pub(crate) fn kinds(kinds: impl Iterator<Item = Kind>) -> String {
    let all: Vec<String> = kinds.map(|kind| format!("`{kind}`")).collect();
    all.join(", ")
}

/// Why a manifest has its values: sentences by the names of keys, as `output.kind`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Notes(Vec<(String, String)>);

impl Notes {
    pub(crate) fn add(&mut self, key: impl Into<String>, why: impl Into<String>) {
        let (key, why) = (key.into(), why.into());
        match self.0.iter_mut().find(|(known, _)| *known == key) {
            Some(known) => known.1 = why,
            None => self.0.push((key, why)),
        }
    }

    /// Writes each sentence anew.
    pub(crate) fn rewrite(&mut self, rewritten: impl Fn(&str) -> String) {
        for (_, why) in &mut self.0 {
            *why = rewritten(why);
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == key);
        found.map(|(_, why)| why.as_str())
    }
}

/// Puts the values that the user gives into a manifest.
///
/// # Errors
/// If a key takes no such value.
pub(crate) fn with_settings(
    file: &ManifestFile,
    settings: &[(String, toml::Value)],
) -> Result<ManifestFile, Unrecognized> {
    put(file, settings).map_err(|why| {
        // What is said of all together does not name the key.
        let wrong = settings.iter().find_map(|one| {
            let why = put(file, std::slice::from_ref(one)).err()?;
            Some(match example(&one.0) {
                Some(value) => format!("`{}`: {why}; as in `--set '{}={value}'`", one.0, one.0),
                None => format!("`{}`: {why}", one.0),
            })
        });
        Unrecognized::Setting {
            why: wrong.unwrap_or(why),
        }
    })
}

/// How a value that is no word is written.
fn example(key: &str) -> Option<&'static str> {
    Some(match key {
        "labels" => "labels.txt",
        "nms_iou" => "0.6",
        "input.width" | "input.height" => "640",
        "input.scale" => "0.00392157",
        "input.mean" => "[0.485, 0.456, 0.406]",
        "input.std" => "[0.229, 0.224, 0.225]",
        "input.pad" => "114",
        "output.columns" => "[\"box\", \"score\", \"class\"]",
        "output.strides" => "[8, 16, 32]",
        "output.keypoints" => "17",
        "output.keypoint_numbers" => "3",
        _ => return None,
    })
}

fn put(file: &ManifestFile, settings: &[(String, toml::Value)]) -> Result<ManifestFile, String> {
    if settings.is_empty() {
        return Ok(file.clone());
    }
    let refuse = |message: &dyn fmt::Display| message.to_string().trim().replace('\n', ", ");
    let text = file.write(&Notes::default(), &[]);
    let mut table: toml::Table = text.parse().map_err(|error| refuse(&error))?;
    for (key, value) in settings {
        let mut at = &mut table;
        let mut words = key.split('.').peekable();
        while let Some(word) = words.next() {
            if words.peek().is_none() {
                at.insert(word.to_owned(), value.clone());
                break;
            }
            let inner = at
                .entry(word)
                .or_insert_with(|| toml::Value::Table(toml::Table::new()));
            match inner.as_table_mut() {
                Some(inner) => at = inner,
                None => return Err(refuse(&format!("`{key}` is none of the manifest's keys"))),
            }
        }
    }
    ManifestFile::deserialize(toml::Value::Table(table)).map_err(|error| refuse(&error))
}

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) mod testing {
    use crate::detect::manifest::{Element, Outlet};

    pub(crate) fn outlet(name: &str, element: Element, dims: &[i64]) -> Outlet {
        Outlet {
            name: name.to_owned(),
            element,
            dims: dims.to_vec(),
        }
    }
}
