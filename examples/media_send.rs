//! Sends a moving picture and silent audio to everybody who dials, or to one twin that it dials.
//!
//! ```sh
//! PHYSTACK_SIMULATOR_URL=http://127.0.0.1:55000 TWIN_ID=camera-1 cargo run --example media_send
//! PHYSTACK_SIMULATOR_URL=http://127.0.0.1:55000 TWIN_ID=camera-1 cargo run --example media_send -- screen-1
//! ```

#![expect(clippy::print_stdout, reason = "an example tells what it does")]

use std::thread::Builder;
use std::time::{Duration, Instant};

use anyhow::Result;
use image::{Rgb, RgbImage};
use twinsight_client::hub::{HubClient, HubOptions};
use twinsight_client::media::{
    AcceptStreamsOptions, EncoderOptions, LocalTrack, MediaStreamOptions, VideoEncoder,
};

const FPS: f64 = 15.0;

/// 20 ms of silence as Opus (RFC 6716): one byte of configuration, and no more than a decoder conceals.
const SILENCE: &[u8] = &[0xf8, 0xff, 0xfe];

#[tokio::main]
async fn main() -> Result<()> {
    let client = HubClient::connect(HubOptions::from_env()?).await?;
    let (video, audio) = (LocalTrack::video("picture"), LocalTrack::audio("silence"));
    let pictures = video.clone();
    Builder::new()
        .name("draw".to_owned())
        .spawn(move || draw(pictures))?;
    let sound = audio.clone();
    tokio::spawn(async move {
        let mut due = tokio::time::interval(Duration::from_millis(20));
        loop {
            due.tick().await;
            sound.send_opus(SILENCE, Duration::from_millis(20));
        }
    });

    let instance = client.instance();
    if let Some(twin) = std::env::args().nth(1) {
        let options = MediaStreamOptions::sending([video, audio]);
        let stream = instance.get_media_stream(&twin, options).await?;
        stream.on_close(|reason| async move { println!("closed: {reason:?}") });
        println!("sending to {twin}");
        tokio::signal::ctrl_c().await?;
        stream.close().await;
    } else {
        let options = AcceptStreamsOptions::sending([video, audio]);
        let acceptor = instance.accept_media_streams(options, |stream| async move {
            println!("{} looks on", stream.target_twin_id());
        })?;
        println!("ready");
        tokio::signal::ctrl_c().await?;
        acceptor.close().await;
    }
    Ok(())
}

/// Draws a square that moves from left to right, and encodes it once for all viewers. It runs on a thread of its own, since encoding
/// takes time.
fn draw(track: LocalTrack) -> Result<()> {
    let (width, height) = (640, 360);
    let options = EncoderOptions::new(640, 360)
        .with_fps(FPS)
        .with_bits_per_second(800_000);
    let mut encoder = VideoEncoder::new(track, options)?;
    let mut due = Instant::now();
    for n in 0.. {
        let left = 8 * n % width;
        let picture = RgbImage::from_fn(width, height, |x, y| {
            let inside = (left..left + 60).contains(&x) && (150..210).contains(&y);
            Rgb(if inside { [230, 40, 40] } else { [30, 60, 120] })
        });
        encoder.send_rgb(&picture)?;
        due += Duration::from_secs_f64(1.0 / FPS);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(())
}
