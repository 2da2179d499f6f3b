//! Which classes and scores count, and which numbers are refused.

use super::*;

#[test]
fn unused_and_unwanted_classes_do_not_pass() {
    let labels = ["person", "-", "car"].map(str::to_owned);
    let mut filter = Filter::new(&labels);
    filter.set(0.5, &[]);
    let passing = |filter: &Filter| {
        (0..4)
            .filter(|&c| filter.passes(c, 0.5))
            .collect::<Vec<_>>()
    };
    assert_eq!(passing(&filter), [0, 2]);
    filter.set(0.5, &[1, 2, 9]);
    assert_eq!(passing(&filter), [2]);
    assert!(!filter.passes(2, 0.49) && !filter.passes(2, f32::NAN));
}

#[test]
fn rounding_is_no_lie_and_a_score_stays_one() {
    for rounded in [-0.009, -0.0, 0.0, 1.0, 1.009] {
        assert!(is_score(rounded), "{rounded}");
    }
    for none in NO_SCORES {
        assert!(!is_score(none), "{none}");
    }
    let rows = table(Kind::Rows);
    let found = read_table(&rows, 1, &[1, 1, 6], &[0.0, 0.0, 1.0, 1.0, 1.009, 0.0]).unwrap();
    assert_eq!(found, [(0.0, 0.0, 1.0, 1.0, 1.0, 0)]);
    let vast = [-3e38, 0.0, 3e38, 1.0, 0.5, 0.0];
    assert_eq!(
        read_table(&rows, 1, &[1, 1, 6], &vast)
            .unwrap_err()
            .to_string(),
        "output `out` has inf as an edge of a box, which should be finite: the model or its manifest (`output.box_format`) is wrong"
    );
}

#[test]
fn an_objectness_a_little_below_zero_makes_no_object() {
    let values = [10.0, 20.0, 4.0, 8.0, -0.005, 0.1, 0.2];
    let found = read_table(&table(Kind::YoloObjectness), 2, &[1, 1, 7], &values);
    assert_eq!(found.unwrap(), []);
}

#[test]
fn classes_between_two_numbers_and_vast_boxes_are_refused() {
    let rows = table(Kind::Rows);
    let of = |right: f32, class: f32| {
        read_table(&rows, 3, &[1, 1, 6], &[1.0, 2.0, right, 4.0, 0.9, class])
    };
    assert_eq!(of(3.0, 1.004).unwrap()[0].5, 1);
    assert_eq!(
        of(3.0, 0.4).unwrap_err().to_string(),
        "output `out` has 0.4 as the class of a box, which should be a whole number: the model or its manifest (`output.columns`) is wrong"
    );
    assert!(of(700.0, 1.0).is_ok());
    let error = of(1e6, 1.0).unwrap_err().to_string();
    assert!(
        error.contains("should be no longer than 8 inputs"),
        "{error}"
    );
}

#[test]
fn lengths_must_be_filled() {
    let values = [0.0; 6];
    let of = |dims: &[i64]| array("o", dims, &values).lengths::<2>();
    assert_eq!(of(&[2, 3]), Some([2, 3]));
    assert_eq!(of(&[1, 1, 2, 3]), Some([2, 3]));
    assert_eq!(of(&[2, 1, 3]), None);
    assert_eq!(of(&[2, 2]), None);
    assert_eq!(of(&[6]), None);
    assert_eq!(of(&[-2, -3]), None);
    assert_eq!(of(&[i64::MAX, i64::MAX]), None);
}

#[test]
fn numbers_in_rows_that_cannot_be_are_refused() {
    #[rustfmt::skip]
    let good = [
        1.0, 2.0, 3.0, 4.0, 0.9, 1.0,
        f32::NAN, f32::INFINITY, 3.0, 4.0, 0.1, 0.0, // too low to matter
        -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, // padding
    ];
    let run = |values: &[f32]| read_table(&table(Kind::Rows), 2, &[1, 3, 6], values);
    refuses(&NO_SCORES, 4, &good, run);
    // Of a row that is too low, too.
    refuses(&NO_SCORES, 10, &good, run);
    refuses(&[f32::NAN, f32::INFINITY, 2.0, 40.0], 5, &good, run);
    for edge in 0..4 {
        refuses(&NO_EDGES, edge, &good, run);
    }
    // A box whose right edge is left of its left one, or whose bottom is above its top.
    refuses(&[-1.0, -500.0], 2, &good, run);
    refuses(&[9.0, 500.0], 1, &good, run);
    // Far outside of the picture, and only a little.
    let beyond = |left: f32| {
        let mut values = good.to_vec();
        (values[0], values[2]) = (left, left + 10.0);
        run(&values)
    };
    assert!(beyond(126.0).is_err() && beyond(-36.0).is_err());
    assert!(beyond(124.0).is_ok() && beyond(-34.0).is_ok());
}

#[test]
fn numbers_of_anchors_that_cannot_be_are_refused() {
    #[rustfmt::skip]
    let good = [
        10.0, f32::NAN, // cx; the second anchor is too low to matter
        20.0, f32::INFINITY, // cy
         4.0, 1.0, // w
         8.0, 1.0, // h
         0.9, 0.3, // class 0
         0.2, 0.1, // class 1
    ];
    let run = |values: &[f32]| read_table(&table(Kind::Yolo), 2, &[1, 6, 2], values);
    for score in 8..12 {
        refuses(&NO_SCORES, score, &good, run);
    }
    for edge in [0, 2, 4, 6] {
        refuses(&NO_EDGES, edge, &good, run);
    }
    refuses(&[-4.0], 4, &good, run);
}
