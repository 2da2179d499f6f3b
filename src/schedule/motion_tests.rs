use proptest::prelude::*;
use twinsight_media::picture::{Color, PictureSize, Plane};

use super::*;

const SIZE: PictureSize = PictureSize {
    width_px: 640,
    height_px: 368,
};
const FRAME: Duration = Duration::from_millis(100);
const RULES: MotionRules = MotionRules {
    max_skip: Duration::from_secs(5),
    after_change: Duration::from_millis(2300),
    after_pause: Duration::from_millis(300),
};

/// A camera before a place, with a clock.
struct Camera {
    gate: MotionGate,
    now: Instant,
    place: Vec<u8>,
    /// Of the noise of pixels.
    state: u32,
    noise: i16,
    gain: f32,
    is_settled: bool,
}

/// What stands in the place.
struct Thing {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
    brighter_by: i16,
}

impl Camera {
    fn new() -> Self {
        // Smooth, with edges: a sky, walls, and tiles on the ground.
        let luma = |n: usize| {
            let (x, y) = (n % SIZE.width_px, n / SIZE.width_px);
            let tile = if y > 180 && (x / 40 + y / 30) % 2 == 0 {
                12
            } else {
                0
            };
            u8::try_from(60 + x / 8 + y / 8 + tile).unwrap()
        };
        Self {
            gate: MotionGate::default(),
            now: Instant::now(),
            place: (0..SIZE.width_px * SIZE.height_px).map(luma).collect(),
            state: 1,
            noise: 3,
            gain: 1.0,
            is_settled: true,
        }
    }

    fn random(&mut self) -> u32 {
        self.state = self
            .state
            .wrapping_mul(1_664_525)
            .wrapping_add(1_013_904_223);
        self.state >> 8
    }

    fn picture(&mut self, things: &[Thing]) -> Vec<u8> {
        let mut luma: Vec<i16> = self.place.iter().map(|luma| i16::from(*luma)).collect();
        for thing in things {
            for y in thing.y..thing.y + thing.height {
                for x in thing.x..thing.x + thing.width {
                    luma[y * SIZE.width_px + x] += thing.brighter_by;
                }
            }
        }
        let exposed: Vec<i16> = (0..1024)
            .map(|luma: u16| {
                #[expect(clippy::cast_possible_truncation, reason = "luma is small")]
                let exposed = (f32::from(luma) * self.gain) as i16;
                exposed
            })
            .collect();
        // A long row of noise, of which each picture begins elsewhere.
        let noise: Vec<i16> = (0..4099)
            .map(|_| self.noise * (i16::try_from(self.random() % 1024).unwrap() - 512) / 256)
            .collect();
        let noise = noise.into_iter().cycle();
        let seen = luma.into_iter().zip(noise).map(|(luma, noise)| {
            let luma = exposed[usize::try_from(luma.max(0)).unwrap()] + noise;
            u8::try_from(luma.clamp(0, 255)).unwrap()
        });
        seen.collect()
    }

    /// The verdict on the next picture, which is inferred if it is to be.
    fn see(&mut self, things: &[Thing]) -> Verdict {
        let verdict = self.see_only(things);
        if verdict != Verdict::Unchanged {
            self.gate.inferred();
        }
        verdict
    }

    /// The verdict on the next picture, which gives no result.
    fn see_only(&mut self, things: &[Thing]) -> Verdict {
        let luma = self.picture(things);
        self.judge(&luma, SIZE)
    }

    fn judge(&mut self, luma: &[u8], size: PictureSize) -> Verdict {
        self.now += FRAME;
        let plane = |data| Plane {
            data,
            stride: size.width_px,
        };
        let picture = I420 {
            y: plane(luma),
            u: plane(&[]),
            v: plane(&[]),
            size,
            color: Color::default(),
        };
        self.gate.judge(self.now, &picture, RULES, self.is_settled)
    }

    /// Lets so many pictures pass in which nothing is, and gives how many were inferred.
    fn rest(&mut self, pictures: usize) -> usize {
        let looks = (0..pictures).filter(|_| self.see(&[]) != Verdict::Unchanged);
        looks.count()
    }
}

fn person(x: usize, y: usize, brighter_by: i16) -> Thing {
    Thing {
        x,
        y,
        width: 20,
        height: 50,
        brighter_by,
    }
}

#[test]
fn a_still_place_is_looked_at_once_in_max_skip() {
    let mut camera = Camera::new();
    assert_eq!(camera.see(&[]), Verdict::Look(Reason::First));
    let looks: Vec<usize> = (1..=200)
        .filter(|_| camera.see(&[]) == Verdict::Look(Reason::Due))
        .collect();
    assert_eq!(looks, [50, 100, 150, 200]);
}

#[test]
fn noise_and_exposure_are_no_motion() {
    let mut camera = Camera::new();
    camera.noise = 12;
    camera.rest(1);
    let mut looks = camera.rest(100);
    for gain in [1.04, 1.1, 1.2, 1.1, 0.95, 0.8, 0.9, 1.0] {
        camera.gain = gain;
        looks += camera.rest(50);
    }
    // One in 50 pictures is due.
    assert!(looks <= 12, "{looks} of 500");
}

#[test]
fn a_lamp_that_is_switched_on_makes_another_picture() {
    let mut camera = Camera::new();
    camera.rest(20);
    camera.gain = 1.7;
    assert_eq!(camera.see(&[]), Verdict::Look(Reason::Changed));
    assert_eq!(camera.see(&[]), Verdict::Unchanged);
}

#[test]
fn a_covered_lens_is_another_picture() {
    // By day, at dusk and in a dark yard: what is seen through the cover is black.
    for (gain, noise) in [(1.0, 3), (0.5, 6), (0.4, 12)] {
        let mut camera = Camera::new();
        (camera.gain, camera.noise) = (gain, noise);
        camera.rest(100);
        let black = [16; SIZE.width_px * SIZE.height_px];
        let verdict = camera.judge(&black, SIZE);
        assert_eq!(verdict, Verdict::Look(Reason::Changed), "gain {gain}");
    }
}

#[test]
fn what_comes_moves_and_goes_is_seen_at_once() {
    let mut camera = Camera::new();
    camera.rest(20);
    assert_eq!(
        camera.see(&[person(100, 200, 12)]),
        Verdict::Look(Reason::Changed)
    );
    assert_eq!(
        camera.see(&[person(100, 200, 12)]),
        Verdict::Unchanged,
        "it stands"
    );
    assert_eq!(
        camera.see(&[person(116, 200, 12)]),
        Verdict::Look(Reason::Changed)
    );
    assert_eq!(
        camera.see(&[]),
        Verdict::Look(Reason::Changed),
        "it has gone"
    );
    assert_eq!(camera.rest(30), 0);
}

#[test]
fn what_comes_while_the_exposure_changes_is_seen_too() {
    let mut camera = Camera::new();
    camera.rest(20);
    camera.gain = 1.15;
    assert_eq!(
        camera.see(&[person(300, 150, -30)]),
        Verdict::Look(Reason::Changed)
    );
}

#[test]
fn what_fills_half_of_the_picture_is_seen() {
    let mut camera = Camera::new();
    camera.rest(20);
    for width in [200, 330, 500] {
        let close = Thing {
            x: 0,
            y: 0,
            width,
            height: SIZE.height_px,
            brighter_by: 25,
        };
        assert_eq!(
            camera.see(&[close]),
            Verdict::Look(Reason::Changed),
            "{width}"
        );
        camera.rest(1);
    }
}

#[test]
fn a_place_where_something_always_moves_is_still_watched() {
    let mut camera = Camera::new();
    camera.rest(20);
    // Leaves that flicker by little are noise after a while.
    let flicker = |pictures: usize, camera: &mut Camera| {
        let looks = (0..pictures).filter(|n| {
            let by = if n % 2 == 0 { 3 } else { -3 };
            camera.see(&[person(400, 60, by)]) == Verdict::Look(Reason::Changed)
        });
        looks.count()
    };
    flicker(300, &mut camera);
    assert_eq!(flicker(100, &mut camera), 0);
    // And somebody who stands before them is seen.
    assert_eq!(
        camera.see(&[person(400, 60, 25)]),
        Verdict::Look(Reason::Changed)
    );
}

#[test]
fn a_picture_that_gave_no_result_was_not_inferred() {
    let mut camera = Camera::new();
    assert_eq!(camera.see_only(&[]), Verdict::Look(Reason::First));
    assert_eq!(camera.see(&[]), Verdict::Look(Reason::First));
    // Somebody comes and goes while the model fails.
    assert_eq!(
        camera.see_only(&[person(100, 200, 30)]),
        Verdict::Look(Reason::Changed)
    );
    assert_eq!(camera.see_only(&[]), Verdict::Look(Reason::First));
    assert_eq!(camera.see(&[]), Verdict::Look(Reason::First));
    assert_eq!(camera.see(&[]), Verdict::Unchanged);
}

#[test]
fn a_new_size_begins_anew() {
    let mut camera = Camera::new();
    camera.rest(10);
    let small = PictureSize {
        width_px: 320,
        height_px: 184,
    };
    let luma = vec![90; small.width_px * small.height_px];
    assert_eq!(camera.judge(&luma, small), Verdict::Look(Reason::First));
    camera.gate.inferred();
    assert_eq!(camera.judge(&luma, small), Verdict::Unchanged);
    assert_eq!(camera.see(&[]), Verdict::Look(Reason::First));
}

#[test]
fn new_settings_are_looked_at_with() {
    let mut camera = Camera::new();
    camera.rest(10);
    camera.gate.renew();
    assert_eq!(camera.see(&[]), Verdict::Look(Reason::First));
    assert_eq!(camera.see(&[]), Verdict::Unchanged);
}

#[test]
fn tracks_that_wait_for_a_decision_get_their_looks() {
    let mut camera = Camera::new();
    camera.rest(60);
    camera.see(&[person(100, 200, 30)]);
    camera.is_settled = false;
    let looks: Vec<usize> = (1..=40)
        .filter(|_| camera.see(&[person(100, 200, 30)]) == Verdict::Look(Reason::Unsettled))
        .collect();
    // For 2.3 s after the change, and once when they are over.
    assert_eq!(looks, (1..=24).collect::<Vec<_>>());
    camera.is_settled = true;
    assert_eq!(camera.see(&[person(100, 200, 30)]), Verdict::Unchanged);
}

#[test]
fn what_is_found_without_a_change_gets_looks_until_it_can_be_confirmed() {
    let mut camera = Camera::new();
    camera.rest(1);
    assert_eq!(camera.rest(48), 0);
    camera.rest(2);
    camera.is_settled = false;
    let looks: Vec<bool> = (0..10)
        .map(|_| camera.see(&[]) != Verdict::Unchanged)
        .collect();
    // For 0.3 s after the picture that was due, and once when they are over.
    let expected: Vec<bool> = (1..=10).map(|n| n <= 4).collect();
    assert_eq!(looks, expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn a_small_person_that_appears_anywhere_is_seen_at_once(
        x in 0_usize..SIZE.width_px - 20,
        y in 0_usize..SIZE.height_px - 50,
        brighter_by in prop_oneof![-60_i16..-11, 12_i16..80],
        seed in any::<u32>(),
    ) {
        let mut camera = Camera::new();
        camera.state = seed;
        camera.rest(12);
        prop_assert_eq!(
            camera.see(&[person(x, y, brighter_by)]),
            Verdict::Look(Reason::Changed)
        );
    }

    #[test]
    fn no_picture_is_too_small_or_odd(
        (width_px, height_px) in (1_usize..90, 1_usize..90),
        bytes in prop::collection::vec(any::<u8>(), 8100),
    ) {
        let mut camera = Camera::new();
        let size = PictureSize { width_px, height_px };
        let luma = &bytes[..width_px * height_px];
        prop_assert_eq!(camera.judge(luma, size), Verdict::Look(Reason::First));
        camera.gate.inferred();
        prop_assert_eq!(camera.judge(luma, size), Verdict::Unchanged);
    }
}
