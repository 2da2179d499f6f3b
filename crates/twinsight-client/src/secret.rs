//! Texts that are never shown: access keys, tokens and what a hub tells of credentials. They are remembered here, so that
//! whoever writes a log can leave them out of every line, also where a library or the hub repeats them.

use std::fmt;
use std::path::{Path, PathBuf};

use parking_lot::{RwLock, RwLockReadGuard};

use crate::secret_file::read_secret_file;

/// Shorter texts are too common to be concealed.
const MIN_SECRET_BYTES: usize = 8;

/// Longer ones are concealed by their beginning of so many bytes.
pub const MAX_CONCEALED_BYTES: usize = 512;

/// Secrets of each kind that are remembered; beyond them the oldest is forgotten. A bridge has up to three of each camera.
const MAX_SECRETS: usize = 512;

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    text: String,
    file: Option<PathBuf>,
}

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        conceal(&text);
        Self { text, file: None }
    }

    /// Takes a secret out of its file's text, without blanks around it; none if that is no secret: visible
    /// ASCII in one line.
    pub fn of_file(file: &Path, text: &str) -> Option<Self> {
        let text = text.trim();
        let is_secret = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        is_secret.then(|| {
            conceal(text);
            Self {
                text: text.to_owned(),
                file: Some(file.to_owned()),
            }
        })
    }

    /// The secret itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// The file that it was read from.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// What the file holds now, if that is another secret: keys are rotated under running programs.
    pub fn rotated(&self) -> Option<Self> {
        let file = self.file.as_deref()?;
        let text = read_secret_file(file).ok()?;
        Self::of_file(file, &text).filter(|read| read.text != self.text)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Texts that no line shows.
static SECRETS: RwLock<Secrets> = RwLock::new(Secrets {
    own: Vec::new(),
    told: Vec::new(),
});

#[derive(Debug)]
struct Secrets {
    /// Of the configuration.
    own: Vec<String>,
    /// What a hub told: however many it tells, our own stay.
    told: Vec<String>,
}

fn remember(secret: &str, told: bool) {
    let secret = &secret[..secret.floor_char_boundary(MAX_CONCEALED_BYTES)];
    if secret.len() < MIN_SECRET_BYTES {
        return;
    }
    let known = |secrets: &Secrets| {
        let all = [&secrets.own, &secrets.told];
        all.iter()
            .any(|list| list.iter().any(|each| each == secret))
    };
    if known(&SECRETS.read()) {
        return;
    }
    let mut secrets = SECRETS.write();
    let list = if told {
        &mut secrets.told
    } else {
        &mut secrets.own
    };
    if list.len() >= MAX_SECRETS {
        list.remove(0);
    }
    list.push(secret.to_owned());
}

/// Puts a secret on the list of what no line of the log shows, whoever writes it. Secrets of less than 8 bytes are not on it.
pub fn conceal(secret: &str) {
    remember(secret, false);
}

/// As [`conceal`], for what a hub tells: more of it than is remembered displaces no secret of the program's own.
pub fn conceal_told(secret: &str) {
    remember(secret, true);
}

/// What no line of a log is to show.
pub fn concealed() -> Concealed {
    Concealed(SECRETS.read())
}

/// The secrets that are remembered. None can be added while it lives.
#[derive(Debug)]
pub struct Concealed(RwLockReadGuard<'static, Secrets>);

impl Concealed {
    /// All of them, longer ones cut to their first 512 bytes.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let all = self.0.own.iter().chain(&self.0.told);
        all.map(String::as_str)
    }
}
