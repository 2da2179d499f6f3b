//! How answers are written: JSON, errors as a sentence, gzip for whoever takes it, and the headers that every answer has.

use std::io::Write;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;
use serde_json::json;

/// What pages may load: their own files and pictures, and nothing from anywhere else.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// A shorter body is not worth compressing.
const MIN_GZIP_BYTES: usize = 1024;

/// Adds the headers that every answer has.
pub(super) fn secured(mut answer: Response) -> Response {
    let headers = answer.headers_mut();
    let mut add = |name, value| {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    };
    add(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY);
    add(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    add(header::REFERRER_POLICY, "no-referrer");
    // Pages of others cannot show the pictures, not even of a node that needs no token.
    add(
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    );
    add(header::CACHE_CONTROL, "no-store");
    answer
}

/// An error of the API: a sentence that says what is wrong and what to do.
pub(super) fn error(status: StatusCode, sentence: impl AsRef<str>) -> Response {
    let body = json!({"error": sentence.as_ref()}).to_string();
    let content_type = [(header::CONTENT_TYPE, "application/json")];
    (status, content_type, body).into_response()
}

/// The error for whoever comes when there are as many watchers as may be.
pub(super) fn too_many(sentence: impl AsRef<str>) -> Response {
    let mut answer = error(StatusCode::SERVICE_UNAVAILABLE, sentence);
    let headers = answer.headers_mut();
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    answer
}

/// A JSON answer, compressed if the client takes that.
pub(super) fn json(asked: &HeaderMap, value: &impl Serialize) -> Response {
    let text = serde_json::to_vec(value).expect("views serialise, because their keys are texts");
    body(asked, "application/json", text)
}

/// An answer with this body, compressed if the client takes that.
pub(super) fn body(asked: &HeaderMap, content_type: &'static str, bytes: Vec<u8>) -> Response {
    let mut answer = if bytes.len() >= MIN_GZIP_BYTES && takes_gzip(asked) {
        let mut answer = Body::from(gzip(&bytes)).into_response();
        let encoding = HeaderValue::from_static("gzip");
        answer
            .headers_mut()
            .insert(header::CONTENT_ENCODING, encoding);
        answer
    } else {
        Body::from(bytes).into_response()
    };
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    let vary = HeaderValue::from_static("accept-encoding");
    headers.insert(header::VARY, vary);
    answer
}

/// True if the client has what this tag names (RFC 9110, section 13.1.2).
pub(super) fn knows(asked: &HeaderMap, etag: &str) -> bool {
    asked
        .get_all(header::IF_NONE_MATCH)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|tag| tag.trim().trim_start_matches("W/") == etag || tag.trim() == "*")
}

/// Compresses it. This takes some 15 ms for a megabyte.
pub(super) fn gzip(bytes: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    encoder
        .write_all(bytes)
        .and_then(|()| encoder.finish())
        .expect("writing to a vector does not fail")
        .into()
}

/// True if the client says that it takes gzip (RFC 9110, section 12.5.3).
pub(super) fn takes_gzip(asked: &HeaderMap) -> bool {
    let codings = asked
        .get_all(header::ACCEPT_ENCODING)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    let mut any = None;
    for coding in codings {
        let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = parameters.trim().strip_prefix("q=").map(str::trim);
        let takes = weight.is_none_or(|weight| weight.parse().is_ok_and(|q: f32| q > 0.0));
        match name.trim() {
            gzip if gzip.eq_ignore_ascii_case("gzip") || gzip.eq_ignore_ascii_case("x-gzip") => {
                return takes;
            }
            "*" => any = Some(takes),
            _ => {}
        }
    }
    any.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_for_those_who_take_it() {
        let takes = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
            takes_gzip(&headers)
        };
        for value in [
            "gzip",
            "br, gzip",
            "deflate, GZIP;q=0.5",
            "*",
            "identity;q=0, *;q=0.1",
        ] {
            assert!(takes(value), "{value}");
        }
        for value in [
            "",
            "br",
            "gzip;q=0",
            "identity",
            "*;q=0",
            "gzip;q=x",
            "*, gzip;q=0.0",
        ] {
            assert!(!takes(value), "{value}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }
}
