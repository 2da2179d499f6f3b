//! Labels of what is counted once for the node.

use twinsight_media::label_enum;

label_enum! {
    /// Why the HTTP server closed a connection before its end.
    pub enum ConnectionEnd {
        /// A request did not come whole in time.
        Request = "request",
        /// No further request came in time.
        Idle = "idle",
        /// Its client did not take the answer in time.
        Answer = "answer",
        /// There were as many connections as there may be, and a new one took its place.
        Replaced = "replaced",
    }
}

label_enum! {
    /// What became of a picture for somebody who looks at the node.
    pub enum PreviewResult {
        /// It was encoded.
        Encoded = "encoded",
        /// A watcher waited for it, and the encoder had no time before a newer frame came.
        EncoderBusy = "encoder_busy",
        /// It was a watcher's turn, and the watcher was still busy with the one before.
        WatcherBusy = "watcher_busy",
        /// It could not be encoded.
        Failed = "failed",
    }
}
