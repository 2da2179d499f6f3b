//! Messages of a data channel: an app's text, JSON value or bytes come in, the text or bytes that travel go out, and the other
//! way round. JSON travels as text, and text that is JSON arrives as a JSON value, as with the official clients: `"12"` sent
//! as text arrives as a number. The handles and the reader of a channel call it.

use bytes::Bytes;
use serde_json::Value;

/// A message of a data channel.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// Text that is no JSON.
    Text(String),
    /// A JSON value, which travels as text.
    Json(Value),
    /// Bytes.
    Binary(Bytes),
}

/// A message in the form in which it travels.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Text(String),
    Binary(Bytes),
}

impl Message {
    /// Reads a message that came. Parts of a text that are not UTF-8 are replaced.
    pub(crate) fn read(is_text: bool, data: Bytes) -> Self {
        if !is_text {
            return Self::Binary(data);
        }
        match serde_json::from_slice(&data) {
            Ok(value) => Self::Json(value),
            Err(_) => Self::Text(String::from_utf8_lossy(&data).into_owned()),
        }
    }

    pub(crate) fn into_wire(self) -> Wire {
        match self {
            Self::Text(text) => Wire::Text(text),
            Self::Json(value) => Wire::Text(value.to_string()),
            Self::Binary(data) => Wire::Binary(data),
        }
    }
}

impl Wire {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(data) => data.len(),
        }
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Value> for Message {
    fn from(value: Value) -> Self {
        Self::Json(value)
    }
}

impl From<Bytes> for Message {
    fn from(data: Bytes) -> Self {
        Self::Binary(data)
    }
}

impl From<Vec<u8>> for Message {
    fn from(data: Vec<u8>) -> Self {
        Self::Binary(data.into())
    }
}

impl From<&[u8]> for Message {
    fn from(data: &[u8]) -> Self {
        Self::Binary(Bytes::copy_from_slice(data))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn text_that_is_json_arrives_as_json() {
        let read = |text: &'static str| Message::read(true, Bytes::from_static(text.as_bytes()));
        assert_eq!(read("12"), Message::Json(json!(12)));
        assert_eq!(read(r#"{"a":[1]}"#), Message::Json(json!({"a": [1]})));
        assert_eq!(read("hello"), Message::Text("hello".to_owned()));
        assert_eq!(read(""), Message::Text(String::new()));
        let deep = "[".repeat(100_000);
        let deep = Message::read(true, Bytes::from(deep.clone().into_bytes()));
        assert!(matches!(deep, Message::Text(text) if text.len() == 100_000));
        let bytes = Message::read(false, Bytes::from_static(b"12"));
        assert_eq!(bytes, Message::Binary(Bytes::from_static(b"12")));
    }

    #[test]
    fn text_that_is_no_utf8_is_mended() {
        let read = Message::read(true, Bytes::from_static(b"a\xffb"));
        assert_eq!(read, Message::Text("a\u{fffd}b".to_owned()));
    }
}
