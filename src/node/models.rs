//! The models that cameras use. It knows which are needed and what classes they have, and makes a detector of each for every
//! inference worker, at the start and when a reload names another model.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;

use crate::config::{CameraConfig, RuntimeConfig, shown};
use crate::detect::detector::{DetectSettings, Detector, ModelInfo};
use crate::detect::manifest::ModelError;
use crate::detect::plan::SessionPlan;
use crate::detect::pool::InferencePool;
use crate::detect::worker::DetectorFactory;

/// Makes a detector of the model with this name.
pub type ModelLoader = Arc<dyn Fn(&str) -> Result<Box<dyn Detector>, ModelError> + Send + Sync>;

/// The models in use. [`CameraWork::model`](crate::detect::worker::CameraWork::model) counts them in this order. Models are
/// added while the node runs and none is removed, so that these numbers stay valid.
pub struct Models {
    catalog: Catalog,
    loader: ModelLoader,
    /// The names of the catalog, shared with the factory that makes detectors for replaced workers.
    names: Arc<Mutex<Vec<String>>>,
    /// The detectors of the first worker, which were made to check the models.
    first: Mutex<Option<Vec<Box<dyn Detector>>>>,
}

/// The names of the models and their classes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Catalog {
    entries: Vec<(String, ModelInfo)>,
}

/// Models that are loaded and not yet in use.
pub(super) struct Loaded {
    catalog: Catalog,
    sets: Vec<Vec<Box<dyn Detector>>>,
}

/// Detectors that the workers still have to be given.
pub(super) struct Adoption {
    names: Arc<Mutex<Vec<String>>>,
    all: Vec<String>,
    sets: Vec<Vec<Box<dyn Detector>>>,
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
    /// Loads every model that a camera names, checks it and warms it, which takes a second or so.
    ///
    /// # Errors
    /// When ONNX Runtime or a model cannot be used; the sentence says what to do.
    pub(crate) fn load(
        runtime: &RuntimeConfig,
        plan: SessionPlan,
        cameras: &[CameraConfig],
        dylib_path: Option<std::path::PathBuf>,
    ) -> Result<Self> {
        use crate::detect::onnx::OnnxDetector;
        use crate::detect::runtime::{Runtime, RuntimeOptions};

        let library = Runtime::load(&RuntimeOptions {
            library: runtime.library.clone(),
            dylib_path,
            threads: plan.threads,
        })?;
        let (folder, providers) = (
            runtime.models_dir.clone(),
            runtime.execution_providers.clone(),
        );
        let loader: ModelLoader = Arc::new(move |name| {
            let detector = OnnxDetector::load(&library, &folder, name, &providers)?;
            Ok(Box::new(detector) as Box<dyn Detector>)
        });
        Self::new(Catalog::default().missing(cameras), loader)
    }

    /// Loads models by any loader. Tests have one that makes fake detectors.
    ///
    /// # Errors
    /// When the loader fails.
    pub fn new(names: Vec<String>, loader: ModelLoader) -> Result<Self> {
        let Loaded { catalog, mut sets } = Loaded::load(&loader, names, 1)?;
        let names = catalog.names().map(str::to_owned).collect();
        Ok(Self {
            catalog,
            loader,
            names: Arc::new(Mutex::new(names)),
            first: Mutex::new(sets.pop()),
        })
    }

    /// Makes a detector of each model for each of `workers` workers.
    ///
    /// # Errors
    /// When the loader fails.
    pub(super) fn detectors(&mut self, workers: usize) -> Result<Vec<Vec<Box<dyn Detector>>>> {
        let first = self.first.get_mut();
        let mut sets: Vec<_> = first.take().into_iter().collect();
        while sets.len() < workers {
            let set: Result<_, _> = self
                .catalog
                .names()
                .map(|name| (self.loader)(name))
                .collect();
            sets.push(set.context("cannot load the models once more")?);
        }
        Ok(sets)
    }

    /// Makes another detector of a model in use, for a worker that lost its own or that is replaced.
    pub(super) fn factory(&self) -> DetectorFactory {
        let (loader, names) = (Arc::clone(&self.loader), Arc::clone(&self.names));
        Arc::new(move |model| {
            // The lock is not held while a model is loaded, which may take long: whoever adds a model must not wait for it.
            let names = names.lock().clone();
            let name = names.get(model).expect(
                "a model has a name, because it is adopted before a camera's work counts it",
            );
            loader(name)
        })
    }

    pub(super) fn loader(&self) -> ModelLoader {
        Arc::clone(&self.loader)
    }

    /// The names and classes of the models in use.
    pub(super) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Takes more models into use. The detectors that come of it must be given to the workers before any camera's work names
    /// the models.
    pub(super) fn adopt(&mut self, loaded: Loaded) -> Adoption {
        self.catalog = self.catalog.with(&loaded);
        Adoption {
            names: Arc::clone(&self.names),
            all: self.catalog.names().map(str::to_owned).collect(),
            sets: loaded.sets,
        }
    }
}

impl Adoption {
    /// Gives the detectors to the workers. The caller holds the pool, so that a worker that is being replaced has either all
    /// of them, or none and gets them here.
    pub(super) fn give_to(self, pool: &mut InferencePool) {
        *self.names.lock() = self.all;
        pool.add_models(self.sets);
    }
}

impl Loaded {
    /// Loads, checks and warms models for `workers` workers, which takes a second or so for each.
    ///
    /// # Errors
    /// When one of them cannot be used. The sentence says what to do.
    pub(super) fn load(loader: &ModelLoader, names: Vec<String>, workers: usize) -> Result<Self> {
        let load_set = || -> Result<Vec<Box<dyn Detector>>, ModelError> {
            names.iter().map(|name| loader(name)).collect()
        };
        let sets: Vec<_> = (0..workers).map(|_| load_set()).collect::<Result<_, _>>()?;
        let infos = sets.first().into_iter().flatten();
        let infos: Vec<ModelInfo> = infos.map(|detector| detector.model().clone()).collect();
        let catalog = Catalog {
            entries: names.into_iter().zip(infos).collect(),
        };
        Ok(Self { catalog, sets })
    }

    /// Adds others, which were loaded for the same workers.
    #[must_use]
    pub(super) fn and(mut self, others: Self) -> Self {
        self.catalog = self.catalog.with(&others);
        for (set, others) in self.sets.iter_mut().zip(others.sets) {
            set.extend(others);
        }
        self
    }
}

impl Catalog {
    /// A catalog of one model.
    pub(crate) fn of(name: String, info: ModelInfo) -> Self {
        Self {
            entries: vec![(name, info)],
        }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(name, _)| name.as_str())
    }

    /// The hashes of the models' files, where they are known.
    pub(super) fn hashes(&self) -> impl Iterator<Item = Option<Arc<str>>> {
        self.entries.iter().map(|(_, info)| info.sha256.clone())
    }

    /// Names of models that cameras use and that are not in here, each of them once.
    pub(super) fn missing(&self, cameras: &[CameraConfig]) -> Vec<String> {
        let mut missing: Vec<String> = Vec::new();
        for camera in cameras {
            if !missing.contains(&camera.model) && self.names().all(|name| name != camera.model) {
                missing.push(camera.model.clone());
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
                let nearest = did_you_mean(label, info);
                bail!(
                    "camera {}: model `{}` has no class `{}`{nearest}; correct `classes`",
                    camera.id,
                    camera.model,
                    shown(label)
                );
            };
            classes.push(class);
        }
        check_labels(camera, info)?;
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
                let nearest = did_you_mean(label, info);
                bail!(
                    "camera {}: {part}: model `{}` has no class `{}`{nearest}; correct its `labels`",
                    camera.id,
                    camera.model,
                    shown(label)
                );
            }
            let classes = &camera.classes;
            if !classes.is_empty() && classes.iter().all(|class| **class != **label) {
                bail!(
                    "camera {}: {part} has the label `{}`, which `classes` leaves out, so that it is never seen: add it to `classes`, or \
                     remove it from its `labels`",
                    camera.id,
                    shown(label)
                );
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
