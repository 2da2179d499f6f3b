//! The models that cameras use. It knows which are needed and what classes they have, and makes a detector of each for every
//! inference worker, at the start and when a reload names another model.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;

use crate::config::{CameraConfig, RemoteModelConfig, RuntimeConfig, shown};
use crate::detect::detector::{DetectSettings, Detector, ModelInfo};
use crate::detect::engine::{ModelEngine, PoolModel, RemoteEngine};
use crate::detect::manifest::ModelError;
use crate::detect::plan::SessionPlan;
use crate::detect::pool::InferencePool;
use crate::detect::remote::RemoteModel;
use crate::detect::worker::DetectorFactory;
use crate::telemetry::metrics::Metrics;
use twinsight_client::stream_id::StreamId;

/// Makes a detector of the model with this name, which runs on this machine.
pub type ModelLoader = Arc<dyn Fn(&str) -> Result<Box<dyn Detector>, ModelError> + Send + Sync>;

/// Opens the model with this name, which runs on servers, without waiting for any of them. `None` if it runs on this machine.
pub(crate) type RemoteOpener =
    Arc<dyn Fn(&str) -> Option<Result<RemoteSource, ModelError>> + Send + Sync>;

/// A model that runs on servers.
#[derive(Clone)]
pub(crate) struct RemoteSource {
    pub(crate) engine: Arc<dyn RemoteEngine>,
    pub(crate) info: ModelInfo,
}

/// The models in use. [`CameraWork::model`](crate::detect::worker::CameraWork::model) counts them in this order. Models are
/// added while the node runs and none is removed, so that these numbers stay valid.
pub struct Models {
    catalog: Catalog,
    sources: Sources,
    /// The models that were loaded to check them, each with a detector for the first worker, in the order of the catalog.
    first: Mutex<Vec<LoadedModel>>,
}

/// Where models come from. What is in use is shared with the factory that makes detectors for replaced workers.
#[derive(Clone)]
pub(super) struct Sources {
    loader: ModelLoader,
    opener: RemoteOpener,
    /// The names of the catalog.
    names: Arc<Mutex<Vec<String>>>,
    /// The models on servers that were opened. None is opened twice, since each has tasks of its own.
    opened: Arc<Mutex<HashMap<String, RemoteSource>>>,
}

/// The names of the models and their classes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Catalog {
    entries: Vec<(String, ModelInfo)>,
    /// The models that take the place of some that run on servers, by the names of those.
    fallbacks: Arc<BTreeMap<String, String>>,
}

/// What the configuration of a camera says and its model contradicts, which is known only once the model is loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnfitCamera {
    /// `classes` has a class that the model lacks.
    #[error(
        "camera {camera}: model `{model}` has no class `{}`{nearest}; correct `classes`",
        shown(label)
    )]
    NoClass {
        camera: StreamId,
        model: String,
        label: String,
        nearest: String,
    },
    /// A zone, a line or a mask has a label that the model lacks.
    #[error(
        "camera {camera}: {part}: model `{model}` has no class `{}`{nearest}; correct its `labels`",
        shown(label)
    )]
    NoLabel {
        camera: StreamId,
        part: String,
        model: String,
        label: String,
        nearest: String,
    },
    /// A zone, a line or a mask has a label that `classes` leaves out, so that it would count nothing for ever.
    #[error(
        "camera {camera}: {part} has the label `{}`, which `classes` leaves out, so that it is never seen: add it to `classes`, or remove it from its `labels`",
        shown(label)
    )]
    LeftOut {
        camera: StreamId,
        part: String,
        label: String,
    },
    /// The model that is to take the place of one on a server has other labels.
    #[error(
        "camera {camera}: model `{model}` has other labels than `{}`, which is to take its place: name one with the same labels in `models.{model}.fallback`",
        shown(fallback)
    )]
    Fallback {
        camera: StreamId,
        model: String,
        fallback: String,
    },
}

/// Models that are loaded and not yet in use.
pub(super) struct Loaded {
    catalog: Catalog,
    /// In the order of the catalog.
    models: Vec<LoadedModel>,
}

/// A model that is loaded.
enum LoadedModel {
    /// A detector for each worker of this machine.
    Local(Vec<Box<dyn Detector>>),
    Remote(Arc<dyn RemoteEngine>),
}

/// Models that the pool still has to be given.
pub(super) struct Adoption {
    names: Arc<Mutex<Vec<String>>>,
    all: Vec<String>,
    models: Vec<PoolModel>,
}

/// A model that is opened waits for so long for a server that has it ready, and is used or not after that.
const CONTACT_LIMIT: Duration = Duration::from_secs(1);

/// Opens the models of `[models]`. It is to be called on a thread for work that blocks of a tokio runtime, which then watches their
/// servers.
pub(super) fn remote_opener(
    remotes: &[RemoteModelConfig],
    models_dir: &Path,
    metrics: &Arc<Metrics>,
) -> RemoteOpener {
    let (remotes, models_dir, metrics) = (
        remotes.to_vec(),
        models_dir.to_path_buf(),
        Arc::clone(metrics),
    );
    let handle = tokio::runtime::Handle::current();
    Arc::new(move |name| {
        let config = remotes.iter().find(|config| config.name == name)?;
        let opened = RemoteModel::open(config, &models_dir, &handle, &metrics);
        Some(opened.map(|model| {
            // Most often a server answers at once, and then nobody has to be told that none has.
            let _ = handle.block_on(model.first_contact(CONTACT_LIMIT));
            RemoteSource {
                info: model.info().clone(),
                engine: Arc::new(model),
            }
        }))
    })
}

/// The models of `[models]` that no camera names.
pub(crate) fn unused<'a>(
    remotes: &'a [RemoteModelConfig],
    cameras: &'a [CameraConfig],
) -> impl Iterator<Item = &'a RemoteModelConfig> {
    let is_used =
        |remote: &RemoteModelConfig| cameras.iter().any(|camera| camera.model == remote.name);
    remotes.iter().filter(move |remote| !is_used(remote))
}

impl std::fmt::Debug for Models {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Models")
            .field("catalog", &self.catalog)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded")
            .field("catalog", &self.catalog)
            .finish_non_exhaustive()
    }
}

impl Models {
    /// Loads every model of this machine that a camera names, checks it and warms it, which takes a second or so. Models that run on
    /// servers are opened by `opener`.
    ///
    /// # Errors
    /// When ONNX Runtime or a model cannot be used; the sentence says what to do.
    pub(crate) fn load(
        runtime: &RuntimeConfig,
        plan: SessionPlan,
        cameras: &[CameraConfig],
        dylib_path: Option<std::path::PathBuf>,
        (remotes, opener): (&[RemoteModelConfig], RemoteOpener),
    ) -> Result<Self> {
        use crate::detect::onnx::OnnxDetector;
        use crate::detect::runtime::{Runtime, RuntimeOptions};

        let options = RuntimeOptions {
            library: runtime.library.clone(),
            dylib_path,
            threads: plan.threads,
        };
        let (folder, providers) = (
            runtime.models_dir.clone(),
            runtime.execution_providers.clone(),
        );
        // A node whose models all run on servers needs no ONNX Runtime.
        let library: Mutex<Option<Arc<Runtime>>> = Mutex::new(None);
        let loader: ModelLoader = Arc::new(move |name| {
            let library = {
                let mut library = library.lock();
                match &*library {
                    Some(library) => Arc::clone(library),
                    None => Arc::clone(library.insert(Arc::new(Runtime::load(&options)?))),
                }
            };
            let detector = OnnxDetector::load(&library, &folder, name, &providers)?;
            Ok(Box::new(detector) as Box<dyn Detector>)
        });
        let catalog = Catalog::with_fallbacks(remotes);
        for remote in unused(remotes, cameras) {
            tracing::warn!(
                model = remote.name,
                "no camera uses a model of `[models]`: name it as the camera's `model`, or in `[defaults]`"
            );
        }
        Self::open(&catalog, catalog.missing(cameras), loader, opener)
    }

    /// Loads models by any loader. Tests have one that makes fake detectors.
    ///
    /// # Errors
    /// When the loader fails.
    pub fn new(names: Vec<String>, loader: ModelLoader) -> Result<Self> {
        Self::open(&Catalog::default(), names, loader, Arc::new(|_| None))
    }

    pub(crate) fn open(
        empty: &Catalog,
        names: Vec<String>,
        loader: ModelLoader,
        opener: RemoteOpener,
    ) -> Result<Self> {
        let sources = Sources {
            loader,
            opener,
            names: Arc::default(),
            opened: Arc::default(),
        };
        let loaded = Loaded::load(&sources, names, 1)?;
        let catalog = empty.with(&loaded);
        *sources.names.lock() = catalog.names().map(str::to_owned).collect();
        Ok(Self {
            catalog,
            sources,
            first: Mutex::new(loaded.models),
        })
    }

    /// The models for the pool, with a detector for each of `workers` workers.
    ///
    /// # Errors
    /// When the loader fails.
    pub(super) fn for_pool(&mut self, workers: usize) -> Result<Vec<PoolModel>> {
        let mut models = std::mem::take(self.first.get_mut());
        for (name, model) in self.catalog.names().zip(&mut models) {
            if let LoadedModel::Local(detectors) = model {
                while detectors.len() < workers {
                    let detector = (self.sources.loader)(name);
                    detectors.push(detector.context("cannot load the models once more")?);
                }
            }
        }
        Ok(self.catalog.for_pool(0, models))
    }

    /// Makes another detector of a model in use, for a worker that lost its own or that is replaced.
    pub(super) fn factory(&self) -> DetectorFactory {
        let Sources {
            loader,
            names,
            opened,
            ..
        } = self.sources.clone();
        Arc::new(move |model| {
            // The lock is not held while a model is loaded, which may take long: whoever adds a model must not wait for it.
            let names = names.lock().clone();
            let name = names.get(model).expect(
                "a model has a name, because it is adopted before a camera's work counts it",
            );
            let remote = opened.lock().get(name).cloned();
            match remote {
                Some(remote) => Ok(remote.engine.detector()),
                None => loader(name),
            }
        })
    }

    pub(super) fn sources(&self) -> Sources {
        self.sources.clone()
    }

    /// The names and classes of the models in use.
    pub(super) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Takes more models into use. What comes of it must be given to the pool before any camera's work names the models.
    pub(super) fn adopt(&mut self, loaded: Loaded) -> Adoption {
        let first = self.catalog.entries.len();
        self.catalog = self.catalog.with(&loaded);
        Adoption {
            names: Arc::clone(&self.sources.names),
            all: self.catalog.names().map(str::to_owned).collect(),
            models: self.catalog.for_pool(first, loaded.models),
        }
    }
}

impl Adoption {
    /// Gives the models to the pool. The caller holds it, so that a worker that is being replaced has either all of them, or none and
    /// gets them here.
    pub(super) fn give_to(self, pool: &mut InferencePool) {
        *self.names.lock() = self.all;
        pool.add_models(self.models);
    }
}

impl Loaded {
    /// Loads, checks and warms models for `workers` workers, which takes a second or so for each. Those that run on servers are opened.
    ///
    /// # Errors
    /// When one of them cannot be used. The sentence says what to do.
    pub(super) fn load(sources: &Sources, names: Vec<String>, workers: usize) -> Result<Self> {
        let mut catalog = Catalog::default();
        let mut models = Vec::new();
        for name in names {
            let (info, model) = match sources.open(&name) {
                Some(opened) => {
                    let RemoteSource { engine, info } = opened?;
                    (info, LoadedModel::Remote(engine))
                }
                None => {
                    let detectors = (0..workers).map(|_| (sources.loader)(&name));
                    let detectors = detectors.collect::<Result<Vec<_>, ModelError>>()?;
                    let Some(first) = detectors.first() else {
                        bail!("no worker is left for model {name}: this is a bug in Twinsight");
                    };
                    (first.model().clone(), LoadedModel::Local(detectors))
                }
            };
            catalog.entries.push((name, info));
            models.push(model);
        }
        Ok(Self { catalog, models })
    }

    /// Adds others, which were loaded for the same workers.
    #[must_use]
    pub(super) fn and(mut self, others: Self) -> Self {
        self.catalog = self.catalog.with(&others);
        self.models.extend(others.models);
        self
    }
}

impl Sources {
    fn open(&self, name: &str) -> Option<Result<RemoteSource, ModelError>> {
        let mut opened = self.opened.lock();
        if let Some(known) = opened.get(name) {
            return Some(Ok(known.clone()));
        }
        let source = (self.opener)(name)?;
        if let Ok(source) = &source {
            opened.insert(name.to_owned(), source.clone());
        }
        Some(source)
    }
}

impl Catalog {
    /// A catalog of one model.
    pub(crate) fn of(name: String, info: ModelInfo) -> Self {
        Self {
            entries: vec![(name, info)],
            fallbacks: Arc::default(),
        }
    }

    /// A catalog without models, which knows what takes the place of those that run on servers.
    fn with_fallbacks(remotes: &[RemoteModelConfig]) -> Self {
        let fallback = |remote: &RemoteModelConfig| {
            let fallback = remote.fallback.clone()?;
            Some((remote.name.clone(), fallback))
        };
        Self {
            entries: Vec::new(),
            fallbacks: Arc::new(remotes.iter().filter_map(fallback).collect()),
        }
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.entries.iter().position(|(known, _)| known == name)
    }

    /// The models from the one with the index `first` on, for the pool.
    fn for_pool(&self, first: usize, models: Vec<LoadedModel>) -> Vec<PoolModel> {
        let of_pool = |((name, _), model): (&(String, ModelInfo), LoadedModel)| PoolModel {
            name: name.as_str().into(),
            engine: match model {
                LoadedModel::Local(detectors) => ModelEngine::Local(detectors),
                LoadedModel::Remote(remote) => ModelEngine::Remote {
                    remote,
                    fallback: self.fallbacks.get(name).and_then(|name| self.index(name)),
                },
            },
        };
        self.entries[first..]
            .iter()
            .zip(models)
            .map(of_pool)
            .collect()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(name, _)| name.as_str())
    }

    /// The hashes of the models' files, where they are known.
    pub(super) fn hashes(&self) -> impl Iterator<Item = Option<Arc<str>>> {
        self.entries.iter().map(|(_, info)| info.sha256.clone())
    }

    /// Names of models that cameras use, or that take the place of such, and that are not in here, each of them once.
    pub(super) fn missing(&self, cameras: &[CameraConfig]) -> Vec<String> {
        let mut missing: Vec<String> = Vec::new();
        let needed = cameras.iter().flat_map(|camera| {
            std::iter::once(&camera.model).chain(self.fallbacks.get(&camera.model))
        });
        for name in needed {
            if !missing.contains(name) && self.index(name).is_none() {
                missing.push(name.clone());
            }
        }
        missing
    }

    /// These models with the ones that were loaded.
    #[must_use]
    pub(super) fn with(&self, loaded: &Loaded) -> Self {
        let more = &loaded.catalog.entries;
        Self {
            entries: self.entries.iter().chain(more).cloned().collect(),
            fallbacks: Arc::clone(&self.fallbacks),
        }
    }

    /// The number of a camera's model, and which of the objects that it sees are reported.
    ///
    /// # Errors
    /// When the model is not loaded or has no such class, or the label of a zone, a line or a mask can never be seen.
    pub(crate) fn resolve(&self, camera: &CameraConfig) -> Result<(usize, DetectSettings)> {
        let (index, (_, info)) = self
            .entries
            .iter()
            .enumerate()
            .find(|(_, (name, _))| *name == camera.model)
            .with_context(|| {
                format!(
                    "camera {}: model `{}` was not loaded: this is a bug in Twinsight",
                    camera.id, camera.model
                )
            })?;
        let mut classes = Vec::with_capacity(camera.classes.len());
        for label in &camera.classes {
            let Some(class) = info.class_id(label) else {
                return Err(UnfitCamera::NoClass {
                    camera: camera.id.clone(),
                    model: camera.model.clone(),
                    label: label.to_string(),
                    nearest: did_you_mean(label, info),
                }
                .into());
            };
            classes.push(class);
        }
        check_labels(camera, info)?;
        if let Some(fallback) = self.fallbacks.get(&camera.model) {
            let of_fallback = self.index(fallback).map(|n| &self.entries[n].1.labels);
            if of_fallback != Some(&info.labels) {
                return Err(UnfitCamera::Fallback {
                    camera: camera.id.clone(),
                    model: camera.model.clone(),
                    fallback: fallback.clone(),
                }
                .into());
            }
        }
        Ok((
            index,
            DetectSettings {
                min_score: camera.min_score,
                classes,
            },
        ))
    }
}

/// The labels of zones, lines and masks: one that the model does not have, or that `classes` leaves out, would count nothing for ever.
fn check_labels(camera: &CameraConfig, info: &ModelInfo) -> Result<()> {
    let scene = &camera.scene;
    let named = |kind: &str, name: &str| format!("{kind} \"{}\"", shown(name));
    let zones = scene.zones.iter();
    let zones = zones.map(|zone| (named("zone", &zone.name), &zone.labels));
    let lines = scene.lines.iter();
    let lines = lines.map(|line| (named("line", &line.name), &line.labels));
    let masks = (1..).zip(&scene.masks);
    let masks = masks.map(|(n, mask)| (format!("mask {n}"), &mask.labels));
    for (part, labels) in zones.chain(lines).chain(masks) {
        for label in labels {
            if info.class_id(label).is_none() {
                return Err(UnfitCamera::NoLabel {
                    camera: camera.id.clone(),
                    part,
                    model: camera.model.clone(),
                    label: label.to_string(),
                    nearest: did_you_mean(label, info),
                }
                .into());
            }
            let classes = &camera.classes;
            if !classes.is_empty() && classes.iter().all(|class| **class != **label) {
                return Err(UnfitCamera::LeftOut {
                    camera: camera.id.clone(),
                    part,
                    label: label.to_string(),
                }
                .into());
            }
        }
    }
    Ok(())
}

/// Asks whether the label is meant that is near to one that the model does not have.
fn did_you_mean(label: &str, info: &ModelInfo) -> String {
    nearest(label, &info.labels)
        .map(|near| format!("; did you mean `{near}`?"))
        .unwrap_or_default()
}

fn nearest<'a>(label: &str, labels: &'a [String]) -> Option<&'a str> {
    /// No nearest label is sought for a longer one, since comparing takes time with the square of the length.
    const MAX_LABEL_BYTES: usize = 64;
    if label.len() > MAX_LABEL_BYTES {
        return None;
    }
    labels
        .iter()
        .map(|known| (strsim::damerau_levenshtein(label, known), known.as_str()))
        .filter(|(distance, _)| *distance <= 3)
        .min()
        .map(|(_, known)| known)
}

#[cfg(test)]
#[path = "models_tests.rs"]
mod tests;
