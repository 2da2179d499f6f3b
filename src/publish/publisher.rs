//! The task that empties the outbox into the hub. The stages hand frames and states to a
//! [`Publisher`] without ever waiting; the task shapes each event at the moment it is written, so that
//! its times are true, and closes the ledger's last line. The node runs it and shuts it down last.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use serde_json::Value;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::event::{CAMERA_STATUS, CameraStatus, DETECTIONS, Inferred};
use super::outbox::{Numbered, Outbox, Outgoing};
use crate::clock::WallClock;
use crate::telemetry::health::Heartbeat;
use crate::telemetry::ledger::{EventDrop, Stage};
use crate::telemetry::metrics::Metrics;
use twinsight_client::stream_id::StreamId;

/// An idle publisher shows that it lives this often.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(1);

/// A sink that was left has this long to say what became of its last event.
const SETTLE_LIMIT: Duration = Duration::from_millis(500);

/// Where events go: the node's own twin on the hub, or a test's channel.
pub trait EventSink: Send + 'static {
    /// Writes an event. Resolves when it is on the socket; at once with an error when the hub is away.
    fn emit(
        &mut self,
        event: &'static str,
        data: Value,
    ) -> impl Future<Output = Result<(), HubAway>> + Send;
}

/// The hub is away; the event is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the hub is away, the event is dropped")]
pub struct HubAway;

/// The entrance of the outbox. Cloning shares it; its methods never wait.
#[derive(Debug, Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
}

/// The running task, for its owner to shut down.
#[derive(Debug)]
pub struct PublisherTask {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    metrics: Arc<Metrics>,
    state: Mutex<SendState>,
    wake: Notify,
}

#[derive(Debug)]
struct SendState {
    outbox: Outbox,
    phase: Phase,
    /// The stream whose event is being written.
    in_flight: Option<StreamId>,
    last_published: HashMap<StreamId, Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Takes frames and states.
    Open,
    /// Sends what waits and takes nothing more.
    Draining,
}

/// A new identity of a run: 32 hex digits.
pub fn new_run_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

impl Publisher {
    /// Starts the task. Needs a tokio runtime.
    pub fn spawn<S: EventSink>(
        sink: S,
        run_id: String,
        capacity: usize,
        metrics: Arc<Metrics>,
        heartbeat: Option<Heartbeat>,
    ) -> (Self, PublisherTask) {
        let shared = Arc::new(Shared {
            metrics,
            state: Mutex::new(SendState {
                outbox: Outbox::new(capacity),
                phase: Phase::Open,
                in_flight: None,
                last_published: HashMap::new(),
            }),
            wake: Notify::new(),
        });
        let task = tokio::spawn(run(sink, run_id, Arc::clone(&shared), heartbeat));
        let publisher = Self {
            shared: Arc::clone(&shared),
        };
        (publisher, PublisherTask { shared, task })
    }

    /// Hands over an inferred frame. It is counted as inferred by the stage that calls; here as published
    /// or dropped. With `emit_empty` off, a frame in which nothing was seen is left out.
    pub fn publish(&self, inferred: Inferred, emit_empty: bool) {
        let mut state = self.shared.state();
        if inferred.objects.is_empty() && !emit_empty {
            state.outbox.suppress(&inferred);
            drop(state);
            self.shared.dropped(&inferred.id, EventDrop::Suppressed);
            return;
        }
        if state.phase == Phase::Draining {
            drop(state);
            self.shared
                .dropped(&inferred.id, EventDrop::HubDisconnected);
            return;
        }
        let displaced = state.outbox.push(inferred);
        drop(state);
        if let Some(displaced) = displaced {
            self.shared
                .dropped(&displaced.inferred.id, EventDrop::OutboxFull);
        }
        self.shared.wake.notify_one();
    }

    /// Tells a camera stream's state, in the place of one that still waits.
    pub fn set_status(&self, status: CameraStatus) {
        self.shared.state().outbox.set_status(status);
        self.shared.wake.notify_one();
    }

    /// Gives a camera stream another name for people, in the states that are sent from now on.
    pub fn rename(&self, id: &StreamId, name: &Arc<str>) {
        self.shared.state().outbox.rename(id, name);
    }

    /// Sends the current state of every camera stream again; to be called when the hub has returned.
    pub fn resend_statuses(&self) {
        self.shared.state().outbox.resend_statuses();
        self.shared.wake.notify_one();
    }

    /// True while a state of a camera stream is to be told: of one that was removed, until that was.
    pub fn is_due(&self, id: &StreamId) -> bool {
        self.shared.state().outbox.is_due(id)
    }

    /// Forgets a camera stream that is gone for long; its metrics are the caller's.
    pub fn forget(&self, id: &StreamId) {
        let mut state = self.shared.state();
        state.outbox.forget(id);
        state.last_published.remove(id);
    }

    /// Camera streams of which anything is remembered, for tests and reports.
    pub fn remembered(&self) -> usize {
        let state = self.shared.state();
        state.outbox.remembered().max(state.last_published.len())
    }

    /// When a camera stream's last event was written.
    pub fn last_published(&self, id: &StreamId) -> Option<Instant> {
        self.shared.state().last_published.get(id).copied()
    }
}

impl PublisherTask {
    /// Takes no more frames, sends what waits for at most `deadline`, then counts the rest as dropped and leaves
    /// the sink by `leave`. An event that is being written then is counted by what the sink says of it, since
    /// it may be on the socket already; the sink has to say it when it was left.
    pub async fn shutdown(mut self, deadline: Duration, leave: impl Future<Output = ()>) {
        self.shared.state().phase = Phase::Draining;
        self.shared.wake.notify_one();
        let ended = tokio::time::timeout(deadline, &mut self.task).await.is_ok();
        let waiting: Vec<_> = {
            let mut state = self.shared.state();
            std::iter::from_fn(|| state.outbox.pop()).collect()
        };
        for outgoing in waiting {
            if let Outgoing::Detections(numbered) = outgoing {
                let id = &numbered.inferred.id;
                self.shared.dropped(id, EventDrop::HubDisconnected);
            }
        }
        leave.await;
        if !ended
            && tokio::time::timeout(SETTLE_LIMIT, &mut self.task)
                .await
                .is_err()
        {
            self.task.abort();
            // Its end, so that nothing is published after it was counted as dropped.
            let _ = (&mut self.task).await;
        }
        let in_flight = self.shared.state().in_flight.take();
        if let Some(id) = in_flight {
            self.shared.dropped(&id, EventDrop::HubDisconnected);
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, SendState> {
        self.state.lock()
    }

    fn dropped(&self, id: &StreamId, reason: EventDrop) {
        self.metrics.stream(id).event_dropped(reason);
    }

    /// Waits for something to send; `None` when all is sent and the outbox is closed.
    async fn next(&self, heartbeat: Option<&Heartbeat>) -> Option<Outgoing> {
        loop {
            {
                let mut state = self.state();
                if let Some(outgoing) = state.outbox.pop() {
                    if let Outgoing::Detections(numbered) = &outgoing {
                        state.in_flight = Some(numbered.inferred.id.clone());
                    }
                    return Some(outgoing);
                }
                if state.phase == Phase::Draining {
                    return None;
                }
            }
            if let Some(heartbeat) = heartbeat {
                heartbeat.beat(Instant::now());
            }
            // A wake-up or a sign of life: both look at the outbox again.
            let _ = tokio::time::timeout(HEARTBEAT_EVERY, self.wake.notified()).await;
        }
    }

    fn written(&self, numbered: &Numbered, result: Result<(), HubAway>) {
        let inferred = &numbered.inferred;
        let metrics = self.metrics.stream(&inferred.id);
        let now = Instant::now();
        let mut state = self.state();
        state.in_flight = None;
        match result {
            Ok(()) => {
                state.last_published.insert(inferred.id.clone(), now);
                drop(state);
                metrics.events_published.inc();
                let publish = now.saturating_duration_since(inferred.finished_at);
                metrics.stage(Stage::Publish, publish);
                let age = now.saturating_duration_since(inferred.timing.received_at);
                metrics.frame_age.observe(age.as_secs_f64());
            }
            Err(HubAway) => metrics.event_dropped(EventDrop::HubDisconnected),
        }
    }
}

async fn run<S: EventSink>(
    mut sink: S,
    run_id: String,
    shared: Arc<Shared>,
    heartbeat: Option<Heartbeat>,
) {
    while let Some(outgoing) = shared.next(heartbeat.as_ref()).await {
        if let Some(heartbeat) = &heartbeat {
            heartbeat.beat(Instant::now());
        }
        let clock = WallClock::read();
        match outgoing {
            Outgoing::Status(status) => {
                let data = to_json(&status.event(&clock));
                if sink.emit(CAMERA_STATUS, data).await.is_ok() {
                    shared.state().outbox.status_sent(&status);
                }
            }
            Outgoing::Detections(numbered) => {
                let data = to_json(&numbered.inferred.event(&run_id, numbered.sequence, &clock));
                let result = sink.emit(DETECTIONS, data).await;
                shared.written(&numbered, result);
            }
        }
    }
}

fn to_json(event: &impl serde::Serialize) -> Value {
    serde_json::to_value(event).expect("events serialise, because their keys are texts")
}

#[cfg(test)]
#[path = "publisher_tests.rs"]
mod tests;
