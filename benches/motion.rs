//! Measures the motion gate's verdict on a picture in which nothing moves, which is the one that costs most: all of it is compared.
//! `cargo bench --bench motion`

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use twinsight::schedule::motion::{MotionGate, MotionRules, Verdict};
use twinsight_media::picture::{Color, I420, PictureSize};

const RULES: MotionRules = MotionRules {
    max_skip: Duration::from_secs(1 << 40),
    after_change: Duration::ZERO,
    after_pause: Duration::ZERO,
};

/// A picture of a place, with the noise of a camera.
fn picture(size: PictureSize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0] % 8
    };
    let columns = (0..=150_u8).cycle().take(size.width_px);
    let row: Vec<u8> = columns.collect();
    let luma = row.iter().cycle().take(size.width_px * size.height_px);
    let mut planes: Vec<u8> = luma.map(|luma| luma + 30 + noise()).collect();
    planes.resize(size.i420_bytes(), 128);
    planes
}

fn verdict(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("motion gate, nothing moves");
    for (name, width_px, height_px) in [
        ("768x576", 768, 576),
        ("1280x720", 1280, 720),
        ("1920x1080", 1920, 1080),
    ] {
        let size = PictureSize {
            width_px,
            height_px,
        };
        // A frame was decoded on another core, so that it is not in the caches of this one.
        let pictures: Vec<_> = (0..32).map(|seed| picture(size, seed)).collect();
        let mut gate = MotionGate::default();
        let mut now = Instant::now();
        let mut n = 0;
        group.bench_function(name, |bench| {
            bench.iter(|| {
                n += 1;
                now += Duration::from_millis(100);
                let planes = &pictures[n % pictures.len()];
                let picture = I420::from_packed(planes, size, Color::default());
                let verdict = gate.judge(black_box(now), &picture, RULES, true);
                if verdict != Verdict::Unchanged {
                    gate.inferred();
                }
                verdict
            });
        });
    }
    group.finish();
}

criterion_group!(benches, verdict);
criterion_main!(benches);
