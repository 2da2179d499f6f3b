//! What exporters write into a model file about it: its metadata comes in, labels, size, task and licence go out. Only keys that exporters
//! in use write are known; all others are ignored. `twinsight model add` asks for it.

use std::collections::BTreeMap;

/// No model has more classes than this; a larger number in a file is no number of a class.
const MOST_LABELS: usize = 100_000;

/// What the metadata of a model file says.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Metadata {
    /// The labels of the classes; `-` for numbers that have none.
    pub(crate) names: Option<Vec<String>>,
    /// The height and the width of the input in pixels.
    pub(crate) size: Option<(usize, usize)>,
    /// What the model does, as `detect`.
    pub(crate) task: Option<String>,
    /// How many keypoints an object has, and how many numbers a keypoint.
    pub(crate) keypoints: Option<(usize, usize)>,
    /// The licence, an SPDX expression where it is a usual one.
    pub(crate) licence: Option<String>,
    /// Where the model comes from.
    pub(crate) source: Option<String>,
    /// True if the exporter is that of YOLOv5, YOLOv8 and their successors.
    pub(crate) is_ultralytics: bool,
}

impl Metadata {
    pub(crate) fn read(all: &BTreeMap<String, String>) -> Self {
        let get = |key: &str| all.get(key).map(String::as_str);
        let words = ["author", "description", "license", "docs"];
        let is_ultralytics = words
            .iter()
            .filter_map(|key| get(key))
            .any(|text| text.to_ascii_lowercase().contains("ultralytics"))
            || (get("stride").is_some() && get("names").is_some());
        let size = get("imgsz").map(numbers);
        let keypoints = get("kpt_shape").map(numbers);
        let said = |keys: [&str; 2]| {
            let found = keys.iter().find_map(|key| get(key));
            found
                .map(str::trim)
                .filter(|text| !text.is_empty())
                .map(str::to_owned)
        };
        let source = said(["source", "docs"]).or_else(|| {
            is_ultralytics
                .then(|| get("description").map(str::to_owned))
                .flatten()
        });
        Self {
            names: get("names").and_then(names),
            size: match size.as_deref() {
                Some([height, width]) => Some((*height, *width)),
                Some([side]) => Some((*side, *side)),
                _ => None,
            },
            task: get("task").map(str::to_owned),
            keypoints: match keypoints.as_deref() {
                Some([count, numbers]) => Some((*count, *numbers)),
                _ => None,
            },
            licence: said(["license", "licence"]).map(|text| spdx(&text)),
            source,
            is_ultralytics,
        }
    }
}

/// The SPDX identifier of a licence that is written with more words, as `AGPL-3.0 License (https://…)`; any other text as it is.
fn spdx(text: &str) -> String {
    match text.split_whitespace().next() {
        Some("AGPL-3.0") => "AGPL-3.0-only".to_owned(),
        Some("GPL-3.0") => "GPL-3.0-only".to_owned(),
        _ => text.to_owned(),
    }
}

/// The whole numbers in a text such as `[640, 640]`.
fn numbers(text: &str) -> Vec<usize> {
    text.split(|c: char| !c.is_ascii_digit())
        .filter_map(|word| word.parse().ok())
        .collect()
}

/// Reads labels from the text of a dictionary or list of Python or JSON: `{0: 'person', 1: "it's"}`, `["person", "car"]`.
pub(crate) fn names(text: &str) -> Option<Vec<String>> {
    let text = text.trim();
    let inside = text
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .or_else(|| {
            text.strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'))
        })?;
    let is_dictionary = text.starts_with('{');
    let mut labels: BTreeMap<usize, String> = BTreeMap::new();
    let mut rest = inside.trim_start();
    while !rest.is_empty() {
        let number = if is_dictionary {
            let (key, after) = if rest.starts_with(['\'', '"']) {
                quoted(rest)?
            } else {
                let end = rest.find(':')?;
                (rest[..end].trim().to_owned(), &rest[end..])
            };
            rest = after.trim_start().strip_prefix(':')?.trim_start();
            key.trim()
                .parse()
                .ok()
                .filter(|&number| number < MOST_LABELS)?
        } else {
            labels.len()
        };
        let (label, after) = quoted(rest)?;
        labels.insert(number, label);
        rest = after.trim_start();
        if !rest.is_empty() {
            rest = rest.strip_prefix(',')?.trim_start();
        }
    }
    let last = *labels.keys().next_back()?;
    let mut label = |number| {
        let found = labels.remove(&number).unwrap_or_default();
        let found = found.split_whitespace().collect::<Vec<_>>().join(" ");
        if found.is_empty() {
            "-".to_owned()
        } else {
            found
        }
    };
    Some((0..=last).map(&mut label).collect())
}

/// Reads a text in quotation marks, and gives what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mark = text.chars().next().filter(|c| ['\'', '"'].contains(c))?;
    let mut found = String::new();
    let mut rest = text[1..].char_indices();
    while let Some((at, c)) = rest.next() {
        match c {
            '\\' => found.push(match rest.next()?.1 {
                'n' | 't' | 'r' => ' ',
                other => other,
            }),
            _ if c == mark => return Some((found, &text[1 + at + 1..])),
            _ => found.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_as_python_and_json_write_them() {
        let read = |text| names(text).unwrap_or_default();
        assert_eq!(read("{0: 'person', 1: \"it's\"}"), ["person", "it's"]);
        assert_eq!(read(r"{0: 'a\'b', 2: 'c'}"), ["a'b", "-", "c"]);
        assert_eq!(
            read("{\"0\": \"person\", \"1\": \"car\"}"),
            ["person", "car"]
        );
        assert_eq!(read("['person', 'car',]"), ["person", "car"]);
        assert_eq!(read(" [\"x, y\"] "), ["x, y"]);
        for bad in [
            "",
            "person",
            "{0: person}",
            "{a: 'b'}",
            "{0: 'b",
            "{}",
            "{99999999999: 'a'}",
        ] {
            assert_eq!(names(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_ultralytics_writes_is_understood() {
        let all = [
            (
                "description",
                "Ultralytics YOLO11n-pose model trained on coco",
            ),
            ("author", "Ultralytics"),
            (
                "license",
                "AGPL-3.0 License (https://ultralytics.com/license)",
            ),
            ("docs", "https://docs.ultralytics.com"),
            ("stride", "32"),
            ("task", "pose"),
            ("imgsz", "[384, 640]"),
            ("names", "{0: 'person'}"),
            ("kpt_shape", "[17, 3]"),
        ];
        let all = all.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let metadata = Metadata::read(&all.into());
        assert_eq!(
            metadata,
            Metadata {
                names: Some(vec!["person".to_owned()]),
                size: Some((384, 640)),
                task: Some("pose".to_owned()),
                keypoints: Some((17, 3)),
                licence: Some("AGPL-3.0-only".to_owned()),
                source: Some("https://docs.ultralytics.com".to_owned()),
                is_ultralytics: true,
            }
        );
    }
}
