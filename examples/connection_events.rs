//! Keeps a data channel and prints what becomes of its connection: connected, disconnected, reconnecting,
//! reconnected, error. Start and stop the peer (the example `echo`) to see them.
//!
//! ```sh
//! PHYSTACK_SIMULATOR_URL=http://127.0.0.1:55000 TWIN_ID=app-1 cargo run --example connection_events -- echo-1
//! ```

#![expect(clippy::print_stdout, reason = "an example tells what it does")]

use anyhow::{Context, Result};
use twinsight_client::hub::{ConnectionChange, HubClient, HubOptions};

#[tokio::main]
async fn main() -> Result<()> {
    let peer = std::env::args().nth(1).context("give the twin to dial")?;
    let client = HubClient::connect(HubOptions::from_env()?).await?;
    let mut events = client.connection_events();
    let channel = client.instance().open_data_channel(&peer, "default")?;
    println!("dialling {}", channel.target_twin_id());
    while let Some(event) = events.recv().await {
        let peer = &event.target_twin_id;
        match event.change {
            ConnectionChange::Connected { connection_type } => match connection_type {
                Some(path) => println!("{peer}: connected through {path}"),
                None => println!("{peer}: connected"),
            },
            ConnectionChange::Disconnected => println!("{peer}: disconnected"),
            ConnectionChange::Reconnecting { attempt } => {
                println!("{peer}: reconnecting, attempt {attempt}")
            }
            ConnectionChange::Reconnected { .. } => println!("{peer}: reconnected"),
            ConnectionChange::Error { reason } => println!("{peer}: {reason}"),
        }
    }
    Ok(())
}
