//! Checks `[models]`: which models run on a server of the Open Inference Protocol, and how it is reached. A model without a section
//! here runs on this machine.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::error::ConfigError;
use super::file::{File, Given, ModelSection, Origin, Texts};
use super::resolve::Resolver;
use super::shown::shown;
use twinsight_client::hub::text::redacted_url;
use twinsight_client::secret::Secret;
use twinsight_media::label_enum;
use url::Url;

/// A model that runs on a server of the Open Inference Protocol (KServe's version 2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteModelConfig {
    /// The name by which cameras ask for it.
    pub name: String,
    /// The manifest in the models folder that says what it takes and gives, by its name.
    pub manifest: String,
    /// The servers that have it. There is at least one, no two are the same, and all have the same scheme.
    pub servers: Vec<ServerUrl>,
    /// What the servers call it.
    pub model: String,
    /// Its version on the servers. `None` leaves the choice to them.
    pub version: Option<String>,
    /// A request that is not answered by then is given up, and its frame with it.
    pub deadline: Duration,
    /// The most requests that may be under way at once.
    pub max_in_flight: usize,
    /// A model of this machine that takes its place while no server can be used, or it is set aside. It has the same labels.
    pub fallback: Option<String>,
    /// Certificates to trust beside the built-in roots.
    pub ca_file: Option<PathBuf>,
    /// What the servers ask for as `Authorization: Bearer`.
    pub token: Option<Secret>,
}

/// The address of an inference server. It never holds credentials.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerUrl {
    /// By what the messages to it are carried.
    pub protocol: ServerProtocol,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// Its name or address, of IP version 6 in brackets, and its port.
    pub authority: String,
    /// What stands before `/v2` in the paths of HTTP, without a slash at its end; empty for gRPC.
    pub path: String,
}

/// By what the messages of the protocol are carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServerProtocol {
    /// gRPC, with tensors as raw bytes.
    Grpc,
    /// HTTP, with tensors as raw bytes by the binary extension.
    Http,
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match (self.protocol, self.tls) {
            (ServerProtocol::Grpc, false) => "grpc",
            (ServerProtocol::Grpc, true) => "grpcs",
            (ServerProtocol::Http, false) => "http",
            (ServerProtocol::Http, true) => "https",
        };
        write!(f, "{scheme}://{}{}", self.authority, self.path)
    }
}

/// The most models that run on servers.
const MAX_MODELS: usize = 32;

/// The most servers of a model.
const MAX_SERVERS: usize = 16;

const DEFAULT_DEADLINE_MS: u32 = 500;
const DEFAULT_IN_FLIGHT: u32 = 16;

label_enum! {
    /// What a model may run on beside this machine.
    pub enum Backend {
        /// A server of the Open Inference Protocol.
        Kserve = "kserve",
    }
}

impl Resolver<'_> {
    pub(super) fn models(&self, file: &File) -> Vec<RemoteModelConfig> {
        let mut models = Vec::new();
        for (name, spanned) in &file.models {
            let origin = Origin::File(spanned.span().start);
            if models.len() == MAX_MODELS {
                self.note(ConfigError::TooManyModels {
                    place: self.place(&origin),
                    found: file.models.len(),
                    limit: MAX_MODELS,
                });
                break;
            }
            models.extend(self.model(&origin, name, spanned.get_ref()));
        }
        for (name, spanned) in &file.models {
            if let Some(given) = &spanned.get_ref().fallback
                && file.models.contains_key(&given.value)
            {
                self.note(ConfigError::RemoteFallback {
                    place: self.place(&given.origin),
                    name: name.clone(),
                    fallback: given.value.clone(),
                });
            }
        }
        models
    }

    /// Checks one model. `None` means that something that it cannot do without is missing or wrong, which is noted.
    fn model(
        &self,
        origin: &Origin,
        name: &str,
        section: &ModelSection,
    ) -> Option<RemoteModelConfig> {
        if !is_file_name(name) {
            self.note(ConfigError::BadValue {
                place: self.place(origin),
                key: "models".to_owned(),
                found: format!("{name:?}"),
                takes: "a name of letters, digits, dots, hyphens and underscores".to_owned(),
            });
        }
        let key = |key: &str| key_of(name, key);
        let missing = |key: &'static str, what: &'static str| {
            self.note(ConfigError::ModelWithout {
                place: self.place(origin),
                name: name.to_owned(),
                key,
                what,
            });
        };
        match &section.backend {
            Some(given) => {
                let backend = self.choice(&key("backend"), given, Backend::ALL, Backend::as_str);
                self.or(backend.map(Some), None)?;
            }
            None => {
                missing(
                    "backend",
                    "\"kserve\" for a server of the Open Inference Protocol",
                );
                return None;
            }
        }
        let Some(url) = &section.url else {
            missing("url", "the address of its server");
            return None;
        };
        let servers = self.servers(&key("url"), url)?;
        let manifest = section.manifest.as_ref().map_or(name, |given| {
            if !is_file_name(&given.value) {
                self.note(self.bad(
                    &key("manifest"),
                    given,
                    "the name of a manifest in the models folder, without `.toml`",
                ));
            }
            &given.value
        });
        let on_server = |name: &str, given: &Option<Given<String>>| {
            let given = given.as_ref()?;
            if !is_server_name(&given.value) {
                self.note(self.bad(
                    &key(name),
                    given,
                    "1 to 256 printable characters without blanks and slashes",
                ));
            }
            Some(given.value.clone())
        };
        let deadline = section.deadline_ms.as_ref();
        let deadline = deadline.map_or(DEFAULT_DEADLINE_MS, |given| {
            self.or(
                self.integer(&key("deadline_ms"), given, (20, 15_000)),
                DEFAULT_DEADLINE_MS,
            )
        });
        let in_flight = section.max_in_flight.as_ref();
        let in_flight = in_flight.map_or(DEFAULT_IN_FLIGHT, |given| {
            self.or(
                self.integer(&key("max_in_flight"), given, (1, 256)),
                DEFAULT_IN_FLIGHT,
            )
        });
        let is_encrypted = servers.iter().any(|server| server.tls);
        if let (false, Some(given)) = (is_encrypted, &section.ca_file) {
            self.note(ConfigError::PlainServer {
                place: self.place(&given.origin),
                key: key("ca_file"),
            });
        }
        let token = section
            .token_file
            .as_ref()
            .map(|given| self.secret_file(&key("token_file"), given))
            .transpose();
        Some(RemoteModelConfig {
            name: name.to_owned(),
            manifest: manifest.to_owned(),
            servers,
            model: on_server("model", &section.model).unwrap_or_else(|| name.to_owned()),
            version: on_server("version", &section.version),
            deadline: Duration::from_millis(u64::from(deadline)),
            max_in_flight: in_flight as usize,
            fallback: section.fallback.as_ref().map(|given| given.value.clone()),
            ca_file: self.or(self.path(&key("ca_file"), section.ca_file.as_ref()), None),
            token: self.or(token, None),
        })
    }

    fn servers(&self, key: &str, given: &Given<Texts>) -> Option<Vec<ServerUrl>> {
        let takes = "addresses of one kind without user and password, such as \"grpc://triton:8001\" or \"https://triton:8000\", each once";
        let servers: Option<Vec<ServerUrl>> =
            given.value.0.iter().map(|text| server(text)).collect();
        let fits = |servers: &Vec<ServerUrl>| {
            let [first, others @ ..] = &servers[..] else {
                return false;
            };
            servers.len() <= MAX_SERVERS
                && others
                    .iter()
                    .all(|each| (each.protocol, each.tls) == (first.protocol, first.tls))
                && (1..)
                    .zip(servers)
                    .all(|(n, each)| !servers[n..].contains(each))
        };
        let servers = servers.filter(fits);
        if servers.is_none() {
            let presentable = Given {
                value: given
                    .value
                    .0
                    .iter()
                    .map(|url| redacted_url(url))
                    .collect::<Vec<_>>(),
                origin: given.origin.clone(),
            };
            self.note(self.bad(key, &presentable, takes));
        }
        servers
    }
}

/// A key of `[models.NAME]` as it is written in the file, where a name with a dot in it is quoted.
fn key_of(name: &str, key: &str) -> String {
    let is_bare = |name: &str| {
        name.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
    };
    match is_bare(name) {
        true => format!("models.{name}.{key}"),
        false => format!("models.\"{}\".{key}", shown(name)),
    }
}

fn server(text: &str) -> Option<ServerUrl> {
    let (protocol, tls, default_port) = match text.split_once("://")?.0 {
        "grpc" => (ServerProtocol::Grpc, false, 8001),
        "grpcs" => (ServerProtocol::Grpc, true, 443),
        "http" => (ServerProtocol::Http, false, 80),
        "https" => (ServerProtocol::Http, true, 443),
        _ => return None,
    };
    let url = Url::parse(text).ok()?;
    let path = url.path().trim_end_matches('/');
    let fits = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none()
        && (path.is_empty() || protocol == ServerProtocol::Http);
    let host = url.host_str().filter(|host| fits && !host.is_empty())?;
    let authority = format!("{host}:{}", url.port().unwrap_or(default_port));
    // Whatever a URL lets pass has to be an address of HTTP, too, since that is what it is used for.
    authority.parse::<hyper::http::uri::Authority>().ok()?;
    Some(ServerUrl {
        protocol,
        tls,
        authority,
        path: path.to_owned(),
    })
}

/// True for a plain file name.
fn is_file_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn is_server_name(name: &str) -> bool {
    (1..=256).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic() && b != b'/')
}

#[cfg(test)]
#[path = "models_tests.rs"]
mod tests;
