//! IP cameras by RTSP (RFC 2326). Where a camera is and who asks comes in, its access units and what becomes of it go out. One
//! task a camera runs [`run`], which asks the camera again and again: `session` is one time of asking, with the sockets, and the
//! rest is plain state. `offer` chooses a stream of those that the camera has, `gate` the units that can be shown, `sets` cleans
//! up their parameter sets, `retry` says when the camera is asked again, and `error` has a sentence for everything that goes wrong.

mod error;
mod gate;
mod offer;
mod retry;
mod session;
mod sets;

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt as _;
use retina::client::SessionGroup;
use tokio::time::{sleep, timeout};

use self::error::RtspError;
use self::gate::UnitGate;
use self::retry::Retry;
use self::session::Reception;
use crate::bridge::source::{SourceEvent, SourceHandler, SourceState};
use crate::config::{RtspConfig, RtspCredentials, without_passwords};
use crate::telemetry::health::panic_message;
use twinsight_client::secret::conceal;

/// A camera has this long to take note that its pictures are not wanted any more.
const TEARDOWN_LIMIT: Duration = Duration::from_secs(2);

/// Asks the camera for its pictures until `stop` comes, and tells the handler what it gives. Nothing that a camera sends ends it.
pub(super) async fn run(
    mut config: RtspConfig,
    mut handler: SourceHandler,
    stop: impl Future<Output = ()> + Send,
) {
    let mut stop = pin!(stop);
    let mut retry = Retry::default();
    let mut gate = UnitGate::default();
    let mut log = StateLog::default();
    let mut attempt = 0_u32;
    loop {
        attempt = attempt.saturating_add(1);
        renew_password(config.credentials.as_mut());
        handler(SourceEvent::State(SourceState::Connecting { attempt }));
        let sessions = Arc::new(SessionGroup::default());
        let mut reception = Reception::new(&config, &mut gate, &mut handler);
        let ended = tokio::select! {
            biased;
            () = &mut stop => None,
            ended = AssertUnwindSafe(reception.run(Arc::clone(&sessions))).catch_unwind() => Some(ended),
        };
        let received_for = reception.received_for();
        // The session is dropped by now, and the camera is told so in the background.
        let torn_down = AssertUnwindSafe(sessions.await_teardown()).catch_unwind();
        let _ = timeout(TEARDOWN_LIMIT, torn_down).await;
        let error = match ended {
            None => return,
            Some(Ok(error)) => error,
            Some(Err(panic)) => {
                let message = panic_message(panic.as_ref());
                tracing::error!(
                    url = %config.url,
                    message,
                    "what a camera sent made its RTSP client panic: this is a bug, please report it with the camera's model"
                );
                RtspError::Panicked
            }
        };
        if received_for.is_some() {
            attempt = 0;
        }
        let retry_in = retry.failed(&error, received_for, rand::random());
        let refused = error.is_refusal();
        // The camera may repeat its address, in which some have a password.
        let reason = without_passwords(&format!("the camera at {} {error}", config.url));
        let reason: Arc<str> = reason.into();
        log.down(&reason, attempt.max(1), retry_in);
        handler(SourceEvent::State(SourceState::Down {
            reason,
            attempt: attempt.max(1),
            retry_in,
            refused,
        }));
        tokio::select! {
            biased;
            () = &mut stop => return,
            () = sleep(retry_in) => {}
        }
    }
}

/// Reads the password's file again, since passwords are changed while the program runs, and sees to it that no log shows what
/// goes over the wire of it.
fn renew_password(credentials: Option<&mut RtspCredentials>) {
    let Some(credentials) = credentials else {
        return;
    };
    if let Some(rotated) = credentials.password.rotated() {
        credentials.password = rotated;
    }
    let RtspCredentials { user, password } = credentials;
    conceal(&STANDARD.encode(format!("{user}:{}", password.expose())));
}

/// Which lines of the log say that there are no pictures: a new reason at once, and the same one less and less often.
#[derive(Debug, Default)]
struct StateLog {
    last: Option<Arc<str>>,
}

impl StateLog {
    fn down(&mut self, reason: &Arc<str>, attempt: u32, retry_in: Duration) {
        let is_new = self.last.as_ref() != Some(reason);
        if is_new || attempt.is_power_of_two() {
            let retry_in_ms = retry_in.as_millis();
            tracing::warn!(%reason, attempt, retry_in_ms, "the camera gives no pictures");
        }
        self.last = Some(Arc::clone(reason));
    }
}
