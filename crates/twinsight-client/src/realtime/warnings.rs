//! One rate limit for the warnings that any peer can cause. A peer that dials makes up its own name, so a limit for each peer
//! would limit nothing.

use std::sync::LazyLock;
use std::time::Instant;

use crate::rate_limit::{RATE_LIMIT, RateLimit};

static LIMIT: LazyLock<RateLimit<&'static str>> = LazyLock::new(|| RateLimit::new(RATE_LIMIT));

/// `Some` when the warning may be logged now, with the number of those that were suppressed before it.
pub fn allowed(what: &'static str) -> Option<u64> {
    LIMIT.allow(what, Instant::now())
}
