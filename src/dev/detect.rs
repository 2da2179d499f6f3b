//! `twinsight detect`: pictures and clips come in; a line for each picture or frame goes out, and annotated pictures go to a folder.
//! Pictures are given to the detector as RGB, the frames of clips as planes, like those of a camera.

mod file_kind;
mod lines;

use std::collections::HashSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use image::codecs::jpeg::JpegEncoder;

use self::file_kind::FileKind;
use self::lines::ClipTotals;
use crate::annotate;
use crate::detect::{
    DetectError, DetectSettings, Detections, Detector, ModelError, ModelInfo, OnnxDetector,
    Picture, Runtime, RuntimeError, RuntimeOptions,
};
use crate::dev::frames;
use crate::dev::picture;
use crate::dev::progress::progress_bar;
use twinsight_media::color::to_rgb8;
use twinsight_media::decode::decoder::DecoderError;
use twinsight_media::h264::clip::{Clip, NotAClip, ReadError, read_bounded};
use twinsight_media::picture::{I420, PictureSize};

/// The arguments of the command.
#[derive(Debug, Clone)]
pub struct DetectOptions {
    /// The pictures (JPEG, PNG) and clips (H.264 byte streams, MP4).
    pub files: Vec<PathBuf>,
    /// The folder of the models.
    pub models: PathBuf,
    /// The name of the model.
    pub model: String,
    /// Objects with a lower score are not reported.
    pub min_score: f32,
    /// The labels of the classes that are reported; none means all.
    pub classes: Vec<String>,
    /// The folder for annotated pictures, if they are wanted.
    pub out: Option<PathBuf>,
    /// Whether lines are JSON instead of sentences.
    pub json: bool,
    /// Where ONNX Runtime is.
    pub runtime: RuntimeOptions,
    /// The execution providers, as in the configuration.
    pub execution_providers: Vec<String>,
}

/// What the command did.
#[derive(Debug, Default)]
pub struct DetectSummary {
    /// How many pictures and frames went through the detector.
    pub pictures: usize,
    /// The files that failed, in part or whole. Each was logged already; if there are any, the exit code is 1.
    pub failures: Vec<FileError>,
}

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
    /// Standard output cannot be written.
    #[error("results cannot be written: {0}")]
    Output(#[from] io::Error),
}

/// Why a file gave no or not all results.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", file.display())]
pub struct FileError {
    file: PathBuf,
    problem: Problem,
}

/// What can be wrong with a file.
#[derive(Debug, thiserror::Error)]
enum Problem {
    /// The file is not there or not readable.
    #[error("cannot be read: {0}")]
    Unreadable(ReadError),
    /// The file is neither a picture nor a clip.
    #[error("is neither a JPEG or PNG picture nor an H.264 byte stream (Annex B) or MP4 file")]
    Unknown,
    /// The file has video in a container that is not read, of this kind.
    #[error(
        "is {0}, and clips are H.264 byte streams (Annex B) or MP4 files: make one with `ffmpeg -i FILE -c copy CLIP.mp4`"
    )]
    OtherContainer(&'static str),
    /// The picture is damaged.
    #[error("is not a whole picture: {0}")]
    Picture(image::ImageError),
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
    /// Standard output cannot be written, so that no further file is looked at.
    #[error("results cannot be written: {0}")]
    Output(io::Error),
}

/// Detects on every file. A file that fails is logged, and the next one follows.
///
/// # Errors
/// If there is no runtime or model, an option is wrong, or `out` is closed.
pub fn run(
    options: &DetectOptions,
    out: &mut dyn Write,
) -> Result<DetectSummary, DetectCommandError> {
    let runtime = Runtime::load(&options.runtime)?;
    let detector = OnnxDetector::load(
        &runtime,
        &options.models,
        &options.model,
        &options.execution_providers,
    )?;
    run_with(Box::new(detector), options, out)
}

/// Does the same as [`run`] with a detector that is given.
///
/// # Errors
/// If an option is wrong or `out` is closed.
pub fn run_with(
    detector: Box<dyn Detector>,
    options: &DetectOptions,
    out: &mut dyn Write,
) -> Result<DetectSummary, DetectCommandError> {
    if let Some(path) = &options.out {
        fs::create_dir_all(path).map_err(|reason| DetectCommandError::Out {
            path: path.clone(),
            reason,
        })?;
    }
    let mut command = Command {
        settings: DetectSettings {
            min_score: options.min_score,
            classes: class_ids(&options.classes, detector.model())?,
        },
        detector,
        json: options.json,
        folder: options.out.clone(),
        written: HashSet::new(),
        pictures: 0,
        out,
    };
    let mut failures = Vec::new();
    for file in &options.files {
        match command.file(file) {
            Ok(()) => {}
            Err(Problem::Output(error)) => return Err(error.into()),
            Err(problem) => {
                let error = FileError {
                    file: file.clone(),
                    problem,
                };
                tracing::error!("{error}");
                failures.push(error);
            }
        }
    }
    command.out.flush()?;
    Ok(DetectSummary {
        pictures: command.pictures,
        failures,
    })
}

fn class_ids(labels: &[String], model: &ModelInfo) -> Result<Vec<usize>, DetectCommandError> {
    let id = |label: &String| {
        model.class_id(label).ok_or_else(|| {
            let closest = model
                .labels
                .iter()
                .map(|known| (strsim::jaro_winkler(known, label), known))
                .max_by(|a, b| a.0.total_cmp(&b.0))
                .filter(|(likeness, _)| *likeness > 0.7);
            DetectCommandError::Class {
                label: label.clone(),
                model: model.name.to_string(),
                nearest: closest
                    .map_or_else(String::new, |(_, known)| format!("; is `{known}` meant?")),
            }
        })
    };
    labels.iter().map(id).collect()
}

struct Command<'a> {
    detector: Box<dyn Detector>,
    settings: DetectSettings,
    json: bool,
    folder: Option<PathBuf>,
    /// The annotated pictures that were written, so that those of two files of the same name do not replace each other.
    written: HashSet<PathBuf>,
    pictures: usize,
    out: &'a mut dyn Write,
}

impl Command<'_> {
    fn file(&mut self, file: &Path) -> Result<(), Problem> {
        let bytes = read_bounded(file).map_err(Problem::Unreadable)?;
        match FileKind::of(&bytes) {
            FileKind::Picture => self.picture(file, &bytes),
            FileKind::Clip => self.clip(file, &bytes),
            FileKind::OtherContainer(name) => Err(Problem::OtherContainer(name)),
            FileKind::Unknown => Err(Problem::Unknown),
        }
    }

    fn picture(&mut self, file: &Path, bytes: &[u8]) -> Result<(), Problem> {
        let mut image = picture::decode(bytes).map_err(Problem::Picture)?;
        let size = PictureSize {
            width_px: image.width() as usize,
            height_px: image.height() as usize,
        };
        let picture = Picture::Rgb {
            data: image.as_raw(),
            size,
        };
        let found = self.detector.detect(picture, &self.settings)?;
        self.pictures += 1;
        if self.json {
            self.json_line(file, 0, size, &found)?;
        } else {
            self.picture_line(file, size, &found)?;
        }
        if let Some(folder) = &self.folder {
            let extension = if bytes.starts_with(b"\x89PNG") {
                "png"
            } else {
                "jpg"
            };
            let path = annotated_path(folder, file, None, extension, &self.written);
            self.annotate(&mut image, size, &found, &path)?;
        }
        Ok(())
    }

    fn clip(&mut self, file: &Path, bytes: &[u8]) -> Result<(), Problem> {
        let clip = Clip::from_bytes(bytes)?;
        let units = clip.units().len();
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let counts = "{pos}/{len} frames, {eta} left";
        let bar = progress_bar(name.into_owned(), units as u64, counts);
        let mut totals = ClipTotals::default();
        let mut last_size = None;
        let decoded = frames::decode(&clip, |planes| -> Result<(), Problem> {
            let found = self
                .detector
                .detect(Picture::I420(planes), &self.settings)?;
            let frame = totals.frames;
            totals.frames += 1;
            self.pictures += 1;
            totals.busy += found.preprocess.wall + found.inference.wall + found.postprocess.wall;
            for object in &found.objects {
                let label = self.detector.model().label(object.class_id).to_owned();
                *totals.labels.entry(label).or_default() += 1;
            }
            last_size = Some(planes.size);
            bar.inc(1);
            if self.json {
                self.json_line(file, frame, planes.size, &found)?;
            }
            self.annotate_frame(file, frame, &planes, &found)
        });
        bar.finish_and_clear();
        let undecoded = decoded?;
        if let Some(size) = last_size.filter(|_| !self.json) {
            self.clip_line(file, size, &totals)?;
        }
        if let Some(undecoded) = undecoded {
            return Err(Problem::Clip {
                failed: undecoded.units,
                units,
                reason: undecoded.reason,
            });
        }
        match clip.damage() {
            Some(damage) => Err(damage.clone().into()),
            None => Ok(()),
        }
    }

    fn annotate_frame(
        &mut self,
        file: &Path,
        frame: usize,
        planes: &I420<'_>,
        found: &Detections,
    ) -> Result<(), Problem> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        let path = annotated_path(folder, file, Some(frame), "jpg", &self.written);
        let mut rgb = Vec::new();
        to_rgb8(planes, &mut rgb);
        let side = |length: usize| u32::try_from(length).unwrap_or(0);
        let size = planes.size;
        let image = image::RgbImage::from_raw(side(size.width_px), side(size.height_px), rgb);
        match image {
            Some(mut image) => self.annotate(&mut image, size, found, &path),
            None => Ok(()),
        }
    }

    fn annotate(
        &mut self,
        image: &mut image::RgbImage,
        size: PictureSize,
        found: &Detections,
        path: &Path,
    ) -> Result<(), Problem> {
        annotate::draw_objects(image, size, &found.objects, self.detector.model());
        write_picture(image, path).map_err(|reason| Problem::Annotated {
            path: path.to_owned(),
            reason,
        })?;
        self.written.insert(path.to_owned());
        Ok(())
    }
}

fn write_picture(image: &image::RgbImage, path: &Path) -> image::ImageResult<()> {
    if path.extension().is_some_and(|extension| extension == "png") {
        return image.save(path);
    }
    let file = io::BufWriter::new(fs::File::create(path)?);
    image.write_with_encoder(JpegEncoder::new_with_quality(file, 90))
}

/// The path of an annotated picture: `DIR/NAME-detected.EXT`, with the frame's number for a clip, and with a number more if a
/// picture of this run has that name.
fn annotated_path(
    folder: &Path,
    file: &Path,
    frame: Option<usize>,
    extension: &str,
    written: &HashSet<PathBuf>,
) -> PathBuf {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let frame = frame.map_or_else(String::new, |frame| format!("-{frame:05}"));
    let path = |copy: &str| folder.join(format!("{stem}{frame}-detected{copy}.{extension}"));
    let mut found = path("");
    let mut copy = 2;
    while written.contains(&found) {
        found = path(&format!("-{copy}"));
        copy += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotated_pictures_do_not_replace_each_other() {
        let mut written = HashSet::new();
        let mut path = |file: &str, frame| {
            let path = annotated_path(Path::new("out"), Path::new(file), frame, "jpg", &written);
            written.insert(path.clone());
            path
        };
        assert_eq!(path("a/x.png", None), Path::new("out/x-detected.jpg"));
        assert_eq!(path("b/x.jpg", None), Path::new("out/x-detected-2.jpg"));
        assert_eq!(
            path("x.h264", Some(7)),
            Path::new("out/x-00007-detected.jpg")
        );
    }
}
