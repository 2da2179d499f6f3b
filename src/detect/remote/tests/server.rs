//! An inference server of the tests, over gRPC or HTTP. What it does is written in a script that a test changes while it runs.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tonic::Status;
use tonic::server::{Grpc, UnaryService};
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic_prost::ProstCodec;

use super::super::protocol::grpc::tests::{
    InferOutputTensor, ModelInferResponse, ModelMetadataResponse, ModelReadyResponse,
};
use super::super::protocol::grpc::{
    MODEL_INFER, MODEL_METADATA, MODEL_READY, ModelInferRequest, ModelRequest,
};
use super::until;
use crate::config::ServerProtocol;
use crate::test_ports::unused_address;

/// What the server does.
#[derive(Debug, Clone)]
pub(super) struct Script {
    pub(super) is_ready: bool,
    /// The type and shape of its input.
    pub(super) input: (&'static str, Vec<i64>),
    /// Answers to inference come after this long.
    pub(super) delay: Duration,
    /// Whether it answers the question for readiness at all.
    pub(super) is_frozen: bool,
    pub(super) answer: Answer,
    /// Whether it lists the binary extension of HTTP.
    pub(super) takes_bytes: bool,
    /// What it wants as `Authorization`.
    pub(super) token: Option<String>,
}

/// What it answers when it is asked for inference.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    /// One output `out` of this shape.
    Numbers { shape: Vec<i64>, values: Vec<f32> },
    /// The same output of whole numbers, which is not what the metadata says.
    Integers,
    /// So many bytes that nobody wants.
    Huge,
    /// The same as an error, as of a server that quotes the request.
    HugeError,
    /// An error: what gRPC and what HTTP call it, and its text.
    Error(tonic::Code, StatusCode, &'static str),
}

impl Default for Script {
    fn default() -> Self {
        Self {
            is_ready: true,
            input: ("FP32", vec![-1, 3, 16, 32]),
            delay: Duration::ZERO,
            is_frozen: false,
            // One candidate: a car in the left upper quarter.
            answer: Answer::Numbers {
                shape: vec![1, 1, 6],
                values: vec![8.0, 4.0, 16.0, 8.0, 0.1, 0.9],
            },
            takes_bytes: true,
            token: None,
        }
    }
}

/// A request for inference as it came.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) model: String,
    pub(super) version: String,
    pub(super) datatype: String,
    pub(super) shape: Vec<i64>,
    pub(super) data: Bytes,
    pub(super) user_agent: String,
}

#[derive(Debug, Default)]
pub(super) struct Fake {
    pub(super) script: Mutex<Script>,
    pub(super) seen: Mutex<Vec<Seen>>,
    /// Requests whose client did not wait for their end.
    pub(super) given_up: AtomicUsize,
}

/// A server that runs until it is dropped.
pub(super) struct Running {
    pub(super) fake: Arc<Fake>,
    pub(super) address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // All of its connections break off at once, as when its process is killed.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

pub(super) fn start(protocol: ServerProtocol) -> Running {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    start_at(protocol, any, Arc::default(), None)
}

/// A server on an address that nobody else takes while it is away.
pub(super) fn start_to_return(protocol: ServerProtocol) -> Running {
    start_at(protocol, unused_address(), Arc::default(), None)
}

pub(super) fn start_at(
    protocol: ServerProtocol,
    address: SocketAddr,
    fake: Arc<Fake>,
    identity: Option<Identity>,
) -> Running {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let listener = listen(&runtime, address);
    let address = listener.local_addr().unwrap();
    let served = Arc::clone(&fake);
    match protocol {
        ServerProtocol::Grpc => {
            let app = Router::new().fallback(move |request| grpc(Arc::clone(&served), request));
            let incoming = futures_util::stream::unfold(listener, |listener| async {
                let accepted = listener.accept().await.map(|(stream, _)| stream);
                Some((accepted, listener))
            });
            runtime.spawn(async move {
                let mut server = Server::builder();
                if let Some(identity) = identity {
                    server = server
                        .tls_config(ServerTlsConfig::new().identity(identity))
                        .unwrap();
                }
                server.serve_with_incoming(app, incoming).await
            });
        }
        ServerProtocol::Http => {
            let app = Router::new().fallback(move |request| http(Arc::clone(&served), request));
            runtime.spawn(async move { axum::serve(listener, app).await });
        }
    }
    Running {
        fake,
        address,
        runtime: Some(runtime),
    }
}

/// The port of a server that was just ended may take a moment to be free.
fn listen(runtime: &Runtime, address: SocketAddr) -> TcpListener {
    let mut listener = None;
    until("the port is free", || {
        listener = runtime.block_on(TcpListener::bind(address)).ok();
        listener.is_some()
    });
    listener.unwrap()
}

/// A server that answers everything in the same way, by HTTP/1 and nothing else. The one of [`start`] takes HTTP/2 at the same port.
pub(super) fn start_http1() -> Running {
    start_http1_at(SocketAddr::from(([127, 0, 0, 1], 0)))
}

pub(super) fn start_http1_at(address: SocketAddr) -> Running {
    start_raw(address, |mut stream| async move {
        let answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
        let mut asked = [0; 1024];
        while let Ok(1..) = stream.read(&mut asked).await {
            let _ = stream.write_all(answer).await;
        }
    })
}

/// A server that closes each connection after so long, and says nothing before.
pub(super) fn start_mute(closes_after: Duration) -> Running {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    start_raw(any, move |stream| async move {
        tokio::time::sleep(closes_after).await;
        drop(stream);
    })
}

/// A server that does this with each connection.
fn start_raw<W>(address: SocketAddr, serve: impl Fn(TcpStream) -> W + Send + 'static) -> Running
where
    W: Future<Output = ()> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let listener = listen(&runtime, address);
    let address = listener.local_addr().unwrap();
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    Running {
        fake: Arc::default(),
        address,
        runtime: Some(runtime),
    }
}

impl Fake {
    pub(super) fn set(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.script.lock());
    }

    fn is_allowed(&self, headers: &HeaderMap) -> bool {
        let wanted = self.script.lock().token.clone();
        let given = headers.get("authorization");
        wanted.is_none_or(|wanted| given.is_some_and(|given| given == wanted.as_str()))
    }

    /// Waits as long as the script says, and notes whether the client waits too.
    async fn take(&self, seen: Seen) -> Answer {
        struct Waiting<'a>(&'a AtomicUsize, bool);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                if !self.1 {
                    self.0.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        self.seen.lock().push(seen);
        let Script { delay, answer, .. } = self.script.lock().clone();
        let mut waiting = Waiting(&self.given_up, false);
        tokio::time::sleep(delay).await;
        waiting.1 = true;
        answer
    }

    async fn freeze(&self) {
        while self.script.lock().is_frozen {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A method of gRPC that is a function.
struct Method<F>(F);

impl<F, R, W, A> UnaryService<R> for Method<F>
where
    F: FnMut(R) -> W,
    W: Future<Output = Result<tonic::Response<A>, Status>>,
{
    type Response = A;
    type Future = W;

    fn call(&mut self, request: tonic::Request<R>) -> W {
        (self.0)(request.into_inner())
    }
}

async fn method<R, A, W>(
    request: Request,
    work: impl FnMut(R) -> W + Send,
) -> axum::http::Response<tonic::body::Body>
where
    R: prost::Message + Default + 'static,
    A: prost::Message + 'static,
    W: Future<Output = Result<tonic::Response<A>, Status>> + Send,
{
    let mut grpc = Grpc::new(ProstCodec::<A, R>::default()).max_decoding_message_size(usize::MAX);
    grpc.unary(Method(work), request).await
}

async fn grpc(fake: Arc<Fake>, request: Request) -> Response {
    fake.freeze().await;
    if !fake.is_allowed(request.headers()) {
        let answer = Status::unauthenticated("not with this token").into_http::<Body>();
        return answer.into_response();
    }
    let user_agent = request.headers()["user-agent"].to_str().unwrap().to_owned();
    let answer = match request.uri().path() {
        MODEL_READY => {
            method(request, move |_: ModelRequest| {
                let ready = fake.script.lock().is_ready;
                async move { Ok(tonic::Response::new(ModelReadyResponse { ready })) }
            })
            .await
        }
        MODEL_METADATA => {
            method(request, move |request: ModelRequest| {
                let (datatype, shape) = fake.script.lock().input.clone();
                let tensor = |name: &str, datatype: &str, shape: Vec<i64>| InferOutputTensor {
                    name: name.to_owned(),
                    datatype: datatype.to_owned(),
                    shape,
                    contents: None,
                };
                let answer = ModelMetadataResponse {
                    name: request.name,
                    inputs: vec![tensor("images", datatype, shape)],
                    outputs: vec![tensor("out", "FP32", vec![-1, -1, 6])],
                };
                async { Ok(tonic::Response::new(answer)) }
            })
            .await
        }
        MODEL_INFER => {
            method(request, move |request: ModelInferRequest| {
                let fake = Arc::clone(&fake);
                let seen = Seen {
                    model: request.model_name,
                    version: request.model_version,
                    datatype: request.inputs[0].datatype.clone(),
                    shape: request.inputs[0].shape.clone(),
                    data: request.raw_input_contents[0].clone(),
                    user_agent: user_agent.clone(),
                };
                async move { grpc_answer(fake.take(seen).await).map(tonic::Response::new) }
            })
            .await
        }
        other => panic!("{other}"),
    };
    answer.map(Body::new)
}

fn grpc_answer(answer: Answer) -> Result<ModelInferResponse, Status> {
    let (datatype, shape, raw) = match answer {
        Answer::Numbers { shape, values } => ("FP32", shape, little_endian(&values)),
        Answer::Integers => ("INT32", vec![1, 1, 6], Bytes::from(vec![0; 24])),
        Answer::Huge => ("FP32", vec![1], Bytes::from(vec![0; 60 << 20])),
        Answer::HugeError => return Err(Status::internal("e".repeat(4000))),
        Answer::Error(code, _, text) => return Err(Status::new(code, text)),
    };
    Ok(ModelInferResponse {
        model_name: "net".to_owned(),
        outputs: vec![InferOutputTensor {
            name: "out".to_owned(),
            datatype: datatype.to_owned(),
            shape,
            contents: None,
        }],
        raw_output_contents: vec![raw],
    })
}

fn little_endian(values: &[f32]) -> Bytes {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

async fn http(fake: Arc<Fake>, request: Request) -> Response {
    fake.freeze().await;
    let (head, body) = request.into_parts();
    if !fake.is_allowed(&head.headers) {
        return (StatusCode::UNAUTHORIZED, "not with this token").into_response();
    }
    if head.uri.path() == "/below/v2" {
        let takes_bytes = fake.script.lock().takes_bytes;
        let all = if takes_bytes {
            vec!["binary_tensor_data"]
        } else {
            vec![]
        };
        return json!({"name": "fake", "extensions": all})
            .to_string()
            .into_response();
    }
    // Whoever does not get on with a server asks by another path what it is.
    let Some(path) = head.uri.path().strip_prefix("/below/v2/models/") else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let (model, rest) = path.split_once('/').unwrap_or((path, ""));
    let rest = rest.strip_prefix("versions/").unwrap_or(rest);
    let (version, rest) = match rest.split_once('/') {
        Some((version, rest)) => (version, rest),
        None if rest.starts_with(|c: char| c.is_ascii_digit()) => (rest, ""),
        None => ("", rest),
    };
    match rest {
        "ready" if fake.script.lock().is_ready => StatusCode::OK.into_response(),
        "ready" => StatusCode::BAD_REQUEST.into_response(),
        "" => {
            let (datatype, shape) = fake.script.lock().input.clone();
            let answer = json!({
                "name": model,
                "inputs": [{"name": "images", "datatype": datatype, "shape": shape}],
                "outputs": [{"name": "out", "datatype": "FP32", "shape": [-1, -1, 6]}],
            });
            answer.to_string().into_response()
        }
        "infer" => {
            let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            let header = |name: &str| head.headers[name].to_str().unwrap().to_owned();
            let length: usize = header("inference-header-content-length").parse().unwrap();
            let json: serde_json::Value = serde_json::from_slice(&body[..length]).unwrap();
            let input = &json["inputs"][0];
            let dims = input["shape"].as_array().unwrap().iter();
            let seen = Seen {
                model: model.to_owned(),
                version: version.to_owned(),
                datatype: input["datatype"].as_str().unwrap().to_owned(),
                shape: dims.map(|dim| dim.as_i64().unwrap()).collect(),
                data: body.slice(length..),
                user_agent: header("user-agent"),
            };
            http_answer(fake.take(seen).await)
        }
        other => panic!("{other}"),
    }
}

fn http_answer(answer: Answer) -> Response {
    let (datatype, shape, raw) = match answer {
        Answer::Numbers { shape, values } => ("FP32", shape, little_endian(&values)),
        Answer::Integers => ("INT32", vec![1, 1, 6], Bytes::from(vec![0; 24])),
        Answer::Huge => ("FP32", vec![1], Bytes::from(vec![0; 60 << 20])),
        Answer::HugeError => {
            let text = "e".repeat(60 << 20);
            return (StatusCode::INTERNAL_SERVER_ERROR, text).into_response();
        }
        Answer::Error(_, status, text) => {
            return (status, json!({"error": text}).to_string()).into_response();
        }
    };
    let json = json!({"model_name": "net", "outputs": [{
        "name": "out", "datatype": datatype, "shape": shape,
        "parameters": {"binary_data_size": raw.len()},
    }]})
    .to_string();
    let length = [("inference-header-content-length", json.len().to_string())];
    (length, [json.as_bytes(), &raw].concat()).into_response()
}
