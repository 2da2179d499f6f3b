//! Who gets what of the HTTP server: every route of its table with and without the token, wrong methods, and paths that lead
//! elsewhere.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use twinsight::http::routes::{Needs, ROUTES, Route};
use twinsight::http::scene_edit::EditPermission;

use super::http_server::{Node, start};
use twinsight_client::stream_id::StreamId;

pub(crate) const LIMIT: Duration = Duration::from_secs(10);

const TOKEN: &str = "hush-hush";

const BEARER: (&str, &str) = ("Authorization", "Bearer hush-hush");

/// An answer: its status, its headers in lower case and its body.
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
    pub(crate) bytes: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
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
    pub(crate) fn sentence(&self, what: &str) -> String {
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
pub(crate) async fn ask_at(
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

pub(crate) async fn get(node: &Node, path: &str, headers: &[(&str, &str)]) -> Answer {
    ask(node, "GET", path, headers, "").await
}

pub(crate) async fn answer(stream: &mut TcpStream) -> Answer {
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
        bytes: body,
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
        .replace("{id}", "7")
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
    node.state.editor.permit(EditPermission::ForToken);
    let _changes = node.state.editor.open(true);
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
                Needs::Token | Needs::Edit => 403,
                // Nobody can log in where there is no token.
                Needs::Nothing if route.path == "/login" => 401,
                Needs::Nothing => answer.status,
            };
            assert_eq!(answer.status, wants, "{path} of {host}");
            if route.needs != Needs::Nothing {
                // A browser gets a page.
                let sentence = match route.path {
                    "/" => answer.body.clone(),
                    _ => answer.sentence(&path),
                };
                assert!(sentence.contains("`http.token_file`"), "{sentence}");
                assert!(!answer.body.contains("cam"), "{}", answer.body);
            } else {
                assert_ne!(answer.status, 403, "{path}");
            }
        }
        for host in ["localhost:9464", "127.0.0.1:9464", "[::1]:9464"] {
            let answer = ask(&local, route.method, &path, &[("Host", host)], "").await;
            // Nothing is changed by whoever has no token.
            let is_refused = answer.status == 403;
            assert_eq!(is_refused, route.needs == Needs::Edit, "{path} of {host}");
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
async fn answers_are_compressed_for_those_who_take_that_and_files_are_not_sent_twice() {
    let node = start("127.0.0.1:0", None).await;
    for n in 0..20 {
        let id = StreamId::new(format!("camera-{n}"), "default");
        node.metrics.stream(&id);
    }
    for path in ["/metrics", "/api/openapi.json", "/", "/assets/style.css"] {
        let plain = get(&node, path, &[]).await;
        assert_eq!(plain.header("content-encoding"), None, "{path}");
        for refused in ["identity", "br", "gzip;q=0", "*;q=0"] {
            let answer = get(&node, path, &[("Accept-Encoding", refused)]).await;
            assert_eq!(answer.header("content-encoding"), None, "{path} {refused}");
        }
        let packed = get(&node, path, &[("Accept-Encoding", "br, gzip;q=0.5")]).await;
        assert_eq!(packed.header("content-encoding"), Some("gzip"), "{path}");
        // A cache between must not give one for the other.
        for answer in [&plain, &packed] {
            assert_eq!(answer.header("vary"), Some("accept-encoding"), "{path}");
        }
        assert!(packed.bytes.len() < plain.bytes.len() * 2 / 3, "{path}");
        let mut text = String::new();
        let mut unpacked = flate2::read::GzDecoder::new(&*packed.bytes);
        std::io::Read::read_to_string(&mut unpacked, &mut text).unwrap();
        if path == "/metrics" {
            assert!(text.contains("# TYPE twinsight_http_connections gauge"));
        } else {
            assert_eq!(text, plain.body, "{path}");
        }
        let Some(tag) = plain.header("etag") else {
            continue;
        };
        for known in [
            tag.to_owned(),
            tag.trim_start_matches("W/").to_owned(),
            format!("\"x\", {tag}"),
            "*".to_owned(),
        ] {
            let same = get(&node, path, &[("If-None-Match", &*known)]).await;
            assert_eq!((same.status, &*same.body), (304, ""), "{path} {known}");
            assert_eq!(same.header("etag"), Some(tag));
            same.is_secured(path);
        }
        let other = get(&node, path, &[("If-None-Match", "\"x\"")]).await;
        assert_eq!(other.status, 200, "{path}");
    }
}
