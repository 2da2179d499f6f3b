//! Dialling a twin: what a caller wants of a channel or stream comes in, checked [`LinkOptions`] or an open channel
//! or stream go out, or the reason why there is none. The caller's own task runs it.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::ice::{IceSettings, ServerKind, server_kind, take_out_unusable};
use super::link::{Lifetime, LinkOptions};
use super::names::{check_name, check_twin, shortened};
use super::negotiation::Role;
use super::signal::ChannelKind;
use crate::dialect::Dialect;
use crate::hub::client::HubClient;
use crate::hub::{HubError, Instance};

/// Longer limits than this are no limits, and instants have an end.
const LONGEST_LIMIT: Duration = Duration::from_secs(365 * 24 * 3600);

/// When a limit that begins now is over.
pub(crate) fn deadline_of(limit: Duration) -> Instant {
    Instant::now() + limit.min(LONGEST_LIMIT)
}

/// What callers say alike of a channel and of a stream.
pub(crate) struct LinkRequest<'a> {
    pub(crate) kind: ChannelKind,
    pub(crate) name: &'a str,
    pub(crate) dialect: Dialect,
    pub(crate) allow_unsigned: bool,
    /// How connections find their way, if the caller said.
    pub(crate) ice: Option<&'a IceSettings>,
    /// How long a caller that waits gives the first connection.
    pub(crate) connect_limit: Duration,
    pub(crate) verbose: bool,
    /// See [`LinkOptions::receives`].
    pub(crate) receives: bool,
}

/// Why there is no channel or stream, for the error that its caller gets.
pub(crate) struct DialError {
    /// The twin at the other end, shortened; empty where it is not to blame.
    pub(crate) twin_id: String,
    /// Of the channel or stream.
    pub(crate) name: String,
    /// How long it was waited for, or would have been.
    pub(crate) limit: Duration,
    pub(crate) failure: DialFailure,
}

/// What was in the way.
pub(crate) enum DialFailure {
    /// The twin's id or the name cannot be one, for this reason.
    Invalid(&'static str),
    /// The hub refuses.
    Hub(HubError),
    /// Only relays may be used, and there is none; these servers cannot be.
    NoRelay { refused: Vec<String> },
    /// It was not connected in time; why the last attempt failed, or what the hub did not do.
    NotConnected { reason: &'static str },
}

/// What is dialled: a channel or a stream, which closes when it is dropped.
pub(crate) trait Dialled {
    /// Waits for the connection; false if there will be none.
    async fn connected(&self) -> bool;

    /// Why the last attempt failed.
    fn last_error(&self) -> &'static str;
}

/// Dials a twin and waits until what `open` makes is connected, until `deadline` at most. The hub's word on the twin
/// and on relays is heard before.
pub(crate) async fn dial<D: Dialled, E: From<DialError>>(
    instance: &Instance,
    target: &str,
    request: &LinkRequest<'_>,
    deadline: Instant,
    open: impl FnOnce() -> Result<D, E>,
) -> Result<D, E> {
    request.check(instance, target)?;
    let ice = request.ice_settings(instance);
    probe(instance.client(), target, deadline, &ice)
        .await
        .map_err(|failure| request.error(target, failure))?;
    let dialled = open()?;
    let failure = match timeout_at(deadline, dialled.connected()).await {
        Ok(true) => return Ok(dialled),
        Ok(false) => DialFailure::Hub(HubError::Closed),
        Err(_) => DialFailure::NotConnected {
            reason: dialled.last_error(),
        },
    };
    Err(request.error(target, failure).into())
}

impl LinkRequest<'_> {
    /// The link with one twin.
    pub(crate) fn link(
        &self,
        instance: &Instance,
        target: &str,
        role: Role,
    ) -> Result<LinkOptions, DialError> {
        self.check(instance, target)?;
        let lifetime = Lifetime::UntilStopped;
        self.options(instance, target, role, lifetime)
    }

    /// The links with whoever dials, which have so long to connect.
    pub(crate) fn accepting(
        &self,
        instance: &Instance,
        connect_limit: Duration,
    ) -> Result<LinkOptions, DialError> {
        self.check_name()?;
        let lifetime = Lifetime::OneConnection(connect_limit);
        self.options(instance, "", Role::Responder, lifetime)
    }

    fn options(
        &self,
        instance: &Instance,
        target: &str,
        role: Role,
        lifetime: Lifetime,
    ) -> Result<LinkOptions, DialError> {
        instance
            .assert_owned()
            .map_err(|source| self.error(target, DialFailure::Hub(source)))?;
        Ok(LinkOptions {
            kind: self.kind,
            name: self.name.into(),
            target: target.into(),
            // As the official clients: a peripheral answers as itself, and its owner dials for it.
            own: match role {
                Role::Initiator => None,
                Role::Responder => instance.peripheral_id().cloned(),
            },
            role,
            lifetime,
            dialect: self.dialect,
            allow_unsigned: self.allow_unsigned,
            ice: self.ice_settings(instance),
            verbose: self.verbose,
            receives: self.receives,
        })
    }

    /// What the caller said, or else all ways; only relays if the operator named one.
    fn ice_settings(&self, instance: &Instance) -> IceSettings {
        self.ice.cloned().unwrap_or_else(|| IceSettings {
            relay_only: instance.client().prefers_relay(),
            ..IceSettings::default()
        })
    }

    fn check(&self, instance: &Instance, target: &str) -> Result<(), DialError> {
        self.check_name()?;
        check_twin(target, &instance.twin_id())
            .map_err(|why| self.error(target, DialFailure::Invalid(why)))
    }

    fn check_name(&self) -> Result<(), DialError> {
        check_name(self.name).map_err(|why| self.error("", DialFailure::Invalid(why)))
    }

    fn error(&self, target: &str, failure: DialFailure) -> DialError {
        DialError {
            twin_id: shortened(target),
            name: self.name.to_owned(),
            limit: self.connect_limit,
            failure,
        }
    }
}

/// A subscription that asks whether the hub grants one, and is taken back; the link makes its own.
struct TrialSubscription {
    hub: HubClient,
    room: String,
}

impl Drop for TrialSubscription {
    fn drop(&mut self) {
        let (hub, room) = (self.hub.clone(), std::mem::take(&mut self.room));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { hub.unsubscribe(&room).await });
        }
    }
}

/// Asks the hub about a twin, and about relays if only those may be used.
async fn probe(
    hub: &HubClient,
    target: &str,
    deadline: Instant,
    ice: &IceSettings,
) -> Result<(), DialFailure> {
    let not_in_time = |reason| DialFailure::NotConnected { reason };
    timeout_at(deadline, hub.joined())
        .await
        .map_err(|_| not_in_time("the hub is away"))?
        .map_err(DialFailure::Hub)?;
    let trial = TrialSubscription {
        hub: hub.clone(),
        room: target.to_owned(),
    };
    timeout_at(deadline, hub.subscribe(&trial.room))
        .await
        .map_err(|_| not_in_time("the hub does not answer"))?
        .map_err(DialFailure::Hub)?;
    if !ice.relay_only {
        return Ok(());
    }
    // Without an answer in time the attempt itself will tell.
    match timeout_at(deadline, missing_relay(hub)).await {
        Ok(Some(refused)) => Err(DialFailure::NoRelay { refused }),
        Ok(None) | Err(_) => Ok(()),
    }
}

/// The servers that cannot be used, if there is no relay that can.
async fn missing_relay(hub: &HubClient) -> Option<Vec<String>> {
    let mut servers = hub.ice_servers().await;
    let refused = take_out_unusable(&mut servers);
    let usable = servers
        .iter()
        .flat_map(|server| &server.urls)
        .any(|url| server_kind(url) == ServerKind::TurnUdp);
    (!usable).then_some(refused)
}

/// The servers that an error about relays names.
pub(crate) fn refused_servers(refused: &[String]) -> String {
    if refused.is_empty() {
        return String::new();
    }
    format!(
        " (TURN over TCP or TLS, which the WebRTC stack of this build does not have: {})",
        refused.join(", ")
    )
}
