//! The names of topics. Ids of nodes and cameras come in, and levels of topics that every broker takes go out.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};
use twinsight_client::stream_id::StreamId;

/// The name of the level below a node under which it says whether it is there.
const STATUS: &str = "status";

/// The topics of a node on one broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Topics {
    root: String,
    node: String,
}

impl Topics {
    /// The topics of this node below a prefix.
    pub(crate) fn new(prefix: &str, node: &str) -> Self {
        let node = level(node);
        Self {
            root: format!("{prefix}/{node}"),
            node,
        }
    }

    /// The node's id as a level of a topic.
    pub(crate) fn node(&self) -> &str {
        &self.node
    }

    /// What all topics of the node begin with.
    pub(crate) fn root(&self) -> &str {
        &self.root
    }

    /// Where the node says that it is there, and the broker that it is not.
    pub(crate) fn status(&self) -> String {
        format!("{}/{STATUS}", self.root)
    }

    /// A topic of a camera stream.
    pub(crate) fn of(&self, id: &StreamId, leaf: &str) -> String {
        let (camera, stream) = (level(&id.twin_id), level(&id.stream));
        format!("{}/{camera}/{stream}/{leaf}", self.root)
    }
}

/// An id as one level of a topic. What has a meaning in topics or is unhandy in them becomes `_`; then the first digits of the id's
/// hash follow, so that two ids never share a level.
pub(crate) fn level(id: &str) -> String {
    let level: String = id
        .chars()
        .map(|c| match c {
            '+' | '#' | '/' | '$' => '_',
            c if c.is_control() || c.is_whitespace() => '_',
            c => c,
        })
        .collect();
    marked_if_changed(id, level)
}

/// An id that consists of letters, digits, `-` and `_`, as Home Assistant wants it.
pub(crate) fn object_id(id: &str) -> String {
    let object: String = id
        .chars()
        .map(|c| if is_plain(c) { c } else { '_' })
        .collect();
    marked_if_changed(id, object)
}

/// A label as a part of topics and ids. Labels in ASCII that differ only in case and in signs share it. Of others little would be
/// left, so a part of the label's hash follows.
pub(crate) fn slug(label: &str) -> String {
    const LONGEST: usize = 64;
    let slug: String = label
        .chars()
        .take(LONGEST)
        .map(|c| {
            if is_plain(c) {
                c.to_ascii_lowercase()
            } else {
                '_'
            }
        })
        .collect();
    if label.is_empty() {
        "_".to_owned()
    } else if label.is_ascii() && label.len() <= LONGEST {
        slug
    } else {
        marked_if_changed(label, slug)
    }
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}

fn marked_if_changed(id: &str, mut changed: String) -> String {
    if changed == id && !id.is_empty() {
        return changed;
    }
    changed.push('-');
    for byte in &Sha256::digest(id)[..3] {
        let _ = write!(changed, "{byte:02x}");
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_have_the_prefix_the_node_the_camera_and_its_stream() {
        let topics = Topics::new("home/twinsight", "shop-1");
        assert_eq!(topics.status(), "home/twinsight/shop-1/status");
        let id = StreamId::new("camera-front-door", "default");
        assert_eq!(
            topics.of(&id, "detections"),
            "home/twinsight/shop-1/camera-front-door/default/detections"
        );
    }

    #[test]
    fn no_id_makes_another_level_or_a_wildcard_and_no_two_ids_share_a_level() {
        let ids = ["a/b", "a+b", "a#b", "a_b", "a b", "$a_b", "", "_", "ä b"];
        let mut levels: Vec<_> = ids.iter().map(|id| level(id)).collect();
        for level in &levels {
            assert!(
                !level.is_empty() && !level.contains(['/', '+', '#', '$', ' ']),
                "{level}"
            );
        }
        assert_eq!(levels[3], "a_b", "an id that fits stays as it is");
        levels.sort();
        levels.dedup();
        assert_eq!(levels.len(), ids.len());
    }

    #[test]
    fn object_ids_have_only_what_home_assistant_takes() {
        assert_eq!(object_id("camera-front_door"), "camera-front_door");
        let dotted = object_id("192.168.1.5");
        assert!(dotted.starts_with("192_168_1_5-"), "{dotted}");
        assert!(dotted.chars().all(is_plain));
        assert_ne!(dotted, object_id("192_168_1.5"));
        assert_eq!(slug("Traffic light"), "traffic_light");
        assert_eq!(slug(""), "_");
        let chinese = [slug("人"), slug("车")];
        assert_ne!(chinese[0], chinese[1]);
        assert!(chinese.iter().all(|slug| slug.chars().all(is_plain)));
        assert_ne!(slug(&"a".repeat(65)), slug(&"a".repeat(66)));
    }
}
