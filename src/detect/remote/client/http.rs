//! The protocol over HTTP/1.1: connections are kept from one request to the next, and there are as many as requests under way.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use axum::http::{Method, Request, Response, StatusCode};
use bytes::Bytes;
use twinsight_client::secret::Secret;

use super::super::protocol::http::{
    BINARY, JSON_LENGTH, model_path, read_error, read_metadata, read_outputs, read_ready,
    read_takes_bytes, request,
};
use super::super::protocol::{MAX_METADATA_BYTES, Metadata, ModelName, OutputTensor};
use super::{CallError, InferRequest, QUEUE_FULL};
use crate::config::ServerUrl;
use crate::web_client::{WebClient, WebError};

/// Whoever asks about a model has a limit of their own, which is shorter.
const ASK_LIMIT: Duration = Duration::from_secs(30);

/// The client of one server.
#[derive(Debug)]
pub(super) struct HttpClient {
    web: WebClient,
    /// Scheme, host and port.
    server: String,
    /// What stands before `/v2` in paths.
    prefix: String,
    /// False once the server has listed its extensions and the binary one was not among them. Some take bytes all the same, so that
    /// only an error of inference makes something of it.
    lists_bytes: AtomicBool,
    /// True once it has answered a request with bytes, so that its errors have other reasons.
    has_taken_bytes: AtomicBool,
}

impl HttpClient {
    pub(super) fn new(url: &ServerUrl, web: WebClient) -> Self {
        let scheme = if url.tls { "https" } else { "http" };
        Self {
            web,
            server: format!("{scheme}://{}", url.authority),
            prefix: url.path.clone(),
            lists_bytes: AtomicBool::new(true),
            has_taken_bytes: AtomicBool::new(false),
        }
    }

    pub(super) async fn ask(
        &self,
        model: &ModelName,
        token: Option<&Secret>,
    ) -> Result<Metadata, CallError> {
        let path = model_path(&self.prefix, model);
        let ready = self.get(&format!("{path}/ready"), token).await?;
        if !read_ready(ready.body()) {
            let reason = format!("it does not have the model `{}` ready", model.name);
            return Err(CallError::Unavailable(reason));
        }
        // Not every server says something of itself.
        if let Ok(answer) = self.get(&format!("{}/v2", self.prefix), token).await {
            let takes_bytes = read_takes_bytes(answer.body());
            self.lists_bytes.store(takes_bytes, Ordering::Relaxed);
        }
        let answer = self.get(&path, token).await?;
        Ok(read_metadata(answer.body())?)
    }

    async fn get(&self, path: &str, token: Option<&Secret>) -> Result<Response<Bytes>, CallError> {
        let ask = async || {
            let request = self.request(Method::GET, path, token, Bytes::new())?;
            let answer = self.web.send(request, ASK_LIMIT, MAX_METADATA_BYTES).await;
            Ok::<_, CallError>(answer)
        };
        // A server may close a connection that was idle at the moment at which it is used again.
        let answer = match ask().await? {
            Err(WebError::Broken { .. }) => ask().await?,
            answer => answer,
        };
        let answer = answer.map_err(failure)?;
        match answer.status() {
            status if status.is_success() => Ok(answer),
            status => Err(CallError::Unavailable(told(status, answer.body()))),
        }
    }

    pub(super) async fn infer(
        &self,
        model: &ModelName,
        asked: &InferRequest<'_>,
        token: Option<&Secret>,
    ) -> Result<Vec<OutputTensor>, CallError> {
        let path = format!("{}/infer", model_path(&self.prefix, model));
        let (body, json_length) = request(asked.inputs, asked.outputs);
        let mut request = self.request(Method::POST, &path, token, body)?;
        let headers = request.headers_mut();
        headers.insert(JSON_LENGTH, HeaderValue::from(json_length));
        let binary = HeaderValue::from_static("application/octet-stream");
        headers.insert(CONTENT_TYPE, binary);
        let answer = self.web.send(request, asked.limit, asked.most_answer_bytes);
        let answer = match answer.await {
            // It may quote the request, so that its error is longer than an answer.
            Err(WebError::Unread { status, .. }) if !status.is_success() && !self.takes_bytes() => {
                return Err(without_bytes(&format!("it answered {status}")));
            }
            answer => answer.map_err(failure)?,
        };
        let status = answer.status();
        if !status.is_success() {
            let told = told(status, answer.body());
            let is_too_many = status == StatusCode::TOO_MANY_REQUESTS;
            if !is_too_many && !self.takes_bytes() {
                return Err(without_bytes(&told));
            }
            return Err(match status {
                StatusCode::GATEWAY_TIMEOUT => CallError::Deadline,
                StatusCode::TOO_MANY_REQUESTS => CallError::Busy(told),
                StatusCode::SERVICE_UNAVAILABLE if told.contains(QUEUE_FULL) => {
                    CallError::Busy(told)
                }
                StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::UNAUTHORIZED
                | StatusCode::FORBIDDEN
                | StatusCode::NOT_FOUND => CallError::Unavailable(told),
                _ => CallError::Answer(told),
            });
        }
        let json_length = match answer.headers().get(JSON_LENGTH) {
            None => None,
            Some(value) => Some(
                value
                    .to_str()
                    .ok()
                    .and_then(|text| text.trim().parse().ok())
                    .ok_or_else(|| {
                        CallError::Answer(format!("its header {JSON_LENGTH} is no number"))
                    })?,
            ),
        };
        let outputs = read_outputs(answer.body(), json_length, asked.outputs)?;
        self.has_taken_bytes.store(true, Ordering::Relaxed);
        Ok(outputs)
    }

    /// Whether it takes tensors as bytes, as far as is known.
    fn takes_bytes(&self) -> bool {
        self.lists_bytes.load(Ordering::Relaxed) || self.has_taken_bytes.load(Ordering::Relaxed)
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        token: Option<&Secret>,
        body: Bytes,
    ) -> Result<Request<Bytes>, CallError> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.server));
        let mut request = request.body(body).map_err(|error| {
            CallError::Unavailable(format!("no request can be made to its address ({error})"))
        })?;
        if let Some(mut value) = super::authorization::<HeaderValue>(token) {
            value.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        Ok(request)
    }
}

/// Why there is no answer.
fn failure(error: WebError) -> CallError {
    match error {
        WebError::TimedOut { .. } => CallError::Deadline,
        WebError::Unread { .. } => CallError::Answer(error.to_string()),
        WebError::Address
        | WebError::Name { .. }
        | WebError::Refused { .. }
        | WebError::Unreachable { .. }
        | WebError::Tls { .. }
        | WebError::Broken { .. } => CallError::NoAnswer(error.to_string()),
    }
}

/// That a server takes no tensors as bytes, which it showed by this.
fn without_bytes(told: &str) -> CallError {
    CallError::Answer(format!(
        "it does not list the extension {BINARY}, without which tensors cannot be sent over HTTP: use grpc:// ({told})"
    ))
}

/// What an answer that is no success says.
fn told(status: StatusCode, body: &[u8]) -> String {
    match read_error(body) {
        Some(text) => format!("it answered {status} ({text})"),
        None => format!("it answered {status}"),
    }
}
