//! Accepts data channels from whoever dials, and answers every message with itself.
//!
//! ```sh
//! PHYSTACK_SIMULATOR_URL=http://127.0.0.1:55000 TWIN_ID=robot-1 cargo run --example data_channel_in
//! ```

#![expect(clippy::print_stdout, reason = "an example tells what it does")]

use anyhow::Result;
use twinsight_client::hub::{HubClient, HubOptions};
use twinsight_client::realtime::DataChannel;

#[tokio::main]
async fn main() -> Result<()> {
    let client = HubClient::connect(HubOptions::from_env()?).await?;
    let acceptor = client.instance().accept_data_channels("default", serve)?;
    println!("ready");
    tokio::signal::ctrl_c().await?;
    acceptor.close().await;
    Ok(())
}

/// Registers a handler for the messages of one peer. The handler holds the channel, so it stays open.
async fn serve(channel: DataChannel) {
    println!("{} is here", channel.target_twin_id());
    let answers = channel.clone();
    channel.on_message(move |message| {
        let answers = answers.clone();
        async move {
            println!("{} says {message:?}", answers.target_twin_id());
            if let Err(error) = answers.send(message).await {
                println!("not answered: {error}");
            }
        }
    });
    channel.on_close(|reason| async move { println!("a peer is gone: {reason:?}") });
}
