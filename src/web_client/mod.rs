//! The HTTP client of the node: a request comes in, the whole answer or the reason why there is none goes out, within a limit of
//! time and of bytes. Whoever asks runs it; the connection to a server is kept for the next request.

mod error;

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::header::{HeaderValue, USER_AGENT};
use axum::http::uri::Scheme;
use axum::http::{Request, Response, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use twinsight_client::tls::tls_config;

pub(crate) use self::error::innermost_cause;
pub use self::error::{WebClientError, WebError};

/// The most of an answer's head that is read.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// A connection that is idle for this long is closed. Some servers close it after 5 s, and a request that meets that fails.
const IDLE_LIMIT: Duration = Duration::from_secs(3);

/// An HTTP/1.1 client that speaks TLS where the address says so. It follows no redirects, knows no proxies and keeps no cookies:
/// a request goes to the server of its address and nowhere else.
#[derive(Debug, Clone)]
pub struct WebClient {
    client: Arc<Client<HttpsConnector<HttpConnector>, Body>>,
}

impl WebClient {
    /// A client that trusts the public roots, and the certificates of this file (PEM) if there is one.
    ///
    /// # Errors
    /// [`WebClientError`] if the file cannot be used.
    pub fn new(ca_file: Option<&Path>) -> Result<Self, WebClientError> {
        Self::build(ca_file, 1, None)
    }

    /// The same for somebody who has several requests to a server under way at once: as many connections are kept for the next ones. A
    /// connection that is not there within the limit is given up.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub fn for_servers(
        ca_file: Option<&Path>,
        connections: usize,
        connect_limit: Duration,
    ) -> Result<Self, WebClientError> {
        Self::build(ca_file, connections, Some(connect_limit))
    }

    fn build(
        ca_file: Option<&Path>,
        connections: usize,
        connect_limit: Option<Duration>,
    ) -> Result<Self, WebClientError> {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_connect_timeout(connect_limit);
        // Requests are short, and with Nagle's algorithm some would wait for an acknowledgement.
        connector.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls_config(ca_file)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(connections)
            .pool_idle_timeout(IDLE_LIMIT)
            .http1_max_buf_size(MAX_HEAD_BYTES)
            .build(connector);
        Ok(Self {
            client: Arc::new(client),
        })
    }

    /// Sends a request to the server of its address, and gives its answer whatever the status is: a redirect is an answer, too.
    /// `limit` is the time from connecting to the end of the answer, `max_body` the most bytes that its body may have.
    /// A user and a password in the address are not sent.
    ///
    /// # Errors
    /// [`WebError`], which says in a sentence what stood in the way, without the path, the query and the credentials of the
    /// address, since webhooks have secrets in all of them.
    pub async fn send(
        &self,
        request: Request<Bytes>,
        limit: Duration,
        max_body: usize,
    ) -> Result<Response<Bytes>, WebError> {
        let server = server_name(request.uri())?;
        match tokio::time::timeout(limit, self.exchange(&server, request, max_body)).await {
            Ok(result) => result,
            Err(_) => Err(WebError::TimedOut { server, limit }),
        }
    }

    async fn exchange(
        &self,
        server: &str,
        request: Request<Bytes>,
        max_body: usize,
    ) -> Result<Response<Bytes>, WebError> {
        let mut request = request.map(Body::from);
        request
            .headers_mut()
            .entry(USER_AGENT)
            .or_insert(HeaderValue::from_static(concat!(
                "twinsight/",
                env!("CARGO_PKG_VERSION")
            )));
        let answer = self.client.request(request).await;
        let answer = answer.map_err(|error| WebError::without_answer(server, &error))?;
        let (head, body) = answer.into_parts();
        match to_bytes(Body::new(body), max_body).await {
            Ok(body) => Ok(Response::from_parts(head, body)),
            Err(error) => Err(WebError::Unread {
                server: server.to_owned(),
                status: head.status,
                reason: unread(&error, max_body),
            }),
        }
    }
}

/// What errors call the server of an address: the scheme, the host and the port.
fn server_name(uri: &Uri) -> Result<String, WebError> {
    let is_web = |scheme: &&Scheme| [Scheme::HTTP, Scheme::HTTPS].contains(scheme);
    let (Some(scheme), Some(host)) = (uri.scheme().filter(is_web), uri.host()) else {
        return Err(WebError::Address);
    };
    if host.is_empty() {
        return Err(WebError::Address);
    }
    let port = uri.port().map(|port| format!(":{port}"));
    Ok(format!("{scheme}://{host}{}", port.unwrap_or_default()))
}

/// Why the body of an answer was not read to its end.
fn unread(error: &axum::Error, max_body: usize) -> String {
    // The type of this error is not among those that axum names, and its text tells it from others.
    let is_limit = |cause: &&dyn Error| cause.to_string() == "length limit exceeded";
    if error::causes(error).iter().any(is_limit) {
        return format!("longer than {max_body} bytes");
    }
    format!("broken off ({})", error::innermost_cause(error))
}

#[cfg(test)]
#[path = "web_client_tests.rs"]
mod tests;
