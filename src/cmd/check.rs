//! `twinsight check`: prints each finding about the configuration and what it needs, and fails if one of them is a failure.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use futures_util::future::LocalBoxFuture;

use super::output::print;
use super::shipped::shipped;
use super::stop::StopSignals;
use crate::check::{self, CheckOptions, Finding, Tally};
use crate::config::{Config, Env};

#[derive(Args)]
pub(super) struct CheckArgs {
    /// The configuration; without it the environment and the defaults decide.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A line of JSON for each finding.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: CheckArgs, env: &Env) -> Result<()> {
    let mut config = Config::load(args.config.as_deref(), env)?;
    config.runtime.models_dir = shipped(&config.runtime.models_dir);
    let options = CheckOptions {
        config,
        file: args.config,
        dylib_path: env.get("ORT_DYLIB_PATH").map(PathBuf::from),
    };
    tally_of(args.json, |tell| Box::pin(check::run(options, tell))).await
}

/// What a check tells its findings to.
type Tell<'a> = &'a mut (dyn FnMut(&Finding) + Send);

/// Runs a check and prints each of its findings as it is made, and how many there were.
///
/// # Errors
/// When one of them is a failure, or the check was stopped.
pub(super) async fn tally_of(
    json: bool,
    check: impl for<'a> FnOnce(Tell<'a>) -> LocalBoxFuture<'a, Tally>,
) -> Result<()> {
    let mut written = Ok(());
    let mut tell = |finding: &Finding| {
        let line = match json {
            true => serde_json::json!(finding).to_string(),
            false => finding.to_string(),
        };
        if written.is_ok() {
            written = print(&line);
        }
    };
    let mut stop = StopSignals::new()?;
    let tally = tokio::select! {
        tally = check(&mut tell) => tally,
        () = stop.next() => anyhow::bail!("stopped before everything was looked at"),
    };
    written?;
    anyhow::ensure!(
        tally.failures == 0,
        "{tally}: do what the lines that begin with `fail` say, and check again"
    );
    if !json {
        print(&tally.to_string())?;
    }
    Ok(())
}
