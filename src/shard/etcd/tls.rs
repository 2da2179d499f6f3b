//! The files that connections to etcd are encrypted with. They are read for each connection, since whoever issues certificates renews
//! them under running nodes; what is wrong with a file comes out as a sentence that names it.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use etcd_client::{Certificate, Identity, TlsOptions};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::super::store::StoreError;
use crate::config::{ClientCertificate, EtcdConfig};
use twinsight_client::secret_file::{MAX_SECRET_BYTES, read_small_file};

/// The longest file of certificates, in bytes.
const MAX_CERTIFICATES_BYTES: u64 = 1 << 20;

/// Whom the node trusts, and what it shows of itself.
#[derive(Debug, Clone)]
pub(super) struct TlsFiles {
    ca: Option<PathBuf>,
    client: Option<ClientCertificate>,
}

impl TlsFiles {
    pub(super) fn new(etcd: &EtcdConfig) -> Self {
        Self {
            ca: etcd.ca_file.clone(),
            client: etcd.client.clone(),
        }
    }

    /// Reads them as they are now.
    ///
    /// # Errors
    /// The sentence says which file is of no use, and why.
    pub(super) fn read(&self) -> Result<TlsOptions, StoreError> {
        let mut options = TlsOptions::new().with_enabled_roots();
        if let Some(path) = &self.ca {
            let (pem, _) = certificates(path, "ca_file")?;
            options = options.ca_certificate(Certificate::from_pem(pem));
        }
        if let Some(client) = &self.client {
            options = options.identity(identity(client)?);
        }
        Ok(options)
    }
}

/// The text of a file of certificates, and what is in it.
fn certificates(
    path: &Path,
    key: &str,
) -> Result<(Vec<u8>, Vec<CertificateDer<'static>>), StoreError> {
    let unusable = |reason: &dyn Display| unusable(path, key, reason, "certificates in PEM form");
    let pem = read_small_file(path, MAX_CERTIFICATES_BYTES).map_err(|error| unusable(&error))?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = read.map_err(|error| unusable(&error))?;
    match certificates.is_empty() {
        true => Err(unusable(&"it holds no certificate in PEM form")),
        false => Ok((pem, certificates)),
    }
}

fn identity(client: &ClientCertificate) -> Result<Identity, StoreError> {
    let ClientCertificate {
        cert_file,
        key_file,
    } = client;
    let (cert_pem, chain) = certificates(cert_file, "client_cert_file")?;
    let unusable = |reason: &dyn Display| {
        let what = "the certificate's private key in PEM form, not encrypted";
        unusable(key_file, "client_key_file", reason, what)
    };
    let key_pem = read_small_file(key_file, MAX_SECRET_BYTES).map_err(|error| unusable(&error))?;
    // What a parser says of a key may hold parts of it, so that only its absence is told.
    let key = PrivateKeyDer::from_pem_slice(&key_pem)
        .map_err(|_| unusable(&"it holds no private key in PEM form"))?;
    let provider = rustls::crypto::ring::default_provider();
    match CertifiedKey::from_der(chain, key, &provider) {
        Ok(_) => Ok(Identity::from_pem(cert_pem, key_pem)),
        Err(rustls::Error::InconsistentKeys(_)) => Err(StoreError::with_remedy(
            format!(
                "the key in {} is not that of the certificate in {}",
                key_file.display(),
                cert_file.display()
            ),
            "let `client_cert_file` and `client_key_file` of `[node.lease]` name files of one pair",
        )),
        Err(error) => Err(unusable(&error)),
    }
}

fn unusable(path: &Path, key: &str, reason: &dyn Display, what: &str) -> StoreError {
    StoreError::with_remedy(
        format!(
            "the file {} of `node.lease.{key}` cannot be used ({reason})",
            path.display()
        ),
        format!("let it name a file that the node may read, with {what}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentence(files: &TlsFiles, folder: &Path) -> String {
        let error = files.read().expect_err("the files are of no use");
        let folder = format!("{}/", folder.display());
        error.to_string().replace(&folder, "")
    }

    #[test]
    fn each_file_that_is_of_no_use_has_its_sentence() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let issue = || rcgen::generate_simple_self_signed(vec!["node".to_owned()]).unwrap();
        let (one, other) = (issue(), issue());
        let cert = write("node.pem", &one.cert.pem());
        let key = write("node-key.pem", &one.signing_key.serialize_pem());
        let other_key = write("other-key.pem", &other.signing_key.serialize_pem());
        let text = write("note.txt", "nothing of the kind");
        let missing = folder.path().join("missing.pem");
        let files = |ca: Option<&PathBuf>, cert: &PathBuf, key: &PathBuf| TlsFiles {
            ca: ca.cloned(),
            client: Some(ClientCertificate {
                cert_file: cert.clone(),
                key_file: key.clone(),
            }),
        };
        files(Some(&cert), &cert, &key).read().unwrap();
        let certificates =
            "let it name a file that the node may read, with certificates in PEM form";
        let a_key = "let it name a file that the node may read, with the certificate's private key in PEM form, not encrypted";
        for (files, wanted) in [
            (
                files(Some(&missing), &cert, &key),
                format!(
                    "the file missing.pem of `node.lease.ca_file` cannot be used (No such file or directory (os error 2)): {certificates}"
                ),
            ),
            (
                files(Some(&text), &cert, &key),
                format!(
                    "the file note.txt of `node.lease.ca_file` cannot be used (it holds no certificate in PEM form): {certificates}"
                ),
            ),
            (
                files(None, &missing, &key),
                format!(
                    "the file missing.pem of `node.lease.client_cert_file` cannot be used (No such file or directory (os error 2)): {certificates}"
                ),
            ),
            (
                files(None, &key, &key),
                format!(
                    "the file node-key.pem of `node.lease.client_cert_file` cannot be used (it holds no certificate in PEM form): {certificates}"
                ),
            ),
            (
                files(None, &cert, &missing),
                format!(
                    "the file missing.pem of `node.lease.client_key_file` cannot be used (No such file or directory (os error 2)): {a_key}"
                ),
            ),
            (
                files(None, &cert, &cert),
                format!(
                    "the file node.pem of `node.lease.client_key_file` cannot be used (it holds no private key in PEM form): {a_key}"
                ),
            ),
            (
                files(None, &cert, &other_key),
                "the key in other-key.pem is not that of the certificate in node.pem: let `client_cert_file` and `client_key_file` of \
                 `[node.lease]` name files of one pair"
                    .to_owned(),
            ),
        ] {
            assert_eq!(sentence(&files, folder.path()), wanted);
        }
    }
}
