//! The page on HTTP keeps to the table of routes, and its examples to the description of the API.

use std::collections::BTreeSet;

use serde_json::Value;
use twinsight::http::routes::{Needs, OPENAPI, ROUTES};

use crate::read;

const PAGE: &str = "docs/reference/http.md";

/// How the page writes the path of a route.
fn written(path: &str) -> String {
    path.replace("{twin}", "TWIN")
        .replace("{stream}", "STREAM")
        .replace("{name}", "NAME")
        .replace("{id}", "ID")
}

#[test]
fn the_page_has_every_route_and_what_it_needs() {
    let page = read(PAGE);
    let mut told = BTreeSet::new();
    let rows = page
        .lines()
        .skip_while(|line| !line.starts_with("| route "));
    for row in rows.skip(2).take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        for route in cells[1].split(", ") {
            let route = route.trim_matches('`').to_owned();
            told.insert((route, cells[2].to_owned()));
        }
    }
    let routes = ROUTES.iter().map(|route| {
        let name = format!("{} {}", route.method, written(route.path));
        let needs = match route.needs {
            Needs::Nothing => "",
            Needs::Token => "token",
            Needs::Edit => "token, `http.edit`",
        };
        (name, needs.to_owned())
    });
    assert_eq!(told, routes.collect());
}

#[test]
fn commands_of_the_page_ask_for_what_there_is() {
    let page = read(PAGE);
    let mut seen = 0;
    for line in page.lines().filter(|line| line.starts_with("curl ")) {
        let address = line.split("http://").nth(1).unwrap();
        let path = address.split_once('/').unwrap().1;
        let path = path.trim_end_matches('\'').split('?').next().unwrap();
        let path = format!("/{path}")
            .replace("camera-front-door", "{twin}")
            .replace("/default", "/{stream}");
        assert!(
            ROUTES.iter().any(|route| route.path == path),
            "{line}: {path}"
        );
        seen += 1;
    }
    assert!(seen > 5, "{seen}");
}

#[test]
fn examples_of_the_page_have_the_fields_of_the_description() {
    let page = read(PAGE);
    let document: Value = serde_json::from_str(OPENAPI).unwrap();
    let schemas = &document["components"]["schemas"];
    let mut examples = page
        .split("```json\n")
        .skip(1)
        .map(|example| example.split("```").next().unwrap())
        .map(|example| serde_json::from_str::<Value>(example).unwrap());
    let camera = examples.next().unwrap();
    compare(&schemas["Camera"], &camera);
    let track = examples.next().unwrap();
    compare(&schemas["Track"], &track);
    let scene = examples.next().unwrap();
    compare(&schemas["Scene"], &scene);
    let config = examples.next().unwrap();
    compare(&schemas["Config"], &config);
    for section in config["inForce"].as_object().unwrap().values() {
        let keys = section
            .as_array()
            .map_or_else(|| section, |cameras| &cameras[0]);
        for entry in keys.as_object().unwrap().values() {
            compare(&schemas["ConfigEntry"], entry);
        }
    }
    // Each field of a camera and of a track has its row.
    let fields = ["Camera", "Track"].map(|name| schemas[name]["properties"].as_object().unwrap());
    for field in fields.into_iter().flat_map(|fields| fields.keys()) {
        let is_told = |line: &&str| line.starts_with('|') && line.contains(&format!("`{field}`"));
        assert!(
            page.lines().any(|line| is_told(&line)),
            "{field} has no row"
        );
    }
}

/// The example has all fields that every answer has, and none that is not described.
#[track_caller]
fn compare(schema: &Value, example: &Value) {
    let described = schema["properties"].as_object().unwrap();
    for required in schema["required"].as_array().unwrap() {
        let name = required.as_str().unwrap();
        assert!(
            example.get(name).is_some(),
            "{name} is missing in {example:#}"
        );
    }
    for name in example.as_object().unwrap().keys() {
        assert!(described.contains_key(name), "{name} is not described");
    }
}
