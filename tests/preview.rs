//! Pictures for watchers cost nothing while nobody looks: an allocator that counts sees no allocation of a frame that is offered.
#![expect(
    unsafe_code,
    reason = "an allocator that counts has to implement an unsafe trait"
)]
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

use twinsight::preview::{Previews, WatchOptions};
use twinsight::telemetry::metrics::Metrics;
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
