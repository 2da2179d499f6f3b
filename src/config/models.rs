//! Checks `[models]`: which models run on a server of the Open Inference Protocol, and how it is reached. A model without a section
//! here runs on this machine.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::file::File;
use super::resolve::Resolver;
use twinsight_client::secret::Secret;

/// A model that runs on a server of the Open Inference Protocol (KServe's version 2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteModelConfig {
    /// The name by which cameras ask for it.
    pub name: String,
    /// The manifest in the models folder that says what it takes and gives, by its name.
    pub manifest: String,
    /// The servers that have it. There is at least one, no two are the same, and all have the same scheme.
    pub servers: Vec<ServerUrl>,
    /// What the servers call it.
    pub model: String,
    /// Its version on the servers. `None` leaves the choice to them.
    pub version: Option<String>,
    /// A request that is not answered by then is given up, and its frame with it.
    pub deadline: Duration,
    /// The most requests that may be under way at once.
    pub max_in_flight: usize,
    /// A model of this machine that takes its place while no server can be used. It has the same labels.
    pub fallback: Option<String>,
    /// Certificates to trust beside the built-in roots.
    pub ca_file: Option<PathBuf>,
    /// What the servers ask for as `Authorization: Bearer`.
    pub token: Option<Secret>,
}

/// The address of an inference server. It never holds credentials.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerUrl {
    /// What it speaks.
    pub protocol: ServerProtocol,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// Its name or address, of IP version 6 in brackets, and its port.
    pub authority: String,
    /// What stands before `/v2` in the paths of HTTP, without a slash at its end; empty for gRPC.
    pub path: String,
}

/// By what the messages of the protocol are carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServerProtocol {
    /// gRPC, with tensors as raw bytes.
    Grpc,
    /// HTTP, with tensors as raw bytes by the binary extension.
    Http,
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match (self.protocol, self.tls) {
            (ServerProtocol::Grpc, false) => "grpc",
            (ServerProtocol::Grpc, true) => "grpcs",
            (ServerProtocol::Http, false) => "http",
            (ServerProtocol::Http, true) => "https",
        };
        write!(f, "{scheme}://{}{}", self.authority, self.path)
    }
}

impl Resolver<'_> {
    pub(super) fn models(&self, _file: &File) -> Vec<RemoteModelConfig> {
        Vec::new()
    }
}
