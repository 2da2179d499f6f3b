use proptest::prelude::*;

use super::*;

/// A core whose frames and pictures are numbers, with a clock that the test moves.
struct Rig {
    core: Core<u64, u64>,
    now: Instant,
}

const WIDTH_PX: usize = 1280;

fn stream(n: usize) -> StreamId {
    StreamId::new(format!("cam-{n}"), "default")
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn wish(width_px: u32) -> Wish {
    Wish::new(Some(width_px), false, MAX_FPS)
}

impl Rig {
    fn new() -> Self {
        Self {
            core: Core::default(),
            now: Instant::now(),
        }
    }

    /// Opens a watch whose owner waits for a picture.
    fn open(&mut self, streams: &[usize], wish: Wish) -> WatchId {
        let streams = streams.iter().map(|n| stream(*n));
        let id = self.core.open(streams, wish, self.now).unwrap();
        self.core.set_waiting(id, true);
        id
    }

    fn offer(&mut self, n: usize, frame: u64) -> Option<Missed> {
        self.core.offer(&stream(n), frame, WIDTH_PX, self.now).1
    }

    /// Encodes whatever there is to encode, and gives the frames in their order.
    fn encode_all(&mut self) -> Vec<u64> {
        let mut encoded = Vec::new();
        while let Some(task) = self.core.task(self.now) {
            self.core.made(&task, Some(task.frame), self.now);
            encoded.push(task.frame);
        }
        encoded
    }

    fn poll(&mut self, id: WatchId) -> Option<u64> {
        match self.core.poll(id, self.now) {
            Poll::Picture(picture) => Some(picture),
            Poll::Wait(_) => None,
        }
    }
}

#[test]
fn a_watch_gets_the_newest_frame_and_never_one_twice() {
    let mut rig = Rig::new();
    let watch = rig.open(&[1], wish(320));
    for frame in 1..=3 {
        rig.offer(1, frame);
    }
    assert_eq!(rig.encode_all(), [3]);
    assert_eq!(rig.poll(watch), Some(3));
    rig.now += ms(1000);
    assert_eq!(rig.poll(watch), None);
    assert_eq!(rig.encode_all(), [0; 0]);
}

#[test]
fn a_frame_is_encoded_once_for_all_who_show_it_alike() {
    let mut rig = Rig::new();
    let alike = [310, 320, 300].map(|width| rig.open(&[1], wish(width)));
    let wide = rig.open(&[1], wish(600));
    let with_boxes = rig.open(&[1], Wish::new(Some(320), true, 5.0));
    rig.offer(1, 7);
    assert_eq!(rig.encode_all(), [7; 3]);
    for watch in alike.into_iter().chain([wide, with_boxes]) {
        assert_eq!(rig.poll(watch), Some(7));
    }
}

#[test]
fn a_watch_gets_five_pictures_a_second_and_no_more() {
    for (fps, frames_fps, expected) in [(5.0, 30, 50), (100.0, 10, 50), (2.0, 30, 20), (5.0, 3, 30)]
    {
        let mut rig = Rig::new();
        let watch = rig.open(&[1], Wish::new(None, false, fps));
        let mut count = 0;
        for frame in 0..10 * frames_fps {
            rig.offer(1, frame);
            // The watcher waits all the time, and the clock moves as on a thread that is woken late.
            for _ in 0..4 {
                rig.encode_all();
                count += u64::from(rig.poll(watch).is_some());
                rig.now += ms(1000 / frames_fps / 4);
            }
        }
        assert!(
            (expected - expected / 10..=expected + 1).contains(&count),
            "{fps} of {frames_fps} a second: {count}"
        );
    }
}

#[test]
fn no_wish_is_too_fast_or_never_comes_true() {
    let interval = |fps| Wish::new(None, false, fps).interval;
    for fps in [5.0, 1e9, f64::INFINITY, f64::NAN] {
        assert_eq!(interval(fps), ms(200), "{fps}");
    }
    for fps in [0.0, -1.0, f64::NEG_INFINITY, 1e-300] {
        assert_eq!(interval(fps), ms(100_000), "{fps}");
    }
}

#[test]
fn the_streams_of_a_watch_have_their_turns() {
    let mut rig = Rig::new();
    let watch = rig.open(&[0, 1, 2, 3], wish(320));
    let mut counts = [0; 4];
    // Each frame's number tells its stream, and there is time for one picture where all four have one.
    for round in 0..400 {
        for n in 0..4 {
            rig.offer(n, 4 * round + n as u64);
        }
        rig.encode_all();
        let picture = rig.poll(watch).unwrap();
        counts[usize::try_from(picture % 4).unwrap()] += 1;
        rig.now += ms(50);
    }
    assert_eq!(counts, [100; 4]);
}

#[test]
fn the_encoder_serves_first_who_has_been_due_longest() {
    let mut rig = Rig::new();
    let busy = rig.open(&[1], wish(320));
    rig.now += ms(10);
    rig.open(&[2], wish(320));
    let mut served = Vec::new();
    for frame in 0..20 {
        rig.offer(1, 100 + frame);
        rig.offer(2, 200 + frame);
        // There is time for one frame.
        let task = rig.core.task(rig.now).unwrap();
        rig.core.made(&task, Some(task.frame), rig.now);
        served.push(task.frame / 100);
        rig.poll(busy);
        if served.len() == 2 {
            break;
        }
        rig.now += ms(300);
    }
    assert_eq!(served, [1, 2]);
}

#[test]
fn nothing_is_encoded_for_who_does_not_wait() {
    let mut rig = Rig::new();
    let watch = rig.open(&[1], wish(320));
    rig.core.set_waiting(watch, false);
    assert_eq!(rig.offer(1, 1), None);
    assert_eq!(rig.encode_all(), [0; 0]);
    assert_eq!(rig.offer(1, 2), Some(Missed::Watcher));
    rig.core.set_waiting(watch, true);
    assert_eq!(rig.encode_all(), [2], "the newest is kept for it");
    assert_eq!(rig.poll(watch), Some(2));
    // It had its picture, so that this one is left out by its pace.
    rig.now += ms(50);
    assert_eq!((rig.offer(1, 3), rig.offer(1, 4)), (None, None));
}

#[test]
fn what_the_encoder_does_not_get_to_is_counted_and_what_it_has_in_hand_is_not() {
    let mut rig = Rig::new();
    let watch = rig.open(&[1], wish(320));
    rig.offer(1, 1);
    assert_eq!(rig.offer(1, 2), Some(Missed::Encoder));
    let task = rig.core.task(rig.now).unwrap();
    assert_eq!(rig.offer(1, 3), None, "frame 2 is being encoded");
    assert_eq!(rig.core.made(&task, Some(2), rig.now), [watch]);
    assert_eq!(rig.core.task(rig.now), None, "it takes its picture first");
    assert_eq!(rig.poll(watch), Some(2));
}

#[test]
fn a_picture_that_was_not_taken_in_time_makes_way_for_a_newer_one() {
    let mut rig = Rig::new();
    let watch = rig.open(&[1], wish(320));
    rig.offer(1, 1);
    rig.encode_all();
    rig.core.set_waiting(watch, false);
    rig.now += ms(2000);
    rig.offer(1, 2);
    rig.core.set_waiting(watch, true);
    assert_eq!(rig.poll(watch), None);
    assert_eq!(rig.encode_all(), [2]);
    assert_eq!(rig.poll(watch), Some(2));
}

#[test]
fn a_frame_that_cannot_be_encoded_is_tried_once() {
    let mut rig = Rig::new();
    let watch = rig.open(&[1], wish(320));
    rig.offer(1, 1);
    let task = rig.core.task(rig.now).unwrap();
    rig.core.made(&task, None, rig.now);
    assert_eq!(rig.core.task(rig.now), None);
    assert_eq!(rig.poll(watch), None);
    rig.offer(1, 2);
    assert_eq!(rig.encode_all(), [2]);
    assert_eq!(rig.poll(watch), Some(2));
}

#[test]
fn there_is_a_bound_on_watches_and_nothing_is_left_of_those_that_ended() {
    let mut rig = Rig::new();
    let watches: Vec<_> = (0..MAX_WATCHES)
        .map(|n| rig.open(&[n, n, 99], wish(320)))
        .collect();
    assert_eq!(rig.core.open([stream(1)], wish(320), rig.now), None);
    assert_eq!(rig.core.watches(), MAX_WATCHES);
    assert_ne!(rig.core.watched_bits() & stream_bit(&stream(99)), 0);
    rig.offer(99, 1);
    for watch in watches {
        assert_eq!(rig.core.wants(&stream(99)), Some(false));
        rig.core.close(watch);
        rig.core.close(watch);
    }
    assert_eq!((rig.core.watches(), rig.core.watched_bits()), (0, 0));
    assert_eq!(rig.core.wants(&stream(99)), None);
    assert_eq!(rig.core.offer(&stream(99), 5, 1, rig.now), (Some(5), None));
    assert!(rig.core.streams.is_empty());
}

#[test]
fn a_watch_is_told_when_its_time_comes() {
    let mut rig = Rig::new();
    let watch = rig.open(&[1, 2], wish(320));
    let start = rig.now;
    rig.offer(1, 1);
    rig.encode_all();
    assert_eq!(rig.poll(watch), Some(1));
    assert_eq!(
        rig.core.poll(watch, start),
        Poll::Wait(Some(start + ms(200)))
    );
}

proptest! {
    #[test]
    fn pictures_of_a_stream_never_go_back(steps in prop::collection::vec((0..6_u8, 0..4_usize, 0..400_u64), 1..200)) {
        let mut rig = Rig::new();
        let watches = [rig.open(&[0, 1, 2, 3], wish(320)), rig.open(&[1], wish(640))];
        let mut last = [[0; 4]; 2];
        let mut frame = 0;
        for (step, n, wait) in steps {
            match step {
                0 | 1 => {
                    frame += 4;
                    rig.offer(n, frame + n as u64);
                }
                2 => if let Some(task) = rig.core.task(rig.now) {
                    // A newer frame may come while one is being encoded.
                    frame += 4;
                    rig.offer(n, frame + n as u64);
                    let picture = (wait > 20).then_some(task.frame);
                    rig.core.made(&task, picture, rig.now);
                },
                3 | 4 => {
                    let which = n % 2;
                    if let Some(picture) = rig.poll(watches[which]) {
                        let seen = &mut last[which][usize::try_from(picture % 4).unwrap()];
                        prop_assert!(picture > *seen);
                        *seen = picture;
                    }
                }
                _ => {
                    rig.core.set_waiting(watches[n % 2], wait % 2 == 0);
                    rig.now += ms(wait);
                }
            }
        }
    }
}

#[test]
fn widths_are_rounded_up_to_steps_and_never_beyond_the_frame() {
    for (wanted, frame, shown) in [
        (Some(0), 1280, 160),
        (Some(160), 1280, 160),
        (Some(161), 1280, 240),
        (Some(700), 1280, 960),
        (Some(1281), 4000, 1920),
        (Some(1921), 4000, 4000),
        (Some(u32::MAX), 4000, 4000),
        (Some(640), 300, 300),
        (Some(100), 7, 7),
        (None, 1280, 1280),
    ] {
        assert_eq!(shown_width_px(wanted, frame), shown, "{wanted:?} {frame}");
    }
}
