//! A camera's stream as the node subscribes to it: frames and changes of state go straight to two handlers.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Instant;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::inbound_router::{InboundRouter, sink};
use super::stream_state::{StreamState, StreamStateMachine};
use super::stream_task::{StreamTask, StreamTaskParts};
use super::worker::DecodeConfig;
use crate::dialect::Dialect;
use crate::hub::client::HubClient;
use crate::realtime::connect::{Content, MediaContent};
use crate::realtime::ice::IceSettings;
use crate::realtime::link::{Lifetime, Link, LinkOptions, content_of};
use crate::realtime::negotiation::Role;
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
    /// As responder: take offers that are signed with our own twin too.
    pub allow_unsigned: bool,
    /// Codecs that are taken, the preferred first.
    pub codecs: Vec<Codec>,
    /// How connections find their way.
    pub ice: IceSettings,
    /// How frames are decoded.
    pub decode: DecodeConfig,
    /// Is told what becomes of the stream.
    pub metrics: Option<Arc<dyn StreamSink>>,
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

/// What all streams of a node share.
#[derive(Debug, Clone)]
pub struct StreamContext {
    /// The hub.
    pub hub: HubClient,
    /// The limit of keyframe requests.
    pub keyframes: Arc<KeyframeBudget>,
}

/// Takes frames, on the decode thread: must not wait.
pub type FrameHandler = Box<dyn FnMut(Frame) + Send>;

/// Takes every change of a stream's state, the first state too, on the stream's task: must not wait.
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
                Content::Media(MediaContent {
                    sink: sink(attempt, Arc::clone(&router)),
                    codecs: codecs.clone(),
                    receives: vec![TrackKind::Video],
                    sends: Vec::new(),
                })
            };
            let hub = context.hub.clone();
            Link::new(hub, options.link(), current_attempt, content_of(content))
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
                state_sender.send_replace(state);
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

    /// The stream's state, and every change of it.
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
