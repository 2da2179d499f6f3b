//! A pool whose leases are in an etcd as operators run it: encrypted, with users, with certificates of clients. Passwords and
//! certificates are wrong at first, are changed, run out and are renewed while the node runs, which keeps its lease throughout.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::{DEADLINE, http_get, start_hub, twinsight};
use crate::etcd::{Authority, Etcd};
use crate::shard_pool::{CAMERAS, TestNode, cameras, until};
use twinsight::dev::hub::DevHubOptions;

const PASSWORD: &str = "password-of-the-nodes";

/// What `[node]` says to be in the pool of this etcd.
fn in_pool(name: &str, etcd: &Etcd, more: &str) -> String {
    format!(
        "[node]\nname = \"{name}\"\npool = \"test\"\n[node.lease]\nengine = \"etcd\"\nurl = \"{}\"\nduration_ms = 6000\n\
         ca_file = \"{}\"\n{more}",
        etcd.url(),
        etcd.file("ca.pem").display()
    )
}

fn login(etcd: &Etcd) -> String {
    let file = etcd.file("password");
    format!(
        "username = \"nodes\"\npassword_file = \"{}\"\n",
        file.display()
    )
}

fn certificate(cert: &Path, key: &Path) -> String {
    format!(
        "client_cert_file = \"{}\"\nclient_key_file = \"{}\"\n",
        cert.display(),
        key.display()
    )
}

/// What `check` says with this `[node]`, as one text.
async fn checked(node: &str) -> String {
    said("check", node).await
}

/// What a command says that ends by itself with this `[node]`, as one text.
async fn said(command: &'static str, node: &str) -> String {
    let config = format!("[hub]\nmode = \"none\"\n[http]\nlisten = \"127.0.0.1:0\"\n{node}");
    let running = tokio::task::spawn_blocking(move || {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("node.toml");
        std::fs::write(&file, config).unwrap();
        twinsight(&[command, "--config", file.to_str().unwrap()], &[])
    });
    let ended = running.await.unwrap();
    // Lines are broken to fit a terminal.
    let text = format!("{}{}", ended.out, ended.log);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn metric(node: &TestNode, name: &str) -> f64 {
    let metrics = http_get(node.http, "/metrics");
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap().trim().parse().unwrap()
}

/// The node never was without its lease.
fn kept_its_lease(node: &TestNode) {
    let lost = metric(node, "twinsight_pool_moves_total{direction=\"lost\"}");
    assert!(lost.abs() < 0.5, "{lost} cameras were lost");
    assert_eq!(node.held(), CAMERAS as u64);
}

async fn until_it_holds_all(node: &TestNode) {
    until("the node holds all cameras, and nothing is wrong", || {
        let share = node.share();
        share["held"] == CAMERAS && share["trouble"].is_null()
    })
    .await;
}

/// Waits until the node says this of the pool.
async fn until_it_says(node: &TestNode, sentence: &str) {
    let trouble = || {
        let share = node.share();
        share["trouble"].as_str().unwrap_or_default().to_owned()
    };
    let begun = Instant::now();
    while !trouble().contains(sentence) {
        assert!(
            begun.elapsed() < DEADLINE,
            "{sentence} is not in: {}",
            trouble()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Lets another node come, take its share and go, for which both write and read.
async fn lets_another_come_and_go(node: &TestNode, hub: &str, other: &str) {
    let other = TestNode::start_with("node-b", hub, other).await;
    until("the other node has its share", || {
        other.held() > 0 && node.held() + other.held() == CAMERAS as u64
    })
    .await;
    other.end().await;
    until_it_holds_all(node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_with_a_role_for_the_prefix_is_enough_and_tokens_run_out() {
    let tokens = [
        "--auth-token",
        "jwt,priv-key=secret,sign-method=HS256,ttl=1s",
    ];
    let (hub, mut etcd) = tokio::join!(
        start_hub(DevHubOptions::default()),
        Etcd::start_secured(None, &tokens)
    );
    cameras(&hub);
    etcd.add_user("nodes", PASSWORD);
    std::fs::write(etcd.file("password"), PASSWORD).unwrap();
    let with_login = login(&etcd);
    // The node has its user before etcd asks for it.
    let node = in_pool("node-a", &etcd, &with_login);
    let node = TestNode::start_with("node-a", &hub, &node).await;
    until_it_holds_all(&node).await;
    etcd.enable_users();
    let other = in_pool("node-b", &etcd, &with_login);
    lets_another_come_and_go(&node, &hub, &other).await;
    kept_its_lease(&node);

    // By now the first tokens have run out, and from here on all are of before a change.
    etcd.add_another_user();
    lets_another_come_and_go(&node, &hub, &other).await;
    kept_its_lease(&node);
    let found = checked(&in_pool("node-c", &etcd, &with_login)).await;
    let alone = "etcd is reached and can be written; 1 node of the pool lives (node-a)";
    assert!(found.contains(alone), "{found}");

    etcd.kill();
    etcd.restart().await;
    lets_another_come_and_go(&node, &hub, &other).await;
    kept_its_lease(&node);
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_that_does_not_let_the_node_in_is_named_with_what_to_do() {
    let short = ["--auth-token-ttl", "1"];
    let (hub, etcd) = tokio::join!(
        start_hub(DevHubOptions::default()),
        Etcd::start_secured(None, &short)
    );
    etcd.add_user("nodes", PASSWORD);
    etcd.enable_users();
    std::fs::write(etcd.file("password"), "a-wrong-password").unwrap();
    let node = in_pool("node-a", &etcd, &login(&etcd));
    let wrong = "authentication failed, invalid user ID or password";
    let correct =
        "correct `node.lease.username`, and the password in the file of `node.lease.password_file`";
    let found = checked(&node).await;
    assert!(found.contains(wrong) && found.contains(correct), "{found}");
    let node = TestNode::start_with("node-a", &hub, &node).await;
    let refused = "the node and etcd are not set up for each other: ";
    until_it_says(&node, refused).await;
    until_it_says(&node, correct).await;
    assert_eq!(node.held(), 0);
    let ready = http_get(node.http, "/readyz");
    assert!(ready.contains(wrong), "{ready}");
    // Whoever corrects the password has not to start the node again.
    std::fs::write(etcd.file("password"), PASSWORD).unwrap();
    until_it_holds_all(&node).await;

    for (what, wanted) in [
        (
            in_pool("node-c", &etcd, ""),
            "it lets in its users alone: give the node's as `node.lease.username`",
        ),
        (
            in_pool("node-c", &etcd, &login(&etcd)).replace("\"test\"", "\"yard\""),
            "to etcd the node is user `nodes`: give a role of it the rights to the pool's keys by `etcdctl role grant-permission ROLE \
             readwrite --prefix=true /twinsight/yard/`",
        ),
        (
            in_pool("node-c", &etcd, &login(&etcd)).replace("ca_file", "# ca_file"),
            "name the authority of etcd's certificate in `node.lease.ca_file`",
        ),
        (
            in_pool("node-c", &etcd, &login(&etcd)).replace("ca.pem", "ca-of-nobody.pem"),
            "ca-of-nobody.pem of `node.lease.ca_file` cannot be used (No such file or directory (os error 2))",
        ),
        (
            in_pool("node-c", &etcd, "")
                .replace("https://", "http://")
                .replace("ca_file", "# ca_file"),
            "it may speak TLS: use https:// in `node.lease.url`",
        ),
    ] {
        let found = checked(&what).await;
        assert!(found.contains(wanted), "{wanted}: {found}");
    }
    // What runs is not disturbed by others that are refused.
    kept_its_lease(&node);
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_certificate_is_taken_up_without_a_restart() {
    let before = Authority::new("authority of nodes");
    let (hub, mut etcd) = tokio::join!(
        start_hub(DevHubOptions::default()),
        Etcd::start_secured(Some(&before), &[])
    );
    let (cert, key) = (etcd.file("node.pem"), etcd.file("node-key.pem"));
    // etcd's reason comes after the handshake, and may be lost with the connection.
    let wants = [
        "etcd wants a certificate of a client, and takes none of this node",
        "it may ask for a certificate of its clients",
    ];
    let give = "`node.lease.client_cert_file` and `node.lease.client_key_file`";
    let found = checked(&in_pool("node-a", &etcd, "")).await;
    let is_named = wants.iter().any(|words| found.contains(words));
    assert!(is_named && found.contains(give), "{found}");
    let with_certificate = in_pool("node-a", &etcd, &certificate(&cert, &key));
    let found = checked(&with_certificate).await;
    let missing =
        "node.pem of `node.lease.client_cert_file` cannot be used (No such file or directory";
    assert!(found.contains(missing), "{found}");
    let ended = said("run", &with_certificate).await;
    assert!(ended.contains(missing), "{ended}");

    before.issue("nodes", &cert, &key);
    let node = TestNode::start_with("node-a", &hub, &with_certificate).await;
    until_it_holds_all(&node).await;

    // Another authority signs from now on, and what the old one has signed is worth nothing.
    let after = Authority::new("next authority of nodes");
    etcd.trust(&after);
    etcd.kill();
    let away =
        "see that etcd runs and can be reached from here, and correct `node.lease.url` if not";
    until_it_says(&node, "etcd does not answer: ").await;
    until_it_says(&node, away).await;
    let found = checked(&with_certificate).await;
    assert!(
        found.contains(away) && !found.contains("service account"),
        "{found}"
    );
    etcd.restart().await;
    until_it_says(&node, "the node and etcd are not set up for each other: ").await;
    // The renewal is half done, as a look between two writes would see it.
    let (next_cert, next_key) = (etcd.file("next.pem"), etcd.file("next-key.pem"));
    after.issue("nodes", &next_cert, &next_key);
    std::fs::rename(&next_cert, &cert).unwrap();
    until_it_says(&node, "node-key.pem is not that of the certificate in").await;
    std::fs::rename(&next_key, &key).unwrap();
    until_it_holds_all(&node).await;
    node.end().await;
}
