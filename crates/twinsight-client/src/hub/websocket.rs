//! The WebSocket to the hub: options come in, an open socket or the reason why there is none goes out.

use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, http};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, client_async_tls_with_config};

use super::away_reason::{AwayReason, CA_FILE, UnknownHost};
use super::engine_io::MAX_PACKET_BYTES;
use super::options::{HubConfigError, HubOptions};
use super::probe::lookup;
use super::text::brief;

/// The WebSocket layer breaks off beyond this; up to it, what is too long is only counted.
const MAX_FRAME_BYTES: usize = 4 * MAX_PACKET_BYTES;

/// What is read at once. The WebSocket layer zeroes it for each read, which with its own 128 KiB costs more than reading.
const READ_BUFFER_BYTES: usize = 8 * 1024;

/// The most that the WebSocket layer holds for the socket: the frame that is being written, and pongs of its own.
const MAX_BUFFERED_BYTES: usize = 2 * MAX_PACKET_BYTES;

pub(super) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// The part of the time for connecting that looking up the host's name may take. A name server that does not answer is told as that
/// before the whole time is over.
const LOOKUP_PART: f64 = 0.8;

/// Opens the WebSocket. The error says whether the name, the way or the certificate stood against it.
pub(super) async fn open_socket(options: &HubOptions) -> Result<Socket, AwayReason> {
    let unusable = |error: HubConfigError| AwayReason::Socket(error.to_string());
    let url = options.websocket_url().map_err(unusable)?;
    let is_tls = url.starts_with("wss:");
    let connector = if is_tls {
        Connector::Rustls(Arc::new(tls_config(options).map_err(AwayReason::Socket)?))
    } else {
        Connector::Plain
    };
    let uri: http::Uri = url.parse().map_err(|_| {
        unusable(HubConfigError::Url {
            url: options.shown_url(),
        })
    })?;
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let limit = options.timers.connect.mul_f64(LOOKUP_PART);
    let addresses = lookup(host, port, limit).await.map_err(|reason| {
        AwayReason::Name(Box::new(UnknownHost {
            host: brief(host),
            reason,
            mode: options.mode,
        }))
    })?;
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .max_write_buffer_size(MAX_BUFFERED_BYTES)
        .max_message_size(Some(MAX_FRAME_BYTES))
        .max_frame_size(Some(MAX_FRAME_BYTES));
    let opening = async {
        let stream = TcpStream::connect(&addresses[..]).await?;
        // Messages are short, and with Nagle's algorithm some would wait for an acknowledgement.
        stream.set_nodelay(true)?;
        client_async_tls_with_config(url, stream, Some(config), Some(connector)).await
    };
    match opening.await {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::Error::Io(error)) if crate::os_error::is_out_of_files(&error) => {
            Err(AwayReason::Socket(crate::os_error::explain_io(&error)))
        }
        Err(error) => Err(broken(&error)),
    }
}

/// Trusts the public roots, and the operator's file if there is one.
pub(super) fn tls_config(options: &HubOptions) -> Result<rustls::ClientConfig, String> {
    crate::tls::tls_config(options.ca_file.as_deref()).map_err(|error| format!("{CA_FILE}{error}"))
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
