//! SIGTERM and SIGINT: the first asks a command for a graceful stop, the second ends it.

use std::time::Duration;

use anyhow::Result;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::LAST_WORDS_LIMIT;
use crate::telemetry::logging;

/// Exit code of a command that had to be ended by force.
const FORCED: i32 = 1;

/// A command that has not ended so long after the first signal is ended by force. Something of it hangs then, as a
/// write to a terminal that nobody reads does.
const FORCE_AFTER: Duration = Duration::from_secs(6);

/// A command has this long to end after the second signal.
const FORCE_AFTER_SECOND: Duration = Duration::from_secs(1);

/// The signals that ask a command to stop.
pub(super) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Takes the signals from now on, and ends the process by force if the command does not follow them.
    pub(super) fn new() -> Result<Self> {
        let mut signals = Self::listen()?;
        // This is a task of its own because the one that runs the command may be in a write that never ends.
        tokio::spawn(async move {
            signals.next().await;
            tokio::select! {
                () = tokio::time::sleep(FORCE_AFTER) => {}
                () = async {
                    signals.next().await;
                    tokio::time::sleep(FORCE_AFTER_SECOND).await;
                } => {}
            }
            logging::last_words("twinsight: ended by force, since it did not stop");
            logging::flush(LAST_WORDS_LIMIT);
            std::process::exit(FORCED);
        });
        Self::listen()
    }

    fn listen() -> Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next of the signals.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
