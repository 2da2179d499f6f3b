//! `twinsight model add`: an ONNX file comes in; it is recognised, tried on a picture and installed with a manifest. Nothing is left
//! behind if that fails: all is written to a folder of its own, and moved when everything is right.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::summary;
use super::{Files, megabytes, name_of_file};
use crate::annotate;
use crate::detect::judge::TestPicture;
use crate::detect::manifest::file::Labels;
use crate::detect::manifest::{
    ModelError, UNKNOWN, is_plain, read_onnx, read_text, refuse_external_data,
};
use crate::detect::probe::Probe;
use crate::detect::recognize::{
    Hints, LabelSource, Metadata, Recognized, Unrecognized, describe, recognize,
};
use crate::detect::session::Inspected;
use crate::detect::{
    DetectError, DetectSettings, Detector, ModelInfo, Object, OnnxDetector, Picture, Runtime,
    RuntimeError, RuntimeOptions,
};
use crate::dev::picture;
use twinsight_media::h264::clip::{ReadError, read_bounded};
use twinsight_media::picture::PictureSize;

/// As many labels as this stand in the manifest; more get a file of their own.
const FEW_LABELS: usize = 10;

/// Objects below it are not shown, as those of `detect`.
const MIN_SCORE: f32 = 0.4;

/// As many objects as this are named.
const NAMED: usize = 6;

/// The arguments of the command.
#[derive(Debug, Clone)]
pub(crate) struct AddOptions {
    /// The ONNX file.
    pub(crate) file: PathBuf,
    /// The name of the model; without it that of the file.
    pub(crate) name: Option<String>,
    /// The file with a label on each line.
    pub(crate) labels: Option<PathBuf>,
    pub(crate) licence: Option<String>,
    pub(crate) source: Option<String>,
    /// The folder of the models.
    pub(crate) models: PathBuf,
    /// Whether the user named this folder, so that other commands have to be given it too.
    pub(crate) is_models_given: bool,
    /// What the user says about the model. The labels are added from their file.
    pub(crate) hints: Hints,
    /// The picture that the model is tried on.
    pub(crate) picture: Option<PathBuf>,
    /// Where the annotated picture goes.
    pub(crate) out: Option<PathBuf>,
    /// Whether a model of this name is replaced.
    pub(crate) force: bool,
    pub(crate) runtime: RuntimeOptions,
}

impl AddOptions {
    /// A sentence about the test picture, if that is what the model is tried on.
    fn of_picture(&self, text: &str) -> String {
        match self.picture {
            Some(_) => text.replace("the test picture", "your picture"),
            None => text.to_owned(),
        }
    }
}

/// Why a model is not installed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AddError {
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error("{}: {why}", file.display())]
    Unrecognized { file: PathBuf, why: String },
    #[error("model name `{0}` should consist of letters, digits and `._-`; give one with `--name`")]
    Name(String),
    #[error("{} is there already: take another name with `--name`, or replace the model with `--force`", .0.display())]
    Exists(PathBuf),
    #[error("{}: nothing can be written into this folder of models: {reason}; make it writable, or name another one with `--models DIR`", path.display())]
    Folder { path: PathBuf, reason: io::Error },
    /// What the node would say of the model, without the place where it was tried.
    #[error("{0}")]
    Tried(String),
    #[error("{}: cannot be written: {reason}", path.display())]
    Write { path: PathBuf, reason: io::Error },
    #[error("{}: cannot be read: {reason}", path.display())]
    Picture {
        path: PathBuf,
        reason: image::ImageError,
    },
    #[error("{}: cannot be read: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: ReadError },
    #[error("{}: has no label, or an empty line among its labels; give a label on each line, `-` for a number that is never used", .0.display())]
    Labels(PathBuf),
    #[error("the annotated picture {} cannot be written: {reason}", path.display())]
    Annotated {
        path: PathBuf,
        reason: image::ImageError,
    },
    #[error(transparent)]
    Detect(#[from] DetectError),
    #[error("results cannot be written: {0}")]
    Output(#[from] io::Error),
}

/// Answers what only the user knows: a question comes in, an answer goes out, or nothing.
pub(crate) type Ask<'a> = &'a mut dyn FnMut(&str) -> Option<String>;

/// The picture on which a model is tried.
struct Shown {
    /// What it is called in sentences.
    name: String,
    image: image::RgbImage,
}

impl Shown {
    fn read(path: Option<&Path>) -> Result<Self, AddError> {
        let Some(path) = path else {
            let picture = TestPicture::new();
            let (pixels, size) = picture.pixels();
            let side = |length: usize| u32::try_from(length).unwrap_or(0);
            let image = image::RgbImage::from_raw(
                side(size.width_px),
                side(size.height_px),
                pixels.to_vec(),
            );
            return Ok(Self {
                name: "the test picture".to_owned(),
                image: image.unwrap_or_default(),
            });
        };
        let bytes = read_bounded(path).map_err(|reason| AddError::Unreadable {
            path: path.to_owned(),
            reason,
        })?;
        let image = picture::decode(&bytes).map_err(|reason| AddError::Picture {
            path: path.to_owned(),
            reason,
        })?;
        Ok(Self {
            name: path.display().to_string(),
            image,
        })
    }

    fn size(&self) -> PictureSize {
        PictureSize {
            width_px: self.image.width() as usize,
            height_px: self.image.height() as usize,
        }
    }
}

/// A folder for what is not yet known to be right. It is removed when it is dropped, with the folders around it that were made for it
/// and are still empty.
struct Draft {
    path: PathBuf,
    made: Vec<PathBuf>,
}

impl Draft {
    fn new(folder: &Path, name: &str) -> Result<Self, AddError> {
        let around = folder.ancestors();
        let made = around.take_while(|path| !path.as_os_str().is_empty() && !path.exists());
        let draft = Self {
            path: folder.join(format!(".{name}.adding-{}", std::process::id())),
            made: made.map(Path::to_owned).collect(),
        };
        fs::create_dir_all(&draft.path).map_err(|reason| AddError::Folder {
            path: folder.to_owned(),
            reason,
        })?;
        Ok(draft)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::debug!(%error, path = %self.path.display(), "a folder is left behind");
        }
        for folder in &self.made {
            // Where a model was installed the folder is not empty, and stays.
            let _ = fs::remove_dir(folder);
        }
    }
}

/// Recognises and installs a model, and prints what it does. `ask` is asked for licence and source.
///
/// # Errors
/// If the file is no model that can be used, it cannot be told how, or something cannot be written.
pub(crate) fn run(
    options: &AddOptions,
    ask: Option<Ask<'_>>,
    out: &mut dyn Write,
) -> Result<(), AddError> {
    let name = options
        .name
        .clone()
        .unwrap_or_else(|| name_of_file(&options.file));
    if !is_plain(&name) {
        return Err(AddError::Name(name));
    }
    let files = Files::of(&options.models, &name);
    refuse_existing(options, &files)?;
    // A folder that takes nothing is known before the work.
    drop(Draft::new(&options.models, &name)?);
    let (bytes, hash) = read_onnx(&options.file)?;
    refuse_external_data(&options.file, &bytes)?;
    let shown = Shown::read(options.picture.as_deref())?;
    let (hints, beside) = hints(options)?;
    let runtime = Runtime::load(&options.runtime)?;
    let mut probe = Probe::new(&runtime, &options.file, &bytes)?;
    let inspected = probe.inspected().clone();
    head(&options.file, bytes.len(), &inspected.producer, out)?;
    let picture = TestPicture::of(shown.image.clone());
    let recognized = recognize(&inspected, &hints, &beside, |input| {
        probe.run(input, &picture)
    });
    drop(probe);
    let recognized = match recognized {
        Err(Unrecognized::Model(error)) => Err(AddError::Model(error)),
        Err(why) => Err(AddError::Unrecognized {
            file: options.file.clone(),
            why: options.of_picture(&why.to_string()),
        }),
        Ok(recognized) => Ok(recognized),
    };
    // Many refusals have the inputs and outputs themselves.
    let is_in_refusal = |error: &AddError| error.to_string().contains("\n    `");
    if !recognized.as_ref().is_err_and(is_in_refusal) {
        inputs_and_outputs(&inspected, out)?;
    }
    let mut recognized = recognized?;
    recognized.notes.rewrite(|text| options.of_picture(text));
    for rival in &mut recognized.rivals {
        *rival = options.of_picture(rival);
    }
    say_what_was_worked_out(&recognized, out)?;
    let metadata = Metadata::read(&inspected.metadata);
    let origin = Origin::find(options, &metadata, ask);
    recognized.file.file = Some(format!("{name}.onnx"));
    recognized.file.sha256 = Some(hash);
    recognized.file.licence.clone_from(&origin.licence);
    recognized.file.source.clone_from(&origin.source);

    let draft = Draft::new(&options.models, &name)?;
    let drafted = Files::of(&draft.path, &name);
    let shown_as = |path: &Path| {
        let name = path.file_name().unwrap_or_default();
        options.models.join(name)
    };
    write_files(&mut recognized, &beside, &drafted, &name, &bytes).map_err(
        |error| match error {
            AddError::Write { path, reason } => AddError::Write {
                path: shown_as(&path),
                reason,
            },
            error => error,
        },
    )?;
    drop(bytes);
    // What is installed is what was tried: this reads the files as the node will.
    let tried = |error: &dyn std::fmt::Display| {
        let folder = draft.path.display().to_string();
        let text = error.to_string();
        let text = text.replace(&folder, &options.models.display().to_string());
        AddError::Tried(options.of_picture(&text))
    };
    let mut detector =
        OnnxDetector::load(&runtime, &draft.path, &name, &[]).map_err(|error| tried(&error))?;
    let settings = DetectSettings {
        min_score: MIN_SCORE,
        classes: Vec::new(),
    };
    let picture = Picture::Rgb {
        data: shown.image.as_raw(),
        size: shown.size(),
    };
    let found = detector.detect(picture, &settings)?;
    let annotated = options
        .out
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("{name}-detected.jpg")));
    let written = write_annotated(&shown, detector.model(), &found.objects, &annotated);
    if let (Err(reason), Some(path)) = (&written, &options.out) {
        return Err(AddError::Annotated {
            path: path.clone(),
            reason: image::ImageError::IoError(io::Error::other(reason.to_string())),
        });
    }
    let installed = install(&drafted, &files)?;
    drop(draft);

    say_what_was_seen(
        &shown.name,
        detector.model(),
        &found.objects,
        &recognized,
        out,
    )?;
    match written {
        Ok(()) => writeln!(out, "Annotated picture: {}", annotated.display())?,
        Err(reason) => writeln!(
            out,
            "Annotated picture: {} cannot be written ({reason}); `--out FILE` takes another place",
            annotated.display()
        )?,
    }
    writeln!(out, "Installed: {}", listed(&installed))?;
    origin.say(out)?;
    if recognized.labels.source == LabelSource::Assumed {
        writeln!(
            out,
            "Check: the labels are COCO's, though the file does not say how many classes it has. Give a model that was trained on others its labels with `--labels FILE --force`."
        )?;
    }
    let folder = if options.is_models_given {
        format!(" --models {}", options.models.display())
    } else {
        String::new()
    };
    writeln!(out, "Next:")?;
    writeln!(out, "  twinsight detect --model {name}{folder} PICTURE")?;
    writeln!(
        out,
        "  model = \"{name}\"   # under [defaults] or a camera of the configuration"
    )?;
    out.flush()?;
    Ok(())
}

fn refuse_existing(options: &AddOptions, files: &Files) -> Result<(), AddError> {
    if options.force {
        return Ok(());
    }
    for path in [&files.manifest, &files.model] {
        let is_itself = || match (fs::canonicalize(path), fs::canonicalize(&options.file)) {
            (Ok(a), Ok(b)) => a == b,
            _ => false,
        };
        if path.exists() && !is_itself() {
            return Err(AddError::Exists(path.clone()));
        }
    }
    Ok(())
}

/// What the user says, with the labels, and the path of a file beside that of the anchors.
fn hints(options: &AddOptions) -> Result<(Hints, PathBuf), AddError> {
    let mut hints = options.hints.clone();
    let mut beside = options.file.clone();
    for (_, value) in hints
        .set
        .iter_mut()
        .filter(|(key, _)| key == "output.anchors")
    {
        let Some(anchors) = value.as_str().map(PathBuf::from) else {
            continue;
        };
        if (anchors.exists() || anchors.components().count() > 1)
            && let Some(file) = anchors.file_name()
        {
            beside = anchors.with_file_name("model.onnx");
            *value = file.to_string_lossy().into_owned().into();
        }
    }
    if let Some(path) = &options.labels {
        let text = read_text(path)?;
        let labels: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
        if labels.is_empty() || labels.iter().any(String::is_empty) {
            return Err(AddError::Labels(path.clone()));
        }
        hints.labels = Some(labels);
    }
    Ok((hints, beside))
}

fn head(file: &Path, bytes: usize, producer: &str, out: &mut dyn Write) -> io::Result<()> {
    let made_by = if producer.is_empty() {
        String::new()
    } else {
        format!(", made by {producer}")
    };
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    writeln!(out, "{}: {}{made_by}", file.display(), megabytes(bytes))
}

fn inputs_and_outputs(inspected: &Inspected, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "  inputs\n{}", describe(&inspected.inputs))?;
    writeln!(out, "  outputs\n{}", describe(&inspected.outputs))
}

fn say_what_was_worked_out(recognized: &Recognized, out: &mut dyn Write) -> io::Result<()> {
    let file = &recognized.file;
    let note = |key: &str| {
        let why = recognized.notes.get(key);
        why.map_or_else(String::new, |why| format!("\n            ({why})"))
    };
    writeln!(out, "Worked out:")?;
    writeln!(
        out,
        "  kind      {}{}",
        file.output.kind,
        note("output.kind")
    )?;
    let why = note("input.scale");
    writeln!(out, "  input     {}{why}", summary::input(&file.input))?;
    if let Some(why) = recognized.notes.get("input.width")
        && why != "as the file says"
    {
        writeln!(out, "            (size: {why})")?;
    }
    let boxes = summary::boxes(file);
    if !boxes.is_empty() {
        writeln!(out, "  boxes     {boxes}{}", note("output.box_units"))?;
    }
    if let Some(columns) = &file.output.columns {
        let words: Vec<&str> = columns.iter().map(|column| column.word()).collect();
        writeln!(
            out,
            "  columns   {}{}",
            words.join(", "),
            note("output.columns")
        )?;
    }
    let labels = &recognized.labels.labels;
    let some: Vec<&str> = labels
        .iter()
        .map(String::as_str)
        .filter(|label| *label != "-")
        .take(4)
        .collect();
    let more = if labels.len() > some.len() {
        ", …"
    } else {
        ""
    };
    writeln!(
        out,
        "  labels    {}: {}{more}{}",
        labels.len(),
        some.join(", "),
        note("labels")
    )?;
    for rival in &recognized.rivals {
        writeln!(out, "  not taken: {rival}")?;
    }
    Ok(())
}

fn say_what_was_seen(
    picture: &str,
    model: &ModelInfo,
    objects: &[Object],
    recognized: &Recognized,
    out: &mut dyn Write,
) -> io::Result<()> {
    if objects.is_empty() {
        writeln!(out, "Seen on {picture}: nothing over {MIN_SCORE}")?;
    } else {
        let some: Vec<String> = objects
            .iter()
            .take(NAMED)
            .map(|object| format!("{} {:.2}", model.label(object.class_id), object.score))
            .collect();
        let more = match objects.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        writeln!(out, "Seen on {picture}: {}{more}", some.join(", "))?;
    }
    let evidence = &recognized.evidence;
    if evidence.strong == 0 {
        writeln!(
            out,
            "  Nothing there confirms how the outputs are read: look at a picture with what the model knows, `--picture FILE --force`."
        )?;
    } else if evidence.mirrored.is_none() {
        writeln!(
            out,
            "  The model says the same of the mirror image, so the places of boxes are not confirmed: look at the annotated picture."
        )?;
    }
    Ok(())
}

/// The licence of a model and where it comes from.
struct Origin {
    licence: String,
    source: String,
}

impl Origin {
    fn find(options: &AddOptions, metadata: &Metadata, ask: Option<Ask<'_>>) -> Self {
        let mut answers = ask;
        let mut find = |given: &Option<String>, found: &Option<String>, question: &str| {
            let known = given.clone().or_else(|| found.clone());
            known
                .or_else(|| answers.as_mut().and_then(|ask| ask(question)))
                .map(|text| text.trim().to_owned())
                .filter(|text| !text.is_empty())
                .unwrap_or_else(|| UNKNOWN.to_owned())
        };
        Self {
            licence: find(
                &options.licence,
                &metadata.licence,
                "The model's licence, an SPDX expression such as MIT (Enter if unknown): ",
            ),
            source: find(
                &options.source,
                &metadata.source,
                "Where it comes from, such as an address (Enter if unknown): ",
            ),
        }
    }

    fn say(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "Licence: {}; source: {}", self.licence, self.source)?;
        if self.licence == UNKNOWN || self.source == UNKNOWN {
            writeln!(
                out,
                "  `check` warns of what is unknown: say it with `--licence SPDX` and `--source TEXT`, or write it into the manifest."
            )?;
        }
        if self.licence.contains("GPL") {
            writeln!(
                out,
                "  This licence asks those who use or pass on the model to publish their own source: whether you may is your decision."
            )?;
        }
        Ok(())
    }
}

fn write_files(
    recognized: &mut Recognized,
    beside: &Path,
    drafted: &Files,
    name: &str,
    bytes: &[u8],
) -> Result<(), AddError> {
    let write = |path: &Path, bytes: &[u8]| {
        fs::write(path, bytes).map_err(|reason| AddError::Write {
            path: path.to_owned(),
            reason,
        })
    };
    write(&drafted.model, bytes)?;
    let labels = &recognized.labels.labels;
    recognized.file.labels = if labels.len() > FEW_LABELS {
        write(
            &drafted.labels,
            format!("{}\n", labels.join("\n")).as_bytes(),
        )?;
        Labels::File(format!("{name}.txt"))
    } else {
        Labels::Inline(labels.clone())
    };
    if let Some(anchors) = &recognized.file.output.anchors {
        let from = beside.with_file_name(anchors);
        let text = read_text(&from)?;
        write(&drafted.anchors, text.as_bytes())?;
        recognized.file.output.anchors = Some(format!("{name}-anchors.txt"));
    }
    let head = [format!(
        "Written by `twinsight model add`; docs/models.md tells what each key means. `twinsight model show {name}` shows all of them."
    )];
    let text = recognized.file.write(&recognized.notes, &head);
    write(&drafted.manifest, text.as_bytes())
}

/// Paths for people, as `a, b and c`.
fn listed(paths: &[PathBuf]) -> String {
    let all: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    match all.split_last() {
        Some((last, before)) if !before.is_empty() => format!("{} and {last}", before.join(", ")),
        _ => all.concat(),
    }
}

/// Moves all files to their places, which are returned with the model first. If one cannot be moved, those that were are taken away
/// again.
fn install(drafted: &Files, files: &Files) -> Result<Vec<PathBuf>, AddError> {
    let mut moved: Vec<&PathBuf> = Vec::new();
    for (from, to) in drafted.all().into_iter().zip(files.all()) {
        if !from.exists() {
            continue;
        }
        if let Err(reason) = fs::rename(from, to) {
            for path in moved {
                let _ = fs::remove_file(path);
            }
            return Err(AddError::Write {
                path: to.clone(),
                reason,
            });
        }
        moved.push(to);
    }
    let is_first = |path: &&PathBuf| [&files.model, &files.manifest].contains(path);
    let (first, others): (Vec<&PathBuf>, Vec<&PathBuf>) =
        moved.iter().partition(|path| is_first(path));
    Ok(first.into_iter().chain(others).cloned().collect())
}

fn write_annotated(
    shown: &Shown,
    model: &ModelInfo,
    objects: &[Object],
    path: &Path,
) -> image::ImageResult<()> {
    let mut image = shown.image.clone();
    annotate::draw_objects(&mut image, shown.size(), objects, model);
    picture::save(&image, path)
}
