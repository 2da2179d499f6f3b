//! The engines of the node: what runs models. The workers of this machine are one engine, and each model that runs on servers is one
//! of its own, so that a server that is slow keeps nobody else's frames waiting. [`SchedulerCore`](super::core::SchedulerCore) has
//! a queue for each.

use super::ready_queue::ReadyQueue;

/// Names an engine. Workers take the frames of one engine alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EngineId(usize);

impl EngineId {
    /// The inference workers of this machine.
    pub const LOCAL: Self = Self(0);

    /// The engine of the model with this index, which runs on servers.
    pub fn of_remote(model: usize) -> Self {
        Self(model + 1)
    }

    pub(crate) fn index(self) -> usize {
        self.0
    }
}

/// The streams that wait for an engine, and how busy it is.
#[derive(Debug)]
pub(super) struct EngineQueue {
    /// The sources that are queued for it.
    pub(super) ready: ReadyQueue,
    /// So many frames may be in inference at once.
    slots: usize,
    /// So many are.
    in_flight: usize,
    demand: Demand,
}

/// How many frames were asked of an engine, and how many it took.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Demand {
    /// Frames that its workers took.
    pub(crate) taken: u64,
    /// Frames that they would have taken, had there been a worker for each when its stream was due.
    pub(crate) wanted: f64,
}

impl Default for EngineQueue {
    /// The queue of an engine whose workers are the only limit.
    fn default() -> Self {
        Self {
            ready: ReadyQueue::default(),
            slots: usize::MAX,
            in_flight: 0,
            demand: Demand::default(),
        }
    }
}

impl EngineQueue {
    pub(super) fn has_room(&self) -> bool {
        self.in_flight < self.slots
    }

    /// True if that is new.
    pub(super) fn set_slots(&mut self, slots: usize) -> bool {
        std::mem::replace(&mut self.slots, slots) != slots
    }

    /// Notes that a worker takes a frame whose stream waited for this many turns of its own, that of the frame included.
    pub(super) fn begin(&mut self, turns: f64) {
        self.in_flight += 1;
        self.demand.taken += 1;
        self.demand.wanted += turns;
    }

    /// Notes that a stream waited for this many turns for nothing, because its frame became too old.
    pub(super) fn miss(&mut self, turns: f64) {
        self.demand.wanted += turns;
    }

    pub(super) fn demand(&self) -> Demand {
        self.demand
    }

    pub(super) fn end(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }
}

/// The queues of all engines, made as they are named.
#[derive(Debug, Default)]
pub(super) struct Engines(Vec<EngineQueue>);

impl Engines {
    pub(super) fn of(&mut self, engine: EngineId) -> &mut EngineQueue {
        let index = engine.index();
        if self.0.len() <= index {
            self.0.resize_with(index + 1, EngineQueue::default);
        }
        &mut self.0[index]
    }

    pub(super) fn clear(&mut self) {
        for engine in &mut self.0 {
            engine.ready.clear();
        }
    }
}
