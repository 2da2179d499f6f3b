//! How data channels come to be: dialled ([`Instance::get_data_channel`]), awaited from one twin
//! ([`Instance::on_data_channel`]), or accepted from whoever dials ([`Instance::accept_data_channels`]).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::data_acceptor::{Acceptor, AcceptorCounts};
use super::data_channel::{ChannelError, DataChannel, DataChannelOptions};
use super::data_session::{LONGEST_LIMIT, OpenHandler, Session, Span};
use super::describe::Content;
use super::ice::{IceSettings, ServerKind, server_kind, take_out_unusable};
use super::link::{Link, LinkOptions};
use super::negotiation::Role;
use super::signal::ChannelKind;
use crate::config::Dialect;
use crate::hub::client::HubClient;
use crate::hub::{HubError, Instance};

/// The longest twin id and channel name, in bytes.
pub(super) const MAX_NAME_BYTES: usize = 256;

/// Whom an acceptor takes, and how many at once.
#[derive(Debug, Clone)]
pub struct AcceptOptions {
    /// The channel; its `allow_unsigned` means nothing here, since anybody is taken.
    pub channel: DataChannelOptions,
    /// Peers at once; the offers of more are left unanswered and counted.
    pub max_peers: usize,
    /// A peer that has not opened its channel by then loses its place.
    pub open_limit: Duration,
}

impl Default for AcceptOptions {
    fn default() -> Self {
        Self {
            channel: DataChannelOptions::default(),
            max_peers: 8,
            open_limit: Duration::from_secs(45),
        }
    }
}

impl From<String> for AcceptOptions {
    fn from(name: String) -> Self {
        name.as_str().into()
    }
}

impl From<&str> for AcceptOptions {
    fn from(name: &str) -> Self {
        Self {
            channel: name.into(),
            ..Self::default()
        }
    }
}

/// Awaits one twin's channel for as long as it lives.
#[derive(Debug)]
#[must_use = "dropping it ends the waiting, and closes the channel unless a handler holds it"]
pub struct DataChannelListener {
    channel: DataChannel,
}

/// Accepts channels for as long as it lives.
#[must_use = "dropping it closes the channels of all peers"]
pub struct DataChannelAcceptor {
    shared: Arc<AcceptorCounts>,
    ended: watch::Receiver<()>,
    stop: Option<oneshot::Sender<()>>,
}

/// A subscription for as long as it is looked whether the hub grants one; the link makes its own.
struct Visit {
    hub: HubClient,
    room: String,
}

impl Drop for Visit {
    fn drop(&mut self) {
        let (hub, room) = (self.hub.clone(), std::mem::take(&mut self.room));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { hub.unsubscribe(&room).await });
        }
    }
}

impl Instance {
    /// Dials a twin and waits until the channel is open.
    ///
    /// Each call makes a channel of its own; two to one peer differ by their names. The channel connects
    /// again by itself for as long as a handle lives.
    ///
    /// ```no_run
    /// # async fn example(client: twinsight::hub::HubClient) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use twinsight::realtime::DataChannelOptions;
    /// let options = DataChannelOptions {
    ///     connect_limit: Duration::from_secs(60),
    ///     ..DataChannelOptions::from("control")
    /// };
    /// let channel = client.instance().get_data_channel("robot-1", options).await?;
    /// channel.send("hello").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ChannelError`]; then nothing is tried any more.
    pub async fn get_data_channel(
        &self,
        target: &str,
        options: impl Into<DataChannelOptions>,
    ) -> Result<DataChannel, ChannelError> {
        let options = options.into();
        let limit = options.connect_limit;
        let deadline = tokio::time::Instant::now() + limit.min(LONGEST_LIMIT);
        let name = options.name.clone();
        let in_time = |reason| ChannelError::NotOpened {
            twin_id: shortened(target),
            name: name.clone(),
            limit,
            reason,
        };
        check(target, &options.name, &self.twin_id())?;
        // The hub's word on the twin, before anything is offered to it.
        let hub = self.client().clone();
        let hub_error = |source| ChannelError::Hub {
            twin_id: shortened(target),
            source,
        };
        tokio::time::timeout_at(deadline, hub.joined())
            .await
            .map_err(|_| in_time("the hub is away"))?
            .map_err(hub_error)?;
        let visit = Visit {
            hub: hub.clone(),
            room: target.to_owned(),
        };
        tokio::time::timeout_at(deadline, hub.subscribe(&visit.room))
            .await
            .map_err(|_| in_time("the hub does not answer"))?
            .map_err(hub_error)?;
        let relays = check_relays(&hub, target, self.ice(&options).relay_only);
        if let Ok(Err(error)) = tokio::time::timeout_at(deadline, relays).await {
            return Err(error);
        }
        let (channel, trouble) = self.channel(target, options, Role::Initiator, None)?;
        match tokio::time::timeout_at(deadline, channel.opened()).await {
            Ok(Ok(())) => Ok(channel),
            Ok(Err(_)) => Err(hub_error(HubError::Closed)),
            Err(_) => Err(in_time(*trouble.borrow())),
        }
    }

    /// Dials a twin and returns at once: the channel opens as soon as the twin answers.
    ///
    /// ```no_run
    /// # use twinsight::hub::HubClient;
    /// # fn example(client: HubClient) -> Result<(), twinsight::realtime::ChannelError> {
    /// let channel = client.instance().open_data_channel("robot-1", "telemetry")?;
    /// assert!(channel.is_connecting());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the twin's id or the name cannot be one, or this peripheral was taken over.
    pub fn open_data_channel(
        &self,
        target: &str,
        options: impl Into<DataChannelOptions>,
    ) -> Result<DataChannel, ChannelError> {
        let options = options.into();
        check(target, &options.name, &self.twin_id())?;
        Ok(self.channel(target, options, Role::Initiator, None)?.0)
    }

    /// Awaits the channel that one twin dials, and hands it over when it is open for the first time (in the
    /// legacy dialect, which says not who dials, anybody's in this twin's room). The twin may come again: the channel stays the same, and so do the handlers that are registered on it.
    ///
    /// ```no_run
    /// # use twinsight::hub::HubClient;
    /// # fn example(client: HubClient) -> Result<(), twinsight::realtime::ChannelError> {
    /// let listener = client.instance().on_data_channel("app-1", "control", |channel| async move {
    ///     let answers = channel.clone();
    ///     channel.on_message(move |message| {
    ///         let answers = answers.clone();
    ///         async move {
    ///             // A channel that is not open drops what is sent.
    ///             let _ = answers.send(message).await;
    ///         }
    ///     });
    /// })?;
    /// # drop(listener);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the twin's id or the name cannot be one, or this peripheral was taken over.
    pub fn on_data_channel<F, R>(
        &self,
        source: &str,
        options: impl Into<DataChannelOptions>,
        handler: F,
    ) -> Result<DataChannelListener, ChannelError>
    where
        F: FnOnce(DataChannel) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let options = options.into();
        check(source, &options.name, &self.twin_id())?;
        let on_open: OpenHandler = Box::new(move |channel| Box::pin(handler(channel)));
        let (channel, _) = self.channel(source, options, Role::Responder, Some(on_open))?;
        Ok(DataChannelListener { channel })
    }

    /// Accepts the channel of everybody who dials this twin, and hands each over when it is open. A peer
    /// whose connection ends is gone: when it comes back, it is handed over as a new one.
    ///
    /// ```no_run
    /// # use serde_json::json;
    /// # use twinsight::hub::HubClient;
    /// # fn example(client: HubClient) -> Result<(), twinsight::realtime::ChannelError> {
    /// let acceptor = client.instance().accept_data_channels("readings", |channel| async move {
    ///     println!("{} reads along", channel.target_twin_id());
    ///     let _ = channel.send(json!({ "celsius": 21.5 })).await;
    /// })?;
    /// println!("{} peers", acceptor.peers());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the name cannot be one, or this peripheral was taken over.
    pub fn accept_data_channels<F, R>(
        &self,
        options: impl Into<AcceptOptions>,
        mut handler: F,
    ) -> Result<DataChannelAcceptor, ChannelError>
    where
        F: FnMut(DataChannel) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let options = options.into();
        check_name(&options.channel.name)?;
        self.assert_owned().map_err(|source| ChannelError::Hub {
            twin_id: String::new(),
            source,
        })?;
        let shared = Arc::new(AcceptorCounts::default());
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = watch::channel(());
        let ice = self.ice(&options.channel);
        let acceptor = Acceptor::new(
            self.client().clone(),
            self.peripheral_id().cloned(),
            options,
            ice,
            Arc::clone(&shared),
            Box::new(move |channel| Box::pin(handler(channel))),
        );
        let disowned = self.disowned();
        tokio::spawn(async move {
            acceptor.run(stopped, disowned).await;
            drop(end);
        });
        Ok(DataChannelAcceptor {
            shared,
            ended,
            stop: Some(stop),
        })
    }

    /// How connections find their way unless the caller said.
    fn ice(&self, options: &DataChannelOptions) -> IceSettings {
        options.ice.clone().unwrap_or_else(|| IceSettings {
            relay_only: self.client().prefers_relay(),
            ..IceSettings::default()
        })
    }

    /// A channel and its task; also why the last attempt failed.
    fn channel(
        &self,
        target: &str,
        options: DataChannelOptions,
        role: Role,
        on_open: Option<OpenHandler>,
    ) -> Result<(DataChannel, watch::Receiver<&'static str>), ChannelError> {
        let target: Arc<str> = target.into();
        let label = label(options.dialect, &options.name, &target);
        self.assert_owned().map_err(|source| ChannelError::Hub {
            twin_id: shortened(&target),
            source,
        })?;
        // None would be no limit to the stack.
        let high_water_bytes = options.high_water_bytes.max(1);
        let link = Link::new(
            self.client().clone(),
            LinkOptions {
                kind: ChannelKind::Data,
                name: options.name.as_str().into(),
                target: Arc::clone(&target),
                // As the official clients: a peripheral answers as itself, and its owner dials for it.
                own: match role {
                    Role::Initiator => None,
                    Role::Responder => self.peripheral_id().cloned(),
                },
                role,
                dialect: options.dialect,
                allow_unsigned: options.allow_unsigned,
                ice: self.ice(&options),
                verbose: options.verbose,
            },
            Arc::default(),
            Box::new(move |_| Content::Messages {
                label: label.clone(),
                high_water_bytes,
            }),
        );
        let (channel, stopped) = DataChannel::new(target, &options);
        let session = Session::new(link, &channel, Span::Handles, on_open);
        let trouble = session.trouble();
        session.spawn(stopped, self.disowned());
        Ok((channel, trouble))
    }
}

impl DataChannelListener {
    /// The channel, open or not.
    ///
    /// ```no_run
    /// # async fn example(listener: twinsight::realtime::DataChannelListener) -> Result<(), Box<dyn std::error::Error>> {
    /// println!("{:?}", listener.channel().state());
    /// listener.close().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn channel(&self) -> &DataChannel {
        &self.channel
    }

    /// Ends the waiting and closes the channel.
    pub async fn close(self) {
        self.channel.close().await;
    }
}

impl DataChannelAcceptor {
    /// Peers that have a place, open or about to be.
    ///
    /// ```no_run
    /// # async fn example(acceptor: twinsight::realtime::DataChannelAcceptor) -> Result<(), Box<dyn std::error::Error>> {
    /// println!("{} peers, {} signals refused", acceptor.peers(), acceptor.refused());
    /// # Ok(())
    /// # }
    /// ```
    pub fn peers(&self) -> usize {
        self.shared.peers.load(Ordering::Relaxed)
    }

    /// Signals that were not used: offers for which there was no place, candidates too many, what cannot
    /// be read, and what came faster than it was sorted.
    pub fn refused(&self) -> u64 {
        let counts = &self.shared;
        counts.refused.load(Ordering::Relaxed) + counts.overflowed.load(Ordering::Relaxed)
    }

    /// Closes the channels of all peers.
    ///
    /// ```no_run
    /// # async fn example(acceptor: twinsight::realtime::DataChannelAcceptor) -> Result<(), Box<dyn std::error::Error>> {
    /// acceptor.close().await;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn close(mut self) {
        drop(self.stop.take());
        // An error means that it has ended.
        let _ = self.ended.changed().await;
    }
}

impl fmt::Debug for DataChannelAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataChannelAcceptor")
            .field("counts", &self.shared)
            .finish_non_exhaustive()
    }
}

/// What the initiator calls its channel.
fn label(dialect: Dialect, name: &str, target: &str) -> String {
    match dialect {
        Dialect::Current => format!("dc-{name}-{target}"),
        Dialect::Legacy => format!("channel-{target}"),
    }
}

fn check(twin_id: &str, name: &str, own: &str) -> Result<(), ChannelError> {
    let wrong = |why| {
        Err(ChannelError::Target {
            twin_id: shortened(twin_id),
            why,
        })
    };
    check_name(name)?;
    if twin_id.is_empty() {
        return wrong("the twin's id is empty");
    }
    if twin_id.len() > MAX_NAME_BYTES {
        return wrong("no twin's id is longer than 256 bytes");
    }
    if twin_id == own {
        return wrong("it is this app's own twin");
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), ChannelError> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return Err(ChannelError::Target {
            twin_id: String::new(),
            why: "a channel's name has 1 to 256 bytes",
        });
    }
    Ok(())
}

/// If only relays may be used, there must be one that the stack can use.
async fn check_relays(hub: &HubClient, target: &str, relay_only: bool) -> Result<(), ChannelError> {
    if !relay_only {
        return Ok(());
    }
    let mut servers = hub.ice_servers().await;
    let refused = take_out_unusable(&mut servers);
    let usable = servers
        .iter()
        .flat_map(|server| &server.urls)
        .any(|url| server_kind(url) == ServerKind::TurnUdp);
    if usable {
        return Ok(());
    }
    Err(ChannelError::NoRelay {
        twin_id: shortened(target),
        refused,
    })
}

/// A twin's id as it stands in a sentence.
fn shortened(twin_id: &str) -> String {
    twin_id.chars().take(64).collect()
}
