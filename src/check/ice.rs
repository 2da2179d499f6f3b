//! Checks the STUN and TURN servers of the hub and of the configuration: their URLs come in; findings about what the WebRTC stack
//! can do with them, and the servers to dial with, go out.

use super::finding::{Finding, Report};
use super::hub::{ACK_LIMIT, JoinedHub};
use crate::config::Config;
use twinsight_client::hub::HubOptions;
use twinsight_client::hub::message::IceServer;
use twinsight_client::realtime::ice::{ServerKind, server_kind, shown_url};

const TURN_OVER_UDP: &str = "offer TURN over UDP: `turn:HOST:3478` without `?transport=tcp`";

/// Who names a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ServerOrigin {
    Hub,
    Operator,
}

/// Checks all servers, and gives the settings that the cameras are dialled with.
pub(super) async fn check(
    config: &Config,
    hub: &HubOptions,
    joined: Option<&JoinedHub>,
    report: &mut Report<'_>,
) -> Vec<IceServer> {
    let mut servers: Vec<(ServerOrigin, IceServer)> = Vec::new();
    match joined {
        Some(joined) => match ask(joined).await {
            Ok(list) => servers.extend(list.into_iter().map(|server| (ServerOrigin::Hub, server))),
            Err(why) => report.add(Finding::warn(
                "ICE servers of the hub",
                why,
                "see what the hub logs; without them only cameras that this machine reaches directly, or by PHYSTACK_TURN_URL, are connected",
            )),
        },
        None => report.add(Finding::skip(
            "ICE servers of the hub",
            "the hub is not joined",
        )),
    }
    let own = hub.static_ice_servers();
    servers.extend(
        own.into_iter()
            .map(|server| (ServerOrigin::Operator, server)),
    );
    judge(config.ice.relay_only, &servers, report);
    servers.into_iter().map(|(_, server)| server).collect()
}

async fn ask(joined: &JoinedHub) -> Result<Vec<IceServer>, String> {
    let payload = serde_json::json!({ "data": { "useCase": "media" } });
    let call = joined.client.call("getIceServers", payload);
    match tokio::time::timeout(ACK_LIMIT, call).await {
        Ok(Ok(answer)) => {
            IceServer::list_from_value(&answer).ok_or("the answer holds no list".to_owned())
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", ACK_LIMIT.as_secs())),
    }
}

fn judge(relay_only: bool, servers: &[(ServerOrigin, IceServer)], report: &mut Report<'_>) {
    let urls = || {
        servers
            .iter()
            .flat_map(|(source, server)| server.urls.iter().map(move |url| (*source, server, url)))
    };
    let usable = urls()
        .filter(|(_, server, url)| {
            server_kind(url) == ServerKind::TurnUdp && has_credentials(server)
        })
        .count();
    for (source, server, url) in urls() {
        let from = match source {
            ServerOrigin::Hub => "of the hub",
            ServerOrigin::Operator => "of PHYSTACK_TURN_URL or PHYSTACK_STUN_URL",
        };
        let subject = format!("ICE server {} {from}", shown_url(url));
        let kind = server_kind(url);
        match kind {
            ServerKind::TurnTcp => {
                let found = "it asks for TURN over TCP or TLS, which the WebRTC stack of this build does not have: it is left out";
                report.add(if relay_only && usable == 0 {
                    Finding::fail(subject, found, TURN_OVER_UDP)
                } else {
                    Finding::warn(subject, found, TURN_OVER_UDP)
                });
            }
            ServerKind::StunTls => report.add(Finding::warn(
                subject,
                "it asks for STUN over TLS, which the WebRTC stack of this build does not have: it is left out",
                "offer STUN over UDP: `stun:HOST:3478`",
            )),
            ServerKind::Unknown => report.add(Finding::warn(
                subject,
                "it is neither `stun:HOST:PORT` nor `turn:HOST:PORT`",
                "correct it where it comes from",
            )),
            ServerKind::TurnUdp if !has_credentials(server) => report.add(Finding::warn(
                subject,
                "it has no user name or no credential",
                "set PHYSTACK_TURN_USERNAME and PHYSTACK_TURN_CREDENTIAL, or correct what the hub gives",
            )),
            ServerKind::Stun | ServerKind::TurnUdp => {}
        }
    }
    let stun = urls()
        .filter(|(_, _, url)| server_kind(url) == ServerKind::Stun)
        .count();
    if relay_only && usable == 0 {
        report.add(Finding::fail(
            "ice.policy relay",
            "there is no usable TURN server over UDP, so no camera can be connected",
            "set PHYSTACK_TURN_URL to one (`turn:HOST:3478`), or `ice.policy` to \"all\" where cameras are reached directly",
        ));
    } else {
        let policy = if relay_only { "relay" } else { "all" };
        report.add(Finding::ok(
            "ICE servers",
            format!("STUN: {stun}, TURN over UDP: {usable}, policy {policy}"),
        ));
    }
}

fn has_credentials(server: &IceServer) -> bool {
    let given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    given(&server.username) && given(&server.credential)
}
