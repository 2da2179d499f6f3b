//! Faces, poses and outlines: objects with points in the picture.

use super::*;

fn objects(table: &OutputTable, classes: usize, arrays: &[Array<'_>]) -> Vec<Object> {
    postprocessor(table, classes)
        .objects(
            arrays,
            &filter(classes, 0.4),
            &mut Scratch::default(),
            0.5,
            &placement(),
        )
        .unwrap()
}

#[test]
fn centerface_finds_faces_and_their_points() {
    let mut face = table(Kind::Centerface);
    face.landmarks = Some("points".to_owned());
    // A heatmap of two columns and one row: a place has 50 by 200 pixels.
    let (heat, logs) = ([0.1, 0.9], [0.0, 0.1f32.ln(), 0.0, 0.4f32.ln()]);
    let offset = [0.0, 0.1, 0.0, -0.2];
    let mut points = [0.0; 20];
    points[1] = 0.5;
    points[3] = 0.25;
    let arrays = [
        array("heatmap", &[1, 1, 1, 2], &heat),
        array("size", &[1, 2, 1, 2], &logs),
        array("offset", &[1, 2, 1, 2], &offset),
        array("points", &[1, 10, 1, 2], &points),
    ];
    let found = objects(&face, 1, &arrays);
    assert_eq!(found.len(), 1);
    let bbox = found[0].bbox;
    // The centre is at 65, 120 of the tensor, and the box is 20 by 20.
    assert!(
        (bbox.x - 110.0).abs() < 1e-3 && (bbox.y - 110.0).abs() < 1e-3,
        "{bbox:?}"
    );
    assert!(
        (bbox.width - 40.0).abs() < 1e-3 && (bbox.height - 20.0).abs() < 1e-3,
        "{bbox:?}"
    );
    let point = found[0].keypoints[0];
    assert_eq!(found[0].keypoints.len(), 5);
    assert!(
        (point.x - 120.0).abs() < 1e-3 && (point.y - 120.0).abs() < 1e-3,
        "{point:?}"
    );
}

#[test]
fn poses_have_points_in_the_picture() {
    let mut pose = table(Kind::YoloPose);
    #[rustfmt::skip]
    let values = [
        50.0, 100.0, 20.0, 40.0, 0.9, 45.0, 90.0, 0.8, 55.0, 500.0, 1.004,
        10.0, 10.0, 20.0, 40.0, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0,
    ];
    let check = |found: &[Object]| {
        assert_eq!(found.len(), 1);
        let [first, second] = found[0].keypoints[..] else {
            panic!("{found:?}");
        };
        assert_eq!((first.x, first.y, first.score), (90.0, 90.0, 0.8));
        // A point beyond the picture lies at its edge.
        assert_eq!((second.x, second.y, second.score), (110.0, 200.0, 1.0));
    };
    check(&objects(&pose, 1, &[array("out", &[1, 2, 11], &values)]));
    check(&objects(
        &pose,
        1,
        &[array("out", &[1, 11, 2], &turned(&values, 2))],
    ));
    // NMS in the graph.
    #[rustfmt::skip]
    let rows = [40.0, 80.0, 60.0, 120.0, 0.9, 0.0, 45.0, 90.0, 0.8, 55.0, 500.0, 1.004];
    pose.columns = Some(vec![
        Column::Box,
        Column::Score,
        Column::Class,
        Column::Keypoints,
    ]);
    pose.box_format = Some(BoxFormat::Xyxy);
    check(&objects(&pose, 1, &[array("out", &[1, 1, 12], &rows)]));
}

#[test]
fn segments_have_an_outline_in_the_picture() {
    let seg = table(Kind::YoloSeg);
    // Two prototypes of 10 by 20: the left half of one is set, the whole of the other is.
    let left: Vec<f32> = (0..200)
        .map(|at| if at % 10 < 5 { 1.0 } else { -1.0 })
        .collect();
    let prototypes = [left, vec![1.0; 200]].concat();
    let values = [50.0, 100.0, 60.0, 80.0, 0.9, 1.0, 0.0];
    let arrays = [
        array("out", &[1, 7, 1], &values),
        array("prototypes", &[1, 2, 20, 10], &prototypes),
    ];
    let found = objects(&seg, 1, &arrays);
    assert_eq!(found.len(), 1);
    let outline = &found[0].outline;
    assert!((4..=32).contains(&outline.len()), "{outline:?}");
    // The left half of the box: 20 to 50 of the tensor's 100 columns, which are 200 of the picture.
    let bounds = |axis: usize| {
        let all = outline.iter().map(|point| point[axis]);
        (
            all.clone().fold(f32::INFINITY, f32::min),
            all.fold(0.0, f32::max),
        )
    };
    assert_eq!(bounds(0), (40.0, 100.0));
    assert_eq!(bounds(1), (60.0, 140.0));
    assert!(found[0].keypoints.is_empty());
}
