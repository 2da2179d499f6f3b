//! How many files and sockets the process may have open, who gets how many. The limit comes
//! in, shares go out; `main` raises the limit at the start.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Files that the node has open however many cameras it has: standard streams, the runtime's, models and libraries while they
/// are loaded, the hub's connection and the one that replaces it, names that are looked up, files that are read again.
const OWN: u64 = 40;

/// Of a camera stream beside its sockets: what its decode thread reads of the kernel, and a socket that is closing.
const OF_A_STREAM: u64 = 2;

/// Connections of the HTTP server at most, and at least.
const HTTP: (u64, u64) = (4, 128);

/// The limit of open files of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptors {
    /// Files and sockets at once.
    pub limit: u64,
}

impl Descriptors {
    /// The limit of this process.
    pub fn of_process() -> Self {
        let limit = getrlimit(Resource::Nofile).current;
        Self {
            limit: limit.unwrap_or(u64::MAX),
        }
    }

    /// Raises the limit of this process as far as it may by itself, and says what it is then.
    pub fn raise() -> Self {
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        // Where that is refused the old limit holds.
        let _ = setrlimit(Resource::Nofile, limit);
        Self::of_process()
    }

    /// Connections that the HTTP server may have at once: a share that leaves cameras and hub theirs.
    pub fn http_connections(self) -> usize {
        let share = (self.limit.saturating_sub(OWN) / 8).clamp(HTTP.0, HTTP.1);
        usize::try_from(share).unwrap_or(usize::MAX)
    }

    /// Camera streams for which there are enough, where a connection has a socket on each of `addresses`. A stream that
    /// connects anew has two connections for a moment.
    pub fn streams(self, addresses: usize) -> usize {
        let http = u64::try_from(self.http_connections()).unwrap_or(u64::MAX);
        let left = self.limit.saturating_sub(OWN).saturating_sub(http);
        let addresses = u64::try_from(addresses).unwrap_or(u64::MAX);
        let each = addresses.saturating_mul(2).saturating_add(OF_A_STREAM);
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
