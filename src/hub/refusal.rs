//! When a refusal of the credentials is believed, sans-IO: refusals and other ends of attempts come in, whether to
//! go on goes out. A hub that restarts, or whose keys are still being loaded, refuses what is good; so only one
//! that says it again and again, and nothing else, for a minute is taken at its word.

use std::time::{Duration, Instant};

use serde_json::Value;

/// Refusals that a verdict rests on at least: a long sleep of the machine is not a minute of refusals.
const MIN_REFUSALS: u32 = 3;

/// A run of refusals without anything else between them.
#[derive(Debug)]
pub(super) struct Refusals {
    limit: Duration,
    run: Option<Run>,
}

#[derive(Debug)]
struct Run {
    began_at: Instant,
    refusals: u32,
}

/// What follows from a refusal.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Ask again, after this at the latest.
    TryAgain(Duration),
    /// These credentials are refused for good.
    GiveUp,
}

impl Refusals {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, run: None }
    }

    /// The hub refused the credentials explicitly.
    pub(super) fn refused(&mut self, now: Instant) -> Verdict {
        let run = self.run.get_or_insert(Run {
            began_at: now,
            refusals: 0,
        });
        run.refusals = run.refusals.saturating_add(1);
        let left = self
            .limit
            .saturating_sub(now.saturating_duration_since(run.began_at));
        if left.is_zero() && run.refusals >= MIN_REFUSALS {
            Verdict::GiveUp
        } else {
            Verdict::TryAgain(left.max(self.limit / 60))
        }
    }

    /// Something else came of an attempt, or the credentials are others now.
    pub(super) fn reset(&mut self) {
        self.run = None;
    }
}

/// True if a CONNECT_ERROR refuses the credentials explicitly: by the status in its data, or because its whole
/// text is one of those that servers use for it. A text that merely speaks of keys says nothing.
pub(super) fn refuses_credentials(error: &Value) -> bool {
    let data = error.get("data").unwrap_or(&Value::Null);
    let by_status = ["status", "statusCode", "code"].iter().any(|key| {
        let status = data.get(key).unwrap_or(&Value::Null);
        status.as_u64() == Some(401) || status.as_str() == Some("401")
    });
    let text = match error {
        Value::String(text) => Some(text.as_str()),
        other => other.get("message").and_then(Value::as_str),
    };
    by_status || text.is_some_and(is_refusal)
}

fn is_refusal(text: &str) -> bool {
    const TEXTS: [&str; 8] = [
        "unauthorized",
        "unauthorised",
        "401 unauthorized",
        "invalid credentials",
        "wrong credentials",
        "invalid access key",
        "wrong access key",
        "invalid device credentials",
    ];
    let text = text.trim().trim_end_matches(['.', '!']);
    TEXTS.iter().any(|known| text.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_minute_of_nothing_but_refusals_is_believed() {
        let t = Instant::now();
        let mut refusals = Refusals::new(MINUTE);
        assert_eq!(refusals.refused(t), Verdict::TryAgain(MINUTE));
        assert_eq!(
            refusals.refused(t + seconds(40)),
            Verdict::TryAgain(seconds(20))
        );
        assert_eq!(refusals.refused(t + seconds(60)), Verdict::GiveUp);
    }

    #[test]
    fn anything_else_between_them_begins_the_minute_anew() {
        let t = Instant::now();
        let mut refusals = Refusals::new(MINUTE);
        for second in 0..60 {
            refusals.refused(t + seconds(second));
        }
        refusals.reset();
        assert_eq!(refusals.refused(t + seconds(61)), Verdict::TryAgain(MINUTE));
    }

    #[test]
    fn two_refusals_with_a_night_between_them_are_no_minute_of_refusals() {
        let t = Instant::now();
        let mut refusals = Refusals::new(MINUTE);
        refusals.refused(t);
        let morning = t + seconds(8 * 3600);
        assert_eq!(refusals.refused(morning), Verdict::TryAgain(seconds(1)));
        assert_eq!(refusals.refused(morning + seconds(1)), Verdict::GiveUp);
    }

    #[test]
    fn explicit_refusals_are_known() {
        for error in [
            json!({ "message": "Unauthorized" }),
            json!("Invalid access key."),
            json!({ "message": "no", "data": { "status": 401 } }),
            json!({ "message": "no", "data": { "code": "401" } }),
        ] {
            assert!(refuses_credentials(&error), "{error}");
        }
        for error in [
            json!({ "message": "auth service is restarting" }),
            json!({ "message": "keyspace is loading" }),
            json!({ "message": "permission denied by proxy, try later" }),
            json!({ "message": "unauthorized for the next 5 seconds" }),
            json!({ "message": "forbidden", "data": { "status": 403 } }),
            json!({ "message": "x", "data": { "status": 503 } }),
            json!({ "data": "401" }),
            json!(401),
            Value::Null,
        ] {
            assert!(!refuses_credentials(&error), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_other_text_is_a_refusal(
            before in ".{0,12}",
            word in "(auth|key|credential|forbidden|denied|unauthorized|invalid access key)",
            after in ".{1,12}",
        ) {
            let text = format!("{before}{word} {after}x");
            prop_assert!(!refuses_credentials(&json!({ "message": text })), "{text}");
        }
    }
}
