//! The cameras of the node, reconciled with the configuration: starting from empty, adding, changing
//! and removing are one code path. A camera that did not change is not touched.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::models::Models;
use crate::config::StreamId;
use crate::config::{CameraConfig, Connect, IceConfig, IcePolicy};
use crate::decode::decoder::DecoderKind;
use crate::decode::worker::DecodeConfig;
use crate::detect::worker::{CameraScheduler, CameraWork};
use crate::http::api::CameraFacts;
use crate::media::stream::{MediaStream, StateHandler, StreamContext, StreamOptions};
use crate::publish::event::CameraStatus;
use crate::publish::publisher::Publisher;
use crate::realtime::negotiation::Role;
use crate::realtime::peer::IceSettings;
use crate::schedule::scheduler::{SourceId, SourceSettings};
use crate::telemetry::ledger::{CameraState, FrameDrop};

/// What every camera of the node uses.
#[derive(Debug, Clone)]
pub(super) struct CameraContext {
    /// Hub, metrics, keyframe budget.
    pub stream: StreamContext,
    /// Where frames go.
    pub scheduler: Arc<CameraScheduler>,
    /// Where states go.
    pub publisher: Publisher,
    /// How connections find their way.
    pub ice: IceSettings,
    /// The decoder.
    pub decoder: DecoderKind,
    /// Told when any camera's state changes.
    pub changed: Arc<tokio::sync::Notify>,
}

/// The cameras that run.
#[derive(Debug)]
pub(super) struct Cameras {
    context: CameraContext,
    running: BTreeMap<StreamId, Camera>,
}

#[derive(Debug)]
struct Camera {
    config: CameraConfig,
    source: SourceId,
    stream: MediaStream,
}

/// A plan to bring the running cameras in line with the configuration; making it changes nothing.
struct Wanted {
    config: CameraConfig,
    work: Arc<CameraWork>,
}

impl Cameras {
    /// No cameras.
    pub(super) fn new(context: CameraContext) -> Self {
        Self {
            context,
            running: BTreeMap::new(),
        }
    }

    /// Makes the running cameras those of the configuration. Refused whole when one of them cannot be.
    ///
    /// # Errors
    /// When a camera names a model or class that is not there; nothing has changed then.
    pub(super) async fn apply(&mut self, models: &Models, configs: &[CameraConfig]) -> Result<()> {
        let mut wanted = BTreeMap::new();
        for config in configs {
            wanted.insert(config.id.clone(), self.resolve(models, config)?);
        }
        let gone: Vec<StreamId> = self
            .running
            .iter()
            .filter(|(id, camera)| {
                wanted
                    .get(*id)
                    .is_none_or(|wanted| must_reopen(&camera.config, &wanted.config))
            })
            .map(|(id, _)| id.clone())
            .collect();
        for id in gone {
            if let Some(camera) = self.running.remove(&id) {
                let removed = !wanted.contains_key(&id);
                self.close(camera, removed).await;
            }
        }
        for (id, wanted) in wanted {
            match self.running.get_mut(&id) {
                Some(camera) if camera.config == wanted.config => {}
                Some(camera) => {
                    self.context
                        .scheduler
                        .update(camera.source, source_settings(&wanted));
                    camera.config = wanted.config;
                }
                None => {
                    let camera = self.open(wanted);
                    self.running.insert(id, camera);
                }
            }
        }
        Ok(())
    }

    /// How the cameras are.
    pub(super) fn facts(&self) -> Vec<CameraFacts> {
        let fact = |camera: &Camera| {
            let state = *camera.stream.state().borrow();
            CameraFacts {
                id: camera.config.id.clone(),
                name: camera.config.name.clone(),
                model: camera.config.model.clone(),
                state: state.state,
                since: state.since,
                reason: state.reason.map(str::to_owned),
                attempt: u64::from(state.attempt),
                last_event_at: self.context.publisher.last_published(&camera.config.id),
            }
        };
        self.running.values().map(fact).collect()
    }

    /// Streams that cameras dial us for, by the twin that signs their offers.
    pub(super) fn accepts(&self) -> Vec<StreamId> {
        let accepting = |camera: &&Camera| camera.config.connect == Connect::Accept;
        self.running
            .values()
            .filter(accepting)
            .map(|camera| camera.config.id.clone())
            .collect()
    }

    /// Closes all connections and ends all decoding, at the node's end. No frame comes after it.
    pub(super) async fn shutdown(&mut self) {
        let mut closing = tokio::task::JoinSet::new();
        for camera in std::mem::take(&mut self.running).into_values() {
            closing.spawn(camera.stream.close());
        }
        closing.join_all().await;
    }

    fn resolve(&self, models: &Models, config: &CameraConfig) -> Result<Wanted> {
        let (model, settings) = models.resolve(config)?;
        let work = CameraWork {
            id: config.id.clone(),
            name: config.name.as_str().into(),
            model,
            settings,
            emit_empty: config.emit_empty,
            metrics: self.context.stream.metrics.stream(&config.id),
        };
        Ok(Wanted {
            config: config.clone(),
            work: Arc::new(work),
        })
    }

    fn open(&self, wanted: Wanted) -> Camera {
        let context = &self.context;
        let source = context.scheduler.add(source_settings(&wanted));
        let Wanted { config, work } = wanted;
        let options = StreamOptions {
            id: config.id.clone(),
            role: match config.connect {
                Connect::Dial => Role::Initiator,
                Connect::Accept => Role::Responder,
            },
            dialect: config.dialect,
            allow_unsigned: config.allow_unsigned,
            ice: context.ice.clone(),
            decode: DecodeConfig::new(config.id.clone(), &context.stream.metrics, context.decoder),
        };
        let scheduler = Arc::clone(&context.scheduler);
        let stream = MediaStream::open(
            context.stream.clone(),
            options,
            Box::new(move |frame| scheduler.offer(source, frame)),
            status_handler(
                work,
                context.publisher.clone(),
                Arc::clone(&context.changed),
            ),
        );
        Camera {
            config,
            source,
            stream,
        }
    }

    async fn close(&self, camera: Camera, removed: bool) {
        let Camera {
            config,
            source,
            stream,
        } = camera;
        let attempt = u64::from(stream.state().borrow().attempt);
        stream.close().await;
        self.context
            .scheduler
            .remove(source, FrameDrop::CameraRemoved);
        if removed {
            tracing::info!(camera = %config.id, "the camera is no longer configured");
            self.context
                .stream
                .metrics
                .stream(&config.id)
                .set_state(CameraState::Removed);
            self.context.publisher.set_status(CameraStatus {
                id: config.id,
                name: config.name.into(),
                state: CameraState::Removed,
                since: Instant::now(),
                reason: None,
                attempt,
            });
        }
    }
}

/// True when a change needs a new connection; others only change how frames are scheduled and judged.
fn must_reopen(old: &CameraConfig, new: &CameraConfig) -> bool {
    old.connect != new.connect
        || old.dialect != new.dialect
        || old.codecs != new.codecs
        || old.allow_unsigned != new.allow_unsigned
        || old.name != new.name
}

fn source_settings(wanted: &Wanted) -> SourceSettings<Arc<CameraWork>> {
    let max_fps = wanted.config.max_fps;
    SourceSettings {
        min_interval: if max_fps > 0.0 {
            Duration::from_secs_f64(1.0 / max_fps)
        } else {
            Duration::ZERO
        },
        max_age: wanted.config.max_age,
        metrics: Arc::clone(&wanted.work.metrics),
        work: Arc::clone(&wanted.work),
    }
}

/// Makes an event of each change.
fn status_handler(
    work: Arc<CameraWork>,
    publisher: Publisher,
    changed: Arc<tokio::sync::Notify>,
) -> StateHandler {
    Box::new(move |current| {
        publisher.set_status(CameraStatus {
            id: work.id.clone(),
            name: Arc::clone(&work.name),
            state: current.state,
            since: current.since,
            reason: current.reason.map(str::to_owned),
            attempt: u64::from(current.attempt),
        });
        changed.notify_one();
    })
}

impl From<&IceConfig> for IceSettings {
    fn from(config: &IceConfig) -> Self {
        Self {
            relay_only: config.policy == IcePolicy::Relay,
            interfaces: config.interfaces.clone(),
            udp_ports: config.udp_ports.map(|(first, last)| first..=last),
            nat_1to1_ips: config.nat_1to1_ips.clone(),
            mdns: config.mdns,
            recv_buffer_bytes: config.recv_buffer_bytes,
        }
    }
}
