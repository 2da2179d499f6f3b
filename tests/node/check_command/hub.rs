//! The hub: whether one answers, lets the node in, and has the same time.

use std::time::SystemTime;

use tokio::io::copy_bidirectional;

use super::*;
use twinsight::dev::hub::DirectAccess;

#[test]
fn no_hub_listens() {
    let address = unused_address();
    let url = format!("http://{address}");
    let config = camera("cam", "");
    let check = Check::run(&url, &config, &[]);
    check.fails(1);
    check.says(
        "fail",
        &format!("hub {url}"),
        &format!(
            "nothing listens at {address}; start the hub, or correct the address (PHYHUB_URL, PHYSTACK_SIMULATOR_URL or `hub.url`)"
        ),
    );
    check.says(
        "skip",
        "clock",
        "skipped, because the hub has told no time to compare with",
    );
    check.says(
        "skip",
        "joining the hub",
        "skipped, because it was not reached",
    );
    check.says(
        "skip",
        "own twin node-1",
        "skipped, because the hub is not joined",
    );
    check.says(
        "skip",
        "camera cam/default",
        "skipped, because the hub is not joined",
    );
    // What does not need the hub was looked at all the same.
    check.begins("ok", &format!("model {FAST}"), "loaded, ");
}

#[test]
fn a_hub_whose_name_nobody_knows() {
    let check = Check::run("http://hub.invalid:55000", "", &[]);
    check.fails(1);
    check.begins(
        "fail",
        "hub http://hub.invalid:55000",
        "the host name `hub.invalid` cannot be resolved (",
    );
    assert!(check.line("hub http://hub.invalid:55000").ends_with(
        "; correct the address (PHYHUB_URL, PHYSTACK_SIMULATOR_URL or `hub.url`), or this machine's DNS"
    ));
}

#[test]
fn a_hub_that_never_answers() {
    // The kernel takes the connection, nobody reads it.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = mute.local_addr().unwrap();
    let url = format!("http://{address}");
    let check = Check::run(&url, "", &[]);
    check.fails(1);
    check.says(
        "fail",
        &format!("hub {url}"),
        &format!(
            "{address} took the connection and did not answer within 3 s; restart the hub if it hangs; \
             else correct the address, or let the proxy before it pass WebSockets"
        ),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn something_that_is_no_hub() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let url = format!("http://{address}");
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let answer = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    let check = Check::run(&url, "", &[]);
    check.fails(1);
    check.says(
        "fail",
        &format!("hub {url}"),
        &format!(
            "what answers at {address} is not a hub (HTTP status 404 Not Found); correct the address, \
             or let the proxy before the hub pass WebSockets (/socket.io/)"
        ),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_opens_the_socket_and_says_no_more() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            open.push(tokio_tungstenite::accept_async(stream).await.unwrap());
        }
    });
    let check = Check::run(&url, "", &[]);
    check.fails(1);
    check.says(
        "fail",
        "joining the hub",
        "the hub did not grant the connection within 3s; restart the hub if it hangs, or correct the \
         address: what is there speaks WebSocket and no Socket.IO",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_access_key_that_the_hub_refuses() {
    let url = start_hub(DevHubOptions {
        direct: DirectAccess::Keys(BTreeMap::from([(
            "device-1".to_owned(),
            "the-right-key".to_owned().into(),
        )])),
        ..DevHubOptions::default()
    })
    .await;
    let check = Check::run(
        "",
        "",
        &[
            ("PHYHUB_DIRECT", "true"),
            ("PHYHUB_URL", &url),
            ("DEVICE_ID", "device-1"),
            ("ACCESS_KEY", "a-wrong-key"),
        ],
    );
    check.fails(1);
    check.says(
        "fail",
        "joining the hub",
        "the hub refuses this device (the access key is not valid for this device); check DEVICE_ID and \
         ACCESS_KEY, or `hub.device_id` and `hub.access_key_file`",
    );
    assert!(!check.0.out.contains("a-wrong-key") && !check.0.log.contains("a-wrong-key"));
}

/// A hub behind a proxy that tells another time.
async fn hub_with_clock(behind_seconds: u64) -> String {
    let hub = start_hub(DevHubOptions::default()).await;
    let hub = hub.trim_start_matches("http://").to_owned();
    let front = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", front.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut client, _) = front.accept().await.unwrap();
            let mut server = tokio::net::TcpStream::connect(&hub).await.unwrap();
            tokio::spawn(async move {
                let request = head(&mut client).await;
                server.write_all(request.as_bytes()).await.unwrap();
                let mut answer = String::new();
                for line in head(&mut server).await.split_inclusive("\r\n") {
                    if line.to_ascii_lowercase().starts_with("date:") {
                        let date = SystemTime::now() - Duration::from_secs(behind_seconds);
                        answer += &format!("date: {}\r\n", httpdate::fmt_http_date(date));
                    } else {
                        answer += line;
                    }
                }
                client.write_all(answer.as_bytes()).await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    url
}

/// The head of a request or an answer, with the empty line.
async fn head(stream: &mut tokio::net::TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_wrong() {
    let remedy = "set it by NTP (`timedatectl set-ntp true`; a container has its host's clock): certificates, TURN \
                  credentials and the times of events depend on it";
    let wrong = Check::run(&hub_with_clock(7200).await, "", &[]);
    wrong.fails(1);
    let line = wrong.line("clock");
    assert!(
        ["7199", "7200", "7201"]
            .iter()
            .any(|s| line == format!("fail  clock: {s} s ahead of the hub's; {remedy}")),
        "{line}"
    );
    // A little wrong is said and is no failure.
    let drifting = Check::run(&hub_with_clock(30).await, "", &[]);
    drifting.fails(0);
    let line = drifting.line("clock");
    assert!(
        line.starts_with("warn  clock: ")
            && line.ends_with(&format!(" s ahead of the hub's; {remedy}")),
        "{line}"
    );
}
