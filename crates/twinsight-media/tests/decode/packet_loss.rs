//! Loss, reordering and duplicates on a recorded stream: every picture that comes out is the one that
//! comes out without loss, every picture that can come does, and every unit is counted.
#![cfg(feature = "openh264")]
#![allow(
    clippy::unwrap_used,
    reason = "a test's helper has nobody to tell but the test"
)]

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::LazyLock;
use std::time::Duration;

use crate::recording::{FRAME_TIME, KEYFRAME_INTERVAL, Recording, Simulation, quick_hash, sha256};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use twinsight_media::ledger::UnitDrop;
use twinsight_media::rtp::reorder::MAX_WAIT;
use twinsight_media::rtp::{RtpPacket, RtpTimestamp, SequenceNumber};

/// A recording, and the quick hash of each picture decoded without loss, by RTP timestamp. ffmpeg's
/// decode of the same stream vouches for them.
type Reference = (Recording, HashMap<RtpTimestamp, u64>);

static H264: LazyLock<Reference> = LazyLock::new(|| reference("pedestrians"));
#[cfg(feature = "vp8")]
static VP8: LazyLock<Reference> = LazyLock::new(|| reference("vp8"));

fn reference(name: &str) -> Reference {
    let recording = Recording::load(name);
    let mut hashes = HashMap::new();
    let mut simulation = Simulation::new();
    simulation.play(&recording.packets, &mut |frame| {
        let timestamp = frame.timing().rtp_timestamp;
        let index = recording.index[&timestamp];
        assert_eq!(
            sha256(&frame),
            recording.sha256[index],
            "picture {index} against ffmpeg's"
        );
        hashes.insert(timestamp, quick_hash(&frame));
    });
    assert_eq!(hashes.len(), recording.sha256.len());
    let all = u64::try_from(hashes.len()).unwrap();
    assert_eq!(simulation.close(), (all, all));
    (recording, hashes)
}

/// What the network does to packets.
struct Network {
    loss: f64,
    /// How many packets in a row a loss takes, at most.
    burst: u32,
    /// A lost packet is sent once more, and may be lost again.
    retransmits: bool,
}

#[test]
fn a_recording_is_long_enough_and_decodes_as_ffmpeg_says() {
    let (recording, hashes) = &*H264;
    assert!(
        recording.packets.len() >= 4000,
        "{}",
        recording.packets.len()
    );
    assert_eq!(hashes.len(), 795);
}

#[test]
fn five_percent_lost_for_good() {
    for seed in 1..=4 {
        run(
            &H264,
            seed,
            &Network {
                loss: 0.05,
                burst: 1,
                retransmits: false,
            },
        );
    }
}

#[test]
fn five_percent_lost_and_asked_for_again() {
    for seed in 11..=13 {
        run(
            &H264,
            seed,
            &Network {
                loss: 0.05,
                burst: 1,
                retransmits: true,
            },
        );
    }
}

#[test]
fn bursts_that_take_whole_units() {
    for seed in 31..=34 {
        run(
            &H264,
            seed,
            &Network {
                loss: 0.006,
                burst: 15,
                retransmits: false,
            },
        );
    }
}

#[test]
fn reordering_and_duplicates_alone_cost_nothing() {
    let decoded = run(
        &H264,
        21,
        &Network {
            loss: 0.0,
            burst: 1,
            retransmits: false,
        },
    );
    assert_eq!(decoded, 795);
}

#[cfg(feature = "vp8")]
#[test]
fn vp8_with_singles_and_bursts_lost_and_reordered() {
    let networks = [
        (0.01, 1, false),
        (0.05, 1, false),
        (0.05, 1, true),
        (0.006, 15, false),
    ];
    for (loss, burst, retransmits) in networks {
        for seed in 41..=44 {
            let network = Network {
                loss,
                burst,
                retransmits,
            };
            run(&VP8, seed, &network);
        }
    }
    let quiet = Network {
        loss: 0.0,
        burst: 1,
        retransmits: false,
    };
    assert_eq!(run(&VP8, 45, &quiet), 160);
}

fn run((recording, hashes): &Reference, seed: u64, network: &Network) -> u64 {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut arrivals: Vec<(Duration, &RtpPacket)> = Vec::new();
    let mut lost: HashSet<SequenceNumber> = HashSet::new();
    let mut burst_left = 0;
    for (i, unit) in recording.units().into_iter().enumerate() {
        let sent = FRAME_TIME * u32::try_from(i).unwrap();
        for (k, packet) in unit.iter().enumerate() {
            let sent = sent + Duration::from_micros(200) * u32::try_from(k).unwrap();
            let mut at = sent + Duration::from_millis(10);
            // The stream's first and last packets come as they are, so that every loss can be seen.
            let edge = i == 0 && k == 0 || i + 1 == recording.sha256.len();
            let hit = rng.random_bool(network.loss);
            if hit && burst_left == 0 {
                burst_left = rng.random_range(1..=network.burst);
            }
            if !edge && burst_left > 0 {
                burst_left -= 1;
                if !network.retransmits || rng.random_bool(network.loss) {
                    lost.insert(packet.sequence);
                    continue;
                }
                at += Duration::from_millis(25);
            } else if !edge && rng.random_bool(0.1) {
                at += Duration::from_micros(rng.random_range(0..35_000));
            }
            arrivals.push((at, packet));
            if rng.random_bool(0.03) {
                arrivals.push((
                    at + Duration::from_micros(rng.random_range(0..40_000)),
                    packet,
                ));
            }
        }
    }
    let first = recording.packets[0].timestamp;
    arrivals.sort_by_key(|(at, _)| *at);
    assert!(
        !arrivals.is_sorted_by_key(|(_, packet)| packet.timestamp.ticks_since(first)),
        "packets are reordered"
    );

    let mut shown: HashSet<RtpTimestamp> = HashSet::new();
    let mut on_frame = |frame: twinsight_media::picture::Frame| {
        let timing = frame.timing();
        assert_eq!(
            quick_hash(&frame),
            hashes[&timing.rtp_timestamp],
            "seed {seed}: picture {} differs from the one without loss",
            recording.index[&timing.rtp_timestamp]
        );
        assert!(
            timing.received_at <= timing.completed_at && timing.completed_at <= timing.decoded_at
        );
        assert!(shown.insert(timing.rtp_timestamp), "a picture comes once");
    };
    let mut simulation = Simulation::new();
    let start = simulation.now;
    for (at, packet) in &arrivals {
        simulation.advance_to(start + *at, &mut on_frame);
        simulation.arrive(packet, &mut on_frame);
    }
    let end = simulation.now + MAX_WAIT;
    simulation.advance_to(end, &mut on_frame);

    // What can come, by a model that knows what was lost: from a whole keyframe to the next loss.
    let units = recording.units();
    let whole = |i: usize| {
        units[i]
            .iter()
            .all(|packet| !lost.contains(&packet.sequence))
    };
    let mut decoding = false;
    for (i, unit) in units.iter().enumerate() {
        decoding = whole(i) && (decoding || i % KEYFRAME_INTERVAL == 0);
        let came = shown.contains(&unit[0].timestamp);
        assert_eq!(
            came,
            decoding,
            "seed {seed}: picture {i} of a keyframe at {}",
            i % KEYFRAME_INTERVAL
        );
        // Within one keyframe interval of a loss there is a picture, unless more was lost in it.
        if !whole(i) {
            let next = (i + 1).next_multiple_of(KEYFRAME_INTERVAL);
            assert!(
                next >= units.len() || !whole(next) || shown.contains(&units[next][0].timestamp)
            );
        }
    }

    let ledger = Arc::clone(&simulation.config.ledger);
    let asked = simulation.requests.len();
    let (received, decoded) = simulation.close();
    let some_came =
        |unit: &&[RtpPacket]| unit.iter().any(|packet| !lost.contains(&packet.sequence));
    let closed = units.iter().copied().filter(|unit| some_came(unit)).count();
    assert_eq!(received, u64::try_from(closed).unwrap());
    assert_eq!(decoded, u64::try_from(shown.len()).unwrap());
    assert_eq!(ledger.packets_lost(), u64::try_from(lost.len()).unwrap());
    assert_eq!(
        ledger.packets_received(),
        u64::try_from(arrivals.len()).unwrap()
    );
    let dropped = [UnitDrop::Incomplete, UnitDrop::AwaitingKeyframe]
        .map(|reason| ledger.units_dropped(reason));
    assert_eq!(
        received,
        decoded + dropped.iter().sum::<u64>(),
        "no other reason applies"
    );
    let broken = (0..units.len())
        .filter(|&i| !whole(i) && some_came(&units[i]))
        .count();
    assert_eq!(
        dropped[0],
        u64::try_from(broken).unwrap(),
        "incomplete units are known as such"
    );
    assert_eq!(asked == 0, lost.is_empty());
    decoded
}
