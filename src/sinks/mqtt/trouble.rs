//! What went wrong with a broker, for whoever operates the node: the client's errors come in, and sentences that say what to do go
//! out, with how soon another attempt makes sense.

use std::error::Error;
use std::io;

use rumqttc::{
    ConnectReturnCode, ConnectionError, DisconnectReasonCode, PublishNoticeError, StateError,
    TlsError,
};
use twinsight_client::tls::CaFileError;

/// Why there is no connection to the broker.
#[derive(Debug, thiserror::Error)]
pub(in crate::sinks) enum Trouble {
    /// The broker does not know the user or the password.
    #[error(
        "it does not let this node in ({0}): correct `username` and `password_file` of the sink and what the broker allows that user, then restart the node"
    )]
    NotLetIn(String),
    /// Another client has the same id, and each throws the other out.
    #[error(
        "another client took the place of this node with the client id \"{client_id}\": give each node a name of its own by the key `node` of the sink"
    )]
    TakenOver { client_id: String },
    /// It is a broker of MQTT 3 only.
    #[error(
        "it does not speak MQTT 5: use a broker that does, such as Mosquitto from version 1.6 on"
    )]
    TooOld,
    /// The certificate of the broker is not trusted.
    #[error(
        "its certificate is not trusted ({reason}): {}",
        match ca_file {
            Some(file) => format!("none in the file {file} of `ca_file` vouches for it"),
            None => "give the certificate of its issuer with `ca_file`".to_owned(),
        }
    )]
    Untrusted {
        reason: String,
        ca_file: Option<String>,
    },
    /// The file of certificates is missing or holds none.
    #[error(
        "the file {} of the sink's `ca_file` cannot be used ({}): give a file of PEM certificates that the node may read",
        .0.file.display(), .0.reason
    )]
    CaFile(#[from] CaFileError),
    /// It says that it will not serve now.
    #[error("it ended the connection ({0})")]
    Ended(String),
    /// It neither answers nor ends the connection.
    #[error("it has not answered for {seconds} s")]
    Silent { seconds: u64 },
    /// The network or the broker broke the connection or did not take it.
    #[error("{0}")]
    Connection(String),
}

/// How soon another attempt makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    /// It may be a matter of moments.
    Soon,
    /// Nothing changes until somebody corrects something.
    Seldom,
}

impl Trouble {
    /// What an error of the client means for a client with this id, which trusts this file.
    pub(super) fn of(error: ConnectionError, client_id: &str, ca_file: Option<&str>) -> Self {
        match error {
            ConnectionError::ConnectionRefused(code)
            | ConnectionError::MqttState(StateError::ConnFail { reason: code }) => refused(code),
            ConnectionError::MqttState(StateError::ServerDisconnect {
                reason_code,
                reason_string,
            }) => disconnected(reason_code, reason_string, client_id),
            ConnectionError::MqttState(StateError::Io(error)) | ConnectionError::Io(error) => {
                io_trouble(&error, ca_file)
            }
            ConnectionError::Tls(TlsError::Io(error)) => io_trouble(&error, ca_file),
            ConnectionError::Tls(TlsError::TLS(error)) => tls_trouble(&error, ca_file),
            ConnectionError::MqttState(StateError::AwaitPingResp) => Self::Silent { seconds: 30 },
            ConnectionError::MqttState(StateError::ConnectionAborted) => {
                Self::Connection("it broke the connection".to_owned())
            }
            ConnectionError::Timeout(_) => Self::Connection("it did not answer in time".to_owned()),
            other => Self::Connection(with_causes(&other)),
        }
    }

    /// The same of an error before the broker's first word on a connection that was to be encrypted.
    pub(super) fn of_encrypted(
        error: ConnectionError,
        client_id: &str,
        ca_file: Option<&str>,
    ) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        match error {
            ConnectionError::Io(error)
            | ConnectionError::Tls(TlsError::Io(error))
            | ConnectionError::MqttState(StateError::Io(error))
                if matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof) =>
            {
                not_encrypted(&error)
            }
            error => Self::of(error, client_id, ca_file),
        }
    }

    pub(super) fn retry(&self) -> Retry {
        match self {
            Self::NotLetIn(_) | Self::TakenOver { .. } | Self::TooOld => Retry::Seldom,
            Self::Untrusted { .. }
            | Self::CaFile(_)
            | Self::Ended(_)
            | Self::Silent { .. }
            | Self::Connection(_) => Retry::Soon,
        }
    }
}

/// What the broker said when it did not take a message, or `None` if the message was lost on the way.
pub(super) fn refusal(error: &PublishNoticeError) -> Option<String> {
    match error {
        PublishNoticeError::V5PubAck(reason) => Some(words(reason)),
        PublishNoticeError::V5PubRec(reason) => Some(words(reason)),
        PublishNoticeError::V5PubComp(reason) => Some(words(reason)),
        PublishNoticeError::RetainNotSupported => Some("it keeps no retained messages".to_owned()),
        _ => None,
    }
}

fn refused(code: ConnectReturnCode) -> Trouble {
    match code {
        ConnectReturnCode::BadUserNamePassword
        | ConnectReturnCode::NotAuthorized
        | ConnectReturnCode::Banned
        | ConnectReturnCode::BadAuthenticationMethod => Trouble::NotLetIn(words(&code)),
        ConnectReturnCode::RefusedProtocolVersion
        | ConnectReturnCode::UnsupportedProtocolVersion => Trouble::TooOld,
        code => Trouble::Ended(words(&code)),
    }
}

fn disconnected(code: DisconnectReasonCode, said: Option<String>, client_id: &str) -> Trouble {
    match code {
        DisconnectReasonCode::SessionTakenOver => Trouble::TakenOver {
            client_id: client_id.to_owned(),
        },
        DisconnectReasonCode::NotAuthorized => Trouble::NotLetIn(words(&code)),
        code => Trouble::Ended(said.unwrap_or_else(|| words(&code))),
    }
}

fn io_trouble(error: &io::Error, ca_file: Option<&str>) -> Trouble {
    let inner = error.get_ref().and_then(|inner| {
        let inner: &(dyn Error + 'static) = inner;
        inner.downcast_ref::<rustls::Error>()
    });
    match inner {
        Some(inner) => tls_trouble(inner, ca_file),
        None if error.kind() == io::ErrorKind::ConnectionRefused => Trouble::Connection(format!(
            "nothing listens there ({error}): see that the broker runs, and that host and port of `url` are right"
        )),
        None => Trouble::Connection(error.to_string()),
    }
}

fn tls_trouble(error: &rustls::Error, ca_file: Option<&str>) -> Trouble {
    match error {
        rustls::Error::InvalidCertificate(reason) => Trouble::Untrusted {
            reason: words(reason),
            ca_file: ca_file.map(str::to_owned),
        },
        error => not_encrypted(error),
    }
}

fn not_encrypted(error: &dyn Error) -> Trouble {
    Trouble::Connection(format!(
        "the encryption could not be agreed on ({error}): check that the port of `url` is that of `mqtts`"
    ))
}

/// The name of a reason as words: `BadUserNamePassword` is "bad user name password".
fn words(reason: &impl std::fmt::Debug) -> String {
    let mut words = String::new();
    let name = format!("{reason:?}");
    let mut after_small = false;
    for c in name.chars() {
        if c.is_ascii_uppercase() && after_small {
            words.push(' ');
        }
        after_small = c.is_ascii_lowercase();
        words.push(c.to_ascii_lowercase());
    }
    words
}

fn with_causes(error: &dyn Error) -> String {
    let mut sentence = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !sentence.contains(&text) {
            sentence = format!("{sentence}: {text}");
        }
        cause = error.source();
    }
    sentence
}

#[cfg(test)]
mod tests {
    use rumqttc::PubAckReason;

    use super::*;

    #[test]
    fn what_somebody_has_to_correct_is_tried_seldom_and_says_so() {
        let of = |error| Trouble::of(error, "twinsight-shop", None);
        for code in [
            ConnectReturnCode::BadUserNamePassword,
            ConnectReturnCode::NotAuthorized,
        ] {
            let trouble = of(ConnectionError::ConnectionRefused(code));
            assert_eq!(trouble.retry(), Retry::Seldom);
            assert!(trouble.to_string().contains("`password_file`"), "{trouble}");
        }
        let taken = of(ConnectionError::MqttState(StateError::ServerDisconnect {
            reason_code: DisconnectReasonCode::SessionTakenOver,
            reason_string: None,
        }));
        assert!(taken.to_string().contains("twinsight-shop"), "{taken}");
        assert_eq!(taken.retry(), Retry::Seldom);
        let busy = of(ConnectionError::ConnectionRefused(
            ConnectReturnCode::ServerBusy,
        ));
        assert_eq!(busy.to_string(), "it ended the connection (server busy)");
        assert_eq!(busy.retry(), Retry::Soon);
    }

    #[test]
    fn a_certificate_that_is_not_trusted_names_the_file_that_does_not_vouch_for_it() {
        let unknown = || {
            let error = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
            ConnectionError::Tls(TlsError::Io(io::Error::new(
                io::ErrorKind::InvalidData,
                error,
            )))
        };
        let trouble = Trouble::of(unknown(), "", Some("/etc/ca.pem")).to_string();
        assert!(trouble.contains("unknown issuer") && trouble.contains("/etc/ca.pem"));
        let trouble = Trouble::of(unknown(), "", None).to_string();
        assert!(trouble.contains("`ca_file`"), "{trouble}");
    }

    #[test]
    fn a_file_without_certificates_is_named_with_its_key() {
        let error = twinsight_client::tls::tls_config(Some("/dev/null".as_ref())).unwrap_err();
        let trouble = Trouble::from(error);
        let sentence =
            "the file /dev/null of the sink's `ca_file` cannot be used (it holds no certificate";
        assert!(trouble.to_string().starts_with(sentence), "{trouble}");
        assert_eq!(trouble.retry(), Retry::Soon);
    }

    #[test]
    fn a_message_that_the_broker_does_not_take_is_told_from_one_that_was_lost() {
        let denied = PublishNoticeError::V5PubAck(PubAckReason::NotAuthorized);
        assert_eq!(refusal(&denied).as_deref(), Some("not authorized"));
        assert_eq!(refusal(&PublishNoticeError::Recv), None);
        assert_eq!(refusal(&PublishNoticeError::Qos0NotFlushed), None);
    }
}
