//! Checks the hub: reaches it step by step, compares its clock with ours, and joins it as the node would. The configuration comes
//! in; findings and the joined client go out.

use std::time::Duration;

use super::finding::{Failure, Finding, Report};
use twinsight_client::hub::options::{HubMode, HubOptions};
use twinsight_client::hub::probe::{ProbeError, RemoteClock, probe};
use twinsight_client::hub::text::brief;
use twinsight_client::hub::{AwayReason, HubClient, HubStatus, name_remedy};

/// The hub's acknowledgements have this long to come.
pub(super) const ACK_LIMIT: Duration = Duration::from_secs(10);

/// To leave the hub may take this long.
const LEAVE_LIMIT: Duration = Duration::from_secs(2);

/// From this difference on, a clock is worth a warning; from the one below on, it breaks things, since credentials of TURN
/// servers are good for minutes and events get wrong times.
const CLOCK_WARN_SECONDS: f64 = 5.0;
const CLOCK_FAIL_SECONDS: f64 = 60.0;

const CLOCK_REMEDY: &str = "set it by NTP (`timedatectl set-ntp true`; a container has its host's clock): \
    certificates, TURN credentials and the times of events depend on it";

/// The hub once it is joined.
#[derive(Debug)]
pub(super) struct JoinedHub {
    pub(super) client: HubClient,
    /// The id of the node's own twin.
    pub(super) twin_id: String,
}

impl JoinedHub {
    pub(super) async fn leave(self) {
        let _ = tokio::time::timeout(LEAVE_LIMIT, self.client.close()).await;
    }
}

/// Reaches and joins the hub; `None` if one of the steps failed.
pub(super) async fn check(hub: &HubOptions, report: &mut Report<'_>) -> Option<JoinedHub> {
    let options = options(hub);
    if !reach(&options, report).await {
        report.add(Finding::skip("joining the hub", "it was not reached"));
        return None;
    }
    join_as(options, "joining the hub", report).await
}

/// What the hub is asked with.
pub(super) fn options(hub: &HubOptions) -> HubOptions {
    let mut options = hub.clone();
    options.timers.ack = ACK_LIMIT;
    options
}

/// Says whether a hub answers, and whether its clock agrees with ours.
pub(super) async fn reach(options: &HubOptions, report: &mut Report<'_>) -> bool {
    let subject = format!("hub {}", options.shown_url());
    let probed = probe(options).await;
    let is_reached = match probed.result {
        Ok(address) => {
            report.add(Finding::ok(&subject, format!("a hub answers at {address}")));
            true
        }
        Err(error) => {
            let remedy = probe_remedy(&error, options.mode);
            report.add(Finding::fail(&subject, error.to_string(), remedy));
            false
        }
    };
    report.add(clock(probed.clock));
    is_reached
}

/// Joins a hub that was reached. `None` if it does not let us.
pub(super) async fn join_as(
    options: HubOptions,
    subject: &str,
    report: &mut Report<'_>,
) -> Option<JoinedHub> {
    let (as_whom, device_id) = (identity(&options), options.device_id.clone());
    let own_twin = options.twin_id.clone();
    match join(options).await {
        Ok(joined) => {
            let found = match as_whom.is_empty() {
                true => format!("joined as twin {}", brief(&joined.twin_id)),
                false => format!("joined as {as_whom}, twin {}", brief(&joined.twin_id)),
            };
            report.add(Finding::ok(subject, found));
            Some(joined)
        }
        Err(mut failure) => {
            if !device_id.is_empty() && device_id == own_twin {
                failure.remedy = super::twins::own_device_id_remedy();
            }
            report.add(Finding::fail(subject, failure.found, failure.remedy));
            None
        }
    }
}

/// The device id, if the node introduces itself as a device.
fn identity(options: &HubOptions) -> String {
    match options.mode {
        HubMode::Direct => format!("device {}", options.device_id),
        _ => String::new(),
    }
}

fn probe_remedy(error: &ProbeError, mode: HubMode) -> &'static str {
    match (error, mode) {
        (ProbeError::Certificates(_), _) => {
            "let `hub.ca_file` name a readable file of PEM certificates"
        }
        (ProbeError::Name { .. }, _)
        | (ProbeError::Refused(_) | ProbeError::Unreachable { .. }, HubMode::Phyos) => {
            name_remedy(mode)
        }
        (ProbeError::Refused(_), _) => {
            "start the hub, or correct the address (PHYHUB_URL, PHYSTACK_SIMULATOR_URL or `hub.url`)"
        }
        (ProbeError::Unreachable { .. }, _) => {
            "see that this machine has a route there and no firewall is between, or correct the address"
        }
        (ProbeError::Tls { .. }, _) => {
            "if its certificate is of a private authority, name that in `hub.ca_file`; else see that this machine's clock is right and that the address begins with http:// where there is no TLS"
        }
        (ProbeError::Silent { .. }, _) => {
            "restart the hub if it hangs; else correct the address, or let the proxy before it pass WebSockets"
        }
        (ProbeError::NotAHub { .. }, _) => {
            "correct the address, or let the proxy before the hub pass WebSockets (/socket.io/)"
        }
        (ProbeError::Url(_), _) => "",
    }
}

/// Compares our clock with the hub's.
fn clock(remote: Option<RemoteClock>) -> Finding {
    let Some(remote) = remote else {
        return Finding::skip("clock", "the hub has told no time to compare with");
    };
    let ahead = remote.ahead_seconds();
    let found = match ahead {
        ahead if ahead.abs() < 1.0 => "agrees with the hub's".to_owned(),
        ahead if ahead > 0.0 => format!("{ahead:.0} s ahead of the hub's"),
        behind => format!("{:.0} s behind the hub's", -behind),
    };
    match ahead.abs() {
        off if off >= CLOCK_FAIL_SECONDS => Finding::fail("clock", found, CLOCK_REMEDY),
        off if off >= CLOCK_WARN_SECONDS => Finding::warn("clock", found, CLOCK_REMEDY),
        _ => Finding::ok("clock", found),
    }
}

/// Makes one attempt to join.
async fn join(options: HubOptions) -> Result<JoinedHub, Failure> {
    let limit = options.timers.connect + 2 * options.timers.ack;
    let direct = options.mode == HubMode::Direct;
    let client = HubClient::start(options);
    let mut status = client.status();
    let settled = tokio::time::timeout(
        limit,
        status.wait_for(|status| !matches!(status, HubStatus::Connecting { .. })),
    )
    .await
    .map(|settled| settled.map(|status| status.clone()));
    match settled {
        Ok(Ok(HubStatus::Joined { twin_id })) => Ok(JoinedHub { client, twin_id }),
        // The node tries for a minute before it believes a refusal.
        Ok(Ok(
            HubStatus::Refused { reason }
            | HubStatus::Away {
                reason: AwayReason::KeyRefused(reason),
                ..
            },
        )) => Err(Failure::new(
            format!("the hub refuses this device ({reason})"),
            "check DEVICE_ID and ACCESS_KEY, or `hub.device_id` and `hub.access_key_file`",
        )),
        Ok(Ok(HubStatus::Away { reason, .. })) => {
            let remedy = match reason {
                AwayReason::Rejected { .. } if direct => {
                    "see that the device of DEVICE_ID is registered at this hub"
                }
                AwayReason::Rejected { .. } => {
                    "see that TWIN_ID (`hub.twin_id`) is the id of this app's own twin at this hub"
                }
                AwayReason::ConnectTimeout(_) | AwayReason::NoAnswer(_) => {
                    "restart the hub if it hangs, or correct the address: what is there speaks WebSocket and no Socket.IO"
                }
                _ => "see what the hub logs about it, and check again",
            };
            Err(Failure::new(reason.to_string(), remedy))
        }
        Ok(Ok(HubStatus::Connecting { .. }) | Err(_)) | Err(_) => Err(Failure::new(
            format!("the hub was not joined within {} s", limit.as_secs()),
            "restart the hub if it hangs, and check again",
        )),
    }
}
