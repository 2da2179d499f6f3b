//! Ports that stay free while nobody listens on them.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Mutex;

/// They lie below the ports that the system gives to whoever asks for any.
const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

/// How many a process takes at a time.
const OF_A_BLOCK: u16 = 16;

/// Ports that are this process's until it ends, since nobody else gets a lock on their file.
struct Block {
    /// The next one that is given out.
    next: u16,
    left: u16,
    _lock: File,
}

/// A loopback address on which nobody listens, for what starts later or comes back. Other tests that run at the same time do
/// not get it: for them it would be a matter of chance on a port that was free a moment ago.
pub(crate) fn unused_address() -> SocketAddr {
    static BLOCKS: Mutex<Vec<Block>> = Mutex::new(Vec::new());
    let mut blocks = BLOCKS.lock().expect("nobody panics with it");
    loop {
        if blocks.last().is_none_or(|block| block.left == 0) {
            let taken =
                claim().expect("a block of ports is free, because there are more than processes");
            blocks.push(taken);
        }
        let block = blocks.last_mut().expect("one was added");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, block.next));
        block.next += 1;
        block.left -= 1;
        // Something that is no test of ours may listen there.
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// Begins to look at a place of its own, so that processes seldom meet at a file.
fn claim() -> Option<Block> {
    let blocks = COUNT / OF_A_BLOCK;
    let own = u16::try_from(std::process::id() % u32::from(blocks)).ok()?;
    (0..blocks).find_map(|n| {
        let block = (own + n) % blocks;
        let file = std::env::temp_dir().join(format!("twinsight-ports-{block}"));
        let lock = File::create(file).ok()?;
        lock.try_lock().ok()?;
        Some(Block {
            next: FIRST + block * OF_A_BLOCK,
            left: OF_A_BLOCK,
            _lock: lock,
        })
    })
}
