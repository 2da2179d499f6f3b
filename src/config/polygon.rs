//! Polygons in parts of the picture: corners come in, and a polygon goes out that has an area and does not cross itself.
//!
//! Everything is judged on a grid of a millionth of the picture, in whole numbers. So corners that are written with up to six
//! decimals are exactly where they are written, and no rounding decides whether lines touch or where a point is.

use std::cmp::Ordering;

/// A place in parts of the picture: 0, 0 is the top left corner and 1, 1 the bottom right one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Parts of the picture's width from its left edge.
    pub x: f64,
    /// Parts of the picture's height from its upper edge.
    pub y: f64,
}

/// A region whose outline does not cross itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Polygon {
    corners: Vec<Point>,
    on_grid: Vec<GridPoint>,
    /// The least and the greatest numbers of its corners, since most points are far from it.
    bounds: [GridPoint; 2],
}

/// Why corners make no polygon. Corners are counted from 1. Each sentence goes on after the name of the polygon and a colon.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum PolygonError {
    /// There are fewer than three.
    #[error(
        "a polygon has at least 3 points, and this one has {0}: add the corners that are missing"
    )]
    TooFew(usize),
    /// There are more than [`Polygon::MOST_CORNERS`].
    #[error(
        "a polygon has at most {most} points, and this one has {0}: leave out corners that change little",
        most = Polygon::MOST_CORNERS
    )]
    TooMany(usize),
    /// One is infinite or not a number.
    #[error(
        "point {0} is not a pair of finite numbers: give both as parts of the picture, from 0 to 1"
    )]
    NotFinite(usize),
    /// One is not in the picture.
    #[error(
        "point {point} is [{x}, {y}], which is outside the picture: both numbers are parts of the picture, from 0 to 1, and not \
         pixels"
    )]
    Outside {
        /// Which corner.
        point: usize,
        /// Its first number, parts of the picture's width.
        x: f64,
        /// Its second number, parts of the picture's height.
        y: f64,
    },
    /// Two are the same place.
    #[error(
        "points {first} and {second} are the same place: leave one of them out; a polygon closes by itself"
    )]
    Repeated {
        /// The corner that comes first.
        first: usize,
        /// The one that repeats it.
        second: usize,
    },
    /// Two sides have a place in common that is not their corner.
    #[error(
        "the side from point {a} to point {b} crosses or touches the side from point {c} to point {d}: give the points in the order in \
         which somebody meets them who walks once round the region",
        a = .one[0], b = .one[1], c = .other[0], d = .other[1]
    )]
    Crosses {
        /// The corners at the ends of one side.
        one: [usize; 2],
        /// The corners at the ends of the other side.
        other: [usize; 2],
    },
    /// It is so thin or so small that nothing can be in it.
    #[error("it covers less than a millionth of the picture: move its points apart")]
    NoArea,
}

impl Point {
    /// True for a place in the picture, its edges included.
    pub fn is_in_picture(self) -> bool {
        (0.0..=1.0).contains(&self.x) && (0.0..=1.0).contains(&self.y)
    }

    /// The nearest place of the grid. What is not a number is at 0.
    pub(crate) fn on_grid(self) -> GridPoint {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a conversion to a whole number ends at its limits, and these were clamped to far less"
        )]
        let whole = |part: f64| (part.clamp(-1.0, 2.0) * GridPoint::STEPS).round() as i64;
        GridPoint {
            x: whole(self.x),
            y: whole(self.y),
        }
    }
}

/// A place in millionths of the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GridPoint {
    x: i64,
    y: i64,
}

impl GridPoint {
    const STEPS: f64 = 1e6;
    /// The last column or row that is in the picture.
    const LAST: i64 = 999_999;

    /// On which side of the way from `a` to `b` it is, as somebody who walks there and sees the picture upright has it: `Greater` is
    /// right, `Less` is left, `Equal` is straight ahead or behind.
    pub(crate) fn side(self, a: Self, b: Self) -> Ordering {
        cross(a, b, self).cmp(&0)
    }

    /// How far it is from the straight line from `a` to `b` in parts of the picture, times the length of that way: positive on the
    /// right.
    pub(crate) fn distance(self, a: Self, b: Self) -> f64 {
        float(cross(a, b, self)) / (Self::STEPS * Self::STEPS)
    }

    /// The way to here from another place, in parts of the picture.
    pub(crate) fn minus(self, other: Self) -> [f64; 2] {
        [self.x - other.x, self.y - other.y].map(|way| float(way) / Self::STEPS)
    }

    /// The place in parts of the picture.
    pub(crate) fn point(self) -> Point {
        Point {
            x: float(self.x) / Self::STEPS,
            y: float(self.y) / Self::STEPS,
        }
    }

    /// The column and row of the cell that it is in, where so many columns and rows cover the picture.
    pub(crate) fn cell(self, counts: [usize; 2]) -> [usize; 2] {
        let cell = |part: i64, count: usize| {
            let part = usize::try_from(part.clamp(0, Self::LAST)).unwrap_or(0);
            part * count / 1_000_000
        };
        [cell(self.x, counts[0]), cell(self.y, counts[1])]
    }

    fn least(self, other: Self) -> Self {
        Self {
            x: self.x.min(other.x),
            y: self.y.min(other.y),
        }
    }

    fn most(self, other: Self) -> Self {
        Self {
            x: self.x.max(other.x),
            y: self.y.max(other.y),
        }
    }

    /// True for a place that is on the way from `a` to `b`, where all three are on one straight line.
    fn is_between(self, a: Self, b: Self) -> bool {
        let within = |p: i64, a: i64, b: i64| a.min(b) <= p && p <= a.max(b);
        within(self.x, a.x, b.x) && within(self.y, a.y, b.y)
    }
}

/// A whole number of the grid, or a product of two, has at most 43 bits, which a float holds exactly.
fn float(whole: i64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "43 bits are fewer than 52")]
    let float = whole as f64;
    float
}

/// Twice the area of the triangle, positive where it turns right on the screen.
fn cross(a: GridPoint, b: GridPoint, c: GridPoint) -> i64 {
    (b.x - a.x) * (c.y - a.y) - (b.y - a.y) * (c.x - a.x)
}

/// True if two sides have a place in common.
fn meet([a, b]: [GridPoint; 2], [c, d]: [GridPoint; 2]) -> bool {
    let (c_side, d_side) = (c.side(a, b), d.side(a, b));
    let (a_side, b_side) = (a.side(c, d), b.side(c, d));
    (c_side != d_side && a_side != b_side)
        || (c_side.is_eq() && c.is_between(a, b))
        || (d_side.is_eq() && d.is_between(a, b))
        || (a_side.is_eq() && a.is_between(c, d))
        || (b_side.is_eq() && b.is_between(c, d))
}

impl Polygon {
    /// More corners cost time at every look, and nobody draws them by hand.
    pub const MOST_CORNERS: usize = 32;
    /// Twice the least area, in squares of the grid: a millionth of the picture.
    const LEAST_DOUBLE_AREA: i64 = 2_000_000;

    /// Makes a polygon of its corners, in either direction.
    ///
    /// # Errors
    /// When the corners are too few or too many, one is not in the picture or comes twice, the outline crosses or touches itself, or it
    /// has no area.
    pub fn new(corners: Vec<Point>) -> Result<Self, PolygonError> {
        let count = corners.len();
        match count {
            0..3 => return Err(PolygonError::TooFew(count)),
            3..=Self::MOST_CORNERS => {}
            _ => return Err(PolygonError::TooMany(count)),
        }
        for (point, corner) in (1..).zip(&corners) {
            let Point { x, y } = *corner;
            if !(x.is_finite() && y.is_finite()) {
                return Err(PolygonError::NotFinite(point));
            }
            if !corner.is_in_picture() {
                return Err(PolygonError::Outside { point, x, y });
            }
        }
        let on_grid: Vec<GridPoint> = corners.iter().map(|corner| corner.on_grid()).collect();
        for (at, corner) in on_grid.iter().enumerate() {
            if let Some(first) = on_grid[..at].iter().position(|earlier| earlier == corner) {
                return Err(PolygonError::Repeated {
                    first: first + 1,
                    second: at + 1,
                });
            }
        }
        let bounds = [
            on_grid.iter().copied().reduce(GridPoint::least),
            on_grid.iter().copied().reduce(GridPoint::most),
        ];
        let polygon = Self {
            corners,
            bounds: bounds.map(|end| end.expect("a bound, because there are three corners")),
            on_grid,
        };
        if let Some((one, other)) = polygon.sides_that_meet() {
            let names = |side: usize| [side + 1, (side + 1) % count + 1];
            let (one, other) = (names(one), names(other));
            return Err(PolygonError::Crosses { one, other });
        }
        if polygon.double_area() < Self::LEAST_DOUBLE_AREA {
            return Err(PolygonError::NoArea);
        }
        Ok(polygon)
    }

    /// Its corners, in the order in which they were given.
    pub fn corners(&self) -> &[Point] {
        &self.corners
    }

    /// True for a point in the region. A point on an edge is in exactly one of two regions that share the edge: the one on the right
    /// of it or below. The right and lower edges of the picture itself count as in the picture, so that a region which reaches them
    /// holds what is on them.
    pub fn contains(&self, point: Point) -> bool {
        if !point.is_in_picture() {
            return false;
        }
        let GridPoint { x, y } = point.on_grid();
        let point = GridPoint {
            x: x.min(GridPoint::LAST),
            y: y.min(GridPoint::LAST),
        };
        let [least, most] = self.bounds;
        if point.least(least) != least || point.most(most) != most {
            return false;
        }
        // A ray goes from the point to the right. Each side has its upper end, not its lower one, so a corner counts once.
        let mut inside = false;
        for [a, b] in self.sides() {
            if (a.y <= point.y) != (b.y <= point.y) {
                let (upper, lower) = if a.y < b.y { (a, b) } else { (b, a) };
                inside ^= point.side(upper, lower).is_gt();
            }
        }
        inside
    }

    /// How much of the picture it covers, from 0 to 1.
    pub fn area(&self) -> f64 {
        let square = GridPoint::STEPS * GridPoint::STEPS;
        float(self.double_area()) / 2.0 / square
    }

    fn sides(&self) -> impl Iterator<Item = [GridPoint; 2]> {
        let next = self.on_grid.iter().cycle().skip(1);
        self.on_grid.iter().zip(next).map(|(a, b)| [*a, *b])
    }

    fn double_area(&self) -> i64 {
        let origin = self.on_grid[0];
        let sum: i64 = self.sides().map(|[a, b]| cross(origin, a, b)).sum();
        sum.abs()
    }

    /// The first two sides that have more in common than a corner where one ends and the next begins, each named by its first corner.
    fn sides_that_meet(&self) -> Option<(usize, usize)> {
        let sides: Vec<[GridPoint; 2]> = self.sides().collect();
        let last = sides.len() - 1;
        for (n, one) in sides.iter().enumerate() {
            for (m, other) in sides.iter().enumerate().skip(n + 1) {
                let meet = if m == n + 1 {
                    folds_back(one[0], one[1], other[1])
                } else if (n, m) == (0, last) {
                    folds_back(other[0], one[0], one[1])
                } else {
                    meet(*one, *other)
                };
                if meet {
                    return Some((n, m));
                }
            }
        }
        None
    }
}

/// True if the way from `b` to `c` lies on the one by which `b` was reached from `a`.
fn folds_back(a: GridPoint, b: GridPoint, c: GridPoint) -> bool {
    let ahead = (b.x - a.x) * (c.x - b.x) + (b.y - a.y) * (c.y - b.y);
    c.side(a, b).is_eq() && ahead < 0
}

#[cfg(test)]
#[path = "polygon_tests.rs"]
mod tests;
