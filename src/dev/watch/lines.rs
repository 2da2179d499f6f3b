//! An event of a node as a line for people: its type and JSON come in, lines go out. Whatever is in the event comes from the network, so
//! it is cut and its control characters are escaped before it reaches a terminal.

use std::collections::HashSet;
use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value};

use super::sequence::Sequences;
use crate::dev::terminal::{Colours, Paint, cut, pad, width};
use twinsight_client::hub::text::brief;

/// The widest name of a camera or node that is shown whole. Names of cameras are padded to the widest that came so far.
const MAX_NAME: usize = 24;

/// Labels of one event that are shown.
const MAX_LABELS: usize = 8;

/// Scores that are shown for one label.
const MAX_SCORES: usize = 6;

/// The widest text of an event of a type that is not known here.
const MAX_UNKNOWN: usize = 160;

/// The widest value in such an event.
const MAX_VALUE: usize = 40;

/// An age that is longer is none.
const MAX_AGE_MS: f64 = 1e9;

/// The fields that all events have, and that say nothing about what happened.
const COMMON: &[&str] = &[
    "schemaVersion",
    "runId",
    "sequence",
    "timestamp",
    "camera",
    "type",
];

/// Makes lines of events, and remembers what the next ones need.
#[derive(Debug)]
pub(super) struct EventLines {
    colours: Colours,
    /// Times are shown in this zone.
    zone: TimeZone,
    nodes: Vec<NodeLines>,
    name_width: usize,
}

/// What the lines of one node need.
#[derive(Debug)]
struct NodeLines {
    /// The node's twin, as wide as that of any other, with the space before what follows. It is empty if no other node is watched.
    column: String,
    sequences: Sequences,
}

impl EventLines {
    /// Makes lines for the nodes of these twins, whose places name them later.
    pub(super) fn new(colours: Colours, zone: TimeZone, twins: &[String]) -> Self {
        let node = |column| NodeLines {
            column,
            sequences: Sequences::default(),
        };
        Self {
            colours,
            zone,
            nodes: columns(twins).into_iter().map(node).collect(),
            name_width: 0,
        }
    }

    /// The lines of an event of a node that came at `now_ms`: what is missing before it, and the event itself.
    pub(super) fn event(
        &mut self,
        node: usize,
        kind: &str,
        event: &Value,
        now_ms: u64,
    ) -> Vec<String> {
        let mut lines = Vec::new();
        let at_ms = event["timestamp"].as_u64().unwrap_or(now_ms);
        let camera = self.camera(&event["camera"]);
        let NodeLines { column, sequences } = &mut self.nodes[node];
        let column = column.clone();
        if let (Some(run), Some(sequence)) = (event["runId"].as_str(), event["sequence"].as_u64()) {
            let run = brief(run);
            let noticed = sequences.note(&run, &stream_key(&event["camera"]), sequence);
            if noticed.new_run {
                let who = if column.is_empty() { "the node " } else { "" };
                let text = format!("{who}began anew: its run is {run}");
                let text = self.colours.paint(Paint::Yellow, &text);
                lines.push(format!("{} {column}{text}", self.time(at_ms)));
            }
            if noticed.missed > 0 {
                let missed = match noticed.missed {
                    1 => "1 event missed".to_owned(),
                    more => format!("{more} events missed"),
                };
                let text = self.colours.paint(Paint::Yellow, &missed);
                lines.push(format!("{} {column}{camera}  {text}", self.time(at_ms)));
            }
        }
        let text = match kind {
            "detections" => self.detections(event),
            "cameraStatus" => self.status(event, now_ms),
            "track" => match self.track(event) {
                Some(text) => text,
                // That a track goes on is no news to people.
                None => return lines,
            },
            "lineCrossed" => self.crossing(event),
            other => self.unknown(other, event),
        };
        lines.push(format!("{} {column}{camera}  {text}", self.time(at_ms)));
        lines
    }

    /// A line about the watching itself.
    pub(super) fn notice(&self, at_ms: u64, paint: Paint, text: &str) -> String {
        format!("{} {}", self.time(at_ms), self.colours.paint(paint, text))
    }

    fn time(&self, at_ms: u64) -> String {
        self.colours.paint(Paint::Dim, &self.clock(at_ms))
    }

    /// The time of day in the zone; a time that no calendar has is told as such.
    fn clock(&self, at_ms: u64) -> String {
        i64::try_from(at_ms)
            .ok()
            .and_then(|ms| Timestamp::from_millisecond(ms).ok())
            .map_or_else(
                || "--:--:--".to_owned(),
                |at| {
                    let at = at.to_zoned(self.zone.clone());
                    at.strftime("%H:%M:%S").to_string()
                },
            )
    }

    /// The camera's name, or else its twin, with its stream unless that is the default one.
    fn camera(&mut self, camera: &Value) -> String {
        let text = |key: &str| {
            let text = camera[key].as_str().map(brief);
            text.filter(|text| !text.is_empty())
        };
        let mut name = text("name").or_else(|| text("twinId")).unwrap_or_default();
        if let Some(stream) = text("stream").filter(|stream| stream != "default") {
            name = format!("{name}/{stream}");
        }
        let name = cut(&name, MAX_NAME);
        self.name_width = self.name_width.max(width(&name));
        self.colours
            .paint(Paint::Bold, &pad(&name, self.name_width))
    }

    /// `2 person 0.81 0.76, 1 car 0.55 · 46 ms`
    fn detections(&self, event: &Value) -> String {
        let mut labels: Vec<(&str, Vec<f64>)> = Vec::new();
        for object in event["objects"].as_array().into_iter().flatten() {
            let label = object["label"].as_str().unwrap_or("?");
            let score = object["score"].as_f64().unwrap_or(f64::NAN);
            match labels.iter_mut().find(|(known, _)| *known == label) {
                Some((_, scores)) => scores.push(score),
                None => labels.push((label, vec![score])),
            }
        }
        let mut text = match labels.is_empty() {
            true => self.colours.paint(Paint::Dim, "nothing"),
            false => {
                let group = |(label, scores): &(&str, Vec<f64>)| self.group(label, scores);
                let shown: Vec<String> = labels.iter().take(MAX_LABELS).map(group).collect();
                shown.join(", ")
            }
        };
        if labels.len() > MAX_LABELS {
            let _ = write!(text, " and {} other labels", labels.len() - MAX_LABELS);
        }
        let age_ms = event["latencyMs"]["total"].as_f64();
        if let Some(age_ms) = age_ms.filter(|age_ms| age_ms.abs() < MAX_AGE_MS) {
            text += &self
                .colours
                .paint(Paint::Dim, &format!(" · {age_ms:.0} ms"));
        }
        text
    }

    fn group(&self, label: &str, scores: &[f64]) -> String {
        let shown: String = scores
            .iter()
            .take(MAX_SCORES)
            .map(|score| format!(" {score:.2}"))
            .collect();
        let more = if scores.len() > MAX_SCORES {
            " …"
        } else {
            ""
        };
        let scores_text = self.colours.paint(Paint::Dim, &format!("{shown}{more}"));
        format!("{} {}{scores_text}", scores.len(), brief(label))
    }

    /// `unreachable: no answer to the offer (attempt 3, since 11:58:02)`
    fn status(&self, event: &Value, now_ms: u64) -> String {
        let state = event["state"].as_str().unwrap_or("?");
        let reason = event["reason"].as_str();
        let (word, paint) = match (state, reason) {
            ("receiving", None) => ("receiving".to_owned(), Paint::Green),
            ("receiving", Some(_)) => ("receiving, and blind".to_owned(), Paint::Red),
            ("connecting" | "removed", _) => (state.to_owned(), Paint::Yellow),
            (other, _) => (brief(other), Paint::Red),
        };
        let mut text = self.colours.paint(paint, &word);
        if let Some(reason) = reason {
            let _ = write!(text, ": {}", brief(reason));
        }
        let mut more = Vec::new();
        if let Some(attempt) = event["attempt"].as_u64().filter(|attempt| *attempt > 1) {
            more.push(format!("attempt {attempt}"));
        }
        // The state of all cameras comes again when the hub returns, long after they began. Of a camera that is blind while it is received
        // the event says since when it is received, which would be read as since when it is blind.
        let is_blind = state == "receiving" && reason.is_some();
        let since = event["since"].as_u64().filter(|_| !is_blind);
        if let Some(since) = since.filter(|since| now_ms.saturating_sub(*since) >= 2000) {
            more.push(format!("since {}", self.clock(since)));
        }
        if !more.is_empty() {
            let more = format!(" ({})", more.join(", "));
            text += &self.colours.paint(Paint::Dim, &more);
        }
        text
    }

    /// `person 7 is in driveway`; `None` for an update that says only that the track goes on.
    fn track(&self, event: &Value) -> Option<String> {
        let track = &event["track"];
        let zones = || {
            let zones = track["zones"].as_array().into_iter().flatten();
            let zones: Vec<String> = zones.filter_map(Value::as_str).map(brief).collect();
            match zones.is_empty() {
                true => "in no zone".to_owned(),
                false => format!("in {}", zones.join(", ")),
            }
        };
        let phase = event["phase"].as_str().unwrap_or_default();
        let reason = event["reason"].as_str().unwrap_or_default();
        let (word, paint) = match (phase, reason) {
            ("start", _) => {
                let score = track["score"].as_f64().unwrap_or(f64::NAN);
                let here = track["zones"]
                    .as_array()
                    .is_some_and(|zones| !zones.is_empty());
                let here = if here {
                    format!(", {}", zones())
                } else {
                    String::new()
                };
                (format!("came ({score:.2}){here}"), Paint::Green)
            }
            ("update", "zones") => (format!("is {}", zones()), Paint::Green),
            ("update", "stationary") if track["stationary"] == true => {
                ("does not move".to_owned(), Paint::Dim)
            }
            ("update", "stationary") => ("moves again".to_owned(), Paint::Dim),
            ("update", "label") => ("is what it is taken for by now".to_owned(), Paint::Dim),
            ("update", _) => return None,
            ("end", reason) => {
                let at = |key: &str| track[key].as_u64().unwrap_or_default();
                let seconds = at("lastSeenAt").saturating_sub(at("firstSeenAt")) / 1000;
                let how = match reason {
                    "left" => "left".to_owned(),
                    "lost" => "was lost from sight".to_owned(),
                    "cameraRemoved" => "is followed no longer".to_owned(),
                    "shutdown" => "is followed no longer: the node stops".to_owned(),
                    other => format!("ended ({})", brief(other)),
                };
                (format!("{how} after {seconds} s"), Paint::Yellow)
            }
            (other, _) => (brief(other), Paint::Yellow),
        };
        Some(format!(
            "{} {}",
            self.who(track),
            self.colours.paint(paint, &word)
        ))
    }

    /// `person 7 crossed gate, in (12 in, 9 out)`
    fn crossing(&self, event: &Value) -> String {
        let text = |key: &str| brief(event[key].as_str().unwrap_or("?"));
        let count = |key: &str| event["counts"][key].as_u64().unwrap_or_default();
        let crossed = format!("crossed {}, {}", text("line"), text("direction"));
        let crossed = self.colours.paint(Paint::Green, &crossed);
        let counts = format!(" ({} in, {} out)", count("in"), count("out"));
        let counts = self.colours.paint(Paint::Dim, &counts);
        format!("{} {crossed}{counts}", self.who(&event["track"]))
    }

    fn who(&self, track: &Value) -> String {
        let text = |key: &str| cut(&brief(track[key].as_str().unwrap_or("?")), MAX_VALUE);
        format!("{} {}", text("label"), text("id"))
    }

    /// `odd phase=start thing.id=7`, for events of a node that is younger than this program.
    fn unknown(&self, kind: &str, event: &Value) -> String {
        let mut fields = String::new();
        match event {
            Value::Object(event) => {
                for (key, value) in event {
                    if COMMON.contains(&key.as_str()) {
                        continue;
                    }
                    match value {
                        Value::Object(inner) => nested(&mut fields, key, inner),
                        value => field(&mut fields, key, value),
                    }
                }
            }
            other => field(&mut fields, "data", other),
        }
        let kind = self
            .colours
            .paint(Paint::Yellow, &cut(&brief(kind), MAX_VALUE));
        format!("{kind}{}", cut(&fields, MAX_UNKNOWN))
    }
}

/// The twins as columns of one width, with the space before what follows; empty if there is only one. They are cut only where they can be
/// told from each other all the same.
fn columns(twins: &[String]) -> Vec<String> {
    if twins.len() < 2 {
        return vec![String::new(); twins.len()];
    }
    let short: Vec<String> = twins.iter().map(|twin| cut(twin, MAX_NAME)).collect();
    let different: HashSet<&String> = short.iter().collect();
    let shown = match different.len() == twins.len() {
        true => &short,
        false => twins,
    };
    let widest = shown.iter().map(|twin| width(twin)).max();
    let column = |twin: &String| pad(twin, widest.unwrap_or_default()) + "  ";
    shown.iter().map(column).collect()
}

/// What tells a camera stream from the others.
fn stream_key(camera: &Value) -> String {
    let text = |key: &str| brief(camera[key].as_str().unwrap_or_default());
    format!("{}\n{}", text("twinId"), text("stream"))
}

fn nested(fields: &mut String, key: &str, inner: &Map<String, Value>) {
    for (inner_key, value) in inner {
        field(fields, &format!("{key}.{inner_key}"), value);
    }
}

/// Adds a field; one that does not fit into a line is left out.
fn field(fields: &mut String, key: &str, value: &Value) {
    // What is cut off in the end need not be made.
    if fields.len() > 4 * MAX_UNKNOWN {
        return;
    }
    let value = match value {
        Value::Null | Value::Object(_) => return,
        Value::String(text) => brief(text),
        Value::Array(items) => {
            let items = items.iter().take(MAX_VALUE);
            let words: Vec<String> = items.filter_map(scalar).collect();
            words.join(",")
        }
        other => other.to_string(),
    };
    let key = cut(&brief(key), MAX_VALUE);
    let _ = write!(fields, " {key}={}", cut(&value, MAX_VALUE));
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(brief(text)),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// An event as a line of JSON. Beside what JSON escapes anyway, characters that a terminal or a reader of lines could take for more than
/// text are escaped too, which changes nothing of what the JSON says.
pub(super) fn json_line(event: &Value) -> String {
    let text = event.to_string();
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        let is_plain =
            !c.is_control() && !matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if is_plain {
            line.push(c);
        } else {
            // All of these have one unit in UTF-16.
            let _ = write!(line, "\\u{:04x}", u32::from(c));
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// 2026-11-29 12:03:04 UTC.
    const AT: u64 = 1_795_953_784_000;

    fn lines() -> EventLines {
        EventLines::new(Colours::Off, TimeZone::UTC, &["node-1".to_owned()])
    }

    fn detections(sequence: u64, objects: Value) -> Value {
        json!({"schemaVersion": 1, "runId": "8f1c", "sequence": sequence, "timestamp": AT,
               "camera": {"twinId": "camera-front-door", "name": "front-door", "stream": "default"},
               "objects": objects, "latencyMs": {"total": 46.4}})
    }

    #[test]
    fn objects_are_told_by_label_with_their_scores() {
        let objects = json!([
            {"label": "person", "score": 0.8123}, {"label": "car", "score": 0.8},
            {"label": "person", "score": 0.755},
        ]);
        let mut lines = lines();
        assert_eq!(
            lines.event(0, "detections", &detections(1, objects), AT),
            ["12:03:04 front-door  2 person 0.81 0.76, 1 car 0.80 · 46 ms"]
        );
        assert_eq!(
            lines.event(0, "detections", &detections(2, json!([])), AT),
            ["12:03:04 front-door  nothing · 46 ms"]
        );
    }

    #[test]
    fn names_are_padded_to_the_widest_so_far_and_streams_are_named() {
        let mut lines = lines();
        let status = |twin: &str, name: &str, stream: &str| json!({"camera": {"twinId": twin, "name": name, "stream": stream}, "state": "receiving", "since": AT});
        let mut line = |camera: Value| {
            lines
                .event(0, "cameraStatus", &camera, AT)
                .pop()
                .unwrap_or_default()
        };
        assert_eq!(
            line(status("cam-1", "", "default")),
            "12:03:04 cam-1  receiving"
        );
        assert_eq!(
            line(status("x", "Front door", "sub")),
            "12:03:04 Front door/sub  receiving"
        );
        assert_eq!(
            line(status("cam-1", "", "default")),
            "12:03:04 cam-1           receiving"
        );
        let long = line(status("x", &"long ".repeat(30), "default"));
        assert_eq!(long, "12:03:04 long long long long lon…  receiving");
    }

    #[test]
    fn gaps_and_new_runs_are_said_before_the_event() {
        let mut lines = lines();
        let seen = |lines: &mut EventLines, event: &Value| lines.event(0, "detections", event, AT);
        assert_eq!(seen(&mut lines, &detections(5, json!([]))).len(), 1);
        assert_eq!(
            seen(&mut lines, &detections(9, json!([]))),
            [
                "12:03:04 front-door  3 events missed",
                "12:03:04 front-door  nothing · 46 ms"
            ]
        );
        assert_eq!(
            seen(&mut lines, &detections(11, json!([])))[0],
            "12:03:04 front-door  1 event missed"
        );
        let mut other = detections(1, json!([]));
        other["runId"] = "77aa".into();
        assert_eq!(
            seen(&mut lines, &other)[0],
            "12:03:04 the node began anew: its run is 77aa"
        );
    }

    #[test]
    fn of_several_nodes_each_line_names_one_and_each_has_runs_and_numbers_of_its_own() {
        let twins = ["node-1".to_owned(), "node-10".to_owned()];
        let mut lines = EventLines::new(Colours::Off, TimeZone::UTC, &twins);
        let mut seen = |node: usize, run: &str, sequence: u64| {
            let mut event = detections(sequence, json!([]));
            event["runId"] = run.into();
            lines.event(node, "detections", &event, AT)
        };
        assert_eq!(
            seen(0, "8f1c", 90),
            ["12:03:04 node-1   front-door  nothing · 46 ms"]
        );
        // The camera has moved: another run and other numbers, and nothing is missing.
        assert_eq!(
            seen(1, "77aa", 1),
            ["12:03:04 node-10  front-door  nothing · 46 ms"]
        );
        assert_eq!(
            seen(1, "77aa", 4)[0],
            "12:03:04 node-10  front-door  2 events missed"
        );
        assert_eq!(seen(0, "8f1c", 91).len(), 1, "it has come back");
        assert_eq!(
            seen(0, "20be", 1)[0],
            "12:03:04 node-1   began anew: its run is 20be"
        );
    }

    #[test]
    fn twins_are_cut_where_they_differ_all_the_same() {
        let columns = |twins: &[&str]| {
            let twins: Vec<String> = twins.iter().map(|&twin| twin.to_owned()).collect();
            columns(&twins)
        };
        assert_eq!(columns(&["node-1"]), [""]);
        let long = "a-twin-of-a-very-long-name";
        assert_eq!(
            columns(&["b", long]),
            ["b                         ", "a-twin-of-a-very-long-n…  "]
        );
        let other = "a-twin-of-a-very-long-name-too";
        assert_eq!(
            columns(&[long, other]),
            [format!("{long}      "), format!("{other}  ")]
        );
    }

    #[test]
    fn a_state_is_told_with_reason_attempt_and_since_when() {
        let mut lines = lines();
        let mut line = |state: &str, reason: Value, attempt: u64, since: u64| {
            let event = json!({"camera": {"twinId": "cam"}, "state": state, "reason": reason,
                               "attempt": attempt, "since": since});
            lines
                .event(0, "cameraStatus", &event, AT)
                .pop()
                .unwrap_or_default()
        };
        assert_eq!(
            line("receiving", json!(null), 1, AT),
            "12:03:04 cam  receiving"
        );
        assert_eq!(
            line(
                "unreachable",
                json!("no answer to the offer"),
                3,
                AT - 302_000
            ),
            "12:03:04 cam  unreachable: no answer to the offer (attempt 3, since 11:58:02)"
        );
        assert_eq!(
            line(
                "receiving",
                json!("the model is set aside"),
                1,
                AT - 127_000
            ),
            "12:03:04 cam  receiving, and blind: the model is set aside",
            "it is not blind since it is received"
        );
        assert_eq!(
            line("receiving", json!(null), 1, AT - 127_000),
            "12:03:04 cam  receiving (since 12:00:57)"
        );
    }

    #[test]
    fn tracks_and_crossings_are_told_in_words() {
        let mut lines = lines();
        let mut told = |kind: &str, more: Value| {
            let mut event = json!({"timestamp": AT, "camera": {"twinId": "cam"},
                "track": {"id": "7", "label": "person", "score": 0.784, "zones": ["driveway"], "stationary": false,
                          "firstSeenAt": AT - 15_600, "lastSeenAt": AT}});
            for (key, value) in more.as_object().unwrap() {
                event[key] = value.clone();
            }
            lines.event(0, kind, &event, AT)
        };
        for (kind, more, text) in [
            (
                "track",
                json!({"phase": "start", "reason": "confirmed"}),
                "person 7 came (0.78), in driveway",
            ),
            (
                "track",
                json!({"phase": "update", "reason": "zones"}),
                "person 7 is in driveway",
            ),
            (
                "track",
                json!({"phase": "end", "reason": "left"}),
                "person 7 left after 15 s",
            ),
            (
                "track",
                json!({"phase": "end", "reason": "lost"}),
                "person 7 was lost from sight after 15 s",
            ),
            (
                "lineCrossed",
                json!({"line": "gate", "direction": "in", "counts": {"in": 12, "out": 9}}),
                "person 7 crossed gate, in (12 in, 9 out)",
            ),
        ] {
            assert_eq!(told(kind, more), [format!("12:03:04 cam  {text}")]);
        }
        let goes_on = json!({"phase": "update", "reason": "interval"});
        assert_eq!(told("track", goes_on), Vec::<String>::new());
    }

    #[test]
    fn events_of_a_younger_node_are_one_line_each() {
        let mut lines = lines();
        assert_eq!(
            lines.event(0, "odd", &json!([1, 2]), AT),
            ["12:03:04   odd data=1,2"]
        );
        let long =
            json!({"camera": {"twinId": "cam"}, "text": "x".repeat(9000), "more": vec!["y"; 9000]});
        let line = lines.event(0, "long", &long, AT).pop().unwrap_or_default();
        assert!(line.len() < 250, "{line}");
    }

    #[test]
    fn nothing_from_the_network_controls_the_terminal() {
        let evil = "\u{1b}[2J\u{9b}31m\r\n\u{7}\u{202e}\u{2028}";
        let camera = json!({"twinId": evil, "name": evil, "stream": evil});
        let events = [
            (
                "detections",
                json!({"camera": camera, "runId": evil, "sequence": 1, "objects": [{"label": evil, "score": 1}]}),
            ),
            (
                "detections",
                json!({"camera": camera, "runId": "other", "sequence": 1, "objects": []}),
            ),
            (
                "cameraStatus",
                json!({"camera": camera, "state": evil, "reason": evil}),
            ),
            (
                evil,
                json!({evil: evil, "inner": {evil: [evil]}, "type": evil}),
            ),
        ];
        let mut lines = lines();
        let is_control = |c: char| c.is_control() || matches!(c, '\u{202e}' | '\u{2028}');
        for (kind, event) in &events {
            for line in lines.event(0, kind, event, AT) {
                assert!(!line.contains(is_control), "{line:?}");
            }
            let line = json_line(event);
            assert!(!line.contains(is_control), "{line:?}");
            let read: Value = serde_json::from_str(&line).unwrap();
            assert_eq!(&read, event, "it still says the same");
        }
    }

    #[test]
    fn numbers_out_of_range_and_other_types_do_no_harm() {
        let mut lines = lines();
        let event = json!({"camera": 7, "timestamp": u64::MAX, "objects": [{"label": 1, "score": "x"}, 3], "latencyMs": {"total": 1e300}});
        let line = lines
            .event(0, "detections", &event, AT)
            .pop()
            .unwrap_or_default();
        assert_eq!(line, "--:--:--   2 ? NaN NaN");
        for event in [
            json!(null),
            json!("text"),
            json!({"objects": {}, "camera": {}}),
        ] {
            assert_eq!(lines.event(0, "detections", &event, AT).len(), 1);
        }
    }
}
