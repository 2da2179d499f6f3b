//! Traces of sampled frames for a collector of OpenTelemetry. The publisher asks whether a frame has one as it enters the
//! outbox, and hands over a [`FrameTrace`] when it is known what became of its event. `export` is the task that sends them;
//! `queue` keeps what waits for it within bounds, `encode` makes OTLP of them, and `collector` speaks HTTP.

mod collector;
mod encode;
mod export;
mod queue;

pub(crate) use self::collector::CollectorOptions;
pub(crate) use self::export::{TraceOptions, TraceTask, Tracer};
use super::ledger::EventDrop;
use twinsight_client::stream_id::StreamId;

/// The stages that a trace has a span for, in the order of [`Stage::ALL`](super::ledger::Stage::ALL).
pub(crate) const STAGES: usize = 7;

/// The trace that a sampled frame belongs to, and the span in it that stands for the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: [u8; 16],
    span_id: [u8; 8],
}

/// What a sampled frame went through, from its first packet to its event. Times are nanoseconds since 1970.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FrameTrace {
    /// The trace and the span of the frame.
    pub(crate) context: TraceContext,
    /// The camera stream.
    pub(crate) id: StreamId,
    /// The number of its event.
    pub(crate) sequence: u64,
    /// The RTP timestamp of its packets.
    pub(crate) rtp_timestamp: u32,
    /// Pixels of the decoded frame: width and height.
    pub(crate) size: (usize, usize),
    /// The name of the model that saw it.
    pub(crate) model: String,
    /// How many objects were seen.
    pub(crate) objects: usize,
    /// When each stage began, and at last when the event was written or dropped. They never go back.
    pub(crate) bounds_ns: [u64; STAGES + 1],
    /// The `timestamp` of the event, if there was time to make one.
    pub(crate) event_ns: Option<u64>,
    /// Why the event was not published.
    pub(crate) dropped: Option<EventDrop>,
}

impl TraceContext {
    /// A trace of its own for a frame, if `chance` is below the ratio of frames that have one. `chance` is drawn uniformly from
    /// 0 to 1, without 1, and the ids at random.
    fn sample(ratio: f64, chance: f64, trace_id: u128, span_id: u64) -> Option<Self> {
        // An id of zeros is no id.
        (chance < ratio).then(|| Self {
            trace_id: trace_id.max(1).to_be_bytes(),
            span_id: span_id.max(1).to_be_bytes(),
        })
    }

    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        Self::sample(1.0, 0.0, 0xabcd, 0x1234).expect("the ratio is 1")
    }

    /// The header `traceparent` of W3C Trace Context, version 00, with the flag for a sampled trace.
    pub fn traceparent(&self) -> String {
        let (trace_id, span_id) = (
            u128::from_be_bytes(self.trace_id),
            u64::from_be_bytes(self.span_id),
        );
        format!("00-{trace_id:032x}-{span_id:016x}-01")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::ledger::Stage;

    /// A frame whose stages took a millisecond each.
    pub(super) fn frame_trace(sequence: u64) -> FrameTrace {
        let ms = |n: u64| 1_795_348_123_000_000_000 + n * 1_000_000;
        FrameTrace {
            context: TraceContext::for_tests(),
            id: StreamId::new("cam", "default"),
            sequence,
            rtp_timestamp: 90_000,
            size: (1280, 720),
            model: "nanodet".to_owned(),
            objects: 2,
            bounds_ns: [0, 1, 2, 3, 4, 5, 6, 7].map(ms),
            event_ns: Some(ms(7) - 1000),
            dropped: None,
        }
    }

    #[test]
    fn there_is_a_span_for_each_stage() {
        assert_eq!(Stage::ALL.len(), STAGES);
    }

    #[test]
    fn the_ratio_decides_and_its_ends_are_never_and_always() {
        let sample = |ratio, chance| TraceContext::sample(ratio, chance, 1, 1).is_some();
        assert!(!sample(0.0, 0.0));
        assert!(sample(1.0, 1.0_f64.next_down()));
        assert!(sample(0.01, 0.009));
        assert!(!sample(0.01, 0.01));
    }

    #[test]
    fn a_traceparent_is_as_w3c_writes_it() {
        let context = TraceContext::sample(1.0, 0.0, 0x0af7_6519, 0xb7ad_6b71).unwrap();
        assert_eq!(
            context.traceparent(),
            "00-0000000000000000000000000af76519-00000000b7ad6b71-01"
        );
        let zeros = TraceContext::sample(1.0, 0.0, 0, 0).unwrap();
        assert_eq!(
            zeros.traceparent(),
            "00-00000000000000000000000000000001-0000000000000001-01"
        );
    }
}
