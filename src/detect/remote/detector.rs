//! The detector of a remote model: a picture comes in, and what a server sees in it goes out.

use std::sync::Arc;

use super::RemoteModel;
use crate::detect::detector::{DetectError, DetectSettings, Detections, Detector, ModelInfo};
use crate::preprocess::Picture;

pub(super) struct RemoteDetector {
    model: Arc<RemoteModel>,
}

impl RemoteDetector {
    pub(super) fn new(model: Arc<RemoteModel>) -> Self {
        Self { model }
    }
}

impl Detector for RemoteDetector {
    fn model(&self) -> &ModelInfo {
        self.model.info()
    }

    fn detect(
        &mut self,
        _picture: Picture<'_>,
        _settings: &DetectSettings,
    ) -> Result<Detections, DetectError> {
        Err(DetectError::Unavailable {
            model: self.model.info().name.clone(),
            reason: "not asked yet".to_owned(),
        })
    }
}
