//! Why there is no answer. An error of the HTTP client comes in with those that caused it; which of a few cases it is goes out, as
//! a sentence for whoever wrote the address.

use std::error::Error;
use std::io;
use std::time::Duration;

use axum::http::StatusCode;
use twinsight_client::hub::text::brief;
use twinsight_client::os_error::{explain_io, is_out_of_files};
use twinsight_client::tls::CaFileError;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum WebClientError {
    /// The file of certificates cannot be used.
    #[error(transparent)]
    CaFile(#[from] CaFileError),
}

/// Why there is no answer. `server` is the scheme, the host and the port of the address: neither who asks nor what for.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// The address is none of the web.
    #[error(
        "the address is not one that can be asked: it begins with http:// or https:// and names a host"
    )]
    Address,
    /// No name server knows the host.
    #[error(
        "the name of {server} does not resolve ({reason}): correct it, or see to the name server"
    )]
    Name {
        /// Who was to be asked.
        server: String,
        /// What the resolver said.
        reason: String,
    },
    /// The host is there, and nothing listens on the port.
    #[error("{server} refuses connections: nothing listens there, or a firewall says no")]
    Refused {
        /// Who was asked.
        server: String,
    },
    /// There is no way to the host.
    #[error("{server} cannot be reached ({reason})")]
    Unreachable {
        /// Who was to be asked.
        server: String,
        /// What the system said.
        reason: String,
    },
    /// The certificate is not trusted, or the server speaks no TLS.
    #[error(
        "TLS was not agreed on with {server} ({reason}): name the authority of its certificate in the file of certificates to trust, set the clock, or see that it speaks TLS there"
    )]
    Tls {
        /// Who was asked.
        server: String,
        /// What is wrong, as rustls says it.
        reason: String,
    },
    /// The answer, or its end, did not come in time.
    #[error("{server} did not answer within {} s", limit.as_secs_f64())]
    TimedOut {
        /// Who was asked.
        server: String,
        /// How long it had.
        limit: Duration,
    },
    /// The connection ended before there was an answer, or the answer is no HTTP.
    #[error("the connection to {server} broke off before it had answered ({reason})")]
    Broken {
        /// Who was asked.
        server: String,
        /// What was the matter with the connection.
        reason: String,
    },
    /// The server answered, and the body of its answer is too long or has no end.
    #[error("{server} answered {status}, and the answer is {reason}")]
    Unread {
        /// Who was asked.
        server: String,
        /// The status of its answer.
        status: StatusCode,
        /// What is wrong with the body.
        reason: String,
    },
}

impl WebError {
    /// What an error of the client means that came in place of an answer.
    pub(super) fn without_answer(server: &str, error: &hyper_util::client::legacy::Error) -> Self {
        let server = server.to_owned();
        let causes = causes(error);
        let reason = innermost_cause(error);
        if causes.iter().any(|cause| cause.is::<rustls::Error>()) {
            return Self::Tls { server, reason };
        }
        if !error.is_connect() {
            return Self::Broken { server, reason };
        }
        // The client's own type of this error is private, and its text is all that tells it from others.
        if causes.iter().any(|cause| cause.to_string() == "dns error") {
            return Self::Name { server, reason };
        }
        let is_refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
        match causes
            .iter()
            .any(|cause| cause.downcast_ref().is_some_and(is_refused))
        {
            true => Self::Refused { server },
            false => Self::Unreachable { server, reason },
        }
    }
}

/// An error with those that caused it, the innermost last. An error of the system that only wraps another hides it from
/// `source`, so these are unwrapped.
pub(super) fn causes<'a>(error: &'a (dyn Error + 'static)) -> Vec<&'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        let wrapped = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        match wrapped {
            Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
    .collect()
}

/// What the innermost cause says, since those around it only say what was being done.
pub(crate) fn innermost_cause(error: &(dyn Error + 'static)) -> String {
    let causes = causes(error);
    let innermost = causes
        .last()
        .expect("there is one, because the error is its own first cause");
    match innermost.downcast_ref::<io::Error>() {
        Some(error) if is_out_of_files(error) => explain_io(error),
        _ => brief(&innermost.to_string()),
    }
}
