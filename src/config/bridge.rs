//! The configuration of a program that only bridges cameras. The same file and variables come in as for a node, and the same
//! [`Config`] goes out. What means nothing to a bridge is an error in its file; a variable is not, since a container has them for all
//! of its programs.

use std::net::SocketAddr;
use std::path::Path;

use super::error::ConfigError;
use super::file::{
    CameraSection, DefaultsSection, File, HttpSection, Key, LeaseSection, NodeSection, Origin,
    RuntimeSection, ShardSection, TelemetrySection, TrackSection,
};
use super::resolve::{ConfigSource, Resolver};
use super::sections::DEFAULT_LISTEN;
use super::settings::Settings;
use super::syntax;
use super::values::{Config, Connect};
use toml::Spanned;
use twinsight_client::hub::HubMode;

/// Keys of a camera that say what a node does with its pictures.
const OF_DETECTION: &[&str] = &[
    "model",
    "codecs",
    "max_fps",
    "max_age_ms",
    "min_score",
    "classes",
    "emit_empty",
    "detections",
    "motion",
    "motion_max_skip_ms",
    "allow_unsigned",
];

/// Keys of the API.
const OF_API: &[&str] = &["token_file", "edit"];

/// Where a bridge listens unless it is told: beside the node on the same machine.
const DEFAULT_BRIDGE_LISTEN: SocketAddr = {
    let port = DEFAULT_LISTEN.port() + 1;
    SocketAddr::new(DEFAULT_LISTEN.ip(), port)
};

impl ConfigSource {
    /// As [`resolve`](Self::resolve), for a program that only bridges. `hub.twin_id` is the node that cameras dial which make the
    /// offer, and is not needed otherwise.
    ///
    /// # Errors
    /// All that is wrong, as sentences with place and remedy, in the order of the file.
    pub fn resolve_for_bridge(&self) -> Result<Config, ConfigError> {
        let path = self.path().unwrap_or(Path::new(""));
        let (mut file, mut wrong) = syntax::parse(path, self.text())?;
        let resolver = self.merge(path, &mut file, &Settings::default());
        resolver.check_for_bridge(&file);
        let hub = resolver.hub(&file);
        let ice = resolver.ice(&file, hub.as_ref().is_some_and(|hub| hub.turn.is_some()));
        let mut http = resolver.http(&file);
        if file.http.listen.is_none() {
            http.listen = DEFAULT_BRIDGE_LISTEN;
        }
        let cameras = resolver.cameras(&file, &Settings::default(), hub.as_ref());
        resolver.check_ports(&file, &ice, cameras.len());
        let config = Config {
            node: resolver.node(&File::default(), hub.as_ref()),
            runtime: resolver.runtime(&File::default()),
            models: Vec::new(),
            telemetry: resolver.telemetry(&File::default()),
            sinks: Vec::new(),
            hub,
            ice,
            http,
            cameras,
        };
        resolver.check_bridged(&file, &config);
        if let (None, Some(mode)) = (&config.hub, &file.hub.mode) {
            let place = resolver.place(&mode.origin);
            resolver.note(ConfigError::BridgeWithoutHub { place });
        }
        let mut more = resolver.wrong.into_inner();
        // Each camera joins as itself.
        more.retain(|error| !matches!(error, ConfigError::NoTwinId { .. }));
        // A value that seems to be missing may be one that could not be read.
        if !wrong.is_empty() {
            more.retain(|error| !error.is_missing());
        }
        wrong.append(&mut more);
        match ConfigError::all(wrong) {
            Some(error) => Err(error),
            None if config.cameras.is_empty() => Err(ConfigError::NoCameraToBridge {
                path: path.to_path_buf(),
            }),
            None => Ok(config),
        }
    }
}

impl Resolver<'_> {
    /// Notes what stands in the file and means nothing to a bridge.
    fn check_for_bridge(&self, file: &File) {
        let of_node = [
            (NodeSection::KEYS, "share cameras"),
            (ShardSection::KEYS, "share cameras"),
            (LeaseSection::KEYS, "share cameras"),
            (RuntimeSection::KEYS, "detect"),
            (TelemetrySection::KEYS, "trace frames"),
        ];
        for (keys, verb) in of_node {
            for key in keys {
                let origin = match key.section {
                    "node" => file.node.origin(key.name),
                    "node.shard" => file.node.shard.origin(key.name),
                    "node.lease" => file.node.lease.origin(key.name),
                    "runtime" => file.runtime.origin(key.name),
                    _ => file.telemetry.origin(key.name),
                };
                self.not_for_bridge(origin, key, verb);
            }
        }
        for model in file.models.values() {
            self.note(ConfigError::NotForBridge {
                place: self.place(&Origin::File(model.span().start)),
                key: "models".to_owned(),
                verb: "detect",
            });
        }
        for sink in &file.sinks {
            self.note(ConfigError::NotForBridge {
                place: self.place(&Origin::File(sink.span().start)),
                key: "sinks".to_owned(),
                verb: "detect",
            });
        }
        let of_api = |key: &&Key| OF_API.contains(&key.name);
        for key in HttpSection::KEYS.iter().filter(of_api) {
            self.not_for_bridge(file.http.origin(key.name), key, "serve an API");
        }
        for key in TrackSection::KEYS {
            self.not_for_bridge(file.defaults.track.origin(key.name), key, "detect");
        }
        for camera in &file.cameras {
            let camera = camera.get_ref();
            for key in TrackSection::KEYS {
                self.not_for_bridge(camera.track.origin(key.name), key, "detect");
            }
            for (key, first) in [
                ("cameras.zones", camera.zones.first().map(Spanned::span)),
                ("cameras.lines", camera.lines.first().map(Spanned::span)),
                ("cameras.masks", camera.masks.first().map(Spanned::span)),
            ] {
                if let Some(first) = first {
                    self.note(ConfigError::NotForBridge {
                        place: self.place(&Origin::File(first.start)),
                        key: key.to_owned(),
                        verb: "detect",
                    });
                }
            }
        }
        let is_of_detection = |key: &&Key| OF_DETECTION.contains(&key.name);
        for key in DefaultsSection::KEYS.iter().filter(is_of_detection) {
            self.not_for_bridge(file.defaults.origin(key.name), key, "detect");
        }
        for camera in &file.cameras {
            for key in CameraSection::KEYS.iter().filter(is_of_detection) {
                self.not_for_bridge(camera.get_ref().origin(key.name), key, "detect");
            }
        }
    }

    fn not_for_bridge(&self, origin: Option<&Origin>, key: &Key, verb: &'static str) {
        let Some(origin @ Origin::File(_)) = origin else {
            return;
        };
        self.note(ConfigError::NotForBridge {
            place: self.place(origin),
            key: format!("{}.{}", key.section, key.name),
            verb,
        });
    }

    /// Notes what keeps cameras from being bridged.
    fn check_bridged(&self, file: &File, config: &Config) {
        let settings = Settings::default();
        let sections = self.sections(file, &settings, &self.defaults_of(file));
        for (origin, section) in sections {
            let place = || self.place(&origin);
            if section.rtsp.is_none() && section.device.is_none() {
                self.note(ConfigError::NothingToBridge { place: place() });
            }
            let twin_id = section.twin_id.as_ref().map(|given| given.value.as_str());
            let dials = config.cameras.iter().any(|camera| {
                Some(&*camera.id.twin_id) == twin_id && camera.connect == Connect::Accept
            });
            if !dials {
                continue;
            }
            match &config.hub {
                Some(hub) if hub.mode == HubMode::Direct => {
                    self.note(ConfigError::PeripheralDials { place: place() });
                }
                Some(hub) if hub.twin_id.is_empty() => {
                    self.note(ConfigError::NoNodeToDial { place: place() });
                }
                _ => {}
            }
        }
    }

    /// The defaults without what is wrong with them, which was noted before.
    pub(super) fn defaults_of(&self, file: &File) -> super::values::CameraConfig {
        let before = self.wrong.borrow().len();
        let defaults = self.defaults(file);
        self.wrong.borrow_mut().truncate(before);
        defaults
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Env;

    fn resolve(text: &str, env: &[(&str, &str)]) -> Result<Config, Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bridge.toml");
        std::fs::write(&path, text).unwrap();
        let env: Env = env.iter().copied().collect();
        let source = ConfigSource::read(Some(&path), &env).unwrap();
        source.resolve_for_bridge().map_err(|error| {
            let shown = format!("{} ", path.display());
            let sentences = error.sentences().into_iter();
            sentences.map(|line| line.replace(&shown, "")).collect()
        })
    }

    const HUB: (&str, &str) = ("PHYSTACK_SIMULATOR_URL", "http://hub");

    #[test]
    fn a_bridge_needs_no_twin_of_its_own_and_listens_beside_the_node() {
        let text = "[[cameras]]\ntwin_id = \"a\"\nrtsp = \"rtsp://10.0.0.2/s\"\nname = \"Door\"";
        let config = resolve(text, &[HUB]).unwrap();
        assert_eq!(config.http.listen.to_string(), "127.0.0.1:9465");
        assert_eq!(config.hub.unwrap().twin_id, "");
        assert_eq!(config.cameras.len(), 1);
        // A container has its variables for the node, too.
        let variables = [
            HUB,
            ("TWINSIGHT_RUNTIME__THREADS", "2"),
            ("TWIN_ID", "node-1"),
        ];
        let config = resolve(text, &variables).unwrap();
        assert_eq!(config.runtime.threads, 0);
        assert_eq!(config.hub.unwrap().twin_id, "node-1");
    }

    #[test]
    fn what_means_nothing_to_a_bridge_is_said() {
        let text = r#"
[http]
token_file = "/dev/null"
[runtime]
threads = 2
[telemetry]
trace_sample_ratio = 0.5
[[sinks]]
type = "mqtt"
url = "mqtt://broker"
[defaults]
model = "m"
max_fps = 2.0
rtsp_user = "admin"
[[cameras]]
twin_id = "a"
rtsp = "rtsp://10.0.0.2/s"
classes = ["person"]
[[cameras]]
twin_id = "b"
"#;
        let sentences = resolve(text, &[HUB]).unwrap_err();
        let found: Vec<&str> = sentences
            .iter()
            .filter_map(|line| line.split(" means nothing to a bridge").next())
            .collect();
        for expected in [
            "line 5: `runtime.threads`",
            "line 7: `telemetry.trace_sample_ratio`",
            "line 12: `defaults.model`",
            "line 13: `defaults.max_fps`",
            "line 18: `cameras.classes`",
        ] {
            assert!(found.contains(&expected), "{expected}: {sentences:#?}");
        }
        let all = sentences.join("\n");
        for part in [
            "`sinks` means nothing to a bridge, which does not detect",
            "`http.token_file` means nothing to a bridge, which does not serve an API",
            "line 19: this camera has neither `rtsp` nor `device`",
        ] {
            assert!(all.contains(part), "{part}: {all}");
        }
        assert!(!all.contains("rtsp_user"), "{all}");
    }

    #[test]
    fn a_camera_that_dials_needs_a_node_to_dial() {
        let text =
            "[[cameras]]\ntwin_id = \"a\"\nrtsp = \"rtsp://10.0.0.2/s\"\nconnect = \"accept\"";
        let sentences = resolve(text, &[HUB]).unwrap_err();
        assert!(
            sentences[0].contains("name the node's twin"),
            "{sentences:?}"
        );
        let config = resolve(text, &[HUB, ("TWIN_ID", "node-1")]).unwrap();
        assert_eq!(config.hub.unwrap().twin_id, "node-1");
        let direct = [
            ("PHYHUB_DIRECT", "true"),
            ("PHYHUB_URL", "http://hub"),
            ("DEVICE_ID", "d"),
            ("ACCESS_KEY", "k"),
        ];
        let sentences = resolve(text, &direct).unwrap_err();
        assert!(sentences[0].contains("in direct mode"), "{sentences:?}");
    }

    #[test]
    fn a_bridge_needs_a_hub() {
        let text =
            "[hub]\nmode = \"none\"\n[[cameras]]\ntwin_id = \"a\"\nrtsp = \"rtsp://10.0.0.2/s\"";
        let sentences = resolve(text, &[]).unwrap_err();
        assert!(
            sentences[0].contains("line 2: there is no hub"),
            "{sentences:?}"
        );
    }

    #[test]
    fn a_bridge_without_cameras_is_a_mistake() {
        let sentences = resolve("", &[HUB]).unwrap_err();
        assert!(sentences[0].contains("names no camera"), "{sentences:?}");
    }
}
