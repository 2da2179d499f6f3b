//! Who wants pictures of which camera, in what form, and how often. Watchers and frames come in with the time; which frame is to
//! be encoded next, in which forms and for whom, comes out. It has no thread and no clock.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Form;
use super::inbox::Inbox;
use crate::detect::{ModelInfo, Object};
use twinsight_client::stream_id::StreamId;
use twinsight_media::picture::Frame;

/// A frame that waits to be encoded.
#[derive(Debug)]
pub(super) struct PendingFrame {
    pub(super) frame: Frame,
    pub(super) sequence: Option<u64>,
    /// What was seen on it, if somebody wants that drawn.
    pub(super) seen: Option<(Vec<Object>, ModelInfo)>,
}

/// A form in which a frame is wanted, and by whom: the inboxes, with the watcher's number of the camera.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) form: Form,
    pub(super) inboxes: Vec<(Arc<Inbox>, usize)>,
}

/// All watchers, and the frames that wait.
#[derive(Debug, Default)]
pub(super) struct PreviewCore {
    cameras: HashMap<StreamId, WatchedCamera>,
    /// The cameras of which a frame waits, the one that waits for the longest first.
    ready: VecDeque<StreamId>,
    next_watcher: u64,
}

#[derive(Debug, Default)]
struct WatchedCamera {
    watchers: Vec<Watcher>,
    pending: Option<(PendingFrame, Instant)>,
}

/// A watcher of one camera.
#[derive(Debug)]
struct Watcher {
    id: u64,
    form: Form,
    interval: Duration,
    /// It gets no picture before this.
    due_at: Option<Instant>,
    inbox: Arc<Inbox>,
    /// The watcher's number of the camera.
    at: usize,
}

impl Watcher {
    fn is_due(&self, now: Instant) -> bool {
        self.due_at.is_none_or(|due_at| due_at <= now)
    }
}

impl PreviewCore {
    /// Takes in a watcher of these cameras and gives its number.
    pub(super) fn add(
        &mut self,
        ids: &[StreamId],
        form: Form,
        interval: Duration,
        inbox: &Arc<Inbox>,
    ) -> u64 {
        self.next_watcher += 1;
        let id = self.next_watcher;
        for (at, camera) in ids.iter().enumerate() {
            let camera = self.cameras.entry(camera.clone()).or_default();
            camera.watchers.push(Watcher {
                id,
                form,
                interval,
                due_at: None,
                inbox: Arc::clone(inbox),
                at,
            });
        }
        id
    }

    /// Forgets a watcher, and frames that nobody else waits for.
    pub(super) fn remove(&mut self, id: u64) {
        self.cameras.retain(|_, camera| {
            camera.watchers.retain(|watcher| watcher.id != id);
            !camera.watchers.is_empty()
        });
        let cameras = &self.cameras;
        self.ready.retain(|id| cameras.contains_key(id));
    }

    /// Whether somebody wants a frame of this camera now; `Some(true)` means with objects.
    pub(super) fn is_due(&self, id: &StreamId, now: Instant) -> Option<bool> {
        let camera = self.cameras.get(id)?;
        let mut due = camera.watchers.iter().filter(|each| each.is_due(now));
        let first = due.next()?;
        Some(first.form.boxes || due.any(|each| each.form.boxes))
    }

    /// Takes in a frame for which somebody is due. True means that it replaced one that was not encoded yet.
    pub(super) fn offer(&mut self, id: &StreamId, frame: PendingFrame, now: Instant) -> bool {
        let Some(camera) = self.cameras.get_mut(id) else {
            return false;
        };
        let was_replaced = camera.pending.replace((frame, now)).is_some();
        if !was_replaced {
            self.ready.push_back(id.clone());
        }
        was_replaced
    }

    /// The next frame to encode, with the forms of those who are due.
    pub(super) fn take(&mut self) -> Option<(StreamId, PendingFrame, Vec<Wanted>)> {
        loop {
            let id = self.ready.pop_front()?;
            let Some(camera) = self.cameras.get_mut(&id) else {
                continue;
            };
            let Some((frame, offered_at)) = camera.pending.take() else {
                continue;
            };
            let mut wanted: Vec<Wanted> = Vec::new();
            for watcher in &mut camera.watchers {
                // Whoever came after the frame may want objects that were not kept.
                if !watcher.is_due(offered_at) || watcher.form.boxes && frame.seen.is_none() {
                    continue;
                }
                // Frames come a little early or late, and every second one should not become every third for that.
                let slack = watcher.interval / 10;
                watcher.due_at = Some(offered_at + watcher.interval - slack);
                let inbox = (Arc::clone(&watcher.inbox), watcher.at);
                match wanted.iter_mut().find(|each| each.form == watcher.form) {
                    Some(same) => same.inboxes.push(inbox),
                    None => wanted.push(Wanted {
                        form: watcher.form,
                        inboxes: vec![inbox],
                    }),
                }
            }
            if !wanted.is_empty() {
                return Some((id, frame, wanted));
            }
        }
    }

    /// Makes all watchers due.
    #[cfg(test)]
    pub(super) fn forget_pace(&mut self) {
        for watcher in self
            .cameras
            .values_mut()
            .flat_map(|each| &mut each.watchers)
        {
            watcher.due_at = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::encode::tests::grey;
    use super::*;

    fn id(twin: &str) -> StreamId {
        StreamId::new(twin, "default")
    }

    fn form(max_width_px: usize, boxes: bool) -> Form {
        Form {
            max_width_px,
            boxes,
        }
    }

    fn frame(sequence: u64) -> PendingFrame {
        PendingFrame {
            frame: grey(16, 16),
            sequence: Some(sequence),
            seen: None,
        }
    }

    fn add(core: &mut PreviewCore, twins: &[&str], form: Form, ms: u64) -> u64 {
        let ids: Vec<_> = twins.iter().map(|twin| id(twin)).collect();
        let inbox = Arc::new(Inbox::new(ids.len()));
        core.add(&ids, form, Duration::from_millis(ms), &inbox)
    }

    /// Offers a frame every 100 ms and says which are encoded, and in how many forms.
    fn encoded(core: &mut PreviewCore, frames: u64) -> Vec<(u64, usize)> {
        let start = Instant::now();
        let mut encoded = Vec::new();
        for n in 0..frames {
            let jitter = Duration::from_millis(n * 7 % 13);
            let now = start + Duration::from_millis(n * 100) + jitter;
            if core.is_due(&id("a"), now).is_some() {
                assert!(!core.offer(&id("a"), frame(n), now));
            }
            while let Some((_, frame, wanted)) = core.take() {
                encoded.push((frame.sequence.unwrap(), wanted.len()));
            }
        }
        encoded
    }

    #[test]
    fn a_watcher_gets_no_more_than_it_wants() {
        let mut core = PreviewCore::default();
        add(&mut core, &["a"], form(320, false), 200);
        let every_second: Vec<_> = (0..10).map(|n| (2 * n, 1)).collect();
        assert_eq!(encoded(&mut core, 20), every_second);
    }

    #[test]
    fn watchers_of_the_same_form_share_a_picture_and_others_have_their_own_pace() {
        let mut core = PreviewCore::default();
        add(&mut core, &["a"], form(320, false), 200);
        add(&mut core, &["a"], form(320, false), 200);
        add(&mut core, &["a"], form(640, false), 400);
        assert_eq!(encoded(&mut core, 7), [(0, 2), (2, 1), (4, 2), (6, 1)]);
    }

    #[test]
    fn cameras_take_turns_and_a_newer_frame_replaces_one_that_waits() {
        let mut core = PreviewCore::default();
        add(&mut core, &["a", "b"], form(320, false), 200);
        let now = Instant::now();
        assert!(!core.offer(&id("a"), frame(1), now));
        assert!(!core.offer(&id("b"), frame(1), now));
        assert!(core.offer(&id("a"), frame(2), now));
        let mut taken = || core.take().map(|(id, frame, _)| (id, frame.sequence));
        assert_eq!(taken(), Some((id("a"), Some(2))));
        assert_eq!(taken(), Some((id("b"), Some(1))));
        assert_eq!(taken(), None);
    }

    #[test]
    fn objects_are_wanted_only_by_whoever_wants_them_drawn() {
        let mut core = PreviewCore::default();
        let now = Instant::now();
        add(&mut core, &["a"], form(320, false), 200);
        assert_eq!(core.is_due(&id("a"), now), Some(false));
        assert_eq!(core.is_due(&id("b"), now), None);
        assert!(!core.offer(&id("a"), frame(1), now));
        add(&mut core, &["a"], form(320, true), 200);
        assert_eq!(core.is_due(&id("a"), now), Some(true));
        // The frame came before anybody wanted objects.
        let (_, _, wanted) = core.take().unwrap();
        assert_eq!(wanted.len(), 1);
    }

    #[test]
    fn of_watchers_that_went_nothing_is_left() {
        let mut core = PreviewCore::default();
        let one = add(&mut core, &["a", "b"], form(320, false), 200);
        let two = add(&mut core, &["a"], form(320, false), 200);
        let now = Instant::now();
        core.offer(&id("a"), frame(1), now);
        core.offer(&id("b"), frame(1), now);
        core.remove(one);
        assert_eq!(core.ready, [id("a")]);
        core.remove(two);
        assert!(core.cameras.is_empty() && core.ready.is_empty());
        assert!(core.take().is_none());
    }
}
