//! The ledger's vocabulary: what can become of a frame and an event. Every one that comes in leaves through exactly one of
//! these or is counted as passed on. What can become of an access unit is said where units are decoded.

use twinsight_media::label_enum;

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
