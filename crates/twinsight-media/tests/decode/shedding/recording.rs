//! A recording with B pictures to which no other refers, decoded for real, while its decoding is said to take longer than
//! there is time: whatever is left out, each picture that comes is the one that comes without shedding.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use twinsight_media::clock::ManualClock;
use twinsight_media::decode::cpu_pressure::CpuPressure;
use twinsight_media::decode::decoder::DecoderKind;
use twinsight_media::decode::gate::KeyframeReason;
use twinsight_media::decode::path::{DecodeConfig, ReceivePath};
use twinsight_media::ledger::StreamLedger;
use twinsight_media::ledger::{ShedLevel, UnitDrop};
use twinsight_media::rtp::{Arrival, RtpPacket, RtpTimestamp, SequenceNumber};

use crate::recording::{FRAME_TIME, KEYFRAME_INTERVAL, Recording, sha256};

/// From one repetition to the next, and from picture to picture.
const TICKS: u32 = 3000;

struct Player {
    recording: Recording,
    path: ReceivePath,
    ledger: Arc<StreamLedger>,
    start: Instant,
    now: Instant,
    /// Units that came.
    units: u32,
    sequence: SequenceNumber,
    /// Pictures that came since they were last asked for, in the order of display: of the whole, and of the recording.
    shown: Vec<(u32, usize)>,
    requests: Vec<KeyframeReason>,
    cpu_pressure: Arc<CpuPressure>,
    /// How long decoding starves runs of inference, told with every unit.
    inference_waits: Duration,
}

impl Player {
    fn new() -> Self {
        let now = Instant::now();
        let clock = Arc::new(ManualClock::at(now));
        let config = DecodeConfig::new(Arc::default(), clock, DecoderKind::Software);
        Self {
            recording: Recording::load("high_b"),
            path: ReceivePath::new(&config),
            ledger: config.ledger,
            start: now,
            now,
            units: 0,
            sequence: SequenceNumber(0),
            shown: Vec::new(),
            requests: Vec::new(),
            cpu_pressure: config.cpu_pressure,
            inference_waits: Duration::ZERO,
        }
    }

    /// Plays the recording over and over for so many times, while a unit takes so long.
    fn play(&mut self, times: u32, cost: Duration) {
        for _ in 0..times {
            let first = self.recording.packets[0].timestamp;
            let round = self.units;
            let units: Vec<Vec<RtpPacket>> = self
                .recording
                .units()
                .into_iter()
                .map(<[_]>::to_vec)
                .collect();
            for unit in units {
                let arrived_at = self.start + FRAME_TIME * self.units;
                self.units += 1;
                self.now = self.now.max(arrived_at);
                self.cpu_pressure.tell(self.inference_waits, self.now);
                for packet in unit {
                    self.sequence = self.sequence.wrapping_add(1);
                    self.path.take(Arrival::Rtp(RtpPacket {
                        sequence: self.sequence,
                        timestamp: RtpTimestamp(round * TICKS)
                            .wrapping_add(packet.timestamp.ticks_since(first).cast_unsigned()),
                        arrived_at,
                        ..packet
                    }));
                    self.work(cost);
                }
            }
        }
    }

    fn work(&mut self, cost: Duration) {
        let let_through =
            |ledger: &StreamLedger| ledger.units_received() - ledger.all_units_dropped();
        loop {
            let before = let_through(&self.ledger);
            let (recording, shown) = (&self.recording, &mut self.shown);
            let more = self.path.step(self.now, &mut |frame| {
                let index = frame.timing().rtp_timestamp.0 / TICKS;
                let of_recording = usize::try_from(index).unwrap() % recording.sha256.len();
                assert_eq!(
                    sha256(&frame),
                    recording.sha256[of_recording],
                    "picture {index} differs from the one without shedding"
                );
                shown.push((index, of_recording));
            });
            if let_through(&self.ledger) > before {
                self.now += cost;
            }
            self.requests.extend(self.path.keyframe_request(self.now));
            if !more {
                return;
            }
        }
    }

    /// Pictures of the recording that came, and a check that they came in order.
    fn shown(&mut self) -> BTreeSet<usize> {
        let shown = std::mem::take(&mut self.shown);
        assert!(shown.is_sorted(), "pictures come in the order of display");
        shown.into_iter().map(|(_, index)| index).collect()
    }

    fn shed(&self) -> u64 {
        self.ledger.units_dropped(UnitDrop::Shed)
    }
}

#[test]
fn without_pictures_to_which_none_refers_the_others_are_what_they_were() {
    let mut player = Player::new();
    player.play(2, FRAME_TIME.mul_f64(1.3));
    assert_eq!(player.ledger.shed_level(), ShedLevel::ReferencesOnly);
    player.shown();
    let shed_before = player.shed();
    player.play(5, FRAME_TIME.mul_f64(1.3));
    assert_eq!(player.ledger.shed_level(), ShedLevel::ReferencesOnly);
    assert_eq!(player.shed() - shed_before, 200, "40 of 100 units, 5 times");
    assert_eq!(player.shown().len(), 60);
    assert_eq!(player.ledger.units_dropped(UnitDrop::DecodeBacklog), 0);
    assert!(player.requests.is_empty(), "nothing is missed");

    // The load goes, and all pictures come again without a keyframe that was asked for.
    player.play(20, FRAME_TIME / 10);
    assert_eq!(player.ledger.shed_level(), ShedLevel::None);
    player.shown();
    player.play(2, FRAME_TIME / 10);
    assert_eq!(player.shown().len(), 100);
    assert!(player.requests.is_empty());
    close(player);
}

#[test]
fn keyframes_alone_and_back_break_no_picture() {
    let mut player = Player::new();
    player.play(2, FRAME_TIME * 3);
    assert_eq!(player.ledger.shed_level(), ShedLevel::KeyframesOnly);
    player.shown();
    player.play(3, FRAME_TIME * 3);
    let keyframes: BTreeSet<usize> = (0..100).step_by(KEYFRAME_INTERVAL).collect();
    assert_eq!(player.shown(), keyframes);

    player.play(30, FRAME_TIME / 10);
    assert_eq!(player.ledger.shed_level(), ShedLevel::None);
    assert_eq!(player.requests.last(), Some(&KeyframeReason::Resuming));
    player.shown();
    player.play(2, FRAME_TIME / 10);
    assert_eq!(player.shown().len(), 100);
    close(player);
}

/// What is decoded at the cost of inference is of no use, however punctual decoding is.
#[test]
fn decoding_makes_room_for_inference_that_waits() {
    let mut player = Player::new();
    player.inference_waits = Duration::from_millis(90);
    player.play(5, FRAME_TIME / 10);
    assert_eq!(player.ledger.shed_level(), ShedLevel::None);

    player.inference_waits = Duration::from_millis(300);
    player.play(2, FRAME_TIME / 10);
    assert_eq!(player.ledger.shed_level(), ShedLevel::KeyframesOnly);
    player.shown();
    player.play(10, FRAME_TIME / 10);
    let keyframes: BTreeSet<usize> = (0..100).step_by(KEYFRAME_INTERVAL).collect();
    assert_eq!(player.shown(), keyframes);

    player.inference_waits = Duration::ZERO;
    player.play(30, FRAME_TIME / 10);
    assert_eq!(player.ledger.shed_level(), ShedLevel::None);
    close(player);
}

#[test]
fn a_camera_that_goes_away_sheds_nothing() {
    let mut player = Player::new();
    player.play(2, FRAME_TIME * 3);
    assert_eq!(player.ledger.shed_level(), ShedLevel::KeyframesOnly);
    let gone_at = loop {
        let at = player.path.deadline().expect("the end of the level");
        player.now = player.now.max(at);
        assert!(player.now < player.start + Duration::from_secs(60));
        player.work(Duration::ZERO);
        if player.ledger.shed_level() == ShedLevel::None {
            break player.now;
        }
    };
    let last = player.start + FRAME_TIME * (player.units - 1);
    let after = gone_at - last;
    assert!((10.0..15.0).contains(&after.as_secs_f64()), "{after:?}");
    close(player);
}

fn close(mut player: Player) {
    player.path.finish(player.now);
    let ledger = &player.ledger;
    assert_eq!(
        ledger.units_held(),
        0,
        "the ledger of access units balances"
    );
    assert_eq!(ledger.units_received(), u64::from(player.units));
    assert_eq!(player.ledger.shed_level(), ShedLevel::None);
}
