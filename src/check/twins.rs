//! Checks the node's own twin and each camera's: their ids come in, what the hub knows of them and findings go out. An id that the
//! hub does not know may be the id of a device; if the hub's answers prove that, the finding says so.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::finding::{Finding, Report};
use super::hub::{ACK_LIMIT, JoinedHub};
use crate::config::{CameraConfig, Config, Connect};
use twinsight_client::hub::message::Twin;
use twinsight_client::hub::text::brief;
use twinsight_client::hub::{HubError, HubOptions};

const WHERE: &str = "twin ids are found in the console beside the device id, and in what the twin's own app gets as TWIN_ID";

/// A question that only helps to explain a finding may take this long.
const ASIDE_LIMIT: Duration = Duration::from_secs(5);

/// Whether a camera's twin was found.
#[derive(Debug)]
pub(super) enum CameraTwin {
    /// It was found, and signals reach it.
    Known(Twin),
    /// It was not found, or signals do not reach it, and a finding says so.
    Unusable,
}

/// Why a twin was not found.
enum Missing {
    /// The hub says that there is none, with this message.
    Unknown(String),
    /// The hub did not answer, for this reason.
    NoAnswer(String),
}

/// Looks the node's own twin and every camera's up, in the order of the configuration. The result is empty without a hub.
pub(super) async fn check(
    config: &Config,
    hub: &HubOptions,
    joined: Option<&JoinedHub>,
    report: &mut Report<'_>,
) -> Vec<CameraTwin> {
    let own_subject = match hub.twin_id.as_str() {
        "" => "own twin".to_owned(),
        id => format!("own twin {id}"),
    };
    let Some(joined) = joined else {
        let certain = !hub.twin_id.is_empty() && hub.twin_id == hub.device_id;
        report.add(if certain {
            Finding::fail(own_subject, own_device_id_found(), own_device_id_remedy())
        } else {
            Finding::skip(own_subject, "the hub is not joined")
        });
        return Vec::new();
    };
    let own = look_up(joined, &joined.twin_id).await;
    let cameras = config.cameras.iter();
    // All are looked up at the same time, so that a hub that does not answer costs its time limit once.
    let found = join_all(cameras.map(|camera| look_up(joined, &camera.id.twin_id))).await;
    let unknown = own.is_err() || found.iter().any(Result::is_err);
    let known = Known {
        device_ids: device_ids(hub, joined, own.as_ref().ok(), unknown).await,
        twins: {
            let mut twins: Vec<Twin> = own.iter().chain(found.iter().flatten()).cloned().collect();
            if unknown {
                twins.extend(peripherals(joined).await);
            }
            twins
        },
    };
    report.add(own_finding(own_subject, hub, joined, &own, &known));
    let tenant = own.as_ref().map_or("", |twin| twin.tenant_id.as_str());
    config
        .cameras
        .iter()
        .zip(found)
        .map(|(camera, found)| {
            let (finding, twin) = camera_finding(camera, found, &joined.twin_id, tenant, &known);
            report.add(finding);
            twin
        })
        .collect()
}

/// What is known that tells the id of a device from the id of a twin.
struct Known {
    /// The ids of the device that the node runs on.
    device_ids: Vec<String>,
    /// The twins that the hub has shown.
    twins: Vec<Twin>,
}

impl Known {
    /// Explains an id that the hub does not know, for which it gave this message: what was found, and the remedy.
    fn explain(&self, id: &str, hub_message: &str) -> (String, String) {
        if let Some(twin) = self.twins.iter().find(|twin| twin.device_id == id) {
            return (
                format!(
                    "the hub knows no such twin: it is the device id of twin {}",
                    brief(&twin.id)
                ),
                format!("if {} is meant, write that; {WHERE}", brief(&twin.id)),
            );
        }
        if self.device_ids.iter().any(|known| known == id) {
            return (
                "the hub knows no such twin: it is the id of the device that this node runs on"
                    .to_owned(),
                format!("write the twin id instead of the device id; {WHERE}"),
            );
        }
        (
            format!("the hub knows no such twin ({hub_message})"),
            format!("correct it: it may be a device id, or a twin of another tenant; {WHERE}"),
        )
    }
}

fn own_device_id_found() -> &'static str {
    "it is DEVICE_ID, the id of the device, and no twin's"
}

pub(super) fn own_device_id_remedy() -> String {
    format!("set TWIN_ID (`hub.twin_id`) to the id of this app's own twin; {WHERE}")
}

fn own_finding(
    subject: String,
    hub: &HubOptions,
    joined: &JoinedHub,
    own: &Result<Twin, Missing>,
    known: &Known,
) -> Finding {
    let subject = match hub.twin_id.is_empty() {
        true => format!("own twin {}", joined.twin_id),
        false => subject,
    };
    let device_id = &hub.device_id;
    match own {
        Ok(twin) if twin.id != joined.twin_id => Finding::fail(
            subject,
            format!(
                "the hub gives twin {} for it: it is a device id",
                brief(&twin.id)
            ),
            format!("set TWIN_ID (`hub.twin_id`) to {}", brief(&twin.id)),
        ),
        Ok(twin)
            if !device_id.is_empty()
                && !twin.device_id.is_empty()
                && twin.device_id != *device_id =>
        {
            Finding::warn(
                subject,
                format!(
                    "the hub knows it, on device {}, and DEVICE_ID is {device_id}",
                    brief(&twin.device_id)
                ),
                "correct the one that is wrong: TWIN_ID or DEVICE_ID",
            )
        }
        Ok(twin) => Finding::ok(subject, described(twin)),
        Err(Missing::Unknown(_)) if *device_id == joined.twin_id => {
            Finding::fail(subject, own_device_id_found(), own_device_id_remedy())
        }
        Err(Missing::Unknown(hub_message)) => {
            let (found, remedy) = known.explain(&joined.twin_id, hub_message);
            Finding::fail(
                subject,
                found,
                remedy.replace("correct it:", "correct TWIN_ID (`hub.twin_id`):"),
            )
        }
        Err(Missing::NoAnswer(why)) => Finding::fail(
            subject,
            format!("it cannot be looked up ({why})"),
            "see what the hub logs about it",
        ),
    }
}

fn camera_finding(
    camera: &CameraConfig,
    found: Result<Twin, Missing>,
    own: &str,
    tenant: &str,
    known: &Known,
) -> (Finding, CameraTwin) {
    let id: &str = &camera.id.twin_id;
    let subject = format!("camera {} twin", camera.id);
    let unusable = |finding| (finding, CameraTwin::Unusable);
    let twin = match found {
        Ok(twin) => twin,
        Err(Missing::Unknown(hub_message)) => {
            let (found, remedy) = known.explain(id, &hub_message);
            let remedy = remedy.replace("correct it:", "correct the camera's `twin_id`:");
            return unusable(Finding::fail(subject, found, remedy));
        }
        Err(Missing::NoAnswer(why)) => {
            return unusable(Finding::fail(
                subject,
                format!("it cannot be looked up ({why})"),
                "see what the hub logs about it",
            ));
        }
    };
    if id == own {
        return unusable(Finding::fail(
            subject,
            "it is the node's own twin",
            "set the camera's `twin_id` to the camera's twin",
        ));
    }
    if twin.id != id {
        return unusable(Finding::fail(
            subject,
            format!(
                "the hub gives twin {} for it: it is a device id",
                brief(&twin.id)
            ),
            format!("set the camera's `twin_id` to {}", brief(&twin.id)),
        ));
    }
    if !tenant.is_empty() && !twin.tenant_id.is_empty() && twin.tenant_id != tenant {
        return unusable(Finding::fail(
            subject,
            format!(
                "it is of tenant {}, and this node is of tenant {}: the hub passes nothing between tenants",
                brief(&twin.tenant_id),
                brief(tenant)
            ),
            "move the camera or the node into one tenant, or correct the camera's `twin_id`",
        ));
    }
    let finding = if camera.connect == Connect::Accept && twin.r#type == "Peripheral" {
        Finding::warn(
            subject,
            format!(
                "{}; a peripheral that dials signs with its app's Edge twin, and would be refused",
                described(&twin)
            ),
            "set the camera's `twin_id` to the Edge twin of its app, or `connect` to \"dial\"",
        )
    } else {
        Finding::ok(subject, described(&twin))
    };
    (finding, CameraTwin::Known(twin))
}

fn described(twin: &Twin) -> String {
    let mut text = "the hub knows it".to_owned();
    for (what, value) in [
        ("type", &twin.r#type),
        ("tenant", &twin.tenant_id),
        ("status", &twin.status),
    ] {
        if !value.is_empty() {
            text += &format!(", {what} {}", brief(value));
        }
    }
    text
}

async fn look_up(joined: &JoinedHub, twin_id: &str) -> Result<Twin, Missing> {
    match tokio::time::timeout(ACK_LIMIT, joined.client.get_twin(twin_id)).await {
        Ok(Ok(twin)) => Ok(twin),
        Ok(Err(HubError::NoSuchTwin { .. })) => {
            Err(Missing::Unknown("its answer holds none".to_owned()))
        }
        Ok(Err(HubError::Rejected { message, .. })) => Err(Missing::Unknown(message)),
        Ok(Err(error)) => Err(Missing::NoAnswer(error.to_string())),
        Err(_) => Err(Missing::NoAnswer(format!(
            "no answer within {} s",
            ACK_LIMIT.as_secs()
        ))),
    }
}

/// The ids of the device that the node runs on, from all places that tell one.
async fn device_ids(
    hub: &HubOptions,
    joined: &JoinedHub,
    own: Option<&Twin>,
    ask: bool,
) -> Vec<String> {
    let mut ids = vec![hub.device_id.clone()];
    ids.extend(own.map(|twin| twin.device_id.clone()));
    if ask && let Some(status) = aside(joined, "getDeviceStatus", json!({})).await {
        ids.extend(status["deviceId"].as_str().map(str::to_owned));
    }
    ids.retain(|id| !id.is_empty());
    ids
}

/// The peripherals of the node's own app, since cameras may be among them.
async fn peripherals(joined: &JoinedHub) -> Vec<Twin> {
    let payload = json!({ "data": { "instanceId": joined.twin_id } });
    let Some(mut answer) = aside(joined, "getPeripheralTwins", payload).await else {
        return Vec::new();
    };
    match answer.get_mut("twins").map(Value::take) {
        Some(Value::Array(twins)) => twins.into_iter().filter_map(Twin::from_value).collect(),
        _ => Vec::new(),
    }
}

/// Asks the hub something that helps to explain a finding and is not needed; `None` if there is no answer.
async fn aside(joined: &JoinedHub, method: &str, payload: Value) -> Option<Value> {
    let call = joined.client.call(method, payload);
    tokio::time::timeout(ASIDE_LIMIT, call).await.ok()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        Known {
            device_ids: vec!["dev-node".to_owned()],
            twins: vec![Twin {
                id: "cam-a".to_owned(),
                device_id: "dev-a".to_owned(),
                ..Twin::default()
            }],
        }
    }

    #[test]
    fn a_device_id_is_told_for_certain_where_the_hub_shows_it() {
        let (found, remedy) = known().explain("dev-a", "no");
        assert!(
            found.ends_with("it is the device id of twin cam-a"),
            "{found}"
        );
        assert!(
            remedy.starts_with("if cam-a is meant, write that"),
            "{remedy}"
        );
        let (found, _) = known().explain("dev-node", "no");
        assert!(
            found.ends_with("the device that this node runs on"),
            "{found}"
        );
        let (found, remedy) = known().explain("nobody", "no");
        assert_eq!(found, "the hub knows no such twin (no)");
        assert!(remedy.contains("it may be a device id"), "{remedy}");
    }

    #[test]
    fn a_hub_that_finds_twins_by_their_device_gives_the_twin() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "[[cameras]]\ntwin_id = \"dev-a\"").unwrap();
        let env = [
            ("PHYSTACK_SIMULATOR_URL", "http://hub"),
            ("TWIN_ID", "node-1"),
        ];
        let config = Config::load(Some(file.path()), &env.into_iter().collect()).unwrap();
        let twin = known().twins.remove(0);
        let (finding, found) =
            camera_finding(&config.cameras[0], Ok(twin), "node-1", "home", &known());
        assert!(matches!(found, CameraTwin::Unusable));
        assert_eq!(
            finding.to_string(),
            "fail  camera dev-a/default twin: the hub gives twin cam-a for it: it is a device id; \
             set the camera's `twin_id` to cam-a"
        );
    }
}
