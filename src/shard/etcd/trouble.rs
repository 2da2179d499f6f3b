//! Why a question to etcd came to nothing: an error of its client comes in, and a sentence with what to do about it goes out. Whether
//! another connection may help comes out, too.

use std::error::Error as _;

use etcd_client::Error;
use tonic::Code;

use super::super::store::StoreError;

/// A question that came to nothing.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: StoreError,
    /// The cause may lie in the connection, or in what it was made with: certificates and passwords are changed under running nodes.
    pub(super) is_stale: bool,
    pub(super) symptom: Symptom,
}

/// How it failed, as far as what to do about it depends on more than the words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Symptom {
    /// etcd refuses to speak TLS with the node, and says why.
    Alert,
    /// The connection was closed without a word.
    Closed,
    /// It was closed in place of an answer to the first message of TLS.
    NoHandshake,
    /// The node's user may not do what it wants to.
    Denied,
    Other,
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self {
            error,
            is_stale: false,
            symptom: Symptom::Other,
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        failure.error
    }
}

/// What etcd or TLS says of nodes that are not set up for each other, and what to do about it. Where two fit, the first one counts.
const REMEDIES: [(&str, &str); 12] = [
    (
        "authentication failed",
        "correct `node.lease.username`, and the password in the file of `node.lease.password_file`",
    ),
    (
        "user name is empty",
        "it lets in its users alone: give the node's as `node.lease.username` and `node.lease.password_file`, or a certificate with the \
         user as its common name",
    ),
    (
        "invalid peer certificate: UnknownIssuer",
        "name the authority of etcd's certificate in `node.lease.ca_file`",
    ),
    (
        "invalid peer certificate: certificate not valid for name",
        "write into `node.lease.url` a name that stands in etcd's certificate",
    ),
    (
        "invalid peer certificate",
        "renew etcd's certificate, and see that this machine's clock is right",
    ),
    (
        "received fatal alert: Certificate",
        "etcd wants a certificate of a client, and takes none of this node: give one that its --trusted-ca-file knows as \
         `node.lease.client_cert_file` and `node.lease.client_key_file`, and renew it where it has run out",
    ),
    (
        "received fatal alert: BadCertificate",
        "etcd wants a certificate of a client, and takes none of this node: give one that its --trusted-ca-file knows as \
         `node.lease.client_cert_file` and `node.lease.client_key_file`, and renew it where it has run out",
    ),
    (
        "received fatal alert: UnknownCA",
        "let etcd's --trusted-ca-file have the authority of the node's certificate",
    ),
    (
        "InvalidContentType",
        "it does not speak TLS there: use http:// in `node.lease.url`",
    ),
    (
        "grpc-status header missing",
        "what answers there is not etcd: correct `node.lease.url`",
    ),
    (
        "HTTP/2 was not negotiated",
        "what answers there is not etcd: correct `node.lease.url`",
    ),
    (
        "frame with invalid size",
        "what answers there is not etcd, or speaks TLS: correct `node.lease.url`",
    ),
];

/// The words by which a failure shows how it came. Where two fit, the first one counts.
const SYMPTOMS: [(&str, Symptom); 8] = [
    ("permission denied", Symptom::Denied),
    ("received fatal alert", Symptom::Alert),
    ("tls handshake eof", Symptom::NoHandshake),
    ("connection closed", Symptom::Closed),
    ("operation was canceled", Symptom::Closed),
    ("broken pipe", Symptom::Closed),
    ("Broken pipe", Symptom::Closed),
    ("onnection reset", Symptom::Closed),
];

/// What is said of an error of etcd's client.
pub(super) fn failed(error: &Error) -> Failure {
    let reason = with_causes(error);
    let remedy = remedy(&reason);
    let is_stale = match error {
        // One with a source did not come from etcd. Of its own words, those of authorisation may be due to an old token or password.
        Error::GRpcStatus(status) => {
            status.source().is_some()
                || remedy.is_some()
                || matches!(
                    status.code(),
                    Code::Unauthenticated | Code::PermissionDenied
                )
                || status.message().contains("auth")
        }
        _ => true,
    };
    Failure {
        symptom: symptom(&reason),
        error: of(reason, remedy),
        is_stale,
    }
}

/// What is said where etcd gives a reason in words.
pub(super) fn said(reason: String) -> Failure {
    let remedy = remedy(&reason);
    Failure {
        symptom: symptom(&reason),
        error: of(reason, remedy),
        is_stale: false,
    }
}

fn symptom(reason: &str) -> Symptom {
    let known = SYMPTOMS.iter().find(|(words, _)| reason.contains(words));
    known.map_or(Symptom::Other, |(_, symptom)| *symptom)
}

fn of(reason: String, remedy: Option<&'static str>) -> StoreError {
    match remedy {
        Some(remedy) => StoreError::with_remedy(reason, remedy),
        None => StoreError::new(reason),
    }
}

fn remedy(reason: &str) -> Option<&'static str> {
    let known = REMEDIES.iter().find(|(words, _)| reason.contains(words));
    known.map(|(_, remedy)| *remedy)
}

/// The error with its causes, since the first sentence alone says little.
fn with_causes(error: &Error) -> String {
    // The client's error does not name the status that it wraps as its source.
    let (mut sentence, mut cause) = match error {
        Error::GRpcStatus(status) => (status.message().to_owned(), status.source()),
        Error::TransportError(error) => (error.to_string(), error.source()),
        other => (other.to_string(), other.source()),
    };
    while let Some(error) = cause {
        let text = error.to_string();
        if !text.is_empty() && !sentence.contains(&text) {
            sentence = format!("{sentence}: {text}");
        }
        cause = error.source();
    }
    sentence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_operator_has_to_do_is_said_and_the_connection_made_anew() {
        for (status, is_stale, sentence) in [
            (
                tonic::Status::invalid_argument(
                    "etcdserver: authentication failed, invalid user ID or password",
                ),
                true,
                "etcdserver: authentication failed, invalid user ID or password: correct `node.lease.username`, and the password in the \
                 file of `node.lease.password_file`",
            ),
            (
                tonic::Status::invalid_argument("etcdserver: revision of auth store is old"),
                true,
                "etcdserver: revision of auth store is old",
            ),
            (
                tonic::Status::unavailable("etcdserver: no leader"),
                false,
                "etcdserver: no leader",
            ),
        ] {
            let failure = failed(&Error::GRpcStatus(status));
            assert_eq!(failure.error.to_string(), sentence);
            assert_eq!(failure.is_stale, is_stale, "{sentence}");
        }
    }
}
