//! The WebSocket to the hub: options come in, an open socket or a sentence that says why there is none goes out.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream};

use super::away_reason::{AwayReason, CA_FILE};
use super::engine_io::MAX_PACKET_BYTES;
use super::options::HubOptions;
use super::text::brief;
use crate::secret_file::read_small_file;

/// The WebSocket layer breaks off beyond this; up to it, what is too long is only counted.
const MAX_FRAME_BYTES: usize = 4 * MAX_PACKET_BYTES;

/// The longest file of certificates, in bytes; a bundle of all public ones has a quarter of it.
const MAX_CA_FILE_BYTES: u64 = 1 << 20;

/// What is read at once. The WebSocket layer zeroes it for each read, which with its own 128 KiB costs more than reading.
const READ_BUFFER_BYTES: usize = 8 * 1024;

/// The most that the WebSocket layer holds for the socket: the frame that is being written, and pongs of its own.
const MAX_BUFFERED_BYTES: usize = 2 * MAX_PACKET_BYTES;

pub(super) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Opens the WebSocket; the error is a sentence.
pub(super) async fn open_socket(options: &HubOptions) -> Result<Socket, String> {
    let url = options.websocket_url().map_err(|error| error.to_string())?;
    let connector = if url.starts_with("wss:") {
        Connector::Rustls(Arc::new(tls_config(options)?))
    } else {
        Connector::Plain
    };
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .max_write_buffer_size(MAX_BUFFERED_BYTES)
        .max_message_size(Some(MAX_FRAME_BYTES))
        .max_frame_size(Some(MAX_FRAME_BYTES));
    let opened =
        tokio_tungstenite::connect_async_tls_with_config(url, Some(config), true, Some(connector));
    match opened.await {
        Ok((socket, _)) => Ok(socket),
        Err(tokio_tungstenite::tungstenite::Error::Io(error))
            if crate::os_error::is_out_of_files(&error) =>
        {
            Err(crate::os_error::explain_io(&error))
        }
        Err(error) => Err(brief(&error.to_string())),
    }
}

/// Trusts the public roots, and the operator's file if there is one.
pub(super) fn tls_config(options: &HubOptions) -> Result<rustls::ClientConfig, String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    if let Some(path) = &options.ca_file {
        let unusable = |what: &dyn std::fmt::Display| {
            format!("{CA_FILE}{} cannot be used: {what}", path.display())
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
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

/// True for an error that is about what the hub sent, not about the way there.
pub(super) fn is_malformed(error: &tungstenite::Error) -> bool {
    use tungstenite::Error;
    use tungstenite::error::ProtocolError;
    match error {
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => false,
        Error::Protocol(_) | Error::Capacity(_) | Error::Utf8(_) => true,
        _ => false,
    }
}

/// The socket broke. What the other side wrote may be part of the error.
pub(super) fn broken(error: &tungstenite::Error) -> AwayReason {
    AwayReason::Socket(brief(&error.to_string()))
}
