//! What can be wrong with a configuration. Each mistake is a sentence that says where it is and what to do about it; texts of
//! others go into it by [`shown`].

mod list;
mod place;

use std::io;
use std::path::{Path, PathBuf};

use self::list::in_one_line;
pub use self::place::Place;
pub(super) use self::place::{line, line_of};
use super::polygon::PolygonError;
use super::shown::shown;

/// Names the known word that is near to one that is not known, as the end of a clause.
fn near(nearest: Option<&String>) -> String {
    nearest.map_or_else(String::new, |near| format!(", the nearest is `{near}`"))
}

/// A zone, a line or a mask that an error is about.
#[derive(Debug)]
pub struct PartOfCamera {
    /// The twin of the camera that the part is of.
    pub twin_id: String,
    /// What it is, with its name or its number, such as `line "gate"`.
    pub name: String,
}

/// Why a configuration cannot be used. The node ends with [`ConfigError::EXIT_CODE`].
///
/// `place` says where a setting was given, `key` is a key with its section, `found` what was given, `takes` what the key takes
/// and `nearest` the known word that is most like one that is not known.
#[derive(Debug, thiserror::Error)]
#[expect(
    missing_docs,
    reason = "each field is a part of its variant's sentence, which says what it is"
)]
pub enum ConfigError {
    /// More than one thing is wrong, in the order of the file.
    #[error("{}", in_one_line(.0))]
    Several(Vec<ConfigError>),
    /// The file is missing or cannot be read.
    #[error(
        "{}: cannot be read ({source}): name an existing file with --config, such as config/node.toml",
        path.display()
    )]
    Unreadable { path: PathBuf, source: io::Error },
    /// The file is there, and the node has no right to read it.
    #[error(
        "{}: may not be read ({source}): give the user that the node runs as the right to read the file and to enter its folders",
        path.display()
    )]
    Forbidden { path: PathBuf, source: io::Error },
    /// The file had something in it and is empty now.
    #[error(
        "{}: the file is empty, as one that is being written: write it whole, with `cameras = []` if all cameras are to go",
        path.display()
    )]
    Emptied { path: PathBuf },
    /// The file is not TOML.
    #[error("{place}: this is not TOML ({}): correct the line", shown(message))]
    Syntax { place: Place, message: String },
    /// The file has a key that does not exist.
    #[error("{place}: there is no key `{}`{}: correct or remove it", shown(key), near(nearest.as_ref()))]
    UnknownKey {
        place: Place,
        key: String,
        nearest: Option<String>,
    },
    /// The file gives a mask a name.
    #[error("{place}: there is no key `cameras.masks.name`, since a mask has no name: remove it")]
    NamedMask { place: Place },
    /// A secret is written into the configuration's file, which more people read than may know the secret.
    #[error(
        "{place}: `{key}` does not belong in this file: write the secret into a file of its own, \
         and the path to that into `{key}_file`"
    )]
    SecretInFile { place: Place, key: String },
    /// The environment has a `TWINSIGHT_` variable that stands for no setting.
    #[error(
        "variable {}: there is no such setting{}: correct or unset it",
        shown(name),
        near(nearest.as_ref())
    )]
    UnknownVariable {
        name: String,
        nearest: Option<String>,
    },
    /// The hub gives a setting that does not exist.
    #[error("{place}: there is no such setting{}: correct or remove it", near(nearest.as_ref()))]
    UnknownSetting {
        place: Place,
        nearest: Option<String>,
    },
    /// The hub gives a setting that only the file may have.
    #[error(
        "{place}: a hub does not set this for a node: remove it, and set `{key}` in the node's file"
    )]
    NotASetting { place: Place, key: String },
    /// The hub's list has more cameras than a node takes from a hub.
    #[error(
        "{place}: these are {found} cameras, and a node takes {limit} from its hub: remove some"
    )]
    TooManyCameras {
        place: Place,
        found: usize,
        limit: usize,
    },
    /// The hub's settings have more bytes than a node takes.
    #[error("{place}: these are more than {limit} bytes of settings: remove what is not needed")]
    TooManySettings { place: Place, limit: usize },
    /// There are more camera streams than a node takes. `place` is that of the first one too many.
    #[error("{place}: these are {found} camera streams, and a node takes {limit}: remove some")]
    TooManyStreams {
        place: Place,
        found: usize,
        limit: usize,
    },
    /// An address stands where a twin's id belongs. It is not shown, since it may have a password in it.
    #[error(
        "{place}: `{key}` takes the id of a twin, and this is an address: give the id of the twin whose app sends the video, \
         and the address of an IP camera in `rtsp`, which makes it such a twin"
    )]
    AddressAsTwin { place: Place, key: String },
    /// An address stands where a name or another id belongs. It is not shown either.
    #[error(
        "{place}: `{key}` takes a name or an id, and this is an address: give one without `://`"
    )]
    AddressAsName { place: Place, key: String },
    /// The value has another type than the key takes.
    #[error(
        "{place}: `{}` takes {takes}, and this is {}: correct it",
        shown(key),
        shown(found)
    )]
    WrongType {
        place: Place,
        key: String,
        takes: &'static str,
        found: String,
    },
    /// The value has the right type, and the key does not take it.
    #[error("{place}: `{key}` is {}: give {takes}", shown(found))]
    BadValue {
        place: Place,
        key: String,
        found: String,
        takes: String,
    },
    /// The file of a secret is missing or cannot be read.
    #[error(
        "{place}: the file {} of `{key}` cannot be read ({source}): create it, readable by the node",
        file.display()
    )]
    SecretUnreadable {
        place: Place,
        key: String,
        file: PathBuf,
        source: io::Error,
    },
    /// The file of a secret is there, and the node has no right to read it.
    #[error(
        "{place}: the file {} of `{key}` may not be read ({source}): give the user that the node runs as the right to read the file and to enter its folders",
        file.display()
    )]
    SecretForbidden {
        place: Place,
        key: String,
        file: PathBuf,
        source: io::Error,
    },
    /// The file of a secret holds something that cannot be one.
    #[error(
        "{place}: the file {} of `{key}` is not one line of visible ASCII: write only the secret into it",
        file.display()
    )]
    SecretUnusable {
        place: Place,
        key: String,
        file: PathBuf,
    },
    /// The variable of a secret holds something that cannot be one.
    #[error("variable {name}: this is not one line of visible ASCII: set only the secret")]
    SecretVariableUnusable { name: String },
    /// A key is set that this build knows nothing to do with.
    #[error(
        "{place}: `{key}` needs the Cargo feature `{feature}`, and this program was built without it: build it with `--features {feature}`, or remove the key"
    )]
    NotBuilt {
        place: Place,
        key: &'static str,
        feature: &'static str,
    },
    /// A line of a file of HTTP headers is none.
    #[error(
        "{place}: line {line} of the file {} of `{key}` is no HTTP header: write it as `Name: value`",
        file.display()
    )]
    NoHeader {
        place: Place,
        key: &'static str,
        file: PathBuf,
        line: usize,
    },
    /// Two cameras are the same stream of the same twin. `place` is that of the second.
    #[error(
        "{place}: twin \"{}\" with stream \"{}\" is already configured at {first}: \
         remove one, or give one another `stream`",
        shown(twin_id),
        shown(stream)
    )]
    Duplicate {
        place: Place,
        first: Place,
        twin_id: String,
        stream: String,
    },
    /// The names of two streams of a twin are such that the official clients would mix their signals up. `place` is that of
    /// the later one.
    #[error(
        "{place}: stream \"{}\" of twin \"{}\" begins with \"{}-\", and a camera armed for \"{}\" would answer both: rename one",
        shown(longer),
        shown(twin_id),
        shown(shorter),
        shown(shorter)
    )]
    AmbiguousStream {
        place: Place,
        twin_id: String,
        longer: String,
        shorter: String,
    },
    /// A camera has no twin id.
    #[error("{place}: this camera has no `twin_id`: add the id of the camera's twin")]
    CameraWithoutTwin { place: Place },
    /// A camera of a node without a hub has no place that its pictures come from.
    #[error(
        "{place}: camera \"{}\" has neither `rtsp` nor `device`, and without a hub (`hub.mode = \"none\"`) no pictures come in \
         another way: add one of them, or choose another mode",
        shown(twin_id)
    )]
    CameraWithoutSource { place: Place, twin_id: String },
    /// A camera has two places that its pictures come from.
    #[error("{place}: this camera has both `rtsp` and `device`: remove one")]
    TwoSources { place: Place },
    /// The file of a bridge has what means nothing to a bridge. `verb` is what a bridge does not do.
    #[error(
        "{place}: `{key}` means nothing to a bridge, which does not {verb}: leave it to the file of the node, and remove it from this one"
    )]
    NotForBridge {
        place: Place,
        key: String,
        verb: &'static str,
    },
    /// A camera of a bridge has no place that its pictures come from.
    #[error(
        "{place}: this camera has neither `rtsp` nor `device`, and a bridge makes a twin of a camera that is none: add one of them, or leave this camera to the file of the node"
    )]
    NothingToBridge { place: Place },
    /// A camera of a bridge is to dial a node, and no node is named.
    #[error(
        "{place}: this camera is to dial the node (`connect = \"accept\"`), and nobody says which: name the node's twin in `hub.twin_id`, or remove `connect`"
    )]
    NoNodeToDial { place: Place },
    /// A camera of a bridge is to dial a node, and cannot.
    #[error(
        "{place}: in direct mode a bridged camera is a peripheral, which is dialled and does not dial: remove `connect = \"accept\"`"
    )]
    PeripheralDials { place: Place },
    /// A bridge is to do without a hub.
    #[error(
        "{place}: there is no hub with this mode, and a bridge makes twins for a hub: give the mode of one, or let the node have the cameras (`twinsight run`)"
    )]
    BridgeWithoutHub { place: Place },
    /// A bridge has no camera.
    #[error(
        "{}: this file names no camera, and a bridge without one has nothing to do: add a `[[cameras]]` with `twin_id` and `rtsp`",
        path.display()
    )]
    NoCameraToBridge { path: PathBuf },
    /// A key says how to ask a camera that nothing is asked of.
    #[error(
        "{place}: `{key}` is for a camera with `rtsp`, and this one has none: add it, or remove the key"
    )]
    WithoutRtsp { place: Place, key: &'static str },
    /// Who asks an IP camera has a password and no name. `place` is that of the password.
    #[error(
        "{place}: this password is of nobody: add who asks the camera as `rtsp_user`, or remove `rtsp_password_file`"
    )]
    RtspWithoutUser { place: Place },
    /// Who asks an IP camera has a name and no password. `place` is that of the name.
    #[error(
        "{place}: this user has no password: add its file as `rtsp_password_file`, or write a user without a password into `rtsp`"
    )]
    RtspWithoutPassword { place: Place },
    /// Who asks an IP camera is said in its address and beside it. `place` is that of the key beside it.
    #[error(
        "{place}: `{key}` and the user in `rtsp` say both who asks this camera: remove one of them"
    )]
    RtspUserTwice { place: Place, key: &'static str },
    /// A camera has more zones, lines or masks than it may. `place` is that of the first one too many.
    #[error(
        "{place}: camera {} has {found} {kind}s, and may have {limit}: remove some",
        shown(twin_id)
    )]
    TooManyParts {
        place: Place,
        twin_id: String,
        kind: &'static str,
        found: usize,
        limit: usize,
    },
    /// A zone, a line or a mask lacks what it cannot do without. `part` names it, as in all errors of parts.
    #[error(
        "{place}: {} of camera {} has no `{key}`: add it",
        shown(part),
        shown(twin_id)
    )]
    PartWithout {
        place: Place,
        twin_id: String,
        part: String,
        key: &'static str,
    },
    /// A zone, a line or a mask has a value of the right type that its key does not take.
    #[error(
        "{place}: `{key}` of {} of camera {} is {}: give {takes}",
        shown(&part.name),
        shown(&part.twin_id),
        shown(found)
    )]
    BadPart {
        place: Place,
        part: Box<PartOfCamera>,
        key: String,
        found: String,
        takes: String,
    },
    /// Two zones or two lines of a camera have the same name. `place` is that of the second.
    #[error(
        "{place}: another {kind} of camera {} is called \"{}\": give one of them another `name`",
        shown(twin_id),
        shown(name)
    )]
    PartTwice {
        place: Place,
        twin_id: String,
        kind: &'static str,
        name: String,
    },
    /// The points of a zone or a mask make no polygon.
    #[error("{place}: {} of camera {}: {error}", shown(part), shown(twin_id))]
    BadPolygon {
        place: Place,
        twin_id: String,
        part: String,
        error: Box<PolygonError>,
    },
    /// The ends of a line are the same point.
    #[error(
        "{place}: line \"{}\" of camera {} ends where it begins: move `from` or `to`",
        shown(name),
        shown(twin_id)
    )]
    LineWithoutLength {
        place: Place,
        twin_id: String,
        name: String,
    },
    /// There are more sinks than a node takes. `place` is that of the first one too many.
    #[error("{place}: these are {found} sinks, and a node takes {limit}: remove some")]
    TooManySinks {
        place: Place,
        found: usize,
        limit: usize,
    },
    /// Two sinks have the same name. `place` is that of the second.
    #[error(
        "{place}: another sink is called \"{}\": give one of them another `name`",
        shown(name)
    )]
    SinkTwice { place: Place, name: String },
    /// A sink lacks what it cannot do without.
    #[error("{place}: this sink has no `{key}`: add {what}")]
    SinkWithout {
        place: Place,
        key: &'static str,
        what: &'static str,
    },
    /// A sink has a key that means nothing to it.
    #[error(
        "{place}: `sinks.{key}` is for sinks of the type \"{owner}\", and this is a {kind}: remove it"
    )]
    KeyOfAnotherSink {
        place: Place,
        key: &'static str,
        owner: &'static str,
        kind: &'static str,
    },
    /// A broker is told half of who the node is.
    #[error(
        "{place}: this sink has `{key}` and no `{missing}`: add it, or remove `{key}` for a broker that lets everybody in"
    )]
    HalfALogin {
        place: Place,
        key: &'static str,
        missing: &'static str,
    },
    /// There are more models on servers than a node takes. `place` is that of the first one too many.
    #[error("{place}: these are {found} models on servers, and a node takes {limit}: remove some")]
    TooManyModels {
        place: Place,
        found: usize,
        limit: usize,
    },
    /// A model on a server lacks what it cannot do without.
    #[error("{place}: model \"{}\" has no `{key}`: add {what}", shown(name))]
    ModelWithout {
        place: Place,
        name: String,
        key: &'static str,
        what: &'static str,
    },
    /// The model that is to take the place of one on a server is on a server itself.
    #[error(
        "{place}: \"{}\" is to take the place of \"{}\", and is on a server, too: name a model of this machine",
        shown(fallback),
        shown(name)
    )]
    RemoteFallback {
        place: Place,
        name: String,
        fallback: String,
    },
    /// Certificates stand beside an address without encryption.
    #[error(
        "{place}: `{key}` is for encrypted connections, and this model's `url` has none: use grpcs:// or https://, or remove it"
    )]
    PlainServer { place: Place, key: String },
    /// A node is in a pool and has a fixed part of the cameras.
    #[error(
        "{place}: this node has `node.pool` and `[node.shard]`, which are two ways to share cameras: remove one of them"
    )]
    PoolAndShard { place: Place },
    /// Half of what says which part of the cameras is a node's.
    #[error("{place}: `[node.shard]` needs `index` and `count`: give both")]
    HalfAShard { place: Place },
    /// A pool whose leases are kept nowhere.
    #[error(
        "{place}: the nodes of a pool keep leases: add `[node.lease]` with `engine = \"kubernetes\"` or `engine = \"etcd\"`"
    )]
    PoolWithoutLease { place: Place },
    /// A place for leases, and no pool that has some.
    #[error("{place}: `[node.lease]` is for the nodes of a pool: add `node.pool`, or remove it")]
    LeaseWithoutPool { place: Place },
    /// A place for leases has a key that means nothing to it.
    #[error("{place}: `node.lease.{key}` means nothing to the engine \"{engine}\": remove it")]
    KeyOfAnotherEngine {
        place: Place,
        key: &'static str,
        engine: &'static str,
    },
    /// Nobody said where etcd is.
    #[error("{place}: the engine \"etcd\" needs addresses: add `node.lease.url`")]
    EtcdWithoutUrl { place: Place },
    /// etcd is told half of who the node is.
    #[error(
        "{place}: `[node.lease]` has `{key}` and no `{missing}`: add it, or remove `{key}` for an etcd that lets everybody in"
    )]
    HalfALoginOfEtcd {
        place: Place,
        key: &'static str,
        missing: &'static str,
    },
    /// A certificate for etcd without its key, or the other way round.
    #[error(
        "{place}: `[node.lease]` has `{key}` and no `{missing}`: add it, or remove `{key}` for an etcd that asks for no certificate"
    )]
    HalfACertificateOfEtcd {
        place: Place,
        key: &'static str,
        missing: &'static str,
    },
    /// A certificate of the node's own stands beside an address without encryption.
    #[error(
        "{place}: `node.lease.client_cert_file` is for encrypted connections, and an address in `node.lease.url` has none: use https://, \
         or remove it with its `client_key_file`"
    )]
    PlainEtcd { place: Place },
    /// A camera that chose its node is to be shared.
    #[error(
        "{place}: cameras are shared with other nodes, and camera {} dials this one (`connect = \"accept\"`): let the nodes dial it, or \
         configure it on a node of its own",
        shown(twin_id)
    )]
    SharedCameraDials { place: Place, twin_id: String },
    /// There are fewer UDP ports than camera streams.
    #[error(
        "{place}: `ice.udp_ports` has {ports} ports for {cameras} camera streams, and each needs one: widen it"
    )]
    TooFewPorts {
        place: Place,
        ports: usize,
        cameras: usize,
    },
    /// The file says that there is no hub, and a variable of the official clients chooses one.
    #[error(
        "{place}: `hub.mode` is \"none\", and the variable {variable} chooses a hub: unset the variable, or set \
         TWINSIGHT_HUB__MODE, which decides"
    )]
    HubAndNone {
        place: Place,
        variable: &'static str,
    },
    /// The node has no twin id, in a mode that needs one.
    #[error(
        "the node has no twin id, and {mode} mode needs one: set TWIN_ID, TWINSIGHT_HUB__TWIN_ID or `hub.twin_id`"
    )]
    NoTwinId { mode: &'static str },
    /// The hub has no address. `variable` is the official clients' variable for it.
    #[error(
        "the hub has no address, and {mode} mode needs one: set {variable}, TWINSIGHT_HUB__URL or `hub.url`"
    )]
    NoUrl {
        mode: &'static str,
        variable: &'static str,
    },
    /// There is no device id in direct mode.
    #[error(
        "the node has no device id, and direct mode needs one: set DEVICE_ID, TWINSIGHT_HUB__DEVICE_ID or `hub.device_id`"
    )]
    NoDeviceId,
    /// There is no access key in direct mode.
    #[error(
        "the node has no access key, and direct mode needs one: set ACCESS_KEY, or name its file with `hub.access_key_file`"
    )]
    NoAccessKey,
}

impl ConfigError {
    /// `EX_CONFIG` of sysexits.h.
    pub const EXIT_CODE: u8 = 78;

    /// The error for a file that cannot be read.
    pub(super) fn unreadable(path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::PermissionDenied => Self::Forbidden { path, source },
            _ => Self::Unreadable { path, source },
        }
    }

    /// The error for a secret's file that cannot be read.
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

    /// True if something is missing. Another mistake may be the cause of that.
    pub(super) fn is_missing(&self) -> bool {
        matches!(
            self,
            Self::NoTwinId { .. }
                | Self::NoUrl { .. }
                | Self::NoDeviceId
                | Self::NoAccessKey
                | Self::CameraWithoutTwin { .. }
                | Self::CameraWithoutSource { .. }
                | Self::PartWithout { .. }
        )
    }

    /// True if pictures cannot come from the camera, which does not matter where they are there.
    pub(super) fn is_of_pictures(&self) -> bool {
        matches!(
            self,
            Self::CameraWithoutSource { .. }
                | Self::SecretUnreadable { .. }
                | Self::SecretForbidden { .. }
                | Self::SecretUnusable { .. }
        )
    }
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
