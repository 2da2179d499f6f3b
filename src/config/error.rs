//! What can be wrong with a configuration: each a sentence with place, key and remedy.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

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
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Setting(name) => write!(f, "setting {name} of the hub"),
        }
    }
}

/// Why a configuration cannot be used. The node ends with [`ConfigError::EXIT_CODE`].
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
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
    /// The file is not TOML.
    #[error("{place}: this is not TOML ({message}): correct the line")]
    Syntax {
        /// Where.
        place: Place,
        /// What the parser said.
        message: String,
    },
    /// A key that does not exist.
    #[error("{place}: there is no key `{key}`, the nearest is `{nearest}`: correct or remove it")]
    UnknownKey {
        /// Where.
        place: Place,
        /// The key with its section.
        key: String,
        /// A key that exists.
        nearest: String,
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
        "variable {name}: there is no such setting, the nearest is {nearest}: correct or unset it"
    )]
    UnknownVariable {
        /// The variable.
        name: String,
        /// A variable that exists.
        nearest: String,
    },
    /// A setting of the hub that does not exist.
    #[error("{place}: there is no such setting, the nearest is `{nearest}`: correct or remove it")]
    UnknownSetting {
        /// Where.
        place: Place,
        /// A setting that exists.
        nearest: String,
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
    /// A value of the wrong type.
    #[error("{place}: `{key}` takes {takes}, and this is {found}: correct it")]
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
    #[error("{place}: `{key}` is {found}: give {takes}")]
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
        "{place}: twin \"{twin_id}\" with stream \"{stream}\" is already configured at {first}: \
         remove one, or give one another `stream`"
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
        "{place}: stream \"{longer}\" of twin \"{twin_id}\" begins with \"{shorter}-\", and a camera \
         armed for \"{shorter}\" would answer both: rename one"
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
