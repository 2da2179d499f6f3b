//! A stream whose access units come by another way than a peer connection, such as from an IP camera. Units and the progress of
//! their source come in by a [`UnitInput`]; frames and changes of state go out to two handlers, as those of a
//! [`CameraStream`](super::camera::CameraStream) do.
//!
//! What must stay true:
//! - Units take the way of all others: as packets through the decode thread's queue, so that each is counted, aged and shed in the
//!   same manner.
//! - The state is told under one lock, in order, by whoever changes it: the source's task, or the stream's own.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::Instrument;

use super::camera::{FrameHandler, StateHandler};
use super::change_log::{ChangeLog, log_state};
use super::decoding::Decoding;
use super::direct_state::DirectStateMachine;
pub use super::direct_state::SourceProgress;
use super::inbound_router::InboundRouter;
use super::stream_state::StreamState;
use super::worker::{DecodeConfig, DecodeParts};
use crate::realtime::deadline::sleep_until;
use crate::stream_id::StreamId;
use crate::telemetry::StreamSink;
use twinsight_media::codec::Codec;
use twinsight_media::h264::packetize::packetize;
use twinsight_media::ledger::{ShedLevel, StreamLedger, UnitDrop};
use twinsight_media::rtp::{Arrival, RtpPacket, RtpTimestamp, SequenceNumber, Ssrc};

/// The largest payload that a unit is cut into, which is about that of the packets in which a camera sends it.
const MAX_PAYLOAD_BYTES: usize = 1400;

/// While only keyframes are decoded, units that came within this time show that the camera still sends.
const SILENCE: Duration = Duration::from_secs(1);

/// What the stream is called, and how it is decoded.
#[derive(Debug, Clone)]
pub struct DirectStreamOptions {
    /// The camera and the stream's name.
    pub id: StreamId,
    /// How frames are decoded.
    pub decode: DecodeConfig,
    /// Counts what becomes of the stream.
    pub metrics: Option<Arc<dyn StreamSink>>,
}

/// A stream that is decoded. [`close`](Self::close) ends it; dropping it does so in the background.
pub struct DirectStream {
    id: StreamId,
    state: watch::Receiver<StreamState>,
    stop: DropGuard,
    task: JoinHandle<()>,
}

/// Takes the access units of a stream, and how its source is doing. No method waits.
#[derive(Debug)]
pub struct UnitInput {
    shared: Arc<Shared>,
    sequence: SequenceNumber,
    /// The number of the connection that units come by, as what follows is not of the same source.
    connection: u32,
}

/// What the source's task and the stream's own share.
struct Shared {
    router: InboundRouter,
    ledger: Arc<StreamLedger>,
    metrics: Option<Arc<dyn StreamSink>>,
    reporter: Mutex<Reporter>,
    /// The state has changed, and with it what is due next.
    changed: Notify,
}

/// Tells each change of state once, in order.
struct Reporter {
    machine: DirectStateMachine,
    announced: Option<StreamState>,
    changes: ChangeLog,
    on_state: StateHandler,
}

impl DirectStream {
    /// Begins to decode what the input brings, for as long as the handle lives. Needs a tokio runtime.
    pub fn open(
        options: DirectStreamOptions,
        on_frame: FrameHandler,
        mut on_state: StateHandler,
    ) -> (Self, UnitInput) {
        let DirectStreamOptions {
            id,
            decode,
            metrics,
        } = options;
        let machine = DirectStateMachine::new(Instant::now());
        let (state_sender, state) = watch::channel(machine.state().clone());
        let span = tracing::info_span!("camera", twin = %id.twin_id, stream = %id.stream);
        let router = InboundRouter::new(Arc::new(AtomicU32::new(0)), None, None, span.clone());
        let shared = Arc::new(Shared {
            ledger: Arc::clone(&decode.ledger),
            metrics,
            reporter: Mutex::new(Reporter {
                machine,
                announced: None,
                changes: ChangeLog::new(),
                on_state: Box::new(move |state| {
                    state_sender.send_replace(state.clone());
                    on_state(state);
                }),
            }),
            router,
            changed: Notify::new(),
        });
        let decoding = decoding(&id, decode, on_frame, &shared);
        let stop = CancellationToken::new();
        let running = run(
            Arc::clone(&shared),
            decoding,
            stop.clone().cancelled_owned(),
        );
        let stream = Self {
            id,
            state,
            task: tokio::spawn(running.instrument(span)),
            stop: stop.drop_guard(),
        };
        let input = UnitInput {
            shared,
            sequence: SequenceNumber(0),
            connection: 0,
        };
        (stream, input)
    }

    /// The camera and the stream's name.
    pub fn id(&self) -> &StreamId {
        &self.id
    }

    /// The stream's state, with every change of it.
    pub fn state(&self) -> watch::Receiver<StreamState> {
        self.state.clone()
    }

    /// True when the stream's task is gone, which nothing but a panic brings about before [`close`](Self::close).
    pub fn is_gone(&self) -> bool {
        self.task.is_finished()
    }

    /// Ends decoding and waits for it. No frame comes after it, and what the input still brings is thrown away.
    pub async fn close(self) {
        drop(self.stop);
        if let Err(error) = self.task.await
            && error.is_panic()
        {
            tracing::error!(camera = %self.id, "a stream's task panicked: this is a bug in Twinsight");
        }
    }
}

impl fmt::Debug for DirectStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectStream")
            .field("id", &self.id)
            .field("state", &*self.state.borrow())
            .finish_non_exhaustive()
    }
}

impl UnitInput {
    /// Takes an access unit of H.264 as a byte stream (Annex B). `received_at` is when its first packet came and `completed_at`
    /// when it was whole. All units since the last keyframe must have come before it.
    pub fn unit(
        &mut self,
        data: &[u8],
        timestamp_90k: u32,
        received_at: Instant,
        completed_at: Instant,
    ) {
        let router = &self.shared.router;
        router.activity.packet();
        router.activity.video();
        // Without a thread nobody would take them out of the queue, and nobody counts what nobody was to decode.
        if !router.decodes.load(Ordering::Acquire) {
            return;
        }
        let payloads = packetize(data, MAX_PAYLOAD_BYTES);
        let count = payloads.len();
        for (at, payload) in payloads.into_iter().enumerate() {
            let packet = RtpPacket {
                sequence: self.sequence,
                timestamp: RtpTimestamp(timestamp_90k),
                marker: at + 1 == count,
                ssrc: Ssrc(self.connection),
                codec: Codec::H264,
                payload,
                arrived_at: if at == 0 { received_at } else { completed_at },
            };
            self.sequence = self.sequence.wrapping_add(1);
            // A full queue counts what it drops, and the hole in the numbers says so to the decode thread.
            router.queue.push(Arrival::Rtp(packet));
        }
    }

    /// Counts units that were lost on their way here. The next unit must not build on one of them.
    pub fn lost(&mut self, reason: UnitDrop, count: u64) {
        self.shared.ledger.lost_before(reason, count);
    }

    /// Takes in how the source is doing.
    pub fn progress(&mut self, progress: SourceProgress) {
        let now = Instant::now();
        let Shared {
            router, metrics, ..
        } = &*self.shared;
        let begins = progress == SourceProgress::Connecting;
        if begins {
            self.connection = self.connection.wrapping_add(1);
            router.activity.awaits_frame.store(true, Ordering::Release);
        }
        let mut reporter = self.shared.reporter.lock();
        reporter.machine.source(now, progress);
        if begins
            && reporter.machine.attempt() > 1
            && let Some(metrics) = metrics
        {
            metrics.reconnecting();
        }
        self.shared.report(&mut reporter, now);
        drop(reporter);
        self.shared.changed.notify_one();
    }
}

impl Shared {
    /// Does what is due, and gives when there is more.
    fn handle_timeout(&self, now: Instant) -> Option<Instant> {
        let activity = &self.router.activity;
        let few = self.ledger.shed_level() == ShedLevel::KeyframesOnly;
        let last_frame = if few && activity.without_video_for() < SILENCE {
            Some(now)
        } else {
            activity.last_frame()
        };
        let mut reporter = self.reporter.lock();
        if let Some(at) = last_frame
            && !activity.awaits_frame.load(Ordering::Acquire)
        {
            reporter.machine.frame(at);
        }
        reporter.machine.handle_timeout(now);
        self.report(&mut reporter, now);
        let due = [reporter.machine.deadline(), reporter.changes.look_at];
        due.into_iter().flatten().min()
    }

    /// Takes the news whether the system grants a thread to decode on, where it differs from the last time.
    fn decoder(&self, now: Instant, granted: Option<bool>) {
        let mut reporter = self.reporter.lock();
        if let Some(granted) = granted {
            reporter.machine.decoder(now, granted);
        }
        self.report(&mut reporter, now);
    }

    /// Reports the state if it has changed: to the metric, to the handler and to the log.
    fn report(&self, reporter: &mut Reporter, now: Instant) {
        let state = reporter.machine.state().clone();
        let log = |due| self.router.span.in_scope(|| log_state(&state, due));
        if reporter.announced.as_ref() == Some(&state) {
            return log(reporter.changes.later(&state, now));
        }
        reporter.announced = Some(state.clone());
        if let Some(metrics) = &self.metrics {
            metrics.state(state.state);
        }
        log(reporter.changes.change(&state, now));
        (reporter.on_state)(state);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

fn decoding(
    id: &StreamId,
    config: DecodeConfig,
    mut on_frame: FrameHandler,
    shared: &Arc<Shared>,
) -> Decoding {
    let activity = Arc::clone(&shared.router.activity);
    Decoding::new(DecodeParts {
        id: id.clone(),
        config,
        on_frame: Box::new(move |frame| {
            activity.frame();
            on_frame(frame);
        }),
        // Nobody can be asked: an IP camera sends keyframes when it likes.
        request_keyframe: Box::new(|_| {}),
    })
}

/// The task of the stream, which ends the decode thread when `stop` completes.
async fn run(shared: Arc<Shared>, mut decoding: Decoding, stop: impl Future<Output = ()> + Send) {
    let mut stop = std::pin::pin!(stop);
    loop {
        let now = Instant::now();
        // A thread that was not granted is asked for again when its time has come.
        if decoding.retry_at().is_none_or(|at| at <= now) {
            let granted = decoding.start(&shared.router, now);
            shared.decoder(now, granted);
        }
        let due = shared.handle_timeout(now);
        let due = [due, decoding.retry_at()].into_iter().flatten().min();
        tokio::select! {
            () = &mut stop => break,
            () = shared.router.activity.first_frame.notified() => {}
            () = shared.changed.notified() => {}
            () = sleep_until(due) => {}
        }
    }
    shared.router.decodes.store(false, Ordering::Release);
    shared.router.queue.close();
    decoding.stop().await;
}
