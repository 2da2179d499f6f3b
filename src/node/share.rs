//! What a node of a pool does when cameras come to it or go. It follows what is to run and runs it; a camera that it holds from now
//! on is told from its beginning, and one that is about to be another node's is told to its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::cameras::{Cameras, StatusLines};
use super::sink::track_events;
use crate::publish::publisher::Publisher;
use crate::publish::track_event::TrackEvent;
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
    pub(super) publisher: Publisher,
    pub(super) tracks: Arc<TrackDirectory>,
    pub(super) statuses: StatusLines,
    pub(super) ends: KeptEnds,
}

/// Ends of tracks that were told, of cameras that may not be published for a while. Whoever tells the beginning or the last of a camera
/// has this locked meanwhile, so that they are told one after the other.
pub(super) type KeptEnds = Arc<Mutex<BTreeMap<Arc<str>, Vec<TrackEvent>>>>;

/// Runs the cameras that are this node's, until it is told to stop. A change is made to its end. What is published follows a change at
/// once: closing the connections of some cameras takes time, and others do not wait for that.
pub(super) async fn follow_duties(
    parts: ShareParts,
    cameras: Arc<tokio::sync::Mutex<Cameras>>,
    stop: CancellationToken,
) {
    let (changed, changes) = watch::channel(());
    join(
        tell_changes(parts, changed, stop),
        run_cameras(cameras, changes),
    )
    .await;
}

/// Begins to publish cameras and ceases to, and says `changed` after each change.
async fn tell_changes(parts: ShareParts, changed: watch::Sender<()>, stop: CancellationToken) {
    let mut duties = parts.share.duties();
    let mut held = BTreeMap::new();
    loop {
        let now = Arc::clone(&duties.borrow_and_update());
        let Duties::These(now) = &*now else {
            return;
        };
        held = parts.follow(&held, now);
        changed.send_replace(());
        tokio::select! {
            () = stop.cancelled() => return,
            changed = duties.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

/// Makes the running cameras those that are this node's after each change, until there can be none any more. Changes that come while
/// it does so are made together.
async fn run_cameras(cameras: Arc<tokio::sync::Mutex<Cameras>>, mut changes: watch::Receiver<()>) {
    while changes.changed().await.is_ok() {
        if let Err(error) = cameras.lock().await.reconcile().await {
            tracing::error!(%error, "a configuration that was checked cannot be applied: this is a bug in Twinsight");
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
    /// Ceases to publish what was `held` and is not any more, and begins to publish what is held from `now` on. Gives that, each camera
    /// with its time of being open.
    fn follow(
        &self,
        held: &BTreeMap<Arc<str>, u64>,
        now: &BTreeMap<Arc<str>, Duty>,
    ) -> BTreeMap<Arc<str>, u64> {
        let holds: BTreeMap<Arc<str>, u64> = now
            .iter()
            .filter_map(|(twin, duty)| match duty {
                Duty::Hold { epoch } => Some((Arc::clone(twin), *epoch)),
                Duty::Warm => None,
            })
            .collect();
        for (twin, epoch) in held {
            if holds.get(twin) != Some(epoch) {
                self.pause(twin, *epoch);
            }
        }
        for (twin, epoch) in &holds {
            if held.get(twin) != Some(epoch) {
                self.begin(twin, *epoch);
            }
        }
        let mut ends = self.ends.lock();
        ends.retain(|twin, events| now.contains_key(twin) && !events.is_empty());
        drop(ends);
        // What the lease let through may be the change. It is told before others can have the cameras.
        self.statuses.look_at_share();
        holds
    }

    /// Tells a camera that the node holds from now on from its beginning: its state, and tracks that nobody was told of before. Tracks
    /// that were told when it held the camera last end first.
    fn begin(&self, twin: &Arc<str>, epoch: u64) {
        let mut ends = self.ends.lock();
        if self.share.is_closing(twin, epoch) {
            // It is given away already, and `part` tells the last of it.
            return;
        }
        let tracks = self.tracks_of(twin);
        {
            // While these are held no frame of the camera is between its tracks and the outbox.
            let _order: Vec<_> = tracks.iter().map(|(_, tracks)| tracks.in_order()).collect();
            self.publisher
                .publish_last_tracks(ends.remove(twin).unwrap_or_default());
            for (_, tracks) in &tracks {
                // Nobody was told of these tracks by this node, so nobody is told that they end.
                let _ = tracks.restart(TrackEnd::CameraRemoved);
            }
            self.share.set_begun(twin, Some(epoch));
        }
        self.publisher.tell_again(twin);
    }

    /// Lets nothing more of a camera in, because the lease has run out or the camera went. Keeps the ends of the tracks that were told,
    /// unless the last of the camera was sent already.
    fn pause(&self, twin: &Arc<str>, epoch: u64) {
        let mut ends = self.ends.lock();
        let tracks = self.tracks_of(twin);
        let _order: Vec<_> = tracks.iter().map(|(_, tracks)| tracks.in_order()).collect();
        // Of one that is given away `part` tells the last.
        if self.share.begun(twin) == Some(epoch) && !self.share.is_closing(twin, epoch) {
            let told = self.interrupt(twin, epoch, &tracks);
            ends.entry(Arc::clone(twin)).or_default().extend(told);
        }
    }

    /// Lets nothing more of a camera in, and gives the ends of the tracks that were told in this time of being open. The caller holds the
    /// order of its tracks.
    fn interrupt(
        &self,
        twin: &Arc<str>,
        epoch: u64,
        tracks: &[(StreamId, Arc<CameraTracks>)],
    ) -> Vec<TrackEvent> {
        self.share.set_begun(twin, None);
        let closed_at = self.share.closed_at(epoch);
        let ends = tracks.iter().flat_map(|(id, tracks)| {
            let mut news = tracks.restart(TrackEnd::CameraRemoved);
            // One that was confirmed later was never told.
            news.retain(|news| news.track.confirmed_at <= closed_at);
            track_events(id, &tracks.name(), closed_at, news).collect::<Vec<_>>()
        });
        ends.collect()
    }

    /// Tells the last of a camera.
    fn part(&self, parting: &Parting) {
        let twin = &parting.twin;
        let mut ends = self.ends.lock();
        let is_closing = self.share.is_closing(twin, parting.epoch);
        if !is_closing && self.share.held_last(twin) {
            // It was opened anew.
            return;
        }
        let reason = match parting.to {
            Some(_) => TrackEnd::CameraRemoved,
            None => TrackEnd::Shutdown,
        };
        let tracks = self.tracks_of(twin);
        let _order: Vec<_> = tracks.iter().map(|(_, tracks)| tracks.in_order()).collect();
        let begun = self.share.begun(twin);
        if is_closing && begun == Some(parting.epoch) {
            for (id, tracks) in &tracks {
                let (name, news) = (tracks.name(), tracks.restart(reason));
                let events = track_events(id, &name, Instant::now(), news);
                self.publisher.publish_last_tracks(events);
            }
            self.share.set_begun(twin, None);
        } else if is_closing {
            // The lease had run out, and before the camera could be begun anew it was given away. What was told until then ends here.
            let mut told = ends.remove(twin).unwrap_or_default();
            if let Some(before) = begun {
                told.extend(self.interrupt(twin, before, &tracks));
            }
            self.publisher.publish_last_tracks(told);
        }
        if let Some(to) = &parting.to {
            self.publisher.tell_moved(twin, to);
        }
    }

    fn tracks_of(&self, twin: &str) -> Vec<(StreamId, Arc<CameraTracks>)> {
        let mut streams = self.tracks.streams();
        streams.retain(|(id, _)| *id.twin_id == *twin);
        streams
    }
}

#[cfg(test)]
#[path = "share_tests.rs"]
mod tests;
