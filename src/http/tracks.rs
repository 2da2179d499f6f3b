//! `/api/tracks` and the pictures of tracks. A query comes in; tracks that live or ended lately go out, and the JPEG of the picture in
//! which one was seen best, which is made for whoever asks and not kept.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::answer;
use super::api::tracks::{ListedState, ListedTrack, MAX_ENDED, TrackOfList, TracksView};
use super::routes::{Shared, bad_value, no_such_camera, pairs};
use super::state::HttpState;
use crate::clock::WallClock;
use crate::preview::shot_jpeg;
use twinsight_client::stream_id::StreamId;

/// Which tracks a query asks for.
#[derive(Debug, Default, PartialEq)]
struct Wanted {
    camera: Option<String>,
    stream: Option<String>,
    state: Option<ListedState>,
}

impl Wanted {
    /// The route has refused keys that are none. A value that is none is answered with a sentence.
    fn parse(query: Option<&str>) -> Result<Self, Box<Response>> {
        let mut wanted = Self::default();
        for (key, value) in pairs(query.unwrap_or_default()) {
            match key.as_ref() {
                "camera" => wanted.camera = Some(value.into_owned()),
                "stream" => wanted.stream = Some(value.into_owned()),
                "state" => {
                    let state = ListedState::ALL
                        .iter()
                        .find(|state| state.as_str() == value);
                    let takes = "`confirmed`, `lost` or `ended`";
                    let state = state.ok_or_else(|| Box::new(bad_value(&key, takes)))?;
                    wanted.state = Some(*state);
                }
                _ => {}
            }
        }
        Ok(wanted)
    }

    fn is_of(&self, id: &StreamId) -> bool {
        let is = |wanted: &Option<String>, name: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == name)
        };
        is(&self.camera, &id.twin_id) && is(&self.stream, &id.stream)
    }

    fn is_in(&self, state: ListedState) -> bool {
        self.state.is_none_or(|wanted| wanted == state)
    }
}

impl HttpState {
    /// The tracks that a query asks for: all that live, and of those that ended the last ones.
    fn listed_tracks(&self, wanted: &Wanted) -> Vec<ListedTrack> {
        let now = Instant::now();
        let (mut live, mut ended) = (Vec::new(), Vec::new());
        for (id, tracks) in self.tracks.streams() {
            if !wanted.is_of(&id) {
                continue;
            }
            let name = tracks.name();
            let mut of_stream: Vec<TrackOfList> = Vec::new();
            if wanted.state != Some(ListedState::Ended) {
                of_stream.extend(tracks.reading().live.into_iter().map(TrackOfList::Live));
            }
            if wanted.is_in(ListedState::Ended) {
                of_stream.extend(tracks.ended(now).into_iter().map(TrackOfList::Ended));
            }
            of_stream.retain(|track| wanted.is_in(track.state()));
            let shots = tracks.shot_numbers(of_stream.iter().map(|track| track.facts().id));
            for (track, shot) in of_stream.into_iter().zip(shots) {
                let list = match track {
                    TrackOfList::Live(_) => &mut live,
                    TrackOfList::Ended(_) => &mut ended,
                };
                list.push(ListedTrack {
                    stream: id.clone(),
                    name: Arc::clone(&name),
                    track,
                    shot,
                });
            }
        }
        // A track may end between the two readings, and is told as the one that lives then.
        let live_ids: HashSet<u64> = live.iter().map(ListedTrack::id).collect();
        ended.retain(|over| !live_ids.contains(&over.id()));
        let ended_at = |listed: &ListedTrack| match &listed.track {
            TrackOfList::Ended(ended) => ended.at,
            TrackOfList::Live(_) => now,
        };
        ended.sort_by_key(|listed| std::cmp::Reverse(ended_at(listed)));
        ended.truncate(MAX_ENDED);
        live.append(&mut ended);
        live
    }
}

/// `/api/tracks`.
pub(super) async fn tracks(
    State(shared): State<Shared>,
    RawQuery(query): RawQuery,
    asked: HeaderMap,
) -> Response {
    let wanted = match Wanted::parse(query.as_deref()) {
        Ok(wanted) => wanted,
        Err(answer) => return *answer,
    };
    let state = shared.state.clone();
    if (wanted.camera.is_some() || wanted.stream.is_some())
        && state.facts(|id| wanted.is_of(id)).is_none()
    {
        return no_such_camera();
    }
    // Of hundreds of cameras this is too much for a thread that carries video.
    let made = tokio::task::spawn_blocking(move || {
        let listed = state.listed_tracks(&wanted);
        let view = TracksView::new(
            state.feed.run_id(),
            listed.iter().collect(),
            &WallClock::read(),
        );
        answer::json(&asked, &view)
    });
    made.await
        .unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

/// `/api/tracks/ID/best.jpg`.
pub(super) async fn best_shot(
    State(shared): State<Shared>,
    id: Result<Path<String>, PathRejection>,
    asked: HeaderMap,
) -> Response {
    let id = id.ok().and_then(|Path(id)| number(&id));
    let Some((id, shot)) = id.and_then(|id| Some((id, shared.state.tracks.best_shot(id)?))) else {
        let sentence = "there is no picture of a track of this id: `/api/tracks` lists the tracks that live or ended lately, and which of them have one";
        return answer::error(StatusCode::NOT_FOUND, sentence);
    };
    // Ids begin anew with each run, and a track has a better picture now and then.
    let etag = format!("\"{}-{id}-{}\"", shared.state.feed.run_id(), shot.number());
    let mut answer = if answer::knows(&asked, &etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let Ok(_permit) = shared.shot_encoders.acquire().await else {
            return answer::too_many("the node stops");
        };
        match tokio::task::spawn_blocking(move || shot_jpeg(&shot.picture())).await {
            Ok(Ok(jpeg)) => jpeg.into_response(),
            Ok(Err(_)) | Err(_) => {
                let sentence =
                    "the picture of this track cannot be made: this is a bug in Twinsight";
                return answer::error(StatusCode::INTERNAL_SERVER_ERROR, sentence);
            }
        }
    };
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("image/jpeg"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(etag) = HeaderValue::try_from(etag) {
        headers.insert(header::ETAG, etag);
    }
    answer
}

/// The number of a track's id, as events write it.
fn number(id: &str) -> Option<u64> {
    let is_plain = !id.starts_with('0') && id.bytes().all(|byte| byte.is_ascii_digit());
    is_plain.then(|| id.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_a_camera_a_stream_and_a_state() {
        let parsed = |query| Wanted::parse(Some(query)).unwrap();
        assert_eq!(Wanted::parse(None).unwrap(), Wanted::default());
        assert_eq!(parsed("more=1&&=&%ff"), Wanted::default());
        let wanted = parsed("camera=front%20door&stream=wide&state=lost");
        assert!(wanted.is_of(&StreamId::new("front door", "wide")));
        assert!(!wanted.is_of(&StreamId::new("front door", "default")));
        assert!(!wanted.is_of(&StreamId::new("yard", "wide")));
        assert!(wanted.is_in(ListedState::Lost) && !wanted.is_in(ListedState::Ended));
        for query in ["state=", "state=tentative", "state=Lost"] {
            assert!(Wanted::parse(Some(query)).is_err(), "{query}");
        }
    }

    #[test]
    fn an_id_is_a_number_as_events_write_it() {
        assert_eq!(number("7"), Some(7));
        assert_eq!(number("18446744073709551615"), Some(u64::MAX));
        for id in [
            "",
            "0",
            "07",
            "+7",
            "-7",
            "7 ",
            "7.0",
            "x",
            "18446744073709551616",
            "٧",
        ] {
            assert_eq!(number(id), None, "{id}");
        }
    }
}
