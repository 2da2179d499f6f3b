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

/// Words that say no.
const REFUSING: [&str; 14] = [
    "invalid",
    "wrong",
    "bad",
    "incorrect",
    "unknown",
    "unauthorized",
    "unauthorised",
    "denied",
    "forbidden",
    "failed",
    "expired",
    "revoked",
    "rejected",
    "refused",
];

/// The other words of sentences that refuse credentials and say nothing else.
const OTHERS: [&str; 26] = [
    "not",
    "authorized",
    "authorised",
    "valid",
    "authentication",
    "authorization",
    "access",
    "device",
    "key",
    "id",
    "credentials",
    "credential",
    "accesskey",
    "deviceid",
    "token",
    "error",
    "and",
    "or",
    "the",
    "is",
    "are",
    "for",
    "this",
    "your",
    "401",
    "403",
];

/// True if an answer to the credentials, a CONNECT_ERROR or a `deviceAuthenticated`, refuses them explicitly: by the
/// code 401, by a status of error that says no more, or by a text that says nothing else. A text with any other word in
/// it may tell of a hub in trouble, like "authentication service failed". The text is the hub's without the credentials.
pub(super) fn refuses_credentials(answer: &Value, text: Option<&str>) -> bool {
    let is_unauthorized = |of: &Value| {
        ["status", "statusCode", "code"].iter().any(|key| {
            let code = of.get(key).unwrap_or(&Value::Null);
            code.as_u64() == Some(401) || code.as_str() == Some("401")
        })
    };
    if is_unauthorized(answer) || answer.get("data").is_some_and(is_unauthorized) {
        return true;
    }
    match text {
        Some(text) => says_no(text),
        None => {
            answer.get("message").is_none_or(Value::is_null)
                && answer.get("status").and_then(Value::as_str) == Some("error")
        }
    }
}

fn says_no(text: &str) -> bool {
    let text = text.to_lowercase();
    let words = || {
        text.split(|c: char| !c.is_alphanumeric())
            .filter(|word| !word.is_empty())
    };
    let no = words().any(|word| REFUSING.contains(&word))
        || words()
            .zip(words().skip(1))
            .any(|pair| matches!(pair, ("not", "authorized" | "authorised" | "valid")));
    no && words().all(|word| REFUSING.contains(&word) || OTHERS.contains(&word))
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
            json!({ "status": "error", "code": 401, "message": "no" }),
            json!({ "status": "error" }),
            json!({ "status": "error", "message": null }),
            json!("authentication failed"),
            json!("Access denied!"),
            json!("Unknown device"),
            json!("Error: the accessKey is expired or revoked"),
            json!("not authorized"),
            json!("the access key is not valid for this device"),
            json!("403 Forbidden"),
        ] {
            assert!(refuses(&error), "{error}");
        }
        for error in [
            json!({ "message": "auth service is restarting" }),
            json!({ "message": "keyspace is loading" }),
            json!({ "message": "permission denied by proxy, try later" }),
            json!({ "message": "access denied by rate limiter" }),
            json!({ "message": "authentication service failed" }),
            json!({ "message": "unauthorized for the next 5 seconds" }),
            json!({ "message": "authorized" }),
            json!({ "message": "the key is not for this device" }),
            json!({ "message": "x", "data": { "status": 403 } }),
            json!({ "message": "x", "data": { "status": 503 } }),
            json!({ "status": "error", "message": {} }),
            json!({ "status": "error", "message": "" }),
            json!({ "data": "401" }),
            json!({ "status": "pending" }),
            json!(401),
            Value::Null,
        ] {
            assert!(!refuses(&error), "{error}");
        }
    }

    fn refuses(answer: &Value) -> bool {
        refuses_credentials(answer, super::super::answer::text_of(answer))
    }

    proptest! {
        #[test]
        fn no_text_with_another_word_in_it_is_a_refusal(
            before in ".{0,12}",
            word in "(auth|key|credential|forbidden|denied|unauthorized|invalid access key)",
            after in ".{0,12} (restarting|loading|later|limiter|service|keyspace|5)",
            status in "(error|failed)",
        ) {
            let text = format!("{before}{word}{after}");
            prop_assert!(!refuses(&json!({ "status": status, "message": text })), "{text}");
            prop_assert!(!refuses(&json!(text)), "{text}");
        }

        #[test]
        fn any_text_of_nothing_but_refusing_words_is_a_refusal(
            words in proptest::collection::vec(proptest::sample::select(&OTHERS[..]), 0..5),
            no in proptest::sample::select(&REFUSING[..]),
            between in "[ .:_-]",
        ) {
            let text = format!("{no}{between}{}", words.join(&between));
            prop_assert!(refuses(&json!(text.to_uppercase())), "{text}");
        }
    }
}
