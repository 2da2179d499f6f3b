//! The rate of warnings that peers can cause where no stream's own limit is at hand: who dials makes up its name, so a
//! limit of each would be none.

use std::sync::LazyLock;
use std::time::Instant;

use crate::rate_limit::{RATE_LIMIT, RateLimit};

static LIMIT: LazyLock<RateLimit<&'static str>> = LazyLock::new(|| RateLimit::new(RATE_LIMIT));

/// `Some`: say it now, and so many were left out before.
pub fn allowed(what: &'static str) -> Option<u64> {
    LIMIT.allow(what, Instant::now())
}
