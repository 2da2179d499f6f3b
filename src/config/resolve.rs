//! Makes a [`Config`] of the file, the environment and the settings of the hub, at the start and at each reload. It merges
//! them and makes every check; those of the sections are in `sections` and `cameras`. `TWINSIGHT_*` variables win over the
//! official clients' variables, which win over settings of the hub, which win over the file, which wins over the defaults.

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};

use super::edit::{EditError, edit_scene};
use super::env::Env;
use super::error::{ConfigError, Place, line};
use super::file::{self, File, Given, Origin};
use super::node::ShareConfig;
use super::scene_json::SceneJson;
use super::settings::Settings;
use super::syntax;
use super::values::Config;
use twinsight_client::secret::Secret;
use twinsight_client::secret_file::{read_secret_file, read_small_file};
use twinsight_client::stream_id::StreamId;

const PREFIX: &str = "TWINSIGHT_";

/// The longest file. The settings of a thousand cameras take a fourth of it.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The sections of which there may be many, so that no variable means one of them.
const IN_LISTS: [&str; 3] = ["cameras", "models", "sinks"];

/// True for a key that may be there many times.
fn is_in_list(key: &file::Key) -> bool {
    let section = key.section.split('.').next().unwrap_or_default();
    IN_LISTS.contains(&section)
}

pub(super) const CAMERAS: &str = "TWINSIGHT_CAMERAS";
pub(super) const ACCESS_KEY: &str = "TWINSIGHT_HUB__ACCESS_KEY";
pub(super) const TOKEN: &str = "TWINSIGHT_HTTP__TOKEN";

/// Where a configuration comes from, as it was at one moment. A node that follows its file reads it again and again.
#[derive(Debug, Clone)]
pub struct ConfigSource {
    path: Option<PathBuf>,
    env: Env,
    text: String,
}

impl ConfigSource {
    /// Reads the file, if one is named.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(path: Option<&Path>, env: &Env) -> Result<Self, ConfigError> {
        let text = match path {
            Some(path) => {
                read_config_file(path).map_err(|source| ConfigError::unreadable(path, source))?
            }
            None => String::new(),
        };
        Ok(Self {
            path: path.map(Path::to_path_buf),
            env: env.clone(),
            text,
        })
    }

    /// Reads the same file again.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn reread(&self) -> Result<Self, ConfigError> {
        Self::read(self.path.as_deref(), &self.env)
    }

    /// The path of the file, if one was named.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The text of the file. Without a file it is empty.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The same with these zones, lines and masks of a camera.
    ///
    /// # Errors
    /// When it is not clear where in the text they belong, or the text would be too long to be read again.
    pub fn edited(&self, camera: &StreamId, scene: &SceneJson) -> Result<Self, EditError> {
        let text = edit_scene(&self.text, camera, scene)?;
        if u64::try_from(text.len()).map_or(true, |bytes| bytes > MAX_FILE_BYTES) {
            return Err(EditError::TooLong {
                bytes: text.len(),
                limit: MAX_FILE_BYTES,
            });
        }
        Ok(Self {
            text,
            ..self.clone()
        })
    }

    /// True for a file with nothing in it. Some editors leave such a file for a moment while they write.
    pub fn is_empty(&self) -> bool {
        self.text.trim().is_empty()
    }

    /// The error for a file that had something in it before and is empty now.
    pub fn emptied(&self) -> ConfigError {
        ConfigError::Emptied {
            path: self.path.clone().unwrap_or_default(),
        }
    }

    /// Puts the settings of the hub and the variables over what the file says, and gives what checks the outcome.
    pub(super) fn merge<'a>(
        &'a self,
        path: &'a Path,
        file: &mut File,
        settings: &Settings,
    ) -> Resolver<'a> {
        let resolver = Resolver {
            path,
            text: &self.text,
            env: &self.env,
            file_mode: file.hub.mode.clone(),
            wrong: RefCell::default(),
        };
        file.defaults.overlay(settings.defaults());
        resolver.overlay_variables(file);
        resolver
    }

    /// Merges the file, the variables and the settings of the hub, and checks everything. Relative paths in the file are
    /// relative to the working directory.
    ///
    /// # Errors
    /// All that is wrong, as sentences with place and remedy, in the order of the file.
    pub fn resolve(&self, settings: &Settings) -> Result<Config, ConfigError> {
        let path = self.path.as_deref().unwrap_or(Path::new(""));
        let (mut file, mut wrong) = syntax::parse(path, &self.text)?;
        let resolver = self.merge(path, &mut file, settings);
        let hub = resolver.hub(&file);
        let ice = resolver.ice(&file, hub.as_ref().is_some_and(|hub| hub.turn.is_some()));
        let http = resolver.http(&file);
        let node = resolver.node(&file, hub.as_ref());
        let runtime = resolver.runtime(&file);
        let models = resolver.models(&file);
        let telemetry = resolver.telemetry(&file);
        let sinks = resolver.sinks(&file);
        let cameras = resolver.cameras(&file, settings, hub.as_ref());
        resolver.check_share(&file, &node, &cameras);
        // The cameras of a pool are not all one node's.
        if hub.is_some() && node.share == ShareConfig::All {
            resolver.check_ports(&file, &ice, cameras.len());
        }
        let mut more = resolver.wrong.into_inner();
        // A value that seems to be missing may be one that could not be read.
        if !wrong.is_empty() {
            more.retain(|error| !error.is_missing());
        }
        wrong.append(&mut more);
        match ConfigError::all(wrong) {
            Some(error) => Err(error),
            None => Ok(Config {
                hub,
                ice,
                http,
                node,
                runtime,
                models,
                telemetry,
                sinks,
                cameras,
            }),
        }
    }
}

/// Reads the text of a configuration. A path to anything but a regular file, or to one that is too long, is an error.
pub(super) fn read_config_file(path: &Path) -> io::Result<String> {
    String::from_utf8(read_small_file(path, MAX_FILE_BYTES)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is no UTF-8 text"))
}

impl Config {
    /// Reads the file, if one is named, and the variables, and checks everything. A node starts with this, before its hub has
    /// told it any settings.
    ///
    /// # Errors
    /// All that is wrong, as sentences with place and remedy, in the order of the file.
    pub fn load(path: Option<&Path>, env: &Env) -> Result<Self, ConfigError> {
        ConfigSource::read(path, env)?.resolve(&Settings::default())
    }
}

/// What the checks of all sections share: the sources, and the list of what is wrong.
pub(super) struct Resolver<'a> {
    path: &'a Path,
    text: &'a str,
    pub(super) env: &'a Env,
    /// The mode that the file gives. The file's address belongs to this mode and no other.
    pub(super) file_mode: Option<Given<String>>,
    /// Everything that was found to be wrong so far.
    pub(super) wrong: RefCell<Vec<ConfigError>>,
}

impl Resolver<'_> {
    /// Notes an error and goes on with another value, so that all that is wrong is told at once.
    pub(super) fn or<T>(&self, checked: Result<T, ConfigError>, otherwise: T) -> T {
        checked.unwrap_or_else(|error| {
            self.note(error);
            otherwise
        })
    }

    /// Notes that something is wrong.
    pub(super) fn note(&self, error: ConfigError) {
        self.wrong.borrow_mut().push(error);
    }

    pub(super) fn place(&self, origin: &Origin) -> Place {
        match origin {
            Origin::File(byte) => line(self.path, self.text, *byte),
            Origin::Variable(name) => Place::Variable(name.clone()),
            Origin::Setting(name) => Place::Setting(name.clone()),
        }
    }

    fn overlay_variables(&self, file: &mut File) {
        for name in self.env.as_map().keys() {
            let Some(rest) = name.strip_prefix(PREFIX) else {
                continue;
            };
            if [CAMERAS, ACCESS_KEY, TOKEN].contains(&name.as_str()) {
                continue;
            }
            let (section, key) = rest.rsplit_once("__").unwrap_or((rest, ""));
            let section = section.replace("__", ".").to_ascii_lowercase();
            let key = key.to_ascii_lowercase();
            if !file::keys().any(|k| k.section == section && k.name == key && !is_in_list(k)) {
                self.note(self.unknown_variable(name));
                continue;
            }
            let Some(text) = self.env.get(name) else {
                continue;
            };
            if let Err(takes) = file.set(&section, &key, name, text) {
                self.note(ConfigError::WrongType {
                    place: Place::Variable(name.clone()),
                    key: format!("{section}.{key}"),
                    takes,
                    found: format!("the text \"{text}\""),
                });
            }
        }
    }

    fn unknown_variable(&self, name: &str) -> ConfigError {
        // All of them begin with the same prefix, which would make any two of them look near.
        let known: Vec<String> = file::keys()
            .filter(|key| !is_in_list(key))
            .map(|key| {
                let section = key.section.replace('.', "__");
                format!("{section}__{}", key.name).to_ascii_uppercase()
            })
            .chain([CAMERAS, ACCESS_KEY, TOKEN].map(|name| name[PREFIX.len()..].to_owned()))
            .collect();
        let rest = name.strip_prefix(PREFIX).unwrap_or(name);
        ConfigError::UnknownVariable {
            name: name.to_owned(),
            nearest: syntax::nearest(rest, known.iter().map(String::as_str))
                .map(|near| format!("{PREFIX}{near}")),
        }
    }

    /// A text from its `TWINSIGHT_*` variable, else from an official variable, else from the file.
    pub(super) fn text(
        &self,
        given: Option<&Given<String>>,
        official: &[&str],
    ) -> Option<Given<String>> {
        given
            .filter(|given| matches!(given.origin, Origin::Variable(_)))
            .cloned()
            .or_else(|| official.iter().find_map(|name| self.variable(name)))
            .or_else(|| given.cloned())
    }

    pub(super) fn variable(&self, name: &str) -> Option<Given<String>> {
        Some(Given {
            value: self.env.get(name)?.to_owned(),
            origin: Origin::Variable(name.to_owned()),
        })
    }

    pub(super) fn bad<T: std::fmt::Debug>(
        &self,
        key: &str,
        given: &Given<T>,
        takes: &str,
    ) -> ConfigError {
        ConfigError::BadValue {
            place: self.place(&given.origin),
            key: key.to_owned(),
            found: format!("{:?}", given.value),
            takes: takes.to_owned(),
        }
    }

    pub(super) fn choice<E: Copy>(
        &self,
        key: &str,
        given: &Given<String>,
        all: &[E],
        text: fn(E) -> &'static str,
    ) -> Result<E, ConfigError> {
        all.iter()
            .copied()
            .find(|each| text(*each) == given.value)
            .ok_or_else(|| {
                let quoted: Vec<_> = all
                    .iter()
                    .map(|each| format!("\"{}\"", text(*each)))
                    .collect();
                self.bad(key, given, &quoted.join(" or "))
            })
    }

    pub(super) fn integer(
        &self,
        key: &str,
        given: &Given<i64>,
        (min, max): (u32, u32),
    ) -> Result<u32, ConfigError> {
        u32::try_from(given.value)
            .ok()
            .filter(|value| (min..=max).contains(value))
            .ok_or_else(|| self.bad(key, given, &format!("a whole number from {min} to {max}")))
    }

    pub(super) fn number(
        &self,
        key: &str,
        given: &Given<f64>,
        max: f64,
    ) -> Result<f64, ConfigError> {
        if (0.0..=max).contains(&given.value) {
            Ok(given.value)
        } else {
            Err(self.bad(key, given, &format!("a number from 0 to {max}")))
        }
    }

    /// Checks a name that goes into signals and labels. It may be any text of one word, such as a UUID, but no address.
    pub(super) fn id(
        &self,
        key: &str,
        given: &Given<String>,
        colon: bool,
    ) -> Result<(), ConfigError> {
        if given.value.contains("://") {
            let (place, key) = (self.place(&given.origin), key.to_owned());
            return Err(if key == "cameras.twin_id" {
                ConfigError::AddressAsTwin { place, key }
            } else {
                ConfigError::AddressAsName { place, key }
            });
        }
        let fits = (1..=256).contains(&given.value.len())
            && !given
                .value
                .contains(|c: char| c.is_whitespace() || c.is_control() || (c == ':' && !colon));
        let takes = if colon {
            "1 to 256 characters without blanks"
        } else {
            "1 to 256 characters without blanks and colons"
        };
        fits.then_some(())
            .ok_or_else(|| self.bad(key, given, takes))
    }

    pub(super) fn path(
        &self,
        key: &str,
        given: Option<&Given<String>>,
    ) -> Result<Option<PathBuf>, ConfigError> {
        match given {
            Some(given) if given.value.is_empty() => Err(self.bad(key, given, "a path")),
            given => Ok(given.map(|given| PathBuf::from(&given.value))),
        }
    }

    /// A secret from its own variable, else from the file that its own `*_FILE` variable names, else from an official
    /// variable, else from the file that the configuration names.
    pub(super) fn secret(
        &self,
        key: &str,
        own: &str,
        official: &[&str],
        file: Option<&Given<String>>,
    ) -> Result<Option<Secret>, ConfigError> {
        let visible = |text: &str| {
            (!text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()))
                .then(|| Secret::new(text))
        };
        let in_variable = |given: Given<String>| {
            visible(&given.value).ok_or_else(|| match given.origin {
                Origin::Variable(name) => ConfigError::SecretVariableUnusable { name },
                Origin::File(_) | Origin::Setting(_) => {
                    unreachable!("`variable` gives variables")
                }
            })
        };
        if let Some(given) = self.variable(own) {
            return in_variable(given).map(Some);
        }
        let Some(given) = self.text(file, official) else {
            return Ok(None);
        };
        if official
            .iter()
            .any(|name| given.origin == Origin::Variable((*name).to_owned()))
        {
            return in_variable(given).map(Some);
        }
        self.secret_file(key, &given).map(Some)
    }

    /// Reads the file that a key names, which has one secret in it.
    pub(super) fn secret_file(
        &self,
        key: &str,
        given: &Given<String>,
    ) -> Result<Secret, ConfigError> {
        if given.value.is_empty() {
            return Err(self.bad(key, given, "a path"));
        }
        let path = PathBuf::from(&given.value);
        let text = read_secret_file(&path).map_err(|source| {
            let place = self.place(&given.origin);
            ConfigError::secret_unreadable(place, key.to_owned(), path.clone(), source)
        })?;
        Secret::of_file(&path, &text).ok_or_else(|| ConfigError::SecretUnusable {
            place: self.place(&given.origin),
            key: key.to_owned(),
            file: path,
        })
    }
}

#[cfg(test)]
#[path = "resolve_tests/mod.rs"]
pub(super) mod tests;
