//! Reads the settings of the node's own twin on the hub (`properties.desired.settings`). JSON comes in, and the keys that a
//! hub may set go out in the mirror of the file. Their names are those of the file in camelCase: of `[defaults]` `maxFps`,
//! `maxAgeMs`, `minScore`, `classes`, `emitEmpty` and `model`, and `cameras`, a list of twin ids or of objects with `twinId`
//! and any key of `[[cameras]]` that opens no connection to an address and reads no file.

use serde_json::{Map, Value};

use super::error::{ConfigError, Place};
use super::file::{CameraSection, DefaultsSection, File, Given, Origin};
use super::shown::shown;
use super::syntax;

/// The keys of `[defaults]` that a hub may set. None of them needs a new connection.
const DEFAULTS: &[&str] = &[
    "max_fps",
    "max_age_ms",
    "min_score",
    "classes",
    "emit_empty",
    "model",
];

/// The keys of a camera that a hub may not set. Whoever has the hub would make the node connect to any address of its network with
/// them, or read any of its files and send it there as a password.
const OF_THE_FILE_ALONE: &[&str] = &[
    "rtsp",
    "device",
    "rtsp_user",
    "rtsp_password_file",
    "rtsp_transport",
];

/// The setting with the list of cameras.
const CAMERAS: &str = "cameras";

/// The most cameras that are taken from a hub. Each has a thread and a connection of its own.
const MAX_CAMERAS: usize = 256;

/// The most bytes of settings that a node takes. 256 cameras with all of their keys take a fourth of it.
const MAX_BYTES: usize = 1 << 20;

/// What the hub sets, a layer between the environment and the file. It was read, and is checked when all layers are merged.
///
/// - `maxFps`, `maxAgeMs`, `minScore`, `classes`, `emitEmpty`, `model` take the place of `[defaults]`; a
///   camera's own value in the file stays. A model has to be installed.
/// - `cameras` takes the place of the file's list. An entry that is a twin id stands for every stream of
///   that twin in the file, with all that the file says of it, or for one with the defaults. An entry that is an
///   object (`twinId` and any key of `[[cameras]]` in camelCase, but none of `rtsp`, `device` and `rtsp_…`) is one stream; what it
///   does not give is as in the file's entry of the same twin and stream, if there is one. `TWINSIGHT_CAMERAS` wins over both lists.
/// - A setting that is null is not set. Anything else is refused, and the last good settings stay.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    defaults: DefaultsSection,
    cameras: Option<Vec<ListedCamera>>,
}

/// A camera in the hub's list.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ListedCamera {
    /// What sentences call the entry, such as `cameras[0]`.
    pub(super) name: String,
    /// The entry is an id alone, and stands for every stream of the twin that the file knows.
    pub(super) every_stream: bool,
    /// What the hub sets for the camera.
    pub(super) section: CameraSection,
}

impl Settings {
    /// Reads `properties.desired.settings`. A setting that is null counts as not set, and so do all if the whole is null or
    /// missing.
    ///
    /// # Errors
    /// Names the first setting that does not exist, or whose value has the wrong type.
    pub fn read(value: Option<&Value>) -> Result<Self, ConfigError> {
        if value.is_some_and(is_too_large) {
            return Err(ConfigError::TooManySettings {
                place: Place::Setting("settings".to_owned()),
                limit: MAX_BYTES,
            });
        }
        let fields = match value {
            None | Some(Value::Null) => return Ok(Self::default()),
            Some(Value::Object(fields)) => fields,
            Some(other) => {
                return Err(wrong_type("settings", "settings", "an object", other));
            }
        };
        let mut settings = Self::default();
        for (name, value) in given(fields) {
            if name == CAMERAS {
                settings.cameras = Some(cameras(value)?);
                continue;
            }
            let key = snake_case(name);
            if !DEFAULTS.contains(&key.as_str()) || *name != camel_case(&key) {
                return Err(unknown(name, &key));
            }
            settings
                .defaults
                .set_json(&key, name, value)
                .map_err(|takes| wrong_type(name, &format!("defaults.{key}"), takes, value))?;
        }
        Ok(settings)
    }

    pub(super) fn defaults(&self) -> &DefaultsSection {
        &self.defaults
    }

    pub(super) fn cameras(&self) -> Option<&[ListedCamera]> {
        self.cameras.as_deref()
    }
}

fn cameras(value: &Value) -> Result<Vec<ListedCamera>, ConfigError> {
    let Value::Array(items) = value else {
        let takes = "a list of twin ids or objects";
        return Err(wrong_type(CAMERAS, CAMERAS, takes, value));
    };
    if items.len() > MAX_CAMERAS {
        return Err(ConfigError::TooManyCameras {
            place: Place::Setting(CAMERAS.to_owned()),
            found: items.len(),
            limit: MAX_CAMERAS,
        });
    }
    items
        .iter()
        .enumerate()
        .map(|(n, item)| camera(format!("{CAMERAS}[{n}]"), item))
        .collect()
}

/// True for JSON that has more bytes than a node takes, however deep it is.
fn is_too_large(settings: &Value) -> bool {
    let mut bytes = 0;
    let mut waiting = vec![settings];
    while let Some(value) = waiting.pop() {
        // This is about what it takes as text.
        bytes += match value {
            Value::String(text) => text.len() + 2,
            Value::Object(fields) => {
                waiting.extend(fields.values());
                fields.keys().map(|key| key.len() + 4).sum::<usize>() + 2
            }
            Value::Array(items) => {
                waiting.extend(items);
                items.len() + 2
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => 5,
        };
        if bytes > MAX_BYTES {
            return true;
        }
    }
    false
}

fn camera(name: String, item: &Value) -> Result<ListedCamera, ConfigError> {
    let mut section = CameraSection::default();
    match item {
        Value::String(twin_id) => {
            section.twin_id = Some(Given {
                value: twin_id.clone(),
                origin: Origin::Setting(name.clone()),
            });
        }
        Value::Object(fields) => {
            for (field, value) in given(fields) {
                let (setting, key) = (format!("{name}.{field}"), snake_case(field));
                if OF_THE_FILE_ALONE.contains(&key.as_str()) && *field == camel_case(&key) {
                    return Err(ConfigError::NotASetting {
                        place: Place::Setting(setting),
                        key: format!("cameras.{key}"),
                    });
                }
                let known = section.set_json(&key, &setting, value).map_err(|takes| {
                    wrong_type(&setting, &format!("cameras.{key}"), takes, value)
                })?;
                // `twin_id` is how the file writes it, and the hub writes `twinId`.
                if !known || *field != camel_case(&key) {
                    let keys = CameraSection::KEYS
                        .iter()
                        .filter(|key| !OF_THE_FILE_ALONE.contains(&key.name))
                        .map(|key| camel_case(key.name));
                    return Err(ConfigError::UnknownSetting {
                        place: Place::Setting(setting.clone()),
                        nearest: nearest(field, keys),
                    });
                }
            }
        }
        other => return Err(wrong_type(&name, CAMERAS, "a twin id or an object", other)),
    }
    Ok(ListedCamera {
        name,
        every_stream: item.is_string(),
        section,
    })
}

/// The fields that are not null.
fn given(fields: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    fields.iter().filter(|(_, value)| !value.is_null())
}

fn unknown(name: &str, key: &str) -> ConfigError {
    let place = Place::Setting(name.to_owned());
    let of_the_file = DefaultsSection::KEYS.iter().any(|known| known.name == key);
    if of_the_file && name == camel_case(key) {
        let key = format!("defaults.{key}");
        return ConfigError::NotASetting { place, key };
    }
    if File::SECTIONS.contains(&name) {
        let key = name.to_owned();
        return ConfigError::NotASetting { place, key };
    }
    let names = DEFAULTS.iter().map(|key| camel_case(key));
    ConfigError::UnknownSetting {
        place,
        nearest: nearest(name, names.chain([CAMERAS.to_owned()])),
    }
}

fn nearest(name: &str, known: impl Iterator<Item = String>) -> Option<String> {
    let known: Vec<String> = known.collect();
    syntax::nearest(name, known.iter().map(String::as_str)).map(str::to_owned)
}

fn wrong_type(setting: &str, key: &str, takes: &'static str, value: &Value) -> ConfigError {
    ConfigError::WrongType {
        place: Place::Setting(setting.to_owned()),
        key: key.to_owned(),
        takes,
        found: match value {
            Value::Null => "null".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Number(value) => format!("the number {value}"),
            Value::String(text) => format!("the text \"{}\"", shown(text)),
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "an object".to_owned(),
        },
    }
}

fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

fn camel_case(key: &str) -> String {
    let mut camel = String::with_capacity(key.len());
    let mut parts = key.split('_');
    camel.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let mut letters = part.chars();
        camel.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        camel.push_str(letters.as_str());
    }
    camel
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
