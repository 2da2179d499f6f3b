//! A device of memory, in place of the kernel's.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::io::Errno;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_util::sync::CancellationToken;

use super::capture::{Capture, PictureFormat, PixelFormat, RawPicture};
use super::pixels::tests::{SIZE, jpeg, without_tables};
use super::{Open, run_with};
use crate::bridge::source::{
    KeyframeWish, SourceEvent, SourceFacts, SourceState, SourceUnit, UnitLoss,
};
use crate::config::DeviceConfig;
use twinsight_media::picture::PictureSize;

/// What a device of memory does next.
#[derive(Debug, Clone)]
enum Step {
    Picture(Vec<u8>),
    Broken,
    /// It takes this long.
    Pause(Duration),
    Fail(Errno),
    Panic,
}

/// A device that a test describes.
#[derive(Debug, Clone)]
struct FakeDevice {
    is_camera: bool,
    /// Its formats, each with the size that it makes of any.
    formats: Vec<([u8; 4], PictureSize)>,
    steps: Arc<Mutex<VecDeque<Step>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl FakeDevice {
    fn new(formats: &[&[u8; 4]], steps: impl IntoIterator<Item = Step>) -> Self {
        Self {
            is_camera: true,
            formats: formats.iter().map(|name| (**name, SIZE)).collect(),
            steps: Arc::new(Mutex::new(steps.into_iter().collect())),
            asked: Arc::default(),
        }
    }
}

impl Capture for FakeDevice {
    fn is_camera(&self) -> io::Result<bool> {
        Ok(self.is_camera)
    }

    fn formats(&self) -> io::Result<Vec<[u8; 4]>> {
        Ok(self.formats.iter().map(|(name, _)| *name).collect())
    }

    fn set_format(&mut self, pixels: PixelFormat, size: PictureSize) -> io::Result<PictureFormat> {
        let PictureSize {
            width_px,
            height_px,
        } = size;
        let asked = format!("{pixels:?} {width_px}x{height_px}");
        self.asked.lock().push(asked);
        let mut formats = self.formats.iter();
        let (_, size) = formats
            .find(|(name, _)| PixelFormat::of(*name) == Some(pixels))
            .unwrap();
        Ok(PictureFormat {
            pixels: Some(pixels),
            size: *size,
            row_bytes: 2 * size.width_px,
        })
    }

    fn set_rate(&mut self, fps: f64) -> io::Result<Option<f64>> {
        self.asked.lock().push(format!("{fps} fps"));
        Ok(Some(fps))
    }

    fn start(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn next(&mut self, limit: Duration, take: &mut dyn FnMut(RawPicture<'_>)) -> io::Result<bool> {
        let step = self.steps.lock().pop_front();
        let (data, is_broken) = match step {
            Some(Step::Picture(data)) => (data, false),
            Some(Step::Broken) => (vec![1], true),
            Some(Step::Pause(pause)) => {
                std::thread::sleep(pause);
                return Ok(false);
            }
            Some(Step::Fail(errno)) => return Err(errno.into()),
            Some(Step::Panic) => panic!("a test's"),
            None => {
                std::thread::sleep(limit.min(Duration::from_millis(5)));
                return Ok(false);
            }
        };
        take(RawPicture {
            data: &data,
            taken_at: Instant::now(),
            is_broken,
        });
        Ok(true)
    }

    fn force_keyframe(&mut self) {
        self.asked.lock().push("keyframe".to_owned());
    }
}

/// A source that runs.
struct Running {
    events: UnboundedReceiver<SourceEvent>,
    wish: KeyframeWish,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    /// Runs a device as it is opened, which happens again and again.
    fn start(open: impl Fn() -> io::Result<FakeDevice> + Send + 'static) -> Self {
        let (told, events) = unbounded_channel();
        let config = DeviceConfig {
            path: Path::new("/dev/video0").to_owned(),
            size: Some(SIZE),
            fps: Some(25.0),
        };
        let (wish, stop) = (KeyframeWish::default(), CancellationToken::new());
        let open: Open = Box::new(move |_| Ok(Box::new(open()?)));
        let handler = Box::new(move |event| {
            let _ = told.send(event);
        });
        let running = run_with(
            config,
            wish.clone(),
            handler,
            open,
            stop.clone().cancelled_owned(),
        );
        Self {
            events,
            wish,
            stop,
            task: tokio::spawn(running),
        }
    }

    async fn event(&mut self) -> SourceEvent {
        let event = tokio::time::timeout(Duration::from_secs(20), self.events.recv());
        event.await.expect("an event").expect("it runs")
    }

    async fn unit(&mut self) -> SourceUnit {
        loop {
            match self.event().await {
                SourceEvent::Unit(unit) => return unit,
                SourceEvent::State(SourceState::Down { reason, .. }) => panic!("{reason}"),
                _ => {}
            }
        }
    }

    /// Why it is down next.
    async fn down(&mut self) -> String {
        loop {
            if let SourceEvent::State(SourceState::Down { reason, .. }) = self.event().await {
                return reason.to_string();
            }
        }
    }

    async fn facts(&mut self) -> SourceFacts {
        loop {
            if let SourceEvent::State(SourceState::Receiving(facts)) = self.event().await {
                return facts;
            }
        }
    }

    async fn close(self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(2), self.task);
        ended.await.expect("the thread ends soon").unwrap();
    }
}

/// Grey pictures of YUYV.
fn yuyv(luma: u8) -> Step {
    Step::Picture([luma, 128].repeat(SIZE.width_px * SIZE.height_px))
}

/// The luma in the middle of each picture of the units.
fn decoded(units: &[SourceUnit]) -> Vec<u8> {
    use openh264::formats::YUVSource;
    let mut decoder = openh264::decoder::Decoder::new().unwrap();
    let mut lumas = Vec::new();
    for unit in units {
        let picture = decoder.decode(&unit.data).unwrap().unwrap();
        assert_eq!(picture.dimensions(), (SIZE.width_px, SIZE.height_px));
        lumas.push(picture.y()[picture.strides().0 * 20 + 30]);
    }
    lumas
}

fn is_about(got: &[u8], expected: &[u8]) {
    assert_eq!(got.len(), expected.len());
    let near = got.iter().zip(expected).all(|(a, b)| a.abs_diff(*b) < 8);
    assert!(near, "{got:?} {expected:?}");
}

#[tokio::test]
async fn pictures_of_yuyv_are_encoded_with_a_keyframe_when_one_is_wanted() {
    let lumas = [40, 80, 120, 160];
    let device = FakeDevice::new(&[b"YUYV", b"NV12"], lumas.map(yuyv));
    let (steps, asked) = (Arc::clone(&device.steps), Arc::clone(&device.asked));
    let mut running = Running::start(move || Ok(device.clone()));
    let facts = running.facts().await;
    assert_eq!((facts.size, facts.fps), (Some(SIZE), Some(25.0)));
    let profile = facts.profile_level_id.unwrap();
    assert_eq!(profile[0], 0x42, "{profile:x?}");
    let mut units = Vec::new();
    for _ in lumas {
        units.push(running.unit().await);
    }
    is_about(&decoded(&units), &lumas);
    let keyframes: Vec<bool> = units.iter().map(|unit| unit.is_keyframe).collect();
    assert_eq!(keyframes, [true, false, false, false]);
    assert!(
        units
            .windows(2)
            .all(|two| two[0].timestamp_90k <= two[1].timestamp_90k)
    );
    running.wish.ask();
    // The session looks at the wish before it waits for a picture.
    steps
        .lock()
        .extend([Step::Pause(Duration::from_millis(20)), yuyv(50), yuyv(60)]);
    let keyframes = [
        running.unit().await.is_keyframe,
        running.unit().await.is_keyframe,
    ];
    assert_eq!(keyframes, [true, false]);
    assert_eq!(*asked.lock(), ["Yuyv 64x48", "25 fps"]);
    running.close().await;
}

#[tokio::test]
async fn pictures_of_motion_jpeg_are_encoded_and_broken_ones_are_counted() {
    let whole = jpeg(200);
    let steps = [
        Step::Broken,
        Step::Picture(whole[..whole.len() / 2].to_vec()),
        Step::Picture(whole.clone()),
        Step::Picture(Vec::new()),
        Step::Picture(without_tables(&jpeg(100))),
    ];
    let device = FakeDevice::new(&[b"YUYV", b"MJPG"], steps);
    let asked = Arc::clone(&device.asked);
    let mut running = Running::start(move || Ok(device.clone()));
    let (mut units, mut malformed) = (Vec::new(), 0);
    while units.len() < 2 {
        match running.event().await {
            SourceEvent::Unit(unit) => units.push(unit),
            SourceEvent::Dropped(UnitLoss::Malformed, count) => malformed += count,
            SourceEvent::State(SourceState::Down { reason, .. }) => panic!("{reason}"),
            _ => {}
        }
    }
    assert_eq!(malformed, 3);
    is_about(&decoded(&units), &[187, 101]);
    assert_eq!(asked.lock()[0], "Mjpeg 64x48", "it is preferred");
    running.close().await;
}

#[tokio::test]
async fn h264_is_passed_through_from_its_first_keyframe_on() {
    // What the encoder gives stands for what a camera gives.
    let made = FakeDevice::new(&[b"YUYV"], [40, 80, 120].map(yuyv));
    let mut running = Running::start(move || Ok(made.clone()));
    let mut own = Vec::new();
    for _ in 0..3 {
        own.push(running.unit().await);
    }
    running.close().await;
    let buffers = [1, 0, 1, 2].map(|n: usize| Step::Picture(own[n].data.to_vec()));
    let device = FakeDevice::new(&[b"MJPG", b"H264", b"YUYV"], buffers);
    let asked = Arc::clone(&device.asked);
    let mut running = Running::start(move || Ok(device.clone()));
    running.wish.ask();
    let mut awaiting = 0;
    let facts = loop {
        match running.event().await {
            SourceEvent::Dropped(UnitLoss::AwaitingKeyframe, count) => awaiting += count,
            SourceEvent::State(SourceState::Receiving(facts)) => break facts,
            _ => {}
        }
    };
    assert_eq!(awaiting, 1);
    assert!(facts.profile_level_id.is_some());
    for of in &own {
        let unit = running.unit().await;
        assert_eq!(
            (unit.data, unit.is_keyframe),
            (of.data.clone(), of.is_keyframe)
        );
    }
    let asked = asked.lock().clone();
    assert_eq!(asked, ["H264 64x48", "25 fps", "keyframe"]);
    running.close().await;
}

#[tokio::test]
async fn a_format_in_the_wanted_size_goes_before_a_preferred_one() {
    let mut device = FakeDevice::new(&[b"H264", b"MJPG", b"YUYV"], [yuyv(90)]);
    let small = PictureSize {
        width_px: 32,
        height_px: 32,
    };
    device.formats[0].1 = small;
    device.formats[1].1 = small;
    let asked = Arc::clone(&device.asked);
    let mut running = Running::start(move || Ok(device.clone()));
    running.unit().await;
    assert_eq!(
        asked.lock()[..3],
        ["H264 64x48", "Mjpeg 64x48", "Yuyv 64x48"]
    );
    running.close().await;
}

#[tokio::test]
async fn a_camera_that_is_unplugged_is_met_again() {
    let device = FakeDevice::new(&[b"YUYV"], [yuyv(10), Step::Fail(Errno::NODEV), yuyv(90)]);
    let mut running = Running::start(move || Ok(device.clone()));
    running.unit().await;
    let reason = running.down().await;
    assert_eq!(reason, "/dev/video0 is gone: plug the camera in again");
    assert!(running.unit().await.is_keyframe, "a new encoder begins");
    running.close().await;
}

#[tokio::test]
async fn a_panic_ends_one_session() {
    let device = FakeDevice::new(&[b"YUYV"], [Step::Panic, yuyv(90)]);
    let mut running = Running::start(move || Ok(device.clone()));
    assert!(running.down().await.contains("please report it"));
    running.unit().await;
    running.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_is_aborted_ends_its_thread() {
    let device = FakeDevice::new(&[b"YUYV"], [yuyv(90)]);
    let mut running = Running::start(move || Ok(device.clone()));
    running.unit().await;
    running.task.abort();
    let ended = tokio::time::timeout(Duration::from_secs(10), &mut running.task).await;
    assert!(ended.expect("it ends").unwrap_err().is_cancelled());
    // The thread has the other end.
    while running.events.recv().await.is_some() {}
}

#[tokio::test]
async fn what_is_no_camera_is_said_with_what_to_do() {
    let mut other = FakeDevice::new(&[], []);
    other.is_camera = false;
    let none = FakeDevice::new(&[b"NV12", b"\x01abc"], []);
    let opened: Vec<(io::Result<FakeDevice>, &str)> = vec![
        (Err(Errno::ACCESS.into()), "the group `video`"),
        (Err(Errno::BUSY.into()), "another program"),
        (Err(Errno::NOENT.into()), "there is no /dev/video0"),
        (Ok(other), "name another one of /dev/video*"),
        (Ok(none), "it offers NV12, \\u{1}abc"),
    ];
    for (opened, expected) in opened {
        let opened = Mutex::new(Some(opened));
        let mut running =
            Running::start(move || opened.lock().take().unwrap_or(Err(Errno::NOENT.into())));
        let reason = running.down().await;
        assert!(reason.contains(expected), "{reason}");
        running.close().await;
    }
}
