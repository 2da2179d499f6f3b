//! The JSON of an object in events and in the lines of `twinsight detect`: what a stage saw comes in, and what serde can write
//! goes out.

use std::sync::Arc;

use serde::Serialize;

use crate::detect::{BBox, Keypoint, ModelInfo, Object};

/// An object in a frame.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenObject {
    /// The model's name for its class.
    pub label: Arc<str>,
    /// Index in the model's labels.
    pub class_id: usize,
    /// 0 to 1.
    pub score: f32,
    /// Left edge, pixels of the frame.
    pub x: f32,
    /// Upper edge, pixels of the frame.
    pub y: f32,
    /// Pixels of the frame.
    pub width: f32,
    /// Pixels of the frame.
    pub height: f32,
    /// In the order of the model's keypoints; empty if it gives none.
    pub keypoints: Vec<Keypoint>,
    /// The corners of a polygon around it, x and y in pixels of the frame; empty if the model gives none.
    pub outline: Vec<[f32; 2]>,
    /// The track that it is of. `None` where nothing is followed.
    pub following: Option<Following>,
}

/// How an object is followed.
#[derive(Debug, Clone, PartialEq)]
pub struct Following {
    /// The number of its track. `None` while that is not confirmed.
    pub id: Option<u64>,
    /// The zones that the track is in.
    pub zones: Arc<[Arc<str>]>,
}

/// An object as JSON.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ObjectJson<'a> {
    label: &'a str,
    class_id: usize,
    score: f64,
    #[serde(rename = "box")]
    bbox: BoxJson,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    keypoints: Vec<KeypointJson<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    outline: Vec<[f64; 2]>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    following: Option<FollowingJson<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FollowingJson<'a> {
    track_id: Option<String>,
    zones: Vec<&'a str>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct BoxJson {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

#[derive(Debug, Serialize)]
struct KeypointJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    x: f64,
    y: f64,
    score: f64,
}

impl BoxJson {
    /// A box in pixels.
    pub(crate) fn of(bbox: &BBox) -> Self {
        Self {
            x: tenth_px(bbox.x),
            y: tenth_px(bbox.y),
            width: tenth_px(bbox.width),
            height: tenth_px(bbox.height),
        }
    }
}

impl SeenObject {
    /// What this model's detector found, before anything follows it.
    pub(crate) fn of(object: &Object, model: &ModelInfo) -> Self {
        Self {
            label: model.label(object.class_id).into(),
            class_id: object.class_id,
            score: object.score,
            x: object.bbox.x,
            y: object.bbox.y,
            width: object.bbox.width,
            height: object.bbox.height,
            keypoints: object.keypoints.clone(),
            outline: object.outline.clone(),
            following: None,
        }
    }
}

impl<'a> ObjectJson<'a> {
    /// An object of a model whose keypoints have these names, if they have any.
    pub(crate) fn new(object: &'a SeenObject, keypoint_names: &'a [String]) -> Self {
        let keypoint = |(n, point): (usize, &Keypoint)| KeypointJson {
            name: keypoint_names.get(n).map(String::as_str),
            x: tenth_px(point.x),
            y: tenth_px(point.y),
            score: score(point.score),
        };
        let corner = |corner: &[f32; 2]| corner.map(tenth_px);
        Self {
            label: &object.label,
            class_id: object.class_id,
            score: score(object.score),
            bbox: BoxJson {
                x: tenth_px(object.x),
                y: tenth_px(object.y),
                width: tenth_px(object.width),
                height: tenth_px(object.height),
            },
            keypoints: object.keypoints.iter().enumerate().map(keypoint).collect(),
            outline: object.outline.iter().map(corner).collect(),
            following: object.following.as_ref().map(|following| FollowingJson {
                track_id: following.id.map(|id| id.to_string()),
                zones: following.zones.iter().map(AsRef::as_ref).collect(),
            }),
        }
    }
}

pub(super) fn tenth_px(value: f32) -> f64 {
    rounded(value, 10.0)
}

pub(crate) fn score(value: f32) -> f64 {
    rounded(value, 10_000.0)
}

/// Rounds to 1/`parts`. JSON gets the nearest decimal, which has no long tail of digits. Adding 0 turns -0 into 0.
pub(super) fn rounded(value: f32, parts: f64) -> f64 {
    (f64::from(value) * parts).round() / parts + 0.0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn person() -> SeenObject {
        SeenObject {
            label: "person".into(),
            class_id: 0,
            score: 0.93,
            x: 44.12,
            y: 398.0,
            width: 189.16,
            height: 505.34,
            keypoints: Vec::new(),
            outline: Vec::new(),
            following: None,
        }
    }

    fn json_of(object: &SeenObject, names: &[String]) -> serde_json::Value {
        serde_json::to_value(ObjectJson::new(object, names)).unwrap()
    }

    #[test]
    fn keypoints_and_outline_are_there_only_where_the_model_gives_them() {
        let mut object = person();
        let plain = json!({"label": "person", "classId": 0, "score": 0.93,
                           "box": {"x": 44.1, "y": 398.0, "width": 189.2, "height": 505.3}});
        assert_eq!(json_of(&object, &["nose".to_owned()]), plain);

        let point = |x, y, score| Keypoint { x, y, score };
        object.keypoints = vec![point(100.04, 420.06, 0.987_68), point(-0.04, 431.0, 0.5)];
        object.outline = vec![[50.0, 400.04], [120.26, 400.0], [90.0, 800.0]];
        let mut expected = plain;
        expected["keypoints"] = json!([{"name": "nose", "x": 100.0, "y": 420.1, "score": 0.9877},
                                       {"name": "left_eye", "x": 0.0, "y": 431.0, "score": 0.5}]);
        expected["outline"] = json!([[50.0, 400.0], [120.3, 400.0], [90.0, 800.0]]);
        let names = ["nose".to_owned(), "left_eye".to_owned()];
        assert_eq!(json_of(&object, &names), expected);
        assert!(!json_of(&object, &names).to_string().contains("-0"));

        // A model whose names are not known.
        for point in expected["keypoints"].as_array_mut().unwrap() {
            point.as_object_mut().unwrap().remove("name");
        }
        assert_eq!(json_of(&object, &[]), expected);
    }
}
