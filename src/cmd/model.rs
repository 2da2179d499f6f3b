//! `twinsight model`: lists, shows, adds, compares and removes the detectors that are installed.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::output::Output;
use super::shipped::{demo_clip, execution_providers, models_dir};
use crate::config::{DEFAULT_MODEL, Env};
use crate::detect::RuntimeOptions;
use crate::detect::manifest::file::{self, Align, ColorOrder, Extra, Kind, Layout, Resize};
use crate::detect::recognize::{Hints, InputHints};
use crate::dev::model::add::{self, AddOptions};
use crate::dev::model::compare::{self, CompareOptions};
use crate::dev::model::{list, remove, show};

#[derive(Args)]
pub(super) struct ModelArgs {
    /// The folder of the models; the shipped one unless given here or in TWINSIGHT_RUNTIME__MODELS_DIR.
    #[arg(long, global = true, value_name = "DIR")]
    models: Option<PathBuf>,
    #[command(subcommand)]
    command: ModelCommand,
}

#[derive(Subcommand)]
enum ModelCommand {
    /// Lists the models that are installed, with what is wrong with those that cannot be used.
    List,
    /// Shows a model: its manifest with everything filled in, what its file says of itself, and whether it can be used.
    Show {
        /// The name of the model.
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Works out how an ONNX file is used, tries it on a picture and installs it.
    Add(Box<AddArgs>),
    /// Compares two models: speed, cameras, and how far their detections agree.
    Compare {
        /// The name of the first model.
        #[arg(value_name = "A")]
        a: String,
        /// The name of the second model.
        #[arg(value_name = "B")]
        b: String,
        /// The clip that both look at: H.264, as a byte stream (Annex B) or in MP4; the shipped clip unless given.
        #[arg(long, value_name = "FILE", conflicts_with = "pictures")]
        clip: Option<PathBuf>,
        /// A picture that both look at, instead of a clip; may be given several times.
        #[arg(long = "picture", value_name = "FILE")]
        pictures: Vec<PathBuf>,
        /// A line of JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Removes a model, with those of its files that no other model needs.
    Remove {
        /// The name of the model.
        #[arg(value_name = "NAME")]
        name: String,
        /// Asks nothing, and removes the default model too.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Args)]
struct AddArgs {
    /// The model, with its weights inside.
    #[arg(value_name = "FILE.onnx")]
    file: PathBuf,
    /// The name of the model; that of the file unless given.
    #[arg(long, value_name = "N")]
    name: Option<String>,
    /// A file with a label on each line, in the order of the classes.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// The model's licence, an SPDX expression.
    #[arg(long, value_name = "SPDX")]
    licence: Option<String>,
    /// Where the model comes from.
    #[arg(long, value_name = "TEXT")]
    source: Option<String>,
    /// What the outputs hold, where it cannot be told.
    #[arg(long, value_name = "K", value_parser = kind)]
    kind: Option<Kind>,
    /// A key of the manifest and its value, as in `output.box_format=xyxy`; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    set: Vec<(String, toml::Value)>,
    /// The width and height of the input, where the file leaves them open.
    #[arg(long, value_name = "WxH", value_parser = size)]
    size: Option<(usize, usize)>,
    /// The layout of the input: nchw or nhwc.
    #[arg(long, value_name = "L", value_parser = layout)]
    layout: Option<Layout>,
    /// The order of the channels: rgb or bgr.
    #[arg(long, value_name = "O", value_parser = color_order)]
    color_order: Option<ColorOrder>,
    /// What a byte of the picture is multiplied by.
    #[arg(long, value_name = "X", value_parser = finite)]
    scale: Option<f32>,
    /// What is then taken off, a number for each channel.
    #[arg(long, value_name = "A,B,C", value_parser = three, allow_hyphen_values = true)]
    mean: Option<[f32; 3]>,
    /// What the rest is divided by, a number for each channel.
    #[arg(long, value_name = "A,B,C", value_parser = three)]
    std: Option<[f32; 3]>,
    /// How a picture is fitted: stretch or letterbox.
    #[arg(long, value_name = "R", value_parser = resize)]
    resize: Option<Resize>,
    /// Where a letterboxed picture lies: center or `top_left`.
    #[arg(long, value_name = "A", value_parser = align)]
    align: Option<Align>,
    /// The value beside a letterboxed picture, 0 to 255.
    #[arg(long, value_name = "N")]
    pad: Option<u8>,
    /// The picture that the model is tried on, instead of the test picture.
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
    /// Where the annotated picture goes; NAME-detected.jpg unless given.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replaces a model of this name.
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: ModelArgs, env: &Env) -> Result<()> {
    let is_models_given = args.models.is_some();
    let models = models_dir(args.models, env);
    let runtime = RuntimeOptions {
        library: env.get("TWINSIGHT_RUNTIME__LIBRARY").map(PathBuf::from),
        dylib_path: env.get("ORT_DYLIB_PATH").map(PathBuf::from),
        threads: 0,
    };
    let out = &mut Output(io::stdout());
    let mut ask = |question: &str| ask(question);
    let ask = io::stdin()
        .is_terminal()
        .then_some(&mut ask as add::Ask<'_>);
    match args.command {
        ModelCommand::List => list::run(&models, DEFAULT_MODEL, out)?,
        ModelCommand::Show { name } => show::run(&models, &name, &runtime, out)?,
        ModelCommand::Compare {
            a,
            b,
            clip,
            pictures,
            json,
        } => {
            let options = CompareOptions {
                names: [a, b],
                models,
                clip,
                pictures,
                shipped: demo_clip(),
                json,
                runtime,
                execution_providers: execution_providers(env),
            };
            compare::run(&options, out)?;
        }
        ModelCommand::Remove { name, yes } => {
            remove::run(&models, &name, DEFAULT_MODEL, yes, ask, out)?;
        }
        ModelCommand::Add(args) => {
            let options = AddOptions {
                is_models_given,
                ..args.options(models, runtime)
            };
            add::run(&options, ask, out)?;
        }
    }
    Ok(())
}

/// Asks whoever sits at the terminal.
fn ask(question: &str) -> Option<String> {
    let mut error = io::stderr();
    write!(error, "{question}").ok()?;
    error.flush().ok()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).ok()?;
    Some(answer)
}

impl AddArgs {
    fn options(self, models: PathBuf, runtime: RuntimeOptions) -> AddOptions {
        let mut set = self.set;
        let mut put = |key: &str, value: Option<toml::Value>| {
            set.extend(value.map(|value| (key.to_owned(), value)));
        };
        let word = |word: &'static str| toml::Value::from(word);
        let numbers = |all: [f32; 3]| toml::Value::from(all.map(f64::from).to_vec());
        put(
            "input.color_order",
            self.color_order.map(|found| word(found.word())),
        );
        put(
            "input.scale",
            self.scale.map(|scale| f64::from(scale).into()),
        );
        put("input.mean", self.mean.map(numbers));
        put("input.std", self.std.map(numbers));
        put("input.resize", self.resize.map(|found| word(found.word())));
        put("input.align", self.align.map(|found| word(found.word())));
        put("input.pad", self.pad.map(|pad| i64::from(pad).into()));
        let text = |wanted: &str| {
            let found = set.iter().rev().find(|(key, _)| key == wanted);
            found.and_then(|(_, value)| value.as_str().map(str::to_owned))
        };
        let side = |wanted: &str| {
            let found = set.iter().rev().find(|(key, _)| key == wanted);
            found.and_then(|(_, value)| usize::try_from(value.as_integer()?).ok())
        };
        let extra = set.iter().filter_map(|(key, value)| {
            let name = key.strip_prefix("input.extra.")?;
            let word = value.as_str()?;
            let extra = Extra::ALL.iter().find(|extra| extra.word() == word)?;
            Some((name.to_owned(), *extra))
        });
        let input = InputHints {
            name: text("input.name"),
            layout: self.layout.or_else(|| {
                let word = text("input.layout")?;
                Layout::ALL
                    .iter()
                    .copied()
                    .find(|layout| layout.word() == word)
            }),
            size: self
                .size
                .or_else(|| Some((side("input.width")?, side("input.height")?))),
            extra: extra.collect(),
        };
        let kind = self.kind.or_else(|| {
            let word = text("output.kind")?;
            Kind::ALL.iter().copied().find(|kind| kind.word() == word)
        });
        let licence = self.licence.or_else(|| text("licence"));
        let source = self.source.or_else(|| text("source"));
        let file_of_labels = self.labels.or_else(|| text("labels").map(PathBuf::from));
        let labels = set.iter().rev().find_map(|(key, value)| {
            let all = value.as_array().filter(|_| key == "labels")?;
            let texts = all.iter().map(|label| label.as_str().map(str::to_owned));
            texts.collect::<Option<Vec<String>>>()
        });
        let elsewhere = ["output.kind", "licence", "source"];
        let is_known_labels = labels.is_some() || file_of_labels.is_some();
        set.retain(|(key, _)| {
            let is_elsewhere = elsewhere.contains(&key.as_str())
                || key.starts_with("input.extra.")
                || key == "labels" && is_known_labels;
            !is_elsewhere
        });
        AddOptions {
            file: self.file,
            name: self.name,
            labels: file_of_labels,
            licence,
            source,
            models,
            is_models_given: false,
            hints: Hints {
                kind,
                labels,
                input,
                set,
            },
            picture: self.picture,
            out: self.out,
            force: self.force,
            runtime,
        }
    }
}

/// One of a few words.
fn one_of<T: Copy>(text: &str, all: &[T], word: impl Fn(T) -> &'static str) -> Result<T, String> {
    let found = all.iter().copied().find(|one| word(*one) == text);
    found.ok_or_else(|| {
        let words: Vec<&str> = all.iter().map(|one| word(*one)).collect();
        format!("it takes one of {}", words.join(", "))
    })
}

fn kind(text: &str) -> Result<Kind, String> {
    one_of(text, Kind::ALL, Kind::word)
}

fn layout(text: &str) -> Result<Layout, String> {
    one_of(text, Layout::ALL, Layout::word)
}

fn color_order(text: &str) -> Result<ColorOrder, String> {
    one_of(text, ColorOrder::ALL, ColorOrder::word)
}

fn resize(text: &str) -> Result<Resize, String> {
    one_of(text, Resize::ALL, Resize::word)
}

fn align(text: &str) -> Result<Align, String> {
    one_of(text, Align::ALL, Align::word)
}

fn finite(text: &str) -> Result<f32, String> {
    let number = text.parse().ok().filter(|number: &f32| number.is_finite());
    number.ok_or_else(|| "it takes a number".to_owned())
}

fn three(text: &str) -> Result<[f32; 3], String> {
    let numbers: Option<Vec<f32>> = text
        .split(',')
        .map(|word| finite(word.trim()).ok())
        .collect();
    numbers
        .and_then(|numbers| numbers.try_into().ok())
        .ok_or_else(|| "it takes three numbers, as in 0.485,0.456,0.406".to_owned())
}

fn size(text: &str) -> Result<(usize, usize), String> {
    let side = |word: &str| word.parse().ok().filter(|side| (1..=4096).contains(side));
    text.split_once('x')
        .and_then(|(width, height)| Some((side(width)?, side(height)?)))
        .ok_or_else(|| "it takes a width and a height from 1 to 4096, as in 640x384".to_owned())
}

/// Keys whose values are texts.
const TEXTS: &[&str] = &[
    "licence",
    "source",
    "input.name",
    "output.predictions",
    "output.boxes",
    "output.scores",
    "output.logits",
    "output.labels",
    "output.count",
    "output.prototypes",
    "output.heatmap",
    "output.size",
    "output.offset",
    "output.landmarks",
    "output.anchors",
];

/// A key of the manifest and its value. A value that is no TOML is a text.
fn setting(text: &str) -> Result<(String, toml::Value), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| "it takes a key and a value, as in output.box_format=xyxy".to_owned())?;
    let (key, value) = (key.trim(), value.trim());
    let names = file::keys().map(|key| match key.table {
        "" => key.name.to_owned(),
        table => format!("{table}.{}", key.name),
    });
    let names: Vec<String> = names
        .filter(|name| !["input", "output", "file", "sha256"].contains(&name.as_str()))
        .collect();
    if !names.iter().any(|name| name == key) && !key.starts_with("input.extra.") {
        let nearest = names
            .iter()
            .max_by(|a, b| strsim::jaro_winkler(a, key).total_cmp(&strsim::jaro_winkler(b, key)));
        return Err(format!(
            "`{key}` is none of the manifest's keys; is `{}` meant?",
            nearest.map_or("", String::as_str)
        ));
    }
    // Some exporters name outputs by numbers, and a licence or a source is a text whatever it looks like.
    let is_text = TEXTS.contains(&key);
    let parsed = format!("value = {value}").parse::<toml::Table>();
    let value = parsed
        .ok()
        .filter(|_| !is_text || value.starts_with('"'))
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| toml::Value::from(value));
    Ok((key.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_toml_or_text() {
        let value = |text| setting(text).unwrap().1;
        assert_eq!(value("output.box_format=xyxy"), "xyxy".into());
        assert_eq!(value("output.strides=[8, 16]"), vec![8, 16].into());
        assert_eq!(value("nms_iou=0.5"), 0.5.into());
        assert_eq!(value("output.boxes=539"), "539".into());
        assert!(
            setting("output.box_formt=xyxy")
                .unwrap_err()
                .contains("`output.box_format`")
        );
        assert!(setting("xyxy").is_err());
        assert_eq!(size("640x384"), Ok((640, 384)));
        assert!(size("640").is_err() && size("0x3").is_err());
        assert_eq!(three("1, 2,3"), Ok([1.0, 2.0, 3.0]));
    }
}
