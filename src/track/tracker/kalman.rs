//! Where a box will be. Sightings come in with the time that passed between them, and expected boxes go out. Middle and size
//! are four Kalman filters of two numbers each, position and speed, whose matrices are small enough to be written out.
//!
//! All noise is in sizes of the box, since what is near moves and errs by more of the picture than what is far. Process noise is
//! that of white acceleration over the time that passed, so that ten small steps leave as much doubt as a large one.

use super::geometry::LooseBox;

/// How much speed changes by itself: sizes a second, in a second.
const ACCELERATION: f32 = 1.0;
/// The same of a box's width and height.
const SIZE_ACCELERATION: f32 = 0.2;
/// How far off the middle of a seen box is, in sizes.
const POSITION_ERROR: f32 = 0.05;
/// The same of its width and height.
const SIZE_ERROR: f32 = 0.08;
/// How fast a thing may be when it is first seen, in sizes a second.
const FIRST_SPEED: f32 = 1.0;
/// How fast its box may grow then.
const FIRST_SIZE_SPEED: f32 = 0.1;
/// No box is expected to be smaller than this part of the picture.
const SMALLEST: f32 = 1e-4;

/// Position and speed of one number, with their variances and covariance.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Filter {
    position: f32,
    speed: f32,
    position_variance: f32,
    covariance: f32,
    speed_variance: f32,
}

impl Filter {
    fn new(position: f32, error: f32, speed: f32) -> Self {
        Self {
            position,
            speed: 0.0,
            position_variance: error * error,
            covariance: 0.0,
            speed_variance: speed * speed,
        }
    }

    fn predict(&mut self, dt: f32, acceleration: f32) {
        let noise = acceleration * acceleration;
        self.position += self.speed * dt;
        self.position_variance +=
            dt * (2.0 * self.covariance + dt * self.speed_variance) + noise * dt * dt * dt / 3.0;
        self.covariance += dt * self.speed_variance + noise * dt * dt / 2.0;
        self.speed_variance += noise * dt;
    }

    fn update(&mut self, seen: f32, error: f32) {
        let total = self.position_variance + error * error;
        let (gain, speed_gain) = (self.position_variance / total, self.covariance / total);
        let off = seen - self.position;
        self.position += gain * off;
        self.speed += speed_gain * off;
        self.speed_variance -= speed_gain * self.covariance;
        self.covariance *= 1.0 - gain;
        self.position_variance *= 1.0 - gain;
    }
}

/// Middle, width and height of a box, in parts of the picture's width and height.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sighting {
    values: [f32; 4],
}

impl From<LooseBox> for Sighting {
    fn from(bbox: LooseBox) -> Self {
        Self {
            values: [
                f32::midpoint(bbox.x1, bbox.x2),
                f32::midpoint(bbox.y1, bbox.y2),
                bbox.width(),
                bbox.height(),
            ],
        }
    }
}

impl Sighting {
    /// What lies between this one and a later one: 0 is here, 1 is there.
    pub(super) fn towards(&self, later: &Self, part: f32) -> Self {
        let mut values = self.values;
        for (value, other) in values.iter_mut().zip(later.values) {
            *value += (other - *value) * part;
        }
        Self { values }
    }

    /// The longer side as a part of the picture's height, which is what noise is relative to.
    fn size(&self, aspect: f32) -> f32 {
        let [_, _, width, height] = self.values;
        (width * aspect).max(height).max(SMALLEST)
    }
}

/// The four filters of a box.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct BoxFilter {
    /// Middle in x and y, width, height.
    axes: [Filter; 4],
}

/// One for each axis: lengths in x are parts of the width, so a size in heights is divided by the picture's aspect.
fn scaled(size: f32, aspect: f32, of_middle: f32, of_size: f32) -> [f32; 4] {
    let wide = size / aspect;
    [
        wide * of_middle,
        size * of_middle,
        wide * of_size,
        size * of_size,
    ]
}

impl BoxFilter {
    /// Begins with a first sighting. `aspect` is the picture's width over its height, here and below.
    pub(super) fn new(seen: &Sighting, aspect: f32) -> Self {
        let size = seen.size(aspect);
        let errors = scaled(size, aspect, POSITION_ERROR, SIZE_ERROR);
        let speeds = scaled(size, aspect, FIRST_SPEED, FIRST_SIZE_SPEED);
        let axes = std::array::from_fn(|n| Filter::new(seen.values[n], errors[n], speeds[n]));
        Self { axes }
    }

    /// Lets this many seconds pass.
    pub(super) fn predict(&mut self, dt: f32, aspect: f32) {
        let size = self.sighting().size(aspect);
        let accelerations = scaled(size, aspect, ACCELERATION, SIZE_ACCELERATION);
        for (axis, acceleration) in self.axes.iter_mut().zip(accelerations) {
            axis.predict(dt, acceleration);
        }
    }

    /// Takes in where it was seen.
    pub(super) fn update(&mut self, seen: &Sighting, aspect: f32) {
        let size = self.sighting().size(aspect);
        let errors = scaled(size, aspect, POSITION_ERROR, SIZE_ERROR);
        for (n, axis) in self.axes.iter_mut().enumerate() {
            axis.update(seen.values[n], errors[n]);
        }
    }

    fn sighting(&self) -> Sighting {
        Sighting {
            values: self.axes.map(|axis| axis.position),
        }
    }

    /// The box that is expected now.
    pub(super) fn expected(&self) -> LooseBox {
        let [x, y, width, height] = self.axes.map(|axis| axis.position);
        let (width, height) = (width.max(SMALLEST), height.max(SMALLEST));
        LooseBox {
            x1: x - width / 2.0,
            y1: y - height / 2.0,
            x2: x + width / 2.0,
            y2: y + height / 2.0,
        }
    }

    /// How fast the middle moves: parts of the picture's width and height in a second.
    pub(super) fn speed(&self) -> [f32; 2] {
        [self.axes[0].speed, self.axes[1].speed]
    }

    /// How fast the middle of the lower edge moves.
    pub(super) fn foot_speed(&self) -> [f32; 2] {
        let [x, y, _, height] = self.axes.map(|axis| axis.speed);
        [x, y + height / 2.0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASPECT: f32 = 16.0 / 9.0;

    fn seen(x: f32, y: f32) -> Sighting {
        Sighting {
            values: [x, y, 0.05, 0.2],
        }
    }

    #[test]
    fn learns_the_speed_whatever_the_rate() {
        for fps in [2.0_f32, 5.0, 10.0, 30.0] {
            let mut filter = BoxFilter::new(&seen(0.2, 0.5), ASPECT);
            let mut at = 0.0;
            while at < 4.0 {
                at += 1.0 / fps;
                filter.predict(1.0 / fps, ASPECT);
                filter.update(&seen(0.2 + 0.1 * at, 0.5), ASPECT);
            }
            let [x, y] = filter.speed();
            assert!((x - 0.1).abs() < 0.01 && y.abs() < 0.01, "{fps}: {x} {y}");
        }
    }

    #[test]
    fn many_small_steps_leave_as_much_doubt_as_a_large_one() {
        let mut small = BoxFilter::new(&seen(0.5, 0.5), ASPECT);
        let mut large = small;
        (0..30).for_each(|_| small.predict(1.0 / 30.0, ASPECT));
        large.predict(1.0, ASPECT);
        for (a, b) in small.axes.iter().zip(large.axes) {
            let off = (a.position_variance / b.position_variance - 1.0).abs();
            assert!(off < 1e-3, "{a:?} {b:?}");
        }
    }

    #[test]
    fn stays_finite_and_positive() {
        let mut filter = BoxFilter::new(&seen(0.5, 0.5), ASPECT);
        for n in 0..100_000 {
            filter.predict(if n % 3 == 0 { 0.0 } else { 1.0 }, ASPECT);
            if n % 1000 == 0 {
                filter.update(&seen(if n % 2000 == 0 { 0.0 } else { 1.0 }, 0.0), ASPECT);
            }
            let bbox = filter.expected();
            assert!(bbox.width() > 0.0 && bbox.height() > 0.0);
            assert!(bbox.x1.is_finite() && bbox.y2.is_finite());
            assert!(filter.axes.iter().all(|axis| axis.position_variance >= 0.0));
        }
    }
}
