//! The queue between whoever logs and standard error. Lines come in, and nobody waits for that; a thread of its own writes
//! them. When the queue is full or writing fails, lines are dropped and counted.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use prometheus::IntCounter;

use twinsight_client::thread::{ThreadError, try_spawn_named};

/// Bytes that waiting lines may take, with [`LINE_OVERHEAD_BYTES`] for each.
const MAX_QUEUE_BYTES: usize = 1024 * 1024;

/// Memory that a waiting line takes besides its text.
const LINE_OVERHEAD_BYTES: usize = 48;

/// An output with `O_NONBLOCK` fails when its reader is slow. It is tried again after this time.
const RETRY: Duration = Duration::from_millis(10);

/// A line about dropped lines is written at most this often.
const TELL_INTERVAL: Duration = Duration::from_secs(10);

/// Lines on their way to an output.
#[derive(Debug)]
pub(super) struct LogQueue {
    state: Mutex<QueuedLines>,
    /// Woken when a line waits.
    filled: Condvar,
    /// Woken when no line waits and none is being written.
    emptied: Condvar,
    dropped: IntCounter,
}

#[derive(Debug, Default)]
struct QueuedLines {
    lines: VecDeque<String>,
    bytes: usize,
    /// A line was taken out and is not yet written.
    writing: bool,
    /// No line is taken any more, and the thread ends when all are written.
    closed: bool,
}

impl LogQueue {
    /// An empty queue, which counts in `dropped` the lines that it drops.
    pub(super) fn new(dropped: IntCounter) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            dropped,
        })
    }

    fn state(&self) -> MutexGuard<'_, QueuedLines> {
        self.state.lock()
    }

    /// Adds a line. One that finds no room is dropped, since the lines before a flood say more than those at its end.
    pub(super) fn push(&self, line: String) {
        let mut state = self.state();
        let cost = line.len() + LINE_OVERHEAD_BYTES;
        if state.closed || state.bytes + cost > MAX_QUEUE_BYTES {
            drop(state);
            self.dropped.inc();
            return;
        }
        state.bytes += cost;
        state.lines.push_back(line);
        drop(state);
        self.filled.notify_one();
    }

    /// Adds the process's last line. The oldest lines make room for it.
    pub(super) fn push_last(&self, line: String) {
        let mut state = self.state();
        let cost = line.len() + LINE_OVERHEAD_BYTES;
        while state.bytes + cost > MAX_QUEUE_BYTES {
            let Some(oldest) = state.lines.pop_front() else {
                break;
            };
            state.bytes -= oldest.len() + LINE_OVERHEAD_BYTES;
            self.dropped.inc();
        }
        state.bytes += cost;
        state.lines.push_back(line);
        drop(state);
        self.filled.notify_one();
    }

    /// Waits until all lines are written, but no longer than `limit`. True means that they are.
    pub(super) fn flush(&self, limit: Duration) -> bool {
        let mut state = self.state();
        let unwritten = |state: &mut QueuedLines| state.writing || !state.lines.is_empty();
        self.emptied.wait_while_for(&mut state, unwritten, limit);
        !unwritten(&mut state)
    }

    /// Starts the thread that writes, under this name. Once lines can be written again after some were dropped, it calls `tell`
    /// with their number; `tell` may add a line.
    pub(super) fn spawn(
        self: &Arc<Self>,
        thread: &'static str,
        output: impl Write + Send + 'static,
        tell: impl FnMut(u64) + Send + 'static,
    ) -> Result<twinsight_client::thread::Joined, ThreadError> {
        let queue = Arc::clone(self);
        try_spawn_named(thread, move || queue.write(output, tell))
            .map_err(|source| ThreadError::new(thread, source))
    }

    /// Takes no further line, and lets the thread end when all are written.
    #[cfg(test)]
    fn close(&self) {
        self.state().closed = true;
        self.filled.notify_one();
    }

    fn write(&self, output: impl Write, mut tell: impl FnMut(u64)) {
        let mut lines = LineWriter::new(output);
        let (mut told, mut told_at) = (0, None::<Instant>);
        while let Some(line) = self.next() {
            let written = lines.write(&line);
            if written.is_err() {
                self.dropped.inc();
            }
            let dropped = self.dropped.get();
            let due = told_at.is_none_or(|at| at.elapsed() >= TELL_INTERVAL);
            if written.is_ok() && dropped > told && due {
                tell(dropped - told);
                (told, told_at) = (dropped, Some(Instant::now()));
            }
            let mut state = self.state();
            state.writing = false;
            let is_empty = state.lines.is_empty();
            drop(state);
            if is_empty {
                self.emptied.notify_all();
            }
        }
    }

    fn next(&self) -> Option<String> {
        let idle = |state: &mut QueuedLines| state.lines.is_empty() && !state.closed;
        let mut state = self.state();
        self.filled.wait_while(&mut state, idle);
        let line = state.lines.pop_front()?;
        state.bytes -= line.len() + LINE_OVERHEAD_BYTES;
        state.writing = true;
        Some(line)
    }
}

/// Writes whole lines to an output that may fail at any byte.
struct LineWriter<W> {
    output: W,
    /// The last line was written in part only, so that a line break must come first.
    torn: bool,
}

impl<W: Write> LineWriter<W> {
    fn new(output: W) -> Self {
        Self {
            output,
            torn: false,
        }
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        if self.torn {
            self.write_all(b"\n")?;
            self.torn = false;
        }
        self.write_all(line.as_bytes())
    }

    fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.output.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = bytes.get(written..).unwrap_or_default();
                    self.torn = !bytes.is_empty();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(RETRY),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Standard error without the lock and the buffer of the standard library, so that a write that hangs holds up nobody else.
#[derive(Debug)]
pub(super) struct RawStderr;

impl Write for RawStderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(io::stderr(), bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn queue() -> Arc<LogQueue> {
        LogQueue::new(IntCounter::new("dropped", "lines").unwrap())
    }

    /// Gives each write to the test and does what the test answers.
    struct Scripted {
        asked: mpsc::Sender<String>,
        answers: mpsc::Receiver<io::Result<usize>>,
    }

    impl Write for Scripted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.asked.send(String::from_utf8_lossy(bytes).into_owned());
            self.answers.recv().unwrap_or(Ok(bytes.len()))
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn scripted() -> (
        Scripted,
        mpsc::Receiver<String>,
        mpsc::Sender<io::Result<usize>>,
    ) {
        let (asked, seen) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        (Scripted { asked, answers }, seen, answer)
    }

    #[test]
    fn a_reader_that_hangs_holds_up_nobody_and_costs_bounded_memory() {
        let queue = queue();
        let (output, seen, answer) = scripted();
        let (tell, told) = mpsc::channel();
        let thread = queue
            .spawn("log", output, move |lines| tell.send(lines).unwrap())
            .unwrap();
        queue.push("first\n".to_owned());
        assert_eq!(seen.recv_timeout(LIMIT).unwrap(), "first\n");
        let begun = Instant::now();
        for n in 0..20_000 {
            queue.push(format!("{n:0100}\n"));
        }
        assert!(begun.elapsed() < LIMIT / 2);
        let waiting = queue.state().lines.len();
        assert!(queue.state().bytes <= MAX_QUEUE_BYTES);
        assert_eq!(
            u64::try_from(20_000 - waiting).unwrap(),
            queue.dropped.get()
        );
        assert!(!queue.flush(Duration::from_millis(1)));
        queue.push_last("last words\n".to_owned());
        assert!(queue.state().bytes <= MAX_QUEUE_BYTES);
        // The reader is back.
        let dropped = queue.dropped.get();
        drop(answer);
        assert!(queue.flush(LIMIT));
        assert_eq!(told.recv_timeout(LIMIT).unwrap(), dropped);
        assert_eq!(seen.try_iter().last().unwrap(), "last words\n");
        queue.close();
        thread.join();
    }

    #[test]
    fn what_cannot_be_written_is_dropped_and_the_next_line_is_tried() {
        use ErrorKind::{BrokenPipe, Interrupted, StorageFull, WouldBlock};
        let queue = queue();
        let (output, seen, answer) = scripted();
        let (tell, told) = mpsc::channel();
        let thread = queue
            .spawn("log", output, move |lines| tell.send(lines).unwrap())
            .unwrap();
        for line in ["gone\n", "part of it\n", "later\n", "whole\n"] {
            queue.push(line.to_owned());
        }
        answer.send(Err(BrokenPipe.into())).unwrap();
        answer.send(Ok(4)).unwrap();
        answer.send(Err(StorageFull.into())).unwrap();
        answer.send(Err(StorageFull.into())).unwrap();
        answer.send(Err(Interrupted.into())).unwrap();
        answer.send(Err(WouldBlock.into())).unwrap();
        drop(answer);
        assert!(queue.flush(LIMIT));
        let seen: Vec<String> = seen.try_iter().collect();
        let expected = [
            "gone\n",
            "part of it\n",
            " of it\n",
            // A line that was torn is ended first.
            "\n",
            "\n",
            "\n",
            "\n",
            "whole\n",
        ];
        assert_eq!(seen, expected);
        assert_eq!(queue.dropped.get(), 3);
        assert_eq!(told.recv_timeout(LIMIT).unwrap(), 3);
        queue.close();
        thread.join();
    }
}
