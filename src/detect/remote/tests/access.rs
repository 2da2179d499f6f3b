//! Who is asked, and as whom: tokens, certificates, and ports of another protocol.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tonic::transport::Identity;
use twinsight_client::secret::Secret;

use super::super::RemoteModel;
use super::server::{start, start_at, start_http1, start_http1_at, start_mute, start_to_return};
use super::{BOTH, MANIFEST, config, failure, node, until, url};
use crate::config::{RemoteModelConfig, ServerProtocol, ServerUrl};
use crate::telemetry::metrics::Metrics;

#[test]
fn a_token_is_sent_and_never_told() {
    for protocol in BOTH {
        let server = start(protocol);
        let wanted = Some("Bearer right-token".to_owned());
        server.fake.set(|script| script.token = wanted);
        let with_token = |token: &str| RemoteModelConfig {
            token: Some(Secret::new(token)),
            ..config(vec![url(&server, protocol)])
        };
        let mut right = node(&with_token("right-token"));
        right.meet().unwrap();
        right.detect().unwrap();
        let wrong = node(&with_token("wrong-token"));
        let error = wrong.is_away_since("not with this");
        let debug = format!("{:?} {:?} {error}", wrong.model(), wrong.model().facts());
        assert!(!debug.contains("wrong-token"), "{debug}");
    }
}

#[test]
fn a_token_that_is_rotated_is_taken_when_the_old_one_is_refused() {
    let server = start(ServerProtocol::Grpc);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "first-token").unwrap();
    let set = |token: &str| {
        let wanted = Some(format!("Bearer {token}"));
        server.fake.set(|script| script.token = wanted);
    };
    set("first-token");
    let mut node = node(&RemoteModelConfig {
        token: Secret::of_file(file.path(), "first-token"),
        ..config(vec![url(&server, ServerProtocol::Grpc)])
    });
    node.meet().unwrap();
    node.detect().unwrap();
    set("second-token");
    std::fs::write(file.path(), "second-token").unwrap();
    failure(node.detect());
    node.detect_again();
}

#[test]
fn tls_trusts_the_authority_of_the_file_and_no_other() {
    let issued = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let identity = Identity::from_pem(issued.cert.pem(), issued.signing_key.serialize_pem());
    let any = "127.0.0.1:0".parse().unwrap();
    let server = start_at(ServerProtocol::Grpc, any, Arc::default(), Some(identity));
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, issued.cert.pem()).unwrap();
    let with = |ca_file: Option<&Path>| RemoteModelConfig {
        ca_file: ca_file.map(Path::to_owned),
        ..config(vec![ServerUrl {
            protocol: ServerProtocol::Grpc,
            tls: true,
            authority: format!("localhost:{}", server.address.port()),
            path: String::new(),
        }])
    };
    let mut trusting = node(&with(Some(&ca_file)));
    trusting.meet().unwrap();
    trusting.detect().unwrap();
    node(&with(None)).is_away_since("certificate");

    let metrics = Arc::new(Metrics::new());
    let runtime = Runtime::new().unwrap();
    std::fs::write(folder.path().join("net.toml"), MANIFEST).unwrap();
    let missing = folder.path().join("none.pem");
    let error = RemoteModel::open(
        &with(Some(&missing)),
        folder.path(),
        runtime.handle(),
        &metrics,
    );
    let error = error.unwrap_err().to_string();
    assert!(
        error.starts_with("model `far`: ") && error.contains("none.pem cannot be used"),
        "{error}"
    );
}

#[test]
fn a_port_of_another_protocol_is_told_for_what_it_is() {
    let issued = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let identity = Identity::from_pem(issued.cert.pem(), issued.signing_key.serialize_pem());
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, issued.cert.pem()).unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    let grpc = start(ServerProtocol::Grpc);
    let http = start_http1();
    let encrypted = start_at(ServerProtocol::Grpc, any, Arc::default(), Some(identity));
    for (server, protocol, tls, sentence) in [
        (
            &http,
            ServerProtocol::Grpc,
            false,
            "this looks like the server's HTTP port: its gRPC port is another one, 8001 for Triton",
        ),
        (
            &grpc,
            ServerProtocol::Http,
            false,
            "this looks like the server's gRPC port: its HTTP port is another one, 8000 for Triton",
        ),
        (
            &encrypted,
            ServerProtocol::Grpc,
            false,
            "it speaks TLS there: use grpcs://",
        ),
        (
            &encrypted,
            ServerProtocol::Http,
            false,
            "it speaks TLS there: use https://",
        ),
        (
            &encrypted,
            ServerProtocol::Http,
            true,
            "this looks like the server's gRPC port",
        ),
        (
            &grpc,
            ServerProtocol::Grpc,
            true,
            "it does not speak TLS there: use grpc://",
        ),
        (
            &http,
            ServerProtocol::Http,
            true,
            "it does not speak TLS there: use http://",
        ),
        (
            &http,
            ServerProtocol::Grpc,
            true,
            "it does not speak TLS there, and this looks like the server's HTTP port",
        ),
        (
            &grpc,
            ServerProtocol::Http,
            true,
            "it does not speak TLS there, and this looks like the server's gRPC port",
        ),
    ] {
        let url = ServerUrl {
            protocol,
            tls,
            authority: format!("localhost:{}", server.address.port()),
            path: String::new(),
        };
        let node = node(&RemoteModelConfig {
            ca_file: tls.then(|| ca_file.clone()),
            ..config(vec![url])
        });
        let reason = node.is_away_since(sentence);
        assert!(reason.contains(&format!(": {sentence}")), "{reason}");
    }
    // What the address names is there, and is not available: no port is suspected.
    let address = http.address;
    drop(http);
    let url = ServerUrl {
        protocol: ServerProtocol::Http,
        tls: false,
        authority: address.to_string(),
        path: String::new(),
    };
    let reason = node(&config(vec![url])).is_away_since("refuses connections");
    assert!(!reason.contains("looks like"), "{reason}");
}

#[test]
fn a_server_that_has_answered_is_not_said_to_be_of_another_protocol() {
    let server = start_to_return(ServerProtocol::Grpc);
    let address = server.address;
    let mut node = node(&config(vec![url(&server, ServerProtocol::Grpc)]));
    node.meet().unwrap();
    drop(server);
    failure(node.detect());
    node.is_away_since("Connection refused");
    // As a proxy that takes all protocols at one port, of which one is out of order.
    let _other = start_http1_at(address);
    until("it is asked again", || {
        !node.away().contains("Connection refused")
    });
    let reason = node.away();
    assert!(!reason.contains("looks like"), "{reason}");
}

#[test]
fn looking_at_a_port_takes_nothing_from_the_time_for_the_question() {
    // Such a look takes 300 ms, and a server has a second. By HTTP it is asked twice, since a connection may have been closed while it was idle.
    for (protocol, closes_after_ms, words) in [
        (ServerProtocol::Grpc, 800, "it is not reached"),
        (
            ServerProtocol::Http,
            400,
            "broke off before it had answered",
        ),
    ] {
        let server = start_mute(Duration::from_millis(closes_after_ms));
        let node = node(&config(vec![url(&server, protocol)]));
        node.is_away_since(words);
    }
}
