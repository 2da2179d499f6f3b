//! One line of the log. An event or its fields come in, a line of text or a JSON object goes out: at most 4 KiB, without a
//! control character, without a secret. No clock and no output of its own.

mod buffer;
mod fields;

use self::buffer::{Escape, LineBuffer};
pub(super) use self::fields::{Fields, Value, shown};

/// The longest line, its line break included. Writes of so much to a pipe are never mixed with those of others.
pub(super) const MAX_LINE_BYTES: usize = 4096;

/// What the spans and the target of a line take at most, so that neither crowds out the sentence.
const MAX_CONTEXT_BYTES: usize = 1024;

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LineStyle {
    /// For people.
    Text,
    /// For people, with colours.
    Colour,
    /// One JSON object.
    Json,
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
pub(super) struct LineHead<'a> {
    /// The time, as it is written.
    pub(super) time: &'a str,
    /// The level.
    pub(super) level: tracing::Level,
    /// The module.
    pub(super) target: &'a str,
}

/// The whole line with its line break. `spans` are from the outermost to the innermost.
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

/// A line that is not of the log, such as the program's last sentence.
pub(super) fn bare_line(text: &str) -> String {
    let mut out = LineBuffer::new(MAX_LINE_BYTES - 1);
    out.escaped(&shown(text), Escape::Text);
    out.finished()
}

/// A colour around a text, where colours are wanted.
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

fn text_fields(out: &mut LineBuffer, fields: &Fields) {
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

fn json_line(head: &LineHead<'_>, fields: &Fields, spans: &[SpanContext<'_>]) -> String {
    let mut context = LineBuffer::new(MAX_CONTEXT_BYTES);
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

/// An object of a span's fields and its name, in `room` bytes; true if that was not all.
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
fn json_text(out: &mut LineBuffer, text: &str, room: usize) -> bool {
    let mut inner = LineBuffer::new(room.saturating_sub(2));
    inner.escaped(text, Escape::Json);
    out.text.push('"');
    out.text.push_str(&inner.text);
    out.text.push('"');
    inner.cut
}

#[cfg(test)]
mod tests;
