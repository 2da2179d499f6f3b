//! The change of exposure between two pictures of one place: their cells come in, and gain and offset go out, which hold for most
//! cells whatever moves in the others.

/// A picture with fewer cells tells nothing of exposure: what moves may be most of it.
const ENOUGH_CELLS: usize = 64;

/// One cell in so many is looked at to find the change, so that it costs little: the most of these that leave [`ENOUGH_TO_FIT`].
const STEPS: [usize; 5] = [1, 3, 7, 13, 29];

/// So many cells are enough to fit a line to.
const ENOUGH_TO_FIT: usize = 400;

/// Darker and brighter cells may be at the end of what a camera can show, and do not follow a gain.
const RANGE: std::ops::RangeInclusive<f32> = 24.0..=228.0;

/// How often the line is fitted anew without the cells that are far from it.
const ROUNDS: usize = 6;

/// A cell that is further from the line than so many times the noise has no part in it (Tukey's biweight).
const FAR: f32 = 4.7;

/// The noise is taken for at least this, so that a picture without any does not lose all of its cells.
const LEAST_NOISE: f32 = 0.5;

/// Cells whose variance is less than this tell an offset and no gain.
const FLAT: f32 = 25.0;

/// No gain beyond this is looked for.
const GAINS: std::ops::RangeInclusive<f32> = 0.5..=2.0;

/// A picture whose light has changed by more than this gain is another one: a lamp was switched on, or the lens was covered.
const MAX_GAIN: f32 = 1.4;

/// As [`MAX_GAIN`], for half of the cells, in units of luma.
const MAX_SHIFT: f32 = 40.0;

/// From the median of absolute values to the standard deviation.
const OF_MEDIAN: f32 = 1.4826;

/// How luma changed from one picture to another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Light {
    gain: f32,
    offset: f32,
    /// The standard deviation of cells from what is expected of them, by the median: what moves has no part in it.
    pub(super) noise: f32,
    /// How much half of the cells changed at least.
    shift: f32,
}

impl Light {
    /// Finds the change.
    pub(super) fn between(before: &[f32], now: &[f32]) -> Self {
        let mut light = Self {
            gain: 1.0,
            offset: 0.0,
            noise: 0.0,
            shift: 0.0,
        };
        if before.len() < ENOUGH_CELLS {
            return light;
        }
        let is_enough = |step: &&usize| before.len() / **step >= ENOUGH_TO_FIT;
        let step = STEPS.iter().rev().find(is_enough).copied().unwrap_or(1);
        let cells = || {
            let cells = before.iter().copied().zip(now.iter().copied());
            cells.step_by(step)
        };
        let is_inside = |(before, now): &(f32, f32)| RANGE.contains(before) && RANGE.contains(now);
        light.offset = median(cells().map(|(before, now)| now - before));
        // Most pictures have the light of the one before.
        let is_same = light.offset.abs() < LEAST_NOISE && light.noise_of(cells()) < LEAST_NOISE;
        if !is_same && cells().filter(is_inside).count() * step >= ENOUGH_CELLS {
            for _ in 0..ROUNDS {
                light.fit(|| cells().filter(is_inside));
            }
        }
        light.noise = light.noise_of(cells());
        let shifts = cells().map(|(before, _)| (light.of(before) - before).abs());
        light.shift = median_of_absolute(shifts);
        light
    }

    /// What is expected of a cell.
    pub(super) fn of(&self, before: f32) -> f32 {
        (self.gain * before + self.offset).clamp(0.0, 255.0)
    }

    /// True for so much of a change that the place looks different by it.
    pub(super) fn is_new(&self) -> bool {
        !(1.0 / MAX_GAIN..=MAX_GAIN).contains(&self.gain) || self.shift > MAX_SHIFT
    }

    /// Fits the line to the cells that are near to it.
    fn fit<I: Iterator<Item = (f32, f32)>>(&mut self, cells: impl Fn() -> I) {
        let reach = FAR * self.noise_of(cells()).max(LEAST_NOISE);
        let line = *self;
        let weight = |before: f32, now: f32| {
            let far = (now - (line.gain * before + line.offset)) / reach;
            (1.0 - far * far).max(0.0).powi(2)
        };
        let (mut all, mut of_before, mut of_now) = (0.0, 0.0, 0.0);
        for (before, now) in cells() {
            let weight = weight(before, now);
            all += weight;
            of_before += weight * before;
            of_now += weight * now;
        }
        if all < 1.0 {
            return;
        }
        let (mean_before, mean_now) = (of_before / all, of_now / all);
        let (mut square, mut product) = (0.0, 0.0);
        for (before, now) in cells() {
            let weight = weight(before, now);
            let from_mean = before - mean_before;
            square += weight * from_mean * from_mean;
            product += weight * from_mean * (now - mean_now);
        }
        self.gain = match square > FLAT * all {
            true => (product / square).clamp(*GAINS.start(), *GAINS.end()),
            false => 1.0,
        };
        self.offset = mean_now - self.gain * mean_before;
    }

    fn noise_of(&self, cells: impl Iterator<Item = (f32, f32)>) -> f32 {
        OF_MEDIAN * median_of_absolute(cells.map(|(before, now)| (now - self.of(before)).abs()))
    }
}

const BINS: usize = 1024;

/// The median of differences from -256 to 256, to half a unit.
fn median(values: impl Iterator<Item = f32>) -> f32 {
    Counts::of(values.map(|value| 2.0 * (value + 256.0))).median() / 2.0 - 256.0
}

/// The median of values from 0 to 64, to a sixteenth. What is larger counts as 64.
fn median_of_absolute(values: impl Iterator<Item = f32>) -> f32 {
    Counts::of(values.map(|value| 16.0 * value)).median() / 16.0
}

/// How many values there are of each whole number.
struct Counts {
    bins: [u32; BINS],
    all: u32,
}

impl Counts {
    fn of(values: impl Iterator<Item = f32>) -> Self {
        let mut counts = Self {
            bins: [0; BINS],
            all: 0,
        };
        for value in values {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a float becomes the nearest number that the type has"
            )]
            let bin = usize::from((value + 0.5) as u16).min(BINS - 1);
            counts.bins[bin] += 1;
            counts.all += 1;
        }
        counts
    }

    fn median(&self) -> f32 {
        let mut below = 0;
        for (bin, count) in (0_u16..).zip(self.bins) {
            below += count;
            if 2 * below >= self.all {
                return f32::from(bin);
            }
        }
        0.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Cells as of a scene, from 30 to 189.
    fn scene() -> Vec<f32> {
        (0_u32..3600)
            .map(|n| 30.0 + f32::from(u16::try_from(n * 37 % 160).unwrap()))
            .collect()
    }

    proptest! {
        #[test]
        fn gain_and_offset_are_found_whatever_moves_in_a_sixth_of_the_cells(
            gain in 0.75_f32..1.15,
            offset in -6.0_f32..10.0,
            from in 0_usize..3000,
            moved in -60.0_f32..60.0,
        ) {
            let before = scene();
            let mut now: Vec<f32> = before.iter().map(|cell| gain * cell + offset).collect();
            for cell in &mut now[from..from + 600] {
                *cell = (*cell + moved).clamp(0.0, 255.0);
            }
            let light = Light::between(&before, &now);
            for (before, now) in before.iter().zip(&now).take(from) {
                prop_assert!((light.of(*before) - now).abs() < 1.0, "{light:?}: {before} {now}");
            }
            prop_assert!(!light.is_new(), "{light:?}");
        }
    }

    #[test]
    fn a_flat_picture_has_an_offset_and_no_gain() {
        let light = Light::between(&[100.0; 3600], &[108.0; 3600]);
        assert!((light.gain - 1.0).abs() < 1e-6 && (light.of(100.0) - 108.0).abs() < 0.3);
        assert!(!light.is_new());
        assert!(Light::between(&[100.0; 3600], &[160.0; 3600]).is_new());
    }

    #[test]
    fn a_picture_of_few_cells_tells_nothing_of_exposure() {
        let light = Light::between(&[100.0; 4], &[200.0; 4]);
        assert!((light.of(100.0) - 100.0).abs() < 1e-6);
    }
}
