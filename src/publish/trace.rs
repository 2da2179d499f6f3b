//! The trace of a sampled frame. A frame comes in with what became of its event and a reading of the clocks, and what the
//! stages did and when goes out, in wall-clock time. The publisher calls it.

use std::time::Instant;

use super::outbox::NumberedFrame;
use crate::clock::WallClock;
use crate::telemetry::ledger::EventDrop;
use crate::telemetry::traces::{FrameTrace, TraceContext};

/// How the way of a frame ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct TraceEnd {
    /// When its event was written, or dropped.
    pub(super) at: Instant,
    /// When its event was made, if it was. This is the event's `timestamp`.
    pub(super) event_at: Option<Instant>,
    /// Why the event was not published.
    pub(super) dropped: Option<EventDrop>,
}

/// The trace of a frame. The stages are as in the event's `latencyMs`: the time between them counts as `publish`.
pub(super) fn frame_trace(
    context: TraceContext,
    numbered: &NumberedFrame,
    end: TraceEnd,
    clock: &WallClock,
) -> FrameTrace {
    let inferred = &numbered.inferred;
    let timing = &inferred.timing;
    let inference_at = inferred.started_at + inferred.preprocess;
    let postprocess_at = inference_at + inferred.inference;
    let mut bounds = [
        timing.received_at,
        timing.completed_at,
        timing.decoded_at,
        inferred.started_at,
        inference_at,
        postprocess_at,
        postprocess_at + inferred.postprocess,
        end.at,
    ];
    // Whatever the stages hand over, no span ends before it begins.
    for n in 1..bounds.len() {
        bounds[n] = bounds[n].max(bounds[n - 1]);
    }
    FrameTrace {
        context,
        id: inferred.id.clone(),
        sequence: numbered.sequence,
        rtp_timestamp: timing.rtp_timestamp.0,
        size: (inferred.size.width_px, inferred.size.height_px),
        model: inferred.model.name.clone(),
        objects: inferred.objects.len(),
        bounds_ns: bounds.map(|at| clock.unix_ns(at)),
        event_ns: end.event_at.map(|at| clock.unix_ns(at)),
        dropped: end.dropped,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::event::tests::{inferred, ms};
    use super::*;

    fn context() -> TraceContext {
        TraceContext::for_tests()
    }

    fn traced(received_at: Instant, end: TraceEnd, clock: &WallClock) -> FrameTrace {
        let numbered = NumberedFrame {
            sequence: 7,
            inferred: inferred("cam", received_at).into(),
        };
        frame_trace(context(), &numbered, end, clock)
    }

    #[test]
    fn the_stages_follow_each_other_from_the_first_packet_to_the_event() {
        let clock = WallClock::read();
        let received_at = clock.instant() - ms(47);
        let written_at = clock.instant() + Duration::from_micros(250);
        let end = TraceEnd {
            at: written_at,
            event_at: Some(clock.instant()),
            dropped: None,
        };
        let trace = traced(received_at, end, &clock);
        let micros: Vec<u64> = trace
            .bounds_ns
            .windows(2)
            .map(|bounds| (bounds[1] - bounds[0]) / 1000)
            .collect();
        assert_eq!(micros, [12_000, 1600, 3100, 400, 28_600, 300, 1250]);
        assert_eq!(trace.bounds_ns[0], clock.unix_ns(received_at));
        assert_eq!(trace.bounds_ns[7], clock.unix_ns(written_at));
        assert_eq!(trace.event_ns, Some(clock.unix_ns(clock.instant())));
        assert_eq!((trace.sequence, trace.rtp_timestamp), (7, 123_456));
        assert_eq!((trace.size, trace.objects), ((1280, 720), 1));
        assert_eq!(trace.model, "nanodet_g_coco");
    }

    #[test]
    fn times_out_of_order_give_empty_spans() {
        let clock = WallClock::read();
        let end = TraceEnd {
            at: clock.instant(),
            event_at: None,
            dropped: Some(EventDrop::OutboxFull),
        };
        let trace = traced(clock.instant() + ms(500), end, &clock);
        assert!(trace.bounds_ns.is_sorted());
        assert_eq!(trace.bounds_ns[6], trace.bounds_ns[7]);
        assert_eq!(trace.dropped, Some(EventDrop::OutboxFull));
    }
}
