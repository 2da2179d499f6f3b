//! How the configuration changes while the node runs. The file, which is watched and read again at SIGHUP, and the settings of
//! the node's twin come in. Each change becomes a configuration and is applied as a whole; what is wrong with it is logged
//! once, and the last good configuration stays. It is one task, which ends first when the node stops.
//!
//! If a change needs models that are not loaded, they are loaded beside the task, one load at a time. Meanwhile everything is
//! applied that needs none of them. When they are there, the newest file and settings are looked at again, whatever asked
//! for the models.
//!
//! The file is watched by reading it twice a second and comparing its text. That works for whatever replaces a file: editors
//! that rename, ConfigMaps that turn a symlink, network file systems. A text counts once it was read twice, so that no
//! half-written file is taken.
//!
//! Who asks by HTTP for other zones, lines and masks has them written into the file first, and applied with it.

mod edit;
mod log;
mod watched_file;
mod write_file;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use self::log::ReloadLog;
use self::watched_file::FileReading;
pub(crate) use self::watched_file::{WatchedFile, read_again};
use super::apply::{Applier, Plan, Prepared, Refusals};
use super::cameras::Changes;
use super::models::Loaded;
use crate::config::{CameraConfig, Config, ConfigInForce, ConfigSource, Settings};
use crate::http::scene_edit::SceneChange;
use crate::telemetry::health::Health;
use crate::telemetry::metrics::Metrics;
use tokio_util::sync::CancellationToken;

/// Time between two looks at the file.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Time between two attempts with what was refused.
pub(crate) const RETRY_EVERY: Duration = Duration::from_secs(30);

/// So many requests to reload may wait. The caller of one more waits.
const REQUESTS: usize = 4;

/// What came of a reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reloaded {
    /// Nothing differs from what runs.
    Unchanged,
    /// Something differed, and the cameras are as configured now.
    Applied,
    /// The file or the hub's settings cannot be used for this reason, and the last good ones stay.
    Refused(String),
    /// The node follows no configuration, or stops.
    Ended,
}

/// What the task follows.
pub(super) struct Inputs {
    /// The file that the node was started with.
    pub source: ConfigSource,
    /// The signal that asks to read the file again.
    pub hangup: Option<Signal>,
    /// The hub's settings. `None` until it has told them once.
    pub told: watch::Receiver<Option<Value>>,
    /// Changes of zones, lines and masks that are asked for over HTTP.
    pub changes: mpsc::Receiver<SceneChange>,
}

/// The running task, which the node ends.
#[derive(Debug)]
pub(super) struct ReloadTask {
    requests: mpsc::Sender<oneshot::Sender<Reloaded>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Why the configuration is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trigger {
    /// Somebody asked for it.
    Asked,
    /// The text of the file changed.
    File,
    /// The hub told other settings.
    Hub,
    /// Something was refused some time ago and may be good by now.
    Retry,
    /// Models were loaded, or loading them failed.
    Loaded,
}

/// Those who ask for changes.
struct Asking {
    hangup: Option<Signal>,
    told: watch::Receiver<Option<Value>>,
    asked: mpsc::Receiver<oneshot::Sender<Reloaded>>,
    changes: mpsc::Receiver<SceneChange>,
}

/// The task's state.
struct Reload {
    applier: Applier,
    metrics: Arc<Metrics>,
    /// The models that are being loaded.
    loading: Option<Loading>,
    /// Models that were loaded and that no camera uses yet.
    loaded: Option<Loaded>,
    /// Models that could not be loaded since anything changed, with the reason.
    failed: Vec<(Vec<String>, String)>,
    /// What asked for the models that are being loaded.
    waiting: Option<Trigger>,
    /// Who is to be answered once they are there.
    answers: Vec<oneshot::Sender<Reloaded>>,
    /// The configuration that the node was started with. Some of its keys hold until a restart.
    started: Config,
    /// What was in force at the start.
    started_in_force: ConfigInForce,
    /// The file and the settings that are in force.
    good: (ConfigSource, Settings),
    file: WatchedFile,
    /// The settings as the hub last told them.
    settings: FileReading<Settings>,
    /// What is wrong, and was logged already.
    file_error: Option<String>,
    settings_error: Option<String>,
    /// The same for the API.
    refusals: Refusals,
    /// Keys that were logged to need a restart.
    said: Vec<&'static str>,
    log: ReloadLog,
}

/// Models that are being loaded.
struct Loading {
    names: Vec<String>,
    task: JoinHandle<anyhow::Result<Loaded>>,
}

/// What is to be applied, and what was refused.
struct Choice {
    chosen: Option<Chosen>,
    /// Models that must be loaded before it is known what is to be applied in the end.
    needs: Option<Vec<String>>,
    file_error: Option<String>,
    settings_error: Option<String>,
}

/// A file and settings that can be applied together.
struct Chosen {
    file: ConfigSource,
    settings: Settings,
    config: Config,
    cameras: Vec<CameraConfig>,
    uses_loaded: bool,
}

/// What comes of an attempt to use a file with settings.
enum AttemptOutcome {
    Ready(Box<Chosen>),
    Needs(Vec<String>),
    Refused(String),
}

impl ReloadTask {
    /// Starts to follow the inputs. `started` is the configuration that the node was started with.
    pub(super) fn spawn(
        applier: Applier,
        metrics: Arc<Metrics>,
        started: Config,
        inputs: Inputs,
        health: &Health,
    ) -> Self {
        let Inputs {
            source,
            hangup,
            told,
            changes,
        } = inputs;
        let (requests, asked) = mpsc::channel(REQUESTS);
        let stop = CancellationToken::new();
        let started_in_force = source.in_force(&Settings::default(), &started);
        applier.note_in_force(started_in_force.clone());
        let reload = Reload {
            applier,
            metrics,
            loading: None,
            loaded: None,
            failed: Vec::new(),
            waiting: None,
            answers: Vec::new(),
            started,
            started_in_force,
            good: (source.clone(), Settings::default()),
            file: WatchedFile::new(Ok(source)),
            settings: Ok(Settings::default()),
            file_error: None,
            settings_error: None,
            refusals: Refusals::default(),
            said: Vec::new(),
            log: ReloadLog::new(),
        };
        let asking = Asking {
            hangup,
            told,
            asked,
            changes,
        };
        let running = reload.run(asking, stop.clone());
        let task = tokio::spawn(health.watch("the reload", running));
        Self {
            requests,
            stop,
            task,
        }
    }

    /// Takes requests to reload. Each brings the channel on which it is answered.
    pub(super) fn requests(&self) -> mpsc::Sender<oneshot::Sender<Reloaded>> {
        self.requests.clone()
    }

    /// Ends the task. It finishes cameras that it is changing, and does not wait for models that are being loaded.
    pub(super) async fn end(self) {
        self.stop.cancel();
        // If the task panicked, that was logged where it happened.
        let _ = self.task.await;
    }
}

impl Reload {
    async fn run(mut self, asking: Asking, stop: CancellationToken) {
        let Asking {
            mut hangup,
            mut told,
            mut asked,
            mut changes,
        } = asking;
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // What was refused may become good by itself, when a secret's file was written or a model was installed meanwhile.
        let mut retry = tokio::time::interval(RETRY_EVERY);
        retry.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let watched = self.good.0.path().is_some();
        loop {
            let mut answer = None;
            let trigger = tokio::select! {
                () = stop.cancelled() => return,
                Some(request) = asked.recv() => {
                    answer = Some(request);
                    Trigger::Asked
                }
                Some(change) = changes.recv() => {
                    self.change(change, &stop).await;
                    continue;
                }
                () = next_hangup(&mut hangup) => Trigger::Asked,
                Ok(()) = told.changed() => {
                    let value = told.borrow_and_update().clone();
                    self.settings = Settings::read(value.as_ref()).map_err(|error| error.to_string());
                    Trigger::Hub
                }
                _ = look.tick(), if watched => Trigger::File,
                _ = retry.tick(), if self.file_error.is_some() || self.settings_error.is_some() => Trigger::Retry,
                loaded = next_loaded(&mut self.loading) => {
                    self.take_loaded(loaded);
                    Trigger::Loaded
                }
            };
            // A file system that hangs must not hold up the node's end. What is being applied is applied to its end.
            let choice = tokio::select! {
                () = stop.cancelled() => return,
                choice = self.look_and_choose(trigger) => choice,
            };
            let Some(choice) = choice else { continue };
            let outcome = self.act(trigger, choice).await;
            match (answer, outcome) {
                (Some(answer), None) => self.answers.push(answer),
                (answer, Some(outcome)) => {
                    // Whoever asked while models were being loaded is answered once they are there.
                    let waiting = if self.loading.is_none() {
                        std::mem::take(&mut self.answers)
                    } else {
                        Vec::new()
                    };
                    for answer in waiting.into_iter().chain(answer) {
                        // Whoever asked may have stopped waiting.
                        let _ = answer.send(outcome.clone());
                    }
                }
                (None, None) => {}
            }
        }
    }

    /// Takes in what came of loading models.
    fn take_loaded(&mut self, result: Result<anyhow::Result<Loaded>, tokio::task::JoinError>) {
        let names = self.loading.take().map(|loading| loading.names);
        let error = match result {
            Ok(Ok(loaded)) => {
                // Models that were loaded before may be needed too, and nothing is loaded twice for one change.
                self.loaded = Some(match self.loaded.take() {
                    Some(before) => before.and(loaded),
                    None => loaded,
                });
                return;
            }
            // The sentence has the causes, as the program says them at its end.
            Ok(Err(error)) => format!("{error:#}"),
            Err(error) => {
                format!("loading a model panicked: this is a bug in Twinsight: {error}")
            }
        };
        self.failed.extend(names.map(|names| (names, error)));
    }

    /// Reads the file if that is the reason, and chooses what to apply. `None` means that nothing changed.
    async fn look_and_choose(&mut self, trigger: Trigger) -> Option<Choice> {
        match trigger {
            Trigger::Asked => self.file = WatchedFile::new(read_again(&self.good.0).await),
            Trigger::File => {
                let now = read_again(&self.good.0).await;
                if !self.file.look(now) {
                    return None;
                }
            }
            Trigger::Hub | Trigger::Retry | Trigger::Loaded => {}
        }
        if trigger != Trigger::Loaded {
            // A model that could not be loaded may be there by now.
            self.failed.clear();
        }
        Some(self.choose())
    }

    /// Chooses the newest file and settings if they can be applied together, or else one of them with the last good other.
    fn choose(&self) -> Choice {
        let (good_file, good_settings) = &self.good;
        let emptied;
        let seen = match &self.file.seen {
            Ok(file) if file.is_empty() && !good_file.is_empty() => {
                emptied = Err(file.emptied().to_string());
                &emptied
            }
            seen => seen,
        };
        let file = seen.as_ref().unwrap_or(good_file);
        let settings = self.settings.as_ref().unwrap_or(good_settings);
        let mut choice = Choice {
            chosen: None,
            needs: None,
            file_error: seen.as_ref().err().cloned(),
            settings_error: self.settings.as_ref().err().cloned(),
        };
        let error = match self.attempt(file, settings) {
            AttemptOutcome::Ready(chosen) => {
                choice.chosen = Some(*chosen);
                return choice;
            }
            AttemptOutcome::Needs(names) => {
                choice.needs = Some(names);
                // What needs no further model is applied meanwhile.
                let meanwhile = [(good_file, settings), (file, good_settings)];
                choice.chosen = meanwhile.into_iter().find_map(|(file, settings)| {
                    match self.attempt(file, settings) {
                        AttemptOutcome::Ready(chosen) => Some(*chosen),
                        AttemptOutcome::Needs(_) | AttemptOutcome::Refused(_) => None,
                    }
                });
                return choice;
            }
            AttemptOutcome::Refused(error) => error,
        };
        if settings == good_settings {
            choice.file_error.get_or_insert(error);
            return choice;
        }
        // If it works without one of the two, that one is wrong.
        match self.attempt(file, good_settings) {
            AttemptOutcome::Ready(chosen) => {
                choice.settings_error = Some(error);
                choice.chosen = Some(*chosen);
            }
            AttemptOutcome::Needs(names) => choice.needs = Some(names),
            AttemptOutcome::Refused(of_the_file) => {
                choice.file_error.get_or_insert(of_the_file);
                match self.attempt(good_file, settings) {
                    AttemptOutcome::Ready(chosen) => choice.chosen = Some(*chosen),
                    AttemptOutcome::Needs(names) => choice.needs = Some(names),
                    AttemptOutcome::Refused(error) => choice.settings_error = Some(error),
                }
            }
        }
        choice
    }

    fn attempt(&self, file: &ConfigSource, settings: &Settings) -> AttemptOutcome {
        let config = match file.resolve(settings) {
            Ok(config) => config,
            Err(error) => return AttemptOutcome::Refused(error.to_string()),
        };
        let plan = self
            .applier
            .plan(config.clone(), &self.started, self.loaded.as_ref());
        match plan {
            Ok(Plan::Needs(names)) => {
                let failed = self.failed.iter().find(|(failed, _)| *failed == names);
                match failed {
                    Some((_, reason)) => AttemptOutcome::Refused(reason.clone()),
                    None => AttemptOutcome::Needs(names),
                }
            }
            Ok(Plan::Ready {
                cameras,
                uses_loaded,
            }) => AttemptOutcome::Ready(Box::new(Chosen {
                file: file.clone(),
                settings: settings.clone(),
                config,
                cameras,
                uses_loaded,
            })),
            Err(error) => AttemptOutcome::Refused(format!("{error:#}")),
        }
    }

    /// Applies what was chosen and logs what was refused. `None` means that models have to be loaded first.
    async fn act(&mut self, trigger: Trigger, choice: Choice) -> Option<Reloaded> {
        let trigger = match (trigger, self.waiting) {
            (Trigger::Loaded, Some(asked)) => asked,
            (trigger, _) => trigger,
        };
        if let Some(names) = choice.needs {
            self.waiting = Some(trigger);
            if self.loading.is_none() {
                if let Some(suppressed) = self.log.allow(trigger, "loading", Instant::now()) {
                    let models = names.join(", ");
                    tracing::info!(models, suppressed, "models are loaded for a change");
                }
                let task = self.applier.load(names.clone());
                self.loading = Some(Loading { names, task });
            }
            if let Some(chosen) = choice.chosen {
                self.apply(trigger, chosen, false).await;
            }
            return None;
        }
        if self.loading.is_none() {
            self.waiting = None;
        }
        let refused = self.tell(trigger, choice.file_error, choice.settings_error);
        let taken = refused.is_none();
        let outcome = match choice.chosen {
            Some(chosen) => self.apply(trigger, chosen, taken).await,
            None => Reloaded::Unchanged,
        };
        // Models that nothing needs after all do not stay in memory.
        self.loaded = None;
        let outcome = match (refused, outcome) {
            (Some(reason), _) => Reloaded::Refused(reason),
            (None, outcome) => outcome,
        };
        let taken = !matches!(outcome, Reloaded::Refused(_));
        self.metrics.config_reloaded(taken, SystemTime::now());
        Some(outcome)
    }

    /// Logs what is wrong, once for each reason, and returns one of the reasons.
    fn tell(
        &mut self,
        trigger: Trigger,
        file_error: Option<String>,
        settings_error: Option<String>,
    ) -> Option<String> {
        if let Some(reason) = &file_error {
            // A file that stays wrong in the same way is logged once.
            let again = trigger == Trigger::Asked || self.file_error.as_ref() != Some(reason);
            if again && let Some(suppressed) = self.log.allow(trigger, "file", Instant::now()) {
                let is_empty = self.file.seen.as_ref().is_ok_and(ConfigSource::is_empty);
                if is_empty && !self.good.0.is_empty() {
                    tracing::warn!(%reason, suppressed, "an empty configuration is not taken, and the last good one stays");
                } else {
                    tracing::error!(%reason, suppressed, "the configuration was refused, and the last good one stays");
                }
            }
        }
        let settings = settings_error.as_deref();
        if let Some((reason, suppressed)) = self.log.settings(trigger, settings, Instant::now()) {
            tracing::warn!(%reason, suppressed, "the hub's settings were refused, and the last good ones stay");
        }
        let refused = file_error.as_ref().or(settings_error.as_ref()).cloned();
        let now = SystemTime::now();
        self.refusals
            .note(file_error.as_deref(), settings_error.as_deref(), now);
        self.applier
            .note_refused(settings_error.clone(), self.refusals.last().cloned());
        (self.file_error, self.settings_error) = (file_error, settings_error);
        refused
    }

    /// Makes the cameras those that were chosen. `tells` means that it is logged even if none changes.
    async fn apply(&mut self, trigger: Trigger, chosen: Chosen, tells: bool) -> Reloaded {
        let Chosen {
            file,
            settings,
            config,
            cameras,
            uses_loaded,
        } = chosen;
        let keys = config.keys_for_a_restart(&self.started);
        if !keys.is_empty()
            && (keys != self.said || trigger == Trigger::Asked)
            && let Some(suppressed) = self.log.allow(trigger, "restart", Instant::now())
        {
            tracing::warn!(
                keys = keys.join(", "),
                suppressed,
                "these keys hold until a restart: restart the node for them"
            );
        }
        let in_force = file
            .in_force(&settings, &config)
            .until_a_restart(&self.started_in_force, &keys);
        self.said = keys;
        let remaining = cameras.len();
        let loaded = if uses_loaded {
            self.loaded.take()
        } else {
            None
        };
        let changes = match self
            .applier
            .apply(Prepared::new(cameras, loaded, in_force))
            .await
        {
            Ok(changes) => changes,
            Err(error) => {
                if let Some(suppressed) = self.log.allow(trigger, "bug", Instant::now()) {
                    tracing::error!(%error, suppressed, "a configuration that was checked cannot be applied: this is a bug in Twinsight");
                }
                return Reloaded::Refused(error.to_string());
            }
        };
        self.good = (file, settings);
        let Changes {
            added,
            reopened,
            changed,
            removed,
        } = changes;
        let by = match trigger {
            Trigger::Asked => "request",
            Trigger::File => "file",
            Trigger::Hub => "hub",
            Trigger::Retry => "retry",
            Trigger::Loaded => "models",
        };
        if changes != Changes::default() {
            if let Some(suppressed) = self.log.allow(trigger, "applied", Instant::now()) {
                tracing::info!(
                    by,
                    added,
                    changed,
                    reopened,
                    removed,
                    suppressed,
                    "the cameras are as configured now"
                );
            }
            if remaining == 0
                && let Some(suppressed) = self.log.allow(trigger, "none", Instant::now())
            {
                tracing::warn!(
                    by,
                    removed,
                    suppressed,
                    "all cameras were removed: the configuration names none any more"
                );
            }
            Reloaded::Applied
        } else {
            if tells && trigger != Trigger::Hub {
                tracing::info!(
                    by,
                    "the configuration was read again, and no camera changes"
                );
            } else {
                tracing::debug!(by, "no camera changes");
            }
            Reloaded::Unchanged
        }
    }
}

async fn next_loaded(
    loading: &mut Option<Loading>,
) -> Result<anyhow::Result<Loaded>, tokio::task::JoinError> {
    match loading {
        Some(loading) => (&mut loading.task).await,
        None => std::future::pending().await,
    }
}

/// Waits for the next SIGHUP; for ever if the signal is not taken.
pub(crate) async fn next_hangup(hangup: &mut Option<Signal>) {
    let signalled = match hangup {
        Some(signal) => signal.recv().await,
        None => None,
    };
    if signalled.is_none() {
        std::future::pending().await
    }
}
