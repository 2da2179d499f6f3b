//! STUN and TURN servers.

use super::*;
use twinsight_client::hub::TurnServer;

#[tokio::test]
async fn ice_servers_come_from_the_hub_then_from_the_operator() {
    let hub = Hub::start(DevHubOptions {
        ice_servers: vec![json!({ "urls": "turn:hub", "username": "u", "credential": "c" })],
        ..DevHubOptions::default()
    })
    .await;
    let mut options = hub.options("node");
    options.stun_url = Some("stun:operator".to_owned());
    options.turn = Some(TurnServer {
        url: "turn:operator".to_owned(),
        username: "u".to_owned(),
        credential: "c".to_owned().into(),
    });
    let client = HubClient::start(options);
    let urls = async || -> Vec<String> {
        let servers = soon("the servers", client.ice_servers()).await;
        servers.into_iter().flat_map(|server| server.urls).collect()
    };
    soon("joining", client.joined()).await.unwrap();
    assert_eq!(urls().await, ["turn:hub", "stun:operator", "turn:operator"]);
    hub.kill().await;
    away(&client).await;
    // Still fresh.
    assert_eq!(urls().await, ["turn:hub", "stun:operator", "turn:operator"]);
}

#[tokio::test]
async fn without_a_hubs_answer_the_operators_ice_servers_are_alone() {
    let rogue = Rogue::start().await;
    let mut options = rogue.options();
    options.timers.ice_servers = Duration::from_millis(300);
    options.stun_url = Some("stun:operator".to_owned());
    let client = HubClient::start(options);
    let mut peer = rogue.join(handshake()).await;
    soon("joining", client.joined()).await.unwrap();
    let (servers, ()) = tokio::join!(soon("the servers", client.ice_servers()), async {
        let (_, payload) = heard_call(&mut peer).await;
        assert_eq!(payload["data"], json!({ "useCase": "media" }));
    });
    assert_eq!(servers.len(), 1);
    assert_eq!(servers[0].urls, ["stun:operator"]);
}
