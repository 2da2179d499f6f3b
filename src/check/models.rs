//! Checks ONNX Runtime and the models of the cameras: the library is loaded, each model is compared with its manifest and run
//! once. The configuration comes in, findings go out.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::finding::{Finding, Report};
use super::servers;
use crate::config::{CameraConfig, Config, RemoteModelConfig};
use crate::detect::manifest::{Manifest, ModelError};
use crate::detect::onnx::OnnxDetector;
use crate::detect::plan::SessionPlan;
use crate::detect::runtime::{Runtime, RuntimeOptions};
use crate::detect::{Detector, ModelInfo};
use crate::node::models::{Catalog, unused};

/// To load the library, or to load and run one model, may take this long.
const LOAD_LIMIT: Duration = Duration::from_secs(60);

pub(super) async fn check(config: &Config, dylib_path: Option<PathBuf>, report: &mut Report<'_>) {
    let remote = |name: &str| config.models.iter().find(|remote| remote.name == name);
    let mut names: Vec<&str> = Vec::new();
    for camera in &config.cameras {
        let fallback = remote(&camera.model).and_then(|remote| remote.fallback.as_deref());
        for name in std::iter::once(camera.model.as_str()).chain(fallback) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    for unused in unused(&config.models, &config.cameras) {
        report.add(Finding::warn(
            format!("model {}", unused.name),
            "no camera uses it".to_owned(),
            "name it as the camera's `model`, or in `[defaults]`",
        ));
    }
    let of_cameras = |name: &str| {
        let cameras = config.cameras.iter();
        let cameras = cameras.filter(|camera| camera.model == name);
        cameras.cloned().collect::<Vec<CameraConfig>>()
    };
    // Each of them may have to be waited for.
    let remotes: Vec<_> = names.iter().filter_map(|name| remote(name)).collect();
    let checks = remotes.iter().map(|remote| {
        let cameras = of_cameras(&remote.name);
        async move { servers::check(&config.runtime.models_dir, remote, &cameras).await }
    });
    let checks = futures_util::future::join_all(checks).await;
    for (remote, findings) in remotes.iter().zip(checks) {
        other_labels(config, remote, report);
        findings.into_iter().for_each(|finding| report.add(finding));
    }
    names.retain(|name| remote(name).is_none());
    if names.is_empty() {
        return;
    }
    let plan = SessionPlan::new(config.runtime.threads, config.cameras.len());
    let options = RuntimeOptions {
        library: config.runtime.library.clone(),
        dylib_path,
        threads: plan.threads,
    };
    let runtime = match blocking(move || Runtime::load(&options).map_err(|e| e.to_string())).await {
        Ok(runtime) => runtime,
        Err(error) => {
            report.add(Finding::fail("ONNX Runtime", error, ""));
            for name in names {
                let because = "ONNX Runtime is not loaded";
                report.add(Finding::skip(format!("model {name}"), because));
            }
            return;
        }
    };
    let version = runtime
        .minor_version()
        .map_or_else(String::new, |minor| format!(" 1.{minor}"));
    report.add(Finding::ok(
        "ONNX Runtime",
        format!(
            "version{version} is loaded from {}; inference runs in {plan}",
            runtime.library().display()
        ),
    ));
    for name in names {
        model(config, &runtime, name.to_owned(), of_cameras(name), report).await;
    }
}

/// A model that is to take the place of another has to know the same classes by the same numbers.
fn other_labels(config: &Config, remote: &RemoteModelConfig, report: &mut Report<'_>) {
    let folder = &config.runtime.models_dir;
    let Some(fallback) = &remote.fallback else {
        return;
    };
    let labels = |manifest: Result<(Manifest, PathBuf), ModelError>| {
        manifest.ok().map(|(manifest, _)| manifest.labels)
    };
    let own = labels(Manifest::load_remote(folder, &remote.manifest));
    let of_fallback = labels(Manifest::load(folder, fallback));
    // What cannot be read is told where the model is looked at.
    if own.is_some() && of_fallback.is_some() && own != of_fallback {
        report.add(Finding::fail(
            format!("model {}", remote.name),
            format!("it has other labels than {fallback}, which is to take its place"),
            "name a model with the same labels as its `fallback`",
        ));
    }
}

/// Checks one model, and the classes that its cameras ask for.
async fn model(
    config: &Config,
    runtime: &Runtime,
    name: String,
    cameras: Vec<CameraConfig>,
    report: &mut Report<'_>,
) {
    let subject = format!("model {name}");
    let (runtime, folder, providers) = (
        runtime.clone(),
        config.runtime.models_dir.clone(),
        config.runtime.execution_providers.clone(),
    );
    let tried = blocking(move || {
        let started = Instant::now();
        let detector = OnnxDetector::load(&runtime, &folder, &name, &providers)
            .map_err(|error| error.to_string())?;
        let found = format!(
            "loaded, and one inference ran on {} ({}), in {} ms",
            detector.execution_provider(),
            detector.share(),
            started.elapsed().as_millis()
        );
        let classes = wrong_classes(name, detector.model(), &cameras);
        Ok((
            found,
            detector.unknown_origin(),
            detector.is_blind(),
            classes,
        ))
    })
    .await;
    match tried {
        Ok((found, unknown, is_blind, classes)) => {
            report.add(if is_blind {
                Finding::warn(
                    subject,
                    format!("{found}, and it sees nothing on a picture of a footballer, although it has labels for it"),
                    "compare scale, mean, std and color_order in its manifest with its training, and try it with `twinsight detect`",
                )
            } else if unknown.is_empty() {
                Finding::ok(subject, found)
            } else {
                Finding::warn(
                    subject,
                    format!("{found}, and its manifest does not know its {}", unknown.join(" and ")),
                    "see whether the licence allows what you do with it, and write it into the manifest",
                )
            });
            for (camera, sentence) in classes {
                report.add(Finding::fail(camera, sentence, ""));
            }
        }
        Err(error) => report.add(Finding::fail(subject, error, "")),
    }
}

/// Gives a subject and a sentence for each camera that asks for a class that the model does not have.
pub(super) fn wrong_classes(
    name: String,
    info: &ModelInfo,
    cameras: &[CameraConfig],
) -> Vec<(String, String)> {
    let catalog = Catalog::of(name, info.clone());
    let wrong = |camera: &CameraConfig| {
        let error = catalog.resolve(camera).err()?;
        let subject = format!("camera {}", camera.id);
        let sentence = error.to_string();
        let prefix = format!("{subject}: ");
        let sentence = sentence.strip_prefix(&prefix).unwrap_or(&sentence);
        Some((subject, sentence.to_owned()))
    };
    cameras.iter().filter_map(wrong).collect()
}

/// Runs what may take long, or never end, on a blocking thread of the runtime.
pub(super) async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, String> + Send + 'static,
) -> Result<R, String> {
    let working = tokio::task::spawn_blocking(work);
    match tokio::time::timeout(LOAD_LIMIT, working).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(
            "loading it panicked: install the ONNX Runtime of scripts/setup, and report it if that does not help"
                .to_owned(),
        ),
        Err(_) => Err(format!(
            "it was not loaded within {} s: install the ONNX Runtime of scripts/setup, and the model again",
            LOAD_LIMIT.as_secs()
        )),
    }
}
