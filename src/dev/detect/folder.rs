//! The files of a folder that is given to `twinsight detect`: a path comes in, the paths of its files go out.

use std::io;
use std::path::{Path, PathBuf};

/// The files of a folder, sorted by name. Folders inside of it are not searched, as other programs do not either, and files whose
/// names begin with a dot, which are hidden, are left out.
pub(super) fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        // Symbolic links are followed. What a broken one is, is said when it is opened.
        let is_file = std::fs::metadata(entry.path()).map_or(true, |data| data.is_file());
        if is_file && !is_hidden {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}
