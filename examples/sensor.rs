//! A sensor that gives 200 readings a second to every peer that reads along. A peer that does not keep up
//! misses readings rather than getting old ones.
//!
//! ```sh
//! PHYSTACK_SIMULATOR_URL=http://127.0.0.1:55000 TWIN_ID=sensor-1 cargo run --example sensor
//! ```

#![expect(clippy::print_stdout, reason = "an example tells what it does")]

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use tokio::time::MissedTickBehavior;
use twinsight_client::hub::{HubClient, HubOptions};
use twinsight_client::realtime::{DataChannel, DataChannelOptions, SendError};

/// The time between two readings.
const PERIOD: Duration = Duration::from_millis(5);

#[tokio::main]
async fn main() -> Result<()> {
    let client = HubClient::connect(HubOptions::from_env()?).await?;
    // At most a second of readings may be on its way.
    let options = DataChannelOptions::from("readings").with_high_water_bytes(16 * 1024);
    let acceptor = client.instance().accept_data_channels(options, serve)?;
    println!("ready");
    tokio::signal::ctrl_c().await?;
    acceptor.close().await;
    Ok(())
}

async fn serve(channel: DataChannel) {
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut missed = 0_u32;
    for number in 0_u32.. {
        ticks.tick().await;
        let celsius = 21.0 + (f64::from(number) / 200.0).sin();
        let reading = json!({ "number": number, "celsius": celsius, "missed": missed });
        match channel.send(reading).await {
            Ok(()) => {}
            Err(SendError::Full { .. }) => missed += 1,
            Err(error) => {
                println!("{} is gone: {error}", channel.target_twin_id());
                return;
            }
        }
    }
}
