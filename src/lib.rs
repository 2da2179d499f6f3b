//! Twinsight: video of camera twins in, detections out.
//!
//! ```text
//! hub client ── signalling ── peer connection ── RTP tap ── reorder ── depacketize ── decode
//!    ▲                                                                                  │
//!    │                                                                  latest slot a camera stream
//!  events ◄───── outbox ◄───── postprocess ◄───── infer ◄───── preprocess ◄───── scheduler
//! ```
//!
//! Monotonic time decides everything and is passed in as `now`; wall-clock time is computed from it
//! where an event is written. Sizes carry their unit in the name (`_px`, `_bytes`, `_90k`).
//! The modules, in the order of the path; each uses only those above it:

/// Ports for unit tests, the same as for those of `tests/`.
#[cfg(test)]
#[path = "../tests/common/ports.rs"]
mod test_ports;

pub mod clock;

pub mod descriptors;

pub mod web_client;

pub mod telemetry;

pub mod config;

#[cfg_attr(
    not(any(feature = "etcd", feature = "kubernetes")),
    expect(
        dead_code,
        unreachable_code,
        unused_imports,
        unused_variables,
        reason = "a build without a store for leases refuses pools in the configuration, and nothing else of them is used"
    )
)]
pub mod shard;

pub mod bridge;

pub mod schedule;

pub mod preprocess;

pub mod detect;

pub mod annotate;

mod scale;

pub mod track;

pub mod publish;

pub mod preview;

pub mod sinks;

pub mod http;

pub mod node;

pub mod bridge_service;

pub mod check;

pub mod dev;

pub mod cmd;
