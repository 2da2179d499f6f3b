//! Ports that stay free while nobody listens on them.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// They lie below the ports that the system gives to whoever asks for any.
const FIRST: u32 = 10_000;
const COUNT: u32 = 20_000;

/// How many each process has to itself, unless process ids have come round.
const OF_A_PROCESS: u32 = 16;

/// A loopback address on which nobody listens, for what starts later or comes back. Other tests that run at the same time do
/// not get it: for them it would be a matter of chance on a port that was free a moment ago.
pub(crate) fn unused_address() -> SocketAddr {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    for _ in 0..COUNT {
        let taken = TAKEN.fetch_add(1, Ordering::Relaxed);
        let place = std::process::id()
            .wrapping_mul(OF_A_PROCESS)
            .wrapping_add(taken)
            % COUNT;
        let port = u16::try_from(FIRST + place).expect("a port fits, because the places are few");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no port below those that the system gives is free");
}
