//! Named threads with an owner that joins them.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;

/// A running thread; dropping it waits for the thread to end, so its owner must have told it to.
#[derive(Debug)]
pub struct Joined {
    name: String,
    handle: Option<JoinHandle<()>>,
}

/// Starts a thread with a name (15 bytes of it are visible in `ps` and `perf`).
///
/// # Panics
/// If the system refuses a thread. Whoever can go on without it calls [`try_spawn_named`].
pub fn spawn_named(name: impl Into<String>, body: impl FnOnce() + Send + 'static) -> Joined {
    try_spawn_named(name, body)
        .expect("the system grants a thread, because those that an input can ask for are tried")
}

/// As [`spawn_named`], for threads of which an input decides how many there are: those of cameras and models.
///
/// # Errors
/// If the system grants no thread (`RLIMIT_NPROC`, the task limit of a container, memory). `body` is dropped then.
pub fn try_spawn_named(
    name: impl Into<String>,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<Joined> {
    // A name may come from the network, and the system takes none with a NUL in it.
    let name = name.into().replace('\0', "");
    #[cfg(any(test, feature = "testing"))]
    refusal::check(&name)?;
    let handle = std::thread::Builder::new().name(name.clone()).spawn(body)?;
    Ok(Joined {
        name,
        handle: Some(handle),
    })
}

/// Lets a test say that the system grants no thread of a name, without taking threads from other tests.
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod refusal {
    use std::io;

    use parking_lot::Mutex;

    static REFUSED: Mutex<Vec<String>> = Mutex::new(Vec::new());

    /// While it lives, no thread whose name contains the text is granted.
    #[derive(Debug)]
    pub struct Refusal(String);

    /// Refuses threads whose name contains `part`, which is to be unique to the test.
    pub fn of(part: &str) -> Refusal {
        let mut refused = REFUSED.lock();
        refused.push(part.to_owned());
        Refusal(part.to_owned())
    }

    /// What the system says at its limit (`EAGAIN`).
    pub(super) fn check(name: &str) -> io::Result<()> {
        let refused = REFUSED.lock();
        if refused.iter().any(|part| name.contains(part)) {
            return Err(io::Error::from_raw_os_error(11));
        }
        Ok(())
    }

    impl Drop for Refusal {
        fn drop(&mut self) {
            let mut refused = REFUSED.lock();
            refused.retain(|part| *part != self.0);
        }
    }
}

/// Runs `body` on a thread that has [yielded to others](yield_to_others), and waits for it: threads that foreign code starts
/// there yield too, and have its name. Where the system grants no thread it runs on this one, and those it starts do not yield.
///
/// # Panics
/// When `body` does.
pub fn yielding<R: Send>(name: &str, body: impl FnOnce() -> R + Send) -> R {
    let body = Mutex::new(Some(body));
    let take = || body.lock().take();
    let elsewhere = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn_scoped(scope, || {
                yield_to_others();
                take().map(|body| body())
            });
        thread.ok().map(|thread| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    });
    elsewhere.flatten().unwrap_or_else(|| {
        let body = take().expect("the body is there, because no thread has run to take it");
        body()
    })
}

/// Asks the system for so many threads at once, and lets them go again.
///
/// # Errors
/// If it does not grant them all.
pub fn try_grant(count: usize) -> io::Result<()> {
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let held = Arc::new(Mutex::new(held));
    let mut threads = Vec::with_capacity(count);
    let mut granted = Ok(());
    while granted.is_ok() && threads.len() < count {
        let held = Arc::clone(&held);
        let thread = try_spawn_named("probe", move || {
            // An error is the end of the one who holds them.
            let _ = held.lock().recv();
        });
        granted = thread.map(|thread| threads.push(thread));
    }
    // Before the threads, whose end is waited for.
    drop(hold);
    granted
}

/// Lets every other thread go before the calling one, which still takes what they leave: for long work that must not make
/// short work wait. Nothing changes where the system does not know how.
pub fn yield_to_others() {
    /// A third of an ordinary thread's share, where both want a core at once.
    const NICE: i32 = 5;
    yield_by(NICE);
}

/// Lets every other thread go before the calling one, those that have [yielded](yield_to_others) included: for work that nothing
/// waits for. It is the lowest priority of ordinary threads, so that it still gets on where all processors are taken.
pub fn yield_to_all_others() {
    /// A sixtieth of an ordinary thread's share.
    const NICE: i32 = 19;
    yield_by(NICE);
}

fn yield_by(nice: i32) {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, nice) {
        tracing::debug!(%error, "a thread keeps its priority");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = nice;
}

/// The system refuses a thread.
#[derive(Debug, thiserror::Error)]
#[error(
    "the system grants no thread `{name}` ({source}): raise `ulimit -u`, `TasksMax=` of the service or `--pids-limit` of the container, or give it more memory"
)]
pub struct ThreadError {
    name: &'static str,
    source: io::Error,
}

impl ThreadError {
    /// What [`try_spawn_named`] was answered for a thread that the program cannot do without.
    pub fn new(name: &'static str, source: io::Error) -> Self {
        Self { name, source }
    }
}

impl Joined {
    /// True when the thread has ended.
    pub fn is_finished(&self) -> bool {
        self.handle.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for the thread to end; a panic in it is logged, not passed on.
    pub fn join(mut self) {
        self.wait();
    }

    /// Lets the thread go without waiting, for one that hangs in foreign code.
    pub fn abandon(mut self) {
        self.handle = None;
    }

    fn wait(&mut self) {
        if let Some(handle) = self.handle.take()
            && handle.join().is_err()
        {
            tracing::error!(
                thread = self.name,
                "a thread panicked: this is a bug in Twinsight"
            );
        }
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_is_not_granted_is_an_error_and_its_body_is_dropped() {
        let refusal = refusal::of("no-such-thread");
        let (held, freed) = std::sync::mpsc::channel::<()>();
        let error = try_spawn_named("no-such-thread-1", move || drop(held)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(freed.recv().is_err(), "nobody holds what the body had");
        drop(refusal);
        try_spawn_named("no-such-thread-1", || {}).unwrap().join();
    }

    #[test]
    fn threads_that_are_granted_at_once_are_let_go_again() {
        try_grant(4).unwrap();
        let _refusal = refusal::of("probe");
        assert!(try_grant(1).is_err());
    }

    #[test]
    fn what_yields_runs_once_and_gives_its_result() {
        let text = String::from("moved in");
        assert_eq!(yielding("yields", move || text), "moved in");
    }
}
