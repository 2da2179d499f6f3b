//! The scheduler's decision, without threads: the freshest frames of all camera streams come in, one slot a stream, and the
//! frame of the stream that has waited longest goes out. [`Scheduler`](super::scheduler::Scheduler) runs it and passes the
//! time in.
//!
//! A frame leaves its slot in one of these ways, and each is counted on its stream: a worker picks it; a newer one replaces
//! it (`rate_limited` if its stream was not yet due, else `replaced`); it is found too old at its turn, or when a newer one
//! comes (`stale`); its model is set aside (`inference_failed`); its stream ends (`camera_removed`, `shutdown`).
//!
//! The scheduler knows which streams share a model: a model that may hang is given fewer workers, or none, so that the
//! streams of other models go on. It knows which engine runs a model, and which other model takes its place for a while.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::engine::{Demand, EngineId, Engines};
use super::ready_queue::{QueueEntry, ReadyQueue};
use crate::telemetry::ledger::FrameDrop;
use crate::telemetry::metrics::StreamMetrics;
use twinsight_media::picture::Frame;

/// A stream without a rate limit is inferred once in this time at [`Pace::Halved`].
const HALVED_UNLIMITED: Duration = Duration::from_millis(200);

/// A frame that may be of the past waits for so long for one that tells. A sender that catches up sends the next picture 10 ms
/// later, and it has to be decoded.
const DOUBT: Duration = Duration::from_millis(200);

/// Names a stream of the scheduler. The id of a removed stream is never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(u64);

/// How a stream is scheduled, and what its worker needs to know.
#[derive(Debug, Clone)]
pub struct SourceSettings<W> {
    /// At least this time lies between the starts of two inferences; zero means every frame.
    pub min_interval: Duration,
    /// A frame older than this is dropped as stale.
    pub max_age: Duration,
    /// The stream's counters.
    pub metrics: Arc<StreamMetrics>,
    /// The index of its model among the pool's models.
    pub model: usize,
    /// What its worker needs to know; handed over with every frame.
    pub work: W,
}

/// How much of the rate that its settings allow a stream gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Pace {
    /// All of it.
    #[default]
    Usual,
    /// Half of it, so that decoding has more of the processors; a stream without a limit gets 5 inferences a second.
    Halved,
}

/// Which frames of a model are given to workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Admission {
    /// All of them, as they come.
    #[default]
    Open,
    /// One at a time, because the model has not been seen to work yet.
    OneAtATime,
    /// One at a time, and at any moment one for all models under probe: the model failed and is tried again.
    Probe,
    /// None: frames are dropped as `inference_failed`.
    Closed,
}

/// How the frames of a model are given to workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ModelRules {
    pub(crate) admission: Admission,
    /// Once a run has taken longer than this, no further frame of the model is given out while streams of other models
    /// are there, so that a model that hangs holds no more workers than it has by then.
    pub(crate) suspect_after: Duration,
}

/// A frame to infer. Its worker calls [`Scheduler::finished`](super::scheduler::Scheduler::finished) when it is done.
#[derive(Debug)]
pub struct Job<W> {
    /// The stream that it is of.
    pub source: SourceId,
    /// The picture and its times.
    pub frame: Frame,
    /// [`SourceSettings::work`] of the stream.
    pub work: W,
    /// The index of the model that infers it: that of its stream, or the one that takes its place.
    pub model: usize,
    /// How many frames of the stream were neither inferred nor held back by its rate limit since the last job whose frame was
    /// inferred.
    pub skipped_frames: u64,
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobEnd {
    /// The frame went through the model.
    Inferred,
    /// The frame shows what was inferred last, and did not go through the model.
    Unchanged,
    /// The run failed, hung or panicked.
    Failed,
}

/// What a worker that is free does now.
#[derive(Debug)]
pub enum Pick<W> {
    /// It infers this frame.
    Run(Job<W>),
    /// It waits, since nothing is due before this moment unless a frame is offered.
    WaitUntil(Instant),
    /// It waits for a frame to be offered.
    Idle,
}

/// The state of all streams and models; see the module.
#[derive(Debug)]
pub struct SchedulerCore<W> {
    sources: BTreeMap<SourceId, Source<W>>,
    /// The sources that are [`QueueState::Queued`], by the engines that they wait for.
    engines: Engines,
    /// One for each model, by its index.
    lanes: Vec<ModelLane>,
    next_id: u64,
}

/// The sources and runs of one model.
#[derive(Debug)]
struct ModelLane {
    rules: ModelRules,
    /// What runs it.
    engine: EngineId,
    /// The model that infers the frames of its sources in its place.
    substitute: Option<usize>,
    /// How many sources use it.
    sources: usize,
    /// The sources whose frame is in inference, and when each run began.
    in_flight: Vec<(SourceId, Instant)>,
    /// The sources that are [`QueueState::Held`].
    held: Vec<SourceId>,
}

#[derive(Debug)]
struct Source<W> {
    settings: SourceSettings<W>,
    pace: Pace,
    slot: Option<Frame>,
    queue_state: QueueState,
    /// When the last inference began: the queue is in this order.
    served_at: Option<Instant>,
    /// When the rate limit allows the next inference.
    due_at: Option<Instant>,
    skipped_frames: u64,
    /// Since when a frame of it waits for a worker. What waits behind another of its own frames does not.
    waits_since: Option<Instant>,
    /// How many of its frames were replaced since then.
    missed: u32,
    /// The frame in its slot may be of the past.
    is_doubtful: bool,
}

/// Where a source stands on its way to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum QueueState {
    /// Its slot is empty.
    Empty,
    /// Its frame waits for its turn: the ready queue has one entry of it.
    Queued,
    /// It had its turn when its model was given no frame, and is queued again as soon as that may have changed.
    Held,
    /// A frame of it is in inference; the next one, if it comes meanwhile, is queued afterwards.
    InFlight,
}

impl Default for ModelLane {
    fn default() -> Self {
        Self {
            rules: ModelRules::default(),
            engine: EngineId::LOCAL,
            substitute: None,
            sources: 0,
            in_flight: Vec::new(),
            held: Vec::new(),
        }
    }
}

impl Default for ModelRules {
    fn default() -> Self {
        Self {
            admission: Admission::Open,
            suspect_after: Duration::MAX,
        }
    }
}

impl<W> Default for SchedulerCore<W> {
    fn default() -> Self {
        Self {
            sources: BTreeMap::new(),
            engines: Engines::default(),
            lanes: Vec::new(),
            next_id: 0,
        }
    }
}

impl<W: Clone> SchedulerCore<W> {
    /// Adds a stream.
    pub fn add(&mut self, settings: SourceSettings<W>) -> SourceId {
        let id = SourceId(self.next_id);
        self.next_id += 1;
        self.lane(settings.model).sources += 1;
        let source = Source {
            settings,
            pace: Pace::Usual,
            slot: None,
            queue_state: QueueState::Empty,
            served_at: None,
            due_at: None,
            skipped_frames: 0,
            waits_since: None,
            missed: 0,
            is_doubtful: false,
        };
        self.sources.insert(id, source);
        id
    }

    /// Changes how a stream is scheduled; its waiting frame stays. A new rate counts from the last inference on, so a raised
    /// one holds at once.
    pub(crate) fn update(&mut self, id: SourceId, settings: SourceSettings<W>) {
        let Some(source) = self.sources.get_mut(&id) else {
            return;
        };
        let (pace, model) = (source.pace, settings.model);
        let before = source.settings.model;
        if before != model {
            self.leave_queue(id);
            self.lane(before).sources -= 1;
            self.lane(model).sources += 1;
            if let Some(source) = self.sources.get_mut(&id) {
                source.settings.model = model;
            }
            self.join_queue(id);
        }
        if let Some(source) = self.sources.get_mut(&id) {
            let queue = queue_of(&mut self.engines, &self.lanes, model);
            source.change(id, settings, pace, queue);
        }
        if before != model {
            self.release(self.route(before));
        }
    }

    /// Says which engine runs a model. To be called before any source has it.
    pub(crate) fn set_engine(&mut self, model: usize, engine: EngineId) {
        self.lane(model).engine = engine;
    }

    /// Lets another model infer the frames of a model's sources, which must not have a substitute itself; `None` ends that. Frames that
    /// wait go with it.
    pub(crate) fn set_substitute(&mut self, model: usize, substitute: Option<usize>) {
        if self.lane(model).substitute == substitute {
            return;
        }
        if let Some(substitute) = substitute {
            self.lane(substitute);
        }
        let mut moved = Vec::new();
        for (id, source) in &self.sources {
            if source.settings.model == model && source.queue_state == QueueState::Queued {
                moved.push(*id);
            }
        }
        for id in &moved {
            self.leave_queue(*id);
        }
        let held = self.route(model);
        self.lane(model).substitute = substitute;
        for id in moved {
            self.join_queue(id);
        }
        self.release(held);
    }

    /// So many frames may be in inference by an engine at once. True if that is new.
    pub(crate) fn set_slots(&mut self, engine: EngineId, slots: usize) -> bool {
        self.engines.of(engine).set_slots(slots)
    }

    /// How many frames were asked of an engine so far.
    pub(super) fn demand(&mut self, engine: EngineId) -> Demand {
        self.engines.of(engine).demand()
    }

    /// The engine that the frames of a stream wait for.
    pub(super) fn engine_of(&self, id: SourceId) -> Option<EngineId> {
        let source = self.sources.get(&id)?;
        let lane = self.lanes.get(self.route(source.settings.model))?;
        Some(lane.engine)
    }

    /// The engine that has a frame of this stream in inference.
    pub(super) fn engine_in_flight(&self, id: SourceId) -> Option<EngineId> {
        let runs = |lane: &&ModelLane| lane.in_flight.iter().any(|(source, _)| *source == id);
        self.lanes.iter().find(runs).map(|lane| lane.engine)
    }

    /// The model that infers the frames of a model's sources.
    fn route(&self, model: usize) -> usize {
        route(&self.lanes, model)
    }

    /// Takes a source that is queued out of its queue; [`join_queue`](Self::join_queue) brings it back.
    fn leave_queue(&mut self, id: SourceId) {
        if let Some(source) = self.sources.get(&id)
            && source.queue_state == QueueState::Queued
        {
            queue_of(&mut self.engines, &self.lanes, source.settings.model).leave(id);
        }
    }

    fn join_queue(&mut self, id: SourceId) {
        if let Some(source) = self.sources.get_mut(&id)
            && source.queue_state == QueueState::Queued
        {
            let queue = queue_of(&mut self.engines, &self.lanes, source.settings.model);
            source.enqueue(id, queue);
        }
    }

    /// Changes how the frames of a model are given out.
    pub(crate) fn set_model(&mut self, model: usize, rules: ModelRules) {
        self.lane(model).rules = rules;
        self.release(model);
    }

    /// Changes the pace of a stream; it holds at once, like a new rate.
    pub(crate) fn set_pace(&mut self, id: SourceId, pace: Pace) {
        if let Some(source) = self.sources.get_mut(&id) {
            let settings = source.settings.clone();
            let queue = queue_of(&mut self.engines, &self.lanes, settings.model);
            source.change(id, settings, pace, queue);
        }
    }

    /// Removes a stream and drops its waiting frame.
    pub(crate) fn remove(&mut self, id: SourceId, reason: FrameDrop) {
        let Some(source) = self.sources.remove(&id) else {
            return;
        };
        let model = source.settings.model;
        self.lane(model).sources -= 1;
        let served_by = self.route(model);
        match source.queue_state {
            QueueState::Queued => queue_of(&mut self.engines, &self.lanes, model).leave(id),
            QueueState::Held => self.lane(served_by).held.retain(|held| *held != id),
            QueueState::Empty | QueueState::InFlight => {}
        }
        if source.slot.is_some() {
            source.settings.metrics.frame_dropped(reason);
        }
    }

    /// Puts a frame into its stream's slot. True if a worker may have something to do now that it had not before.
    pub fn offer(&mut self, now: Instant, id: SourceId, frame: Frame) -> bool {
        let Some(source) = self.sources.get_mut(&id) else {
            return false;
        };
        let model = source.settings.model;
        let lane = self.lanes.get(route(&self.lanes, model));
        if lane.is_some_and(|lane| lane.rules.admission == Admission::Closed) {
            source.refuse(now);
            return false;
        }
        source.is_doubtful = false;
        let older = source.slot.replace(frame);
        // Nothing of the stream has waited since the older one became too old.
        if let Some(older) = &older
            && source.waits_for_its_turn()
            && source.is_stale(older, now)
        {
            let engine = lane.map_or(EngineId::LOCAL, |lane| lane.engine);
            self.engines.of(engine).miss(source.expire(older));
        }
        if source.queue_state != QueueState::InFlight {
            source.waits_since = source.waits_since.or(Some(now));
        }
        if let Some(older) = older {
            let reason = if !source.is_due(now) {
                FrameDrop::RateLimited
            } else if source.waits_for_its_turn() && source.is_stale(&older, now) {
                FrameDrop::Stale
            } else {
                FrameDrop::Replaced
            };
            if reason == FrameDrop::Replaced && source.waits_for_its_turn() {
                source.missed = source.missed.saturating_add(1);
            }
            source.drop_frame(reason);
        }
        let is_queued = source.queue_state == QueueState::Empty;
        if is_queued {
            source.enqueue(id, queue_of(&mut self.engines, &self.lanes, model));
        }
        is_queued
    }

    /// As [`offer`](Self::offer), for a frame that may be of the past. It waits for a moment, in which the next one may tell:
    /// [`skip`](Self::skip) drops both, and `offer` replaces it.
    pub fn offer_doubtful(&mut self, now: Instant, id: SourceId, frame: Frame) -> bool {
        if let Some(source) = self.sources.get_mut(&id) {
            // It must not grow too old by that.
            let earliest = now + DOUBT.min(source.settings.max_age / 2);
            source.due_at = source.due_at.max(Some(earliest));
        }
        let is_queued = self.offer(now, id, frame);
        if let Some(source) = self.sources.get_mut(&id) {
            source.is_doubtful = source.slot.is_some();
        }
        is_queued
    }

    /// Counts a frame that was too old when it came. A doubtful one that waits is older still, and goes with it.
    pub fn skip(&mut self, id: SourceId) {
        let Some(source) = self.sources.get_mut(&id) else {
            return;
        };
        source.drop_frame(FrameDrop::Stale);
        if !std::mem::take(&mut source.is_doubtful) || source.queue_state == QueueState::Held {
            return;
        }
        if source.slot.take().is_some() {
            source.drop_frame(FrameDrop::Stale);
            if source.queue_state == QueueState::Queued {
                queue_of(&mut self.engines, &self.lanes, source.settings.model).leave(id);
                source.queue_state = QueueState::Empty;
                (source.waits_since, source.missed) = (None, 0);
            }
        }
    }

    /// Takes the frame of the stream whose last inference began longest ago, among those that are due and that this engine infers.
    pub fn pick(&mut self, now: Instant, engine: EngineId) -> Pick<W> {
        if !self.engines.of(engine).has_room() {
            return Pick::Idle;
        }
        while let Some(id) = self.engines.of(engine).ready.next(now) {
            let source = self
                .sources
                .get_mut(&id)
                .expect("a queued source exists, because its removal takes it out of the queue");
            let frame = source
                .slot
                .take()
                .expect("a queued source has a frame, because it is queued with one");
            source.queue_state = QueueState::Empty;
            if source.is_stale(&frame, now) {
                let turns = source.expire(&frame);
                source.drop_frame(FrameDrop::Stale);
                self.engines.of(engine).miss(turns);
                continue;
            }
            let model = route(&self.lanes, source.settings.model);
            match verdict(&self.lanes, model, now) {
                Verdict::Run => {}
                Verdict::Hold => {
                    source.slot = Some(frame);
                    source.queue_state = QueueState::Held;
                    self.lanes[model].held.push(id);
                    continue;
                }
                Verdict::Refuse => {
                    source.refuse(now);
                    continue;
                }
            }
            self.lanes[model].in_flight.push((id, now));
            self.engines.of(engine).begin(source.turns(now));
            return Pick::Run(Job {
                source: id,
                frame,
                work: source.settings.work.clone(),
                model,
                skipped_frames: source.start(now),
            });
        }
        let queue = &self.engines.of(engine).ready;
        queue.next_due().map_or(Pick::Idle, Pick::WaitUntil)
    }

    /// Ends a job, so that its stream may be picked again.
    pub fn finished(&mut self, id: SourceId, end: JobEnd, skipped_frames: u64) {
        // The run is looked for in all lanes, since the stream may have another model by now, or be gone.
        let runs = |lane: &ModelLane| lane.in_flight.iter().any(|(source, _)| *source == id);
        if let Some(model) = self.lanes.iter().position(runs) {
            self.lanes[model]
                .in_flight
                .retain(|(source, _)| *source != id);
            let engine = self.lanes[model].engine;
            self.engines.of(engine).end();
            self.release(model);
        }
        if let Some(source) = self.sources.get_mut(&id)
            && source.queue_state == QueueState::InFlight
        {
            if source.slot.is_some() {
                let queue = queue_of(&mut self.engines, &self.lanes, source.settings.model);
                source.enqueue(id, queue);
            } else {
                source.queue_state = QueueState::Empty;
            }
            if end != JobEnd::Inferred {
                source.skipped_frames += skipped_frames + 1;
            }
        }
    }

    /// Drops every waiting frame.
    pub(crate) fn drain(&mut self, reason: FrameDrop) {
        self.engines.clear();
        for source in self.sources.values_mut() {
            if source.slot.take().is_some() {
                source.drop_frame(reason);
            }
            if source.waits_for_its_turn() {
                source.queue_state = QueueState::Empty;
            }
        }
        for lane in &mut self.lanes {
            lane.held.clear();
        }
    }

    fn lane(&mut self, model: usize) -> &mut ModelLane {
        if self.lanes.len() <= model {
            self.lanes.resize_with(model + 1, ModelLane::default);
        }
        &mut self.lanes[model]
    }

    /// Queues the sources again that were held back because of a model.
    fn release(&mut self, model: usize) {
        for n in 0..self.lanes.len() {
            let lane = &mut self.lanes[n];
            // A probe that is over makes room for one of another model. Its own model is under probe no more by then,
            // unless the run failed.
            let concerned = n == model || lane.rules.admission == Admission::Probe;
            if !concerned || lane.held.is_empty() {
                continue;
            }
            for id in std::mem::take(&mut lane.held) {
                if let Some(source) = self.sources.get_mut(&id) {
                    let queue = queue_of(&mut self.engines, &self.lanes, source.settings.model);
                    source.enqueue(id, queue);
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

/// What becomes of a frame at its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// A worker gets it.
    Run,
    /// It waits until its model is given frames again.
    Hold,
    /// It is dropped, because its model is set aside.
    Refuse,
}

/// The model that infers the frames of a model's sources.
fn route(lanes: &[ModelLane], model: usize) -> usize {
    let lane = lanes.get(model);
    lane.and_then(|lane| lane.substitute).unwrap_or(model)
}

/// The queue in which a model's sources wait.
fn queue_of<'a>(engines: &'a mut Engines, lanes: &[ModelLane], model: usize) -> &'a mut ReadyQueue {
    let lane = lanes.get(route(lanes, model));
    let engine = lane.map_or(EngineId::LOCAL, |lane| lane.engine);
    &mut engines.of(engine).ready
}

fn verdict(lanes: &[ModelLane], model: usize, now: Instant) -> Verdict {
    let lane = &lanes[model];
    let others = || {
        let lanes = lanes.iter().enumerate();
        lanes.filter(|(n, other)| *n != model && other.engine == lane.engine)
    };
    let hold = match lane.rules.admission {
        Admission::Closed => return Verdict::Refuse,
        Admission::OneAtATime => !lane.in_flight.is_empty(),
        Admission::Probe => {
            let probing = |lane: &ModelLane| {
                lane.rules.admission == Admission::Probe && !lane.in_flight.is_empty()
            };
            !lane.in_flight.is_empty() || others().any(|(_, other)| probing(other))
        }
        Admission::Open => {
            let suspect =
                |since: &Instant| now.saturating_duration_since(*since) > lane.rules.suspect_after;
            // Sources of other models may be served by another one of this engine for a while.
            let needs_workers = |(n, other): (usize, &ModelLane)| {
                let served_by = route(lanes, n);
                other.sources > 0 && served_by != model && lanes[served_by].engine == lane.engine
            };
            lane.in_flight.iter().any(|(_, since)| suspect(since))
                && lanes.iter().enumerate().any(needs_workers)
        }
    };
    if hold { Verdict::Hold } else { Verdict::Run }
}

impl<W> Source<W> {
    /// True while a frame of it waits and none is in inference.
    fn waits_for_its_turn(&self) -> bool {
        matches!(self.queue_state, QueueState::Queued | QueueState::Held)
    }

    /// Drops a frame whose model is set aside. At most as many count as failed as would have been inferred; the others count
    /// as rate-limited.
    fn refuse(&mut self, now: Instant) {
        (self.waits_since, self.missed) = (None, 0);
        if self.is_due(now) {
            self.drop_frame(FrameDrop::InferenceFailed);
            self.keep_cadence(now);
        } else {
            self.drop_frame(FrameDrop::RateLimited);
        }
    }

    /// True if its settings allow an inference now. What its pace holds back beyond them is not its camera's doing, and counts
    /// as replaced.
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
        ready_queue: &mut ReadyQueue,
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
        if self.queue_state == QueueState::Queued {
            ready_queue.leave(id);
            self.enqueue(id, ready_queue);
        }
    }

    /// How many turns it has waited for, its present one included: with a rate limit as many as its cadence has had since its frame could
    /// have been taken, and without one as many as there were frames since.
    fn turns(&self, now: Instant) -> f64 {
        let interval = self.interval();
        if interval.is_zero() {
            return 1.0 + f64::from(self.missed);
        }
        let since = self.waits_since.max(self.due_at);
        let late = since.filter(|_| self.waits_since.is_some());
        let late = late.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        // What comes late by less than a turn costs no frame, since the cadence stays.
        match late < interval {
            true => 1.0,
            false => 1.0 + late.as_secs_f64() / interval.as_secs_f64(),
        }
    }

    /// Notes that nothing of it waits any more, because this frame of it became too old. Gives how many turns it had waited for by then:
    /// none if it was too old before it was due, since no worker would have changed that.
    fn expire(&mut self, frame: &Frame) -> f64 {
        let until = frame.timing().received_at + self.settings.max_age;
        let was_due = self.due_at.is_none_or(|due_at| due_at <= until);
        let turns = if was_due { self.turns(until) } else { 0.0 };
        (self.waits_since, self.missed) = (None, 0);
        turns
    }

    /// At least this time lies between the starts of two inferences; zero means every frame.
    fn interval(&self) -> Duration {
        let usual = self.settings.min_interval;
        match self.pace {
            Pace::Usual => usual,
            Pace::Halved if usual.is_zero() => HALVED_UNLIMITED,
            Pace::Halved => usual * 2,
        }
    }

    /// Lets its frame wait for its turn.
    fn enqueue(&mut self, id: SourceId, ready_queue: &mut ReadyQueue) {
        self.queue_state = QueueState::Queued;
        let entry = QueueEntry {
            served_at: self.served_at,
            source: id,
        };
        ready_queue.join(entry, self.due_at);
    }

    fn drop_frame(&mut self, reason: FrameDrop) {
        self.settings.metrics.frame_dropped(reason);
        if reason != FrameDrop::RateLimited {
            self.skipped_frames += 1;
        }
    }

    /// Begins an inference; gives the number of frames that were skipped before it.
    fn start(&mut self, now: Instant) -> u64 {
        self.keep_cadence(now);
        (self.waits_since, self.missed) = (None, 0);
        self.served_at = Some(now);
        self.queue_state = QueueState::InFlight;
        std::mem::take(&mut self.skipped_frames)
    }

    /// Computes when the next inference is due. The cadence is steady: a frame that came a little late does not put off all
    /// later ones.
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
