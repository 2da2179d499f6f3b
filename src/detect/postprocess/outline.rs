//! The outline of a mask: which pixels belong to an object comes in, a polygon with few corners goes out.

/// A polygon has at most this many corners.
const MAX_CORNERS: usize = 32;

/// What differs from the outline by less than this, in pixels of the mask, is no corner. A slanted edge differs by a bit less.
const TOLERANCE_PX: f32 = 0.75;

/// A point on the outline, x and y in pixels of the mask.
type Point = [f32; 2];

/// The outline of the largest connected part of a mask whose rows have `width` pixels; empty if there is none. Holes are not
/// outlined.
pub(super) fn outline(mask: &[bool], width: usize) -> Vec<Point> {
    if width == 0 {
        return Vec::new();
    }
    let Some((part, start)) = largest_part(mask, width) else {
        return Vec::new();
    };
    let outline = trace(&part, width, start);
    let mut tolerance = TOLERANCE_PX;
    loop {
        let corners = simplified(&outline, tolerance);
        match corners.len() {
            // What is thinner than the tolerance would be a line.
            ..3 => return rectangle(&outline),
            3..=MAX_CORNERS => return corners,
            _ => {}
        }
        tolerance *= 1.3;
    }
}

/// The corners of the rectangle around these points.
fn rectangle(points: &[Point]) -> Vec<Point> {
    let side = |axis: usize| {
        let all = points.iter().map(|point| point[axis]);
        (
            all.clone().fold(f32::INFINITY, f32::min),
            all.fold(0.0, f32::max),
        )
    };
    let ((left, right), (top, bottom)) = (side(0), side(1));
    vec![[left, top], [right, top], [right, bottom], [left, bottom]]
}

/// The pixels of the part with the most pixels that share edges, and the first of them.
fn largest_part(mask: &[bool], width: usize) -> Option<(Vec<bool>, usize)> {
    let mut part_of = vec![0u32; mask.len()];
    let mut best: Option<(usize, u32, usize)> = None;
    let mut number = 0;
    let mut open = Vec::new();
    for start in 0..mask.len() {
        if !mask[start] || part_of[start] != 0 {
            continue;
        }
        number += 1;
        let mut size = 0;
        part_of[start] = number;
        open.push(start);
        while let Some(at) = open.pop() {
            size += 1;
            let column = at % width;
            let neighbours = [
                (column > 0).then(|| at - 1),
                (column + 1 < width).then(|| at + 1),
                at.checked_sub(width),
                (at + width < mask.len()).then(|| at + width),
            ];
            for next in neighbours.into_iter().flatten() {
                if mask[next] && part_of[next] == 0 {
                    part_of[next] = number;
                    open.push(next);
                }
            }
        }
        if best.is_none_or(|(largest, ..)| size > largest) {
            best = Some((size, number, start));
        }
    }
    let (_, number, start) = best?;
    Some((part_of.iter().map(|part| *part == number).collect(), start))
}

/// Walks around a part, clockwise along the edges of its pixels, and gives the corners on the way.
fn trace(part: &[bool], width: usize, start: usize) -> Vec<Point> {
    /// East, south, west and north.
    const STEPS: [[i64; 2]; 4] = [[1, 0], [0, 1], [-1, 0], [0, -1]];
    let wide = i64::try_from(width).unwrap_or(i64::MAX);
    let is_inside = |x: i64, y: i64| {
        let at = usize::try_from(y * wide + x).ok();
        (0..wide).contains(&x) && y >= 0 && at.and_then(|at| part.get(at)).copied().unwrap_or(false)
    };
    // The pixel that lies ahead on this side of a corner, by the direction.
    let right = |[x, y]: [i64; 2], direction: usize| match direction {
        0 => is_inside(x, y),
        1 => is_inside(x - 1, y),
        2 => is_inside(x - 1, y - 1),
        _ => is_inside(x, y - 1),
    };
    let first = {
        let start = i64::try_from(start).unwrap_or(0);
        [start % wide, start / wide]
    };
    let (mut corner, mut direction) = (first, 0);
    let mut corners = Vec::new();
    loop {
        let [dx, dy] = STEPS[direction];
        corners.push(corner.map(|at| at as f32));
        corner = [corner[0] + dx, corner[1] + dy];
        let left = right(corner, (direction + 3) % 4);
        direction = if !right(corner, direction) {
            (direction + 1) % 4
        } else if left {
            (direction + 3) % 4
        } else {
            direction
        };
        if (corner, direction) == (first, 0) {
            return corners;
        }
    }
}

/// The corners of a closed line that are needed for no point of it to be farther away than the tolerance (Ramer, Douglas and
/// Peucker).
fn simplified(line: &[Point], tolerance: f32) -> Vec<Point> {
    let Some(&first) = line.first() else {
        return Vec::new();
    };
    let far = |from: Point| {
        let distance = |at: &Point| (at[0] - from[0]).hypot(at[1] - from[1]);
        let farthest =
            (0..line.len()).max_by(|&a, &b| distance(&line[a]).total_cmp(&distance(&line[b])));
        farthest.unwrap_or(0)
    };
    // The line is cut where it is farthest from its first point, and at the point that is farthest from there.
    let a = far(first);
    let b = far(line[a]);
    let (low, high) = (a.min(b), a.max(b));
    let mut keep = vec![false; line.len()];
    keep[low] = true;
    keep[high] = true;
    let around: Vec<usize> = (high..line.len()).chain(0..=low).collect();
    let between: Vec<usize> = (low..=high).collect();
    for part in [between, around] {
        let mut open = vec![(0, part.len() - 1)];
        while let Some((from, to)) = open.pop() {
            let inside = from + 1..to;
            let height = |n: &usize| height(line[part[*n]], line[part[from]], line[part[to]]);
            let highest = inside.max_by(|a, b| height(a).total_cmp(&height(b)));
            if let Some(n) = highest.filter(|n| height(n) > tolerance) {
                keep[part[n]] = true;
                open.extend([(from, n), (n, to)]);
            }
        }
    }
    let kept = line
        .iter()
        .zip(keep)
        .filter_map(|(point, keep)| keep.then_some(*point));
    kept.collect()
}

/// The distance of a point from the line through two others.
fn height(point: Point, from: Point, to: Point) -> f32 {
    let (dx, dy) = (to[0] - from[0], to[1] - from[1]);
    let (px, py) = (point[0] - from[0], point[1] - from[1]);
    let length = dx.hypot(dy);
    if length == 0.0 {
        px.hypot(py)
    } else {
        (dx * py - dy * px).abs() / length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(rows: &[&str]) -> (Vec<bool>, usize) {
        let all = rows
            .iter()
            .flat_map(|row| row.bytes().map(|byte| byte == b'#'));
        (all.collect(), rows[0].len())
    }

    fn area(polygon: &[Point]) -> f32 {
        let next = polygon.iter().cycle().skip(1);
        let twice: f32 = polygon
            .iter()
            .zip(next)
            .map(|(a, b)| a[0] * b[1] - b[0] * a[1])
            .sum();
        twice.abs() / 2.0
    }

    #[test]
    fn the_largest_part_is_outlined_without_its_holes() {
        let (mask, width) = mask(&[
            "#........",
            "..#####..",
            "..#...#..",
            "..#####.#",
            "..#####..",
        ]);
        let found = outline(&mask, width);
        assert!((3..=8).contains(&found.len()), "{found:?}");
        assert_eq!(area(&found), 20.0, "{found:?}");
        assert!(
            found
                .iter()
                .all(|[x, y]| (2.0..=7.0).contains(x) && (1.0..=5.0).contains(y))
        );
    }

    #[test]
    fn a_ragged_disc_has_few_corners_and_its_area() {
        let (width, r) = (120usize, 50.0f32);
        let mask: Vec<bool> = (0..width * width)
            .map(|at| {
                let (x, y) = ((at % width) as f32 - 59.5, (at / width) as f32 - 59.5);
                let ragged = r + 4.0 * (10.0 * y.atan2(x)).sin();
                x.hypot(y) < ragged
            })
            .collect();
        let found = outline(&mask, width);
        assert!((8..=MAX_CORNERS).contains(&found.len()), "{}", found.len());
        let full = mask.iter().filter(|inside| **inside).count() as f32;
        assert!(
            (area(&found) / full - 1.0).abs() < 0.05,
            "{} of {full}",
            area(&found)
        );
    }

    #[test]
    fn nothing_and_a_pixel_have_outlines_too() {
        assert!(outline(&[], 0).is_empty());
        assert!(outline(&[false; 6], 3).is_empty());
        let one = outline(&[false, true, false], 3);
        assert_eq!(one, [[1.0, 0.0], [2.0, 0.0], [2.0, 1.0], [1.0, 1.0]]);
        let all = outline(&[true; 6], 3);
        assert_eq!(area(&all), 6.0, "{all:?}");
    }
}
