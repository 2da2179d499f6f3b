//! What a camera sends: a clip's access units as they are, pictures that an encoder turns into some, or what another camera
//! sends. Of the first two the camera takes the next unit from its feed whenever a frame is due, as a keyframe if a viewer asked
//! for one; another camera's units go on when they come.

use std::sync::Arc;

use anyhow::Context as _;
use anyhow::Result;
use bytes::Bytes;

use super::encode::{PictureEncoder, Pictures};
use crate::config::SourceConfig;
use twinsight_media::h264::clip::Clip;

/// What a camera sends. Cloning shares it.
#[derive(Debug, Clone)]
pub enum CameraSource {
    /// A clip, over and over.
    Clip(Arc<Clip>),
    /// A picture or the test pattern, encoded once for all viewers.
    Pictures(Pictures),
    /// A camera that is no twin by itself.
    Bridged(SourceConfig),
}

/// What the camera makes itself.
#[derive(Debug, Clone)]
pub(super) enum OwnSource {
    Clip(Arc<Clip>),
    Pictures(Pictures),
}

impl From<Arc<Clip>> for CameraSource {
    fn from(clip: Arc<Clip>) -> Self {
        Self::Clip(clip)
    }
}

/// How far a source was sent.
pub(super) enum Feed {
    Clip {
        clip: Arc<Clip>,
        next: usize,
    },
    /// None while a picture is being encoded.
    Pictures(Option<Box<PictureEncoder>>),
}

impl Feed {
    /// A feed whose first unit is a keyframe; a clip's begins at `start`.
    pub(super) fn new(source: &OwnSource, start: usize, fps: f64) -> Result<Self> {
        Ok(match source {
            OwnSource::Clip(clip) => Self::Clip {
                clip: Arc::clone(clip),
                next: clip.keyframe_from(start),
            },
            OwnSource::Pictures(pictures) => {
                let encoder = PictureEncoder::new(pictures.clone(), fps)?;
                Self::Pictures(Some(Box::new(encoder)))
            }
        })
    }

    /// The next access unit (Annex B). A clip seeks to its next keyframe if one is asked for.
    pub(super) async fn next(&mut self, keyframe: bool) -> Result<Bytes> {
        match self {
            Self::Clip { clip, next } => {
                if keyframe {
                    *next = clip.keyframe_from(*next);
                }
                let unit = clip.units()[*next].data.clone();
                // The end of the clip is followed by its beginning, which is a keyframe.
                *next = (*next + 1) % clip.units().len();
                Ok(unit)
            }
            Self::Pictures(place) => {
                let mut encoder = place.take().context("the last picture was not encoded")?;
                // Some milliseconds of work, which the connections' tasks must not wait for.
                let work = tokio::task::spawn_blocking(move || {
                    let picture = encoder.next(keyframe);
                    (encoder, picture)
                });
                let (encoder, picture) = work.await.context("the encoder broke")?;
                *place = Some(encoder);
                Ok(picture?.data.into())
            }
        }
    }
}
