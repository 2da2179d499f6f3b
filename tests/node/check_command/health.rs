//! `twinsight health`.

use super::*;
use twinsight::http::server::serve;
use twinsight::http::state::HttpState;
use twinsight::preview::Previews;
use twinsight::publish::feed::EventFeed;
use twinsight::telemetry::metrics::Metrics;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_health_of_a_node() {
    // No twin id, no hub: the address is all that it needs.
    let health = |address: SocketAddr| {
        twinsight(
            &["health"],
            &[("TWINSIGHT_HTTP__LISTEN", &address.to_string())],
        )
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let metrics = Arc::new(Metrics::new());
    let previews = Previews::new(Arc::clone(&metrics));
    let state = HttpState::new(metrics, EventFeed::new("run"), previews);
    let node_health = state.health.clone();
    let node = tokio::spawn(serve(listener, state, None, std::future::pending()));
    let healthy = health(address);
    assert_eq!((healthy.code, healthy.log.as_str()), (Some(0), ""));
    assert_eq!(healthy.out, format!("the node at {address} is healthy\n"));

    // By the file too, whatever else is wrong with it.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node.toml").display().to_string();
    fs::write(
        &file,
        format!("nonsense = 1\n[http]\nlisten = \"{address}\"\n"),
    )
    .unwrap();
    assert_eq!(twinsight(&["health", "--config", &file], &[]).code, Some(0));

    let _silent = node_health.register("publisher", Duration::ZERO, Instant::now());
    tokio::time::sleep(Duration::from_millis(60)).await;
    let unhealthy = health(address);
    assert_eq!(unhealthy.code, Some(1));
    assert!(
        unhealthy
            .log
            .starts_with("twinsight: the node is not healthy: publisher has not gone round for ")
            && unhealthy
                .log
                .trim_end()
                .ends_with(" s, and 0.0 s is the most"),
        "{}",
        unhealthy.log
    );
    node.abort();

    let nobody = unused_address();
    health(nobody).failed(
        1,
        &format!(
            "the node cannot be asked at {nobody} (Connection refused (os error 111)): is it running, with this `http.listen`?"
        ),
    );
    let hub = start_hub(DevHubOptions::default()).await;
    let hub: SocketAddr = hub.trim_start_matches("http://").parse().unwrap();
    health(hub).failed(
        1,
        &format!("what answers at {hub} is not the node: is `http.listen` right?"),
    );
    let banner = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = banner.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = banner.accept().await.unwrap();
        stream.write_all(b"SSH-2.0-OpenSSH_10.0\r\n").await.unwrap();
        std::future::pending::<()>().await;
    });
    health(address).failed(
        1,
        &format!("what answers at {address} is not the node: is `http.listen` right?"),
    );
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = mute.local_addr().unwrap();
    health(address).failed(
        1,
        &format!("the node has not answered at {address} within 3 s: restart it"),
    );
    health("127.0.0.1:0".parse().unwrap()).failed(
        1,
        "the node's port is the system's choice (`http.listen` is 127.0.0.1:0), so it cannot be asked: give it a port",
    );
    let wrong = twinsight(&["health"], &[("TWINSIGHT_HTTP__LISTEN", "here")]);
    wrong.failed(
        78,
        "variable TWINSIGHT_HTTP__LISTEN: `http.listen` is \"here\": give address and port as in \"127.0.0.1:9464\"",
    );
}
