//! What can go wrong with `twinsight detect`: as a whole, and with one file.

use std::io;
use std::path::PathBuf;

use crate::detect::{DetectError, ModelError, RuntimeError};
use crate::dev::annotated_clip::ClipWriteError;
use twinsight_media::decode::decoder::DecoderError;
use twinsight_media::h264::clip::{NotAClip, ReadError};

/// Why the command could not begin, or not go on.
#[derive(Debug, thiserror::Error)]
pub enum DetectCommandError {
    /// ONNX Runtime cannot be used.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The model cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The model does not have a class that is asked for.
    #[error("class `{label}` is none of the model {model}'s{nearest}")]
    Class {
        /// The label that is asked for.
        label: String,
        /// The name of the model.
        model: String,
        /// A clause with the label that may be meant, or nothing.
        nearest: String,
    },
    /// The folder for annotated pictures cannot be made.
    #[error("{}: cannot be made a folder for annotated pictures: {reason}", path.display())]
    Out {
        /// The folder.
        path: PathBuf,
        /// The system's error.
        reason: io::Error,
    },
    /// An annotated clip is wanted of what is not one clip.
    #[error(
        "`--out {}` takes one clip, and {given} given: name a folder in place of the MP4 file",
        path.display()
    )]
    NotOneClip {
        /// The file for the annotated clip.
        path: PathBuf,
        /// A clause that says what there is instead.
        given: String,
    },
    /// The name of a file that is neither a folder nor a clip that is written.
    #[error(
        "`--out {}` looks like a file: annotated pictures go into a folder, and an annotated clip into CLIP.mp4",
        path.display()
    )]
    OutIsFile {
        /// What was named.
        path: PathBuf,
    },
    /// The annotated clip would replace the clip that it is made of.
    #[error("`--out {}` is the clip itself, which would be replaced: name another file", path.display())]
    OutIsInput {
        /// The file.
        path: PathBuf,
    },
    /// A frame rate without an annotated clip.
    #[error("`--fps` says how fast an annotated clip plays: name one with `--out CLIP.mp4`")]
    FpsWithoutClip,
    /// Standard output cannot be written.
    #[error("results cannot be written: {0}")]
    Output(#[from] io::Error),
}

/// Why a file gave no or not all results.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", file.display())]
pub struct FileError {
    pub(super) file: PathBuf,
    pub(super) problem: Problem,
}

/// What can be wrong with a file.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    /// The file is not there or not readable.
    #[error("cannot be read: {0}")]
    Unreadable(ReadError),
    /// The file is neither a picture nor a clip.
    #[error(
        "is neither a JPEG, PNG, WebP or BMP picture nor an H.264 byte stream (Annex B) or MP4 file"
    )]
    Unknown,
    /// The folder has no file that is a picture or a clip.
    #[error(
        "is a folder without pictures and clips ({others} other files): folders inside of it are not searched"
    )]
    NothingInFolder {
        /// How many other files it has.
        others: usize,
    },
    /// The file has video in a container that is not read, of this kind.
    #[error(
        "is {0}, and clips are H.264 byte streams (Annex B) or MP4 files: make one with `ffmpeg -i FILE -c copy CLIP.mp4`"
    )]
    OtherContainer(&'static str),
    /// The picture is damaged.
    #[error("is not a whole picture: {0}")]
    Picture(image::ImageError),
    /// A picture where an annotated clip is wanted.
    #[error("is a picture, and `--out {}` takes a clip: name a folder", path.display())]
    PictureForClip {
        /// The file for the annotated clip.
        path: PathBuf,
    },
    /// The clip is damaged, or of a kind that is not decoded.
    #[error("{failed} of its {units} access units could not be decoded: {reason}")]
    Clip {
        /// How many access units gave no picture.
        failed: usize,
        /// How many access units there are.
        units: usize,
        /// The decoder's error for the first of them.
        reason: DecoderError,
    },
    /// The clip cannot be read, or not to its end, or it has no keyframe to begin with.
    #[error(transparent)]
    NotAClip(#[from] NotAClip),
    /// There is no decoder.
    #[error(transparent)]
    Decoder(#[from] DecoderError),
    /// Inference failed.
    #[error(transparent)]
    Detect(#[from] DetectError),
    /// The annotated picture cannot be written.
    #[error("its annotated picture {} cannot be written: {reason}", path.display())]
    Annotated {
        /// The file of the annotated picture.
        path: PathBuf,
        /// The encoder's or the system's error.
        reason: image::ImageError,
    },
    /// The annotated clip cannot be written.
    #[error("its annotated clip {} cannot be written: {reason}", path.display())]
    AnnotatedClip {
        /// The file of the annotated clip.
        path: PathBuf,
        /// What is in the way.
        reason: ClipWriteError,
    },
    /// Standard output cannot be written, so that no further file is looked at.
    #[error("results cannot be written: {0}")]
    Output(io::Error),
}
