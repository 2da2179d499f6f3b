//! The check of a model against a server of ours, over HTTP.

use std::sync::atomic::{AtomicU32, Ordering};

use axum::Router;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::*;
use crate::check::finding::Severity;
use crate::config::{ServerProtocol, ServerUrl};

const DEADLINE: Duration = Duration::from_millis(1500);

const MANIFEST: &str = r#"licence = "MIT"
source = "made here"
labels = ["person", "car"]
nms_iou = 0.5
[input]
name = "images"
width = 32
height = 16
layout = "nchw"
color_order = "rgb"
scale = 1.0
resize = "stretch"
[output]
kind = "yolo"
predictions = "out"
"#;

/// Checks a model on a server that answers requests for inference as `infer` says, which gets the number of the request from 0 on.
async fn findings<I, W>(infer: I) -> Vec<Finding>
where
    I: Fn(u32) -> W + Clone + Send + Sync + 'static,
    W: Future<Output = Result<(), StatusCode>> + Send,
{
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(AtomicU32::new(0));
    let serve = move |uri: Uri| {
        let (requests, infer) = (Arc::clone(&requests), infer.clone());
        async move {
            let answer = match uri.path() {
                "/v2" => json!({"name": "fake", "extensions": ["binary_tensor_data"]}),
                "/v2/models/net" => json!({
                    "name": "net",
                    "inputs": [{"name": "images", "datatype": "FP32", "shape": [1, 3, 16, 32]}],
                    "outputs": [{"name": "out", "datatype": "FP32", "shape": [1, 1, 6]}],
                }),
                "/v2/models/net/ready" => return StatusCode::OK.into_response(),
                _ => match infer(requests.fetch_add(1, Ordering::Relaxed)).await {
                    Err(status) => return status.into_response(),
                    Ok(()) => json!({"model_name": "net", "outputs": [{
                        "name": "out", "datatype": "FP32", "shape": [1, 1, 6],
                        "data": [8.0, 4.0, 16.0, 8.0, 0.1, 0.9],
                    }]}),
                },
            };
            let answer: Response = answer.to_string().into_response();
            answer
        }
    };
    let app = Router::new().fallback(serve);
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("net.toml"), MANIFEST).unwrap();
    let remote = RemoteModelConfig {
        name: "far".to_owned(),
        manifest: "net".to_owned(),
        servers: vec![ServerUrl {
            protocol: ServerProtocol::Http,
            tls: false,
            authority: address.to_string(),
            path: String::new(),
        }],
        model: "net".to_owned(),
        version: None,
        deadline: DEADLINE,
        max_in_flight: 4,
        fallback: None,
        ca_file: None,
        token: None,
    };
    let findings = check(folder.path(), &remote, &[]).await;
    server.abort();
    findings
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_picture_that_is_late_once_is_no_failure() {
    // The trial is answered, and the first picture after it is not.
    let late_once = |n| async move {
        if n == 1 {
            std::future::pending::<()>().await;
        }
        Ok(())
    };
    let found = findings(late_once).await;
    let [finding] = &found[..] else {
        panic!("{found:?}");
    };
    assert_eq!(finding.severity, Severity::Ok, "{finding:?}");
}

#[test]
fn the_remedy_goes_by_what_the_server_says() {
    let otherwise = "see that it runs";
    for reason in [
        "http://a: it answered 401 Unauthorized (no)",
        "http://a: it answered 403 Forbidden",
        "grpc://a:1: it answered Unauthenticated (no)",
        "grpc://a:1: it answered PermissionDenied (no)",
    ] {
        let remedy = remedy(reason, otherwise);
        assert!(remedy.contains("`token_file`"), "{reason}: {remedy}");
    }
    for reason in [
        "its model's input is i64: correct `input.name` in it",
        "too long: raise the limit",
    ] {
        assert_eq!(remedy(reason, otherwise), "");
    }
    assert_eq!(remedy("it is not reached", otherwise), otherwise);
}
