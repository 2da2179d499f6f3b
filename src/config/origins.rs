//! Where the values in force came from. The file, the variables and the settings of the hub come in with the [`Config`] that was
//! made of them, and a [`ConfigInForce`] goes out. The node asks once for each configuration that it applies.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::error::line_of;
use super::file::{CameraSection, DefaultsSection, File, Given, Origin, SinkSection};
use super::in_force::{ConfigInForce, EntryInForce, Level, SectionInForce, ValueSource};
use super::polygon::{Point, Polygon};
use super::resolve::{ACCESS_KEY, ConfigSource, Resolver, TOKEN};
use super::scene::SceneConfig;
use super::sections::{
    ACCESS_KEY_VARIABLES, DEVICE_ID_VARIABLES, LIBRARY_VARIABLE, STUN_VARIABLE,
    TURN_CREDENTIAL_VARIABLE, TURN_USERNAME_VARIABLE, TURN_VARIABLE, TWIN_ID_VARIABLES, mode_name,
};
use super::settings::Settings;
use super::shown::without_credentials;
use super::sinks::{MqttConfig, SinkConfig, SinkTarget, WebhookConfig};
use super::source::{RtspTransport, SourceConfig};
use super::syntax;
use super::track::TrackConfig;
use super::values::{CameraConfig, Config, HttpConfig, RuntimeConfig, TelemetryConfig};
use twinsight_client::hub::text::redacted_url;
use twinsight_client::hub::{HubMode, HubOptions, TurnServer};
use twinsight_client::realtime::ice::IceSettings;
use twinsight_client::secret::Secret;

impl ConfigSource {
    /// Says of each key what is in force and where that came from. `config` is what [`resolve`](Self::resolve) made of this
    /// source and these settings. Nothing but the configuration's text is looked at, so no file is read again.
    pub fn in_force(&self, settings: &Settings, config: &Config) -> ConfigInForce {
        let path = self.path().unwrap_or(Path::new(""));
        let Ok((mut file, _)) = syntax::parse(path, self.text()) else {
            // Such a text does not become a configuration.
            return ConfigInForce::default();
        };
        let resolver = self.merge(path, &mut file, settings);
        let origins = Origins {
            text: self.text(),
            resolver: &resolver,
            file: &file,
        };
        // Without `..` here and below, so that no new field is forgotten.
        let Config {
            hub,
            ice,
            http,
            node,
            runtime,
            models,
            telemetry,
            sinks,
            cameras,
        } = config;
        let defaults = resolver.defaults(&file);
        let sections = resolver.sections(&file, settings, &defaults);
        ConfigInForce {
            hub: match hub {
                Some(hub) => origins.hub(hub),
                None => origins.without_hub(),
            },
            ice: origins.ice(
                ice,
                hub.as_ref().and_then(|hub| hub.stun_url.as_deref()),
                hub.as_ref().and_then(|hub| hub.turn.as_ref()),
            ),
            http: origins.http(http),
            node: origins.node(node),
            runtime: origins.runtime(runtime),
            models: models
                .iter()
                .filter_map(|model| {
                    let section = file.models.get(&model.name)?;
                    Some(origins.model(model, section.get_ref()))
                })
                .collect(),
            telemetry: origins.telemetry(telemetry),
            // A configuration that was resolved has a sink for each section, in the same order.
            sinks: sinks
                .iter()
                .zip(&file.sinks)
                .map(|(sink, section)| origins.sink(sink, section.get_ref()))
                .collect(),
            defaults: SectionInForce(
                stream_values(&defaults)
                    .into_iter()
                    .chain(rtsp_values(None, &file.defaults))
                    .chain(track_values(&defaults.track))
                    .map(|(key, value)| (key, origins.entry(value, defaults_origin(&file, key))))
                    .collect(),
            ),
            // A configuration that was resolved has a camera for each section, in the same order.
            cameras: cameras
                .iter()
                .zip(&sections)
                .map(|(camera, (_, section))| origins.camera(camera, section))
                .collect(),
        }
    }
}

/// Knows where values were given.
pub(super) struct Origins<'a> {
    text: &'a str,
    resolver: &'a Resolver<'a>,
    /// The file with variables and settings over it.
    pub(super) file: &'a File,
}

impl Origins<'_> {
    fn hub(&self, hub: &HubOptions) -> SectionInForce {
        let HubOptions {
            mode,
            url,
            twin_id,
            device_id,
            access_key,
            ca_file,
            stun_url: _,
            turn: _,
            timers: _,
        } = hub;
        let given = &self.file.hub;
        let address = self.resolver.hub_url(self.file, *mode).ok();
        let (url_origin, region) = match address {
            Some(address) => (address.origin, address.region),
            None => (None, None),
        };
        // In a mode that does not ask for an id, none is in force, whatever is given.
        let id = |id: &str, given, official: &[&str]| {
            let origin = self
                .resolver
                .text(given, official)
                .map(|given| given.origin);
            self.optional((!id.is_empty()).then(|| id.into()), origin.as_ref())
        };
        let (key, key_file) = self.secret(
            access_key.as_ref(),
            ACCESS_KEY,
            ACCESS_KEY_VARIABLES,
            given.origin("access_key_file"),
        );
        SectionInForce(vec![
            ("mode", self.mode(Some(*mode))),
            (
                "url",
                self.entry(redacted_url(url).into(), url_origin.as_ref()),
            ),
            (
                "region",
                self.optional(region.map(Value::from), url_origin.as_ref()),
            ),
            (
                "twin_id",
                id(twin_id, given.twin_id.as_ref(), TWIN_ID_VARIABLES),
            ),
            (
                "device_id",
                id(device_id, given.device_id.as_ref(), DEVICE_ID_VARIABLES),
            ),
            ("access_key_file", key_file),
            ("access_key", key),
            (
                "ca_file",
                self.optional(ca_file.as_deref().map(path), given.origin("ca_file")),
            ),
        ])
    }

    /// Of the section of a node without a hub only the mode is in force.
    fn without_hub(&self) -> SectionInForce {
        let unset = |key: &'static str| (key, self.optional(None, None));
        SectionInForce(vec![
            ("mode", self.mode(None)),
            unset("url"),
            unset("region"),
            unset("twin_id"),
            unset("device_id"),
            unset("access_key_file"),
            ("access_key", self.concealed(false, None)),
            unset("ca_file"),
        ])
    }

    fn mode(&self, mode: Option<HubMode>) -> EntryInForce {
        let chosen = self.resolver.hub_mode(self.file).ok();
        let origin = chosen.and_then(|(_, origin)| origin);
        self.entry(mode_name(mode).into(), origin.as_ref())
    }

    fn ice(
        &self,
        ice: &IceSettings,
        stun_url: Option<&str>,
        turn: Option<&TurnServer>,
    ) -> SectionInForce {
        let IceSettings {
            relay_only,
            interfaces,
            udp_ports,
            nat_1to1_ips,
            mdns,
            recv_buffer_bytes,
        } = ice;
        let given = &self.file.ice;
        let variable = |name: &str| Origin::Variable(name.to_owned());
        let by_turn = turn.map(|_| variable(TURN_VARIABLE));
        let ports = udp_ports
            .as_ref()
            .map(|ports| format!("{}-{}", ports.start(), ports.end()));
        let addresses: Vec<String> = nat_1to1_ips.iter().map(ToString::to_string).collect();
        let secret = |part: Option<&str>, name: &str| {
            let set = part.is_some_and(|part| !part.is_empty());
            self.concealed(set, set.then(|| variable(name)).as_ref())
        };
        SectionInForce(vec![
            (
                "policy",
                self.entry(
                    if *relay_only { "relay" } else { "all" }.into(),
                    given.origin("policy").or(by_turn.as_ref()),
                ),
            ),
            (
                "interfaces",
                self.entry(json!(interfaces), given.origin("interfaces")),
            ),
            (
                "udp_ports",
                self.optional(ports.map(Value::from), given.origin("udp_ports")),
            ),
            (
                "nat_1to1_ips",
                self.entry(json!(addresses), given.origin("nat_1to1_ips")),
            ),
            ("mdns", self.entry((*mdns).into(), given.origin("mdns"))),
            (
                "recv_buffer_bytes",
                self.entry(
                    (*recv_buffer_bytes).into(),
                    given.origin("recv_buffer_bytes"),
                ),
            ),
            (
                "stun_url",
                self.optional(
                    stun_url.map(|url| redacted_url(url).into()),
                    Some(&variable(STUN_VARIABLE)),
                ),
            ),
            (
                "turn_url",
                self.optional(
                    turn.map(|turn| redacted_url(&turn.url).into()),
                    by_turn.as_ref(),
                ),
            ),
            (
                "turn_username",
                secret(
                    turn.map(|turn| turn.username.as_str()),
                    TURN_USERNAME_VARIABLE,
                ),
            ),
            (
                "turn_credential",
                secret(
                    turn.map(|turn| turn.credential.expose()),
                    TURN_CREDENTIAL_VARIABLE,
                ),
            ),
        ])
    }

    fn http(&self, http: &HttpConfig) -> SectionInForce {
        let HttpConfig {
            listen,
            token,
            edit,
        } = http;
        let given = &self.file.http;
        let (token, token_file) =
            self.secret(token.as_ref(), TOKEN, &[], given.origin("token_file"));
        SectionInForce(vec![
            (
                "listen",
                self.entry(listen.to_string().into(), given.origin("listen")),
            ),
            ("token_file", token_file),
            ("token", token),
            ("edit", self.entry((*edit).into(), given.origin("edit"))),
        ])
    }

    fn runtime(&self, runtime: &RuntimeConfig) -> SectionInForce {
        let RuntimeConfig {
            library,
            execution_providers,
            threads,
            models_dir,
        } = runtime;
        let given = &self.file.runtime;
        let by_variable = Origin::Variable(LIBRARY_VARIABLE.to_owned());
        SectionInForce(vec![
            (
                "library",
                self.optional(
                    library.as_deref().map(path),
                    given.origin("library").or(Some(&by_variable)),
                ),
            ),
            (
                "execution_providers",
                self.entry(
                    json!(execution_providers),
                    given.origin("execution_providers"),
                ),
            ),
            (
                "threads",
                self.entry((*threads).into(), given.origin("threads")),
            ),
            (
                "models_dir",
                self.entry(path(models_dir), given.origin("models_dir")),
            ),
        ])
    }

    fn telemetry(&self, telemetry: &TelemetryConfig) -> SectionInForce {
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

    fn sink(&self, sink: &SinkConfig, section: &SinkSection) -> SectionInForce {
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

    fn camera(&self, camera: &CameraConfig, section: &CameraSection) -> SectionInForce {
        let (rtsp, device) = match &camera.source {
            None => (None, None),
            Some(SourceConfig::Rtsp(rtsp)) => (Some(rtsp), None),
            Some(SourceConfig::Device(device)) => (None, Some(&device.path)),
        };
        let mut settings = self.file.defaults.clone();
        settings.overlay(&section.settings());
        let own = [
            ("twin_id", Value::from(camera.id.twin_id.as_ref())),
            ("name", camera.name.as_str().into()),
            ("rtsp", rtsp.map(|rtsp| rtsp.url.to_string()).into()),
            (
                "device",
                device.map(|device| device.display().to_string()).into(),
            ),
        ];
        let entries = own
            .into_iter()
            .chain(stream_values(camera))
            .chain(rtsp_values(camera.source.as_ref(), &settings))
            .chain(track_values(&camera.track))
            .chain(scene_values(&camera.scene))
            .map(|(key, value)| {
                // Lists say where they begin.
                let own = match key.strip_prefix("track.") {
                    Some(key) => section.track.origin(key).cloned(),
                    None => section.origin(key).cloned().or_else(|| {
                        let byte = match key {
                            "zones" => section.zones.first()?.span().start,
                            "lines" => section.lines.first()?.span().start,
                            "masks" => section.masks.first()?.span().start,
                            _ => return None,
                        };
                        Some(Origin::File(byte))
                    }),
                };
                let (origin, from) = match (own.as_ref(), defaults_origin(self.file, key)) {
                    (Some(own), _) => (Some(own), Level::Camera),
                    (None, Some(default)) => (Some(default), Level::Defaults),
                    (None, None) => (None, Level::BuiltIn),
                };
                let entry = EntryInForce {
                    from: Some(from),
                    ..self.entry(value, origin)
                };
                (key, entry)
            });
        SectionInForce(entries.collect())
    }

    /// The entry of a secret, and that of the key that names its file.
    fn secret(
        &self,
        secret: Option<&Secret>,
        own: &str,
        official: &[&str],
        named_at: Option<&Origin>,
    ) -> (EntryInForce, EntryInForce) {
        let of_file = secret.and_then(Secret::file);
        let origin = match of_file {
            Some(_) => named_at.cloned(),
            None => [own]
                .iter()
                .chain(official)
                .find_map(|name| self.resolver.variable(name))
                .map(|given| given.origin),
        };
        (
            self.concealed(secret.is_some(), origin.as_ref()),
            self.optional(
                of_file.map(|file| file.display().to_string().into()),
                origin.as_ref(),
            ),
        )
    }

    fn concealed(&self, set: bool, origin: Option<&Origin>) -> EntryInForce {
        EntryInForce {
            secret: true,
            set: Some(set),
            ..self.entry(Value::Null, origin.filter(|_| set))
        }
    }

    /// The entry of a key that may have no value. What was given for it counts only if it has one.
    pub(super) fn optional(&self, value: Option<Value>, origin: Option<&Origin>) -> EntryInForce {
        let origin = origin.filter(|_| value.is_some());
        self.entry(value.unwrap_or_default(), origin)
    }

    pub(super) fn entry(&self, value: Value, origin: Option<&Origin>) -> EntryInForce {
        let (source, place) = match origin {
            None => (ValueSource::Default, None),
            Some(Origin::File(byte)) => {
                let line = line_of(self.text, *byte);
                (ValueSource::File, Some(format!("line {line}")))
            }
            Some(Origin::Variable(name)) => (ValueSource::Env, Some(name.clone())),
            Some(Origin::Setting(name)) => (ValueSource::Hub, Some(name.clone())),
        };
        EntryInForce {
            value: presentable(value),
            source,
            place,
            from: None,
            secret: false,
            set: None,
            pending_restart: false,
        }
    }
}

/// How IP cameras are asked, as it is given or in force for one. The password is a secret, and the path of its file is none.
fn rtsp_values(
    source: Option<&SourceConfig>,
    given: &DefaultsSection,
) -> [(&'static str, Value); 3] {
    let text = |given: &Option<Given<String>>| given.as_ref().map(|given| given.value.clone());
    let (user, transport) = match source {
        Some(SourceConfig::Rtsp(rtsp)) => (
            rtsp.credentials.as_ref().map(|who| who.user.clone()),
            Some(rtsp.transport.as_str().to_owned()),
        ),
        Some(SourceConfig::Device(_)) | None => {
            (text(&given.rtsp_user), text(&given.rtsp_transport))
        }
    };
    let transport = transport.unwrap_or_else(|| RtspTransport::Tcp.as_str().to_owned());
    [
        ("rtsp_user", user.into()),
        ("rtsp_password_file", text(&given.rtsp_password_file).into()),
        ("rtsp_transport", transport.into()),
    ]
}

/// Where a key of `[defaults]` or of `[defaults.track]` was given.
fn defaults_origin<'a>(file: &'a File, key: &str) -> Option<&'a Origin> {
    match key.strip_prefix("track.") {
        Some(key) => file.defaults.track.origin(key),
        None => file.defaults.origin(key),
    }
}

fn track_values(track: &TrackConfig) -> [(&'static str, Value); 5] {
    let TrackConfig {
        enabled,
        confirm,
        lost,
        stationary,
        update,
    } = track;
    [
        ("track.enabled", (*enabled).into()),
        ("track.confirm_ms", ms(*confirm)),
        ("track.lost_ms", ms(*lost)),
        ("track.stationary_ms", ms(*stationary)),
        ("track.update_ms", ms(*update)),
    ]
}

/// Zones, lines and masks as they are written in the file.
fn scene_values(scene: &SceneConfig) -> [(&'static str, Value); 3] {
    let SceneConfig {
        zones,
        lines,
        masks,
    } = scene;
    let point = |point: &Point| json!([point.x, point.y]);
    let points = |polygon: &Polygon| -> Value { polygon.corners().iter().map(point).collect() };
    let labels = |labels: &[Arc<str>]| -> Value { labels.iter().map(AsRef::as_ref).collect() };
    let zones = zones.iter().map(|zone| {
        json!({"name": &*zone.name, "points": points(&zone.polygon), "labels": labels(&zone.labels),
               "min_dwell_ms": ms(zone.min_dwell)})
    });
    let lines = lines.iter().map(|line| {
        json!({"name": &*line.name, "from": point(&line.from), "to": point(&line.to),
               "labels": labels(&line.labels)})
    });
    let masks = masks
        .iter()
        .map(|mask| json!({"points": points(&mask.polygon), "labels": labels(&mask.labels)}));
    [
        ("zones", zones.collect()),
        ("lines", lines.collect()),
        ("masks", masks.collect()),
    ]
}

fn ms(duration: Duration) -> Value {
    u64::try_from(duration.as_millis())
        .unwrap_or(u64::MAX)
        .into()
}

/// The settings that a camera may have of its own, in the order of the file.
fn stream_values(camera: &CameraConfig) -> Vec<(&'static str, Value)> {
    let CameraConfig {
        id,
        name: _,
        model,
        connect,
        codecs,
        max_fps,
        max_age,
        min_score,
        classes,
        emit_empty,
        detections,
        motion,
        track: _,
        scene: _,
        dialect,
        allow_unsigned,
        source: _,
    } = camera;
    let codecs: Vec<&str> = codecs.iter().map(|codec| codec.as_str()).collect();
    // By way of its text 0.4 stays 0.4, which as a number of 64 bits it would not.
    let min_score: f64 = min_score.to_string().parse().unwrap_or_default();
    vec![
        ("model", model.as_str().into()),
        ("connect", connect.as_str().into()),
        ("stream", id.stream.as_ref().into()),
        ("codecs", json!(codecs)),
        ("max_fps", json!(max_fps)),
        ("max_age_ms", ms(*max_age)),
        ("min_score", json!(min_score)),
        ("classes", json!(classes)),
        ("emit_empty", (*emit_empty).into()),
        ("detections", detections.as_str().into()),
        ("motion", motion.mode.as_str().into()),
        ("motion_max_skip_ms", ms(motion.max_skip)),
        ("dialect", dialect.as_str().into()),
        ("allow_unsigned", (*allow_unsigned).into()),
    ]
}

fn path(path: &Path) -> Value {
    path.display().to_string().into()
}

/// Takes credentials out of texts that are addresses, since a name may be one by mistake.
fn presentable(value: Value) -> Value {
    match value {
        Value::String(text) => without_credentials(&text).into(),
        Value::Array(items) => items.into_iter().map(presentable).collect(),
        other => other,
    }
}
