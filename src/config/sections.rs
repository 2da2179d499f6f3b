//! Checks the sections that a node has once: `[hub]`, `[ice]`, `[http]`, `[runtime]`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::error::{ConfigError, Place};
use super::file::{File, Given, Origin};
use super::resolve::{ACCESS_KEY, Resolver, TOKEN};
use super::values::{
    HttpConfig, HubConfig, HubMode, IceConfig, IcePolicy, RuntimeConfig, Secret, TurnServer,
};
use crate::hub::text::redacted_url;

/// `PHYHUB_REGION`s, from the official clients.
const REGIONS: &[&str] = &["eu", "us", "uae", "au", "in", "qa", "dev", "local"];

/// Names that ONNX Runtime's providers go by in the file.
const EXECUTION_PROVIDERS: &[&str] = &[
    "cpu", "cuda", "tensorrt", "openvino", "rocm", "migraphx", "xnnpack", "coreml",
];

/// Where the node listens unless it is told.
pub(super) const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9464);

impl Resolver<'_> {
    pub(super) fn hub(&self, file: &File) -> Result<HubConfig, ConfigError> {
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
            // It may hold a password.
            let shown = Given {
                value: redacted_url(&given.value),
                origin: given.origin.clone(),
            };
            return Err(self.bad("hub.url", &shown, "an address like \"https://hub.example\""));
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

    pub(super) fn ice(&self, file: &File, turn: bool) -> Result<IceConfig, ConfigError> {
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

    pub(super) fn check_ports(
        &self,
        file: &File,
        ice: &IceConfig,
        cameras: usize,
    ) -> Result<(), ConfigError> {
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

    pub(super) fn http(&self, file: &File) -> Result<HttpConfig, ConfigError> {
        let listen = match &file.http.listen {
            Some(given) => given.value.parse().map_err(|_| {
                self.bad(
                    "http.listen",
                    given,
                    "address and port as in \"127.0.0.1:9464\"",
                )
            })?,
            None => DEFAULT_LISTEN,
        };
        let token = self.secret("http.token_file", TOKEN, &[], file.http.token_file.as_ref())?;
        Ok(HttpConfig { listen, token })
    }

    pub(super) fn runtime(&self, file: &File) -> Result<RuntimeConfig, ConfigError> {
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
}

/// `50000-50100`, or one port.
fn ports(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first > 0 && first <= last).then_some((first, last))
}
