//! Reads the file's text into its mirror, and makes sentences of the parser's errors.

use std::borrow::Cow;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Place, line};
use super::file::{self, File};

/// So many mistakes of one file are told at once.
const MAX_MISTAKES: usize = 20;

/// No nearest word is sought for a longer one, since comparing takes time with the square of the length.
const MAX_WORD: usize = 64;

/// A known word is near to another from this similarity on, which goes from 0 to 1.
const NEAR: f64 = 0.6;

/// Reads the file's text. What can be used of it is returned, and an error for every key that cannot.
///
/// # Errors
/// When the text is not TOML, so that nothing is known of its keys.
pub(super) fn parse(path: &Path, text: &str) -> Result<(File, Vec<ConfigError>), ConfigError> {
    let mut table = DeTable::parse(text).map_err(|error| explain(path, text, error))?;
    let mut mistakes = Vec::new();
    loop {
        let error = match File::deserialize(toml::Deserializer::from(table.clone())) {
            Ok(file) => return Ok((file, mistakes)),
            Err(error) => error,
        };
        let byte = error.span().map(|span| span.start);
        mistakes.push(explain(path, text, error));
        // The key that is wrong is taken out, so that the others can be looked at.
        let removed = byte.is_some_and(|byte| remove_from_table(table.get_mut(), byte));
        if !removed || mistakes.len() >= MAX_MISTAKES {
            return Ok((File::default(), mistakes));
        }
    }
}

/// Takes out the key that is at this byte of the text, or whose value is.
fn remove_from_table(table: &mut DeTable<'_>, byte: usize) -> bool {
    // The span of a table may reach from its first line to its last, so what is in tables is looked at first.
    for (_, value) in table.iter_mut() {
        let removed = match value.get_mut() {
            DeValue::Table(inner) => remove_from_table(inner, byte),
            DeValue::Array(items) => items.iter_mut().any(|item| match item.get_mut() {
                DeValue::Table(inner) => remove_from_table(inner, byte),
                _ => false,
            }),
            _ => false,
        };
        if removed {
            return true;
        }
    }
    let is_here = |key: &Spanned<Cow<'_, str>>, value: &Spanned<DeValue<'_>>| {
        key.span().contains(&byte) || value.span().contains(&byte)
    };
    let is_leaf = |value: &DeValue<'_>| match value {
        DeValue::Table(_) => false,
        DeValue::Array(items) => items.iter().all(|item| !item.get_ref().is_table()),
        _ => true,
    };
    let found = [true, false].into_iter().find_map(|leaves| {
        table
            .iter()
            .find(|(key, value)| is_leaf(value.get_ref()) == leaves && is_here(key, value))
            .map(|(key, _)| key.clone())
    });
    found.is_some_and(|key| table.remove(&key).is_some())
}

/// The known word that is most like one that is not known, if any is near to it.
pub(super) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if word.chars().nth(MAX_WORD).is_some() {
        return None;
    }
    let word = folded(word);
    known
        .map(|known| (similarity(&word, &folded(known)), known))
        .filter(|(similarity, _)| *similarity >= NEAR)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}

/// How alike two words are, from 0 to 1, in the way in which people mix them up: `maxFps`, `max_fps` and `MAX_FPS` are the
/// same, and `fps` is probably meant to be one of them.
fn similarity(a: &str, b: &str) -> f64 {
    /// A piece that is shorter is found in too many words.
    const PIECE: usize = 3;
    let piece = |a: &str, b: &str| a.len() >= PIECE && b.contains(a);
    let distance = strsim::normalized_damerau_levenshtein(a, b);
    if piece(a, b) || piece(b, a) {
        distance.max(NEAR)
    } else {
        distance
    }
}

fn folded(word: &str) -> String {
    word.chars()
        .filter(|c| *c != '_')
        .flat_map(char::to_lowercase)
        .collect()
}

/// Makes an error of the parser's own.
pub(super) fn explain(path: &Path, text: &str, mut error: toml::de::Error) -> ConfigError {
    let byte = error.span().map_or(0, |span| span.start);
    let place = line(path, text, byte);
    let message = error.message().to_owned();
    // The parser tells the path of keys only in the text of an error without its input.
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
        if is_one_table(&keys) && (found == "sequence" || found == "map") {
            // The parser takes the first table of the list for the value of the first key, so it may have found either.
            return ConfigError::WrongType {
                place,
                key: keys,
                takes: "one table, in single brackets",
                found: "a list of tables, in double ones".to_owned(),
            };
        }
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
    // The path ends either with the unknown key itself or with its section.
    let path = keys.strip_suffix(name);
    let path = path.filter(|path| path.is_empty() || path.ends_with('.'));
    let path = path.unwrap_or(keys);
    let section = match path.trim_end_matches('.') {
        table if table == TRACK_OF_CAMERA || File::TABLES.contains(&table) => table,
        // A model that is called as its unknown key is.
        "models" if keys.len() > "models.".len() => keys,
        table if table.starts_with(MODEL) => table,
        _ => keys
            .split('.')
            .next()
            .filter(|first| *first != name)
            .unwrap_or_default(),
    };
    let key = if section.is_empty() {
        name.to_owned()
    } else {
        format!("{section}.{name}")
    };
    let secrets = [
        "hub.access_key",
        "http.token",
        "defaults.rtsp_password",
        "cameras.rtsp_password",
        "sinks.password",
        "sinks.secret",
    ];
    if secrets.contains(&key.as_str()) {
        return ConfigError::SecretInFile { place, key };
    }
    if key == "cameras.masks.name" {
        return ConfigError::NamedMask { place };
    }
    let elsewhere = elsewhere(section, name);
    let nearest = if let Some(known) = elsewhere {
        Some(format!("{}.{}", known.section, known.name))
    } else if section.is_empty() {
        nearest(name, File::SECTIONS.iter().copied()).map(str::to_owned)
    } else {
        let siblings = file::keys().filter(|known| known.section == keys_of(section));
        nearest(name, siblings.map(|known| known.name)).map(|near| format!("{section}.{near}"))
    };
    ConfigError::UnknownKey {
        place,
        key,
        nearest,
    }
}

/// The table of a camera that has the keys of the one for all.
const TRACK_OF_CAMERA: &str = "cameras.track";

/// With what the tables of models begin, each of which is called by its model's name.
const MODEL: &str = "models.";

/// The section whose keys a table has.
fn keys_of(section: &str) -> &str {
    match section {
        TRACK_OF_CAMERA => "defaults.track",
        model if model.starts_with(MODEL) => "models",
        other => other,
    }
}

/// The key of this name in a section that has to do with this one: a key of the same name that is for something else is no hint. What
/// stands outside all sections may belong into any of them.
fn elsewhere(section: &str, name: &str) -> Option<&'static file::Key> {
    let own = family(section);
    // What holds for all cameras and what holds for one are about the same.
    let of_cameras = ["cameras", "defaults"];
    let is_related = |known: &&file::Key| {
        let other = family(known.section);
        section.is_empty()
            || other == own
            || of_cameras.contains(&own) && of_cameras.contains(&other)
    };
    file::keys()
        .filter(|known| known.name == name)
        .filter(is_related)
        .min_by_key(|known| family(known.section) != own)
}

/// The section that a table is in.
fn family(section: &str) -> &str {
    section.split('.').next().unwrap_or_default()
}

/// True if a key is a table of which there is one.
fn is_one_table(keys: &str) -> bool {
    let is_known = File::SECTIONS.contains(&keys) || File::TABLES.contains(&keys);
    let is_of_many = matches!(family(keys), "cameras" | "sinks" | "models");
    keys == TRACK_OF_CAMERA || is_known && !is_of_many
}

/// Says in words what a key takes.
fn takes(keys: &str, expected: &str) -> &'static str {
    let known = keys.rsplit_once('.').and_then(|(section, name)| {
        file::keys().find(|k| k.section == keys_of(section) && k.name == name)
    });
    match known {
        Some(key) => key.takes,
        None if keys == "cameras" => "[[cameras]] tables",
        None if keys == "sinks" => "[[sinks]] tables",
        None if keys == "cameras.zones" => "[[cameras.zones]] tables",
        None if keys == "cameras.lines" => "[[cameras.lines]] tables",
        None if keys == "cameras.masks" => "[[cameras.masks]] tables",
        None if expected.starts_with("struct ") => "a [table]",
        None => "another type",
    }
}

/// Says in words what the parser found.
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn the_nearest_is_told_where_one_is_near() {
        let keys = || file::keys().map(|key| key.name);
        for (word, near) in [
            ("max_fsp", Some("max_fps")),
            ("MAXFPS", Some("max_fps")),
            ("fps", Some("max_fps")),
            ("twinid", Some("twin_id")),
            ("codec", Some("codecs")),
            ("password", Some("password_file")),
            ("x", None),
            ("", None),
            ("snapshot", None),
        ] {
            assert_eq!(nearest(word, keys()), near, "{word}");
        }
    }

    #[test]
    fn of_a_table_in_double_brackets_it_is_said_that_it_has_single_ones() {
        for (table, key) in [
            (
                "[[cameras]]\ntwin_id = \"cam\"\n[[cameras.track]]",
                "cameras.track",
            ),
            ("[[defaults.track]]", "defaults.track"),
            ("[[node]]", "node"),
            ("[[node.lease]]", "node.lease"),
        ] {
            let text = format!("{table}\n");
            let error = toml::from_str::<File>(&text).unwrap_err();
            let sentence = explain(Path::new("node.toml"), &text, error).to_string();
            let expected = format!(
                "`{key}` takes one table, in single brackets, and this is a list of tables, in double ones: correct it"
            );
            assert!(sentence.ends_with(&expected), "{sentence}");
        }
    }

    #[test]
    fn a_long_word_is_not_compared() {
        let long = "max_fps".repeat(130_000);
        let begun = Instant::now();
        assert_eq!(nearest(&long, file::keys().map(|key| key.name)), None);
        assert!(begun.elapsed() < Duration::from_millis(500));
    }
}
