//! What the API says of the configuration: every key with its value in force and where that came from, and what was refused.
//! `origins` makes a [`ConfigInForce`], the node holds it, and `/api/config` shows it. No secret has a value in it.

use std::time::SystemTime;

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::clock::unix_ms;

/// Every key of the configuration with its value in force, in the order of the file. It is empty for a node that does not know
/// where its configuration came from.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ConfigInForce {
    /// `[hub]`, and the access key, which has no key of its own.
    pub hub: SectionInForce,
    /// `[ice]`, and the servers for STUN and TURN, which only variables name.
    pub ice: SectionInForce,
    /// `[http]`, and the token, which has no key of its own.
    pub http: SectionInForce,
    /// `[node]`, with the keys of `[node.shard]` and `[node.lease]` behind their table's name.
    pub node: SectionInForce,
    /// `[runtime]`.
    pub runtime: SectionInForce,
    /// `[models]`: those that run on servers, each with its name.
    pub models: Vec<SectionInForce>,
    /// `[telemetry]`.
    pub telemetry: SectionInForce,
    /// `[[sinks]]`: where events go besides the hub.
    pub sinks: Vec<SectionInForce>,
    /// `[defaults]`.
    pub defaults: SectionInForce,
    /// `[[cameras]]`: the streams that the node watches, whoever lists them.
    pub cameras: Vec<SectionInForce>,
}

/// The keys of a section, each with its name in the file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SectionInForce(pub(super) Vec<(&'static str, EntryInForce)>);

/// The value of a key.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EntryInForce {
    /// The value in force. It is null if there is none, and always for a secret.
    pub value: Value,
    /// Who gave it.
    pub source: ValueSource,
    /// The line of the file, the variable or the setting. A default has none.
    #[serde(rename = "where")]
    pub place: Option<String>,
    /// For a key that a camera may have: whose value it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Level>,
    /// True for a secret, whose value is not shown.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub secret: bool,
    /// For a secret: whether there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set: Option<bool>,
    /// True if another value is configured by now, which holds once the node is started again.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub pending_restart: bool,
}

/// Who gave a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ValueSource {
    /// Nobody, so it is the built-in one.
    Default,
    /// The configuration's file.
    File,
    /// A variable of the environment.
    Env,
    /// A setting of the node's own twin.
    Hub,
}

/// Whose value a camera has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Level {
    /// The camera's own.
    Camera,
    /// That of `[defaults]`, given there or by a variable or setting that takes its place.
    Defaults,
    /// The one that the node has where nothing is configured.
    BuiltIn,
}

/// A configuration that was refused while the node ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// When it was refused first for this reason.
    #[serde(serialize_with = "as_unix_ms")]
    pub at: SystemTime,
    /// What was refused.
    pub source: RefusalSource,
    /// The sentence that says why.
    pub reason: String,
}

/// What was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RefusalSource {
    /// The file.
    File,
    /// The settings of the node's own twin.
    Hub,
}

fn as_unix_ms<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(unix_ms(*at))
}

impl Serialize for SectionInForce {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, entry)| (key, entry)))
    }
}

impl SectionInForce {
    /// The entry of a key, by its name in the file.
    pub fn get(&self, key: &str) -> Option<&EntryInForce> {
        self.0
            .iter()
            .find(|(name, _)| *name == key)
            .map(|(_, entry)| entry)
    }

    /// The names of the keys.
    pub fn keys(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|(name, _)| *name)
    }
}

impl ConfigInForce {
    /// What holds of this configuration before a restart. `keys` are those that need one; they stay as in `started`, the
    /// configuration that the node was started with, and are marked.
    pub fn until_a_restart(mut self, started: &Self, keys: &[&str]) -> Self {
        for key in keys {
            let Some((section, key)) = key.split_once('.') else {
                // These hold as a whole, so that what runs is shown.
                let of_lists = match *key {
                    "node" => {
                        self.node.clone_from(&started.node);
                        std::slice::from_mut(&mut self.node)
                    }
                    "models" => {
                        self.models.clone_from(&started.models);
                        &mut self.models[..]
                    }
                    _ => {
                        self.sinks.clone_from(&started.sinks);
                        &mut self.sinks[..]
                    }
                };
                for (_, entry) in of_lists.iter_mut().flat_map(|one| &mut one.0) {
                    entry.pending_restart = true;
                }
                continue;
            };
            let (now, then) = match section {
                "hub" => (&mut self.hub, &started.hub),
                "ice" => (&mut self.ice, &started.ice),
                "http" => (&mut self.http, &started.http),
                "runtime" => (&mut self.runtime, &started.runtime),
                "telemetry" => (&mut self.telemetry, &started.telemetry),
                _ => continue,
            };
            // What is configured in two ways changes in both.
            let together: &[&str] = match key {
                "url" => &["url", "region"],
                "access_key_file" => &["access_key", "access_key_file"],
                "token_file" => &["token", "token_file"],
                key => &[key],
            };
            for (name, entry) in &mut now.0 {
                if together.contains(name)
                    && let Some(held) = then.get(name)
                {
                    let differs = *name == key || held.value != entry.value;
                    *entry = EntryInForce {
                        pending_restart: differs,
                        ..held.clone()
                    };
                }
            }
        }
        self
    }
}

#[cfg(test)]
#[path = "in_force_tests.rs"]
mod tests;
