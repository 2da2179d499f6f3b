//! A model that runs on servers, shared by all who use it: workers begin requests here and say what became of them, a task for each
//! server asks it about the model. Which server a request goes to and how many there may be is decided by plain state, which is here
//! under a lock.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::client::{CallError, Client, Clients, InferRequest};
use super::detector::RemoteDetector;
use super::facts::{Availability, RemoteFacts, ServerFacts};
use super::fit::{Fit, ShapeError};
use super::limit::Limit;
use super::protocol::{InputTensor, OutputTensor};
use super::servers::{Outcome, Proof, ServerState, Servers, Ticket};
use super::shapers::Shapers;
use super::told::Told;
use super::watch;
use crate::config::{RemoteModelConfig, ServerProtocol};
use crate::detect::detector::{DetectError, Detector, ModelInfo};
use crate::detect::manifest::{Manifest, ModelError};
use crate::preprocess::{Picture, Placement};
use crate::telemetry::metrics::{Metrics, RemoteMetrics, RemoteResult};

/// A model that runs on servers.
#[derive(Debug)]
pub(crate) struct RemoteModel {
    shared: Arc<Shared>,
    tasks: Vec<AbortHandle>,
}

/// What the tasks and the workers of a model have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: RemoteModelConfig,
    pub(super) manifest: Manifest,
    info: ModelInfo,
    handle: Handle,
    pub(super) servers: Vec<Server>,
    shapers: Shapers,
    state: Mutex<State>,
    /// Told when a server's state has changed.
    changed: Notify,
    metrics: RemoteMetrics,
}

/// A server that the configuration names.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) url: Arc<str>,
    pub(super) client: Client,
    /// Tells its task that it is to be asked sooner than was planned.
    pub(super) wake: Notify,
}

#[derive(Debug)]
struct State {
    servers: Servers,
    limit: Limit,
    /// What each server takes, as it said last.
    fits: Vec<Option<Arc<Fit>>>,
    /// What the log has of each.
    told: Vec<Told>,
    /// Bytes of tensors of the last frame.
    frame_bytes: usize,
}

/// A request that is under way. A worker has it, and says what became of it; one that is dropped was given up by the worker.
pub(super) struct Attempt {
    shared: Arc<Shared>,
    ticket: Ticket,
    fit: Arc<Fit>,
    started_at: Instant,
    is_over: bool,
}

impl RemoteModel {
    /// Reads the manifest, and starts the tasks that watch the servers on `handle`. It waits for none of them.
    ///
    /// # Errors
    /// If the manifest is wrong, or the file of certificates or an address cannot be used.
    pub(crate) fn open(
        config: &RemoteModelConfig,
        models_dir: &Path,
        handle: &Handle,
        metrics: &Arc<Metrics>,
    ) -> Result<Arc<Self>, ModelError> {
        let (manifest, _path) = Manifest::load_remote(models_dir, &config.manifest)?;
        let refuse = |reason| ModelError::Client {
            model: config.name.clone(),
            reason,
        };
        let info = ModelInfo {
            name: config.name.as_str().into(),
            ..manifest.info()
        };
        let _in_runtime = handle.enter();
        let clients = Clients::new(config).map_err(refuse)?;
        let server = |url| {
            Ok(Server {
                client: clients.client(url, config).map_err(refuse)?,
                url: url.to_string().into(),
                wake: Notify::new(),
            })
        };
        let servers: Vec<Server> = config
            .servers
            .iter()
            .map(server)
            .collect::<Result<_, ModelError>>()?;
        let urls: Vec<String> = servers
            .iter()
            .map(|server| server.url.to_string())
            .collect();
        let count = servers.len();
        let shared = Arc::new(Shared {
            metrics: metrics.remote(&config.name, &urls),
            state: Mutex::new(State {
                servers: Servers::new(count, Instant::now()),
                limit: Limit::new(config.max_in_flight, config.deadline),
                fits: vec![None; count],
                told: vec![Told::default(); count],
                frame_bytes: 0,
            }),
            config: config.clone(),
            manifest,
            info,
            handle: handle.clone(),
            servers,
            shapers: Shapers::default(),
            changed: Notify::new(),
        });
        shared.metrics.slots.set(1);
        let task = |index| {
            let watched = watch::watch(Arc::clone(&shared), index);
            handle.spawn(watched).abort_handle()
        };
        let tasks = (0..count).map(task).collect();
        Ok(Arc::new(Self { shared, tasks }))
    }

    /// A detector that asks the servers. It is cheap to make.
    pub(crate) fn detector(self: &Arc<Self>) -> Box<dyn Detector> {
        Box::new(RemoteDetector::new(&self.shared))
    }

    pub(crate) fn config(&self) -> &RemoteModelConfig {
        &self.shared.config
    }

    pub(crate) fn info(&self) -> &ModelInfo {
        &self.shared.info
    }

    /// Whether there is a server that takes requests.
    pub(crate) fn availability(&self) -> Availability {
        match self.shared.trouble() {
            None => Availability::Ready,
            Some(reason) => Availability::Away { reason },
        }
    }

    /// How many requests may be under way at once: 1 at least, and `max_in_flight` at most. Whoever asks goes by it from now on, which is
    /// when the number begins to be measured; others find it in [`facts`](Self::facts).
    pub(crate) fn slots(&self) -> usize {
        self.shared.state.lock().limit.fetch(Instant::now())
    }

    /// What is known of it now.
    pub(crate) fn facts(&self) -> RemoteFacts {
        let shared = &*self.shared;
        let state = shared.state.lock();
        let servers = shared.servers.iter().zip(state.servers.all());
        let server = |(named, server): (&Server, &super::servers::Server)| {
            let (word, reason) = match server.state() {
                ServerState::Away { reason, .. } => ("away", Some(reason.clone())),
                ServerState::Returned { .. } | ServerState::Ready { .. } => ("ready", None),
            };
            ServerFacts {
                url: named.url.to_string(),
                state: word,
                reason,
                in_flight: server.in_flight(),
                latency_ms: server
                    .latency()
                    .map(|latency| (10_000.0 * latency.as_secs_f64()).round() / 10.0),
            }
        };
        let is_grpc = shared
            .config
            .servers
            .iter()
            .any(|url| url.protocol == ServerProtocol::Grpc);
        RemoteFacts {
            protocol: if is_grpc { "grpc" } else { "http" },
            servers: servers.map(server).collect(),
            input: state
                .fits
                .iter()
                .flatten()
                .next()
                .map(|fit| fit.facts(state.frame_bytes)),
            slots: state.limit.slots(),
            in_flight: state.servers.in_flight(),
        }
    }

    /// Waits until every server has said how it is, and one takes requests.
    ///
    /// # Errors
    /// A sentence that says why none does within the limit.
    pub(crate) async fn first_contact(&self, limit: Duration) -> Result<(), String> {
        let met = async {
            loop {
                let changed = self.shared.changed.notified();
                if self.shared.all_known() && self.shared.trouble().is_none() {
                    return;
                }
                changed.await;
            }
        };
        match tokio::time::timeout(limit, met).await {
            Ok(()) => Ok(()),
            Err(_) => self.shared.trouble().map_or(Ok(()), Err),
        }
    }

    /// True once every server has said how it is, or has not answered in time.
    pub(crate) fn are_all_known(&self) -> bool {
        self.shared.all_known()
    }

    /// When a server is to be asked next. It changes with each answer, and each time that there is none.
    #[cfg(test)]
    pub(super) fn ask_at(&self, index: usize) -> Instant {
        self.shared.ask_at(index)
    }

    /// Ends the tasks that watch the servers.
    pub(crate) fn close(&self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Drop for RemoteModel {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    pub(super) fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// Why no request can be made; `None` if one can.
    fn trouble(&self) -> Option<String> {
        let state = self.state.lock();
        if state.servers.any_usable() {
            return None;
        }
        let servers = self.servers.iter().zip(state.servers.all());
        let reasons: Vec<String> = servers
            .filter_map(|(named, server)| match server.state() {
                ServerState::Away { reason, .. } => Some(format!("{}: {reason}", named.url)),
                ServerState::Returned { .. } | ServerState::Ready { .. } => None,
            })
            .collect();
        Some(reasons.join("; "))
    }

    /// Begins a request to the server that is best for it. It never waits.
    pub(super) fn begin(self: &Arc<Self>) -> Result<Attempt, DetectError> {
        let mut state = self.state.lock();
        if let Some(ticket) = state.servers.pick()
            && let Some(fit) = state.fits[ticket.server].clone()
        {
            let now = Instant::now();
            state.limit.started(now);
            self.count(&state);
            return Ok(Attempt {
                shared: Arc::clone(self),
                ticket,
                fit,
                started_at: now,
                is_over: false,
            });
        }
        drop(state);
        Err(DetectError::Unavailable {
            model: self.info.name.clone(),
            reason: self
                .trouble()
                .unwrap_or_else(|| "no server was there a moment ago".to_owned()),
        })
    }

    fn all_known(&self) -> bool {
        self.state.lock().servers.all_known()
    }

    /// Whether no requests go to a server.
    pub(super) fn is_away(&self, index: usize) -> bool {
        self.state.lock().servers.is_away(index)
    }

    /// Whether a server took the same when it was asked last.
    pub(super) fn is_known(&self, index: usize, fit: &Fit) -> bool {
        self.state.lock().fits[index].as_deref() == Some(fit)
    }

    /// When a server is to be asked about the model.
    pub(super) fn ask_at(&self, index: usize) -> Instant {
        self.state.lock().servers.ask_at(index)
    }

    /// Takes what a server takes and what it has shown for that, or why it cannot be used.
    pub(super) fn asked(&self, index: usize, answer: Result<(Fit, Proof), String>) {
        let mut state = self.state.lock();
        let mut news = None;
        let answer = answer.map(|(fit, proof)| {
            let known = &mut state.fits[index];
            if known.as_deref() != Some(&fit) {
                news = Some(fit.facts(0));
                *known = Some(Arc::new(fit));
            }
            proof
        });
        state.servers.asked(index, answer, Instant::now());
        self.tell(state, index);
        if let Some(facts) = news {
            tracing::info!(
                model = %self.info.name,
                server = %self.servers[index].url,
                datatype = facts.datatype,
                shape = ?facts.shape,
                frame_bytes = facts.frame_bytes,
                form = facts.form,
                "an inference server has the model ready"
            );
        }
    }

    /// Says in the metrics, to whoever waits and then in the log how a server is.
    fn tell(&self, mut guard: MutexGuard<'_, State>, index: usize) {
        let state = &mut *guard;
        let Some(server) = state.servers.all().nth(index) else {
            return;
        };
        let is_away = state.servers.is_away(index);
        self.metrics.set_ready(index, !is_away);
        let line = state.told[index].news(server.state(), Instant::now());
        self.count(state);
        drop(guard);
        self.changed.notify_waiters();
        if is_away {
            self.servers[index].wake.notify_one();
        }
        if let Some(line) = line {
            line.write(&self.info.name, &self.servers[index].url);
        }
    }

    fn count(&self, state: &State) {
        let as_gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.metrics
            .in_flight
            .set(as_gauge(state.servers.in_flight()));
        self.metrics.slots.set(as_gauge(state.limit.slots()));
    }
}

impl State {
    /// Takes what became of a request that was started then.
    fn done(&mut self, ticket: Ticket, outcome: Outcome, started_at: Instant, now: Instant) {
        match &outcome {
            Outcome::Answered { .. } => {
                let whole = now.saturating_duration_since(started_at);
                self.limit.answered(whole, now);
            }
            // The slots are those of all servers, which a server that is about to be left, or was left, should not take from the others.
            Outcome::Deadline { .. } | Outcome::Busy { .. } if self.servers.is_of_ready(ticket) => {
                self.limit.deadline(started_at, now);
            }
            Outcome::Deadline { .. }
            | Outcome::Busy { .. }
            | Outcome::Failed { .. }
            | Outcome::Abandoned => self.limit.failed(now),
        }
        self.servers.done(ticket, outcome, now);
    }
}

impl Attempt {
    /// Makes the inputs of the request for a picture, and says where it lies in them.
    pub(super) fn shape(
        &self,
        picture: &Picture<'_>,
    ) -> Result<(Vec<InputTensor>, Placement), ShapeError> {
        let shared = &self.shared;
        let mut shaper = shared.shapers.take(&self.fit);
        let shaped = shaper.shape(picture);
        // Servers may take different things.
        let most = shared.state.lock().limit.slots().max(shared.servers.len());
        shared.shapers.give(shaper, most);
        shaped
    }

    fn server(&self) -> &Server {
        &self.shared.servers[self.ticket.server]
    }

    /// Asks the server, and waits until it has answered or the deadline has passed.
    pub(super) fn ask(&self, inputs: &[InputTensor]) -> Result<Vec<OutputTensor>, CallError> {
        let shared = &self.shared;
        let bytes: usize = inputs.iter().map(|tensor| tensor.data.len()).sum();
        shared
            .metrics
            .request_bytes
            .inc_by(u64::try_from(bytes).unwrap_or(u64::MAX));
        shared.state.lock().frame_bytes = bytes;
        let request = InferRequest {
            inputs,
            outputs: self.fit.outputs(),
            most_answer_bytes: self.fit.most_answer_bytes(),
            limit: shared.config.deadline,
        };
        let asked = self.server().client.infer(&request);
        let outputs = shared.handle.block_on(asked)?;
        self.fit.check(&outputs).map_err(CallError::Answer)?;
        Ok(outputs)
    }

    /// The answer can be used, and came after this long.
    pub(super) fn answered(mut self, latency: Duration) {
        self.over(RemoteResult::Ok, Outcome::Answered { latency }, latency);
    }

    /// The answer was none, or cannot be used. Gives the error for the frame.
    pub(super) fn failed(mut self, error: CallError, took: Duration) -> DetectError {
        let model = self.shared.info.name.clone();
        let server = Arc::clone(&self.server().url);
        let limit = self.shared.config.deadline;
        match error {
            CallError::Deadline => {
                self.over(RemoteResult::Deadline, Outcome::Deadline { limit }, took);
                DetectError::Deadline {
                    model,
                    server,
                    limit,
                }
            }
            CallError::Busy(reason) => {
                let outcome = Outcome::Busy {
                    reason: reason.clone(),
                };
                self.over(RemoteResult::Unavailable, outcome, took);
                DetectError::Unavailable {
                    model,
                    reason: format!("{server}: {reason}"),
                }
            }
            CallError::Unavailable(reason) | CallError::NoAnswer(reason) => {
                let outcome = Outcome::Failed {
                    reason: reason.clone(),
                };
                self.over(RemoteResult::Unavailable, outcome, took);
                DetectError::Unavailable {
                    model,
                    reason: format!("{server}: {reason}"),
                }
            }
            CallError::Answer(reason) => {
                let outcome = Outcome::Failed {
                    reason: reason.clone(),
                };
                self.over(RemoteResult::Answer, outcome, took);
                DetectError::Answer {
                    model,
                    server,
                    reason,
                }
            }
        }
    }

    fn over(&mut self, result: RemoteResult, outcome: Outcome, took: Duration) {
        let shared = Arc::clone(&self.shared);
        self.is_over = true;
        shared.metrics.request(self.ticket.server, result, took);
        let mut state = shared.state.lock();
        state.done(self.ticket, outcome, self.started_at, Instant::now());
        shared.tell(state, self.ticket.server);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let (outcome, now) = (Outcome::Abandoned, Instant::now());
        let mut state = self.shared.state.lock();
        state.done(self.ticket, outcome, self.started_at, now);
        self.shared.tell(state, self.ticket.server);
    }
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
