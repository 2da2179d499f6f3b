use proptest::prelude::*;
use tracing::Level;

use super::buffer::is_unfit;
use super::fields::CUT;
use super::*;
use twinsight_client::secret;

fn fields(values: &[(&'static str, Value)]) -> Fields {
    let mut fields = Fields::default();
    for (name, value) in values {
        fields.set(name, value.clone());
    }
    fields
}

fn quoted(text: &str) -> Value {
    Value::Quoted(shown(text))
}

fn lines(values: &[(&'static str, Value)], span: &[(&'static str, Value)]) -> [String; 3] {
    let head = LineHead {
        time: "2026-11-28T17:00:00.000001Z",
        level: Level::INFO,
        target: "twinsight::node",
    };
    let (values, span) = (fields(values), fields(span));
    let spans = [SpanContext {
        name: "camera",
        fields: &span,
    }];
    [LineStyle::Text, LineStyle::Colour, LineStyle::Json]
        .map(|look| line(look, &head, &values, &spans))
}

#[test]
fn lines_look_as_they_always_did() {
    let [text, _, json] = lines(
        &[
            ("message", Value::Shown("it began".to_owned())),
            ("cameras", Value::Whole("3".to_owned())),
            ("warm", Value::Bool(true)),
            ("seconds", Value::Float(1.0)),
            ("who", quoted("a \"b\"")),
            ("address", Value::Shown("127.0.0.1:9464".to_owned())),
        ],
        &[("twin", Value::Shown("cam".to_owned()))],
    );
    assert_eq!(
        text,
        "2026-11-28T17:00:00.000001Z  INFO camera{twin=cam}: twinsight::node: it began cameras=3 warm=true \
         seconds=1 who=\"a \\\"b\\\"\" address=127.0.0.1:9464\n"
    );
    assert_eq!(
        json,
        "{\"timestamp\":\"2026-11-28T17:00:00.000001Z\",\"level\":\"INFO\",\"message\":\"it began\",\"cameras\":3,\
         \"warm\":true,\"seconds\":1.0,\"who\":\"a \\\"b\\\"\",\"address\":\"127.0.0.1:9464\",\
         \"target\":\"twinsight::node\",\"span\":{\"twin\":\"cam\",\"name\":\"camera\"},\
         \"spans\":[{\"twin\":\"cam\",\"name\":\"camera\"}]}\n"
    );
}

#[test]
fn a_value_forges_no_line_and_steers_no_terminal() {
    let evil = "key\n2026-11-28T17:00:00Z ERROR forged\r\u{1b}[2J\u{9b}31m\u{202e}\u{2028}\0end";
    for value in [quoted(evil), Value::Shown(shown(evil))] {
        let [text, _, json] = lines(&[("message", value.clone())], &[("twin", value)]);
        for line in [&text, &json] {
            assert_eq!(line.matches('\n').count(), 1, "{line:?}");
            assert!(
                !line.trim_end_matches('\n').chars().any(is_unfit),
                "{line:?}"
            );
        }
        assert!(text.contains(
            r"key\n2026-11-28T17:00:00Z ERROR forged\r\u{1b}[2J\u{9b}31m\u{202e}\u{2028}\u{0}end"
        ));
        let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(parsed["message"], evil);
        assert_eq!(parsed["span"]["twin"], evil);
    }
}

#[test]
fn a_line_is_cut_at_4_kib_with_a_mark_and_json_stays_json() {
    let long = "ä\"\n".repeat(300_000);
    let [text, colour, json] = lines(
        &[
            ("message", quoted(&long)),
            ("left", Value::Whole("1".to_owned())),
        ],
        &[("twin", quoted(&long)), ("stream", quoted(&long))],
    );
    for line in [&text, &colour, &json] {
        assert!(line.len() <= MAX_LINE_BYTES, "{}", line.len());
        assert!(line.len() > MAX_LINE_BYTES - 64, "{}", line.len());
        assert!(line.contains(CUT));
    }
    let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(parsed["cut"], true);
    assert_eq!(parsed["level"], "INFO");
    assert_eq!(parsed["target"], "twinsight::node");
    assert!(parsed["message"].as_str().unwrap().starts_with("ä\"\nä"));
}

#[test]
fn numbers_stay_numbers_and_what_is_none_in_json_is_a_text() {
    let [_, _, json] = lines(
        &[
            ("whole", Value::Whole(u128::MAX.to_string())),
            ("small", Value::Float(1e-9)),
            ("none", Value::Float(f64::NAN)),
            ("level", Value::Whole("2".to_owned())),
        ],
        &[],
    );
    let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(parsed["whole"].is_number() && parsed["small"].is_number());
    assert!(parsed["none"].is_string());
    assert_eq!(parsed["level"], "INFO");
    assert_eq!(parsed["field.level"], 2);
}

#[test]
fn secrets_are_concealed_wherever_they_stand() {
    secret::conceal("log-line-test-secret");
    for n in 0..200 {
        secret::conceal_told(&format!("told-by-a-hub-{n}"));
    }
    let across = "x".repeat(MAX_LINE_BYTES - 10) + "log-line-test-secret";
    let many = "log-line-test-secret".repeat(400);
    for text in [
        "key=log-line-test-secret;",
        "told-by-a-hub-199",
        across.as_str(),
        // Its stand-ins are shorter, so that the end of what was kept moves into the line.
        many.as_str(),
    ] {
        let shown = shown(text);
        assert!(!shown.contains("log-line"), "{shown}");
        assert!(!shown.contains("told-by"), "{shown}");
    }
    secret::conceal("the");
    assert_eq!(shown("the end"), "the end");
}

proptest! {
    #[test]
    fn any_line_is_one_line_of_valid_json(
        message in "\\PC{0,50}|.{0,3000}|[\\x00-\\x1f\"\\\\]{0,2000}",
        value in ".{0,2000}",
        numbers in proptest::collection::vec(any::<f64>(), 0..60),
        spans in proptest::collection::vec(".{0,400}", 0..20),
    ) {
        const NAMES: [&str; 4] = ["a", "name", "level", "twin"];
        let mut values = Fields::default();
        values.set("message", Value::Shown(shown(&message)));
        for (at, number) in numbers.iter().enumerate() {
            values.set(NAMES[at % 4], Value::Float(*number));
        }
        values.set("value", Value::Quoted(shown(&value)));
        let each: Vec<Fields> = spans.iter().map(|text| fields(&[("name", quoted(text)), ("twin", quoted(text))])).collect();
        let spans: Vec<SpanContext<'_>> = each.iter().map(|fields| SpanContext { name: "camera", fields }).collect();
        let head = LineHead { time: "2026-11-28T17:00:00.000001Z", level: Level::WARN, target: &message };
        for look in [LineStyle::Text, LineStyle::Colour, LineStyle::Json] {
            let line = line(look, &head, &values, &spans);
            prop_assert!(line.len() <= MAX_LINE_BYTES, "{}", line.len());
            prop_assert_eq!(line.matches('\n').count(), 1);
            if look == LineStyle::Json {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok(), "{}", line);
            }
        }
    }
}
