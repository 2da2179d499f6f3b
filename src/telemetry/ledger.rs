//! The ledger's vocabulary: what can become of a frame and an event. Every one that comes in leaves through exactly one of
//! these or is counted as passed on. What can become of an access unit is said where units are decoded.

use twinsight_media::label_enum;
pub use twinsight_media::ledger::{ShedLevel, UnitDrop};

label_enum! {
    /// Why a decoded frame was not inferred.
    pub enum FrameDrop {
        /// A newer frame took its place while its camera was due.
        Replaced = "replaced",
        /// A newer frame took its place while its camera was not yet due by `max_fps`.
        RateLimited = "rate_limited",
        /// Older than `max_age_ms` when inference could have begun.
        Stale = "stale",
        /// Inference failed.
        InferenceFailed = "inference_failed",
        /// The camera was removed.
        CameraRemoved = "camera_removed",
        /// The node stopped.
        Shutdown = "shutdown",
    }
}

label_enum! {
    /// Why an inferred frame's event was not published.
    pub enum EventDrop {
        /// The hub was away.
        HubDisconnected = "hub_disconnected",
        /// A newer event took its place in the outbox.
        OutboxFull = "outbox_full",
        /// Nothing was seen and `emit_empty` is off.
        Suppressed = "suppressed",
        /// It could not be handed on: a bug.
        Failed = "failed",
    }
}

label_enum! {
    /// A stage of the path; `total` of an event is the sum of all.
    pub enum Stage {
        /// First packet to complete access unit.
        Receive = "receive",
        /// Complete access unit to picture, waiting for the decoder included.
        Decode = "decode",
        /// Picture to the start of preprocessing.
        Wait = "wait",
        /// Planes to tensor.
        Preprocess = "preprocess",
        /// The session's run.
        Inference = "inference",
        /// Raw outputs to objects.
        Postprocess = "postprocess",
        /// Objects to the socket.
        Publish = "publish",
    }
}

label_enum! {
    /// Work on a thread of ours, whose processor time is counted.
    pub enum Work {
        /// On the decode thread, whatever is not decoding: arrivals put in order, access units made of them, frames
        /// handed on.
        Depacketize = "depacketize",
        /// Access unit to picture, in the decoder's memory.
        Decode = "decode",
        /// The picture out of the decoder's memory.
        Copy = "copy",
        /// Planes to tensor.
        Preprocess = "preprocess",
        /// The session's run, as far as the worker's own thread does it.
        Inference = "inference",
        /// Raw outputs to objects.
        Postprocess = "postprocess",
    }
}

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
    /// How a model is.
    pub enum ModelState {
        /// Its runs give results.
        Working = "working",
        /// Its runs end and give none: the cameras that use it are blind.
        Failing = "failing",
        /// It hung, panicked or could not be loaded: its cameras' frames are dropped until it is tried again.
        SetAside = "set_aside",
        /// It was set aside, and the next frame is tried.
        Probing = "probing",
    }
}
