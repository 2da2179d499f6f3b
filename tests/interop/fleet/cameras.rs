//! Camera twins that cost little: all of them in this process, with one small clip.

use std::sync::Arc;

use tokio::task::JoinSet;
use twinsight::dev::camera::{self, CameraOptions};
use twinsight_client::hub::{HubClient, HubOptions};
use twinsight_client::realtime::ice::IceSettings;
use twinsight_media::h264::clip::Clip;
use twinsight_media::h264::encode::{Encoder, Rate};
use twinsight_media::picture::{Color, I420, PictureSize};

/// Frames a second of each camera.
pub(super) const FPS: f64 = 2.0;

const SIZE: PictureSize = PictureSize {
    width_px: 160,
    height_px: 120,
};

/// Pictures of the clip, and how many of them follow on each keyframe.
const PICTURES: usize = 20;
const KEYFRAME_EVERY: usize = 4;

/// The cameras; they end with the handle.
pub(super) struct Cameras {
    _tasks: JoinSet<()>,
}

impl Cameras {
    /// Waits for viewers as each of these twins.
    pub(super) fn start(url: &str, twins: &[String]) -> Self {
        let clip = Arc::new(clip());
        let mut tasks = JoinSet::new();
        for (n, twin) in twins.iter().enumerate() {
            let hub = HubClient::start(HubOptions::simulator(url, twin));
            let options = CameraOptions {
                stream: "default".to_owned(),
                dial: None,
                fps: FPS,
                start: n % PICTURES,
                ice: IceSettings {
                    interfaces: vec!["lo".to_owned()],
                    ..IceSettings::default()
                },
            };
            let clip = Arc::clone(&clip);
            tasks.spawn(async move {
                let ended = camera::run(hub, clip, options).await;
                panic!("a camera ended: {ended:?}");
            });
        }
        Self { _tasks: tasks }
    }
}

/// A light square that wanders over a dark picture.
fn clip() -> Clip {
    let mut encoder = Encoder::new(SIZE, FPS, Rate::Quality).unwrap();
    let mut stream = Vec::new();
    for n in 0..PICTURES {
        let mut planes = vec![128; SIZE.i420_bytes()];
        let luma = &mut planes[..SIZE.width_px * SIZE.height_px];
        for (place, value) in luma.iter_mut().enumerate() {
            let (x, y) = (place % SIZE.width_px, place / SIZE.width_px);
            let is_light = (6 * n..6 * n + 40).contains(&x) && (40..80).contains(&y);
            *value = if is_light { 200 } else { 40 };
        }
        let picture = I420::from_packed(&planes, SIZE, Color::default());
        let encoded = encoder.encode(&picture, n % KEYFRAME_EVERY == 0).unwrap();
        stream.extend(encoded.data);
    }
    let clip = Clip::from_annex_b(&stream).unwrap();
    assert_eq!(clip.units().len(), PICTURES);
    clip
}
