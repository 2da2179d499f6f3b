//! A track that an app sends: access units or Opus packets come in once on the app's own thread, and RTP goes out to every
//! connection that carries the track, each from a task and a queue of its own. A connection begins with a keyframe; one that
//! does not keep up loses pictures up to the next keyframe and harms no other.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tracing::Instrument;

use crate::realtime::rtp_track::{OutboundRtp, TrackKind, TrackSender};
use crate::realtime::warnings::allowed;
use twinsight_media::h264::nal::{NalType, annex_b};
use twinsight_media::h264::packetize::packetize;

/// Largest RTP payload: with headers and SRTP it stays below any path's MTU.
const MAX_PAYLOAD_BYTES: usize = 1150;

/// At most this many pictures or packets of sound wait for one connection.
const QUEUE: usize = 32;

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
    queues: Mutex<Vec<Weak<ConnectionQueue>>>,
    keyframes: Mutex<KeyframeRequests>,
    keyframe_wanted: Notify,
    viewer_joined: Notify,
    dropped: AtomicU64,
}

/// The clock of a track of sound.
#[derive(Default)]
struct Clock {
    /// How many ticks of sound were sent so far.
    opus_ticks: u64,
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
    state: Mutex<QueueState>,
    ready: Notify,
}

struct QueueState {
    samples: VecDeque<Arc<Sample>>,
    /// True while pictures are left out until the next keyframe.
    awaits_keyframe: bool,
}

/// A picture or a packet of sound, as it goes out.
struct Sample {
    timestamp: u32,
    payloads: Vec<Bytes>,
    is_keyframe: bool,
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
                clock: Mutex::default(),
                queues: Mutex::default(),
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
        let inner = &self.inner;
        assert_eq!(inner.kind, TrackKind::Video, "an access unit is video");
        let unit = unit.as_ref();
        let payloads = packetize(unit, MAX_PAYLOAD_BYTES);
        if payloads.is_empty() {
            return;
        }
        let elapsed = captured_at.saturating_duration_since(inner.epoch);
        self.send(Sample {
            timestamp: inner.first_timestamp.wrapping_add(to_90khz(elapsed)),
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
        self.inner
            .queues
            .lock()
            .iter()
            .filter(|queue| queue.strong_count() > 0)
            .count()
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

    pub(super) fn want_keyframe(&self) {
        if self.inner.kind == TrackKind::Video {
            self.inner.keyframes.lock().wanted = true;
            self.inner.keyframe_wanted.notify_one();
        }
    }

    /// Sends the track over a further connection, from the next keyframe on, until the attachment is dropped.
    pub(super) fn attach(&self, sender: TrackSender) -> Attachment {
        let queue = Arc::new(ConnectionQueue {
            state: Mutex::new(QueueState {
                samples: VecDeque::new(),
                awaits_keyframe: true,
            }),
            ready: Notify::new(),
        });
        let mut queues = self.inner.queues.lock();
        queues.retain(|queue| queue.strong_count() > 0);
        let weak = Arc::downgrade(&queue);
        queues.push(Weak::clone(&weak));
        drop(queues);
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
        let mut behind = false;
        self.inner.queues.lock().retain(|queue| {
            let Some(queue) = queue.upgrade() else {
                return false;
            };
            let dropped = queue.put(&sample);
            self.inner.dropped.fetch_add(dropped, Ordering::Relaxed);
            behind |= dropped > 0;
            true
        });
        if behind {
            self.want_keyframe();
        }
    }
}

impl ConnectionQueue {
    /// Queues a picture or packet. Gives how many were left out for this connection.
    fn put(&self, sample: &Arc<Sample>) -> u64 {
        let mut state = self.state.lock();
        let mut dropped = 0;
        if state.samples.len() >= QUEUE {
            // What waits is too old to be worth sending, so the connection goes on with the next keyframe.
            dropped = state.samples.len() as u64;
            state.samples.clear();
            state.awaits_keyframe = true;
        }
        if state.awaits_keyframe && !sample.is_keyframe {
            return dropped + 1;
        }
        state.awaits_keyframe = false;
        state.samples.push_back(Arc::clone(sample));
        drop(state);
        self.ready.notify_one();
        dropped
    }

    async fn take(&self) -> Arc<Sample> {
        loop {
            if let Some(sample) = self.state.lock().samples.pop_front() {
                return sample;
            }
            self.ready.notified().await;
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
        let sample = queue.take().await;
        let last = sample.payloads.len() - 1;
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
        }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.writer.abort();
        // The aborted task ends some time later, and the connection must no longer count as a viewer.
        self.track
            .queues
            .lock()
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

/// A duration on a 90 kHz clock, which wraps.
fn to_90khz(elapsed: Duration) -> u32 {
    let ticks = elapsed.as_micros() * 9 / 100;
    u32::try_from(ticks & u128::from(u32::MAX)).expect("32 bits were kept")
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
