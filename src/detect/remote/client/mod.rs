//! The connection to one server: questions about the model and requests for inference come in, answers or the reason why there is none
//! go out. Whoever asks runs it, on tokio's runtime.

mod grpc;
mod http;
mod speaks;

use std::path::Path;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use twinsight_client::hub::text::brief_without;
use twinsight_client::secret::Secret;
use twinsight_client::secret_file::read_small_file;

use self::grpc::GrpcClient;
use self::http::HttpClient;
use super::protocol::{AnswerError, InputTensor, Metadata, ModelName, OutputTensor};
use crate::config::{RemoteModelConfig, ServerProtocol, ServerUrl};
use crate::web_client::WebClient;

/// What the node calls itself.
const USER_AGENT: &str = concat!("twinsight/", env!("CARGO_PKG_VERSION"));

/// A connection is given up that is not there after this long.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// The longest file of certificates, in bytes, as for other clients.
const MAX_CA_FILE_BYTES: u64 = 1 << 20;

/// The connection to one server.
#[derive(Debug)]
pub(super) struct Client {
    url: ServerUrl,
    carrier: Carrier,
    model: ModelName,
    token: Mutex<Option<Secret>>,
}

#[derive(Debug)]
enum Carrier {
    Grpc(GrpcClient),
    Http(HttpClient),
}

/// Why a request has no result. The sentences begin with the server as "it".
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CallError {
    /// There was no answer in time.
    Deadline,
    /// The server has too much to do, and says so.
    Busy(String),
    /// The server says that it does not serve this model, or not us.
    Unavailable(String),
    /// The server was not reached, or the connection to it ended before there was an answer.
    NoAnswer(String),
    /// The server answered with another error, or with what cannot be used.
    Answer(String),
}

/// A request for inference.
#[derive(Debug, Clone, Copy)]
pub(super) struct InferRequest<'a> {
    pub(super) inputs: &'a [InputTensor],
    /// The names of the outputs that are wanted.
    pub(super) outputs: &'a [String],
    /// The longest answer that is read.
    pub(super) most_answer_bytes: usize,
    /// An answer that is not there by then is given up.
    pub(super) limit: Duration,
}

/// What Triton says when its queue for a model is full, with the code of a server that is not there.
const QUEUE_FULL: &str = "maximum queue size";

/// What the clients of one model have in common.
pub(super) struct Clients {
    web: WebClient,
    /// The certificates to trust beside the built-in roots, in PEM.
    certificates: Option<Vec<u8>>,
}

impl Clients {
    /// The error is a sentence.
    pub(super) fn new(config: &RemoteModelConfig) -> Result<Self, String> {
        let ca_file = config.ca_file.as_deref();
        // This reads the file as well, and says what is wrong with it.
        let web = WebClient::for_servers(ca_file, config.max_in_flight, CONNECT_LIMIT)
            .map_err(|error| error.to_string())?;
        let read = |file: &Path| {
            let pem = read_small_file(file, MAX_CA_FILE_BYTES);
            pem.map_err(|error| format!("{} cannot be used: {error}", file.display()))
        };
        Ok(Self {
            web,
            certificates: ca_file.map(read).transpose()?,
        })
    }

    /// A client of this server, which does not connect before it is asked. The error is a sentence.
    ///
    /// It is to be called within tokio's runtime.
    pub(super) fn client(
        &self,
        url: &ServerUrl,
        config: &RemoteModelConfig,
    ) -> Result<Client, String> {
        let carrier = match url.protocol {
            ServerProtocol::Grpc => {
                let certificates = self.certificates.as_deref();
                Carrier::Grpc(GrpcClient::new(url, certificates, config.deadline)?)
            }
            ServerProtocol::Http => Carrier::Http(HttpClient::new(url, self.web.clone())),
        };
        Ok(Client {
            url: url.clone(),
            carrier,
            model: ModelName {
                name: config.model.clone(),
                version: config.version.clone(),
            },
            token: Mutex::new(config.token.clone()),
        })
    }
}

impl Client {
    /// Asks whether the model is ready, and then what it takes and gives.
    pub(super) async fn ask(&self) -> Result<Metadata, CallError> {
        let token = self.token();
        let answer = match &self.carrier {
            Carrier::Grpc(client) => client.ask(&self.model, token.as_ref()).await,
            Carrier::Http(client) => client.ask(&self.model, token.as_ref()).await,
        };
        answer.map_err(|error| error.without(token.as_ref()))
    }

    /// Gives the reason why there was no answer, with what listens there if that is not what the address says. It takes a moment.
    pub(super) async fn explain(&self, reason: String) -> String {
        match speaks::hint(&self.url, &reason).await {
            Some(hint) => format!("{hint} ({reason})"),
            None => reason,
        }
    }

    /// Asks for inference, and gives the outputs in the order of their names. An answer that is there only after the limit counts as
    /// none, as that which a program finds that did not run for a while.
    pub(super) async fn infer(
        &self,
        request: &InferRequest<'_>,
    ) -> Result<Vec<OutputTensor>, CallError> {
        let token = self.token();
        let begun = Instant::now();
        let limit = request.limit;
        let asked = async {
            match &self.carrier {
                Carrier::Grpc(client) => client.infer(&self.model, request, token.as_ref()).await,
                Carrier::Http(client) => client.infer(&self.model, request, token.as_ref()).await,
            }
        };
        // Dropping what asks ends the request: its stream is cancelled, or its connection closed.
        let answer = tokio::time::timeout(limit, asked).await;
        let mut answer = answer.unwrap_or(Err(CallError::Deadline));
        if begun.elapsed() > limit {
            answer = Err(CallError::Deadline);
        }
        answer.map_err(|error| error.without(token.as_ref()))
    }

    /// Takes a new connection for what comes, since nothing is heard over the one that there is.
    pub(super) fn renew(&self) {
        if let Carrier::Grpc(client) = &self.carrier {
            client.renew();
        }
    }

    /// Takes the token that its file has now.
    pub(super) fn read_token_again(&self) {
        let mut token = self.token.lock();
        if let Some(rotated) = token.as_ref().and_then(Secret::rotated) {
            *token = Some(rotated);
        }
    }

    fn token(&self) -> Option<Secret> {
        self.token.lock().clone()
    }
}

impl CallError {
    /// The same without the token, which a server may repeat.
    fn without(self, token: Option<&Secret>) -> Self {
        match self {
            Self::Deadline => Self::Deadline,
            Self::Busy(reason) => Self::Busy(brief_without(&reason, token)),
            Self::Unavailable(reason) => Self::Unavailable(brief_without(&reason, token)),
            Self::NoAnswer(reason) => Self::NoAnswer(brief_without(&reason, token)),
            Self::Answer(reason) => Self::Answer(brief_without(&reason, token)),
        }
    }
}

impl From<AnswerError> for CallError {
    fn from(error: AnswerError) -> Self {
        Self::Answer(error.to_string())
    }
}

/// The value of the header that carries a token; `None` for one that no header can carry.
fn authorization<T: for<'a> TryFrom<&'a str>>(token: Option<&Secret>) -> Option<T> {
    let token = token?;
    T::try_from(format!("Bearer {}", token.expose()).as_str()).ok()
}
