//! What the user says about outputs and labels is held against what is seen without it. Otherwise a wrong word would only lead to other
//! pixels, with which the model sees nothing that could contradict.

use super::{Runs, Trial, Tried, best};
use crate::detect::recognize::outputs::Reading;
use crate::detect::recognize::{Hints, Unrecognized};

/// What the user says is taken as it is if it gives evidence at least this share as strong as what is seen without it.
const NEARLY: f32 = 0.5;

/// The hints without what they say about outputs and labels, if they say anything about these.
pub(super) fn without(hints: &Hints) -> Option<Hints> {
    let mut free = hints.clone();
    free.set.retain(|(key, _)| !is_of_outputs(key));
    free.kind = None;
    free.labels = None;
    (free != *hints).then_some(free)
}

/// True for keys that say how outputs are read. Anchors are a part that the file lacks, so nothing can be seen without them.
fn is_of_outputs(key: &str) -> bool {
    key.starts_with("output.") && key != super::ANCHORS
}

/// The options with which the user says something about outputs and labels, each with its key.
fn options(hints: &Hints) -> Vec<(&str, String)> {
    let mut all = Vec::new();
    if let Some(kind) = hints.kind {
        all.push(("output.kind", format!("`--kind {kind}`")));
    }
    for (key, value) in hints.set.iter().filter(|(key, _)| is_of_outputs(key)) {
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        all.push((key.as_str(), format!("`--set {key}={value}`")));
    }
    if hints.labels.is_some() {
        all.push(("labels", "the file of `--labels`".to_owned()));
    }
    all
}

fn strongest(tried: &[Tried]) -> f32 {
    tried.iter().map(Tried::strength).fold(0.0, f32::max)
}

/// Gives what was tried with the user's hints, or what the best pixels make of them. `freely` is what was tried without what these say
/// about outputs and labels.
///
/// # Errors
/// If something is seen without what the user says, and nothing with it.
pub(super) fn confirm(
    trial: &Trial<'_>,
    readings: &[Reading],
    tried: Vec<Tried>,
    freely: &[Tried],
    runs: &mut Runs<'_>,
) -> Result<Vec<Tried>, Unrecognized> {
    let free = match best(freely, "") {
        Ok((best, _)) => best,
        // Several kinds are as good, and their pixels too.
        Err(_) => freely
            .iter()
            .max_by(|a, b| a.strength().total_cmp(&b.strength())),
    };
    let Some(free) = free.filter(|free| free.strength() > 0.0) else {
        return Ok(tried);
    };
    // Where no way fits at all, the refusal is that of all ways.
    if matches!(best(&tried, ""), Ok((None, _))) {
        return Ok(tried);
    }
    let given = strongest(&tried);
    if given >= NEARLY * free.strength() {
        return Ok(tried);
    }
    if let (None, Some(labels), Some(found)) =
        (trial.hints.kind, &trial.hints.labels, free.reading.classes)
        && labels.len() != found
    {
        return Err(Unrecognized::WrongLabels {
            found,
            given: labels.len(),
            origin: "given",
        });
    }
    let again: Vec<Tried> = readings
        .iter()
        .map(|reading| trial.one(reading, &free.style, runs))
        .collect::<Result<_, _>>()?;
    let seen = strongest(&again);
    if seen > 0.0 {
        return Ok(if seen >= given { again } else { tried });
    }
    // The reading that was right without what the user says tells best what is wrong with it.
    let closeness = |one: &&Tried| {
        u8::from(one.kind() == free.kind()) + u8::from(one.reading.output == free.reading.output)
    };
    let refused = again.iter().filter(|one| one.outcome.is_err());
    let refused = refused.rev().max_by_key(closeness);
    let all = options(trial.hints);
    let of_key = refused.and_then(|one| all.iter().find(|(key, _)| *key == one.key));
    let option = match of_key {
        Some((_, option)) => option.clone(),
        None => {
            let options: Vec<&str> = all.iter().map(|(_, option)| option.as_str()).collect();
            options.join(" and ")
        }
    };
    Err(Unrecognized::Contradicted {
        option,
        with: refused
            .or(again.first())
            .map_or_else(|| "nothing can be read".to_owned(), Tried::gave),
        without: free.gave(),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Run, recognize, trial_manifest};
    use super::*;
    use crate::detect::judge::OwnedArray;
    use crate::detect::manifest::file::{InputTable, Kind, Resize};
    use crate::detect::manifest::{Element, ModelError};
    use crate::detect::recognize::Recognized;
    use crate::detect::recognize::testing::outlet;
    use crate::detect::session::Inspected;
    use crate::preprocess::Placement;
    use twinsight_media::picture::PictureSize;

    const SIDE: f32 = 320.0;

    /// A YOLO of three classes that are in its metadata.
    fn inspected() -> Inspected {
        let names = ("names".to_owned(), "['bolt', 'nut', 'screw']".to_owned());
        Inspected {
            inputs: vec![outlet("images", Element::F32, &[1, 3, 320, 320])],
            outputs: vec![outlet("out", Element::F32, &[1, 40, 7])],
            metadata: [names].into(),
            producer: String::new(),
        }
    }

    /// Three objects where the pixels are from 0 to 1, and none with others.
    fn run(input: &InputTable) -> Result<Run, ModelError> {
        let is_right = input.scale < 0.1 && input.resize == Resize::Letterbox;
        let values = |is_mirrored: bool| {
            let mut values = Vec::new();
            for row in 0..40u8 {
                let x = 40.0 + 100.0 * f32::from(row % 3);
                let x = if is_mirrored { SIDE - x } else { x };
                values.extend([x, 160.0, 60.0, 90.0]);
                for class in 0..3 {
                    let is_object = is_right && row < 3 && class == row;
                    values.push(if is_object {
                        0.9
                    } else {
                        0.0005 * f32::from(row)
                    });
                }
            }
            vec![OwnedArray {
                name: "out".to_owned(),
                dims: vec![1, 40, 7],
                values,
            }]
        };
        let manifest = trial_manifest(&inspected(), input, Path::new("m.onnx"))?;
        let size = PictureSize {
            width_px: 320,
            height_px: 320,
        };
        Ok(Run {
            first: values(false),
            mirrored: values(true),
            placement: Placement::new(&manifest.tensor, size),
        })
    }

    fn add(hints: &Hints) -> Result<Recognized, Unrecognized> {
        recognize(&inspected(), hints, Path::new("m.onnx"), run)
    }

    fn set(key: &str, value: &str) -> Hints {
        Hints {
            set: vec![(key.to_owned(), value.into())],
            ..Hints::default()
        }
    }

    #[test]
    fn what_contradicts_the_best_pixels_is_refused_and_named() {
        assert_eq!(add(&Hints::default()).unwrap().evidence.strong, 3);
        let right = add(&set("output.box_format", "cxcywh")).unwrap();
        assert_eq!(right.evidence.strong, 3);
        let error = add(&set("output.box_format", "xyxy"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("with `--set output.box_format=xyxy` contradicts"),
            "{error}"
        );
        assert!(
            error.contains("without it, as `yolo` it gives 3 boxes"),
            "{error}"
        );
        let error = add(&set("output.box_units", "shares")).unwrap_err();
        assert!(
            matches!(error, Unrecognized::Contradicted { .. }),
            "{error}"
        );
        let objectness = Hints {
            kind: Some(Kind::YoloObjectness),
            ..Hints::default()
        };
        add(&objectness).unwrap_err();
    }

    #[test]
    fn labels_in_another_number_do_not_make_it_another_kind() {
        let labelled = |count: usize| {
            add(&Hints {
                labels: Some((0..count).map(|n| format!("thing {n}")).collect()),
                ..Hints::default()
            })
        };
        assert_eq!(labelled(3).unwrap().file.output.kind, Kind::Yolo);
        for count in [2, 4] {
            let error = labelled(count).unwrap_err();
            assert!(
                matches!(error, Unrecognized::WrongLabels { found: 3, given, .. } if given == count),
                "{error}"
            );
        }
    }
}
