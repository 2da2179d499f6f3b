//! The values that travel through the hub: twin messages, twins, ICE servers. Reading is lenient,
//! because hubs differ in what they fill in: a field that is missing, null or of another type is
//! taken as empty, unless nothing works without it.

use std::fmt;

use serde_json::{Map, Value};

/// The longest id of a twin, in bytes: ids are repeated in names, labels and sentences.
pub const MAX_ID_BYTES: usize = 256;

/// The longest text of an ICE server, in bytes.
const MAX_ICE_TEXT_BYTES: usize = 2048;

/// The most ICE servers that are taken from a hub.
const MAX_ICE_SERVERS: usize = 16;

/// The most URLs of an ICE server.
const MAX_ICE_URLS: usize = 8;

/// A message in the room of a twin.
#[derive(Debug, Clone, PartialEq)]
pub struct TwinMessage {
    /// The room that the message was sent to.
    pub twin_id: String,
    /// Who says it sent it. Some peers sign with the twin that they address.
    pub source_twin_id: String,
    /// The sender's device, often empty.
    pub source_device_id: String,
    /// What it says; an object with `type` and `data` in all that the official clients send.
    pub data: Value,
}

/// What the hub knows about a twin.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Twin {
    /// Its id.
    pub id: String,
    /// The device that it lives on.
    pub device_id: String,
    /// The tenant that it belongs to.
    pub tenant_id: String,
    /// `Device`, `Screen`, `Edge`, `Cloud`, `Web` or `Peripheral`.
    pub r#type: String,
    /// `Online`, `Offline` and others.
    pub status: String,
    /// Desired and reported properties.
    pub properties: TwinProperties,
    /// Versions of the descriptors that it follows.
    pub descriptors: Map<String, Value>,
}

/// A twin's properties.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TwinProperties {
    /// Set by the operator; an app's settings are under `settings`.
    pub desired: Map<String, Value>,
    /// Set by the twin.
    pub reported: Map<String, Value>,
}

/// A twin has changed.
#[derive(Debug, Clone, PartialEq)]
pub struct TwinUpdate {
    /// The twin that changed.
    pub twin_id: String,
    /// What it is now.
    pub twin: Twin,
}

/// A STUN or TURN server.
#[derive(Clone, PartialEq, Eq)]
pub struct IceServer {
    /// `stun:…`, `turn:…` or `turns:…`.
    pub urls: Vec<String>,
    /// For TURN.
    pub username: Option<String>,
    /// For TURN.
    pub credential: Option<String>,
}

impl fmt::Debug for IceServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceServer")
            .field("urls", &self.urls)
            .field("username", &self.username)
            .field("credential", &self.credential.as_ref().map(|_| "…"))
            .finish()
    }
}

impl TwinMessage {
    /// Reads the payload of a `twinMessage`; `None` without a room or content, or with an id that is too long.
    pub fn from_value(value: Value) -> Option<Self> {
        let Value::Object(mut map) = value else {
            return None;
        };
        let data = map.remove("data").filter(|data| !data.is_null())?;
        let mut id = |key| match take_string(&mut map, key) {
            Some(id) if id.len() > MAX_ID_BYTES => None,
            id => Some(id.unwrap_or_default()),
        };
        Some(Self {
            twin_id: id("twinId").filter(|id| !id.is_empty())?,
            source_twin_id: id("sourceTwinId")?,
            source_device_id: id("sourceDeviceId")?,
            data,
        })
    }

    /// The payload of a `twinMessage`.
    pub fn into_value(self) -> Map<String, Value> {
        // Moved, where `json!` would copy: the content may be large.
        Map::from_iter([
            ("twinId".to_owned(), self.twin_id.into()),
            ("sourceTwinId".to_owned(), self.source_twin_id.into()),
            ("sourceDeviceId".to_owned(), self.source_device_id.into()),
            ("data".to_owned(), self.data),
        ])
    }

    /// The full `type` of the content.
    pub fn message_type(&self) -> Option<&str> {
        self.data.get("type")?.as_str()
    }
}

impl Twin {
    /// Reads a twin; `None` without an id of usable length.
    pub fn from_value(value: Value) -> Option<Self> {
        let Value::Object(mut map) = value else {
            return None;
        };
        let id = take_string(&mut map, "id")
            .or_else(|| take_string(&mut map, "_id"))
            .filter(|id| !id.is_empty() && id.len() <= MAX_ID_BYTES)?;
        let mut properties = take_object(&mut map, "properties");
        Some(Self {
            id,
            device_id: take_string(&mut map, "deviceId").unwrap_or_default(),
            tenant_id: take_string(&mut map, "tenantId").unwrap_or_default(),
            r#type: take_string(&mut map, "type").unwrap_or_default(),
            status: take_string(&mut map, "status").unwrap_or_default(),
            properties: TwinProperties {
                desired: take_object(&mut properties, "desired"),
                reported: take_object(&mut properties, "reported"),
            },
            descriptors: take_object(&mut map, "descriptors"),
        })
    }

    /// An app's settings: `properties.desired.settings`.
    pub fn settings(&self) -> Option<&Map<String, Value>> {
        self.properties.desired.get("settings")?.as_object()
    }
}

impl TwinUpdate {
    /// Reads the payload of a `twinUpdated`: `{twinId?, data: twin}` or the bare twin.
    pub fn from_value(value: Value) -> Option<Self> {
        let Value::Object(mut map) = value else {
            return None;
        };
        let twin_id = map
            .get("twinId")
            .and_then(Value::as_str)
            .filter(|id| id.len() <= MAX_ID_BYTES)
            .map(str::to_owned);
        let mut inner = match map.remove("data") {
            Some(Value::Object(inner)) if !inner.is_empty() => inner,
            _ => map,
        };
        if let Some(id) = &twin_id {
            inner.entry("id").or_insert_with(|| id.as_str().into());
        }
        let twin = Twin::from_value(Value::Object(inner))?;
        Some(Self {
            twin_id: twin_id.unwrap_or_else(|| twin.id.clone()),
            twin,
        })
    }
}

impl IceServer {
    /// Reads the list of a `getIceServers` answer; entries without a URL are left out. `None` if
    /// there is no list.
    pub fn list_from_value(answer: &Value) -> Option<Vec<Self>> {
        let servers = answer.get("iceServers")?.as_array()?;
        Some(
            servers
                .iter()
                .filter_map(Self::from_value)
                .take(MAX_ICE_SERVERS)
                .collect(),
        )
    }

    fn from_value(value: &Value) -> Option<Self> {
        let usable = |text: &str| (text.len() <= MAX_ICE_TEXT_BYTES).then(|| text.to_owned());
        let text = |key| usable(value.get(key)?.as_str()?);
        let urls: Vec<String> = match value.get("urls")? {
            Value::String(url) => usable(url).into_iter().collect(),
            Value::Array(urls) => urls
                .iter()
                .filter_map(|url| usable(url.as_str()?))
                .take(MAX_ICE_URLS)
                .collect(),
            _ => return None,
        };
        let credential = text("credential");
        if let Some(credential) = &credential {
            crate::secret::conceal_told(credential);
        }
        (!urls.is_empty()).then(|| Self {
            urls,
            username: text("username"),
            credential,
        })
    }
}

fn take_string(map: &mut Map<String, Value>, key: &str) -> Option<String> {
    match map.remove(key) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

fn take_object(map: &mut Map<String, Value>, key: &str) -> Map<String, Value> {
    match map.remove(key) {
        Some(Value::Object(object)) => object,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn credentials_do_not_show() {
        let server = IceServer {
            urls: vec!["turn:t".into()],
            username: Some("u".into()),
            credential: Some("hunter2".into()),
        };
        assert!(!format!("{server:?}").contains("hunter2"));
    }

    #[test]
    fn a_twin_message_needs_a_room_and_content() {
        let read = |value| TwinMessage::from_value(value);
        assert!(read(json!({"twinId": "a", "data": {"type": "t"}})).is_some());
        assert!(read(json!({"twinId": "a", "sourceTwinId": 7, "data": 1})).is_some());
        assert!(read(json!({"twinId": "a", "data": null})).is_none());
        assert!(read(json!({"twinId": 1, "data": {}})).is_none());
        assert!(read(json!({"data": {}})).is_none());
        let long = "x".repeat(900_000);
        assert!(read(json!({"twinId": long, "data": {}})).is_none());
        assert!(read(json!({"twinId": "a", "sourceTwinId": long, "data": {}})).is_none());
        assert!(Twin::from_value(json!({ "id": long })).is_none());
        assert!(read(json!("text")).is_none());
    }

    #[test]
    fn an_update_is_wrapped_or_bare() {
        let twin = json!({"id": "a", "type": "Edge", "properties": {"desired": {"settings": {"x": 1}}, "reported": null}});
        let wrapped = TwinUpdate::from_value(json!({"twinId": "a", "data": twin})).unwrap();
        let bare = TwinUpdate::from_value(twin.clone()).unwrap();
        let nameless = TwinUpdate::from_value(json!({"twinId": "a", "data": {"type": "Edge", "properties": {"desired": {"settings": {"x": 1}}}}})).unwrap();
        assert_eq!(wrapped, bare);
        assert_eq!(wrapped, nameless);
        assert_eq!(bare.twin.settings().unwrap()["x"], 1);
        assert_eq!(
            TwinUpdate::from_value(json!({"data": {"type": "Edge"}})),
            None
        );
    }

    #[test]
    fn ice_servers_take_one_url_or_several() {
        let list = IceServer::list_from_value(&json!({"iceServers": [
            {"urls": "stun:a"},
            {"urls": ["turn:b", 7, "turn:c"], "username": "u", "credential": "c"},
            {"urls": []}, {"url": "stun:old"}, null, 3,
        ]}))
        .unwrap();
        assert_eq!(list.len(), 2);
        assert_eq!(list[1].urls, ["turn:b", "turn:c"]);
        assert_eq!(
            IceServer::list_from_value(&json!({"status": "error"})),
            None
        );
        let long = json!({"iceServers": [{"urls": "stun:".to_owned() + &"x".repeat(900_000)}]});
        assert_eq!(IceServer::list_from_value(&long), Some(Vec::new()));
        let many = json!({"iceServers": vec![json!({"urls": "stun:a"}); 100]});
        assert_eq!(
            IceServer::list_from_value(&many).unwrap().len(),
            MAX_ICE_SERVERS
        );
    }
}
