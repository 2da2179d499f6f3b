//! Why a video device gives no pictures, each with what to do.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustix::io::Errno;
use twinsight_media::h264::encode::EncodeError;

/// Why a video device gives no pictures.
#[derive(Debug, thiserror::Error)]
pub(super) enum DeviceError {
    /// There is no such file.
    #[error("there is no {}: plug the camera in, or name another one of /dev/video* as `device` (a container has to be given it, with --device)", .0.display())]
    Missing(PathBuf),
    /// It may not be opened.
    #[error("{} may not be opened: add this user to the group `video`, or start the container with that group (--group-add video)", .0.display())]
    NotAllowed(PathBuf),
    /// Somebody else has it.
    #[error("{} is used by another program, and a camera has one user at a time: close that program", .0.display())]
    Busy(PathBuf),
    /// It was there, and is gone.
    #[error("{} is gone: plug the camera in again", .0.display())]
    Unplugged(PathBuf),
    /// It is another kind of device.
    #[error("{} gives no stream of pictures: a camera often has several devices of which one does, so name another one of /dev/video*", .0.display())]
    NotACamera(PathBuf),
    /// It has none of our formats.
    #[error("{} has no format that can be used (it offers {offered}): a camera has to give H.264, Motion JPEG or YUYV", path.display())]
    NoFormat {
        /// The device.
        path: PathBuf,
        /// What it has.
        offered: String,
    },
    /// It stopped.
    #[error("{} has given no picture for {} s: unplug the camera and plug it in again, or ask for a smaller size or fewer frames, which its USB port may have room for", path.display(), limit.as_secs())]
    Silent {
        /// The device.
        path: PathBuf,
        /// For so long.
        limit: Duration,
    },
    /// A call failed.
    #[error("{} does not let us {what} ({source}): unplug the camera and plug it in again", path.display())]
    Call {
        /// The device.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The encoder failed.
    #[error("the H.264 encoder failed ({0}): ask for another size")]
    Encoder(#[from] EncodeError),
    /// The system has no thread for it.
    #[error("the system grants no thread for {}: raise the limit of tasks", .0.display())]
    NoThread(PathBuf),
    /// A bug.
    #[error("what {} gave made this program panic: this is a bug, please report it with the camera's model", .0.display())]
    Panicked(PathBuf),
}

impl DeviceError {
    /// The device has answered, and stays with what it said until somebody changes something.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::NotAllowed(_) | Self::NotACamera(_) | Self::NoFormat { .. }
        )
    }

    /// What a failed call on a device means.
    pub(super) fn of(path: &std::path::Path, what: &'static str, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOENT | Errno::NXIO) => Self::Missing(path),
            Some(Errno::ACCESS | Errno::PERM) => Self::NotAllowed(path),
            Some(Errno::BUSY) => Self::Busy(path),
            Some(Errno::NODEV) => Self::Unplugged(path),
            _ => Self::Call { path, what, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn each_error_of_the_system_says_what_to_do() {
        for (errno, expected) in [
            (Errno::NOENT, "there is no /dev/video0: plug the camera in"),
            (Errno::ACCESS, "add this user to the group `video`"),
            (Errno::BUSY, "close that program"),
            (
                Errno::NODEV,
                "/dev/video0 is gone: plug the camera in again",
            ),
            (Errno::IO, "does not let us begin"),
        ] {
            let error = DeviceError::of(Path::new("/dev/video0"), "begin", errno.into());
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
