//! The hub client over `wss://`: a certificate that the operator's file vouches for is accepted, any
//! other is not.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use twinsight::dev::hub::DevHubOptions;
use twinsight::telemetry::metrics::Metrics;
use twinsight_client::hub::AwayReason;
use twinsight_client::hub::{HubClient, HubOptions, HubStatus};

const DEADLINE: Duration = Duration::from_secs(20);

/// A development hub behind TLS: its URL and the certificate to trust.
async fn start() -> (String, String) {
    let hub = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hub_address = hub.local_addr().unwrap();
    tokio::spawn(twinsight::dev::hub::run(
        hub,
        DevHubOptions::default(),
        std::future::pending(),
    ));

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
    let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = front.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = front.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                let mut to_hub = TcpStream::connect(hub_address).await.unwrap();
                let _ = copy_bidirectional(&mut stream, &mut to_hub).await;
            });
        }
    });
    (format!("https://localhost:{port}"), issued.cert.pem())
}

fn client(url: &str, ca_file: Option<PathBuf>) -> HubClient {
    let mut options = HubOptions::simulator(url, "node");
    options.ca_file = ca_file;
    options.timers.connect = DEADLINE;
    HubClient::start(options)
}

async fn away(client: &HubClient) -> String {
    let mut status = client.status();
    let away = status.wait_for(|status| matches!(status, HubStatus::Away { .. }));
    let status = tokio::time::timeout(DEADLINE, away).await.unwrap().unwrap();
    match &*status {
        HubStatus::Away {
            reason: AwayReason::Socket(error),
            ..
        } => error.clone(),
        other => panic!("not away: {other:?}"),
    }
}

#[tokio::test]
async fn a_certificate_of_the_operators_is_trusted_and_an_unknown_one_is_not() {
    let (url, certificate) = start().await;
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, certificate).unwrap();
    let trusting = client(&url, Some(ca_file));
    tokio::time::timeout(DEADLINE, trusting.joined())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(trusting.get_twin("node").await.unwrap().id, "node");

    let error = away(&client(&url, None)).await;
    assert!(error.contains("certificate"), "{error}");
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_counted_as_that() {
    let (url, _) = start().await;
    let options = HubOptions::simulator(&url, "node");
    let metrics = Arc::new(Metrics::new());
    away(&HubClient::start_counting(
        options,
        Some(Arc::clone(&metrics) as _),
    ))
    .await;
    let text = metrics.encode();
    let count = |reason: &str| {
        let series = format!("twinsight_hub_losses_total{{reason=\"{reason}\"}} ");
        let count = text.lines().find_map(|line| line.strip_prefix(&series));
        count.unwrap().to_owned()
    };
    assert_ne!(count("certificate"), "0");
    assert_eq!(count("socket"), "0");
}

#[tokio::test]
async fn an_unusable_ca_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.pem");
    let error = away(&client("https://localhost:1", Some(missing.clone()))).await;
    assert!(error.contains(missing.to_str().unwrap()), "{error}");
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "nothing").unwrap();
    let error = away(&client("https://localhost:1", Some(empty))).await;
    assert!(error.contains("no certificate"), "{error}");
}
