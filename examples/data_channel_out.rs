//! Dials a data channel, sends text, JSON and bytes, and prints what comes back.
//!
//! ```sh
//! PHYSTACK_SIMULATOR_URL=http://127.0.0.1:55000 TWIN_ID=app-1 cargo run --example data_channel_out -- robot-1
//! ```

#![expect(clippy::print_stdout, reason = "an example tells what it does")]

use anyhow::{Context, Result};
use serde_json::json;
use twinsight_client::hub::{HubClient, HubOptions};
use twinsight_client::realtime::Message;

#[tokio::main]
async fn main() -> Result<()> {
    let peer = std::env::args().nth(1).context("give the twin to dial")?;
    let client = HubClient::connect(HubOptions::from_env()?).await?;
    let channel = client.instance().get_data_channel(&peer, "default").await?;
    channel.on_close(|reason| async move { println!("closed: {reason:?}") });
    let mut messages = channel.messages();

    channel.send("hello").await?;
    channel.send(json!({ "move": "left", "by": 0.5 })).await?;
    channel.send(vec![0, 1, 2, 255]).await?;
    for _ in 0..3 {
        match messages.recv().await.context("the channel was closed")? {
            Message::Text(text) => println!("text {text:?}"),
            Message::Json(value) => println!("JSON {value}"),
            Message::Binary(data) => println!("bytes {data:?}"),
        }
    }
    channel.close().await;
    Ok(())
}
