//! The queue and the thread of one stream: clean input, a huge keyframe in one burst on a busy
//! machine, a full queue, and stopping with units in flight.
#![allow(
    clippy::unwrap_used,
    reason = "a test's helper has nobody to tell but the test"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::recording::{Recording, sha256};
use openh264::OpenH264API;
use openh264::encoder::{BitRate, Encoder, EncoderConfig, FrameRate, QpRange, RateControlMode};
use openh264::formats::YUVBuffer;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use twinsight_client::clock::SystemClock;
use twinsight_client::media::worker::{
    Arrival, ArrivalQueue, DecodeConfig, DecodeParts, DecodeWorker,
};
use twinsight_client::stream_id::StreamId;
use twinsight_client::thread::spawn_named;
use twinsight_media::codec::Codec;
use twinsight_media::decode::decoder::DecoderKind;
use twinsight_media::decode::gate::KeyframeReason;
use twinsight_media::h264::packetize::packetize;
use twinsight_media::ledger::UnitDrop;
use twinsight_media::picture::{Frame, PictureSize};
use twinsight_media::rtp::RtpPacket;

const PATIENCE: Duration = Duration::from_secs(20);

struct Running {
    queue: Arc<ArrivalQueue>,
    worker: DecodeWorker,
    frames: Receiver<Frame>,
    requests: Receiver<KeyframeReason>,
    config: DecodeConfig,
}

fn start(decoder: DecoderKind, queue: ArrivalQueue) -> Running {
    start_with(decoder, queue, |_| {})
}

fn start_with(
    decoder: DecoderKind,
    queue: ArrivalQueue,
    mut inspect: impl FnMut(&Frame) + Send + 'static,
) -> Running {
    let mut config = DecodeConfig::new(Arc::default(), Arc::new(SystemClock), decoder);
    // Here the machine may be busy with other tests.
    config.max_backlog = PATIENCE;
    let queue = Arc::new(queue);
    let (frame_in, frames) = channel();
    let (request_in, requests) = channel();
    let parts = DecodeParts {
        id: StreamId::new("camera", "default"),
        config: config.clone(),
        on_frame: Box::new(move |frame| {
            inspect(&frame);
            frame_in.send(frame).unwrap_or_default();
        }),
        request_keyframe: Box::new(move |reason| request_in.send(reason).unwrap_or_default()),
    };
    let worker = DecodeWorker::spawn(parts, Arc::clone(&queue)).unwrap();
    Running {
        queue,
        worker,
        frames,
        requests,
        config,
    }
}

fn push(queue: &ArrivalQueue, packet: &RtpPacket) -> bool {
    queue.push(Arrival::Rtp(RtpPacket {
        arrived_at: Instant::now(),
        ..packet.clone()
    }))
}

#[test]
fn a_clean_recording_comes_out_whole() {
    let recording = Recording::load("pedestrians");
    let running = start(DecoderKind::Software, ArrivalQueue::default());
    // 2026-01-01T00:00:00Z at the first timestamp.
    let report = Arrival::SenderReport {
        ntp: (1_767_225_600 + 2_208_988_800) << 32,
        rtp_timestamp: recording.packets[0].timestamp,
        arrived_at: Instant::now(),
    };
    assert!(running.queue.push(report));
    for (i, unit) in recording.units().into_iter().take(60).enumerate() {
        for packet in unit {
            assert!(push(&running.queue, packet));
        }
        let frame = running.frames.recv_timeout(PATIENCE).unwrap();
        assert_eq!(sha256(&frame), recording.sha256[i]);
        let captured_at = 1_767_225_600_000 + u64::try_from(i).unwrap() * 100 / 3;
        assert_eq!(frame.timing().captured_at_unix_ms, Some(captured_at));
    }
    running.worker.stop();
    assert_eq!(running.config.ledger.units_held(), 0);
    assert!(running.requests.try_recv().is_err());
}

#[test]
fn a_decoder_that_panics_begins_anew_and_its_units_are_accounted_for() {
    // Its B frames make the decoder hold units when the panic comes.
    let recording = Recording::load("high_b");
    let mut seen = 0;
    let running = start_with(DecoderKind::Software, ArrivalQueue::default(), move |_| {
        seen += 1;
        assert_ne!(seen, 10, "this panic is the test's");
    });
    for packet in &recording.packets {
        assert!(push(&running.queue, packet));
    }
    while running.config.ledger.path_restarts() == 0 {
        assert!(running.frames.recv_timeout(PATIENCE).is_ok());
    }
    running.worker.stop();
    assert!(running.config.ledger.units_dropped(UnitDrop::Reset) > 0);
    assert_eq!(running.config.ledger.units_held(), 0);
}

#[test]
fn an_idr_of_600_packets_in_one_burst_decodes_on_a_busy_machine() {
    let payloads = packetize(&noise_idr(), 1200);
    assert!(payloads.len() >= 600, "{} packets", payloads.len());
    let busy = Arc::new(AtomicBool::new(true));
    let cores = std::thread::available_parallelism().unwrap().get();
    let spinning: Vec<_> = (0..cores)
        .map(|i| {
            let busy = Arc::clone(&busy);
            spawn_named(format!("busy-{i}"), move || {
                while busy.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();
    let running = start(DecoderKind::Software, ArrivalQueue::default());
    for (i, payload) in payloads.iter().enumerate() {
        let packet = RtpPacket {
            sequence: u16::try_from(i).unwrap().wrapping_sub(300).into(),
            timestamp: 5.into(),
            marker: i + 1 == payloads.len(),
            ssrc: 7.into(),
            codec: Codec::H264,
            payload: payload.clone(),
            arrived_at: Instant::now(),
        };
        assert!(push(&running.queue, &packet));
    }
    let frame = running.frames.recv_timeout(PATIENCE);
    busy.store(false, Ordering::Relaxed);
    drop(spinning);
    assert_eq!(
        frame.unwrap().size(),
        PictureSize {
            width_px: 1920,
            height_px: 1080
        }
    );
    running.worker.stop();
    assert_eq!(running.config.ledger.packets_lost(), 0);
    assert_eq!(running.config.ledger.units_held(), 0);
}

#[test]
fn a_full_queue_is_a_loss_that_asks_for_a_keyframe() {
    let recording = Recording::load("pedestrians");
    let units = recording.units();
    let running = start(DecoderKind::Software, ArrivalQueue::new(40_000));
    // More than fits, at once: the thread cannot be quick enough to make room for all of it.
    let mut refused = 0;
    for packet in units[..400].iter().copied().flatten() {
        refused += u64::from(!push(&running.queue, packet));
    }
    assert!(refused > 0);
    assert_eq!(running.queue.overflowed(), refused);
    let reason = running.requests.recv_timeout(PATIENCE).unwrap();
    assert!(
        matches!(reason, KeyframeReason::Loss | KeyframeReason::Start),
        "{reason:?}"
    );
    // It goes on with the next keyframe, whatever was dropped before.
    for (i, unit) in units[400..440].iter().enumerate() {
        for packet in *unit {
            while !push(&running.queue, packet) {
                std::thread::yield_now();
            }
        }
        if i % 20 == 0 {
            let timestamp = unit[0].timestamp;
            while running
                .frames
                .recv_timeout(PATIENCE)
                .unwrap()
                .timing()
                .rtp_timestamp
                != timestamp
            {}
        }
    }
    running.worker.stop();
    assert_eq!(running.config.ledger.units_held(), 0);
}

#[test]
fn what_is_in_flight_at_the_stop_is_counted() {
    let recording = Recording::load("pedestrians");
    let size = PictureSize {
        width_px: 16,
        height_px: 16,
    };
    let running = start(DecoderKind::Fake(size), ArrivalQueue::default());
    let units = recording.units();
    for packet in units[0] {
        push(&running.queue, packet);
    }
    assert_eq!(running.frames.recv_timeout(PATIENCE).unwrap().size(), size);
    // A hole, the rest of a unit and two whole ones behind it, another hole, and one without its end.
    for packet in units[20][1..]
        .iter()
        .chain(units[21])
        .chain(units[22])
        .chain(&units[40][..3])
    {
        push(&running.queue, packet);
    }
    running.worker.stop();
    let ledger = running.config.ledger;
    assert_eq!(ledger.units_held(), 0);
    assert_eq!((ledger.units_received(), ledger.frames_decoded()), (5, 1));
    assert!(ledger.units_dropped(UnitDrop::Shutdown) >= 1);
    assert!(!push(&running.queue, &units[3][0]));
}

/// An IDR picture of 1080p, large enough for a burst of 600 packets: a ramp under noise, since the
/// encoder's buffer is too small for noise alone.
fn noise_idr() -> Vec<u8> {
    let (width, height) = (1920, 1080);
    let mut yuv = vec![0; width * height * 3 / 2];
    StdRng::seed_from_u64(3).fill_bytes(&mut yuv);
    for sample in &mut yuv {
        *sample = 100 + *sample / 4;
    }
    let config = EncoderConfig::new()
        .bitrate(BitRate::from_bps(50_000_000))
        .max_frame_rate(FrameRate::from_hz(15.0))
        .rate_control_mode(RateControlMode::Off)
        .skip_frames(false)
        .qp(QpRange::new(30, 30));
    let mut encoder = Encoder::with_api_config(OpenH264API::from_source(), config).unwrap();
    let picture = YUVBuffer::from_vec(yuv, width, height);
    encoder.encode(&picture).unwrap().to_vec()
}
