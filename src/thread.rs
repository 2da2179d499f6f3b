//! Named threads with an owner that joins them.

use std::thread::JoinHandle;

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
    try_spawn_named(name, body).expect(
        "the system grants a thread, because the limits of the container allow one a camera",
    )
}

/// As [`spawn_named`], for those to whom a thread that cannot be had is an error and no bug.
///
/// # Errors
/// If the system refuses a thread: too many are there, or too little memory.
pub fn try_spawn_named(
    name: impl Into<String>,
    body: impl FnOnce() + Send + 'static,
) -> Result<Joined, ThreadError> {
    // A name may come from the network, and the system takes none with a NUL in it.
    let name = name.into().replace('\0', "");
    match std::thread::Builder::new().name(name.clone()).spawn(body) {
        Ok(handle) => Ok(Joined {
            name,
            handle: Some(handle),
        }),
        Err(source) => Err(ThreadError { name, source }),
    }
}

/// Runs `body` on a thread that has [yielded to others](yield_to_others), and waits for it: threads that foreign code starts
/// there yield too, and have its name.
///
/// # Panics
/// As [`spawn_named`], and when `body` does.
pub fn yielding<R: Send>(name: &str, body: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn_scoped(scope, || {
                yield_to_others();
                body()
            })
            .expect("the system grants a thread, because the limits of the container allow one a camera");
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Lets every other thread go before the calling one, which still takes what they leave: for long work that must not make
/// short work wait. Nothing changes where the system does not know how.
pub fn yield_to_others() {
    /// A third of an ordinary thread's share, where both want a core at once.
    const NICE: i32 = 5;
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "a thread keeps its priority");
    }
}

/// The system refuses a thread.
#[derive(Debug, thiserror::Error)]
#[error(
    "the system grants no thread `{name}` ({source}): raise `ulimit -u`, `TasksMax=` of the service or `--pids-limit` of the container, or give it more memory"
)]
pub struct ThreadError {
    name: String,
    source: std::io::Error,
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
