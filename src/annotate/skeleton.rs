//! Which keypoints are joined by lines: those of a person, as COCO numbers them. The names of a model's keypoints come in, pairs of
//! their numbers go out.

/// Two keypoints, by number, that a line joins.
pub(super) type Bone = [usize; 2];

/// COCO's keypoints of a person.
const NAMES: [&str; 17] = [
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
];

/// COCO's skeleton, counted from 0.
const BONES: [Bone; 19] = [
    [15, 13],
    [13, 11],
    [16, 14],
    [14, 12],
    [11, 12],
    [5, 11],
    [6, 12],
    [5, 6],
    [5, 7],
    [6, 8],
    [7, 9],
    [8, 10],
    [1, 2],
    [0, 1],
    [0, 2],
    [1, 3],
    [2, 4],
    [3, 5],
    [4, 6],
];

/// The lines between so many keypoints with these names. Without names, 17 keypoints are taken for COCO's, since no other set of
/// that size is usual.
pub(super) fn bones(keypoints: usize, names: &[String]) -> &'static [Bone] {
    if keypoints == NAMES.len() && (names.is_empty() || names == NAMES) {
        &BONES
    } else {
        &[]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_of_coco_has_a_skeleton_and_nothing_else_has() {
        let coco = NAMES.map(str::to_owned);
        assert_eq!(bones(17, &coco), BONES);
        assert_eq!(bones(17, &[]), BONES);
        assert!(bones(5, &[]).is_empty());
        assert!(bones(0, &[]).is_empty());
        let mut others = coco;
        others[16] = "tail".to_owned();
        assert!(bones(17, &others).is_empty());
        // Each line stays on its side of the body, or joins the same joints of both.
        for [from, to] in BONES {
            let [from, to] = [from, to].map(|joint| NAMES[joint]);
            let side = |name: &'static str| name.split_once('_');
            if let (Some((left, joint)), Some((right, other))) = (side(from), side(to)) {
                assert!(left == right || joint == other, "{from} {to}");
            }
        }
    }
}
