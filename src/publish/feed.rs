//! A copy of what the node tells, for those who watch over HTTP. The publisher hands in each event as it writes it, whether the
//! hub takes it or not; the event's JSON goes out to all watchers. Detections are kept only while somebody watches and
//! a little longer, so that a watcher that was cut off misses nothing. Changes of state are few, and the last ones are always kept.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use serde::Serialize;
use tokio::sync::watch;

use super::event::{CAMERA_STATUS, CameraStatus, DETECTIONS};
use crate::clock::WallClock;
use twinsight_client::stream_id::StreamId;

/// At most this many watch at once.
pub const MAX_WATCHERS: usize = 32;

/// So many events are kept, and no more bytes of them than this.
const KEPT: (usize, usize) = (2048, 4 << 20);

/// Detections are kept for this long after the last watcher went.
const LINGER: Duration = Duration::from_secs(30);

/// So many changes of state are kept.
const STATES: usize = 200;

/// The events of the node. Clones share them.
#[derive(Debug, Clone)]
pub struct EventFeed {
    shared: Arc<FeedShared>,
}

#[derive(Debug)]
struct FeedShared {
    run_id: Arc<str>,
    state: Mutex<FeedState>,
    /// The number of the newest event.
    newest: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct FeedState {
    /// The number of the newest event, kept or not.
    newest: u64,
    /// Their numbers have no gaps, and the last one is `newest`.
    kept: VecDeque<Arc<FedEvent>>,
    kept_bytes: usize,
    watchers: usize,
    watched_until: Option<Instant>,
    states: VecDeque<StateChange>,
    /// Since when each camera is in its state, and why.
    current: HashMap<StreamId, (Instant, Option<String>)>,
}

/// An event as it was handed to the hub.
#[derive(Debug)]
pub struct FedEvent {
    /// Counts the events of this feed from 1.
    pub number: u64,
    /// `detections`, `cameraStatus`, `track` or `lineCrossed`.
    pub event_type: &'static str,
    /// The camera that it is about.
    pub id: StreamId,
    /// Its JSON.
    pub json: Bytes,
}

/// A change of a camera's state, as the log of states tells it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StateChange {
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// The camera.
    pub camera: StateCamera,
    /// The state that it came into.
    pub state: &'static str,
    /// Why, as a clause.
    pub reason: Option<String>,
    /// The attempt to connect that was under way, from 1.
    pub attempt: u32,
}

/// The camera of a [`StateChange`].
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StateCamera {
    twin_id: String,
    name: String,
    stream: String,
}

/// What a watcher gets next.
#[derive(Debug, Clone)]
pub enum Fed {
    /// An event.
    Event(Arc<FedEvent>),
    /// So many events were no longer kept when the watcher came to them.
    Missed(u64),
}

/// As many watch already as may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_WATCHERS} others watch the events already: close one of them, or ask again later")]
pub struct TooManyWatchers;

/// Somebody who watches. Dropping it ends that.
#[derive(Debug)]
pub struct FeedWatch {
    feed: EventFeed,
    changed: watch::Receiver<u64>,
    /// The number of the last event that the watcher got.
    seen: u64,
}

impl EventFeed {
    /// The feed of a run, whose identity is part of the ids of its events.
    pub fn new(run_id: impl Into<Arc<str>>) -> Self {
        Self {
            shared: Arc::new(FeedShared {
                run_id: run_id.into(),
                state: Mutex::default(),
                newest: watch::Sender::new(0),
            }),
        }
    }

    /// Watches from now on, or from behind the event of this id (`Last-Event-ID`). Of an id of another run nothing is known.
    ///
    /// # Errors
    /// When there are too many watchers.
    pub fn watch(&self, after: Option<&str>) -> Result<FeedWatch, TooManyWatchers> {
        let mut state = self.state();
        if state.watchers >= MAX_WATCHERS {
            return Err(TooManyWatchers);
        }
        state.watchers += 1;
        let newest = state.newest;
        drop(state);
        let after = after.and_then(|id| {
            let (run, number) = id.rsplit_once('-')?;
            let number = number.parse().ok()?;
            (run == &*self.shared.run_id && number <= newest).then_some(number)
        });
        Ok(FeedWatch {
            feed: self.clone(),
            changed: self.shared.newest.subscribe(),
            seen: after.unwrap_or(newest),
        })
    }

    /// The identity of the run.
    pub fn run_id(&self) -> &str {
        &self.shared.run_id
    }

    /// How many watch.
    pub fn watchers(&self) -> usize {
        self.state().watchers
    }

    /// The last changes of state, the oldest first.
    pub fn states(&self) -> Vec<StateChange> {
        self.state().states.iter().cloned().collect()
    }

    /// The id of an event for `Last-Event-ID`.
    pub fn event_id(&self, event: &FedEvent) -> String {
        format!("{}-{}", self.shared.run_id, event.number)
    }

    /// Takes in a detections event. Its JSON is made only if somebody watches, and outside the lock, so that no watcher waits for it.
    /// One caller tells all events, so their order stays.
    pub(super) fn detections(&self, id: &StreamId, json: impl FnOnce() -> Vec<u8>, now: Instant) {
        if self.state().takes(now) {
            self.push(DETECTIONS, id, json());
        }
    }

    /// Takes in an event of a track, of this type. It is kept as detections are.
    pub(super) fn track(
        &self,
        event_type: &'static str,
        id: &StreamId,
        json: impl FnOnce() -> Vec<u8>,
        now: Instant,
    ) {
        if self.state().takes(now) {
            self.push(event_type, id, json());
        }
    }

    /// Takes in a state. When states are told again because the hub returned, the log of states does not have them twice.
    pub(super) fn status(&self, status: &CameraStatus, json: Vec<u8>, clock: &WallClock) {
        let mut state = self.state();
        let told = (status.since, status.reason.clone());
        if state.current.insert(status.id.clone(), told.clone()) != Some(told) {
            state.note(StateChange {
                at: clock.unix_ms(status.since),
                camera: StateCamera {
                    twin_id: status.id.twin_id.to_string(),
                    name: status.name.to_string(),
                    stream: status.id.stream.to_string(),
                },
                state: status.state.as_str(),
                reason: status.reason.clone(),
                attempt: status.attempt,
            });
        }
        let takes = state.takes(clock.instant());
        drop(state);
        if takes {
            self.push(CAMERA_STATUS, &status.id, json);
        }
    }

    /// Forgets a camera that was removed long ago. What was logged of it stays.
    pub(super) fn forget(&self, id: &StreamId) {
        self.state().current.remove(id);
    }

    fn push(&self, event_type: &'static str, id: &StreamId, json: Vec<u8>) {
        let mut state = self.state();
        state.push(event_type, id, json.into());
        self.shared.newest.send_replace(state.newest);
    }

    fn state(&self) -> MutexGuard<'_, FeedState> {
        self.shared.state.lock()
    }
}

impl FeedState {
    /// True if the next event is to be kept. If not, it is counted here, so that whoever comes back late is told how many were
    /// missed.
    fn takes(&mut self, now: Instant) -> bool {
        if self.watchers > 0 || self.watched_until.is_some_and(|until| now < until) {
            return true;
        }
        self.newest += 1;
        // Nobody comes back for these.
        (self.kept, self.kept_bytes) = (VecDeque::new(), 0);
        false
    }

    fn push(&mut self, event_type: &'static str, id: &StreamId, json: Bytes) {
        self.newest += 1;
        self.kept_bytes += json.len();
        self.kept.push_back(Arc::new(FedEvent {
            number: self.newest,
            event_type,
            id: id.clone(),
            json,
        }));
        while self.kept.len() > KEPT.0 || self.kept_bytes > KEPT.1 {
            let Some(oldest) = self.kept.pop_front() else {
                break;
            };
            self.kept_bytes -= oldest.json.len();
        }
    }

    fn note(&mut self, change: StateChange) {
        if self.states.len() == STATES {
            self.states.pop_front();
        }
        self.states.push_back(change);
    }

    /// What comes behind the event of this number, with the number to go on from.
    fn after(&self, seen: u64) -> Option<(u64, Fed)> {
        if seen >= self.newest {
            return None;
        }
        let Some(oldest) = self.kept.front() else {
            return Some((self.newest, Fed::Missed(self.newest - seen)));
        };
        if oldest.number > seen + 1 {
            return Some((oldest.number - 1, Fed::Missed(oldest.number - 1 - seen)));
        }
        let at = usize::try_from(seen + 1 - oldest.number).ok()?;
        self.kept
            .get(at)
            .map(|event| (event.number, Fed::Event(Arc::clone(event))))
    }
}

impl FeedWatch {
    /// Waits for the next event. Dropping the future loses none.
    pub async fn next(&mut self) -> Fed {
        loop {
            self.changed.borrow_and_update();
            if let Some((seen, fed)) = self.feed.state().after(self.seen) {
                self.seen = seen;
                return fed;
            }
            if self.changed.changed().await.is_err() {
                // The sender lives as long as the feed, which this watch holds.
                std::future::pending::<()>().await;
            }
        }
    }

    /// The id of an event for `Last-Event-ID`.
    pub fn event_id(&self, event: &FedEvent) -> String {
        self.feed.event_id(event)
    }
}

impl Drop for FeedWatch {
    fn drop(&mut self) {
        let mut state = self.feed.state();
        state.watchers -= 1;
        if state.watchers == 0 {
            state.watched_until = Some(Instant::now() + LINGER);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use twinsight_client::telemetry::CameraState;

    fn id(twin: &str) -> StreamId {
        StreamId::new(twin, "default")
    }

    fn push(feed: &EventFeed, text: &str) {
        feed.detections(&id("cam"), || text.into(), Instant::now());
    }

    /// What the watcher gets without waiting.
    fn taken(watch: &mut FeedWatch) -> Vec<String> {
        std::iter::from_fn(|| watch.next().now_or_never())
            .map(|fed| match fed {
                Fed::Event(event) => String::from_utf8(event.json.to_vec()).unwrap(),
                Fed::Missed(count) => format!("missed {count}"),
            })
            .collect()
    }

    #[test]
    fn nothing_is_made_or_kept_while_nobody_watches() {
        let feed = EventFeed::new("run");
        feed.detections(&id("cam"), || panic!("nobody watches"), Instant::now());
        assert!(feed.state().kept.is_empty());
    }

    #[test]
    fn each_watcher_gets_all_events_in_order() {
        let feed = EventFeed::new("run");
        let mut one = feed.watch(None).unwrap();
        push(&feed, "1");
        let mut two = feed.watch(None).unwrap();
        push(&feed, "2");
        push(&feed, "3");
        assert_eq!(taken(&mut one), ["1", "2", "3"]);
        assert_eq!(taken(&mut two), ["2", "3"]);
        assert_eq!(taken(&mut two), [""; 0]);
    }

    #[test]
    fn whoever_was_cut_off_goes_on_behind_the_last_event() {
        let feed = EventFeed::new("run");
        let mut watch = feed.watch(None).unwrap();
        push(&feed, "1");
        let Some(Fed::Event(first)) = watch.next().now_or_never() else {
            panic!("it is there");
        };
        let last = watch.event_id(&first);
        drop(watch);
        push(&feed, "2");
        assert_eq!(taken(&mut feed.watch(Some(&last)).unwrap()), ["2"]);
        for unknown in ["other-1", "run-99", "run", "", "run-x"] {
            assert_eq!(taken(&mut feed.watch(Some(unknown)).unwrap()), [""; 0]);
        }
        let later = Instant::now() + LINGER + Duration::from_secs(1);
        feed.detections(&id("cam"), || panic!("nobody came back"), later);
        assert!(feed.state().kept.is_empty());
        let mut late = feed.watch(Some(&last)).unwrap();
        assert_eq!(
            taken(&mut late),
            ["missed 2"],
            "kept too long ago, and never kept"
        );
        push(&feed, "4");
        assert_eq!(taken(&mut late), ["4"]);
    }

    #[test]
    fn whoever_is_too_slow_is_told_what_it_missed() {
        let feed = EventFeed::new("run");
        let mut watch = feed.watch(None).unwrap();
        for n in 0..KEPT.0 + 3 {
            push(&feed, &n.to_string());
        }
        let all = taken(&mut watch);
        assert_eq!(all[..2], ["missed 3", "3"]);
        assert_eq!(all.len(), KEPT.0 + 1);
        push(&feed, &"x".repeat(KEPT.1));
        assert_eq!(feed.state().kept.len(), 1, "bytes are bounded too");
    }

    #[test]
    fn watchers_are_bounded_and_make_room_when_they_go() {
        let feed = EventFeed::new("run");
        let mut all: Vec<_> = (0..MAX_WATCHERS)
            .map(|_| feed.watch(None).unwrap())
            .collect();
        assert_eq!(feed.watch(None).unwrap_err(), TooManyWatchers);
        all.pop();
        assert!(feed.watch(None).is_ok());
    }

    #[tokio::test]
    async fn a_watcher_that_waits_is_woken() {
        let feed = EventFeed::new("run");
        let mut watch = feed.watch(None).unwrap();
        let waiting = tokio::spawn(async move { taken_one(&mut watch).await });
        tokio::task::yield_now().await;
        push(&feed, "1");
        assert_eq!(waiting.await.unwrap(), "1");
    }

    async fn taken_one(watch: &mut FeedWatch) -> String {
        match watch.next().await {
            Fed::Event(event) => String::from_utf8(event.json.to_vec()).unwrap(),
            Fed::Missed(count) => format!("missed {count}"),
        }
    }

    #[test]
    fn the_log_has_each_change_once_though_states_are_told_again() {
        let feed = EventFeed::new("run");
        let clock = WallClock::read();
        let mut status = CameraStatus {
            id: id("cam"),
            name: "Yard".into(),
            state: CameraState::Receiving,
            since: clock.instant(),
            reason: None,
            attempt: 1,
        };
        feed.status(&status, Vec::new(), &clock);
        feed.status(&status, Vec::new(), &clock);
        status.reason = Some("its model fails".to_owned());
        feed.status(&status, Vec::new(), &clock);
        status.since += Duration::from_secs(1);
        status.state = CameraState::Stalled;
        feed.status(&status, Vec::new(), &clock);
        let states: Vec<_> = feed.states().iter().map(|change| change.state).collect();
        assert_eq!(states, ["receiving", "receiving", "stalled"]);
        for n in 0..STATES as u64 {
            status.since += Duration::from_secs(n + 1);
            feed.status(&status, Vec::new(), &clock);
        }
        assert_eq!(feed.states().len(), STATES);
        // Of many cameras, the hub's return tells more than the log has room for.
        let quiet = CameraStatus {
            id: id("quiet"),
            ..status.clone()
        };
        feed.status(&quiet, Vec::new(), &clock);
        for n in 0..STATES as u64 {
            status.since += Duration::from_secs(n + 1);
            feed.status(&status, Vec::new(), &clock);
        }
        let before = feed.states();
        feed.status(&quiet, Vec::new(), &clock);
        assert_eq!(feed.states(), before);
    }
}
