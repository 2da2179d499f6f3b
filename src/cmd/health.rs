//! `twinsight health`: asks the node that runs with this configuration, and fails if it is not healthy.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::output::print;
use crate::config::{Config, Env};
use crate::http::probe;

/// A probe answers within this time or counts as failed.
const HEALTH_LIMIT: Duration = Duration::from_secs(3);

#[derive(Args)]
pub(super) struct HealthArgs {
    /// The configuration; without it the environment and the defaults decide.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) async fn run(args: HealthArgs, env: &Env) -> Result<()> {
    let listen = Config::listen(args.config.as_deref(), env)?;
    probe::health(listen, HEALTH_LIMIT).await?;
    print(&format!("the node at {listen} is healthy"))
}
