//! Where the values of `[telemetry]` and `[[sinks]]` came from.

use serde_json::{Value, json};

use super::super::file::SinkSection;
use super::super::in_force::SectionInForce;
use super::super::sinks::{MqttConfig, SinkConfig, SinkTarget, WebhookConfig};
use super::super::values::TelemetryConfig;
use super::{Origins, path};
use twinsight_client::hub::text::redacted_url;
use twinsight_client::secret::Secret;

impl Origins<'_> {
    pub(super) fn telemetry(&self, telemetry: &TelemetryConfig) -> SectionInForce {
        let TelemetryConfig {
            otlp_endpoint,
            trace_sample_ratio,
            otlp_headers: _,
            otlp_ca_file,
        } = telemetry;
        let given = &self.file.telemetry;
        // The headers are secrets; the path of their file is none.
        let headers_file = given.otlp_headers_file.as_ref();
        SectionInForce(vec![
            (
                "otlp_endpoint",
                self.optional(
                    otlp_endpoint.as_deref().map(|url| redacted_url(url).into()),
                    given.origin("otlp_endpoint"),
                ),
            ),
            (
                "trace_sample_ratio",
                self.entry(
                    (*trace_sample_ratio).into(),
                    given.origin("trace_sample_ratio"),
                ),
            ),
            (
                "otlp_headers_file",
                self.optional(
                    headers_file.map(|file| file.value.as_str().into()),
                    given.origin("otlp_headers_file"),
                ),
            ),
            (
                "otlp_ca_file",
                self.optional(
                    otlp_ca_file.as_deref().map(path),
                    given.origin("otlp_ca_file"),
                ),
            ),
        ])
    }

    pub(super) fn sink(&self, sink: &SinkConfig, section: &SinkSection) -> SectionInForce {
        let SinkConfig {
            name,
            events,
            target,
        } = sink;
        let events: Vec<&str> = events.iter().map(|kind| kind.as_str()).collect();
        let file = |key: &'static str, secret: Option<&Secret>| {
            let value = secret.and_then(Secret::file).map(path);
            (key, self.optional(value, section.origin(key)))
        };
        let given = |key: &'static str, value: Value| (key, self.entry(value, section.origin(key)));
        let ca = |ca_file: &Option<std::path::PathBuf>| {
            let value = ca_file.as_deref().map(path);
            ("ca_file", self.optional(value, section.origin("ca_file")))
        };
        let own = vec![
            given("name", name.as_str().into()),
            given("events", json!(events)),
        ];
        let of_target = match target {
            SinkTarget::Mqtt(mqtt) => {
                let MqttConfig {
                    host,
                    port,
                    tls,
                    ca_file,
                    username,
                    password,
                    topic,
                    node,
                    qos,
                    home_assistant,
                    discovery_prefix,
                } = mqtt;
                let scheme = if *tls { "mqtts" } else { "mqtt" };
                let username = username.as_deref().map(Value::from);
                vec![
                    given("type", "mqtt".into()),
                    given("url", format!("{scheme}://{host}:{port}").into()),
                    ca(ca_file),
                    (
                        "username",
                        self.optional(username, section.origin("username")),
                    ),
                    file("password_file", password.as_ref()),
                    given("topic", topic.as_str().into()),
                    (
                        "node",
                        self.optional(node.as_deref().map(Value::from), section.origin("node")),
                    ),
                    given("qos", (*qos).into()),
                    given("home_assistant", (*home_assistant).into()),
                    given("discovery_prefix", discovery_prefix.as_str().into()),
                ]
            }
            SinkTarget::Webhook(webhook) => {
                let WebhookConfig {
                    url: _,
                    secret,
                    max_age,
                    ca_file,
                } = webhook;
                let max_age_ms = u64::try_from(max_age.as_millis()).unwrap_or(u64::MAX);
                vec![
                    given("type", "webhook".into()),
                    // Many services put the key to a webhook into its address.
                    ("url", self.concealed(true, section.origin("url"))),
                    file("secret_file", secret.as_ref()),
                    given("max_age_ms", max_age_ms.into()),
                    ca(ca_file),
                ]
            }
        };
        SectionInForce(own.into_iter().chain(of_target).collect())
    }
}
