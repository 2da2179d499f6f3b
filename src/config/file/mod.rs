//! The file as it is written: a serde mirror in which everything is optional and remembers where it
//! was given. The same sections take the `TWINSIGHT_*` variables. Only [`Config`](super::Config)'s
//! resolution reads it; the reference page is rendered from [`keys`](keys()).
//!
//! While a node runs, `[defaults]` and `[[cameras]]` may change: by this file and by the settings of its
//! twin on the hub, which set, in camelCase, the keys named in [`Settings`](super::Settings). `connect`,
//! `stream`, `codecs`, `dialect` and `allow_unsigned` open a camera's connection again, the other keys
//! keep it. `[hub]`, `[ice]`, `[http]`, `[node]`, `[runtime]`, `[models]`, `[telemetry]` and `[[sinks]]` hold until a restart.

mod keys;
mod section;
mod setting;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::Deserializer;
use toml::Spanned;

pub use self::keys::{
    CameraSection, DefaultsSection, HttpSection, HubSection, IceSection, LeaseSection, LineSection,
    MaskSection, ModelSection, NodeSection, RuntimeSection, ShardSection, SinkSection,
    TelemetrySection, TrackSection, ZoneSection, keys,
};
pub use self::section::Key;
pub use self::setting::Texts;
pub(super) use self::setting::list;

/// A value and where it was given.
#[derive(Debug, Clone, PartialEq)]
pub struct Given<T> {
    /// It has the right type, and nothing else of it was checked.
    pub value: T,
    /// Where it was given.
    pub origin: Origin,
}

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// At a byte of the file.
    File(usize),
    /// In a variable of the environment.
    Variable(String),
    /// In a setting of the node's own twin on the hub, such as `cameras[1].maxFps`.
    Setting(String),
}

/// All sections. One that is not in the file is there all the same, without values.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// The hub and how the node presents itself to it.
    #[serde(default)]
    pub hub: HubSection,
    /// How peer connections find their way.
    #[serde(default)]
    pub ice: IceSection,
    /// The node's own HTTP server.
    #[serde(default)]
    pub http: HttpSection,
    /// The node among others.
    #[serde(default)]
    pub node: NodeSection,
    /// ONNX Runtime and models.
    #[serde(default)]
    pub runtime: RuntimeSection,
    /// The models that run on servers, by their names.
    #[serde(default)]
    pub models: BTreeMap<String, Spanned<ModelSection>>,
    /// Which frames are traced, and which collector of OpenTelemetry takes their traces.
    #[serde(default)]
    pub telemetry: TelemetrySection,
    /// Where events go besides the hub.
    #[serde(default)]
    pub sinks: Vec<Spanned<SinkSection>>,
    /// Settings of every camera that has none of its own.
    #[serde(default)]
    pub defaults: DefaultsSection,
    /// One section for each camera stream that the node is to look at.
    #[serde(default)]
    pub cameras: Vec<Spanned<CameraSection>>,
}

impl File {
    /// The names of the sections.
    pub const SECTIONS: &'static [&'static str] = &[
        "hub",
        "ice",
        "http",
        "node",
        "runtime",
        "models",
        "telemetry",
        "sinks",
        "defaults",
        "cameras",
    ];

    /// The tables in sections, below the section of each. `[cameras.track]` has the keys of `[defaults.track]`.
    pub const TABLES: &'static [&'static str] = &[
        "node.shard",
        "node.lease",
        "defaults.track",
        "cameras.zones",
        "cameras.lines",
        "cameras.masks",
    ];

    /// What a section is about, in Markdown.
    pub fn about(section: &str) -> &'static str {
        match section {
            "hub" => HubSection::ABOUT,
            "ice" => IceSection::ABOUT,
            "http" => HttpSection::ABOUT,
            "node" => NodeSection::ABOUT,
            "node.shard" => ShardSection::ABOUT,
            "node.lease" => LeaseSection::ABOUT,
            "runtime" => RuntimeSection::ABOUT,
            "models" => ModelSection::ABOUT,
            "telemetry" => TelemetrySection::ABOUT,
            "sinks" => SinkSection::ABOUT,
            "defaults" => DefaultsSection::ABOUT,
            "cameras" => CameraSection::ABOUT,
            "defaults.track" => TrackSection::ABOUT,
            "cameras.zones" => ZoneSection::ABOUT,
            "cameras.lines" => LineSection::ABOUT,
            "cameras.masks" => MaskSection::ABOUT,
            _ => "",
        }
    }

    /// Sets a key of a section from a variable's text. `Ok(false)`: there is no such key; `Err` says
    /// what the key takes.
    pub fn set(
        &mut self,
        section: &str,
        key: &str,
        variable: &str,
        text: &str,
    ) -> Result<bool, &'static str> {
        match section {
            "hub" => self.hub.set(key, variable, text),
            "ice" => self.ice.set(key, variable, text),
            "http" => self.http.set(key, variable, text),
            "node" => self.node.set(key, variable, text),
            "node.shard" => self.node.shard.set(key, variable, text),
            "node.lease" => self.node.lease.set(key, variable, text),
            "runtime" => self.runtime.set(key, variable, text),
            "telemetry" => self.telemetry.set(key, variable, text),
            "defaults" => self.defaults.set(key, variable, text),
            "defaults.track" => self.defaults.track.set(key, variable, text),
            _ => Ok(false),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Given<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<T>::deserialize(deserializer)?;
        Ok(Self {
            origin: Origin::File(spanned.span().start),
            value: spanned.into_inner(),
        })
    }
}
