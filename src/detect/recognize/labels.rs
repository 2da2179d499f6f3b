//! Labels for a number of classes: what the user gave, the file says or COCO has, in this order. `twinsight model add` asks for them.

/// The 80 labels of COCO.
const COCO_80: &str = include_str!("../../../models/coco_80.txt");

/// COCO's labels by their numbers in its annotations, without that for number 0, which is none.
const COCO_90: &str = include_str!("../../../models/coco_90.txt");

/// The names of COCO's keypoints.
const COCO_KEYPOINTS: [&str; 17] = [
    "nose",
    "left eye",
    "right eye",
    "left ear",
    "right ear",
    "left shoulder",
    "right shoulder",
    "left elbow",
    "right elbow",
    "left wrist",
    "right wrist",
    "left hip",
    "right hip",
    "left knee",
    "right knee",
    "left ankle",
    "right ankle",
];

/// The names of the five points of a face.
pub(crate) const FACE_KEYPOINTS: [&str; 5] = [
    "left eye",
    "right eye",
    "nose",
    "left mouth corner",
    "right mouth corner",
];

/// Where labels come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LabelSource {
    /// The user gave them.
    Given,
    /// The metadata of the file has them.
    Metadata,
    /// They are COCO's, because there are as many.
    Coco,
    /// They are COCO's, because the file does not say how many classes there are.
    Assumed,
    /// The kind of output has only this one.
    Kind,
    /// Nobody knows them: these stand for them until the user says them.
    Missing,
}

/// The labels of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LabelSet {
    pub(crate) labels: Vec<String>,
    pub(crate) source: LabelSource,
}

/// COCO's labels, if it has as many: 80, 90 by the numbers of its annotations, or 91 with the unused number 0.
pub(crate) fn coco(classes: usize) -> Option<Vec<String>> {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    match classes {
        80 => Some(lines(COCO_80)),
        90 => Some(lines(COCO_90)),
        91 => Some([vec!["-".to_owned()], lines(COCO_90)].concat()),
        _ => None,
    }
}

/// The labels for this many classes, given or found in the metadata, or COCO's. If the outputs do not say how many there are, they are
/// as many as `assumed`.
pub(crate) fn labels(
    known: Option<(&[String], LabelSource)>,
    classes: Option<usize>,
    assumed: usize,
) -> LabelSet {
    if let Some((labels, source)) = known {
        return LabelSet {
            labels: labels.to_vec(),
            source,
        };
    }
    let count = classes.unwrap_or(assumed);
    let source = match classes {
        Some(_) => LabelSource::Coco,
        None => LabelSource::Assumed,
    };
    match coco(count) {
        Some(labels) => LabelSet { labels, source },
        None => LabelSet {
            labels: (0..count).map(|number| format!("class {number}")).collect(),
            source: LabelSource::Missing,
        },
    }
}

/// The names of this many keypoints, if they are usual ones.
pub(crate) fn keypoints(count: usize) -> Option<Vec<String>> {
    let names: &[&str] = match count {
        17 => &COCO_KEYPOINTS,
        5 => &FACE_KEYPOINTS,
        _ => return None,
    };
    Some(names.iter().map(|&name| name.to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coco_has_its_numbers() {
        let all = |count| coco(count).unwrap();
        assert_eq!((all(80).len(), all(90).len(), all(91).len()), (80, 90, 91));
        assert_eq!(
            (all(80)[0].as_str(), all(80)[2].as_str()),
            ("person", "car")
        );
        // Number 13 of the annotations is the stop sign; 12 is none.
        assert_eq!(
            (all(91)[1].as_str(), all(91)[13].as_str()),
            ("person", "stop sign")
        );
        assert_eq!(all(91)[12], "-");
        assert_eq!(coco(20), None);
        assert_eq!(keypoints(17).unwrap()[9], "left wrist");
        assert_eq!(keypoints(8), None);
    }

    #[test]
    fn given_labels_count_before_all_others() {
        let given = ["cat".to_owned()];
        let set = labels(Some((&given, LabelSource::Given)), Some(80), 80);
        assert_eq!((set.labels.len(), set.source), (1, LabelSource::Given));
        assert_eq!(labels(None, Some(80), 80).source, LabelSource::Coco);
        assert_eq!(labels(None, None, 90).source, LabelSource::Assumed);
        let missing = labels(None, Some(3), 80);
        assert_eq!(
            (missing.labels.len(), missing.source),
            (3, LabelSource::Missing)
        );
    }
}
