//! Sentences of errors, precedence, and what a full file comes to. Tests of other sections load their files by what is here.

mod hub;
mod mistakes;
mod precedence;
mod sentences;

use std::fs;

use tempfile::TempDir;

use super::*;
use twinsight_client::hub::HubOptions;

pub(in crate::config) const NODE: &[(&str, &str)] = &[("TWIN_ID", "node-1")];

pub(in crate::config) fn env(variables: &[(&str, &str)]) -> Env {
    variables.iter().copied().collect()
}

/// Loads a file with the given text under the name `node.toml`.
pub(in crate::config) fn load(
    text: &str,
    variables: &[(&str, &str)],
) -> Result<Config, ConfigError> {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("node.toml");
    fs::write(&path, text).unwrap();
    Config::load(Some(&path), &env(variables))
}

/// The error's sentence, without the folder of the test.
pub(in crate::config) fn sentence(text: &str, variables: &[(&str, &str)]) -> String {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("node.toml");
    fs::write(&path, text).unwrap();
    match Config::load(Some(&path), &env(variables)) {
        Ok(config) => panic!("loads, but should not:\n{text}\n{config:?}"),
        Err(error) => error
            .to_string()
            .replace(&format!("{}/", dir.path().display()), ""),
    }
}

fn hub(config: Result<Config, ConfigError>) -> HubOptions {
    config.unwrap().hub.unwrap()
}

#[test]
fn every_key_is_documented_once() {
    let mut seen = std::collections::HashSet::new();
    for key in file::keys() {
        assert!(
            seen.insert((key.section, key.name)),
            "{}.{} twice",
            key.section,
            key.name
        );
        assert!(
            key.doc.trim().ends_with('.'),
            "{}.{}",
            key.section,
            key.name
        );
    }
}
