//! A home: what Home Assistant is told beside events. All that passes a sink's lane comes in, and retained states go on the board of
//! the sink's broker: which entities there are, whether something is before a camera and how many, and a picture of it. A task of
//! its own runs it, whether the broker is reached or not.

mod camera;
mod discovery;
mod occupancy;
mod shot;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use serde_json::Value;
use tokio::sync::mpsc;

use self::camera::{HomeCamera, Sight};
use self::discovery::{AVAILABILITY, BEST_SHOT, COUNT, Discovery, Entity, Label, OCCUPANCY};
use super::mqtt::board::Board;
use super::mqtt::home::{FromBroker, HomeLink};
use super::mqtt::topics::Topics;
use crate::config::{CameraConfig, MqttConfig};
use crate::preview::Previews;
use crate::publish::event::CAMERA_STATUS;
use crate::publish::lane::Observed;
use twinsight_client::stream_id::StreamId;
use twinsight_client::telemetry::CameraState;

/// How often it is looked whether time alone changes something.
const EVERY: Duration = Duration::from_millis(500);

/// So many messages that the broker kept may wait to be looked at. Those beyond stay on the broker.
const KEPT: usize = 4096;

/// So many pictures are taken at a time. Half of the places of the preview stay for people who look at the node.
const SHOTS: usize = 16;

/// The home that one broker is told of.
#[derive(Debug)]
pub(super) struct Home {
    discovery: Discovery,
    board: Arc<Board>,
    cameras: BTreeMap<StreamId, HomeCamera>,
    /// What the broker had, until all of it was told.
    kept: BTreeMap<String, Bytes>,
}

/// What the home's task is given.
#[derive(Debug)]
pub(super) struct HomeInputs {
    pub(super) observed: mpsc::Receiver<Observed>,
    pub(super) told: mpsc::Receiver<FromBroker>,
    pub(super) previews: Previews,
}

impl Home {
    /// A home with the cameras of the configuration, and the connection's part in it.
    pub(super) fn new(
        config: &MqttConfig,
        node: &str,
        cameras: &[CameraConfig],
    ) -> (Self, HomeLink, mpsc::Receiver<FromBroker>) {
        let topics = Topics::new(&config.topic, node);
        let discovery = Discovery::new(&config.discovery_prefix, topics, node);
        let board = Arc::new(Board::default());
        let (told_sender, told) = mpsc::channel(KEPT);
        let link = HomeLink {
            board: Arc::clone(&board),
            told: told_sender,
            kept: discovery.kept(),
            birth: discovery.birth(),
        };
        let mut home = Self {
            discovery,
            board,
            cameras: BTreeMap::new(),
            kept: BTreeMap::new(),
        };
        let (topic, config) = home.discovery.node();
        home.board.set(topic, config);
        for camera in cameras {
            let added = HomeCamera::new(camera.name.as_str().into(), &camera.classes);
            home.cameras.insert(camera.id.clone(), added);
            home.announce(&camera.id);
            home.tell(&camera.id, Instant::now());
        }
        (home, link, told)
    }

    /// Runs the home until nothing passes the lane any more.
    pub(super) async fn run(mut self, inputs: HomeInputs) {
        let HomeInputs {
            mut observed,
            mut told,
            previews,
        } = inputs;
        let mut shots = FuturesUnordered::new();
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                passed = observed.recv() => match passed {
                    Some(passed) => {
                        if let Some(id) = self.observe(passed, Instant::now())
                            && shots.len() < SHOTS
                        {
                            shots.push(shot::take(previews.clone(), id));
                        }
                    }
                    None => return,
                },
                Some(message) = told.recv() => self.broker_said(message),
                Some((id, jpeg)) = shots.next(), if !shots.is_empty() => self.shot_taken(&id, jpeg),
                _ = ticks.tick() => self.pass(Instant::now()),
            }
        }
    }

    /// Takes in what passed the lane. Gives a camera stream of which a picture should be taken.
    fn observe(&mut self, observed: Observed, now: Instant) -> Option<StreamId> {
        match observed {
            Observed::Frame(frame) => {
                let id = frame.id.clone();
                // A state comes before the first frame, so that a frame without a camera is one that was on its way when the camera
                // was removed.
                let camera = self.cameras.get_mut(&id)?;
                let changes = camera.frame(&frame, now);
                if changes.is_listing_longer {
                    self.announce(&id);
                }
                self.tell(&id, now);
                changes.wants_shot.then_some(id)
            }
            Observed::Status(status) if status.state == CameraState::Removed => {
                self.remove(&status.id);
                None
            }
            Observed::Status(status) => {
                let id = status.id;
                let is_new = !self.cameras.contains_key(&id);
                let camera = self
                    .cameras
                    .entry(id.clone())
                    .or_insert_with(|| HomeCamera::new(Arc::clone(&status.name), &[]));
                camera.state(status.state, now);
                let is_renamed = camera.name != status.name;
                camera.name = status.name;
                if is_new || is_renamed {
                    self.announce(&id);
                }
                self.tell(&id, now);
                None
            }
            Observed::Renamed(id, name) => {
                if let Some(camera) = self.cameras.get_mut(&id) {
                    camera.name = name;
                    self.announce(&id);
                }
                None
            }
            Observed::Forgotten(id) => {
                self.remove(&id);
                None
            }
        }
    }

    fn pass(&mut self, now: Instant) {
        let ids: Vec<_> = self.cameras.keys().cloned().collect();
        for id in ids {
            if let Some(camera) = self.cameras.get_mut(&id) {
                camera.pass(now);
            }
            self.tell(&id, now);
        }
    }

    fn broker_said(&mut self, message: FromBroker) {
        match message {
            FromBroker::Birth => {
                tracing::debug!("Home Assistant has started, and is told of all entities");
                self.board.resend();
            }
            FromBroker::Kept { topic, payload } => {
                if self.kept.len() < KEPT {
                    self.kept.insert(topic, payload);
                }
            }
            FromBroker::AllKeptTold => self.tidy_up(),
        }
    }

    /// Goes on where an earlier run has ended: labels that it knew have entities again, and what is of cameras that are no more is
    /// removed from the broker.
    fn tidy_up(&mut self) {
        let kept = std::mem::take(&mut self.kept);
        for (topic, payload) in &kept {
            if let Some(object) = self.discovery.object_of(topic) {
                self.remember_label(object, payload);
            }
        }
        let known: BTreeSet<String> = self
            .cameras
            .keys()
            .map(|id| self.discovery.topics().of(id, CAMERA_STATUS))
            .collect();
        let mut cleared = 0;
        for (topic, payload) in kept {
            if payload.is_empty() || self.board.has(&topic) || known.contains(&topic) {
                continue;
            }
            if let Some(of_camera) = topic.strip_suffix(CAMERA_STATUS) {
                self.board.clear(format!("{of_camera}{BEST_SHOT}"));
            }
            self.board.clear(topic);
            cleared += 1;
        }
        if cleared > 0 {
            tracing::info!(
                cleared,
                "what the broker had of cameras and labels that are no more is removed"
            );
        }
    }

    fn remember_label(&mut self, object: &str, payload: &Bytes) {
        let of_camera = |id: &&StreamId| object.starts_with(&Discovery::occupancy_object(id));
        let Some(id) = self.cameras.keys().find(of_camera).cloned() else {
            return;
        };
        let config: Value = serde_json::from_slice(payload).unwrap_or_default();
        let Some(name) = config["name"].as_str() else {
            return;
        };
        let slug = super::mqtt::topics::slug(name);
        let camera = self
            .cameras
            .get_mut(&id)
            .expect("it is there, because its id was found");
        if camera.is_open() && camera.list(slug, name.into()) {
            self.announce(&id);
            self.tell(&id, Instant::now());
        }
    }

    /// Tells which entities a camera has.
    fn announce(&self, id: &StreamId) {
        let Some(camera) = self.cameras.get(id) else {
            return;
        };
        for entity in entities(camera) {
            let (topic, config) = self.discovery.entity(id, &camera.name, entity);
            self.board.set(topic, config);
        }
    }

    /// Tells how a camera is and what is before it.
    fn tell(&mut self, id: &StreamId, now: Instant) {
        let Some(camera) = self.cameras.get_mut(id) else {
            return;
        };
        let availability: &'static str = match camera.sight {
            Sight::Seen => super::mqtt::ONLINE,
            Sight::Blind => super::mqtt::OFFLINE,
        };
        let topic = self.discovery.topics().of(id, AVAILABILITY);
        self.board
            .set(topic, Bytes::from_static(availability.as_bytes()));
        for (slug, label) in &mut camera.labels {
            if !label.is_listed {
                continue;
            }
            let named = Label {
                name: &label.name,
                slug,
            };
            if let Some(count) = label.occupancy.count_to_tell(now) {
                let topic = self.discovery.label_topic(id, COUNT, named);
                self.board.set(topic, Bytes::from(count.to_string()));
            }
            let occupied: &'static str = if label.occupancy.is_occupied() {
                "ON"
            } else {
                "OFF"
            };
            let topic = self.discovery.label_topic(id, OCCUPANCY, named);
            self.board
                .set(topic, Bytes::from_static(occupied.as_bytes()));
        }
    }

    fn shot_taken(&self, id: &StreamId, jpeg: Option<Bytes>) {
        if let Some(jpeg) = jpeg
            && self.cameras.contains_key(id)
        {
            self.board
                .set(self.discovery.topics().of(id, BEST_SHOT), jpeg);
        }
    }

    fn remove(&mut self, id: &StreamId) {
        let Some(camera) = self.cameras.remove(id) else {
            return;
        };
        for entity in entities(&camera) {
            self.board.clear(self.discovery.entity_topic(id, entity));
            if let Entity::Occupancy(label) = entity {
                self.board
                    .clear(self.discovery.label_topic(id, OCCUPANCY, label));
                self.board
                    .clear(self.discovery.label_topic(id, COUNT, label));
            }
        }
        for leaf in [AVAILABILITY, BEST_SHOT] {
            self.board.clear(self.discovery.topics().of(id, leaf));
        }
    }
}

fn entities(camera: &HomeCamera) -> impl Iterator<Item = Entity<'_>> {
    let labels = camera.labels.iter().filter(|(_, label)| label.is_listed);
    let of_labels = labels.flat_map(|(slug, label)| {
        let named = Label {
            name: &label.name,
            slug,
        };
        [Entity::Occupancy(named), Entity::Count(named)]
    });
    [Entity::State, Entity::Connection, Entity::BestShot]
        .into_iter()
        .chain(of_labels)
}

#[cfg(test)]
#[path = "home_tests.rs"]
mod tests;
