//! Measures what media streams cost: the CPU time of each frame that is sent or received, and the time from an offer to its first
//! frame. `make bench-media` compares the official clients with it.
//!
//! ```sh
//! cargo run --release --example media_cost -- --twin sender send --clip clip.h264 --fps 30
//! cargo run --release --example media_cost -- --twin sender send --pattern 1280x720 --fps 30
//! cargo run --release --example media_cost -- --twin receiver receive sender --seconds 20 --first 20
//! ```

#![expect(clippy::print_stdout, reason = "an example tells what it does")]

use std::path::PathBuf;
use std::thread::Builder;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use serde_json::json;
use twinsight::dev::camera::pattern;
use twinsight_client::dialect::Dialect;
use twinsight_client::hub::{HubClient, HubOptions};
use twinsight_client::media::{
    AcceptStreamsOptions, EncoderOptions, LocalTrack, MediaStreamOptions, VideoEncoder,
};
use twinsight_media::codec::Codec;
use twinsight_media::h264::clip::Clip;
use twinsight_media::picture::{Color, I420, PictureSize};

#[derive(Parser)]
struct Args {
    /// The own twin.
    #[arg(long)]
    twin: String,
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Sends to whoever dials, until it is stopped; then says what a frame cost.
    Send {
        /// Send the access units of this clip as they are.
        #[arg(long)]
        clip: Option<PathBuf>,
        /// Encode and send the test pattern in this size.
        #[arg(long, value_parser = size_of)]
        pattern: Option<PictureSize>,
        #[arg(long, default_value_t = 30.0)]
        fps: f64,
    },
    /// Dials a twin, measures and ends.
    Receive {
        from: String,
        #[arg(long, default_value_t = 20.0)]
        seconds: f64,
        /// Streams that are opened only for their first frame.
        #[arg(long, default_value_t = 20)]
        first: usize,
        #[arg(long)]
        vp8: bool,
        /// The twin is on the npm client 4.x.
        #[arg(long)]
        legacy: bool,
        /// Take packets, and decode nothing.
        #[arg(long)]
        undecoded: bool,
    },
}

fn size_of(text: &str) -> Result<PictureSize> {
    let (width, height) = text.split_once('x').context("say WIDTHxHEIGHT")?;
    Ok(PictureSize {
        width_px: width.parse()?,
        height_px: height.parse()?,
    })
}

#[tokio::main]
async fn main() -> Result<()> {
    let Args { twin, role } = Args::parse();
    let url = std::env::var("PHYSTACK_SIMULATOR_URL").context("set PHYSTACK_SIMULATOR_URL")?;
    let client = HubClient::connect(HubOptions::simulator(&url, &twin)).await?;
    match role {
        Role::Send { clip, pattern, fps } => send(&client, clip, pattern, fps).await,
        Role::Receive {
            from,
            seconds,
            first,
            vp8,
            legacy,
            undecoded,
        } => {
            let dialect = if legacy {
                Dialect::Legacy
            } else {
                Dialect::Current
            };
            let options = MediaStreamOptions::default()
                .with_codecs(vec![if vp8 { Codec::Vp8 } else { Codec::H264 }])
                .with_dialect(dialect)
                .with_connect_limit(Duration::from_secs(60));
            receive(&client, &from, options, seconds, first, undecoded).await
        }
    }
}

async fn send(
    client: &HubClient,
    clip: Option<PathBuf>,
    size: Option<PictureSize>,
    fps: f64,
) -> Result<()> {
    let track = LocalTrack::video("cost");
    let pictures = track.clone();
    let source: Box<dyn FnMut(u32) -> Result<()> + Send> = match (clip, size) {
        (Some(clip), None) => {
            let clip = Clip::read(&clip)?;
            let mut next = 0;
            Box::new(move |_| {
                if pictures.take_keyframe_request() {
                    next = clip.keyframe_from(next);
                }
                pictures.send_unit(&clip.units()[next].data);
                next = (next + 1) % clip.units().len();
                Ok(())
            })
        }
        (None, Some(size)) => {
            let options = EncoderOptions::new(size.width_px, size.height_px)
                .with_fps(fps)
                .with_bits_per_second(2_500_000);
            let mut encoder = VideoEncoder::new(pictures, options)?;
            let mut planes = vec![0; size.i420_bytes()];
            Box::new(move |number| {
                pattern::draw(number, size, &mut planes);
                encoder.send_planes(&I420::from_packed(&planes, size, Color::default()))?;
                Ok(())
            })
        }
        _ => bail!("say --clip or --pattern"),
    };
    let counted = track.clone();
    Builder::new()
        .name("source".to_owned())
        .spawn(move || play(source, &counted, fps))?;
    let options = AcceptStreamsOptions::sending([track]);
    let acceptor = client
        .instance()
        .accept_media_streams(options, |_stream| async {})?;
    println!("ready");
    tokio::signal::ctrl_c().await?;
    acceptor.close().await;
    Ok(())
}

/// Plays the stream. While there is a viewer, it prints what a frame cost every 5 s.
fn play(
    mut source: Box<dyn FnMut(u32) -> Result<()> + Send>,
    track: &LocalTrack,
    fps: f64,
) -> Result<()> {
    let mut due = Instant::now();
    let (mut sent, mut since) = (0_u32, cpu()?);
    for number in 0.. {
        source(number)?;
        if track.viewers() == 1 {
            sent += 1;
            if f64::from(sent) >= 5.0 * fps {
                let spent = (cpu()? - since).as_secs_f64() * 1e3;
                println!(
                    "{}",
                    json!({ "sent": sent, "cpu_ms_a_frame": spent / f64::from(sent) })
                );
                (sent, since) = (0, cpu()?);
            }
        } else {
            (sent, since) = (0, cpu()?);
        }
        due += Duration::from_secs_f64(1.0 / fps);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

async fn receive(
    client: &HubClient,
    from: &str,
    options: MediaStreamOptions,
    seconds: f64,
    first: usize,
    undecoded: bool,
) -> Result<()> {
    let instance = client.instance();
    let (mut connected, mut times) = (Vec::new(), Vec::new());
    for _ in 0..first {
        let begun = Instant::now();
        let stream = instance.open_media_stream(from, options.clone())?;
        let mut frames = stream.frames();
        stream.connected().await;
        connected.push(begun.elapsed().as_secs_f64() * 1e3);
        frames.recv().await.context("the stream was closed")?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        stream.close().await;
    }
    connected.sort_by(f64::total_cmp);
    times.sort_by(f64::total_cmp);
    let stream = instance.get_media_stream(from, options).await?;
    let mut count = 0_u32;
    let (begun, since);
    if undecoded {
        let track = stream.tracks().into_iter().next().context("no track")?;
        let mut packets = track.packets();
        packets.recv().await.context("the stream was closed")?;
        (begun, since) = (Instant::now(), cpu()?);
        while begun.elapsed().as_secs_f64() < seconds {
            let packet = packets.recv().await.context("the stream was closed")?;
            count += u32::from(packet.marker);
        }
    } else {
        let mut frames = stream.frames();
        frames.recv().await.context("the stream was closed")?;
        (begun, since) = (Instant::now(), cpu()?);
        while begun.elapsed().as_secs_f64() < seconds {
            frames.recv().await.context("the stream was closed")?;
            count += 1;
        }
    }
    let spent = (cpu()? - since).as_secs_f64() * 1e3;
    println!(
        "{}",
        json!({
            "received": count,
            "frames_a_second": f64::from(count) / begun.elapsed().as_secs_f64(),
            "cpu_ms_a_frame": spent / f64::from(count.max(1)),
            "connected_p50_ms": connected.get(connected.len() / 2),
            "first_frame_p50_ms": times.get(times.len() / 2),
            "first_frame_max_ms": times.last(),
        })
    );
    stream.close().await;
    Ok(())
}

/// The processor time that all threads have used so far.
fn cpu() -> Result<Duration> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Ok(Duration::new(
        u64::try_from(time.tv_sec)?,
        u32::try_from(time.tv_nsec)?,
    ))
}
