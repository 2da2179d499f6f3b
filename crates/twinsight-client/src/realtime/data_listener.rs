//! How data channels come to be: dialled ([`Instance::get_data_channel`]), awaited from one twin
//! ([`Instance::on_data_channel`]), or accepted from whoever dials ([`Instance::accept_data_channels`]).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use super::acceptor::{Acceptor, AcceptorCounts, PeerService};
use super::connect::Content;
use super::data_channel::{ChannelError, DataChannel, DataChannelOptions};
use super::data_session::{LONGEST_LIMIT, Lifetime, OpenHandler, Session};
use super::ice::IceSettings;
use super::link::{Link, LinkOptions, content_of};
use super::names::{Unreachable, check_name, check_twin, reach, shortened};
use super::negotiation::Role;
use super::signal::ChannelKind;
use crate::dialect::Dialect;
use crate::hub::{HubError, Instance};

type PeerHandler = Box<dyn FnMut(DataChannel) -> BoxFuture<'static, ()> + Send>;

/// Whom an acceptor takes, and how many at once.
#[derive(Debug, Clone)]
#[non_exhaustive]
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

impl Instance {
    /// Dials a twin and waits until the channel is open.
    ///
    /// Each call makes a channel of its own; two to one peer differ by their names. The channel connects
    /// again by itself for as long as a handle lives.
    ///
    /// ```no_run
    /// # async fn example(client: twinsight_client::hub::HubClient) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use twinsight_client::realtime::DataChannelOptions;
    /// let options = DataChannelOptions::from("control").with_connect_limit(Duration::from_secs(60));
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
        let hub_error = |source| ChannelError::Hub {
            twin_id: shortened(target),
            source,
        };
        match reach(self.client(), target, deadline, &self.ice(&options)).await {
            Ok(()) => {}
            Err(Unreachable::Hub(source)) => return Err(hub_error(source)),
            Err(Unreachable::InTime(reason)) => return Err(in_time(reason)),
            Err(Unreachable::NoRelay { refused }) => {
                return Err(ChannelError::NoRelay {
                    twin_id: shortened(target),
                    refused,
                });
            }
        }
        let (channel, last_error) = self.channel(target, options, Role::Initiator, None)?;
        match tokio::time::timeout_at(deadline, channel.opened()).await {
            Ok(Ok(())) => Ok(channel),
            Ok(Err(_)) => Err(hub_error(HubError::Closed)),
            Err(_) => Err(in_time(*last_error.borrow())),
        }
    }

    /// Dials a twin and returns at once: the channel opens as soon as the twin answers.
    ///
    /// ```no_run
    /// # use twinsight_client::hub::HubClient;
    /// # fn example(client: HubClient) -> Result<(), twinsight_client::realtime::ChannelError> {
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
    /// # use twinsight_client::hub::HubClient;
    /// # fn example(client: HubClient) -> Result<(), twinsight_client::realtime::ChannelError> {
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
    /// # use twinsight_client::hub::HubClient;
    /// # fn example(client: HubClient) -> Result<(), twinsight_client::realtime::ChannelError> {
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
        check_channel_name(&options.channel.name)?;
        self.assert_owned().map_err(|source| ChannelError::Hub {
            twin_id: String::new(),
            source,
        })?;
        let shared = Arc::new(AcceptorCounts::default());
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = watch::channel(());
        let channel_options = options.channel.clone();
        let handler: PeerHandler = Box::new(move |channel| Box::pin(handler(channel)));
        let handler = Arc::new(Mutex::new(handler));
        let high_water_bytes = channel_options.high_water_bytes.max(1);
        let link_options = LinkOptions {
            kind: ChannelKind::Data,
            name: channel_options.name.as_str().into(),
            target: Arc::from(""),
            own: self.peripheral_id().cloned(),
            role: Role::Responder,
            dialect: channel_options.dialect,
            allow_unsigned: true,
            ice: self.ice(&channel_options),
            verbose: channel_options.verbose,
            receives: false,
        };
        let open_limit = options.open_limit;
        let acceptor = Acceptor::new(
            self.client().clone(),
            link_options,
            options.max_peers,
            Arc::clone(&shared),
            Box::new(move |place| {
                let (channel, stopped) = DataChannel::new(place.target(), &channel_options);
                let content = content_of(move |_| Content::Messages {
                    label: String::new(),
                    high_water_bytes,
                });
                let link = place.link(Arc::default(), content);
                let handler = Arc::clone(&handler);
                let on_open: OpenHandler = Box::new(move |channel| {
                    let mut handler = handler.lock();
                    handler(channel)
                });
                let lifetime = Lifetime::OneConnection(open_limit);
                let session = Session::new(link, &channel, lifetime, Some(on_open));
                PeerService {
                    // The acceptor closes it when its twin is lost.
                    running: session.spawn(stopped, Box::pin(std::future::pending())),
                    close: Box::new(move || Box::pin(async move { channel.close().await })),
                }
            }),
        );
        let ownership_lost = self.ownership_lost();
        tokio::spawn(async move {
            acceptor.run(stopped, ownership_lost).await;
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
                receives: false,
            },
            Arc::default(),
            content_of(move |_| Content::Messages {
                label: label.clone(),
                high_water_bytes,
            }),
        );
        let (channel, stopped) = DataChannel::new(target, &options);
        let session = Session::new(link, &channel, Lifetime::Handles, on_open);
        let last_error = session.last_error();
        session.spawn(stopped, self.ownership_lost());
        Ok((channel, last_error))
    }
}

impl DataChannelListener {
    /// The channel, open or not.
    ///
    /// ```no_run
    /// # async fn example(listener: twinsight_client::realtime::DataChannelListener) -> Result<(), Box<dyn std::error::Error>> {
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
    /// # async fn example(acceptor: twinsight_client::realtime::DataChannelAcceptor) -> Result<(), Box<dyn std::error::Error>> {
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
    /// # async fn example(acceptor: twinsight_client::realtime::DataChannelAcceptor) -> Result<(), Box<dyn std::error::Error>> {
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
    check_channel_name(name)?;
    check_twin(twin_id, own).map_err(|why| ChannelError::Target {
        twin_id: shortened(twin_id),
        why,
    })
}

fn check_channel_name(name: &str) -> Result<(), ChannelError> {
    check_name(name).map_err(|why| ChannelError::Target {
        twin_id: String::new(),
        why,
    })
}

impl From<Option<&str>> for AcceptOptions {
    fn from(name: Option<&str>) -> Self {
        DataChannelOptions::from(name).into()
    }
}

impl From<DataChannelOptions> for AcceptOptions {
    fn from(channel: DataChannelOptions) -> Self {
        Self {
            channel,
            ..Self::default()
        }
    }
}

impl AcceptOptions {
    /// Says how many peers are taken at once.
    #[must_use]
    pub fn with_max_peers(mut self, max_peers: usize) -> Self {
        self.max_peers = max_peers;
        self
    }

    /// Says by when a peer must have opened its channel.
    #[must_use]
    pub fn with_open_limit(mut self, open_limit: Duration) -> Self {
        self.open_limit = open_limit;
        self
    }
}
