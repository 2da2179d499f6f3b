//! How many files and sockets the process may have open, and who gets how many of them. The system's limit comes in, the
//! shares of the HTTP server and of the camera streams go out. `main` raises the limit at the start.

use rustix::process::{Resource, getrlimit, setrlimit};

/// The node needs this many however few cameras it has: for standard streams, the runtime, models and libraries while they are
/// loaded, the hub's connection and the one that replaces it, names that are looked up, files that are read again.
const OWN_FILES: u64 = 40;

/// A camera stream needs this many beside its sockets: for what its decode thread reads of the kernel, and for a socket that
/// is closing.
const FILES_OF_A_STREAM: u64 = 2;

/// The HTTP server gets at least and at most this many connections.
const HTTP_CONNECTIONS: (u64, u64) = (4, 128);

/// The limit of open files of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Descriptors {
    /// How many files and sockets may be open at once.
    pub(crate) limit: u64,
}

impl Descriptors {
    /// Asks the system for the limit of this process.
    pub(crate) fn of_process() -> Self {
        let limit = getrlimit(Resource::Nofile).current;
        Self {
            limit: limit.unwrap_or(u64::MAX),
        }
    }

    /// Raises the limit of this process to the most that the system allows without privileges, and gives what it is then.
    pub(crate) fn raise() -> Self {
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        // If the system refuses, the old limit holds.
        let _ = setrlimit(Resource::Nofile, limit);
        Self::of_process()
    }

    /// How many connections the HTTP server may have at once, so that cameras and hub keep their share.
    pub(crate) fn http_connections(self) -> usize {
        let share = (self.limit.saturating_sub(OWN_FILES) / 8)
            .clamp(HTTP_CONNECTIONS.0, HTTP_CONNECTIONS.1);
        usize::try_from(share).unwrap_or(usize::MAX)
    }

    /// How many camera streams the limit carries, if a connection has a socket on each of `addresses`. A stream that
    /// connects anew has two connections for a moment.
    pub(crate) fn streams(self, addresses: usize) -> usize {
        let http = u64::try_from(self.http_connections()).unwrap_or(u64::MAX);
        let left = self.limit.saturating_sub(OWN_FILES).saturating_sub(http);
        let addresses = u64::try_from(addresses).unwrap_or(u64::MAX);
        let each = addresses
            .saturating_mul(2)
            .saturating_add(FILES_OF_A_STREAM);
        usize::try_from(left / each).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cameras_and_hub_keep_their_share_at_any_limit() {
        let of = |limit| {
            let descriptors = Descriptors { limit };
            (descriptors.http_connections(), descriptors.streams(1))
        };
        assert_eq!(of(0), (4, 0));
        assert_eq!(of(64), (4, 5));
        assert_eq!(of(256), (27, 47));
        assert_eq!(of(1024), (123, 215));
        assert_eq!(of(1_048_576), (128, 262_102));
        assert_eq!(Descriptors { limit: 1024 }.streams(3), 107);
        assert_eq!(Descriptors { limit: u64::MAX }.streams(usize::MAX), 0);
    }
}
