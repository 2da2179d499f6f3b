//! `twinsight watch` shows what nodes send: it joins the hub as an app, listens to the nodes' twins, and prints each event as a line for
//! people or as JSON. Where nothing comes it finds out why, as far as the hub knows it. The command runs it.

mod lines;
mod sequence;
mod silence;

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::io::{self, Write};
use std::task::Poll;
use std::time::{Duration, Instant};

use anyhow::Result;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use jiff::tz::TimeZone;

use self::lines::{EventLines, json_line};
use self::silence::{known, silence};
use super::terminal::{Colours, Paint};
use crate::clock::WallClock;
use twinsight_client::hub::message::Twin;
use twinsight_client::hub::text::brief;
use twinsight_client::hub::{HubClient, HubError, HubOptions, HubStatus, TwinMessage};

/// Nodes that are watched at once.
pub(crate) const MAX_NODES: usize = 64;

/// Nodes that the line about the beginning names; of others it gives the number.
const NAMED: usize = 4;

/// Events that may wait while one is printed.
const QUEUE: usize = 1024;

/// A node that sends nothing for this long is looked up.
const SILENCE: Duration = Duration::from_secs(10);

/// The hub's answer about a node's twin is awaited for this long.
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
    /// The nodes' twins, each once, and at most [`MAX_NODES`].
    pub(crate) twins: Vec<String>,
    /// Events are printed as JSON, one a line.
    pub(crate) json: bool,
    pub(crate) colours: Colours,
}

/// What the hub answered about a node's twin.
type LookUp = BoxFuture<'static, Result<Twin, HubError>>;

/// What is known of a node that is watched.
struct Node {
    twin: String,
    /// What the hub says about the twin is awaited.
    look_up: Option<LookUp>,
    /// The hub knows the twin, or is asked now why nothing comes from it.
    is_known: bool,
    quiet_since: Instant,
    /// Why nothing comes was said.
    told_silence: bool,
}

impl Node {
    fn new(twin: String) -> Self {
        Self {
            twin,
            look_up: None,
            is_known: false,
            quiet_since: Instant::now(),
            told_silence: false,
        }
    }

    /// The node is looked up then if nothing comes from it before; `None` while it is looked up and after that.
    fn silent_at(&self) -> Option<Instant> {
        (!self.told_silence && self.look_up.is_none()).then(|| self.quiet_since + SILENCE)
    }
}

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
    let wanted: BTreeSet<String> = options.twins.iter().cloned().collect();
    // Others speak in a node's room too.
    let mut events = hub.messages(QUEUE, move |message| {
        message.twin_id == message.source_twin_id
            && wanted.contains(&message.twin_id)
            && kind(message).is_some()
    });
    for twin in &options.twins {
        // It counts from now on, whether or not the hub is there, and what the hub thinks of the twin is asked for by itself.
        drop(hub.subscribe(twin));
    }
    let mut nodes: Vec<Node> = options.twins.iter().cloned().map(Node::new).collect();
    let mut watch = Watch::new(options);
    let mut status = hub.status();
    tokio::pin!(stop);
    let outcome = loop {
        let joined = watch.hub.is_joined();
        let silent_at = nodes.iter().filter_map(Node::silent_at).min();
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
                    tokio::select! {
                        () = &mut stop => break Ok(()),
                        () = subscribed(&hub, &nodes) => {}
                    }
                }
                if watch.hub_is(out, &now, &hub)? {
                    for node in &mut nodes {
                        node.quiet_since = Instant::now();
                        node.look_up = (!node.is_known).then(|| ask(&hub, &node.twin));
                    }
                }
            }
            Some(message) = events.recv() => {
                let Some(index) = nodes.iter().position(|node| node.twin == message.twin_id) else {
                    continue;
                };
                let node = &mut nodes[index];
                node.quiet_since = Instant::now();
                node.told_silence = false;
                if node.is_known {
                    // It was asked for because of a silence that is over.
                    node.look_up = None;
                }
                if let Err(error) = watch.event(out, index, &message) {
                    break Err(error.into());
                }
            }
            (index, answer) = answered(&mut nodes) => {
                let node = &mut nodes[index];
                if node.is_known {
                    let silence = silence(&node.twin, node.quiet_since.elapsed(), answer);
                    tracing::warn!("{silence}");
                    node.told_silence = true;
                } else {
                    match known(&node.twin, answer) {
                        Ok(known) => node.is_known = known,
                        Err(no_node) => break Err(no_node.into()),
                    }
                }
            }
            () = until(silent_at), if joined => {
                let now = Instant::now();
                for node in &mut nodes {
                    if node.silent_at().is_some_and(|at| at <= now) {
                        node.is_known = true;
                        node.look_up = Some(ask(&hub, &node.twin));
                    }
                }
            }
        }
    };
    let _ = tokio::time::timeout(LEAVE_LIMIT, hub.close()).await;
    outcome
}

/// Waits until the hub has put this client into the rooms of all nodes, which its answers to a second subscription tell. Only then are
/// the nodes watched. A hub that does not answer is not waited for without end.
async fn subscribed(hub: &HubClient, nodes: &[Node]) {
    let subscribed = nodes.iter().map(|node| hub.subscribe(&node.twin));
    let _ = tokio::time::timeout(LOOK_UP_LIMIT, join_all(subscribed)).await;
    for node in nodes {
        hub.unsubscribe(&node.twin).await;
    }
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

/// The next answer that is awaited, with the place of its node; it never comes if none is.
async fn answered(nodes: &mut [Node]) -> (usize, Result<Twin, HubError>) {
    poll_fn(|context| {
        for (index, node) in nodes.iter_mut().enumerate() {
            if let Some(look_up) = &mut node.look_up
                && let Poll::Ready(answer) = look_up.poll_unpin(context)
            {
                node.look_up = None;
                return Poll::Ready((index, answer));
            }
        }
        Poll::Pending
    })
    .await
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// The bare type of an event.
fn kind(message: &TwinMessage) -> Option<&str> {
    message.message_type()?.strip_prefix(PREFIX)
}

/// `node-1 is watched`, `node-1 and node-2 are watched`, or with the number of those that are not named.
fn watched(twins: &[String]) -> String {
    let (last, others) = match twins {
        [] => return "nothing is watched".to_owned(),
        [one] => return format!("{one} is watched"),
        [others @ .., last] if twins.len() <= NAMED => (last.clone(), others),
        more => {
            let (named, rest) = more.split_at(NAMED - 1);
            (format!("{} others", rest.len()), named)
        }
    };
    format!("{} and {last} are watched", others.join(", "))
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
            lines: EventLines::new(options.colours, zone, &options.twins),
            options,
            hub: HubSeen::NotYet { told: false },
        }
    }

    /// Prints an event of the node at this place of the options.
    fn event(
        &mut self,
        out: &mut impl Write,
        node: usize,
        message: &TwinMessage,
    ) -> io::Result<()> {
        let (Some(kind), event) = (kind(message), &message.data["data"]) else {
            return Ok(());
        };
        if self.options.json {
            return writeln!(out, "{}", json_line(event));
        }
        for line in self.lines.event(node, kind, event, now_ms()) {
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
                let (url, watched) = (hub.hub_url(), watched(&self.options.twins));
                let text = format!("{watched}, by {} at {url}", brief(twin_id));
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
    use super::*;

    #[test]
    fn the_first_line_names_some_nodes_and_counts_the_others() {
        let of = |count: usize| {
            let twins: Vec<String> = (1..=count).map(|n| format!("node-{n}")).collect();
            watched(&twins)
        };
        assert_eq!(of(1), "node-1 is watched");
        assert_eq!(of(2), "node-1 and node-2 are watched");
        assert_eq!(of(4), "node-1, node-2, node-3 and node-4 are watched");
        assert_eq!(of(64), "node-1, node-2, node-3 and 61 others are watched");
    }
}
