//! What to do about a failure that does not tell it by itself. Who the node is to etcd, how it reaches it, and what a member said before
//! make a sentence of a closed connection or of a permission that is denied.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::super::store::StoreError;
use super::trouble::{Failure, Symptom};
use crate::config::{ClientCertificate, EtcdConfig};

/// Who the node is to etcd.
#[derive(Debug)]
pub(super) struct Advice {
    user: Option<String>,
    client: Option<ClientCertificate>,
    /// All keys of the pool begin with it.
    prefix: String,
}

/// What was learned of one member.
#[derive(Debug, Default)]
pub(super) struct History {
    /// The last connection over which it answered. None had the number 0.
    answered: u64,
    /// Why it refused to speak TLS with the node, since it answered last. Its alert comes after the node has taken the handshake for
    /// done, so that the next attempts may see nothing but a connection that was closed.
    alert: Option<StoreError>,
}

impl History {
    pub(super) fn has_answered(&mut self, connection: u64) {
        self.answered = self.answered.max(connection);
        self.alert = None;
    }

    /// Nothing ever came over this connection, which has no number while it is made.
    fn is_new(&self, connection: u64) -> bool {
        connection == 0 || connection > self.answered
    }
}

impl Advice {
    pub(super) fn new(etcd: &EtcdConfig, prefix: String) -> Self {
        Self {
            user: etcd.username.clone(),
            client: etcd.client.clone(),
            prefix,
        }
    }

    /// What is said of a question that failed over a connection to the member at `url`.
    pub(super) fn on(
        &self,
        failure: Failure,
        url: &str,
        history: &mut History,
        connection: u64,
    ) -> StoreError {
        let Failure { error, symptom, .. } = failure;
        let is_encrypted = url.starts_with("https");
        // Between the node and etcd there may be something that closes connections while etcd is away. Where etcd has answered, the
        // address is right.
        let is_unknown = history.answered == 0;
        let remedy = match symptom {
            Symptom::Alert => {
                history.alert = Some(error.clone());
                return error;
            }
            Symptom::Closed if is_encrypted && history.is_new(connection) => {
                if let Some(alert) = &history.alert {
                    return alert.clone();
                }
                self.certificate()
            }
            Symptom::Closed if !is_encrypted && is_unknown => {
                "it may speak TLS: use https:// in `node.lease.url`".to_owned()
            }
            Symptom::NoHandshake if is_unknown => {
                "it does not seem to speak TLS there: use http:// in `node.lease.url`".to_owned()
            }
            Symptom::Denied => self.rights(),
            Symptom::Closed | Symptom::NoHandshake | Symptom::Other => return error,
        };
        StoreError::with_remedy(error.reason, remedy)
    }

    /// What to do where a connection is closed after its handshake.
    fn certificate(&self) -> String {
        match &self.client {
            None => "it may ask for a certificate of its clients: give `node.lease.client_cert_file` and `node.lease.client_key_file`"
                .to_owned(),
            Some(client) => format!(
                "it may not accept the certificate in {}: give one that its --trusted-ca-file knows, and renew it where it has run out",
                client.cert_file.display()
            ),
        }
    }

    /// What to do where the node may not do what it has to.
    fn rights(&self) -> String {
        let command = format!(
            "`etcdctl role grant-permission ROLE readwrite --prefix=true {}`",
            self.prefix
        );
        match (&self.user, &self.client) {
            (Some(user), _) => format!(
                "to etcd the node is user `{user}`: give a role of it the rights to the pool's keys by {command}"
            ),
            (None, Some(client)) => {
                let file = client.cert_file.display();
                let who = match common_name(client) {
                    Some(name) => format!("user `{name}`, the common name in {file}"),
                    None => format!("the user that is the common name in {file}"),
                };
                format!(
                    "to etcd the node is {who}: see that this user exists, or give `node.lease.username`; a role of it needs the rights \
                     to the pool's keys, by {command}"
                )
            }
            (None, None) => {
                format!("give a role of the node's user the rights to the pool's keys by {command}")
            }
        }
    }
}

/// Whom a certificate names.
fn common_name(client: &ClientCertificate) -> Option<String> {
    let certificate = CertificateDer::from_pem_file(&client.cert_file).ok()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&certificate).ok()?;
    let name = certificate.subject().iter_common_name().next()?;
    name.as_str().ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::trouble::said;
    use super::*;

    const CLOSED: &str = "operation was canceled: transport error: connection closed";
    const TLS: &str = "https://etcd:2379";

    fn advice(client: Option<&Path>, user: Option<&str>) -> Advice {
        Advice {
            user: user.map(str::to_owned),
            client: client.map(|path| ClientCertificate {
                cert_file: path.to_owned(),
                key_file: path.with_extension("key"),
            }),
            prefix: "/twinsight/yard/".to_owned(),
        }
    }

    fn on(
        advice: &Advice,
        reason: &str,
        url: &str,
        history: &mut History,
        connection: u64,
    ) -> String {
        advice
            .on(said(reason.to_owned()), url, history, connection)
            .to_string()
    }

    #[test]
    fn an_alert_is_kept_while_connections_are_only_closed() {
        let (advice, mut history) = (advice(None, None), History::default());
        let guess = format!(
            "{CLOSED}: it may ask for a certificate of its clients: give `node.lease.client_cert_file` and `node.lease.client_key_file`"
        );
        assert_eq!(on(&advice, CLOSED, TLS, &mut history, 1), guess);
        let alert = "transport error: received fatal alert: BadCertificate";
        let known = on(&advice, alert, TLS, &mut history, 2);
        assert!(known.contains("takes none of this node"), "{known}");
        for (number, reason) in [
            (3, CLOSED),
            (0, "stream closed because of a broken pipe"),
            (4, "Connection reset by peer (os error 104)"),
        ] {
            assert_eq!(on(&advice, reason, TLS, &mut history, number), known);
        }
        let refused = "Connection refused (os error 111)";
        assert_eq!(on(&advice, refused, TLS, &mut history, 4), refused);
        // What is closed after it was of use was closed for another reason.
        history.has_answered(5);
        assert_eq!(on(&advice, CLOSED, TLS, &mut history, 5), CLOSED);
        assert_eq!(on(&advice, CLOSED, TLS, &mut history, 6), guess);
    }

    #[test]
    fn a_certificate_that_may_be_unwanted_is_named() {
        let advice = advice(Some(Path::new("/etc/node.pem")), None);
        let sentence = on(&advice, CLOSED, TLS, &mut History::default(), 1);
        let wanted = "it may not accept the certificate in /etc/node.pem";
        assert!(sentence.contains(wanted), "{sentence}");
    }

    #[test]
    fn the_wrong_scheme_and_a_wrong_server_are_told_until_etcd_has_answered_once() {
        let (advice, plain) = (advice(None, None), "http://etcd:2379");
        let (eof, mut history) = ("tls handshake eof: transport error", History::default());
        for (url, reason, remedy) in [
            (
                plain,
                CLOSED,
                "it may speak TLS: use https:// in `node.lease.url`",
            ),
            (
                TLS,
                eof,
                "it does not seem to speak TLS there: use http:// in `node.lease.url`",
            ),
            (
                plain,
                "grpc-status header missing, mapped from HTTP status code 404",
                "what answers there is not etcd: correct `node.lease.url`",
            ),
        ] {
            let wanted = format!("{reason}: {remedy}");
            assert_eq!(on(&advice, reason, url, &mut history, 0), wanted);
        }
        history.has_answered(1);
        assert_eq!(on(&advice, CLOSED, plain, &mut history, 2), CLOSED);
        assert_eq!(on(&advice, eof, TLS, &mut history, 2), eof);
    }

    #[test]
    fn whoever_lacks_rights_is_told_who_it_is_and_the_command() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("node.pem");
        let mut params = rcgen::CertificateParams::default();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "other");
        let key = rcgen::KeyPair::generate().unwrap();
        std::fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
        let denied = "etcdserver: permission denied";
        let command =
            "by `etcdctl role grant-permission ROLE readwrite --prefix=true /twinsight/yard/`";
        let shown = file.display();
        for (advice, who) in [
            (
                advice(Some(&file), Some("nodes")),
                "to etcd the node is user `nodes`".to_owned(),
            ),
            (
                advice(Some(&file), None),
                format!(
                    "to etcd the node is user `other`, the common name in {shown}: see that this user exists, or give `node.lease.username`"
                ),
            ),
            (
                advice(Some(Path::new("/nowhere.pem")), None),
                "to etcd the node is the user that is the common name in /nowhere.pem".to_owned(),
            ),
        ] {
            let sentence = on(&advice, denied, TLS, &mut History::default(), 1);
            let begin = format!("{denied}: {who}");
            assert!(
                sentence.starts_with(&begin) && sentence.ends_with(command),
                "{sentence}"
            );
        }
    }
}
