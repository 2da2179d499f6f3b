//! The fields of an event or a span. They are visited and come out as values of which a line can show everything: texts are
//! cut to a line's length, and secrets are concealed.

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};

use super::MAX_LINE_BYTES;
use twinsight_client::secret;

/// So many fields are kept of an event or a span.
const MAX_FIELDS: usize = 64;

/// Stands at the end of what was cut.
pub(super) const CUT: &str = "…";

/// Stands in the place of a secret.
const CONCEALED: &str = "***";

/// A field's value.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::telemetry) enum Value {
    Bool(bool),
    /// A whole number, in decimal.
    Whole(String),
    Float(f64),
    /// A text. A line for people has it in quotes.
    Quoted(String),
    /// What a value's `Display` or `Debug` shows.
    Shown(String),
}

/// The fields of an event or a span, in the order in which they came.
#[derive(Debug, Default, Clone)]
pub(in crate::telemetry) struct Fields {
    pub(super) values: Vec<(&'static str, Value)>,
    /// There were more fields than are kept.
    pub(super) left_out: bool,
}

/// Conceals secrets in a text. If the text was cut, a secret may have been cut with it: then its beginning is removed from
/// the end.
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

/// How many bytes at the end of the text are the beginning of this secret.
fn begun_at_the_end(text: &str, secret: &str) -> usize {
    let ends = secret.char_indices().map(|(at, _)| at).rev();
    ends.into_iter()
        .find(|end| text.ends_with(&secret[..*end]))
        .unwrap_or_default()
}

/// Takes what a value shows of itself up to a limit and stops it there, so that a text of a megabyte costs no more than a line.
struct Limited {
    text: String,
    /// The value had more to show.
    cut: bool,
}

impl Write for Limited {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        // The text is longer than a line, so that a secret that lies across the line's end is seen whole.
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

/// What a line may show of a text: no more than fits, and no secret.
pub(in crate::telemetry) fn shown(text: impl fmt::Display) -> String {
    let mut limited = Limited {
        text: String::new(),
        cut: false,
    };
    // An error means that the limit was reached.
    let _ = write!(limited, "{text}");
    without_secrets(limited.text, limited.cut)
}

impl Fields {
    /// Adds a field, or changes the one of this name.
    pub(in crate::telemetry) fn set(&mut self, name: &'static str, value: Value) {
        if let Some(known) = self.values.iter_mut().find(|(known, _)| *known == name) {
            known.1 = value;
        } else if self.values.len() < MAX_FIELDS {
            self.values.push((name, value));
        } else {
            self.left_out = true;
        }
    }

    /// Adds the fields of another, or changes those of the same names.
    pub(in crate::telemetry) fn merge(&mut self, other: Self) {
        for (name, value) in other.values {
            self.set(name, value);
        }
    }

    /// Takes a field out, so that the line does not show it as a field.
    pub(in crate::telemetry) fn take(&mut self, name: &str) -> Option<Value> {
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
