//! `twinsight detect`: pictures and clips come in; a line for each picture or frame goes out, and annotated pictures go to a folder,
//! or an annotated clip into a file.
//! Pictures are given to the detector as RGB, the frames of clips as planes, like those of a camera.

mod error;
mod folder;
mod lines;

use std::collections::HashSet;
use std::fs;
use std::io::{Read as _, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use image::{ImageFormat, RgbImage};

use self::error::Problem;
pub use self::error::{DetectCommandError, FileError};
use self::lines::ClipTotals;
use crate::annotate;
use crate::detect::{
    DetectSettings, Detections, Detector, ModelInfo, OnnxDetector, Picture, Runtime, RuntimeOptions,
};
use crate::dev::annotated_clip::{AnnotatedClip, Pace};
use crate::dev::file_kind::FileKind;
use crate::dev::frames;
use crate::dev::picture;
use crate::dev::progress::FrameProgress;
use twinsight_media::color::to_rgb8;
use twinsight_media::h264::clip::{Clip, ReadError, read_bounded};
use twinsight_media::picture::{I420, PictureSize};

/// The arguments of the command.
#[derive(Debug, Clone)]
pub struct DetectOptions {
    /// The pictures (JPEG, PNG, WebP, BMP), clips (H.264 byte streams, MP4) and folders of such files.
    pub files: Vec<PathBuf>,
    /// The folder of the models.
    pub models: PathBuf,
    /// The name of the model.
    pub model: String,
    /// Objects with a lower score are not reported.
    pub min_score: f32,
    /// The labels of the classes that are reported; none means all.
    pub classes: Vec<String>,
    /// The folder for annotated pictures or the MP4 file for an annotated clip, if they are wanted.
    pub out: Option<PathBuf>,
    /// Frames a second of the annotated clip; as in the clip itself unless given.
    pub fps: Option<f64>,
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
    /// How many files were looked at; those of a folder count each, without what is neither a picture nor a clip.
    pub files: usize,
    /// The files that failed, in part or whole. Each was logged already; if there are any, the exit code is 1.
    pub failures: Vec<FileError>,
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
    let mut command = Command {
        settings: DetectSettings {
            min_score: options.min_score,
            classes: class_ids(&options.classes, detector.model())?,
        },
        detector,
        json: options.json,
        annotated: Annotated::of(options)?,
        fps: options.fps,
        written: HashSet::new(),
        summary: DetectSummary::default(),
        out,
    };
    for path in &options.files {
        if path.is_dir() {
            command.folder(path)?;
        } else {
            let used = command.file(path);
            command.note(path, used)?;
        }
    }
    command.out.flush()?;
    Ok(command.summary)
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

/// Where annotations are drawn.
#[derive(Debug)]
enum Annotated {
    /// Nowhere: only lines are wanted.
    No,
    /// On pictures of their own, in this folder.
    Pictures(PathBuf),
    /// In an MP4 file.
    Clip(PathBuf),
}

impl Annotated {
    fn of(options: &DetectOptions) -> Result<Self, DetectCommandError> {
        let is_mp4 = |path: &Path| {
            let extension = path.extension();
            extension.is_some_and(|extension| extension.eq_ignore_ascii_case("mp4"))
        };
        if let Some(path) = options.out.as_ref().filter(|path| is_other_file(path)) {
            return Err(DetectCommandError::OutIsFile { path: path.clone() });
        }
        let clip = options
            .out
            .as_ref()
            .filter(|path| is_mp4(path) && !path.is_dir());
        if clip.is_none() && options.fps.is_some() {
            return Err(DetectCommandError::FpsWithoutClip);
        }
        let folder = match (clip, &options.out) {
            (Some(clip), _) => clip.parent().unwrap_or(Path::new("")),
            (None, Some(folder)) => folder,
            (None, None) => return Ok(Self::No),
        };
        if let Some(clip) = clip {
            let given = match &options.files[..] {
                [file] if file.is_dir() => Some("a folder is".to_owned()),
                [_] => None,
                files => Some(format!("{} files are", files.len())),
            };
            let path = || clip.clone();
            if let Some(given) = given {
                return Err(DetectCommandError::NotOneClip {
                    path: path(),
                    given,
                });
            }
            let same = |file: &PathBuf| {
                let real = |path: &Path| fs::canonicalize(path).ok();
                real(file).is_some_and(|file| real(clip) == Some(file))
            };
            if options.files.iter().any(same) {
                return Err(DetectCommandError::OutIsInput { path: path() });
            }
        }
        fs::create_dir_all(folder).map_err(|reason| DetectCommandError::Out {
            path: folder.to_owned(),
            reason,
        })?;
        Ok(match clip {
            Some(clip) => Self::Clip(clip.clone()),
            None => Self::Pictures(folder.to_owned()),
        })
    }
}

struct Command<'a> {
    detector: Box<dyn Detector>,
    settings: DetectSettings,
    json: bool,
    annotated: Annotated,
    /// Frames a second of the annotated clip, if they are not to be those of the clip itself.
    fps: Option<f64>,
    /// The annotated pictures that were written, so that those of two files of the same name do not replace each other.
    written: HashSet<PathBuf>,
    summary: DetectSummary,
    out: &'a mut dyn Write,
}

impl Command<'_> {
    /// Detects on the files of a folder. Those that are neither pictures nor clips are passed over.
    fn folder(&mut self, folder: &Path) -> Result<(), DetectCommandError> {
        let files = match folder::files(folder) {
            Ok(files) => files,
            Err(error) => return self.note(folder, Err(Problem::Unreadable(error.into()))),
        };
        let mut others = 0;
        for file in &files {
            match self.file(file) {
                Err(Problem::Unknown) => others += 1,
                // It would be held in memory to be looked at, but its beginning says as well that it is none of ours.
                Err(Problem::Unreadable(ReadError::TooLarge)) if is_unknown(file) => others += 1,
                used => self.note(file, used)?,
            }
        }
        if others == files.len() {
            return self.note(folder, Err(Problem::NothingInFolder { others }));
        }
        if others > 0 {
            let folder = folder.display();
            tracing::info!("{folder}: passed over, since neither picture nor clip: {others}");
        }
        Ok(())
    }

    /// Counts a file, and logs why it could not be used. Only an error of standard output ends the command.
    fn note(&mut self, file: &Path, used: Result<(), Problem>) -> Result<(), DetectCommandError> {
        self.summary.files += 1;
        match used {
            Ok(()) => {}
            Err(Problem::Output(error)) => return Err(error.into()),
            Err(problem) => {
                let error = FileError {
                    file: file.to_owned(),
                    problem,
                };
                tracing::error!("{error}");
                self.summary.failures.push(error);
            }
        }
        Ok(())
    }

    fn file(&mut self, file: &Path) -> Result<(), Problem> {
        let bytes = read_bounded(file).map_err(Problem::Unreadable)?;
        match FileKind::of(&bytes) {
            FileKind::Picture(format) => self.picture(file, &bytes, format),
            FileKind::Clip => self.clip(file, &bytes),
            FileKind::OtherContainer(name) => Err(Problem::OtherContainer(name)),
            FileKind::Unknown => Err(Problem::Unknown),
        }
    }

    fn picture(&mut self, file: &Path, bytes: &[u8], format: ImageFormat) -> Result<(), Problem> {
        if let Annotated::Clip(path) = &self.annotated {
            return Err(Problem::PictureForClip { path: path.clone() });
        }
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
        self.summary.pictures += 1;
        if self.json {
            self.json_line(file, 0, size, &found)?;
        } else {
            self.picture_line(file, size, &found)?;
        }
        if let Annotated::Pictures(folder) = &self.annotated {
            let extension = match format {
                ImageFormat::Png | ImageFormat::Bmp => "png",
                _ => "jpg",
            };
            let path = annotated_path(folder, file, None, extension, &self.written);
            annotate::draw_objects(&mut image, size, &found.objects, self.detector.model());
            self.write_picture(&image, path)?;
        }
        Ok(())
    }

    fn clip(&mut self, file: &Path, bytes: &[u8]) -> Result<(), Problem> {
        let clip = Clip::from_bytes(bytes)?;
        let units = clip.units().len();
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let mut progress = FrameProgress::new(name.into_owned(), units, Instant::now());
        let mut totals = ClipTotals::default();
        let mut last_size = None;
        let mut annotated = match &self.annotated {
            Annotated::Clip(path) => {
                let pace = Pace::of(self.fps, clip.picture_times());
                Some((path.clone(), AnnotatedClip::new(path, pace, units)))
            }
            Annotated::No | Annotated::Pictures(_) => None,
        };
        let decoded = frames::decode(&clip, |planes, place| -> Result<(), Problem> {
            let found = self
                .detector
                .detect(Picture::I420(planes), &self.settings)?;
            let frame = totals.frames;
            totals.frames += 1;
            self.summary.pictures += 1;
            totals.busy += found.preprocess.wall + found.inference.wall + found.postprocess.wall;
            for object in &found.objects {
                let label = self.detector.model().label(object.class_id).to_owned();
                *totals.labels.entry(label).or_default() += 1;
            }
            last_size = Some(planes.size);
            progress.step(Instant::now());
            if self.json {
                self.json_line(file, frame, planes.size, &found)?;
            }
            if let Some((path, annotated)) = &mut annotated {
                let Some(image) = self.drawn(&planes, &found) else {
                    return Ok(());
                };
                return annotated
                    .push(&image, place)
                    .map_err(|reason| Problem::AnnotatedClip {
                        path: path.clone(),
                        reason,
                    });
            }
            self.annotate_frame(file, frame, &planes, &found)
        });
        progress.finish();
        let undecoded = decoded?;
        if let Some((path, annotated)) = annotated {
            // What is whole of a damaged clip is as welcome here as in lines; the damage is told below.
            annotated
                .finish()
                .map_err(|reason| Problem::AnnotatedClip { path, reason })?;
        }
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
        let Annotated::Pictures(folder) = &self.annotated else {
            return Ok(());
        };
        let path = annotated_path(folder, file, Some(frame), "jpg", &self.written);
        match self.drawn(planes, found) {
            Some(image) => self.write_picture(&image, path),
            None => Ok(()),
        }
    }

    /// The frame with annotations; none if it has no pixels.
    fn drawn(&self, planes: &I420<'_>, found: &Detections) -> Option<RgbImage> {
        let mut rgb = Vec::new();
        to_rgb8(planes, &mut rgb);
        let side = |length: usize| u32::try_from(length).unwrap_or(0);
        let size = planes.size;
        let mut image = RgbImage::from_raw(side(size.width_px), side(size.height_px), rgb)?;
        annotate::draw_objects(&mut image, size, &found.objects, self.detector.model());
        Some(image)
    }

    fn write_picture(&mut self, image: &RgbImage, path: PathBuf) -> Result<(), Problem> {
        match picture::save(image, &path) {
            Ok(()) => {
                self.written.insert(path);
                Ok(())
            }
            Err(reason) => Err(Problem::Annotated { path, reason }),
        }
    }
}

/// True for a name that somebody gives who expects a file of this kind, where a folder would be made.
fn is_other_file(path: &Path) -> bool {
    const ENDINGS: [&str; 14] = [
        "jpg", "jpeg", "png", "webp", "bmp", "gif", "avi", "mkv", "mov", "m4v", "webm", "h264",
        "264", "ts",
    ];
    let ending = path
        .extension()
        .map(|ending| ending.to_string_lossy().to_lowercase());
    ending.is_some_and(|ending| ENDINGS.contains(&&*ending)) && !path.is_dir()
}

/// True for a file whose first bytes are of no kind that is known.
fn is_unknown(file: &Path) -> bool {
    let mut head = Vec::new();
    let read = fs::File::open(file).and_then(|file| file.take(4096).read_to_end(&mut head));
    read.is_ok() && FileKind::of(&head) == FileKind::Unknown
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
