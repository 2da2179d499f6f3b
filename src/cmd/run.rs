//! `twinsight run`: the configuration comes in, the node runs until it is stopped or the hub refuses it, and is shut down.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::shipped::shipped;
use super::stop::StopSignals;
use crate::config::{ConfigSource, Env, Settings};
use crate::descriptors::Descriptors;
use crate::http::server;
use crate::node::{Node, NodeParts};

/// A graceful stop may take this long, and that of a node in a pool longer by what it takes to hand its cameras over. With what the end of the program takes (`RUNTIME_LIMIT`, `LAST_WORDS_LIMIT`) it
/// makes five seconds.
const STOP_LIMIT: Duration = Duration::from_secs(4);

#[derive(Args)]
pub(super) struct RunArgs {
    /// The configuration; without it the environment and the defaults decide.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) async fn run(args: RunArgs, env: &Env, descriptors: Descriptors) -> Result<()> {
    let source = ConfigSource::read(args.config.as_deref(), env)?;
    let config = source.resolve(&Settings::default())?;
    if descriptors.streams(1) < config.cameras.len() {
        tracing::warn!(
            limit = descriptors.limit,
            cameras = config.cameras.len(),
            "the limit of open files is too low for the cameras: raise it with `ulimit -n`, `LimitNOFILE=` of the service or `--ulimit nofile=` of the container"
        );
    }
    if config.http.edit && config.http.token.is_none() {
        tracing::warn!(
            "`http.edit` is true and there is no token, so every change over HTTP is refused: set `http.token_file`, or remove `http.edit`"
        );
    }
    let mut stop = StopSignals::new()?;
    // Taken before the node starts, so that a signal that comes early does not end the program.
    let hangup = signal(SignalKind::hangup())?;
    let listener = server::bind(config.http.listen).await?;
    let models_dir = shipped(&config.runtime.models_dir);
    let dylib_path = env.get("ORT_DYLIB_PATH").map(PathBuf::from);
    let parts = NodeParts::new(config, models_dir, dylib_path, listener);
    let mut node = tokio::select! {
        node = Node::start(parts) => node?,
        () = stop.next() => return Ok(()),
    };
    node.follow(source, Some(hangup));
    let result = tokio::select! {
        result = node.run() => result,
        () = stop.next() => Ok(()),
    };
    tracing::info!("stopping");
    let limit = STOP_LIMIT + node.leave_limit();
    tokio::select! {
        stopped = tokio::time::timeout(limit, node.shutdown()) => if stopped.is_err() {
            tracing::warn!("the node did not stop in time");
        },
        () = stop.next() => tracing::warn!("stopped at once"),
    }
    result
}
