//! What the client and the decoders tell is counted here: they know sinks, and no library for metrics.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Metrics, StreamMetrics};
use crate::telemetry::ledger::{Stage, Work};
use twinsight_client::stream_id::StreamId;
use twinsight_client::telemetry::{
    CameraState, ClientSink, HubLoss, Malformed, PacketRefusal, SignalRefusal, StreamSink,
};
use twinsight_media::codec::Codec;
use twinsight_media::ledger::{DecodeWork, LedgerSink, ShedLevel, StreamLedger, UnitDrop};
use twinsight_media::picture::FrameTiming;

impl Metrics {
    /// The ledger that a stream's decoding keeps. Everything in it is counted in the stream's metrics, too.
    pub fn stream_ledger(self: &Arc<Self>, id: &StreamId) -> Arc<StreamLedger> {
        Arc::new(StreamLedger::with_sink(self.decode_metrics(id)))
    }

    /// Where the client tells what becomes of a stream's connections.
    pub fn stream_sink(self: &Arc<Self>, id: &StreamId) -> Arc<dyn StreamSink> {
        self.decode_metrics(id)
    }

    fn decode_metrics(self: &Arc<Self>, id: &StreamId) -> Arc<DecodeMetrics> {
        Arc::new(DecodeMetrics {
            stream: self.stream(id),
            node: Arc::clone(self),
        })
    }
}

/// Counts what a stream's connections and its decoding tell, in its own metrics and in those of the node.
#[derive(Debug)]
struct DecodeMetrics {
    stream: Arc<StreamMetrics>,
    node: Arc<Metrics>,
}

impl ClientSink for Metrics {
    fn hub_connected(&self, connected: bool, again: bool) {
        self.hub_connected.set(i64::from(connected));
        if again {
            self.hub_reconnects.inc();
        }
    }

    fn hub_lost(&self, reason: HubLoss) {
        self.hub_losses[reason as usize].inc();
    }

    fn twin_id_conflict(&self) {
        self.twin_id_conflicts.inc();
    }

    fn signal_refused(&self, reason: SignalRefusal) {
        self.signals_refused[reason as usize].inc();
    }

    fn malformed_input(&self, kind: Malformed) {
        self.malformed_input[kind as usize].inc();
    }

    fn rtp_packets_refused(&self, reason: PacketRefusal, count: u64) {
        self.rtp_packets_refused[reason as usize].inc_by(count);
    }
}

impl StreamSink for DecodeMetrics {
    fn state(&self, state: CameraState) {
        self.stream.set_state(state);
    }

    fn keyframe_requested(&self) {
        self.stream.keyframe_requests.inc();
    }

    fn reconnecting(&self) {
        self.stream.camera_reconnects.inc();
    }
}

impl LedgerSink for DecodeMetrics {
    fn packet_received(&self) {
        self.stream.rtp_packets_received.inc();
    }

    fn packets_lost(&self, count: u64) {
        self.stream.rtp_packets_lost.inc_by(count);
    }

    fn malformed_payloads(&self, codec: Codec, count: u64) {
        let kind = match codec {
            Codec::H264 => Malformed::H264,
            Codec::Vp8 => Malformed::Vp8,
        };
        self.node.malformed_input[kind as usize].inc_by(count);
    }

    fn unit_received(&self) {
        self.stream.access_units_received.inc();
    }

    fn unit_dropped(&self, reason: UnitDrop) {
        self.stream.unit_dropped(reason);
    }

    fn frame_decoded(&self, timing: &FrameTiming) {
        let spent = |from: Instant, to: Instant| to.saturating_duration_since(from);
        self.stream.frames_decoded.inc();
        self.stream.stage(
            Stage::Receive,
            spent(timing.received_at, timing.completed_at),
        );
        self.stream
            .stage(Stage::Decode, spent(timing.completed_at, timing.decoded_at));
    }

    fn cpu_spent(&self, work: DecodeWork, time: Duration) {
        let work = match work {
            DecodeWork::Depacketize => Work::Depacketize,
            DecodeWork::Decode => Work::Decode,
            DecodeWork::Copy => Work::Copy,
        };
        self.stream.worked(work, time);
    }

    fn shed_level(&self, level: ShedLevel) {
        self.stream.set_shed_level(level);
    }

    fn path_restarted(&self) {
        self.node.worker_restarts.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_decoding_tells_is_counted_for_its_stream_and_for_the_node() {
        let metrics = Arc::new(Metrics::new());
        let id = StreamId::new("cam-1", "default");
        let sink = DecodeMetrics {
            stream: metrics.stream(&id),
            node: Arc::clone(&metrics),
        };
        sink.packet_received();
        sink.packets_lost(3);
        sink.malformed_payloads(Codec::Vp8, 2);
        sink.unit_received();
        sink.unit_received();
        sink.unit_dropped(UnitDrop::Shed);
        sink.path_restarted();
        let stream = metrics.stream(&id);
        assert_eq!(stream.rtp_packets_received.get(), 1);
        assert_eq!(stream.rtp_packets_lost.get(), 3);
        assert_eq!(stream.ledger().in_flight()[0], 1);
        assert_eq!(metrics.malformed_input_counter(Malformed::Vp8).get(), 2);
        assert_eq!(metrics.worker_restarts.get(), 1);
    }
}
