//! What the system's errors mean to whoever reads them.

use std::io;

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// True where the system has no more files to give.
pub fn is_out_of_files(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE)
    )
}

/// What the system said, and where it has no more files to give, what to do about that: `too many open files` is never the
/// fault of the address or the file that was to be opened.
pub fn explain_io(error: &io::Error) -> String {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE) => {
            let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
            format!(
                "too many open files, and {limit} is the limit of this process: raise it with `ulimit -n`, `LimitNOFILE=` of the service or `--ulimit nofile=` of the container"
            )
        }
        Some(Errno::NFILE) => {
            "too many open files on this machine: raise `fs.file-max`, or stop what has them"
                .to_owned()
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_open_files_are_told_as_that() {
        let full = io::Error::from(Errno::MFILE);
        assert!(is_out_of_files(&full));
        let text = explain_io(&full);
        assert!(text.starts_with("too many open files, and "), "{text}");
        assert!(text.contains("`ulimit -n`"), "{text}");
        let other = io::Error::from(Errno::ACCESS);
        assert!(!is_out_of_files(&other));
        assert_eq!(explain_io(&other), other.to_string());
    }
}
