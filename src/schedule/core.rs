//! The scheduler's decision, without threads: freshest frames of all camera streams come in, one slot each, and
//! the frame of whoever has waited longest goes out, with time passed in. [`Scheduler`](super::scheduler::Scheduler)
//! runs it.
//!
//! A frame leaves its slot in one of these ways, each counted on its stream: picked, replaced by a newer one
//! (`rate_limited` if its stream was not yet due, else `replaced`), found too old when it could have been picked
//! (`stale`; looked at when its turn comes or a newer one does), dropped because its model is set aside
//! (`inference_failed`), or dropped with its stream (`camera_removed`, `shutdown`).
//!
//! Streams of the same model are held together: a model that may hang is given fewer workers, or none, so
//! that those of other models go on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ready_queue::{ReadyQueue, Turn};
use crate::telemetry::ledger::FrameDrop;
use crate::telemetry::metrics::StreamMetrics;
use twinsight_media::picture::Frame;

/// Time between two inferences of a stream without a limit, at [`Pace::Halved`].
const HALVED_UNLIMITED: Duration = Duration::from_millis(200);

/// A stream that is scheduled. Ids are never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(u64);

/// How a stream is scheduled, and what its worker needs to know.
#[derive(Debug, Clone)]
pub struct SourceSettings<W> {
    /// Time between the starts of two inferences; zero: every frame.
    pub min_interval: Duration,
    /// A frame older than this is not inferred.
    pub max_age: Duration,
    /// Where the stream's frames are counted.
    pub metrics: Arc<StreamMetrics>,
    /// The number of its model.
    pub model: usize,
    /// Handed to the worker with every frame.
    pub work: W,
}

/// How fast a stream is inferred, of what its settings allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pace {
    /// As its settings say.
    #[default]
    Usual,
    /// Half as often, so that decoding has more of the processors; a stream without a limit: 5 times a second.
    Halved,
}

/// Which frames of a model are given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Admission {
    /// As they come.
    #[default]
    Open,
    /// One at a time: the model has not been seen to work.
    OneAtATime,
    /// One at a time, and one of all models at this: it failed, and is tried.
    Probe,
    /// None: they are dropped as `inference_failed`.
    Closed,
}

/// How the frames of a model are given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelRules {
    /// Which.
    pub admission: Admission,
    /// While a run has taken longer than this, no further frame of the model is given out, if streams of other
    /// models are there: a model that hangs holds the workers that it has by then.
    pub suspect_after: Duration,
}

/// A frame to infer. Tell the scheduler with [`Scheduler::finished`] when it is done.
#[derive(Debug)]
pub struct Job<W> {
    /// Whose frame it is.
    pub source: SourceId,
    /// The frame.
    pub frame: Frame,
    /// From the stream's settings.
    pub work: W,
    /// Frames of the stream that were neither inferred nor held back by its rate limit since the
    /// last job that succeeded.
    pub skipped_frames: u64,
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobEnd {
    /// The frame went through the model.
    Inferred,
    /// It did not.
    Failed,
}

/// What to do now.
#[derive(Debug)]
pub enum Pick<W> {
    /// Infer this.
    Run(Job<W>),
    /// Nothing is due before this moment, unless a frame is offered.
    WaitUntil(Instant),
    /// Nothing waits.
    Idle,
}

/// The decision, without threads.
#[derive(Debug)]
pub struct Core<W> {
    sources: BTreeMap<SourceId, ScheduledSource<W>>,
    /// Of the sources in line.
    ready_queue: ReadyQueue,
    /// By the models' numbers.
    lanes: Vec<Lane>,
    next_id: u64,
}

/// What is known of a model.
#[derive(Debug, Default)]
struct Lane {
    rules: ModelRules,
    /// Sources that name it.
    sources: usize,
    /// Runs of it, and when they began.
    in_flight: Vec<(SourceId, Instant)>,
    /// Sources whose turn it was, and that were held back.
    held: Vec<SourceId>,
}

#[derive(Debug)]
struct ScheduledSource<W> {
    settings: SourceSettings<W>,
    pace: Pace,
    slot: Option<Frame>,
    place: SourcePlace,
    /// Start of the last inference; the order of service.
    served_at: Option<Instant>,
    /// When the rate limit allows the next one.
    due_at: Option<Instant>,
    skipped_frames: u64,
}

/// Where a source stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SourcePlace {
    /// Nothing is in its slot.
    Empty,
    /// Its frame waits for its turn: the source is in the line, once.
    InLine,
    /// It was its turn, and its model was given no frame: it gets in line again when that may have changed.
    Held,
    /// A frame of it is in inference; one that is in its slot gets in line afterwards.
    InFlight,
}

impl Default for ModelRules {
    fn default() -> Self {
        Self {
            admission: Admission::Open,
            suspect_after: Duration::MAX,
        }
    }
}

impl<W> Default for Core<W> {
    fn default() -> Self {
        Self {
            sources: BTreeMap::new(),
            ready_queue: ReadyQueue::default(),
            lanes: Vec::new(),
            next_id: 0,
        }
    }
}

impl<W: Clone> Core<W> {
    /// Adds a stream.
    pub fn add(&mut self, settings: SourceSettings<W>) -> SourceId {
        let id = SourceId(self.next_id);
        self.next_id += 1;
        self.lane(settings.model).sources += 1;
        let source = ScheduledSource {
            settings,
            pace: Pace::Usual,
            slot: None,
            place: SourcePlace::Empty,
            served_at: None,
            due_at: None,
            skipped_frames: 0,
        };
        self.sources.insert(id, source);
        id
    }

    /// Changes how a stream is scheduled; its waiting frame stays. Another rate counts from the last
    /// inference on: a raised one holds at once.
    pub fn update(&mut self, id: SourceId, settings: SourceSettings<W>) {
        let Some(source) = self.sources.get_mut(&id) else {
            return;
        };
        let (pace, model) = (source.pace, settings.model);
        let before = std::mem::replace(&mut source.settings.model, model);
        source.change(id, settings, pace, &mut self.ready_queue);
        if before != model {
            self.lane(before).sources -= 1;
            self.lane(model).sources += 1;
            self.release(before);
        }
    }

    /// Changes how the frames of a model are given out.
    pub fn set_model(&mut self, model: usize, rules: ModelRules) {
        self.lane(model).rules = rules;
        self.release(model);
    }

    /// Changes the pace of a stream, as another rate does.
    pub fn set_pace(&mut self, id: SourceId, pace: Pace) {
        if let Some(source) = self.sources.get_mut(&id) {
            let settings = source.settings.clone();
            source.change(id, settings, pace, &mut self.ready_queue);
        }
    }

    /// Removes a stream and drops its waiting frame.
    pub fn remove(&mut self, id: SourceId, reason: FrameDrop) {
        let Some(source) = self.sources.remove(&id) else {
            return;
        };
        let lane = self.lane(source.settings.model);
        lane.sources -= 1;
        match source.place {
            SourcePlace::InLine => self.ready_queue.leave(id),
            SourcePlace::Held => lane.held.retain(|held| *held != id),
            SourcePlace::Empty | SourcePlace::InFlight => {}
        }
        if source.slot.is_some() {
            source.settings.metrics.frame_dropped(reason);
        }
    }

    /// Puts a frame into its stream's slot. True when a worker might have something to do that it had not before.
    pub fn offer(&mut self, now: Instant, id: SourceId, frame: Frame) -> bool {
        let Some(source) = self.sources.get_mut(&id) else {
            return false;
        };
        let lane = self.lanes.get(source.settings.model);
        if lane.is_some_and(|lane| lane.rules.admission == Admission::Closed) {
            source.refuse(now);
            return false;
        }
        if let Some(older) = source.slot.replace(frame) {
            let reason = if !source.is_due(now) {
                FrameDrop::RateLimited
            } else if source.waits_for_its_turn() && source.is_stale(&older, now) {
                FrameDrop::Stale
            } else {
                FrameDrop::Replaced
            };
            source.drop_frame(reason);
        }
        let gets_in_line = source.place == SourcePlace::Empty;
        if gets_in_line {
            source.get_in_line(id, &mut self.ready_queue);
        }
        gets_in_line
    }

    /// The frame of the stream that has waited longest since it was last served.
    pub fn pick(&mut self, now: Instant) -> Pick<W> {
        while let Some(id) = self.ready_queue.next(now) {
            let source = self
                .sources
                .get_mut(&id)
                .expect("a source in line is there, because its removal takes it out");
            let frame = source
                .slot
                .take()
                .expect("a source in line has a frame, because it gets in with one");
            source.place = SourcePlace::Empty;
            if source.is_stale(&frame, now) {
                source.drop_frame(FrameDrop::Stale);
                continue;
            }
            let model = source.settings.model;
            match verdict(&self.lanes, model, now) {
                Verdict::Run => {}
                Verdict::Hold => {
                    source.slot = Some(frame);
                    source.place = SourcePlace::Held;
                    self.lanes[model].held.push(id);
                    continue;
                }
                Verdict::Refuse => {
                    source.refuse(now);
                    continue;
                }
            }
            self.lanes[model].in_flight.push((id, now));
            return Pick::Run(Job {
                source: id,
                frame,
                work: source.settings.work.clone(),
                skipped_frames: source.start(now),
            });
        }
        self.ready_queue
            .next_due()
            .map_or(Pick::Idle, Pick::WaitUntil)
    }

    /// Ends a job: its stream may be picked again.
    pub fn finished(&mut self, id: SourceId, end: JobEnd, skipped_frames: u64) {
        // By its own list: the stream may have another model by now, or be gone.
        let runs = |lane: &Lane| lane.in_flight.iter().any(|(source, _)| *source == id);
        if let Some(model) = self.lanes.iter().position(runs) {
            self.lanes[model]
                .in_flight
                .retain(|(source, _)| *source != id);
            self.release(model);
        }
        if let Some(source) = self.sources.get_mut(&id)
            && source.place == SourcePlace::InFlight
        {
            if source.slot.is_some() {
                source.get_in_line(id, &mut self.ready_queue);
            } else {
                source.place = SourcePlace::Empty;
            }
            if end == JobEnd::Failed {
                source.skipped_frames += skipped_frames + 1;
            }
        }
    }

    /// Drops every waiting frame.
    pub fn drain(&mut self, reason: FrameDrop) {
        self.ready_queue.clear();
        for source in self.sources.values_mut() {
            if source.slot.take().is_some() {
                source.drop_frame(reason);
            }
            if source.waits_for_its_turn() {
                source.place = SourcePlace::Empty;
            }
        }
        for lane in &mut self.lanes {
            lane.held.clear();
        }
    }

    fn lane(&mut self, model: usize) -> &mut Lane {
        if self.lanes.len() <= model {
            self.lanes.resize_with(model + 1, Lane::default);
        }
        &mut self.lanes[model]
    }

    /// Lets sources get in line again that were held back because of a model: its turns are looked at anew.
    fn release(&mut self, model: usize) {
        for n in 0..self.lanes.len() {
            let lane = &mut self.lanes[n];
            // A probe that is over makes room for one of another model; its own model is under trial no more by then, unless
            // its run failed.
            let concerned = n == model || lane.rules.admission == Admission::Probe;
            if !concerned || lane.held.is_empty() {
                continue;
            }
            for id in std::mem::take(&mut lane.held) {
                if let Some(source) = self.sources.get_mut(&id) {
                    source.get_in_line(id, &mut self.ready_queue);
                }
            }
        }
    }

    /// The age above which a stream's frames are not inferred.
    pub(super) fn max_age(&self, id: SourceId) -> Option<Duration> {
        self.sources.get(&id).map(|source| source.settings.max_age)
    }

    /// Where a stream's frames are counted.
    pub(super) fn metrics(&self, id: SourceId) -> Option<Arc<StreamMetrics>> {
        let source = self.sources.get(&id)?;
        Some(Arc::clone(&source.settings.metrics))
    }
}

/// Whether a frame may be given out whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It may.
    Run,
    /// Not now.
    Hold,
    /// Its model is set aside.
    Refuse,
}

fn verdict(lanes: &[Lane], model: usize, now: Instant) -> Verdict {
    let lane = &lanes[model];
    let others = || lanes.iter().enumerate().filter(|(n, _)| *n != model);
    let hold = match lane.rules.admission {
        Admission::Closed => return Verdict::Refuse,
        Admission::OneAtATime => !lane.in_flight.is_empty(),
        Admission::Probe => {
            let probing = |lane: &Lane| {
                lane.rules.admission == Admission::Probe && !lane.in_flight.is_empty()
            };
            !lane.in_flight.is_empty() || others().any(|(_, other)| probing(other))
        }
        Admission::Open => {
            let suspect =
                |since: &Instant| now.saturating_duration_since(*since) > lane.rules.suspect_after;
            lane.in_flight.iter().any(|(_, since)| suspect(since))
                && others().any(|(_, other)| other.sources > 0)
        }
    };
    if hold { Verdict::Hold } else { Verdict::Run }
}

impl<W> ScheduledSource<W> {
    /// Its frame is in the line, or held back from it.
    fn waits_for_its_turn(&self) -> bool {
        matches!(self.place, SourcePlace::InLine | SourcePlace::Held)
    }

    /// Drops a frame whose model is set aside, at the rate at which it would have been inferred.
    fn refuse(&mut self, now: Instant) {
        if self.is_due(now) {
            self.drop_frame(FrameDrop::InferenceFailed);
            self.keep_cadence(now);
        } else {
            self.drop_frame(FrameDrop::RateLimited);
        }
    }

    /// Due by its settings: what its pace holds back beyond them is the node's fault.
    fn is_due(&self, now: Instant) -> bool {
        let held_back = self.interval() - self.settings.min_interval;
        self.due_at.is_none_or(|due_at| due_at <= now + held_back)
    }

    fn is_stale(&self, frame: &Frame, now: Instant) -> bool {
        frame.age(now) > self.settings.max_age
    }

    fn change(
        &mut self,
        id: SourceId,
        settings: SourceSettings<W>,
        pace: Pace,
        turns: &mut ReadyQueue,
    ) {
        let before = self.interval();
        (self.settings, self.pace) = (settings, pace);
        let interval = self.interval();
        if interval == before {
            return;
        }
        self.due_at = self
            .served_at
            .filter(|_| !interval.is_zero())
            .map(|served_at| served_at + interval);
        if self.place == SourcePlace::InLine {
            turns.leave(id);
            self.get_in_line(id, turns);
        }
    }

    /// Time between the starts of two inferences; zero: every frame.
    fn interval(&self) -> Duration {
        let usual = self.settings.min_interval;
        match self.pace {
            Pace::Usual => usual,
            Pace::Halved if usual.is_zero() => HALVED_UNLIMITED,
            Pace::Halved => usual * 2,
        }
    }

    /// Its frame waits for its turn from now on.
    fn get_in_line(&mut self, id: SourceId, turns: &mut ReadyQueue) {
        self.place = SourcePlace::InLine;
        let turn = Turn {
            served_at: self.served_at,
            source: id,
        };
        turns.join(turn, self.due_at);
    }

    fn drop_frame(&mut self, reason: FrameDrop) {
        self.settings.metrics.frame_dropped(reason);
        if reason != FrameDrop::RateLimited {
            self.skipped_frames += 1;
        }
    }

    /// Marks the stream as served; its skipped frames are told once.
    fn start(&mut self, now: Instant) -> u64 {
        self.keep_cadence(now);
        self.served_at = Some(now);
        self.place = SourcePlace::InFlight;
        std::mem::take(&mut self.skipped_frames)
    }

    /// When the next one is due. A steady cadence: a frame that came a little late does not push all later ones.
    fn keep_cadence(&mut self, now: Instant) {
        let interval = self.interval();
        self.due_at = (!interval.is_zero()).then(|| match self.due_at {
            Some(due_at) if now.saturating_duration_since(due_at) < interval => due_at + interval,
            _ => now + interval,
        });
    }
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "fairness_tests.rs"]
mod fairness;
