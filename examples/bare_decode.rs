//! Measures the physical limit of decoding: an H.264 clip goes through the decoder alone, first in a tight loop and then at a camera's
//! pace, since work after a pause costs more. `make bench-compare` compares the node with it.
//!
//! ```sh
//! cargo run --release --example bare_decode -- media/pedestrians.h264 --fps 15
//! ```

#![expect(clippy::print_stdout, reason = "an example tells what it does")]

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use serde_json::json;
use twinsight_client::clock::SystemClock;
use twinsight_client::clock::thread_cpu;
use twinsight_media::codec::Codec;
use twinsight_media::decode::decoder::{Decoder, DecoderKind};
use twinsight_media::h264::clip::Clip;
use twinsight_media::picture::PlanePool;

#[derive(Parser)]
struct Args {
    /// The clip: H.264, as a byte stream or in MP4.
    clip: PathBuf,
    #[arg(long, default_value_t = 15)]
    fps: u32,
    /// Of the loop at the camera's pace.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let clip = Clip::read(&args.clip)?;
    let pause = Duration::from_secs(1) / args.fps.max(1);
    let frames = args.fps as usize * args.seconds as usize;
    let paced = decode(&clip, frames, pause)?;
    let tight = decode(&clip, clip.units().len(), Duration::ZERO)?;
    let rounded = |ms: f64| (ms * 1000.0).round() / 1000.0;
    println!(
        "{}",
        json!({ "tight_ms": rounded(tight), "paced_ms": rounded(paced) })
    );
    Ok(())
}

/// The mean CPU time of a frame in milliseconds, without the copy to packed planes.
fn decode(clip: &Clip, frames: usize, pause: Duration) -> Result<f64> {
    let mut decoder = Decoder::new(DecoderKind::Software, Codec::H264)?;
    let (pool, mut pictures) = (PlanePool::new(2), Vec::new());
    let (mut spent, mut decoded) = (Duration::ZERO, 0);
    for (tag, unit) in (1..).zip(clip.units().iter().cycle().take(frames)) {
        let begun = thread_cpu();
        decoder.decode(&unit.data, tag, &pool, &SystemClock, &mut pictures)?;
        spent += thread_cpu() - begun;
        for picture in pictures.drain(..) {
            spent -= picture.copy_cpu;
            decoded += 1;
        }
        if !pause.is_zero() {
            std::thread::sleep(pause);
        }
    }
    (decoded > 0)
        .then(|| 1e3 * spent.as_secs_f64() / f64::from(decoded))
        .context("the clip gave no picture")
}
