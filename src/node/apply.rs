//! How a configuration is applied, whether it is the first or a later one. Models that no camera used yet are loaded beside
//! the running work, everything is checked, and only then are the cameras changed. If anything is wrong, nothing changes.

use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::cameras::{Cameras, Changes};
use super::models::{Loaded, Models};
use crate::config::{CameraConfig, Config, ConfigInForce, Refusal, RefusalSource};
use crate::detect::pool::InferencePool;
use crate::http::api::ConfigFacts;
use crate::shard::Share;

/// The inference workers, which the node's tasks share. `None` once the node stops.
pub(super) type SharedPool = Arc<Mutex<Option<InferencePool>>>;

/// What the node's other tasks have to know about the configuration that is applied.
#[derive(Debug, Clone)]
pub(super) struct ActiveConfig {
    /// All configured camera streams, also those that another node of the pool has, in the order of the file.
    pub cameras: Arc<[CameraConfig]>,
    /// Names of the models that are loaded.
    pub models: Vec<String>,
    /// The hashes of their files, in the same order.
    pub model_hashes: Vec<Option<Arc<str>>>,
    /// Why the last settings of the hub were refused, if they were.
    pub settings_error: Option<String>,
    /// Every key with its value in force. It is empty for a node that does not follow its configuration.
    pub in_force: Arc<ConfigInForce>,
    /// When something of it changed last.
    pub applied_at: SystemTime,
    /// What was refused last. It is forgotten once the same source is good again.
    pub last_refusal: Option<Refusal>,
}

impl Default for ActiveConfig {
    fn default() -> Self {
        Self {
            cameras: Arc::default(),
            models: Vec::new(),
            model_hashes: Vec::new(),
            settings_error: None,
            in_force: Arc::default(),
            applied_at: SystemTime::now(),
            last_refusal: None,
        }
    }
}

impl ActiveConfig {
    /// What the API says of it.
    pub(super) fn facts(&self) -> ConfigFacts {
        ConfigFacts {
            in_force: Arc::clone(&self.in_force),
            applied_at: Some(self.applied_at),
            last_refusal: self.last_refusal.clone(),
        }
    }
}

/// What is refused of the file and of the hub's settings, each since when.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    file: Option<Refusal>,
    hub: Option<Refusal>,
}

impl Refusals {
    /// Takes in why the file and the settings are refused now, `None` for one that is good. A reason that stays the same keeps
    /// its time.
    pub(super) fn note(&mut self, file: Option<&str>, hub: Option<&str>, now: SystemTime) {
        let sources = [
            (&mut self.file, file, RefusalSource::File),
            (&mut self.hub, hub, RefusalSource::Hub),
        ];
        for (refusal, reason, source) in sources {
            if refusal.as_ref().map(|refusal| refusal.reason.as_str()) != reason {
                *refusal = reason.map(|reason| Refusal {
                    at: now,
                    source,
                    reason: reason.to_owned(),
                });
            }
        }
    }

    /// The one that came last.
    pub(super) fn last(&self) -> Option<&Refusal> {
        self.file
            .iter()
            .chain(&self.hub)
            .max_by_key(|refusal| refusal.at)
    }
}

/// Makes the models and cameras of the node those of a configuration.
#[derive(Debug)]
pub(super) struct Applier {
    models: Models,
    cameras: Arc<tokio::sync::Mutex<Cameras>>,
    pool: SharedPool,
    share: Share,
    active_config: watch::Sender<ActiveConfig>,
}

/// The cameras of a configuration that was checked, with models that they need and that are not in use.
#[derive(Debug)]
pub(super) struct Prepared {
    cameras: Vec<CameraConfig>,
    loaded: Option<Loaded>,
    /// What is in force once these cameras are applied. `None` leaves what is said of it.
    in_force: Option<ConfigInForce>,
}

/// What a configuration needs before it can be applied.
#[derive(Debug)]
pub(super) enum Plan {
    /// Nothing more. Every camera was checked.
    Ready {
        /// The cameras.
        cameras: Vec<CameraConfig>,
        /// Whether they need models that are loaded and not yet in use.
        uses_loaded: bool,
    },
    /// Models of these names, which are not loaded.
    Needs(Vec<String>),
}

impl Prepared {
    /// The cameras of a plan that is ready, with the models that it uses.
    pub(super) fn new(
        cameras: Vec<CameraConfig>,
        loaded: Option<Loaded>,
        in_force: ConfigInForce,
    ) -> Self {
        Self {
            cameras,
            loaded,
            in_force: Some(in_force),
        }
    }
}

impl Applier {
    pub(super) fn new(
        models: Models,
        cameras: Arc<tokio::sync::Mutex<Cameras>>,
        pool: SharedPool,
        share: Share,
    ) -> Self {
        Self {
            models,
            cameras,
            pool,
            share,
            active_config: watch::Sender::new(ActiveConfig::default()),
        }
    }

    /// The configuration that is applied, and every change of it.
    pub(super) fn active_config(&self) -> watch::Receiver<ActiveConfig> {
        self.active_config.subscribe()
    }

    /// Notes what is in force from the start.
    pub(super) fn note_in_force(&self, in_force: ConfigInForce) {
        self.active_config.send_modify(|active_config| {
            active_config.in_force = Arc::new(in_force);
        });
    }

    /// Notes why settings of the hub were refused, where `None` means that they were taken, and what was refused last.
    pub(super) fn note_refused(&self, settings_error: Option<String>, last: Option<Refusal>) {
        self.active_config.send_if_modified(|active_config| {
            let new = active_config.settings_error != settings_error
                || active_config.last_refusal != last;
            active_config.settings_error = settings_error;
            active_config.last_refusal = last;
            new
        });
    }

    /// Loads the models that are missing and checks every camera, without changing anything. `started` is the configuration
    /// that the node was started with.
    ///
    /// # Errors
    /// When a model cannot be used, a camera names a class that its model does not have, or there are
    /// more cameras than ports.
    pub(super) async fn prepare(&self, config: Config, started: &Config) -> Result<Prepared> {
        let mut loaded: Option<Loaded> = None;
        loop {
            match self.plan(config.clone(), started, loaded.as_ref())? {
                Plan::Ready {
                    cameras,
                    uses_loaded: _,
                } => {
                    return Ok(Prepared {
                        cameras,
                        loaded,
                        in_force: None,
                    });
                }
                Plan::Needs(names) => {
                    let load = self.load(names).await;
                    let models =
                        load.context("loading a model panicked: this is a bug in Twinsight")??;
                    loaded = Some(match loaded {
                        Some(before) => before.and(models),
                        None => models,
                    });
                }
            }
        }
    }

    /// Says what a configuration needs besides the models in use and those in `loaded`. Once all models are there, it checks
    /// every camera. It never waits.
    ///
    /// # Errors
    /// When a camera names a class that its model does not have, or there are more cameras than ports.
    pub(super) fn plan(
        &self,
        config: Config,
        started: &Config,
        loaded: Option<&Loaded>,
    ) -> Result<Plan> {
        let cameras = config.cameras;
        if started.hub.is_none() {
            let met_by_a_hub = cameras.iter().find(|camera| camera.source.is_none());
            ensure!(
                met_by_a_hub.is_none(),
                "the node was started without a hub (`hub.mode = \"none\"`), and a camera has neither `rtsp` nor `device`: \
                 restart the node to let it join the hub"
            );
        } else if let Some(udp_ports) = &started.ice.udp_ports {
            let ports = udp_ports.len();
            let own = self.own_cameras(&cameras);
            ensure!(
                own <= ports,
                "{own} camera streams are configured and the node was started with {ports} UDP ports: \
                 widen `ice.udp_ports` and restart the node"
            );
        }
        let in_use = self.models.catalog();
        let uses_loaded = !in_use.missing(&cameras).is_empty();
        let catalog = match loaded {
            Some(loaded) if uses_loaded => in_use.with(loaded),
            _ => in_use.clone(),
        };
        let missing = catalog.missing(&cameras);
        if !missing.is_empty() {
            return Ok(Plan::Needs(missing));
        }
        for camera in &cameras {
            catalog.resolve(camera)?;
        }
        Ok(Plan::Ready {
            cameras,
            uses_loaded,
        })
    }

    /// How many of these camera streams this node runs at least. What falls to it in a pool is not known beforehand.
    fn own_cameras(&self, cameras: &[CameraConfig]) -> usize {
        if self.share.is_pool() {
            return 0;
        }
        let duties = self.share.duties();
        let duties = duties.borrow();
        let own = |camera: &&CameraConfig| duties.of(&camera.id.twin_id).is_some();
        cameras.iter().filter(own).count()
    }

    /// Loads models on a thread for work that blocks, beside the running work.
    pub(super) fn load(&self, names: Vec<String>) -> JoinHandle<Result<Loaded>> {
        let (sources, pool) = (self.models.sources(), Arc::clone(&self.pool));
        tokio::task::spawn_blocking(move || Loaded::load(&sources, names, workers(&pool)))
    }

    /// Applies what was prepared. Whoever calls this must let it finish, unless the node stops.
    ///
    /// # Errors
    /// Those of [`Cameras::apply`], which cannot happen to what was prepared.
    pub(super) async fn apply(&mut self, prepared: Prepared) -> Result<Changes> {
        let Prepared {
            cameras,
            loaded,
            in_force,
        } = prepared;
        if let Some(loaded) = loaded {
            let adoption = self.models.adopt(loaded);
            let pool = Arc::clone(&self.pool);
            // The pool's lock may be held while a worker is replaced, which takes its time.
            tokio::task::spawn_blocking(move || {
                if let Some(pool) = &mut *pool.lock() {
                    adoption.give_to(pool);
                }
            })
            .await
            .context("a model was not handed to the workers: this is a bug in Twinsight")?;
        }
        let catalog = self.models.catalog();
        let changes = self.cameras.lock().await.apply(catalog, &cameras).await?;
        let models = catalog.names().map(str::to_owned).collect();
        let model_hashes = catalog.hashes().collect();
        self.active_config.send_modify(|active_config| {
            let in_force = in_force.map_or_else(|| Arc::clone(&active_config.in_force), Arc::new);
            // A configuration is applied again whenever it is looked at, and most often nothing changed.
            if *active_config.cameras != *cameras || active_config.in_force != in_force {
                active_config.applied_at = SystemTime::now();
            }
            active_config.cameras = cameras.into();
            active_config.models = models;
            active_config.model_hashes = model_hashes;
            active_config.in_force = in_force;
        });
        Ok(changes)
    }
}

fn workers(pool: &SharedPool) -> usize {
    let pool = pool.lock();
    pool.as_ref().map_or(0, InferencePool::workers)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn the_newest_refusal_is_told_until_its_source_is_good_again() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let mut refusals = Refusals::default();
        let told = |refusals: &Refusals| {
            let last = refusals.last()?;
            Some((last.at, last.source, last.reason.clone()))
        };
        refusals.note(Some("line 3: no"), None, at(1));
        let of_the_file = Some((at(1), RefusalSource::File, "line 3: no".to_owned()));
        assert_eq!(told(&refusals), of_the_file);
        refusals.note(Some("line 3: no"), Some("maxFps: no"), at(2));
        assert_eq!(
            told(&refusals),
            Some((at(2), RefusalSource::Hub, "maxFps: no".to_owned()))
        );
        // What stays wrong in the same way was refused when it was refused first.
        refusals.note(Some("line 3: no"), None, at(3));
        assert_eq!(told(&refusals), of_the_file);
        refusals.note(Some("line 4: no"), None, at(4));
        assert_eq!(
            told(&refusals),
            Some((at(4), RefusalSource::File, "line 4: no".to_owned()))
        );
        refusals.note(None, None, at(5));
        assert_eq!(told(&refusals), None);
    }
}
