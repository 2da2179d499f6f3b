//! `twinsight hub`: runs the development hub until it is stopped.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use tokio::net::TcpListener;

use super::stop::StopSignals;
use crate::dev::hub::{self, DevHubOptions};

#[derive(Args)]
pub(super) struct HubArgs {
    /// Where to listen.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:55000")]
    listen: SocketAddr,
    /// A JSON array of twins; without it any twin id is known.
    #[arg(long, value_name = "FILE")]
    twins: Option<PathBuf>,
}

pub(super) async fn run(args: HubArgs) -> Result<()> {
    let mut stop = StopSignals::new()?;
    let twins = args.twins.as_deref().map(hub::read_twins).transpose()?;
    let options = DevHubOptions {
        strict: twins.is_some(),
        twins: twins.unwrap_or_default(),
        ..DevHubOptions::default()
    };
    let listener = TcpListener::bind(args.listen).await.with_context(|| {
        format!(
            "the development hub cannot listen on {}: name another address with --listen",
            args.listen
        )
    })?;
    tracing::info!(address = %listener.local_addr()?, "the development hub listens");
    Ok(hub::run(listener, options, async move { stop.next().await }).await?)
}
