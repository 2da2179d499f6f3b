//! The ways in which data channels are made: a name and options come in, a [`DataChannel`] goes out. It is dialled
//! ([`Instance::get_data_channel`]), awaited from one twin ([`Instance::on_data_channel`]), or accepted from whoever dials
//! ([`Instance::accept_data_channels`]). The caller's own task runs this; each channel then has a task of its own.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::acceptor::{Acceptor, Serve};
use super::attempt::Role;
use super::connect::ConnectionContent;
use super::data_channel::DataChannel;
use super::data_options::{ChannelError, DataChannelOptions};
use super::data_task::{ChannelTask, OpenHandler};
use super::deadline::deadline_of;
use super::description_task::{ContentOf, content_of};
use super::dial::dial;
use super::link::Link;
use super::link_task::stopped;
use crate::dialect::Dialect;
use crate::hub::Instance;

/// Whom an acceptor takes, and how many at once.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AcceptOptions {
    /// The channel; its `allow_unsigned` means nothing here, since anybody is taken.
    pub channel: DataChannelOptions,
    /// How many peers may be connected at once; the offers of further ones are left unanswered and counted.
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

/// Accepts data channels for as long as it lives.
pub type DataChannelAcceptor = Acceptor;

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
        let open = || self.data_channel(target, &options, Role::Initiator, None);
        let deadline = deadline_of(options.connect_limit);
        dial(self, target, &options.request(), deadline, open).await
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
        self.data_channel(target, &options.into(), Role::Initiator, None)
    }

    /// Awaits the channel that one twin dials, and hands it over when it is open for the first time (in the
    /// legacy dialect, which does not say who dials, anybody's in this twin's room). The twin may come again: the channel
    /// stays the same, and so do the handlers that are registered on it.
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
        let on_open: OpenHandler = Box::new(move |channel| Box::pin(handler(channel)));
        let channel = self.data_channel(source, &options.into(), Role::Responder, Some(on_open))?;
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
        handler: F,
    ) -> Result<DataChannelAcceptor, ChannelError>
    where
        F: FnMut(DataChannel) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let AcceptOptions {
            channel: options,
            max_peers,
            open_limit,
        } = options.into();
        let link_options = options.request().accepting(self, open_limit)?;
        let handler = Arc::new(Mutex::new(handler));
        let serve: Serve = Box::new(move |slot| {
            let stop = slot.stop.clone();
            let channel = DataChannel::new(slot.target(), &options, stop.clone());
            let handler = Arc::clone(&handler);
            let on_open: OpenHandler = Box::new(move |channel| {
                let mut handler = handler.lock();
                Box::pin(handler(channel))
            });
            let task = ChannelTask::new(&channel, Some(on_open));
            // The peer opens the channel, so no label is needed here.
            let link = slot.link(Arc::default(), messages(String::new(), &options));
            Box::pin(async move {
                task.run(link, stop.cancelled()).await;
                // The channel is open as long as it is served, whether or not the handler keeps its handle.
                drop(channel);
            })
        });
        Ok(Acceptor::start(self, link_options, max_peers, serve))
    }

    /// Makes a channel and starts its task.
    fn data_channel(
        &self,
        target: &str,
        options: &DataChannelOptions,
        role: Role,
        on_open: Option<OpenHandler>,
    ) -> Result<DataChannel, ChannelError> {
        let link_options = options.request().link(self, target, role)?;
        let stop = CancellationToken::new();
        let channel = DataChannel::new(target.into(), options, stop.clone());
        let label = label(options.dialect, &options.name, target);
        let link = Link::new(
            self.client().clone(),
            link_options,
            Arc::default(),
            messages(label, options),
        );
        let task = ChannelTask::new(&channel, on_open);
        tokio::spawn(task.run(link, stopped(stop, self.ownership_lost())));
        Ok(channel)
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

/// The content of a channel's connections; the initiator opens the channel with `label`.
fn messages(label: String, options: &DataChannelOptions) -> ContentOf {
    // To the stack, 0 bytes would mean no limit.
    let high_water_bytes = options.high_water_bytes.max(1);
    content_of(move |_| ConnectionContent::Messages {
        label: label.clone(),
        high_water_bytes,
    })
}

/// The label with which the initiator opens its channel, as the official clients make it.
fn label(dialect: Dialect, name: &str, target: &str) -> String {
    match dialect {
        Dialect::Current => format!("dc-{name}-{target}"),
        Dialect::Legacy => format!("channel-{target}"),
    }
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
