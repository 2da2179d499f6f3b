//! Counts what a frame allocates between its packets and the tensor, and when it is offered to watchers of whom there are none, in
//! steady state, and prints a table with keyframes and other frames apart. It fails where a frame that nobody looks at allocates anything. Memory that the decoders' C code allocates does not come from Rust's allocator and is not counted.
//! `cargo bench --bench allocations --features vp8`
#![expect(
    unsafe_code,
    reason = "an allocator that counts has to implement an unsafe trait"
)]
#![expect(clippy::print_stdout, reason = "the table is what it is for")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::Playback;
use twinsight::preprocess::affine::ChannelAffine;
use twinsight::preprocess::tensor::{Align, ChannelOrder, Fit};
use twinsight::preprocess::{Picture, Preprocessor, TensorSpec};
use twinsight::preview::Previews;
use twinsight::schedule::motion::{MotionGate, MotionRules};
use twinsight::schedule::scheduler::{EngineId, JobEnd, Pick, SchedulerCore, SourceSettings};
use twinsight::telemetry::metrics::Metrics;
use twinsight_client::clock::SystemClock;
use twinsight_client::stream_id::StreamId;
use twinsight_media::codec::Codec;
use twinsight_media::decode::decoder::DecoderKind;
use twinsight_media::decode::path::{DecodeConfig, ReceivePath};
use twinsight_media::picture::PictureSize;
use twinsight_media::rtp::Arrival;

/// Counting begins after this many frames: three keyframe intervals.
const WARM_UP: usize = 60;
/// This many frames are counted: ten keyframe intervals.
const FRAMES: usize = 200;
/// Every recording has a keyframe each this many frames.
const KEYFRAME_INTERVAL: usize = 20;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static ALLOCATED_BYTES: AtomicU64 = AtomicU64::new(0);

/// The system's allocator, which counts its calls.
struct Counting;

// SAFETY: every call goes to the system's allocator as it came; counting touches two atomics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size);
        // SAFETY: `block` came from here with `layout`, so from the system's allocator.
        unsafe { System.realloc(block, layout, new_size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: `block` came from here with `layout`, so from the system's allocator.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn count(bytes: usize) {
    ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    ALLOCATED_BYTES.fetch_add(bytes as u64, Ordering::Relaxed);
}

/// A number of allocations, and of their bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    allocations: u64,
    bytes: u64,
}

impl Count {
    /// Runs `work` and adds what it allocates.
    fn of<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let read = || [&ALLOCATIONS, &ALLOCATED_BYTES].map(|sum| sum.load(Ordering::Relaxed));
        let before = read();
        let result = work();
        let after = read();
        self.allocations += after[0] - before[0];
        self.bytes += after[1] - before[1];
        result
    }
}

/// What each stage of the path allocated.
#[derive(Debug, Default)]
struct Stages {
    receive: Count,
    schedule: Count,
    preprocess: Count,
    motion: Count,
    preview: Count,
}

fn main() {
    println!(
        "Rust allocations a frame, packets to tensor and watchers (in brackets: bytes), mean of {FRAMES} frames"
    );
    println!(
        "{:<24} {:<10} {:>22} {:>22} {:>22} {:>22} {:>22}",
        "stream",
        "frames",
        "receive and decode",
        "schedule",
        "motion gate",
        "preprocess",
        "preview, unwatched"
    );
    let grey = DecoderKind::Fake(PictureSize {
        width_px: 1280,
        height_px: 720,
    });
    for (name, decoder, codec) in [
        ("pedestrians", grey, Codec::H264),
        ("vp8", grey, Codec::Vp8),
        ("pedestrians", DecoderKind::Software, Codec::H264),
        ("high", DecoderKind::Software, Codec::H264),
        ("high_b", DecoderKind::Software, Codec::H264),
        ("vp8", DecoderKind::Software, Codec::Vp8),
    ] {
        if decoder == DecoderKind::Software && !Codec::built_in().contains(&codec) {
            continue;
        }
        let [key, other] = measure(name, codec, decoder);
        let label = match decoder {
            DecoderKind::Software => name.to_owned(),
            DecoderKind::Fake(_) => format!("{name}, fake decoder"),
        };
        let keyframes = FRAMES / KEYFRAME_INTERVAL;
        print_row(&label, "key", &key, keyframes);
        print_row("", "other", &other, FRAMES - keyframes);
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are small")]
fn print_row(stream: &str, kind: &str, stages: &Stages, frames: usize) {
    let a_frame = |count: &Count| {
        let each = |sum: u64| sum as f64 / frames as f64;
        format!("{:.2} ({:.0})", each(count.allocations), each(count.bytes))
    };
    let [receive, schedule, motion, preprocess, preview] = [
        &stages.receive,
        &stages.schedule,
        &stages.motion,
        &stages.preprocess,
        &stages.preview,
    ]
    .map(a_frame);
    println!(
        "{stream:<24} {kind:<10} {receive:>22} {schedule:>22} {motion:>22} {preprocess:>22} {preview:>22}"
    );
    assert_eq!(
        stages.motion.allocations, 0,
        "the motion gate allocates nothing when it is warm"
    );
    assert_eq!(
        stages.preview.allocations, 0,
        "a frame that nobody looks at allocates nothing"
    );
}

/// Plays a recording through the path, and gives the counts of keyframes and of other frames.
fn measure(name: &str, codec: Codec, decoder: DecoderKind) -> [Stages; 2] {
    let metrics = Arc::new(Metrics::new());
    let id = StreamId::new("camera", "default");
    let config = DecodeConfig {
        max_backlog: Duration::from_secs(3600),
        ..DecodeConfig::new(metrics.stream_ledger(&id), Arc::new(SystemClock), decoder)
    };
    let mut path = ReceivePath::new(&config);
    let mut core = SchedulerCore::default();
    let source = core.add(SourceSettings {
        min_interval: Duration::ZERO,
        max_age: Duration::from_secs(3600),
        metrics: metrics.stream(&id),
        model: 0,
        work: (),
    });
    let mut preprocessor = Preprocessor::new(TensorSpec {
        width: 416,
        height: 416,
        order: ChannelOrder::Rgb,
        affine: [ChannelAffine {
            gain: 1.0 / 255.0,
            bias: 0.0,
        }; 3],
        fit: Fit::Letterbox {
            align: Align::TopLeft,
            pad: 0,
        },
    });
    let previews = Previews::new(Arc::clone(&metrics));
    let mut gate = MotionGate::default();
    let rules = MotionRules {
        max_skip: Duration::ZERO,
        after_change: Duration::ZERO,
        after_pause: Duration::ZERO,
    };
    let mut playback = Playback::new(name, codec);
    let [mut key, mut other] = [Stages::default(), Stages::default()];
    let mut units = 0;
    while units < WARM_UP + FRAMES {
        let now = Instant::now();
        let packet = playback.next(now);
        let mut uncounted = Stages::default();
        let stages = match units {
            warm if warm < WARM_UP => &mut uncounted,
            keyframe if keyframe % KEYFRAME_INTERVAL == 0 => &mut key,
            _ => &mut other,
        };
        units += usize::from(packet.marker);
        let mut decoded = None;
        stages.receive.of(|| {
            path.take(Arrival::Rtp(packet));
            while path.step(now, &mut |frame| decoded = Some(frame)) {}
        });
        let Some(frame) = decoded else {
            continue;
        };
        let pick = stages.schedule.of(|| {
            core.offer(now, source, frame);
            core.pick(now, EngineId::LOCAL)
        });
        let Pick::Run(job) = pick else {
            unreachable!("one frame waits, and its source is due");
        };
        stages.motion.of(|| {
            gate.judge(now, &job.frame.planes(), rules, true);
            gate.inferred();
        });
        stages
            .preprocess
            .of(|| preprocessor.run(&Picture::I420(job.frame.planes())));
        stages.preview.of(|| {
            previews.offer(&id, &job.frame, Some(1), || unreachable!("nobody looks"));
        });
        stages.schedule.of(|| {
            core.finished(job.source, JobEnd::Inferred, job.skipped_frames);
            drop(job);
        });
    }
    [key, other]
}
