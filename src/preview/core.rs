//! Who gets which picture next, as plain state: watches, frames and encoded pictures come in with the time, and the next frame to
//! encode and the next picture of a watch go out. [`Previews`](super::Previews) puts a lock and a thread around it.
//!
//! Of each stream that is watched, the newest frame alone is kept. It is encoded when a watch waits whose time has come, once
//! for all that want it in the same [`Form`].

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use twinsight_client::stream_id::StreamId;

/// So many watches may be open at once.
pub const MAX_WATCHES: usize = 32;

/// One watch may look at so many streams.
pub const MAX_STREAMS: usize = 64;

/// A watch gets so many pictures a second of a stream, and no more.
pub const MAX_FPS: f64 = 5.0;

/// A picture that is older than its stream's newest frame is still handed out when it was encoded so short a time ago. Without
/// this, a watch of many streams would find each picture outdated as soon as the encoder falls behind.
const FRESH: Duration = Duration::from_millis(250);

/// Pictures have these widths, so that watchers whose screens differ a little share one.
const WIDTHS_PX: [usize; 8] = [160, 240, 320, 480, 640, 960, 1280, 1920];

/// How a frame is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Form {
    pub(super) width_px: usize,
    pub(super) boxes: bool,
}

/// What a watch wants of each of its streams.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Wish {
    pub(super) width_px: Option<u32>,
    pub(super) boxes: bool,
    /// From one picture of a stream to its next.
    pub(super) interval: Duration,
}

impl Wish {
    /// A wish for so many pictures a second, which the bounds limit.
    pub(super) fn new(width_px: Option<u32>, boxes: bool, fps: f64) -> Self {
        /// Slower than this nobody can wish.
        const MIN_FPS: f64 = 0.01;
        let fps = if fps.is_nan() { MAX_FPS } else { fps };
        Self {
            width_px,
            boxes,
            interval: Duration::from_secs_f64(1.0 / fps.clamp(MIN_FPS, MAX_FPS)),
        }
    }

    fn form(&self, frame_width_px: usize) -> Form {
        Form {
            width_px: shown_width_px(self.width_px, frame_width_px),
            boxes: self.boxes,
        }
    }
}

/// The width of the picture for somebody who shows it so wide: rounded up to a step, and never more than the frame has. A frame
/// whose sides do not fit a JPEG is made as small as has to be by [`scaled_size`].
fn shown_width_px(wanted_px: Option<u32>, frame_width_px: usize) -> usize {
    let wanted_px = wanted_px.and_then(|px| usize::try_from(px).ok());
    wanted_px
        .and_then(|wanted| WIDTHS_PX.into_iter().find(|step| *step >= wanted))
        .map_or(frame_width_px, |step| step.min(frame_width_px))
}

/// Names a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct WatchId(u64);

/// A frame to encode.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Task<F> {
    pub(super) stream: StreamId,
    /// The number that the frame has in here.
    pub(super) number: u64,
    pub(super) form: Form,
    pub(super) frame: F,
}

/// What there is for a watch.
#[derive(Debug, PartialEq)]
pub(super) enum Poll<P> {
    /// A picture that it has not had.
    Picture(P),
    /// It has to wait: until it is told of a picture, and no longer than until then.
    Wait(Option<Instant>),
}

/// Why a frame that a watch could have had went by without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missed {
    /// The watch waited for it, and it was not encoded in time.
    Encoder,
    /// The watch had not asked for another picture yet.
    Watcher,
}

/// All watches, the frames that they look at, and the pictures that were made of them. `F` is a frame and what is drawn on it, `P`
/// a picture.
#[derive(Debug)]
pub(super) struct Core<F, P> {
    watches: HashMap<WatchId, WatchState>,
    streams: HashMap<StreamId, StreamState<F, P>>,
    last_id: u64,
    last_number: u64,
    /// What is being encoded: the number of its frame, and its form.
    in_hand: Option<(u64, Form)>,
}

#[derive(Debug)]
struct WatchState {
    views: Vec<View>,
    wish: Wish,
    /// The view that is looked at first, so that each has its turn.
    turn: usize,
    /// Whether somebody waits for a picture of it at this moment.
    is_waiting: bool,
}

/// What a watch has had of a stream.
#[derive(Debug)]
struct View {
    stream: StreamId,
    /// The number of the frame that it had last.
    seen: u64,
    /// It gets no further picture before.
    due_at: Instant,
}

#[derive(Debug)]
struct StreamState<F, P> {
    watches: usize,
    newest: Option<Newest<F>>,
    made: HashMap<Form, Made<P>>,
}

#[derive(Debug)]
struct Newest<F> {
    number: u64,
    width_px: usize,
    frame: F,
}

/// What came of encoding a frame: no picture when it failed.
#[derive(Debug)]
struct Made<P> {
    number: u64,
    at: Instant,
    picture: Option<P>,
}

impl<F, P> Default for Core<F, P> {
    fn default() -> Self {
        Self {
            watches: HashMap::new(),
            streams: HashMap::new(),
            last_id: 0,
            last_number: 0,
            in_hand: None,
        }
    }
}

impl<F, P> StreamState<F, P> {
    /// The picture of this form, if it may be handed to somebody who saw frame `seen`.
    fn fresh(&self, form: Form, seen: u64, now: Instant) -> Option<&Made<P>> {
        let made = self.made.get(&form)?;
        let is_newest = self
            .newest
            .as_ref()
            .is_none_or(|newest| newest.number == made.number);
        let is_fresh = is_newest || now.saturating_duration_since(made.at) < FRESH;
        (made.number > seen && is_fresh).then_some(made)
    }
}

impl<F: Clone, P: Clone> Core<F, P> {
    /// Opens a watch, or gives `None` when there are as many as there may be. A stream that is named twice counts once.
    pub(super) fn open(
        &mut self,
        streams: impl IntoIterator<Item = StreamId>,
        wish: Wish,
        now: Instant,
    ) -> Option<WatchId> {
        if self.watches.len() >= MAX_WATCHES {
            return None;
        }
        let mut views: Vec<View> = Vec::new();
        for stream in streams {
            if views.iter().any(|view| view.stream == stream) {
                continue;
            }
            let state = self.streams.entry(stream.clone()).or_insert(StreamState {
                watches: 0,
                newest: None,
                made: HashMap::new(),
            });
            state.watches += 1;
            views.push(View {
                stream,
                seen: 0,
                due_at: now,
            });
        }
        self.last_id += 1;
        let id = WatchId(self.last_id);
        let state = WatchState {
            views,
            wish,
            turn: 0,
            is_waiting: false,
        };
        self.watches.insert(id, state);
        Some(id)
    }

    /// Ends a watch. Of a stream that nobody looks at any more nothing is kept.
    pub(super) fn close(&mut self, id: WatchId) {
        let Some(watch) = self.watches.remove(&id) else {
            return;
        };
        for view in watch.views {
            if let Some(state) = self.streams.get_mut(&view.stream) {
                state.watches -= 1;
                if state.watches == 0 {
                    self.streams.remove(&view.stream);
                }
            }
        }
    }

    /// How many watches there are.
    pub(super) fn watches(&self) -> usize {
        self.watches.len()
    }

    /// The streams that are watched, as bits of their [`stream_bit`].
    pub(super) fn watched_bits(&self) -> u64 {
        self.streams
            .keys()
            .fold(0, |bits, stream| bits | stream_bit(stream))
    }

    /// Whether somebody looks at a stream, and then whether somebody wants boxes in its pictures.
    pub(super) fn wants(&self, stream: &StreamId) -> Option<bool> {
        self.streams.get(stream)?;
        let boxes = self
            .watches
            .values()
            .any(|watch| watch.wish.boxes && watch.views.iter().any(|view| view.stream == *stream));
        Some(boxes)
    }

    /// Takes a stream's newest frame. The one that it replaces comes back, so that the caller drops it where nobody waits, together
    /// with why somebody missed it, if so.
    pub(super) fn offer(
        &mut self,
        stream: &StreamId,
        frame: F,
        width_px: usize,
        now: Instant,
    ) -> (Option<F>, Option<Missed>) {
        let missed = self.missed(stream, now);
        let Some(state) = self.streams.get_mut(stream) else {
            return (Some(frame), None);
        };
        self.last_number += 1;
        let newest = Newest {
            number: self.last_number,
            width_px,
            frame,
        };
        let replaced = state.newest.replace(newest);
        (replaced.map(|newest| newest.frame), missed)
    }

    /// Why a watch that was due has not had the stream's newest frame, if there is one.
    fn missed(&self, stream: &StreamId, now: Instant) -> Option<Missed> {
        let state = self.streams.get(stream)?;
        let newest = state.newest.as_ref()?;
        let mut missed = None;
        for watch in self.watches.values() {
            let form = watch.wish.form(newest.width_px);
            let was_tried = state
                .made
                .get(&form)
                .is_some_and(|made| made.number == newest.number);
            if was_tried || self.in_hand == Some((newest.number, form)) {
                continue;
            }
            let is_missed = watch.views.iter().any(|view| {
                view.stream == *stream && view.seen < newest.number && view.due_at <= now
            });
            if is_missed && watch.is_waiting {
                return Some(Missed::Encoder);
            }
            if is_missed {
                missed = Some(Missed::Watcher);
            }
        }
        missed
    }

    /// The frame that is to be encoded next: that of the watch which waits and has been due for the longest time.
    pub(super) fn task(&mut self, now: Instant) -> Option<Task<F>> {
        let streams = &self.streams;
        let waiting = self.watches.values().filter(|watch| watch.is_waiting);
        let wanted = waiting.flat_map(|watch| {
            watch.views.iter().filter_map(move |view| {
                let state = streams.get(&view.stream)?;
                let newest = state.newest.as_ref()?;
                let form = watch.wish.form(newest.width_px);
                let was_tried = state
                    .made
                    .get(&form)
                    .is_some_and(|made| made.number == newest.number);
                let is_wanted = view.due_at <= now
                    && newest.number > view.seen
                    && !was_tried
                    && state
                        .fresh(form, view.seen, now)
                        .is_none_or(|made| made.picture.is_none());
                is_wanted.then_some((view.due_at, newest.number, &view.stream, form, newest))
            })
        });
        let (_, number, stream, form, newest) =
            wanted.min_by_key(|(due_at, number, ..)| (*due_at, *number))?;
        let task = Task {
            stream: stream.clone(),
            number,
            form,
            frame: newest.frame.clone(),
        };
        self.in_hand = Some((number, form));
        Some(task)
    }

    /// Takes what came of a task, `None` when it failed, and gives the watches that wait for it.
    pub(super) fn made(
        &mut self,
        task: &Task<F>,
        picture: Option<P>,
        now: Instant,
    ) -> Vec<WatchId> {
        self.in_hand = None;
        let Some(state) = self.streams.get_mut(&task.stream) else {
            return Vec::new();
        };
        // What nobody would be given any more is let go.
        state.made.retain(|form, made| {
            *form == task.form || now.saturating_duration_since(made.at) < FRESH
        });
        let made = Made {
            number: task.number,
            at: now,
            picture,
        };
        state.made.insert(task.form, made);
        self.watches
            .iter()
            .filter(|(_, watch)| {
                watch.is_waiting && watch.views.iter().any(|view| view.stream == task.stream)
            })
            .map(|(id, _)| *id)
            .collect()
    }

    /// Notes whether somebody waits for a picture of a watch.
    pub(super) fn set_waiting(&mut self, id: WatchId, is_waiting: bool) {
        if let Some(watch) = self.watches.get_mut(&id) {
            watch.is_waiting = is_waiting;
        }
    }

    /// The next picture of a watch. Its streams have their turns, and each gives its newest picture.
    pub(super) fn poll(&mut self, id: WatchId, now: Instant) -> Poll<P> {
        let Some(watch) = self.watches.get_mut(&id) else {
            return Poll::Wait(None);
        };
        let count = watch.views.len();
        let mut earliest: Option<Instant> = None;
        for at in (0..count).map(|n| (watch.turn + n) % count) {
            let view = &mut watch.views[at];
            if view.due_at > now {
                earliest = Some(earliest.map_or(view.due_at, |other| other.min(view.due_at)));
                continue;
            }
            let Some(state) = self.streams.get(&view.stream) else {
                continue;
            };
            let Some(newest) = &state.newest else {
                continue;
            };
            let form = watch.wish.form(newest.width_px);
            let Some(made) = state.fresh(form, view.seen, now) else {
                continue;
            };
            let Some(picture) = &made.picture else {
                continue;
            };
            view.seen = made.number;
            // The pace is kept where the watch is a little late, and begins anew where it is more than that.
            view.due_at = if now.saturating_duration_since(view.due_at) < watch.wish.interval {
                view.due_at + watch.wish.interval
            } else {
                now + watch.wish.interval
            };
            watch.turn = (at + 1) % count;
            return Poll::Picture(picture.clone());
        }
        Poll::Wait(earliest)
    }
}

/// A bit that a stream's id chooses. Whoever has a frame of a stream whose bit is not set knows that nobody looks at it.
pub(super) fn stream_bit(stream: &StreamId) -> u64 {
    let mut hasher = DefaultHasher::new();
    stream.hash(&mut hasher);
    1 << (hasher.finish() % 64)
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
