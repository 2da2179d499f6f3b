//! The protocol over gRPC: one connection of HTTP/2 that all requests to a server share.

use std::marker::PhantomData;
use std::time::Duration;

use axum::http::uri::PathAndQuery;
use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use prost::Message;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};
use twinsight_client::secret::Secret;

use super::super::protocol::grpc::{
    MODEL_INFER, MODEL_METADATA, MODEL_READY, ModelInferRequest, ModelRequest, read_metadata,
    read_outputs, read_ready,
};
use super::super::protocol::{MAX_METADATA_BYTES, Metadata, ModelName, OutputTensor};
use super::{CONNECT_LIMIT, CallError, InferRequest, QUEUE_FULL, USER_AGENT};
use crate::config::ServerUrl;
use crate::web_client::innermost_cause;

/// A connection over which nothing comes for this long while requests are under way is asked for a sign of life, and given up if there
/// is none for as long again.
const SILENCE: Duration = Duration::from_secs(2);

/// How many bytes of answers may be on their way before we have read any. The default is 64 KB, with which a large output would take
/// several round trips.
const WINDOW_BYTES: u32 = 4 << 20;

/// The client of one server.
#[derive(Debug)]
pub(super) struct GrpcClient {
    endpoint: Box<Endpoint>,
    channel: Mutex<Channel>,
}

impl GrpcClient {
    /// The error is a sentence. It is to be called within tokio's runtime.
    pub(super) fn new(
        url: &ServerUrl,
        certificates: Option<&[u8]>,
        deadline: Duration,
    ) -> Result<Self, String> {
        let scheme = if url.tls { "https" } else { "http" };
        let wrong = |error: tonic::transport::Error| {
            format!(
                "{url} cannot be used ({}): correct it",
                innermost_cause(&error)
            )
        };
        // Servers close connections that ask for signs of life more often than there are answers.
        let silence = SILENCE.max(deadline / 2);
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{}", url.authority))
            .and_then(|endpoint| endpoint.user_agent(USER_AGENT))
            .map_err(wrong)?
            .connect_timeout(CONNECT_LIMIT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(silence)
            .keep_alive_timeout(SILENCE)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(2 * WINDOW_BYTES);
        if url.tls {
            let mut tls = ClientTlsConfig::new().with_webpki_roots();
            if let Some(certificates) = certificates {
                tls = tls.ca_certificate(Certificate::from_pem(certificates));
            }
            endpoint = endpoint.tls_config(tls).map_err(wrong)?;
        }
        let channel = Mutex::new(endpoint.connect_lazy());
        Ok(Self {
            endpoint: Box::new(endpoint),
            channel,
        })
    }

    /// Lets go of the connection. It is to be called within tokio's runtime.
    pub(super) fn renew(&self) {
        *self.channel.lock() = self.endpoint.connect_lazy();
    }

    pub(super) async fn ask(
        &self,
        model: &ModelName,
        token: Option<&Secret>,
    ) -> Result<Metadata, CallError> {
        let request = ModelRequest::of(model);
        let answer = self
            .call(MODEL_READY, request.clone(), token, MAX_METADATA_BYTES)
            .await?;
        if !read_ready(answer)? {
            let reason = format!("it does not have the model `{}` ready", model.name);
            return Err(CallError::Unavailable(reason));
        }
        let answer = self
            .call(MODEL_METADATA, request, token, MAX_METADATA_BYTES)
            .await?;
        Ok(read_metadata(answer)?)
    }

    pub(super) async fn infer(
        &self,
        model: &ModelName,
        request: &InferRequest<'_>,
        token: Option<&Secret>,
    ) -> Result<Vec<OutputTensor>, CallError> {
        let message = ModelInferRequest::new(model, request.inputs, request.outputs);
        let answer = self
            .call(MODEL_INFER, message, token, request.most_answer_bytes)
            .await?;
        Ok(read_outputs(answer, request.outputs)?)
    }

    async fn call<M: Message + 'static>(
        &self,
        method: &'static str,
        message: M,
        token: Option<&Secret>,
        most_bytes: usize,
    ) -> Result<Bytes, CallError> {
        let channel = self.channel.lock().clone();
        let mut grpc = Grpc::new(channel)
            .max_decoding_message_size(most_bytes)
            .max_encoding_message_size(usize::MAX);
        let mut request = Request::new(message);
        if let Some(mut value) = super::authorization::<MetadataValue<_>>(token) {
            value.set_sensitive(true);
            request.metadata_mut().insert("authorization", value);
        }
        let ready = grpc.ready().await;
        ready.map_err(|error| unreachable(&error))?;
        let answer = grpc
            .unary(
                request,
                PathAndQuery::from_static(method),
                RawCodec(PhantomData),
            )
            .await;
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| refusal(&status))
    }
}

fn unreachable(error: &(dyn std::error::Error + 'static)) -> CallError {
    CallError::NoAnswer(format!("it is not reached ({})", innermost_cause(error)))
}

/// What an answer that is an error means.
fn refusal(status: &Status) -> CallError {
    // A server's own status has no cause; one that tonic makes of a connection that failed does.
    if let Some(cause) = std::error::Error::source(status)
        && status.code() != Code::DeadlineExceeded
        && status.code() != Code::OutOfRange
    {
        return unreachable(cause);
    }
    let told = format!("it answered {:?} ({})", status.code(), status.message());
    match status.code() {
        Code::DeadlineExceeded => CallError::Deadline,
        Code::ResourceExhausted if is_too_long(status.message()) => CallError::Answer(format!(
            "{told}: raise the limit for messages of the server or of the proxy before it, or serve a model that takes UINT8"
        )),
        Code::ResourceExhausted => CallError::Busy(told),
        Code::Unavailable if status.message().contains(QUEUE_FULL) => CallError::Busy(told),
        Code::Unavailable
        | Code::Unauthenticated
        | Code::PermissionDenied
        | Code::NotFound
        | Code::Unimplemented
        | Code::Aborted
        | Code::Cancelled => CallError::Unavailable(told),
        _ => CallError::Answer(told),
    }
}

/// Whether a server that says that something is exhausted means its limit for the length of a message, for which gRPC has no code of its
/// own. These are the words of gRPC in C++, Python, Go and JavaScript, in Java and in .NET.
fn is_too_long(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    let words = [
        "message larger than max",
        "message exceeds maximum size",
        "message exceeds the maximum",
    ];
    words.iter().any(|words| message.contains(words))
}

/// Writes messages of prost, and gives answers as the bytes that they are.
struct RawCodec<M>(PhantomData<M>);

impl<M: Message + 'static> Codec for RawCodec<M> {
    type Encode = M;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = RawDecoder;

    fn encoder(&mut self) -> Self {
        Self(PhantomData)
    }

    fn decoder(&mut self) -> RawDecoder {
        RawDecoder
    }
}

impl<M: Message + 'static> Encoder for RawCodec<M> {
    type Item = M;
    type Error = Status;

    fn encode(&mut self, message: M, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        // A tensor has megabytes, so that the buffer should not grow step by step.
        buffer.reserve(message.encoded_len());
        message
            .encode(buffer)
            .map_err(|error| Status::internal(error.to_string()))
    }
}

struct RawDecoder;

impl Decoder for RawDecoder {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_is_too_long_is_told_from_a_server_that_has_too_much_to_do() {
        for text in [
            "SERVER: Received message larger than max (4915321 vs. 4194304)",
            "grpc: received message larger than max (4915321 vs. 4194304)",
            "gRPC message exceeds maximum size 4194304: 4915321",
            "Received message exceeds the maximum configured message size.",
        ] {
            let error = refusal(&Status::resource_exhausted(text));
            let CallError::Answer(reason) = error else {
                panic!("{error:?}");
            };
            assert!(reason.contains(text), "{reason}");
            assert!(reason.contains("raise the limit for messages"), "{reason}");
        }
        for text in ["too many requests", "quota exceeded"] {
            let error = refusal(&Status::resource_exhausted(text));
            assert!(matches!(error, CallError::Busy(_)), "{error:?}");
        }
    }
}
