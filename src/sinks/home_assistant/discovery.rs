//! What Home Assistant is told of the entities that there are: a retained message for each, with the topics that its states come on.
//! A camera stream is a device, and the node is one that they hang on. The topics are those of single entities, which all
//! versions of Home Assistant know.

use bytes::Bytes;
use serde_json::{Value, json};
use twinsight_client::stream_id::StreamId;
use twinsight_client::telemetry::CameraState;

use crate::publish::event::CAMERA_STATUS;
use crate::sinks::mqtt::topics::{Topics, object_id};

/// Where a camera says whether it is seen.
pub(super) const AVAILABILITY: &str = "availability";
/// Where the picture of a camera's best shot is.
pub(super) const BEST_SHOT: &str = "bestShot";
/// The level above the labels that say whether something is there.
pub(super) const OCCUPANCY: &str = "occupancy";
/// The level above the labels that say how many there are.
pub(super) const COUNT: &str = "count";

/// What an entity of a camera stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entity<'a> {
    /// Whether objects of a label are there.
    Occupancy(Label<'a>),
    /// How many objects of a label there are.
    Count(Label<'a>),
    /// The camera's state and the reason for it.
    State,
    /// Whether the camera is received.
    Connection,
    /// A picture of what was there last.
    BestShot,
}

/// A label, and how it is called in topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label<'a> {
    pub(super) name: &'a str,
    pub(super) slug: &'a str,
}

/// Makes the messages of a node.
#[derive(Debug, Clone)]
pub(super) struct Discovery {
    prefix: String,
    topics: Topics,
    /// The node's id as Home Assistant wants it.
    node_id: String,
    /// The node's name for people.
    node_name: String,
}

impl Entity<'_> {
    /// Which of Home Assistant's kinds of entities it is.
    fn component(&self) -> &'static str {
        match self {
            Self::Occupancy(_) | Self::Connection => "binary_sensor",
            Self::Count(_) | Self::State => "sensor",
            Self::BestShot => "image",
        }
    }

    /// The last part of its id.
    fn leaf(&self) -> String {
        match self {
            Self::Occupancy(label) => format!("occupancy_{}", label.slug),
            Self::Count(label) => format!("count_{}", label.slug),
            Self::State => "state".to_owned(),
            Self::Connection => "connection".to_owned(),
            Self::BestShot => "best_shot".to_owned(),
        }
    }
}

impl Discovery {
    pub(super) fn new(prefix: &str, topics: Topics, node: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            topics,
            node_id: format!("twinsight_{}", object_id(node)),
            node_name: node.to_owned(),
        }
    }

    pub(super) fn topics(&self) -> &Topics {
        &self.topics
    }

    /// The topics of all messages that this node, in this run or an earlier one, may have left.
    pub(super) fn kept(&self) -> Vec<String> {
        let root = self.topics.root();
        vec![
            format!("{}/+/{}/+/config", self.prefix, self.node_id),
            format!("{root}/+/+/{CAMERA_STATUS}"),
            format!("{root}/+/+/{AVAILABILITY}"),
            format!("{root}/+/+/{OCCUPANCY}/+"),
            format!("{root}/+/+/{COUNT}/+"),
        ]
    }

    /// Where Home Assistant says that it has started.
    pub(super) fn birth(&self) -> String {
        format!("{}/status", self.prefix)
    }

    /// The object id in a topic of discovery of this node; `None` for any other topic.
    pub(super) fn object_of<'a>(&self, topic: &'a str) -> Option<&'a str> {
        let rest = topic.strip_prefix(&self.prefix)?.strip_prefix('/')?;
        let mut levels = rest.split('/');
        let (_component, node, object, config) = (
            levels.next()?,
            levels.next()?,
            levels.next()?,
            levels.next()?,
        );
        (node == self.node_id && config == "config" && levels.next().is_none()).then_some(object)
    }

    /// What object ids of a camera stream's occupancy begin with.
    pub(super) fn occupancy_object(id: &StreamId) -> String {
        format!("{}_occupancy_", camera_object(id))
    }

    /// Topic and message of an entity.
    pub(super) fn entity(&self, id: &StreamId, name: &str, entity: Entity<'_>) -> (String, Bytes) {
        let unique_id = format!("{}_{}_{}", self.node_id, camera_object(id), entity.leaf());
        let mut config = self.specific(id, entity);
        let config_map = config
            .as_object_mut()
            .expect("it is an object, because it was made as one");
        config_map.insert("unique_id".to_owned(), json!(unique_id));
        config_map.insert("device".to_owned(), self.device(id, name));
        config_map.insert("origin".to_owned(), origin());
        (self.entity_topic(id, entity), to_bytes(&config))
    }

    /// The topic of an entity's message.
    pub(super) fn entity_topic(&self, id: &StreamId, entity: Entity<'_>) -> String {
        let object = format!("{}_{}", camera_object(id), entity.leaf());
        self.topic(entity.component(), &object)
    }

    /// Topic and message of the entity that says whether the node is there.
    pub(super) fn node(&self) -> (String, Bytes) {
        let config = json!({
            "name": "connection",
            "unique_id": format!("{}_connection", self.node_id),
            "device_class": "connectivity",
            "entity_category": "diagnostic",
            "state_topic": self.topics.status(),
            "payload_on": "online",
            "payload_off": "offline",
            "device": {
                "identifiers": [self.node_id],
                "name": format!("Twinsight {}", self.node_name),
                "manufacturer": "Twinsight",
                "model": "node",
                "sw_version": env!("CARGO_PKG_VERSION"),
            },
            "origin": origin(),
        });
        (
            self.topic("binary_sensor", "node_connection"),
            to_bytes(&config),
        )
    }

    fn topic(&self, component: &str, object: &str) -> String {
        format!(
            "{}/{component}/{}/{object}/config",
            self.prefix, self.node_id
        )
    }

    fn specific(&self, id: &StreamId, entity: Entity<'_>) -> Value {
        let status = self.topics.of(id, CAMERA_STATUS);
        let node = json!({"topic": self.topics.status()});
        // What a camera shows is known only while it is seen.
        let seen = json!([node, {"topic": self.topics.of(id, AVAILABILITY)}]);
        // The topic of a camera's state is empty once the camera was removed, which may come before the entity goes.
        match entity {
            Entity::Occupancy(label) => json!({
                "name": label.name,
                "device_class": "occupancy",
                "state_topic": self.label_topic(id, OCCUPANCY, label),
                "availability": seen,
                "availability_mode": "all",
            }),
            Entity::Count(label) => json!({
                "name": format!("{} count", label.name),
                "icon": "mdi:counter",
                "state_class": "measurement",
                "state_topic": self.label_topic(id, COUNT, label),
                "availability": seen,
                "availability_mode": "all",
            }),
            Entity::State => json!({
                "name": "state",
                "device_class": "enum",
                "options": CameraState::ALL.iter().map(|state| state.as_str()).collect::<Vec<_>>(),
                "entity_category": "diagnostic",
                "state_topic": status,
                "value_template": "{{ value_json.state if value_json is defined else '' }}",
                "json_attributes_topic": status,
                "json_attributes_template":
                    "{{ {'reason': value_json.reason, 'attempt': value_json.attempt} | tojson if value_json is defined else '{}' }}",
                "availability": [node],
            }),
            Entity::Connection => json!({
                "name": "connection",
                "device_class": "connectivity",
                "entity_category": "diagnostic",
                "state_topic": status,
                "value_template": "{{ 'ON' if value_json is defined and value_json.state == 'receiving' else 'OFF' }}",
                "availability": [node],
            }),
            Entity::BestShot => json!({
                "name": "best shot",
                "content_type": "image/jpeg",
                "image_topic": self.topics.of(id, BEST_SHOT),
                "availability": [node],
            }),
        }
    }

    /// The topic of a label's states.
    pub(super) fn label_topic(&self, id: &StreamId, kind: &str, label: Label<'_>) -> String {
        self.topics.of(id, &format!("{kind}/{}", label.slug))
    }

    fn device(&self, id: &StreamId, name: &str) -> Value {
        let name = if &*id.stream == "default" {
            name.to_owned()
        } else {
            format!("{name} ({})", id.stream)
        };
        json!({
            "identifiers": [format!("{}_{}", self.node_id, camera_object(id))],
            "name": name,
            "manufacturer": "Twinsight",
            "model": "camera",
            "sw_version": env!("CARGO_PKG_VERSION"),
            "via_device": self.node_id,
        })
    }
}

/// A camera stream in object ids.
fn camera_object(id: &StreamId) -> String {
    format!("{}_{}", object_id(&id.twin_id), object_id(&id.stream))
}

fn origin() -> Value {
    json!({"name": "Twinsight", "sw_version": env!("CARGO_PKG_VERSION")})
}

fn to_bytes(config: &Value) -> Bytes {
    Bytes::from(config.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn discovery() -> Discovery {
        Discovery::new("homeassistant", Topics::new("twinsight", "shop"), "shop")
    }

    fn entity(id: &StreamId, entity: Entity<'_>) -> (String, Value) {
        let (topic, payload) = discovery().entity(id, "Front door", entity);
        (topic, serde_json::from_slice(&payload).unwrap())
    }

    const PERSON: Label<'static> = Label {
        name: "person",
        slug: "person",
    };

    #[test]
    fn an_occupancy_names_its_topics_its_device_and_who_says_whether_it_is_known() {
        let id = StreamId::new("camera-front-door", "default");
        let (topic, config) = entity(&id, Entity::Occupancy(PERSON));
        assert_eq!(
            topic,
            "homeassistant/binary_sensor/twinsight_shop/camera-front-door_default_occupancy_person/config"
        );
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            config,
            json!({
                "name": "person",
                "unique_id": "twinsight_shop_camera-front-door_default_occupancy_person",
                "device_class": "occupancy",
                "state_topic": "twinsight/shop/camera-front-door/default/occupancy/person",
                "availability": [
                    {"topic": "twinsight/shop/status"},
                    {"topic": "twinsight/shop/camera-front-door/default/availability"}
                ],
                "availability_mode": "all",
                "device": {
                    "identifiers": ["twinsight_shop_camera-front-door_default"],
                    "name": "Front door", "manufacturer": "Twinsight", "model": "camera",
                    "sw_version": version, "via_device": "twinsight_shop"
                },
                "origin": {"name": "Twinsight", "sw_version": version},
            })
        );
    }

    #[test]
    fn ids_are_different_and_do_not_depend_on_names() {
        let id = StreamId::new("10.0.0.7", "sub");
        let all = [
            Entity::Occupancy(PERSON),
            Entity::Count(PERSON),
            Entity::State,
            Entity::Connection,
            Entity::BestShot,
        ];
        let mut ids = Vec::new();
        for each in all {
            let (topic, config) = entity(&id, each);
            assert_eq!(config["device"]["name"], "Front door (sub)");
            let (_, renamed) = discovery().entity(&id, "Back door", each);
            let renamed: Value = serde_json::from_slice(&renamed).unwrap();
            assert_eq!(config["unique_id"], renamed["unique_id"]);
            assert!(discovery().object_of(&topic).is_some());
            ids.push(config["unique_id"].to_string());
        }
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), all.len());
    }

    #[test]
    fn topics_of_others_are_told_from_those_of_this_node() {
        let discovery = discovery();
        let (topic, _) = discovery.node();
        assert_eq!(discovery.object_of(&topic), Some("node_connection"));
        for other in [
            "homeassistant/sensor/twinsight_home/x/config",
            "homeassistant/sensor/twinsight_shop/config",
            "elsewhere/sensor/twinsight_shop/x/config",
            "homeassistant/status",
        ] {
            assert_eq!(discovery.object_of(other), None, "{other}");
        }
    }
}
