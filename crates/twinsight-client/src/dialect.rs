//! Which of the official clients' names signals have.

use twinsight_media::label_enum;

label_enum! {
    /// Names of the signals.
    pub enum Dialect {
        /// As from the clients of version 6.
        Current = "current",
        /// As from the npm client of version 4.
        Legacy = "legacy",
    }
}
