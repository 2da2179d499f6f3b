//! Pictures of cameras: the last inferred one, or one after the other as multipart. Who takes them slowly gets fewer, and always
//! the newest.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use futures_util::future::ready;
use futures_util::stream::{once, unfold};

use super::answer;
use super::connections::streaming;
use super::routes::{CameraPath, Shared, bad_value, flag, no_such_camera, pairs};
use crate::preview::{MAX_STREAMS, Picture, Watch, WatchOptions};
use twinsight_client::stream_id::StreamId;

/// Whoever asks for one picture waits at most this long for it.
const FRAME_WAIT: Duration = Duration::from_secs(5);

/// The line between the parts.
const BOUNDARY: &str = "frame";

/// What is before and behind each part. With `--` after it, it is the last one.
const DELIMITER: &[u8] = b"--frame";

/// What the query of a picture says.
#[derive(Debug, Default)]
struct PictureQuery {
    options: WatchOptions,
    /// Only a picture behind the event of this number is wanted.
    after: Option<u64>,
}

impl PictureQuery {
    /// The route has refused keys that are none. A value that is none is answered with a sentence.
    fn parse(query: Option<&str>) -> Result<Self, Box<Response>> {
        let mut parsed = Self::default();
        for (key, value) in pairs(query.unwrap_or_default()) {
            let bad = |takes: &str| Box::new(bad_value(&key, takes));
            match key.as_ref() {
                "width" => {
                    let width = value.parse().ok().filter(|width| *width > 0);
                    parsed.options.width_px = Some(width.ok_or_else(|| bad("pixels, 1 or more"))?);
                }
                "fps" => {
                    let fps = value.parse().ok().filter(|fps: &f64| *fps > 0.0);
                    parsed.options.fps = fps.ok_or_else(|| bad("a number above 0"))?;
                }
                "boxes" => parsed.options.boxes = flag(&key, &value)?,
                "after" => {
                    let after = value.parse().ok();
                    parsed.after = Some(after.ok_or_else(|| bad("the number of an event"))?);
                }
                _ => {}
            }
        }
        Ok(parsed)
    }
}

/// `/api/cameras/TWIN/STREAM/frame.jpg`.
pub(super) async fn frame(
    State(shared): State<Shared>,
    CameraPath { twin_id, stream }: CameraPath,
    RawQuery(query): RawQuery,
) -> Response {
    let Some(facts) = shared.state.facts_of(&twin_id, &stream) else {
        return no_such_camera();
    };
    let PictureQuery { options, after } = match PictureQuery::parse(query.as_deref()) {
        Ok(parsed) => parsed,
        Err(answer) => return *answer,
    };
    let mut watch = match shared.state.previews.watch(&facts.status.id, options) {
        Ok(watch) => watch,
        Err(error) => return answer::too_many(error.to_string()),
    };
    let newer = async {
        loop {
            let picture = watch.next().await?;
            if after.is_none_or(|after: u64| picture.sequence > Some(after)) {
                return Some(picture);
            }
        }
    };
    let picture = tokio::select! {
        picture = tokio::time::timeout(FRAME_WAIT, newer) => picture,
        () = shared.stop.cancelled() => return answer::too_many("the node stops"),
    };
    match picture {
        Ok(None) => answer::too_many("the node stops"),
        Ok(Some(picture)) => {
            let mut answer = Body::from(picture.jpeg.clone()).into_response();
            for (name, value) in &headers(&picture) {
                answer.headers_mut().insert(name.clone(), value.clone());
            }
            answer
        }
        Err(_) => {
            let state = facts.status.state;
            let newer = if after.is_some() {
                " behind the event of `after`"
            } else {
                ""
            };
            let sentence = format!(
                "no picture of it{newer} was inferred in the last {} s: its state is {state}, and `/api/cameras` says more",
                FRAME_WAIT.as_secs()
            );
            answer::error(StatusCode::NOT_FOUND, sentence)
        }
    }
}

/// `/api/cameras/TWIN/STREAM/live`, which browsers show as a picture that moves.
pub(super) async fn one(
    State(shared): State<Shared>,
    CameraPath { twin_id, stream }: CameraPath,
    RawQuery(query): RawQuery,
) -> Response {
    let Some(facts) = shared.state.facts_of(&twin_id, &stream) else {
        return no_such_camera();
    };
    match PictureQuery::parse(query.as_deref()) {
        Ok(parsed) => parts(
            &shared,
            vec![facts.status.id],
            parsed.options,
            "x-mixed-replace",
        ),
        Err(answer) => *answer,
    }
}

/// `/api/live`: pictures of several cameras by one connection, of which a browser has few.
pub(super) async fn many(State(shared): State<Shared>, RawQuery(query): RawQuery) -> Response {
    let mut ids = Vec::new();
    let pairs = pairs(query.as_deref().unwrap_or_default());
    let names: Vec<_> = pairs
        .filter(|(key, _)| key == "camera")
        .map(|(_, name)| name)
        // A head has room for thousands, each of which would be compared with every camera.
        .take(MAX_STREAMS + 1)
        .collect();
    if names.is_empty() || names.len() > MAX_STREAMS {
        let sentence =
            format!("name 1 to {MAX_STREAMS} cameras, each as `camera=TWIN/STREAM` in the query");
        return answer::error(StatusCode::BAD_REQUEST, sentence);
    }
    for name in names {
        match shared.state.facts(|id| is_named(id, &name)) {
            Some(facts) => ids.push(facts.status.id),
            None => return no_such_camera(),
        }
    }
    match PictureQuery::parse(query.as_deref()) {
        Ok(parsed) => parts(&shared, ids, parsed.options, "mixed"),
        Err(answer) => *answer,
    }
}

/// The streams of these pictures as multipart (RFC 2046, section 5.1), until the client goes or the node stops.
fn parts(shared: &Shared, ids: Vec<StreamId>, options: WatchOptions, kind: &str) -> Response {
    let watch = match shared.state.previews.watch_many(ids, options) {
        Ok(watch) => watch,
        Err(error) => return answer::too_many(error.to_string()),
    };
    let parts = unfold(watch, |mut watch: Watch| async {
        let picture = watch.next().await?;
        Some((part(&picture), watch))
    });
    let parts = parts.take_until(shared.stop.clone().cancelled_owned());
    let [begin, end] = [DELIMITER, b"--\r\n"].map(|bytes| once(ready(Bytes::from_static(bytes))));
    let parts = begin.chain(parts).chain(end);
    let parts = parts.map(Ok::<_, std::convert::Infallible>);
    let content_type = format!("multipart/{kind}; boundary={BOUNDARY}");
    let content_type = [(header::CONTENT_TYPE, content_type)];
    streaming((content_type, Body::from_stream(parts)).into_response())
}

/// A part with the delimiter that follows it, since some browsers show a picture only once they saw that.
fn part(picture: &Picture) -> Bytes {
    let mut part = Vec::with_capacity(picture.jpeg.len() + 256);
    part.extend_from_slice(b"\r\n");
    for (name, value) in &headers(picture) {
        part.extend_from_slice(name.as_str().as_bytes());
        part.extend_from_slice(b": ");
        part.extend_from_slice(value.as_bytes());
        part.extend_from_slice(b"\r\n");
    }
    part.extend_from_slice(format!("content-length: {}\r\n\r\n", picture.jpeg.len()).as_bytes());
    part.extend_from_slice(&picture.jpeg);
    part.extend_from_slice(b"\r\n");
    part.extend_from_slice(DELIMITER);
    part.into()
}

/// What is said of a picture.
fn headers(picture: &Picture) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut add = |name: &'static str, value: String| {
        // An id may have any characters, and is encoded as in a path.
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    add("content-type", "image/jpeg".to_owned());
    add("x-camera", encoded(&picture.stream));
    if let Some(sequence) = picture.sequence {
        add("x-sequence", sequence.to_string());
    }
    add("x-frame-width", picture.frame_size.width_px.to_string());
    add("x-frame-height", picture.frame_size.height_px.to_string());
    headers
}

/// TWIN/STREAM, both with all but letters, digits and `-._~` percent-encoded (RFC 3986).
fn encoded(id: &StreamId) -> String {
    let encode = |text: &str| -> String {
        text.bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    char::from(byte).to_string()
                }
                _ => format!("%{byte:02X}"),
            })
            .collect()
    };
    format!("{}/{}", encode(&id.twin_id), encode(&id.stream))
}

/// True if this is TWIN/STREAM, as it is or encoded as in a path. Both may have a `/` of their own.
fn is_named(id: &StreamId, name: &str) -> bool {
    let plain = name
        .strip_prefix(&*id.twin_id)
        .and_then(|rest| rest.strip_prefix('/'))
        .is_some_and(|stream| stream == &*id.stream);
    plain || encoded(id) == name
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use twinsight_media::picture::PictureSize;

    #[test]
    fn a_part_ends_with_the_delimiter_so_that_its_picture_is_shown_before_the_next_one_comes() {
        let picture = Picture {
            stream: StreamId::new("front door", "default"),
            jpeg: Bytes::from_static(b"JPEG\r\n--fr"),
            sequence: None,
            frame_size: PictureSize {
                width_px: 64,
                height_px: 48,
            },
            at: Instant::now(),
        };
        let part = String::from_utf8(part(&picture).to_vec()).unwrap();
        let (head, body) = part.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "JPEG\r\n--fr\r\n--frame");
        let mut lines: Vec<_> = head.split("\r\n").collect();
        lines.sort_unstable();
        assert_eq!(
            lines,
            [
                "",
                "content-length: 10",
                "content-type: image/jpeg",
                "x-camera: front%20door/default",
                "x-frame-height: 48",
                "x-frame-width: 64"
            ]
        );
    }

    #[test]
    fn a_query_that_makes_no_sense_is_refused_and_an_unknown_key_is_left_out() {
        for query in [
            "width=99999999999",
            "width=-1",
            "width=0",
            "width=1e3",
            "width=",
        ] {
            assert!(PictureQuery::parse(Some(query)).is_err(), "{query}");
        }
        for query in [
            "fps=fast",
            "fps=0",
            "fps=-1",
            "fps=NaN",
            "boxes=yes",
            "boxes",
            "after=-1",
        ] {
            assert!(PictureQuery::parse(Some(query)).is_err(), "{query}");
        }
        for query in [None, Some(""), Some("more=1&=&&&%ff")] {
            let parsed = PictureQuery::parse(query).unwrap();
            assert_eq!(parsed.options, WatchOptions::default(), "{query:?}");
        }
        let parsed = PictureQuery::parse(Some("width=640&fps=2.5&boxes=1&after=7")).unwrap();
        let wanted = WatchOptions {
            width_px: Some(640),
            boxes: true,
            fps: 2.5,
        };
        assert_eq!((parsed.options, parsed.after), (wanted, Some(7)));
    }

    #[test]
    fn a_camera_is_named_as_it_is_or_encoded() {
        let id = StreamId::new("yard/1", "wide angle/ä");
        assert_eq!(encoded(&id), "yard%2F1/wide%20angle%2F%C3%A4");
        assert!(is_named(&id, &encoded(&id)));
        assert!(is_named(&id, "yard/1/wide angle/ä"));
        for other in [
            "",
            "/",
            "yard/1",
            "yard/1/",
            "yard/1/wide",
            "yard",
            "Yard/1/wide angle/ä",
        ] {
            assert!(!is_named(&id, other), "{other}");
        }
    }
}
