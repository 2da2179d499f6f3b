//! Checks `[defaults]` and `[[cameras]]`: each camera stream with its own settings over the defaults.

use std::time::Duration;

use super::StreamId;
use super::error::{ConfigError, Place};
use super::file::{self, CameraSection, DefaultsSection, File, Given, Origin};
use super::resolve::{CAMERAS, Resolver};
use super::settings::{ListedCamera, Settings};
use super::values::{CameraConfig, Codec, Connect, Dialect, HubConfig};

impl Resolver<'_> {
    pub(super) fn cameras(
        &self,
        file: &File,
        settings: &Settings,
        hub: &HubConfig,
    ) -> Result<Vec<CameraConfig>, ConfigError> {
        let defaults = self.settings("defaults", &file.defaults, &unset())?;
        let mut sections: Vec<(Place, CameraSection)> = file
            .cameras
            .iter()
            .map(|spanned| {
                let place = self.place(&Origin::File(spanned.span().start));
                (place, spanned.get_ref().clone())
            })
            .collect();
        if let Some(listed) = settings.cameras() {
            sections = self.listed_by_the_hub(listed, &sections, &defaults);
        }
        if let Some(listed) = self.variable(CAMERAS) {
            sections = self.listed_by_the_variable(&listed, &sections);
        }
        let mut cameras: Vec<(CameraConfig, Place)> = Vec::new();
        for (place, section) in sections {
            let camera = self.camera(&place, &section, &defaults, hub)?;
            for (other, first) in &cameras {
                check_pair(&camera.id, &place, &other.id, first)?;
            }
            cameras.push((camera, place));
        }
        Ok(cameras.into_iter().map(|(camera, _)| camera).collect())
    }

    /// The hub's list in the place of the file's, with what the file says of the same streams: of all
    /// streams of a twin that is listed by its id alone, of the one stream of an entry with settings,
    /// which win over the file's.
    fn listed_by_the_hub(
        &self,
        listed: &[ListedCamera],
        in_file: &[(Place, CameraSection)],
        defaults: &CameraConfig,
    ) -> Vec<(Place, CameraSection)> {
        let stream = |section: &CameraSection| {
            section.stream.as_ref().map_or_else(
                || defaults.id.stream.to_string(),
                |given| given.value.clone(),
            )
        };
        let mut sections = Vec::new();
        for camera in listed {
            let place = self.place(&Origin::Setting(camera.name.clone()));
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
                sections.push((place.clone(), section));
            }
            if described.is_empty() {
                sections.push((place, camera.section.clone()));
            }
        }
        sections
    }

    /// Where `TWINSIGHT_CAMERAS` lists twins: those alone, with what is known of them.
    fn listed_by_the_variable(
        &self,
        listed: &Given<String>,
        known: &[(Place, CameraSection)],
    ) -> Vec<(Place, CameraSection)> {
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
                sections.push((self.place(&listed.origin), section));
            }
        }
        sections
    }

    fn camera(
        &self,
        place: &Place,
        section: &CameraSection,
        defaults: &CameraConfig,
        hub: &HubConfig,
    ) -> Result<CameraConfig, ConfigError> {
        let twin_id = section
            .twin_id
            .as_ref()
            .ok_or_else(|| ConfigError::CameraWithoutTwin {
                place: place.clone(),
            })?;
        self.id("cameras.twin_id", twin_id, true)?;
        if twin_id.value == hub.twin_id {
            return Err(self.bad(
                "cameras.twin_id",
                twin_id,
                "the camera's twin, because this is the node's own",
            ));
        }
        let mut camera = self.settings("cameras", &section.settings(), defaults)?;
        camera.id.twin_id = twin_id.value.as_str().into();
        camera.name = match &section.name {
            Some(given) if given.value.trim().is_empty() || given.value.len() > 256 => {
                return Err(self.bad("cameras.name", given, "1 to 256 characters"));
            }
            Some(given) => given.value.clone(),
            None => twin_id.value.clone(),
        };
        Ok(camera)
    }

    fn settings(
        &self,
        section: &str,
        given: &DefaultsSection,
        base: &CameraConfig,
    ) -> Result<CameraConfig, ConfigError> {
        let key = |name: &str| format!("{section}.{name}");
        let mut camera = base.clone();
        if let Some(given) = &given.model {
            let fits = !given.value.is_empty()
                && !given.value.starts_with('.')
                && given
                    .value
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
            if !fits {
                let takes =
                    "a name of letters, digits, `_`, `-` and `.`, without folder and ending";
                return Err(self.bad(&key("model"), given, takes));
            }
            camera.model.clone_from(&given.value);
        }
        if let Some(given) = &given.connect {
            camera.connect = self.choice(&key("connect"), given, Connect::ALL, Connect::as_str)?;
        }
        if let Some(given) = &given.stream {
            self.id(&key("stream"), given, false)?;
            camera.id.stream = given.value.as_str().into();
        }
        if let Some(given) = &given.codecs {
            camera.codecs = self.codecs(&key("codecs"), given)?;
        }
        if let Some(given) = &given.max_fps {
            camera.max_fps = self.number(&key("max_fps"), given, 1000.0)?;
        }
        if let Some(given) = &given.max_age_ms {
            let ms = self.integer(&key("max_age_ms"), given, (1, 60_000))?;
            camera.max_age = Duration::from_millis(u64::from(ms));
        }
        if let Some(given) = &given.min_score {
            let score = self.number(&key("min_score"), given, 1.0)?;
            #[expect(clippy::cast_possible_truncation, reason = "a score needs no 52 bits")]
            let score = score as f32;
            camera.min_score = score;
        }
        if let Some(given) = &given.classes {
            if given.value.iter().any(|label| label.trim().is_empty()) {
                return Err(self.bad(&key("classes"), given, "a list of the model's labels"));
            }
            camera.classes.clone_from(&given.value);
        }
        if let Some(given) = &given.emit_empty {
            camera.emit_empty = given.value;
        }
        if let Some(given) = &given.dialect {
            camera.dialect = self.choice(&key("dialect"), given, Dialect::ALL, Dialect::as_str)?;
        }
        if let Some(given) = &given.allow_unsigned {
            camera.allow_unsigned = given.value;
        }
        Ok(camera)
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

fn twin_of(section: &CameraSection) -> Option<&String> {
    section.twin_id.as_ref().map(|given| &given.value)
}

/// What a camera has when nothing is configured.
fn unset() -> CameraConfig {
    CameraConfig {
        id: StreamId::new("", "default"),
        name: String::new(),
        model: "nanodet_g_coco".to_owned(),
        connect: Connect::Dial,
        codecs: Codec::built_in().to_vec(),
        max_fps: 10.0,
        max_age: Duration::from_millis(500),
        min_score: 0.4,
        classes: Vec::new(),
        emit_empty: true,
        dialect: Dialect::Current,
        allow_unsigned: false,
    }
}

fn check_pair(
    id: &StreamId,
    place: &Place,
    other: &StreamId,
    first: &Place,
) -> Result<(), ConfigError> {
    if id.twin_id != other.twin_id {
        return Ok(());
    }
    if id.stream == other.stream {
        return Err(ConfigError::Duplicate {
            place: place.clone(),
            first: first.clone(),
            twin_id: id.twin_id.to_string(),
            stream: id.stream.to_string(),
        });
    }
    let (shorter, longer) = if id.stream.len() < other.stream.len() {
        (&id.stream, &other.stream)
    } else {
        (&other.stream, &id.stream)
    };
    if longer
        .strip_prefix(shorter.as_ref())
        .is_some_and(|rest| rest.starts_with('-'))
    {
        return Err(ConfigError::AmbiguousStream {
            place: place.clone(),
            twin_id: id.twin_id.to_string(),
            longer: longer.to_string(),
            shorter: shorter.to_string(),
        });
    }
    Ok(())
}
