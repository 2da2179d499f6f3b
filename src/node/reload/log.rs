//! How often the reload says something. Sentences come in with what led to them and the time; whether to say them now, and
//! how many were left out before, goes out. Plain state with `now` passed in; the reload's task holds it.

use std::time::Instant;

use super::Trigger;
use twinsight_client::rate_limit::{RATE_LIMIT, RateLimit};

/// Limits what is logged: a hub can change its settings a hundred times in a second, and its texts with them.
pub(super) struct ReloadLog {
    /// The keys are sentences of ours. A hub could make up texts without end.
    limit: RateLimit<&'static str>,
    /// What was logged last about the hub's settings.
    settings_error: Option<String>,
}

impl ReloadLog {
    pub(super) fn new() -> Self {
        Self {
            limit: RateLimit::new(RATE_LIMIT),
            settings_error: None,
        }
    }

    /// `Some` means that the sentence is to be logged now, and says how many were left out before. Whoever asks for a reload
    /// or writes the file always gets an answer.
    pub(super) fn allow(
        &self,
        trigger: Trigger,
        sentence: &'static str,
        now: Instant,
    ) -> Option<u64> {
        match trigger {
            Trigger::Asked | Trigger::File => Some(0),
            Trigger::Hub | Trigger::Retry | Trigger::Loaded => self.limit.allow(sentence, now),
        }
    }

    /// `Some` means that this is to be logged now about the hub's settings, once for each reason. A reason that was left out
    /// is logged at the next attempt if it still holds.
    pub(super) fn settings<'a>(
        &mut self,
        trigger: Trigger,
        error: Option<&'a str>,
        now: Instant,
    ) -> Option<(&'a str, u64)> {
        let Some(reason) = error else {
            self.settings_error = None;
            return None;
        };
        if trigger != Trigger::Asked && self.settings_error.as_deref() == Some(reason) {
            return None;
        }
        let suppressed = self.allow(trigger, "settings", now)?;
        self.settings_error = Some(reason.to_owned());
        Some((reason, suppressed))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_hub_whose_settings_change_without_end_fills_no_log() {
        let t = Instant::now();
        let mut log = ReloadLog::new();
        let reasons: Vec<String> = (0..100).map(|n| format!("setting x{n}: no")).collect();
        let mut said = Vec::new();
        for (reason, ms) in reasons.iter().zip((0..).step_by(10)) {
            let now = t + Duration::from_millis(ms);
            said.extend(log.settings(Trigger::Hub, Some(reason), now));
            // It is not in the way of what else is said.
            let applied = log.allow(Trigger::Hub, "applied", now);
            assert_eq!(applied, (ms == 0).then_some(0));
            log.settings(Trigger::Hub, None, now);
        }
        assert_eq!(said, [("setting x0: no", 0)]);
        // The last one still holds, and nobody was told of it so far.
        let last = Some("setting x99: no");
        let later = t + Duration::from_secs(30);
        assert_eq!(
            log.settings(Trigger::Retry, last, later),
            last.map(|last| (last, 99))
        );
        assert_eq!(log.settings(Trigger::Retry, last, later), None, "once");
        assert_eq!(
            log.settings(Trigger::Asked, last, later),
            last.map(|last| (last, 0)),
            "whoever asks is told"
        );
    }
}
