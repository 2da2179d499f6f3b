//! Checks the sections that a node has once: `[hub]`, `[ice]`, `[http]` and `[runtime]`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::error::{ConfigError, Place};
use super::file::{File, Given, Origin};
use super::resolve::{ACCESS_KEY, Resolver, TOKEN};
use super::values::{HttpConfig, RuntimeConfig};
use twinsight_client::hub::options::{PHYOS_URL, region_names, region_url};
use twinsight_client::hub::text::redacted_url;
use twinsight_client::hub::{HubMode, HubOptions, TurnServer};
use twinsight_client::realtime::ice::IceSettings;
use twinsight_client::secret::Secret;

/// How the file names the execution providers of ONNX Runtime.
const EXECUTION_PROVIDERS: &[&str] = &["cpu", "cuda", "tensorrt", "openvino", "xnnpack", "coreml"];

/// The official clients' variables for the node's twin, its device and the device's access key.
pub(super) const TWIN_ID_VARIABLES: &[&str] = &["TWIN_ID", "INSTANCE_ID"];
pub(super) const DEVICE_ID_VARIABLES: &[&str] = &["DEVICE_ID", "PHYGRID_DEVICE_ID"];
pub(super) const ACCESS_KEY_VARIABLES: &[&str] = &["ACCESS_KEY", "PHYGRID_DEVICE_KEY"];

/// Where ONNX Runtime's library is, in the variable that other programs with ONNX Runtime read too.
pub(super) const LIBRARY_VARIABLE: &str = "ORT_DYLIB_PATH";

/// The official clients' variables for the STUN and the TURN server, and who the node is to the latter.
pub(super) const STUN_VARIABLE: &str = "PHYSTACK_STUN_URL";
pub(super) const TURN_VARIABLE: &str = "PHYSTACK_TURN_URL";
pub(super) const TURN_USERNAME_VARIABLE: &str = "PHYSTACK_TURN_USERNAME";
pub(super) const TURN_CREDENTIAL_VARIABLE: &str = "PHYSTACK_TURN_CREDENTIAL";

/// The hub's address, and what it was chosen by.
pub(super) struct HubAddress {
    pub(super) url: String,
    /// Where it was given. `None` means that it is the default.
    pub(super) origin: Option<Origin>,
    /// The region whose address it is, if a region was given in place of an address.
    pub(super) region: Option<String>,
}

/// The mode that a client of a hub does not have: without any hub.
pub(crate) const WITHOUT_HUB: &str = "none";

/// What `hub.mode` takes. `None` is the one without a hub.
const MODES: &[Option<HubMode>] = &[
    Some(HubMode::Direct),
    Some(HubMode::Simulator),
    Some(HubMode::Phyos),
    None,
];

/// How the configuration names a mode.
pub(super) fn mode_name(mode: Option<HubMode>) -> &'static str {
    mode.map_or(WITHOUT_HUB, HubMode::as_str)
}

/// Where the node listens unless it is told.
pub(super) const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9464);

impl Resolver<'_> {
    /// The hub. `None` if there is to be none.
    pub(super) fn hub(&self, file: &File) -> Option<HubOptions> {
        let hub = &file.hub;
        let mode = self.hub_mode(file);
        // Without the mode nobody knows which address, id and key are needed, so none of them is said to be missing.
        let mode_known = mode.is_ok();
        let (mode, _) = self.or(mode, (Some(HubMode::Phyos), None));
        let mode = mode?;
        let missing = |error| {
            if mode_known {
                self.note(error);
            }
            String::new()
        };
        let url = match self.hub_url(file, mode) {
            Ok(address) => address.url,
            Err(error) => {
                if mode_known || !error.is_missing() {
                    self.note(error);
                }
                String::new()
            }
        };
        let twin_id = match self.text(hub.twin_id.as_ref(), TWIN_ID_VARIABLES) {
            _ if mode == HubMode::Direct => String::new(),
            Some(given) => {
                self.or(self.id("hub.twin_id", &given, true), ());
                given.value
            }
            None => missing(ConfigError::NoTwinId {
                mode: mode.as_str(),
            }),
        };
        let device_id = match self.text(hub.device_id.as_ref(), DEVICE_ID_VARIABLES) {
            Some(given) => {
                self.or(self.id("hub.device_id", &given, true), ());
                given.value
            }
            None if mode == HubMode::Direct => missing(ConfigError::NoDeviceId),
            None => String::new(),
        };
        let access_key = self.secret(
            "hub.access_key_file",
            ACCESS_KEY,
            ACCESS_KEY_VARIABLES,
            hub.access_key_file.as_ref(),
        );
        if mode == HubMode::Direct && matches!(access_key, Ok(None)) {
            missing(ConfigError::NoAccessKey);
        }
        let variable = |name: &str| self.env.get(name).unwrap_or_default().to_owned();
        let turn_url = self.ice_url(TURN_VARIABLE, &["turn:", "turns:"]);
        Some(HubOptions {
            twin_id,
            device_id,
            access_key: self.or(access_key, None),
            ca_file: self.or(self.path("hub.ca_file", hub.ca_file.as_ref()), None),
            stun_url: self.or(self.ice_url(STUN_VARIABLE, &["stun:", "stuns:"]), None),
            turn: self.or(turn_url, None).map(|url| TurnServer {
                url,
                username: variable(TURN_USERNAME_VARIABLE),
                credential: Secret::new(variable(TURN_CREDENTIAL_VARIABLE)),
            }),
            ..HubOptions::new(mode, url)
        })
    }

    /// The mode, and where it was given. Without a place it is the default. Variables of the official clients win over the file,
    /// except that none of them leads a node to a hub whose file says that it has none: that is told.
    pub(super) fn hub_mode(
        &self,
        file: &File,
    ) -> Result<(Option<HubMode>, Option<Origin>), ConfigError> {
        let given = match &file.hub.mode {
            Some(given) => Some((
                self.choice("hub.mode", given, MODES, mode_name)?,
                given.origin.clone(),
            )),
            None => None,
        };
        let variable = |name: &str| Some(Origin::Variable(name.to_owned()));
        let direct = self
            .env
            .get("PHYHUB_DIRECT")
            .is_some_and(|text| text.eq_ignore_ascii_case("true") || text == "1");
        let simulator = self.env.get("PHYSTACK_SIMULATOR_URL").is_some();
        let chosen = match () {
            () if direct => Some((HubMode::Direct, "PHYHUB_DIRECT")),
            () if simulator => Some((HubMode::Simulator, "PHYSTACK_SIMULATOR_URL")),
            () => None,
        };
        Ok(match (given, chosen) {
            (Some((mode, origin @ Origin::Variable(_))), _) => (mode, Some(origin)),
            (Some((None, origin)), Some((_, name))) => {
                return Err(ConfigError::HubAndNone {
                    place: self.place(&origin),
                    variable: name,
                });
            }
            (_, Some((mode, name))) => (Some(mode), variable(name)),
            (Some((mode, origin)), None) => (mode, Some(origin)),
            (None, None) => (Some(HubMode::Phyos), None),
        })
    }

    /// The hub's address. One from the file counts in the mode that the file gives, so that the credentials of another mode
    /// never go there.
    pub(super) fn hub_url(&self, file: &File, mode: HubMode) -> Result<HubAddress, ConfigError> {
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
            HubMode::Phyos => Ok(HubAddress {
                url: PHYOS_URL.to_owned(),
                origin: None,
                region: None,
            }),
            _ => Err(ConfigError::NoUrl {
                mode: mode.as_str(),
                variable: url_variable,
            }),
        }
    }

    fn checked_url(&self, given: &Given<String>) -> Result<HubAddress, ConfigError> {
        let host = ["http://", "https://", "ws://", "wss://"]
            .into_iter()
            .find_map(|scheme| given.value.strip_prefix(scheme))
            .and_then(|rest| rest.split(['/', '?', '#']).next())
            .unwrap_or_default();
        if host.is_empty() || given.value.contains(char::is_whitespace) {
            // The address may hold a password.
            let shown = Given {
                value: redacted_url(&given.value),
                origin: given.origin.clone(),
            };
            return Err(self.bad("hub.url", &shown, "an address like \"https://hub.example\""));
        }
        Ok(HubAddress {
            url: given.value.clone(),
            origin: Some(given.origin.clone()),
            region: None,
        })
    }

    fn region(&self, given: &Given<String>) -> Result<HubAddress, ConfigError> {
        let Some(url) = region_url(&given.value) else {
            let takes = format!("one of {}", region_names());
            return Err(self.bad("hub.region", given, &takes));
        };
        Ok(HubAddress {
            url: url.to_owned(),
            origin: Some(given.origin.clone()),
            region: Some(given.value.clone()),
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

    pub(super) fn ice(&self, file: &File, turn: bool) -> IceSettings {
        let ice = &file.ice;
        let policy_name = |relay_only| if relay_only { "relay" } else { "all" };
        let relay_only = ice.policy.as_ref().map_or(turn, |given| {
            let chosen = self.choice("ice.policy", given, &[false, true], policy_name);
            self.or(chosen, turn)
        });
        let udp_ports = ice.udp_ports.as_ref().and_then(|given| {
            let range = ports(&given.value);
            if range.is_none() {
                let takes = "first and last port as in \"50000-50100\"";
                self.note(self.bad("ice.udp_ports", given, takes));
            }
            range
        });
        let nat_1to1_ips = ice.nat_1to1_ips.as_ref().map_or_else(Vec::new, |given| {
            let addresses = given.value.iter().map(|text| text.parse::<IpAddr>());
            let addresses: Result<Vec<_>, _> = addresses.collect();
            let takes = "a list of IP addresses";
            self.or(
                addresses.map_err(|_| self.bad("ice.nat_1to1_ips", given, takes)),
                Vec::new(),
            )
        });
        let defaults = IceSettings::default();
        let recv_buffer_bytes = ice.recv_buffer_bytes.as_ref().and_then(|given| {
            let bytes = self.integer("ice.recv_buffer_bytes", given, (1 << 16, 1 << 26));
            self.or(bytes.map(|bytes| Some(bytes as usize)), None)
        });
        IceSettings {
            relay_only,
            interfaces: ice
                .interfaces
                .as_ref()
                .map_or_else(Vec::new, |g| g.value.clone()),
            udp_ports,
            nat_1to1_ips,
            mdns: ice.mdns.as_ref().is_some_and(|given| given.value),
            recv_buffer_bytes: recv_buffer_bytes.unwrap_or(defaults.recv_buffer_bytes),
        }
    }

    /// Every camera stream that is met by a hub needs a port.
    pub(super) fn check_ports(&self, file: &File, ice: &IceSettings, cameras: usize) {
        let (Some(given), Some(ports)) = (&file.ice.udp_ports, &ice.udp_ports) else {
            return;
        };
        let ports = ports.len();
        if ports < cameras {
            self.note(ConfigError::TooFewPorts {
                place: self.place(&given.origin),
                ports,
                cameras,
            });
        }
    }

    pub(super) fn http(&self, file: &File) -> HttpConfig {
        let listen = file.http.listen.as_ref().map_or(DEFAULT_LISTEN, |given| {
            let takes = "address and port as in \"127.0.0.1:9464\"";
            let address = given.value.parse();
            self.or(
                address.map_err(|_| self.bad("http.listen", given, takes)),
                DEFAULT_LISTEN,
            )
        });
        let token = self.secret("http.token_file", TOKEN, &[], file.http.token_file.as_ref());
        HttpConfig {
            listen,
            token: self.or(token, None),
            edit: file.http.edit.as_ref().is_some_and(|given| given.value),
        }
    }

    pub(super) fn runtime(&self, file: &File) -> RuntimeConfig {
        let runtime = &file.runtime;
        let mut execution_providers = vec!["cpu".to_owned()];
        if let Some(given) = &runtime.execution_providers {
            let known = |name: &String| EXECUTION_PROVIDERS.contains(&name.as_str());
            if given.value.is_empty() || !given.value.iter().all(known) {
                let takes = format!("a list of {}", EXECUTION_PROVIDERS.join(", "));
                self.note(self.bad("runtime.execution_providers", given, &takes));
            } else {
                execution_providers.clone_from(&given.value);
            }
        }
        let threads = runtime.threads.as_ref().map_or(0, |given| {
            self.or(self.integer("runtime.threads", given, (0, 1024)), 0) as usize
        });
        let library = self.or(self.path("runtime.library", runtime.library.as_ref()), None);
        let models_dir = self.path("runtime.models_dir", runtime.models_dir.as_ref());
        RuntimeConfig {
            library: library.or_else(|| self.env.get(LIBRARY_VARIABLE).map(PathBuf::from)),
            execution_providers,
            threads,
            models_dir: self
                .or(models_dir, None)
                .unwrap_or_else(|| PathBuf::from("models")),
        }
    }
}

/// Reads `50000-50100`, or a single port.
fn ports(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first > 0 && first <= last).then_some(first..=last)
}
