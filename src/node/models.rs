//! The models of the cameras: which are needed, their classes by label, and the factory that makes
//! detectors of them for each inference worker.

use std::sync::Arc;

use anyhow::{Context, Result, bail};

use crate::config::{CameraConfig, RuntimeConfig};
use crate::detect::detector::{DetectSettings, Detector, ModelInfo};
use crate::detect::worker::DetectorFactory;

/// Models in the order in which [`CameraWork::model`](crate::detect::worker::CameraWork::model) counts them.
pub struct Models {
    names: Vec<String>,
    factory: DetectorFactory,
    infos: Vec<ModelInfo>,
    /// The first worker's, made while the models were checked.
    first: Option<Vec<Box<dyn Detector>>>,
}

impl std::fmt::Debug for Models {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Models")
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

impl Models {
    /// Loads every model that a camera names, and checks and warms it. Takes a second or so.
    ///
    /// # Errors
    /// When ONNX Runtime or a model cannot be used; the sentence says what to do.
    #[cfg(feature = "ort")]
    pub fn load(
        runtime: &RuntimeConfig,
        cameras: &[CameraConfig],
        dylib_path: Option<std::path::PathBuf>,
    ) -> Result<Self> {
        use crate::detect::onnx::OnnxDetector;
        use crate::detect::runtime::{Runtime, RuntimeOptions};

        let mut names: Vec<String> = Vec::new();
        for camera in cameras {
            if !names.contains(&camera.model) {
                names.push(camera.model.clone());
            }
        }
        let library = Runtime::load(&RuntimeOptions {
            library: runtime.library.clone(),
            dylib_path,
            threads: runtime.threads,
        })?;
        let (folder, providers, wanted) = (
            runtime.models_dir.clone(),
            runtime.execution_providers.clone(),
            names.clone(),
        );
        let factory: DetectorFactory = Arc::new(move || {
            wanted
                .iter()
                .map(|name| {
                    let detector = OnnxDetector::load(&library, &folder, name, &providers)?;
                    Ok(Box::new(detector) as Box<dyn Detector>)
                })
                .collect()
        });
        Self::new(names, factory)
    }

    /// Models by any factory, for tests with a fake one.
    ///
    /// # Errors
    /// When the factory fails.
    pub fn new(names: Vec<String>, factory: DetectorFactory) -> Result<Self> {
        let first = factory()?;
        if first.len() != names.len() {
            bail!(
                "the factory made {} detectors for {} models",
                first.len(),
                names.len()
            );
        }
        let infos = first
            .iter()
            .map(|detector| detector.model().clone())
            .collect();
        Ok(Self {
            names,
            factory,
            infos,
            first: Some(first),
        })
    }

    /// A detector set for each of `workers` workers.
    ///
    /// # Errors
    /// When the factory fails.
    pub fn detectors(&mut self, workers: usize) -> Result<Vec<Vec<Box<dyn Detector>>>> {
        let mut sets: Vec<_> = self.first.take().into_iter().collect();
        while sets.len() < workers {
            sets.push((self.factory)().context("cannot load the models once more")?);
        }
        Ok(sets)
    }

    /// Makes detectors for a worker that is replaced.
    pub fn factory(&self) -> DetectorFactory {
        Arc::clone(&self.factory)
    }

    /// The names, for the node's reported properties.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// A camera's model and what to keep of what it sees.
    ///
    /// # Errors
    /// When the model is not loaded or has no such class.
    pub fn resolve(&self, camera: &CameraConfig) -> Result<(usize, DetectSettings)> {
        let index = self
            .names
            .iter()
            .position(|name| *name == camera.model)
            .with_context(|| {
                format!(
                    "camera {}: model `{}` was not loaded at the start",
                    camera.id, camera.model
                )
            })?;
        let info = &self.infos[index];
        let mut classes = Vec::with_capacity(camera.classes.len());
        for label in &camera.classes {
            let Some(class) = info.class_id(label) else {
                let nearest = nearest(label, &info.labels)
                    .map(|near| format!("; did you mean `{near}`?"))
                    .unwrap_or_default();
                bail!(
                    "camera {}: model `{}` has no class `{label}`{nearest}; correct `classes`",
                    camera.id,
                    camera.model
                );
            };
            classes.push(class);
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

fn nearest<'a>(label: &str, labels: &'a [String]) -> Option<&'a str> {
    labels
        .iter()
        .map(|known| (strsim::damerau_levenshtein(label, known), known.as_str()))
        .filter(|(distance, _)| *distance <= 3)
        .min()
        .map(|(_, known)| known)
}
