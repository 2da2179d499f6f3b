//! Dials a twin: a caller's [`LinkRequest`] comes in; checked [`LinkOptions`], an open channel or stream, or the reason why there
//! is none go out. The caller's own task runs it.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::attempt::Role;
use super::ice::{IceSettings, ServerKind, server_kind, take_out_unusable};
use super::link_options::{Lifetime, LinkOptions};
use super::names::{check_name, check_twin, shortened};
use super::signal::ChannelKind;
use crate::dialect::Dialect;
use crate::hub::client::HubClient;
use crate::hub::{HubError, Instance};

/// What a caller wants of a channel or a stream.
pub(crate) struct LinkRequest<'a> {
    pub(crate) kind: ChannelKind,
    pub(crate) name: &'a str,
    pub(crate) dialect: Dialect,
    pub(crate) allow_unsigned: bool,
    /// Which paths connections may use, if the caller says so.
    pub(crate) ice: Option<&'a IceSettings>,
    /// How long a caller that waits for the first connection waits at most.
    pub(crate) connect_limit: Duration,
    pub(crate) verbose: bool,
    /// See [`LinkOptions::receives`].
    pub(crate) receives: bool,
}

/// Why there is no channel or stream, for the error that its caller gets.
pub(crate) struct DialError {
    /// The twin at the other end, shortened; empty if it has nothing to do with the error.
    pub(crate) twin_id: String,
    /// The name of the channel or stream.
    pub(crate) name: String,
    /// How long the caller waits at most.
    pub(crate) limit: Duration,
    pub(crate) failure: DialFailure,
}

/// The reason why there is no channel or stream.
pub(crate) enum DialFailure {
    /// The twin's id or the name is not valid, for this reason.
    Invalid(&'static str),
    /// The hub refuses.
    Hub(HubError),
    /// Only relays may be used, and there is none. The stack cannot use the servers that are named here.
    NoRelay { refused: Vec<String> },
    /// There was no connection in time. The reason is why the last attempt failed, or what the hub did not do.
    NotConnected { reason: &'static str },
}

/// What is dialled: a `DataChannel` or a `MediaStream`, which closes when it is dropped.
pub(crate) trait Dialled {
    /// Waits for the connection; false if there will be none.
    async fn connected(&self) -> bool;

    /// Why the last attempt failed.
    fn last_error(&self) -> &'static str;
}

/// Dials a twin and waits until the channel or stream that `open` makes is connected, until `deadline` at most. The hub is
/// asked about the twin and about relays before, so that its refusal is the error that the caller gets.
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
    /// The options of the link with one twin.
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

    /// The options of the links with whoever dials, each of which has `connect_limit` to connect.
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
            // The official clients do the same: a peripheral answers as itself, and its owner dials for it.
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

    /// The caller's settings; without them all paths are allowed, or only relays if the operator has named one.
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

/// A subscription that shows whether the hub grants one. It is taken back when it is dropped; the link makes its own.
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
    // If the hub does not answer in time, the attempt itself will show whether there is a relay.
    match timeout_at(deadline, missing_relay(hub)).await {
        Ok(Some(refused)) => Err(DialFailure::NoRelay { refused }),
        Ok(None) | Err(_) => Ok(()),
    }
}

/// The servers that the stack cannot use, if there is no relay that it can use.
async fn missing_relay(hub: &HubClient) -> Option<Vec<String>> {
    let mut servers = hub.ice_servers().await;
    let refused = take_out_unusable(&mut servers);
    let usable = servers
        .iter()
        .flat_map(|server| &server.urls)
        .any(|url| server_kind(url) == ServerKind::TurnUdp);
    (!usable).then_some(refused)
}

/// The clause of an error about relays that names the servers.
pub(crate) fn refused_servers(refused: &[String]) -> String {
    if refused.is_empty() {
        return String::new();
    }
    format!(
        " (TURN over TCP or TLS, which the WebRTC stack of this build does not have: {})",
        refused.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_may_dial_on_a_task_of_its_own() {
        fn can_be_spawned<F: Future + Send>(_dial: impl Fn(Instance) -> F) {}
        can_be_spawned(|instance| async move { instance.get_data_channel("b", "x").await });
        can_be_spawned(|instance| async move { instance.get_media_stream("b", "x").await });
    }
}
