//! A track that an app sends: access units or Opus packets come in once on the app's own thread, and RTP goes out to every
//! connection that carries the track, each from a task and a queue of its own. A connection begins with a keyframe; one that
//! does not keep up loses pictures up to the next keyframe and harms no other. What a connection is sent is decided in
//! `viewer_queue`, what a new one gets at once is kept in `gop`.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tracing::Instrument;

use super::camera_clock::{CameraClock, to_90khz};
use super::gop::{Gop, Sample};
use super::viewer_queue::{Outgoing, ViewerQueue};
use crate::realtime::h264_profile::ProfileLevelId;
use crate::realtime::rtp_track::{OutboundRtp, SentTrack, TrackKind, TrackSender};
use crate::realtime::warnings::allowed;
use twinsight_media::h264::nal::{NalType, annex_b};
use twinsight_media::h264::packetize::packetize;

/// Largest RTP payload: with headers and SRTP it stays below any path's MTU.
const MAX_PAYLOAD_BYTES: usize = 1150;

/// While a connection catches up, its packets leave no faster than this: 37 Mbit/s. It is many times what a camera sends, and
/// slow enough for the receive buffer of a socket.
const CATCH_UP_PACKETS: u32 = 4;
const CATCH_UP_PAUSE: Duration = Duration::from_millis(1);

/// While a connection catches up, its pictures leave no faster than this, so that a viewer can decode them as they come.
const CATCH_UP_UNIT: Duration = Duration::from_millis(10);

/// The source is asked for keyframes no more often than this, however often viewers ask.
const KEYFRAME_INTERVAL: Duration = Duration::from_millis(250);

/// Ticks of Opus' RTP clock in a second (RFC 7587 section 4.1).
const OPUS_CLOCK_HZ: u64 = 48_000;

/// A track to send: video as H.264, audio as Opus. Cloning shares it, and so do streams: what is sent goes to
/// every connection that carries it.
///
/// ```no_run
/// # use std::time::Duration;
/// # use bytes::Bytes;
/// # use twinsight_client::media::{LocalTrack, MediaStreamOptions};
/// # async fn example(client: twinsight_client::hub::HubClient, next_unit: impl Fn(bool) -> Bytes, opus: Bytes) -> Result<(), Box<dyn std::error::Error>> {
/// let (video, audio) = (LocalTrack::video("camera"), LocalTrack::audio("microphone"));
/// let options = MediaStreamOptions::sending([video.clone(), audio.clone()]);
/// let stream = client.instance().get_media_stream("screen-1", options).await?;
/// // An access unit of H.264 for each picture, a keyframe where a viewer needs one.
/// video.send_unit(next_unit(video.take_keyframe_request()));
/// audio.send_opus(opus, Duration::from_millis(20));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct LocalTrack {
    inner: Arc<Inner>,
}

struct Inner {
    kind: TrackKind,
    id: String,
    epoch: Instant,
    first_timestamp: u32,
    clock: Mutex<Clock>,
    profile: Mutex<Option<ProfileLevelId>>,
    connections: Mutex<Connections>,
    keyframes: Mutex<KeyframeRequests>,
    keyframe_wanted: Notify,
    viewer_joined: Notify,
    dropped: AtomicU64,
}

/// The clocks that RTP timestamps come from.
struct Clock {
    /// How many ticks of sound were sent so far.
    opus_ticks: u64,
    camera: CameraClock,
}

/// The connections that carry the track. One lock holds both parts, so that a connection that comes gets each unit once.
#[derive(Default)]
struct Connections {
    queues: Vec<Weak<ConnectionQueue>>,
    gop: Option<Gop>,
}

/// The viewers' requests for keyframes.
struct KeyframeRequests {
    /// The least time between two keyframes that the source is asked for.
    interval: Duration,
    wanted: bool,
    last_taken: Option<Instant>,
}

/// The pictures or packets of sound that wait for one connection.
struct ConnectionQueue {
    state: Mutex<ViewerQueue>,
    ready: Notify,
}

/// When a unit's picture was taken.
#[derive(Debug, Clone, Copy)]
pub enum UnitTime {
    /// At this moment of our own clock.
    CapturedAt(Instant),
    /// At this moment of the camera's own clock. RTP timestamps follow it while it runs evenly, and go on by `received_at` where
    /// it jumps: when the camera restarts, or is asked anew.
    Camera {
        /// Ticks of 90 kHz, which wrap.
        timestamp_90k: u32,
        /// When the unit came from the camera.
        received_at: Instant,
    },
}

/// A connection that carries a track, until it is dropped.
pub(super) struct Attachment {
    track: Arc<Inner>,
    /// The queue of the connection. Only the writer keeps it alive, so that a queue ends with the task that empties it.
    queue: Weak<ConnectionQueue>,
    writer: JoinHandle<()>,
}

impl LocalTrack {
    /// A track of H.264. The other side's tools show the id.
    pub fn video(id: impl Into<String>) -> Self {
        Self::new(TrackKind::Video, id.into())
    }

    /// A track of Opus. The other side's tools show the id.
    pub fn audio(id: impl Into<String>) -> Self {
        Self::new(TrackKind::Audio, id.into())
    }

    fn new(kind: TrackKind, id: String) -> Self {
        Self {
            inner: Arc::new(Inner {
                kind,
                id,
                epoch: Instant::now(),
                first_timestamp: rand::random(),
                clock: Mutex::new(Clock {
                    opus_ticks: 0,
                    camera: CameraClock::default(),
                }),
                profile: Mutex::new(None),
                connections: Mutex::default(),
                keyframes: Mutex::new(KeyframeRequests {
                    interval: KEYFRAME_INTERVAL,
                    wanted: false,
                    last_taken: None,
                }),
                keyframe_wanted: Notify::new(),
                viewer_joined: Notify::new(),
                dropped: AtomicU64::new(0),
            }),
        }
    }

    /// Sets the least time between two keyframe requests, which is 250 ms by default.
    #[must_use]
    pub fn with_keyframe_interval(self, interval: Duration) -> Self {
        self.inner.keyframes.lock().interval = interval;
        self
    }

    /// Keeps the units since the last keyframe, in up to so many bytes, for sources that cannot make a keyframe when one is
    /// needed, such as IP cameras. A new viewer gets them at once, so that its first picture need not wait for the next keyframe,
    /// and one that lost a picture gets them again: at most once a second, and only over its own connection. The units leave in
    /// quick succession and end with the newest. If nothing has come for 5 s, they wait for the next unit, since they show nothing
    /// of now. Nothing is kept of a stream whose keyframes are too far apart for the bound.
    #[must_use]
    pub fn with_gop_cache(self, max_bytes: usize) -> Self {
        self.inner.connections.lock().gop = Some(Gop::new(max_bytes));
        self
    }

    /// Sets what descriptions say of the stream; see [`set_profile_level_id`](Self::set_profile_level_id).
    #[must_use]
    pub fn with_profile_level_id(self, profile_level_id: [u8; 3]) -> Self {
        self.set_profile_level_id(profile_level_id);
        self
    }

    /// Says which H.264 the units are: profile, constraints and level, the three bytes after the first of the sequence
    /// parameter set (RFC 6184 section 8.1). Connections that are made from now on name it first, where the other side can take
    /// it. Without it, they name constrained baseline first.
    pub fn set_profile_level_id(&self, profile_level_id: [u8; 3]) {
        *self.inner.profile.lock() = Some(ProfileLevelId(profile_level_id));
    }

    /// The kind of media that it carries.
    pub fn kind(&self) -> TrackKind {
        self.inner.kind
    }

    /// The id that it was made with.
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// Sends an access unit: a byte stream of H.264 (Annex B), baseline or constrained baseline for any viewer.
    /// Its time is now. Keyframes are IDR pictures with their parameter sets in front.
    ///
    /// Nothing waits: a connection that does not keep up loses pictures up to the next keyframe.
    ///
    /// # Panics
    /// On a track of audio.
    pub fn send_unit(&self, unit: impl AsRef<[u8]>) {
        self.send_unit_at(unit, Instant::now());
    }

    /// Sends an access unit like [`send_unit`](Self::send_unit), with the time at which its picture was taken.
    ///
    /// # Panics
    /// On a track of audio.
    pub fn send_unit_at(&self, unit: impl AsRef<[u8]>, captured_at: Instant) {
        self.send_unit_with(unit, UnitTime::CapturedAt(captured_at));
    }

    /// Sends an access unit like [`send_unit`](Self::send_unit), with the time at which its picture was taken by whatever
    /// clock tells it.
    ///
    /// # Panics
    /// On a track of audio.
    pub fn send_unit_with(&self, unit: impl AsRef<[u8]>, at: UnitTime) {
        let inner = &self.inner;
        assert_eq!(inner.kind, TrackKind::Video, "an access unit is video");
        let unit = unit.as_ref();
        let payloads = packetize(unit, MAX_PAYLOAD_BYTES);
        if payloads.is_empty() {
            return;
        }
        let on_our_clock = |at: Instant| {
            let elapsed = at.saturating_duration_since(inner.epoch);
            inner.first_timestamp.wrapping_add(to_90khz(elapsed))
        };
        let (timestamp, taken_at) = match at {
            UnitTime::CapturedAt(at) => (on_our_clock(at), at),
            UnitTime::Camera {
                timestamp_90k,
                received_at,
            } => {
                let begin = on_our_clock(received_at);
                let mut clock = inner.clock.lock();
                let timestamp = clock.camera.rtp(timestamp_90k, received_at, begin);
                (timestamp, received_at)
            }
        };
        self.send(Sample {
            timestamp,
            taken_at,
            payloads,
            is_keyframe: annex_b(unit).any(|nal| NalType::of(nal[0]) == NalType::IdrSlice),
        });
    }

    /// Sends one Opus packet with sound of this duration, which follows the packet before without a pause.
    ///
    /// # Panics
    /// On a track of video.
    pub fn send_opus(&self, packet: impl Into<Bytes>, duration: Duration) {
        let inner = &self.inner;
        assert_eq!(inner.kind, TrackKind::Audio, "an Opus packet is audio");
        let mut clock = inner.clock.lock();
        let ticks = clock.opus_ticks;
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        clock.opus_ticks = ticks.wrapping_add(micros.saturating_mul(OPUS_CLOCK_HZ) / 1_000_000);
        drop(clock);
        let ticks = u32::try_from(ticks & u64::from(u32::MAX)).expect("32 bits were kept");
        self.send(Sample {
            timestamp: inner.first_timestamp.wrapping_add(ticks),
            taken_at: Instant::now(),
            payloads: vec![packet.into()],
            is_keyframe: true,
        });
    }

    /// True if a viewer needs a keyframe, so the next unit should be one; a request is given once. It is true at most every
    /// 250 ms, unless [`with_keyframe_interval`](Self::with_keyframe_interval) says otherwise.
    pub fn take_keyframe_request(&self) -> bool {
        let mut requests = self.inner.keyframes.lock();
        let now = Instant::now();
        let is_soon = requests
            .last_taken
            .is_some_and(|at| now.saturating_duration_since(at) < requests.interval);
        if !requests.wanted || is_soon {
            return false;
        }
        requests.wanted = false;
        requests.last_taken = Some(now);
        true
    }

    /// Waits until a viewer needs a keyframe, for sources that do not ask before each unit.
    ///
    /// ```no_run
    /// # async fn example(track: twinsight_client::media::LocalTrack, encoder: impl Fn()) {
    /// loop {
    ///     track.keyframe_requested().await;
    ///     encoder();
    /// }
    /// # }
    /// ```
    pub async fn keyframe_requested(&self) {
        loop {
            let pause = {
                let requests = self.inner.keyframes.lock();
                let next = requests.last_taken.map(|at| at + requests.interval);
                next.map(|next| next.saturating_duration_since(Instant::now()))
            };
            if let Some(pause) = pause.filter(|pause| !pause.is_zero()) {
                tokio::time::sleep(pause).await;
            }
            if self.take_keyframe_request() {
                return;
            }
            self.inner.keyframe_wanted.notified().await;
        }
    }

    /// How many connections carry the track now.
    pub fn viewers(&self) -> usize {
        let connections = self.inner.connections.lock();
        let queues = connections.queues.iter();
        queues.filter(|queue| queue.strong_count() > 0).count()
    }

    /// Waits until another connection carries it, for sources that send seldom and have a picture for it at once.
    /// A connection that came since the last call counts.
    pub async fn viewer_joined(&self) {
        self.inner.viewer_joined.notified().await;
    }

    /// How many pictures and packets of sound were not sent to some connection because it did not keep up or waited for a
    /// keyframe.
    pub fn dropped(&self) -> u64 {
        self.inner.dropped.load(Ordering::Relaxed)
    }

    /// What a description says of it.
    pub(super) fn described(&self) -> SentTrack {
        SentTrack {
            kind: self.inner.kind,
            id: self.inner.id.clone(),
            profile: *self.inner.profile.lock(),
        }
    }

    pub(super) fn want_keyframe(&self) {
        if self.inner.kind == TrackKind::Video {
            self.inner.keyframes.lock().wanted = true;
            self.inner.keyframe_wanted.notify_one();
        }
    }

    /// Sends the track over a further connection, from the next keyframe on, until the attachment is dropped.
    pub(super) fn attach(&self, sender: TrackSender) -> Attachment {
        let mut connections = self.inner.connections.lock();
        let queue = Arc::new(ConnectionQueue {
            state: Mutex::new(ViewerQueue::new(connections.gop.as_ref(), Instant::now())),
            ready: Notify::new(),
        });
        connections.queues.retain(|queue| queue.strong_count() > 0);
        let weak = Arc::downgrade(&queue);
        connections.queues.push(Weak::clone(&weak));
        drop(connections);
        self.want_keyframe();
        self.inner.viewer_joined.notify_one();
        let writer = {
            let is_video = self.inner.kind == TrackKind::Video;
            let writing = write(sender, is_video, queue);
            tokio::spawn(writing.in_current_span())
        };
        Attachment {
            track: Arc::clone(&self.inner),
            queue: weak,
            writer,
        }
    }

    fn send(&self, sample: Sample) {
        let sample = Arc::new(sample);
        let now = Instant::now();
        let mut behind = false;
        let mut connections = self.inner.connections.lock();
        let Connections { queues, gop } = &mut *connections;
        if let Some(gop) = gop {
            gop.push(&sample);
        }
        queues.retain(|queue| {
            let Some(queue) = queue.upgrade() else {
                return false;
            };
            let dropped = queue.state.lock().put(&sample, gop.as_ref(), now);
            queue.ready.notify_one();
            self.inner.dropped.fetch_add(dropped, Ordering::Relaxed);
            behind |= dropped > 0;
            true
        });
        drop(connections);
        if behind {
            self.want_keyframe();
        }
    }
}

impl ConnectionQueue {
    async fn take(&self) -> Outgoing {
        loop {
            if let Some(outgoing) = self.state.lock().take() {
                return outgoing;
            }
            self.ready.notified().await;
        }
    }
}

impl Attachment {
    /// Sends what is kept once more over this connection, because its viewer has lost a picture and the source may not be able
    /// to help. Gives what does that, which does not keep the connection's queue alive.
    pub(super) fn resend(&self) -> Resend {
        Resend {
            track: Arc::clone(&self.track),
            queue: Weak::clone(&self.queue),
        }
    }
}

/// Sends what a track keeps once more over one of its connections.
pub(super) struct Resend {
    track: Arc<Inner>,
    queue: Weak<ConnectionQueue>,
}

impl Resend {
    /// The viewer of the connection wants a keyframe.
    pub(super) fn keyframe_wanted(&self) {
        let Some(queue) = self.queue.upgrade() else {
            return;
        };
        let connections = self.track.connections.lock();
        if let Some(gop) = &connections.gop {
            queue.state.lock().keyframe_wanted(gop, Instant::now());
            queue.ready.notify_one();
        }
    }
}

/// Writes what comes into the queue to the connection, until that is gone.
async fn write(sender: TrackSender, is_video: bool, queue: Arc<ConnectionQueue>) {
    let payload_type = match sender.payload_type().await {
        Ok(payload_type) => payload_type,
        Err(error) => {
            if let Some(suppressed) = allowed("a track is not sent") {
                tracing::warn!(%error, suppressed, "a track is not sent");
            }
            return;
        }
    };
    let mut sequence: u16 = rand::random();
    loop {
        let Outgoing { sample, catches_up } = queue.take().await;
        sender.note_clock(sample.timestamp, sample.taken_at);
        let begun = tokio::time::Instant::now();
        let last = sample.payloads.len() - 1;
        let mut since_pause = 0;
        for (n, payload) in sample.payloads.iter().enumerate() {
            let packet = OutboundRtp {
                payload_type,
                sequence,
                timestamp: sample.timestamp,
                // Sound has no pauses here, so its packets have no marker.
                marker: is_video && n == last,
                payload: payload.clone(),
            };
            if let Err(error) = sender.send(packet).await {
                tracing::debug!(%error, "a connection takes no more packets");
                return;
            }
            sequence = sequence.wrapping_add(1);
            since_pause += 1;
            if catches_up && since_pause == CATCH_UP_PACKETS {
                since_pause = 0;
                tokio::time::sleep(CATCH_UP_PAUSE).await;
            }
        }
        if catches_up {
            tokio::time::sleep_until(begun + CATCH_UP_UNIT).await;
        }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.writer.abort();
        // The aborted task ends some time later, and the connection must no longer count as a viewer.
        self.track
            .connections
            .lock()
            .queues
            .retain(|queue| !queue.ptr_eq(&self.queue));
    }
}

impl fmt::Debug for LocalTrack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalTrack")
            .field("kind", &self.inner.kind)
            .field("id", &self.inner.id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyframes_are_asked_of_a_source_as_often_as_it_wants() {
        let taken = |track: LocalTrack| {
            let ask = || {
                track.want_keyframe();
                track.take_keyframe_request()
            };
            [ask(), ask(), track.take_keyframe_request()]
        };
        let track = LocalTrack::video("a");
        assert_eq!(taken(track), [true, false, false]);
        let eager = LocalTrack::video("b").with_keyframe_interval(Duration::ZERO);
        assert_eq!(taken(eager), [true, true, false]);
    }
}
