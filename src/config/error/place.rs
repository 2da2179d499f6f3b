//! Where a mistake of the configuration is.

use std::fmt;
use std::path::{Path, PathBuf};

use super::super::shown::shown;

/// Where a setting was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the file, in this line, counted from 1.
    Line(PathBuf, usize),
    /// In a variable of the environment.
    Variable(String),
    /// In a setting of the node's own twin on the hub.
    Setting(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(path, line) => write!(f, "{} line {line}", path.display()),
            Self::Variable(name) => write!(f, "variable {}", shown(name)),
            Self::Setting(name) => write!(f, "setting {} of the hub", shown(name)),
        }
    }
}

/// The number of the line that a byte of the text is in, counted from 1.
pub(in crate::config) fn line_of(text: &str, byte: usize) -> usize {
    let before = text.as_bytes().get(..byte).unwrap_or(text.as_bytes());
    before
        .iter()
        .fold(1, |line, b| line + usize::from(*b == b'\n'))
}

/// The place of a byte of the file.
pub(in crate::config) fn line(path: &Path, text: &str, byte: usize) -> Place {
    Place::Line(path.to_path_buf(), line_of(text, byte))
}
