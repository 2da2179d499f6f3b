use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::track::LabelId;
use crate::track::tracker::TrackState;
use twinsight_media::picture::{FrameTiming, PlanePool};

const FRAME: PictureSize = PictureSize {
    width_px: 640,
    height_px: 480,
};

/// A grey frame in which the part of `bright` is white.
fn frame(size: PictureSize, bright: Option<Region>) -> Frame {
    let at = Instant::now();
    let timing = FrameTiming {
        received_at: at,
        completed_at: at,
        decoded_at: at,
        rtp_timestamp: 0.into(),
        captured_at_unix_ms: None,
    };
    let mut planes = PlanePool::new(1).acquire(size.i420_bytes());
    planes.bytes_mut().fill(128);
    if let Some(Region {
        x_px,
        y_px,
        size: part,
    }) = bright
    {
        for y in y_px..y_px + part.height_px {
            planes.bytes_mut()[y * size.width_px + x_px..][..part.width_px].fill(235);
        }
    }
    Frame::new(planes, size, Color::default(), timing)
}

/// A track that was seen, with the same number as serial and as id.
fn track(serial: u64, [x1, y1, x2, y2]: [f32; 4], score: f32) -> Track {
    Track {
        serial,
        id: Some(serial),
        state: TrackState::Confirmed,
        label: LabelId(0),
        score,
        top_score: score,
        bbox: RelativeBox::new(x1, y1, x2, y2).unwrap(),
        velocity: [0.0; 2],
        first_seen: Duration::ZERO,
        confirmed_at: Some(Duration::ZERO),
        last_seen: Duration::ZERO,
        observation: Some(0),
    }
}

fn shots() -> BestShots {
    BestShots::new(&Arc::default())
}

/// Takes in a look whose frame this is.
fn look(shots: &mut BestShots, now: u64, frame: &Frame, tracks: &[Track]) {
    shots.judge(ms(now), frame.size(), tracks);
    shots.take(ms(now), frame);
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A person of this height in the middle of the picture.
fn person(serial: u64, height: f32) -> Track {
    let (width, y) = (height / 3.0, 0.5 - height / 2.0);
    track(
        serial,
        [0.5 - width / 2.0, y, 0.5 + width / 2.0, y + height],
        0.8,
    )
}

#[test]
fn a_shot_shows_the_box_with_a_margin() {
    let region = |bbox: [f32; 4], size| Region::around(&track(1, bbox, 0.9).bbox, size).unwrap();
    let found = region([0.25, 0.25, 0.5, 0.75], FRAME);
    assert_eq!((found.x_px, found.y_px), (140, 90));
    assert_eq!((found.size.width_px, found.size.height_px), (200, 300));
    // At the edges of the picture there is nothing more to show.
    let all = region([0.0, 0.0, 1.0, 1.0], FRAME);
    assert_eq!(all.size, FRAME);
    let mut shots = shots();
    look(
        &mut shots,
        0,
        &frame(FRAME, Some(found)),
        &[track(7, [0.25, 0.25, 0.5, 0.75], 0.9)],
    );
    let shot = shots.get(7).unwrap().picture();
    assert_eq!((shot.size.width_px, shot.size.height_px), (200, 300));
    assert!(shot.y.data[..200 * 300].iter().all(|luma| *luma == 235));
    assert!(shots.get(8).is_none());
}

#[test]
fn a_large_object_is_kept_small() {
    let large = PictureSize {
        width_px: 3840,
        height_px: 2160,
    };
    let mut shots = shots();
    look(
        &mut shots,
        0,
        &frame(large, None),
        &[track(1, [0.1, 0.0, 0.9, 1.0], 0.9)],
    );
    let shot = shots.get(1).unwrap().picture();
    assert_eq!(shot.size.width_px, MAX_SIDE_PX);
    assert!(
        (180..=186).contains(&shot.size.height_px),
        "{:?}",
        shot.size
    );
    assert!(shot.y.data.iter().all(|luma| *luma == 128));
}

#[test]
fn a_picture_that_is_clearly_better_takes_the_place_of_the_last_one() {
    let frame = frame(FRAME, None);
    let mut shots = shots();
    let mut number_after = |now: u64, height: f32| {
        look(&mut shots, now, &frame, &[person(1, height)]);
        shots.get(1).unwrap().number()
    };
    assert_eq!(number_after(0, 0.2), 1);
    assert_eq!(number_after(100, 0.8), 1, "so soon nothing is taken");
    assert_eq!(number_after(300, 0.22), 1, "it is hardly better");
    assert_eq!(number_after(400, 0.8), 2, "it is much better");
    assert_eq!(
        number_after(700, 0.95),
        2,
        "for a moment much better is asked for"
    );
    assert_eq!(number_after(5000, 0.3), 2, "it is worse");
    // Whoever is not seen, or not believed yet, has no picture.
    let unseen = Track {
        observation: None,
        ..person(2, 0.8)
    };
    let tentative = Track {
        id: None,
        ..person(3, 0.8)
    };
    look(&mut shots, 9000, &frame, &[unseen, tentative]);
    assert!(shots.get(2).is_none() && shots.get(3).is_none());
}

#[test]
fn the_best_picture_is_large_whole_and_free() {
    let of = |bbox, score| quality(&track(1, bbox, score).bbox, score, FRAME);
    let middle = of([0.4, 0.3, 0.5, 0.6], 0.8);
    assert!(of([0.4, 0.3, 0.6, 0.9], 0.8) > middle, "it is larger");
    assert!(of([0.4, 0.3, 0.5, 0.6], 0.9) > middle, "the model is surer");
    assert!(of([0.4, 0.7, 0.5, 1.0], 0.8) < middle, "the edge cuts it");
    assert!(
        of([0.0, 0.7, 0.1, 1.0], 0.8) < of([0.4, 0.7, 0.5, 1.0], 0.8),
        "two edges cut it"
    );
    let (behind, before) = (
        track(1, [0.4, 0.3, 0.5, 0.6], 0.8),
        track(2, [0.4, 0.4, 0.5, 0.7], 0.8),
    );
    let all = [behind.clone(), before.clone()];
    assert!(visible(&behind, &all) < 0.4, "two thirds of it are hidden");
    assert!(visible(&before, &all) > 0.7);
    assert!((visible(&behind, &all[..1]) - 1.0).abs() < 1e-6);
}

#[test]
fn a_crowd_has_its_pictures_one_look_after_the_other() {
    let frame = frame(FRAME, None);
    let mut shots = shots();
    let crowd: Vec<Track> = (0..10)
        .map(|n: u8| {
            let x = 0.05 + 0.09 * f32::from(n);
            track(n.into(), [x, 0.3, x + 0.05, 0.5 + 0.01 * f32::from(n)], 0.8)
        })
        .collect();
    for n in 1..=5 {
        look(&mut shots, 100 * n, &frame, &crowd);
        let there = crowd
            .iter()
            .filter(|track| shots.get(track.serial).is_some());
        assert_eq!(there.count() as u64, 2 * n);
    }
    assert_eq!(shots.get(9).unwrap().number(), 1, "the best come first");
}

#[test]
fn memory_is_bounded_and_pictures_of_those_who_live_stay() {
    let frame = frame(FRAME, None);
    let budget = Arc::new(ShotBudget::new(1 << 20));
    let (mut one, mut other) = (BestShots::new(&budget), BestShots::new(&budget));
    one.limit_bytes = 300_000;
    let seen = |shots: &mut BestShots, serial: u64| {
        look(shots, 1000 * serial, &frame, &[person(serial, 0.8)]);
        shots.get(serial).is_some()
    };
    assert!(seen(&mut one, 0));
    let each = budget.used_bytes();
    assert!((60_000..70_000).contains(&each), "{each}");
    let fit = (300_000 / each) as u64;
    for serial in 1..fit {
        assert!(seen(&mut one, serial));
    }
    assert!(!seen(&mut one, fit), "all of them live");
    for serial in [3, 1] {
        one.ended(serial);
    }
    assert!(seen(&mut one, fit));
    assert!(one.get(3).is_none(), "it ended first");
    assert!(one.get(1).is_some());
    assert!(seen(&mut one, fit + 1));
    assert!(one.get(1).is_none());
    assert!(!seen(&mut one, fit + 2));
    assert_eq!(budget.used_bytes(), one.bytes);
    // Another camera has what is left, and no more.
    let mut serial = 0;
    while seen(&mut other, serial) {
        serial += 1;
    }
    assert!(budget.used_bytes() <= 1 << 20);
    assert!(budget.used_bytes() + each > 1 << 20);
    // Whoever looks at a picture keeps its memory, until he is done.
    let held = Arc::clone(other.get(0).unwrap());
    let before = budget.used_bytes();
    other.forget(0);
    other.forget(0);
    assert_eq!(budget.used_bytes(), before);
    drop(held);
    assert_eq!(budget.used_bytes(), before - each);
    drop((one, other));
    assert_eq!(budget.used_bytes(), 0);
}

proptest! {
    #[test]
    fn any_box_of_any_frame_has_a_picture_in_bounds(
        width in 0..700_usize,
        height in 0..700_usize,
        edges in prop::array::uniform4(-0.2..1.2_f32),
    ) {
        let size = PictureSize { width_px: width, height_px: height };
        let Some(bbox) = RelativeBox::new(edges[0], edges[1], edges[2], edges[3]) else {
            return Ok(());
        };
        let mut shots = shots();
        let seen = Track { bbox, ..person(1, 0.5) };
        look(&mut shots, 0, &frame(size, None), &[seen]);
        let shot = shots.get(1);
        prop_assert_eq!(shot.is_some(), width >= 2 && height >= 2);
        if let Some(shot) = shot {
            let picture = shot.picture();
            let sides = [picture.size.width_px, picture.size.height_px];
            prop_assert!(sides.iter().all(|side| (2..=MAX_SIDE_PX).contains(side) && side % 2 == 0));
            prop_assert!(sides[0] <= width && sides[1] <= height);
            prop_assert_eq!(shot.planes.len(), picture.size.i420_bytes());
            prop_assert!(shot.planes.iter().all(|sample| *sample == 128));
        }
    }
}
