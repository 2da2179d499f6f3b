//! The request that carries an event. Its type and its JSON come in, and what is posted goes out, with the headers that say what it
//! is and, if there is a secret, who made it and when. [The guide](../../../docs/guide/webhooks.md) tells receivers how to check that.

use std::fmt::Write;

use axum::body::Bytes;
use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use axum::http::{self, Request};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

use twinsight_client::secret::Secret;

const EVENT: HeaderName = HeaderName::from_static("twinsight-event");
const DELIVERY: HeaderName = HeaderName::from_static("twinsight-delivery");
const TIMESTAMP: HeaderName = HeaderName::from_static("twinsight-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("twinsight-signature");

/// An event as it is posted, however often it is tried.
#[derive(Debug)]
pub(super) struct Delivery {
    event_type: &'static str,
    /// The same in each try, so that a receiver that got the event twice can tell. 32 hex digits.
    id: String,
    body: Bytes,
}

impl Delivery {
    /// An event of this type with this JSON.
    pub(super) fn new(event_type: &'static str, json: &Value) -> Self {
        Self {
            event_type,
            id: format!("{:032x}", rand::random::<u128>()),
            body: json.to_string().into(),
        }
    }

    /// The request for a try at this second since 1970. The signature has it inside, so that nobody can send it again later.
    pub(super) fn request(
        &self,
        url: &str,
        secret: Option<&Secret>,
        unix_s: u64,
    ) -> Result<Request<Bytes>, http::Error> {
        let mut request = Request::post(url)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header(EVENT, HeaderValue::from_static(self.event_type))
            .header(DELIVERY, &self.id)
            .header(TIMESTAMP, unix_s);
        if let Some(secret) = secret {
            let signature = signature(secret, unix_s, &self.body);
            request = request.header(SIGNATURE, signature);
        }
        request.body(self.body.clone())
    }
}

/// The signature of a body at a second since 1970: `t=SECOND,v1=HEX`, where the hex digits are the HMAC-SHA256 of `SECOND.BODY`.
fn signature(secret: &Secret, unix_s: u64, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes())
        .expect("HMAC takes keys of any length");
    mac.update(format!("{unix_s}.").as_bytes());
    mac.update(body);
    let mut text = format!("t={unix_s},v1=");
    for byte in mac.finalize().into_bytes() {
        write!(text, "{byte:02x}").expect("a String takes all that is written to it");
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_says_what_it_is_and_each_try_is_signed_anew() {
        let secret = Secret::new("an-example-secret");
        let delivery = Delivery::new("cameraStatus", &json!({"state": "receiving"}));
        let request = |unix_s| {
            delivery
                .request("https://example/hook?key=1", Some(&secret), unix_s)
                .unwrap()
        };
        let first = request(1_700_000_000);
        assert_eq!(first.method(), "POST");
        assert_eq!(first.uri(), "https://example/hook?key=1");
        assert_eq!(first.body(), r#"{"state":"receiving"}"#);
        let headers = first.headers();
        assert_eq!(headers["content-type"], "application/json");
        assert_eq!(headers["twinsight-event"], "cameraStatus");
        assert_eq!(headers["twinsight-timestamp"], "1700000000");
        // Made by `printf '1700000000.{"state":"receiving"}' | openssl dgst -sha256 -hmac an-example-secret`.
        assert_eq!(
            headers["twinsight-signature"],
            "t=1700000000,v1=85bac4c990fdff1300b69552e15f6754822073ed997c692c7468223d0a44da37"
        );
        let second = request(1_700_000_001);
        assert_eq!(
            second.headers()["twinsight-delivery"],
            headers["twinsight-delivery"]
        );
        assert_ne!(
            second.headers()["twinsight-signature"],
            headers["twinsight-signature"]
        );
        let other = Delivery::new("cameraStatus", &json!({"state": "receiving"}));
        assert_ne!(other.id, delivery.id);
    }

    #[test]
    fn without_a_secret_nothing_is_signed() {
        let delivery = Delivery::new("detections", &json!({}));
        let request = delivery.request("http://example/", None, 1).unwrap();
        assert!(!request.headers().contains_key("twinsight-signature"));
        assert_eq!(request.headers()["twinsight-timestamp"], "1");
    }
}
