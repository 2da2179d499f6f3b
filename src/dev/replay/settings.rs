//! The settings that a clip is looked at with: a configuration and the name of a camera come in, the settings of one camera stream
//! go out, with what is said about them.

use std::path::{Path, PathBuf};

use super::error::ReplayError;
use crate::config::{CameraConfig, MotionMode, ReplayConfig};

/// The settings of one camera stream, and whose they are.
#[derive(Debug, Clone)]
pub(super) struct Chosen {
    pub(super) camera: CameraConfig,
    pub(super) whose: Whose,
}

/// Whose settings are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Whose {
    /// Those of this camera stream of the configuration.
    Camera(String),
    /// Those that a camera has for which nothing is configured.
    Defaults,
}

impl Chosen {
    /// Chooses a camera by its twin, or `TWIN/STREAM`; without a name the only one there is.
    pub(super) fn of(
        config: &ReplayConfig,
        name: Option<&str>,
        file: Option<&Path>,
    ) -> Result<Self, ReplayError> {
        let all = || names(&config.cameras);
        let place = || Place(file.map(Path::to_path_buf));
        let found: Vec<&CameraConfig> = match name {
            None => config.cameras.iter().collect(),
            Some(name) => {
                let is_named = |camera: &&CameraConfig| {
                    *camera.id.twin_id == *name || camera.id.to_string() == name
                };
                config.cameras.iter().filter(is_named).collect()
            }
        };
        match (found.as_slice(), name) {
            ([camera], _) => Ok(Self {
                camera: (*camera).clone(),
                whose: Whose::Camera(camera.id.to_string()),
            }),
            ([], None) => {
                let mut camera = config.defaults.clone();
                camera.id.twin_id = "replay".into();
                camera.name = "replay".to_owned();
                Ok(Self {
                    camera,
                    whose: Whose::Defaults,
                })
            }
            ([], Some(name)) if config.cameras.is_empty() => Err(ReplayError::NoCameras {
                place: place(),
                name: name.to_owned(),
            }),
            ([], Some(name)) => Err(ReplayError::NoSuchCamera {
                place: place(),
                name: name.to_owned(),
                nearest: nearest(name, &config.cameras),
                all: all(),
            }),
            (several, _) => {
                let several: Vec<CameraConfig> =
                    several.iter().map(|camera| (*camera).clone()).collect();
                Err(ReplayError::SeveralCameras {
                    place: place(),
                    all: names(&several),
                })
            }
        }
    }

    /// What is said of them in one line.
    pub(super) fn sentence(&self, file: Option<&Path>) -> String {
        let camera = &self.camera;
        let of = match (&self.whose, file) {
            (Whose::Camera(id), Some(file)) => format!("of camera {id} in {}", file.display()),
            (Whose::Camera(id), None) => format!("of camera {id}"),
            (Whose::Defaults, Some(file)) => format!("of [defaults] in {}", file.display()),
            (Whose::Defaults, None) => {
                "that a camera has for which nothing is configured".to_owned()
            }
        };
        let classes = match camera.classes.as_slice() {
            [] => "all classes".to_owned(),
            classes => classes.join(", "),
        };
        let tracks = if camera.track.enabled {
            let ms = |time: std::time::Duration| time.as_millis();
            format!(
                "tracks (confirm_ms {}, lost_ms {})",
                ms(camera.track.confirm),
                ms(camera.track.lost)
            )
        } else {
            "no tracks".to_owned()
        };
        let scene = &camera.scene;
        format!(
            "the settings are those {of}: {classes} from score {}, max_fps {}, motion {}, {tracks}, {}, {}, {}",
            camera.min_score,
            camera.max_fps,
            MotionMode::as_str(camera.motion.mode),
            counted(scene.zones.len(), "zone"),
            counted(scene.lines.len(), "line"),
            counted(scene.masks.len(), "mask"),
        )
    }
}

/// The configuration, as errors name it.
#[derive(Debug, Clone)]
pub struct Place(Option<PathBuf>);

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(path) => path.display().fmt(f),
            None => f.write_str("the environment"),
        }
    }
}

fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

fn names(cameras: &[CameraConfig]) -> String {
    /// More of them would hide what the sentence says.
    const MOST: usize = 8;
    let shown: Vec<String> = cameras
        .iter()
        .take(MOST)
        .map(|camera| format!("`{}`", camera.id))
        .collect();
    let more = match cameras.len().saturating_sub(MOST) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", shown.join(", "))
}

fn nearest(name: &str, cameras: &[CameraConfig]) -> String {
    let likeness = |camera: &CameraConfig| strsim::jaro_winkler(&camera.id.twin_id, name);
    let best = cameras
        .iter()
        .map(|camera| (likeness(camera), camera))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(likeness, _)| *likeness > 0.8);
    best.map_or_else(
        || ".".to_owned(),
        |(_, camera)| format!("; is `{}` meant?", camera.id.twin_id),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigSource, Env};

    fn config(text: &str) -> ReplayConfig {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.toml");
        std::fs::write(&path, text).unwrap();
        let source = ConfigSource::read(Some(&path), &Env::default()).unwrap();
        source.resolve_for_replay().unwrap()
    }

    fn chosen(text: &str, name: Option<&str>) -> Result<String, String> {
        let file = Some(Path::new("node.toml"));
        let chosen = Chosen::of(&config(text), name, file).map_err(|error| error.to_string())?;
        Ok(chosen.sentence(file))
    }

    const TWO: &str = "[[cameras]]\ntwin_id = \"door\"\nmin_score = 0.5\n[[cameras]]\ntwin_id = \"yard\"\nstream = \"low\"\n\
                       [[cameras]]\ntwin_id = \"yard\"\nstream = \"high\"";

    #[test]
    fn the_only_camera_needs_no_name_and_without_one_there_are_defaults() {
        let one = "[[cameras]]\ntwin_id = \"door\"\nmin_score = 0.5";
        let expected = "the settings are those of camera door/default in node.toml: all classes from score 0.5, max_fps 10, \
                        motion off, tracks (confirm_ms 300, lost_ms 2000), 0 zones, 0 lines, 0 masks";
        assert_eq!(chosen(one, None).unwrap(), expected);
        assert_eq!(chosen(TWO, Some("door")).unwrap(), expected);
        let defaults = chosen("[defaults]\nclasses = [\"person\", \"car\"]", None).unwrap();
        assert!(
            defaults.contains("of [defaults] in node.toml: person, car from score 0.4"),
            "{defaults}"
        );
    }

    #[test]
    fn who_is_not_clear_is_asked_for() {
        let error = |name| chosen(TWO, name).unwrap_err();
        assert_eq!(
            error(None),
            "node.toml has several cameras: choose one with `--camera`: `door/default`, `yard/low`, `yard/high`"
        );
        assert_eq!(
            error(Some("yard")),
            "node.toml has several cameras: choose one with `--camera`: `yard/low`, `yard/high`"
        );
        assert!(chosen(TWO, Some("yard/high")).is_ok());
        assert_eq!(
            error(Some("dooor")),
            "node.toml has no camera `dooor`; is `door` meant? It has `door/default`, `yard/low`, `yard/high`"
        );
        assert_eq!(
            chosen("", Some("door")).unwrap_err(),
            "node.toml has no camera at all, and so not `door`: leave `--camera` out to use its defaults, or add the camera"
        );
    }
}
