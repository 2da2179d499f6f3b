//! The task that asks one server about the model: whether it has it ready, and what it takes. It runs as long as the model is open, and
//! asks often while the server is away, and seldom while nothing is heard of it although it is there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::client::CallError;
use super::fit::Fit;
use super::model::Shared;

/// A server that does not say within this long how the model is, is away. It is so long that a server that was stopped answers the question
/// that waits for it, and no later one.
const ASK_LIMIT: Duration = Duration::from_secs(1);

/// A server that is busy with what takes long may take longer to say it, up to this.
const LONGEST_ASK_LIMIT: Duration = Duration::from_secs(5);

/// Watches the server of this index.
pub(super) async fn watch(shared: Arc<Shared>, index: usize) {
    let server = &shared.servers[index];
    let limit = ASK_LIMIT.max(shared.config.deadline.min(LONGEST_ASK_LIMIT));
    loop {
        let ask_at = shared.ask_at(index);
        if ask_at > Instant::now() {
            tokio::select! {
                () = tokio::time::sleep_until(ask_at.into()) => {}
                () = server.wake.notified() => {}
            }
            continue;
        }
        let answer = match tokio::time::timeout(limit, server.client.ask()).await {
            Ok(answer) => answer,
            Err(_) => Err(CallError::Deadline),
        };
        let answer = match answer {
            Ok(metadata) => Fit::new(&shared.manifest, &metadata),
            Err(error) => {
                server.client.renew();
                Err(match error {
                    CallError::Deadline => format!(
                        "it has not said within {} s whether it has the model ready",
                        limit.as_secs()
                    ),
                    CallError::Unavailable(reason) | CallError::Answer(reason) => reason,
                })
            }
        };
        shared.asked(index, answer);
    }
}
