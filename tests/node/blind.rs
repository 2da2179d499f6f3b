//! What a node says of cameras that nobody sees and of a hub whose name is not known: in its log, to its probes and to
//! `twinsight health`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::common::{DEADLINE, NodeProcess, Outcome, fake, http_get, start_hub, twinsight};
use twinsight::dev::hub::DevHubOptions;

async fn health(address: SocketAddr) -> Outcome {
    let asking = tokio::task::spawn_blocking(move || {
        let listen = address.to_string();
        twinsight(
            &["health", "--cameras"],
            &[("TWINSIGHT_HTTP__LISTEN", &listen)],
        )
    });
    asking.await.unwrap()
}

/// The next change of a camera's state in the log that is this one.
async fn state(node: &mut NodeProcess, state: &str) -> Value {
    loop {
        let line = node.program.until("the camera's state changed").await;
        let line: Value = serde_json::from_str(&line).unwrap();
        if line["state"] == state {
            return line;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_that_is_not_seen_is_a_warning_and_its_return_tells_how_long_that_was() {
    let url = start_hub(DevHubOptions::default()).await;
    let env = [
        ("PHYSTACK_SIMULATOR_URL", url.as_str()),
        ("TWIN_ID", fake::NODE),
        ("TWINSIGHT_ICE__INTERFACES", "lo"),
    ];
    let mut node = NodeProcess::start("[[cameras]]\ntwin_id = \"cam-1\"\n", &env).await;
    let line = state(&mut node, "unreachable").await;
    assert_eq!(
        (&line["level"], &line["reason"]),
        (&"WARN".into(), &"no answer to the offer".into()),
        "{line}"
    );
    let unreachable_at = Instant::now();
    // What the probe tells is half a second old at most.
    let deadline = Instant::now() + DEADLINE;
    let blind = loop {
        let blind = health(node.http).await;
        if blind.out.contains("unreachable") || Instant::now() > deadline {
            break blind;
        }
    };
    blind.failed(1, "a camera is blind: do what the lines say");
    assert!(
        blind
            .out
            .starts_with("camera cam-1/default is unreachable for "),
        "{}",
        blind.out
    );
    assert!(
        blind.out.contains("`twinsight check` tries it"),
        "{}",
        blind.out
    );

    let _camera = fake::camera(&url, "cam-1", "default", None, 10.0);
    let line = state(&mut node, "receiving").await;
    let blind_for = line["blind_for_s"].as_u64().expect("it was blind");
    assert_eq!(line["level"], "INFO", "{line}");
    assert!(
        blind_for.abs_diff(unreachable_at.elapsed().as_secs()) <= 2,
        "{line}"
    );
    let deadline = Instant::now() + DEADLINE;
    let seen = loop {
        let seen = health(node.http).await;
        if seen.code == Some(0) || Instant::now() > deadline {
            break seen;
        }
    };
    assert_eq!(
        seen.out,
        format!(
            "the node at {} is healthy, and none of its cameras is blind\n",
            node.http
        )
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lines_of_the_probe_are_printed_without_what_controls_a_terminal() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let body = "camera a/default is stalled for 12 s: Its frames have stopped coming.\n\
                    camera b/\u{1b}[2J is rejected for 3 s: The connection is refused.\n";
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).await.unwrap();
            assert!(request[..length].starts_with(b"GET /healthz?cameras=1 HTTP/1.1\r\n"));
            let length = body.len();
            let answer = format!("HTTP/1.1 503 x\r\nContent-Length: {length}\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let outcome = health(address).await;
    outcome.failed(1, "2 cameras are blind: do what the lines say");
    assert_eq!(
        outcome.out,
        "camera a/default is stalled for 12 s: Its frames have stopped coming.\n\
         camera b/\\u{1b}[2J is rejected for 3 s: The connection is refused.\n"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_whose_name_is_not_known_is_told_as_check_tells_it() {
    let env = [
        ("PHYSTACK_SIMULATOR_URL", "http://hub.invalid:55000"),
        ("TWIN_ID", "node-1"),
    ];
    let mut node = NodeProcess::start("", &env).await;
    let line = node.program.until("the hub is away").await;
    let line: Value = serde_json::from_str(&line).unwrap();
    let sentence = "the host name `hub.invalid` cannot be resolved (";
    let remedy = "correct the address (PHYHUB_URL, PHYSTACK_SIMULATOR_URL or `hub.url`), or this machine's DNS";
    assert!(
        line["reason"].as_str().unwrap().starts_with(sentence),
        "{line}"
    );
    assert_eq!(line["remedy"], remedy);
    let deadline = Instant::now() + DEADLINE;
    loop {
        let ready = http_get(node.http, "/readyz");
        if ready.contains(sentence) && ready.contains(remedy) {
            break;
        }
        assert!(Instant::now() < deadline, "{ready}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
