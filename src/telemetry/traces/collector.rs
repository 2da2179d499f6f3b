//! The collector of OpenTelemetry, by OTLP over HTTP. The protobuf of a request comes in, and what the collector says of it
//! goes out.

use std::path::PathBuf;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use axum::http::{Method, Request, StatusCode, Uri};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use twinsight_client::secret::Secret;
use twinsight_client::tls::CaFileError;

use crate::web_client::{WebClient, WebClientError, WebError};

/// From connecting to the whole answer, a request may take this long.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// The most of an answer that is read. It has a sentence at most.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// Where the traces go.
#[derive(Debug, Clone)]
pub(crate) struct CollectorOptions {
    /// The address without `/v1/traces`.
    pub(crate) endpoint: String,
    /// Names and values of headers that it asks for.
    pub(crate) headers: Vec<(String, Secret)>,
    /// Certificates to trust beside the built-in roots.
    pub(crate) ca_file: Option<PathBuf>,
}

/// Why no traces can be sent at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CollectorError {
    /// The file of certificates is missing, unreadable, or holds none.
    #[error(
        "the file {} of `telemetry.otlp_ca_file` cannot be used ({reason}): give a file of PEM certificates that the node may read",
        file.display()
    )]
    CaFile {
        /// Its path.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The address or a header is none, although the configuration was checked.
    #[error(
        "`telemetry.otlp_endpoint` or a line of `telemetry.otlp_headers_file` cannot be used ({0}): correct it"
    )]
    Unusable(String),
}

impl From<WebClientError> for CollectorError {
    fn from(error: WebClientError) -> Self {
        let WebClientError::CaFile(CaFileError { file, reason }) = error;
        Self::CaFile { file, reason }
    }
}

/// Why a batch was not delivered.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Undelivered {
    /// It may be delivered later, after this time if the collector named one.
    #[error("{reason}")]
    Later {
        reason: String,
        after: Option<Duration>,
    },
    /// The collector does not want it, now or later.
    #[error("it answered {0}")]
    Refused(StatusCode),
}

/// A connection to the collector, which is opened when it is needed and kept.
#[derive(Debug)]
pub(super) struct Collector {
    client: WebClient,
    url: Uri,
    headers: HeaderMap,
}

impl Collector {
    pub(super) fn new(options: &CollectorOptions) -> Result<Self, CollectorError> {
        let unusable = |error: &dyn std::fmt::Display| CollectorError::Unusable(error.to_string());
        let url = format!("{}/v1/traces", options.endpoint);
        let url = url.parse().map_err(|error| unusable(&error))?;
        let mut headers = HeaderMap::new();
        for (name, value) in &options.headers {
            let name = HeaderName::try_from(name).map_err(|error| unusable(&error))?;
            let mut value =
                HeaderValue::try_from(value.expose()).map_err(|error| unusable(&error))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let content_type = HeaderValue::from_static("application/x-protobuf");
        headers.insert(CONTENT_TYPE, content_type);
        let client = WebClient::new(options.ca_file.as_deref())?;
        Ok(Self {
            client,
            url,
            headers,
        })
    }

    /// Sends a request with this body. A collector that took some of its spans and not others says how many and why, which is
    /// returned.
    pub(super) async fn post(&self, body: Vec<u8>) -> Result<Option<String>, Undelivered> {
        let mut request = Request::new(Bytes::from(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.clone();
        *request.headers_mut() = self.headers.clone();
        let answer = self
            .client
            .send(request, REQUEST_LIMIT, MAX_ANSWER_BYTES)
            .await;
        match answer {
            Ok(answer) if answer.status().is_success() => Ok(refused_spans(answer.body())),
            Ok(answer) => Err(verdict(answer.status(), answer.headers().get(RETRY_AFTER))),
            // What cannot be read of a collector that says yes is left out.
            Err(WebError::Unread { status, .. }) if status.is_success() => Ok(None),
            Err(WebError::Unread { status, .. }) => Err(verdict(status, None)),
            Err(error) => Err(Undelivered::Later {
                reason: error.to_string(),
                after: None,
            }),
        }
    }
}

/// What an answer that is no success means. OTLP says which of them are worth another attempt.
fn verdict(status: StatusCode, retry_after: Option<&HeaderValue>) -> Undelivered {
    if ![429, 502, 503, 504].contains(&status.as_u16()) {
        return Undelivered::Refused(status);
    }
    let seconds = retry_after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Undelivered::Later {
        reason: format!("it answered {status}"),
        after: seconds.map(Duration::from_secs),
    }
}

/// What the collector says of spans that it did not take, if there are any.
fn refused_spans(answer: &[u8]) -> Option<String> {
    let answer = ExportTraceServiceResponse::decode(answer).ok()?;
    let partial = answer.partial_success.filter(|p| p.rejected_spans > 0)?;
    let said: String = partial.error_message.chars().take(200).collect();
    Some(format!(
        "it refused {} spans: {}",
        partial.rejected_spans,
        said.escape_debug()
    ))
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;

    use super::*;

    #[test]
    fn only_what_otlp_names_is_worth_another_attempt() {
        for status in [429, 502, 503, 504] {
            let status = StatusCode::from_u16(status).unwrap();
            let after = HeaderValue::from_static("7");
            let Undelivered::Later { after, .. } = verdict(status, Some(&after)) else {
                panic!("{status}");
            };
            assert_eq!(after, Some(Duration::from_secs(7)));
        }
        for status in [301, 400, 401, 404, 413, 500] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(verdict(status, None), Undelivered::Refused(status));
        }
    }

    #[test]
    fn spans_that_were_refused_are_told_and_a_plain_yes_is_not() {
        let answer = ExportTraceServiceResponse {
            partial_success: Some(ExportTracePartialSuccess {
                rejected_spans: 3,
                error_message: "too\nold".to_owned(),
            }),
        };
        let said = refused_spans(&answer.encode_to_vec()).unwrap();
        assert_eq!(said, "it refused 3 spans: too\\nold");
        assert_eq!(refused_spans(&[]), None);
        assert_eq!(refused_spans(b"{\"partialSuccess\":{}}"), None);
    }

    #[test]
    fn a_file_without_certificates_is_an_error_that_names_it() {
        let options = |ca_file: Option<PathBuf>| CollectorOptions {
            endpoint: "https://collector:4318".to_owned(),
            headers: vec![("x-team".to_owned(), Secret::new("a"))],
            ca_file,
        };
        assert!(Collector::new(&options(None)).is_ok());
        let error = Collector::new(&options(Some("/nonexistent.pem".into()))).unwrap_err();
        assert!(error.to_string().contains("/nonexistent.pem"), "{error}");
        let error = Collector::new(&options(Some("/dev/null".into()))).unwrap_err();
        assert!(error.to_string().contains("no certificate"), "{error}");
    }
}
