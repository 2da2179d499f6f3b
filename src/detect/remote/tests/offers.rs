//! What servers say that they have: a model that comes and goes, one that takes something else, and one that takes no bytes.

use axum::http::StatusCode;
use tonic::Code;

use super::server::{Answer, Script, start};
use super::{BOTH, config, failure, node, url};
use crate::config::ServerProtocol;
use crate::telemetry::ledger::InferenceFailure;

#[test]
fn a_model_that_is_unloaded_and_loaded_again_is_noticed() {
    for protocol in BOTH {
        let server = start(protocol);
        server.fake.set(|script| script.is_ready = false);
        let mut node = node(&config(vec![url(&server, protocol)]));
        let expected = match protocol {
            ServerProtocol::Grpc => "it does not have the model `net` ready",
            ServerProtocol::Http => "it answered 400 Bad Request",
        };
        node.is_away_since(expected);
        server.fake.set(|script| script.is_ready = true);
        node.meet().unwrap();
        node.detect().unwrap();

        let gone = Answer::Error(
            Code::Unavailable,
            StatusCode::SERVICE_UNAVAILABLE,
            "unknown model",
        );
        server.fake.set(|script| {
            script.is_ready = false;
            script.answer = gone;
        });
        let (kind, text) = failure(node.detect());
        assert_eq!(kind, InferenceFailure::Unavailable);
        assert!(text.contains("unknown model"), "{text}");
        assert_eq!(failure(node.detect()).0, InferenceFailure::Unavailable);
        assert_eq!(
            server.fake.seen.lock().len(),
            3,
            "a trial and two frames are all that it was asked"
        );
        server.fake.set(|script| *script = Script::default());
        node.detect_again();
    }
}

#[test]
fn a_model_that_takes_something_else_is_away_with_what_is_wrong() {
    for protocol in BOTH {
        let server = start(protocol);
        server
            .fake
            .set(|script| script.input = ("INT64", vec![1, 3, 16, 32]));
        let mut node = node(&config(vec![url(&server, protocol)]));
        let wrong: [(&str, Vec<i64>, &str); 2] = [
            (
                "INT64",
                vec![1, 3, 16, 32],
                "and is `images` i64 [1, 3, 16, 32]",
            ),
            (
                "FP32",
                vec![1, 3, 64, 64],
                "correct `input.height` in the manifest net",
            ),
        ];
        for (datatype, shape, expected) in wrong {
            server.fake.set(|script| script.input = (datatype, shape));
            node.is_away_since(expected);
        }
        // It comes back with a model that takes another type, which is then sent.
        server
            .fake
            .set(|script| script.input = ("UINT8", vec![-1, 3, 16, 32]));
        node.meet().unwrap();
        node.detect().unwrap();
        let seen = server.fake.seen.lock().pop().unwrap();
        assert_eq!(
            (seen.datatype.as_str(), seen.data.len(), seen.data[0]),
            ("UINT8", 1536, 200)
        );
    }
}

#[test]
fn a_server_that_takes_no_bytes_over_http_is_told_from_one_that_fails() {
    let server = start(ServerProtocol::Http);
    let fails = Answer::Error(Code::Internal, StatusCode::INTERNAL_SERVER_ERROR, "no JSON");
    server.fake.set(|script| script.answer = fails);
    let node = node(&config(vec![url(&server, ServerProtocol::Http)]));
    let error = node.is_away_since("but it answered");
    assert!(
        error.ends_with("ready, but it answered 500 Internal Server Error (no JSON)"),
        "{error}"
    );
    server.fake.set(|script| script.takes_bytes = false);
    node.is_away_since(
        "cannot be sent over HTTP: use grpc:// (it answered 500 Internal Server Error (no JSON))",
    );
    // MLServer quotes the request in its error, which is then longer than any answer.
    server.fake.set(|script| script.answer = Answer::HugeError);
    node.is_away_since(
        "cannot be sent over HTTP: use grpc:// (it answered 500 Internal Server Error)",
    );
}
