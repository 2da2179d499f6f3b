//! What is done to the nodes and to etcd, and what has to hold meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::bench::{Bench, LEASE};
use super::relay::Way;

/// Nodes and cameras of a pool.
const NODES: usize = 5;
const CAMERAS: usize = 40;

/// A camera whose node died or cannot reach etcd is another node's by then.
const TAKEN_WITHIN: Duration = Duration::from_secs(15);

/// A camera that goes from one living node to another has no longer gap, and one that stays where it is has none.
const HANDOVER_GAP: Duration = Duration::from_secs(1);

/// The beginning of everything, on a machine that does something else too.
const SETTLED_WITHIN: Duration = Duration::from_secs(40);

type Cameras = BTreeSet<Arc<str>>;

/// A listener that finds nothing wrong has to be one that would.
#[tokio::test(flavor = "multi_thread")]
async fn the_listener_finds_cameras_that_two_nodes_publish() {
    let mut bench = Bench::start(2, 3, 0).await.unwrap();
    for node in 0..2 {
        bench.start_node(node).await;
    }
    let all = bench.twins.clone();
    bench
        .until("both publish all cameras", SETTLED_WITHIN, |bench| {
            let faults = bench.listener.record().faults();
            let cameras: Cameras = faults
                .iter()
                .map(|fault| Arc::clone(&fault.camera))
                .collect();
            cameras == all
        })
        .await;
    let record = bench.listener.record();
    assert_eq!(record.breaks(), [], "each node numbers its own events");
    for fault in record.faults() {
        assert_eq!(fault.nodes.len(), 2, "{fault:?}");
    }
    println!("{}", bench.load());
}
