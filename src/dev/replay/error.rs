//! What can go wrong with `twinsight replay`.

use std::io;
use std::path::PathBuf;

use super::settings::Place;
use crate::detect::{DetectError, ModelError, RuntimeError};
use crate::dev::annotated_clip::ClipWriteError;
use twinsight_media::decode::decoder::DecoderError;
use twinsight_media::h264::clip::{ClipError, NotAClip};

/// Why a clip gave no or not all results.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A camera is named, and the configuration has none.
    #[error(
        "{place} has no camera at all, and so not `{name}`: leave `--camera` out to use its defaults, or add the camera"
    )]
    NoCameras {
        /// The configuration.
        place: Place,
        /// The name of the camera.
        name: String,
    },
    /// The configuration has other cameras than the one that is named.
    #[error("{place} has no camera `{name}`{nearest} It has {all}")]
    NoSuchCamera {
        /// The configuration.
        place: Place,
        /// The name of the camera.
        name: String,
        /// A clause with the camera that may be meant, or a full stop.
        nearest: String,
        /// The cameras that there are.
        all: String,
    },
    /// Several cameras could be meant.
    #[error("{place} has several cameras: choose one with `--camera`: {all}")]
    SeveralCameras {
        /// The configuration.
        place: Place,
        /// The cameras that could be meant.
        all: String,
    },
    /// ONNX Runtime cannot be used.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The model cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// No server of the model can be used.
    #[error(
        "model {model}: {reason}: see that its server runs, or name another `model` for the camera"
    )]
    Server {
        /// The name of the model.
        model: String,
        /// What is wrong with which server.
        reason: String,
    },
    /// The requests to the model's servers cannot be made.
    #[error("no thread for the requests to the model's servers was granted: {0}")]
    Requests(io::Error),
    /// The settings do not fit the model.
    #[error("{0}")]
    Settings(String),
    /// The file is a picture.
    #[error(
        "{} is a picture, and a clip is an H.264 byte stream (Annex B) or MP4 file: use `twinsight detect` for pictures, or record a clip",
        path.display()
    )]
    Picture {
        /// The file.
        path: PathBuf,
    },
    /// The file has video in a container that is not read.
    #[error(
        "{} is {found}, and a clip is an H.264 byte stream (Annex B) or MP4 file: make one with `ffmpeg -i FILE -c copy CLIP.mp4`",
        path.display()
    )]
    NoClip {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// The file is no clip, or cannot be read.
    #[error(transparent)]
    Clip(#[from] ClipError),
    /// Part of the clip is damaged; what is whole was looked at.
    #[error("{} {reason}: what is whole of it was looked at", path.display())]
    Damaged {
        /// The clip.
        path: PathBuf,
        /// What is wrong with it.
        reason: NotAClip,
    },
    /// Part of the clip gave no pictures; the others were looked at.
    #[error(
        "{}: {failed} of its {units} access units could not be decoded: {reason}",
        path.display()
    )]
    Undecoded {
        /// The clip.
        path: PathBuf,
        /// How many access units gave no picture.
        failed: usize,
        /// How many access units there are.
        units: usize,
        /// The decoder's error for the first of them.
        reason: DecoderError,
    },
    /// There is no decoder.
    #[error(transparent)]
    Decoder(#[from] DecoderError),
    /// Inference failed.
    #[error("frame {frame}: {reason}")]
    Detect {
        /// The frame, from 1.
        frame: usize,
        /// Why.
        reason: DetectError,
    },
    /// The folder for results is the name of a file.
    #[error("`--out {}` is a file: name a folder, into which the lines and the annotated clip go", path.display())]
    OutIsFile {
        /// What was named.
        path: PathBuf,
    },
    /// The annotated clip would replace the clip that it is made of.
    #[error(
        "`--out` would replace the clip {} by its annotated one: name another folder",
        path.display()
    )]
    OutIsInput {
        /// The clip.
        path: PathBuf,
    },
    /// A file or folder of results cannot be made or written.
    #[error("{} cannot be written: {reason}", path.display())]
    Out {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        reason: io::Error,
    },
    /// The annotated clip cannot be written.
    #[error("the annotated clip {} cannot be written: {reason}", path.display())]
    AnnotatedClip {
        /// The file.
        path: PathBuf,
        /// What is in the way.
        reason: AnnotatedClipError,
    },
    /// Standard output cannot be written.
    #[error("results cannot be written: {0}")]
    Output(#[from] io::Error),
}

/// What is in the way of an annotated clip.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct AnnotatedClipError(#[from] pub(super) ClipWriteError);
