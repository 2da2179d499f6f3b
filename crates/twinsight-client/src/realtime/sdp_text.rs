//! Lines of a description that is written here, and what may be copied into them from the other side's.

use std::fmt::Write as _;

/// Appends a line.
pub(super) fn line(text: &mut String, content: &str) {
    // Writing into a string does not fail.
    let _ = write!(text, "{content}\r\n");
}

/// True for text without white space and control characters.
pub(super) fn is_graphic(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// True for one word of at most 256 bytes.
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.len() <= 256 && is_graphic(text)
}

/// True for words on one line, at most 1024 bytes.
pub(super) fn is_words(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 1024
        && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
}
