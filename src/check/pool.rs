//! Tries the store of a pool's leases. The configuration comes in, and a finding goes out. No camera of the pool moves for it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::finding::{Finding, Report, Severity};
use crate::config::{Config, NodeConfig, PoolConfig, ShareConfig};
use crate::shard::{PoolLost, Share, probe};

/// Says which share of the cameras is the node's, and whether the store of its pool can be reached and written.
pub(super) async fn check(config: &Config, report: &mut Report<'_>) {
    match &config.node.share {
        ShareConfig::All => {}
        ShareConfig::Shard { index, count } => {
            let own = own_streams(config);
            let all = config.cameras.len();
            report.add(Finding::ok(
                "shard",
                format!("part {index} of {count} has {own} of {all} camera streams"),
            ));
        }
        ShareConfig::Pool(pool) => {
            let cameras = config.cameras.iter();
            let twins = cameras.map(|camera| Arc::clone(&camera.id.twin_id));
            of_pool(&config.node, pool, &twins.collect(), report).await;
        }
    }
}

/// How many camera streams the node has to have room for. In a pool it is not known beforehand, and the node says how many it can
/// carry.
pub(super) fn own_streams(config: &Config) -> usize {
    let all = config.cameras.len();
    match &config.node.share {
        ShareConfig::All => all,
        ShareConfig::Pool(_) => {
            all.min(usize::try_from(config.node.capacity).unwrap_or(usize::MAX))
        }
        ShareConfig::Shard { index, count } => {
            let share = Share::shard(*index, *count);
            let duties = share.duties();
            let duties = duties.borrow();
            let cameras = config.cameras.iter();
            cameras
                .filter(|camera| duties.of(&camera.id.twin_id).is_some())
                .count()
        }
    }
}

async fn of_pool(
    node: &NodeConfig,
    pool: &PoolConfig,
    cameras: &BTreeSet<Arc<str>>,
    report: &mut Report<'_>,
) {
    let subject = format!("pool {}", pool.name);
    match probe(node, pool, cameras).await {
        Ok(found) => {
            let engine = found.engine;
            let can = format!("{engine} is reached and can be written");
            let names: Vec<&str> = found.members.keys().map(String::as_str).collect();
            report.add(Finding::ok(
                subject.as_str(),
                match names.len() {
                    0 => format!("{can}; no node of the pool lives"),
                    1 => format!("{can}; 1 node of the pool lives ({})", names[0]),
                    n => format!("{can}; {n} nodes of the pool live ({})", names.join(", ")),
                },
            ));
            for (name, differs) in found.members {
                let Some(differs) = differs else { continue };
                report.add(Finding::new(
                    Severity::Warn,
                    subject.as_str(),
                    format!("node {name} does not have the configuration that is checked here: {differs}"),
                    "give all nodes of the pool the same list of cameras and the same `node.lease.duration_ms`; while a change is on its \
                     way to them, they may differ",
                ));
            }
        }
        Err(PoolLost { reason, remedy }) => report.add(Finding::fail(
            subject,
            format!("its leases cannot be kept: {reason}"),
            remedy,
        )),
    }
}
