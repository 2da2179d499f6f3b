//! Checks `[defaults]` and `[[cameras]]`: each camera stream with its own settings over the defaults.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::error::ConfigError;
use super::file::{self, CameraSection, DefaultsSection, File, Given, Origin};
use super::resolve::{CAMERAS, Resolver};
use super::scene::SceneConfig;
use super::settings::{ListedCamera, Settings};
use super::shown::shown;
use super::source::{
    RtspConfig, RtspCredentials, RtspTransport, RtspUrl, SourceConfig, without_passwords,
};
use super::track::{MotionConfig, MotionMode, TrackConfig};
use super::values::{CameraConfig, Connect, DEFAULT_MODEL, Detections};
use twinsight_client::dialect::Dialect;
use twinsight_client::hub::HubOptions;
use twinsight_client::hub::text::redacted_url;
use twinsight_client::stream_id::StreamId;
use twinsight_media::codec::Codec;

/// The most camera streams that a node takes. Each has a thread and a connection of its own.
const MAX_STREAMS: usize = 1024;

/// The longest list of labels that a camera may report.
const MAX_CLASSES: usize = 512;

/// The longest label and the longest name of a model, in bytes.
const MAX_NAME_BYTES: usize = 128;

impl Resolver<'_> {
    pub(super) fn cameras(
        &self,
        file: &File,
        settings: &Settings,
        hub: Option<&HubOptions>,
    ) -> Vec<CameraConfig> {
        let defaults = self.defaults(file);
        let mut sections = self.sections(file, settings, &defaults);
        if let Some((first_too_many, _)) = sections.get(MAX_STREAMS) {
            self.note(ConfigError::TooManyStreams {
                place: self.place(first_too_many),
                found: sections.len(),
                limit: MAX_STREAMS,
            });
            sections.truncate(MAX_STREAMS);
        }
        let mut cameras: Vec<CameraConfig> = Vec::new();
        let mut of_twins: HashMap<Arc<str>, Vec<(StreamId, Origin)>> = HashMap::new();
        for (origin, section) in sections {
            let Some(camera) = self.camera(&origin, &section, file, &defaults, hub) else {
                continue;
            };
            let others = of_twins.entry(Arc::clone(&camera.id.twin_id)).or_default();
            let clash = others
                .iter()
                .find_map(|(other, first)| self.check_pair(&camera.id, &origin, other, first));
            match clash {
                Some(error) => self.note(error),
                None => {
                    others.push((camera.id.clone(), origin));
                    cameras.push(camera);
                }
            }
        }
        cameras
    }

    /// The settings of a camera that has none of its own.
    pub(super) fn defaults(&self, file: &File) -> CameraConfig {
        let mut defaults = self.settings("defaults", &file.defaults, &unset());
        defaults.track = self.track("defaults.track", &file.defaults.track, defaults.track);
        defaults
    }

    /// The cameras that are listed, in their order, with what is given for each of them. There may be too many.
    pub(super) fn sections(
        &self,
        file: &File,
        settings: &Settings,
        defaults: &CameraConfig,
    ) -> Vec<(Origin, CameraSection)> {
        let mut sections: Vec<(Origin, CameraSection)> = file
            .cameras
            .iter()
            .map(|spanned| {
                (
                    Origin::File(spanned.span().start),
                    spanned.get_ref().clone(),
                )
            })
            .collect();
        if let Some(listed) = settings.cameras() {
            sections = listed_by_the_hub(listed, &sections, defaults);
        }
        if let Some(listed) = self.variable(CAMERAS) {
            sections = listed_by_the_variable(&listed, &sections);
        }
        sections
    }

    /// Checks one camera. `None` means that it has no twin, which is noted as an error.
    fn camera(
        &self,
        origin: &Origin,
        section: &CameraSection,
        file: &File,
        defaults: &CameraConfig,
        hub: Option<&HubOptions>,
    ) -> Option<CameraConfig> {
        let mut camera = self.settings("cameras", &section.settings(), defaults);
        let Some(twin_id) = &section.twin_id else {
            self.note(ConfigError::CameraWithoutTwin {
                place: self.place(origin),
            });
            return None;
        };
        if let Some(given) = &section.name {
            let fits = !given.value.trim().is_empty()
                && given.value.len() <= 256
                && !given.value.contains(char::is_control);
            if fits {
                camera.name.clone_from(&given.value);
            } else {
                self.note(self.bad("cameras.name", given, "1 to 256 characters in one line"));
            }
        } else {
            camera.name.clone_from(&twin_id.value);
        }
        if let Err(error) = self.id("cameras.twin_id", twin_id, true) {
            self.note(error);
            return None;
        }
        if hub.is_some_and(|hub| hub.twin_id == twin_id.value) {
            self.note(self.bad(
                "cameras.twin_id",
                twin_id,
                "the camera's twin, because this is the node's own",
            ));
            return None;
        }
        camera.id.twin_id = twin_id.value.as_str().into();
        camera.source = self.source(origin, section, file);
        camera.track = self.track("cameras.track", &section.track, camera.track);
        camera.scene = self.scene(section);
        if hub.is_none() && section.rtsp.is_none() && section.device.is_none() {
            self.note(ConfigError::CameraWithoutSource {
                place: self.place(origin),
                twin_id: twin_id.value.clone(),
            });
        }
        Some(camera)
    }

    fn settings(
        &self,
        section: &str,
        given: &DefaultsSection,
        base: &CameraConfig,
    ) -> CameraConfig {
        let key = |name: &str| format!("{section}.{name}");
        let mut camera = base.clone();
        if let Some(given) = &given.model {
            let fits = (1..=MAX_NAME_BYTES).contains(&given.value.len())
                && !given.value.starts_with('.')
                && given
                    .value
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
            if fits {
                camera.model.clone_from(&given.value);
            } else {
                let takes =
                    "a name of letters, digits, `_`, `-` and `.`, without folder and ending";
                self.note(self.bad(&key("model"), given, takes));
            }
        }
        if let Some(given) = &given.connect {
            let chosen = self.choice(&key("connect"), given, Connect::ALL, Connect::as_str);
            camera.connect = self.or(chosen, camera.connect);
        }
        if let Some(given) = &given.stream {
            match self.id(&key("stream"), given, false) {
                Ok(()) => camera.id.stream = given.value.as_str().into(),
                Err(error) => self.note(error),
            }
        }
        if let Some(given) = &given.codecs {
            match self.codecs(&key("codecs"), given) {
                Ok(codecs) => camera.codecs = codecs,
                Err(error) => self.note(error),
            }
        }
        if let Some(given) = &given.max_fps {
            camera.max_fps = self.or(self.number(&key("max_fps"), given, 1000.0), camera.max_fps);
        }
        if let Some(given) = &given.max_age_ms {
            match self.integer(&key("max_age_ms"), given, (1, 60_000)) {
                Ok(ms) => camera.max_age = Duration::from_millis(u64::from(ms)),
                Err(error) => self.note(error),
            }
        }
        if let Some(given) = &given.min_score {
            match self.number(&key("min_score"), given, 1.0) {
                Ok(score) => {
                    #[expect(clippy::cast_possible_truncation, reason = "a score needs no 52 bits")]
                    let score = score as f32;
                    camera.min_score = score;
                }
                Err(error) => self.note(error),
            }
        }
        if let Some(given) = &given.classes {
            if given.value.iter().any(|label| label.trim().is_empty()) {
                self.note(self.bad(&key("classes"), given, "a list of the model's labels"));
            } else if given.value.len() > MAX_CLASSES
                || given.value.iter().any(|label| label.len() > MAX_NAME_BYTES)
            {
                let takes = format!("at most {MAX_CLASSES} labels of {MAX_NAME_BYTES} bytes each");
                let first = Given {
                    value: given
                        .value
                        .iter()
                        .map(|label| shown(label))
                        .take(4)
                        .collect::<Vec<_>>(),
                    origin: given.origin.clone(),
                };
                self.note(self.bad(&key("classes"), &first, &takes));
            } else {
                camera.classes.clone_from(&given.value);
            }
        }
        if let Some(given) = &given.emit_empty {
            camera.emit_empty = given.value;
        }
        if let Some(given) = &given.detections {
            let chosen = self.choice(
                &key("detections"),
                given,
                Detections::ALL,
                Detections::as_str,
            );
            camera.detections = self.or(chosen, camera.detections);
        }
        if let Some(given) = &given.motion {
            let chosen = self.choice(&key("motion"), given, MotionMode::ALL, MotionMode::as_str);
            camera.motion.mode = self.or(chosen, camera.motion.mode);
        }
        camera.motion.max_skip = self.ms(
            &key("motion_max_skip_ms"),
            given.motion_max_skip_ms.as_ref(),
            (100, 3_600_000),
            camera.motion.max_skip,
        );
        if let Some(given) = &given.dialect {
            let chosen = self.choice(&key("dialect"), given, Dialect::ALL, Dialect::as_str);
            camera.dialect = self.or(chosen, camera.dialect);
        }
        if let Some(given) = &given.allow_unsigned {
            camera.allow_unsigned = given.value;
        }
        camera
    }

    /// Where a camera's pictures come from, if it is no twin by itself.
    fn source(
        &self,
        origin: &Origin,
        section: &CameraSection,
        file: &File,
    ) -> Option<SourceConfig> {
        if section.rtsp.is_some() && section.device.is_some() {
            self.note(ConfigError::TwoSources {
                place: self.place(origin),
            });
            return None;
        }
        if section.rtsp.is_none() {
            for key in ["rtsp_user", "rtsp_password_file", "rtsp_transport"] {
                if let Some(origin) = section.origin(key) {
                    let place = self.place(origin);
                    self.note(ConfigError::WithoutRtsp { place, key });
                }
            }
        }
        if let Some(given) = &section.device {
            return match self.path("cameras.device", Some(given)) {
                Ok(path) => path.map(|path| SourceConfig::Device(path.into())),
                Err(error) => {
                    self.note(error);
                    None
                }
            };
        }
        let given = section.rtsp.as_ref()?;
        let Some((url, mut credentials)) = RtspUrl::parse(&given.value) else {
            let shown = Given {
                value: without_passwords(&redacted_url(&given.value)),
                origin: given.origin.clone(),
            };
            let takes = if given.value.starts_with("rtsps:") {
                "an address that begins with rtsp://, and switch plain RTSP on in the camera's settings: RTSP in TLS is not spoken"
            } else {
                "a camera's address like \"rtsp://192.168.1.20:554/stream1\", in which special characters of a password are \
                 written as %23 and the like, or stand in `rtsp_password_file`"
            };
            self.note(self.bad("cameras.rtsp", &shown, takes));
            return None;
        };
        let or_default = |own: &'_ Option<Given<String>>, default: &'_ Option<Given<String>>| {
            own.as_ref().or(default.as_ref()).cloned()
        };
        let defaults = &file.defaults;
        let user = or_default(&section.rtsp_user, &defaults.rtsp_user);
        let password = or_default(&section.rtsp_password_file, &defaults.rtsp_password_file);
        if credentials.is_some() {
            // What `[defaults]` say is for the cameras whose address does not say it.
            for key in ["rtsp_user", "rtsp_password_file"] {
                if let Some(origin) = section.origin(key) {
                    let place = self.place(origin);
                    self.note(ConfigError::RtspUserTwice { place, key });
                }
            }
        } else {
            credentials = self.or(self.beside_the_address(user, password), None);
        }
        let transport = or_default(&section.rtsp_transport, &defaults.rtsp_transport);
        let transport = transport.map_or(Ok(RtspTransport::Tcp), |given| {
            let key = "cameras.rtsp_transport";
            self.choice(key, &given, RtspTransport::ALL, RtspTransport::as_str)
        });
        Some(SourceConfig::Rtsp(RtspConfig {
            url,
            credentials,
            transport: self.or(transport, RtspTransport::Tcp),
        }))
    }

    /// Who asks an IP camera whose address does not say it.
    fn beside_the_address(
        &self,
        user: Option<Given<String>>,
        password: Option<Given<String>>,
    ) -> Result<Option<RtspCredentials>, ConfigError> {
        match (user, password) {
            (None, None) => Ok(None),
            (None, Some(password)) => Err(ConfigError::RtspWithoutUser {
                place: self.place(&password.origin),
            }),
            (Some(user), None) => Err(ConfigError::RtspWithoutPassword {
                place: self.place(&user.origin),
            }),
            (Some(user), Some(file)) => Ok(Some(RtspCredentials {
                user: user.value,
                password: self.secret_file("cameras.rtsp_password_file", &file)?,
            })),
        }
    }

    /// Notes what is wrong with two streams of one twin beside each other.
    fn check_pair(
        &self,
        id: &StreamId,
        origin: &Origin,
        other: &StreamId,
        first: &Origin,
    ) -> Option<ConfigError> {
        if id.stream == other.stream {
            return Some(ConfigError::Duplicate {
                place: self.place(origin),
                first: self.place(first),
                twin_id: id.twin_id.to_string(),
                stream: id.stream.to_string(),
            });
        }
        let (shorter, longer) = if id.stream.len() < other.stream.len() {
            (&id.stream, &other.stream)
        } else {
            (&other.stream, &id.stream)
        };
        let is_ambiguous = longer
            .strip_prefix(shorter.as_ref())
            .is_some_and(|rest| rest.starts_with('-'));
        is_ambiguous.then(|| ConfigError::AmbiguousStream {
            place: self.place(origin),
            twin_id: id.twin_id.to_string(),
            longer: longer.to_string(),
            shorter: shorter.to_string(),
        })
    }

    fn codecs(&self, key: &str, given: &Given<Vec<String>>) -> Result<Vec<Codec>, ConfigError> {
        let built_in = Codec::built_in();
        let known = |name: &String| built_in.iter().copied().find(|c| c.as_str() == name);
        let codecs: Option<Vec<Codec>> = given.value.iter().map(known).collect();
        codecs.filter(|codecs| !codecs.is_empty()).ok_or_else(|| {
            let quoted: Vec<_> = built_in.iter().map(|c| format!("\"{c}\"")).collect();
            let mut takes = format!("[{}], what this build decodes", quoted.join(", "));
            let left_out = |codec: &&Codec| {
                !built_in.contains(codec) && given.value.iter().any(|name| name == codec.as_str())
            };
            if let Some(codec) = Codec::ALL.iter().find(left_out) {
                takes.push_str(&format!(
                    "; for `{codec}` build it with the feature `{codec}`"
                ));
            }
            self.bad(key, given, &takes)
        })
    }
}

/// The cameras of the hub's list, which takes the place of the file's. A twin that is listed by its id alone stands for all
/// of its streams in the file. An entry with settings is one stream; what it does not give is taken from the file's entry of
/// that stream.
fn listed_by_the_hub(
    listed: &[ListedCamera],
    in_file: &[(Origin, CameraSection)],
    defaults: &CameraConfig,
) -> Vec<(Origin, CameraSection)> {
    let stream = |section: &CameraSection| {
        section.stream.as_ref().map_or_else(
            || defaults.id.stream.to_string(),
            |given| given.value.clone(),
        )
    };
    let mut sections = Vec::new();
    for camera in listed {
        let origin = Origin::Setting(camera.name.clone());
        let described: Vec<_> = in_file
            .iter()
            .filter(|(_, section)| {
                twin_of(section) == twin_of(&camera.section)
                    && (camera.every_stream || stream(section) == stream(&camera.section))
            })
            .collect();
        for (_, section) in &described {
            let mut section = section.clone();
            section.overlay(&camera.section);
            sections.push((origin.clone(), section));
        }
        if described.is_empty() {
            sections.push((origin, camera.section.clone()));
        }
        // A longer list is refused in the end, so the rest of it need not be put together.
        if sections.len() > MAX_STREAMS {
            break;
        }
    }
    sections
}

/// If `TWINSIGHT_CAMERAS` lists twins, the cameras are these and no others, with what is known of them.
fn listed_by_the_variable(
    listed: &Given<String>,
    known: &[(Origin, CameraSection)],
) -> Vec<(Origin, CameraSection)> {
    let mut sections = Vec::new();
    for twin_id in file::list(&listed.value) {
        let described = known
            .iter()
            .filter(|(_, section)| twin_of(section) == Some(&twin_id));
        let before = sections.len();
        sections.extend(described.cloned());
        if sections.len() == before {
            let section = CameraSection {
                twin_id: Some(Given {
                    value: twin_id,
                    origin: listed.origin.clone(),
                }),
                ..CameraSection::default()
            };
            sections.push((listed.origin.clone(), section));
        }
    }
    sections
}

fn twin_of(section: &CameraSection) -> Option<&String> {
    section.twin_id.as_ref().map(|given| &given.value)
}

/// The settings of a camera for which nothing is configured.
fn unset() -> CameraConfig {
    CameraConfig {
        id: StreamId::new("", "default"),
        name: String::new(),
        model: DEFAULT_MODEL.to_owned(),
        connect: Connect::Dial,
        codecs: Codec::built_in().to_vec(),
        max_fps: 10.0,
        max_age: Duration::from_millis(500),
        min_score: 0.4,
        classes: Vec::new(),
        emit_empty: true,
        dialect: Dialect::Current,
        detections: Detections::All,
        motion: MotionConfig::default(),
        track: TrackConfig::default(),
        scene: SceneConfig::default(),
        allow_unsigned: false,
        source: None,
    }
}
