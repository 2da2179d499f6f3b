//! One line of the log. The fields of an event and of its spans come in, and a line of text or of JSON goes out. It has at most
//! 4 KiB, no control character and no secret in it.

mod buffer;
mod fields;

use self::buffer::{Escape, LineBuffer};
pub(super) use self::fields::{Fields, Value, shown};

/// The longest line, its line break included. Up to this length a write to a pipe is never mixed with those of others.
pub(super) const MAX_LINE_BYTES: usize = 4096;

/// Bytes that the spans and the target of a line may take, so that they leave room for the sentence.
const MAX_CONTEXT_BYTES: usize = 1024;

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LineStyle {
    /// Text for people.
    Text,
    /// Text for people, with the colours of a terminal.
    Colour,
    /// One JSON object.
    Json,
}

/// A span that the event of a line happened in.
#[derive(Debug)]
pub(super) struct SpanContext<'a> {
    pub(super) name: &'static str,
    pub(super) fields: &'a Fields,
}

/// What a line begins with.
#[derive(Debug)]
pub(super) struct LineHead<'a> {
    /// The time in the form in which the line has it.
    pub(super) time: &'a str,
    pub(super) level: tracing::Level,
    /// The module that the event comes from.
    pub(super) target: &'a str,
}

/// Makes the whole line, with its line break. `spans` go from the outermost to the innermost.
pub(super) fn line(
    look: LineStyle,
    head: &LineHead<'_>,
    fields: &Fields,
    spans: &[SpanContext<'_>],
) -> String {
    match look {
        LineStyle::Text => text_line(head, fields, spans, false),
        LineStyle::Colour => text_line(head, fields, spans, true),
        LineStyle::Json => json_line(head, fields, spans),
    }
}

/// Makes a line of a text without time and level, such as the program's last sentence.
pub(super) fn bare_line(text: &str) -> String {
    let mut out = LineBuffer::new(MAX_LINE_BYTES - 1);
    out.escaped(&shown(text), Escape::Text);
    out.finished()
}

/// Adds a text in a colour, or without one where colours are not wanted.
fn coloured(out: &mut LineBuffer, colours: bool, code: &str, text: &str) {
    if colours {
        out.raw(&format!("\u{1b}[{code}m{text}\u{1b}[0m"));
    } else {
        out.raw(text);
    }
}

fn text_line(
    head: &LineHead<'_>,
    fields: &Fields,
    spans: &[SpanContext<'_>],
    colours: bool,
) -> String {
    use tracing::Level;
    let mut out = LineBuffer::new(MAX_CONTEXT_BYTES);
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
    let mut name = LineBuffer::new(256);
    name.escaped(target, Escape::Text);
    if out.cut {
        // The spans were cut. What follows has room of its own.
        out.text.push_str(": ");
    }
    out.cut = false;
    out.end = MAX_LINE_BYTES - 1;
    coloured(&mut out, colours, "2", &format!("{}:", name.text));
    out.raw(" ");
    text_fields(&mut out, fields);
    out.finished()
}

fn text_fields(out: &mut LineBuffer, fields: &Fields) {
    let before = out.end;
    // Room is kept for the marks that close.
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

/// Keys that every line has. A field of the same name gets a prefix.
const RESERVED: [&str; 6] = ["timestamp", "level", "target", "span", "spans", "cut"];

fn json_line(head: &LineHead<'_>, fields: &Fields, spans: &[SpanContext<'_>]) -> String {
    let mut context = LineBuffer::new(MAX_CONTEXT_BYTES);
    context.raw(",\"target\":");
    let mut cut = json_text(&mut context, head.target, 300);
    if let Some(leaf) = spans.last() {
        context.raw(",\"span\":");
        cut |= json_span(&mut context, leaf, MAX_CONTEXT_BYTES / 3);
        context.raw(",\"spans\":[");
        for (at, span) in spans.iter().enumerate() {
            // One more span must fit in with its name at least, and so must the end.
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
    let mut out = LineBuffer::new(MAX_LINE_BYTES - 1);
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

/// Adds an object of a span's fields and its name, in `room` bytes. True means that something was cut.
fn json_span(out: &mut LineBuffer, span: &SpanContext<'_>, room: usize) -> bool {
    let end = out.text.len() + room;
    out.raw("{");
    let name = &span.name[..span.name.floor_char_boundary(40)];
    let named = format!("\"name\":\"{}\"}}", name.escape_default());
    let mut inner = LineBuffer::new(usize::MAX);
    let cut = json_fields(
        &mut inner,
        span.fields,
        end.saturating_sub(out.text.len() + named.len() + 1),
        true,
    );
    // Fields begin with a comma. Here the comma has to stand behind them, before the name.
    let inner = inner.text.strip_prefix(',').unwrap_or_default();
    out.text.push_str(inner);
    if !inner.is_empty() {
        out.text.push(',');
    }
    out.text.push_str(&named);
    cut
}

/// Adds `,"name":value` for each field, up to the byte `end`. True means that something was cut.
fn json_fields(out: &mut LineBuffer, fields: &Fields, end: usize, of_span: bool) -> bool {
    let mut cut = fields.left_out;
    for (name, value) in &fields.values {
        let reserved = if of_span {
            *name == "name"
        } else {
            RESERVED.contains(name)
        };
        let prefix = if reserved { "field." } else { "" };
        let mut key = LineBuffer::new(128);
        key.raw(",\"");
        key.raw(prefix);
        key.escaped(name, Escape::Json);
        key.text.push_str("\":");
        // There must be room for the key and for a text that is nothing but the mark of a cut.
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

/// Adds a text in quotes, in `room` bytes, which are at least 5. True means that something was cut.
fn json_text(out: &mut LineBuffer, text: &str, room: usize) -> bool {
    let mut inner = LineBuffer::new(room.saturating_sub(2));
    inner.escaped(text, Escape::Json);
    out.text.push('"');
    out.text.push_str(&inner.text);
    out.text.push('"');
    inner.cut
}

#[cfg(test)]
#[path = "log_line_tests.rs"]
mod tests;
