//! What `demo` and `capacity` run around a node on the loopback address: a hub, camera twins that play a clip, and the
//! configuration that connects the node to them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::camera::{CameraOptions, run as run_camera};
use super::hub::{DevHubError, DevHubOptions};
use crate::config::{Config, ConfigSource, Settings};
use twinsight_client::hub::client::HubClient;
use twinsight_client::hub::options::HubOptions;
use twinsight_client::realtime::ice::IceSettings;
use twinsight_media::h264::clip::Clip;

/// The hub may take this long to end, until all clients have left.
const HUB_LIMIT: Duration = Duration::from_secs(3);

/// Variables of the environment that would connect the node to another hub or other cameras begin like this.
const ELSEWHERE: &[&str] = &[
    "TWINSIGHT_HUB__",
    "TWINSIGHT_ICE__",
    "TWINSIGHT_DEFAULTS__CONNECT",
    "TWINSIGHT_DEFAULTS__STREAM",
    "TWINSIGHT_DEFAULTS__CODECS",
    "TWINSIGHT_DEFAULTS__DIALECT",
];

/// A development hub on the loopback address.
#[derive(Debug)]
pub(super) struct LoopbackHub {
    pub(super) url: String,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), DevHubError>>,
}

impl LoopbackHub {
    /// Starts a hub on a port that the system chooses.
    pub(super) async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .context("cannot listen on the loopback address")?;
        let url = format!("http://{}", listener.local_addr()?);
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(super::hub::run(listener, DevHubOptions::default(), async {
            drop(stopped.await)
        }));
        Ok(Self { url, stop, task })
    }

    /// Stops the hub and waits for its end.
    pub(super) async fn stop(self) {
        let _ = self.stop.send(());
        let _ = tokio::time::timeout(HUB_LIMIT, self.task).await;
    }
}

/// Connects a camera twin with the hub.
pub(super) fn camera_client(url: &str, id: &str) -> HubClient {
    HubClient::start(HubOptions::simulator(url, id))
}

/// Runs a camera twin that plays the clip, from the access unit `start` on, to every node that dials it.
pub(super) fn camera(
    client: HubClient,
    clip: Arc<Clip>,
    fps: f64,
    start: usize,
) -> impl Future<Output = Result<()>> + Send + 'static {
    let options = CameraOptions {
        stream: "default".to_owned(),
        dial: None,
        fps,
        start,
        ice: IceSettings {
            interfaces: vec!["lo".to_owned()],
            ..IceSettings::default()
        },
    };
    run_camera(client, clip, options)
}

/// Makes the configuration of a node with these cameras. Variables of the environment that configure the node's stages count;
/// those in `more` override them.
pub(super) fn node_config(
    env: &BTreeMap<String, String>,
    url: &str,
    node: &str,
    cameras: &[String],
    models_dir: &Path,
    more: impl IntoIterator<Item = (&'static str, String)>,
) -> Result<Config> {
    let source = node_source(env, url, node, cameras, models_dir, more)?;
    Ok(source.resolve(&Settings::default())?)
}

/// Where the configuration of [`node_config`] comes from, for a node that says so.
pub(super) fn node_source(
    env: &BTreeMap<String, String>,
    url: &str,
    node: &str,
    cameras: &[String],
    models_dir: &Path,
    more: impl IntoIterator<Item = (&'static str, String)>,
) -> Result<ConfigSource> {
    let mut variables: BTreeMap<String, String> = env
        .iter()
        .filter(|(name, _)| {
            name.starts_with("TWINSIGHT_") && !ELSEWHERE.iter().any(|away| name.starts_with(away))
        })
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    variables
        .entry("TWINSIGHT_HTTP__LISTEN".to_owned())
        .or_insert_with(|| "127.0.0.1:0".to_owned());
    let own = [
        ("PHYSTACK_SIMULATOR_URL", url.to_owned()),
        ("TWIN_ID", node.to_owned()),
        ("TWINSIGHT_CAMERAS", cameras.join(",")),
        ("TWINSIGHT_ICE__INTERFACES", "lo".to_owned()),
        (
            "TWINSIGHT_RUNTIME__MODELS_DIR",
            models_dir.display().to_string(),
        ),
    ];
    for (name, value) in own.into_iter().chain(more) {
        variables.insert(name.to_owned(), value);
    }
    Ok(ConfigSource::read(None, &variables.into_iter().collect())?)
}

/// A percentile of sorted values, or 0 if there are none.
pub(super) fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted
        .get(last * percent / 100)
        .copied()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_does_not_lead_the_node_elsewhere() {
        let env = BTreeMap::from(
            [
                ("TWINSIGHT_HUB__URL", "http://10.0.0.2:55000"),
                ("TWINSIGHT_DEFAULTS__CONNECT", "accept"),
                ("TWINSIGHT_DEFAULTS__MAX_AGE_MS", "300"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        let config = node_config(
            &env,
            "http://127.0.0.1:1",
            "node",
            &["camera-1".to_owned()],
            Path::new("models"),
            [("TWINSIGHT_DEFAULTS__MAX_FPS", "2".to_owned())],
        )
        .expect("it can be used");
        let hub = config.hub.expect("it is a simulator");
        assert_eq!(hub.url, "http://127.0.0.1:1");
        let camera = &config.cameras[0];
        assert_eq!(camera.connect, crate::config::Connect::Dial);
        assert_eq!(camera.max_age, Duration::from_millis(300));
        assert!((camera.max_fps - 2.0).abs() < f64::EPSILON);
    }
}
