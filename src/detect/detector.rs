//! What a detector is: a picture comes in, objects in the picture's pixels go out, with the time each stage took.
//! Implementations: [`OnnxDetector`](super::onnx::OnnxDetector) and, for tests, [`FakeDetector`].

use std::sync::Arc;
use std::time::Duration;

use super::nms::Candidate;
use crate::preprocess::Picture;
use crate::preprocess::Placement;
use crate::telemetry::cpu::{Spent, Stopwatch};

/// A box in pixels of the picture, origin at its top left, inside the picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BBox {
    /// Left edge.
    pub x: f32,
    /// Top edge.
    pub y: f32,
    /// Width.
    pub width: f32,
    /// Height.
    pub height: f32,
}

/// Something that was seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Object {
    /// Index in the model's labels.
    pub class_id: usize,
    /// 0..=1.
    pub score: f32,
    /// Where.
    pub bbox: BBox,
}

/// What a camera wants from a detector.
#[derive(Debug, Clone, PartialEq)]
pub struct DetectSettings {
    /// Objects below this score are left out.
    pub min_score: f32,
    /// The classes wanted, as indexes in the model's labels. Empty: all.
    pub classes: Vec<usize>,
}

/// The result for one picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Detections {
    /// Best score first.
    pub objects: Vec<Object>,
    /// Picture to tensor.
    pub preprocess: Spent,
    /// The session's run.
    pub inference: Spent,
    /// Outputs to objects.
    pub postprocess: Spent,
}

/// A model's name, hash and labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// Name of the manifest, without `.toml`.
    pub name: Arc<str>,
    /// SHA-256 of the model file, lower-case hex.
    pub sha256: Arc<str>,
    /// The label of each class; `-` where the model has a number that it never uses.
    pub labels: Arc<[String]>,
}

/// Why a picture gave no result.
#[derive(Debug, thiserror::Error)]
pub enum DetectError {
    /// The picture's bytes are fewer than its size says.
    #[error("the picture is empty or shorter than its size says ({width_px}x{height_px})")]
    Picture {
        /// Its width.
        width_px: usize,
        /// Its height.
        height_px: usize,
    },
    /// The session failed or was terminated.
    #[error("model {model}: the run failed: {message}")]
    Run {
        /// Name of the model.
        model: Arc<str>,
        /// What ONNX Runtime said.
        message: String,
    },
    /// An output was not what the manifest says.
    #[error("model {model}: {mismatch}")]
    Output {
        /// Name of the model.
        model: Arc<str>,
        /// Which output and how.
        mismatch: super::postprocess::Mismatch,
    },
    /// An output had numbers that no detector gives: what the picture shows is not known.
    #[error("model {model}: {implausible}")]
    Numbers {
        /// Name of the model.
        model: Arc<str>,
        /// Which output and which number.
        implausible: super::postprocess::Implausible,
    },
    /// A fake detector was told to fail.
    #[error("the fake detector fails as it was told")]
    Fake,
}

/// Ends a run from another thread; later ones fail until [`Detector::recover`].
pub type Terminate = Box<dyn Fn() + Send + Sync>;

/// Detects objects in pictures. One thread at a time uses it. Implemented by the ONNX detector and by
/// the tests' [`FakeDetector`].
pub trait Detector: Send {
    /// The model that answers.
    fn model(&self) -> &ModelInfo;

    /// Detects in one picture.
    ///
    /// # Errors
    /// When the picture is not whole, the run fails, or an output has another shape than the manifest says.
    fn detect(
        &mut self,
        picture: Picture<'_>,
        settings: &DetectSettings,
    ) -> Result<Detections, DetectError>;

    /// To end a run that hangs, if the detector can.
    fn terminator(&self) -> Option<Terminate> {
        None
    }

    /// Makes it usable again after a run of it was ended. False: it cannot be.
    fn recover(&mut self) -> bool {
        false
    }

    /// How long its first run took, if that was measured.
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
    /// The label of a class, empty if the model has no such class.
    pub fn label(&self, class_id: usize) -> &str {
        self.labels.get(class_id).map_or("", String::as_str)
    }

    /// The class with a label.
    pub fn class_id(&self, label: &str) -> Option<usize> {
        self.labels.iter().position(|known| known == label)
    }
}

impl Object {
    /// A candidate that stayed, in pixels of the picture.
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
        }
    }
}

/// A detector for tests of what surrounds one: it takes as long as it is told and sees what it is told.
#[derive(Debug, Clone)]
pub struct FakeDetector {
    model: ModelInfo,
    delay: Duration,
    objects: Vec<Object>,
    fail: bool,
}

impl FakeDetector {
    /// A detector that needs `delay` for a picture and sees `objects` that pass the settings.
    pub fn new(delay: Duration, objects: Vec<Object>) -> Self {
        Self {
            model: ModelInfo {
                name: "fake".into(),
                sha256: "0".repeat(64).into(),
                labels: ["person".to_owned(), "car".to_owned()].into(),
            },
            delay,
            objects,
            fail: false,
        }
    }

    /// Makes every later picture fail, or succeed again.
    pub fn set_failing(&mut self, fail: bool) {
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
            objects: self.objects.iter().filter(wanted).copied().collect(),
            preprocess: Spent::default(),
            inference: watch.lap(),
            postprocess: Spent::default(),
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
