//! OTLP of traces: frames come in, the protobuf of an export request goes out. Each frame is a span `frame` with a child for
//! each stage. The children follow each other without a gap, so their durations add up to that of their parent.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;

use super::FrameTrace;
use crate::telemetry::ledger::{EventDrop, Stage};

/// The trace is sampled, and it is known that the parent of the span is not of another process.
const FLAGS: u32 = 0x101;

/// The name of the span that stands for a frame.
const ROOT: &str = "frame";

/// The note in the span `publish` that says when the event was made, which is its `timestamp`.
const EVENT_MADE: &str = "event made";

/// Who tells the traces: the node and its run.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) service_name: String,
    pub(super) run_id: String,
}

/// The body of a request that tells these frames. `span_id` gives an id for each span of a stage.
pub(super) fn encode(
    identity: &Identity,
    frames: &[FrameTrace],
    mut span_id: impl FnMut() -> u64,
) -> Vec<u8> {
    let spans = frames
        .iter()
        .flat_map(|frame| spans(frame, &mut span_id))
        .collect();
    let version = env!("CARGO_PKG_VERSION");
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: vec![
                    text("service.name", &identity.service_name),
                    text("service.instance.id", &identity.run_id),
                    text("service.version", version),
                ],
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans {
                scope: Some(InstrumentationScope {
                    name: "twinsight".to_owned(),
                    version: version.to_owned(),
                    ..InstrumentationScope::default()
                }),
                spans,
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    };
    request.encode_to_vec()
}

/// The span of a frame, and those of its stages in their order.
fn spans(frame: &FrameTrace, span_id: &mut impl FnMut() -> u64) -> Vec<Span> {
    let [begun, .., ended] = frame.bounds_ns;
    let (width, height) = frame.size;
    let mut attributes = vec![
        text("twinsight.camera.twin_id", &frame.id.twin_id),
        text("twinsight.camera.stream", &frame.id.stream),
        number("twinsight.event.sequence", frame.sequence),
        number("twinsight.frame.rtp_timestamp", frame.rtp_timestamp),
        number("twinsight.frame.width", width as u64),
        number("twinsight.frame.height", height as u64),
        text("twinsight.model.name", &frame.model),
        number("twinsight.objects.count", frame.objects as u64),
    ];
    attributes.extend(frame.dropped.map(error_type));
    let root = Span {
        name: ROOT.to_owned(),
        span_id: frame.context.span_id.to_vec(),
        attributes,
        ..span(frame, begun, ended)
    };
    let mut spans = vec![root];
    let bounds = frame.bounds_ns.iter().zip(&frame.bounds_ns[1..]);
    for (stage, (&begun, &ended)) in Stage::ALL.iter().zip(bounds) {
        let is_last = *stage == Stage::Publish;
        let made = frame.event_ns.filter(|_| is_last);
        let dropped = frame.dropped.filter(|_| is_last);
        spans.push(Span {
            name: stage.as_str().to_owned(),
            span_id: span_id().max(1).to_be_bytes().to_vec(),
            parent_span_id: frame.context.span_id.to_vec(),
            attributes: dropped.map(error_type).into_iter().collect(),
            events: made.map(event_made).into_iter().collect(),
            status: dropped.map(failed),
            ..span(frame, begun, ended)
        });
    }
    spans
}

/// What all spans of a frame have.
fn span(frame: &FrameTrace, begun: u64, ended: u64) -> Span {
    Span {
        trace_id: frame.context.trace_id.to_vec(),
        flags: FLAGS,
        kind: SpanKind::Internal.into(),
        start_time_unix_nano: begun,
        end_time_unix_nano: ended,
        status: frame.dropped.map(failed),
        ..Span::default()
    }
}

fn event_made(time_unix_nano: u64) -> Event {
    Event {
        time_unix_nano,
        name: EVENT_MADE.to_owned(),
        ..Event::default()
    }
}

fn failed(reason: EventDrop) -> Status {
    let message = match reason {
        EventDrop::HubDisconnected => "the event was dropped, because the hub was away",
        EventDrop::OutboxFull => "the event was dropped, because newer ones took its place",
        EventDrop::Suppressed => {
            "there was no event, because nothing was seen or `detections` is `none`"
        }
        EventDrop::NotHeld => "the event was dropped, because the camera is another node's",
        // The last three are of sinks beside the hub, whose events have no trace.
        EventDrop::Failed | EventDrop::SinkUnreachable | EventDrop::Stale | EventDrop::Refused => {
            "the event could not be handed on"
        }
    };
    Status {
        message: message.to_owned(),
        code: StatusCode::Error.into(),
    }
}

fn error_type(reason: EventDrop) -> KeyValue {
    text("error.type", reason.as_str())
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

fn number(key: &str, value: impl Into<u64>) -> KeyValue {
    let value = i64::try_from(value.into()).unwrap_or(i64::MAX);
    attribute(key, Value::IntValue(value))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::frame_trace;
    use super::*;

    fn encoded(frame: FrameTrace) -> Vec<Span> {
        let identity = Identity {
            service_name: "node-1".to_owned(),
            run_id: "8f1c".to_owned(),
        };
        let mut last = 0;
        let bytes = encode(&identity, &[frame], || {
            last += 1;
            last
        });
        let mut request = ExportTraceServiceRequest::decode(bytes.as_slice()).unwrap();
        request.resource_spans[0].scope_spans.remove(0).spans
    }

    #[test]
    fn a_frame_is_a_tree_of_eight_spans_without_a_gap() {
        let frame = frame_trace(7);
        let spans = encoded(frame.clone());
        let (root, children) = spans.split_first().unwrap();
        assert_eq!((root.name.as_str(), children.len()), ("frame", 7));
        assert!(root.parent_span_id.is_empty());
        assert_eq!(root.status, None);
        let mut at = root.start_time_unix_nano;
        for (child, stage) in children.iter().zip(Stage::ALL) {
            assert_eq!(child.name, stage.as_str());
            assert_eq!(child.parent_span_id, root.span_id);
            assert_eq!(child.trace_id, root.trace_id);
            assert_eq!(child.start_time_unix_nano, at);
            at = child.end_time_unix_nano;
        }
        assert_eq!(at, root.end_time_unix_nano);
        let notes = &children[6].events;
        assert_eq!(notes.len(), 1);
        assert_eq!(Some(notes[0].time_unix_nano), frame.event_ns);
        let mut ids: Vec<_> = spans.iter().map(|span| &span.span_id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 8);
    }

    #[test]
    fn a_dropped_event_is_an_error_of_the_frame_and_of_its_publishing() {
        let spans = encoded(FrameTrace {
            dropped: Some(EventDrop::OutboxFull),
            event_ns: None,
            ..frame_trace(1)
        });
        let is_error = |span: &Span| {
            let code = span.status.as_ref().map(|status| status.code);
            code == Some(StatusCode::Error.into())
        };
        let failed: Vec<_> = spans.iter().filter(|span| is_error(span)).collect();
        let names: Vec<_> = failed.iter().map(|span| span.name.as_str()).collect();
        assert_eq!(names, ["frame", "publish"]);
        for span in failed {
            let reason = text("error.type", "outbox_full");
            assert!(span.attributes.contains(&reason), "{span:?}");
        }
        assert!(spans[7].events.is_empty());
    }
}
