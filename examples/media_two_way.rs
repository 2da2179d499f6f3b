//! A call: both sides send a picture of their own and receive the other's over one connection.
//!
//! ```sh
//! PHYSTACK_SIMULATOR_URL=http://127.0.0.1:55000 TWIN_ID=desk-1 cargo run --example media_two_way -- answer desk-2
//! PHYSTACK_SIMULATOR_URL=http://127.0.0.1:55000 TWIN_ID=desk-2 cargo run --example media_two_way -- call desk-1
//! ```

#![expect(clippy::print_stdout, reason = "an example tells what it does")]

use std::thread::Builder;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use image::{Rgb, RgbImage};
use tokio::sync::mpsc;
use twinsight_client::hub::{HubClient, HubOptions};
use twinsight_client::media::{
    EncoderOptions, LocalTrack, MediaStream, MediaStreamOptions, VideoEncoder,
};

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let side = arguments.next().context("say `call` or `answer`")?;
    let other = arguments.next().context("give the other twin")?;
    let client = HubClient::connect(HubOptions::from_env()?).await?;
    let video = LocalTrack::video("desk");
    let pictures = video.clone();
    let green = if side == "call" { 200 } else { 60 };
    Builder::new()
        .name("draw".to_owned())
        .spawn(move || draw(pictures, green))?;

    let instance = client.instance();
    match side.as_str() {
        "call" => {
            let options = MediaStreamOptions::two_way([video]).named("call");
            look_at(instance.get_media_stream(&other, options).await?).await
        }
        "answer" => {
            let (taken, mut calls) = mpsc::channel(1);
            let _listener = instance.on_media_stream(&other, "call", move |incoming| {
                let (taken, video) = (taken.clone(), video.clone());
                async move {
                    println!("{} calls", incoming.source_twin_id());
                    let _ = taken.send(incoming.accept([video])).await;
                }
            })?;
            println!("ready");
            look_at(calls.recv().await.context("nobody calls")?).await
        }
        _ => bail!("say `call` or `answer`, not `{side}`"),
    }
}

/// Prints what comes from the other side, until there was enough of it or the other side hangs up.
async fn look_at(stream: MediaStream) -> Result<()> {
    let (mut frames, mut ends) = (stream.frames(), stream.closes());
    for _ in 0..30 {
        let frame = tokio::select! {
            frame = frames.recv() => frame.context("the call is over")?,
            _ = ends.recv() => break,
        };
        let middle = frame.to_ndarray();
        let green = middle[[frame.height() / 2, frame.width() / 2, 1]];
        println!("the other side's green is {green}");
    }
    // The other side may have seen less so far.
    tokio::time::sleep(Duration::from_secs(1)).await;
    stream.close().await;
    Ok(())
}

fn draw(track: LocalTrack, green: u8) -> Result<()> {
    let options = EncoderOptions::new(320, 240)
        .with_fps(15.0)
        .with_bits_per_second(300_000);
    let mut encoder = VideoEncoder::new(track, options)?;
    let picture = RgbImage::from_pixel(320, 240, Rgb([60, green, 60]));
    let mut due = Instant::now();
    loop {
        encoder.send_rgb(&picture)?;
        due += Duration::from_millis(66);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}
