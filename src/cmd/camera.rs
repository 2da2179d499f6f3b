//! `twinsight camera`: runs one camera twin until it is stopped or the hub refuses it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;

use super::NO_HUB;
use super::arguments::{fps, stream_name, twin_id};
use super::rtsp::{self, RtspArgs};
use super::stop::StopSignals;
use crate::config::{Config, DeviceConfig, Env, SourceConfig};
use crate::dev::camera::encode::Pictures;
use crate::dev::camera::{self, CameraOptions, CameraSource};
use twinsight_client::hub::client::HubClient;
use twinsight_media::h264::clip::Clip;
use twinsight_media::picture::PictureSize;

/// Size of the test pattern unless `--size` says otherwise.
const PATTERN_SIZE: PictureSize = PictureSize {
    width_px: 1280,
    height_px: 720,
};

/// Frames a second of a clip, a picture or the test pattern unless `--fps` says otherwise.
const FPS: f64 = 10.0;

#[derive(Args)]
pub(super) struct CameraArgs {
    /// The camera's twin id.
    #[arg(long, value_name = "ID", value_parser = twin_id)]
    twin: String,
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    rtsp: RtspArgs,
    /// Width and height of the pattern or of what a device is asked for, 1280x720 unless given.
    #[arg(long, value_name = "WxH", conflicts_with_all = ["clip", "image", "rtsp"], value_parser = picture_size)]
    size: Option<PictureSize>,
    /// Dials this node; without it the camera waits for viewers.
    #[arg(long, value_name = "NODE", value_parser = twin_id)]
    dial: Option<String>,
    /// The stream's name.
    #[arg(long, default_value = "default", value_parser = stream_name)]
    stream: String,
    /// Frames a second: 10 unless given, and 15 of a device.
    #[arg(long, value_name = "N", conflicts_with = "rtsp", value_parser = fps)]
    fps: Option<f64>,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct SourceArgs {
    /// H.264, as a byte stream (Annex B) or in MP4, sent as it is and over again.
    #[arg(long, value_name = "FILE")]
    clip: Option<PathBuf>,
    /// A picture (JPEG, PNG, WebP, BMP), sent over and over.
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// A moving test pattern with the number of each frame in it.
    #[arg(long)]
    pattern: bool,
    /// What an IP camera sends by RTSP, as in rtsp://192.168.1.20:554/stream1: H.264 without B frames, as it is. Viewers
    /// cannot make such a camera send a keyframe, so set its keyframe interval (GOP) to 1 s.
    #[arg(long, value_name = "URL")]
    rtsp: Option<String>,
    /// A video device of this machine (V4L2), as in /dev/video0: H.264 as it is, Motion JPEG and YUYV encoded.
    #[arg(long, value_name = "PATH")]
    device: Option<PathBuf>,
}

pub(super) async fn run(args: CameraArgs, env: &Env) -> Result<()> {
    anyhow::ensure!(
        args.dial.as_ref() != Some(&args.twin),
        "a camera cannot dial itself: name the node's twin with --dial"
    );
    let source = camera_source(&args, env)?;
    let mut variables: BTreeMap<String, String> = env.as_map().clone();
    variables.retain(|name, _| !rtsp::VARIABLES.contains(&name.as_str()));
    variables.insert("TWIN_ID".to_owned(), args.twin);
    let config = Config::load(None, &variables.into_iter().collect())?;
    let mut stop = StopSignals::new()?;
    let hub = HubClient::start(config.hub.context(NO_HUB)?);
    let options = CameraOptions {
        stream: args.stream,
        dial: args.dial,
        fps: args.fps.unwrap_or(FPS),
        start: 0,
        ice: config.ice.clone(),
    };
    let result = camera::run_until(hub.clone(), source, options, stop.next()).await;
    if result.is_ok() {
        hub.close().await;
    }
    result
}

fn camera_source(args: &CameraArgs, env: &Env) -> Result<CameraSource> {
    if let Some(url) = &args.source.rtsp {
        let config = args.rtsp.config(url, env)?;
        return Ok(CameraSource::Bridged(SourceConfig::Rtsp(config)));
    }
    if let Some(path) = &args.source.device {
        return Ok(CameraSource::Bridged(SourceConfig::Device(DeviceConfig {
            path: path.clone(),
            size: args.size,
            fps: args.fps,
        })));
    }
    Ok(match (&args.source.clip, &args.source.image) {
        (Some(clip), _) => Arc::new(Clip::read(clip)?).into(),
        (None, Some(image)) => CameraSource::Pictures(Pictures::still(image)?),
        (None, None) => {
            CameraSource::Pictures(Pictures::pattern(args.size.unwrap_or(PATTERN_SIZE))?)
        }
    })
}

/// Reads `1280x720`, and refuses sizes that the pattern cannot have.
fn picture_size(text: &str) -> Result<PictureSize, String> {
    let sides = text.split_once('x');
    let parsed = sides.and_then(|(width, height)| {
        Some(PictureSize {
            width_px: width.parse().ok()?,
            height_px: height.parse().ok()?,
        })
    });
    let size =
        parsed.ok_or_else(|| "a size is width and height in pixels, as in 1280x720".to_owned())?;
    Pictures::pattern(size).map_err(|error| error.to_string())?;
    Ok(size)
}
