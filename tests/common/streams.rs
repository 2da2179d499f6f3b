//! For tests of media streams: a source of numbered pictures, and what arrives of them.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use twinsight::dev::camera::pattern;
use twinsight_client::hub::{HubClient, HubOptions};
use twinsight_client::media::{
    EncoderOptions, Frames, LocalTrack, MediaStream, UnitTime, VideoEncoder,
};
use twinsight_media::h264::clip::Clip;
use twinsight_media::picture::{Color, Frame, I420, PictureSize};

use super::DEADLINE;

/// What numbered pictures have.
pub(crate) const SIZE: PictureSize = PictureSize {
    width_px: 320,
    height_px: 240,
};

/// Pictures a second.
pub(crate) const FPS: f64 = 25.0;

pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let Ok(value) = tokio::time::timeout(DEADLINE, future).await else {
        panic!("{what}: not within {DEADLINE:?}");
    };
    value
}

pub(crate) async fn client(url: &str, twin: &str) -> HubClient {
    let connecting = HubClient::connect(HubOptions::simulator(url, twin));
    soon("joining", connecting).await.unwrap()
}

/// Numbered pictures into a track, until it is dropped.
pub(crate) struct Numbers {
    pub(crate) track: LocalTrack,
    stop: Arc<AtomicBool>,
    frozen: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Numbers {
    /// Numbers from `first` on.
    pub(crate) fn start(first: u32) -> Self {
        let track = LocalTrack::video("numbers");
        let options = EncoderOptions::new(SIZE.width_px, SIZE.height_px)
            .with_fps(FPS)
            .with_bits_per_second(800_000);
        let mut encoder = VideoEncoder::new(track.clone(), options).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let frozen = Arc::new(AtomicBool::new(false));
        let (stopped, is_frozen) = (Arc::clone(&stop), Arc::clone(&frozen));
        let drawing = move || {
            let mut planes = vec![0; SIZE.i420_bytes()];
            let mut due = Instant::now();
            for number in first.. {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                if !is_frozen.load(Ordering::Relaxed) {
                    pattern::draw(number, SIZE, &mut planes);
                    let picture = I420::from_packed(&planes, SIZE, Color::default());
                    encoder.send_planes(&picture).unwrap();
                }
                due += Duration::from_secs_f64(1.0 / FPS);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        };
        let thread = Builder::new().name("numbers".to_owned()).spawn(drawing);
        Self {
            track,
            stop,
            frozen,
            thread: Some(thread.unwrap()),
        }
    }
}

#[allow(dead_code, reason = "not every test needs it")]
impl Numbers {
    /// No picture leaves while it is frozen.
    pub(crate) fn freeze(&self, frozen: bool) {
        self.frozen.store(frozen, Ordering::Relaxed);
    }
}

impl Drop for Numbers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Numbered pictures as an IP camera sends them: High profile, with keyframes that nobody can ask for.
#[allow(dead_code, reason = "not every test needs it")]
pub(crate) struct IpCamera {
    pub(crate) track: LocalTrack,
    clip: Arc<Clip>,
}

#[allow(dead_code, reason = "not every test needs it")]
impl IpCamera {
    /// So many pictures, with a keyframe every `gop` of them.
    pub(crate) fn new(size: PictureSize, pictures: u32, gop: usize) -> Self {
        let mut child = Command::new("ffmpeg")
            .args(["-v", "error", "-f", "rawvideo", "-pix_fmt", "yuv420p"])
            .args(["-s", &format!("{}x{}", size.width_px, size.height_px)])
            .args(["-r", &FPS.to_string(), "-i", "-", "-c:v", "libx264"])
            .args(["-preset", "veryfast", "-profile:v", "high", "-level", "4.0"])
            .args(["-bf", "0", "-g", &gop.to_string(), "-sc_threshold", "0"])
            .args(["-crf", "20", "-f", "h264", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let drawing = Builder::new().name("draw".to_owned()).spawn(move || {
            let mut planes = vec![0; size.i420_bytes()];
            for number in 0..pictures {
                pattern::draw(number, size, &mut planes);
                stdin.write_all(&planes).unwrap();
            }
        });
        let encoded = child.wait_with_output().unwrap();
        drawing.unwrap().join().unwrap();
        assert!(encoded.status.success());
        let clip = Clip::from_bytes(&encoded.stdout).unwrap();
        assert_eq!(clip.units().len(), usize::try_from(pictures).unwrap());
        let track = LocalTrack::video("camera")
            .with_gop_cache(16 << 20)
            .with_profile_level_id([0x64, 0, 0x28]);
        Self {
            track,
            clip: Arc::new(clip),
        }
    }

    /// Sends these pictures at once, as if they had come in time.
    pub(crate) fn has_sent(&self, pictures: std::ops::Range<usize>) {
        for n in pictures {
            self.send(n);
        }
    }

    /// Sends these pictures in time, from a thread of their own.
    pub(crate) fn sends(&self, pictures: std::ops::Range<usize>) -> JoinHandle<()> {
        let camera = Self {
            track: self.track.clone(),
            clip: Arc::clone(&self.clip),
        };
        let sending = move || {
            let mut due = Instant::now();
            for n in pictures {
                camera.send(n);
                due += Duration::from_secs_f64(1.0 / FPS);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        };
        let thread = Builder::new().name("camera".to_owned()).spawn(sending);
        thread.unwrap()
    }

    fn send(&self, n: usize) {
        let at = UnitTime::Camera {
            timestamp_90k: u32::try_from(n).unwrap() * 3600,
            received_at: Instant::now(),
        };
        self.track.send_unit_with(&self.clip.units()[n].data, at);
    }
}

/// The number of a frame; fails when it is torn.
pub(crate) fn number(frame: &Frame) -> u32 {
    let numbers = pattern::read(&frame.planes());
    numbers
        .whole()
        .unwrap_or_else(|| panic!("a torn picture: {numbers:?}"))
}

/// So many numbers of a stream, which only grow.
pub(crate) async fn growing(frames: &mut Frames, count: usize) -> Vec<u32> {
    let mut numbers: Vec<u32> = Vec::new();
    while numbers.len() < count {
        let frame = soon("a frame", frames.recv()).await;
        let number = number(&frame.expect("the stream is open"));
        assert!(
            numbers.last().is_none_or(|last| *last < number),
            "{number} came after {numbers:?}"
        );
        numbers.push(number);
    }
    numbers
}

/// So many numbers of a stream.
pub(crate) async fn numbers_of(stream: &MediaStream, count: usize) -> Vec<u32> {
    growing(&mut stream.frames(), count).await
}

/// So many different numbers of a stream, which never go back. The official clients and a browser send a picture once more
/// when the next one is late.
pub(crate) async fn numbers_of_another(stream: &MediaStream, count: usize) -> Vec<u32> {
    let mut frames = stream.frames();
    let mut numbers: Vec<u32> = Vec::new();
    while numbers.len() < count {
        let frame = soon("a frame", frames.recv()).await;
        let number = number(&frame.expect("the stream is open"));
        let last = numbers.last().copied();
        assert!(
            last.is_none_or(|last| last <= number),
            "{number} came after {numbers:?}"
        );
        if last != Some(number) {
            numbers.push(number);
        }
    }
    numbers
}
