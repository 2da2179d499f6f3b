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
