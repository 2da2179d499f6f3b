//! The hub as bridges see it: a camera's id comes in, and the twin to speak as goes out. In simulator and phyos mode each camera is a
//! client of its own, which the streams of one twin share. In direct mode the device is the client, and cameras are its peripherals.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;

use crate::config::{CameraConfig, SourceConfig};
use crate::telemetry::metrics::Metrics;
use twinsight_client::hub::message::Twin;
use twinsight_client::hub::{
    HubClient, HubError, HubMode, HubOptions, HubStatus, Instance, PeripheralOptions,
};
use twinsight_client::telemetry::{ClientSink, HubLoss, Malformed, PacketRefusal, SignalRefusal};

/// To leave the hub may take this long.
const LEAVE_LIMIT: Duration = Duration::from_secs(1);

/// The key of the one client that all cameras share in direct mode.
const DEVICE: &str = "";

/// Where bridges get their clients of the hub.
#[derive(Debug)]
pub struct BridgeHub {
    options: HubOptions,
    metrics: Arc<Metrics>,
    /// True if nobody else in this program is on the hub, so that the node's metrics of the hub are those of the bridges.
    is_alone: bool,
    /// The device's client in direct mode, if somebody else has it already.
    device: Option<HubClient>,
    /// The clients by the twin that they join as.
    clients: Mutex<BTreeMap<Arc<str>, HubClient>>,
}

impl BridgeHub {
    /// The hub of a program that only bridges. Nothing is dialled before the first camera.
    pub fn alone(options: HubOptions, metrics: Arc<Metrics>) -> Self {
        Self {
            options,
            metrics,
            is_alone: true,
            device: None,
            clients: Mutex::default(),
        }
    }

    /// The hub of a node, which is on it already with a client of its own.
    pub fn of_node(options: HubOptions, metrics: Arc<Metrics>, node: &HubClient) -> Self {
        let is_device = options.mode == HubMode::Direct;
        Self {
            options,
            metrics,
            is_alone: false,
            // A device that joins twice would be told that somebody else has its twin.
            device: is_device.then(|| node.clone()),
            clients: Mutex::default(),
        }
    }

    /// True if cameras are peripherals of the device.
    pub(super) fn is_direct(&self) -> bool {
        self.options.mode == HubMode::Direct
    }

    /// The device that cameras are peripherals of.
    pub(super) fn device_id(&self) -> &str {
        &self.options.device_id
    }

    /// The twin that cameras dial which make the offer. Empty if nobody knows it.
    pub(super) fn node(&self) -> &str {
        &self.options.twin_id
    }

    /// The client of a camera's twin. It is made at the first call, and anew after the hub refused it.
    pub(super) fn client(&self, twin_id: &str) -> HubClient {
        if let Some(device) = &self.device {
            return device.clone();
        }
        let key = if self.is_direct() { DEVICE } else { twin_id };
        let mut clients = self.clients.lock();
        if let Some(client) = clients.get(key)
            && !matches!(*client.status().borrow(), HubStatus::Refused { .. })
        {
            return client.clone();
        }
        let options = HubOptions {
            twin_id: key.to_owned(),
            ..self.options.clone()
        };
        let sink = BridgeClientSink {
            metrics: Arc::clone(&self.metrics),
            counts_hub: self.is_alone,
        };
        let client = HubClient::start_counting(options, Some(Arc::new(sink)));
        clients.insert(key.into(), client.clone());
        client
    }

    /// Closes the clients of all twins but these.
    pub(super) async fn retain(&self, twins: &BTreeSet<Arc<str>>) {
        let gone: Vec<HubClient> = {
            let mut clients = self.clients.lock();
            // The device stays as long as any camera does.
            let is_wanted = |key: &Arc<str>| match &**key {
                DEVICE => !twins.is_empty(),
                _ => twins.contains(key),
            };
            let keys = clients.keys().filter(|key| !is_wanted(key));
            let keys: Vec<_> = keys.cloned().collect();
            keys.iter().filter_map(|key| clients.remove(key)).collect()
        };
        let closing = gone.iter().map(HubClient::close);
        let _ = tokio::time::timeout(LEAVE_LIMIT, join_all(closing)).await;
    }

    /// How each client stands with the hub, by the twin that it joins as. The device's own has an empty one.
    pub fn statuses(&self) -> Vec<(Arc<str>, HubStatus)> {
        let clients = self.clients.lock();
        clients
            .iter()
            .map(|(twin, client)| (Arc::clone(twin), client.status().borrow().clone()))
            .collect()
    }
}

/// The peripheral of this device that a camera is in direct mode: the twin of the configured id, or else the one with the camera's
/// hardware id, which is created if there is none.
///
/// # Errors
/// When the hub does not give one.
pub(super) async fn peripheral(
    client: &HubClient,
    device_id: &str,
    camera: &CameraConfig,
    source: &SourceConfig,
) -> Result<Instance, HubError> {
    let own = client.instance();
    let known = match client.get_twin(&camera.id.twin_id).await {
        Ok(twin) if twin.r#type == "Peripheral" => Some(twin),
        Ok(_) | Err(HubError::NoSuchTwin { .. } | HubError::Rejected { .. }) => None,
        Err(error) => return Err(error),
    };
    let text = |twin: &Twin, key: &str| {
        let value = twin.properties.desired.get(key)?.as_str()?;
        Some(value.to_owned())
    };
    if let Some(twin) = &known
        && text(twin, "instanceId") == Some(own.twin_id())
    {
        return client.peripheral_instance(&twin.id).await;
    }
    let hardware_id = known.and_then(|twin| text(&twin, "hardwareId"));
    let hardware_id = hardware_id.unwrap_or_else(|| hardware_id_of(device_id, source));
    let options = PeripheralOptions::new(&camera.name, hardware_id);
    Ok(own.create_peripheral(options).await?.instance)
}

/// What makes a camera this piece of hardware in its tenant. Addresses of cameras are private, and many networks have the same
/// ones, so that the device is a part of it. The hub is told this, so that no password may be in it.
fn hardware_id_of(device_id: &str, source: &SourceConfig) -> String {
    match source {
        SourceConfig::Rtsp(rtsp) => {
            let url = rtsp.url.url();
            let host = url.host_str().unwrap_or_default();
            let port = url.port().map(|port| format!(":{port}"));
            format!(
                "rtsp:{device_id}:{host}{}{}",
                port.unwrap_or_default(),
                rtsp.url.shown_path()
            )
        }
        SourceConfig::Device(path) => format!("device:{device_id}:{}", path.display()),
    }
}

/// Counts what a bridge's client of the hub tells. What becomes of the hub counts only where nobody else tells it.
#[derive(Debug)]
struct BridgeClientSink {
    metrics: Arc<Metrics>,
    counts_hub: bool,
}

impl ClientSink for BridgeClientSink {
    fn hub_connected(&self, _connected: bool, again: bool) {
        // Whether the hub is joined is said of all clients together, by whoever owns them.
        if self.counts_hub && again {
            self.metrics.hub_reconnects.inc();
        }
    }

    fn hub_lost(&self, reason: HubLoss) {
        if self.counts_hub {
            self.metrics.hub_lost(reason);
        }
    }

    fn twin_id_conflict(&self) {
        self.metrics.twin_id_conflict();
    }

    fn signal_refused(&self, reason: SignalRefusal) {
        self.metrics.signal_refused(reason);
    }

    fn malformed_input(&self, kind: Malformed) {
        self.metrics.malformed_input(kind);
    }

    fn rtp_packets_refused(&self, reason: PacketRefusal, count: u64) {
        self.metrics.rtp_packets_refused(reason, count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{RtspConfig, RtspTransport, RtspUrl};

    #[test]
    fn the_hardware_of_a_camera_is_its_address_in_the_network_of_its_device() {
        let (url, _) = RtspUrl::parse("rtsp://admin:secret@10.0.0.2:8554/a/b?c=d").unwrap();
        let source = SourceConfig::Rtsp(RtspConfig {
            url,
            credentials: None,
            transport: RtspTransport::Tcp,
        });
        assert_eq!(
            hardware_id_of("dev-1", &source),
            "rtsp:dev-1:10.0.0.2:8554/a/b"
        );
        let (url, _) = RtspUrl::parse("rtsp://10.0.0.2/user=a&password=hush&channel=1").unwrap();
        let source = SourceConfig::Rtsp(RtspConfig {
            url,
            credentials: None,
            transport: RtspTransport::Tcp,
        });
        assert_eq!(
            hardware_id_of("dev-1", &source),
            "rtsp:dev-1:10.0.0.2/user=a&password=***&channel=1"
        );
        let device = SourceConfig::Device("/dev/video0".into());
        assert_eq!(hardware_id_of("dev-1", &device), "device:dev-1:/dev/video0");
    }
}
