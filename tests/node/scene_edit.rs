//! Tracks over HTTP, with their best shots, and changes of zones, lines and masks: a real node with a camera, and those who may and may
//! not change it.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops at what it did not expect, and says what it measured"
)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use twinsight::dev::hub::DevHubOptions;
use twinsight::http::routes::OPENAPI;
use twinsight::http::scene_edit::EditPermission;

use super::http_access::{Answer, ask_at};
use super::http_server::{Node, start};
use super::openapi::Description;
use crate::common::{DEADLINE, NodeProcess, fake, start_hub};

const BEARER: (&str, &str) = ("Authorization", "Bearer hush-hush");

const JSON: (&str, &str) = ("Content-Type", "application/json");

const SCENE: &str = "/api/cameras/cam-1/default/scene";

/// Comments in odd places, which must stay.
const CONFIG: &str = r#"edit = true # for the dashboard
[defaults]
max_fps = 8.0 # enough

# The door.
[[cameras]]
twin_id = "cam-1"
name = "Door"
# All of the picture.
[[cameras.zones]]
name = "all" # and more
points = [[0, 0], [1, 0], [1, 1], [0, 1]]

# Nobody is there.
[[cameras]]
twin_id = "cam-2"
# The end.
"#;

/// Asks, and checks that the answer is described.
struct Asking {
    address: SocketAddr,
    description: Description,
}

impl Asking {
    async fn get(&self, route: &str, path: &str) -> Answer {
        let answer = ask_at(self.address, "GET", path, &[BEARER], "").await;
        self.description.check_answer("GET", route, &answer);
        answer
    }

    async fn json(&self, route: &str, path: &str) -> Value {
        let answer = self.get(route, path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        serde_json::from_str(&answer.body).unwrap()
    }

    async fn tracks(&self, query: &str) -> Vec<Value> {
        let path = format!("/api/tracks{query}");
        let tracks = self.json("/api/tracks", &path).await["tracks"].take();
        serde_json::from_value(tracks).unwrap()
    }

    async fn camera(&self) -> Value {
        let route = "/api/cameras/{twin}/{stream}";
        self.json(route, "/api/cameras/cam-1/default").await
    }

    async fn put_as(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let answer = ask_at(self.address, "PUT", path, headers, body).await;
        let route = "/api/cameras/{twin}/{stream}/scene";
        self.description.check_answer("PUT", route, &answer);
        answer
    }

    async fn put(&self, scene: &Value) -> Answer {
        self.put_as(SCENE, &[BEARER, JSON], &scene.to_string())
            .await
    }

    /// The sentence with which a change is refused.
    async fn refused(&self, scene: &Value, status: u16) -> String {
        let answer = self.put(scene).await;
        assert_eq!(answer.status, status, "{}", answer.body);
        answer.sentence(SCENE)
    }
}

fn ids(tracks: &Value) -> Vec<String> {
    let tracks = tracks.as_array().unwrap().iter();
    tracks
        .map(|track| track["id"].as_str().unwrap().to_owned())
        .collect()
}

/// Starts a node whose only camera plays the clip of pedestrians.
async fn node() -> (NodeProcess, Asking) {
    let url = start_hub(DevHubOptions::default()).await;
    fake::camera(&url, "cam-1", "default", None, 10.0);
    let variables = [
        ("PHYSTACK_SIMULATOR_URL", &*url),
        ("TWIN_ID", fake::NODE),
        ("TWINSIGHT_ICE__INTERFACES", "lo"),
        ("TWINSIGHT_HTTP__TOKEN", "hush-hush"),
    ];
    let node = NodeProcess::start(CONFIG, &variables).await;
    let ask = Asking {
        address: node.http,
        description: Description::read(),
    };
    (node, ask)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tracks_are_listed_and_a_scene_is_changed_while_they_live() {
    let (node, ask) = node().await;
    let begun = Instant::now();
    let shot = loop {
        let tracks = ask.tracks("").await;
        let path = tracks.iter().find_map(|track| track["bestShot"].as_str());
        if let Some(path) = path {
            break path.to_owned();
        }
        assert!(begun.elapsed() < 2 * DEADLINE, "{tracks:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    check_shot(&ask, &shot).await;
    for query in ["?camera=cam-1&stream=default", "?state=confirmed"] {
        ask.tracks(query).await;
    }
    assert!(ask.tracks("?camera=cam-2").await.is_empty());

    let before = ask.camera().await;
    println!("{:#}", before["zones"]);
    assert_eq!(before["edit"], true);
    assert_eq!(before["zones"][0]["name"], "all");
    let file = std::fs::read_to_string(&node.config).unwrap();
    check_refusals(&ask).await;
    assert_eq!(std::fs::read_to_string(&node.config).unwrap(), file);

    let scene = |n: u32| {
        let x = f64::from(n) / 100.0;
        json!({
            "zones": [
                {"name": "all", "points": [[0, 0], [1, 0], [1, 1], [0, 1]], "labels": []},
                {"name": "left", "points": [[0, 0], [0.123_456, 0], [0.5, 1], [x, 1]], "labels": ["person"], "minDwellMs": 200},
            ],
            "lines": [{"name": "middle", "from": [0.5, 0.0], "to": [0.5, 1.0], "labels": []}],
            "masks": [{"points": [[0, 0], [0.05, 0], [0.05, 0.05]], "labels": ["car"]}],
        })
    };
    // Of two who saw the same scene one is the first, and the other one learns of it.
    let tag = before["sceneTag"].as_str().unwrap();
    let quoted = format!("\"{tag}\"");
    let with_tag = [BEARER, JSON, ("If-Match", &*quoted)];
    let answer = ask.put_as(SCENE, &with_tag, &scene(40).to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let changed: Value = serde_json::from_str(&answer.body).unwrap();
    assert_ne!(changed["sceneTag"], *tag);
    let answer = ask.put_as(SCENE, &with_tag, &scene(30).to_string()).await;
    assert_eq!(answer.status, 412, "{}", answer.body);
    assert!(answer.sentence(SCENE).contains("`sceneTag`"));
    assert_eq!(
        ask.camera().await["zones"][1]["points"][3],
        json!([0.4, 1.0])
    );

    let lived = ids(&ask.camera().await["tracks"]);
    for n in 0..20 {
        let answer = ask.put(&scene(n)).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        // It is in force when the answer comes.
        let camera: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(
            camera["zones"][1]["points"][3],
            json!([f64::from(n) / 100.0, 1.0])
        );
        assert_eq!(camera["zones"][1]["points"][1], json!([0.1235, 0.0]));
        assert_eq!(camera["lines"][0]["name"], "middle");
        assert_eq!(camera["masks"][0]["labels"], json!(["car"]));
    }
    let new = std::fs::read_to_string(&node.config).unwrap();
    for line in file.lines() {
        assert!(
            new.lines().any(|each| each == line),
            "{line} is gone:\n{new}"
        );
    }
    let added = new.find("name = \"left\"").unwrap();
    assert!(added < new.find("# Nobody is there.").unwrap(), "{new}");
    // What ended meanwhile ended because it was not seen any more.
    let tracks = ask.tracks("").await;
    for id in &lived {
        let track = tracks.iter().find(|track| track["id"] == **id).unwrap();
        assert!(
            ["left", "lost"].contains(&track["reason"].as_str().unwrap_or("left")),
            "{track}"
        );
    }
    assert!(node.metric("camera_reconnects_total", "camera=\"cam-1\"") < 0.5);
    // The same again changes nothing, and a session may do what the token may.
    let form = ask_at(node.http, "POST", "/login", &[], "token=hush-hush").await;
    let cookie = form
        .header("set-cookie")
        .unwrap()
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    let own = ("Sec-Fetch-Site", "same-origin");
    let with_session = [("Cookie", &*cookie), JSON, own];
    let long = format!("{}{}", scene(19), " ".repeat(100_000));
    let answer = ask.put_as(SCENE, &with_session, &long).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(std::fs::read_to_string(&node.config).unwrap(), new);
    let empty = json!({"zones": [], "lines": [], "masks": []});
    assert_eq!(ask.put(&empty).await.status, 200);
    assert!(
        !std::fs::read_to_string(&node.config)
            .unwrap()
            .contains("cameras.zones")
    );

    // What somebody wrote by hand and is wrong is not written over.
    let broken = format!("{new}max_fps = \"fast\"\n");
    std::fs::write(&node.config, &broken).unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let sentence = ask.refused(&scene(1), 409).await;
    assert!(sentence.contains("max_fps"), "{sentence}");
    assert_eq!(std::fs::read_to_string(&node.config).unwrap(), broken);
}

/// The picture of a track is a small JPEG, which is sent once.
async fn check_shot(ask: &Asking, path: &str) {
    let route = "/api/tracks/{id}/best.jpg";
    let answer = ask.get(route, path).await;
    assert_eq!(answer.status, 200);
    let picture = image::load_from_memory(&answer.bytes).unwrap();
    println!(
        "{path}: {}x{}, {} bytes",
        picture.width(),
        picture.height(),
        answer.bytes.len()
    );
    assert!((2..=320).contains(&picture.width()) && (2..=320).contains(&picture.height()));
    let etag = answer.header("etag").unwrap();
    // The path changes with the picture, so the picture is that of the path or a later one.
    let number = |text: &str| {
        text.trim_matches('"')
            .rsplit(['-', '='])
            .next()?
            .parse()
            .ok()
    };
    let [of_path, of_answer]: [u64; 2] = [path, etag].map(|text| number(text).unwrap());
    assert!(
        path.contains("?n=") && 0 < of_path && of_path <= of_answer,
        "{path} {etag}"
    );
    let same = ask_at(
        ask.address,
        "GET",
        path,
        &[BEARER, ("If-None-Match", etag)],
        "",
    )
    .await;
    // There may be a better one by now.
    assert!(same.status == 304 || same.header("etag") != Some(etag));
    assert_eq!(ask_at(ask.address, "GET", path, &[], "").await.status, 401);
    for none in [
        "/api/tracks/0/best.jpg",
        "/api/tracks/x/best.jpg",
        "/api/tracks/%ff/best.jpg",
    ] {
        assert_eq!(ask.get(route, none).await.status, 404, "{none}");
    }
}

/// What is wrong, and who may not change anything.
async fn check_refusals(ask: &Asking) {
    let good = json!({"zones": [], "lines": [], "masks": []});
    let zone = |points: Value| {
        let zones = json!([{"name": "yard", "points": points, "labels": []}]);
        json!({"zones": zones, "lines": [], "masks": []})
    };
    let sentence = ask.refused(&zone(json!([[0, 0], [1, 0]])), 422).await;
    assert!(
        sentence.contains("cam-1") && sentence.contains("yard"),
        "{sentence}"
    );
    assert!(
        !sentence.contains(" line "),
        "there is no such line: {sentence}"
    );
    let openapi: Value = serde_json::from_str(OPENAPI).unwrap();
    let described = &openapi["paths"]["/api/cameras/{twin}/{stream}/scene"]["put"]["responses"]["422"]
        ["content"]["application/json"]["example"]["error"];
    assert_eq!(
        *described,
        sentence
            .replace("cam-1", "camera-front-door")
            .replace("yard", "driveway")
    );
    // Of many parts the sentence says which one is wrong.
    let end = |n: u32| f64::from(n) / if n == 17 { 10.0 } else { 100.0 };
    let lines: Vec<Value> = (0..32)
        .map(|n| json!({"name": format!("line {n}"), "from": [0, 0.5], "to": [1, end(n)]}))
        .collect();
    let sentence = ask
        .refused(&json!({"zones": [], "lines": lines, "masks": []}), 422)
        .await;
    assert!(
        sentence
            .starts_with("`cameras.lines.to` of line \"line 17\" of camera cam-1 is [1.0, 1.7]"),
        "{sentence}"
    );
    let mask = json!({"points": [[0, 0], [1, 0], [1, 1]], "labels": ["persn"]});
    let sentence = ask
        .refused(&json!({"zones": [], "lines": [], "masks": [mask]}), 422)
        .await;
    assert!(
        sentence.contains("camera cam-1/default: mask 1: ")
            && sentence.contains("did you mean `person`?"),
        "{sentence}"
    );
    ask.refused(&zone(json!([[0, 0], [1, 1], [1, 0], [0, 1]])), 422)
        .await;
    ask.refused(&zone(json!([[0, 0], [2, 0], [1, 1]])), 422)
        .await;
    ask.refused(&json!({"zones": []}), 422).await;
    ask.refused(
        &json!({"zones": [], "lines": [], "masks": [], "max_fps": 30}),
        422,
    )
    .await;
    let twice = json!({"name": "l", "from": [0, 0], "to": [1, 1]});
    let sentence = ask
        .refused(
            &json!({"zones": [], "lines": [twice, twice], "masks": []}),
            422,
        )
        .await;
    assert!(sentence.contains("\"l\""), "{sentence}");
    let good = good.to_string();
    let foreign = [
        ("Sec-Fetch-Site", "cross-site"),
        ("Origin", "https://evil.example"),
    ];
    let long = "x".repeat(131_073);
    for (headers, body, status) in [
        (&[JSON][..], &*good, 401),
        (&[("Authorization", "Bearer other"), JSON], &good, 401),
        (&[BEARER, JSON, foreign[0]], &good, 403),
        (&[BEARER, JSON, foreign[1]], &good, 403),
        (&[BEARER], &good, 415),
        (&[BEARER, ("Content-Type", "text/plain")], &good, 415),
        (&[BEARER, JSON], "", 400),
        (&[BEARER, JSON], "{\"zones\":", 400),
        (&[BEARER, JSON], &long, 413),
        (
            &[BEARER, JSON, ("If-Match", "\"of-another-scene\"")],
            &good,
            412,
        ),
    ] {
        let answer = ask.put_as(SCENE, headers, body).await;
        assert_eq!(answer.status, status, "{headers:?} {}", answer.body);
    }
    let nobody = "/api/cameras/nobody/default/scene";
    let answer = ask.put_as(nobody, &[BEARER, JSON], &good).await;
    assert_eq!(answer.status, 404, "{}", answer.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_that_is_listed_elsewhere_is_not_changed() {
    let url = start_hub(DevHubOptions::default()).await;
    let variables = [
        ("PHYSTACK_SIMULATOR_URL", &*url),
        ("TWIN_ID", fake::NODE),
        ("TWINSIGHT_CAMERAS", "cam-1,cam-3"),
        ("TWINSIGHT_HTTP__TOKEN", "hush-hush"),
        ("TWINSIGHT_HTTP__EDIT", "true"),
    ];
    let config = "[[cameras]]\ntwin_id = \"cam-1\"\n[[cameras]]\ntwin_id = \"cam-2\"\n";
    let node = NodeProcess::start(config, &variables).await;
    let ask = Asking {
        address: node.http,
        description: Description::read(),
    };
    let line = json!({"name": "l", "from": [0, 0], "to": [1, 1]});
    let scene = json!({"zones": [], "lines": [line], "masks": []});
    let begun = Instant::now();
    while ask
        .get("/api/cameras/{twin}/{stream}", "/api/cameras/cam-3/default")
        .await
        .status
        != 200
    {
        assert!(begun.elapsed() < DEADLINE);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let other = "/api/cameras/cam-3/default/scene";
    let answer = ask.put_as(other, &[BEARER, JSON], &scene.to_string()).await;
    assert_eq!(answer.status, 409, "{}", answer.body);
    assert!(answer.sentence(other).contains("TWINSIGHT_CAMERAS"));
    // This one has a section in the file.
    let answer = ask.put(&scene).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let text = std::fs::read_to_string(&node.config).unwrap();
    assert!(
        text.contains("twin_id = \"cam-1\"\n\n[[cameras.lines]]\nname = \"l\"\n"),
        "{text}"
    );
}

#[tokio::test]
async fn nothing_is_changed_where_it_is_not_allowed() {
    let put = async |node: &Node, headers: &[(&str, &str)]| {
        let address = SocketAddr::from(([127, 0, 0, 1], node.port));
        let path = "/api/cameras/cam/default/scene";
        let answer = ask_at(address, "PUT", path, headers, "{}").await;
        (answer.status, answer.sentence(path))
    };
    let with_token = start("127.0.0.1:0", Some("hush-hush")).await;
    let (status, sentence) = put(&with_token, &[BEARER, JSON]).await;
    assert_eq!(status, 403);
    assert!(sentence.contains("`http.edit = true`"), "{sentence}");
    with_token.state.editor.permit(EditPermission::ForToken);
    let _changes = with_token.state.editor.open(false);
    let (status, sentence) = put(&with_token, &[BEARER, JSON]).await;
    assert_eq!(status, 403);
    assert!(sentence.contains("--config"), "{sentence}");
    // On loopback, where everybody may look, nobody may change anything without a token.
    let without = start("127.0.0.1:0", None).await;
    without.state.editor.permit(EditPermission::WithoutToken);
    let (status, sentence) = put(&without, &[JSON]).await;
    assert_eq!(status, 403);
    assert!(sentence.contains("`http.token_file`"), "{sentence}");
}
