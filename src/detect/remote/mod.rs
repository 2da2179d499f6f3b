//! Models that run on inference servers of the Open Inference Protocol (KServe's version 2): the configuration of a model and its
//! manifest come in, and a [`RemoteModel`] goes out, whose detectors are used like those of this machine. Tasks on tokio's runtime
//! watch the servers; requests run on the threads of the workers that make them.

mod client;
mod detector;
mod facts;
mod fit;
mod limit;
mod model;
mod protocol;
mod servers;
mod shapers;
mod told;
mod watch;

pub(crate) use self::facts::{Availability, RemoteFacts};
pub(crate) use self::model::RemoteModel;

#[cfg(test)]
mod tests;
