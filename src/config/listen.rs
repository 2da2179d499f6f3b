//! Where the node listens, which is all that a probe has to know. Nothing else of the configuration is looked at, so that a
//! file that became wrong elsewhere does not make a running node look ill.

use std::net::SocketAddr;
use std::path::Path;

use serde::Deserialize;

use super::env::Env;
use super::error::{ConfigError, Place, line};
use super::resolve::read_config_file;
use super::sections::DEFAULT_LISTEN;
use super::syntax;
use super::values::Config;

const VARIABLE: &str = "TWINSIGHT_HTTP__LISTEN";

impl Config {
    /// Reads `http.listen` from its variable, else from the file if one is named; else it is the default.
    ///
    /// # Errors
    /// When the file cannot be read or is not TOML, or the value is no address.
    pub fn listen(path: Option<&Path>, env: &Env) -> Result<SocketAddr, ConfigError> {
        if let Some(text) = env.get(VARIABLE) {
            return address(text, Place::Variable(VARIABLE.to_owned()));
        }
        let Some(path) = path else {
            return Ok(DEFAULT_LISTEN);
        };
        let text =
            read_config_file(path).map_err(|source| ConfigError::unreadable(path, source))?;
        let file: Lenient =
            toml::from_str(&text).map_err(|error| syntax::explain(path, &text, error))?;
        match file.http.listen {
            Some(given) => address(given.get_ref(), line(path, &text, given.span().start)),
            None => Ok(DEFAULT_LISTEN),
        }
    }
}

/// The file without anything that a probe does not need.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Lenient {
    http: LenientHttp,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LenientHttp {
    listen: Option<toml::Spanned<String>>,
}

fn address(text: &str, place: Place) -> Result<SocketAddr, ConfigError> {
    text.parse().map_err(|_| ConfigError::BadValue {
        place,
        key: "http.listen".to_owned(),
        found: format!("{text:?}"),
        takes: "address and port as in \"127.0.0.1:9464\"".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn listen(file: Option<&str>, variable: Option<&str>) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.toml");
        if let Some(text) = file {
            fs::write(&path, text).unwrap();
        }
        let env = variable.map(|text| (VARIABLE, text)).into_iter().collect();
        Config::listen(file.map(|_| path.as_path()), &env)
            .map(|address| address.to_string())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_variable_goes_before_the_file_before_the_default() {
        let file = Some("[http]\nlisten = \"0.0.0.0:1\"");
        assert_eq!(listen(file, Some("[::]:2")), Ok("[::]:2".to_owned()));
        assert_eq!(listen(file, None), Ok("0.0.0.0:1".to_owned()));
        assert_eq!(listen(Some(""), None), Ok("127.0.0.1:9464".to_owned()));
        assert_eq!(listen(None, None), Ok("127.0.0.1:9464".to_owned()));
    }

    #[test]
    fn what_is_wrong_elsewhere_does_not_matter() {
        let file = "[hub]\nmode = \"no\"\n[http]\nlisten = \"[::1]:7\"\n[nothing]\nx = 1";
        assert_eq!(listen(Some(file), None), Ok("[::1]:7".to_owned()));
        let error = listen(Some("[http]\nlisten = \"here\""), None).unwrap_err();
        assert!(
            error.contains("node.toml line 2: `http.listen` is \"here\""),
            "{error}"
        );
        let error = listen(Some("[http]\nlisten = 7"), None).unwrap_err();
        assert!(
            error.contains("line 2: `http.listen` takes a text"),
            "{error}"
        );
        let error = listen(Some("[http\n"), None).unwrap_err();
        assert!(error.contains("line 1: this is not TOML"), "{error}");
    }
}
