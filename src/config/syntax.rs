//! Text to the file's mirror, and the parser's errors to sentences. Pure.

use std::path::Path;

use super::error::{ConfigError, Place, line};
use super::file::{self, File};

/// Reads the file's text.
pub(super) fn parse(path: &Path, text: &str) -> Result<File, ConfigError> {
    toml::from_str(text).map_err(|error| explain(path, text, error))
}

/// The known word that is nearest to one that is not known.
pub(super) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> &'a str {
    let distance = |a: &str| strsim::normalized_damerau_levenshtein(a, word);
    known
        .max_by(|a, b| distance(a).total_cmp(&distance(b)))
        .unwrap_or_default()
}

/// What is wrong with a text that the parser refused.
pub(super) fn explain(path: &Path, text: &str, mut error: toml::de::Error) -> ConfigError {
    let byte = error.span().map_or(0, |span| span.start);
    let place = line(path, text, byte);
    let message = error.message().to_owned();
    // The path of keys is only in the text that the error has without its input.
    error.set_input(None);
    let keys = error
        .to_string()
        .lines()
        .find_map(|line| {
            line.strip_prefix("in `")?
                .strip_suffix('`')
                .map(str::to_owned)
        })
        .unwrap_or_default();
    if let Some(rest) = message.strip_prefix("unknown field `") {
        let name = rest.split('`').next().unwrap_or_default();
        return unknown_key(place, &keys, name);
    }
    if let Some((found, expected)) = ["invalid type: ", "invalid value: "]
        .iter()
        .find_map(|kind| message.strip_prefix(kind))
        .and_then(|rest| rest.rsplit_once(", expected "))
    {
        return ConfigError::WrongType {
            place,
            takes: takes(&keys, expected),
            key: keys,
            found: in_words(found),
        };
    }
    ConfigError::Syntax { place, message }
}

fn unknown_key(place: Place, keys: &str, name: &str) -> ConfigError {
    // The path ends with the unknown key itself or with its section.
    let section = keys
        .split('.')
        .next()
        .filter(|first| *first != name)
        .unwrap_or_default();
    let key = if section.is_empty() {
        name.to_owned()
    } else {
        format!("{section}.{name}")
    };
    if ["hub.access_key", "http.token"].contains(&key.as_str()) {
        return ConfigError::SecretInFile { place, key };
    }
    let elsewhere = file::keys().find(|known| known.name == name);
    let nearest = if let Some(known) = elsewhere {
        format!("{}.{}", known.section, known.name)
    } else if section.is_empty() {
        nearest(name, File::SECTIONS.iter().copied()).to_owned()
    } else {
        let siblings = file::keys().filter(|known| known.section == section);
        format!(
            "{section}.{}",
            nearest(name, siblings.map(|known| known.name))
        )
    };
    ConfigError::UnknownKey {
        place,
        key,
        nearest,
    }
}

/// What a key takes, in words.
fn takes(keys: &str, expected: &str) -> &'static str {
    let known = keys
        .split_once('.')
        .and_then(|(section, name)| file::keys().find(|k| k.section == section && k.name == name));
    match known {
        Some(key) => key.takes,
        None if keys == "cameras" => "[[cameras]] tables",
        None if expected.starts_with("struct ") => "a [table]",
        None => "another type",
    }
}

/// What the parser found, in words.
fn in_words(found: &str) -> String {
    let (kind, value) = found.split_once(' ').unwrap_or((found, ""));
    match kind {
        "string" => format!("the text {value}"),
        "integer" => format!("the number {}", value.trim_matches('`')),
        "floating" => {
            let value = value.trim_start_matches("point ").trim_matches('`');
            format!("the number {value}")
        }
        "boolean" => value.trim_matches('`').to_owned(),
        "sequence" => "a list".to_owned(),
        "map" => "a table".to_owned(),
        _ => found.to_owned(),
    }
}
