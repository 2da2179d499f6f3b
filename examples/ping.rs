//! Measures a data channel to a peer that answers every message with itself, as the example `echo` does:
//! round trips one after the other, then megabytes in messages of 16 KiB.
//!
//! ```sh
//! PHYSTACK_SIMULATOR_URL=http://127.0.0.1:55000 cargo run --release --example ping -- \
//!     --twin ping-1 --peer echo-1 --name bench --count 2000 --size 100 --mb 50
//! ```
#![expect(clippy::print_stdout, reason = "an example tells what it does")]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde_json::json;
use twinsight_client::hub::{HubClient, HubOptions, Items};
use twinsight_client::realtime::{DataChannel, Message};

/// This many round trips come first and are not counted.
const WARM_UP: u32 = 50;

/// An echo that takes longer than this is an error.
const LIMIT: Duration = Duration::from_secs(30);

#[derive(Parser)]
struct Args {
    /// The own twin.
    #[arg(long)]
    twin: String,
    /// The twin that echoes.
    #[arg(long)]
    peer: String,
    /// The channel's name.
    #[arg(long, default_value = "default")]
    name: String,
    /// Round trips.
    #[arg(long, default_value_t = 1000)]
    count: u32,
    /// Bytes of a message.
    #[arg(long, default_value_t = 100)]
    size: usize,
    /// Megabytes (10^6 bytes) to send and get back.
    #[arg(long)]
    mb: Option<usize>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args = Args::parse();
    let mut variables: std::collections::BTreeMap<_, _> = std::env::vars().collect();
    variables.insert("TWIN_ID".to_owned(), args.twin.clone());
    let client = HubClient::connect(HubOptions::from_variables(&variables)?).await?;
    let instance = client.instance();
    let channel = instance
        .get_data_channel(&args.peer, args.name.as_str())
        .await?;
    let mut echoes = channel.messages();

    let mut round_trips = Vec::new();
    for number in 0..WARM_UP + args.count {
        let started = Instant::now();
        channel.send(vec![0x5a; args.size]).await?;
        next(&mut echoes).await?;
        if number >= WARM_UP {
            round_trips.push(started.elapsed());
        }
    }
    round_trips.sort_unstable();
    let percentile = |percent: usize| {
        let index = (round_trips.len() * percent / 100).min(round_trips.len().saturating_sub(1));
        round_trips.get(index).map(|time| time.as_secs_f64() * 1e3)
    };
    let speed = match args.mb {
        Some(megabytes) => Some(echoed(&channel, echoes, megabytes * 1_000_000).await?),
        None => None,
    };
    println!(
        "{}",
        json!({
            "sent": args.count, "received": round_trips.len(),
            "p50_ms": percentile(50), "p99_ms": percentile(99), "mb_per_s": speed,
        })
    );
    channel.close().await;
    Ok(())
}

/// Megabytes a second that went there and came back.
async fn echoed(channel: &DataChannel, mut echoes: Items<Message>, bytes: usize) -> Result<f64> {
    let started = Instant::now();
    let counting = async {
        let mut came = 0;
        while came < bytes {
            if let Message::Binary(piece) = next(&mut echoes).await? {
                came += piece.len();
            }
        }
        ensure!(came == bytes, "{came} of {bytes} bytes came back");
        Ok(())
    };
    let sending = async { Ok(channel.send_in_pieces(vec![0x5a; bytes], |_| {}).await?) };
    tokio::try_join!(counting, sending)?;
    Ok(f64::from(u32::try_from(bytes / 1000)?) / 1e3 / started.elapsed().as_secs_f64())
}

async fn next(echoes: &mut Items<Message>) -> Result<Message> {
    let echo = tokio::time::timeout(LIMIT, echoes.recv()).await;
    echo.context("an echo did not come")?
        .context("the channel was closed")
}
