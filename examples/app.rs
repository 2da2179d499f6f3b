//! A first app: sends an event, talks with a robot over a data channel, and looks at a camera.
//!
//! Each of these runs in a terminal of its own, after `export PHYSTACK_SIMULATOR_URL=http://127.0.0.1:55000`:
//!
//! ```sh
//! cargo run --release -- hub
//! TWIN_ID=robot-1 cargo run --example data_channel_in
//! cargo run --release -- camera --twin camera-1 --pattern
//! TWIN_ID=app-1 RUST_LOG=twinsight_client=info cargo run --example app -- robot-1 camera-1
//! ```

#![expect(clippy::print_stdout, reason = "an example tells what it does")]

use anyhow::{Context, Result};
use serde_json::json;
use tracing_subscriber::EnvFilter;
use twinsight_client::hub::{HubClient, HubOptions};

#[tokio::main]
async fn main() -> Result<()> {
    // Shows what the client logs, as much of it as `RUST_LOG` says.
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let mut arguments = std::env::args().skip(1);
    let robot = arguments.next().context("give the robot's twin")?;
    let camera = arguments.next().context("give the camera's twin")?;

    let client = HubClient::connect(HubOptions::from_env()?).await?;
    let instance = client.instance();
    println!("joined the hub as {}", instance.twin_id());

    // Through the hub, to whoever listens to this twin.
    instance.emit("started", json!({ "by": "app" })).await?;

    // From peer to peer. The receiver is there before the answer can come.
    let channel = instance.get_data_channel(&robot, "default").await?;
    let mut answers = channel.messages();
    channel.send(json!({ "move": "left" })).await?;
    let answer = answers.recv().await.context("the channel was closed")?;
    println!("the robot answers {answer:?}");
    channel.close().await;

    // Frames that come while one is looked at are left out: the next one is always the freshest.
    let stream = instance.get_media_stream(&camera, "default").await?;
    let mut frames = stream.frames();
    for _ in 0..20 {
        let frame = frames.recv().await.context("the stream was closed")?;
        let picture = frame.to_rgb_image();
        println!(
            "a frame of {}x{}, {} ms old, its middle is {:?}",
            frame.width(),
            frame.height(),
            frame.received_at().elapsed().as_millis(),
            picture.get_pixel(picture.width() / 2, picture.height() / 2)
        );
    }
    stream.close().await;

    // Leaves the hub, once what was sent is written.
    client.close().await;
    Ok(())
}
