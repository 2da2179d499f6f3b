//! The detector's interface: a picture comes in; objects in the picture's pixels go out, with the time that each stage took.
//! [`OnnxDetector`](super::onnx::OnnxDetector) implements it, and [`FakeDetector`] for tests. An inference worker runs it.

use std::sync::Arc;
use std::time::Duration;

use super::explain::{CandidateFate, Explained, ExplainedCandidate};
use super::nms::Candidate;
use super::postprocess::OutputError;
use crate::preprocess::Picture;
use crate::preprocess::Placement;
use crate::telemetry::cpu::{Spent, Stopwatch};
use crate::telemetry::ledger::InferenceFailure;

/// A box inside the picture, in its pixels; the origin is at the top left.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BBox {
    /// The left edge.
    pub x: f32,
    /// The top edge.
    pub y: f32,
    /// The distance to the right edge.
    pub width: f32,
    /// The distance to the bottom edge.
    pub height: f32,
}

/// A point of an object that the model knows by number, such as a person's left wrist.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Keypoint {
    /// Pixels of the picture from its left edge.
    pub x: f32,
    /// Pixels of the picture from its top edge.
    pub y: f32,
    /// How sure the model is that the point is visible, from 0 to 1.
    pub score: f32,
}

/// An object that a detector found.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// The class, as an index in the model's labels.
    pub class_id: usize,
    /// How sure the model is, from 0 to 1.
    pub score: f32,
    /// Where the object is.
    pub bbox: BBox,
    /// One keypoint for each of [`ModelInfo`]'s names, in their order; empty if the model gives none.
    pub keypoints: Vec<Keypoint>,
    /// The corners of a polygon around the object, x and y in pixels of the picture, at most 32; empty if the model gives none.
    pub outline: Vec<[f32; 2]>,
}

/// Which objects a camera wants.
#[derive(Debug, Clone, PartialEq)]
pub struct DetectSettings {
    /// Objects with a lower score are not reported.
    pub min_score: f32,
    /// The classes that are wanted, as indexes in the model's labels; none means all.
    pub classes: Vec<usize>,
}

/// The result for one picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Detections {
    /// The objects, with the best score first.
    pub objects: Vec<Object>,
    /// The time that it took to make the tensor.
    pub preprocess: Spent,
    /// The time that the run of the session took.
    pub inference: Spent,
    /// The time that it took to make objects of the outputs.
    pub postprocess: Spent,
}

/// What events say about the model that they come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// The name of its manifest, without `.toml`.
    pub(crate) name: Arc<str>,
    /// The SHA-256 of the model file, in lower-case hexadecimal digits. Of a model on a server nobody here knows it.
    pub(crate) sha256: Option<Arc<str>>,
    /// The label of each class; `-` where the model has a number that it never uses.
    pub(crate) labels: Arc<[String]>,
    /// The name of each keypoint; empty if the names are not known or the model gives no keypoints.
    pub(crate) keypoints: Arc<[String]>,
}

/// Why a picture gave no result.
#[derive(Debug, thiserror::Error)]
pub enum DetectError {
    /// The picture has no pixels, or fewer bytes than its size says.
    #[error("the picture is empty or shorter than its size says ({width_px}x{height_px})")]
    Picture {
        /// The width that it should have.
        width_px: usize,
        /// The height that it should have.
        height_px: usize,
    },
    /// ONNX Runtime reported an error, or the run was terminated.
    #[error("model {model}: the run failed: {message}")]
    Run {
        /// The name of the model.
        model: Arc<str>,
        /// The error message of ONNX Runtime.
        message: String,
    },
    /// An output has another shape than the manifest says.
    #[error("model {model}: {mismatch}")]
    Output {
        /// The name of the model.
        model: Arc<str>,
        /// The output, and both shapes.
        mismatch: super::postprocess::Mismatch,
    },
    /// An output has numbers that no detector gives, so it is not known what the picture shows.
    #[error("model {model}: {implausible}")]
    Numbers {
        /// The name of the model.
        model: Arc<str>,
        /// The output and the number.
        implausible: super::postprocess::Implausible,
    },
    /// The server of a model had not answered by the deadline.
    #[error(
        "model {model}: {server} has not answered within {} ms",
        limit.as_millis()
    )]
    Deadline {
        /// The name of the model.
        model: Arc<str>,
        /// The address of the server.
        server: Arc<str>,
        /// The deadline, from the moment at which the request was made.
        limit: Duration,
    },
    /// None of a model's servers can be used now.
    #[error("model {model}: {reason}")]
    Unavailable {
        /// The name of the model.
        model: Arc<str>,
        /// What is wrong with which server.
        reason: String,
    },
    /// The server of a model answered with an error, or with something that is no answer.
    #[error("model {model}: {server}: {reason}")]
    Answer {
        /// The name of the model.
        model: Arc<str>,
        /// The address of the server.
        server: Arc<str>,
        /// What it answered.
        reason: String,
    },
    /// A [`FakeDetector`] was told to fail.
    #[error("the fake detector fails as it was told")]
    Fake,
}

impl DetectError {
    /// The error for outputs of a model that cannot be read.
    pub(super) fn of_output(model: &Arc<str>, error: OutputError) -> Self {
        let model = Arc::clone(model);
        match error {
            OutputError::Shape(mismatch) => Self::Output { model, mismatch },
            OutputError::Numbers(implausible) => Self::Numbers { model, implausible },
        }
    }

    /// The error for a picture that is not whole.
    pub(super) fn of_picture(picture: &Picture<'_>) -> Self {
        let size = picture.size();
        Self::Picture {
            width_px: size.width_px,
            height_px: size.height_px,
        }
    }

    /// How the metrics call it.
    pub(crate) fn failure(&self) -> InferenceFailure {
        match self {
            Self::Picture { .. }
            | Self::Run { .. }
            | Self::Output { .. }
            | Self::Numbers { .. }
            | Self::Fake => InferenceFailure::Run,
            Self::Deadline { .. } => InferenceFailure::Deadline,
            Self::Unavailable { .. } => InferenceFailure::Unavailable,
            Self::Answer { .. } => InferenceFailure::Answer,
        }
    }

    /// True if the model has answered, and what it answered cannot be used.
    pub(crate) fn is_of_answer(&self) -> bool {
        matches!(self, Self::Output { .. } | Self::Numbers { .. })
    }
}

/// Terminates a run from another thread. Later runs fail until [`Detector::recover`] is called.
pub(crate) type Terminate = Box<dyn Fn() + Send + Sync>;

/// Detects objects in pictures. The ONNX detector and the tests' [`FakeDetector`] implement it.
pub trait Detector: Send {
    /// The model that detects.
    fn model(&self) -> &ModelInfo;

    /// Detects the objects in one picture.
    ///
    /// # Errors
    /// If the picture is not whole, the run fails, or an output is not as the manifest says.
    fn detect(
        &mut self,
        picture: Picture<'_>,
        settings: &DetectSettings,
    ) -> Result<Detections, DetectError>;

    /// Detects the objects in one picture, and tells of each candidate whose score is `floor` at least what became of it. A
    /// detector that knows no other candidates tells of its objects alone.
    ///
    /// # Errors
    /// Those of [`detect`](Self::detect).
    fn explain(
        &mut self,
        picture: Picture<'_>,
        settings: &DetectSettings,
        _floor: f32,
    ) -> Result<Explained, DetectError> {
        Ok(Explained::of_kept(self.detect(picture, settings)?))
    }

    /// Gives a function that terminates a run that hangs, if the detector has one.
    fn terminator(&self) -> Option<Terminate> {
        None
    }

    /// Makes the detector usable again after a run was terminated; false if that is not possible.
    fn recover(&mut self) -> bool {
        false
    }

    /// How long the detector's first run took, if that was measured.
    fn first_run(&self) -> Option<Duration> {
        None
    }
}

impl Default for DetectSettings {
    fn default() -> Self {
        Self {
            min_score: 0.4,
            classes: Vec::new(),
        }
    }
}

impl ModelInfo {
    /// The label of a class; empty if the model has no such class.
    pub fn label(&self, class_id: usize) -> &str {
        self.labels.get(class_id).map_or("", String::as_str)
    }

    /// The class that has this label.
    pub fn class_id(&self, label: &str) -> Option<usize> {
        self.labels.iter().position(|known| known == label)
    }
}

impl Object {
    /// Makes an object of a candidate that suppression kept, in pixels of the picture.
    pub(super) fn place(candidate: &Candidate, placement: &Placement) -> Self {
        let corners = placement.to_picture(&candidate.corners);
        Self {
            class_id: candidate.class_id,
            score: candidate.score,
            bbox: BBox {
                x: corners.x1,
                y: corners.y1,
                width: corners.x2 - corners.x1,
                height: corners.y2 - corners.y1,
            },
            keypoints: Vec::new(),
            outline: Vec::new(),
        }
    }
}

/// A detector for tests of what surrounds one. It takes as long as it is told, and finds what it is told.
#[derive(Debug, Clone)]
pub struct FakeDetector {
    model: ModelInfo,
    delay: Duration,
    objects: Vec<Object>,
    fail: bool,
}

impl FakeDetector {
    /// A detector that takes `delay` for a picture, and finds those of `objects` that the settings want.
    pub fn new(delay: Duration, objects: Vec<Object>) -> Self {
        Self {
            model: ModelInfo {
                name: "fake".into(),
                sha256: Some("0".repeat(64).into()),
                labels: ["person".to_owned(), "car".to_owned()].into(),
                keypoints: Arc::new([]),
            },
            delay,
            objects,
            fail: false,
        }
    }

    /// Makes every later picture fail, or succeed again.
    #[cfg(test)]
    pub(crate) fn set_failing(&mut self, fail: bool) {
        self.fail = fail;
    }
}

impl Detector for FakeDetector {
    fn model(&self) -> &ModelInfo {
        &self.model
    }

    fn detect(
        &mut self,
        _picture: Picture<'_>,
        settings: &DetectSettings,
    ) -> Result<Detections, DetectError> {
        let mut watch = Stopwatch::start();
        std::thread::sleep(self.delay);
        if self.fail {
            return Err(DetectError::Fake);
        }
        let wanted = |object: &&Object| {
            object.score >= settings.min_score
                && (settings.classes.is_empty() || settings.classes.contains(&object.class_id))
        };
        Ok(Detections {
            objects: self.objects.iter().filter(wanted).cloned().collect(),
            preprocess: Spent::default(),
            inference: watch.lap(),
            postprocess: Spent::default(),
        })
    }

    fn explain(
        &mut self,
        picture: Picture<'_>,
        settings: &DetectSettings,
        floor: f32,
    ) -> Result<Explained, DetectError> {
        let detections = self.detect(picture, settings)?;
        let mut kept = 0;
        let candidates = self.objects.iter().filter_map(|object| {
            let is_wanted =
                settings.classes.is_empty() || settings.classes.contains(&object.class_id);
            let fate = if object.score < settings.min_score {
                (object.score >= floor).then_some(CandidateFate::BelowScore)?
            } else if is_wanted {
                kept += 1;
                CandidateFate::Kept { object: kept - 1 }
            } else {
                CandidateFate::ClassNotAsked
            };
            Some(ExplainedCandidate {
                class_id: object.class_id,
                score: object.score,
                bbox: object.bbox,
                fate,
            })
        });
        Ok(Explained {
            candidates: candidates.collect(),
            detections,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use twinsight_media::picture::PictureSize;

    #[test]
    fn the_fake_takes_its_time_and_filters() {
        let object = |class_id, score| Object {
            class_id,
            score,
            bbox: BBox {
                x: 1.0,
                y: 2.0,
                width: 3.0,
                height: 4.0,
            },
            keypoints: Vec::new(),
            outline: Vec::new(),
        };
        let seen = vec![object(0, 0.9), object(1, 0.9), object(0, 0.3)];
        let mut fake = FakeDetector::new(Duration::from_millis(5), seen);
        let picture = Picture::Rgb {
            data: &[0; 3],
            size: PictureSize {
                width_px: 1,
                height_px: 1,
            },
        };
        let settings = DetectSettings {
            min_score: 0.4,
            classes: vec![0],
        };
        let found = fake.detect(picture, &settings).unwrap();
        assert_eq!(found.objects, [object(0, 0.9)]);
        assert!(found.inference.wall >= Duration::from_millis(5));
        fake.set_failing(true);
        assert!(fake.detect(picture, &settings).is_err());
    }
}
