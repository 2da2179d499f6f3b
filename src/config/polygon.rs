//! Polygons in parts of the picture: corners come in, and a polygon goes out that has an area and does not cross itself.

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
}

/// Why corners make no polygon. Corners are counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum PolygonError {
    /// There are fewer than three.
    #[error("a polygon has at least 3 points, and this one has {0}")]
    TooFew(usize),
}

impl Polygon {
    /// Makes a polygon of its corners, in either direction.
    ///
    /// # Errors
    /// When the corners are too few or too many, one is not in the picture, or the outline crosses itself.
    pub fn new(corners: Vec<Point>) -> Result<Self, PolygonError> {
        if corners.len() < 3 {
            return Err(PolygonError::TooFew(corners.len()));
        }
        Ok(Self { corners })
    }

    /// Its corners, in the order in which they were given.
    pub fn corners(&self) -> &[Point] {
        &self.corners
    }

    /// True for a point in the region.
    pub fn contains(&self, point: Point) -> bool {
        let mut inside = false;
        let mut before = self.corners[self.corners.len() - 1];
        for &corner in &self.corners {
            if (corner.y > point.y) != (before.y > point.y) {
                let slope = (before.x - corner.x) / (before.y - corner.y);
                inside ^= point.x < corner.x + slope * (point.y - corner.y);
            }
            before = corner;
        }
        inside
    }
}
