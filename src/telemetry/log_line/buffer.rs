//! A line in the making. Our own text and that of others come in, a text that fits into the line comes out: no character
//! in it ends the line or steers a terminal, and what did not fit is marked.

use std::fmt::Write;

use super::fields::CUT;

/// How characters are written that cannot stand in a line as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Escape {
    /// As Rust's `escape_debug` writes them.
    Text,
    /// The same in a text in quotes, where quotes and backslashes are escaped too.
    QuotedText,
    /// As a JSON text has them.
    Json,
}

/// A line in the making. What does not fit is cut between two characters, and the cut is marked.
pub(super) struct LineBuffer {
    pub(super) text: String,
    /// The text has at most so many bytes.
    pub(super) end: usize,
    /// Something did not fit.
    pub(super) cut: bool,
}

impl LineBuffer {
    /// An empty line of at most `end` bytes.
    pub(super) fn new(end: usize) -> Self {
        Self {
            text: String::with_capacity(256),
            end,
            cut: false,
        }
    }

    pub(super) fn room(&self) -> usize {
        self.end.saturating_sub(self.text.len())
    }

    /// Adds a text of our own if all of it fits. False means that it does not, and nothing was added.
    pub(super) fn raw(&mut self, text: &str) -> bool {
        let fits = !self.cut && text.len() <= self.room();
        if fits {
            self.text.push_str(text);
        } else {
            self.cut = true;
        }
        fits
    }

    /// Adds a text of others with what it needs to be escaped, as much of it as fits. Room for the mark is always kept.
    pub(super) fn escaped(&mut self, text: &str, escape: Escape) {
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

    pub(super) fn finished(mut self) -> String {
        self.text.push('\n');
        self.text
    }
}

/// True for characters that end a line, steer a terminal or change the reading direction.
pub(super) fn is_unfit(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}
