//! What a node of a pool does when cameras come to it or go. It follows what is to run and runs it; a camera that it holds from now
//! on is told from its beginning, and one that is about to be another node's is told to its end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::cameras::Cameras;
use super::sink::track_events;
use crate::publish::publisher::Publisher;
use crate::shard::{Duties, Duty, Parting, Share};
use crate::track::directory::{CameraTracks, TrackDirectory};
use crate::track::news::TrackEnd;
use twinsight_client::stream_id::StreamId;

/// What is under way of a camera has this long to be sent before another node takes it.
const PARTING_LIMIT: Duration = Duration::from_millis(250);

/// Time between two looks whether it was.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What both tasks work with.
#[derive(Clone)]
pub(super) struct ShareParts {
    pub(super) share: Share,
    pub(super) cameras: Arc<tokio::sync::Mutex<Cameras>>,
    pub(super) publisher: Publisher,
    pub(super) tracks: Arc<TrackDirectory>,
}

/// Runs the cameras that are this node's, until it is told to stop. A change is made to its end.
pub(super) async fn follow_duties(parts: ShareParts, stop: CancellationToken) {
    let mut duties = parts.share.duties();
    let mut held: BTreeSet<Arc<str>> = BTreeSet::new();
    loop {
        let now = Arc::clone(&duties.borrow_and_update());
        let holds: BTreeSet<Arc<str>> = match &*now {
            Duties::These(duties) => duties
                .iter()
                .filter(|(_, duty)| **duty == Duty::Hold)
                .map(|(twin, _)| Arc::clone(twin))
                .collect(),
            Duties::All | Duties::Shard(_) => return,
        };
        for twin in held.difference(&holds) {
            parts.share.set_begun(twin, false);
        }
        for twin in holds.difference(&held) {
            parts.begin(twin);
        }
        held = holds;
        let reconciled = {
            let mut cameras = parts.cameras.lock().await;
            // What the lease let through may be the change. It is told before others can have the cameras.
            cameras.look_at_share();
            cameras.reconcile().await
        };
        if let Err(error) = reconciled {
            tracing::error!(%error, "a configuration that was checked cannot be applied: this is a bug in Twinsight");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = duties.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

/// Sends the last of cameras that are about to be other nodes'.
pub(super) async fn part_with_cameras(parts: ShareParts) {
    loop {
        let partings = parts.share.next_partings().await;
        for parting in &partings {
            parts.part(parting);
        }
        let until = Instant::now() + PARTING_LIMIT;
        let mut left: Vec<&Parting> = partings.iter().collect();
        while !left.is_empty() {
            let is_late = Instant::now() >= until;
            left.retain(|parting| {
                let waits = !is_late && parts.publisher.has_waiting(&parting.twin);
                if !waits {
                    parts.share.parted(&parting.twin);
                }
                waits
            });
            if !left.is_empty() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }
}

impl ShareParts {
    /// Tells a camera that the node holds from now on from its beginning: its state, and tracks that nobody was told of before.
    fn begin(&self, twin: &Arc<str>) {
        for (_, tracks) in self.tracks_of(twin) {
            let _order = tracks.in_order();
            // Nobody was told of these tracks by this node, so nobody is told that they end.
            let _ = tracks.restart(TrackEnd::CameraRemoved);
        }
        self.share.set_begun(twin, true);
        self.publisher.tell_again(twin);
    }

    fn part(&self, parting: &Parting) {
        let twin = &parting.twin;
        let reason = match parting.to {
            Some(_) => TrackEnd::CameraRemoved,
            None => TrackEnd::Shutdown,
        };
        for (id, tracks) in self.tracks_of(twin) {
            let _order = tracks.in_order();
            let (name, news) = (tracks.name(), tracks.restart(reason));
            let events = track_events(&id, &name, Instant::now(), news);
            self.publisher.publish_last_tracks(events);
        }
        self.share.set_begun(twin, false);
        if let Some(to) = &parting.to {
            self.publisher.tell_moved(twin, to);
        }
    }

    fn tracks_of(&self, twin: &str) -> impl Iterator<Item = (StreamId, Arc<CameraTracks>)> {
        let streams = self.tracks.streams().into_iter();
        streams.filter(move |(id, _)| *id.twin_id == *twin)
    }
}
