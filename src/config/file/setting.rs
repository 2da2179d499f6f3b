//! The types of keys. The file's values are read by serde, those of variables and of the hub's settings here.

use serde::Deserialize;
use serde_json::Value;

/// The type of a key: text, number, truth value or list.
pub(super) trait Setting: Sized {
    /// What the key takes, in words.
    const TAKES: &'static str;
    /// Reads a variable's text.
    fn from_text(text: &str) -> Option<Self>;
    /// Reads a value of the hub's settings.
    fn from_json(value: &Value) -> Option<Self>;
}

impl Setting for String {
    const TAKES: &'static str = "a text";
    fn from_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
    fn from_json(value: &Value) -> Option<Self> {
        value.as_str().map(str::to_owned)
    }
}

impl Setting for bool {
    const TAKES: &'static str = "true or false";
    fn from_text(text: &str) -> Option<Self> {
        text.to_ascii_lowercase().parse().ok()
    }
    fn from_json(value: &Value) -> Option<Self> {
        value.as_bool()
    }
}

impl Setting for i64 {
    const TAKES: &'static str = "a whole number";
    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
    fn from_json(value: &Value) -> Option<Self> {
        value.as_i64()
    }
}

impl Setting for f64 {
    const TAKES: &'static str = "a number";
    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
    fn from_json(value: &Value) -> Option<Self> {
        value.as_f64()
    }
}

impl Setting for Vec<String> {
    const TAKES: &'static str = "a list of texts";
    fn from_text(text: &str) -> Option<Self> {
        Some(list(text))
    }
    fn from_json(value: &Value) -> Option<Self> {
        value
            .as_array()?
            .iter()
            .map(|item| item.as_str().map(str::to_owned))
            .collect()
    }
}

/// One text or several.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "OneOrMany")]
pub struct Texts(pub Vec<String>);

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl From<OneOrMany> for Texts {
    fn from(texts: OneOrMany) -> Self {
        match texts {
            OneOrMany::One(text) => Self(vec![text]),
            OneOrMany::Many(texts) => Self(texts),
        }
    }
}

impl Setting for Texts {
    const TAKES: &'static str = "a text or a list of texts";
    fn from_text(text: &str) -> Option<Self> {
        Some(Self(list(text)))
    }
    fn from_json(value: &Value) -> Option<Self> {
        match value.as_str() {
            Some(text) => Some(Self(vec![text.to_owned()])),
            None => Vec::from_json(value).map(Self),
        }
    }
}

impl Setting for Vec<f64> {
    const TAKES: &'static str = "a point of two numbers";
    fn from_text(text: &str) -> Option<Self> {
        list(text).iter().map(|part| part.parse().ok()).collect()
    }
    fn from_json(value: &Value) -> Option<Self> {
        value.as_array()?.iter().map(Value::as_f64).collect()
    }
}

impl Setting for Vec<Vec<f64>> {
    const TAKES: &'static str = "a list of points of two numbers";
    fn from_text(_: &str) -> Option<Self> {
        None
    }
    fn from_json(value: &Value) -> Option<Self> {
        let points = value.as_array()?.iter();
        points.map(Vec::from_json).collect()
    }
}

/// The items of a variable: separated by commas, blanks around them left out.
pub(in crate::config) fn list(text: &str) -> Vec<String> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect()
}
