//! The motion gate on H.264: a still place, the same with a person who comes, and the clip.

use std::path::Path;
use std::time::{Duration, Instant};

use super::*;
use crate::schedule::motion::{MotionGate, MotionRules, Reason, Verdict};

const FPS: f64 = 10.0;

fn pedestrians() -> Clip {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    Clip::read(&root.join("media/pedestrians.h264")).unwrap()
}

/// The verdicts on the pictures of a clip, `rounds` times over, at 10 frames a second. Each that is to be inferred is.
fn verdicts(clip: &Clip, rounds: usize) -> Vec<Verdict> {
    let rules = MotionRules {
        max_skip: Duration::from_secs(5),
        after_change: Duration::ZERO,
        after_pause: Duration::ZERO,
    };
    let mut gate = MotionGate::default();
    let mut now = Instant::now();
    let mut verdicts = Vec::new();
    for _ in 0..rounds {
        frames::decode(clip, |picture, _| {
            now += Duration::from_millis(100);
            let verdict = gate.judge(now, &picture, rules, true);
            if verdict != Verdict::Unchanged {
                gate.inferred();
            }
            verdicts.push(verdict);
            Ok::<(), DecoderError>(())
        })
        .unwrap();
    }
    verdicts
}

fn looks(verdicts: &[Verdict]) -> usize {
    let looks = verdicts.iter();
    looks
        .filter(|verdict| **verdict != Verdict::Unchanged)
        .count()
}

#[test]
fn nineteen_of_twenty_inferences_are_saved_where_nothing_moves() {
    let clip = still(&pedestrians(), FPS).unwrap();
    let verdicts = verdicts(&clip, 3);
    assert_eq!(verdicts.len(), 600);
    let looks = looks(&verdicts);
    assert!(20 * looks <= verdicts.len(), "{looks} of 600");
}

#[test]
fn a_far_person_who_comes_into_a_still_place_is_inferred_at_once() {
    for (x, y, width, height) in [(300, 120, 20, 50), (505, 83, 24, 60), (40, 300, 32, 64)] {
        // It is there from the 60th picture on, and walks.
        let clip = paint(&pedestrians(), FPS, |n, size, luma| {
            let x = x + 3 * n.saturating_sub(60);
            if n >= 60 {
                for (row, line) in luma.chunks_mut(size.width_px).enumerate() {
                    if (y..y + height).contains(&row) {
                        let by = if row < y + height / 2 { 18 } else { -18 };
                        let whole = x.min(size.width_px)..(x + width).min(size.width_px);
                        for luma in &mut line[whole] {
                            *luma = luma.saturating_add_signed(by);
                        }
                    }
                }
            }
        });
        let verdicts = verdicts(&clip.unwrap(), 1);
        assert_eq!(verdicts[60], Verdict::Look(Reason::Changed), "{x} {y}");
        let seen = looks(&verdicts[60..100]);
        assert!(seen > 12, "as it walks it is looked at again: {seen} of 40");
    }
}

#[test]
fn where_people_walk_hardly_a_picture_is_left_out() {
    let verdicts = verdicts(&pedestrians(), 1);
    let left_out = verdicts.len() - looks(&verdicts);
    // What was found in the picture before holds for these, so that AP50 and MOTA cannot fall by more than this share.
    assert!(1000 * left_out <= 5 * verdicts.len(), "{left_out} of 795");
}
