//! `src/http/openapi.json` against what the node does: it names the routes of the table and no others, is OpenAPI 3.1 itself, and
//! every answer of a running node, errors included, is one that it describes. Its examples are valid too.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use boon::{Compiler, Schemas};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use twinsight::dev::hub::DevHubOptions;
use twinsight::http::routes::{Needs, OPENAPI, ROUTES};
use twinsight::telemetry::ledger::{ModelState, Work};
use twinsight_client::telemetry::CameraState;

use super::http_access::{Answer, LIMIT, ask_at};
use crate::common::{NodeProcess, fake, root, start_hub};

/// The description with a compiler for its schemas.
pub(crate) struct Description {
    document: Value,
    /// The same with every object closed, so that no answer has a field that is not described. Readers are told that fields may be
    /// added.
    closed: Value,
}

impl Description {
    pub(crate) fn read() -> Self {
        let document: Value = serde_json::from_str(OPENAPI).unwrap();
        let mut closed = document.clone();
        close(&mut closed["components"]["schemas"]);
        Self { document, closed }
    }

    /// Follows `$ref` once.
    fn at<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(reference) => self
                .document
                .pointer(reference.strip_prefix('#').unwrap())
                .unwrap_or_else(|| panic!("{reference} leads nowhere")),
            None => value,
        }
    }

    /// Checks a value against a schema of the document.
    fn check(&self, schema: &Value, value: &Value, what: &str) {
        let mut compiler = Compiler::new();
        let mut document = self.closed.clone();
        document["checked"] = schema.clone();
        compiler.add_resource("urn:openapi", document).unwrap();
        let mut schemas = Schemas::new();
        let index = compiler
            .compile("urn:openapi#/checked", &mut schemas)
            .unwrap_or_else(|error| panic!("{what}: {error:#}"));
        if let Err(error) = schemas.validate(value, index) {
            panic!("{what}: {error:#}\n{value:#}");
        }
    }

    /// What the document says of an answer to a path as the table has it.
    fn response(&self, method: &str, path: &str, status: u16) -> &Value {
        let operation = &self.document["paths"][path][method.to_ascii_lowercase()];
        let responses = &operation["responses"];
        if status == 405 {
            return &self.document["components"]["responses"]["WrongMethod"];
        }
        let response = responses.get(status.to_string());
        self.at(response.unwrap_or_else(|| panic!("{method} {path}: {status} is not described")))
    }

    /// Checks status, headers, type and body of an answer.
    pub(crate) fn check_answer(&self, method: &str, path: &str, answer: &Answer) {
        let what = format!("{method} {path} {}", answer.status);
        let response = self.response(method, path, answer.status);
        for (name, header) in response["headers"].as_object().into_iter().flatten() {
            let header = self.at(header);
            match answer.header(&name.to_ascii_lowercase()) {
                Some(value) => {
                    let as_number = value.parse::<u64>().map(Value::from);
                    let is_text = header["schema"]["type"] == "string";
                    let value = match as_number {
                        Ok(number) if !is_text => number,
                        _ => value.into(),
                    };
                    self.check(&header["schema"], &value, &format!("{what}, {name}"));
                }
                None => assert_ne!(header["required"], true, "{what}: {name} is missing"),
            }
        }
        let Some(content) = response["content"].as_object() else {
            assert_eq!(answer.body, "", "{what}");
            return;
        };
        let content_type = answer.header("content-type").unwrap_or_default();
        let media_type = content_type.split(';').next().unwrap_or_default();
        let described = content
            .get(media_type)
            .unwrap_or_else(|| panic!("{what}: {media_type} is not described"));
        if media_type == "application/json" {
            let body = serde_json::from_str(&answer.body).unwrap();
            self.check(&described["schema"], &body, &what);
        }
    }
}

/// Forbids fields that are not described.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.contains_key("properties") && fields.get("type") == Some(&json!("object")) {
                fields.entry("additionalProperties").or_insert(json!(false));
            }
            fields.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

#[test]
fn it_names_the_routes_of_the_table_and_what_they_need() {
    let description = Description::read();
    let mut described = BTreeSet::new();
    for (path, operations) in description.document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            // An operation without an own word on security has that of the document: the token.
            let needs_token = operation.get("security").is_none();
            described.insert((method.to_ascii_uppercase(), path.clone(), needs_token));
        }
    }
    let routes = ROUTES.iter().map(|route| {
        let needs_token = route.needs != Needs::Nothing;
        (route.method.to_owned(), route.path.to_owned(), needs_token)
    });
    assert_eq!(described, routes.collect());
}

#[test]
fn it_names_what_queries_of_the_table_may_have() {
    let description = Description::read();
    for route in ROUTES {
        let operation =
            &description.document["paths"][route.path][route.method.to_ascii_lowercase()];
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let of_query = parameters
            .map(|parameter| description.at(parameter))
            .filter(|parameter| parameter["in"] == "query");
        let names: Vec<_> = of_query
            .map(|parameter| parameter["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, route.query, "{}", route.path);
        // A name that is none of these is refused.
        let has_answer = !operation["responses"]["400"].is_null();
        assert!(names.is_empty() || has_answer, "{}", route.path);
    }
}

#[test]
fn its_events_are_the_published_schemas_and_its_words_those_of_the_code() {
    let document = Description::read().document;
    let schemas = &document["components"]["schemas"];
    for name in ["detections", "cameraStatus", "track", "lineCrossed"] {
        let file = root().join(format!("docs/reference/schema/{name}.schema.json"));
        // References lead to another place in a larger document.
        let text = std::fs::read_to_string(file).unwrap().replace(
            "\"#/$defs/",
            &format!("\"#/components/schemas/{name}/$defs/"),
        );
        let mut published: Value = serde_json::from_str(&text).unwrap();
        let fields = published.as_object_mut().unwrap();
        fields.remove("$schema");
        fields.remove("$id");
        assert_eq!(schemas[name], published, "{name}");
    }
    let states: Vec<_> = CameraState::ALL.iter().map(|each| each.as_str()).collect();
    let of_models: Vec<_> = ModelState::ALL.iter().map(|each| each.as_str()).collect();
    let work: Vec<_> = Work::ALL.iter().map(|each| each.as_str()).collect();
    for (pointer, words) in [
        ("/Camera/properties/state/enum", &states),
        ("/StateChange/properties/state/enum", &states),
        (
            "/Node/properties/models/items/properties/state/enum",
            &of_models,
        ),
        ("/Node/properties/cpu/properties/stages/required", &work),
    ] {
        assert_eq!(schemas.pointer(pointer), Some(&json!(words)), "{pointer}");
    }
}

#[test]
fn its_examples_fit_their_schemas() {
    let description = Description::read();
    let mut checked = 0;
    let mut check = |content: &Value, what: &str| {
        for (media_type, media) in content.as_object().into_iter().flatten() {
            if let Some(example) = media.get("example") {
                description.check(&media["schema"], example, &format!("{what} {media_type}"));
                checked += 1;
            }
        }
    };
    for (path, operations) in description.document["paths"].as_object().unwrap() {
        for operation in operations.as_object().unwrap().values() {
            for (status, response) in operation["responses"].as_object().unwrap() {
                check(&response["content"], &format!("{path} {status}"));
            }
        }
    }
    let responses = description.document["components"]["responses"]
        .as_object()
        .unwrap();
    for (name, response) in responses {
        check(&response["content"], name);
    }
    assert!(checked > 15, "{checked}");
}

#[test]
fn it_is_openapi_3_1() {
    let file = root().join("tests/data/openapi_3_1.schema.json");
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let mut compiler = Compiler::new();
    compiler.add_resource("urn:oas", schema).unwrap();
    let mut schemas = Schemas::new();
    let index = compiler.compile("urn:oas", &mut schemas).unwrap();
    let document = Description::read().document;
    if let Err(error) = schemas.validate(&document, index) {
        panic!("{error:#}");
    }
    let mut broken = document.clone();
    broken["paths"]["/api/node"]["get"]["responses"]["200"]["content"] = json!("any");
    assert!(schemas.validate(&broken, index).is_err());

    // What the schema of OpenAPI does not see: names that lead nowhere, and parameters of paths that are not described.
    let mut waiting = vec![&document];
    let mut operations = BTreeSet::new();
    while let Some(value) = waiting.pop() {
        match value {
            Value::Object(fields) => waiting.extend(fields.values()),
            Value::Array(items) => waiting.extend(items),
            _ => {}
        }
        if let Some(reference) = value["$ref"].as_str() {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(
                document.pointer(pointer).is_some(),
                "{reference} leads nowhere"
            );
        }
        if let Some(operation) = value["operationId"].as_str() {
            assert!(operations.insert(operation), "{operation} is there twice");
        }
    }
    let description = Description::read();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let named: BTreeSet<&str> = path
            .split('{')
            .skip(1)
            .filter_map(|rest| rest.split('}').next())
            .collect();
        for operation in methods.as_object().unwrap().values() {
            let parameters = operation["parameters"].as_array();
            let parameters = parameters
                .into_iter()
                .flatten()
                .map(|each| description.at(each));
            let in_path = parameters.filter(|each| each["in"] == "path");
            let described = in_path.filter_map(|each| each["name"].as_str());
            assert_eq!(described.collect::<BTreeSet<_>>(), named, "{path}");
        }
    }
    for schema in document["components"]["schemas"]
        .as_object()
        .unwrap()
        .keys()
    {
        // Compiling checks a schema against the schema of JSON Schema.
        let schema = json!({"$ref": format!("#/components/schemas/{schema}")});
        let any = json!({"anyOf": [schema, true]});
        description.check(&any, &Value::Null, "any");
    }
}

const CONFIG: &str = r#"
[defaults]
max_fps = 8.0
[[cameras]]
twin_id = "cam/1"
name = "Front door"
[[cameras]]
twin_id = "cam-nobody"
[[sinks]]
type = "webhook"
url = "http://127.0.0.1:9/"
[[sinks]]
type = "mqtt"
url = "mqtt://127.0.0.1:9"
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_of_a_running_node_is_described() {
    let description = Description::read();
    let url = start_hub(DevHubOptions::default()).await;
    fake::camera(&url, "cam/1", "default", None, 10.0);
    let variables = [
        ("PHYSTACK_SIMULATOR_URL", &*url),
        ("TWIN_ID", fake::NODE),
        ("TWINSIGHT_ICE__INTERFACES", "lo"),
    ];
    let node = NodeProcess::start(CONFIG, &variables).await;
    let ask = Asking {
        address: node.http,
        description: &description,
        headers: Vec::new(),
    };
    // While it starts, when it knows least.
    for route in [
        "/readyz",
        "/healthz",
        "/metrics",
        "/api/node",
        "/api/cameras",
        "/api/config",
    ] {
        ask.get(route, route).await;
    }
    let one = "/api/cameras/{twin}/{stream}";
    let deadline = Instant::now() + 3 * LIMIT;
    loop {
        let camera = ask.get(one, "/api/cameras/cam%2F1/default").await;
        let camera: Value = serde_json::from_str(&camera.body).unwrap_or_default();
        if !camera["ageMs"].is_null() && !camera["history"].is_null() {
            assert_eq!(camera["blind"], false, "{camera:#}");
            break;
        }
        assert!(Instant::now() < deadline, "{camera:#}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    for path in [
        "/api/node",
        "/api/cameras",
        "/api/config",
        "/api/tracks",
        "/api/openapi.json",
        "/",
        "/readyz",
    ] {
        assert_eq!(ask.get(path, path).await.status, 200, "{path}");
    }
    ask.get("/api/cameras", "/api/cameras?history=1").await;
    let blind = ask.get("/healthz", "/healthz?cameras=1").await;
    assert_eq!(blind.status, 503, "nobody is there: {}", blind.body);
    let served = ask.get("/api/openapi.json", "/api/openapi.json").await;
    let served: Value = serde_json::from_str(&served.body).unwrap();
    assert_eq!(served, description.document);
    for name in ["style.css", "main.js", "icon.svg", "index.html"] {
        ask.get("/assets/{name}", &format!("/assets/{name}")).await;
    }
    assert_eq!(ask.get("/assets/{name}", "/assets/none").await.status, 404);

    let frame = "/api/cameras/{twin}/{stream}/frame.jpg";
    let picture = ask
        .get(
            frame,
            "/api/cameras/cam%2F1/default/frame.jpg?width=320&boxes=1",
        )
        .await;
    assert_eq!(picture.status, 200, "{}", picture.body);
    assert_eq!(picture.header("x-camera"), Some("cam%2F1/default"));
    assert!(picture.header("x-sequence").is_some());
    let sequence: u64 = picture.header("x-sequence").unwrap().parse().unwrap();
    let later = format!(
        "/api/cameras/cam%2F1/default/frame.jpg?after={}",
        sequence + 2
    );
    let later = ask.get(frame, &later).await;
    assert!(later.header("x-sequence").unwrap().parse::<u64>().unwrap() > sequence + 2);
    let (nobody, one_live) = (
        "/api/cameras/cam-nobody/default/frame.jpg",
        "/api/cameras/{twin}/{stream}/live",
    );
    assert_eq!(ask.get(frame, nobody).await.status, 404);
    for (route, path, status) in [
        ("/api/tracks", "/api/tracks?camera=cam%2F1&state=ended", 200),
        ("/api/tracks", "/api/tracks?camera=none", 404),
        ("/api/tracks", "/api/tracks?state=gone", 400),
        ("/api/tracks", "/api/tracks?camra=cam%2F1", 400),
        (
            "/api/tracks/{id}/best.jpg",
            "/api/tracks/999999/best.jpg?number=3",
            400,
        ),
        (one_live, "/api/cameras/cam%2F1/default/live?after=1", 400),
        ("/healthz", "/healthz?camera=1", 400),
        ("/readyz", "/readyz?more=1", 200),
        (
            "/api/tracks/{id}/best.jpg",
            "/api/tracks/999999/best.jpg",
            404,
        ),
        (one, "/api/cameras/none/default", 404),
        (one, "/api/cameras/%ff/default", 400),
        (frame, "/api/cameras/none/default/frame.jpg", 404),
        (frame, "/api/cameras/%ff/default/frame.jpg", 400),
        (one_live, "/api/cameras/cam%2F1/default/live?fps=1", 200),
        (one_live, "/api/cameras/none/default/live", 404),
        (
            "/api/live",
            "/api/live?camera=cam%2F1/default&camera=cam-nobody%2Fdefault&fps=0.5",
            200,
        ),
        ("/api/live", "/api/live?camera=cam%2F1/default&fps=NaN", 400),
        (
            frame,
            "/api/cameras/cam%2F1/default/frame.jpg?width=wide",
            400,
        ),
        (one_live, "/api/cameras/cam%2F1/default/live?boxes=yes", 400),
        ("/api/cameras", "/api/cameras?history=maybe", 400),
        ("/healthz", "/healthz?cameras=maybe", 400),
        ("/api/events", "/api/events?type=detection", 400),
        ("/api/events", "/api/events?camera=nobody", 404),
        ("/api/live", "/api/live?camera=cam%252F1%2Fdefault", 200),
        ("/api/live", "/api/live", 400),
        ("/api/live", "/api/live?camera=none/default", 404),
        (
            "/api/events",
            "/api/events?type=cameraStatus&camera=cam%2F1",
            200,
        ),
    ] {
        let answer = ask.get(route, path).await;
        assert_eq!(answer.status, status, "{path}");
    }
    for route in ROUTES {
        let answer = ask_at(node.http, "DELETE", route.path, &[], "").await;
        assert_eq!(answer.status, 405, "{}", route.path);
        description.check_answer("DELETE", route.path, &answer);
    }
    let form = ask_at(node.http, "POST", "/login", &[], "token=x").await;
    description.check_answer("POST", "/login", &form);
    let form = ask_at(node.http, "POST", "/login", &[], &"x".repeat(5000)).await;
    description.check_answer("POST", "/login", &form);
    let out = ask_at(node.http, "POST", "/logout", &[], "").await;
    description.check_answer("POST", "/logout", &out);
    let scene = "/api/cameras/{twin}/{stream}/scene";
    let own = "/api/cameras/cam%2F1/default/scene";
    let off = ask_at(node.http, "PUT", own, &[], "{}").await;
    assert!(off.sentence(own).contains("`http.edit = true`"));
    description.check_answer("PUT", scene, &off);
    let foreign = Asking {
        headers: vec![("Host", "evil.example")],
        ..ask.clone()
    };
    for route in ROUTES.iter().filter(|route| route.needs == Needs::Token) {
        assert_eq!(foreign.get(route.path, route.path).await.status, 403);
    }
    check_events(&node, &description).await;
    check_refusal(&node, &ask).await;
}

/// Asks and checks what is answered.
#[derive(Clone)]
struct Asking<'a> {
    address: SocketAddr,
    description: &'a Description,
    headers: Vec<(&'static str, &'static str)>,
}

impl Asking<'_> {
    async fn get(&self, route: &str, path: &str) -> Answer {
        let answer = ask_at(self.address, "GET", path, &self.headers, "").await;
        self.description.check_answer("GET", route, &answer);
        answer
    }
}

/// Every event of the stream fits the schema that the description names for it.
async fn check_events(node: &NodeProcess, description: &Description) {
    let response = description.response("GET", "/api/events", 200);
    let mut stream = TcpStream::connect(node.http).await.unwrap();
    let request = b"GET /api/events HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: other-1\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let (mut text, mut checked) = (Vec::new(), BTreeSet::new());
    let deadline = tokio::time::Instant::now() + LIMIT;
    while checked.len() < 5 {
        let read = tokio::time::timeout_at(deadline, stream.read_buf(&mut text)).await;
        assert!(read.unwrap().unwrap() > 0);
        let so_far = String::from_utf8_lossy(&text);
        let mut kind = "";
        for line in so_far.lines() {
            kind = line.strip_prefix("event: ").unwrap_or(kind);
            // The last line may be a part of one.
            let data = line
                .strip_prefix("data: ")
                .map(serde_json::from_str::<Value>);
            if let Some(Ok(event)) = data {
                description.check(&response["x-events"][kind], &event, kind);
                checked.insert(event["sequence"].as_u64());
            }
        }
    }
}

/// A file that is refused is told by the API, and forgotten when it is good again.
async fn check_refusal(node: &NodeProcess, ask: &Asking<'_>) {
    let good = std::fs::read_to_string(&node.config).unwrap();
    let broken = good.replace("max_fps = 8.0", "max_fps = \"fast\"");
    let config = async || -> Value {
        serde_json::from_str(&ask.get("/api/config", "/api/config").await.body).unwrap()
    };
    let before = config().await;
    let listen = &before["inForce"]["http"]["listen"];
    assert_eq!(listen["where"], "line 2", "{listen}");
    assert_eq!(before["inForce"]["hub"]["twin_id"]["where"], "TWIN_ID");
    let of_camera = &before["inForce"]["cameras"][0]["max_fps"];
    assert_eq!(
        *of_camera,
        json!({"value": 8.0, "source": "file", "where": "line 5", "from": "defaults"})
    );
    let until = async |what: &str, is_so: &dyn Fn(&Value) -> bool| {
        let deadline = Instant::now() + LIMIT;
        loop {
            let config = config().await;
            if is_so(&config) {
                return config;
            }
            assert!(Instant::now() < deadline, "{what}: {config:#}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    std::fs::write(&node.config, broken).unwrap();
    let refused = until("refused", &|config| !config["lastRefusal"].is_null()).await;
    assert_eq!(refused["lastRefusal"]["source"], "file");
    let reason = refused["lastRefusal"]["reason"].as_str().unwrap();
    assert!(
        reason.contains("line 5: `defaults.max_fps` takes a number"),
        "{reason}"
    );
    assert_eq!(
        refused["inForce"], before["inForce"],
        "the last good one stays"
    );
    let node_says: Value =
        serde_json::from_str(&ask.get("/api/node", "/api/node").await.body).unwrap();
    assert_eq!(node_says["config"]["reloadOk"], false);
    // A key that holds until a restart is shown as it is, and what can change is as in the file.
    let good = good
        .replace("127.0.0.1:0", "127.0.0.1:1")
        .replace("max_fps = 8.0", "max_fps = 7.0");
    std::fs::write(&node.config, good).unwrap();
    let after = until("taken", &|config| {
        config["lastRefusal"].is_null() && config["inForce"]["defaults"]["max_fps"]["value"] == 7.0
    })
    .await;
    let listen = &after["inForce"]["http"]["listen"];
    assert_eq!(
        *listen,
        json!({"value": "127.0.0.1:0", "source": "file", "where": "line 2", "pendingRestart": true})
    );
    assert!(after["appliedAt"].as_u64() > before["appliedAt"].as_u64());
}
