//! The metrics of a pool of nodes. A node that is in none has none of these series.

use prometheus::{Gauge, IntCounter, IntGauge};

use super::register::Register;
use twinsight_media::label_enum;

label_enum! {
    /// How a camera moved between this node and the others of its pool.
    pub enum PoolMove {
        /// It is this node's now.
        Taken = "taken",
        /// It was handed to another node.
        Given = "given",
        /// It went because the node's lease ran out, or somebody removed what the pool's store had of it.
        Lost = "lost",
    }
}

/// How a node stands in its pool.
#[derive(Debug)]
pub struct PoolMetrics {
    /// The nodes of the pool that live.
    pub members: IntGauge,
    /// Camera twins of the configuration, whoever has them.
    pub configured: IntGauge,
    /// Cameras that the node publishes.
    pub held: IntGauge,
    /// Cameras that it is connected to and does not publish.
    pub warm: IntGauge,
    /// For how long it may go on to publish without another renewal.
    pub lease_remaining: Gauge,
    moves: Vec<IntCounter>,
    /// Times the store of the leases did not do what was asked.
    pub lease_errors: IntCounter,
}

impl PoolMetrics {
    pub(super) fn register(register: &Register<'_>) -> Self {
        let cameras = register.gauges(
            "pool_cameras",
            "Cameras of the pool that this node is connected to, by whether it publishes them",
            &["duty"],
        );
        let moves = register.counters(
            "pool_moves_total",
            "Cameras that came to this node from the pool, or went",
            &["direction"],
        );
        Self {
            members: register.gauge("pool_members", "Nodes of the pool that live"),
            configured: register.gauge(
                "pool_configured_cameras",
                "Camera twins of the pool's configuration, as this node has it",
            ),
            held: cameras.with_label_values(&["hold"]),
            warm: cameras.with_label_values(&["warm"]),
            lease_remaining: register.number(
                "pool_lease_remaining_seconds",
                "For how long the node may go on to publish without another renewal of its lease",
            ),
            moves: PoolMove::ALL
                .iter()
                .map(|each| moves.with_label_values(&[each.as_str()]))
                .collect(),
            lease_errors: register.counter(
                "pool_lease_errors_total",
                "Times the store of the pool's leases did not do what was asked",
            ),
        }
    }

    /// Counts cameras that moved.
    pub fn moved(&self, direction: PoolMove, count: u64) {
        self.moves[direction as usize].inc_by(count);
    }
}
