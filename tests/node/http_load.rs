//! What too many or too slow clients of the HTTP server can do: heads without end, requests that never come, more watchers than
//! may be, and readers that take nothing.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;
use twinsight::dev::hub::DevHubOptions;
use twinsight::http::connections::ConnectionLimits;
use twinsight::publish::feed::MAX_WATCHERS;

use super::http_access::{LIMIT, answer, ask_at, get};
use super::http_server::{start, start_within};
use crate::common::{DEADLINE, NodeProcess, fake, start_hub};

#[tokio::test]
async fn a_head_of_ten_megabytes_is_not_read() {
    let node = start("127.0.0.1:0", None).await;
    for begin in [
        "X-Long: ",
        "Cookie: twinsight_session=",
        "Authorization: Bearer ",
    ] {
        let (mut reading, mut writing) = node.connect().await.into_split();
        let head = format!("GET /api/node HTTP/1.1\r\nHost: localhost\r\n{begin}");
        let asked = Instant::now();
        let writing = tokio::spawn(async move {
            writing.write_all(head.as_bytes()).await.unwrap();
            let piece = [b'a'; 64 * 1024];
            let mut sent = 0;
            while sent < 10 << 20 && writing.write_all(&piece).await.is_ok() {
                sent += piece.len();
            }
            let _ = writing.write_all(b"\r\n\r\n").await;
            sent
        });
        let mut answer = Vec::new();
        // A reset comes where something was left unread.
        let _ = tokio::time::timeout(LIMIT, reading.read_to_end(&mut answer))
            .await
            .unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 431 "),
            "{answer}"
        );
        drop(reading);
        let sent = writing.await.unwrap();
        println!(
            "{begin}: {sent} bytes were sent, answered {:?}",
            asked.elapsed()
        );
        node.answers_probes().await;
    }
}

#[tokio::test]
async fn two_thousand_half_open_connections_take_nothing_from_probes_and_watchers() {
    let mut files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    files.current = files.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, files).unwrap();
    let node = start_within("127.0.0.1:0", None, ConnectionLimits::new(64)).await;
    let mut watching = Vec::new();
    for _ in 0..8 {
        let mut stream = node.connect().await;
        let request = b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(request).await.unwrap();
        assert_eq!(answer(&mut stream).await.status, 200);
        watching.push(stream);
    }
    let mut held = Vec::new();
    for n in 0..2000 {
        let mut stream = node.connect().await;
        let half = [
            "",
            "G",
            "GET /api/node HTTP/1.1\r\nHost: localhost\r\n",
            "\r\n",
        ][n % 4];
        // The server may have closed it already.
        let _ = stream.write_all(half.as_bytes()).await;
        held.push(stream);
        if n % 250 == 249 {
            node.answers_probes().await;
            assert_eq!(node.get("/api/node", "").await.0, 200);
            assert!(node.metric("twinsight_http_connections") <= 64);
        }
    }
    assert_eq!(node.state.feed.watchers(), 8, "they are still served");
    drop(held);
    node.answers_probes().await;
}

#[tokio::test]
async fn watchers_beyond_the_limit_are_told_to_come_later_and_those_who_go_make_room() {
    let node = start_within("127.0.0.1:0", None, ConnectionLimits::new(128)).await;
    let pictures = "/api/live?camera=cam/default";
    for (path, watchers) in [
        (
            "/api/events",
            Box::new(|| node.state.feed.watchers()) as Box<dyn Fn() -> usize>,
        ),
        (pictures, Box::new(|| node.state.previews.watches())),
        (
            "/api/cameras/cam/default/live",
            Box::new(|| node.state.previews.watches()),
        ),
    ] {
        let watch = || async {
            let mut stream = node.connect().await;
            let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let answer = tokio::time::timeout(LIMIT, answer(&mut stream))
                .await
                .unwrap();
            (answer, stream)
        };
        let mut watching = Vec::new();
        for _ in 0..MAX_WATCHERS {
            let (answer, stream) = watch().await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.body);
            watching.push(stream);
        }
        assert_eq!(watchers(), MAX_WATCHERS);
        for _ in 0..3 {
            let one_more = get(&node, path, &[]).await;
            assert_eq!(one_more.status, 503, "{path}");
            assert_eq!(one_more.header("retry-after"), Some("5"));
            assert!(one_more.sentence(path).contains("32 "));
        }
        if path == pictures {
            let picture = get(&node, "/api/cameras/cam/default/frame.jpg", &[]).await;
            assert_eq!(picture.status, 503);
        }
        // Probes and the rest of the API are not behind the watchers.
        node.answers_probes().await;
        assert_eq!(get(&node, "/api/cameras", &[]).await.status, 200);
        // Nothing happens at this camera, so no write tells that they went.
        drop(watching);
        let deadline = Instant::now() + LIMIT / 2;
        while watchers() > 0 {
            assert!(Instant::now() < deadline, "{path}: {}", watchers());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(watch().await.0.status, 200, "{path}");
    }
}

/// Reads until the end, and counts a mark in what came.
async fn count(
    mut stream: TcpStream,
    mark: &'static [u8],
    end: CancellationToken,
) -> (usize, Vec<u8>) {
    let mut bytes = Vec::new();
    let reading = async { while stream.read_buf(&mut bytes).await.unwrap_or(0) > 0 {} };
    end.run_until_cancelled(reading).await;
    let windows = bytes.windows(mark.len());
    (windows.filter(|each| each == &mark).count(), bytes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_takes_nothing_is_closed_and_others_get_all() {
    const FPS: f64 = 10.0;
    let url = start_hub(DevHubOptions::default()).await;
    let camera = fake::camera(&url, "cam", "default", None, FPS);
    // Events of many objects, so that they fill the buffers of the system in seconds.
    let config = "[defaults]\nmax_fps = 0.0\nmin_score = 0.01\n[[cameras]]\ntwin_id = \"cam\"\n";
    let variables = [
        ("PHYSTACK_SIMULATOR_URL", &*url),
        ("TWIN_ID", fake::NODE),
        ("TWINSIGHT_ICE__INTERFACES", "lo"),
    ];
    let node = NodeProcess::start(config, &variables).await;
    let address = node.http;
    let published = || node.metric("events_published_total", "camera=\"cam\"");
    let deadline = Instant::now() + DEADLINE;
    while published() < 3.0 {
        assert!(Instant::now() < deadline, "no event came");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let paths = [
        "/api/events",
        "/api/cameras/cam/default/live",
        "/api/live?camera=cam/default",
    ];
    let watch = |path: &'static str, is_slow: bool| async move {
        let socket = TcpSocket::new_v4().unwrap();
        if is_slow {
            socket.set_recv_buffer_size(4096).unwrap();
        }
        let mut stream = socket.connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    };
    let resident_before = resident_bytes(node.program.id());
    let (mut mute, mut drip) = (Vec::new(), Vec::new());
    for path in paths {
        for _ in 0..4 {
            mute.push(watch(path, true).await);
        }
        let mut one = watch(path, true).await;
        drip.push(tokio::spawn(async move {
            let mut byte = [0];
            while one.read(&mut byte).await.is_ok_and(|read| read > 0) {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }));
    }
    let end = CancellationToken::new();
    let healthy = [
        (paths[0], b"event: detections".as_slice()),
        (paths[1], b"x-camera: cam/default".as_slice()),
        (paths[2], b"x-camera: cam/default".as_slice()),
    ];
    let encoded = || node.metric("preview_pictures_total", "result=\"encoded\"");
    let mut readers = Vec::new();
    for (path, mark) in healthy {
        let stream = watch(path, false).await;
        readers.push(tokio::spawn(count(stream, mark, end.clone())));
    }
    let (before, encoded_before) = (published(), encoded());
    // Pictures are made when nobody else wants the processor, so on a busy machine it takes a while until there is one too many.
    let closed = || node.metric("http_connections_closed_total", "reason=\"answer\"");
    let deadline = Instant::now() + 3 * DEADLINE;
    while closed() < 12.0 {
        assert!(
            Instant::now() < deadline,
            "those that take nothing are not closed: {}",
            closed()
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // Readers are given a moment more than what they are compared with.
    let (published, encoded) = (published() - before, encoded() - encoded_before);
    end.cancel();
    let mut counted = Vec::new();
    for reader in readers {
        counted.push(reader.await.unwrap());
    }
    let watched = [
        node_watchers(address, "events").await,
        node_watchers(address, "pictures").await,
    ];
    let closed = closed();
    let grown = resident_bytes(node.program.id()).saturating_sub(resident_before);
    println!(
        "{published} events were published and {encoded} pictures made; readers got {:?}; {closed} readers were closed, {watched:?} watch; {} KiB more memory",
        counted.iter().map(|(count, _)| count).collect::<Vec<_>>(),
        grown / 1024
    );
    // At most those who take a byte a second are left, and the readers, which have just ended.
    assert!(watched[0] <= 2 && watched[1] <= 4, "{watched:?}");
    // Who reads gets every event, with no number left out.
    let events = String::from_utf8_lossy(&counted[0].1);
    let sequences: Vec<u64> = events
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .filter_map(|data| serde_json::from_str::<Value>(data).ok())
        .filter_map(|event| event["sequence"].as_u64())
        .collect();
    assert!(
        sequences.windows(2).all(|two| two[1] == two[0] + 1),
        "{sequences:?}"
    );
    assert!(
        sequences.len() as f64 + 5.0 >= published,
        "{}",
        sequences.len()
    );
    // And every picture that was made, which are as many as if nobody was slow: all readers share them.
    for (pictures, _) in &counted[1..] {
        assert!(*pictures as f64 + 3.0 >= encoded, "{pictures}");
    }
    assert!(grown < 24 << 20, "{grown}");
    camera.abort();
    // What the system has of it is there to be read by them for hours.
    drip.iter().for_each(|each| each.abort());
    drop(mute);
}

async fn node_watchers(address: SocketAddr, of: &str) -> usize {
    let node = ask_at(address, "GET", "/api/node", &[], "").await;
    let node: Value = serde_json::from_str(&node.body).unwrap();
    node["watchers"][of].as_u64().unwrap().try_into().unwrap()
}

fn resident_bytes(process: u32) -> usize {
    let pages = std::fs::read_to_string(format!("/proc/{process}/statm")).unwrap();
    let pages: usize = pages.split(' ').nth(1).unwrap().parse().unwrap();
    pages * usize::try_from(procfs::page_size()).unwrap()
}
