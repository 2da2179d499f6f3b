//! Counts what becomes of each packet, access unit and frame of a stream: the decode path counts, whoever runs it reads.
//! Every unit that comes in leaves as a frame, is dropped for one of the reasons here, or is held by the decoder, so that
//! the numbers of a [`StreamLedger`] always add up.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::codec::Codec;
use crate::picture::FrameTiming;

label_enum! {
    /// Why an access unit gave no frame.
    pub enum UnitDrop {
        /// A packet of it was lost for good.
        Incomplete = "incomplete",
        /// The decoder waits for a keyframe.
        AwaitingKeyframe = "awaiting_keyframe",
        /// Decoding fell behind: skipped to the next keyframe.
        DecodeBacklog = "decode_backlog",
        /// The decoder refused it.
        DecodeError = "decode_error",
        /// The decoder took it and gave no picture.
        NoPicture = "no_picture",
        /// It is larger than an access unit may be.
        Oversize = "oversize",
        /// Skipped on purpose under overload.
        Shed = "shed",
        /// The decoder that held it was rebuilt.
        Reset = "reset",
        /// The stream ended.
        Shutdown = "shutdown",
    }
}

label_enum! {
    /// How much a stream leaves out while it or the machine is overloaded. Each level includes those before it.
    #[derive(Default)]
    pub enum ShedLevel {
        /// Nothing is left out.
        #[default]
        None = "none",
        /// Its frames are inferred half as often.
        InferLess = "infer_less",
        /// Pictures to which no other refers are not decoded.
        ReferencesOnly = "references_only",
        /// Nothing but keyframes is decoded.
        KeyframesOnly = "keyframes_only",
    }
}

label_enum! {
    /// Kinds of work on the decode thread, whose processor time is counted.
    pub enum DecodeWork {
        /// All that is not decoding: putting packets in order, making access units of them, handing frames on.
        Depacketize = "depacketize",
        /// Turning access units into pictures in the decoder's memory.
        Decode = "decode",
        /// Copying pictures out of the decoder's memory.
        Copy = "copy",
    }
}

/// Is told all that a [`StreamLedger`] counts as it happens, on the decode thread, and so must not wait.
///
/// The node's metrics implement it. A ledger without a sink counts for itself alone.
pub trait LedgerSink: fmt::Debug + Send + Sync {
    /// An RTP packet came, which may be a duplicate.
    fn packet_received(&self);
    /// So many RTP packets were given up as lost.
    fn packets_lost(&self, count: u64);
    /// So many payloads broke the rules of their format.
    fn malformed_payloads(&self, codec: Codec, count: u64);
    /// An access unit closed of which at least one packet came.
    fn unit_received(&self);
    /// An access unit gave no frame.
    fn unit_dropped(&self, reason: UnitDrop);
    /// A unit gave its frame.
    fn frame_decoded(&self, timing: &FrameTiming);
    /// The thread spent processor time.
    fn cpu_spent(&self, work: DecodeWork, time: Duration);
    /// The stream sheds so much from now on.
    fn shed_level(&self, level: ShedLevel);
    /// The receive path panicked and was made anew.
    fn path_restarted(&self);
}

/// The counters of one stream.
#[derive(Debug, Default)]
pub struct StreamLedger {
    units_received: AtomicU64,
    units_dropped: [AtomicU64; UnitDrop::ALL.len()],
    frames_decoded: AtomicU64,
    packets_received: AtomicU64,
    packets_lost: AtomicU64,
    malformed_payloads: [AtomicU64; Codec::ALL.len()],
    shed_level: AtomicUsize,
    path_restarts: AtomicU64,
    sink: Option<Arc<dyn LedgerSink>>,
}

impl StreamLedger {
    /// A ledger that also tells a sink.
    pub fn with_sink(sink: Arc<dyn LedgerSink>) -> Self {
        Self {
            sink: Some(sink),
            ..Self::default()
        }
    }

    /// Access units of which at least one packet came.
    pub fn units_received(&self) -> u64 {
        self.units_received.load(Ordering::Relaxed)
    }

    /// Access units that were dropped for `reason`.
    pub fn units_dropped(&self, reason: UnitDrop) -> u64 {
        self.units_dropped[reason as usize].load(Ordering::Relaxed)
    }

    /// Access units that were dropped for any reason.
    pub fn all_units_dropped(&self) -> u64 {
        let dropped = self.units_dropped.iter();
        dropped.map(|each| each.load(Ordering::Relaxed)).sum()
    }

    /// Frames that the decoder gave.
    pub fn frames_decoded(&self) -> u64 {
        self.frames_decoded.load(Ordering::Relaxed)
    }

    /// RTP packets that came, duplicates included.
    pub fn packets_received(&self) -> u64 {
        self.packets_received.load(Ordering::Relaxed)
    }

    /// RTP packets that were given up as lost.
    pub fn packets_lost(&self) -> u64 {
        self.packets_lost.load(Ordering::Relaxed)
    }

    /// Payloads that broke the rules of their format.
    pub fn malformed_payloads(&self, codec: Codec) -> u64 {
        self.malformed_payloads[codec as usize].load(Ordering::Relaxed)
    }

    /// How much is left out now.
    pub fn shed_level(&self) -> ShedLevel {
        ShedLevel::ALL[self.shed_level.load(Ordering::Relaxed)]
    }

    /// Units that neither gave a frame nor were dropped, and so are held by the decoder. The number is exact on the decode
    /// thread, and for others while that thread rests.
    pub fn units_held(&self) -> u64 {
        self.units_received()
            .saturating_sub(self.frames_decoded() + self.all_units_dropped())
    }

    /// How often the receive path panicked and was made anew.
    pub fn path_restarts(&self) -> u64 {
        self.path_restarts.load(Ordering::Relaxed)
    }

    /// Counts that the path was made anew, and drops the units that it held.
    pub fn path_restarted(&self) {
        self.path_restarts.fetch_add(1, Ordering::Relaxed);
        for _ in 0..self.units_held() {
            self.drop_unit(UnitDrop::Reset);
        }
        self.set_shed_level(ShedLevel::None);
        self.tell(|sink| sink.path_restarted());
    }

    pub(crate) fn receive_packet(&self) {
        self.packets_received.fetch_add(1, Ordering::Relaxed);
        self.tell(|sink| sink.packet_received());
    }

    pub(crate) fn lose_packets(&self, count: u64) {
        self.packets_lost.fetch_add(count, Ordering::Relaxed);
        self.tell(|sink| sink.packets_lost(count));
    }

    pub(crate) fn refuse_payloads(&self, codec: Codec, count: u64) {
        if count > 0 {
            self.malformed_payloads[codec as usize].fetch_add(count, Ordering::Relaxed);
            self.tell(|sink| sink.malformed_payloads(codec, count));
        }
    }

    pub(crate) fn receive_unit(&self) {
        self.units_received.fetch_add(1, Ordering::Relaxed);
        self.tell(|sink| sink.unit_received());
    }

    pub(crate) fn drop_unit(&self, reason: UnitDrop) {
        self.units_dropped[reason as usize].fetch_add(1, Ordering::Relaxed);
        self.tell(|sink| sink.unit_dropped(reason));
    }

    /// Counts units that were lost before they came to the stream's decoding.
    pub fn lost_before(&self, reason: UnitDrop, count: u64) {
        for _ in 0..count {
            self.receive_unit();
            self.drop_unit(reason);
        }
    }

    pub(crate) fn decode_frame(&self, timing: &FrameTiming) {
        self.frames_decoded.fetch_add(1, Ordering::Relaxed);
        self.tell(|sink| sink.frame_decoded(timing));
    }

    pub(crate) fn spend_cpu(&self, work: DecodeWork, time: Duration) {
        self.tell(|sink| sink.cpu_spent(work, time));
    }

    pub(crate) fn set_shed_level(&self, level: ShedLevel) {
        self.shed_level.store(level as usize, Ordering::Relaxed);
        self.tell(|sink| sink.shed_level(level));
    }

    fn tell(&self, what: impl FnOnce(&dyn LedgerSink)) {
        if let Some(sink) = &self.sink {
            what(&**sink);
        }
    }
}
