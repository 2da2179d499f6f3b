//! What listens on a port with which we do not get on. The mistake is mostly that of an address: servers have a port for each way to talk to
//! them, and which one is meant cannot be seen by its number. An address and the reason of the failure come in, a sentence for whoever
//! wrote the address goes out. Whoever asked in vain runs it.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::config::{ServerProtocol, ServerUrl};

/// It is only a hint, so nobody waits long for it.
const LIMIT: Duration = Duration::from_millis(300);

/// So much of what comes is looked at: more than the head of an error, which says that it is one of TLS.
const LOOKED_AT_BYTES: usize = 512;

/// The type of a frame of HTTP/2 that says the settings of its sender, with which each connection begins (RFC 9113, section 3.4).
const SETTINGS: u8 = 4;

/// The types of the records of TLS that a server may send first: an alert and a handshake (RFC 8446, section 5.1).
const TLS_RECORDS: [u8; 2] = [21, 22];

/// What a port speaks, as far as its first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaks {
    /// HTTP/1, by which the protocol over HTTP is carried.
    Http1,
    /// HTTP/2 without being asked, by which gRPC is carried.
    Http2,
    /// TLS, whatever is in it.
    Tls,
}

/// Looks at a server that was asked in vain for this reason, and says what its port most likely is. `None` where it is what the address
/// says, or where that cannot be told.
pub(super) async fn hint(url: &ServerUrl, reason: &str) -> Option<String> {
    let limit = Instant::now() + LIMIT;
    let asked = tokio::time::timeout_at(limit, ask(&url.authority)).await;
    let mut stream = asked.ok()?.ok()?;
    let first = first_bytes(&mut stream, limit).await;
    sentence(url, reason, Speaks::of(&first)?)
}

/// Asks by HTTP/1. A server of HTTP/2 sends its settings before it looks at the question.
async fn ask(authority: &str) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(authority).await?;
    let question = format!("GET /v2 HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    stream.write_all(question.as_bytes()).await?;
    Ok(stream)
}

/// What comes by then, and not more than is needed: it may come in pieces, and what has come is worth something although the rest does not.
async fn first_bytes(stream: &mut TcpStream, limit: Instant) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(LOOKED_AT_BYTES);
    while bytes.len() < LOOKED_AT_BYTES {
        let read = tokio::time::timeout_at(limit, stream.read_buf(&mut bytes)).await;
        if !matches!(read, Ok(Ok(1..))) {
            break;
        }
        if matches!(Speaks::of(&bytes), Some(Speaks::Http2 | Speaks::Tls)) {
            break;
        }
    }
    bytes
}

impl Speaks {
    fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [record, 3, ..] if TLS_RECORDS.contains(record) => Some(Self::Tls),
            [_, _, _, SETTINGS, 0, 0, 0, 0, 0, ..] => Some(Self::Http2),
            _ if !bytes.starts_with(b"HTTP/1.") => None,
            // Some servers of TLS understand the question, and say that it should have been encrypted.
            _ if bytes.windows(5).any(|word| word == b"HTTPS") => Some(Self::Tls),
            _ => Some(Self::Http1),
        }
    }
}

fn sentence(url: &ServerUrl, reason: &str, speaks: Speaks) -> Option<String> {
    let http_port = "this looks like the server's HTTP port: its gRPC port is another one, 8001 for Triton and 8081 for MLServer and KServe \
                     by default";
    let grpc_port = "this looks like the server's gRPC port: its HTTP port is another one, 8000 for Triton and 8080 for KServe by default";
    let scheme = |protocol: ServerProtocol, tls| {
        let name = match (protocol, tls) {
            (ServerProtocol::Grpc, false) => "grpc",
            (ServerProtocol::Grpc, true) => "grpcs",
            (ServerProtocol::Http, false) => "http",
            (ServerProtocol::Http, true) => "https",
        };
        format!("{name}://")
    };
    let of_grpc = url.protocol == ServerProtocol::Grpc;
    let other_port = match (of_grpc, speaks) {
        (true, Speaks::Http1) => Some(http_port),
        (false, Speaks::Http2) => Some(grpc_port),
        // What is within TLS shows in how it failed.
        (true, Speaks::Tls) if url.tls && reason.contains(NOT_HTTP_2) => Some(http_port),
        (false, Speaks::Tls) if url.tls && NOT_HTTP_1.iter().any(|not| reason.contains(not)) => {
            Some(grpc_port)
        }
        _ => None,
    };
    let encryption = match (url.tls, speaks) {
        (false, Speaks::Tls) => Some(format!(
            "it speaks TLS there: use {}",
            scheme(url.protocol, true)
        )),
        (true, Speaks::Http1 | Speaks::Http2) if other_port.is_none() => Some(format!(
            "it does not speak TLS there: use {}",
            scheme(url.protocol, false)
        )),
        (true, Speaks::Http1 | Speaks::Http2) => Some("it does not speak TLS there".to_owned()),
        _ => None,
    };
    match (encryption, other_port) {
        (None, None) => None,
        (Some(only), None) => Some(only),
        (None, Some(only)) => Some(only.to_owned()),
        (Some(encryption), Some(port)) => Some(format!("{encryption}, and {port}")),
    }
}

/// What tonic says where the other side did not agree on HTTP/2 with TLS.
const NOT_HTTP_2: &str = "HTTP/2 was not negotiated";

/// What hyper and rustls say where the other side takes nothing but HTTP/2.
const NOT_HTTP_1: [&str; 2] = ["invalid HTTP version parsed", "NoApplicationProtocol"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_say_what_a_server_speaks() {
        for (bytes, speaks) in [
            // KServe's own server by HTTP, and by gRPC, whose first frame says its settings.
            (
                &b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\n\r\n{}"[..],
                Some(Speaks::Http1),
            ),
            (
                b"\x00\x00\x18\x04\x00\x00\x00\x00\x00\x00\x04\x00@\x00\x00\x00\x05\x00@\x00\x00",
                Some(Speaks::Http2),
            ),
            // An alert, and two servers that say in words that the question should have been encrypted.
            (b"\x15\x03\x03\x00\x02\x02\x46", Some(Speaks::Tls)),
            (
                b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n",
                Some(Speaks::Tls),
            ),
            (
                b"HTTP/1.1 400 Bad Request\r\n\r\n<title>400 The plain HTTP request was sent to HTTPS port</title>",
                Some(Speaks::Tls),
            ),
            (b"SSH-2.0-OpenSSH_9.2\r\n", None),
            (b"\x00\x00\x18\x04", None),
            (b"", None),
        ] {
            assert_eq!(Speaks::of(bytes), speaks, "{bytes:?}");
        }
    }
}
