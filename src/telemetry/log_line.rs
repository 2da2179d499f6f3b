//! One line of the log. An event or its fields come in, a line of text or a JSON object goes out: at most 4 KiB, without a
//! control character, without a secret. No clock and no output of its own.

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use twinsight_client::secret;

/// The longest line, its line break included. Writes of so much to a pipe are never mixed with those of others.
pub(super) const MAX_LINE_BYTES: usize = 4096;

/// What the spans and the target of a line take at most, so that neither crowds out the sentence.
const MAX_CONTEXT_BYTES: usize = 1024;

/// Fields that are kept of an event or a span.
const MAX_FIELDS: usize = 64;

/// At the end of what was cut.
const CUT: &str = "…";

/// Stands for a secret.
const CONCEALED: &str = "***";

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// For people.
    Text,
    /// For people, with colours.
    Colour,
    /// One JSON object.
    Json,
}

/// A field's value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// True or false.
    Bool(bool),
    /// A whole number, as it is written.
    Whole(String),
    /// Any other number.
    Float(f64),
    /// A text, in quotes where people read it.
    Quoted(String),
    /// What has its own way to show itself.
    Shown(String),
}

/// The fields of an event or a span, as they are visited.
#[derive(Debug, Default, Clone)]
pub(super) struct Fields {
    values: Vec<(&'static str, Value)>,
    left_out: bool,
}

/// A span that a line lies in.
#[derive(Debug)]
pub(super) struct SpanContext<'a> {
    /// Its name.
    pub(super) name: &'static str,
    /// Its fields.
    pub(super) fields: &'a Fields,
}

/// What stands at a line's beginning.
#[derive(Debug)]
pub(super) struct Head<'a> {
    /// The time, as it is written.
    pub(super) time: &'a str,
    /// The level.
    pub(super) level: tracing::Level,
    /// The module.
    pub(super) target: &'a str,
}

/// `cut`: the text went on. What may be the beginning of a secret at its end is taken away then.
fn without_secrets(mut text: String, cut: bool) -> String {
    let secrets = secret::concealed();
    for secret in secrets.iter() {
        if text.contains(secret) {
            text = text.replace(secret, CONCEALED);
        }
    }
    if cut {
        let begun = secrets
            .iter()
            .map(|secret| begun_at_the_end(&text, secret))
            .max();
        text.truncate(text.len() - begun.unwrap_or_default());
        text.push_str(CUT);
    }
    text
}

/// How many bytes at the text's end are the secret's beginning.
fn begun_at_the_end(text: &str, secret: &str) -> usize {
    let ends = secret.char_indices().map(|(at, _)| at).rev();
    ends.into_iter()
        .find(|end| text.ends_with(&secret[..*end]))
        .unwrap_or_default()
}

/// Takes what a value shows of itself up to a limit, and then stops it: a text of a megabyte costs no more than a line.
struct Limited {
    text: String,
    /// There was more than it took.
    cut: bool,
}

impl Write for Limited {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        // A secret that lies across a line's end is seen whole.
        let room = (MAX_LINE_BYTES + secret::MAX_CONCEALED_BYTES).saturating_sub(self.text.len());
        let end = more.floor_char_boundary(room);
        self.text.push_str(&more[..end]);
        if end < more.len() {
            self.cut = true;
            return Err(fmt::Error);
        }
        Ok(())
    }
}

/// What a line keeps of a text.
pub(super) fn shown(text: impl fmt::Display) -> String {
    let mut limited = Limited {
        text: String::new(),
        cut: false,
    };
    // An error means that there was more than is kept.
    let _ = write!(limited, "{text}");
    without_secrets(limited.text, limited.cut)
}

impl Fields {
    /// Adds a field, or changes it.
    pub(super) fn set(&mut self, name: &'static str, value: Value) {
        if let Some(known) = self.values.iter_mut().find(|(known, _)| *known == name) {
            known.1 = value;
        } else if self.values.len() < MAX_FIELDS {
            self.values.push((name, value));
        } else {
            self.left_out = true;
        }
    }

    /// Adds or changes those fields.
    pub(super) fn merge(&mut self, other: Self) {
        for (name, value) in other.values {
            self.set(name, value);
        }
    }

    /// Takes a field out, for one that is not shown as such.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        let at = self.values.iter().position(|(known, _)| *known == name)?;
        Some(self.values.remove(at).1)
    }
}

impl Visit for Fields {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field.name(), Value::Bool(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field.name(), Value::Whole(value.to_string()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field.name(), Value::Whole(value.to_string()));
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.set(field.name(), Value::Whole(value.to_string()));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.set(field.name(), Value::Whole(value.to_string()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field.name(), Value::Float(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field.name(), Value::Quoted(shown(value)));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.set(field.name(), Value::Shown(shown(value)));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field.name(), Value::Shown(shown(format_args!("{value:?}"))));
    }
}

/// The whole line with its line break. `spans` are from the outermost to the innermost.
pub(super) fn line(
    look: Look,
    head: &Head<'_>,
    fields: &Fields,
    spans: &[SpanContext<'_>],
) -> String {
    match look {
        Look::Text => text_line(head, fields, spans, false),
        Look::Colour => text_line(head, fields, spans, true),
        Look::Json => json_line(head, fields, spans),
    }
}

/// A line that is not of the log, such as the program's last sentence.
pub(super) fn bare_line(text: &str) -> String {
    let mut out = Out::new(MAX_LINE_BYTES - 1);
    out.escaped(&shown(text), Escape::Text);
    out.finished()
}

/// How what cannot stand in a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escape {
    /// As Rust does.
    Text,
    /// As Rust does in quotes.
    QuotedText,
    /// As JSON does.
    Json,
}

/// A line in the making: what does not fit is cut at a character and marked.
struct Out {
    text: String,
    end: usize,
    cut: bool,
}

impl Out {
    /// Up to `end` bytes.
    fn new(end: usize) -> Self {
        Self {
            text: String::with_capacity(256),
            end,
            cut: false,
        }
    }

    fn room(&self) -> usize {
        self.end.saturating_sub(self.text.len())
    }

    /// What is ours and fits, or nothing of it.
    fn raw(&mut self, text: &str) -> bool {
        let fits = !self.cut && text.len() <= self.room();
        if fits {
            self.text.push_str(text);
        } else {
            self.cut = true;
        }
        fits
    }

    /// What is not ours, up to the end; the mark fits always.
    fn escaped(&mut self, text: &str, escape: Escape) {
        for c in text.chars() {
            if self.cut {
                return;
            }
            let (mut piece, mut code) = ([0; 4], String::new());
            let piece: &str = match (c, escape) {
                ('\n', _) => "\\n",
                ('\r', _) => "\\r",
                ('\t', _) => "\\t",
                ('"', Escape::QuotedText | Escape::Json) => "\\\"",
                ('\\', Escape::QuotedText | Escape::Json) => "\\\\",
                (c, Escape::Json) if is_unfit(c) => {
                    let _ = write!(code, "\\u{:04x}", u32::from(c));
                    &code
                }
                (c, _) if is_unfit(c) => {
                    let _ = write!(code, "\\u{{{:x}}}", u32::from(c));
                    &code
                }
                (c, _) => c.encode_utf8(&mut piece),
            };
            if piece.len() + CUT.len() > self.room() {
                self.text.push_str(CUT);
                self.cut = true;
                return;
            }
            self.text.push_str(piece);
        }
    }

    fn finished(mut self) -> String {
        self.text.push('\n');
        self.text
    }
}

/// Characters that end a line, steer a terminal or turn the reading direction.
fn is_unfit(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// A colour around a text, where colours are wanted.
fn coloured(out: &mut Out, colours: bool, code: &str, text: &str) {
    if colours {
        out.raw(&format!("\u{1b}[{code}m{text}\u{1b}[0m"));
    } else {
        out.raw(text);
    }
}

fn text_line(head: &Head<'_>, fields: &Fields, spans: &[SpanContext<'_>], colours: bool) -> String {
    use tracing::Level;
    let mut out = Out::new(MAX_CONTEXT_BYTES);
    coloured(&mut out, colours, "2", head.time);
    let (code, level) = match head.level {
        Level::ERROR => ("31", "ERROR"),
        Level::WARN => ("33", " WARN"),
        Level::INFO => ("32", " INFO"),
        Level::DEBUG => ("34", "DEBUG"),
        Level::TRACE => ("35", "TRACE"),
    };
    out.raw(" ");
    coloured(&mut out, colours, code, level);
    out.raw(" ");
    for span in spans {
        coloured(&mut out, colours, "1", span.name);
        if !span.fields.values.is_empty() {
            out.raw("{");
            text_fields(&mut out, span.fields);
            out.raw("}");
        }
        out.raw(":");
    }
    if !spans.is_empty() {
        out.raw(" ");
    }
    let target = &head.target[..head.target.floor_char_boundary(200)];
    let mut name = Out::new(256);
    name.escaped(target, Escape::Text);
    if out.cut {
        // The spans were cut; what follows is said all the same.
        out.text.push_str(": ");
    }
    out.cut = false;
    out.end = MAX_LINE_BYTES - 1;
    coloured(&mut out, colours, "2", &format!("{}:", name.text));
    out.raw(" ");
    text_fields(&mut out, fields);
    out.finished()
}

fn text_fields(out: &mut Out, fields: &Fields) {
    let before = out.end;
    // Closing marks have their room.
    out.end = out.end.saturating_sub(4);
    for (at, (name, value)) in fields.values.iter().enumerate() {
        if at > 0 {
            out.raw(" ");
        }
        let is_message = *name == "message";
        if !is_message {
            out.escaped(name, Escape::Text);
            out.raw("=");
        }
        match value {
            Value::Bool(value) => out.escaped(&value.to_string(), Escape::Text),
            Value::Whole(value) | Value::Shown(value) => out.escaped(value, Escape::Text),
            Value::Float(value) => out.escaped(&value.to_string(), Escape::Text),
            Value::Quoted(value) if is_message => out.escaped(value, Escape::Text),
            Value::Quoted(value) => {
                out.raw("\"");
                out.escaped(value, Escape::QuotedText);
                out.raw("\"");
            }
        }
    }
    if fields.left_out {
        out.escaped(" …", Escape::Text);
    }
    out.end = before;
}

/// Keys of every line that a field of the same name does not hide.
const RESERVED: [&str; 6] = ["timestamp", "level", "target", "span", "spans", "cut"];

fn json_line(head: &Head<'_>, fields: &Fields, spans: &[SpanContext<'_>]) -> String {
    let mut context = Out::new(MAX_CONTEXT_BYTES);
    context.raw(",\"target\":");
    let mut cut = json_text(&mut context, head.target, 300);
    if let Some(leaf) = spans.last() {
        context.raw(",\"span\":");
        cut |= json_span(&mut context, leaf, MAX_CONTEXT_BYTES / 3);
        context.raw(",\"spans\":[");
        for (at, span) in spans.iter().enumerate() {
            // Room for one more span that is nothing but its name, and for the end.
            if context.room() < 128 {
                cut = true;
                break;
            }
            if at > 0 {
                context.raw(",");
            }
            let room = context.room() - 32;
            cut |= json_span(&mut context, span, room.min(MAX_CONTEXT_BYTES / 4));
        }
        context.cut = false;
        context.raw("]");
    }
    let mut out = Out::new(MAX_LINE_BYTES - 1);
    out.raw("{\"timestamp\":");
    json_text(&mut out, head.time, 64);
    out.raw(&format!(",\"level\":\"{}\"", head.level));
    let tail = context.text.len() + ",\"cut\":true}".len();
    cut |= json_fields(&mut out, fields, MAX_LINE_BYTES - 1 - tail, false);
    out.cut = false;
    out.raw(&context.text);
    if cut {
        out.raw(",\"cut\":true");
    }
    out.raw("}");
    out.finished()
}

/// An object of a span's fields and its name, in `room` bytes; true if that was not all.
fn json_span(out: &mut Out, span: &SpanContext<'_>, room: usize) -> bool {
    let end = out.text.len() + room;
    out.raw("{");
    let name = &span.name[..span.name.floor_char_boundary(40)];
    let named = format!("\"name\":\"{}\"}}", name.escape_default());
    let mut inner = Out::new(usize::MAX);
    let cut = json_fields(
        &mut inner,
        span.fields,
        end.saturating_sub(out.text.len() + named.len() + 1),
        true,
    );
    // Fields begin with a comma, which stands behind them here.
    let inner = inner.text.strip_prefix(',').unwrap_or_default();
    out.text.push_str(inner);
    if !inner.is_empty() {
        out.text.push(',');
    }
    out.text.push_str(&named);
    cut
}

/// `,"name":value` for each field up to the byte `end`; true if that was not all.
fn json_fields(out: &mut Out, fields: &Fields, end: usize, of_span: bool) -> bool {
    let mut cut = fields.left_out;
    for (name, value) in &fields.values {
        let reserved = if of_span {
            *name == "name"
        } else {
            RESERVED.contains(name)
        };
        let prefix = if reserved { "field." } else { "" };
        let mut key = Out::new(128);
        key.raw(",\"");
        key.raw(prefix);
        key.escaped(name, Escape::Json);
        key.text.push_str("\":");
        // The key, and a text that is nothing but its mark.
        if out.text.len() + key.text.len() + 8 > end {
            return true;
        }
        let plain = match value {
            Value::Bool(value) => Some(value.to_string()),
            Value::Whole(value) => Some(value.clone()),
            Value::Float(value) if value.is_finite() => Some(format!("{value:?}")),
            Value::Float(_) | Value::Quoted(_) | Value::Shown(_) => None,
        };
        match plain {
            Some(plain) if out.text.len() + key.text.len() + plain.len() > end => return true,
            Some(plain) => {
                out.text.push_str(&key.text);
                out.text.push_str(&plain);
            }
            None => {
                out.text.push_str(&key.text);
                let text = match value {
                    Value::Quoted(text) | Value::Shown(text) => text.as_str(),
                    other => &format!("{other:?}"),
                };
                let room = end - out.text.len();
                cut |= json_text(out, text, room);
            }
        }
    }
    cut
}

/// A text in quotes, in `room` bytes, at least 5; true if that was not all.
fn json_text(out: &mut Out, text: &str, room: usize) -> bool {
    let mut inner = Out::new(room.saturating_sub(2));
    inner.escaped(text, Escape::Json);
    out.text.push('"');
    out.text.push_str(&inner.text);
    out.text.push('"');
    inner.cut
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tracing::Level;

    use super::*;

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
        let head = Head {
            time: "2026-11-28T17:00:00.000001Z",
            level: Level::INFO,
            target: "twinsight::node",
        };
        let (values, span) = (fields(values), fields(span));
        let spans = [SpanContext {
            name: "camera",
            fields: &span,
        }];
        [Look::Text, Look::Colour, Look::Json].map(|look| line(look, &head, &values, &spans))
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
        let evil =
            "key\n2026-11-28T17:00:00Z ERROR forged\r\u{1b}[2J\u{9b}31m\u{202e}\u{2028}\0end";
        for value in [quoted(evil), Value::Shown(shown(evil))] {
            let [text, _, json] = lines(&[("message", value.clone())], &[("twin", value)]);
            for line in [&text, &json] {
                assert_eq!(line.matches('\n').count(), 1, "{line:?}");
                assert!(
                    !line.trim_end_matches('\n').chars().any(is_unfit),
                    "{line:?}"
                );
            }
            assert!(text.contains(r"key\n2026-11-28T17:00:00Z ERROR forged\r\u{1b}[2J\u{9b}31m\u{202e}\u{2028}\u{0}end"));
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
            let head = Head { time: "2026-11-28T17:00:00.000001Z", level: Level::WARN, target: &message };
            for look in [Look::Text, Look::Colour, Look::Json] {
                let line = line(look, &head, &values, &spans);
                prop_assert!(line.len() <= MAX_LINE_BYTES, "{}", line.len());
                prop_assert_eq!(line.matches('\n').count(), 1);
                if look == Look::Json {
                    prop_assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok(), "{}", line);
                }
            }
        }
    }
}
