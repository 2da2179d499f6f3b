//! Measures the scheduler's decision with few and many cameras: a frame is picked, its inference ends at once, and the camera's next
//! frame is offered, so that a frame of every camera waits at any time.
//! `cargo bench --bench schedule`

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use twinsight::schedule::scheduler::{EngineId, JobEnd, Pick, SchedulerCore, SourceSettings};
use twinsight::telemetry::metrics::Metrics;
use twinsight_client::stream_id::StreamId;
use twinsight_media::picture::{Color, Frame, FrameTiming, PictureSize, PlanePool};

/// A scheduler with this many cameras, each of which has a frame that waits.
fn crowd(cameras: usize, min_interval: Duration, now: Instant) -> SchedulerCore<usize> {
    let metrics = Metrics::new();
    let pool = PlanePool::new(0);
    let size = PictureSize {
        width_px: 2,
        height_px: 2,
    };
    let timing = FrameTiming {
        received_at: now,
        completed_at: now,
        decoded_at: now,
        rtp_timestamp: 0.into(),
        captured_at_unix_ms: None,
    };
    let mut core = SchedulerCore::default();
    for n in 0..cameras {
        let id = core.add(SourceSettings {
            min_interval,
            max_age: Duration::from_secs(1 << 40),
            metrics: metrics.stream(&StreamId::new(n.to_string(), "default")),
            model: 0,
            work: n,
        });
        let planes = pool.acquire(size.i420_bytes());
        core.offer(now, id, Frame::new(planes, size, Color::default(), timing));
    }
    core
}

fn pick_and_offer(criterion: &mut Criterion) {
    // With a rate limit the sources wait for their due time, even if the limit is so high that it never holds one back.
    let limits = [
        ("no limit", Duration::ZERO),
        ("rate limited", Duration::from_nanos(1)),
    ];
    for (name, min_interval) in limits {
        let mut group = criterion.benchmark_group(format!("pick_and_offer, {name}"));
        for cameras in [1, 10, 100, 1000] {
            let mut now = Instant::now();
            let mut core = crowd(cameras, min_interval, now);
            group.bench_function(format!("{cameras} cameras"), |bench| {
                bench.iter(|| {
                    now += Duration::from_micros(1);
                    let Pick::Run(job) = core.pick(black_box(now), EngineId::LOCAL) else {
                        panic!("all of them wait");
                    };
                    core.finished(job.source, JobEnd::Inferred, job.skipped_frames);
                    core.offer(now, job.source, job.frame)
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, pick_and_offer);
criterion_main!(benches);
