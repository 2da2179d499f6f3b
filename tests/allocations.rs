//! What must not allocate for each frame does not: an allocator that counts sees no allocation of a frame that is offered to
//! watchers of whom there are none, and none of a tracker or a motion gate that saw the same before.
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
use twinsight::schedule::motion::{MotionGate, MotionRules, Verdict};
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
/// in a minute many of them become somebody new.
fn crowd(look: u16, into: &mut Vec<Observation>) {
    into.clear();
    for n in 0..120_u16 {
        let (row, column) = (f32::from(n / 12), f32::from(n % 12));
        let turn = f32::from(look) * 0.1 + f32::from(n);
        let (x, y) = (
            0.08 * column + 0.05 * turn.sin(),
            0.1 * row + 0.05 * turn.cos(),
        );
        let is_hidden = (look / 10 + n).is_multiple_of(7) || (look / 30 + n).is_multiple_of(40);
        let score = if (look + n).is_multiple_of(5) {
            0.45
        } else {
            0.8
        };
        let bbox = RelativeBox::new(x, y, x + 0.07, y + 0.14);
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
fn a_crowd_allocates_nothing_the_second_time() {
    let mut tracker = Tracker::new(TrackerSettings {
        confirm: Duration::from_millis(300),
        lost: Duration::from_millis(2000),
        min_score: 0.4,
    });
    let (ids, mut now) = (TrackIds::default(), Duration::ZERO);
    let mut seen = Vec::with_capacity(120);
    let mut most = [0; 2];
    let mut walk = || {
        let mut sum = 0;
        for look in 0..600 {
            // At last nobody is there any more, so that it begins as it did the first time.
            match look {
                560.. => seen.clear(),
                _ => crowd(look, &mut seen),
            }
            now += Duration::from_millis(100);
            sum += allocations_of(|| {
                tracker.look(now, &seen, &ids);
            });
            for (most, state) in most
                .iter_mut()
                .zip([TrackState::Confirmed, TrackState::Lost])
            {
                let tracks = tracker.tracks().iter();
                *most = tracks
                    .filter(|track| track.state == state)
                    .count()
                    .max(*most);
            }
        }
        assert!(tracker.tracks().is_empty());
        sum
    };
    assert_ne!(walk(), 0, "the allocator counts");
    assert_eq!(walk(), 0);
    assert!(most[0] > 50 && most[1] > 10, "{most:?}");
    assert!(ids.next() > 150, "tracks ended and others began");
}

#[test]
fn a_motion_gate_that_is_warm_allocates_nothing() {
    let rules = MotionRules {
        max_skip: Duration::from_secs(5),
        after_change: Duration::ZERO,
        after_pause: Duration::ZERO,
    };
    let (mut gate, mut now, frame) = (MotionGate::default(), Instant::now(), frame());
    let mut see = || {
        now += Duration::from_secs(1);
        let verdict = gate.judge(now, &frame.planes(), rules, true);
        if verdict != Verdict::Unchanged {
            gate.inferred();
        }
    };
    see();
    see();
    assert_eq!(allocations_of(|| (0..20).for_each(|_| see())), 0);
}
