//! Measures a look of the tracker at few and many things that move among each other at 10 frames a second, at a look that is full of
//! candidates, and where all that is seen lies in one knot. Before that it prints what a track takes of memory.
//! `cargo bench --bench track`
#![expect(
    unsafe_code,
    reason = "an allocator that counts has to implement an unsafe trait"
)]
#![expect(
    clippy::print_stdout,
    reason = "memory is no time, so criterion does not print it"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use twinsight::track::tracker::{TrackIds, Tracker, TrackerSettings};
use twinsight::track::{LabelId, Observation, RelativeBox};

static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, which knows how much of it is in use.
struct Counting;

// SAFETY: every call goes to the system's allocator as it came; counting touches an atomic. `realloc` of the trait uses these two.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE_BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: `block` came from here with `layout`, so from the system's allocator.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Looks that repeat themselves, in tenths of a second.
const LOOKS: u16 = 600;

fn tracker() -> Tracker {
    Tracker::new(TrackerSettings {
        confirm: Duration::from_millis(300),
        lost: Duration::from_millis(2000),
        min_score: 0.4,
    })
}

/// So many things, in a square, of whom each walks a circle of twice its width. One in ten cannot be seen, for a second each time.
fn things(count: u16, look: u16) -> Vec<Observation> {
    let side = (1..).find(|side| side * side >= count).unwrap_or(1);
    let step = 1.0 / f32::from(side);
    let seen = (0..count).filter(|n| !(look / 10 + n).is_multiple_of(10));
    let observation = |n: u16| {
        let turn = std::f32::consts::TAU * f32::from(look) / f32::from(LOOKS) * 6.0 + f32::from(n);
        let x = (f32::from(n % side) + 0.5 + 0.6 * turn.sin()) * step;
        let y = (f32::from(n / side) + 0.5 + 0.6 * turn.cos()) * step;
        let (width, height) = (0.3 * step, 0.6 * step);
        Some(Observation {
            bbox: RelativeBox::new(x - width, y - height, x + width, y + height)?,
            score: 0.5 + 0.4 * f32::from((n + look) % 10) / 10.0,
            label: LabelId(0),
        })
    };
    let mut all: Vec<_> = seen.filter_map(observation).collect();
    all.sort_by(|a, b| b.score.total_cmp(&a.score));
    all
}

fn memory(count: u16) {
    let before = LIVE_BYTES.load(Ordering::Relaxed);
    let (mut tracker, ids) = (tracker(), TrackIds::default());
    for look in 0..100 {
        let seen = things(count, look);
        tracker.look(Duration::from_millis(u64::from(look) * 100), &seen, &ids);
    }
    let bytes = LIVE_BYTES.load(Ordering::Relaxed) - before;
    let tracks = tracker.tracks().len();
    println!(
        "{count} things: {tracks} tracks take {} KiB, {} bytes each",
        bytes / 1024,
        bytes / tracks.max(1)
    );
}

fn look(criterion: &mut Criterion) {
    for count in [10, 100, 1000] {
        memory(count);
    }
    let mut group = criterion.benchmark_group("look");
    let mut measure = |name: &str, looks: &[Vec<Observation>]| {
        let (mut tracker, ids) = (tracker(), TrackIds::default());
        let mut n = 0_u32;
        group.bench_function(name, |bench| {
            bench.iter(|| {
                let seen = &looks[n as usize % looks.len()];
                n += 1;
                let now = Duration::from_millis(100) * n;
                tracker.look(now, black_box(seen), &ids).belongings.len()
            });
        });
    };
    for count in [10, 100, 1000] {
        let looks: Vec<_> = (0..LOOKS).map(|look| things(count, look)).collect();
        measure(&format!("{count} objects"), &looks);
    }
    // Ten thousand of them, at random as far as a tracker can see.
    let scattered: Vec<_> = (0..20).map(|look| things(10_000, look * 29)).collect();
    measure("10000 candidates", &scattered);
    // All of them overlap with many others: nothing can be told apart by gates.
    let knot = |look: u16| {
        let mut all = things(300, look);
        for seen in &mut all {
            let RelativeBox { x1, y1, .. } = seen.bbox;
            let (x, y) = (0.4 + x1 * 0.15, 0.4 + y1 * 0.15);
            seen.bbox = RelativeBox::new(x, y, x + 0.03, y + 0.03).unwrap_or(seen.bbox);
        }
        all
    };
    let knots: Vec<_> = (0..LOOKS).map(knot).collect();
    measure("300 objects in a knot", &knots);
    // As many as there can be side by side, all of which might be any of their neighbours, since they jump by half a width.
    let lattice = |look: u16| {
        let at = |n: u16| {
            let shift = f32::from(look % 3) * 0.3;
            let (x, y) = (
                f32::from(n % 32) * 0.6 + shift,
                f32::from(n / 32) * 0.6 + shift,
            );
            let (x, y) = (0.1 + x * 0.03, 0.1 + y * 0.03);
            Some(Observation {
                bbox: RelativeBox::new(x, y, x + 0.03, y + 0.03)?,
                score: 0.8,
                label: LabelId(0),
            })
        };
        (0..1024 - look % 3 * 100).filter_map(at).collect()
    };
    let lattices: Vec<_> = (0..30).map(lattice).collect();
    measure("1000 objects in a knot", &lattices);
    group.finish();
}

criterion_group!(benches, look);
criterion_main!(benches);
