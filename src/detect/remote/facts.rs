//! What the API tells of a model that runs on servers.

use serde::Serialize;

/// What is known of a remote model now.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RemoteFacts {
    /// `grpc` or `http`.
    pub(crate) protocol: &'static str,
    /// The servers in the order of the configuration.
    pub(crate) servers: Vec<ServerFacts>,
    /// What is sent for a frame; `None` before any server said what it takes.
    pub(crate) input: Option<InputFacts>,
    /// How many requests may be under way at once, as it was measured.
    pub(crate) slots: usize,
    /// How many are under way.
    pub(crate) in_flight: usize,
}

/// A server of a remote model.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServerFacts {
    /// As the configuration has it, with its port.
    pub(crate) url: String,
    /// `ready` or `away`.
    pub(crate) state: &'static str,
    /// Why no requests go to it, while it is away.
    pub(crate) reason: Option<String>,
    /// How many requests to it are under way.
    pub(crate) in_flight: usize,
    /// How long its answers take, in milliseconds; `None` before the first.
    pub(crate) latency_ms: Option<f64>,
}

/// What is sent for a frame.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InputFacts {
    /// The protocol's name of the type of its elements, such as `FP32`.
    pub(crate) datatype: &'static str,
    /// The shape of the tensor.
    pub(crate) shape: Vec<i64>,
    /// What the numbers are, for people.
    pub(crate) form: &'static str,
    /// Bytes of tensors for a frame. Of a JPEG they are the last one's, 0 before it.
    pub(crate) frame_bytes: usize,
}

/// Whether frames of a remote model can be inferred.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Availability {
    /// There is a server that takes requests.
    Ready,
    /// No server can be used.
    Away {
        /// What is wrong with which server.
        reason: String,
    },
}
