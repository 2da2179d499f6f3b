//! What the client counts, and to whom it tells it. The node's metrics are such a sink; a program that gives none has the
//! counts of its own handles.

use std::fmt;

use twinsight_media::label_enum;
use twinsight_media::ledger::LedgerSink;

label_enum! {
    /// A camera stream's life.
    pub enum CameraState {
        /// An attempt is under way.
        Connecting = "connecting",
        /// Frames come.
        Receiving = "receiving",
        /// Frames came, and none has for 5 s.
        Stalled = "stalled",
        /// Attempts go unanswered or fail.
        Unreachable = "unreachable",
        /// The camera's side said no, or offers what cannot be used.
        Rejected = "rejected",
        /// No longer configured.
        Removed = "removed",
    }
}

label_enum! {
    /// Input from the network that broke its format's rules.
    pub enum Malformed {
        /// Engine.IO, Socket.IO or a message's JSON.
        HubMessage = "hub_message",
        /// A session description.
        Sdp = "sdp",
        /// An ICE candidate.
        Candidate = "candidate",
        /// An RTP or RTCP packet.
        Rtp = "rtp",
        /// A payload of H.264.
        H264 = "h264",
        /// A payload of VP8.
        Vp8 = "vp8",
    }
}

label_enum! {
    /// Why an RTP packet that a peer sent was not used.
    pub enum PacketRefusal {
        /// Its payload type was not agreed on.
        NotAgreed = "not_agreed",
        /// It is of another source than the one that is taken, or of one that has not sent two packets in sequence.
        OtherSource = "other_source",
        /// Its connection has had too many sources.
        TooManySources = "too_many_sources",
    }
}

label_enum! {
    /// Why a signal was refused.
    pub enum SignalRefusal {
        /// From a twin that is not configured.
        UnknownTwin = "unknown_twin",
        /// For a stream that is not configured.
        UnknownStream = "unknown_stream",
        /// Signed with the node's own twin, and `allow_unsigned` is off.
        Unsigned = "unsigned",
        /// With another `peerId` than the session's.
        PeerId = "peer_id",
        /// A mailbox or a buffer of early candidates was full.
        Overflow = "overflow",
        /// A signal that the state of the session has no use for.
        Unexpected = "unexpected",
    }
}

label_enum! {
    /// Why the hub could not be joined, or went.
    pub enum HubLoss {
        /// The socket could not be opened, or broke.
        Socket = "socket",
        /// The hub's certificate is not trusted, or `ca_file` cannot be used.
        Certificate = "certificate",
        /// The hub refused the device id and access key.
        Key = "key",
        /// The hub answered a step of joining with an error.
        Rejected = "rejected",
        /// The hub did not answer in time, or takes no more data.
        Silent = "silent",
        /// The hub closed the connection.
        Closed = "closed",
    }
}

/// Is told what a hub client and its connections see. It must not wait.
pub trait ClientSink: fmt::Debug + Send + Sync {
    /// The hub was joined (`again`: not for the first time), or is gone.
    fn hub_connected(&self, connected: bool, again: bool);
    /// An attempt to join the hub failed, or a connection to it ended that was not closed here.
    fn hub_lost(&self, reason: HubLoss);
    /// A message came that is signed with our own twin, and that we did not send.
    fn twin_id_conflict(&self);
    /// A signal was refused.
    fn signal_refused(&self, reason: SignalRefusal);
    /// Something that came from the network broke the rules of its format.
    fn malformed_input(&self, kind: Malformed);
    /// So many RTP packets came and were not used.
    fn rtp_packets_refused(&self, reason: PacketRefusal, count: u64);
}

/// Is told what becomes of one stream. It must not wait.
pub trait StreamSink: LedgerSink {
    /// The stream is in another state.
    fn state(&self, state: CameraState);
    /// A keyframe was asked for (a picture loss indication went out).
    fn keyframe_requested(&self);
    /// An attempt to connect began that is not the first.
    fn reconnecting(&self);
}
