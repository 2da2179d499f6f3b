//! Two streams to one peer, told apart by their names: both are received at once, each with handlers of its own.
//!
//! ```sh
//! PHYSTACK_SIMULATOR_URL=http://127.0.0.1:55000 TWIN_ID=app-1 cargo run --example media_named -- camera-1 front back
//! ```

#![expect(clippy::print_stdout, reason = "an example tells what it does")]

use anyhow::{Context, Result};
use twinsight_client::hub::{HubClient, HubOptions};

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let camera = arguments.next().context("give the twin to dial")?;
    let client = HubClient::connect(HubOptions::from_env()?).await?;
    let instance = client.instance();
    let mut streams = Vec::new();
    for name in arguments {
        let stream = instance.get_media_stream(&camera, name).await?;
        let name = stream.channel_name().to_owned();
        let mut count = 0;
        stream.on_frame(move |frame| {
            count += 1;
            println!(
                "{name}: frame {count} of {}x{}",
                frame.width(),
                frame.height()
            );
            async {}
        });
        streams.push(stream);
    }
    tokio::signal::ctrl_c().await?;
    for stream in streams {
        stream.close().await;
    }
    Ok(())
}
