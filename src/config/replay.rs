//! What of a configuration a recorded clip is looked at with. The same file and variables come in as for a node. What only a node
//! with a hub, cameras and passwords needs may be missing, since a clip is often looked at on another machine.

use std::path::Path;

use super::error::ConfigError;
use super::models::RemoteModelConfig;
use super::resolve::ConfigSource;
use super::settings::Settings;
use super::syntax;
use super::values::{CameraConfig, RuntimeConfig};

/// What of a configuration a recorded clip is looked at with.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplayConfig {
    /// ONNX Runtime and models.
    pub runtime: RuntimeConfig,
    /// The models that run on servers.
    pub models: Vec<RemoteModelConfig>,
    /// The camera streams in the order of the file.
    pub cameras: Vec<CameraConfig>,
    /// A camera for which nothing is configured but the defaults. Its id is empty.
    pub defaults: CameraConfig,
}

impl ConfigSource {
    /// As [`resolve`](Self::resolve), for a recorded clip: `[runtime]`, `[models]`, `[defaults]` and `[[cameras]]` alone.
    ///
    /// # Errors
    /// All that is wrong with these, as sentences with place and remedy, in the order of the file.
    pub fn resolve_for_replay(&self) -> Result<ReplayConfig, ConfigError> {
        let path = self.path().unwrap_or(Path::new(""));
        let (mut file, mut wrong) = syntax::parse(path, self.text())?;
        let resolver = self.merge(path, &mut file, &Settings::default());
        let runtime = resolver.runtime(&file);
        let models = resolver.models(&file);
        let cameras = resolver.cameras(&file, &Settings::default(), None);
        let defaults = resolver.defaults_of(&file);
        let mut more = resolver.wrong.into_inner();
        more.retain(|error| !error.is_of_pictures());
        if !wrong.is_empty() {
            more.retain(|error| !error.is_missing());
        }
        wrong.append(&mut more);
        match ConfigError::all(wrong) {
            Some(error) => Err(error),
            None => Ok(ReplayConfig {
                runtime,
                models,
                cameras,
                defaults,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Env;

    fn resolve(text: &str, env: &[(&str, &str)]) -> Result<ReplayConfig, Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.toml");
        std::fs::write(&path, text).unwrap();
        let env: Env = env.iter().copied().collect();
        let source = ConfigSource::read(Some(&path), &env).unwrap();
        source.resolve_for_replay().map_err(|error| {
            let shown = format!("{} ", path.display());
            let sentences = error.sentences().into_iter();
            sentences.map(|line| line.replace(&shown, "")).collect()
        })
    }

    #[test]
    fn neither_hub_nor_passwords_are_needed() {
        let text = "[hub]\naccess_key_file = \"/nowhere/key\"\n[http]\ntoken_file = \"/nowhere/token\"\n\
                    [defaults]\nmin_score = 0.5\n[[cameras]]\ntwin_id = \"a\"\n[[cameras]]\ntwin_id = \"b\"\n\
                    rtsp = \"rtsp://10.0.0.2/s\"\nrtsp_user = \"u\"\nrtsp_password_file = \"/nowhere/password\"\nmax_fps = 2.0";
        let config = resolve(text, &[]).unwrap();
        let of = |camera: &CameraConfig| (camera.id.to_string(), camera.max_fps, camera.min_score);
        let cameras: Vec<_> = config.cameras.iter().map(of).collect();
        assert_eq!(
            cameras,
            [
                ("a/default".to_owned(), 10.0, 0.5),
                ("b/default".to_owned(), 2.0, 0.5)
            ]
        );
        assert!((config.defaults.min_score - 0.5).abs() < 1e-6);
        let listed = resolve(text, &[("TWINSIGHT_CAMERAS", "b,c")]).unwrap();
        assert_eq!(listed.cameras.len(), 2);
        assert_eq!(&*listed.cameras[1].id.twin_id, "c");
    }

    #[test]
    fn what_is_wrong_with_cameras_is_said_once() {
        let text = "[defaults]\nmin_score = 7\n[[cameras]]\ntwin_id = \"a b\"";
        let sentences = resolve(text, &[]).unwrap_err();
        assert_eq!(sentences.len(), 2, "{sentences:?}");
        assert!(
            sentences[0].contains("line 2: `defaults.min_score`"),
            "{sentences:?}"
        );
        let unknown = resolve("[defaults]\nmin_scor = 0.5", &[]).unwrap_err();
        assert!(unknown[0].contains("min_score"), "{unknown:?}");
    }
}
