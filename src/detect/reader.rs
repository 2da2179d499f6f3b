//! What the outputs of a model show: its arrays come in, with where the picture lies in the tensor and what a camera wants, and objects go
//! out. Detectors of this machine and of servers own one each.

use std::sync::Arc;

use super::detector::{DetectSettings, Detections, Object};
use super::explain::ExplainedCandidate;
use super::manifest::Manifest;
use super::postprocess::{Array, Filter, OutputError, Postprocessor, Scratch};
use crate::preprocess::Placement;
use crate::telemetry::cpu::Spent;

/// Reads outputs. It owns the buffers for that.
#[derive(Debug)]
pub(super) struct ObjectReader {
    postprocessor: Arc<Postprocessor>,
    nms_iou: f32,
    filter: Filter,
    scratch: Scratch,
}

/// How long the stages of a picture took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) preprocess: Spent,
    pub(super) inference: Spent,
    pub(super) postprocess: Spent,
}

impl ObjectReader {
    pub(super) fn new(manifest: &Manifest) -> Self {
        let input = (manifest.tensor.width, manifest.tensor.height);
        Self {
            postprocessor: Arc::new(Postprocessor::new(manifest.output.clone(), input)),
            nms_iou: manifest.nms_iou,
            filter: Filter::new(&manifest.labels),
            scratch: Scratch::default(),
        }
    }

    pub(super) fn postprocessor(&self) -> &Arc<Postprocessor> {
        &self.postprocessor
    }

    /// Finds the objects that a camera wants, best first.
    ///
    /// # Errors
    /// Those of [`Postprocessor::objects`].
    pub(super) fn objects(
        &mut self,
        arrays: &[Array<'_>],
        placement: &Placement,
        settings: &DetectSettings,
    ) -> Result<Vec<Object>, OutputError> {
        self.filter.set(settings.min_score, &settings.classes);
        let (filter, scratch) = (&self.filter, &mut self.scratch);
        self.postprocessor
            .objects(arrays, filter, scratch, self.nms_iou, placement)
    }

    /// The same, and what became of each candidate whose score is `floor` at least.
    ///
    /// # Errors
    /// Those of [`Postprocessor::objects`].
    pub(super) fn explain(
        &mut self,
        arrays: &[Array<'_>],
        placement: &Placement,
        (settings, floor): (&DetectSettings, f32),
    ) -> Result<(Vec<Object>, Vec<ExplainedCandidate>), OutputError> {
        self.filter.set(settings.min_score, &settings.classes);
        let (filter, scratch) = ((&self.filter, floor), &mut self.scratch);
        self.postprocessor
            .explain(arrays, filter, scratch, self.nms_iou, placement)
    }
}

impl Times {
    pub(super) fn of(self, objects: Vec<Object>) -> Detections {
        Detections {
            objects,
            preprocess: self.preprocess,
            inference: self.inference,
            postprocess: self.postprocess,
        }
    }
}
