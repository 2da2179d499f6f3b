//! The task that sends traces. Frames' traces come in from the publisher, which never waits: what does not fit into the queue
//! is counted as dropped. Batches go out to the collector, one at a time; after a failure the task waits longer and longer,
//! while the newest traces are kept. The node runs it and ends it after the publisher.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::collector::{Collector, CollectorError, CollectorOptions, Undelivered};
use super::encode::{Identity, encode};
use super::queue::TraceQueue;
use super::{FrameTrace, TraceContext};
use crate::telemetry::health::Health;
use crate::telemetry::metrics::{Metrics, TraceDrop};
use twinsight_client::backoff::Backoff;
use twinsight_client::rate_limit::RateLimit;

/// So many traces may wait for the collector.
const WAITING: usize = 512;

/// The most traces in one request, which then has 100 KB or so.
const BATCH: usize = 64;

/// A trace waits this long for others, so that a request has more than one.
const BATCH_DELAY: Duration = Duration::from_secs(2);

/// The time between attempts with a collector that takes nothing goes up to this.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// A collector that takes nothing is told of this often.
const WARN_EVERY: Duration = Duration::from_secs(600);

/// What the traces of a node are made with.
pub(crate) struct TraceOptions {
    /// Where they go.
    pub(crate) collector: CollectorOptions,
    /// The part of the frames that have one, from 0 to 1.
    pub(crate) sample_ratio: f64,
    /// The identity of the node's run.
    pub(crate) run_id: String,
    /// Gives the twin id of the node, which is empty until it is known.
    pub(crate) twin_id: Box<dyn Fn() -> String + Send>,
}

/// Decides which frames have a trace, and takes their traces. Clones share one queue, and no method waits.
#[derive(Debug, Clone)]
pub(crate) struct Tracer {
    sample_ratio: f64,
    shared: Arc<SharedQueue>,
}

/// The running task. Its owner shuts it down.
#[derive(Debug)]
pub(crate) struct TraceTask {
    shared: Arc<SharedQueue>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct SharedQueue {
    metrics: Arc<Metrics>,
    state: Mutex<QueueState>,
    /// Told when a batch is full.
    wake: Notify,
}

#[derive(Debug)]
struct QueueState {
    queue: TraceQueue,
    /// So many traces are in the request that is under way.
    in_flight: usize,
}

/// Why the task stops sending for the moment.
enum Pause {
    /// All that waited was delivered.
    Empty,
    /// The collector takes nothing. It may have said for how long.
    Failed(Option<Duration>),
    /// The node ends.
    Stopped,
}

impl Tracer {
    /// Starts the task, which needs a tokio runtime.
    ///
    /// # Errors
    /// When the file of certificates cannot be used.
    pub(crate) fn spawn(
        options: TraceOptions,
        metrics: Arc<Metrics>,
        health: &Health,
    ) -> Result<(Self, TraceTask), CollectorError> {
        let collector = Collector::new(&options.collector)?;
        let shared = Arc::new(SharedQueue {
            metrics,
            state: Mutex::new(QueueState {
                queue: TraceQueue::new(WAITING),
                in_flight: 0,
            }),
            wake: Notify::new(),
        });
        let stop = CancellationToken::new();
        let tracer = Self {
            sample_ratio: options.sample_ratio,
            shared: Arc::clone(&shared),
        };
        let exporter = Exporter {
            shared: Arc::clone(&shared),
            collector,
            options,
            warnings: RateLimit::new(WARN_EVERY),
            is_failing: false,
        };
        let running = exporter.run(stop.clone());
        let task = tokio::spawn(health.watch("the export of traces", running));
        Ok((tracer, TraceTask { shared, stop, task }))
    }

    /// Decides whether a frame has a trace.
    pub(crate) fn sample(&self) -> Option<TraceContext> {
        TraceContext::sample(
            self.sample_ratio,
            rand::random(),
            rand::random(),
            rand::random(),
        )
    }

    /// Hands over the trace of a sampled frame.
    pub(crate) fn submit(&self, trace: FrameTrace) {
        let mut state = self.shared.state();
        let displaced = state.queue.push(trace);
        let waiting = state.queue.len();
        drop(state);
        if displaced {
            self.shared.dropped(TraceDrop::QueueFull, 1);
        }
        if waiting >= BATCH {
            self.shared.wake.notify_one();
        }
    }
}

impl TraceTask {
    /// Sends what waits for at most `limit`, without waiting for a collector that takes nothing, and counts the rest as dropped.
    pub(crate) async fn shutdown(mut self, limit: Duration) {
        self.stop.cancel();
        if tokio::time::timeout(limit, &mut self.task).await.is_err() {
            self.task.abort();
            // The task must have ended, or it could still count what is counted below.
            let _ = (&mut self.task).await;
        }
        let mut state = self.shared.state();
        let left = state.queue.take(WAITING).len() + std::mem::take(&mut state.in_flight);
        drop(state);
        self.shared.dropped(TraceDrop::Shutdown, left);
    }
}

impl SharedQueue {
    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock()
    }

    fn dropped(&self, reason: TraceDrop, count: usize) {
        self.metrics.traces.dropped(reason, count as u64);
    }
}

/// The task's state.
struct Exporter {
    shared: Arc<SharedQueue>,
    collector: Collector,
    options: TraceOptions,
    warnings: RateLimit<()>,
    /// The last batch was not delivered.
    is_failing: bool,
}

impl Exporter {
    async fn run(mut self, stop: CancellationToken) {
        let mut backoff = Backoff::new(BATCH_DELAY, LONGEST_DELAY);
        let mut delay = BATCH_DELAY;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(delay) => {}
                // A collector that takes nothing is left alone, however many wait.
                () = self.shared.wake.notified(), if !self.is_failing => {}
            }
            delay = match self.send_all(&stop).await {
                Pause::Empty => {
                    backoff.reset();
                    BATCH_DELAY
                }
                Pause::Failed(after) => {
                    let delay = backoff.next_delay(rand::random());
                    after.unwrap_or_default().clamp(delay, LONGEST_DELAY)
                }
                Pause::Stopped => break,
            };
        }
        // What waits has its chance also where the collector was away. The owner limits how long that takes.
        let _ = self.send_all(&CancellationToken::new()).await;
    }

    /// Sends batch after batch, until nothing waits, the collector does not take one, or the node ends.
    async fn send_all(&mut self, stop: &CancellationToken) -> Pause {
        loop {
            let batch = {
                let mut state = self.shared.state();
                let batch = state.queue.take(BATCH);
                state.in_flight = batch.len();
                batch
            };
            if batch.is_empty() {
                return Pause::Empty;
            }
            let identity = Identity {
                service_name: self.service_name(),
                run_id: self.options.run_id.clone(),
            };
            let body = encode(&identity, &batch, rand::random);
            let result = tokio::select! {
                result = self.collector.post(body) => result,
                () = stop.cancelled() => {
                    self.restore(batch);
                    return Pause::Stopped;
                }
            };
            match result {
                Ok(refused_spans) => self.delivered(&batch, refused_spans),
                Err(error @ Undelivered::Refused(_)) => {
                    self.shared.state().in_flight = 0;
                    self.shared.dropped(TraceDrop::Refused, batch.len());
                    self.failed(&error);
                    return Pause::Failed(None);
                }
                Err(error) => {
                    self.restore(batch);
                    self.failed(&error);
                    let Undelivered::Later { after, .. } = error else {
                        return Pause::Failed(None);
                    };
                    return Pause::Failed(after);
                }
            }
        }
    }

    /// In direct mode the hub tells the twin id when it is joined.
    fn service_name(&self) -> String {
        let twin_id = (self.options.twin_id)();
        if twin_id.is_empty() {
            "twinsight".to_owned()
        } else {
            twin_id
        }
    }

    fn delivered(&mut self, batch: &[FrameTrace], refused_spans: Option<String>) {
        self.shared.state().in_flight = 0;
        self.shared
            .metrics
            .traces
            .exported
            .inc_by(batch.len() as u64);
        if std::mem::take(&mut self.is_failing) {
            tracing::info!("traces are delivered again");
        }
        if let Some(said) = refused_spans {
            self.warn(&said);
        }
    }

    /// Puts a batch that was not delivered back into the queue.
    fn restore(&self, batch: Vec<FrameTrace>) {
        let mut state = self.shared.state();
        state.in_flight = 0;
        let dropped = state.queue.restore(batch);
        drop(state);
        self.shared.dropped(TraceDrop::QueueFull, dropped);
    }

    fn failed(&mut self, error: &Undelivered) {
        self.is_failing = true;
        self.warn(error);
    }

    fn warn(&self, reason: &dyn std::fmt::Display) {
        if let Some(suppressed) = self.warnings.allow((), Instant::now()) {
            let endpoint = &self.options.collector.endpoint;
            tracing::warn!(%endpoint, %reason, suppressed, "the collector does not take traces, everything else goes on: see that it listens for OTLP over HTTP at `telemetry.otlp_endpoint`, and what headers it asks for");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::frame_trace;
    use super::*;

    fn start(endpoint: &str, metrics: &Arc<Metrics>) -> (Tracer, TraceTask) {
        let options = TraceOptions {
            collector: CollectorOptions {
                endpoint: endpoint.to_owned(),
                headers: Vec::new(),
                ca_file: None,
            },
            sample_ratio: 1.0,
            run_id: "8f1c".to_owned(),
            twin_id: Box::new(String::new),
        };
        Tracer::spawn(options, Arc::clone(metrics), &Health::default()).unwrap()
    }

    fn dropped(metrics: &Metrics, reason: &str) -> u64 {
        let series = format!("twinsight_traces_dropped_total{{reason=\"{reason}\"}} ");
        let text = metrics.encode();
        let value = text.lines().find_map(|line| line.strip_prefix(&series));
        value.unwrap().parse().unwrap()
    }

    #[tokio::test]
    async fn whatever_the_collector_does_each_trace_is_counted_once() {
        // The system takes connections for it, and nobody answers.
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", silent.local_addr().unwrap());
        let metrics = Arc::new(Metrics::new());
        let (tracer, task) = start(&endpoint, &metrics);
        for n in 0..100 {
            tracer.submit(frame_trace(n));
        }
        // A batch is on its way while more come than there is room for.
        let _connection = silent.accept().await.unwrap();
        for n in 100..1000 {
            tracer.submit(frame_trace(n));
        }
        let asked = Instant::now();
        task.shutdown(Duration::from_millis(300)).await;
        assert!(asked.elapsed() < Duration::from_secs(2));
        assert_eq!(metrics.traces.exported.get(), 0);
        let (full, shutdown) = (
            dropped(&metrics, "queue_full"),
            dropped(&metrics, "shutdown"),
        );
        assert_eq!(full + shutdown, 1000, "{full} {shutdown}");
        assert_eq!(shutdown, 512);
    }

    #[tokio::test]
    async fn a_tracer_samples_as_often_as_it_is_told() {
        let metrics = Arc::new(Metrics::new());
        let (mut tracer, task) = start("http://127.0.0.1:9", &metrics);
        tracer.sample_ratio = 0.25;
        let sampled: Vec<_> = (0..10_000).filter_map(|_| tracer.sample()).collect();
        assert!((2000..3000).contains(&sampled.len()), "{}", sampled.len());
        assert_ne!(sampled[0], sampled[1]);
        task.shutdown(Duration::from_secs(1)).await;
    }
}
