//! The detector on ONNX Runtime: a manifest and a runtime come in, an [`OnnxDetector`] that has run and was judged goes out. It owns
//! its session and every buffer that a picture needs, and an inference worker owns it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use ort::session::RunOptions;

use super::detector::{DetectError, DetectSettings, Detections, Detector, ModelInfo, Terminate};
use super::explain::Explained;
use super::judge::{self, Evidence, Judgement};
use super::manifest::{Manifest, ModelError, UNKNOWN};
use super::postprocess::{Array, OutputError};
use super::providers::Providers;
use super::reader::{ObjectReader, Times};
use super::runtime::Runtime;
use super::session::{self, ModelSession};
use crate::preprocess::{Picture, Placement};
use crate::telemetry::cpu::Stopwatch;

/// The first runs of a model may take this long.
const WARM_UP_LIMIT: Duration = Duration::from_secs(60);

/// A model that detects with ONNX Runtime.
pub struct OnnxDetector {
    model: ModelInfo,
    session: ModelSession,
    reader: ObjectReader,
    execution_provider: &'static str,
    /// How much of the model that provider has.
    share: String,
    licence: String,
    source: String,
    first_run: Duration,
    /// True if it sees nothing on the test picture, although it has labels for what is there.
    is_blind: bool,
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
    /// Loads `dir/NAME.toml` and its model, checks them, runs the model on a test picture to warm up, and judges what it sees there.
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
        let mut detector = Self::open(runtime, &manifest, &path, &bytes, execution_providers)?;
        let evidence = detector.warm_up(&path)?;
        detector.is_blind = evidence.strong == 0 && judge::are_coco(&manifest.labels);
        tracing::info!(
            model = name,
            execution_provider = detector.execution_provider,
            share = detector.share,
            library = %runtime.library().display(),
            warm_up_ms = detector.first_run.as_millis(),
            "model is warm"
        );
        Ok(detector)
    }

    /// Makes a detector of a model file, whose bytes these are, that has not run yet.
    ///
    /// # Errors
    /// If the model's inputs and outputs do not fit the manifest, or an execution provider that is asked for is not there.
    pub(crate) fn open(
        runtime: &Runtime,
        manifest: &Manifest,
        path: &Path,
        model: &[u8],
        execution_providers: &[String],
    ) -> Result<Self, ModelError> {
        let providers = Providers::choose(execution_providers, runtime)?;
        let (session, share) = session::build(runtime, &providers, path, model)?;
        Ok(Self {
            model: manifest.info(),
            session: ModelSession::new(session, manifest, path)?,
            reader: ObjectReader::new(manifest),
            execution_provider: providers.preferred(),
            share,
            licence: manifest.licence.clone(),
            source: manifest.source.clone(),
            first_run: Duration::ZERO,
            is_blind: false,
        })
    }

    /// ONNX Runtime's name of the execution provider that runs the model.
    pub fn execution_provider(&self) -> &'static str {
        self.execution_provider
    }

    /// How much of the model that provider has, as in `all 284 operations`.
    pub fn share(&self) -> &str {
        &self.share
    }

    /// True if the model sees nothing on the test picture, although it has labels for what is there. A weak model may do so, and
    /// so does one that gets other pixels than it was trained with.
    pub(crate) fn is_blind(&self) -> bool {
        self.is_blind
    }

    /// The keys of the manifest that say `unknown` about the model's licence and origin.
    pub(crate) fn unknown_origin(&self) -> Vec<&'static str> {
        let keys = [("licence", &self.licence), ("source", &self.source)];
        let unknown = keys.into_iter().filter(|(_, value)| *value == UNKNOWN);
        unknown.map(|(key, _)| key).collect()
    }

    /// Runs the model on the test picture, so that the first frame does not pay for ONNX Runtime's first allocations, and judges
    /// what it sees there. `path` is that of the model file.
    ///
    /// # Errors
    /// If a run fails, an output has another shape than the manifest says, or the results cannot be those of a detector that is read
    /// rightly.
    pub(crate) fn warm_up(&mut self, path: &Path) -> Result<Evidence, ModelError> {
        let run_options = Arc::clone(self.session.run_options());
        let started = Instant::now();
        let outcome = watched(&run_options, || self.judge());
        if self.first_run.is_zero() {
            self.first_run = started.elapsed();
        }
        match outcome.map_err(|error| ModelError::Session {
            path: path.to_owned(),
            reason: error.to_string(),
        })? {
            Judgement::Fits(evidence) => Ok(evidence),
            Judgement::Shape(mismatch) => Err(ModelError::Shape {
                path: path.to_owned(),
                mismatch,
            }),
            Judgement::Refused { seen, key, remedy } => Err(ModelError::Judged {
                path: path.to_owned(),
                seen,
                key,
                remedy,
            }),
        }
    }

    /// Runs the model on a picture, and gives what `read` makes of its outputs.
    fn run<R>(
        &mut self,
        picture: &Picture<'_>,
        read: impl FnOnce(&mut ObjectReader, &[Array<'_>], &Placement) -> Result<R, OutputError>,
    ) -> Result<(R, Times), DetectError> {
        let reader = &mut self.reader;
        let postprocessor = Arc::clone(reader.postprocessor());
        let names = postprocessor.output().names();
        let ((found, postprocess), laps) =
            self.session
                .run(&self.model.name, picture, &names, |arrays, placement| {
                    let mut watch = Stopwatch::start();
                    let found = read(reader, arrays, placement);
                    (found, watch.lap())
                })?;
        let found = found.map_err(|error| DetectError::of_output(&self.model.name, error))?;
        let times = Times {
            preprocess: laps.preprocess,
            inference: laps.inference,
            postprocess,
        };
        Ok((found, times))
    }

    /// Runs the model on the test picture and on its mirror image, and judges the results.
    fn judge(&mut self) -> Result<Judgement, DetectError> {
        let picture = judge::TestPicture::new();
        let postprocessor = Arc::clone(self.reader.postprocessor());
        let names = postprocessor.output().names();
        let ((first, placement), laps) = self.session.run(
            &self.model.name,
            &picture.as_it_is(),
            &names,
            |arrays, placement| (judge::copy(arrays), *placement),
        )?;
        self.first_run = laps.inference.wall;
        let (mirrored, _) = self.session.run(
            &self.model.name,
            &picture.mirrored(),
            &names,
            |arrays, _| judge::copy(arrays),
        )?;
        Ok(judge::judge(
            &postprocessor,
            &self.model.labels,
            &first,
            &mirrored,
            &placement,
        ))
    }
}

/// Ends a run that takes too long: one that never ends would hold up the node's start, or all later changes of its configuration.
pub(super) fn watched<R>(run_options: &Arc<RunOptions>, run: impl FnOnce() -> R) -> R {
    let (over, ended) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let run_options = Arc::clone(run_options);
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
        let outcome = run();
        drop(over);
        outcome
    })
}

impl Detector for OnnxDetector {
    fn terminator(&self) -> Option<Terminate> {
        let run_options = Arc::clone(self.session.run_options());
        Some(Box::new(move || {
            if let Err(error) = run_options.terminate() {
                tracing::warn!(%error, "ONNX Runtime does not take the order to end a run");
            }
        }))
    }

    fn recover(&mut self) -> bool {
        self.session.run_options().unterminate().is_ok()
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
