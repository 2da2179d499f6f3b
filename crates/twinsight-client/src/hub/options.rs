//! Which hub to connect to, as whom and with what patience: the official clients' variables come
//! in, checked options go out. The configuration fills the same options from its file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::message::IceServer;
use super::text::redacted_url;
use crate::secret::Secret;
use twinsight_media::label_enum;

/// Where PhyOS serves the hub on a device.
pub const PHYOS_URL: &str = "http://phyos:55000";

/// The regions of the public hub and their URLs.
pub const REGIONS: &[(&str, &str)] = &[
    ("eu", "https://phyhub.eu.omborigrid.net"),
    ("us", "https://phyhub.us.omborigrid.net"),
    ("uae", "https://phyhub.uae.omborigrid.net"),
    ("au", "https://phyhub.au.omborigrid.net"),
    ("in", "https://phyhub.in.omborigrid.net"),
    ("qa", "https://phyhub.qa.omborigrid.net"),
    ("dev", "https://phyhub.dev.omborigrid.net"),
    ("local", "http://localhost:3000"),
];

label_enum! {
    /// Which hub it is, which decides how a client introduces itself and how long it waits.
    pub enum HubMode {
        /// The public hub. The client introduces itself with a device id and an access key.
        Direct = "direct",
        /// A simulator or a development hub, which believes the twin id that it is told.
        Simulator = "simulator",
        /// The hub of the device that the app runs on, which believes the twin id that it is told.
        Phyos = "phyos",
    }
}

/// Which hub to join, as whom, and for how long to wait for it.
#[derive(Clone, PartialEq, Eq)]
pub struct HubOptions {
    /// Which hub it is.
    pub mode: HubMode,
    /// `http://`, `https://`, `ws://` or `wss://`, host and port.
    pub url: String,
    /// The own twin; empty in direct mode, where the hub tells it.
    pub twin_id: String,
    /// The own device. Direct mode needs it; otherwise it may be empty.
    pub device_id: String,
    /// Proves the device to the hub; direct mode needs it.
    pub access_key: Option<Secret>,
    /// Certificates (PEM) to trust besides the public ones.
    pub ca_file: Option<PathBuf>,
    /// A STUN server to use besides those that the hub gives.
    pub stun_url: Option<String>,
    /// A TURN server to use besides those that the hub gives.
    pub turn: Option<TurnServer>,
    /// Time limits.
    pub timers: Timers,
}

/// A TURN server with its credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnServer {
    /// `turn:` or `turns:`.
    pub url: String,
    /// May be empty.
    pub username: String,
    /// May be empty.
    pub credential: Secret,
}

/// Time limits of the hub client, which [`Timers::of`] begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timers {
    /// From dialling to the granted namespace.
    pub connect: Duration,
    /// How long [`HubClient::connect`](super::HubClient::connect) waits until the hub is joined. Longer than `refusal`, so
    /// that a wrong key is told as that.
    pub join: Duration,
    /// For the hub's acknowledgement of a call.
    pub ack: Duration,
    /// For another twin's answer to a request.
    pub request: Duration,
    /// For the hub's list of ICE servers.
    pub ice_servers: Duration,
    /// For the socket to take one frame.
    pub write: Duration,
    /// How long the hub must have refused the credentials, again and again, until the client gives up.
    pub refusal: Duration,
    /// The first delay before connecting again.
    pub backoff_first: Duration,
    /// The longest delay before connecting again.
    pub backoff_cap: Duration,
}

/// Why the variables make no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HubConfigError {
    /// A variable that the mode needs is missing.
    #[error("{variables} is not set: {mode} needs it")]
    Missing {
        /// The variable and its alternative.
        variables: &'static str,
        /// The mode in words.
        mode: &'static str,
    },
    /// The region is not one of the hub's.
    #[error(
        "PHYHUB_REGION is `{region}`, which is none of {}: set one of them or PHYHUB_URL",
        region_names()
    )]
    Region {
        /// The region as given.
        region: String,
    },
    /// The URL is none of a hub.
    #[error("the hub's URL `{url}` is not of the form http(s)://HOST[:PORT]: correct it")]
    Url {
        /// The URL as given, without its secrets.
        url: String,
    },
}

/// The names of [`REGIONS`], as a sentence lists them.
pub fn region_names() -> String {
    let names: Vec<_> = REGIONS.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

impl HubMode {
    /// How long connecting may take: 15 s to the public hub, 3 s to a simulator, 5 s on a device.
    pub fn connect_limit(self) -> Duration {
        Duration::from_secs(match self {
            Self::Direct => 15,
            Self::Simulator => 3,
            Self::Phyos => 5,
        })
    }
}

impl Timers {
    /// The official clients' limits for a mode.
    pub fn of(mode: HubMode) -> Self {
        Self {
            connect: mode.connect_limit(),
            join: Duration::from_secs(90),
            ack: Duration::from_secs(20),
            request: Duration::from_secs(10),
            ice_servers: Duration::from_secs(12),
            write: Duration::from_secs(10),
            refusal: Duration::from_secs(60),
            backoff_first: Duration::from_secs(1),
            // The public hub serves a fleet. One on the same device or bench costs nobody anything, and
            // is to be joined as soon as it is back.
            backoff_cap: match mode {
                HubMode::Direct => Duration::from_secs(30),
                HubMode::Simulator | HubMode::Phyos => Duration::from_secs(1),
            },
        }
    }
}

impl HubOptions {
    /// A hub without anybody's identity: the caller still has to say who joins it.
    pub fn new(mode: HubMode, url: impl Into<String>) -> Self {
        Self {
            mode,
            url: url.into(),
            twin_id: String::new(),
            device_id: String::new(),
            access_key: None,
            ca_file: None,
            stun_url: None,
            turn: None,
            timers: Timers::of(mode),
        }
    }

    /// A simulator or development hub, as `twin_id`.
    pub fn simulator(url: impl Into<String>, twin_id: impl Into<String>) -> Self {
        Self {
            twin_id: twin_id.into(),
            ..Self::new(HubMode::Simulator, url)
        }
    }

    /// The hub of the device that the app runs on, as `twin_id`.
    pub fn phyos(twin_id: impl Into<String>) -> Self {
        Self {
            twin_id: twin_id.into(),
            ..Self::new(HubMode::Phyos, PHYOS_URL)
        }
    }

    /// The public hub, as a device.
    pub fn direct(
        url: impl Into<String>,
        device_id: impl Into<String>,
        access_key: impl Into<Secret>,
    ) -> Self {
        Self {
            device_id: device_id.into(),
            access_key: Some(access_key.into()),
            ..Self::new(HubMode::Direct, url)
        }
    }

    /// As the official clients' variables of the environment say; an empty one counts as not set.
    ///
    /// # Errors
    /// If a variable that the mode needs is missing or wrong.
    pub fn from_env() -> Result<Self, HubConfigError> {
        // What is no Unicode is none of them.
        let variables = std::env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
        Self::from_variables(&variables.collect())
    }

    /// As [`HubOptions::from_env`], from these variables.
    ///
    /// # Errors
    /// If a variable that the mode needs is missing or wrong.
    pub fn from_variables(env: &BTreeMap<String, String>) -> Result<Self, HubConfigError> {
        let get = |keys: &[&str]| {
            keys.iter()
                .filter_map(|key| env.get(*key))
                .find(|value| !value.is_empty())
                .cloned()
        };
        let need = |keys: &[&str], variables, mode| {
            get(keys).ok_or(HubConfigError::Missing { variables, mode })
        };
        let own_twin = |mode| {
            need(
                &["TWIN_ID", "INSTANCE_ID"],
                "TWIN_ID (or INSTANCE_ID)",
                mode,
            )
        };
        let direct = get(&["PHYHUB_DIRECT"])
            .is_some_and(|value| ["true", "1"].contains(&value.to_lowercase().as_str()));
        let mut options = if direct {
            let mode = "the direct mode (PHYHUB_DIRECT)";
            let device_id = need(
                &["DEVICE_ID", "PHYGRID_DEVICE_ID"],
                "DEVICE_ID (or PHYGRID_DEVICE_ID)",
                mode,
            )?;
            let access_key = need(
                &["ACCESS_KEY", "PHYGRID_DEVICE_KEY"],
                "ACCESS_KEY (or PHYGRID_DEVICE_KEY)",
                mode,
            )?;
            let url = match (get(&["PHYHUB_URL"]), get(&["PHYHUB_REGION"])) {
                (Some(url), _) => url,
                (None, Some(region)) => region_url(&region)
                    .ok_or(HubConfigError::Region { region })?
                    .to_owned(),
                (None, None) => {
                    return Err(HubConfigError::Missing {
                        variables: "PHYHUB_URL (or PHYHUB_REGION)",
                        mode,
                    });
                }
            };
            Self::direct(url, device_id, access_key)
        } else if let Some(url) = get(&["PHYSTACK_SIMULATOR_URL"]) {
            Self::simulator(url, own_twin("the simulator mode")?)
        } else {
            Self::phyos(own_twin(
                "a hub that knows who is calling (set by PhyOS or the simulator)",
            )?)
        };
        options.stun_url = get(&["PHYSTACK_STUN_URL"]);
        options.turn = get(&["PHYSTACK_TURN_URL"]).map(|url| TurnServer {
            url,
            username: get(&["PHYSTACK_TURN_USERNAME"]).unwrap_or_default(),
            credential: Secret::new(get(&["PHYSTACK_TURN_CREDENTIAL"]).unwrap_or_default()),
        });
        options.websocket_url()?;
        Ok(options)
    }

    /// The operator's STUN and TURN servers.
    pub fn static_ice_servers(&self) -> Vec<IceServer> {
        let stun = self.stun_url.as_ref().map(|url| IceServer {
            urls: vec![url.clone()],
            username: None,
            credential: None,
        });
        let turn = self.turn.as_ref().map(|turn| IceServer {
            urls: vec![turn.url.clone()],
            username: Some(turn.username.clone()),
            credential: Some(turn.credential.expose().to_owned()),
        });
        stun.into_iter().chain(turn).collect()
    }

    /// True when candidates other than relayed ones are to be left out unless configured otherwise.
    pub fn prefers_relay(&self) -> bool {
        self.turn.is_some()
    }

    /// Where the WebSocket is, `https://` being `wss://`.
    pub fn websocket_url(&self) -> Result<String, HubConfigError> {
        let error = || HubConfigError::Url {
            url: redacted_url(&self.url),
        };
        let (scheme, rest) = self.url.split_once("://").ok_or_else(error)?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" | "ws" => "ws",
            "https" | "wss" => "wss",
            _ => return Err(error()),
        };
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        // A user and a password mean nothing to a hub: who is calling it says in the protocol.
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(error());
        }
        // The URI's parser takes any text for a port.
        let port = host.rsplit_once(':').map(|(_, port)| port);
        if port.is_some_and(|port| !port.contains(']') && port.parse::<u16>().is_err()) {
            return Err(error());
        }
        let url = format!("{scheme}://{host}/socket.io/?EIO=4&transport=websocket");
        let uri: tokio_tungstenite::tungstenite::http::Uri = url.parse().map_err(|_| error())?;
        if uri.host().is_none_or(str::is_empty) {
            return Err(error());
        }
        Ok(url)
    }

    /// Where the hub is, as it may be shown: without a user, a password, a path and a query.
    pub fn shown_url(&self) -> String {
        let Ok(socket) = self.websocket_url() else {
            return redacted_url(&self.url);
        };
        let tail = socket.find("/socket.io/").unwrap_or(socket.len());
        // `ws` and `wss` are `http` and `https`.
        socket[..tail].replacen("ws", "http", 1)
    }
}

impl fmt::Debug for HubOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubOptions")
            .field("mode", &self.mode)
            .field("url", &self.shown_url())
            .field("twin_id", &self.twin_id)
            .field("device_id", &self.device_id)
            .field("ca_file", &self.ca_file)
            .finish_non_exhaustive()
    }
}

/// The public hub of a region, in any case.
pub fn region_url(region: &str) -> Option<&'static str> {
    let region = region.to_lowercase();
    REGIONS
        .iter()
        .find_map(|(name, url)| (*name == region).then_some(*url))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<HubOptions, HubConfigError> {
        let env = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        HubOptions::from_variables(&env)
    }

    #[test]
    fn direct_goes_before_simulator_before_phyos() {
        let all = [
            ("PHYHUB_DIRECT", "True"),
            ("PHYSTACK_SIMULATOR_URL", "http://sim:1"),
            ("TWIN_ID", "node"),
            ("PHYGRID_DEVICE_ID", "dev"),
            ("ACCESS_KEY", "key"),
            ("PHYHUB_REGION", "EU"),
        ];
        let direct = read(&all).unwrap();
        assert_eq!(direct.mode, HubMode::Direct);
        assert_eq!(direct.url, "https://phyhub.eu.omborigrid.net");
        assert_eq!(
            (direct.twin_id.as_str(), direct.device_id.as_str()),
            ("", "dev")
        );
        assert_eq!(direct.timers.connect, Duration::from_secs(15));
        let simulator = read(&all[1..]).unwrap();
        assert_eq!(simulator.mode, HubMode::Simulator);
        assert_eq!(
            (simulator.twin_id.as_str(), simulator.device_id.as_str()),
            ("node", "")
        );
        assert_eq!(simulator.timers.connect, Duration::from_secs(3));
        let phyos = read(&[("INSTANCE_ID", "node"), ("PHYHUB_DIRECT", "yes")]).unwrap();
        assert_eq!(
            (phyos.mode, phyos.url.as_str()),
            (HubMode::Phyos, "http://phyos:55000")
        );
        assert_eq!(phyos.timers.connect, Duration::from_secs(5));
    }

    #[test]
    fn what_is_missing_is_named() {
        let message = |pairs| read(pairs).unwrap_err().to_string();
        assert!(message(&[]).contains("TWIN_ID"));
        assert!(message(&[("PHYHUB_DIRECT", "1")]).contains("DEVICE_ID"));
        let device = [
            ("PHYHUB_DIRECT", "1"),
            ("DEVICE_ID", "d"),
            ("ACCESS_KEY", "k"),
        ];
        assert!(message(&device).contains("PHYHUB_URL"));
        let mut region = device.to_vec();
        region.push(("PHYHUB_REGION", "mars"));
        assert!(message(&region).contains("mars") && message(&region).contains("uae"));
        let wrong = [("PHYSTACK_SIMULATOR_URL", "localhost:1"), ("TWIN_ID", "n")];
        assert!(message(&wrong).contains("localhost:1"));
    }

    #[test]
    fn the_socket_is_at_the_root_of_the_host() {
        let url = |url: &str| HubOptions::simulator(url, "n").websocket_url();
        let tail = "/socket.io/?EIO=4&transport=websocket";
        assert_eq!(url("http://h:1").unwrap(), format!("ws://h:1{tail}"));
        assert_eq!(url("https://h/x?y").unwrap(), format!("wss://h{tail}"));
        assert_eq!(
            url("WSS://[::1]:2/").unwrap(),
            format!("wss://[::1]:2{tail}")
        );
        for wrong in ["", "h", "ftp://h", "http://", "http:// h", "http://h:port"] {
            assert!(url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_shown_of_a_url_holds_no_secret() {
        let options = |url: &str| HubOptions::simulator(url, "n");
        let secrets = options("https://user:hunter2@h:1/x?token=hunter2#hunter2");
        assert_eq!(secrets.shown_url(), "https://h:1");
        assert_eq!(
            secrets.websocket_url().unwrap(),
            "wss://h:1/socket.io/?EIO=4&transport=websocket"
        );
        assert!(!format!("{secrets:?}").contains("hunter2"));
        assert_eq!(options("ws://h").shown_url(), "http://h");
        for url in [
            "http://user:hunter2@h:port",
            "user:hunter2@h",
            "http://user:hunt/hunter2@h",
            "http:// h?token=hunter2",
        ] {
            let error = options(url).websocket_url().unwrap_err().to_string();
            let debug = format!("{:?}", options(url));
            assert!(
                !error.contains("hunter2") && !debug.contains("hunter2"),
                "{error} {debug}"
            );
        }
    }

    #[test]
    fn an_operators_turn_server_means_relay() {
        let options = read(&[
            ("TWIN_ID", "n"),
            ("PHYSTACK_STUN_URL", "stun:s"),
            ("PHYSTACK_TURN_URL", "turn:t"),
            ("PHYSTACK_TURN_USERNAME", "u"),
            ("PHYSTACK_TURN_CREDENTIAL", "secret"),
        ])
        .unwrap();
        assert!(options.prefers_relay());
        assert_eq!(options.static_ice_servers().len(), 2);
        assert!(!format!("{options:?}").contains("secret"));
        assert!(!read(&[("TWIN_ID", "n")]).unwrap().prefers_relay());
    }
}
