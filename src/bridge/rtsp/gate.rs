//! Which units of a camera go on to viewers. Access units come in as the depacketizer makes them, with what was lost between
//! them; those that can be shown go out, from a keyframe on, and those that never can be make an error of it. Each of a camera's
//! sessions begins with [`UnitGate::begin`].

use super::error::RtspError;
use twinsight_media::access_unit::{AccessUnit, Completeness, PictureKind};
use twinsight_media::h264::nal::{NalType, annex_b};
use twinsight_media::h264::sps::Sps;
use twinsight_media::picture::PictureSize;

use crate::bridge::source::UnitLoss;

/// While it is tried whether a camera sends B frames, so many pictures up to a keyframe show that it sends none.
const TRIAL_PICTURES: u32 = 8;

/// Decides about the units of one camera.
#[derive(Debug, Default)]
pub(super) struct UnitGate {
    state: GateState,
    /// There were B frames before, or the stream says that there may be.
    suspects_b_frames: bool,
    /// The sequence parameter set that was looked at last, and what it says.
    sequence: Option<(Vec<u8>, StreamFormat)>,
}

/// Where the gate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum GateState {
    /// Units are left out until a keyframe comes.
    #[default]
    Awaiting,
    /// Units are left out until it is clear that there are no B frames among them.
    Trying {
        /// How many pictures there were so far.
        pictures: u32,
    },
    /// Units pass.
    Passing,
}

/// What a camera's sequence parameter set says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StreamFormat {
    pub(super) size: PictureSize,
    /// Profile, constraints and level (RFC 6184 section 8.1).
    pub(super) profile_level_id: [u8; 3],
}

/// What becomes of a unit.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes on, and is of this format.
    Pass(StreamFormat),
    /// It is left out.
    Drop(UnitLoss),
    /// It is left out until it is clear that there are no B frames.
    Hold,
    /// It holds no picture, and nobody misses it.
    Ignore,
}

impl UnitGate {
    /// Another session begins: nothing continues what was before.
    pub(super) fn begin(&mut self) {
        self.state = GateState::Awaiting;
    }

    /// Decides about the next unit. `malformed`: what is missing of it came, and could not be read.
    ///
    /// # Errors
    /// When the camera sends what viewers cannot show, however long one waits.
    pub(super) fn judge(
        &mut self,
        unit: &AccessUnit,
        malformed: bool,
    ) -> Result<Verdict, RtspError> {
        if unit.picture == PictureKind::Bidirectional {
            self.suspects_b_frames = true;
            return Err(RtspError::BFrames);
        }
        if unit.completeness != Completeness::Complete {
            self.state = GateState::Awaiting;
            return Ok(Verdict::Drop(if malformed {
                UnitLoss::Malformed
            } else {
                UnitLoss::PacketsLost
            }));
        }
        match unit.picture {
            PictureKind::None => Ok(Verdict::Ignore),
            PictureKind::Key => self.keyframe(unit),
            _ => Ok(self.continued(unit)),
        }
    }

    fn keyframe(&mut self, unit: &AccessUnit) -> Result<Verdict, RtspError> {
        let Some(format) = self.format(unit)? else {
            // Its parameter sets are not known, so nobody can decode it.
            self.state = GateState::Awaiting;
            return Ok(Verdict::Drop(UnitLoss::Malformed));
        };
        self.state = match self.state {
            GateState::Awaiting if self.suspects_b_frames => GateState::Trying { pictures: 1 },
            GateState::Trying { pictures } if pictures < TRIAL_PICTURES => GateState::Trying {
                pictures: pictures + 1,
            },
            _ => {
                self.suspects_b_frames = false;
                GateState::Passing
            }
        };
        Ok(self.verdict(format))
    }

    fn continued(&mut self, unit: &AccessUnit) -> Verdict {
        if unit.after_loss {
            self.state = GateState::Awaiting;
        }
        if let GateState::Trying { pictures } = &mut self.state {
            *pictures = pictures.saturating_add(1);
        }
        match &self.sequence {
            Some((_, format)) => self.verdict(*format),
            None => Verdict::Drop(UnitLoss::AwaitingKeyframe),
        }
    }

    fn verdict(&self, format: StreamFormat) -> Verdict {
        match self.state {
            GateState::Passing => Verdict::Pass(format),
            GateState::Trying { .. } => Verdict::Hold,
            GateState::Awaiting => Verdict::Drop(UnitLoss::AwaitingKeyframe),
        }
    }

    /// The format of a keyframe, which has its parameter sets with it. `None` if they are not known.
    fn format(&mut self, unit: &AccessUnit) -> Result<Option<StreamFormat>, RtspError> {
        let Some(active) = unit.sequence else {
            return Ok(None);
        };
        // A slice ends the sets, and is most of the unit.
        let sets = annex_b(&unit.data)
            .take_while(|nal| !NalType::of(nal[0]).is_slice())
            .filter(|nal| NalType::of(nal[0]) == NalType::Sps);
        let mut found = None;
        for nal in sets {
            if let Some((known, format)) = &self.sequence
                && known == nal
                && format.size == active.size
            {
                return Ok(Some(*format));
            }
            if let Ok(sps) = Sps::parse(nal)
                && sps.size == active.size
            {
                found = Some((nal.to_vec(), sps));
            }
        }
        let Some((nal, sps)) = found else {
            return Ok(None);
        };
        check(&sps)?;
        // The stream does not have to say so, and some that do have none: what its slices are decides.
        self.suspects_b_frames |= sps.max_num_reorder_frames.is_some_and(|frames| frames > 0);
        let format = StreamFormat {
            size: sps.size,
            profile_level_id: [sps.profile_idc, sps.constraints, sps.level_idc],
        };
        if self.sequence.is_some() {
            tracing::debug!(size = ?format.size, "the camera sends another format");
        }
        self.sequence = Some((nal, format));
        Ok(Some(format))
    }
}

/// Refuses what neither the node nor browsers show.
fn check(sps: &Sps) -> Result<(), RtspError> {
    let profile_idc = sps.profile_idc;
    let what = if !sps.frames_only {
        return Err(RtspError::Interlaced);
    } else if sps.chroma_format_idc == 2 {
        "4:2:2 chroma"
    } else if sps.chroma_format_idc > 2 {
        "4:4:4 chroma"
    } else if sps.bit_depth > 8 {
        "more than 8 bits a sample"
    } else if sps.lossless {
        "lossless coding"
    } else if profile_idc == 88 {
        "the tools of the Extended profile"
    } else {
        return Ok(());
    };
    Err(RtspError::Profile { profile_idc, what })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use twinsight_media::access_unit::{OutputOrder, Sequence};
    use twinsight_media::codec::Codec;
    use twinsight_media::rtp::PacketId;

    /// A sequence parameter set of Main and 320x240. `reorders`: what it says of reordered pictures.
    fn sps(frames_only: bool, reorders: Option<u32>) -> Vec<u8> {
        let mut bits = String::new();
        let ue = |bits: &mut String, value: u32| {
            let code = format!("{:b}", value + 1);
            bits.push_str(&"0".repeat(code.len() - 1));
            bits.push_str(&code);
        };
        for value in [0, 0, 2, 1] {
            ue(&mut bits, value);
        }
        bits.push('0');
        ue(&mut bits, 19);
        // A map unit of interlaced video has two rows of macroblocks.
        ue(&mut bits, if frames_only { 14 } else { 7 });
        bits.push_str(if frames_only { "1" } else { "00" });
        bits.push_str("10");
        match reorders {
            None => bits.push('0'),
            Some(frames) => {
                bits.push_str("10000000011");
                for value in [0, 0, 0, 0, frames, 2] {
                    ue(&mut bits, value);
                }
            }
        }
        bits.push('1');
        while !bits.len().is_multiple_of(8) {
            bits.push('0');
        }
        let payload = bits
            .as_bytes()
            .chunks(8)
            .map(|byte| u8::from_str_radix(std::str::from_utf8(byte).unwrap(), 2).unwrap());
        [0x67, 77, 0, 30].into_iter().chain(payload).collect()
    }

    /// A unit of this picture, with the set in front of a keyframe.
    fn unit(picture: PictureKind, sps: &[u8]) -> AccessUnit {
        let now = Instant::now();
        let parsed = Sps::parse(sps).unwrap();
        let mut data = Vec::new();
        if picture == PictureKind::Key {
            data.extend_from_slice(&[0, 0, 0, 1]);
            data.extend_from_slice(sps);
            data.extend_from_slice(&[0, 0, 0, 1, 0x65, 0x88]);
        } else {
            data.extend_from_slice(&[0, 0, 0, 1, 0x41, 0x88]);
        }
        AccessUnit {
            data: data.into(),
            rtp_timestamp: 0.into(),
            received_at: now,
            completed_at: now,
            last_packet: PacketId {
                ssrc: 0.into(),
                sequence: 0.into(),
                arrived_at: now,
            },
            picture,
            hidden: false,
            disposable: false,
            sequence: Some(Sequence {
                codec: Codec::H264,
                size: parsed.size,
                macroblocks: 300,
                color: parsed.color,
                output: OutputOrder::Undeclared,
                delays_output: false,
            }),
            completeness: Completeness::Complete,
            after_loss: false,
        }
    }

    /// What becomes of units: `p` passes, `k` waits for a keyframe, `l` was lost, `m` is malformed, `h` is held, `i` is ignored,
    /// `!` is refused.
    fn judged(gate: &mut UnitGate, units: impl IntoIterator<Item = AccessUnit>) -> String {
        units
            .into_iter()
            .map(|unit| match gate.judge(&unit, false) {
                Ok(Verdict::Pass(_)) => 'p',
                Ok(Verdict::Drop(UnitLoss::AwaitingKeyframe)) => 'k',
                Ok(Verdict::Drop(UnitLoss::PacketsLost)) => 'l',
                Ok(Verdict::Drop(UnitLoss::Malformed)) => 'm',
                Ok(Verdict::Hold) => 'h',
                Ok(Verdict::Ignore) => 'i',
                Err(_) => '!',
            })
            .collect()
    }

    /// Units by letters: `K`, `P`, `B`, `N` for no picture, `x` for one of which packets are missing, `a` for one after a loss.
    fn units<'a>(letters: &'a str, sps: &'a [u8]) -> impl Iterator<Item = AccessUnit> + 'a {
        letters.chars().map(move |letter| match letter {
            'K' => unit(PictureKind::Key, sps),
            'B' => unit(PictureKind::Bidirectional, sps),
            'N' => unit(PictureKind::None, sps),
            'x' => AccessUnit {
                completeness: Completeness::Incomplete,
                ..unit(PictureKind::Forward, sps)
            },
            'a' => AccessUnit {
                after_loss: true,
                ..unit(PictureKind::Forward, sps)
            },
            _ => unit(PictureKind::Forward, sps),
        })
    }

    #[test]
    fn units_pass_from_a_keyframe_on() {
        let sps = sps(true, None);
        let mut gate = UnitGate::default();
        assert_eq!(judged(&mut gate, units("NPPKPPNPKP", &sps)), "ikkpppippp");
        gate.begin();
        assert_eq!(judged(&mut gate, units("PKP", &sps)), "kpp");
    }

    #[test]
    fn after_a_loss_units_wait_for_a_keyframe() {
        let sps = sps(true, Some(0));
        let mut gate = UnitGate::default();
        assert_eq!(judged(&mut gate, units("KPxPPKPaPKP", &sps)), "pplkkppkkpp");
        let lost = units("x", &sps).next().unwrap();
        assert_eq!(
            gate.judge(&lost, true),
            Ok(Verdict::Drop(UnitLoss::Malformed))
        );
    }

    #[test]
    fn a_keyframe_without_its_sets_is_of_no_use() {
        let sps = sps(true, None);
        let unknown = AccessUnit {
            sequence: None,
            ..unit(PictureKind::Key, &sps)
        };
        let mut gate = UnitGate::default();
        assert_eq!(judged(&mut gate, [unknown]), "m");
        assert_eq!(judged(&mut gate, units("PKP", &sps)), "kpp");
    }

    #[test]
    fn slices_decide_whether_there_are_b_frames() {
        let silent = sps(true, None);
        let mut gate = UnitGate::default();
        assert_eq!(judged(&mut gate, units("KPB", &silent)), "pp!");
        // From then on nothing is shown before it is clear that there are none.
        gate.begin();
        assert_eq!(judged(&mut gate, units("PKPB", &silent)), "khh!");
        gate.begin();
        assert_eq!(
            judged(&mut gate, units("KPPPPPPPKP", &silent)),
            "hhhhhhhhpp"
        );
        gate.begin();
        assert_eq!(judged(&mut gate, units("KP", &silent)), "pp");

        // What says that there may be some is tried first.
        let hinted = sps(true, Some(1));
        let mut gate = UnitGate::default();
        assert_eq!(
            judged(&mut gate, units("KPPPKPPPKP", &hinted)),
            "hhhhhhhhpp"
        );
    }

    #[test]
    fn what_the_set_says_is_told_and_interlaced_is_refused() {
        let mut gate = UnitGate::default();
        let progressive = unit(PictureKind::Key, &sps(true, None));
        let Ok(Verdict::Pass(format)) = gate.judge(&progressive, false) else {
            panic!("it passes");
        };
        assert_eq!((format.size.width_px, format.size.height_px), (320, 240));
        assert_eq!(format.profile_level_id, [77, 0, 30]);
        let interlaced = unit(PictureKind::Key, &sps(false, None));
        assert_eq!(gate.judge(&interlaced, false), Err(RtspError::Interlaced));
    }
}
