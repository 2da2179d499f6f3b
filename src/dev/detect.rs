//! `twinsight detect`: pictures and clips come in; a line for each picture or frame goes out, and annotated pictures go to a folder.
//! Pictures are given to the detector as RGB, the frames of clips as planes, like those of a camera.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use image::codecs::jpeg::JpegEncoder;
use serde::Serialize;

use crate::annotate::{self, Annotation};
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
use twinsight_media::h264::mp4::is_mp4;
use twinsight_media::h264::nal::{NalType, annex_b};
use twinsight_media::h264::sps::Sps;
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

/// The JSON line of a picture or frame.
#[derive(Debug, Serialize)]
struct Line<'a> {
    file: &'a str,
    frame: usize,
    width: usize,
    height: usize,
    objects: Vec<ObjectLine<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ObjectLine<'a> {
    label: &'a str,
    class_id: usize,
    score: f64,
    #[serde(rename = "box")]
    bbox: BoxLine,
}

#[derive(Debug, Serialize)]
struct BoxLine {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
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

/// The sums over the frames of a clip, for its line.
#[derive(Debug, Default)]
struct ClipTotals {
    frames: usize,
    labels: BTreeMap<String, usize>,
    busy: Duration,
}

impl Command<'_> {
    fn file(&mut self, file: &Path) -> Result<(), Problem> {
        let bytes = read_bounded(file).map_err(Problem::Unreadable)?;
        match Kind::of(&bytes) {
            Kind::Picture => self.picture(file, &bytes),
            Kind::Clip => self.clip(file, &bytes),
            Kind::OtherContainer(name) => Err(Problem::OtherContainer(name)),
            Kind::Unknown => Err(Problem::Unknown),
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
        let model = self.detector.model();
        let annotations: Vec<Annotation<'_>> = found
            .objects
            .iter()
            .map(|object| Annotation {
                bbox: object.bbox,
                class_id: object.class_id,
                label: model.label(object.class_id),
                score: object.score,
            })
            .collect();
        annotate::draw(image, size, &annotations);
        write_picture(image, path).map_err(|reason| Problem::Annotated {
            path: path.to_owned(),
            reason,
        })?;
        self.written.insert(path.to_owned());
        Ok(())
    }

    fn json_line(
        &mut self,
        file: &Path,
        frame: usize,
        size: PictureSize,
        found: &Detections,
    ) -> Result<(), Problem> {
        let model = self.detector.model();
        let objects = found.objects.iter().map(|object| ObjectLine {
            label: model.label(object.class_id),
            class_id: object.class_id,
            score: rounded(object.score, 10_000.0),
            bbox: BoxLine {
                x: rounded(object.bbox.x, 10.0),
                y: rounded(object.bbox.y, 10.0),
                width: rounded(object.bbox.width, 10.0),
                height: rounded(object.bbox.height, 10.0),
            },
        });
        let line = Line {
            file: &file.to_string_lossy(),
            frame,
            width: size.width_px,
            height: size.height_px,
            objects: objects.collect(),
        };
        serde_json::to_writer(&mut *self.out, &line)
            .map_err(|error| Problem::Output(error.into()))?;
        writeln!(self.out).map_err(Problem::Output)
    }

    fn picture_line(
        &mut self,
        file: &Path,
        size: PictureSize,
        found: &Detections,
    ) -> Result<(), Problem> {
        let model = self.detector.model();
        let seen: Vec<String> = found
            .objects
            .iter()
            .map(|object| format!("{} {:.2}", model.label(object.class_id), object.score))
            .collect();
        let busy = found.preprocess.wall + found.inference.wall + found.postprocess.wall;
        let seen = if seen.is_empty() {
            "nothing".to_owned()
        } else {
            seen.join(", ")
        };
        writeln!(
            self.out,
            "{} ({}x{}): {seen} in {:.1} ms",
            file.display(),
            size.width_px,
            size.height_px,
            1000.0 * busy.as_secs_f64(),
        )
        .map_err(Problem::Output)
    }

    fn clip_line(
        &mut self,
        file: &Path,
        size: PictureSize,
        totals: &ClipTotals,
    ) -> Result<(), Problem> {
        let mut seen: Vec<(&String, &usize)> = totals.labels.iter().collect();
        seen.sort_by(|a, b| b.1.cmp(a.1));
        let seen: Vec<String> = seen
            .iter()
            .map(|(label, count)| format!("{count} x {label}"))
            .collect();
        let seen = if seen.is_empty() {
            "nothing".to_owned()
        } else {
            seen.join(", ")
        };
        let frames = u32::try_from(totals.frames).unwrap_or(u32::MAX).max(1);
        writeln!(
            self.out,
            "{} ({}x{}, {} frames): {seen} in {:.1} ms a frame",
            file.display(),
            size.width_px,
            size.height_px,
            totals.frames,
            1000.0 * (totals.busy / frames).as_secs_f64(),
        )
        .map_err(Problem::Output)
    }
}

/// The kind of a file, which its bytes tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Picture,
    Clip,
    /// Video in a container that is not read, with the name of that.
    OtherContainer(&'static str),
    Unknown,
}

impl Kind {
    fn of(bytes: &[u8]) -> Self {
        const TS_PACKET: usize = 188;
        let is_sync = |at: usize| bytes.get(at) == Some(&0x47);
        // Any number of zero bytes may come before the first start code.
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        if bytes.starts_with(b"\x89PNG\r\n\x1a\n") || bytes.starts_with(&[0xff, 0xd8, 0xff]) {
            Self::Picture
        } else if is_mp4(bytes) {
            Self::Clip
        } else if bytes.starts_with(&[0x1a, 0x45, 0xdf, 0xa3]) {
            Self::OtherContainer("a Matroska or WebM file")
        } else if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"AVI ") {
            Self::OtherContainer("an AVI file")
        } else if bytes.starts_with(b"FLV\x01") {
            Self::OtherContainer("an FLV file")
        } else if (0..3).all(|packet| is_sync(packet * TS_PACKET)) {
            Self::OtherContainer("an MPEG transport stream")
        } else if bytes.starts_with(&[0, 0, 1, 0xba]) {
            Self::OtherContainer("an MPEG program stream")
        } else if zeros >= 2 && bytes.get(zeros) == Some(&1) || has_h264(bytes) {
            Self::Clip
        } else {
            Self::Unknown
        }
    }
}

/// True for a byte stream that does not begin with a start code, as if a recording was joined in the middle.
fn has_h264(bytes: &[u8]) -> bool {
    let is_sps = |nal: &[u8]| {
        nal.first().map(|header| NalType::of(*header)) == Some(NalType::Sps)
            && Sps::parse(nal).is_ok()
    };
    annex_b(bytes).any(is_sps) && Clip::from_annex_b(bytes).is_some()
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

/// Rounds to one of `parts` parts of 1, as the node's events do.
fn rounded(value: f32, parts: f64) -> f64 {
    (f64::from(value) * parts).round() / parts
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
