//! Measures the path of a frame on a recorded stream: reordering and depacketizing alone, the same with decoding, and all of it from
//! packets to the text of the event, with the output that a model might give in place of inference.
//! `cargo bench --bench path --features vp8`

mod common;

use std::hint::black_box;
use std::time::{Duration, Instant};

use common::load;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use twinsight_media::access_unit::AccessUnit;
use twinsight_media::codec::Codec;
use twinsight_media::h264;
use twinsight_media::h264::parameter_sets::ParameterSets;
use twinsight_media::rtp::RtpPacket;
use twinsight_media::rtp::reorder::Reorder;
use twinsight_media::vp8;

/// One pass takes this many frames of a recording: five keyframe intervals.
const FRAMES: usize = 100;

fn units(packets: &[RtpPacket]) -> Vec<AccessUnit> {
    let mut of_h264 = h264::depacketize::Depacketizer::new(ParameterSets::default());
    let mut of_vp8 = vp8::depacketize::Depacketizer::new();
    let codec = packets[0].codec;
    let mut reorder = Reorder::new(Duration::from_millis(20));
    let mut units = Vec::new();
    for packet in packets {
        let now = packet.arrived_at;
        reorder.push(packet.clone());
        while let Some(ordered) = reorder.pop(now) {
            match codec {
                Codec::H264 => units.extend(of_h264.push(ordered)),
                Codec::Vp8 => units.extend(of_vp8.push(ordered)),
            }
        }
        if units.len() == FRAMES {
            break;
        }
    }
    units
}

fn packets_to_units(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("packets_to_units");
    group.throughput(Throughput::Elements(FRAMES as u64));
    for (name, codec) in [("pedestrians", Codec::H264), ("vp8", Codec::Vp8)] {
        let packets = load(name, codec, Instant::now());
        assert_eq!(units(&packets).len(), FRAMES);
        group.bench_function(name, |bench| {
            bench.iter(|| black_box(units(&packets)));
        });
    }
    group.finish();
}

fn units_to_frames(criterion: &mut Criterion) {
    use std::sync::Arc;

    use twinsight::telemetry::metrics::Metrics;
    use twinsight_client::clock::SystemClock;
    use twinsight_client::stream_id::StreamId;
    use twinsight_media::decode::decoder::DecoderKind;
    use twinsight_media::decode::stream::DecodeStream;

    let mut group = criterion.benchmark_group("units_to_frames");
    group.throughput(Throughput::Elements(FRAMES as u64));
    group.sample_size(10);
    let recordings = [
        ("pedestrians", Codec::H264),
        ("high", Codec::H264),
        ("high_b", Codec::H264),
        ("vp8", Codec::Vp8),
    ];
    let built_in = |(_, codec): &(&str, Codec)| Codec::built_in().contains(codec);
    for (name, codec) in recordings.into_iter().filter(built_in) {
        let units = units(&load(name, codec, Instant::now()));
        let ledger = Arc::new(Metrics::new()).stream_ledger(&StreamId::new("camera", "default"));
        let backlog = Duration::from_secs(3600);
        let mut stream = DecodeStream::new(
            ledger,
            Arc::new(SystemClock),
            DecoderKind::Software,
            backlog,
        );
        group.bench_function(name, |bench| {
            bench.iter(|| {
                for unit in &units {
                    stream.push(unit.clone(), unit.completed_at, &mut |frame| {
                        black_box(frame);
                    });
                }
            });
        });
    }
    group.finish();
}

fn packets_to_events(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("packets_to_events");
    group.throughput(Throughput::Elements(1));
    let recordings = [
        ("pedestrians", Codec::H264),
        ("high", Codec::H264),
        ("vp8", Codec::Vp8),
    ];
    let built_in = |(_, codec): &(&str, Codec)| Codec::built_in().contains(codec);
    for (name, codec) in recordings.into_iter().filter(built_in) {
        let mut node = whole::Node::new(name, codec);
        group.bench_function(name, |bench| bench.iter(|| node.next_event()));
    }
    group.finish();
}

mod whole {
    //! A node of one camera without its threads, socket and session.

    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use twinsight::clock::WallClock;
    use twinsight::detect::manifest::file::{Kind, OutputTable};
    use twinsight::detect::nms::suppress;
    use twinsight::detect::postprocess::{Array, Filter, Postprocessor, Scratch};
    use twinsight::preprocess::affine::ChannelAffine;
    use twinsight::preprocess::tensor::{Align, ChannelOrder, Fit};
    use twinsight::preprocess::{Picture, Placement, Preprocessor, TensorSpec};
    use twinsight::publish::event::{Inferred, ModelRef, SeenObject};
    use twinsight::schedule::scheduler::{
        EngineId, Job, JobEnd, Pick, SchedulerCore, SourceId, SourceSettings,
    };
    use twinsight::telemetry::metrics::Metrics;
    use twinsight_client::clock::SystemClock;
    use twinsight_client::stream_id::StreamId;
    use twinsight_media::codec::Codec;
    use twinsight_media::decode::decoder::DecoderKind;
    use twinsight_media::decode::path::{DecodeConfig, ReceivePath};
    use twinsight_media::rtp::Arrival;

    use crate::common::Playback;

    /// The edge of the default model's tensor, and below its anchors, which have strides of 8, 16 and 32.
    const SIDE: usize = 416;
    const ANCHORS: usize = 52 * 52 + 26 * 26 + 13 * 13;
    const CLASSES: usize = 80;

    /// A postprocessor for outputs of the default model.
    fn postprocessor() -> Postprocessor {
        let mut table = OutputTable::of(Kind::Yolo);
        table.predictions = Some("output0".to_owned());
        let output = table.resolve(std::path::Path::new("bench.toml"), CLASSES);
        Postprocessor::new(output.expect("the keys of its kind"), (SIDE, SIDE))
    }

    pub(crate) struct Node {
        playback: Playback,
        path: ReceivePath,
        core: SchedulerCore<()>,
        source: SourceId,
        preprocessor: Preprocessor,
        output: Vec<f32>,
        postprocessor: Postprocessor,
        filter: Filter,
        scratch: Scratch,
        labels: Vec<Arc<str>>,
        model: Arc<ModelRef>,
        id: StreamId,
        name: Arc<str>,
        sequence: u64,
    }

    /// An output whose scores are far below the threshold but for five persons, each of which four anchors see.
    fn output() -> Vec<f32> {
        let mut values = vec![0.01; (4 + CLASSES) * ANCHORS];
        for anchor in 0..20 {
            let person = (anchor / 4) as f32;
            let at = anchor * 101;
            for (row, value) in [40.0 + 80.0 * person, 200.0, 50.0, 120.0, 0.8]
                .into_iter()
                .enumerate()
            {
                values[row * ANCHORS + at] = value + anchor as f32 / 1000.0;
            }
        }
        values
    }

    impl Node {
        pub(crate) fn new(recording: &str, codec: Codec) -> Self {
            let metrics = Arc::new(Metrics::new());
            let id = StreamId::new("camera", "default");
            let config = DecodeConfig::new(
                metrics.stream_ledger(&id),
                Arc::new(SystemClock),
                DecoderKind::Software,
            );
            let mut core = SchedulerCore::default();
            let source = core.add(SourceSettings {
                min_interval: Duration::ZERO,
                max_age: Duration::from_millis(500),
                metrics: metrics.stream(&id),
                model: 0,
                work: (),
            });
            let labels: Vec<String> = (0..CLASSES).map(|n| format!("class {n}")).collect();
            Self {
                playback: Playback::new(recording, codec),
                path: ReceivePath::new(&config),
                core,
                source,
                preprocessor: Preprocessor::new(TensorSpec {
                    width: SIDE,
                    height: SIDE,
                    order: ChannelOrder::Rgb,
                    affine: [ChannelAffine {
                        gain: 1.0 / 255.0,
                        bias: 0.0,
                    }; 3],
                    fit: Fit::Letterbox {
                        align: Align::TopLeft,
                        pad: 0,
                    },
                }),
                output: output(),
                postprocessor: postprocessor(),
                filter: Filter::new(&labels),
                scratch: Scratch::default(),
                labels: labels.iter().map(|label| Arc::from(&**label)).collect(),
                model: Arc::new(ModelRef {
                    name: "nanodet_g_coco".to_owned(),
                    sha256: Some("0".repeat(64)),
                    keypoint_names: Arc::new([]),
                }),
                id,
                name: "Front door".into(),
                sequence: 0,
            }
        }

        /// Runs the path from the first packet of a frame to the text of its event.
        pub(crate) fn next_event(&mut self) -> String {
            loop {
                let now = Instant::now();
                let packet = self.playback.next(now);
                self.path.take(Arrival::Rtp(packet));
                let (core, source) = (&mut self.core, self.source);
                while self.path.step(now, &mut |frame| {
                    core.offer(now, source, frame);
                }) {}
                if let Pick::Run(job) = self.core.pick(now, EngineId::LOCAL) {
                    return self.detect(&job);
                }
            }
        }

        fn detect(&mut self, job: &Job<()>) -> String {
            let started_at = Instant::now();
            let placement = self
                .preprocessor
                .run(&Picture::I420(job.frame.planes()))
                .expect("a frame is whole");
            let preprocessed_at = Instant::now();
            let objects = self.objects(&placement);
            let finished_at = Instant::now();
            self.core
                .finished(job.source, JobEnd::Inferred, job.skipped_frames);
            let inferred = Inferred {
                id: self.id.clone(),
                name: Arc::clone(&self.name),
                size: job.frame.size(),
                timing: job.frame.timing(),
                started_at,
                preprocess: preprocessed_at - started_at,
                inference: Duration::ZERO,
                postprocess: finished_at - preprocessed_at,
                finished_at,
                objects,
                model: Arc::clone(&self.model),
                skipped_frames: job.skipped_frames,
                max_skip: None,
                trace: None,
            };
            self.sequence += 1;
            let event = inferred.event("8f1c0d2e", self.sequence, &WallClock::read());
            serde_json::to_string(&event).expect("the event serialises")
        }

        fn objects(&mut self, placement: &Placement) -> Vec<SeenObject> {
            let dims = [1, 4 + CLASSES as i64, ANCHORS as i64];
            let array = Array {
                name: "output0",
                dims: &dims,
                values: &self.output,
            };
            self.filter.set(0.4, &[]);
            self.postprocessor
                .candidates(&[array], &self.filter, &mut self.scratch)
                .expect("the shape fits");
            suppress(&mut self.scratch.candidates, 0.6);
            let place = |candidate: &twinsight::detect::nms::Candidate| {
                let corners = placement.to_picture(&candidate.corners);
                SeenObject {
                    label: Arc::clone(&self.labels[candidate.class_id]),
                    class_id: candidate.class_id,
                    score: candidate.score,
                    x: corners.x1,
                    y: corners.y1,
                    width: corners.x2 - corners.x1,
                    height: corners.y2 - corners.y1,
                    keypoints: Vec::new(),
                    outline: Vec::new(),
                    following: None,
                }
            };
            self.scratch.candidates.iter().map(place).collect()
        }
    }
}

criterion_group!(
    benches,
    packets_to_units,
    units_to_frames,
    packets_to_events
);
criterion_main!(benches);
