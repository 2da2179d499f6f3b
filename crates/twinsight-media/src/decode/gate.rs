//! Decides which access units reach the decoder, and when a keyframe is asked for. Sans-IO; it
//! belongs to the stream's [`DecodeStream`](super::stream::DecodeStream).
//!
//! What passes decodes to exactly what the sender's encoder made: from a complete keyframe on,
//! without a gap. After any loss nothing passes until the next one.

use std::time::{Duration, Instant};

use crate::access_unit::{AccessUnit, Completeness, PictureKind};
use crate::ledger::{ShedLevel, UnitDrop};

/// At [`ShedLevel::KeyframesOnly`], the time without a keyframe after which one is asked for, and asked for again.
const SHED_REQUEST_AFTER: Duration = Duration::from_secs(2);
const SHED_REPEAT_AFTER: Duration = Duration::from_secs(1);

/// Pauses before a request is repeated; the last one stays.
const REPEAT_AFTER: [Duration; 4] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

/// Why a keyframe is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyframeReason {
    /// The stream began, and not with a keyframe.
    Start,
    /// A packet was lost or malformed, or the source began anew.
    Loss,
    /// The decoder refused a unit or gave no picture for it.
    DecodeError,
    /// Decoding fell behind.
    Backlog,
    /// The first B slice of a stream that had not announced any: pictures will be put in order.
    Reordering,
    /// Nothing but keyframes is decoded, and none has come for a while: it has time.
    Shedding,
    /// All units are to be decoded again, and those since the last keyframe were not.
    Resuming,
}

/// What happens to a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is decoded.
    Decode,
    /// It is dropped for this reason.
    Drop(UnitDrop),
}

/// Opens at a keyframe, closes at a loss.
#[derive(Debug)]
pub struct Gate {
    state: State,
    max_backlog: Duration,
    last_request: Option<Instant>,
    shed: ShedLevel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No unit but a complete keyframe is decoded.
    AwaitingKeyframe {
        why: KeyframeReason,
        /// Requests made since the wait began.
        requests: usize,
        /// When the next request is due; none while nobody has missed a keyframe yet.
        due: Option<Instant>,
    },
    /// Every unit that follows its predecessor without a gap is decoded.
    Decoding,
}

impl State {
    /// No loss, and yet only a keyframe will do.
    fn keyframes_only(now: Instant) -> Self {
        Self::AwaitingKeyframe {
            why: KeyframeReason::Shedding,
            requests: 0,
            due: Some(now + SHED_REQUEST_AFTER),
        }
    }
}

impl Gate {
    /// A closed gate; units that waited longer than `max_backlog` from their last packet to the start of decoding are
    /// skipped.
    pub fn new(max_backlog: Duration) -> Self {
        Self {
            state: State::AwaitingKeyframe {
                why: KeyframeReason::Start,
                requests: 0,
                due: None,
            },
            max_backlog,
            last_request: None,
            shed: ShedLevel::None,
        }
    }

    /// From now on that much is left out. What is not needed is no loss; after keyframes alone everything begins
    /// again at a keyframe, which is asked for at once.
    pub fn shed(&mut self, level: ShedLevel, now: Instant) {
        let before = std::mem::replace(&mut self.shed, level);
        if level == ShedLevel::KeyframesOnly && self.state == State::Decoding {
            self.state = State::keyframes_only(now);
        }
        if before == ShedLevel::KeyframesOnly
            && level < before
            && let State::AwaitingKeyframe { why, requests, due } = &mut self.state
            && *why == KeyframeReason::Shedding
        {
            (*why, *requests, *due) = (KeyframeReason::Resuming, 0, Some(now));
        }
    }

    /// Decides on a unit whose decoding could start now.
    pub fn admit(&mut self, unit: &AccessUnit, now: Instant) -> Verdict {
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
        // From the last packet on: how long the first ones took to come is the sender's pace, not our lateness.
        if now.saturating_duration_since(unit.completed_at) > self.max_backlog {
            self.close(KeyframeReason::Backlog, now);
            return Verdict::Drop(UnitDrop::DecodeBacklog);
        }
        if unit.is_keyframe() && unit.sequence.is_some() {
            return Verdict::Decode;
        }
        // What was lost before a unit of sets alone may have been nothing that is missed: its keyframe is about to come.
        if unit.after_loss && self.state == State::Decoding {
            self.close(KeyframeReason::Loss, now);
        }
        match &mut self.state {
            State::Decoding => Verdict::Decode,
            State::AwaitingKeyframe { why, due, .. } => {
                // A picture came and could not be used: now a keyframe is missed.
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

    /// The decoder took a keyframe: units pass from now on, if others than keyframes are wanted.
    pub fn open(&mut self, now: Instant) {
        self.state = if self.shed == ShedLevel::KeyframesOnly {
            State::keyframes_only(now)
        } else {
            State::Decoding
        };
    }

    /// Nothing passes until the next keyframe, and one is asked for at once.
    pub fn close(&mut self, why: KeyframeReason, now: Instant) {
        match &mut self.state {
            State::Decoding => {
                self.state = State::AwaitingKeyframe {
                    why,
                    requests: 0,
                    due: Some(now),
                };
            }
            State::AwaitingKeyframe { due, why: old, .. } => {
                due.get_or_insert(now);
                // Once behind, the wait is the backlog's fault until it ends.
                if why == KeyframeReason::Backlog {
                    *old = why;
                }
            }
        }
    }

    /// True between a loss and the next keyframe.
    pub fn is_awaiting_keyframe(&self) -> bool {
        self.state != State::Decoding
    }

    /// The reason for a keyframe request that is due.
    pub fn keyframe_request(&mut self, now: Instant) -> Option<KeyframeReason> {
        let State::AwaitingKeyframe { why, requests, due } = &mut self.state else {
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
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::AwaitingKeyframe { due, .. } => due,
            State::Decoding => None,
        }
    }

    /// Whether a complete unit is left out, however fresh it is.
    fn sheds(&self, unit: &AccessUnit) -> bool {
        match self.shed {
            ShedLevel::None | ShedLevel::InferLess => false,
            // A loss before it is still to be noticed.
            ShedLevel::ReferencesOnly => {
                unit.disposable && !unit.after_loss && self.state == State::Decoding
            }
            ShedLevel::KeyframesOnly => !unit.is_keyframe(),
        }
    }

    /// A unit is not whole. If it was the keyframe that had been asked for, asking begins again.
    fn damaged(&mut self, unit: &AccessUnit, now: Instant) {
        self.close(KeyframeReason::Loss, now);
        if unit.is_keyframe()
            && let State::AwaitingKeyframe { requests, due, .. } = &mut self.state
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
