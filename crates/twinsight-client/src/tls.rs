//! Whom TLS trusts: the public authorities, and those of a file that the operator names.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::secret_file::read_small_file;

/// The longest file of certificates, in bytes; a bundle of all public ones has a quarter of it.
const MAX_CA_FILE_BYTES: u64 = 1 << 20;

/// A file of certificates is missing, unreadable, or holds none.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be used: {reason}", file.display())]
pub struct CaFileError {
    /// Its path.
    pub file: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// The settings of a client that trusts the public roots, and the certificates of this file (PEM) if there is one.
///
/// # Errors
/// [`CaFileError`] if the file cannot be read, or has no certificate in it, or one that is none.
pub fn tls_config(ca_file: Option<&Path>) -> Result<rustls::ClientConfig, CaFileError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    if let Some(path) = ca_file {
        let unusable = |reason: &dyn Display| CaFileError {
            file: path.to_owned(),
            reason: reason.to_string(),
        };
        let pem = read_small_file(path, MAX_CA_FILE_BYTES).map_err(|error| unusable(&error))?;
        let mut added = 0;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| unusable(&error))?;
            roots.add(certificate).map_err(|error| unusable(&error))?;
            added += 1;
        }
        if added == 0 {
            return Err(unusable(&"it holds no certificate in PEM form"));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has cipher suites for TLS 1.2 and 1.3, because rustls made it for them")
        .with_root_certificates(roots)
        .with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_an_error_that_names_it() {
        assert!(tls_config(None).is_ok());
        let error = tls_config(Some(Path::new("/nonexistent.pem"))).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("/nonexistent.pem cannot be used: "),
            "{error}"
        );
        let error = tls_config(Some(Path::new("/dev/null"))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/dev/null cannot be used: it holds no certificate in PEM form"
        );
    }
}
