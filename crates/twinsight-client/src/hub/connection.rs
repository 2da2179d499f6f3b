//! The task behind the client: opens the WebSocket, feeds the session, writes what it wants written,
//! and after every loss waits and dials again. Commands of the handles come in, also while there is
//! no socket, so that nobody waits for an answer that cannot come.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Map, Value, json};
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio_tungstenite::tungstenite::{self, Message};

use super::answer::CallResult;
use super::away_reason::AwayReason;
use super::client_state::ClientState;
use super::error::HubError;
use super::profile::Profile;
use super::refusal::{Refusals, Verdict};
use super::session::{Output, Session};
use super::status::HubStatus;
use super::text::brief;
use super::websocket::{Socket, broken, is_malformed, open_socket};
use super::write_queue::{Outgoing, PongSlot, WRITE_QUEUE, WriteQueue, refused};
use crate::backoff::Backoff;
use crate::secret::Secret;
use crate::telemetry::HubLoss;

/// A connection that held for so long starts the back-off from its first delay again.
const STEADY: Duration = Duration::from_secs(10);

/// How long writing what waits may take when the client leaves.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// How often the file of a key that was refused is looked at.
const KEY_POLL: Duration = Duration::from_secs(1);

/// What a handle asks of the task.
#[derive(Debug)]
pub(super) enum Command {
    /// Write a frame that the handle has made.
    Write {
        text: String,
        reserved: OwnedSemaphorePermit,
        /// Nobody may be waiting.
        done: Option<oneshot::Sender<Result<(), HubError>>>,
    },
    /// Call a method of the hub.
    Call {
        method: String,
        payload: Map<String, Value>,
        reserved: OwnedSemaphorePermit,
        done: oneshot::Sender<CallResult>,
    },
    /// Write what waits and leave the hub.
    Close { done: oneshot::Sender<()> },
}

/// Why a connection, or the client, ended.
#[derive(Debug)]
enum ConnectionEnd {
    /// To be followed by another attempt.
    Lost(AwayReason),
    /// The hub refused the credentials.
    Refused(String),
    /// All handles are gone, or one closed the client.
    Closed,
}

/// The task that keeps the connection, and its state.
#[derive(Debug)]
pub(super) struct Connection {
    shared: Arc<ClientState>,
    session: Session<oneshot::Sender<CallResult>>,
    commands: mpsc::Receiver<Command>,
    status: watch::Sender<HubStatus>,
    closing: Option<oneshot::Sender<()>>,
    has_joined: bool,
    joined_at: Option<Instant>,
    refusals: Refusals,
    /// Length of the frame that the session has in hand.
    frame_bytes: usize,
    away_since: Option<Instant>,
}

impl Connection {
    pub(super) fn new(
        shared: Arc<ClientState>,
        commands: mpsc::Receiver<Command>,
        status: watch::Sender<HubStatus>,
    ) -> Self {
        Self {
            session: Session::new(Profile::of(&shared.options), Instant::now()),
            refusals: Refusals::new(shared.options.timers.refusal),
            shared,
            commands,
            status,
            closing: None,
            has_joined: false,
            joined_at: None,
            frame_bytes: 0,
            away_since: None,
        }
    }

    /// Connects until the client is closed or refused.
    pub(super) async fn run(mut self) {
        let timers = &self.shared.options.timers;
        let mut backoff = Backoff::new(timers.backoff_first, timers.backoff_cap);
        let mut attempt: u32 = 0;
        loop {
            attempt = attempt.saturating_add(1);
            self.status.send_replace(HubStatus::Connecting { attempt });
            self.take_rotated_key();
            let end = self.attempt().await;
            let was_joined = self.left();
            let mut wait_at_most = Duration::MAX;
            let reason = match end {
                ConnectionEnd::Lost(reason) => {
                    self.refusals.reset();
                    reason
                }
                ConnectionEnd::Refused(words) => match self.refusals.refused(Instant::now()) {
                    Verdict::TryAgain(within) => {
                        wait_at_most = within;
                        AwayReason::KeyRefused(words)
                    }
                    Verdict::GiveUp => {
                        let reason = words;
                        if let Some(metrics) = &self.shared.metrics {
                            metrics.hub_lost(HubLoss::Key);
                        }
                        tracing::error!(
                            hub = self.shared.options.shown_url(),
                            reason,
                            "the hub refused this device: check its id and key"
                        );
                        self.status.send_replace(HubStatus::Refused { reason });
                        self.decline_until_closed().await;
                        break;
                    }
                },
                ConnectionEnd::Closed => break,
            };
            if let Some(held) = was_joined {
                attempt = 0;
                if held >= STEADY {
                    backoff.reset();
                }
            }
            let delay = backoff.next_delay(rand::random()).min(wait_at_most);
            let since = *self.away_since.get_or_insert_with(Instant::now);
            if let Some(suppressed) = self.shared.warnings.allow("away", Instant::now()) {
                tracing::warn!(
                    hub = self.shared.options.shown_url(),
                    %reason,
                    away_for_s = since.elapsed().as_secs(),
                    retry_in_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
                    suppressed,
                    remedy = reason.remedy(),
                    "the hub is away"
                );
            }
            if let Some(metrics) = &self.shared.metrics {
                metrics.hub_lost(reason.loss());
            }
            let was_refused = matches!(reason, AwayReason::KeyRefused(_));
            self.status.send_replace(HubStatus::Away { since, reason });
            let goes_on = if was_refused {
                self.wait_for_key(delay).await
            } else {
                self.wait(delay).await
            };
            if !goes_on {
                break;
            }
        }
        self.finish();
    }

    /// True when the key's file holds another key than the one in use, which is used from now on.
    fn take_rotated_key(&mut self) -> bool {
        let rotated = self.session.access_key().and_then(Secret::rotated);
        let found = rotated.is_some();
        if let Some(key) = rotated {
            tracing::info!("the access key was rotated: joining the hub with the new one");
            self.shared.set_access_key(key.clone());
            self.session.set_access_key(key);
            // What was said of the old key says nothing of the new one.
            self.refusals.reset();
        }
        found
    }

    /// Waits after a refusal, and not any longer once the key's file holds another one: it may be written a
    /// little after the key was changed at the hub. False if the client is to end.
    async fn wait_for_key(&mut self, delay: Duration) -> bool {
        let until = Instant::now() + delay;
        loop {
            if self.take_rotated_key() {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            if !self.wait(left.min(KEY_POLL)).await {
                return false;
            }
        }
    }

    /// One connection, from dialling to its end.
    async fn attempt(&mut self) -> ConnectionEnd {
        let started_at = Instant::now();
        let socket = match self.dial().await {
            Ok(socket) => socket,
            Err(end) => return end,
        };
        let (mut sink, stream) = socket.split();
        let (queue, mut queued) = mpsc::channel::<Outgoing>(WRITE_QUEUE);
        let (wrote, pong) = (Notify::new(), PongSlot::default());
        let write_limit = self.shared.options.timers.write;
        let write = async {
            loop {
                let (text, done, _reserved) = tokio::select! {
                    biased;
                    text = pong.next() => (text, None, None),
                    outgoing = queued.recv() => match outgoing {
                        Some(outgoing) => (outgoing.text, outgoing.done, outgoing._reserved),
                        None => break,
                    },
                };
                match tokio::time::timeout(write_limit, sink.send(Message::text(text))).await {
                    Ok(Ok(())) => {}
                    Ok(Err(tungstenite::Error::WriteBufferFull(_))) | Err(_) => {
                        return ConnectionEnd::Lost(AwayReason::Stuck);
                    }
                    Ok(Err(error)) => return ConnectionEnd::Lost(broken(&error)),
                }
                if let Some(done) = done {
                    // Whoever asked may have stopped waiting.
                    let _ = done.send(Ok(()));
                }
                wrote.notify_one();
            }
            let _ = sink.close().await;
            ConnectionEnd::Closed
        };
        self.session.opened(started_at, Instant::now());
        let read = async {
            let end = self.read(stream, &queue, &pong, &wrote).await;
            // The writer ends with what the queue still holds.
            drop(queue);
            end
        };
        tokio::pin!(write);
        let end = tokio::select! {
            end = &mut write => end,
            end = read => end,
        };
        if matches!(end, ConnectionEnd::Closed) {
            // The queue is closed now: what it still holds is written, then the socket closes.
            let _ = tokio::time::timeout(CLOSE_LIMIT, write).await;
        }
        end
    }

    /// Opens the WebSocket while declining what needs a hub.
    async fn dial(&mut self) -> Result<Socket, ConnectionEnd> {
        let shared = Arc::clone(&self.shared);
        let limit = shared.options.timers.connect;
        let dialling = tokio::time::timeout(limit, open_socket(&shared.options));
        tokio::pin!(dialling);
        loop {
            tokio::select! {
                opened = &mut dialling => {
                    return match opened {
                        Ok(Ok(socket)) => Ok(socket),
                        Ok(Err(reason)) => Err(ConnectionEnd::Lost(reason)),
                        Err(_) => Err(ConnectionEnd::Lost(AwayReason::ConnectTimeout(limit))),
                    };
                }
                command = self.commands.recv() => {
                    self.note_subscription_changes();
                    if !self.command(command, None) {
                        return Err(ConnectionEnd::Closed);
                    }
                }
                () = shared.subscriptions_changed.notified() => self.note_subscription_changes(),
            }
        }
    }

    /// Feeds the session from the socket, the handles and the clock.
    async fn read(
        &mut self,
        mut stream: futures_util::stream::SplitStream<Socket>,
        queue: &mpsc::Sender<Outgoing>,
        pong: &PongSlot,
        wrote: &Notify,
    ) -> ConnectionEnd {
        let writes = WriteQueue { queue, pong };
        let shared = Arc::clone(&self.shared);
        loop {
            let has_room = writes.taken() < WRITE_QUEUE / 4;
            if has_room {
                self.take_subscription_changes();
            }
            if let Some(end) = self.drain(Some(writes)) {
                return end;
            }
            let reads = writes.taken() < WRITE_QUEUE / 2;
            if !reads {
                self.session.did_not_listen(Instant::now());
            }
            let deadline = self.session.deadline();
            tokio::select! {
                frame = stream.next(), if reads => match frame {
                    Some(Ok(Message::Text(text))) => {
                        self.frame_bytes = text.len();
                        self.session.text(&text, Instant::now());
                    }
                    Some(Ok(Message::Binary(data))) => {
                        self.frame_bytes = data.len();
                        self.session.binary(data, Instant::now());
                    }
                    Some(Ok(Message::Close(_))) | None => return ConnectionEnd::Lost(AwayReason::Closed),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => {
                        if is_malformed(&error) {
                            self.shared.malformed(&error.to_string());
                        }
                        return ConnectionEnd::Lost(broken(&error));
                    }
                },
                command = self.commands.recv(), if has_room => {
                    // What was asked for before the command goes out before it.
                    self.take_subscription_changes();
                    if let Some(end) = self.drain(Some(writes)) {
                        return end;
                    }
                    if !self.command(command, Some(writes)) {
                        writes.enqueue("41".to_owned());
                        return ConnectionEnd::Closed;
                    }
                }
                () = shared.subscriptions_changed.notified(), if has_room => {}
                () = wrote.notified(), if !has_room => {}
                () = until(deadline) => self.session.tick(Instant::now()),
            }
        }
    }

    /// Takes the changes of what is listened to.
    fn take_subscription_changes(&mut self) {
        while let Some((twin_id, change)) = self.shared.next_subscription_change() {
            let now = Instant::now();
            for done in change.subscribers {
                self.session.subscribe(&twin_id, done, now);
            }
            for _ in 0..change.unsubscribed {
                self.session.unsubscribe(&twin_id);
            }
        }
    }

    /// Carries out what the session wants; the end if it wants one.
    fn drain(&mut self, writes: Option<WriteQueue<'_>>) -> Option<ConnectionEnd> {
        while let Some(output) = self.session.poll() {
            match output {
                Output::Write(text) => {
                    if writes.is_some_and(|writes| !writes.enqueue(text)) {
                        return Some(ConnectionEnd::Lost(AwayReason::Stuck));
                    }
                }
                Output::Pong(text) => {
                    if writes.is_some_and(|writes| writes.pong.put(text)) {
                        self.shared
                            .malformed("a ping before the pong to the one before was written");
                    }
                }
                Output::Joined { twin_id } => self.joined(twin_id),
                Output::OwnTwin(twin) => {
                    self.shared.set_own_id(self.session.own_twin_id());
                    self.shared.set_own_twin(twin);
                }
                Output::Message { message, ack } => {
                    let wanted = self.shared.deliver(&message, self.frame_bytes);
                    if let Some(id) = ack {
                        self.session
                            .acknowledge(id, verdict(wanted, &message.twin_id));
                    }
                }
                Output::TwinUpdated(update) => {
                    self.shared.updates.give(update, self.frame_bytes);
                }
                Output::Answer { token, result } => {
                    let _ = token.send(result);
                }
                Output::SubscriptionFailed { twin_id, reason } => {
                    if let Some(suppressed) =
                        self.shared.warnings.allow("subscription", Instant::now())
                    {
                        tracing::warn!(
                            twin_id,
                            reason,
                            suppressed,
                            "the hub does not let this client listen to a twin: it is asked again in a few seconds"
                        );
                    }
                }
                Output::Malformed(what) => self.shared.malformed(&what),
                Output::Lost(reason) => return Some(ConnectionEnd::Lost(reason)),
                Output::Refused(reason) => return Some(ConnectionEnd::Refused(reason)),
            }
        }
        None
    }

    /// Takes a command; false if the client is to end.
    fn command(&mut self, command: Option<Command>, writes: Option<WriteQueue<'_>>) -> bool {
        match command {
            None => return false,
            Some(Command::Close { done }) => {
                self.closing = Some(done);
                return false;
            }
            Some(Command::Write {
                text,
                reserved,
                done,
            }) => {
                let outgoing = Outgoing {
                    text,
                    done,
                    _reserved: Some(reserved),
                };
                let writes = writes.filter(|_| self.session.is_joined());
                if let Some(done) = refused(writes, outgoing).and_then(|outgoing| outgoing.done) {
                    let _ = done.send(Err(HubError::Disconnected));
                }
            }
            Some(Command::Call {
                method,
                payload,
                reserved,
                done,
            }) => {
                let called = self.session.call(&method, payload, done, Instant::now());
                if let Some(text) = called {
                    // One that finds no place expires; there is one, or the command had waited.
                    let outgoing = Outgoing {
                        text,
                        done: None,
                        _reserved: Some(reserved),
                    };
                    drop(refused(writes, outgoing));
                }
            }
        }
        if writes.is_none() {
            // Without a socket there are only answers to give.
            self.drain(None);
        }
        true
    }

    /// Takes changes of what is listened to while there is no socket.
    fn note_subscription_changes(&mut self) {
        self.take_subscription_changes();
        self.drain(None);
    }

    fn joined(&mut self, twin_id: String) {
        self.shared.set_own_id(&twin_id);
        self.shared
            .max_message
            .store(self.session.max_message_bytes(), Ordering::Relaxed);
        if let Some(suppressed) = self.shared.warnings.allow("joined", Instant::now()) {
            tracing::info!(
                twin_id = brief(&twin_id),
                url = self.shared.options.shown_url(),
                suppressed,
                "the hub is joined"
            );
        }
        if let Some(metrics) = &self.shared.metrics {
            metrics.hub_connected(true, self.has_joined);
        }
        self.has_joined = true;
        self.joined_at = Some(Instant::now());
        self.away_since = None;
        self.status.send_replace(HubStatus::Joined { twin_id });
    }

    /// The socket is gone: tells everybody who waits. How long the hub was joined, if it was.
    fn left(&mut self) -> Option<Duration> {
        if let Some(metrics) = &self.shared.metrics {
            metrics.hub_connected(false, false);
        }
        self.session.disconnected();
        self.drain(None);
        self.joined_at.take().map(|at| at.elapsed())
    }

    /// Waits while declining what needs a hub; false if the client is to end.
    async fn wait(&mut self, delay: Duration) -> bool {
        let shared = Arc::clone(&self.shared);
        let sleep = tokio::time::sleep(delay);
        tokio::pin!(sleep);
        loop {
            tokio::select! {
                () = &mut sleep => return true,
                command = self.commands.recv() => {
                    self.note_subscription_changes();
                    if !self.command(command, None) {
                        return false;
                    }
                }
                () = shared.subscriptions_changed.notified() => self.note_subscription_changes(),
            }
        }
    }

    async fn decline_until_closed(&mut self) {
        while self.wait(KEY_POLL).await {}
    }

    fn finish(mut self) {
        self.commands.close();
        if !matches!(&*self.status.borrow(), HubStatus::Refused { .. }) {
            self.status.send_replace(HubStatus::Away {
                since: Instant::now(),
                reason: AwayReason::ClosedHere,
            });
        }
        self.shared.hang_up();
        if let Some(done) = self.closing.take() {
            let _ = done.send(());
        }
    }
}

/// The acknowledgement of a message, in the official clients' words.
fn verdict(wanted: bool, twin_id: &str) -> Value {
    if wanted {
        json!({ "status": "success", "message": "Action completed" })
    } else {
        json!({
            "status": "warning",
            "message": format!("No listeners found for twin {}", brief(twin_id)),
        })
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
