//! What waits for one connection of a track: units come in as they are sent, and go out in their order when the connection takes
//! them. Plain state; `local_track` has one for each connection, and its writer takes from it.
//!
//! A viewer *catches up* with what [`Gop`] keeps: it gets the units from the last keyframe to the newest in quick succession.
//! They keep their timestamps, which lie in the past, so that a viewer knows how old a picture is and hurries. What comes
//! meanwhile waits behind them, until nothing waits any more. All of it is a part of what [`Gop`] holds or is dropped with it, so
//! a connection that hangs holds no more than that.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::gop::{Gop, Sample};

/// At most this many pictures or packets of sound wait for a connection that does not catch up.
const QUEUE: usize = 32;

/// A viewer is sent what is kept again no sooner than this, and over all no faster than [`RESENT_BYTES_A_SECOND`], because it
/// is likely that it lost packets since its path is narrow.
const RESEND_INTERVAL: Duration = Duration::from_secs(1);
const RESENT_BYTES_A_SECOND: u64 = 1_000_000;

/// A viewer that asks for a keyframe this soon after it was sent one again has asked before that one came.
const KEYFRAME_ON_ITS_WAY: Duration = Duration::from_millis(500);

/// The queue of one connection.
#[derive(Debug)]
pub(super) struct ViewerQueue {
    waiting: VecDeque<Arc<Sample>>,
    state: ViewerState,
    resend: ResendState,
}

/// What is sent to a viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ViewerState {
    /// Nothing, until the next keyframe.
    AwaitsKeyframe,
    /// Each unit as it comes.
    Live,
    /// The units since the last keyframe in quick succession, until none waits any more.
    CatchesUp,
}

/// Whether a viewer needs what is kept once more.
#[derive(Debug, Default)]
struct ResendState {
    wanted: bool,
    /// When what is kept was last sent again. The first time does not count: a viewer that was not ready for it asks at once,
    /// and loses little if it begins anew.
    begun: Option<Instant>,
    not_before: Option<Instant>,
}

/// What a connection is to send next.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) sample: Arc<Sample>,
    /// True if it is one of many that could leave at once, and so is to be paced.
    pub(super) catches_up: bool,
}

impl ViewerQueue {
    /// The queue of a new connection, which begins with what is kept, or else with the next keyframe.
    pub(super) fn new(gop: Option<&Gop>, now: Instant) -> Self {
        let mut queue = Self {
            waiting: VecDeque::new(),
            state: ViewerState::AwaitsKeyframe,
            resend: ResendState::default(),
        };
        if let Some(gop) = gop {
            queue.catch_up(gop, now);
            queue.resend = ResendState {
                // It begins with them once another one comes.
                wanted: gop.is_stale(now),
                ..ResendState::default()
            };
        }
        queue
    }

    /// Takes a unit that `gop` has taken before. Gives how many were left out for this connection.
    pub(super) fn put(&mut self, sample: &Arc<Sample>, gop: Option<&Gop>, now: Instant) -> u64 {
        if sample.is_keyframe {
            return self.begin_at(sample);
        }
        let is_due = self.resend.not_before.is_none_or(|at| at <= now);
        if self.resend.wanted
            && is_due
            && let Some(gop) = gop
        {
            self.catch_up(gop, now);
            if self.state == ViewerState::CatchesUp {
                return 0;
            }
        }
        let has_room = match self.state {
            ViewerState::AwaitsKeyframe => return 1,
            ViewerState::Live => self.waiting.len() < QUEUE,
            ViewerState::CatchesUp => gop.is_some_and(|gop| !gop.units().is_empty()),
        };
        if has_room {
            self.waiting.push_back(Arc::clone(sample));
            return 0;
        }
        // What waits is too old to be worth sending, so the connection goes on with the next keyframe, or with what is kept
        // once it had a moment to recover.
        let dropped = self.waiting.len() as u64 + 1;
        self.waiting.clear();
        self.state = ViewerState::AwaitsKeyframe;
        self.resend.wanted = gop.is_some();
        let earliest = now + RESEND_INTERVAL;
        let not_before = self.resend.not_before.get_or_insert(earliest);
        *not_before = earliest.max(*not_before);
        dropped
    }

    /// Takes a keyframe, behind which a viewer needs nothing that came before.
    fn begin_at(&mut self, keyframe: &Arc<Sample>) -> u64 {
        let is_behind = self.state == ViewerState::CatchesUp || self.waiting.len() >= QUEUE;
        let dropped = if is_behind { self.waiting.len() } else { 0 };
        if is_behind {
            self.waiting.clear();
        }
        self.state = ViewerState::Live;
        self.resend.wanted = false;
        self.waiting.push_back(Arc::clone(keyframe));
        dropped as u64
    }

    /// The viewer has lost a picture and asks for a keyframe.
    pub(super) fn keyframe_wanted(&mut self, gop: &Gop, now: Instant) {
        let since = |at| now.saturating_duration_since(at);
        if self
            .resend
            .begun
            .is_some_and(|at| since(at) < KEYFRAME_ON_ITS_WAY)
        {
            return;
        }
        self.resend.wanted = true;
        if self.resend.not_before.is_none_or(|at| at <= now) {
            self.catch_up(gop, now);
        }
    }

    /// Gives what is to be sent next.
    pub(super) fn take(&mut self) -> Option<Outgoing> {
        let sample = self.waiting.pop_front()?;
        let catches_up = self.state == ViewerState::CatchesUp;
        if catches_up && self.waiting.is_empty() {
            self.state = ViewerState::Live;
        }
        Some(Outgoing { sample, catches_up })
    }

    /// Lets the viewer begin with the last keyframe. It does nothing if none is kept, or if nothing has come for long, since the
    /// viewer would take what is sent for a picture of now.
    fn catch_up(&mut self, gop: &Gop, now: Instant) {
        if gop.units().is_empty() || gop.is_stale(now) {
            return;
        }
        let bytes = u64::try_from(gop.bytes()).unwrap_or(u64::MAX);
        let pause = Duration::from_millis(bytes.saturating_mul(1000) / RESENT_BYTES_A_SECOND);
        // What waits is among what is kept, or older.
        self.waiting = gop.units().iter().cloned().collect();
        self.state = ViewerState::CatchesUp;
        self.resend = ResendState {
            wanted: false,
            begun: Some(now),
            not_before: Some(now + pause.max(RESEND_INTERVAL)),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::super::gop::tests::unit;
    use super::*;

    /// A track: what was sent so far and one viewer.
    struct Track {
        gop: Option<Gop>,
        viewer: ViewerQueue,
        now: Instant,
        next: u32,
        dropped: u64,
    }

    impl Track {
        /// A track that keeps up to 1000 bytes, or nothing, and has sent so many units of ten bytes.
        fn new(keeps: bool, units: u32) -> Self {
            let now = Instant::now();
            let mut track = Self {
                gop: keeps.then(|| Gop::new(1000)),
                viewer: ViewerQueue::new(None, now),
                now,
                next: 0,
                dropped: 0,
            };
            for n in 0..units {
                track.send(n == 0);
            }
            track.viewer = ViewerQueue::new(track.gop.as_ref(), now);
            track.dropped = 0;
            track
        }

        fn send(&mut self, is_keyframe: bool) {
            let sample = unit(self.next, 10, is_keyframe);
            self.next += 1;
            if let Some(gop) = &mut self.gop {
                gop.push(&sample);
            }
            self.dropped += self.viewer.put(&sample, self.gop.as_ref(), self.now);
        }

        fn ask(&mut self, ms: u64) {
            self.now += Duration::from_millis(ms);
            if let Some(gop) = &self.gop {
                self.viewer.keyframe_wanted(gop, self.now);
            }
        }

        /// The timestamps of what waits, and how many of it are paced.
        fn taken(&mut self) -> (Vec<u32>, usize) {
            let mut paced = 0;
            let taken = std::iter::from_fn(|| self.viewer.take()).map(|outgoing| {
                paced += usize::from(outgoing.catches_up);
                outgoing.sample.timestamp
            });
            (taken.collect(), paced)
        }
    }

    #[test]
    fn a_viewer_begins_with_what_is_kept_and_goes_on_without_a_gap() {
        let mut track = Track::new(true, 60);
        track.send(false);
        assert_eq!(track.taken(), ((0..61).collect(), 61));
        track.send(false);
        assert_eq!(track.taken(), (vec![61], 0), "it is not paced any more");
        assert_eq!(track.dropped, 0);
    }

    #[test]
    fn without_a_cache_a_viewer_begins_with_the_next_keyframe() {
        let mut track = Track::new(false, 5);
        track.send(false);
        track.send(true);
        track.send(false);
        assert_eq!((track.taken(), track.dropped), ((vec![6, 7], 0), 1));
        track.ask(5000);
        track.send(false);
        assert_eq!(track.taken(), (vec![8], 0));
    }

    #[test]
    fn a_keyframe_makes_the_rest_needless() {
        let mut track = Track::new(true, 60);
        track.viewer.take();
        track.send(true);
        track.send(false);
        assert_eq!((track.taken(), track.dropped), ((vec![60, 61], 0), 59));
    }

    #[test]
    fn a_viewer_that_hangs_holds_no_more_than_the_cache() {
        let mut track = Track::new(true, 60);
        for _ in 0..40 {
            track.send(false);
        }
        assert_eq!(track.viewer.waiting.len(), 100);
        track.send(false);
        assert_eq!((track.viewer.waiting.len(), track.dropped), (0, 101));
        for _ in 0..100 {
            track.send(false);
        }
        assert_eq!(track.taken().0, Vec::<u32>::new());
        track.send(true);
        assert_eq!(track.taken().0, [201]);
        // Live, it holds no more than the queue.
        for _ in 0..=QUEUE {
            track.send(false);
        }
        assert!(track.viewer.waiting.is_empty());
    }

    #[test]
    fn one_that_fell_behind_catches_up_after_a_moment() {
        let mut track = Track::new(true, 1);
        assert_eq!(track.taken().0, [0]);
        for _ in 0..=QUEUE {
            track.send(false);
        }
        assert_eq!((track.taken().0.len(), track.dropped), (0, 33));
        track.now += RESEND_INTERVAL;
        track.send(false);
        assert_eq!(track.taken(), ((0..35).collect(), 35));
    }

    #[test]
    fn what_is_kept_is_sent_again_to_a_viewer_that_lost_a_picture() {
        let mut track = Track::new(true, 3);
        assert_eq!(track.taken().0, [0, 1, 2]);
        track.ask(10);
        assert_eq!(track.taken(), ((0..3).collect(), 3), "it was not ready yet");
        track.ask(400);
        assert_eq!(track.taken().0, Vec::<u32>::new(), "it is on its way");
        track.ask(300);
        assert_eq!(track.taken().0, Vec::<u32>::new(), "only once a second");
        track.send(false);
        assert_eq!(track.taken().0, [3]);
        track.now += Duration::from_millis(300);
        track.send(false);
        assert_eq!(
            track.taken(),
            ((0..5).collect(), 5),
            "what was asked for is not forgotten"
        );
        track.ask(1000);
        assert_eq!(
            track.taken(),
            ((0..5).collect(), 5),
            "at once, and up to the newest"
        );
        track.ask(999);
        track.send(true);
        track.now += Duration::from_secs(2);
        track.send(false);
        assert_eq!(
            track.taken(),
            (vec![5, 6], 0),
            "a keyframe was all that it needed"
        );
    }

    #[test]
    fn one_that_was_not_ready_begins_anew() {
        let mut track = Track::new(true, 60);
        for _ in 0..5 {
            track.viewer.take();
        }
        track.ask(10);
        assert_eq!(track.taken(), ((0..60).collect(), 60));
    }

    #[test]
    fn a_viewer_of_a_camera_that_fell_silent_waits_for_its_next_unit() {
        let mut track = Track::new(true, 3);
        let second = Duration::from_secs(1);
        let last = track.gop.as_ref().unwrap().units().last().unwrap().taken_at;
        track.viewer = ViewerQueue::new(track.gop.as_ref(), last + 5 * second);
        assert_eq!(track.taken().0, [0, 1, 2], "it may be a slow camera");
        track.viewer = ViewerQueue::new(track.gop.as_ref(), last + 6 * second);
        assert_eq!(track.taken().0, Vec::<u32>::new());
        track.now = last + 7 * second;
        track.ask(0);
        assert_eq!(track.taken().0, Vec::<u32>::new());
        // The next unit builds on what is kept. Its time is that of the test's clock, which has not moved.
        track.now = last;
        track.send(false);
        assert_eq!(track.taken(), ((0..4).collect(), 4));
    }

    #[test]
    fn large_groups_are_sent_again_less_often() {
        let now = Instant::now();
        let mut gop = Gop::new(10_000_000);
        gop.push(&unit(0, 5_000_000, true));
        let mut viewer = ViewerQueue::new(Some(&gop), now);
        let mut asked = |ms| {
            viewer.keyframe_wanted(&gop, now + Duration::from_millis(ms));
            viewer.take().is_some()
        };
        assert!(asked(0), "the first time that it asks");
        assert!(!asked(4999));
        assert!(asked(5000));
    }
}
