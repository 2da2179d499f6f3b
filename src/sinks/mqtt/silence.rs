//! Notices a broker that neither answers nor ends the connection. When it was heard last comes in, and goes out that it is silent. The
//! connection runs it beside what it sends.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rumqttc::AsyncClient;

use super::trouble::Trouble;

/// A broker that has sent nothing for this long is asked something, and has as long again to answer. The client's own pings do not
/// do, since it sends none while it writes.
const SILENCE: Duration = Duration::from_secs(10);

/// When the broker was heard last.
pub(super) struct Heard {
    started: Instant,
    at_ms: AtomicU64,
}

impl Heard {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            at_ms: AtomicU64::new(0),
        }
    }

    /// Notes that it was heard now.
    pub(super) fn now(&self) {
        let elapsed = self.started.elapsed().as_millis();
        self.at_ms.store(
            u64::try_from(elapsed).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
    }

    fn silence(&self) -> Duration {
        let heard = Duration::from_millis(self.at_ms.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(heard)
    }
}

/// Asks a silent broker something, and returns when it does not answer. That it takes bytes means little: the system keeps megabytes
/// for a process that hangs.
pub(super) async fn watch(client: &AsyncClient, heard: &Heard) -> Trouble {
    loop {
        let left = SILENCE.saturating_sub(heard.silence());
        if !left.is_zero() {
            tokio::time::sleep(left).await;
            continue;
        }
        let asking = async {
            // Nobody subscribed to this: all that counts is the answer.
            match client.unsubscribe_tracked("twinsight/are/you/there").await {
                Ok(notice) => {
                    let _ = notice.wait_async().await;
                }
                Err(_) => std::future::pending().await,
            }
        };
        if tokio::time::timeout(SILENCE, asking).await.is_err() && heard.silence() >= SILENCE {
            return Trouble::Silent {
                seconds: heard.silence().as_secs(),
            };
        }
        if heard.silence() >= SILENCE {
            // The answer is an error of the connection, which is noticed elsewhere.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}
