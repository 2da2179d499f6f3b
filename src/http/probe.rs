//! The client of `/healthz`, for `twinsight health` in a container without a shell and for `twinsight check`. It sends one GET on one
//! connection, and needs no HTTP library for that. It may ask for the cameras too, and for what the API says of one.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::telemetry::health::{PANICKED, SILENT};
use twinsight_client::hub::text::one_line;
use twinsight_client::secret::Secret;
use twinsight_client::stream_id::StreamId;

/// Bytes of the answer that are read: some hundred cameras have a line each.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;

/// Bytes of what the API says of one camera that are read: it may follow some hundred things.
const MAX_FACTS_BYTES: u64 = 4 * 1024 * 1024;

/// What the line of a blind camera begins with.
const CAMERA: &str = "camera ";

/// What the line about a pool begins with.
const POOL: &str = "pool ";

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
    /// The node is healthy, and cameras of it are blind or its pool is in trouble.
    #[error("{}: do what the lines say", what_is_blind(.0))]
    Blind(Vec<String>),
    /// What answers is not a node.
    #[error("what answers at {0} is not the node: is `http.listen` right?")]
    NotTheNode(SocketAddr),
    /// The node does not tell of the camera.
    #[error("the node at {address} answers {status} when it is asked for the camera: {remedy}")]
    Refused {
        /// Where the node was asked.
        address: SocketAddr,
        /// The status of its answer.
        status: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// The configuration leaves the port to the system, so that it is another one at every start.
    #[error(
        "the node's port is the system's choice (`http.listen` is {0}), so it cannot be asked: give it a port"
    )]
    AnyPort(SocketAddr),
}

fn what_is_blind(lines: &[String]) -> String {
    let cameras = lines.iter().filter(|line| line.starts_with(CAMERA));
    match cameras.count() {
        0 => "the node's pool is in trouble".to_owned(),
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

/// Asks the node that listens on `listen` what it knows of a camera stream, for at most `limit`, and gives the JSON of its answer.
///
/// # Errors
/// If it cannot be asked, does not know the camera, or wants another token.
pub(crate) async fn camera_facts(
    listen: SocketAddr,
    token: Option<&Secret>,
    id: &StreamId,
    limit: Duration,
) -> Result<String, ProbeError> {
    let address = SocketAddr::new(reachable(listen.ip()), listen.port());
    let [twin, stream] =
        [&id.twin_id, &id.stream].map(|part| utf8_percent_encode(part, NON_ALPHANUMERIC));
    let path = format!("/api/cameras/{twin}/{stream}");
    let bearer = token.map_or_else(String::new, |token| {
        format!("Authorization: Bearer {}\r\n", token.expose())
    });
    let answer = tokio::time::timeout(limit, get(address, &path, &bearer, MAX_FACTS_BYTES))
        .await
        .map_err(|_| ProbeError::NoAnswer { address, limit })?
        .map_err(|source| ProbeError::Unreachable { address, source })?;
    let (status, body) = status_and_body(&answer);
    match status {
        "200" => Ok(body.to_owned()),
        "" => Err(ProbeError::NotTheNode(address)),
        status => Err(ProbeError::Refused {
            address,
            status: status.to_owned(),
            remedy: match status {
                "401" | "403" => "give the check the token that this node has (`http.token_file`)",
                "404" => "it runs with another configuration; restart or reload it",
                _ => "read its log",
            },
        }),
    }
}

fn status_and_body(answer: &str) -> (&str, &str) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let status = head
        .strip_prefix(PROTOCOL)
        .and_then(|rest| rest.get(..3))
        .unwrap_or_default();
    (status, body)
}

async fn ask(listen: SocketAddr, path: &str, limit: Duration) -> Result<(), ProbeError> {
    if listen.port() == 0 {
        return Err(ProbeError::AnyPort(listen));
    }
    let address = SocketAddr::new(reachable(listen.ip()), listen.port());
    let answer = tokio::time::timeout(limit, get(address, path, "", MAX_ANSWER_BYTES))
        .await
        .map_err(|_| ProbeError::NoAnswer { address, limit })?
        .map_err(|source| ProbeError::Unreachable { address, source })?;
    let (status, body) = status_and_body(&answer);
    let lines = body.lines().map(one_line);
    let (cameras, wrong): (Vec<_>, Vec<_>) =
        lines.partition(|line| line.starts_with(CAMERA) || line.starts_with(POOL));
    let is_of_a_node = |line: &String| line.contains(SILENT) || line.contains(PANICKED);
    match status {
        "200" if body.trim() == "ok" => Ok(()),
        "503" if wrong.iter().any(is_of_a_node) => Err(ProbeError::Unhealthy(wrong.join("; "))),
        "503" if wrong.is_empty() && !cameras.is_empty() => Err(ProbeError::Blind(cameras)),
        _ => Err(ProbeError::NotTheNode(address)),
    }
}

/// Gets what is at a path. Each line of `headers` ends as HTTP wants it.
async fn get(address: SocketAddr, path: &str, headers: &str, max_bytes: u64) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{headers}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    let mut stream = stream.take(max_bytes);
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

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Asks a program that answers so, and gives what it was asked and what came of it.
    async fn asked(answer: &'static str) -> (String, Result<String, ProbeError>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                assert!(stream.read_buf(&mut request).await.unwrap() > 0);
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(request).unwrap()
        };
        let token = Secret::new("a b c");
        let id = StreamId::new("front/door", "default");
        let client = camera_facts(address, Some(&token), &id, Duration::from_secs(10));
        tokio::join!(server, client)
    }

    #[tokio::test]
    async fn a_node_is_asked_for_a_camera_with_its_token() {
        let (request, facts) = asked("HTTP/1.1 200 OK\r\nA: b\r\n\r\n{\"zones\": []}").await;
        assert!(
            request.starts_with("GET /api/cameras/front%2Fdoor/default HTTP/1.1\r\n"),
            "{request}"
        );
        assert!(
            request.contains("\r\nAuthorization: Bearer a b c\r\n"),
            "{request}"
        );
        assert_eq!(facts.unwrap(), "{\"zones\": []}");
    }

    #[tokio::test]
    async fn a_node_that_does_not_tell_is_told_with_what_to_do() {
        for (answer, remedy) in [
            (
                "HTTP/1.1 401 Unauthorized\r\n\r\n",
                "answers 401 when it is asked for the camera: give the check the token",
            ),
            (
                "HTTP/1.1 404 Not Found\r\n\r\n",
                "answers 404 when it is asked for the camera: it runs with another configuration",
            ),
            ("SSH-2.0-OpenSSH_9.2\r\n", "is not the node"),
        ] {
            let error = asked(answer).await.1.unwrap_err().to_string();
            assert!(error.contains(remedy), "{error}");
        }
    }
}
