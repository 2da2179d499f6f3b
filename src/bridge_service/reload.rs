//! How a bridge follows its file. Texts of the file come in; each that can be used as a whole becomes the cameras that are bridged, and
//! what is wrong is logged once, while the last good one stays. It is one task, which ends first when the program stops.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::signal::unix::Signal;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::bridge::{BridgeChanges, Bridges};
use crate::config::{Config, ConfigSource};
use crate::node::reload::{LOOK_EVERY, RETRY_EVERY, WatchedFile, next_hangup, read_again};
use crate::telemetry::metrics::Metrics;

/// Why the file is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trigger {
    /// Somebody asked for it, by SIGHUP.
    Asked,
    /// Its text changed.
    File,
    /// It was refused some time ago, and may be good by now.
    Retry,
}

pub(super) struct BridgeReload {
    bridges: Arc<Mutex<Bridges>>,
    metrics: Arc<Metrics>,
    /// The configuration that the program was started with. Some of its keys hold until a restart.
    started: Config,
    /// The file that is in force.
    good: ConfigSource,
    file: WatchedFile,
    /// What is wrong, and was logged already.
    error: Option<String>,
    /// Keys that were logged to need a restart.
    said: Vec<&'static str>,
}

impl BridgeReload {
    pub(super) fn new(
        source: ConfigSource,
        started: Config,
        bridges: Arc<Mutex<Bridges>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            bridges,
            metrics,
            started,
            file: WatchedFile::new(Ok(source.clone())),
            good: source,
            error: None,
            said: Vec::new(),
        }
    }

    pub(super) async fn run(mut self, mut hangup: Option<Signal>, stop: CancellationToken) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // What was refused may become good by itself, when a secret's file was written meanwhile.
        let mut retry = tokio::time::interval(RETRY_EVERY);
        retry.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let is_watched = self.good.path().is_some();
        loop {
            let trigger = tokio::select! {
                () = stop.cancelled() => return,
                () = next_hangup(&mut hangup) => Trigger::Asked,
                _ = look.tick(), if is_watched => Trigger::File,
                _ = retry.tick(), if self.error.is_some() => Trigger::Retry,
            };
            // A file system that hangs must not hold up the program's end. What is being applied is applied to its end.
            let is_new = tokio::select! {
                () = stop.cancelled() => return,
                is_new = self.look(trigger) => is_new,
            };
            if is_new {
                self.take(trigger).await;
            }
        }
    }

    /// Reads the file if that is the reason. False means that there is nothing to take.
    async fn look(&mut self, trigger: Trigger) -> bool {
        match trigger {
            Trigger::Asked => self.file = WatchedFile::new(read_again(&self.good).await),
            Trigger::File => {
                let now = read_again(&self.good).await;
                return self.file.look(now);
            }
            Trigger::Retry => {}
        }
        true
    }

    async fn take(&mut self, trigger: Trigger) {
        match self.resolved() {
            Ok((source, config)) => {
                self.error = None;
                self.good = source;
                self.apply(trigger, config).await;
                self.metrics.config_reloaded(true, SystemTime::now());
            }
            Err(reason) => {
                // A file that stays wrong in the same way is logged once.
                if trigger == Trigger::Asked || self.error.as_ref() != Some(&reason) {
                    tracing::error!(%reason, "the configuration was refused, and the last good one stays");
                }
                self.error = Some(reason);
                self.metrics.config_reloaded(false, SystemTime::now());
            }
        }
    }

    fn resolved(&self) -> Result<(ConfigSource, Config), String> {
        let source = self.file.seen.clone()?;
        if source.is_empty() && !self.good.is_empty() {
            return Err(source.emptied().to_string());
        }
        match source.resolve_for_bridge() {
            Ok(config) => Ok((source, config)),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn apply(&mut self, trigger: Trigger, config: Config) {
        let keys = config.keys_for_a_restart(&self.started);
        if !keys.is_empty() && (keys != self.said || trigger == Trigger::Asked) {
            tracing::warn!(
                keys = keys.join(", "),
                "these keys hold until a restart: restart the program for them"
            );
        }
        self.said = keys;
        let changes = self.bridges.lock().await.apply(&config.cameras).await;
        let BridgeChanges {
            added,
            restarted,
            removed,
        } = changes;
        if changes == BridgeChanges::default() {
            tracing::info!("the configuration was read again, and no camera changes");
        } else {
            tracing::info!(
                added,
                restarted,
                removed,
                "the cameras are as configured now"
            );
        }
    }
}
