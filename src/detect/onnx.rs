//! The detector on ONNX Runtime: a manifest and a runtime come in, an [`OnnxDetector`] that has run once goes out. It owns its
//! session and every buffer that a picture needs, and an inference worker owns it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use ort::session::{RunOptions, Session, SessionOutputs};
use ort::value::{TensorElementType, TensorRef, ValueType};

use super::detector::{
    DetectError, DetectSettings, Detections, Detector, ModelInfo, Object, Terminate,
};
use super::manifest::{Manifest, ModelError, Outlet, OutputKind};
use super::nms::suppress;
use super::postprocess::{Array, Filter, Mismatch, OutputError, Scratch, rows, ssd, yolo};
use super::providers::{Providers, SessionError};
use super::runtime::Runtime;
use crate::preprocess::{Picture, Preprocessor};
use crate::telemetry::cpu::Stopwatch;
use twinsight_client::thread::yielding;
use twinsight_media::picture::PictureSize;

/// The first run of a model may take this long.
const WARM_UP_LIMIT: Duration = Duration::from_secs(60);

/// A model that detects with ONNX Runtime.
pub struct OnnxDetector {
    model: ModelInfo,
    input: String,
    output: OutputKind,
    nms_iou: f32,
    session: Session,
    run_options: Arc<RunOptions>,
    execution_provider: &'static str,
    first_run: Duration,
    /// What was wrong with the result of its first run, if anything.
    doubt: Option<String>,
    preprocessor: Preprocessor,
    filter: Filter,
    scratch: Scratch,
}

impl fmt::Debug for OnnxDetector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnnxDetector")
            .field("model", &self.model.name)
            .field("execution_provider", &self.execution_provider)
            .finish_non_exhaustive()
    }
}

impl OnnxDetector {
    /// Loads `dir/NAME.toml` and its model, checks them, and runs the model once to warm up.
    ///
    /// # Errors
    /// If the model does not fit its manifest, or an execution provider that is asked for is not there.
    pub fn load(
        runtime: &Runtime,
        dir: &Path,
        name: &str,
        execution_providers: &[String],
    ) -> Result<Self, ModelError> {
        let (manifest, path) = Manifest::load(dir, name)?;
        let bytes = manifest.read_model(&path)?;
        let providers = Providers::choose(execution_providers, runtime)?;
        let execution_provider = providers.preferred();
        let refuse = |error: String| ModelError::Session {
            path: path.clone(),
            reason: error,
        };
        // The session's threads yield as the worker does, since the time that they take from receiving and decoding adds to the
        // age of every frame.
        let session =
            yielding("infer-pool", || providers.session(runtime, &bytes)).map_err(|error| {
                let reason = match error {
                    SessionError::Provider(error) => return error,
                    SessionError::Model(error) => error.to_string(),
                };
                match too_new(&reason) {
                    Some((found, newest)) => ModelError::TooNew {
                        path: path.clone(),
                        found,
                        newest,
                    },
                    None => refuse(reason),
                }
            })?;
        let outlets =
            |outlets: &[ort::value::Outlet]| outlets.iter().map(outlet).collect::<Vec<_>>();
        manifest.check_outlets(
            &path,
            &outlets(session.inputs()),
            &outlets(session.outputs()),
        )?;
        let run_options = RunOptions::new().map_err(|error| refuse(error.to_string()))?;
        let mut detector = Self {
            model: manifest.info(),
            input: manifest.input,
            output: manifest.output,
            nms_iou: manifest.nms_iou,
            session,
            run_options: Arc::new(run_options),
            execution_provider,
            first_run: Duration::ZERO,
            doubt: None,
            preprocessor: Preprocessor::new(manifest.tensor),
            filter: Filter::new(&manifest.labels),
            scratch: Scratch::default(),
        };
        detector
            .warm_up()
            .map_err(|error| refuse(error.to_string()))?;
        tracing::info!(
            model = name,
            execution_provider,
            library = %runtime.library().display(),
            warm_up_ms = detector.first_run.as_millis(),
            "model is warm"
        );
        if let Some(error) = &detector.doubt {
            tracing::warn!(model = name, %error, "a grey picture gives no result: look whether pictures of cameras do");
        }
        Ok(detector)
    }

    /// What was wrong with the result of the first run, which is of a grey picture.
    pub fn doubt(&self) -> Option<&str> {
        self.doubt.as_deref()
    }

    /// ONNX Runtime's name of the execution provider that runs the model.
    pub fn execution_provider(&self) -> &'static str {
        self.execution_provider
    }

    /// Runs the model on a grey picture, so that the first frame does not pay for ONNX Runtime's first allocations. Implausible
    /// numbers are no error yet: a model may divide by the contrast of a picture, and this one has none.
    fn warm_up(&mut self) -> Result<(), DetectError> {
        let picture = Picture::Rgb {
            data: &[114; 3 * 8 * 8],
            size: PictureSize {
                width_px: 8,
                height_px: 8,
            },
        };
        let settings = DetectSettings::default();
        let (over, ended) = std::sync::mpsc::channel::<()>();
        let run_options = Arc::clone(&self.run_options);
        let started = Instant::now();
        let outcome = std::thread::scope(|scope| {
            // A run that never ends would hold up the node's start, or all later changes of its configuration.
            let watch = move || {
                if ended.recv_timeout(WARM_UP_LIMIT) == Err(RecvTimeoutError::Timeout)
                    && let Err(error) = run_options.terminate()
                {
                    tracing::debug!(%error, "the first run is not ended");
                }
            };
            // If the system grants no thread, the run is not watched.
            let watched = std::thread::Builder::new()
                .name("infer-watch".to_owned())
                .spawn_scoped(scope, watch);
            if let Err(error) = watched {
                tracing::debug!(%error, "the first run is not watched");
            }
            let outcome = self.detect(picture, &settings);
            drop(over);
            outcome
        });
        self.first_run = match &outcome {
            Ok(detections) => detections.inference.wall,
            Err(_) => started.elapsed(),
        };
        match outcome {
            Ok(_) => Ok(()),
            Err(error @ DetectError::Numbers { .. }) => {
                self.doubt = Some(error.to_string());
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

impl Detector for OnnxDetector {
    fn terminator(&self) -> Option<Terminate> {
        let run_options = Arc::clone(&self.run_options);
        Some(Box::new(move || {
            if let Err(error) = run_options.terminate() {
                tracing::warn!(%error, "ONNX Runtime does not take the order to end a run");
            }
        }))
    }

    fn recover(&mut self) -> bool {
        self.run_options.unterminate().is_ok()
    }

    fn first_run(&self) -> Option<Duration> {
        Some(self.first_run)
    }

    fn model(&self) -> &ModelInfo {
        &self.model
    }

    fn detect(
        &mut self,
        picture: Picture<'_>,
        settings: &DetectSettings,
    ) -> Result<Detections, DetectError> {
        let mut watch = Stopwatch::start();
        let size = picture.size();
        let placement = self
            .preprocessor
            .run(&picture)
            .ok_or(DetectError::Picture {
                width_px: size.width_px,
                height_px: size.height_px,
            })?;
        let preprocess = watch.lap();

        let failed = |error: ort::Error| DetectError::Run {
            model: self.model.name.clone(),
            message: error.to_string(),
        };
        let spec = self.preprocessor.spec();
        let shape = [1, 3, spec.height, spec.width];
        let tensor =
            TensorRef::from_array_view((shape, self.preprocessor.tensor())).map_err(failed)?;
        let inputs = ort::inputs![self.input.as_str() => tensor];
        let outputs = self
            .session
            .run_with_options(inputs, &*self.run_options)
            .map_err(failed)?;
        let inference = watch.lap();

        self.filter.set(settings.min_score, &settings.classes);
        self.scratch.candidates.clear();
        let input = (spec.width, spec.height);
        decode(
            &self.output,
            &outputs,
            input,
            &self.filter,
            &mut self.scratch,
        )
        .map_err(|error| {
            let model = self.model.name.clone();
            match error {
                OutputError::Shape(mismatch) => DetectError::Output { model, mismatch },
                OutputError::Numbers(implausible) => DetectError::Numbers { model, implausible },
            }
        })?;
        drop(outputs);
        suppress(&mut self.scratch.candidates, self.nms_iou);
        let candidates = self.scratch.candidates.iter();
        let objects: Vec<Object> = candidates
            .map(|candidate| Object::place(candidate, &placement))
            // A box that lies in the padding alone shows nothing of the picture.
            .filter(|object| object.bbox.width > 0.0 && object.bbox.height > 0.0)
            .collect();
        Ok(Detections {
            objects,
            preprocess,
            inference,
            postprocess: watch.lap(),
        })
    }
}

fn decode(
    kind: &OutputKind,
    outputs: &SessionOutputs<'_>,
    input: (usize, usize),
    filter: &Filter,
    scratch: &mut Scratch,
) -> Result<(), OutputError> {
    match kind {
        OutputKind::Ssd { scores, boxes } => {
            let (scores, boxes) = (array(outputs, scores)?, array(outputs, boxes)?);
            ssd::candidates(&scores, &boxes, input, filter, scratch)
        }
        OutputKind::Rows { rows } => rows::candidates(&array(outputs, rows)?, filter, scratch),
        OutputKind::Yolo { predictions } => {
            yolo::candidates(&array(outputs, predictions)?, filter, scratch)
        }
    }
}

fn array<'a>(outputs: &'a SessionOutputs<'_>, name: &'a str) -> Result<Array<'a>, Mismatch> {
    let extracted = outputs
        .get(name)
        .and_then(|value| value.try_extract_tensor::<f32>().ok());
    match extracted {
        Some((shape, values)) => Ok(Array {
            name,
            dims: shape,
            values,
        }),
        None => Err(Mismatch {
            output: name.to_owned(),
            expected: "of f32".to_owned(),
            found: "none".to_owned(),
        }),
    }
}

/// Reads the version of a model and the newest version that is known out of an error message of ONNX Runtime, if the error is
/// that the model is too new.
fn too_new(reason: &str) -> Option<(String, String)> {
    let number = |before: &str| {
        let (_, rest) = reason.split_once(before)?;
        let digits = rest.find(|c: char| !c.is_ascii_digit());
        let digits = &rest[..digits.unwrap_or(rest.len())];
        (!digits.is_empty()).then_some(digits)
    };
    let of = |kind: &str, found: &str, newest: &str| {
        Some((
            format!("{kind} {}", number(found)?),
            number(newest)?.to_owned(),
        ))
    };
    of(
        "IR version",
        "Unsupported model IR version: ",
        "max supported IR version: ",
    )
    .or_else(|| of("opset", "Opset ", "is till opset "))
}

fn outlet(from: &ort::value::Outlet) -> Outlet {
    let (element, dims) = match from.dtype() {
        ValueType::Tensor { ty, shape, .. } => (element_name(*ty), shape.to_vec()),
        other => (other.to_string(), Vec::new()),
    };
    Outlet {
        name: from.name().to_owned(),
        element,
        dims,
    }
}

fn element_name(element: TensorElementType) -> String {
    match element {
        TensorElementType::Float32 => "f32".to_owned(),
        other => other.to_string(),
    }
}
