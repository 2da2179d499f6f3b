//! Limits of callers as instants, and sleeping until one.

use std::time::{Duration, Instant as StdInstant};

use tokio::time::Instant;

/// A longer limit counts as this, since adding it to an instant may overflow.
const LONGEST_LIMIT: Duration = Duration::from_secs(365 * 24 * 3600);

/// The instant at which a limit that begins now is over.
pub(crate) fn deadline_of(limit: Duration) -> Instant {
    Instant::now() + limit.min(LONGEST_LIMIT)
}

/// Sleeps until a deadline, or for ever without one.
pub(crate) async fn sleep_until(deadline: Option<StdInstant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
