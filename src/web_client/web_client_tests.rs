//! The client against servers of a few lines, which answer with bytes of the test's own.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::http::{Method, StatusCode};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::*;

const LIMIT: Duration = Duration::from_secs(20);

/// Reads requests until the client closes, gives each on, and writes this answer to each.
async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: &[u8],
    requests: mpsc::UnboundedSender<String>,
) {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        text.extend_from_slice(&buffer[..read]);
        if text.ends_with(b"\r\n\r\n") || text.ends_with(b"body") {
            let _ = requests.send(String::from_utf8(std::mem::take(&mut text)).unwrap());
            let _ = stream.write_all(answer).await;
        }
    }
}

/// A server that answers each request with the same bytes and keeps its connections open.
async fn server(answer: &'static [u8]) -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, requests) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, answer, sender.clone()));
        }
    });
    (address, requests)
}

/// The same with TLS as `localhost`, and the certificate to trust.
async fn tls_server(answer: &'static [u8]) -> (u16, String) {
    let issued = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(issued.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![issued.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (sender, _requests) = mpsc::unbounded_channel();
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                tokio::spawn(serve(stream, answer, sender.clone()));
            }
        }
    });
    (port, issued.cert.pem())
}

fn get(url: &str) -> Request<Bytes> {
    Request::get(url).body(Bytes::new()).unwrap()
}

async fn answer_of(url: &str) -> Result<Response<Bytes>, WebError> {
    let client = WebClient::new(None).unwrap();
    client.send(get(url), LIMIT, 1000).await
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes";

#[tokio::test]
async fn a_request_goes_out_and_the_whole_answer_comes_back() {
    let (address, mut requests) = server(OK).await;
    let client = WebClient::new(None).unwrap();
    for _ in 0..2 {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://user:pa55word@{address}/hook?key=1"))
            .header("X-Kind", "track")
            .body(Bytes::from_static(b"a body"))
            .unwrap();
        let answer = client.send(request, LIMIT, 3).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.body().as_ref(), b"yes");
        let request = requests.recv().await.unwrap();
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        let mut lines: Vec<&str> = head.lines().collect();
        assert_eq!(lines.remove(0), "POST /hook?key=1 HTTP/1.1");
        lines.sort_unstable();
        let expected = [
            "content-length: 6".to_owned(),
            format!("host: {address}"),
            concat!("user-agent: twinsight/", env!("CARGO_PKG_VERSION")).to_owned(),
            "x-kind: track".to_owned(),
        ];
        assert_eq!(lines, expected);
        assert_eq!(body, "a body");
    }
}

#[tokio::test]
async fn a_redirect_is_given_back_and_not_followed() {
    let (elsewhere, mut requests) = server(OK).await;
    let text =
        format!("HTTP/1.1 302 Found\r\nLocation: http://{elsewhere}/\r\nContent-Length: 0\r\n\r\n");
    let (address, _requests) = server(text.leak().as_bytes()).await;
    let answer = answer_of(&format!("http://{address}/")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::FOUND);
    assert_eq!(answer.headers()["location"], format!("http://{elsewhere}/"));
    assert!(requests.try_recv().is_err());
}

#[tokio::test]
async fn an_answer_has_a_limit_of_time_and_it_holds_for_its_body_too() {
    let (silent, _requests) = server(b"").await;
    let (endless, _requests) = server(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nyes").await;
    for address in [silent, endless] {
        let client = WebClient::new(None).unwrap();
        let request = get(&format!("http://user:pa55word@{address}/secret"));
        let error = client
            .send(request, Duration::from_millis(300), 1000)
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("http://{address} did not answer within 0.3 s")
        );
    }
}

#[tokio::test]
async fn a_body_that_is_too_long_is_an_error_with_the_status() {
    // With a length that it tells and without one.
    let told = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\n1234";
    let chunked = b"HTTP/1.1 503 Service Unavailable\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n12\r\n2\r\n34\r\n0\r\n\r\n";
    for answer in [&told[..], &chunked[..]] {
        let (address, _requests) = server(answer).await;
        let client = WebClient::new(None).unwrap();
        let url = format!("http://{address}/");
        assert_eq!(
            client
                .send(get(&url), LIMIT, 4)
                .await
                .unwrap()
                .body()
                .as_ref(),
            b"1234"
        );
        let error = client.send(get(&url), LIMIT, 3).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "http://{address} answered 503 Service Unavailable, and the answer is longer than 3 bytes"
            )
        );
        assert!(matches!(
            error,
            WebError::Unread {
                status: StatusCode::SERVICE_UNAVAILABLE,
                ..
            }
        ));
    }
}

#[tokio::test]
async fn a_head_that_is_too_long_is_an_error() {
    let head = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    let (address, _requests) = server(head.leak().as_bytes()).await;
    let error = answer_of(&format!("http://{address}/")).await.unwrap_err();
    assert!(matches!(error, WebError::Broken { .. }), "{error}");
}

#[tokio::test]
async fn tls_trusts_what_the_file_names_and_nothing_else() {
    let (port, certificate) = tls_server(OK).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, certificate).unwrap();
    let url = format!("https://user:pa55word@localhost:{port}/secret");
    let client = WebClient::new(Some(&file)).unwrap();
    let answer = client.send(get(&url), LIMIT, 1000).await.unwrap();
    assert_eq!(answer.body().as_ref(), b"yes");

    let error = answer_of(&url).await.unwrap_err();
    assert!(matches!(error, WebError::Tls { .. }), "{error:?}");
    let text = error.to_string();
    let expected =
        format!("TLS was not agreed on with https://localhost:{port} (invalid peer certificate: ");
    assert!(text.starts_with(&expected), "{text}");
    assert!(
        !text.contains("pa55word") && !text.contains("secret"),
        "{text}"
    );

    // The certificate is of `localhost`, not of the address.
    let url = format!("https://127.0.0.1:{port}/");
    let error = client.send(get(&url), LIMIT, 1000).await.unwrap_err();
    assert!(matches!(error, WebError::Tls { .. }), "{error}");

    let error = WebClient::new(Some(Path::new("/nonexistent.pem"))).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("/nonexistent.pem cannot be used: "),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_told_as_that() {
    let (address, _requests) =
        server(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plain = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
    });
    let error = answer_of(&format!("https://{plain}/")).await.unwrap_err();
    assert!(matches!(error, WebError::Tls { .. }), "{error:?}");
    let answer = answer_of(&format!("http://{address}/")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_name_without_an_address_and_a_port_without_a_server_are_told_apart() {
    let error = answer_of("http://user:pa55word@camera.invalid:8080/secret")
        .await
        .unwrap_err();
    assert!(matches!(error, WebError::Name { .. }), "{error:?}");
    let text = error.to_string();
    assert!(
        text.starts_with("the name of http://camera.invalid:8080 does not resolve ("),
        "{text}"
    );
    assert!(
        !text.contains("pa55word") && !text.contains("secret"),
        "{text}"
    );

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    for scheme in ["http", "https"] {
        let error = answer_of(&format!("{scheme}://user:pa55word@{address}/secret"))
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "{scheme}://{address} refuses connections: nothing listens there, or a firewall says no"
            )
        );
    }
}

#[tokio::test]
async fn a_connection_that_ends_and_an_answer_that_is_no_http_are_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closing = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
        }
    });
    let (odd, _requests) = server(b"SSH-2.0-OpenSSH_9.2\r\n\r\n").await;
    for address in [closing, odd] {
        let error = answer_of(&format!("http://{address}/")).await.unwrap_err();
        assert!(matches!(error, WebError::Broken { .. }), "{error:?}");
        let text = error.to_string();
        let expected =
            format!("the connection to http://{address} broke off before it had answered (");
        assert!(text.starts_with(&expected), "{text}");
    }
}

#[tokio::test]
async fn an_address_that_is_none_of_the_web_is_not_asked() {
    for url in [
        "/path",
        "localhost:80",
        "ftp://user:pa55word@host/",
        "file://host/etc/passwd",
    ] {
        let error = answer_of(url).await.unwrap_err();
        assert!(matches!(error, WebError::Address), "{url}: {error:?}");
        assert!(!error.to_string().contains("pa55word"));
    }
}
