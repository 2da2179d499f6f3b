//! Answers every message of a named data channel with itself, to any peer.
//!
//! ```sh
//! PHYSTACK_SIMULATOR_URL=http://127.0.0.1:55000 cargo run --release --example echo -- --twin echo-1 --name bench
//! ```
#![expect(clippy::print_stdout, reason = "an example tells what it does")]

use anyhow::Result;
use clap::Parser;
use twinsight_client::hub::{HubClient, HubOptions};
use twinsight_client::realtime::{DataChannel, SendError};

#[derive(Parser)]
struct Args {
    /// The own twin.
    #[arg(long)]
    twin: String,
    /// The channel's name.
    #[arg(long, default_value = "default")]
    name: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args = Args::parse();
    let mut variables: std::collections::BTreeMap<_, _> = std::env::vars().collect();
    variables.insert("TWIN_ID".to_owned(), args.twin);
    let client = HubClient::connect(HubOptions::from_variables(&variables)?).await?;
    let acceptor = client
        .instance()
        .accept_data_channels(args.name.as_str(), echo)?;
    println!("ready");
    tokio::signal::ctrl_c().await?;
    acceptor.close().await;
    Ok(())
}

/// Sends back what comes, until the peer is gone.
async fn echo(channel: DataChannel) {
    let mut messages = channel.messages();
    while let Some(message) = messages.recv().await {
        // A peer that does not take its echoes is waited for, and so slowed down itself.
        while let Err(SendError::Full { .. }) = channel.send(message.clone()).await {
            if channel.writable().await.is_err() {
                return;
            }
        }
    }
}
