//! What `[models]` takes, and the sentences for what it does not.

use std::io::Write;

use super::*;
use crate::config::{Config, Env};

fn load(text: &str) -> Result<Vec<RemoteModelConfig>, String> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    write!(file, "{text}\n[[cameras]]\ntwin_id = \"cam\"\n").unwrap();
    let env: Env = [("TWIN_ID", "node-1")].into_iter().collect();
    let path = file.path().display().to_string();
    Config::load(Some(file.path()), &env)
        .map(|config| config.models)
        .map_err(|error| error.to_string().replace(&path, "FILE"))
}

#[test]
fn little_has_to_be_said() {
    let models =
        load("[models.person]\nbackend = \"kserve\"\nurl = \"grpc://triton:8001\"").unwrap();
    let [model] = &models[..] else {
        panic!("{models:?}");
    };
    assert_eq!(model.servers[0].to_string(), "grpc://triton:8001");
    assert_eq!(
        (model.model.as_str(), model.manifest.as_str()),
        ("person", "person")
    );
    assert_eq!(
        (model.deadline, model.max_in_flight),
        (Duration::from_millis(500), 16)
    );
    assert_eq!((&model.version, &model.fallback), (&None, &None));
}

#[test]
fn all_can_be_said() {
    let mut token = tempfile::NamedTempFile::new().unwrap();
    write!(token, "hush-hush-remote").unwrap();
    let text = format!(
        "[models.person]\nbackend = \"kserve\"\nurl = [\"https://a:8000/inference/\", \"https://[::1]\"]\nmodel = \"n\"\n\
         version = \"2\"\nmanifest = \"nanodet_g_coco\"\ndeadline_ms = 100\nmax_in_flight = 4\n\
         fallback = \"nanodet_g_coco_int8\"\nca_file = \"ca.pem\"\ntoken_file = \"{}\"",
        token.path().display()
    );
    let models = load(&text).unwrap();
    let urls: Vec<String> = models[0].servers.iter().map(ToString::to_string).collect();
    assert_eq!(urls, ["https://a:8000/inference", "https://[::1]:443"]);
    assert_eq!(models[0].manifest, "nanodet_g_coco");
    assert_eq!(
        models[0].token.as_ref().unwrap().expose(),
        "hush-hush-remote"
    );
    assert!(!format!("{models:?}").contains("hush-hush"));
}

#[test]
fn a_mistake_names_the_model_of_its_key() {
    for (key, value) in [
        ("backend", "\"triton\""),
        ("url", "\"a:8001\""),
        ("model", "\"a b\""),
        ("version", "\"1/2\""),
        ("manifest", "\"a/b\""),
        ("deadline_ms", "5"),
        ("deadline_ms", "\"long\""),
        ("max_in_flight", "0"),
        ("ca_file", "\"\""),
        ("ca_file", "\"plain.pem\""),
        ("token_file", "\"/nowhere/token\""),
    ] {
        let mut keys = vec![("backend", "\"kserve\""), ("url", "\"grpc://a\"")];
        keys.retain(|(name, _)| *name != key);
        keys.push((key, value));
        let lines: String = keys
            .iter()
            .map(|(key, value)| format!("{key} = {value}\n"))
            .collect();
        for (name, written) in [("yard", "yard"), ("\"v1.5\"", "\"v1.5\"")] {
            let error = load(&format!("[models.{name}]\n{lines}")).unwrap_err();
            let whole = format!("`models.{written}.{key}`");
            assert!(error.contains(&whole) || value == "\"long\"", "{error}");
        }
    }
    let error =
        load("[models.yard]\nbackend = \"kserve\"\nurl = \"grpc://a\"\ndeadline_ms = \"long\"");
    let error = error.unwrap_err();
    assert!(
        error.contains("`models.yard.deadline_ms` takes a whole number"),
        "{error}"
    );
    // An unknown key that is called as its model.
    let error =
        load("[models.yard]\nbackend = \"kserve\"\nurl = \"grpc://a\"\nyard = 1").unwrap_err();
    assert!(error.contains("no key `models.yard.yard`"), "{error}");
    let error = load("[models.my_yard]\nbackend = \"kserve\"\nurl = \"grpc://a\"\nyard = 1");
    let error = error.unwrap_err();
    assert!(error.contains("no key `models.my_yard.yard`"), "{error}");
}

#[test]
fn each_mistake_has_its_sentence() {
    let good = "[models.m]\nbackend = \"kserve\"\nurl = \"grpc://a\"\n";
    for (text, sentence) in [
        (
            "[models.m]\nurl = \"grpc://a\"",
            "model \"m\" has no `backend`",
        ),
        (
            "[models.m]\nbackend = \"kserve\"",
            "model \"m\" has no `url`",
        ),
        (
            "[models.m]\nbackend = \"triton\"\nurl = \"grpc://a\"",
            "give \"kserve\"",
        ),
        (
            "[models.m]\nbackend = \"kserve\"\nurl = \"a:8001\"",
            "addresses of one kind",
        ),
        (
            "[models.m]\nbackend = \"kserve\"\nurl = [\"grpc://a\", \"http://a\"]",
            "addresses of one kind",
        ),
        (
            "[models.m]\nbackend = \"kserve\"\nurl = [\"grpc://a\", \"grpc://a:8001\"]",
            "each once",
        ),
        (
            "[models.m]\nbackend = \"kserve\"\nurl = \"grpc://a/path\"",
            "addresses of one kind",
        ),
        (
            &format!("{good}deadline_ms = 5"),
            "a whole number from 20 to 15000",
        ),
        (
            &format!("{good}ca_file = \"t\""),
            "this model's `url` has none",
        ),
        (&format!("{good}fallback = \"m\""), "is on a server, too"),
        (
            &format!("{good}dead_line = 5"),
            "there is no key `models.m.dead_line`, the nearest is `models.m.deadline_ms`",
        ),
    ] {
        let error = load(text).unwrap_err();
        assert!(error.contains(sentence), "{text}: {error}");
    }
    let error = load("[models.m]\nbackend = \"kserve\"\nurl = \"grpc://u:hush@a\"").unwrap_err();
    assert!(!error.contains("hush"), "{error}");
}
