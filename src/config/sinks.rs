//! Checks `[[sinks]]`: where events go besides the hub. What each kind of sink needs is a type of its own.

use std::path::PathBuf;
use std::time::Duration;

use axum::http::Uri;

use super::error::ConfigError;
use super::file::{File, Given, Origin, SinkSection};
use super::resolve::Resolver;
use twinsight_client::hub::text::redacted_url;
use twinsight_client::secret::Secret;
use twinsight_media::label_enum;
use url::Url;

/// The most sinks that a node has. Each has an outbox, a task and series for each camera.
const MAX_SINKS: usize = 8;

/// The most time that an event may wait for a webhook, in milliseconds.
const MAX_AGE_MS: u32 = 600_000;

/// A place beside the hub where events go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkConfig {
    /// The sink's name in metrics and in the log. No two sinks have the same.
    pub name: String,
    /// The events that it gets. There is at least one kind.
    pub events: Vec<EventKind>,
    /// What it is, and how it is reached.
    pub target: SinkTarget,
}

/// What a sink is, and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SinkTarget {
    /// An MQTT broker.
    Mqtt(MqttConfig),
    /// A server that events are posted to.
    Webhook(WebhookConfig),
}

/// How an MQTT broker is reached, and what it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MqttConfig {
    /// The broker's name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// Certificates to trust beside the built-in roots.
    pub ca_file: Option<PathBuf>,
    /// Who the node is to the broker.
    pub username: Option<String>,
    /// The password of that user.
    pub password: Option<Secret>,
    /// What all topics begin with.
    pub topic: String,
    /// What the node is called in topics. `None` means as at its hub.
    pub node: Option<String>,
    /// The quality of service of what tells a change, 0 to 2. Detections go with 0.
    pub qos: u8,
    /// Whether Home Assistant is told which entities there are.
    pub home_assistant: bool,
    /// What the topics of Home Assistant's discovery begin with.
    pub discovery_prefix: String,
}

/// How a webhook is reached, and what it gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookConfig {
    /// Where events are posted to. It may hold a secret, so it is not shown as it is.
    pub url: Secret,
    /// Signs what is posted. `None` means that nothing is signed.
    pub secret: Option<Secret>,
    /// An event that is older is dropped.
    pub max_age: Duration,
    /// Certificates to trust beside the built-in roots.
    pub ca_file: Option<PathBuf>,
}

label_enum! {
    /// The kinds of events.
    pub enum EventKind {
        /// What was seen in a frame.
        Detections = "detections",
        /// A change of a camera's state.
        CameraStatus = "cameraStatus",
        /// What became of something that is followed.
        Track = "track",
        /// Something that is followed crossed a line.
        LineCrossed = "lineCrossed",
    }
}

label_enum! {
    /// The kinds of sinks.
    pub enum SinkType {
        /// An MQTT broker.
        Mqtt = "mqtt",
        /// A server that events are posted to.
        Webhook = "webhook",
    }
}

impl Resolver<'_> {
    pub(super) fn sinks(&self, file: &File) -> Vec<SinkConfig> {
        let mut sinks: Vec<SinkConfig> = Vec::new();
        for (n, spanned) in file.sinks.iter().enumerate() {
            let origin = Origin::File(spanned.span().start);
            if n == MAX_SINKS {
                self.note(ConfigError::TooManySinks {
                    place: self.place(&origin),
                    found: file.sinks.len(),
                    limit: MAX_SINKS,
                });
                break;
            }
            let Some(sink) = self.sink(&origin, spanned.get_ref()) else {
                continue;
            };
            if sinks.iter().any(|other| other.name == sink.name) {
                self.note(ConfigError::SinkTwice {
                    place: self.place(&origin),
                    name: sink.name,
                });
            } else {
                sinks.push(sink);
            }
        }
        sinks
    }

    /// Checks one sink. `None` means that something that it cannot do without is missing or wrong, which is noted.
    fn sink(&self, origin: &Origin, section: &SinkSection) -> Option<SinkConfig> {
        let missing = |key: &'static str, what: &'static str| {
            self.note(ConfigError::SinkWithout {
                place: self.place(origin),
                key,
                what,
            });
        };
        let Some(given) = &section.r#type else {
            missing("type", "\"mqtt\" or \"webhook\"");
            return None;
        };
        let kind = self.choice("sinks.type", given, SinkType::ALL, SinkType::as_str);
        let kind = self.or(kind.map(Some), None)?;
        self.refuse_keys_of_the_other(kind, section);
        let name = match &section.name {
            Some(given) => {
                self.or(self.id("sinks.name", given, false), ());
                if given.value == "hub" || given.value == "local" {
                    self.note(self.bad("sinks.name", given, "another name, this one is taken"));
                }
                given.value.clone()
            }
            None => kind.as_str().to_owned(),
        };
        let Some(url) = &section.url else {
            missing("url", "the address of the broker or of the webhook");
            return None;
        };
        let target = match kind {
            SinkType::Mqtt => SinkTarget::Mqtt(self.mqtt(section, url)?),
            SinkType::Webhook => SinkTarget::Webhook(self.webhook(section, url)?),
        };
        let events = match &section.events {
            Some(given) => self.or(self.event_kinds(given), EventKind::ALL.to_vec()),
            None if kind == SinkType::Mqtt => EventKind::ALL.to_vec(),
            None => vec![
                EventKind::CameraStatus,
                EventKind::Track,
                EventKind::LineCrossed,
            ],
        };
        Some(SinkConfig {
            name,
            events,
            target,
        })
    }

    /// Says of keys that only another kind of sink has that they mean nothing here.
    fn refuse_keys_of_the_other(&self, kind: SinkType, section: &SinkSection) {
        let of_mqtt = [
            "username",
            "password_file",
            "topic",
            "node",
            "qos",
            "home_assistant",
            "discovery_prefix",
        ];
        let of_webhook = ["secret_file", "max_age_ms"];
        let (others, owner) = match kind {
            SinkType::Mqtt => (&of_webhook[..], SinkType::Webhook),
            SinkType::Webhook => (&of_mqtt[..], SinkType::Mqtt),
        };
        for key in others {
            if let Some(origin) = section.origin(key) {
                self.note(ConfigError::KeyOfAnotherSink {
                    place: self.place(origin),
                    key,
                    owner: owner.as_str(),
                    kind: kind.as_str(),
                });
            }
        }
    }

    fn mqtt(&self, section: &SinkSection, url: &Given<String>) -> Option<MqttConfig> {
        let takes = "a broker's address like \"mqtt://broker:1883\" or \"mqtts://broker:8883\", with the user in `username` \
                     and the password in `password_file`";
        let address = Url::parse(&url.value).ok().filter(|address| {
            matches!(address.scheme(), "mqtt" | "mqtts")
                && address.username().is_empty()
                && address.password().is_none()
                && matches!(address.path(), "" | "/")
                && address.query().is_none()
                && address.fragment().is_none()
        });
        let host = address.as_ref().and_then(|address| {
            // A name in brackets is an address of IP version 6, which sockets take without them.
            let host = address.host_str()?;
            Some(host.trim_matches(['[', ']']).to_owned())
        });
        let (Some(address), Some(host)) = (address, host) else {
            let shown = self.redacted(url);
            self.note(self.bad("sinks.url", &shown, takes));
            return None;
        };
        let tls = address.scheme() == "mqtts";
        let text = |given: Option<&Given<String>>, default: &str| {
            given.map_or_else(|| default.to_owned(), |given| given.value.clone())
        };
        let topic = |key: &str, given: Option<&Given<String>>, default: &str| {
            if let Some(given) = given
                && !is_topic(&given.value)
            {
                let takes = "a topic of 1 to 128 characters without `+`, `#` and blanks, which neither begins nor ends with `/`";
                self.note(self.bad(key, given, takes));
            }
            text(given, default)
        };
        let qos = section.qos.as_ref().map_or(Ok(1), |given| {
            self.integer("sinks.qos", given, (0, 2))
                .map(|qos| u8::try_from(qos).expect("the range was checked"))
        });
        if let Some(given) = &section.node {
            self.or(self.id("sinks.node", given, true), ());
        }
        let half = match (&section.username, &section.password_file) {
            (Some(given), None) => Some(("username", "password_file", &given.origin)),
            (None, Some(given)) => Some(("password_file", "username", &given.origin)),
            _ => None,
        };
        if let Some((key, missing, origin)) = half {
            self.note(ConfigError::HalfALogin {
                place: self.place(origin),
                key,
                missing,
            });
        }
        let password = section
            .password_file
            .as_ref()
            .map(|given| self.secret_file("sinks.password_file", given))
            .transpose();
        Some(MqttConfig {
            host,
            port: address.port().unwrap_or(if tls { 8883 } else { 1883 }),
            tls,
            ca_file: self.or(self.path("sinks.ca_file", section.ca_file.as_ref()), None),
            username: section.username.as_ref().map(|given| given.value.clone()),
            password: self.or(password, None),
            topic: topic("sinks.topic", section.topic.as_ref(), "twinsight"),
            node: section.node.as_ref().map(|given| given.value.clone()),
            qos: self.or(qos, 1),
            home_assistant: section
                .home_assistant
                .as_ref()
                .is_none_or(|given| given.value),
            discovery_prefix: topic(
                "sinks.discovery_prefix",
                section.discovery_prefix.as_ref(),
                "homeassistant",
            ),
        })
    }

    fn webhook(&self, section: &SinkSection, url: &Given<String>) -> Option<WebhookConfig> {
        let address = Url::parse(&url.value).ok().filter(|address| {
            matches!(address.scheme(), "http" | "https")
                && address.host().is_some()
                && address.username().is_empty()
                && address.password().is_none()
                && address.fragment().is_none()
                && address.as_str().parse::<Uri>().is_ok()
        });
        let Some(address) = address else {
            let takes = "an address like \"https://host/path\" without user and password";
            // Its path may be the key to the webhook.
            let shown = Given {
                value: without_path(&redacted_url(&url.value)),
                origin: url.origin.clone(),
            };
            self.note(self.bad("sinks.url", &shown, takes));
            return None;
        };
        let max_age = section.max_age_ms.as_ref().map_or(Ok(10_000), |given| {
            self.integer("sinks.max_age_ms", given, (100, MAX_AGE_MS))
        });
        let secret = section
            .secret_file
            .as_ref()
            .map(|given| self.secret_file("sinks.secret_file", given))
            .transpose();
        Some(WebhookConfig {
            // Many services put the key to a webhook into its address.
            url: Secret::new(String::from(address)),
            secret: self.or(secret, None),
            max_age: Duration::from_millis(u64::from(self.or(max_age, 10_000))),
            ca_file: self.or(self.path("sinks.ca_file", section.ca_file.as_ref()), None),
        })
    }

    fn redacted(&self, url: &Given<String>) -> Given<String> {
        Given {
            value: redacted_url(&url.value),
            origin: url.origin.clone(),
        }
    }

    fn event_kinds(&self, given: &Given<Vec<String>>) -> Result<Vec<EventKind>, ConfigError> {
        let kind = |name: &String| {
            EventKind::ALL
                .iter()
                .copied()
                .find(|kind| kind.as_str() == name)
        };
        let kinds: Option<Vec<EventKind>> = given.value.iter().map(kind).collect();
        kinds.filter(|kinds| !kinds.is_empty()).ok_or_else(|| {
            let names: Vec<_> = EventKind::ALL.iter().map(|kind| kind.as_str()).collect();
            self.bad(
                "sinks.events",
                given,
                &format!("a list of {}", names.join(", ")),
            )
        })
    }
}

/// An address up to its host and port.
fn without_path(url: &str) -> String {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), url),
    };
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    format!("{scheme}{host}")
}

fn is_topic(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && !text.starts_with('/')
        && !text.ends_with('/')
        && !text.contains(|c: char| c.is_control() || c.is_whitespace() || c == '+' || c == '#')
}

#[cfg(test)]
#[path = "sinks_tests.rs"]
mod tests;
