//! The client of `/healthz`, for `twinsight health` in a container without a shell and for `twinsight check`. It sends one GET on one
//! connection, and needs no HTTP library for that. It may ask for the cameras too.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::telemetry::health::{PANICKED, SILENT};
use twinsight_client::hub::text::one_line;

/// Bytes of the answer that are read: some hundred cameras have a line each.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;

/// What the line of a blind camera begins with.
const CAMERA: &str = "camera ";

/// What the node's answer begins with.
const PROTOCOL: &str = "HTTP/1.1 ";

/// Why the node cannot be said to be healthy.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The connection failed.
    #[error(
        "the node cannot be asked at {address} ({source}): is it running, with this `http.listen`?"
    )]
    Unreachable {
        /// Where the node was asked.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The connection is open, and no answer came in time.
    #[error("the node has not answered at {address} within {} s: restart it", limit.as_secs_f64())]
    NoAnswer {
        /// Where the node was asked.
        address: SocketAddr,
        /// How long it had for its answer.
        limit: Duration,
    },
    /// The node answers that it is not healthy.
    #[error("the node is not healthy: {0}")]
    Unhealthy(String),
    /// The node is healthy, and cameras of it are blind.
    #[error("{}: do what the lines say", blind_cameras(.0.len()))]
    Blind(Vec<String>),
    /// What answers is not a node.
    #[error("what answers at {0} is not the node: is `http.listen` right?")]
    NotTheNode(SocketAddr),
    /// The configuration leaves the port to the system, so that it is another one at every start.
    #[error(
        "the node's port is the system's choice (`http.listen` is {0}), so it cannot be asked: give it a port"
    )]
    AnyPort(SocketAddr),
}

fn blind_cameras(count: usize) -> String {
    match count {
        1 => "a camera is blind".to_owned(),
        count => format!("{count} cameras are blind"),
    }
}

/// Asks the node that listens on `listen` for its health, for at most `limit`.
///
/// # Errors
/// If it is not healthy or cannot be asked.
pub async fn health(listen: SocketAddr, limit: Duration) -> Result<(), ProbeError> {
    ask(listen, "/healthz", limit).await
}

/// Asks as [`health`] does, and whether each camera is looked at.
///
/// # Errors
/// As [`health`], and if a camera is blind.
pub async fn health_with_cameras(listen: SocketAddr, limit: Duration) -> Result<(), ProbeError> {
    ask(listen, "/healthz?cameras=1", limit).await
}

async fn ask(listen: SocketAddr, path: &str, limit: Duration) -> Result<(), ProbeError> {
    if listen.port() == 0 {
        return Err(ProbeError::AnyPort(listen));
    }
    let address = SocketAddr::new(reachable(listen.ip()), listen.port());
    let answer = tokio::time::timeout(limit, get(address, path))
        .await
        .map_err(|_| ProbeError::NoAnswer { address, limit })?
        .map_err(|source| ProbeError::Unreachable { address, source })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head
        .strip_prefix(PROTOCOL)
        .and_then(|rest| rest.get(..3))
        .unwrap_or_default();
    let lines = body.lines().map(one_line);
    let (cameras, wrong): (Vec<_>, Vec<_>) = lines.partition(|line| line.starts_with(CAMERA));
    let is_of_a_node = |line: &String| line.contains(SILENT) || line.contains(PANICKED);
    match status {
        "200" if body.trim() == "ok" => Ok(()),
        "503" if wrong.iter().any(is_of_a_node) => Err(ProbeError::Unhealthy(wrong.join("; "))),
        "503" if wrong.is_empty() && !cameras.is_empty() => Err(ProbeError::Blind(cameras)),
        _ => Err(ProbeError::NotTheNode(address)),
    }
}

async fn get(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    let mut stream = stream.take(MAX_ANSWER_BYTES);
    // What speaks another protocol may never end its answer.
    while stream.read_buf(&mut answer).await? > 0 {
        let same = answer.len().min(PROTOCOL.len());
        if answer[..same] != PROTOCOL.as_bytes()[..same] {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// A node that listens on all addresses is asked on loopback.
pub(crate) fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}
