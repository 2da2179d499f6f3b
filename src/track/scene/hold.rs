//! Tells what lasts from what happens once. Boxes of detectors wobble, so one look is no proof that somebody has moved.

use std::time::Duration;

/// What shows for this long, and at two looks at least, is not a wobble of the box. It is shorter than two looks at 5 fps are apart,
/// so that slow cameras need no third one.
pub(super) const HOLD: Duration = Duration::from_millis(150);

/// Since when something shows at every look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Hold {
    since: Option<Duration>,
}

impl Hold {
    /// It shows at this look. True if it has for long enough.
    pub(super) fn shows(&mut self, now: Duration) -> bool {
        let since = *self.since.get_or_insert(now);
        now.saturating_sub(since) >= HOLD
    }

    /// True once it has shown, until it does not any more.
    pub(super) fn is_pending(self) -> bool {
        self.since.is_some()
    }

    /// It does not show at this look.
    pub(super) fn ends(&mut self) {
        self.since = None;
    }
}
