//! `twinsight bridge`: the configuration comes in, its cameras are twins on the hub until the program is stopped. With `--check` it
//! only tries what it would need, and says what is wrong.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::check::tally_of;
use super::stop::StopSignals;
use crate::bridge_service::{BridgeParts, BridgeService};
use crate::check::{self, CheckOptions};
use crate::config::{ConfigSource, Env};
use crate::descriptors::Descriptors;
use crate::http::server;

/// A graceful stop may take this long. With what the end of the program takes (`RUNTIME_LIMIT`, `LAST_WORDS_LIMIT`) it
/// makes five seconds.
const STOP_LIMIT: Duration = Duration::from_secs(4);

#[derive(Args)]
pub(super) struct BridgeArgs {
    /// The configuration: that of a node, with what a bridge needs of it.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Joins the hub as each camera, asks each camera for its pictures, says what is wrong, and ends.
    #[arg(long)]
    check: bool,
    /// With --check: a line of JSON for each finding.
    #[arg(long, requires = "check")]
    json: bool,
}

impl BridgeArgs {
    /// True if it only looks whether all is well.
    pub(super) fn checks(&self) -> bool {
        self.check
    }
}

pub(super) async fn run(args: BridgeArgs, env: &Env, descriptors: Descriptors) -> Result<()> {
    let source = ConfigSource::read(Some(&args.config), env)?;
    let config = source.resolve_for_bridge()?;
    if args.check {
        let options = CheckOptions {
            config,
            file: Some(args.config),
            dylib_path: None,
        };
        return tally_of(args.json, |tell| {
            Box::pin(check::run_for_bridge(options, tell))
        })
        .await;
    }
    if descriptors.streams(1) < config.cameras.len() {
        tracing::warn!(
            limit = descriptors.limit,
            cameras = config.cameras.len(),
            "the limit of open files is too low for the cameras: raise it with `ulimit -n`, `LimitNOFILE=` of the service or `--ulimit nofile=` of the container"
        );
    }
    let mut stop = StopSignals::new()?;
    // Taken before the bridges start, so that a signal that comes early does not end the program.
    let hangup = signal(SignalKind::hangup())?;
    let listener = server::bind(config.http.listen).await?;
    let mut service = BridgeService::start(BridgeParts::new(config, listener)).await?;
    service.follow(source, Some(hangup));
    stop.next().await;
    tracing::info!("stopping");
    tokio::select! {
        stopped = tokio::time::timeout(STOP_LIMIT, service.shutdown()) => if stopped.is_err() {
            tracing::warn!("the bridges did not stop in time");
        },
        () = stop.next() => tracing::warn!("stopped at once"),
    }
    Ok(())
}
