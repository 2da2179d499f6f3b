//! A camera's stream as the node subscribes to it: options come in; frames and changes of state go out to two handlers. Frames
//! come on the decode thread, changes of state on the stream's task.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Instant;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::inbound_router::{InboundRouter, sink};
use super::stream_state::{StreamState, StreamStateMachine};
use super::stream_task::{StreamTask, StreamTaskParts};
use super::worker::DecodeConfig;
use crate::dialect::Dialect;
use crate::hub::client::HubClient;
use crate::realtime::attempt::Role;
use crate::realtime::connect::{ConnectionContent, MediaContent};
use crate::realtime::description_task::content_of;
use crate::realtime::ice::IceSettings;
use crate::realtime::link::Link;
use crate::realtime::link_options::{Lifetime, LinkOptions};
use crate::realtime::rtp_track::TrackKind;
use crate::realtime::signal::ChannelKind;
use crate::stream_id::StreamId;
use crate::telemetry::StreamSink;
use twinsight_media::codec::Codec;
use twinsight_media::decode::keyframes::KeyframeBudget;
use twinsight_media::picture::Frame;

/// What to subscribe to, and how.
#[derive(Debug, Clone)]
pub struct CameraStreamOptions {
    /// The camera twin and the stream's name.
    pub id: StreamId,
    /// Whether we dial the camera or it dials us.
    pub role: Role,
    /// The camera's client.
    pub dialect: Dialect,
    /// A responder then also accepts offers that are signed with our own twin.
    pub allow_unsigned: bool,
    /// The codecs that are received, the preferred first.
    pub codecs: Vec<Codec>,
    /// Which paths connections may use.
    pub ice: IceSettings,
    /// How frames are decoded.
    pub decode: DecodeConfig,
    /// Counts what becomes of the stream.
    pub metrics: Option<Arc<dyn StreamSink>>,
    /// It is notified when the camera begins to listen, by whoever knows that, so that it is dialled at once and not when the
    /// offer that it has missed has waited long enough.
    pub camera_listens: Option<Arc<Notify>>,
}

impl CameraStreamOptions {
    fn link(&self) -> LinkOptions {
        LinkOptions {
            kind: ChannelKind::Media,
            name: Arc::clone(&self.id.stream),
            target: Arc::clone(&self.id.twin_id),
            own: None,
            role: self.role,
            lifetime: Lifetime::UntilStopped,
            dialect: self.dialect,
            allow_unsigned: self.allow_unsigned,
            ice: self.ice.clone(),
            verbose: false,
            receives: true,
        }
    }
}

/// What all camera streams of a node share.
#[derive(Debug, Clone)]
pub struct StreamContext {
    /// The client of the hub that the node has joined.
    pub hub: HubClient,
    /// The limit of keyframe requests.
    pub keyframes: Arc<KeyframeBudget>,
}

/// Takes frames. It runs on the decode thread and must not wait.
pub type FrameHandler = Box<dyn FnMut(Frame) + Send>;

/// Takes every change of a stream's state, the first state included. It runs on the stream's task and must not wait.
pub type StateHandler = Box<dyn FnMut(StreamState) + Send>;

/// A received stream. [`close`](Self::close) ends it; dropping it does so in the background.
pub struct CameraStream {
    id: StreamId,
    state: watch::Receiver<StreamState>,
    stop: DropGuard,
    task: JoinHandle<()>,
}

impl CameraStream {
    /// Subscribes to a camera's stream, for as long as the handle lives. Needs a tokio runtime.
    pub fn open(
        context: StreamContext,
        options: CameraStreamOptions,
        on_frame: FrameHandler,
        mut on_state: StateHandler,
    ) -> Self {
        let id = options.id.clone();
        let state_machine = StreamStateMachine::new(Instant::now(), options.role);
        let (state_sender, state) = watch::channel(state_machine.state());
        let current_attempt = Arc::new(AtomicU32::new(0));
        let span = tracing::info_span!("camera", twin = %id.twin_id, stream = %id.stream);
        let router = Arc::new(InboundRouter::new(
            Arc::clone(&current_attempt),
            None,
            context.hub.shared_metrics(),
            span,
        ));
        let link = {
            let (router, codecs) = (Arc::clone(&router), options.codecs.clone());
            let content = move |attempt| {
                ConnectionContent::Media(MediaContent {
                    sink: sink(attempt, Arc::clone(&router)),
                    codecs: codecs.clone(),
                    receives: vec![TrackKind::Video],
                    sends: Vec::new(),
                })
            };
            let hub = context.hub.clone();
            let link = Link::new(hub, options.link(), current_attempt, content_of(content));
            link.told_when_peer_listens(options.camera_listens.unwrap_or_default())
        };
        let task = StreamTask::new(StreamTaskParts {
            state_machine: Some(state_machine),
            router,
            keyframes: context.keyframes,
            metrics: options.metrics,
            id: id.clone(),
            decode: options.decode,
            on_frame,
            on_state: Box::new(move |state| {
                state_sender.send_replace(state.clone());
                on_state(state);
            }),
        });
        let stop = CancellationToken::new();
        Self {
            id,
            state,
            task: tokio::spawn(task.run(link, stop.clone().cancelled_owned())),
            stop: stop.drop_guard(),
        }
    }

    /// The camera twin and the stream's name.
    pub fn id(&self) -> &StreamId {
        &self.id
    }

    /// The stream's state, with every change of it.
    pub fn state(&self) -> watch::Receiver<StreamState> {
        self.state.clone()
    }

    /// True while frames come.
    pub fn is_receiving_frames(&self) -> bool {
        self.state.borrow().state == crate::telemetry::CameraState::Receiving
    }

    /// True when the stream's task is gone, which nothing but a panic brings about before [`close`](Self::close).
    pub fn is_gone(&self) -> bool {
        self.task.is_finished()
    }

    /// Closes the connection, ends decoding and waits for both. No frame comes after it.
    pub async fn close(self) {
        drop(self.stop);
        if let Err(error) = self.task.await
            && error.is_panic()
        {
            tracing::error!(camera = %self.id, "a stream's task panicked: this is a bug in Twinsight");
        }
    }
}

impl fmt::Debug for CameraStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CameraStream")
            .field("id", &self.id)
            .field("state", &*self.state.borrow())
            .finish_non_exhaustive()
    }
}
