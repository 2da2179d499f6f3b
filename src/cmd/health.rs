//! `twinsight health`: asks the node that runs with this configuration, and fails if it is not healthy or, where that is asked, if one
//! of its cameras is blind.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::output::print;
use crate::config::{Config, Env};
use crate::http::probe::{self, ProbeError};

/// A probe answers within this time or counts as failed.
const HEALTH_LIMIT: Duration = Duration::from_secs(3);

#[derive(Args)]
pub(super) struct HealthArgs {
    /// The configuration; without it the environment and the defaults decide.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Fails also if a camera is blind, and prints a line for each that is.
    #[arg(long)]
    cameras: bool,
}

pub(super) async fn run(args: HealthArgs, env: &Env) -> Result<()> {
    let listen = Config::listen(args.config.as_deref(), env)?;
    let answer = match args.cameras {
        true => probe::health_with_cameras(listen, HEALTH_LIMIT).await,
        false => probe::health(listen, HEALTH_LIMIT).await,
    };
    match answer {
        Ok(()) if args.cameras => print(&format!(
            "the node at {listen} is healthy, and none of its cameras is blind"
        )),
        Ok(()) => print(&format!("the node at {listen} is healthy")),
        Err(error) => {
            if let ProbeError::Blind(lines) = &error {
                for line in lines {
                    print(line)?;
                }
            }
            Err(error.into())
        }
    }
}
