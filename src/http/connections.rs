//! How long connections of the HTTP server may last. What a connection does comes in with the time; when its time is over,
//! and which of them makes room when there are too many, comes out. The server asks.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use parking_lot::{Mutex, MutexGuard};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::telemetry::metrics::ConnectionEnd;

/// How many connections there may be, and how long each may take for what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Connections at once. A new one takes the place of the one that makes the least use of its own.
    pub connections: usize,
    /// From a request's first byte to its last. For the first request it counts from the connection's beginning.
    pub request: Duration,
    /// Without a request, after the answer to the last one.
    pub idle: Duration,
    /// From a whole request until its answer was handed over.
    pub answer: Duration,
    /// A client that takes nothing of an answer for this long is closed.
    pub stuck: Duration,
}

impl ConnectionLimits {
    /// The times of a node, for so many connections.
    pub fn new(connections: usize) -> Self {
        Self {
            connections: connections.max(1),
            request: Duration::from_secs(5),
            idle: Duration::from_secs(60),
            answer: Duration::from_secs(60),
            stuck: Duration::from_secs(5),
        }
    }
}

/// A connection whose answer is under way is spared, but not once its client has taken nothing for this long.
const STUCK_UNPROTECTED: Duration = Duration::from_secs(1);

/// The time of an answer that goes on: a hundred years, which is longer than any node runs.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ConnectionPhase {
    /// The last request was answered, and nothing of another one has come.
    Idle,
    /// A request has begun to come.
    Asking,
    /// An answer is being made.
    Answering,
    /// An answer is being made that goes on until the client goes.
    Streaming,
}

/// Marks an answer that goes on until the client goes, whose time is not over as long as the client takes it.
#[derive(Debug, Clone, Copy)]
struct StreamingAnswer;

/// Marks an answer that goes on until the client goes.
pub(super) fn streaming(mut answer: Response) -> Response {
    answer.extensions_mut().insert(StreamingAnswer);
    answer
}

/// What a connection does, and since when.
#[derive(Debug)]
pub(super) struct Activity {
    phase: ConnectionPhase,
    since: Instant,
    /// Since when the client has taken nothing of what waits for it.
    stuck_since: Option<Instant>,
}

impl Activity {
    /// A new connection, whose request is awaited.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            phase: ConnectionPhase::Asking,
            since: now,
            stuck_since: None,
        }
    }

    fn enter(&mut self, phase: ConnectionPhase, now: Instant) {
        (self.phase, self.since) = (phase, now);
    }

    /// Notes that bytes of the client have come.
    fn came(&mut self, now: Instant) {
        if self.phase == ConnectionPhase::Idle {
            self.enter(ConnectionPhase::Asking, now);
        }
    }

    /// Notes that a whole request is here.
    pub(super) fn asked(&mut self, now: Instant) {
        self.enter(ConnectionPhase::Answering, now);
    }

    /// Notes that the answer has begun.
    pub(super) fn answers(&mut self, answer: &Response, now: Instant) {
        if answer.extensions().get::<StreamingAnswer>().is_some() {
            self.enter(ConnectionPhase::Streaming, now);
        }
    }

    /// True while an answer goes on that only the client ends.
    fn is_streaming(&self) -> bool {
        self.phase == ConnectionPhase::Streaming
    }

    /// True while no whole request has come, and nothing of an answer waits for the client.
    pub(super) fn awaits_request(&self) -> bool {
        self.phase == ConnectionPhase::Asking && self.stuck_since.is_none()
    }

    /// Notes that the answer was made. Some of it may still wait for the client.
    fn answered(&mut self, now: Instant) {
        self.enter(ConnectionPhase::Idle, now);
    }

    /// Notes that the client took something.
    fn took(&mut self) {
        self.stuck_since = None;
    }

    /// Notes that the client takes nothing.
    fn is_stuck(&mut self, now: Instant) {
        self.stuck_since.get_or_insert(now);
    }

    /// When the connection's time is over, and what it is closed for then.
    pub(super) fn end(&self, limits: &ConnectionLimits) -> (Instant, ConnectionEnd) {
        let end = match self.phase {
            ConnectionPhase::Idle => (self.since + limits.idle, ConnectionEnd::Idle),
            ConnectionPhase::Asking => (self.since + limits.request, ConnectionEnd::Request),
            ConnectionPhase::Answering => (self.since + limits.answer, ConnectionEnd::Answer),
            ConnectionPhase::Streaming => (self.since + FOREVER, ConnectionEnd::Answer),
        };
        match self.stuck_since.map(|since| since + limits.stuck) {
            Some(stuck) if stuck < end.0 => (stuck, ConnectionEnd::Answer),
            _ => end,
        }
    }

    /// The connection with the lowest rank makes room for a new one. That is the oldest of those that await a request or whose
    /// client takes nothing, and only then the oldest of those whose answer is under way.
    pub(super) fn rank(&self, now: Instant) -> (bool, Instant) {
        let taking = |since| now.saturating_duration_since(since) < STUCK_UNPROTECTED;
        let protected = match self.stuck_since {
            Some(since) => taking(since),
            None => matches!(
                self.phase,
                ConnectionPhase::Answering | ConnectionPhase::Streaming
            ),
        };
        (protected, self.since)
    }
}

/// The [`Activity`] of a connection, shared by its task, its socket and its answer's body.
#[derive(Debug, Clone)]
pub(super) struct SharedActivity(Arc<Mutex<Activity>>);

impl SharedActivity {
    pub(super) fn new(now: Instant) -> Self {
        Self(Arc::new(Mutex::new(Activity::new(now))))
    }

    pub(super) fn get(&self) -> MutexGuard<'_, Activity> {
        self.0.lock()
    }
}

/// A connection's socket. It notes in the activity what comes and goes.
#[derive(Debug)]
pub(super) struct TrackedSocket {
    pub(super) stream: TcpStream,
    pub(super) activity: SharedActivity,
}

impl TrackedSocket {
    /// True if the client of an answer that goes on closed its half. It will not ask for anything more, and while there is nothing
    /// to send to it, as of a camera that has stalled, no write would fail.
    fn has_gone(&self, context: &mut Context<'_>) -> bool {
        if !self.activity.get().is_streaming() {
            return false;
        }
        let mut byte = [std::mem::MaybeUninit::uninit()];
        let mut byte = ReadBuf::uninit(&mut byte);
        matches!(
            self.stream.poll_peek(context, &mut byte),
            Poll::Ready(Ok(0) | Err(_))
        )
    }

    fn noted(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(_) => self.activity.get().took(),
            Poll::Pending => self.activity.get().is_stuck(Instant::now()),
        }
        written
    }
}

impl AsyncRead for TrackedSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.activity.get().came(Instant::now());
        }
        read
    }
}

impl AsyncWrite for TrackedSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.noted(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.noted(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.has_gone(context) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The body of an answer. When it is dropped, the answer was made.
#[derive(Debug)]
pub(super) struct AnswerBody {
    pub(super) body: Body,
    pub(super) activity: SharedActivity,
}

impl hyper::body::Body for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        self.activity.get().answered(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_request_that_comes_byte_by_byte_has_one_time() {
        let (t, limits) = (Instant::now(), ConnectionLimits::new(8));
        let mut activity = Activity::new(t);
        for second in 0..20 {
            activity.came(t + second * S);
        }
        assert_eq!(activity.end(&limits), (t + 5 * S, ConnectionEnd::Request));
        activity.asked(t + 2 * S);
        assert_eq!(activity.end(&limits), (t + 62 * S, ConnectionEnd::Answer));
        activity.answered(t + 3 * S);
        assert_eq!(activity.end(&limits), (t + 63 * S, ConnectionEnd::Idle));
        activity.came(t + 40 * S);
        activity.came(t + 44 * S);
        assert_eq!(activity.end(&limits), (t + 45 * S, ConnectionEnd::Request));
    }

    #[test]
    fn an_answer_that_goes_on_may_go_on_while_it_is_taken() {
        let (t, limits) = (Instant::now(), ConnectionLimits::new(8));
        let mut activity = Activity::new(t);
        activity.asked(t);
        activity.answers(&streaming(Response::new(Body::empty())), t);
        assert!(activity.end(&limits).0 > t + 86_400 * S);
        assert!(activity.rank(t + S).0, "it is spared when others need room");
        activity.is_stuck(t + S);
        assert_eq!(activity.end(&limits), (t + 6 * S, ConnectionEnd::Answer));
        activity.answered(t + 2 * S);
        assert!(activity.end(&limits).0 <= t + 62 * S);
    }

    #[test]
    fn who_takes_nothing_of_an_answer_has_a_short_time() {
        let (t, limits) = (Instant::now(), ConnectionLimits::new(8));
        let mut activity = Activity::new(t);
        activity.asked(t);
        activity.is_stuck(t);
        activity.answered(t + S);
        activity.is_stuck(t + 2 * S);
        assert_eq!(activity.end(&limits), (t + 5 * S, ConnectionEnd::Answer));
        activity.took();
        assert_eq!(activity.end(&limits), (t + 61 * S, ConnectionEnd::Idle));
    }

    #[test]
    fn the_oldest_without_a_request_goes_first_and_answers_under_way_last() {
        let t = Instant::now();
        let now = t + 10 * S;
        let mut answering = Activity::new(t);
        answering.asked(t + S);
        let mut taking_nothing = Activity::new(t);
        taking_nothing.asked(t + 2 * S);
        taking_nothing.is_stuck(t + 3 * S);
        let mut slow = Activity::new(t);
        slow.asked(t + 4 * S);
        slow.is_stuck(now);
        let mut idle = Activity::new(t);
        idle.asked(t);
        idle.answered(t + 6 * S);
        let half = Activity::new(t + 7 * S);
        let probe = Activity::new(now);
        let mut all = [
            ("probe", probe.rank(now)),
            ("slow", slow.rank(now)),
            ("answering", answering.rank(now)),
            ("half", half.rank(now)),
            ("idle", idle.rank(now)),
            ("taking nothing", taking_nothing.rank(now)),
        ];
        all.sort_by_key(|(_, rank)| *rank);
        assert_eq!(
            all.map(|(name, _)| name),
            [
                "taking nothing",
                "idle",
                "half",
                "probe",
                "answering",
                "slow"
            ]
        );
    }
}
