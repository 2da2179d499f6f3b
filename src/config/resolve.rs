//! File and environment to [`Config`]: merges by precedence and makes every check, once, at start.
//! Nearer wins: `TWINSIGHT_*` variables, the official clients' variables, the file, the defaults.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::{ConfigError, Place, line};
use super::file::{self, CameraSection, DefaultsSection, File, Given, Origin};
use super::values::{
    CameraConfig, Codec, Config, Connect, Dialect, HttpConfig, HubConfig, HubMode, IceConfig,
    IcePolicy, RuntimeConfig, Secret, TurnServer,
};
use super::{StreamId, syntax};

const PREFIX: &str = "TWINSIGHT_";
const CAMERAS: &str = "TWINSIGHT_CAMERAS";
const ACCESS_KEY: &str = "TWINSIGHT_HUB__ACCESS_KEY";
const TOKEN: &str = "TWINSIGHT_HTTP__TOKEN";

/// `PHYHUB_REGION`s, from the official clients.
const REGIONS: &[&str] = &["eu", "us", "uae", "au", "in", "qa", "dev", "local"];

/// Names that ONNX Runtime's providers go by in the file.
const EXECUTION_PROVIDERS: &[&str] = &[
    "cpu", "cuda", "tensorrt", "openvino", "rocm", "migraphx", "coreml", "directml", "xnnpack",
    "onednn",
];

/// The variables of the environment, passed in so that nothing else reads them. One that is empty
/// counts as not set, as container tools leave it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Env(BTreeMap<String, String>);

impl std::fmt::Debug for Env {
    /// Names alone: the values may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Env {
    /// The variables of this process.
    pub fn of_process() -> Self {
        std::env::vars_os()
            .map(|(name, value)| {
                (
                    name.to_string_lossy().into_owned(),
                    value.to_string_lossy().into_owned(),
                )
            })
            .collect()
    }

    /// A variable that is set and not empty, without blanks around it.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(|value| value.trim())
            .filter(|value| !value.is_empty())
    }

    /// All variables.
    pub fn as_map(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Env {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        Self(
            variables
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }
}

impl Config {
    /// Reads the file, if one is named, and the variables, and checks everything. Relative paths in the
    /// file are relative to the working directory.
    ///
    /// # Errors
    /// The first thing that is wrong, as a sentence with its place and remedy.
    pub fn load(path: Option<&Path>, env: &Env) -> Result<Self, ConfigError> {
        let text = match path {
            Some(path) => fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
                path: path.to_path_buf(),
                source,
            })?,
            None => String::new(),
        };
        let path = path.unwrap_or(Path::new(""));
        let mut file = syntax::parse(path, &text)?;
        let resolver = Resolver {
            path,
            text: &text,
            env,
            file_mode: file.hub.mode.clone(),
        };
        resolver.overlay_variables(&mut file)?;
        let hub = resolver.hub(&file)?;
        let ice = resolver.ice(&file, hub.turn.is_some())?;
        let http = resolver.http(&file)?;
        let runtime = resolver.runtime(&file)?;
        let cameras = resolver.cameras(&file, &hub)?;
        resolver.check_ports(&file, &ice, cameras.len())?;
        Ok(Self {
            hub,
            ice,
            http,
            runtime,
            cameras,
        })
    }
}

struct Resolver<'a> {
    path: &'a Path,
    text: &'a str,
    env: &'a Env,
    /// The mode that the file's address belongs to.
    file_mode: Option<Given<String>>,
}

impl Resolver<'_> {
    fn place(&self, origin: &Origin) -> Place {
        match origin {
            Origin::File(byte) => line(self.path, self.text, *byte),
            Origin::Variable(name) => Place::Variable(name.clone()),
        }
    }

    fn overlay_variables(&self, file: &mut File) -> Result<(), ConfigError> {
        for name in self.env.as_map().keys() {
            let Some(rest) = name.strip_prefix(PREFIX) else {
                continue;
            };
            if [CAMERAS, ACCESS_KEY, TOKEN].contains(&name.as_str()) {
                continue;
            }
            let (section, key) = rest.split_once("__").unwrap_or((rest, ""));
            let (section, key) = (section.to_ascii_lowercase(), key.to_ascii_lowercase());
            if !file::keys().any(|k| k.section == section && k.name == key && section != "cameras")
            {
                return Err(self.unknown_variable(name));
            }
            let Some(text) = self.env.get(name) else {
                continue;
            };
            file.set(&section, &key, name, text)
                .map_err(|takes| ConfigError::WrongType {
                    place: Place::Variable(name.clone()),
                    key: format!("{section}.{key}"),
                    takes,
                    found: format!("the text \"{text}\""),
                })?;
        }
        Ok(())
    }

    fn unknown_variable(&self, name: &str) -> ConfigError {
        let known: Vec<String> = file::keys()
            .filter(|key| key.section != "cameras")
            .map(|key| format!("{PREFIX}{}__{}", key.section, key.name).to_ascii_uppercase())
            .chain([CAMERAS, ACCESS_KEY, TOKEN].map(str::to_owned))
            .collect();
        ConfigError::UnknownVariable {
            name: name.to_owned(),
            nearest: syntax::nearest(name, known.iter().map(String::as_str)).to_owned(),
        }
    }

    /// A text by precedence: `TWINSIGHT_*`, then the official variables, then the file.
    fn text(&self, given: Option<&Given<String>>, official: &[&str]) -> Option<Given<String>> {
        given
            .filter(|given| matches!(given.origin, Origin::Variable(_)))
            .cloned()
            .or_else(|| official.iter().find_map(|name| self.variable(name)))
            .or_else(|| given.cloned())
    }

    fn variable(&self, name: &str) -> Option<Given<String>> {
        Some(Given {
            value: self.env.get(name)?.to_owned(),
            origin: Origin::Variable(name.to_owned()),
        })
    }

    fn bad<T: std::fmt::Debug>(&self, key: &str, given: &Given<T>, takes: &str) -> ConfigError {
        ConfigError::BadValue {
            place: self.place(&given.origin),
            key: key.to_owned(),
            found: format!("{:?}", given.value),
            takes: takes.to_owned(),
        }
    }

    fn choice<E: Copy>(
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

    fn integer(
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

    fn number(&self, key: &str, given: &Given<f64>, max: f64) -> Result<f64, ConfigError> {
        if (0.0..=max).contains(&given.value) {
            Ok(given.value)
        } else {
            Err(self.bad(key, given, &format!("a number from 0 to {max}")))
        }
    }

    /// A name that travels in signals and labels.
    fn id(&self, key: &str, given: &Given<String>, colon: bool) -> Result<(), ConfigError> {
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

    fn path(
        &self,
        key: &str,
        given: Option<&Given<String>>,
    ) -> Result<Option<PathBuf>, ConfigError> {
        match given {
            Some(given) if given.value.is_empty() => Err(self.bad(key, given, "a path")),
            given => Ok(given.map(|given| PathBuf::from(&given.value))),
        }
    }

    /// A secret: from the own variable, the own `*_FILE` variable, the official ones, the file's `*_file`.
    fn secret(
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
                Origin::File(_) => unreachable!("`variable` gives variables"),
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
        if given.value.is_empty() {
            return Err(self.bad(key, &given, "a path"));
        }
        let path = PathBuf::from(&given.value);
        let text = fs::read_to_string(&path).map_err(|source| ConfigError::SecretUnreadable {
            place: self.place(&given.origin),
            key: key.to_owned(),
            file: path.clone(),
            source,
        })?;
        visible(text.trim())
            .map(Some)
            .ok_or_else(|| ConfigError::SecretUnusable {
                place: self.place(&given.origin),
                key: key.to_owned(),
                file: path,
            })
    }

    fn hub(&self, file: &File) -> Result<HubConfig, ConfigError> {
        let hub = &file.hub;
        let mode = self.hub_mode(file)?;
        let url = self.hub_url(file, mode)?;
        let twin_id = match self.text(hub.twin_id.as_ref(), &["TWIN_ID", "INSTANCE_ID"]) {
            _ if mode == HubMode::Direct => String::new(),
            Some(given) => {
                self.id("hub.twin_id", &given, true)?;
                given.value
            }
            None => {
                return Err(ConfigError::NoTwinId {
                    mode: mode.as_str(),
                });
            }
        };
        let device_id = match self.text(hub.device_id.as_ref(), &["DEVICE_ID", "PHYGRID_DEVICE_ID"])
        {
            Some(given) => {
                self.id("hub.device_id", &given, true)?;
                given.value
            }
            None if mode == HubMode::Direct => return Err(ConfigError::NoDeviceId),
            None => String::new(),
        };
        let access_key = self.secret(
            "hub.access_key_file",
            ACCESS_KEY,
            &["ACCESS_KEY", "PHYGRID_DEVICE_KEY"],
            hub.access_key_file.as_ref(),
        )?;
        if mode == HubMode::Direct && access_key.is_none() {
            return Err(ConfigError::NoAccessKey);
        }
        let variable = |name: &str| self.env.get(name).unwrap_or_default().to_owned();
        Ok(HubConfig {
            mode,
            url,
            twin_id,
            device_id,
            access_key,
            ca_file: self.path("hub.ca_file", hub.ca_file.as_ref())?,
            stun_url: self.ice_url("PHYSTACK_STUN_URL", &["stun:", "stuns:"])?,
            turn: self
                .ice_url("PHYSTACK_TURN_URL", &["turn:", "turns:"])?
                .map(|url| TurnServer {
                    url,
                    username: variable("PHYSTACK_TURN_USERNAME"),
                    credential: Secret::new(variable("PHYSTACK_TURN_CREDENTIAL")),
                }),
        })
    }

    fn hub_mode(&self, file: &File) -> Result<HubMode, ConfigError> {
        let given = match &file.hub.mode {
            Some(given) => Some((
                self.choice("hub.mode", given, HubMode::ALL, HubMode::as_str)?,
                matches!(given.origin, Origin::Variable(_)),
            )),
            None => None,
        };
        let direct = self
            .env
            .get("PHYHUB_DIRECT")
            .is_some_and(|text| text.eq_ignore_ascii_case("true") || text == "1");
        Ok(match given {
            Some((mode, true)) => mode,
            _ if direct => HubMode::Direct,
            _ if self.env.get("PHYSTACK_SIMULATOR_URL").is_some() => HubMode::Simulator,
            Some((mode, false)) => mode,
            None => HubMode::Phyos,
        })
    }

    /// The file's address is for the file's mode: another mode's credentials never go there.
    fn hub_url(&self, file: &File, mode: HubMode) -> Result<String, ConfigError> {
        let by_variable = |given: &&Given<String>| matches!(given.origin, Origin::Variable(_));
        let by_file = |given: &&Given<String>| {
            matches!(given.origin, Origin::File(_))
                && self
                    .file_mode
                    .as_ref()
                    .is_none_or(|file_mode| file_mode.value == mode.as_str())
        };
        let (url, region) = (file.hub.url.as_ref(), file.hub.region.as_ref());
        let region = region.filter(|_| mode == HubMode::Direct);
        let (url_variable, region_variable) = match mode {
            HubMode::Direct => ("PHYHUB_URL", self.variable("PHYHUB_REGION")),
            HubMode::Simulator => ("PHYSTACK_SIMULATOR_URL", None),
            HubMode::Phyos => ("", None),
        };
        if let Some(given) = url.filter(by_variable) {
            return self.checked_url(given);
        }
        if let Some(given) = region.filter(by_variable) {
            return self.region(given);
        }
        if let Some(given) = self.variable(url_variable) {
            return self.checked_url(&given);
        }
        if let Some(given) = region_variable {
            return self.region(&given);
        }
        if let Some(given) = url.filter(by_file) {
            return self.checked_url(given);
        }
        if let Some(given) = region.filter(by_file) {
            return self.region(given);
        }
        match mode {
            HubMode::Phyos => Ok("http://phyos:55000".to_owned()),
            _ => Err(ConfigError::NoUrl {
                mode: mode.as_str(),
                variable: url_variable,
            }),
        }
    }

    fn checked_url(&self, given: &Given<String>) -> Result<String, ConfigError> {
        let host = ["http://", "https://", "ws://", "wss://"]
            .into_iter()
            .find_map(|scheme| given.value.strip_prefix(scheme))
            .and_then(|rest| rest.split(['/', '?', '#']).next())
            .unwrap_or_default();
        if host.is_empty() || given.value.contains(char::is_whitespace) {
            return Err(self.bad("hub.url", given, "an address like \"https://hub.example\""));
        }
        Ok(given.value.clone())
    }

    fn region(&self, given: &Given<String>) -> Result<String, ConfigError> {
        let region = given.value.to_ascii_lowercase();
        if !REGIONS.contains(&region.as_str()) {
            let takes = format!("one of {}", REGIONS.join(", "));
            return Err(self.bad("hub.region", given, &takes));
        }
        Ok(match region.as_str() {
            "local" => "http://localhost:3000".to_owned(),
            _ => format!("https://phyhub.{region}.omborigrid.net"),
        })
    }

    fn ice_url(&self, name: &str, schemes: &[&str]) -> Result<Option<String>, ConfigError> {
        let Some(text) = self.env.get(name) else {
            return Ok(None);
        };
        if schemes.iter().any(|scheme| {
            text.strip_prefix(scheme)
                .is_some_and(|rest| !rest.is_empty())
        }) {
            return Ok(Some(text.to_owned()));
        }
        Err(ConfigError::BadValue {
            place: Place::Variable(name.to_owned()),
            key: name.to_owned(),
            found: format!("{text:?}"),
            takes: format!("an address like \"{}server.example:3478\"", schemes[0]),
        })
    }

    fn ice(&self, file: &File, turn: bool) -> Result<IceConfig, ConfigError> {
        let ice = &file.ice;
        let policy = match &ice.policy {
            Some(given) => self.choice("ice.policy", given, IcePolicy::ALL, IcePolicy::as_str)?,
            None if turn => IcePolicy::Relay,
            None => IcePolicy::All,
        };
        let udp_ports = match &ice.udp_ports {
            Some(given) => Some(ports(&given.value).ok_or_else(|| {
                self.bad(
                    "ice.udp_ports",
                    given,
                    "first and last port as in \"50000-50100\"",
                )
            })?),
            None => None,
        };
        let nat_1to1_ips = match &ice.nat_1to1_ips {
            Some(given) => given
                .value
                .iter()
                .map(|text| text.parse::<IpAddr>())
                .collect::<Result<_, _>>()
                .map_err(|_| self.bad("ice.nat_1to1_ips", given, "a list of IP addresses"))?,
            None => Vec::new(),
        };
        let recv_buffer_bytes = match &ice.recv_buffer_bytes {
            Some(given) => {
                self.integer("ice.recv_buffer_bytes", given, (1 << 16, 1 << 26))? as usize
            }
            None => 1 << 20,
        };
        Ok(IceConfig {
            policy,
            interfaces: ice
                .interfaces
                .as_ref()
                .map_or_else(Vec::new, |g| g.value.clone()),
            udp_ports,
            nat_1to1_ips,
            mdns: ice.mdns.as_ref().is_some_and(|given| given.value),
            recv_buffer_bytes,
        })
    }

    fn check_ports(&self, file: &File, ice: &IceConfig, cameras: usize) -> Result<(), ConfigError> {
        let (Some(given), Some((first, last))) = (&file.ice.udp_ports, ice.udp_ports) else {
            return Ok(());
        };
        let ports = usize::from(last - first) + 1;
        if ports >= cameras {
            return Ok(());
        }
        Err(ConfigError::TooFewPorts {
            place: self.place(&given.origin),
            ports,
            cameras,
        })
    }

    fn http(&self, file: &File) -> Result<HttpConfig, ConfigError> {
        let listen = match &file.http.listen {
            Some(given) => given.value.parse().map_err(|_| {
                self.bad(
                    "http.listen",
                    given,
                    "address and port as in \"127.0.0.1:9464\"",
                )
            })?,
            None => SocketAddr::from(([127, 0, 0, 1], 9464)),
        };
        let token = self.secret("http.token_file", TOKEN, &[], file.http.token_file.as_ref())?;
        Ok(HttpConfig { listen, token })
    }

    fn runtime(&self, file: &File) -> Result<RuntimeConfig, ConfigError> {
        let runtime = &file.runtime;
        let execution_providers = match &runtime.execution_providers {
            Some(given) => {
                let known = |name: &String| EXECUTION_PROVIDERS.contains(&name.as_str());
                if given.value.is_empty() || !given.value.iter().all(known) {
                    let takes = format!("a list of {}", EXECUTION_PROVIDERS.join(", "));
                    return Err(self.bad("runtime.execution_providers", given, &takes));
                }
                given.value.clone()
            }
            None => vec!["cpu".to_owned()],
        };
        let threads = match &runtime.threads {
            Some(given) => self.integer("runtime.threads", given, (0, 1024))? as usize,
            None => 0,
        };
        let library = self.path("runtime.library", runtime.library.as_ref())?;
        Ok(RuntimeConfig {
            library: library.or_else(|| self.env.get("ORT_DYLIB_PATH").map(PathBuf::from)),
            execution_providers,
            threads,
            models_dir: self
                .path("runtime.models_dir", runtime.models_dir.as_ref())?
                .unwrap_or_else(|| PathBuf::from("models")),
        })
    }

    fn cameras(&self, file: &File, hub: &HubConfig) -> Result<Vec<CameraConfig>, ConfigError> {
        let defaults = self.settings("defaults", &file.defaults, &unset())?;
        let mut cameras: Vec<(CameraConfig, Place)> = Vec::new();
        for (place, section) in self.camera_sections(file) {
            let camera = self.camera(&place, &section, &defaults, hub)?;
            for (other, first) in &cameras {
                check_pair(&camera.id, &place, &other.id, first)?;
            }
            cameras.push((camera, place));
        }
        Ok(cameras.into_iter().map(|(camera, _)| camera).collect())
    }

    /// The file's cameras; or, where `TWINSIGHT_CAMERAS` lists twins, those, with what the file says of them.
    fn camera_sections(&self, file: &File) -> Vec<(Place, CameraSection)> {
        let in_file = file.cameras.iter().map(|spanned| {
            (
                line(self.path, self.text, spanned.span().start),
                spanned.get_ref().clone(),
            )
        });
        let Some(listed) = self.variable(CAMERAS) else {
            return in_file.collect();
        };
        let in_file: Vec<_> = in_file.collect();
        let mut sections = Vec::new();
        for twin_id in file::list(&listed.value) {
            let described = in_file.iter().filter(|(_, section)| {
                section
                    .twin_id
                    .as_ref()
                    .is_some_and(|given| given.value == twin_id)
            });
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
        let known = |name: &String| Codec::ALL.iter().copied().find(|c| c.as_str() == name);
        let codecs: Option<Vec<Codec>> = given.value.iter().map(known).collect();
        codecs.filter(|codecs| !codecs.is_empty()).ok_or_else(|| {
            let quoted: Vec<_> = Codec::ALL.iter().map(|c| format!("\"{c}\"")).collect();
            let takes = format!("[{}], what this build decodes", quoted.join(", "));
            self.bad(key, given, &takes)
        })
    }
}

/// What a camera has when nothing is configured.
fn unset() -> CameraConfig {
    CameraConfig {
        id: StreamId::new("", "default"),
        name: String::new(),
        model: "nanodet_g_coco".to_owned(),
        connect: Connect::Dial,
        codecs: vec![Codec::H264],
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

/// `50000-50100`, or one port.
fn ports(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first > 0 && first <= last).then_some((first, last))
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
