//! Prints what a node sends: the data of each `detections` event, a line of JSON each. `make bench-compare` reads ages from it.
//!
//! ```sh
//! PHYSTACK_SIMULATOR_URL=http://127.0.0.1:55000 TWIN_ID=viewer-1 cargo run --release --example watch_events -- node-1
//! ```

#![expect(clippy::print_stdout, reason = "an example tells what it does")]

use anyhow::{Context, Result};
use twinsight_client::hub::{HubClient, HubOptions};

/// Events that may wait while one is printed.
const QUEUE: usize = 1024;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let node = std::env::args().nth(1).context("give the node's twin")?;
    let client = HubClient::connect(HubOptions::from_env()?).await?;
    let mut events = client.messages(QUEUE, |message| {
        message.message_type() == Some("edgeInstance:detections")
    });
    client.subscribe(&node).await?;
    println!("watching");
    while let Some(message) = events.recv().await {
        println!("{}", message.data["data"]);
    }
    Ok(())
}
