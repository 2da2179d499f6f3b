//! The words of the ledger: what can become of a frame and of an event. Each that comes in is passed on, or it is dropped for
//! exactly one of these reasons. What can become of an access unit is said where units are decoded.

use twinsight_media::label_enum;

label_enum! {
    /// Why a decoded frame was not inferred.
    pub enum FrameDrop {
        /// A newer frame took its place while its camera was due.
        Replaced = "replaced",
        /// A newer frame took its place while its camera was not yet due by `max_fps`.
        RateLimited = "rate_limited",
        /// Older than `max_age_ms` when inference could have begun, or sent again of what has been before.
        Stale = "stale",
        /// Its picture did not differ from the last one that was inferred.
        Unchanged = "unchanged",
        /// Its inference gave no result.
        InferenceFailed = "inference_failed",
        /// Its camera was removed while it waited.
        CameraRemoved = "camera_removed",
        /// The node stopped while it waited.
        Shutdown = "shutdown",
    }
}

label_enum! {
    /// Why an inferred frame's event was not published, by the hub or by a sink beside it.
    pub enum EventDrop {
        /// The hub was away when it was to be written.
        HubDisconnected = "hub_disconnected",
        /// A newer event took its place in the outbox.
        OutboxFull = "outbox_full",
        /// Nothing was seen and `emit_empty` is off, or the camera has `detections = "none"`.
        Suppressed = "suppressed",
        /// Its camera is another node's of the pool, or it is not sure that it is this one's.
        NotHeld = "not_held",
        /// It could not be handed on, which is a bug.
        Failed = "failed",
        /// The sink that it was for is not reached.
        SinkUnreachable = "sink_unreachable",
        /// It was too old when the sink could have taken it.
        Stale = "stale",
        /// The sink does not want it.
        Refused = "refused",
    }
}

impl EventDrop {
    /// The reasons why the hub may not get an event. They are the first ones; the others are of sinks alone.
    pub const OF_HUB: &'static [Self] = Self::ALL.split_at(Self::Failed as usize + 1).0;
}

label_enum! {
    /// A stage of the path. The `total` of an event's latency is the sum of all.
    pub enum Stage {
        /// From the first packet to the complete access unit.
        Receive = "receive",
        /// From the complete access unit to the picture. It includes waiting for the decoder.
        Decode = "decode",
        /// From the picture to the start of preprocessing.
        Wait = "wait",
        /// From the picture's planes to the tensor.
        Preprocess = "preprocess",
        /// The run of the model.
        Inference = "inference",
        /// From the model's outputs to objects.
        Postprocess = "postprocess",
        /// From the objects to the socket.
        Publish = "publish",
    }
}

label_enum! {
    /// A kind of work whose processor time is counted.
    pub enum Work {
        /// What the decoding thread does besides decoding: it puts packets in order, makes access units of them and hands
        /// frames on.
        Depacketize = "depacketize",
        /// From the access unit to the picture in the decoder's memory.
        Decode = "decode",
        /// Copying the picture out of the decoder's memory.
        Copy = "copy",
        /// From the picture's planes to the tensor.
        Preprocess = "preprocess",
        /// The run of the model, as far as the worker's own thread does it.
        Inference = "inference",
        /// From the model's outputs to objects.
        Postprocess = "postprocess",
    }
}

label_enum! {
    /// How a model is.
    pub enum ModelState {
        /// Its runs give results.
        Working = "working",
        /// Its runs end without results, so that the cameras that use it are blind.
        Failing = "failing",
        /// It hung, panicked or could not be loaded. Frames of its cameras are dropped until it is tried again.
        SetAside = "set_aside",
        /// It was set aside, and the next frame tries it.
        Probing = "probing",
        /// It runs on servers, and none of them can be used.
        Away = "away",
    }
}

label_enum! {
    /// Why the inference of a frame gave no result.
    pub enum InferenceFailure {
        /// The run gave an error, or results that no detector gives.
        Run = "run",
        /// The run hung or panicked, or there was no detector for it.
        Worker = "worker",
        /// The server had not answered by the deadline.
        Deadline = "deadline",
        /// No server could be reached, or none has the model ready.
        Unavailable = "unavailable",
        /// The server answered with an error, or with what does not fit the manifest.
        Answer = "answer",
    }
}
