//! Where a box will be. Sightings come in with the time that passed between them, and expected boxes go out. Middle and size
//! are four Kalman filters of two numbers each, position and speed, whose matrices are small enough to be written out.
//!
//! All noise is in widths of the box for x and in its heights for y, since what is near moves and errs by more of the picture than
//! what is far. Process noise is that of white acceleration over the time that passed, so that ten small steps leave as much doubt
//! as a large one.

use super::geometry::LooseBox;

/// The noise of the four numbers: middle in x and y, width, height. Detectors are less sure of widths than of heights, and of sizes
/// than of places.
const AXES: [Axis; 4] = [
    Axis {
        error: 0.125,
        acceleration: 1.0,
        first_speed: 2.5,
        speed_lasts_s: None,
    },
    Axis {
        error: 0.05,
        acceleration: 0.4,
        first_speed: 1.0,
        speed_lasts_s: None,
    },
    Axis {
        error: 0.4,
        acceleration: 0.5,
        first_speed: 0.25,
        speed_lasts_s: Some(0.5),
    },
    Axis {
        error: 0.16,
        acceleration: 0.2,
        first_speed: 0.1,
        speed_lasts_s: Some(0.5),
    },
];
/// A height that is off by more than this part is hardly believed: then somebody is half hidden, or two are in one box.
const MOST_OFF: f32 = 0.15;
/// No box is expected to be smaller than this part of the picture.
const SMALLEST: f32 = 1e-4;

/// The noise of one number, in widths or heights of the box. All but the last are standard deviations.
#[derive(Debug, Clone, Copy)]
struct Axis {
    /// How far off it is where it was seen.
    error: f32,
    /// How much its speed changes in a second by itself.
    acceleration: f32,
    /// How fast it may change when it is first seen.
    first_speed: f32,
    /// With this time constant its speed goes to 0. Nothing grows for long.
    speed_lasts_s: Option<f32>,
}

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

    fn predict(&mut self, dt: f32, acceleration: f32, speed_lasts_s: Option<f32>) {
        let noise = acceleration * acceleration;
        self.position += self.speed * dt;
        self.position_variance +=
            dt * (2.0 * self.covariance + dt * self.speed_variance) + noise * dt * dt * dt / 3.0;
        self.covariance += dt * self.speed_variance + noise * dt * dt / 2.0;
        self.speed_variance += noise * dt;
        if let Some(lasts) = speed_lasts_s {
            let left = (-dt / lasts).exp();
            self.speed *= left;
            self.covariance *= left;
            self.speed_variance *= left * left;
        }
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

    pub(super) fn bbox(&self) -> LooseBox {
        let [x, y, width, height] = self.values;
        let (width, height) = (width.max(SMALLEST), height.max(SMALLEST));
        LooseBox {
            x1: x - width / 2.0,
            y1: y - height / 2.0,
            x2: x + width / 2.0,
            y2: y + height / 2.0,
        }
    }

    /// What the noise of each number is relative to.
    fn scales(&self) -> [f32; 4] {
        let [_, _, width, height] = self.values.map(|value| value.max(SMALLEST));
        [width, height, width, height]
    }
}

/// The four filters of a box.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct BoxFilter {
    /// Middle in x and y, width, height.
    axes: [Filter; 4],
}

impl BoxFilter {
    /// Begins with a first sighting.
    pub(super) fn new(seen: &Sighting) -> Self {
        let scales = seen.scales();
        let axes = std::array::from_fn(|n| {
            let Axis {
                error, first_speed, ..
            } = AXES[n];
            Filter::new(seen.values[n], error * scales[n], first_speed * scales[n])
        });
        Self { axes }
    }

    /// Lets this many seconds pass.
    pub(super) fn predict(&mut self, dt: f32) {
        let scales = self.sighting().scales();
        for (n, filter) in self.axes.iter_mut().enumerate() {
            filter.predict(dt, AXES[n].acceleration * scales[n], AXES[n].speed_lasts_s);
        }
    }

    /// Takes in where it was seen, with errors that are this many times the usual ones.
    pub(super) fn update(&mut self, seen: &Sighting, doubt: f32) {
        let scales = self.sighting().scales();
        let off = (seen.values[3] - self.axes[3].position).abs() / scales[3];
        let doubt = doubt * (off / MOST_OFF).powi(2).max(1.0);
        for (n, filter) in self.axes.iter_mut().enumerate() {
            filter.update(seen.values[n], AXES[n].error * scales[n] * doubt);
        }
    }

    /// How far from what is expected this is: the sum of the squares of the four distances, each in standard deviations.
    pub(super) fn distance(&self, seen: &Sighting) -> f32 {
        let scales = self.sighting().scales();
        let of_axis = |(n, filter): (usize, &Filter)| {
            let error = AXES[n].error * scales[n];
            let off = seen.values[n] - filter.position;
            off * off / (filter.position_variance + error * error)
        };
        self.axes.iter().enumerate().map(of_axis).sum()
    }

    fn sighting(&self) -> Sighting {
        Sighting {
            values: self.axes.map(|axis| axis.position),
        }
    }

    /// The box that is expected now.
    pub(super) fn expected(&self) -> LooseBox {
        self.sighting().bbox()
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

    fn seen(x: f32, y: f32) -> Sighting {
        Sighting {
            values: [x, y, 0.05, 0.2],
        }
    }

    #[test]
    fn learns_the_speed_whatever_the_rate() {
        for fps in [2.0_f32, 5.0, 10.0, 30.0] {
            let mut filter = BoxFilter::new(&seen(0.2, 0.5));
            let mut at = 0.0;
            while at < 4.0 {
                at += 1.0 / fps;
                filter.predict(1.0 / fps);
                filter.update(&seen(0.2 + 0.1 * at, 0.5), 1.0);
            }
            let [x, y] = filter.speed();
            assert!((x - 0.1).abs() < 0.01 && y.abs() < 0.01, "{fps}: {x} {y}");
        }
    }

    #[test]
    fn many_small_steps_leave_as_much_doubt_as_a_large_one() {
        let mut small = BoxFilter::new(&seen(0.5, 0.5));
        let mut large = small;
        (0..30).for_each(|_| small.predict(1.0 / 30.0));
        large.predict(1.0);
        for (a, b) in small.axes.iter().zip(large.axes).take(2) {
            let off = (a.position_variance / b.position_variance - 1.0).abs();
            assert!(off < 1e-3, "{a:?} {b:?}");
        }
    }

    #[test]
    fn a_height_that_is_far_off_is_hardly_believed() {
        let mut filter = BoxFilter::new(&seen(0.5, 0.5));
        filter.predict(0.1);
        let torso = Sighting {
            values: [0.5, 0.45, 0.05, 0.1],
        };
        filter.update(&torso, 1.0);
        let height = filter.expected().height();
        assert!(height > 0.19, "{height}");
    }

    #[test]
    fn stays_finite_and_positive() {
        let mut filter = BoxFilter::new(&seen(0.5, 0.5));
        for n in 0..100_000 {
            filter.predict(if n % 3 == 0 { 0.0 } else { 1.0 });
            if n % 1000 == 0 {
                filter.update(&seen(if n % 2000 == 0 { 0.0 } else { 1.0 }, 0.0), 1.0);
            }
            let bbox = filter.expected();
            assert!(bbox.width() > 0.0 && bbox.height() > 0.0);
            assert!(bbox.x1.is_finite() && bbox.y2.is_finite());
            assert!(filter.axes.iter().all(|axis| axis.position_variance >= 0.0));
        }
    }
}
