//! Logs to standard error, as text or JSON, by `RUST_LOG`. `main` sets it up once; [`RateLimit`] is for
//! the lines that a peer could cause without end.

use std::collections::HashMap;
use std::hash::Hash;
use std::io::IsTerminal;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing_subscriber::filter::EnvFilter;

/// What is logged unless `RUST_LOG` says otherwise: the stacks below us tell too much.
pub const DEFAULT_FILTER: &str = "warn,twinsight=info,webrtc=error,rtc=error,rtc_ice=error,rtc_dtls=error,\
    rtc_interceptor=error,rtc_srtp=error,rtc_sctp=error,rtc_turn=error,rtc_mdns=error";

/// As the default, for commands whose output on the terminal is not the log.
pub const QUIET_FILTER: &str = "warn,webrtc=error,rtc=error,rtc_ice=error,rtc_dtls=error,\
    rtc_interceptor=error,rtc_srtp=error,rtc_sctp=error,rtc_turn=error,rtc_mdns=error";

/// A peer's lines come at most this often.
pub const RATE_LIMIT: Duration = Duration::from_secs(10);

/// Keys that a [`RateLimit`] remembers.
const MAX_KEYS: usize = 1024;

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Why logging cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// Not a format.
    #[error("`{0}` is no log format: give `text` or `json`")]
    UnknownFormat(String),
    /// Not a filter.
    #[error(
        "RUST_LOG is `{filter}`, which is no filter ({source}): give one like `info,twinsight=debug`"
    )]
    BadFilter {
        /// The variable's value.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Logging was set up before.
    #[error("logging was set up twice: this is a bug in Twinsight")]
    Twice,
}

impl FromStr for LogFormat {
    type Err = LoggingError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(LoggingError::UnknownFormat(other.to_owned())),
        }
    }
}

/// Sets up logging for the process. `filter` is the value of `RUST_LOG`.
///
/// # Errors
/// If the filter is malformed or logging was set up before.
pub fn init(format: LogFormat, filter: Option<&str>) -> Result<(), LoggingError> {
    let filter = parse_filter(filter)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder
            .with_ansi(std::io::stderr().is_terminal())
            .try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    }
    .map_err(|_| LoggingError::Twice)
}

fn parse_filter(filter: Option<&str>) -> Result<EnvFilter, LoggingError> {
    let filter = filter
        .map(str::trim)
        .filter(|filter| !filter.is_empty())
        .unwrap_or(DEFAULT_FILTER);
    EnvFilter::builder()
        .parse(filter)
        .map_err(|source| LoggingError::BadFilter {
            filter: filter.to_owned(),
            source,
        })
}

/// At most one line in an interval for each key; the next one tells how many were left out.
///
/// ```
/// # use twinsight::telemetry::logging::{RateLimit, RATE_LIMIT};
/// # use std::time::Instant;
/// let limit = RateLimit::new(RATE_LIMIT);
/// if let Some(left_out) = limit.allow("camera-1", Instant::now()) {
///     tracing::warn!(left_out, "a packet is no RTP");
/// }
/// ```
#[derive(Debug)]
pub struct RateLimit<K> {
    interval: Duration,
    passed: Mutex<PassedKeys<K>>,
}

#[derive(Debug)]
struct PassedKeys<K> {
    keys: HashMap<K, Passed>,
    /// Left out because too many keys were there.
    overflow: u64,
    /// When old keys were last thrown away.
    swept_at: Option<Instant>,
}

#[derive(Debug)]
struct Passed {
    at: Instant,
    left_out: u64,
}

impl<K: Eq + Hash> RateLimit<K> {
    /// One line in `interval` for each key.
    pub fn new(interval: Duration) -> Self {
        Self {
            interval,
            passed: Mutex::new(PassedKeys {
                keys: HashMap::new(),
                overflow: 0,
                swept_at: None,
            }),
        }
    }

    /// `Some`: log now, and so many were left out before. Beyond 1024 keys in an interval new ones are
    /// left out, so that a peer that makes up keys costs neither memory nor lines without end.
    pub fn allow(&self, key: K, now: Instant) -> Option<u64> {
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        let old = |at: Instant| now.saturating_duration_since(at) >= self.interval;
        if let Some(passed) = passed.keys.get_mut(&key) {
            if !old(passed.at) {
                passed.left_out += 1;
                return None;
            }
            passed.at = now;
            return Some(std::mem::take(&mut passed.left_out));
        }
        if passed.keys.len() >= MAX_KEYS && passed.swept_at.is_none_or(old) {
            passed.keys.retain(|_, each| !old(each.at));
            passed.swept_at = Some(now);
        }
        if passed.keys.len() >= MAX_KEYS {
            passed.overflow += 1;
            return None;
        }
        passed.keys.insert(
            key,
            Passed {
                at: now,
                left_out: 0,
            },
        );
        Some(std::mem::take(&mut passed.overflow))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_ten_seconds_a_key_and_the_next_tells_how_many_were_left_out() {
        let t = Instant::now();
        let limit = RateLimit::new(RATE_LIMIT);
        let s = Duration::from_secs;
        assert_eq!(limit.allow("a", t), Some(0));
        assert_eq!(limit.allow("a", t + s(1)), None);
        assert_eq!(limit.allow("a", t + s(9)), None);
        assert_eq!(limit.allow("b", t + s(9)), Some(0));
        assert_eq!(limit.allow("a", t + s(10)), Some(2));
        assert_eq!(limit.allow("a", t + s(20)), Some(0));
    }

    #[test]
    fn made_up_keys_cost_neither_memory_nor_lines_without_end() {
        let t = Instant::now();
        let limit = RateLimit::new(RATE_LIMIT);
        let lines = (0..5000).filter(|key| limit.allow(*key, t).is_some());
        assert_eq!(lines.count(), MAX_KEYS);
        assert_eq!(limit.allow(9999, t + RATE_LIMIT), Some(5000 - 1024));
        assert_eq!(limit.passed.lock().unwrap().keys.len(), 1);
    }

    #[test]
    fn filters_are_checked() {
        assert!(parse_filter(None).is_ok());
        assert!(parse_filter(Some("")).is_ok());
        assert!(parse_filter(Some("warn,twinsight=trace")).is_ok());
        let error = parse_filter(Some("twinsight=loud"))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("RUST_LOG is `twinsight=loud`, which is no filter ("),
            "{error}"
        );
        assert!(
            error.ends_with("): give one like `info,twinsight=debug`"),
            "{error}"
        );
    }

    #[test]
    fn formats_are_named() {
        assert_eq!("json".parse::<LogFormat>().unwrap(), LogFormat::Json);
        assert_eq!(
            "xml".parse::<LogFormat>().unwrap_err().to_string(),
            "`xml` is no log format: give `text` or `json`"
        );
    }
}
