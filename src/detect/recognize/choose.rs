//! The choice among the ways to use a model: each is tried on the test picture, and the one with the best evidence is taken.

mod said;

use std::path::Path;

use super::family::{Family, Style, UNIT};
use super::input::Inputs;
use super::labels::{self, LabelSet, LabelSource};
use super::outputs::{Reading, Sight};
use super::{Hints, Metadata, Notes, Unrecognized, describe, kinds, with_settings};
use crate::detect::judge::{Evidence, Judgement, OwnedArray, judge};
use crate::detect::manifest::file::{InputTable, Kind, Labels, ManifestFile, OutputTable};
use crate::detect::manifest::{Element, Manifest, ModelError, Outlet, UNKNOWN};
use crate::detect::postprocess::Postprocessor;
use crate::detect::session::Inspected;
use crate::preprocess::Placement;

/// Evidence that is better by less than this does not tell two ways apart.
const CLEARLY: f32 = 0.1;

/// From this rank on a reading needs evidence.
const FAR_FETCHED: u8 = 3;

/// The key that a model with anchors needs.
const ANCHORS: &str = "output.anchors";

/// Evidence from which on no other way to prepare a picture is tried.
const ENOUGH: f32 = 0.5;

/// The outputs on the test picture and on its mirror image.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) first: Vec<OwnedArray>,
    pub(crate) mirrored: Vec<OwnedArray>,
    pub(crate) placement: Placement,
}

/// A model that is understood.
#[derive(Debug, Clone)]
pub(crate) struct Recognized {
    /// The manifest, whose file, hash, licence and source are not filled in. The labels are inline.
    pub(crate) file: ManifestFile,
    pub(crate) notes: Notes,
    pub(crate) labels: LabelSet,
    pub(crate) evidence: Evidence,
    /// What other kinds gave that fit too, a clause each.
    pub(crate) rivals: Vec<String>,
}

/// A way to use the model that was tried.
struct Tried {
    reading: Reading,
    file: ManifestFile,
    labels: LabelSet,
    style: Style,
    outcome: Result<Evidence, String>,
    /// The key that is likely wrong, if it was refused.
    key: &'static str,
}

/// Works out how a model is used. `run` runs it on the test picture, which is prepared by an input's table. `path` is that of the file.
///
/// # Errors
/// If it cannot be told, with what the user can say.
pub(crate) fn recognize(
    inspected: &Inspected,
    hints: &Hints,
    path: &Path,
    mut run: impl FnMut(&InputTable) -> Result<Run, ModelError>,
) -> Result<Recognized, Unrecognized> {
    let metadata = Metadata::read(&inspected.metadata);
    let inputs = Inputs::find(&inspected.inputs, &metadata, &hints.input)?;
    let mut runs = Runs {
        all: Vec::new(),
        run: &mut run,
    };
    let (size, first) = first_run(inspected, &inputs, hints, &mut runs)?;
    let seen = seen(inspected, &runs.all[first].1);
    let arrays = runs.all[first].1.first.clone();
    let sight_with = |hints: &Hints| {
        let mut sight = Sight::new(&inspected.outputs, &arrays, size, &metadata, hints);
        sight.extra = inputs.extra.keys().map(String::as_str).collect();
        sight.is_from_tensorflow = is_from_tensorflow(inspected, &inputs);
        sight
    };
    let readings_for = |hints: &Hints| sight_with(hints).readings();
    let mut readings = readings_for(hints)?;
    if readings.is_empty()
        && let Some(kind) = hints.kind
    {
        let table = OutputTable::of(kind);
        readings.push(Reading::new(table, 0, "you say so"));
    }
    let unknown = |seen: String| {
        let other = sight_with(hints).other_purpose(&seen);
        other.unwrap_or(Unrecognized::Outputs { seen })
    };
    if readings.is_empty() {
        return Err(unknown(seen));
    }
    if let [reading, ..] = readings.as_slice()
        && reading.needs_anchors
        && !hints.set.iter().any(|(key, _)| key == ANCHORS)
    {
        return Err(Unrecognized::Anchors {
            boxes: reading.output.boxes.clone().unwrap_or_default(),
        });
    }
    let in_metadata = metadata
        .names
        .as_deref()
        .map(|names| (names, LabelSource::Metadata));
    let known = match &hints.labels {
        Some(given) => Some((given.as_slice(), LabelSource::Given)),
        None => in_metadata,
    };
    let trial = Trial {
        inputs: &inputs,
        size,
        hints,
        path,
        known,
    };
    let mut tried = trial.all(&readings, &mut runs)?;
    if let Some(without) = said::without(hints) {
        let freely = Trial {
            hints: &without,
            known: in_metadata,
            ..trial
        };
        // What only this needs, as another size of the input, may fail without any harm.
        if let Ok(free) = readings_for(&without)
            && let Ok(free) = freely.all(&free, &mut runs)
        {
            tried = said::confirm(&trial, &readings, tried, &free, &mut runs)?;
        }
    }
    let (best, rivals) = best(&tried, &seen)?;
    match best {
        Some(best) => finish(best, rivals, &inputs),
        // Ways that have to show that they are right have not shown it.
        None if hints.kind.is_none() && tried.iter().all(Tried::is_invented) => Err(unknown(seen)),
        None => Err(nothing(&tried, seen, hints, known)),
    }
}

/// Runs that were made, by their inputs' tables.
struct Runs<'a> {
    all: Vec<(InputTable, Run)>,
    run: &'a mut dyn FnMut(&InputTable) -> Result<Run, ModelError>,
}

impl Runs<'_> {
    fn get(&mut self, table: &InputTable) -> Result<usize, ModelError> {
        if let Some(at) = self.all.iter().position(|(known, _)| known == table) {
            return Ok(at);
        }
        let made = (self.run)(table)?;
        self.all.push((table.clone(), made));
        Ok(self.all.len() - 1)
    }
}

fn is_from_tensorflow(inspected: &Inspected, inputs: &Inputs) -> bool {
    let producer = inspected.producer.to_ascii_lowercase();
    producer.starts_with("tf")
        || producer.contains("tensorflow")
        || inputs.layout == super::super::manifest::file::Layout::Nhwc
}

/// Runs the model once, to see its outputs. Where the file leaves its size open, the first one that works is taken.
fn first_run(
    inspected: &Inspected,
    inputs: &Inputs,
    hints: &Hints,
    runs: &mut Runs<'_>,
) -> Result<((usize, usize), usize), Unrecognized> {
    let of_input = |(key, _): &&(String, toml::Value)| key.starts_with("input.");
    let set: Vec<_> = hints.set.iter().filter(of_input).cloned().collect();
    let mut failed = None;
    for &size in &inputs.sizes {
        let file = draft(
            inputs.table(size, &UNIT.fitted(&set)),
            OutputTable::of(Kind::Yolo),
            Vec::new(),
            1.0,
        );
        let file = with_settings(&file, &set)?;
        match runs.get(&file.input) {
            Ok(at) => return Ok(((file.input.width, file.input.height), at)),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    Err(failed.map_or_else(
        || Unrecognized::Picture {
            inputs: describe(&inspected.inputs),
        },
        Unrecognized::Model,
    ))
}

/// A manifest without what is of the file.
fn draft(
    input: InputTable,
    output: OutputTable,
    labels: Vec<String>,
    nms_iou: f32,
) -> ManifestFile {
    ManifestFile {
        file: Some("model.onnx".to_owned()),
        sha256: Some("0".repeat(64)),
        licence: UNKNOWN.to_owned(),
        source: UNKNOWN.to_owned(),
        labels: Labels::Inline(labels),
        nms_iou,
        input,
        output,
    }
}

/// A manifest with which the model can be run, whatever its outputs hold. `path` is that of the file.
///
/// # Errors
/// If the model has no output of numbers, or the input's table cannot be.
pub(crate) fn trial_manifest(
    inspected: &Inspected,
    input: &InputTable,
    path: &Path,
) -> Result<Manifest, ModelError> {
    let is_of_numbers = |outlet: &&Outlet| !matches!(outlet.element, Element::Other(_));
    let output = OutputTable {
        predictions: Some(
            inspected
                .outputs
                .iter()
                .find(is_of_numbers)
                .map_or_else(String::new, |outlet| outlet.name.clone()),
        ),
        ..OutputTable::of(Kind::Yolo)
    };
    draft(input.clone(), output, vec!["any".to_owned()], 1.0).check("model", path)
}

/// Inputs and outputs for people. Lengths that the file leaves open are those of the run.
fn seen(inspected: &Inspected, run: &Run) -> String {
    let mut outputs = inspected.outputs.clone();
    for outlet in &mut outputs {
        if let Some(array) = run.first.iter().find(|array| array.name == outlet.name) {
            outlet.dims.clone_from(&array.dims);
        }
    }
    format!(
        "  inputs\n{}\n  outputs\n{}",
        describe(&inspected.inputs),
        describe(&outputs)
    )
}

#[derive(Clone, Copy)]
struct Trial<'a> {
    inputs: &'a Inputs,
    size: (usize, usize),
    hints: &'a Hints,
    path: &'a Path,
    known: Option<(&'a [String], LabelSource)>,
}

impl Trial<'_> {
    /// Tries readings of one rank after the other, until those of a rank have given evidence.
    fn all(&self, readings: &[Reading], runs: &mut Runs<'_>) -> Result<Vec<Tried>, Unrecognized> {
        let mut tried: Vec<Tried> = Vec::new();
        let mut rank = 0;
        for reading in readings {
            if reading.rank > rank {
                if tried.iter().any(|tried| tried.strength() > 0.2) {
                    break;
                }
                rank = reading.rank;
            }
            for style in reading.family.styles() {
                let one = self.one(reading, style, runs)?;
                // SSDs see large objects however the picture is prepared.
                let is_tried_through = matches!(reading.family, Family::Ssd | Family::TfSsd);
                let is_enough = one.strength() >= ENOUGH && !is_tried_through;
                tried.push(one);
                if is_enough {
                    break;
                }
            }
        }
        Ok(tried)
    }

    fn one(
        &self,
        reading: &Reading,
        style: &Style,
        runs: &mut Runs<'_>,
    ) -> Result<Tried, Unrecognized> {
        let labels = match reading.output.kind {
            Kind::Centerface if self.known.is_none() => LabelSet {
                labels: vec!["face".to_owned()],
                source: LabelSource::Kind,
            },
            Kind::YoloPose if self.known.is_none() && reading.classes.unwrap_or(1) == 1 => {
                LabelSet {
                    labels: vec!["person".to_owned()],
                    source: LabelSource::Kind,
                }
            }
            _ => labels::labels(self.known, reading.classes, reading.assumed),
        };
        let file = draft(
            self.inputs.table(self.size, &style.fitted(&self.hints.set)),
            reading.output.clone(),
            labels.labels.clone(),
            reading.nms_iou,
        );
        let tried = |file: ManifestFile, outcome, key| Tried {
            reading: reading.clone(),
            file,
            labels: labels.clone(),
            style: *style,
            outcome,
            key,
        };
        let set = with_settings(&file, &self.hints.set)?;
        if reading.needs_anchors && set.output.anchors.is_none() {
            return Ok(tried(
                set,
                Err("its boxes are offsets from anchors".to_owned()),
                ANCHORS,
            ));
        }
        let manifest = match set.clone().check("model", self.path) {
            Ok(manifest) => manifest,
            Err(error @ (ModelError::OutputKey { .. } | ModelError::Value { .. })) => {
                return Ok(tried(set, Err(self.sentence(&error)), "output.kind"));
            }
            Err(error) => return Err(error.into()),
        };
        let input = (set.input.width, set.input.height);
        let at = runs.get(&set.input)?;
        let run = &runs.all[at].1;
        let postprocessor = Postprocessor::new(manifest.output, input);
        let judgement = judge(
            &postprocessor,
            &manifest.labels,
            &run.first,
            &run.mirrored,
            &run.placement,
        );
        Ok(match judgement {
            Judgement::Fits(evidence) => tried(set, Ok(evidence), "output.kind"),
            Judgement::Shape(mismatch) => {
                let key = mismatch.key;
                tried(set, Err(mismatch.to_string()), key)
            }
            Judgement::Refused { seen, key, .. } => tried(set, Err(seen), key),
        })
    }

    fn sentence(&self, error: &ModelError) -> String {
        let text = error.to_string();
        let before = format!("{}: ", self.path.display());
        text.strip_prefix(&before).unwrap_or(&text).to_owned()
    }
}

impl Tried {
    /// How strong the evidence is that this way is right, 0 to about 1.
    fn strength(&self) -> f32 {
        let Ok(evidence) = &self.outcome else {
            return 0.0;
        };
        if evidence.strong == 0 {
            return 0.0;
        }
        let mirrored = evidence.mirrored.unwrap_or(0.5);
        let mut strength = evidence.top_score * (0.3 + 0.7 * mirrored);
        // The test picture shows a person before all else. Only what depends on the picture can have seen that.
        let top = evidence
            .top_class
            .and_then(|class| self.labels.labels.get(class));
        if evidence.mirrored.is_some() && top.is_some_and(|label| label == "person") {
            strength += 0.2;
        }
        strength
    }

    /// True if nobody says that there are such classes, and the shapes do not tell either.
    fn is_invented(&self) -> bool {
        self.labels.source == LabelSource::Missing && self.reading.rank >= FAR_FETCHED
    }

    fn kind(&self) -> Kind {
        self.file.output.kind
    }

    /// What it gave, a clause.
    fn gave(&self) -> String {
        match &self.outcome {
            Ok(Evidence { strong: 0, .. }) => {
                format!("as `{}` it sees nothing on the test picture", self.kind())
            }
            Ok(evidence) => format!(
                "as `{}` it gives {} on the test picture, the best with a score of {:.2}",
                self.kind(),
                match evidence.strong {
                    1 => "1 box".to_owned(),
                    count => format!("{count} boxes"),
                },
                evidence.top_score
            ),
            Err(seen) => format!("as `{}`: {seen}", self.kind()),
        }
    }
}

/// The one with the best evidence, and what other kinds gave. The first is taken unless another one is clearly better.
fn best<'a>(
    tried: &'a [Tried],
    seen: &str,
) -> Result<(Option<&'a Tried>, Vec<String>), Unrecognized> {
    // What is far-fetched has to show that it is right.
    let is_fitting = |one: &&Tried| {
        one.outcome.is_ok() && (one.reading.rank < FAR_FETCHED || one.strength() > 0.0)
    };
    let mut fitting: Vec<&Tried> = tried.iter().filter(is_fitting).collect();
    // A number of classes that has labels is no coincidence.
    let is_sure = |one: &&Tried| {
        let is_guess = matches!(
            one.labels.source,
            LabelSource::Missing | LabelSource::Assumed
        );
        !is_guess && one.strength() > 0.0
    };
    if fitting.iter().any(is_sure) {
        fitting.retain(|one| one.labels.source != LabelSource::Missing);
    }
    let Some(&first) = fitting.first() else {
        return Ok((None, Vec::new()));
    };
    let mut best = first;
    for &one in &fitting {
        let is_better = if one.kind() == best.kind() && one.file.output == best.file.output {
            one.strength() > best.strength() + CLEARLY / 2.0
        } else {
            one.strength() > best.strength() + CLEARLY
        };
        if is_better {
            best = one;
        }
    }
    // The best of each other kind.
    let mut rivals: Vec<&Tried> = Vec::new();
    for &one in fitting.iter().filter(|one| one.kind() != best.kind()) {
        match rivals.iter_mut().find(|rival| rival.kind() == one.kind()) {
            None => rivals.push(one),
            Some(rival) if one.strength() > rival.strength() => *rival = one,
            Some(_) => {}
        }
    }
    let alike: Vec<&&Tried> = rivals
        .iter()
        .filter(|rival| {
            rival.reading.rank == best.reading.rank
                && (rival.strength() - best.strength()).abs() <= CLEARLY
        })
        .collect();
    if !alike.is_empty() {
        let all: Vec<&Tried> = std::iter::once(best)
            .chain(alike.into_iter().copied())
            .collect();
        let lines: Vec<String> = all.iter().map(|one| format!("  {}", one.gave())).collect();
        return Err(Unrecognized::Ambiguous {
            seen: format!("{seen}\n{}", lines.join("\n")),
            kinds: kinds(all.iter().map(|one| one.kind())),
        });
    }
    let rivals = rivals.iter().map(|rival| rival.gave()).collect();
    Ok((Some(best), rivals))
}

/// The refusal where no way fits.
fn nothing(
    tried: &[Tried],
    seen: String,
    hints: &Hints,
    known: Option<(&[String], LabelSource)>,
) -> Unrecognized {
    let first = tried.first();
    if let Some(kind) = hints.kind
        && tried
            .iter()
            .all(|one| one.key == "output.kind" && one.outcome.is_err())
    {
        let gave = first.map_or_else(String::new, |one| format!("\n  {}", one.gave()));
        return Unrecognized::Kind {
            kind,
            seen: format!("{seen}{gave}"),
        };
    }
    // Readings with as many classes as there are labels come first, so none has as many.
    if let Some(one) = first
        && let (Some(found), Some((given, source))) = (one.reading.classes, known)
        && found != given.len()
    {
        return Unrecognized::WrongLabels {
            found,
            given: given.len(),
            origin: match source {
                LabelSource::Metadata => "in the file's metadata",
                _ => "given",
            },
        };
    }
    let mut lines: Vec<String> = Vec::new();
    for one in tried {
        let line = format!("  {}", one.gave());
        if lines.len() < 4 && !lines.contains(&line) {
            lines.push(line);
        }
    }
    let flag = match first.map(|one| one.key) {
        None | Some("output.kind" | "output") if hints.kind.is_none() => "--kind KIND".to_owned(),
        None => "--set KEY=VALUE".to_owned(),
        Some("labels") => "--labels FILE".to_owned(),
        Some("output") => "--set output.KEY=VALUE".to_owned(),
        Some(key) => format!("--set {key}=VALUE"),
    };
    Unrecognized::Nothing {
        seen,
        tried: lines.join("\n"),
        flag,
    }
}

/// Writes down what was chosen and why.
fn finish(best: &Tried, rivals: Vec<String>, inputs: &Inputs) -> Result<Recognized, Unrecognized> {
    if best.labels.source == LabelSource::Missing {
        return Err(Unrecognized::Labels {
            classes: best.labels.labels.len(),
        });
    }
    let mut notes = Notes::default();
    let reading = &best.reading;
    notes.add("output.kind", &reading.why);
    for (key, why) in &reading.notes {
        notes.add(format!("output.{key}"), why);
    }
    let input = &best.file.input;
    notes.add("input.width", inputs.size_from);
    let evidence = best.outcome.clone().unwrap_or_default();
    let words = reading.family.words();
    let why_style = match (reading.family.styles().len(), evidence.strong) {
        (1, _) => format!("as {words} take it"),
        (_, 0) => format!("as {words} take it; nothing was seen that tells"),
        _ if best.style == reading.family.styles()[0] => {
            format!("as {words} take it, and it gave boxes on the test picture")
        }
        _ => format!("not as {words} take it, but it gave the best boxes on the test picture"),
    };
    if inputs.is_bytes {
        notes.add("input.scale", "the input takes bytes as they are");
    } else if best.style.scale == input.scale {
        notes.add("input.scale", &why_style);
    }
    if best.style.resize == input.resize {
        notes.add("input.resize", &why_style);
    }
    let why_labels = match best.labels.source {
        LabelSource::Given => "given with `--labels`".to_owned(),
        LabelSource::Metadata => "from the file's metadata".to_owned(),
        LabelSource::Coco => "COCO's, because there are as many classes; `--labels FILE` says others".to_owned(),
        LabelSource::Assumed => {
            "COCO's, though the file does not say how many classes there are; `--labels FILE` says others".to_owned()
        }
        LabelSource::Kind => "the only class of this kind".to_owned(),
        LabelSource::Missing => String::new(),
    };
    notes.add("labels", why_labels);
    Ok(Recognized {
        file: best.file.clone(),
        notes,
        labels: best.labels.clone(),
        evidence,
        rivals,
    })
}
