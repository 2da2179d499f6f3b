//! Whom a link connects with, as whom and for how long: `dial` and the camera's stream make these options, the link and its
//! task read them.

use std::sync::Arc;
use std::time::Duration;

use super::attempt::Role;
use super::ice::IceSettings;
use super::signal::ChannelKind;
use crate::dialect::Dialect;

/// The time for which a link is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// It is wanted until it is stopped: connections come and go.
    UntilStopped,
    /// It is wanted as long as its one connection, which must come up within this time. A peer that begins anew keeps it alive.
    OneConnection(Duration),
}

/// How a link is called and connected.
#[derive(Debug, Clone)]
pub(crate) struct LinkOptions {
    pub(crate) kind: ChannelKind,
    /// The name of the channel or stream.
    pub(crate) name: Arc<str>,
    /// The twin at the other end.
    pub(crate) target: Arc<str>,
    /// The peripheral twin that we speak as; none for the hub client's own twin.
    pub(crate) own: Option<Arc<str>>,
    pub(crate) role: Role,
    pub(crate) lifetime: Lifetime,
    pub(crate) dialect: Dialect,
    /// A responder then also accepts offers that are signed with our own twin.
    pub(crate) allow_unsigned: bool,
    pub(crate) ice: IceSettings,
    /// Log the paths that connections use.
    pub(crate) verbose: bool,
    /// Media is to be received: a legacy peer whose answer sends none is offered again.
    pub(crate) receives: bool,
}
