use geo::{Area, Intersects, Line};
use proptest::prelude::*;

use super::*;

fn polygon(corners: &[[f64; 2]]) -> Result<Polygon, PolygonError> {
    Polygon::new(
        corners
            .iter()
            .map(|[x, y]| Point { x: *x, y: *y })
            .collect(),
    )
}

fn refusal(corners: &[[f64; 2]]) -> String {
    polygon(corners).unwrap_err().to_string()
}

fn at(x: f64, y: f64) -> Point {
    Point { x, y }
}

#[test]
fn a_refusal_names_the_point_and_what_to_do() {
    assert_eq!(
        refusal(&[[0.1, 0.1], [0.2, 0.2]]),
        "a polygon has at least 3 points, and this one has 2: add the corners that are missing"
    );
    let many: Vec<[f64; 2]> = (0..33)
        .map(|n| [f64::from(n) / 40.0, f64::from(n * n) / 2000.0])
        .collect();
    assert_eq!(
        refusal(&many),
        "a polygon has at most 32 points, and this one has 33: leave out corners that change little"
    );
    assert!(polygon(&many[..32]).is_ok());
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(
            refusal(&[[0.1, 0.1], [number, 0.2], [0.5, 0.5]]),
            "point 2 is not a pair of finite numbers: give both as parts of the picture, from 0 to 1"
        );
    }
    assert_eq!(
        refusal(&[[0.1, 0.1], [0.5, 0.2], [640.0, 0.5]]),
        "point 3 is [640, 0.5], which is outside the picture: both numbers are parts of the picture, from 0 to 1, and not pixels"
    );
    assert!(
        refusal(&[[0.1, -0.0001], [0.5, 0.2], [0.3, 0.5]])
            .starts_with("point 1 is [0.1, -0.0001],")
    );
    assert_eq!(
        refusal(&[[0.1, 0.1], [0.5, 0.1], [0.5, 0.5], [0.1, 0.1]]),
        "points 1 and 4 are the same place: leave one of them out; a polygon closes by itself"
    );
    assert_eq!(
        refusal(&[[0.1, 0.1], [0.5, 0.5], [0.5, 0.1], [0.1, 0.5]]),
        "the side from point 1 to point 2 crosses or touches the side from point 3 to point 4: give the points in the order in which \
         somebody meets them who walks once round the region"
    );
    assert_eq!(
        refusal(&[[0.1, 0.1], [0.1005, 0.1], [0.1005, 0.1005]]),
        "it covers less than a millionth of the picture: move its points apart"
    );
}

#[test]
fn what_touches_itself_is_refused_and_what_is_straight_is_not() {
    let crosses = |one, other| Err(PolygonError::Crosses { one, other });
    // A corner in the middle of another side.
    let touching = [[0.1, 0.1], [0.7, 0.1], [0.7, 0.7], [0.4, 0.1], [0.1, 0.7]];
    assert_eq!(polygon(&touching), crosses([1, 2], [3, 4]));
    // There and back on one straight way, also through the first corner.
    assert_eq!(
        polygon(&[[0.1, 0.1], [0.5, 0.5], [0.3, 0.3]]),
        crosses([1, 2], [2, 3])
    );
    assert_eq!(
        polygon(&[[0.1, 0.1], [0.3, 0.3], [0.2, 0.6], [0.5, 0.5]]),
        crosses([1, 2], [4, 1])
    );
    // All on one straight line, which has no area whichever way it is walked.
    assert!(polygon(&[[0.1, 0.1], [0.2, 0.1], [0.3, 0.1], [0.4, 0.1]]).is_err());
    // A corner that changes nothing.
    assert!(polygon(&[[0.1, 0.1], [0.3, 0.1], [0.5, 0.1], [0.5, 0.5]]).is_ok());
    // The numbers 0.1, 0.2 and 0.3 are no binary fractions, and yet this corner is exactly on that side.
    let third = [[0.1, 0.1], [0.7, 0.7], [0.7, 0.1], [0.3, 0.3]];
    assert!(matches!(polygon(&third), Err(PolygonError::Crosses { .. })));
}

#[test]
fn an_edge_belongs_to_one_side_and_the_pictures_own_edges_are_in_it() {
    let all = polygon(&[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]).unwrap();
    for (x, y) in [
        (0.0, 0.0),
        (1.0, 0.0),
        (1.0, 1.0),
        (0.0, 1.0),
        (0.5, 1.0),
        (1.0, 0.5),
    ] {
        assert!(all.contains(at(x, y)), "{x} {y}");
    }
    for (x, y) in [
        (f64::NAN, 0.5),
        (0.5, f64::INFINITY),
        (-0.1, 0.5),
        (0.5, 1.1),
    ] {
        assert!(!all.contains(at(x, y)), "{x} {y}");
    }
    assert!((all.area() - 1.0).abs() < 1e-12);
    let left = polygon(&[[0.1, 0.1], [0.5, 0.1], [0.5, 0.5], [0.1, 0.5]]).unwrap();
    let right = polygon(&[[0.5, 0.1], [0.9, 0.1], [0.9, 0.5], [0.5, 0.5]]).unwrap();
    let below = polygon(&[[0.1, 0.5], [0.9, 0.5], [0.9, 0.9], [0.1, 0.9]]).unwrap();
    let inside = |x, y| [&left, &right, &below].map(|region| region.contains(at(x, y)));
    assert_eq!(inside(0.5, 0.3), [false, true, false]);
    assert_eq!(inside(0.3, 0.5), [false, false, true]);
    assert_eq!(inside(0.5, 0.5), [false, false, true]);
    assert_eq!(inside(0.1, 0.1), [true, false, false]);
    assert!((left.area() - 0.16).abs() < 1e-12);
}

#[test]
fn a_region_with_a_bay_holds_what_is_beside_the_bay() {
    let u = [
        [0.1, 0.1],
        [0.3, 0.1],
        [0.3, 0.6],
        [0.6, 0.6],
        [0.6, 0.1],
        [0.9, 0.1],
        [0.9, 0.9],
        [0.1, 0.9],
    ];
    let region = polygon(&u).unwrap();
    for (x, y, is) in [
        (0.2, 0.3, true),
        (0.45, 0.3, false),
        (0.7, 0.3, true),
        (0.45, 0.7, true),
        (0.95, 0.7, false),
    ] {
        assert_eq!(region.contains(at(x, y)), is, "{x} {y}");
    }
}

/// The polygon as `geo` has it, in millionths.
fn as_geo(corners: &[[i32; 2]]) -> geo::Polygon<f64> {
    let ring: Vec<(f64, f64)> = corners
        .iter()
        .map(|[x, y]| (f64::from(*x), f64::from(*y)))
        .collect();
    geo::Polygon::new(ring.into(), Vec::new())
}

fn of_millionths(corners: &[[i32; 2]]) -> Result<Polygon, PolygonError> {
    let parts: Vec<[f64; 2]> = corners
        .iter()
        .map(|corner| corner.map(|part| f64::from(part) / 1e6))
        .collect();
    polygon(&parts)
}

/// Whether two sides of the outline, which have no corner in common, meet, or two that have one have more: judged by `geo`.
fn geo_says_it_meets_itself(corners: &[[i32; 2]]) -> bool {
    let count = corners.len();
    let coordinate = |n: usize| {
        let [x, y] = corners[n % count];
        geo::Coord {
            x: f64::from(x),
            y: f64::from(y),
        }
    };
    let side = |n: usize| Line::new(coordinate(n), coordinate(n + 1));
    let apart = (0..count)
        .any(|n| (n + 2..count).any(|m| (n, m) != (0, count - 1) && side(n).intersects(&side(m))));
    // Neighbours have more than their corner in common where the far end of the shorter one is on the longer one.
    let folded = (0..count)
        .any(|n| side(n).intersects(&coordinate(n + 2)) || side(n + 1).intersects(&coordinate(n)));
    apart || folded
}

/// Few different numbers, so that corners repeat, lie on sides and make straight angles.
fn coarse() -> impl Strategy<Value = [i32; 2]> {
    [0..=5i32, 0..=5i32].prop_map(|corner| corner.map(|part| part * 200_000))
}

fn fine() -> impl Strategy<Value = [i32; 2]> {
    [0..=1_000_000i32, 0..=1_000_000i32]
}

fn agrees(corners: &[[i32; 2]], points: &[[i32; 2]]) -> Result<(), TestCaseError> {
    let geo_polygon = as_geo(corners);
    let repeats = (1..corners.len()).any(|n| corners[..n].contains(&corners[n]));
    let meets = repeats || geo_says_it_meets_itself(corners);
    let mine = of_millionths(corners);
    let tiny = geo_polygon.unsigned_area() < 1e6;
    prop_assert_eq!(mine.is_err(), meets || tiny, "{:?}", mine);
    let Ok(mine) = mine else { return Ok(()) };
    prop_assert!((mine.area() * 1e12 - geo_polygon.unsigned_area()).abs() < 1.0);
    let reversed: Vec<[i32; 2]> = corners.iter().rev().copied().collect();
    let reversed = of_millionths(&reversed).unwrap();
    for point in points {
        let [x, y] = point.map(f64::from);
        let place = at(x / 1e6, y / 1e6);
        prop_assert_eq!(mine.contains(place), reversed.contains(place));
        let geo_point = geo::Coord { x, y };
        if geo_polygon.exterior().intersects(&geo_point) {
            // On an edge it is inside or not, and the test of shared edges says which.
            continue;
        }
        prop_assert_eq!(
            mine.contains(place),
            geo_polygon.intersects(&geo_point),
            "{:?}",
            point
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn geo_agrees_where_much_touches(
        corners in prop::collection::vec(coarse(), 3..7),
        points in prop::collection::vec(coarse(), 0..8),
        more in prop::collection::vec(fine(), 0..8),
    ) {
        agrees(&corners, &points)?;
        agrees(&corners, &more)?;
    }

    #[test]
    fn geo_agrees_anywhere(
        corners in prop::collection::vec(fine(), 3..8),
        points in prop::collection::vec(fine(), 0..8),
    ) {
        agrees(&corners, &points)?;
    }

    /// Two regions that share an edge: whatever is in both together is in exactly one.
    #[test]
    fn what_is_on_a_shared_edge_is_in_one_region(
        corners in prop::collection::vec(coarse(), 3),
        across in coarse(),
        points in prop::collection::vec(coarse(), 1..8),
        along in 0..=10i32,
    ) {
        let other = [corners[0], across, corners[2]];
        let (Ok(one), Ok(two)) = (of_millionths(&corners), of_millionths(&other)) else { return Ok(()) };
        // They lie on different sides of the edge from the first corner to the third.
        let [a, b, c, d] = [corners[0], corners[2], corners[1], across].map(|[x, y]| [i64::from(x), i64::from(y)]);
        let side = |p: [i64; 2]| ((b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0])).signum();
        if side(c) * side(d) >= 0 {
            return Ok(());
        }
        for point in &points {
            let [x, y] = point.map(|part| f64::from(part) / 1e6);
            prop_assert!(!(one.contains(at(x, y)) && two.contains(at(x, y))));
        }
        let part = |n: usize| f64::from(corners[0][n] + (corners[2][n] - corners[0][n]) / 10 * along) / 1e6;
        let on_edge = at(part(0), part(1));
        if along > 0 && along < 10 {
            let inside = usize::from(one.contains(on_edge)) + usize::from(two.contains(on_edge));
            prop_assert_eq!(inside, 1);
        }
    }

    #[test]
    fn nothing_panics(
        corners in prop::collection::vec(prop::array::uniform2(prop::num::f64::ANY), 0..40),
        point in prop::array::uniform2(prop::num::f64::ANY),
    ) {
        if let Ok(polygon) = polygon(&corners) {
            prop_assert!(!polygon.contains(at(point[0], f64::NAN)));
            let _ = polygon.contains(at(point[0], point[1]));
        }
    }
}
