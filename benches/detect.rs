//! Measures what surrounds inference: preprocessing, reading the outputs, and non-maximum suppression.
//! `cargo bench --bench detect`

use std::hint::black_box;
use std::path::Path;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use twinsight::detect::manifest::file::{Kind, OutputTable};
use twinsight::detect::nms::suppress;
use twinsight::detect::postprocess::{Array, Filter, Postprocessor, Scratch};
use twinsight::preprocess::affine::ChannelAffine;
use twinsight::preprocess::tensor::{Align, ChannelOrder, Fit};
use twinsight::preprocess::{Picture, Preprocessor, TensorSpec};
use twinsight_media::picture::{Color, I420, PictureSize};

/// Gives pseudo-random numbers from 0 to 1, which are the same at every run.
fn noise(count: usize) -> Vec<f32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 16_777_216.0
    };
    (0..count).map(|_| next()).collect()
}

fn preprocess(c: &mut Criterion) {
    let letterbox = Fit::Letterbox {
        align: Align::TopLeft,
        pad: 0,
    };
    let cases = [
        ("720p to 640 letterbox", (1280, 720), 640, letterbox),
        ("720p to 416 letterbox", (1280, 720), 416, letterbox),
        ("720p to 300 stretch", (1280, 720), 300, Fit::Stretch),
        ("768x576 to 416 letterbox", (768, 576), 416, letterbox),
        ("1080p to 640 letterbox", (1920, 1080), 640, letterbox),
        ("1080p to 416 letterbox", (1920, 1080), 416, letterbox),
        ("1080p to 300 stretch", (1920, 1080), 300, Fit::Stretch),
    ];
    let mut group = c.benchmark_group("preprocess");
    for (name, (width_px, height_px), side, fit) in cases {
        let size = PictureSize {
            width_px,
            height_px,
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0..1 times 255"
        )]
        let bytes: Vec<u8> = noise(size.i420_bytes())
            .into_iter()
            .map(|value| (value * 255.0) as u8)
            .collect();
        let mut preprocessor = Preprocessor::new(TensorSpec {
            width: side,
            height: side,
            order: ChannelOrder::Rgb,
            affine: [ChannelAffine {
                gain: 1.0 / 255.0,
                bias: 0.0,
            }; 3],
            fit,
        });
        group.bench_function(name, |b| {
            b.iter(|| {
                let planes = I420::from_packed(black_box(&bytes), size, Color::default());
                preprocessor.run(&Picture::I420(planes))
            });
        });
    }
    group.finish();
}

/// A postprocessor for outputs of these names, of a model with 80 classes and this side of its input.
fn postprocessor(kind: Kind, side: usize) -> Postprocessor {
    let mut table = OutputTable::of(kind);
    match kind {
        Kind::Ssd => {
            table.boxes = Some("boxes".to_owned());
            table.scores = Some("scores".to_owned());
        }
        _ => table.predictions = Some("output0".to_owned()),
    }
    let output = table.resolve(Path::new("bench.toml"), 80);
    Postprocessor::new(output.expect("the keys of its kind"), (side, side))
}

fn postprocess(c: &mut Criterion) {
    let labels: Vec<String> = (0..80).map(|class| format!("class {class}")).collect();
    let mut filter = Filter::new(&labels);
    let mut scratch = Scratch::default();
    let mut group = c.benchmark_group("postprocess");

    // As with real pictures, nearly all scores are far below the threshold, and some 200 candidates are above it.
    let mut yolo_values = noise(84 * 8400);
    for (index, value) in yolo_values.iter_mut().enumerate() {
        *value *= match index / 8400 {
            0..=1 => 640.0,
            2..=3 => 100.0,
            _ => 0.4,
        };
    }
    for anchor in (0..8400).step_by(40) {
        yolo_values[(4 + anchor % 5) * 8400 + anchor] += 0.5;
    }
    let dims = [1, 84, 8400];
    let array = Array {
        name: "output0",
        dims: &dims,
        values: &yolo_values,
    };
    filter.set(0.4, &[]);
    let yolo = postprocessor(Kind::Yolo, 640);
    group.bench_function("yolo 8400x80", |b| {
        b.iter(|| {
            yolo.candidates(&[black_box(array)], &filter, &mut scratch)
                .map(|()| scratch.candidates.len())
        });
    });
    let candidates = scratch.candidates.clone();
    let label = format!("nms of {} of 8400x80", candidates.len());
    group.bench_function(label, |b| {
        b.iter_batched_ref(
            || candidates.clone(),
            |candidates| suppress(candidates, 0.6),
            BatchSize::SmallInput,
        );
    });

    // This is the worst case of a threshold of 0, where every anchor is a candidate.
    filter.set(0.0, &[]);
    yolo.candidates(&[array], &filter, &mut scratch)
        .expect("the shape fits");
    let candidates = scratch.candidates.clone();
    let label = format!("nms of {} of 8400x80", candidates.len());
    group.bench_function(label, |b| {
        b.iter_batched_ref(
            || candidates.clone(),
            |candidates| suppress(candidates, 0.6),
            BatchSize::SmallInput,
        );
    });

    let scores = noise(1917 * 80)
        .into_iter()
        .map(|score| score * 0.39)
        .collect::<Vec<_>>();
    let boxes = noise(1917 * 4);
    let (score_dims, box_dims) = ([1, 1917, 80], [1, 1917, 1, 4]);
    let scores = Array {
        name: "scores",
        dims: &score_dims,
        values: &scores,
    };
    let boxes = Array {
        name: "boxes",
        dims: &box_dims,
        values: &boxes,
    };
    filter.set(0.4, &[]);
    let ssd = postprocessor(Kind::Ssd, 300);
    group.bench_function("ssd 1917x80", |b| {
        b.iter(|| {
            ssd.candidates(&[black_box(scores), boxes], &filter, &mut scratch)
                .map(|()| scratch.candidates.len())
        });
    });
    group.finish();
}

criterion_group!(benches, preprocess, postprocess);
criterion_main!(benches);
