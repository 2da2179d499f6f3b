//! Who gets what of the HTTP server: every route of its table with and without the token, wrong methods, paths that lead
//! elsewhere, requests that never end, more watchers than may be, and readers that take nothing.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use twinsight::dev::hub::DevHubOptions;
use twinsight::http::connections::ConnectionLimits;
use twinsight::http::routes::{Needs, ROUTES, Route};
use twinsight::publish::feed::MAX_WATCHERS;

use super::http_server::{Node, start, start_within};
use crate::common::{NodeProcess, fake, start_hub};

const LIMIT: Duration = Duration::from_secs(10);

const TOKEN: &str = "hush-hush";

const BEARER: (&str, &str) = ("Authorization", "Bearer hush-hush");

/// An answer: its status, its headers in lower case and its body.
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let is_it = |(each, _): &&(String, String)| each == name;
        self.headers.iter().find(is_it).map(|(_, value)| &**value)
    }

    /// What every answer has that a handler made.
    fn is_secured(&self, what: &str) {
        let policy = self.header("content-security-policy").unwrap_or_default();
        assert!(policy.starts_with("default-src 'none'"), "{what}: {policy}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(self.header(name), Some(value), "{what}");
        }
        let cached = self.header("cache-control").unwrap_or_default();
        assert!(["no-store", "no-cache"].contains(&cached), "{what}");
        // No page of somebody else may read it.
        assert_eq!(self.header("access-control-allow-origin"), None, "{what}");
    }

    /// The sentence of an error of the API.
    fn sentence(&self, what: &str) -> String {
        assert_eq!(
            self.header("content-type"),
            Some("application/json"),
            "{what}"
        );
        let error: Value = serde_json::from_str(&self.body).unwrap();
        error["error"].as_str().unwrap().to_owned()
    }
}

/// Sends a request and reads the head of the answer, and its body too unless it goes on for ever.
async fn ask_at(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "Host") {
        request += "Host: localhost\r\n";
    }
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    request += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = tokio::time::timeout(LIMIT, answer(&mut stream)).await;
    answer.unwrap_or_else(|_| panic!("{method} {path} was not answered"))
}

async fn ask(
    node: &Node,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let address = SocketAddr::from(([127, 0, 0, 1], node.port));
    ask_at(address, method, path, headers, body).await
}

async fn get(node: &Node, path: &str, headers: &[(&str, &str)]) -> Answer {
    ask(node, "GET", path, headers, "").await
}

async fn answer(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    let mut end = None;
    while end.is_none() {
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            break;
        }
        end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    }
    let end = end.unwrap_or_else(|| panic!("no head: {:?}", String::from_utf8_lossy(&bytes)));
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut body = bytes.split_off(end + 4);
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap()[9..12].parse().unwrap();
    let headers: Vec<_> = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let is_chunked = headers.iter().any(|(name, _)| name == "transfer-encoding");
    if !is_chunked {
        stream.read_to_end(&mut body).await.unwrap();
    }
    Answer {
        status,
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    }
}

/// A path of a route that can be asked for. A picture is asked of a camera that does not exist, since others are waited for.
fn path(route: &Route) -> String {
    let path = match route.path {
        "/api/cameras/{twin}/{stream}/frame.jpg" => route.path.replace("{twin}", "nobody"),
        "/api/live" => "/api/live?camera=cam/default".to_owned(),
        path => path.replace("{twin}", "cam"),
    };
    path.replace("{stream}", "default")
        .replace("{name}", "style.css")
}

/// Logs in and gives the cookie as a browser sends it back.
async fn log_in(node: &Node) -> String {
    let answer = ask(node, "POST", "/login", &[], "token=hush-hush").await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (303, Some("/")),
        "{}",
        answer.body
    );
    let cookie = answer.header("set-cookie").unwrap();
    cookie.split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn every_route_asks_for_what_it_needs() {
    let node = start("127.0.0.1:0", Some(TOKEN)).await;
    for route in ROUTES {
        let cookie = log_in(&node).await;
        let with_cookie = [("Cookie", &*cookie)];
        let path = path(route);
        let what = format!("{} {path}", route.method);
        // The form of a login has the token in it, and is tried below.
        let is_login = route.path == "/login";
        let form = if is_login { "token=hush-hush" } else { "" };
        let refused: &[&[(&str, &str)]] = &[
            &[],
            &[("Authorization", "Bearer hush")],
            &[("Authorization", "Bearer hush-hush-hush")],
            &[("Authorization", "Basic hush-hush")],
            &[("Authorization", "Basic OmhzaC1odXNo")],
            &[("Authorization", "hush-hush")],
            &[("Cookie", "twinsight_session=hush-hush")],
            &[("Cookie", "twinsight_session=")],
            &[("Cookie", "token=hush-hush")],
            &[("X-Forwarded-For", "127.0.0.1"), ("X-Real-IP", "127.0.0.1")],
        ];
        for headers in refused {
            let answer = ask(&node, route.method, &path, headers, form).await;
            answer.is_secured(&what);
            if route.needs == Needs::Nothing {
                assert!(
                    ![401, 403].contains(&answer.status),
                    "{what}: {}",
                    answer.status
                );
                continue;
            }
            assert_eq!(answer.status, 401, "{what} with {headers:?}");
            if route.path == "/" {
                assert!(answer.body.contains("action=\"/login\""), "{}", answer.body);
            } else {
                assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{what}");
                assert!(answer.sentence(&what).contains("`http.token_file`"));
            }
        }
        // A token in an address would be in logs and histories.
        if route.needs == Needs::Token {
            let asked = if path.contains('?') { '&' } else { '?' };
            let path = format!("{path}{asked}token=hush-hush&access_token=hush-hush");
            assert_eq!(get(&node, &path, &[]).await.status, 401, "{path}");
        }
        for headers in [&[BEARER], &with_cookie] {
            let answer = ask(&node, route.method, &path, headers, form).await;
            answer.is_secured(&what);
            assert!(
                ![401, 403, 405].contains(&answer.status),
                "{what}: {}",
                answer.status
            );
        }
        let content_type = get(&node, &path, &[BEARER]).await;
        let is_stream = ["text/event-stream", "multipart/"].iter().any(|stream| {
            let content_type = content_type.header("content-type").unwrap_or_default();
            content_type.starts_with(stream)
        });
        assert_eq!(is_stream, route.streams, "{what}");
    }
}

#[tokio::test]
async fn without_a_token_only_this_machine_is_served_by_its_own_names() {
    let closed = start("0.0.0.0:0", None).await;
    let local = start("127.0.0.1:0", None).await;
    for route in ROUTES {
        let path = path(route);
        for (node, host) in [(&closed, "localhost"), (&local, "evil.example:9464")] {
            let answer = ask(node, route.method, &path, &[("Host", host)], "").await;
            answer.is_secured(&path);
            let wants = match route.needs {
                Needs::Token => 403,
                // Nobody can log in where there is no token.
                Needs::Nothing if route.path == "/login" => 401,
                Needs::Nothing => answer.status,
            };
            assert_eq!(answer.status, wants, "{path} of {host}");
            if route.needs == Needs::Token {
                let sentence = answer.sentence(&path);
                assert!(
                    sentence.contains("set `http.token_file`") || sentence.ends_with("set one")
                );
                assert!(!answer.body.contains("cam"), "{}", answer.body);
            } else {
                assert_ne!(answer.status, 403, "{path}");
            }
        }
        for host in ["localhost:9464", "127.0.0.1:9464", "[::1]:9464"] {
            let answer = ask(&local, route.method, &path, &[("Host", host)], "").await;
            assert_ne!(answer.status, 403, "{path} of {host}");
        }
    }
}

#[tokio::test]
async fn a_login_gives_a_cookie_that_scripts_and_other_sites_do_not_get_and_guesses_are_slowed() {
    let node = start("0.0.0.0:0", Some(TOKEN)).await;
    let form = "token=hush-hush";
    let answer = ask(&node, "POST", "/login", &[], form).await;
    let cookie = answer.header("set-cookie").unwrap();
    let parts: BTreeSet<&str> = cookie.split("; ").skip(1).collect();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(parts.contains(part), "{cookie}");
    }
    assert!(!cookie.contains("hush"), "{cookie}");
    assert!(!parts.contains("Secure"), "it came without TLS: {cookie}");
    let by_tls = [("X-Forwarded-Proto", "https")];
    let answer = ask(&node, "POST", "/login", &by_tls, form).await;
    assert!(answer.header("set-cookie").unwrap().ends_with("; Secure"));

    let session = log_in(&node).await;
    let with_session = [("Cookie", &*session)];
    assert_eq!(get(&node, "/", &with_session).await.status, 200);
    assert_eq!(get(&node, "/api/node", &with_session).await.status, 200);
    let out = ask(&node, "POST", "/logout", &with_session, "").await;
    assert_eq!((out.status, out.header("location")), (303, Some("/")));
    assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert_eq!(get(&node, "/api/node", &with_session).await.status, 401);

    // While a guess is being slowed, nobody learns from the answer whether another one is right.
    let wrong = ask(&node, "POST", "/login", &[], "token=guess").await;
    assert_eq!(wrong.status, 401);
    assert!(wrong.header("set-cookie").is_none());
    let guesses = (0..20).map(|n| {
        let form = if n == 7 {
            form.to_owned()
        } else {
            format!("token={n}")
        };
        let node = &node;
        async move { ask(node, "POST", "/login", &[], &form).await }
    });
    for answer in futures_util::future::join_all(guesses).await {
        assert_eq!(answer.status, 429);
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert!(answer.header("set-cookie").is_none());
    }
    // The API takes the token all the time.
    assert_eq!(get(&node, "/api/node", &[BEARER]).await.status, 200);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    log_in(&node).await;
    for strange in [
        "",
        "token",
        "token=%ff%fe",
        "other=hush-hush",
        "token=a&token=hush-hush",
    ] {
        let answer = ask(&node, "POST", "/login", &[], strange).await;
        assert!(
            [401, 429].contains(&answer.status),
            "{strange}: {}",
            answer.status
        );
    }
    let long = format!("token={}", "a".repeat(5000));
    let answer = ask(&node, "POST", "/login", &[], &long).await;
    assert_eq!(answer.status, 413);
    assert!(answer.sentence("a long form").contains("4096 bytes"));
}

#[tokio::test]
async fn a_wrong_method_is_told_what_is_right() {
    let node = start("127.0.0.1:0", Some(TOKEN)).await;
    let mut methods: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for route in ROUTES {
        let of_path = methods.entry(route.path).or_default();
        of_path.insert(route.method);
        if route.method == "GET" {
            of_path.insert("HEAD");
        }
    }
    for route in ROUTES {
        let path = path(route);
        let right = &methods[route.path];
        for method in [
            "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "QUERY",
        ] {
            let what = format!("{method} {path}");
            if right.contains(method) {
                continue;
            }
            let answer = ask(&node, method, &path, &[BEARER], "").await;
            answer.is_secured(&what);
            assert_eq!(answer.status, 405, "{what}");
            let allow = answer.header("allow").unwrap_or_default();
            let allow: BTreeSet<&str> = allow.split(',').map(str::trim).collect();
            assert_eq!(&allow, right, "{what}");
            if method != "HEAD" {
                assert!(answer.sentence(&what).contains("`Allow`"), "{what}");
            }
        }
        // A HEAD is answered as a GET without its body.
        if right.contains("HEAD") {
            let answer = ask(&node, "HEAD", &path, &[BEARER], "").await;
            assert_ne!(answer.status, 405, "HEAD {path}");
            assert_eq!(answer.body, "", "HEAD {path}");
        }
    }
}

#[tokio::test]
async fn no_path_leads_out_of_the_table() {
    let node = start("127.0.0.1:0", Some(TOKEN)).await;
    let long = format!("/assets/{}", "a".repeat(8000));
    let deep = format!("/assets/{}etc/passwd", "../".repeat(500));
    for path in [
        "/assets/../../etc/passwd",
        "/assets/..%2f..%2fetc%2fpasswd",
        "/assets/%2e%2e/%2e%2e/etc/passwd",
        "/assets/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/assets/..%5c..%5cetc%5cpasswd",
        "/assets/..%c0%af..%c0%afetc/passwd",
        "/assets/%c0%ae%c0%ae/passwd",
        "/assets/%252e%252e%252fetc%252fpasswd",
        "/assets/....//....//etc/passwd",
        "/assets/..;/..;/etc/passwd",
        "/assets//etc/passwd",
        "/assets/%2fetc%2fpasswd",
        "/assets/style.css%00",
        "/assets/style.css%00.html",
        "/assets/%00",
        "/assets/%",
        "/assets/%zz",
        "/assets/%ff",
        "/assets/",
        "/assets",
        "/assets/style.css/",
        "/assets/./style.css",
        "/assets/STYLE.CSS",
        "/assets/dashboard/index.html",
        "/assets/..%2froutes.rs",
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/etc/passwd",
        &long,
        &deep,
    ] {
        let answer = get(&node, path, &[]).await;
        let shown = &path[..path.len().min(60)];
        answer.is_secured(shown);
        assert!(
            [400, 404].contains(&answer.status),
            "{shown}: {}",
            answer.status
        );
        assert!(!answer.body.contains("root:"), "{shown}");
    }
    // Other ways to write a path that needs the token do not get around it.
    for path in [
        "//api/node",
        "/./api/node",
        "/assets/../api/node",
        "/assets/..%2fapi%2fnode",
        "/api/node/",
        "/api//node",
        "/API/node",
        "/api%2fnode",
        "/api/node%00",
        "/api/node%20",
        "/api/node;a=b",
        "/api/node.json",
        "/metrics/../api/node",
        "/metrics/api/node",
        "http://localhost/api/node",
        "http://evil.example/api/node",
        "/api/cameras/cam%2fdefault",
        "/%61pi/node",
    ] {
        let answer = get(&node, path, &[]).await;
        assert!(
            [400, 401, 404].contains(&answer.status),
            "{path}: {}",
            answer.status
        );
        assert!(
            !answer.body.contains("runId") && !answer.body.contains("twinId"),
            "{path}"
        );
    }
    // With it, every error of the API is a sentence in JSON.
    for (path, status) in [
        ("/api/cameras/nobody/default", 404),
        ("/api/cameras/cam/other", 404),
        ("/api/cameras/cam", 404),
        ("/api/cameras/%ff/default", 400),
        ("/api/cameras/cam/%ff/frame.jpg", 400),
        ("/api/cameras/cam/%fe/live", 400),
        ("/api/cameras/../node/frame.jpg", 404),
        ("/api/cameras/nobody/default/frame.jpg", 404),
        ("/api/cameras/nobody/default/live", 404),
        ("/api/live", 400),
        ("/api/live?camera=nobody/default", 404),
        ("/api/live?camera=", 404),
        ("/api/nothing", 404),
        ("/api/", 404),
    ] {
        let answer = get(&node, path, &[BEARER]).await;
        answer.is_secured(path);
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        let sentence = answer.sentence(path);
        assert!(sentence.len() > 20, "{path}: {sentence}");
    }
}

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
        (pictures, Box::new(|| node.state.previews.watchers())),
        (
            "/api/cameras/cam/default/live",
            Box::new(|| node.state.previews.watchers()),
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
            assert!(one_more.sentence(path).contains("32 others watch"));
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

/// Counts what a reader gets of a stream.
async fn count(
    mut stream: TcpStream,
    marks: [&'static [u8]; 1],
    until: Instant,
) -> (usize, Vec<u8>) {
    let mut bytes = Vec::new();
    let until = tokio::time::Instant::from_std(until);
    while let Ok(Ok(more)) = tokio::time::timeout_at(until, stream.read_buf(&mut bytes)).await {
        if more == 0 {
            break;
        }
    }
    let [mark] = marks;
    let count = bytes
        .windows(mark.len())
        .filter(|each| each == &mark)
        .count();
    (count, bytes)
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
    let deadline = Instant::now() + 2 * LIMIT;
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
    let began = Instant::now();
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
    let until = began + Duration::from_secs(9);
    let healthy = [
        (paths[0], b"event: detections".as_slice()),
        (paths[1], b"x-camera: cam/default".as_slice()),
        (paths[2], b"x-camera: cam/default".as_slice()),
    ];
    let encoded = || node.metric("preview_pictures_total", "result=\"encoded\"");
    let (before, encoded_before, mut readers) = (published(), encoded(), Vec::new());
    for (path, mark) in healthy {
        let stream = watch(path, false).await;
        readers.push(tokio::spawn(count(stream, [mark], until)));
    }
    let mut counted = Vec::new();
    for reader in readers {
        counted.push(reader.await.unwrap());
    }
    let (published, encoded) = (published() - before, encoded() - encoded_before);
    let watched = [
        node_watchers(address, "events").await,
        node_watchers(address, "pictures").await,
    ];
    let closed = node.metric("http_connections_closed_total", "reason=\"answer\"");
    let grown = resident_bytes(node.program.id()).saturating_sub(resident_before);
    println!(
        "{published} events were published and {encoded} pictures made; readers got {:?}; {closed} readers were closed, {watched:?} watch; {} KiB more memory",
        counted.iter().map(|(count, _)| count).collect::<Vec<_>>(),
        grown / 1024
    );
    assert!(closed >= 12.0, "those that take nothing are closed");
    // At most those who take a byte a second are left.
    assert!(watched[0] <= 1 && watched[1] <= 2, "{watched:?}");
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
        assert!(
            *pictures > 5 && *pictures as f64 + 3.0 >= encoded,
            "{pictures}"
        );
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
