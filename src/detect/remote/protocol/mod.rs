//! The Open Inference Protocol, version 2: what is asked and what is answered, whatever carries it. [`grpc`] and [`http`] make
//! messages of it and read them; nothing in here has a socket. Any bytes that a server sends are safe: what is wrong with them is an
//! [`AnswerError`], and what is kept of them is bounded.

pub(super) mod grpc;
pub(super) mod http;
mod tensor;

use bytes::Bytes;

pub(super) use self::tensor::{Datatype, OutputTensor};
use crate::detect::manifest::Outlet;

/// The longest answer that is read. The outputs of the largest detectors have some 30 MB.
pub(super) const MAX_ANSWER_BYTES: usize = 48 << 20;

/// The longest answer to a question about a model.
pub(super) const MAX_METADATA_BYTES: usize = 1 << 20;

/// A model has at most so many inputs or outputs.
pub(super) const MAX_TENSORS: usize = 64;

/// A tensor has at most so many dimensions.
pub(super) const MAX_RANK: usize = 8;

/// An output has at most so many numbers.
pub(super) const MAX_NUMBERS: usize = 12 << 20;

/// Which model is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ModelName {
    pub(super) name: String,
    /// `None` leaves the choice to the server.
    pub(super) version: Option<String>,
}

/// What a server says that a model takes and gives.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Metadata {
    pub(super) inputs: Vec<Outlet>,
    pub(super) outputs: Vec<Outlet>,
}

/// An input of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InputTensor {
    pub(super) name: String,
    pub(super) datatype: Datatype,
    pub(super) shape: Vec<i64>,
    /// The elements, the last dimension contiguous, in little-endian order. An element of BYTES begins with its length in four bytes.
    pub(super) data: Bytes,
}

/// Why an answer of a server cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum AnswerError {
    /// The bytes are no message of the protocol.
    #[error("its answer is none of the protocol: {0}")]
    Malformed(String),
    /// An output that was asked for is not there.
    #[error("its answer has no output `{0}`")]
    Missing(String),
    /// A shape does not go with the data.
    #[error("its output `{name}` has the shape {shape:?}, and its data are {found}")]
    Data {
        name: String,
        shape: Vec<i64>,
        found: String,
    },
    /// A shape that no data can have.
    #[error("its output `{name}` has the shape {shape:?}, which no tensor can have")]
    Shape { name: String, shape: Vec<i64> },
    /// The elements are no numbers that a detector gives.
    #[error("its output `{name}` is {datatype}, of which no numbers can be made")]
    Datatype { name: String, datatype: String },
    /// There is more than is ever needed.
    #[error("its answer has more {what} than the {most} that are read")]
    TooMuch { what: &'static str, most: usize },
}

impl AnswerError {
    pub(super) fn malformed(reason: impl Into<String>) -> Self {
        Self::Malformed(reason.into())
    }
}
