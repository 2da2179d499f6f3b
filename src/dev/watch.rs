//! `twinsight watch` shows what a node sends: it joins the hub as an app, listens to the node's twin, and prints each event as a line for
//! people or as JSON. Where nothing comes it finds out why, as far as the hub knows it. The command runs it.

mod lines;
mod sequence;

use std::io::{self, Write};
use std::time::{Duration, Instant};

use anyhow::Result;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jiff::tz::TimeZone;
use serde_json::Value;

use self::lines::{EventLines, json_line};
use super::terminal::{Colours, Paint};
use crate::clock::WallClock;
use twinsight_client::hub::message::Twin;
use twinsight_client::hub::text::brief;
use twinsight_client::hub::{HubClient, HubError, HubOptions, HubStatus, TwinMessage};

/// Events that may wait while one is printed.
const QUEUE: usize = 1024;

/// A node that sends nothing for this long is looked up.
const SILENCE: Duration = Duration::from_secs(10);

/// The hub's answer about the node's twin is awaited for this long.
const LOOK_UP_LIMIT: Duration = Duration::from_secs(10);

/// To leave the hub may take this long.
const LEAVE_LIMIT: Duration = Duration::from_secs(1);

/// What the types of events begin with when the twin of an app sends them.
const PREFIX: &str = "edgeInstance:";

/// Whose events are shown, and how.
#[derive(Debug)]
pub(crate) struct WatchOptions {
    /// Which hub, and as whom it is joined.
    pub(crate) hub: HubOptions,
    /// The node's twin.
    pub(crate) twin: String,
    /// Events are printed as JSON, one a line.
    pub(crate) json: bool,
    pub(crate) colours: Colours,
}

/// Why there is nothing to watch.
#[derive(Debug, thiserror::Error)]
enum NoNode {
    /// The hub does not know it.
    #[error(
        "the hub knows no twin `{twin}` ({said}): name the node's twin, which its log calls `twin_id`; a device id is none"
    )]
    Unknown { twin: String, said: String },
    /// The hub knows it as a device.
    #[error("`{given}` is the id of a device: watch its twin `{twin}`")]
    Device { given: String, twin: String },
}

/// Why nothing comes, as far as the hub knows it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Silence {
    /// It reports what no node leaves out.
    #[error(
        "nothing came from `{twin}` for {seconds} s, and it is no node's twin, since it reports no `twinsight` properties: name the twin that the node's log calls `twin_id`, or start the node"
    )]
    NotANode { twin: String, seconds: u64 },
    /// The node is not connected with the hub.
    #[error(
        "nothing came from node `{twin}` for {seconds} s, and the hub says that it is {status}: start it, or see in its log why it does not join the hub"
    )]
    Offline {
        twin: String,
        seconds: u64,
        status: String,
    },
    /// It reports no camera.
    #[error(
        "nothing came from node `{twin}` for {seconds} s: it has no cameras; add one to its configuration (`[[cameras]]`)"
    )]
    NoCameras { twin: String, seconds: u64 },
    /// None of its cameras sends.
    #[error(
        "nothing came from node `{twin}` for {seconds} s: none of its cameras sends video ({cameras}); see what the node's log says about them, or run `twinsight check` with its configuration"
    )]
    Blind {
        twin: String,
        seconds: u64,
        cameras: String,
    },
    /// Cameras send.
    #[error(
        "nothing came from node `{twin}` for {seconds} s, although its cameras send video: with `emit_empty = false` it is silent while it sees nothing, and with `motion = \"gate\"` while nothing moves; else see its log"
    )]
    Unknown { twin: String, seconds: u64 },
    /// The hub does not answer.
    #[error(
        "nothing came from `{twin}` for {seconds} s, and the hub does not say why ({said}): see what the hub logs"
    )]
    NoAnswer {
        twin: String,
        seconds: u64,
        said: String,
    },
}

/// What the hub answered about the node's twin.
type LookUp = BoxFuture<'static, Result<Twin, HubError>>;

/// Prints events until `stop` resolves.
///
/// # Errors
/// If the hub refuses this client or knows no such twin, or standard output cannot be written to.
pub(crate) async fn run(
    options: WatchOptions,
    stop: impl Future<Output = ()>,
    out: &mut impl Write,
) -> Result<()> {
    let hub = HubClient::start(options.hub.clone());
    let twin = options.twin.clone();
    let wanted = twin.clone();
    // Others speak in the node's room too.
    let mut events = hub.messages(QUEUE, move |message| {
        message.twin_id == wanted && message.source_twin_id == wanted && kind(message).is_some()
    });
    // It counts from now on, whether or not the hub is there, and what the hub thinks of the twin is asked for by itself.
    drop(hub.subscribe(&twin));
    let mut watch = Watch::new(options);
    let mut status = hub.status();
    let mut look_up: Option<LookUp> = None;
    let mut is_known = false;
    let mut quiet_since = Instant::now();
    let mut told_silence = false;
    tokio::pin!(stop);
    let outcome = loop {
        let joined = watch.hub.is_joined();
        let silent_at = (quiet_since + SILENCE).into();
        tokio::select! {
            () = &mut stop => break Ok(()),
            changed = status.changed() => {
                if changed.is_err() {
                    break Err(HubError::Closed.into());
                }
                let now = status.borrow_and_update().clone();
                if let HubStatus::Refused { reason } = now {
                    break Err(HubError::Refused { reason }.into());
                }
                if matches!(now, HubStatus::Joined { .. }) && !joined {
                    // The twin is watched only once the hub has put this client into its room, which this one's answer tells.
                    let subscribed = tokio::time::timeout(LOOK_UP_LIMIT, hub.subscribe(&twin));
                    tokio::select! {
                        () = &mut stop => break Ok(()),
                        _ = subscribed => hub.unsubscribe(&twin).await,
                    }
                }
                if watch.hub_is(out, &now, &hub)? {
                    quiet_since = Instant::now();
                    look_up = (!is_known).then(|| ask(&hub, &twin));
                }
            }
            Some(message) = events.recv() => {
                quiet_since = Instant::now();
                told_silence = false;
                if let Err(error) = watch.event(out, &message) {
                    break Err(error.into());
                }
            }
            answer = answered(&mut look_up) => {
                look_up = None;
                if !is_known {
                    match known(&twin, answer) {
                        Ok(known) => is_known = known,
                        Err(no_node) => break Err(no_node.into()),
                    }
                } else {
                    let silence = silence(&twin, quiet_since.elapsed(), answer);
                    tracing::warn!("{silence}");
                    told_silence = true;
                }
            }
            () = tokio::time::sleep_until(silent_at), if joined && !told_silence && look_up.is_none() => {
                is_known = true;
                look_up = Some(ask(&hub, &twin));
            }
        }
    };
    let _ = tokio::time::timeout(LEAVE_LIMIT, hub.close()).await;
    outcome
}

fn ask(hub: &HubClient, twin: &str) -> LookUp {
    let (hub, twin) = (hub.clone(), twin.to_owned());
    async move {
        let asked = tokio::time::timeout(LOOK_UP_LIMIT, hub.get_twin(&twin)).await;
        asked.unwrap_or(Err(HubError::Expired {
            what: "getTwinById".to_owned(),
            limit: LOOK_UP_LIMIT,
        }))
    }
    .boxed()
}

/// The answer that is awaited; it never comes if none is.
async fn answered(look_up: &mut Option<LookUp>) -> Result<Twin, HubError> {
    match look_up {
        Some(answer) => answer.await,
        None => std::future::pending().await,
    }
}

/// The bare type of an event.
fn kind(message: &TwinMessage) -> Option<&str> {
    message.message_type()?.strip_prefix(PREFIX)
}

/// True if the hub knows the twin, false if it did not say.
fn known(twin: &str, answer: Result<Twin, HubError>) -> Result<bool, NoNode> {
    let unknown = |said: String| {
        Err(NoNode::Unknown {
            twin: twin.to_owned(),
            said,
        })
    };
    match answer {
        Ok(found) if found.id != twin => Err(NoNode::Device {
            given: twin.to_owned(),
            twin: brief(&found.id),
        }),
        Ok(_) => Ok(true),
        Err(HubError::NoSuchTwin { .. }) => unknown("its answer holds none".to_owned()),
        Err(HubError::Rejected { message, .. }) => unknown(message),
        Err(_) => Ok(false),
    }
}

/// Why nothing comes from the node's twin, of which the hub gave this answer.
fn silence(twin: &str, quiet: Duration, answer: Result<Twin, HubError>) -> Silence {
    let (twin, seconds) = (twin.to_owned(), quiet.as_secs());
    let found = match answer {
        Ok(found) => found,
        Err(error) => {
            let said = error.to_string();
            return Silence::NoAnswer {
                twin,
                seconds,
                said,
            };
        }
    };
    let Some(reported) = found.properties.reported.get("twinsight") else {
        return Silence::NotANode { twin, seconds };
    };
    if found.status.eq_ignore_ascii_case("offline") {
        return Silence::Offline {
            twin,
            seconds,
            status: brief(&found.status),
        };
    }
    let cameras = reported["cameras"].as_array();
    let cameras: &[Value] = cameras.map(Vec::as_slice).unwrap_or_default();
    if cameras.is_empty() {
        return Silence::NoCameras { twin, seconds };
    }
    if cameras.iter().any(|camera| camera["state"] == "receiving") {
        return Silence::Unknown { twin, seconds };
    }
    let camera = |camera: &Value| {
        let text = |key: &str| camera[key].as_str().unwrap_or("?").to_owned();
        format!("{} is {}", text("twinId"), text("state"))
    };
    let cameras: Vec<String> = cameras.iter().take(8).map(camera).collect();
    Silence::Blind {
        twin,
        seconds,
        cameras: brief(&cameras.join(", ")),
    }
}

/// What was said of the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HubSeen {
    /// It was not joined yet, and that may have been said.
    NotYet { told: bool },
    /// It is joined.
    Joined,
    /// It is away since then, which was said.
    Away { since: Instant },
}

impl HubSeen {
    fn is_joined(self) -> bool {
        self == Self::Joined
    }
}

/// Prints, and remembers what was said.
struct Watch {
    options: WatchOptions,
    lines: EventLines,
    hub: HubSeen,
}

impl Watch {
    fn new(options: WatchOptions) -> Self {
        let zone = TimeZone::system();
        Self {
            lines: EventLines::new(options.colours, zone),
            options,
            hub: HubSeen::NotYet { told: false },
        }
    }

    fn event(&mut self, out: &mut impl Write, message: &TwinMessage) -> io::Result<()> {
        let (Some(kind), event) = (kind(message), &message.data["data"]) else {
            return Ok(());
        };
        if self.options.json {
            return writeln!(out, "{}", json_line(event));
        }
        for line in self.lines.event(kind, event, now_ms()) {
            writeln!(out, "{line}")?;
        }
        Ok(())
    }

    /// Says that the hub was joined, went away or came back; true if it is joined now and was not before. With JSON the log says that.
    fn hub_is(
        &mut self,
        out: &mut impl Write,
        status: &HubStatus,
        hub: &HubClient,
    ) -> io::Result<bool> {
        let (seen, paint, text) = match (self.hub, status) {
            (HubSeen::NotYet { .. }, HubStatus::Joined { twin_id }) => {
                let (url, twin) = (hub.hub_url(), &self.options.twin);
                let text = format!("{twin} is watched, by {} at {url}", brief(twin_id));
                (HubSeen::Joined, Paint::Dim, text)
            }
            (HubSeen::Away { since }, HubStatus::Joined { .. }) => {
                let away = since.elapsed().as_secs();
                let text = format!("the hub is back after {away} s");
                (HubSeen::Joined, Paint::Green, text)
            }
            (HubSeen::NotYet { told: false }, HubStatus::Away { reason, .. }) => {
                let text = format!(
                    "the hub at {} is not joined yet ({reason}): {}; it is tried again",
                    hub.hub_url(),
                    reason.remedy()
                );
                (HubSeen::NotYet { told: true }, Paint::Red, text)
            }
            (HubSeen::Joined, HubStatus::Away { since, reason }) => {
                let text =
                    format!("the hub is away ({reason}): events are missed until it is back");
                (HubSeen::Away { since: *since }, Paint::Red, text)
            }
            _ => return Ok(false),
        };
        self.hub = seen;
        if !self.options.json {
            writeln!(out, "{}", self.lines.notice(now_ms(), paint, &text))?;
        }
        Ok(seen.is_joined())
    }
}

fn now_ms() -> u64 {
    let clock = WallClock::read();
    clock.unix_ms(clock.instant())
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};
    use twinsight_client::hub::message::TwinProperties;

    use super::*;

    fn twin(status: &str, reported: Value) -> Twin {
        let reported: Map<String, Value> = reported.as_object().cloned().unwrap_or_default();
        Twin {
            id: "node-1".to_owned(),
            status: status.to_owned(),
            properties: TwinProperties {
                reported,
                ..TwinProperties::default()
            },
            ..Twin::default()
        }
    }

    fn said(found: Result<Twin, HubError>) -> String {
        silence("node-1", Duration::from_secs(10), found).to_string()
    }

    #[test]
    fn silence_is_explained_by_what_the_hub_knows() {
        let cases = [
            (twin("Online", json!({})), "it is no node's twin"),
            (
                twin("Offline", json!({"twinsight": {}})),
                "the hub says that it is Offline: start it",
            ),
            (
                twin("Online", json!({"twinsight": {"cameras": []}})),
                "it has no cameras",
            ),
            (
                twin(
                    "Online",
                    json!({"twinsight": {"cameras": [{"twinId": "cam", "state": "stalled"}]}}),
                ),
                "none of its cameras sends video (cam is stalled)",
            ),
            (
                twin(
                    "Online",
                    json!({"twinsight": {"cameras": [{"twinId": "cam", "state": "receiving"}]}}),
                ),
                "`emit_empty = false`",
            ),
        ];
        for (twin, sentence) in cases {
            let said = said(Ok(twin));
            assert!(said.contains(sentence), "{sentence}\n{said}");
        }
        let said = said(Err(HubError::Disconnected));
        assert!(said.contains("the hub does not say why"), "{said}");
    }

    #[test]
    fn a_twin_that_there_is_not_ends_it_and_a_hub_that_says_nothing_does_not() {
        assert!(known("node-1", Ok(twin("Online", json!({})))).unwrap());
        assert!(!known("node-1", Err(HubError::Disconnected)).unwrap());
        let error = known("device-9", Ok(twin("Online", json!({})))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`device-9` is the id of a device: watch its twin `node-1`"
        );
        let rejected = HubError::Rejected {
            method: "getTwinById".to_owned(),
            message: "Twin not found".to_owned(),
        };
        let error = known("nobody", Err(rejected)).unwrap_err().to_string();
        assert!(
            error.starts_with("the hub knows no twin `nobody` (Twin not found): name"),
            "{error}"
        );
    }
}
