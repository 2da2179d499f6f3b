//! What must not allocate for each frame does not: an allocator that counts sees no allocation of a frame that is offered to
//! watchers of whom there are none, and none of a tracker that has seen as much before.
#![expect(
    unsafe_code,
    reason = "an allocator that counts has to implement an unsafe trait"
)]
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use twinsight::preview::{Previews, WatchOptions};
use twinsight::telemetry::metrics::Metrics;
use twinsight::track::tracker::{TrackIds, TrackState, Tracker, TrackerSettings};
use twinsight::track::{LabelId, Observation, RelativeBox};
use twinsight_client::stream_id::StreamId;
use twinsight_media::picture::{Color, Frame, FrameTiming, PictureSize, PlanePool};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, which counts the calls of each thread.
struct Counting;

// SAFETY: every call goes to the system's allocator as it came; counting touches a number of the thread that is not allocated.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that ends may have no number any more.
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
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

fn allocations_of(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

fn frame() -> Frame {
    let at = Instant::now();
    let timing = FrameTiming {
        received_at: at,
        completed_at: at,
        decoded_at: at,
        rtp_timestamp: 0.into(),
        captured_at_unix_ms: None,
    };
    let size = PictureSize {
        width_px: 64,
        height_px: 48,
    };
    let planes = PlanePool::new(1).acquire(size.i420_bytes());
    Frame::new(planes, size, Color::default(), timing)
}

#[test]
fn a_frame_that_nobody_looks_at_allocates_nothing() {
    let previews = Previews::new(Arc::new(Metrics::new()));
    let stream = |n: usize| StreamId::new(format!("cam-{n}"), "default");
    let (streams, frame): (Vec<_>, _) = ((0..100).map(stream).collect(), frame());
    let offer_all = || {
        for stream in &streams {
            previews.offer(stream, &frame, Some(1), || {
                unreachable!("nobody wants boxes")
            });
        }
    };
    assert_eq!(allocations_of(offer_all), 0);
    let watch = previews.watch(&stream(200), WatchOptions::default());
    assert_eq!(
        allocations_of(offer_all),
        0,
        "somebody looks at another stream"
    );
    drop(watch);
    assert_eq!(allocations_of(offer_all), 0);
    let _watch = previews.watch(&streams[0], WatchOptions::default());
    assert_ne!(allocations_of(offer_all), 0, "the allocator counts");
}

/// A crowd in which each walks a circle among the others: they hide each other, vanish and come back, some are doubles of others, and
/// everybody is somebody new after two minutes.
fn crowd(look: u16, into: &mut Vec<Observation>) {
    into.clear();
    for n in 0..300_u16 {
        let (row, column) = (f32::from(n / 20), f32::from(n % 20));
        let turn = f32::from(look) * 0.1 + f32::from(n);
        let (x, y) = (
            0.05 * column + 0.03 * turn.sin(),
            0.065 * row + 0.03 * turn.cos(),
        );
        let is_hidden = (look / 10 + n) % 7 == 0 || (look / 30 + n) % 40 == 0;
        let score = if (look + n) % 5 == 0 { 0.45 } else { 0.8 };
        let bbox = RelativeBox::new(x, y, x + 0.04, y + 0.09);
        if let (Some(bbox), false) = (bbox, is_hidden) {
            into.push(Observation {
                bbox,
                score,
                label: LabelId(n % 3),
            });
        }
    }
    into.sort_unstable_by(|a, b| b.score.total_cmp(&a.score));
}

#[test]
fn a_look_at_a_crowd_allocates_nothing_once_it_is_known() {
    let mut tracker = Tracker::new(TrackerSettings {
        confirm: Duration::from_millis(300),
        lost: Duration::from_millis(2000),
        min_score: 0.4,
    });
    let ids = TrackIds::default();
    let mut seen = Vec::with_capacity(300);
    let mut look = |n: u16| {
        crowd(n % 1200, &mut seen);
        allocations_of(|| {
            let now = Duration::from_millis(u64::from(n) * 100);
            tracker.look(now, &seen, &ids);
        })
    };
    let cold: u64 = (0..1200).map(&mut look).sum();
    assert_ne!(cold, 0, "the allocator counts");
    let warm: u64 = (1200..3600).map(&mut look).sum();
    assert_eq!(warm, 0);
    let of = |state| {
        let tracks = tracker.tracks().iter();
        tracks.filter(|track| track.state == state).count()
    };
    assert!(of(TrackState::Confirmed) > 150 && of(TrackState::Lost) > 5);
    assert!(ids.next() > 600, "tracks ended and others began");
}
