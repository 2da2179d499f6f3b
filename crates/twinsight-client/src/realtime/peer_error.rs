//! Why a peer connection cannot do what it is asked to: errors of the stack and of the other side's texts come in, what the
//! log and the link say of them goes out.

use super::candidate::MAX_CANDIDATES;
use super::normalise::Unusable;
use super::rtp_track::TrackKind;
use super::sdp::SdpError;
use crate::os_error::explain_io;

/// Why a peer could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The other side's description or candidate is not usable.
    #[error("the other side's {what} cannot be used: {source}")]
    Remote {
        /// Which input it was.
        what: &'static str,
        /// What the stack says.
        source: rtc::shared::error::Error,
    },
    /// The other side's description lacks what a connection needs.
    #[error("the other side's description cannot be used: {0}")]
    Unusable(#[from] Unusable),
    /// The other side's candidate is not of the grammar's form.
    #[error("the other side's candidate cannot be used: it is no candidate of RFC 8839")]
    Candidate,
    /// The other side has sent more candidates than a connection accepts.
    #[error("the other side has sent more than {MAX_CANDIDATES} candidates: the rest is left out")]
    TooManyCandidates,
    /// Our own description cannot be read.
    #[error(
        "the description that was made here cannot be read ({0}): this is a bug, please report it"
    )]
    Own(#[from] SdpError),
    /// The connection could not be set up here.
    #[error("cannot {what}: {source}")]
    Local {
        /// What was tried.
        what: &'static str,
        /// What the stack says.
        source: rtc::shared::error::Error,
    },
    /// The system grants no socket.
    #[error("cannot bind a socket for media: {}", explain_io(.0))]
    Bind(#[from] std::io::Error),
    /// The stack panicked over the other side's text.
    #[error("the other side's text broke the WebRTC stack: this is a bug, please report it")]
    Stack,
    /// The description has no section with a codec that both sides know.
    #[error(
        "the other side's description has no {wanted} that both sides know (of H.264 not packetization-mode=2)"
    )]
    NoCodec {
        /// What was looked for.
        wanted: String,
    },
    /// The other side takes no track of ours of this kind.
    #[error("the other side takes no {0} as this side sends it (H.264, Opus)")]
    NotTaken(TrackKind),
    /// The description has no section for data channels.
    #[error("the other side's description has no data channels")]
    NoDataChannels,
}
