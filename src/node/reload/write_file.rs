//! Writes the configuration's file. A path comes in with the text that is expected there and the one that is to be, and the file has
//! either the one or the other. It is replaced by a new one where that can be done, and written in place where it cannot, as with a file
//! that a container has mounted. A thread for work that blocks runs it.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// Why the file is not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    /// The node may not write it.
    #[error(
        "{} cannot be written ({source}): give the node's user the right to write it; in a container, mount it without `:ro`; a ConfigMap is changed where it is made",
        path.display()
    )]
    NotWritable { path: PathBuf, source: io::Error },
    /// It is another one than a moment ago.
    #[error("{} was changed a moment ago: look at what is in force now, and try again", path.display())]
    Changed { path: PathBuf },
    /// The system failed.
    #[error("{} could not be written ({source}), and is as it was: see whether its disk is full", path.display())]
    Failed { path: PathBuf, source: io::Error },
    /// The system failed, and the old text could not be written either.
    #[error(
        "{} could not be written ({source}), and is broken now: what is in force goes on, so mend the file before the node starts again",
        path.display()
    )]
    Broken { path: PathBuf, source: io::Error },
}

/// Writes `new` into a file that has `old`. A link stays one, and the file that it leads to is written.
pub(super) fn write_file(path: &Path, old: &str, new: &str) -> Result<(), WriteError> {
    let refused = |source| WriteError::NotWritable {
        path: path.to_owned(),
        source,
    };
    let target = path.canonicalize().map_err(refused)?;
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&target)
        .map_err(refused)?;
    let metadata = file.metadata().map_err(refused)?;
    if read(&mut file).map_err(refused)? != old.as_bytes() {
        return Err(WriteError::Changed {
            path: path.to_owned(),
        });
    }
    // Whoever has another name of the file would keep the old one.
    if metadata.nlink() == 1 && replace(&target, &metadata, new).is_ok() {
        return Ok(());
    }
    overwrite(&mut file, new).map_err(|source| {
        let path = path.to_owned();
        match overwrite(&mut file, old) {
            Ok(()) => WriteError::Failed { path, source },
            Err(_) => WriteError::Broken { path, source },
        }
    })
}

fn read(file: &mut File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes a new file beside it and gives it the old one's name, so that there is a whole one at every moment.
fn replace(target: &Path, like: &Metadata, text: &str) -> io::Result<()> {
    let folder = target.parent().ok_or(Errno::NOENT)?;
    let name = target.file_name().ok_or(Errno::NOENT)?.to_string_lossy();
    let beside = folder.join(format!(".{name}.{:016x}", rand::random::<u64>()));
    let written = write_beside(&beside, like, text).and_then(|()| std::fs::rename(&beside, target));
    if written.is_err() {
        // There may be none.
        let _ = std::fs::remove_file(&beside);
        return written;
    }
    // The name is safe once the folder is, which not every file system can promise.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

fn write_beside(beside: &Path, like: &Metadata, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(beside)?;
    file.write_all(text.as_bytes())?;
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (like.uid(), like.gid()) {
        fchown(&file, Some(like.uid()), Some(like.gid()))?;
    }
    file.set_permissions(like.permissions())?;
    file.sync_all()
}

fn overwrite(file: &mut File, text: &str) -> io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    file.write_all(text.as_bytes())?;
    file.set_len(text.len() as u64)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn node_toml(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("node.toml");
        std::fs::write(&file, text).unwrap();
        (folder, file)
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    #[test]
    fn a_file_is_replaced_and_keeps_its_rights() {
        let (folder, file) = node_toml("old");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        let before = std::fs::metadata(&file).unwrap();
        write_file(&file, "old", "new").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "new");
        let after = std::fs::metadata(&file).unwrap();
        assert_ne!(before.ino(), after.ino());
        assert_eq!((before.mode(), before.uid()), (after.mode(), after.uid()));
        assert_eq!(names(folder.path()), ["node.toml"]);
    }

    #[test]
    fn a_file_with_another_name_or_a_link_is_written_where_it_is() {
        let (folder, file) = node_toml("a longer old text");
        let (other, link) = (folder.path().join("other"), folder.path().join("link"));
        std::os::unix::fs::symlink("node.toml", &link).unwrap();
        write_file(&link, "a longer old text", "old text").unwrap();
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "old text");
        std::fs::hard_link(&file, &other).unwrap();
        write_file(&file, "old text", "new").unwrap();
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "new");
        assert_eq!(std::fs::read_to_string(&link).unwrap(), "new");
    }

    #[test]
    fn what_somebody_else_wrote_meanwhile_stays() {
        let (folder, file) = node_toml("theirs");
        let error = write_file(&file, "old", "new").unwrap_err();
        assert!(matches!(error, WriteError::Changed { .. }), "{error}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "theirs");
        let none = folder.path().join("none");
        let error = write_file(&none, "", "new").unwrap_err();
        assert!(matches!(error, WriteError::NotWritable { .. }), "{error}");
        assert!(error.to_string().contains("none cannot be written"));
    }

    /// Writes the file that a variable names, in the process that the test below starts where the file is mounted.
    #[test]
    #[ignore = "another test runs it in a mount namespace"]
    fn write_what_is_mounted() {
        let file = PathBuf::from(std::env::var_os("MOUNTED").unwrap());
        match write_file(&file, "old", "a new text") {
            Ok(()) => {}
            Err(WriteError::NotWritable { .. }) => std::process::exit(30),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn a_file_that_a_container_has_mounted_is_written_in_place() {
        let (folder, file) = node_toml("old");
        let mounted = |options: &str, command: &str| {
            let mount = "mount --bind \"$MOUNTED\" \"$MOUNTED\" && mount -o remount,bind,$0 \"$MOUNTED\" && exec";
            std::process::Command::new("unshare")
                .args(["-m", "sh", "-c", &format!("{mount} {command}"), options])
                .env("MOUNTED", &file)
                .output()
        };
        if !mounted("rw", "true").is_ok_and(|output| output.status.success()) {
            // Only root may mount anything, and not in every container.
            return;
        }
        let test = "node::reload::write_file::tests::write_what_is_mounted";
        let program = std::env::current_exe().unwrap();
        let run = format!("'{}' --ignored --exact {test}", program.display());
        let read_only = mounted("ro", &run).unwrap();
        assert_eq!(read_only.status.code(), Some(30), "{read_only:?}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "old");
        let before = std::fs::metadata(&file).unwrap().ino();
        let writable = mounted("rw", &run).unwrap();
        assert!(writable.status.success(), "{writable:?}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "a new text");
        assert_eq!(std::fs::metadata(&file).unwrap().ino(), before);
        assert_eq!(names(folder.path()), ["node.toml"]);
    }
}
