//! Decides which access units reach the decoder, and when to ask for a keyframe: units come in, verdicts and requests go
//! out. Sans-IO; the stream's [`DecodeStream`](super::stream::DecodeStream) owns it.
//!
//! Units pass from a complete keyframe on, as long as none is missing, so that pictures are exactly those of the sender's
//! encoder. After a loss no unit passes until the next complete keyframe.

use std::time::{Duration, Instant};

use crate::access_unit::{AccessUnit, Completeness, PictureKind};
use crate::ledger::{ShedLevel, UnitDrop};

/// At [`ShedLevel::KeyframesOnly`] a keyframe is asked for when none has come for this long, and then asked for again.
const SHED_REQUEST_AFTER: Duration = Duration::from_secs(2);
const SHED_REPEAT_AFTER: Duration = Duration::from_secs(1);

/// The pauses before a request is repeated. The last one repeats.
const REPEAT_AFTER: [Duration; 4] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

/// Why a keyframe is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyframeReason {
    /// The stream did not begin with a keyframe.
    Start,
    /// A packet was lost or malformed, or the source began anew.
    Loss,
    /// The decoder refused a unit or gave no picture for it.
    DecodeError,
    /// Decoding fell behind.
    Backlog,
    /// The first B slice came of a stream that did not say whether it reorders: from the keyframe on, pictures are put in
    /// order.
    Reordering,
    /// Only keyframes are decoded, and none has come for a while. The request is not urgent.
    Shedding,
    /// Units other than keyframes are decoded again, and those since the last keyframe were not.
    Resuming,
}

/// What happens to a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is decoded.
    Decode,
    /// It is dropped for this reason.
    Drop(UnitDrop),
}

/// Opens at a keyframe and closes at a loss.
#[derive(Debug)]
pub(super) struct Gate {
    state: GateState,
    max_backlog: Duration,
    last_request: Option<Instant>,
    shed: ShedLevel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GateState {
    /// Only a complete keyframe is decoded.
    AwaitingKeyframe {
        why: KeyframeReason,
        /// Requests made since the wait began.
        requests: usize,
        /// When the next request is due; none as long as no keyframe is missed.
        due: Option<Instant>,
    },
    /// Every unit that follows its predecessor without a gap is decoded.
    Decoding,
}

impl GateState {
    /// Waits for a keyframe although nothing was lost, because only keyframes are decoded.
    fn keyframes_only(now: Instant) -> Self {
        Self::AwaitingKeyframe {
            why: KeyframeReason::Shedding,
            requests: 0,
            due: Some(now + SHED_REQUEST_AFTER),
        }
    }
}

impl Gate {
    /// A closed gate. Units whose last packet came longer than `max_backlog` before their decoding could start are skipped.
    pub(super) fn new(max_backlog: Duration) -> Self {
        Self {
            state: GateState::AwaitingKeyframe {
                why: KeyframeReason::Start,
                requests: 0,
                due: None,
            },
            max_backlog,
            last_request: None,
            shed: ShedLevel::None,
        }
    }

    /// Leaves out as much from now on as the level says. Units that are left out do not count as loss. When units other
    /// than keyframes are decoded again, they begin at a keyframe, which is asked for at once.
    pub(super) fn shed(&mut self, level: ShedLevel, now: Instant) {
        let before = std::mem::replace(&mut self.shed, level);
        if level == ShedLevel::KeyframesOnly && self.state == GateState::Decoding {
            self.state = GateState::keyframes_only(now);
        }
        if before == ShedLevel::KeyframesOnly
            && level < before
            && let GateState::AwaitingKeyframe { why, requests, due } = &mut self.state
            && *why == KeyframeReason::Shedding
        {
            (*why, *requests, *due) = (KeyframeReason::Resuming, 0, Some(now));
        }
    }

    /// Decides on a unit whose decoding could start now.
    pub(super) fn admit(&mut self, unit: &AccessUnit, now: Instant) -> Verdict {
        match unit.completeness {
            Completeness::Complete => {}
            Completeness::Incomplete => {
                self.damaged(unit, now);
                return Verdict::Drop(UnitDrop::Incomplete);
            }
            Completeness::Oversize => {
                self.damaged(unit, now);
                return Verdict::Drop(UnitDrop::Oversize);
            }
        }
        if self.sheds(unit) {
            return Verdict::Drop(UnitDrop::Shed);
        }
        // Only the time since the last packet counts: how long the packets took to come is the sender's pace.
        if now.saturating_duration_since(unit.completed_at) > self.max_backlog {
            self.close(KeyframeReason::Backlog, now);
            return Verdict::Drop(UnitDrop::DecodeBacklog);
        }
        if unit.is_keyframe() && unit.sequence.is_some() {
            return Verdict::Decode;
        }
        // This also holds for a unit without a picture, such as parameter sets: pictures may have been lost before it.
        if unit.after_loss && self.state == GateState::Decoding {
            self.close(KeyframeReason::Loss, now);
        }
        match &mut self.state {
            GateState::Decoding => Verdict::Decode,
            GateState::AwaitingKeyframe { why, due, .. } => {
                // A picture came that cannot be used, so a keyframe is missed from now on.
                if unit.picture != PictureKind::None {
                    due.get_or_insert(now);
                }
                Verdict::Drop(match why {
                    KeyframeReason::Backlog => UnitDrop::DecodeBacklog,
                    KeyframeReason::Shedding | KeyframeReason::Resuming => UnitDrop::Shed,
                    _ => UnitDrop::AwaitingKeyframe,
                })
            }
        }
    }

    /// The decoder took a keyframe. The units behind it pass from now on, unless only keyframes are wanted.
    pub(super) fn open(&mut self, now: Instant) {
        self.state = if self.shed == ShedLevel::KeyframesOnly {
            GateState::keyframes_only(now)
        } else {
            GateState::Decoding
        };
    }

    /// No unit passes until the next keyframe, and one is asked for at once.
    pub(super) fn close(&mut self, why: KeyframeReason, now: Instant) {
        match &mut self.state {
            GateState::Decoding => {
                self.state = GateState::AwaitingKeyframe {
                    why,
                    requests: 0,
                    due: Some(now),
                };
            }
            GateState::AwaitingKeyframe { due, why: old, .. } => {
                due.get_or_insert(now);
                // If decoding falls behind during the wait, the rest of the wait is because of the backlog.
                if why == KeyframeReason::Backlog {
                    *old = why;
                }
            }
        }
    }

    /// True if only a keyframe would pass.
    pub(super) fn is_awaiting_keyframe(&self) -> bool {
        self.state != GateState::Decoding
    }

    /// The reason for a keyframe request that is due.
    pub(super) fn keyframe_request(&mut self, now: Instant) -> Option<KeyframeReason> {
        let GateState::AwaitingKeyframe { why, requests, due } = &mut self.state else {
            return None;
        };
        if due.is_none_or(|due| now < due) {
            return None;
        }
        let pause = match why {
            KeyframeReason::Shedding => SHED_REPEAT_AFTER,
            _ => REPEAT_AFTER[(*requests).min(REPEAT_AFTER.len() - 1)],
        };
        *requests += 1;
        *due = Some(now + pause);
        self.last_request = Some(now);
        Some(*why)
    }

    /// When [`keyframe_request`](Self::keyframe_request) is to be called next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            GateState::AwaitingKeyframe { due, .. } => due,
            GateState::Decoding => None,
        }
    }

    /// True if a complete unit is left out because of the shed level.
    fn sheds(&self, unit: &AccessUnit) -> bool {
        match self.shed {
            ShedLevel::None | ShedLevel::InferLess => false,
            // If packets were lost before it, it goes on to where the loss is noticed.
            ShedLevel::ReferencesOnly => {
                unit.disposable && !unit.after_loss && self.state == GateState::Decoding
            }
            ShedLevel::KeyframesOnly => !unit.is_keyframe(),
        }
    }

    /// A unit is incomplete. If it was the keyframe that had been asked for, it is soon asked for again.
    fn damaged(&mut self, unit: &AccessUnit, now: Instant) {
        self.close(KeyframeReason::Loss, now);
        if unit.is_keyframe()
            && let GateState::AwaitingKeyframe { requests, due, .. } = &mut self.state
            && let Some(last) = self.last_request
            && *requests > 0
        {
            *requests = 1;
            let again = now.max(last + REPEAT_AFTER[0]);
            *due = Some(due.map_or(again, |due| due.min(again)));
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::access_unit::{OutputOrder, Sequence};
    use crate::codec::Codec;
    use crate::picture::{Color, Matrix, PictureSize};
    use crate::rtp::{PacketId, RtpTimestamp, SequenceNumber, Ssrc};

    const SEQUENCE: Sequence = Sequence {
        codec: Codec::Vp8,
        size: PictureSize {
            width_px: 64,
            height_px: 64,
        },
        macroblocks: 16,
        color: Color {
            matrix: Matrix::Bt601,
            full_range: false,
        },
        output: OutputOrder::Decoding,
        delays_output: false,
    };

    fn unit(picture: PictureKind, at: Instant) -> AccessUnit {
        AccessUnit {
            data: Bytes::new(),
            rtp_timestamp: RtpTimestamp(0),
            received_at: at,
            completed_at: at,
            last_packet: PacketId {
                ssrc: Ssrc(1),
                sequence: SequenceNumber(0),
                arrived_at: at,
            },
            picture,
            hidden: false,
            disposable: false,
            sequence: Some(SEQUENCE),
            completeness: Completeness::Complete,
            after_loss: false,
        }
    }

    fn open_gate(now: Instant) -> Gate {
        let mut gate = Gate::new(Duration::from_millis(500));
        assert_eq!(
            gate.admit(&unit(PictureKind::Key, now), now),
            Verdict::Decode
        );
        gate.open(now);
        gate
    }

    const AWAITING: Verdict = Verdict::Drop(UnitDrop::AwaitingKeyframe);

    #[test]
    fn it_opens_on_a_keyframe_of_a_known_sequence_only() {
        let now = Instant::now();
        let mut gate = Gate::new(Duration::from_millis(500));
        assert_eq!(gate.keyframe_request(now), None);
        assert_eq!(gate.admit(&unit(PictureKind::Forward, now), now), AWAITING);
        assert_eq!(gate.keyframe_request(now), Some(KeyframeReason::Start));
        let mut unknown = unit(PictureKind::Key, now);
        unknown.sequence = None;
        assert_eq!(gate.admit(&unknown, now), AWAITING);
        assert_eq!(
            gate.admit(&unit(PictureKind::Key, now), now),
            Verdict::Decode
        );
        assert!(gate.is_awaiting_keyframe());
        gate.open(now);
        assert_eq!(
            gate.admit(&unit(PictureKind::Forward, now), now),
            Verdict::Decode
        );
        assert_eq!((gate.deadline(), gate.keyframe_request(now)), (None, None));
    }

    #[test]
    fn a_whole_unit_lost_closes_it_and_an_idr_keeps_it_open() {
        let now = Instant::now();
        let mut gate = open_gate(now);
        let mut idr = unit(PictureKind::Key, now);
        idr.after_loss = true;
        assert_eq!(gate.admit(&idr, now), Verdict::Decode);
        let mut after = unit(PictureKind::Forward, now);
        after.after_loss = true;
        assert_eq!(gate.admit(&after, now), AWAITING);
        assert_eq!(gate.admit(&unit(PictureKind::Forward, now), now), AWAITING);
        assert_eq!(gate.keyframe_request(now), Some(KeyframeReason::Loss));
    }

    #[test]
    fn requests_are_repeated_with_growing_pauses() {
        let start = Instant::now();
        let mut gate = open_gate(start);
        gate.close(KeyframeReason::DecodeError, start);
        let mut at = Vec::new();
        let mut now = start;
        for _ in 0..20_000 {
            if gate.keyframe_request(now).is_some() {
                at.push(now.duration_since(start).as_millis());
            }
            now += Duration::from_millis(1);
        }
        assert_eq!(at, [0, 500, 1500, 3500, 8500, 13_500, 18_500]);
    }

    #[test]
    fn a_damaged_keyframe_is_asked_for_again_soon() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut gate = open_gate(start);
        gate.close(KeyframeReason::Loss, start);
        for ms in [0, 500, 1500] {
            assert!(gate.keyframe_request(at(ms)).is_some());
        }
        let mut idr = unit(PictureKind::Key, at(1600));
        idr.completeness = Completeness::Incomplete;
        assert_eq!(
            gate.admit(&idr, at(1600)),
            Verdict::Drop(UnitDrop::Incomplete)
        );
        assert_eq!(gate.deadline(), Some(at(2000)));
        assert!(gate.keyframe_request(at(2000)).is_some());
        assert_eq!(gate.deadline(), Some(at(3000)));
    }

    #[test]
    fn backlog_skips_to_the_next_fresh_keyframe() {
        let start = Instant::now();
        let late = start + Duration::from_millis(501);
        let backlog = Verdict::Drop(UnitDrop::DecodeBacklog);
        let mut gate = open_gate(start);
        assert_eq!(
            gate.admit(&unit(PictureKind::Forward, start), late),
            backlog
        );
        assert_eq!(gate.admit(&unit(PictureKind::Forward, late), late), backlog);
        assert_eq!(gate.admit(&unit(PictureKind::Key, start), late), backlog);
        assert_eq!(gate.keyframe_request(late), Some(KeyframeReason::Backlog));
        assert_eq!(
            gate.admit(&unit(PictureKind::Key, late), late),
            Verdict::Decode
        );
    }

    #[test]
    fn the_sender_s_pace_is_no_backlog() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut gate = open_gate(start);
        for (picture, ms) in [(PictureKind::Key, 7000), (PictureKind::Forward, 9000)] {
            let mut slow = unit(picture, start);
            slow.completed_at = at(ms);
            assert_eq!(gate.admit(&slow, at(ms + 500)), Verdict::Decode);
            gate.open(at(ms + 500));
        }
        assert_eq!(gate.keyframe_request(at(10_000)), None);
    }

    #[test]
    fn what_no_other_needs_is_no_loss_and_however_late_no_backlog() {
        let start = Instant::now();
        let late = start + Duration::from_millis(501);
        let shed = Verdict::Drop(UnitDrop::Shed);
        let mut gate = open_gate(start);
        gate.shed(ShedLevel::ReferencesOnly, start);
        let mut disposable = unit(PictureKind::Bidirectional, start);
        disposable.disposable = true;
        assert_eq!(gate.admit(&disposable, start), shed);
        assert_eq!(gate.admit(&disposable, late), shed);
        let reference = unit(PictureKind::Forward, late);
        assert_eq!(gate.admit(&reference, late), Verdict::Decode);
        assert_eq!(gate.keyframe_request(late), None);
        // What was lost before it may have been a reference.
        disposable.after_loss = true;
        assert_eq!(gate.admit(&disposable, start), AWAITING);
        assert_eq!(gate.admit(&reference, late), AWAITING);
    }

    #[test]
    fn keyframes_alone_are_asked_for_with_patience_and_the_way_back_at_once() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let shed = Verdict::Drop(UnitDrop::Shed);
        let forward = |ms| unit(PictureKind::Forward, at(ms));
        let mut gate = open_gate(start);
        gate.shed(ShedLevel::KeyframesOnly, start);
        assert_eq!(gate.admit(&forward(10), at(10)), shed);
        assert_eq!(gate.keyframe_request(at(1999)), None);
        let shedding = Some(KeyframeReason::Shedding);
        assert_eq!(gate.keyframe_request(at(2000)), shedding);
        assert_eq!(gate.deadline(), Some(at(3000)));
        let key = unit(PictureKind::Key, at(2500));
        assert_eq!(gate.admit(&key, at(2500)), Verdict::Decode);
        gate.open(at(2500));
        assert_eq!(gate.admit(&forward(2600), at(2600)), shed);
        assert_eq!(gate.deadline(), Some(at(4500)));

        gate.shed(ShedLevel::InferLess, at(3000));
        assert_eq!(gate.admit(&forward(3000), at(3000)), shed);
        let resuming = Some(KeyframeReason::Resuming);
        assert_eq!(gate.keyframe_request(at(3000)), resuming);
        assert_eq!(gate.keyframe_request(at(3500)), resuming);
        let key = unit(PictureKind::Key, at(3600));
        assert_eq!(gate.admit(&key, at(3600)), Verdict::Decode);
        gate.open(at(3600));
        assert_eq!(gate.admit(&forward(3700), at(3700)), Verdict::Decode);
        assert_eq!(gate.deadline(), None);
    }

    #[test]
    fn parameter_sets_alone_do_not_close_it() {
        let now = Instant::now();
        let mut gate = Gate::new(Duration::from_secs(1));
        assert_eq!(gate.admit(&unit(PictureKind::None, now), now), AWAITING);
        assert_eq!(gate.deadline(), None);
        let mut gate = open_gate(now);
        assert_eq!(
            gate.admit(&unit(PictureKind::None, now), now),
            Verdict::Decode
        );
        assert!(!gate.is_awaiting_keyframe());
    }
}
