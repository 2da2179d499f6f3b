//! The task behind the client: opens the WebSocket, feeds the session, writes what it wants written,
//! and after every loss waits and dials again. Commands of the handles come in, also while there is
//! no socket, so that nobody waits for an answer that cannot come.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Map, Value, json};
use tokio::net::TcpStream;
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream};

use super::client::{HubError, HubStatus, Shared};
use super::engine_io::MAX_PACKET_BYTES;
use super::options::HubOptions;
use super::session::{AwayReason, CallResult, Output, Profile, Session};
use crate::backoff::Backoff;
use crate::config::Secret;
use crate::config::secret_file::read_small_file;

/// The WebSocket layer breaks off beyond this; up to it, what is too long is only counted.
const MAX_FRAME_BYTES: usize = 4 * MAX_PACKET_BYTES;

/// The longest file of certificates, in bytes; a bundle of all public ones has a quarter of it.
const MAX_CA_FILE_BYTES: u64 = 1 << 20;

/// What is read at once. The WebSocket layer zeroes it for each read, which with its own 128 KiB costs more than reading.
const READ_BUFFER_BYTES: usize = 8 * 1024;

/// Frames that may wait for the socket. The session's own (pongs, acknowledgements,
/// subscriptions) may take all places, the handles' frames only the first half.
const WRITE_QUEUE: usize = 4096;

/// A connection that held for so long starts the back-off from its first delay again.
const STEADY: Duration = Duration::from_secs(10);

/// How long leaving may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// A key that was good and is refused may be replaced in its file for this long.
const KEY_ROTATION_LIMIT: Duration = Duration::from_secs(60);

/// How often the file is looked at meanwhile.
const KEY_POLL: Duration = Duration::from_secs(1);

/// What a handle asks of the task.
#[derive(Debug)]
pub(super) enum Command {
    /// Write a frame that the handle has made.
    Write {
        text: String,
        reserved: OwnedSemaphorePermit,
        done: oneshot::Sender<Result<(), HubError>>,
    },
    /// Call a method.
    Call {
        method: String,
        payload: Map<String, Value>,
        done: oneshot::Sender<CallResult>,
    },
    /// Listen to a twin from now on.
    Subscribe {
        twin_id: String,
        done: oneshot::Sender<CallResult>,
    },
    /// Stop listening to a twin.
    Unsubscribe { twin_id: String },
    /// Leave.
    Close { done: oneshot::Sender<()> },
}

/// A frame on its way to the socket and who waits for it.
#[derive(Debug)]
struct Outgoing {
    text: String,
    done: Option<oneshot::Sender<Result<(), HubError>>>,
    /// Gives its bytes back when the frame is written or dropped.
    _reserved: Option<OwnedSemaphorePermit>,
}

/// Why a connection, or the client, ended.
#[derive(Debug)]
enum End {
    /// To be followed by another attempt.
    Lost(AwayReason),
    /// The hub wants none.
    Refused(String),
    /// All handles are gone, or one closed the client.
    Closed,
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// What became of a refused key.
#[derive(Debug)]
enum KeyFate {
    /// Its file has another one, which is used from now on.
    Rotated,
    /// It stays refused.
    Refused,
    /// The client was closed meanwhile.
    Closed,
}

/// The task's state.
#[derive(Debug)]
pub(super) struct Connection {
    shared: Arc<Shared>,
    session: Session<oneshot::Sender<CallResult>>,
    commands: mpsc::Receiver<Command>,
    status: watch::Sender<HubStatus>,
    closing: Option<oneshot::Sender<()>>,
    has_joined: bool,
    joined_at: Option<Instant>,
    away_since: Option<Instant>,
}

impl Connection {
    pub(super) fn new(
        shared: Arc<Shared>,
        commands: mpsc::Receiver<Command>,
        status: watch::Sender<HubStatus>,
    ) -> Self {
        Self {
            session: Session::new(Profile::of(&shared.options), Instant::now()),
            shared,
            commands,
            status,
            closing: None,
            has_joined: false,
            joined_at: None,
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
            let reason = match end {
                End::Lost(reason) => reason,
                End::Refused(reason) => {
                    match self.await_rotated_key(&reason).await {
                        KeyFate::Rotated => {
                            tracing::info!(
                                "the access key was rotated: joining the hub with the new one"
                            );
                            continue;
                        }
                        KeyFate::Closed => break,
                        KeyFate::Refused => {}
                    }
                    tracing::error!(reason, "the hub refused this device: check its id and key");
                    self.status.send_replace(HubStatus::Refused { reason });
                    self.decline_until_closed().await;
                    break;
                }
                End::Closed => break,
            };
            if let Some(held) = was_joined {
                attempt = 0;
                if held >= STEADY {
                    backoff.reset();
                }
            }
            let delay = backoff.next_delay(rand::random());
            tracing::warn!(
                %reason,
                retry_in_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
                "the hub is away"
            );
            let since = *self.away_since.get_or_insert_with(Instant::now);
            self.status.send_replace(HubStatus::Away { since, reason });
            if !self.wait(delay).await {
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
            self.session.set_access_key(key);
        }
        found
    }

    /// A refused key is given up at once if it never was good; one that was may have been rotated at
    /// the hub a little before its file.
    async fn await_rotated_key(&mut self, reason: &str) -> KeyFate {
        let give_up_at = Instant::now() + KEY_ROTATION_LIMIT;
        let has_file = self
            .session
            .access_key()
            .is_some_and(|key| key.file().is_some());
        let since = *self.away_since.get_or_insert_with(Instant::now);
        loop {
            if self.take_rotated_key() {
                return KeyFate::Rotated;
            }
            if !has_file || !self.has_joined || Instant::now() >= give_up_at {
                return KeyFate::Refused;
            }
            let reason = AwayReason::KeyRefused(reason.to_owned());
            self.status.send_if_modified(|status| {
                let away = HubStatus::Away { since, reason };
                let changed = *status != away;
                *status = away;
                changed
            });
            if !self.wait(KEY_POLL).await {
                return KeyFate::Closed;
            }
        }
    }

    /// One connection, from dialling to its end.
    async fn attempt(&mut self) -> End {
        let started_at = Instant::now();
        let socket = match self.dial().await {
            Ok(socket) => socket,
            Err(end) => return end,
        };
        let (mut sink, stream) = socket.split();
        let (queue, mut queued) = mpsc::channel::<Outgoing>(WRITE_QUEUE);
        let wrote = Notify::new();
        let write_limit = self.shared.options.timers.write;
        let write = async {
            while let Some(outgoing) = queued.recv().await {
                let message = Message::text(outgoing.text);
                match tokio::time::timeout(write_limit, sink.send(message)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return End::Lost(AwayReason::Socket(error.to_string())),
                    Err(_) => return End::Lost(AwayReason::Stuck),
                }
                if let Some(done) = outgoing.done {
                    // Whoever asked may have stopped waiting.
                    let _ = done.send(Ok(()));
                }
                wrote.notify_one();
            }
            let _ = sink.close().await;
            End::Closed
        };
        self.session.opened(started_at, Instant::now());
        let read = self.read(stream, queue, &wrote);
        tokio::pin!(write);
        let end = tokio::select! {
            end = &mut write => end,
            end = read => end,
        };
        if matches!(end, End::Closed) {
            // The queue is closed now: what it still holds is written, then the socket closes.
            let _ = tokio::time::timeout(CLOSE_LIMIT, write).await;
        }
        end
    }

    /// Opens the WebSocket while declining what needs a hub.
    async fn dial(&mut self) -> Result<Socket, End> {
        let shared = Arc::clone(&self.shared);
        let limit = shared.options.timers.connect;
        let dialling = tokio::time::timeout(limit, open_socket(&shared.options));
        tokio::pin!(dialling);
        loop {
            tokio::select! {
                opened = &mut dialling => {
                    return match opened {
                        Ok(Ok(socket)) => Ok(socket),
                        Ok(Err(error)) => Err(End::Lost(AwayReason::Socket(error))),
                        Err(_) => Err(End::Lost(AwayReason::ConnectTimeout(limit))),
                    };
                }
                command = self.commands.recv() => {
                    if !self.command(command, None) {
                        return Err(End::Closed);
                    }
                }
            }
        }
    }

    /// Feeds the session from the socket, the handles and the clock.
    async fn read(
        &mut self,
        mut stream: futures_util::stream::SplitStream<Socket>,
        queue: mpsc::Sender<Outgoing>,
        wrote: &Notify,
    ) -> End {
        loop {
            if let Some(end) = self.drain(Some(&queue)) {
                return end;
            }
            let has_room = queue.capacity() > WRITE_QUEUE / 2;
            let deadline = self.session.deadline();
            tokio::select! {
                frame = stream.next() => match frame {
                    Some(Ok(Message::Text(text))) => self.session.text(&text, Instant::now()),
                    Some(Ok(Message::Binary(data))) => self.session.binary(data, Instant::now()),
                    Some(Ok(Message::Close(_))) | None => return End::Lost(AwayReason::Closed),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => {
                        if is_malformed(&error) {
                            self.shared.malformed(&error.to_string());
                        }
                        return End::Lost(AwayReason::Socket(error.to_string()));
                    }
                },
                command = self.commands.recv(), if has_room => {
                    if !self.command(command, Some(&queue)) {
                        enqueue(&queue, "41".to_owned());
                        return End::Closed;
                    }
                }
                () = wrote.notified(), if !has_room => {}
                () = until(deadline) => self.session.tick(Instant::now()),
            }
        }
    }

    /// Carries out what the session wants; the end if it wants one.
    fn drain(&mut self, queue: Option<&mpsc::Sender<Outgoing>>) -> Option<End> {
        while let Some(output) = self.session.poll() {
            match output {
                Output::Write(text) => {
                    if queue.is_some_and(|queue| !enqueue(queue, text)) {
                        return Some(End::Lost(AwayReason::Stuck));
                    }
                }
                Output::Joined { twin_id } => self.joined(twin_id),
                Output::OwnTwin(twin) => {
                    self.shared.set_own_id(self.session.own_twin_id());
                    self.shared.set_own_twin(twin);
                }
                Output::Message { message, ack } => {
                    let wanted = self.shared.deliver(&message);
                    if let Some(id) = ack {
                        self.session
                            .acknowledge(id, verdict(wanted, &message.twin_id));
                    }
                }
                Output::TwinUpdated(update) => {
                    // An error means that nobody listens.
                    let _ = self.shared.updates.send(update);
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
                Output::Lost(reason) => return Some(End::Lost(reason)),
                Output::Refused(reason) => return Some(End::Refused(reason)),
            }
        }
        None
    }

    /// Takes a command; false if the client is to end.
    fn command(
        &mut self,
        command: Option<Command>,
        queue: Option<&mpsc::Sender<Outgoing>>,
    ) -> bool {
        let now = Instant::now();
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
                    done: Some(done),
                    _reserved: Some(reserved),
                };
                let refused = match queue {
                    Some(queue) if self.session.is_joined() => queue
                        .try_send(outgoing)
                        .err()
                        .map(|error| error.into_inner()),
                    _ => Some(outgoing),
                };
                if let Some(done) = refused.and_then(|outgoing| outgoing.done) {
                    let _ = done.send(Err(HubError::Disconnected));
                }
            }
            Some(Command::Call {
                method,
                payload,
                done,
            }) => self.session.call(&method, payload, done, now),
            Some(Command::Subscribe { twin_id, done }) => {
                self.session.subscribe(&twin_id, done, now);
            }
            Some(Command::Unsubscribe { twin_id }) => self.session.unsubscribe(&twin_id),
        }
        if queue.is_none() {
            // Without a socket there are only answers to give.
            self.drain(None);
        }
        true
    }

    fn joined(&mut self, twin_id: String) {
        self.shared.set_own_id(&twin_id);
        self.shared
            .max_message
            .store(self.session.max_message_bytes(), Ordering::Relaxed);
        tracing::info!(twin_id, url = self.shared.options.url, "the hub is joined");
        if let Some(metrics) = &self.shared.metrics {
            metrics.hub_connected.set(1);
            if self.has_joined {
                metrics.hub_reconnects.inc();
            }
        }
        self.has_joined = true;
        self.joined_at = Some(Instant::now());
        self.away_since = None;
        self.status.send_replace(HubStatus::Joined { twin_id });
    }

    /// The socket is gone: tells everybody who waits. How long the hub was joined, if it was.
    fn left(&mut self) -> Option<Duration> {
        if let Some(metrics) = &self.shared.metrics {
            metrics.hub_connected.set(0);
        }
        self.session.disconnected();
        self.drain(None);
        self.joined_at.take().map(|at| at.elapsed())
    }

    /// Waits while declining what needs a hub; false if the client is to end.
    async fn wait(&mut self, delay: Duration) -> bool {
        let sleep = tokio::time::sleep(delay);
        tokio::pin!(sleep);
        loop {
            tokio::select! {
                () = &mut sleep => return true,
                command = self.commands.recv() => {
                    if !self.command(command, None) {
                        return false;
                    }
                }
            }
        }
    }

    async fn decline_until_closed(&mut self) {
        loop {
            let command = self.commands.recv().await;
            if !self.command(command, None) {
                return;
            }
        }
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

/// Puts a frame of the session's into the queue; false if it is full.
fn enqueue(queue: &mpsc::Sender<Outgoing>, text: String) -> bool {
    queue
        .try_send(Outgoing {
            text,
            done: None,
            _reserved: None,
        })
        .is_ok()
}

/// The acknowledgement of a message, in the official clients' words.
fn verdict(wanted: bool, twin_id: &str) -> Value {
    if wanted {
        json!({ "status": "success", "message": "Action completed" })
    } else {
        json!({
            "status": "warning",
            "message": format!("No listeners found for twin {twin_id}"),
        })
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// True for an error that is about what the hub sent, not about the way there.
fn is_malformed(error: &tungstenite::Error) -> bool {
    use tungstenite::Error;
    use tungstenite::error::ProtocolError;
    match error {
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => false,
        Error::Protocol(_) | Error::Capacity(_) | Error::Utf8(_) => true,
        _ => false,
    }
}

/// Opens the WebSocket; the error is a sentence.
async fn open_socket(options: &HubOptions) -> Result<Socket, String> {
    let url = options.websocket_url().map_err(|error| error.to_string())?;
    let connector = if url.starts_with("wss:") {
        Connector::Rustls(Arc::new(tls_config(options)?))
    } else {
        Connector::Plain
    };
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .max_message_size(Some(MAX_FRAME_BYTES))
        .max_frame_size(Some(MAX_FRAME_BYTES));
    let opened =
        tokio_tungstenite::connect_async_tls_with_config(url, Some(config), true, Some(connector));
    match opened.await {
        Ok((socket, _)) => Ok(socket),
        Err(error) => Err(error.to_string()),
    }
}

/// Trusts the public roots, and the operator's file if there is one.
pub(super) fn tls_config(options: &HubOptions) -> Result<rustls::ClientConfig, String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    if let Some(path) = &options.ca_file {
        let unusable = |what: &dyn std::fmt::Display| {
            format!(
                "the hub's ca_file {} cannot be used: {what}",
                path.display()
            )
        };
        let pem = read_small_file(path, MAX_CA_FILE_BYTES).map_err(|error| unusable(&error))?;
        let mut added = 0;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| unusable(&error))?;
            roots.add(certificate).map_err(|error| unusable(&error))?;
            added += 1;
        }
        if added == 0 {
            return Err(unusable(&"it holds no certificate in PEM form"));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}
