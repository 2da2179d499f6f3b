//! One connection to a broker, from CONNECT to its end. The lane's events and the board's states go in; what became of each is
//! counted, and why the connection ended comes out. The sink's task runs it, and makes a new client for each connection, so
//! that nothing of one is left in the next.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use rumqttc::{
    AsyncClient, Broker, ClientError, ConnAck, ConnectionError, Event, EventLoop, Incoming,
    LastWill, MqttOptions, Outgoing, PublishNotice, PublishOptions, PublishProperties, QoS,
    TlsConfiguration, Transport,
};
use tokio::net::TcpStream;

use super::super::unsettled::Unsettled;
use super::flight::{Cargo, Refused, land};
use super::home::HomeLink;
use super::silence::{Heard, watch};
use super::trouble::{Trouble, refusal};
use super::{MqttSink, OFFLINE, ONLINE};
use crate::clock::WallClock;
use crate::publish::lane::SinkEvent;
use crate::telemetry::ledger::EventDrop;
use twinsight_client::telemetry::CameraState;
use twinsight_client::tls::tls_config;

/// From the first packet to the broker's CONNACK, a connection may take this long.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// The client pings a broker to which it has sent nothing for this long.
const KEEP_ALIVE_S: u16 = 15;

/// So many messages may be on their way. What waits beyond that waits in the lane, where newer events take the place of older ones.
const IN_FLIGHT: usize = 8;

/// Messages that the client's own queue holds.
const CLIENT_QUEUE: usize = 4;

/// The longest packet that is taken from the broker.
const MAX_INCOMING_BYTES: u32 = 64 << 10;

/// Detections are dropped when they are older: here while they wait, and by the broker for whoever is slow.
const DETECTIONS_LIVE: Duration = Duration::from_secs(5);

/// A packet is longer than its topic and its payload by less than this.
const PACKET_OVERHEAD: usize = 64;

/// How a connection ended.
pub(super) enum End {
    /// The node stops, and the broker was told.
    Stopped,
    /// The connection is lost, or there was none. `reached` says whether there was.
    Lost { trouble: Trouble, reached: bool },
}

/// What the broker can do.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// The quality of service of what tells a change.
    qos: QoS,
    max_packet_bytes: usize,
}

impl Limits {
    fn new(connack: &ConnAck, qos: u8) -> Self {
        let properties = connack.properties.as_ref();
        let most = properties.and_then(|properties| properties.max_qos);
        let max_packet = properties.and_then(|properties| properties.max_packet_size);
        Self {
            qos: match qos.min(most.unwrap_or(2)) {
                0 => QoS::AtMostOnce,
                1 => QoS::AtLeastOnce,
                _ => QoS::ExactlyOnce,
            },
            max_packet_bytes: max_packet
                .and_then(|bytes| usize::try_from(bytes).ok())
                .unwrap_or(usize::MAX),
        }
    }

    fn fits(&self, topic: &str, payload: &[u8]) -> bool {
        topic.len() + payload.len() + PACKET_OVERHEAD <= self.max_packet_bytes
    }
}

impl MqttSink {
    /// Connects, sends until the connection ends, and says why it did. `was_reached` says whether an earlier one came about.
    pub(super) async fn connection(&self, was_reached: bool) -> End {
        let ca_file = self.config.ca_file.as_ref();
        let ca_file = ca_file.map(|file| file.display().to_string());
        let trouble = |error| Trouble::of(error, &self.client_id, ca_file.as_deref());
        let not_reached = |trouble| End::Lost {
            trouble,
            reached: false,
        };
        let mut options = match self.options(self.client_id.clone()) {
            Ok(options) => options,
            Err(trouble) => return not_reached(trouble),
        };
        options.set_last_will(LastWill::new(
            self.topics.status(),
            OFFLINE,
            QoS::AtLeastOnce,
            true,
            None,
        ));
        let (client, mut event_loop) = AsyncClient::builder(options).capacity(CLIENT_QUEUE).build();
        let connack = tokio::select! {
            connack = connack(&mut event_loop) => match connack {
                Ok(connack) => connack,
                Err(error) => return not_reached(self.trouble(error, ca_file.as_deref())),
            },
            () = self.lane.closed() => return End::Stopped,
        };
        let limits = Limits::new(&connack, self.config.qos);
        let _connected = self.connected(was_reached);
        if let Some(home) = &self.home {
            // The broker may have forgotten everything.
            home.board.resend();
        }
        let heard = Heard::new();
        let lost = |trouble| End::Lost {
            trouble,
            reached: true,
        };
        tokio::select! {
            end = drive(&mut event_loop, &heard, self.home.as_ref()) => match end {
                Ok(()) => End::Stopped,
                Err(error) => lost(trouble(error)),
            },
            () = self.send_all(&client, limits) => End::Stopped,
            trouble = watch(&client, &heard) => lost(trouble),
            never = self.listen(&client) => match never {},
        }
    }

    /// Tries whether the broker lets the node in, by another client id than the node's and without a word about the node.
    pub(in crate::sinks) async fn probe(&self) -> Result<(), Trouble> {
        let ca_file = self.config.ca_file.as_ref();
        let ca_file = ca_file.map(|file| file.display().to_string());
        let options = self.options(format!("{}-check", self.client_id))?;
        let (client, mut event_loop) = AsyncClient::builder(options).capacity(CLIENT_QUEUE).build();
        let answered = tokio::time::timeout(CONNECT_LIMIT, connack(&mut event_loop)).await;
        match answered {
            Ok(Ok(_)) => {
                let _ = client.disconnect().await;
                Ok(())
            }
            Ok(Err(error)) => Err(self.trouble(error, ca_file.as_deref())),
            Err(_) => Err(Trouble::Connection("it did not answer in time".to_owned())),
        }
    }

    /// What an error before the broker's first word means.
    fn trouble(&self, error: ConnectionError, ca_file: Option<&str>) -> Trouble {
        let of = match self.config.tls {
            true => Trouble::of_encrypted,
            false => Trouble::of,
        };
        of(error, &self.client_id, ca_file)
    }

    fn options(&self, client_id: String) -> Result<MqttOptions, Trouble> {
        let config = &self.config;
        let (host, port) = (config.host.clone(), config.port);
        let mut options = MqttOptions::new(client_id, Broker::tcp(host.clone(), port));
        // The client would join host and port with a colon, which is no address of IP version 6.
        options.set_socket_connector(move |_, _| {
            let host = host.clone();
            async move {
                let stream = TcpStream::connect((host.as_str(), port)).await?;
                stream.set_nodelay(true)?;
                Ok(stream)
            }
        });
        if config.tls {
            let tls = tls_config(config.ca_file.as_deref())?;
            let tls = TlsConfiguration::Rustls(Arc::new(tls));
            options.set_transport(Transport::tls_with_config(tls));
        }
        match (&config.username, &config.password) {
            (Some(user), Some(password)) => {
                let password = Bytes::copy_from_slice(password.expose().as_bytes());
                options.set_credentials(user.clone(), password);
            }
            (Some(user), None) => {
                options.set_username(user.clone());
            }
            (None, Some(password)) => {
                options.set_password(Bytes::copy_from_slice(password.expose().as_bytes()));
            }
            (None, None) => {}
        }
        options.set_keep_alive(KEEP_ALIVE_S);
        options.set_clean_start(true);
        options.set_session_expiry_interval(Some(0));
        options.set_connect_timeout(CONNECT_LIMIT);
        options.set_max_packet_size(Some(MAX_INCOMING_BYTES));
        Ok(options)
    }

    /// Sends what comes until the node stops, and then says goodbye. The other parts of the connection notice when it ends.
    async fn send_all(&self, client: &AsyncClient, limits: Limits) {
        let mut flying = FuturesUnordered::new();
        // What the broker has kept is of before. Whoever hears `online` takes it for news, so it is put right first.
        for _ in 0..self.home.as_ref().map_or(0, |home| home.board.due()) {
            if flying.len() >= IN_FLIGHT {
                self.complain(flying.next().await.flatten());
            }
            let (topic, payload) = self.next_state().await;
            let sent = self.send_state(client, limits, topic, payload).await;
            flying.extend(sent.map(|(cargo, topic, notice)| land(cargo, topic, notice)));
        }
        let status = self.topics.status();
        let online = Bytes::from_static(ONLINE.as_bytes());
        match publish(client, &status, online, limits.qos, true).await {
            Ok(notice) => flying.push(land(Cargo::Own, status.clone(), notice)),
            Err(_) => return std::future::pending().await,
        }
        self.lane.resend_statuses();
        loop {
            let has_room = flying.len() < IN_FLIGHT;
            let sent = tokio::select! {
                Some(refused) = flying.next(), if !flying.is_empty() => {
                    self.complain(refused);
                    continue;
                }
                event = self.lane.next(), if has_room => match event {
                    Some(event) => self.send(client, limits, event).await,
                    None => break,
                },
                (topic, payload) = self.next_state(), if has_room => {
                    self.send_state(client, limits, topic, payload).await
                }
            };
            if let Some((cargo, topic, notice)) = sent {
                flying.push(land(cargo, topic, notice));
            }
        }
        while let Some(refused) = flying.next().await {
            self.complain(refused);
        }
        let offline = Bytes::from_static(OFFLINE.as_bytes());
        if let Ok(notice) = publish(client, &status, offline, limits.qos, true).await {
            let _ = notice.wait_async().await;
        }
        let _ = client.disconnect().await;
        // The connection ends once this was written.
        std::future::pending().await
    }

    /// Hands an event to the client.
    async fn send(
        &self,
        client: &AsyncClient,
        limits: Limits,
        event: SinkEvent,
    ) -> Option<(Cargo<'_>, String, PublishNotice)> {
        let age = event.age(Instant::now());
        let is_frame = event.inferred().is_some();
        let is_removed = event
            .status()
            .is_some_and(|status| status.state == CameraState::Removed);
        let topic = self.topics.of(event.stream(), event.event_type());
        let payload = Bytes::from(self.lane.json(&event, &WallClock::read()).to_string());
        let unsettled = Unsettled::new(&self.lane, event);
        if is_frame && age > DETECTIONS_LIVE {
            unsettled.settle(Err(EventDrop::Stale));
            return None;
        }
        if !limits.fits(&topic, &payload) {
            unsettled.settle(Err(EventDrop::Refused));
            self.complain(Some(Refused {
                topic,
                reason: format!("it takes {} bytes at most", limits.max_packet_bytes),
            }));
            return None;
        }
        if is_removed {
            // Who listens gets the last state, and nobody finds it later.
            let told = self.retire(client, limits, &topic, payload).await;
            unsettled.settle(told);
            return None;
        }
        let qos = if is_frame {
            QoS::AtMostOnce
        } else {
            limits.qos
        };
        let notice = publish(client, &topic, payload, qos, !is_frame)
            .await
            .ok()?;
        Some((Cargo::Event(unsettled), topic, notice))
    }

    /// Tells that a camera was removed, and takes its retained state away.
    async fn retire(
        &self,
        client: &AsyncClient,
        limits: Limits,
        topic: &str,
        payload: Bytes,
    ) -> Result<(), EventDrop> {
        let told = publish(client, topic, payload, limits.qos, false).await;
        let cleared = publish(client, topic, Bytes::new(), limits.qos, true).await;
        let (Ok(told), Ok(cleared)) = (told, cleared) else {
            return Err(EventDrop::SinkUnreachable);
        };
        let result = told.wait_completion_async().await;
        let _ = cleared.wait_async().await;
        result.map_err(|error| match refusal(&error) {
            Some(_) => EventDrop::Refused,
            None => EventDrop::SinkUnreachable,
        })
    }

    async fn send_state(
        &self,
        client: &AsyncClient,
        limits: Limits,
        topic: String,
        payload: Bytes,
    ) -> Option<(Cargo<'_>, String, PublishNotice)> {
        let home = self.home.as_ref()?;
        if !limits.fits(&topic, &payload) {
            let reason = format!("it takes {} bytes at most", limits.max_packet_bytes);
            self.complain(Some(Refused { topic, reason }));
            return None;
        }
        let notice = publish(client, &topic, payload.clone(), limits.qos, true)
            .await
            .ok()?;
        Some((Cargo::State(&home.board, payload), topic, notice))
    }

    async fn next_state(&self) -> (String, Bytes) {
        match &self.home {
            Some(home) => home.board.next().await,
            None => std::future::pending().await,
        }
    }

    async fn listen(&self, client: &AsyncClient) -> std::convert::Infallible {
        match &self.home {
            Some(home) => home.listen(client).await,
            None => std::future::pending().await,
        }
    }
}

async fn connack(event_loop: &mut EventLoop) -> Result<ConnAck, ConnectionError> {
    loop {
        if let Event::Incoming(Incoming::ConnAck(connack)) = event_loop.poll().await? {
            return Ok(connack);
        }
    }
}

/// Reads and writes until the connection ends: with `Ok` after a goodbye.
async fn drive(
    event_loop: &mut EventLoop,
    heard: &Heard,
    home: Option<&HomeLink>,
) -> Result<(), ConnectionError> {
    loop {
        match event_loop.poll().await {
            Ok(Event::Incoming(packet)) => {
                heard.now();
                if let (Incoming::Publish(message), Some(home)) = (packet, home) {
                    home.received(&message);
                }
            }
            Ok(Event::Outgoing(Outgoing::Disconnect)) | Err(ConnectionError::RequestsDone) => {
                return Ok(());
            }
            Ok(_) => {}
            Err(error) => return Err(error),
        }
    }
}

async fn publish(
    client: &AsyncClient,
    topic: &str,
    payload: Bytes,
    qos: QoS,
    retain: bool,
) -> Result<PublishNotice, ClientError> {
    let expiry = (!retain && qos == QoS::AtMostOnce).then_some(DETECTIONS_LIVE);
    let properties = PublishProperties {
        message_expiry_interval: expiry.and_then(|live| u32::try_from(live.as_secs()).ok()),
        ..PublishProperties::default()
    };
    let options = PublishOptions::new(qos)
        .retain(retain)
        .properties(properties);
    client.publish_tracked(topic, payload, options).await
}
