//! Checks the section `[telemetry]`: where traces go, how many frames have one, and what the collector asks for.

use std::path::PathBuf;

use super::error::ConfigError;
use super::file::{File, Given};
use super::resolve::Resolver;
use super::values::TelemetryConfig;
use twinsight_client::hub::text::redacted_url;
use twinsight_client::secret::{Secret, conceal};
use twinsight_client::secret_file::read_secret_file;

/// The part of the frames that has a trace unless another one is configured.
pub(super) const DEFAULT_SAMPLE_RATIO: f64 = 0.01;

const ENDPOINT: &str = "telemetry.otlp_endpoint";
const HEADERS_FILE: &str = "telemetry.otlp_headers_file";

impl Resolver<'_> {
    pub(super) fn telemetry(&self, file: &File) -> TelemetryConfig {
        let telemetry = &file.telemetry;
        let endpoint = telemetry.otlp_endpoint.as_ref().and_then(|given| {
            let checked = self.endpoint(given);
            self.or(checked.map(Some), None)
        });
        let ratio = telemetry.trace_sample_ratio.as_ref();
        let ratio = ratio.map_or(DEFAULT_SAMPLE_RATIO, |given| {
            let number = self.number("telemetry.trace_sample_ratio", given, 1.0);
            self.or(number, DEFAULT_SAMPLE_RATIO)
        });
        let headers = telemetry.otlp_headers_file.as_ref();
        let headers =
            headers.map_or_else(Vec::new, |given| self.or(self.headers(given), Vec::new()));
        let ca_file = self.path("telemetry.otlp_ca_file", telemetry.otlp_ca_file.as_ref());
        TelemetryConfig {
            otlp_endpoint: endpoint,
            trace_sample_ratio: ratio,
            otlp_headers: headers,
            otlp_ca_file: self.or(ca_file, None),
        }
    }

    /// Credentials and queries are refused, since the address goes into the log. What is secret belongs into the headers.
    fn endpoint(&self, given: &Given<String>) -> Result<String, ConfigError> {
        let text = given.value.as_str();
        let rest = ["http://", "https://"]
            .into_iter()
            .find_map(|scheme| text.strip_prefix(scheme));
        let host = rest.and_then(|rest| rest.split('/').next());
        let is_address = host.is_some_and(|host| !host.is_empty() && !host.starts_with(':'))
            && text.parse::<hyper::Uri>().is_ok()
            && !text.contains(['@', '?', '#']);
        if !is_address {
            let shown = Given {
                value: redacted_url(text.split(['?', '#']).next().unwrap_or_default()),
                origin: given.origin.clone(),
            };
            let takes = "an address like \"http://collector:4318\", without credentials and query";
            return Err(self.bad(ENDPOINT, &shown, takes));
        }
        if !cfg!(feature = "otlp") {
            return Err(ConfigError::NotBuilt {
                place: self.place(&given.origin),
                key: ENDPOINT,
                feature: "otlp",
            });
        }
        Ok(text.trim_end_matches('/').to_owned())
    }

    /// Reads `Name: value` lines. Blank lines, and those that begin with `#`, are left out.
    fn headers(&self, given: &Given<String>) -> Result<Vec<(String, Secret)>, ConfigError> {
        if given.value.is_empty() {
            return Err(self.bad(HEADERS_FILE, given, "a path"));
        }
        let file = PathBuf::from(&given.value);
        let text = read_secret_file(&file).map_err(|source| {
            let place = self.place(&given.origin);
            ConfigError::secret_unreadable(place, HEADERS_FILE.to_owned(), file.clone(), source)
        })?;
        let mut headers = Vec::new();
        for (line, text) in (1..).zip(text.lines()) {
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let header = header(text).ok_or_else(|| ConfigError::NoHeader {
                place: self.place(&given.origin),
                key: HEADERS_FILE,
                file: file.clone(),
                line,
            })?;
            headers.push(header);
        }
        Ok(headers)
    }
}

fn header(line: &str) -> Option<(String, Secret)> {
    let (name, value) = line.split_once(':')?;
    let (name, value) = (name.trim(), value.trim());
    let is_value = !value.is_empty() && value.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
    if !is_value || hyper::header::HeaderName::try_from(name).is_err() {
        return None;
    }
    // The log is to show neither the whole value nor what stands behind a word such as `Bearer`.
    value.split(' ').for_each(conceal);
    Some((name.to_ascii_lowercase(), Secret::new(value)))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use crate::config::{Config, ConfigError, Env};

    fn load(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let node = [("TWIN_ID", "node-1"), ("TWINSIGHT_CAMERAS", "cam")];
        let env: Env = node.iter().chain(variables).copied().collect();
        Config::load(None, &env)
    }

    fn error(variables: &[(&str, &str)]) -> String {
        load(variables).unwrap_err().to_string()
    }

    #[test]
    fn unless_told_nothing_is_traced() {
        let telemetry = load(&[]).unwrap().telemetry;
        assert_eq!(telemetry.otlp_endpoint, None);
        assert!((telemetry.trace_sample_ratio - 0.01).abs() < f64::EPSILON);
        assert!(telemetry.otlp_headers.is_empty());
    }

    #[test]
    #[cfg(feature = "otlp")]
    fn an_endpoint_may_have_a_path() {
        for (given, taken) in [
            ("http://collector:4318", "http://collector:4318"),
            ("https://[::1]:4318/otlp/", "https://[::1]:4318/otlp"),
        ] {
            let telemetry = load(&[("TWINSIGHT_TELEMETRY__OTLP_ENDPOINT", given)]).unwrap();
            assert_eq!(telemetry.telemetry.otlp_endpoint.as_deref(), Some(taken));
        }
    }

    #[test]
    #[cfg(not(feature = "otlp"))]
    fn a_build_without_the_feature_says_how_to_build_with_it() {
        let error = error(&[(
            "TWINSIGHT_TELEMETRY__OTLP_ENDPOINT",
            "http://collector:4318",
        )]);
        assert!(error.contains("--features otlp"), "{error}");
    }

    #[test]
    fn what_is_no_address_is_refused_and_no_secret_repeated() {
        for given in [
            "collector:4318",
            "http://",
            "http://:4318",
            "grpc://collector:4317",
            "http://user:hush@collector:4318",
            "http://collector:4318/?key=hush",
            "http://a b",
        ] {
            let error = error(&[("TWINSIGHT_TELEMETRY__OTLP_ENDPOINT", given)]);
            assert!(error.contains("give an address like"), "{given}: {error}");
            assert!(!error.contains("hush"), "{error}");
        }
        let error = error(&[("TWINSIGHT_TELEMETRY__TRACE_SAMPLE_RATIO", "1.5")]);
        assert!(error.contains("a number from 0 to 1"), "{error}");
    }

    #[test]
    fn headers_are_read_from_their_file_and_never_shown() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap().to_owned();
        write!(
            file,
            "# for the vendor\nAuthorization: Bearer hush-hush-1\n\nX-Team: a b\n"
        )
        .unwrap();
        let variables = [("TWINSIGHT_TELEMETRY__OTLP_HEADERS_FILE", path.as_str())];
        let telemetry = load(&variables).unwrap().telemetry;
        let headers: Vec<_> = telemetry
            .otlp_headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.expose()))
            .collect();
        assert_eq!(
            headers,
            [("authorization", "Bearer hush-hush-1"), ("x-team", "a b")]
        );
        assert!(!format!("{telemetry:?}").contains("hush"));
        let concealed = twinsight_client::secret::concealed();
        assert!(concealed.iter().any(|secret| secret == "hush-hush-1"));
        drop(concealed);

        writeln!(file, "hush-hush-2").unwrap();
        let error = error(&variables);
        assert!(error.contains("line 5 of the file"), "{error}");
        assert!(!error.contains("hush"), "{error}");
    }
}
