//! Reading the small files that an operator names: secrets and certificates. A path comes in, its text goes
//! out. Whatever the path leads to, reading ends: only regular files are read, up to a limit, and a FIFO
//! that nobody writes to does not hold up who asks.

use std::fs::{Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// The longest file with a secret, in bytes. Keys and tokens have a line.
pub const MAX_SECRET_BYTES: u64 = 64 << 10;

/// The text of a file with a secret.
///
/// # Errors
/// As [`read_small_file`], with [`MAX_SECRET_BYTES`] as the limit; also if it is no UTF-8.
pub fn read_secret_file(path: &Path) -> io::Result<String> {
    let bytes = read_small_file(path, MAX_SECRET_BYTES)?;
    String::from_utf8(bytes).or_else(|_| refused("it is no UTF-8 text"))
}

/// What a regular file of at most `limit` bytes holds; links are followed.
///
/// # Errors
/// As the system says; also if it is not a regular file, or is longer.
pub fn read_small_file(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    // Without the flag opening a FIFO waits for somebody who writes to it.
    let flags = i32::try_from(OFlags::NONBLOCK.bits())
        .expect("the flag fits, because the system call takes an int");
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    // Asked of what was opened: the path may lead elsewhere by now.
    let metadata = file.metadata()?;
    if !metadata.is_file() && !is_null_device(&metadata) {
        return refused("it is not a regular file");
    }
    let too_long = || refused(format!("it is longer than {limit} bytes"));
    if metadata.len() > limit {
        return too_long();
    }
    // Files of the system say that they are empty, and others may grow.
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return too_long();
    }
    Ok(bytes)
}

/// True for `/dev/null`, which stands for an empty file.
fn is_null_device(metadata: &Metadata) -> bool {
    metadata.file_type().is_char_device()
        && std::fs::metadata("/dev/null").is_ok_and(|null| null.rdev() == metadata.rdev())
}

fn refused<T>(what: impl Into<String>) -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::InvalidInput, what.into()))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// Reads on a thread, so that one that waits for ever fails the test.
    fn read(path: &Path) -> Result<String, String> {
        let (sender, result) = mpsc::channel();
        let path = path.to_owned();
        #[expect(
            clippy::disallowed_methods,
            reason = "a thread that hangs is to be left behind"
        )]
        std::thread::spawn(move || {
            let _ = sender.send(read_secret_file(&path).map_err(|error| error.to_string()));
        });
        result
            .recv_timeout(Duration::from_secs(10))
            .expect("reading ends")
    }

    #[test]
    fn regular_files_are_read_and_through_links_too() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("key"), folder.path().join("link"));
        std::fs::write(&file, "secret\n").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(read(&file), Ok("secret\n".to_owned()));
        assert_eq!(read(&link), Ok("secret\n".to_owned()));
    }

    #[test]
    fn what_has_no_end_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&fifo, &link).unwrap();
        let no_file = Err("it is not a regular file".to_owned());
        assert_eq!(read(&fifo), no_file);
        assert_eq!(read(&link), no_file);
        assert_eq!(read(Path::new("/dev/zero")), no_file);
        assert_eq!(
            read(Path::new("/dev/null")),
            Ok(String::new()),
            "an empty file"
        );
        assert_eq!(read(folder.path()), no_file);
        let long = folder.path().join("long");
        // A sparse file costs nothing to make and would take gigabytes to read.
        let file = std::fs::File::create(&long).unwrap();
        file.set_len(8 << 30).unwrap();
        assert_eq!(read(&long), Err("it is longer than 65536 bytes".to_owned()));
    }

    #[test]
    fn what_is_no_text_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, [0xff, 0xfe]).unwrap();
        assert_eq!(read(&file), Err("it is no UTF-8 text".to_owned()));
        std::fs::write(&file, vec![b'x'; 64 << 10]).unwrap();
        assert_eq!(read(&file).map(|text| text.len()), Ok(64 << 10));
        assert!(read(&folder.path().join("none")).is_err());
    }
}
