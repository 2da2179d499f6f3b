//! `/api/events`: the events of the node as server-sent events, for as long as the client stays. A client that is slow gets
//! older events later, and is told how many it missed when they are no longer kept.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use futures_util::stream::unfold;

use super::answer;
use super::connections::streaming;
use super::routes::{Shared, bad_value, no_such_camera, pairs};
use crate::publish::event::{CAMERA_STATUS, DETECTIONS};
use crate::publish::feed::{Fed, FedEvent, FeedWatch};
use crate::publish::track_event::{LINE_CROSSED, TRACK};

/// A stream without events has a comment this often, so that both sides notice when the other is gone.
const BEAT: Duration = Duration::from_secs(10);

/// Which events are wanted. Empty sets want all.
#[derive(Debug, Default)]
struct Filter {
    cameras: BTreeSet<String>,
    types: BTreeSet<String>,
}

/// The types of events that there are.
const TYPES: [&str; 4] = [DETECTIONS, CAMERA_STATUS, TRACK, LINE_CROSSED];

impl Filter {
    /// `is_camera` says whether a twin is one. A name that nothing has would be waited for without an end, so it is answered with a
    /// sentence.
    fn parse(query: &str, is_camera: impl Fn(&str) -> bool) -> Result<Self, Box<Response>> {
        let mut filter = Self::default();
        for (key, value) in pairs(query) {
            match key.as_ref() {
                "camera" if is_camera(&value) => filter.cameras.insert(value.into_owned()),
                "camera" => return Err(Box::new(no_such_camera())),
                "type" if TYPES.contains(&value.as_ref()) => {
                    filter.types.insert(value.into_owned())
                }
                "type" => return Err(Box::new(bad_value(&key, &TYPES.join(" or ")))),
                _ => false,
            };
        }
        Ok(filter)
    }

    fn takes(&self, event: &FedEvent) -> bool {
        (self.cameras.is_empty() || self.cameras.contains(&*event.id.twin_id))
            && (self.types.is_empty() || self.types.contains(event.event_type))
    }
}

pub(super) async fn events(
    State(shared): State<Shared>,
    RawQuery(query): RawQuery,
    asked: HeaderMap,
) -> Response {
    let is_camera = |twin_id: &str| shared.state.facts(|id| *id.twin_id == *twin_id).is_some();
    let filter = match Filter::parse(query.as_deref().unwrap_or_default(), is_camera) {
        Ok(filter) => filter,
        Err(answer) => return *answer,
    };
    let last = asked.get("last-event-id").and_then(|id| id.to_str().ok());
    let watch = match shared.state.feed.watch(last) {
        Ok(watch) => watch,
        Err(error) => {
            shared.state.metrics.preview_watchers_refused.inc();
            return answer::too_many(error.to_string());
        }
    };
    let events = unfold((watch, filter), |(mut watch, filter)| async {
        let event = next(&mut watch, &filter).await;
        Some((Ok::<_, std::convert::Infallible>(event), (watch, filter)))
    });
    let events = events.take_until(shared.stop.cancelled_owned());
    let beat = KeepAlive::new().interval(BEAT).text("beat");
    streaming(Sse::new(events).keep_alive(beat).into_response())
}

async fn next(watch: &mut FeedWatch, filter: &Filter) -> Event {
    loop {
        match watch.next().await {
            Fed::Event(event) if !filter.takes(&event) => {}
            Fed::Event(event) => {
                let data = String::from_utf8_lossy(&event.json);
                return Event::default()
                    .id(watch.event_id(&event))
                    .event(event.event_type)
                    .data(data);
            }
            Fed::Missed(count) => {
                return Event::default()
                    .event("missed")
                    .data(format!("{{\"count\": {count}}}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;

    use super::*;
    use twinsight_client::stream_id::StreamId;

    #[test]
    fn filters_take_cameras_and_types() {
        let event = FedEvent {
            number: 1,
            event_type: "detections",
            id: StreamId::new("front door/1", "default"),
            json: Bytes::new(),
        };
        for (query, takes) in [
            ("", true),
            ("camera=front%20door%2F1", true),
            ("camera=other", false),
            ("camera=other&camera=front+door/1", true),
            ("type=cameraStatus", false),
            (
                "type=cameraStatus&type=detections&camera=front+door%2f1",
                true,
            ),
            ("nonsense", true),
        ] {
            let filter = Filter::parse(query, |_| true).unwrap();
            assert_eq!(filter.takes(&event), takes, "{query}");
        }
    }

    #[test]
    fn what_no_event_has_is_refused() {
        let is_camera = |twin: &str| twin == "front door";
        for (query, status) in [
            ("camera=nobody", 404),
            ("type=detection", 400),
            ("type=", 400),
            ("camera=front+door&type=detections&more=1", 200),
        ] {
            let refused = Filter::parse(query, is_camera).err();
            let found = refused.map_or(200, |answer| answer.status().as_u16());
            assert_eq!(found, status, "{query}");
        }
    }
}
