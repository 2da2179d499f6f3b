//! When a camera is asked again: each failure comes in with how long there were pictures before it, the pause goes out.

use std::time::Duration;

use super::error::RtspError;
use twinsight_client::backoff::Backoff;

/// A camera that gave pictures for so long works, so that it is soon asked again.
const WORKS_AFTER: Duration = Duration::from_secs(5);

/// So often in a row a wrong password is tried as soon as anything else. Many cameras lock the user after five.
const QUICK_WRONG_TRIES: u32 = 2;

/// The pause after each further one.
const WRONG_PAUSE: Duration = Duration::from_mins(1);

/// The pauses between the times that a camera is asked: from 1 s to 30 s, and a minute for a password that is wrong.
#[derive(Debug, Default)]
pub(super) struct Retry {
    backoff: Backoff,
    wrong_tries: u32,
}

impl Retry {
    /// How long to wait. `random` is drawn uniformly from 0 to 1.
    pub(super) fn failed(
        &mut self,
        error: &RtspError,
        received_for: Option<Duration>,
        random: f64,
    ) -> Duration {
        if received_for.is_some_and(|time| time >= WORKS_AFTER) {
            self.backoff.reset();
        }
        if !error.is_of_credentials() {
            // The camera is away, or took the password: nothing says yet that it was changed.
            if received_for.is_some() {
                self.wrong_tries = 0;
            }
            return self.backoff.next_delay(random);
        }
        self.wrong_tries = self.wrong_tries.saturating_add(1);
        if self.wrong_tries < QUICK_WRONG_TRIES {
            return self.backoff.next_delay(random);
        }
        WRONG_PAUSE + WRONG_PAUSE.mul_f64(random.clamp(0.0, 1.0) / 10.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_camera_that_is_away_is_asked_less_and_less_often() {
        let mut retry = Retry::default();
        let mut seconds = |received_for: Option<u64>| {
            let received_for = received_for.map(Duration::from_secs);
            retry.failed(&RtspError::Ended, received_for, 1.0).as_secs()
        };
        assert_eq!([(); 6].map(|()| seconds(None)), [1, 2, 4, 8, 16, 30]);
        assert_eq!(seconds(Some(4)), 30, "it gave pictures for too short");
        assert_eq!(seconds(Some(5)), 1);
    }

    #[test]
    fn a_wrong_password_is_tried_once_a_minute_after_two_times() {
        let mut retry = Retry::default();
        let mut seconds = |error, received_for| {
            let pause = retry.failed(&error, received_for, 0.0);
            pause.as_secs()
        };
        let wrong = || RtspError::WrongCredentials;
        assert_eq!([(); 4].map(|()| seconds(wrong(), None)), [0, 60, 60, 60]);
        // It was away in between, which says nothing of the password.
        assert!(seconds(RtspError::Ended, None) < 60);
        assert_eq!(seconds(wrong(), None), 60);
        // It took the password in between.
        assert!(seconds(RtspError::Ended, Some(Duration::from_secs(1))) < 60);
        assert!(seconds(wrong(), None) < 60);
    }
}
