//! What an answer means for the event. The answer of the receiver comes in, or the reason why there is none, and goes out as one
//! of three cases.

use super::report::remedy;
use std::time::{Duration, SystemTime};

use axum::body::Bytes;
use axum::http::header::{HeaderValue, RETRY_AFTER};
use axum::http::{Response, StatusCode};

use crate::web_client::WebError;
use twinsight_client::hub::text::brief;

/// What came of a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The receiver has the event.
    Taken,
    /// It does not have it, and may take it later, after this time if it named one.
    Later {
        /// What happened, as a clause.
        reason: String,
        after: Option<Duration>,
    },
    /// It does not want it, now or later.
    Refused {
        status: StatusCode,
        /// The beginning of what it said, as it may stand in a line.
        answer: String,
    },
}

impl Verdict {
    /// Why the receiver does not have the event, with what to do.
    pub(super) fn trouble(&self) -> Option<String> {
        match self {
            Self::Taken => None,
            Self::Later { reason, .. } => Some(reason.clone()),
            Self::Refused { status, .. } => {
                Some(format!("it refuses events ({status}): {}", remedy(*status)))
            }
        }
    }

    /// A failure that another try may not have.
    pub(super) fn later(reason: String) -> Self {
        Self::Later {
            reason,
            after: None,
        }
    }

    /// What an answer means that came at this time.
    pub(super) fn of(answer: Result<Response<Bytes>, WebError>, now: SystemTime) -> Self {
        match answer {
            Ok(answer) => Self::of_status(
                answer.status(),
                answer.headers().get(RETRY_AFTER),
                answer.body(),
                now,
            ),
            // The status has all that counts.
            Err(WebError::Unread { status, .. }) => Self::of_status(status, None, &[], now),
            Err(error) => Self::later(error.to_string()),
        }
    }

    fn of_status(
        status: StatusCode,
        retry_after: Option<&HeaderValue>,
        body: &[u8],
        now: SystemTime,
    ) -> Self {
        if status.is_success() {
            return Self::Taken;
        }
        // Request Timeout, Too Early, Too Many Requests.
        if status.is_server_error() || [408, 425, 429].contains(&status.as_u16()) {
            return Self::Later {
                reason: format!("it answered {status}"),
                after: retry_after.and_then(|value| wait(value, now)),
            };
        }
        Self::Refused {
            status,
            answer: brief(&String::from_utf8_lossy(body)),
        }
    }
}

/// The time that a `Retry-After` asks for, which names seconds or a date (RFC 9110, 10.2.3).
fn wait(value: &HeaderValue, now: SystemTime) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(text).ok()?;
    Some(until.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, retry_after: Option<&str>, body: &str) -> Verdict {
        let mut answer = Response::builder().status(status);
        if let Some(value) = retry_after {
            answer = answer.header(RETRY_AFTER, value);
        }
        let answer = answer.body(Bytes::copy_from_slice(body.as_bytes()));
        // One second before the date of the test.
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_445_412_479);
        Verdict::of(Ok(answer.unwrap()), now)
    }

    #[test]
    fn every_status_means_one_of_three_things() {
        for status in [200, 201, 202, 204, 299] {
            assert_eq!(of(status, None, "whatever"), Verdict::Taken);
        }
        for status in [408, 425, 429, 500, 502, 503, 504, 599] {
            assert!(
                matches!(of(status, None, ""), Verdict::Later { after: None, .. }),
                "{status}"
            );
        }
        for status in [301, 302, 304, 307, 308, 400, 401, 403, 404, 410, 413, 422] {
            assert!(
                matches!(of(status, None, ""), Verdict::Refused { .. }),
                "{status}"
            );
        }
    }

    #[test]
    fn a_receiver_says_how_long_it_needs_in_seconds_or_by_a_date() {
        let after = |text: &str| match of(503, Some(text), "") {
            Verdict::Later { reason, after } => {
                assert_eq!(reason, "it answered 503 Service Unavailable");
                after
            }
            other => panic!("{other:?}"),
        };
        let s = Duration::from_secs;
        assert_eq!(after(" 120"), Some(s(120)));
        assert_eq!(after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(s(1)));
        assert_eq!(after("Tue, 21 Oct 2014 07:28:00 GMT"), Some(s(0)));
        for odd in ["soon", "-1", "1.5", ""] {
            assert_eq!(after(odd), None, "{odd}");
        }
    }

    #[test]
    fn of_a_refusal_a_short_clean_line_is_kept() {
        let Verdict::Refused { status, answer } =
            of(400, None, &format!("no\n\u{1b}[31m{}", "x".repeat(9000)))
        else {
            panic!("400 is a refusal");
        };
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(answer.starts_with(r"no\n\u{1b}[31mxxx"), "{answer}");
        assert!(answer.len() < 250);
    }

    #[test]
    fn an_answer_that_is_too_long_counts_by_its_status() {
        let unread = |status| {
            let error = WebError::Unread {
                server: "https://example".to_owned(),
                status,
                reason: "longer than 9 bytes".to_owned(),
            };
            Verdict::of(Err(error), SystemTime::now())
        };
        assert_eq!(unread(StatusCode::OK), Verdict::Taken);
        assert!(matches!(
            unread(StatusCode::BAD_REQUEST),
            Verdict::Refused { .. }
        ));
    }
}
