//! What can be wrong with a configuration: each a sentence with place, key and remedy. Texts of others are shown cut, with
//! control characters as escapes and without the credentials of an address.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::shown::shown;

/// Where a setting was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the file, at a line counted from 1.
    Line(PathBuf, usize),
    /// In a variable of the environment.
    Variable(String),
    /// In a setting of the node's own twin on the hub.
    Setting(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(path, line) => write!(f, "{} line {line}", path.display()),
            Self::Variable(name) => write!(f, "variable {}", shown(name)),
            Self::Setting(name) => write!(f, "setting {} of the hub", shown(name)),
        }
    }
}

/// The known word that is near to one that is not known, as the end of a clause.
fn near(nearest: Option<&String>) -> String {
    nearest.map_or_else(String::new, |near| format!(", the nearest is `{near}`"))
}

/// Why a configuration cannot be used. The node ends with [`ConfigError::EXIT_CODE`].
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// More than one thing is wrong, in the order of the file.
    #[error("{}", in_one_line(.0))]
    Several(Vec<ConfigError>),
    /// The file is missing or cannot be read.
    #[error(
        "{}: cannot be read ({source}): name an existing file with --config, such as config/node.toml",
        path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is there, and its right is missing.
    #[error(
        "{}: may not be read ({source}): give the user that the node runs as the right to read the file and to enter its folders",
        path.display()
    )]
    Forbidden {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file that had something in it is empty.
    #[error(
        "{}: the file is empty, as one that is being written: write it whole, with `cameras = []` if all cameras are to go",
        path.display()
    )]
    Emptied {
        /// The file.
        path: PathBuf,
    },
    /// The file is not TOML.
    #[error("{place}: this is not TOML ({}): correct the line", shown(message))]
    Syntax {
        /// Where.
        place: Place,
        /// What the parser said.
        message: String,
    },
    /// A key that does not exist.
    #[error("{place}: there is no key `{}`{}: correct or remove it", shown(key), near(nearest.as_ref()))]
    UnknownKey {
        /// Where.
        place: Place,
        /// The key with its section.
        key: String,
        /// A key that exists and is near.
        nearest: Option<String>,
    },
    /// A secret in the file, which is read by more people than may know it.
    #[error(
        "{place}: `{key}` does not belong in this file: write the secret into a file of its own, \
         and the path to that into `{key}_file`"
    )]
    SecretInFile {
        /// Where.
        place: Place,
        /// The key with its section.
        key: String,
    },
    /// A `TWINSIGHT_` variable that does not exist.
    #[error(
        "variable {}: there is no such setting{}: correct or unset it",
        shown(name),
        near(nearest.as_ref())
    )]
    UnknownVariable {
        /// The variable.
        name: String,
        /// A variable that exists and is near.
        nearest: Option<String>,
    },
    /// A setting of the hub that does not exist.
    #[error("{place}: there is no such setting{}: correct or remove it", near(nearest.as_ref()))]
    UnknownSetting {
        /// Where.
        place: Place,
        /// A setting that exists and is near.
        nearest: Option<String>,
    },
    /// A key that the hub may not set.
    #[error(
        "{place}: a hub does not set this for a node: remove it, and set `{key}` in the node's file"
    )]
    NotASetting {
        /// Where.
        place: Place,
        /// The key with its section.
        key: String,
    },
    /// More cameras in the hub's settings than a node could have.
    #[error(
        "{place}: these are {found} cameras, and a node takes {limit} from its hub: remove some"
    )]
    TooManyCameras {
        /// Where.
        place: Place,
        /// Cameras in the list.
        found: usize,
        /// What is taken.
        limit: usize,
    },
    /// More settings than a node needs.
    #[error("{place}: these are more than {limit} bytes of settings: remove what is not needed")]
    TooManySettings {
        /// Where.
        place: Place,
        /// What is taken.
        limit: usize,
    },
    /// More camera streams than a node takes.
    #[error("{place}: these are {found} camera streams, and a node takes {limit}: remove some")]
    TooManyStreams {
        /// Where the first one too many is.
        place: Place,
        /// Streams in the list.
        found: usize,
        /// What is taken.
        limit: usize,
    },
    /// An address where a twin's id belongs. Not shown: it may have a password in it.
    #[error(
        "{place}: `{key}` takes the id of a twin, and this is an address: give the id of the twin whose app sends the video \
         (a camera with an address of its own, as by RTSP, needs such an app)"
    )]
    AddressAsTwin {
        /// Where.
        place: Place,
        /// The key with its section.
        key: String,
    },
    /// An address where a name or an id belongs. Not shown either.
    #[error(
        "{place}: `{key}` takes a name or an id, and this is an address: give one without `://`"
    )]
    AddressAsName {
        /// Where.
        place: Place,
        /// The key with its section.
        key: String,
    },
    /// A value of the wrong type.
    #[error(
        "{place}: `{}` takes {takes}, and this is {}: correct it",
        shown(key),
        shown(found)
    )]
    WrongType {
        /// Where.
        place: Place,
        /// The key with its section.
        key: String,
        /// What the key takes.
        takes: &'static str,
        /// What was given.
        found: String,
    },
    /// A value that the key does not take.
    #[error("{place}: `{key}` is {}: give {takes}", shown(found))]
    BadValue {
        /// Where.
        place: Place,
        /// The key with its section.
        key: String,
        /// What was given.
        found: String,
        /// What the key takes.
        takes: String,
    },
    /// A file that holds a secret cannot be read.
    #[error(
        "{place}: the file {} of `{key}` cannot be read ({source}): create it, readable by the node",
        file.display()
    )]
    SecretUnreadable {
        /// Where.
        place: Place,
        /// The key with its section.
        key: String,
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file that holds a secret is there, and its right is missing.
    #[error(
        "{place}: the file {} of `{key}` may not be read ({source}): give the user that the node runs as the right to read the file and to enter its folders",
        file.display()
    )]
    SecretForbidden {
        /// Where.
        place: Place,
        /// The key with its section.
        key: String,
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file that holds a secret holds something else.
    #[error(
        "{place}: the file {} of `{key}` is not one line of visible ASCII: write only the secret into it",
        file.display()
    )]
    SecretUnusable {
        /// Where.
        place: Place,
        /// The key with its section.
        key: String,
        /// The file.
        file: PathBuf,
    },
    /// A secret in a variable that cannot be sent.
    #[error("variable {name}: this is not one line of visible ASCII: set only the secret")]
    SecretVariableUnusable {
        /// The variable.
        name: String,
    },
    /// Two cameras are the same stream of the same twin.
    #[error(
        "{place}: twin \"{}\" with stream \"{}\" is already configured at {first}: \
         remove one, or give one another `stream`",
        shown(twin_id),
        shown(stream)
    )]
    Duplicate {
        /// The second.
        place: Place,
        /// The first.
        first: Place,
        /// Its twin.
        twin_id: String,
        /// Its stream.
        stream: String,
    },
    /// Two streams of a twin whose signals the official clients would mix up.
    #[error(
        "{place}: stream \"{}\" of twin \"{}\" begins with \"{}-\", and a camera armed for \"{}\" would answer both: rename one",
        shown(longer),
        shown(twin_id),
        shown(shorter),
        shown(shorter)
    )]
    AmbiguousStream {
        /// Where the later of the two is.
        place: Place,
        /// Their twin.
        twin_id: String,
        /// The stream that begins with the other's name.
        longer: String,
        /// The other.
        shorter: String,
    },
    /// A camera without a twin id.
    #[error("{place}: this camera has no `twin_id`: add the id of the camera's twin")]
    CameraWithoutTwin {
        /// Where the camera begins.
        place: Place,
    },
    /// Fewer ports than camera streams.
    #[error(
        "{place}: `ice.udp_ports` has {ports} ports for {cameras} camera streams, and each needs one: widen it"
    )]
    TooFewPorts {
        /// Where.
        place: Place,
        /// Ports in the range.
        ports: usize,
        /// Camera streams configured.
        cameras: usize,
    },
    /// No twin id, in a mode that needs one.
    #[error(
        "the node has no twin id, and {mode} mode needs one: set TWIN_ID, TWINSIGHT_HUB__TWIN_ID or `hub.twin_id`"
    )]
    NoTwinId {
        /// The mode.
        mode: &'static str,
    },
    /// No address of a hub.
    #[error(
        "the hub has no address, and {mode} mode needs one: set {variable}, TWINSIGHT_HUB__URL or `hub.url`"
    )]
    NoUrl {
        /// The mode.
        mode: &'static str,
        /// The official clients' variable for it.
        variable: &'static str,
    },
    /// No device id in direct mode.
    #[error(
        "the node has no device id, and direct mode needs one: set DEVICE_ID, TWINSIGHT_HUB__DEVICE_ID or `hub.device_id`"
    )]
    NoDeviceId,
    /// No access key in direct mode.
    #[error(
        "the node has no access key, and direct mode needs one: set ACCESS_KEY, or name its file with `hub.access_key_file`"
    )]
    NoAccessKey,
}

impl ConfigError {
    /// `EX_CONFIG` of sysexits.h.
    pub const EXIT_CODE: u8 = 78;

    /// Why the file itself cannot be had.
    pub(super) fn unreadable(path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::PermissionDenied => Self::Forbidden { path, source },
            _ => Self::Unreadable { path, source },
        }
    }

    /// Why the file of a secret cannot be had.
    pub(super) fn secret_unreadable(
        place: Place,
        key: String,
        file: PathBuf,
        source: io::Error,
    ) -> Self {
        match source.kind() {
            io::ErrorKind::PermissionDenied => Self::SecretForbidden {
                place,
                key,
                file,
                source,
            },
            _ => Self::SecretUnreadable {
                place,
                key,
                file,
                source,
            },
        }
    }

    /// All that is wrong as one error, in the order of the file; none if nothing is.
    pub(super) fn all(mut errors: Vec<Self>) -> Option<Self> {
        errors.sort_by_key(Self::order);
        errors.dedup_by_key(|error| error.to_string());
        match errors.len() {
            0 | 1 => errors.pop(),
            _ => Some(Self::Several(errors)),
        }
    }

    /// Each thing that is wrong, in the order of the file.
    pub fn sentences(&self) -> Vec<String> {
        match self {
            Self::Several(errors) => errors.iter().map(ToString::to_string).collect(),
            one => vec![one.to_string()],
        }
    }

    /// True for what is missing, which another mistake may be the cause of.
    pub(super) fn is_missing(&self) -> bool {
        matches!(
            self,
            Self::NoTwinId { .. }
                | Self::NoUrl { .. }
                | Self::NoDeviceId
                | Self::NoAccessKey
                | Self::CameraWithoutTwin { .. }
        )
    }

    /// The file by its lines, then what has no place, variables and the hub.
    fn order(&self) -> (u8, usize) {
        match self.place() {
            Some(Place::Line(_, line)) => (0, *line),
            None => (1, 0),
            Some(Place::Variable(_)) => (2, 0),
            Some(Place::Setting(_)) => (3, 0),
        }
    }

    fn place(&self) -> Option<&Place> {
        match self {
            Self::Syntax { place, .. }
            | Self::UnknownKey { place, .. }
            | Self::SecretInFile { place, .. }
            | Self::UnknownSetting { place, .. }
            | Self::NotASetting { place, .. }
            | Self::TooManyCameras { place, .. }
            | Self::TooManySettings { place, .. }
            | Self::TooManyStreams { place, .. }
            | Self::AddressAsTwin { place, .. }
            | Self::AddressAsName { place, .. }
            | Self::WrongType { place, .. }
            | Self::BadValue { place, .. }
            | Self::SecretUnreadable { place, .. }
            | Self::SecretForbidden { place, .. }
            | Self::SecretUnusable { place, .. }
            | Self::Duplicate { place, .. }
            | Self::AmbiguousStream { place, .. }
            | Self::CameraWithoutTwin { place }
            | Self::TooFewPorts { place, .. } => Some(place),
            Self::Several(_)
            | Self::Unreadable { .. }
            | Self::Forbidden { .. }
            | Self::Emptied { .. }
            | Self::UnknownVariable { .. }
            | Self::SecretVariableUnusable { .. }
            | Self::NoTwinId { .. }
            | Self::NoUrl { .. }
            | Self::NoDeviceId
            | Self::NoAccessKey => None,
        }
    }
}

/// The sentences one after the other, as many as a log line and a property of the node's twin should have.
fn in_one_line(errors: &[ConfigError]) -> String {
    const MOST_BYTES: usize = 960;
    let mut text = String::new();
    for (at, error) in errors.iter().enumerate() {
        let sentence = error.to_string();
        if at > 0 && text.len() + sentence.len() > MOST_BYTES {
            return format!("{text}; and {} more", errors.len() - at);
        }
        if at > 0 {
            text.push_str("; ");
        }
        text.push_str(&sentence);
    }
    text
}

/// The line, counted from 1, of a byte of the text.
pub(super) fn line_of(text: &str, byte: usize) -> usize {
    let before = text.as_bytes().get(..byte).unwrap_or(text.as_bytes());
    before
        .iter()
        .fold(1, |line, b| line + usize::from(*b == b'\n'))
}

/// A place in the file.
pub(super) fn line(path: &Path, text: &str, byte: usize) -> Place {
    Place::Line(path.to_path_buf(), line_of(text, byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_that_is_missing_is_told_as_that() {
        let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
        let path = Path::new("/etc/node.toml");
        let error = ConfigError::unreadable(path, denied()).to_string();
        assert!(error.contains("the right to read the file"), "{error}");
        let place = Place::Variable("X".to_owned());
        let error = ConfigError::secret_unreadable(
            place,
            "http.token_file".to_owned(),
            path.into(),
            denied(),
        );
        assert!(error.to_string().contains("the right to read the file"));
    }
}
