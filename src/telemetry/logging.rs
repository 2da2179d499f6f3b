//! Logs to standard error, as text or JSON, what `RUST_LOG` asks for. The program sets it up once. Whoever logs never waits:
//! a thread of its own writes the lines, and what it cannot write is dropped and counted. Lines that a peer could cause
//! without end go through a [`RateLimit`].

use std::io::IsTerminal;
use std::panic::PanicHookInfo;
use std::str::FromStr;
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::{Duration, Instant};

use prometheus::IntCounter;
use tracing::{Event, Level, Metadata, Subscriber, span};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use twinsight_client::rate_limit::{RATE_LIMIT, RateLimit};

use super::health::panic_message;
use super::log_line::{self, Fields, LineHead, LineStyle, SpanContext, Value};
use super::log_queue::{LogQueue, RawStderr};

/// What is logged unless `RUST_LOG` says otherwise. The WebRTC stack logs too much to be read, and so does ONNX Runtime about files of
/// old exporters, and the RTSP client about cameras that deviate from what is written.
pub(crate) const DEFAULT_FILTER: &str = "warn,twinsight=info,ort=error,retina=error,webrtc=error,rtc=error,rtc_ice=error,rtc_dtls=error,\
    rtc_interceptor=error,rtc_srtp=error,rtc_sctp=error,rtc_turn=error,rtc_mdns=error";

/// The default of commands that use the terminal for something else than the log.
pub(crate) const QUIET_FILTER: &str = "warn,ort=error,retina=error,webrtc=error,rtc=error,rtc_ice=error,rtc_dtls=error,\
    rtc_interceptor=error,rtc_srtp=error,rtc_sctp=error,rtc_turn=error,rtc_mdns=error";

/// The default of a command whose own lines tell of the hub.
pub(crate) const WATCH_FILTER: &str = "warn,twinsight_client=error,webrtc=error,rtc=error";

/// Libraries whose finest lines show what goes over the wire, access keys and credentials included. Those lines are never
/// logged, whatever `RUST_LOG` says.
const WIRE_TARGETS: &[&str] = &[
    "tungstenite",
    "tokio_tungstenite",
    "hyper",
    "hyper_util",
    "rustls",
    "engineioxide",
    "socketioxide",
    "rtc_turn",
    "rtc_stun",
];

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum LogFormat {
    /// A line for people to read.
    #[default]
    Text,
    /// A JSON object on each line.
    Json,
}

/// Why logging cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoggingError {
    /// The option names no format.
    #[error("`{0}` is no log format: give `text` or `json`")]
    UnknownFormat(String),
    /// `RUST_LOG` is no filter.
    #[error(
        "RUST_LOG is `{filter}`, which is no filter ({source}): give one like `info,twinsight=debug`"
    )]
    BadFilter {
        /// The value of `RUST_LOG`.
        filter: String,
        /// What the parser says about it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// The system grants no thread that writes the lines.
    #[error(transparent)]
    Thread(#[from] twinsight_client::thread::ThreadError),
    /// Another part of the process set logging up before.
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

/// Where the process logs to, once it is set up.
static LOG: OnceLock<Log> = OnceLock::new();

/// Counts lines that were dropped. It is one for the process, and every registry of metrics has it.
static DROPPED: LazyLock<IntCounter> = LazyLock::new(|| {
    IntCounter::new(
        "twinsight_log_lines_dropped_total",
        "Log lines that could not be written, or not soon enough",
    )
    .expect("the name is valid, because it is a literal")
});

pub(crate) fn dropped_lines() -> IntCounter {
    DROPPED.clone()
}

#[derive(Debug)]
struct Log {
    queue: Arc<LogQueue>,
    look: LineStyle,
}

/// Sets up logging for the process and makes a line of the log of every panic. `filter` is the value of `RUST_LOG`.
/// Lines are painted on a terminal, unless `no_colour` says that nobody wants that.
///
/// # Errors
/// When the filter is malformed, logging was set up before, or the system grants no thread.
pub(crate) fn init(
    format: LogFormat,
    filter: Option<&str>,
    no_colour: bool,
) -> Result<(), LoggingError> {
    let filter = parse_filter(filter)?;
    let look = match format {
        LogFormat::Json => LineStyle::Json,
        LogFormat::Text if !no_colour && std::io::stderr().is_terminal() => LineStyle::Colour,
        LogFormat::Text => LineStyle::Text,
    };
    let queue = start("log", look)?;
    std::panic::set_hook(Box::new(log_panic));
    subscriber(filter, queue, look)
        .try_init()
        .map_err(|_| LoggingError::Twice)
}

/// Starts a thread of this name that writes what the process logs from now on.
fn start(thread: &'static str, look: LineStyle) -> Result<Arc<LogQueue>, LoggingError> {
    let queue = LogQueue::new(dropped_lines());
    let tell = |lines: u64| {
        tracing::warn!(
            lines,
            "log lines were dropped: whoever reads standard error is too slow, or could not be written to"
        );
    };
    // Nobody joins this thread: whoever reads standard error may keep it in a write for ever.
    queue.spawn(thread, RawStderr, tell)?.abandon();
    // The log is set only now, because without the thread nobody would write the last words that say why it is missing.
    let log = Log {
        queue: Arc::clone(&queue),
        look,
    };
    LOG.set(log).map_err(|_| LoggingError::Twice)?;
    Ok(queue)
}

fn subscriber(
    filter: EnvFilter,
    queue: Arc<LogQueue>,
    look: LineStyle,
) -> impl Subscriber + for<'a> LookupSpan<'a> + Send + Sync {
    tracing_subscriber::registry()
        .with(filter)
        .with(NoWire)
        .with(Lines { queue, look })
}

/// Writes the program's last sentence to standard error, after everything that was logged. See [`flush`].
pub(crate) fn last_words(text: &str) {
    for line in text.lines() {
        let line = log_line::bare_line(line);
        match LOG.get() {
            Some(log) => log.queue.push_last(line),
            None => {
                use std::io::Write;
                // If that fails, nobody is left to be told.
                let _ = std::io::stderr().write_all(line.as_bytes());
            }
        }
    }
}

/// Waits until all that was logged is written, but no longer than `limit`, since the process is about to end.
pub(crate) fn flush(limit: Duration) {
    if let Some(log) = LOG.get() {
        log.queue.flush(limit);
    }
}

/// The layer that keeps the lines of [`WIRE_TARGETS`] out.
#[derive(Debug)]
struct NoWire;

impl<S: Subscriber> Layer<S> for NoWire {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        *metadata.level() <= Level::INFO || !is_wire(metadata.target())
    }
}

fn is_wire(target: &str) -> bool {
    let library = target.split("::").next().unwrap_or_default();
    WIRE_TARGETS.contains(&library)
}

/// The layer that makes lines of events and hands them to the queue.
#[derive(Debug)]
struct Lines {
    queue: Arc<LogQueue>,
    look: LineStyle,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_new_span(
        &self,
        attributes: &span::Attributes<'_>,
        id: &span::Id,
        context: Context<'_, S>,
    ) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        if let Some(span) = context.span(id)
            && let Some(known) = span.extensions_mut().get_mut::<Fields>()
        {
            known.merge(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        // How a value shows itself is the code of others, so no lock is held meanwhile.
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let foreign = foreign_target(metadata, &mut fields);
        let spans: Vec<(&'static str, Fields)> = context
            .event_scope(event)
            .into_iter()
            .flat_map(tracing_subscriber::registry::Scope::from_root)
            .map(|span| {
                let fields = span.extensions().get::<Fields>().cloned();
                (span.name(), fields.unwrap_or_default())
            })
            .collect();
        let spans: Vec<SpanContext<'_>> = spans
            .iter()
            .map(|(name, fields)| SpanContext { name, fields })
            .collect();
        let target = foreign.as_deref().unwrap_or(metadata.target());
        self.queue.push(line_of_now(
            self.look,
            *metadata.level(),
            target,
            &fields,
            &spans,
        ));
    }
}

/// The module of a line that came by the crate `log`. Its events have the module in a field.
fn foreign_target(metadata: &Metadata<'_>, fields: &mut Fields) -> Option<String> {
    if metadata.target() != "log" {
        return None;
    }
    for told in ["log.module_path", "log.file", "log.line"] {
        fields.take(told);
    }
    match fields.take("log.target") {
        Some(Value::Quoted(target) | Value::Shown(target)) => Some(target),
        _ => None,
    }
}

fn line_of_now(
    look: LineStyle,
    level: Level,
    target: &str,
    fields: &Fields,
    spans: &[SpanContext<'_>],
) -> String {
    let mut time = String::new();
    // A line without a time is better than none.
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    let head = LineHead {
        time: &time,
        level,
        target,
    };
    log_line::line(look, &head, fields, spans)
}

/// Logs a panic in one line whatever the filter says, and at most once in ten seconds for each place in the code.
fn log_panic(panic: &PanicHookInfo<'_>) {
    static PLACES: LazyLock<RateLimit<(String, u32)>> =
        LazyLock::new(|| RateLimit::new(RATE_LIMIT));
    let Some(log) = LOG.get() else {
        return;
    };
    let place = panic
        .location()
        .map(|place| (place.file().to_owned(), place.line()));
    let Some(suppressed) = PLACES.allow(place.clone().unwrap_or_default(), Instant::now()) else {
        return;
    };
    let thread = std::thread::current();
    let mut fields = Fields::default();
    let mut set = |name, text: &str| fields.set(name, Value::Quoted(log_line::shown(text)));
    set("message", "a thread panicked");
    set("thread", thread.name().unwrap_or("without a name"));
    if let Some((file, line)) = place {
        set("place", &format!("{file}:{line}"));
    }
    set("panic", panic_message(panic.payload()));
    fields.set("suppressed", Value::Whole(suppressed.to_string()));
    let line = line_of_now(log.look, Level::ERROR, "twinsight::panic", &fields, &[]);
    log.queue.push(line);
    // It is empty unless `RUST_BACKTRACE` asks for it.
    let backtrace = std::backtrace::Backtrace::capture();
    if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
        for line in backtrace.to_string().lines() {
            log.queue.push(log_line::bare_line(line));
        }
    }
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

/// For tests: what is logged on their thread.
#[cfg(test)]
pub(crate) mod capture {
    use super::*;

    /// The lines that a logger with this filter writes of what `logs` does.
    pub(crate) fn text(filter: &str, logs: impl FnOnce()) -> Vec<String> {
        logged(filter, LineStyle::Text, logs)
    }

    /// What a logger with this filter writes of what `logs` does.
    pub(super) fn logged(filter: &str, look: LineStyle, logs: impl FnOnce()) -> Vec<String> {
        struct Sender(std::sync::mpsc::Sender<String>);
        impl std::io::Write for Sender {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                let _ = self.0.send(String::from_utf8(bytes.to_owned()).unwrap());
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let queue = LogQueue::new(IntCounter::new("dropped", "lines").unwrap());
        let (sender, lines) = std::sync::mpsc::channel();
        queue
            .spawn("log", Sender(sender), |_| {})
            .unwrap()
            .abandon();
        let filter = parse_filter(Some(filter)).unwrap();
        tracing::subscriber::with_default(subscriber(filter, Arc::clone(&queue), look), logs);
        assert!(queue.flush(RATE_LIMIT));
        lines.try_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::capture::logged;
    use super::*;

    #[test]
    fn where_the_writing_thread_is_not_granted_the_last_words_are_said_without_it() {
        let _refusal = twinsight_client::thread::refusal::of("log-refused");
        let error = start("log-refused", LineStyle::Text).unwrap_err();
        assert!(matches!(error, LoggingError::Thread(_)), "{error}");
        assert!(LOG.get().is_none(), "nobody would write them");
    }

    #[test]
    fn spans_and_fields_are_told_and_a_field_forges_no_line() {
        let lines = logged("info", LineStyle::Json, || {
            let span = tracing::info_span!("camera", twin = %"cam\nERROR forged", n = tracing::field::Empty);
            let _entered = span.enter();
            span.record("n", 7);
            tracing::info!(
                key = %"tw\u{1b}[2Jin\nforged",
                bytes = 7_u128,
                rate = 1.5,
                ok = true,
                "a setting is unknown"
            );
            tracing::debug!("too fine");
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
        let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(line["message"], "a setting is unknown");
        assert_eq!(line["key"], "tw\u{1b}[2Jin\nforged");
        assert_eq!((&line["bytes"], &line["rate"]), (&7.into(), &1.5.into()));
        assert_eq!(line["ok"], true);
        assert_eq!(line["span"]["twin"], "cam\nERROR forged");
        assert_eq!(line["spans"][0]["n"], 7);
        assert_eq!(lines[0].matches('\n').count(), 1);
    }

    #[test]
    fn what_goes_over_the_wire_is_not_logged_at_any_filter() {
        for filter in [
            "trace",
            "tungstenite=trace",
            "tungstenite::protocol=trace,rustls=debug",
        ] {
            let lines = logged(filter, LineStyle::Text, || {
                tracing::trace!(target: "tungstenite::protocol", "Sending frame: secret");
                tracing::debug!(target: "rustls::client::hs", "secret");
                tracing::trace!(target: "rtc_turn", "secret");
            });
            assert!(lines.is_empty(), "{filter}: {lines:?}");
        }
        let lines = logged("trace", LineStyle::Text, || {
            tracing::warn!(target: "tungstenite::protocol", "a warning");
            tracing::trace!(target: "tungstenite_like", "another library");
        });
        assert_eq!(lines.len(), 2, "{lines:?}");
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
