//! The fields of an event or a span. They are visited and come out as values of which a line can show everything: texts are
//! cut to a line's length, and secrets are concealed.

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};

use super::MAX_LINE_BYTES;
use twinsight_client::secret;

/// Fields that are kept of an event or a span.
const MAX_FIELDS: usize = 64;

/// At the end of what was cut.
pub(super) const CUT: &str = "…";

/// Stands for a secret.
const CONCEALED: &str = "***";

/// A field's value.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::telemetry) enum Value {
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
pub(in crate::telemetry) struct Fields {
    pub(super) values: Vec<(&'static str, Value)>,
    /// There were more than are kept.
    pub(super) left_out: bool,
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
pub(in crate::telemetry) fn shown(text: impl fmt::Display) -> String {
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
    pub(in crate::telemetry) fn set(&mut self, name: &'static str, value: Value) {
        if let Some(known) = self.values.iter_mut().find(|(known, _)| *known == name) {
            known.1 = value;
        } else if self.values.len() < MAX_FIELDS {
            self.values.push((name, value));
        } else {
            self.left_out = true;
        }
    }

    /// Adds or changes those fields.
    pub(in crate::telemetry) fn merge(&mut self, other: Self) {
        for (name, value) in other.values {
            self.set(name, value);
        }
    }

    /// Takes a field out, for one that is not shown as such.
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
