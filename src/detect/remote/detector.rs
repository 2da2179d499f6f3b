//! The detector of a remote model: a picture comes in, and what a server sees in it goes out. A worker owns one. The picture is made
//! ready and the answer read on the worker's thread, which waits for the server in between.

use std::sync::Arc;

use super::client::CallError;
use super::fit::ShapeError;
use super::model::Shared;
use crate::detect::detector::{DetectError, DetectSettings, Detections, Detector, ModelInfo};
use crate::detect::explain::Explained;
use crate::detect::postprocess::{Array, OutputError};
use crate::detect::reader::{ObjectReader, Times};
use crate::preprocess::{Picture, Placement};
use crate::telemetry::cpu::Stopwatch;

/// Detects with a model on servers.
pub(super) struct RemoteDetector {
    shared: Arc<Shared>,
    reader: ObjectReader,
}

impl RemoteDetector {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self {
            reader: ObjectReader::new(&shared.manifest),
            shared: Arc::clone(shared),
        }
    }

    /// Asks a server about a picture, and gives what `read` makes of its outputs.
    fn run<R>(
        &mut self,
        picture: &Picture<'_>,
        read: impl FnOnce(&mut ObjectReader, &[Array<'_>], &Placement) -> Result<R, OutputError>,
    ) -> Result<(R, Times), DetectError> {
        let attempt = self.shared.begin()?;
        let mut watch = Stopwatch::start();
        let model = &self.shared.info().name;
        let (inputs, placement) = attempt.shape(picture).map_err(|error| match error {
            ShapeError::Picture => DetectError::of_picture(picture),
            ShapeError::Jpeg(error) => DetectError::Run {
                model: Arc::clone(model),
                message: format!("no JPEG can be made of the picture: {error}"),
            },
        })?;
        let preprocess = watch.lap();
        let answer = attempt.ask(&inputs);
        let inference = watch.lap();
        drop(inputs);
        let outputs = match answer {
            Ok(outputs) => outputs,
            Err(error) => return Err(attempt.failed(error, inference.wall)),
        };
        let postprocessor = Arc::clone(self.reader.postprocessor());
        let names = postprocessor.output().names();
        let arrays: Vec<Array<'_>> = names
            .iter()
            .zip(&outputs)
            .map(|(name, tensor)| Array {
                name,
                dims: &tensor.dims,
                values: &tensor.values,
            })
            .collect();
        let found = read(&mut self.reader, &arrays, &placement);
        let times = Times {
            preprocess,
            inference,
            postprocess: watch.lap(),
        };
        match found {
            Ok(found) => {
                attempt.answered(inference.wall);
                Ok((found, times))
            }
            // The server has another model than the manifest describes.
            Err(OutputError::Shape(mismatch)) => {
                let error = CallError::Answer(mismatch.to_string());
                Err(attempt.failed(error, inference.wall))
            }
            // What the model sees is not the server's doing.
            Err(error @ OutputError::Numbers(_)) => {
                attempt.answered(inference.wall);
                Err(DetectError::of_output(model, error))
            }
        }
    }
}

impl Detector for RemoteDetector {
    fn model(&self) -> &ModelInfo {
        self.shared.info()
    }

    fn detect(
        &mut self,
        picture: Picture<'_>,
        settings: &DetectSettings,
    ) -> Result<Detections, DetectError> {
        let (objects, times) = self.run(&picture, |reader, arrays, placement| {
            reader.objects(arrays, placement, settings)
        })?;
        Ok(times.of(objects))
    }

    fn explain(
        &mut self,
        picture: Picture<'_>,
        settings: &DetectSettings,
        floor: f32,
    ) -> Result<Explained, DetectError> {
        let ((objects, candidates), times) = self.run(&picture, |reader, arrays, placement| {
            reader.explain(arrays, placement, (settings, floor))
        })?;
        Ok(Explained {
            candidates,
            detections: times.of(objects),
        })
    }
}
