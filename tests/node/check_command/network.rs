//! TURN servers and ports.

use std::net::UdpSocket;

use super::*;
use crate::common::NodeProcess;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn turn_over_tcp() {
    let lacks = "it asks for TURN over TCP or TLS, which the WebRTC stack of this build does not have: it is left \
                 out; offer TURN over UDP: `turn:HOST:3478` without `?transport=tcp`";
    let url = start_hub(DevHubOptions {
        ice_servers: vec![
            json!({"urls": ["turn:turn.example:3478?transport=udp", "turn:turn.example:3478?transport=tcp"], "username": "u", "credential": "hunter2"}),
            json!({"urls": "stun:stun.example:3478"}),
        ],
        ..DevHubOptions::default()
    })
    .await;
    let both = Check::run(&url, "", &[]);
    both.fails(0);
    both.says(
        "warn",
        "ICE server turn:turn.example:3478?transport=tcp of the hub",
        lacks,
    );
    both.says("ok", "ICE servers", "STUN: 1, TURN over UDP: 1, policy all");
    assert!(!both.0.out.contains("hunter2"));

    let url = start_hub(DevHubOptions::default()).await;
    let own = Check::run(
        &url,
        "",
        &[
            ("PHYSTACK_TURN_URL", "turns:turn.example:443"),
            ("PHYSTACK_TURN_USERNAME", "u"),
            ("PHYSTACK_TURN_CREDENTIAL", "hunter2"),
        ],
    );
    own.fails(2);
    own.says(
        "fail",
        "ICE server turns:turn.example:443 of PHYSTACK_TURN_URL or PHYSTACK_STUN_URL",
        lacks,
    );
    own.says(
        "fail",
        "ice.policy relay",
        "there is no usable TURN server over UDP, so no camera can be connected; set PHYSTACK_TURN_URL to one \
         (`turn:HOST:3478`), or `ice.policy` to \"all\" where cameras are reached directly",
    );
    assert!(!own.0.out.contains("hunter2"));

    // A TURN server that takes UDP, by its URL, and is not there.
    let gone = unused_address();
    let absent = Check::run(
        &url,
        &camera("cam", ""),
        &[
            ("PHYSTACK_TURN_URL", &format!("turn:{gone}")),
            ("PHYSTACK_TURN_USERNAME", "u"),
            ("PHYSTACK_TURN_CREDENTIAL", "hunter2"),
        ],
    );
    absent.fails(1);
    absent.begins(
        "fail",
        "camera cam/default",
        "no TURN server gave this node an address, and `ice.policy` is \"relay\"; see that the TURN server runs, ",
    );
    let anonymous = Check::run(&url, "", &[("PHYSTACK_TURN_URL", "turn:turn.example")]);
    anonymous.fails(1);
    anonymous.says(
        "warn",
        "ICE server turn:turn.example of PHYSTACK_TURN_URL or PHYSTACK_STUN_URL",
        "it has no user name or no credential; set PHYSTACK_TURN_USERNAME and PHYSTACK_TURN_CREDENTIAL, or correct \
         what the hub gives",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn udp_ports_that_others_have() {
    let url = start_hub(DevHubOptions::default()).await;
    // Two neighbouring ports on every address of loopback.
    let (first, _held) = (20_000..40_000)
        .step_by(2)
        .find_map(|port| {
            let mut held = Vec::new();
            for port in [port, port + 1] {
                held.push(UdpSocket::bind(("127.0.0.1", port)).ok()?);
                held.extend(UdpSocket::bind(("::1", port)));
            }
            Some((port, held))
        })
        .unwrap();
    let range = format!("{first}-{}", first + 1);
    let config = format!(
        "[ice]\nudp_ports = \"{range}\"\n{}{}",
        camera("cam-a", ""),
        camera("cam-b", "connect = \"accept\"\n")
    );
    let check = Check::run(&url, &config, &[]);
    check.fails(1);
    check.says(
        "fail",
        &format!("ice.udp_ports {range}"),
        "0 of 2 ports are free, and 2 are needed, one for each camera stream; stop what has the others \
         (`ss -lunp` lists it), or widen the range",
    );
    check.says(
        "skip",
        "camera cam-a/default",
        "skipped, because there is no free UDP port",
    );
    let interfaces = Check::run(&url, "", &[("TWINSIGHT_ICE__INTERFACES", "eth99")]);
    interfaces.fails(1);
    interfaces.begins(
        "fail",
        "ice.interfaces",
        "no usable address on the interfaces",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_of_the_node_that_is_taken() {
    let url = start_hub(DevHubOptions::default()).await;
    let node = NodeProcess::start(
        "",
        &[("TWIN_ID", "node-1"), ("PHYSTACK_SIMULATOR_URL", &url)],
    )
    .await;
    let listening = |address: SocketAddr| format!("[http]\nlisten = \"{address}\"\n");
    let running = Check::of(&url, &listening(node.http), &[]);
    running.fails(0);
    running.says(
        "warn",
        &format!("http.listen {}", node.http),
        "a node runs here already, and it is healthy; stop it before you start another with this address; its \
         UDP ports count as taken below",
    );
    // The hub's own port: what answers there is no node.
    let hub: SocketAddr = url.trim_start_matches("http://").parse().unwrap();
    let other = Check::of(&url, &listening(hub), &[]);
    other.fails(1);
    other.says(
        "fail",
        &format!("http.listen {hub}"),
        "in use by something that is not a node; stop what listens there, or set `http.listen` to another port",
    );
    let elsewhere = Check::of(&url, "[http]\nlisten = \"192.0.2.1:9464\"\n", &[]);
    elsewhere.fails(1);
    elsewhere.begins(
        "fail",
        "http.listen 192.0.2.1:9464",
        "cannot listen on 192.0.2.1:9464 (",
    );
}
