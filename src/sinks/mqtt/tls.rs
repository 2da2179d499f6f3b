//! Encryption to the broker: it trusts the built-in roots and the operator's file, and never what the system has installed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use twinsight_client::secret_file::read_small_file;

/// The longest file of certificates.
const MAX_CA_FILE_BYTES: u64 = 1 << 20;

/// Why the file of certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "the file {} of the sink's `ca_file` cannot be used ({reason}): give a file of PEM certificates that the node may read",
    file.display()
)]
pub(super) struct CaFileError {
    file: PathBuf,
    reason: String,
}

/// What is trusted, for one attempt to connect. The file is read each time, so that one that was put right is found.
pub(super) fn tls_config(ca_file: Option<&Path>) -> Result<Arc<rustls::ClientConfig>, CaFileError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    if let Some(path) = ca_file {
        let unusable = |reason: &dyn std::fmt::Display| CaFileError {
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
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has ciphers for the default versions, because it is what rustls is made for")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_an_error_that_names_it() {
        assert!(tls_config(None).is_ok());
        for (file, reason) in [
            ("/nonexistent.pem", "No such file"),
            ("/dev/null", "no certificate"),
        ] {
            let error = tls_config(Some(Path::new(file))).unwrap_err().to_string();
            assert!(error.contains(file) && error.contains(reason), "{error}");
        }
    }
}
