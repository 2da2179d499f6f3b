//! Receives a stream: prints what comes of it, and saves the first frame as a PNG file if one is named.
//!
//! ```sh
//! PHYSTACK_SIMULATOR_URL=http://127.0.0.1:55000 TWIN_ID=app-1 cargo run --example media_receive -- camera-1 frame.png
//! ```

#![expect(clippy::print_stdout, reason = "an example tells what it does")]

use anyhow::{Context, Result};
use twinsight_client::hub::{HubClient, HubOptions};
use twinsight_client::media::{MediaStreamOptions, TrackKind};

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let camera = arguments.next().context("give the twin to dial")?;
    let mut picture = arguments.next();
    let client = HubClient::connect(HubOptions::from_env()?).await?;
    let options =
        MediaStreamOptions::default().with_kinds(vec![TrackKind::Video, TrackKind::Audio]);
    let stream = client.instance().get_media_stream(&camera, options).await?;

    // This is called again for the tracks of the next connection, if this one breaks.
    stream.on_track(|track| async move {
        println!("a track of {}", track.kind());
        if track.kind() == TrackKind::Audio {
            let mut packets = track.packets();
            let (mut count, mut bytes) = (0, 0);
            while let Some(packet) = packets.recv().await {
                count += 1;
                bytes += packet.payload.len();
                if count % 50 == 0 {
                    println!("{count} packets of sound, {bytes} bytes of Opus");
                }
            }
        }
    });
    stream.on_close(|reason| async move { println!("closed: {reason:?}") });

    let mut frames = stream.frames();
    for _ in 0..100 {
        let frame = frames.recv().await.context("the stream was closed")?;
        if let Some(path) = picture.take() {
            frame.to_rgb_image().save(path)?;
        }
        println!(
            "a frame of {}x{}, {:.1} ms old, {} left out so far",
            frame.width(),
            frame.height(),
            frame.received_at().elapsed().as_secs_f64() * 1e3,
            frames.missed()
        );
    }
    stream.close().await;
    Ok(())
}
