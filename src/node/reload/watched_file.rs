//! The configuration's file as the reload last saw it. Readings come in; whether the file changed, and the change is
//! whole, goes out. The reload's task holds it.

use crate::config::ConfigSource;

/// What was read last, or why it cannot be used.
pub(crate) type FileReading<T> = Result<T, String>;

/// The file as it was last seen.
pub(crate) struct WatchedFile {
    pub(crate) seen: FileReading<ConfigSource>,
    /// At the last look the file was another than `seen`. It counts once it is read like this again.
    unsettled: Option<FileReading<ConfigSource>>,
}

impl WatchedFile {
    pub(crate) fn new(seen: FileReading<ConfigSource>) -> Self {
        Self {
            seen,
            unsettled: None,
        }
    }

    /// Takes in what was read now. True means that the file is another than before, and was read like this twice.
    pub(crate) fn look(&mut self, now: FileReading<ConfigSource>) -> bool {
        if same(&now, &self.seen) {
            self.unsettled = None;
            return false;
        }
        let settled = self
            .unsettled
            .as_ref()
            .is_some_and(|before| same(before, &now));
        if settled {
            *self = Self::new(now);
        } else {
            self.unsettled = Some(now);
        }
        settled
    }
}

/// Reads the file again, on a thread for work that blocks, since a network file system may take its time.
pub(crate) async fn read_again(source: &ConfigSource) -> FileReading<ConfigSource> {
    let source = source.clone();
    match tokio::task::spawn_blocking(move || source.reread()).await {
        Ok(read) => read.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

fn same(a: &FileReading<ConfigSource>, b: &FileReading<ConfigSource>) -> bool {
    match (a, b) {
        (Ok(a), Ok(b)) => a.text() == b.text(),
        (Err(a), Err(b)) => a == b,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Env;

    #[test]
    fn a_file_counts_once_it_is_another_and_was_twice_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.toml");
        let env = Env::default();
        let read = |text: Option<&str>| {
            match text {
                Some(text) => std::fs::write(&path, text).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            ConfigSource::read(Some(&path), &env).map_err(|error| error.to_string())
        };
        let mut watched = WatchedFile::new(read(Some("one")));
        assert!(!watched.look(read(Some("one"))));
        // Truncated, half written, written.
        for text in ["", "tw", "two"] {
            assert!(!watched.look(read(Some(text))), "{text:?}");
        }
        assert!(watched.look(read(Some("two"))));
        assert!(!watched.look(read(Some("two"))), "once");
        // Gone for a moment, as when an editor moves it away first.
        assert!(!watched.look(read(None)));
        assert!(!watched.look(read(Some("two"))));
        assert!(!watched.look(read(None)));
        assert!(
            watched.look(Err(ConfigSource::read(Some(&path), &env)
                .unwrap_err()
                .to_string()))
        );
        assert!(!watched.look(read(Some("two"))));
        assert!(watched.look(read(Some("two"))), "it is back");
    }
}
