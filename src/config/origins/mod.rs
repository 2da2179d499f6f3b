//! Where the values in force came from. The file, the variables and the settings of the hub come in with the [`Config`] that was
//! made of them, and a [`ConfigInForce`] goes out. The node asks once for each configuration that it applies.

mod cameras;
mod fleet;
mod hub;
mod sinks;

use std::path::Path;

use serde_json::{Value, json};

use self::cameras::{defaults_origin, rtsp_values, stream_values, track_values};
use super::error::line_of;
use super::file::{File, Origin};
use super::in_force::{ConfigInForce, EntryInForce, SectionInForce, ValueSource};
use super::resolve::{ConfigSource, Resolver, TOKEN};
use super::sections::LIBRARY_VARIABLE;
use super::settings::Settings;
use super::shown::without_credentials;
use super::syntax;
use super::values::{Config, HttpConfig, RuntimeConfig};
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
struct Origins<'a> {
    text: &'a str,
    resolver: &'a Resolver<'a>,
    /// The file with variables and settings over it.
    file: &'a File,
}

impl Origins<'_> {
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
    fn optional(&self, value: Option<Value>, origin: Option<&Origin>) -> EntryInForce {
        let origin = origin.filter(|_| value.is_some());
        self.entry(value.unwrap_or_default(), origin)
    }

    fn entry(&self, value: Value, origin: Option<&Origin>) -> EntryInForce {
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
