//! `twinsight replay`: a recorded clip comes in and goes through the detector and the stage of tracks with a camera's settings, and a line
//! for each frame goes out: what would have been reported, and what became of every candidate. The clip's own time takes the
//! place of the clock, so that the same clip and settings give the same lines.

mod error;
mod lines;
mod pacing;
mod picture;
mod report;
mod settings;
mod summary;

use std::fs::{self, File};
use std::io::{BufWriter, Read as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use image::RgbImage;

use self::error::AnnotatedClipError;
pub use self::error::ReplayError;
use self::lines::Line;
use self::pacing::{Pacing, Turn};
use self::picture::Drawing;
use self::report::{FollowedTrack, FrameReport, Looked, Outcome, SkipReason};
use self::settings::Chosen;
use self::summary::Summary;
use crate::annotate::overlay::draw_overlay;
use crate::config::{CameraConfig, MotionMode, RemoteModelConfig, ReplayConfig};
use crate::detect::remote::RemoteModel;
use crate::detect::{DetectSettings, Detector, OnnxDetector, Picture, Runtime, RuntimeOptions};
use crate::dev::annotated_clip::{AnnotatedClip, Pace};
use crate::dev::file_kind::FileKind;
use crate::dev::frames;
use crate::dev::progress::FrameProgress;
use crate::node::min_interval;
use crate::node::models::Catalog;
use crate::schedule::motion::{MotionGate, MotionRules, Verdict};
use crate::telemetry::metrics::Metrics;
use crate::track::news::TrackNews;
use crate::track::stage::{Look, Stage, StageSettings};
use crate::track::tracker::{TrackIds, Tracker};
use twinsight_media::color::to_rgb8;
use twinsight_media::h264::clip::Clip;
use twinsight_media::picture::{Frame, FrameTiming, I420, PlanePool};
use twinsight_media::rtp::RtpTimestamp;

/// Candidates with a lower score are not explained unless another floor is asked for.
pub const DEFAULT_FLOOR: f32 = 0.1;

/// The arguments of the command.
#[derive(Debug, Clone)]
pub struct ReplayOptions {
    /// The clip, an H.264 byte stream (Annex B) or MP4 file.
    pub clip: PathBuf,
    /// What the configuration says of cameras and models.
    pub config: ReplayConfig,
    /// The file of the configuration, as sentences name it.
    pub config_file: Option<PathBuf>,
    /// The camera whose settings are used, `TWIN` or `TWIN/STREAM`. `None` means the only one.
    pub camera: Option<String>,
    /// The folder for the lines and the annotated clip, if they are wanted.
    pub out: Option<PathBuf>,
    /// Frames a second of the clip; as in the clip itself unless given.
    pub fps: Option<f64>,
    /// Candidates with a lower score are not explained.
    pub floor: f32,
    /// Whether the lines go to standard output in place of the summary.
    pub json: bool,
    /// Where the environment says that ONNX Runtime is.
    pub dylib_path: Option<PathBuf>,
}

/// The servers of a model have so long to say that they have it ready.
const CONTACT_LIMIT: Duration = Duration::from_secs(10);

/// Replays the clip.
///
/// # Errors
/// If an option is wrong, something is missing, or part of the clip cannot be used. What is whole was replayed then.
pub fn run(options: &ReplayOptions, out: &mut dyn Write) -> Result<(), ReplayError> {
    let chosen = choose(options)?;
    let paths = OutPaths::of(options)?;
    let clip = read_clip(&options.clip)?;
    let of_node = &options.config.runtime;
    let model = &chosen.camera.model;
    let mut models = options.config.models.iter();
    if let Some(remote) = models.find(|remote| remote.name == *model) {
        // It has to be there as long as the detector is used.
        let requests = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(ReplayError::Requests)?;
        let detector = detector_of_servers(remote, &of_node.models_dir, &requests)?;
        return replay(detector, &clip, &chosen.camera, paths, options, out);
    }
    let runtime = Runtime::load(&RuntimeOptions {
        library: of_node.library.clone(),
        dylib_path: options.dylib_path.clone(),
        threads: of_node.threads,
    })?;
    let (folder, providers) = (&of_node.models_dir, &of_node.execution_providers);
    let detector = OnnxDetector::load(&runtime, folder, model, providers)?;
    let detector = Box::new(detector);
    replay(detector, &clip, &chosen.camera, paths, options, out)
}

fn detector_of_servers(
    remote: &RemoteModelConfig,
    models_dir: &Path,
    requests: &tokio::runtime::Runtime,
) -> Result<Box<dyn Detector>, ReplayError> {
    let metrics = Arc::new(Metrics::new());
    let model = RemoteModel::open(remote, models_dir, requests.handle(), &metrics)?;
    requests
        .block_on(model.first_contact(CONTACT_LIMIT))
        .map_err(|reason| ReplayError::Server {
            model: remote.name.clone(),
            reason,
        })?;
    Ok(model.detector())
}

/// Does the same as [`run`] with a detector that is given.
///
/// # Errors
/// Those of [`run`].
pub fn run_with(
    detector: Box<dyn Detector>,
    options: &ReplayOptions,
    out: &mut dyn Write,
) -> Result<(), ReplayError> {
    let chosen = choose(options)?;
    let paths = OutPaths::of(options)?;
    let clip = read_clip(&options.clip)?;
    replay(detector, &clip, &chosen.camera, paths, options, out)
}

fn read_clip(path: &Path) -> Result<Clip, ReplayError> {
    /// What a file is its first bytes tell.
    const HEAD: u64 = 4096;
    let mut head = Vec::new();
    // A file that cannot be read has its sentence below.
    let _ = File::open(path).and_then(|file| file.take(HEAD).read_to_end(&mut head));
    let path = path.to_owned();
    match FileKind::of(&head) {
        FileKind::Picture(_) => Err(ReplayError::Picture { path }),
        FileKind::OtherContainer(found) => Err(ReplayError::NoClip { path, found }),
        FileKind::Clip | FileKind::Unknown => Ok(Clip::read(&path)?),
    }
}

fn choose(options: &ReplayOptions) -> Result<Chosen, ReplayError> {
    let file = options.config_file.as_deref();
    let chosen = Chosen::of(&options.config, options.camera.as_deref(), file)?;
    tracing::info!("{}", chosen.sentence(file));
    Ok(chosen)
}

/// The files that are written.
#[derive(Debug)]
struct OutPaths {
    lines: PathBuf,
    clip: PathBuf,
}

impl OutPaths {
    fn of(options: &ReplayOptions) -> Result<Option<Self>, ReplayError> {
        let Some(folder) = &options.out else {
            return Ok(None);
        };
        let path = || folder.clone();
        if folder.is_file() || folder.extension().is_some_and(is_of_video) {
            return Err(ReplayError::OutIsFile { path: path() });
        }
        fs::create_dir_all(folder).map_err(|reason| ReplayError::Out {
            path: path(),
            reason,
        })?;
        let named = |ending: &str| {
            let stem = options.clip.file_stem().unwrap_or_default();
            let mut name = stem.to_owned();
            name.push(ending);
            folder.join(name)
        };
        let clip = named(".mp4");
        let real = |path: &Path| fs::canonicalize(path).ok();
        if real(&clip).is_some_and(|clip| real(&options.clip) == Some(clip)) {
            return Err(ReplayError::OutIsInput {
                path: options.clip.clone(),
            });
        }
        Ok(Some(Self {
            lines: named(".jsonl"),
            clip,
        }))
    }
}

/// True for the ending of a name that somebody gives who expects a file.
fn is_of_video(ending: &std::ffi::OsStr) -> bool {
    ["mp4", "jsonl", "json", "h264"]
        .iter()
        .any(|known| ending.eq_ignore_ascii_case(known))
}

fn replay(
    detector: Box<dyn Detector>,
    clip: &Clip,
    camera: &CameraConfig,
    paths: Option<OutPaths>,
    options: &ReplayOptions,
    out: &mut dyn Write,
) -> Result<(), ReplayError> {
    let pace = pace(clip, options.fps);
    let units = clip.units().len();
    let name = options.clip.file_name().unwrap_or_default();
    let mut progress =
        FrameProgress::new(name.to_string_lossy().into_owned(), units, Instant::now());
    let mut pacing = Pacing::new(min_interval(camera.max_fps), camera.max_age);
    let mut replay = Replay::new(detector, camera, paths, options, out)?;
    if let Some(written) = &mut replay.written {
        let annotated = AnnotatedClip::new(&written.clip_path, pace.clone(), units);
        written.clip = Some(annotated);
    }
    let pool = PlanePool::new(2);
    let mut first_shown_at = None;
    let mut number = 0;
    let decoded = frames::decode(clip, |planes, place| -> Result<(), ReplayError> {
        let shown_at = pace.time(place).shown_at;
        let time = shown_at.saturating_sub(*first_shown_at.get_or_insert(shown_at));
        number += 1;
        let held = HeldFrame {
            number,
            place,
            time,
            frame: frame(&pool, &planes, replay.began_at, time),
        };
        for (held, turn) in pacing.push(time, held) {
            replay.take(held, turn)?;
            progress.step(Instant::now());
        }
        Ok(())
    });
    let undecoded = decoded?;
    if let Some((held, turn)) = pacing.end() {
        replay.take(held, turn)?;
    }
    progress.finish();
    replay.finish()?;
    if let Some(undecoded) = undecoded {
        return Err(ReplayError::Undecoded {
            path: options.clip.clone(),
            failed: undecoded.units,
            units,
            reason: undecoded.reason,
        });
    }
    match clip.damage() {
        Some(reason) => Err(ReplayError::Damaged {
            path: options.clip.clone(),
            reason: reason.clone(),
        }),
        None => Ok(()),
    }
}

/// When the frames of a clip are shown: as is asked for, as the file says, as its parameter sets say, or at a rate that is said.
fn pace(clip: &Clip, fps: Option<f64>) -> Pace {
    let own = clip.picture_times();
    let of_sets = clip
        .picture_interval()
        .map(|interval| 1.0 / interval.as_secs_f64());
    if fps.is_none() && own.is_none() && of_sets.is_none() {
        tracing::info!(
            "the clip does not say how many frames a second it has, and is taken for one of 30: say it with `--fps`"
        );
    }
    let fps = fps.or(of_sets.filter(|_| own.is_none()));
    Pace::of(fps, own)
}

/// A frame that waits for its turn.
struct HeldFrame {
    number: usize,
    /// Its place in the order in which pictures are shown.
    place: usize,
    /// When it is shown, since the first frame.
    time: Duration,
    frame: Frame,
}

/// A frame as a camera would have sent it.
fn frame(pool: &PlanePool, planes: &I420<'_>, began_at: Instant, time: Duration) -> Frame {
    let size = planes.size;
    let mut buffer = pool.acquire(size.i420_bytes());
    let mut rest = buffer.bytes_mut();
    let luma = (planes.y, size.width_px, size.height_px);
    let chroma = |plane| (plane, size.chroma_width_px(), size.chroma_height_px());
    for (plane, width, height) in [luma, chroma(planes.u), chroma(planes.v)] {
        for row in 0..height {
            let (to, after) = rest.split_at_mut(width);
            to.copy_from_slice(&plane.data[row * plane.stride..][..width]);
            rest = after;
        }
    }
    let at = began_at + time;
    let ticks = time.as_micros() * 9 / 100;
    let timing = FrameTiming {
        received_at: at,
        completed_at: at,
        decoded_at: at,
        rtp_timestamp: RtpTimestamp(u32::try_from(ticks % (1 << 32)).unwrap_or(0)),
        captured_at_unix_ms: None,
    };
    Frame::new(buffer, size, planes.color, timing)
}

/// Where results go besides standard output.
struct Written {
    lines_path: PathBuf,
    lines: BufWriter<File>,
    clip_path: PathBuf,
    clip: Option<AnnotatedClip>,
    drawing: Drawing,
    rgb: Vec<u8>,
}

/// A clip that is being replayed.
struct Replay<'a> {
    detector: Box<dyn Detector>,
    settings: DetectSettings,
    camera: &'a CameraConfig,
    stage: Stage,
    /// The motion gate and its rules, where the camera has one.
    motion: Option<(MotionGate, MotionRules)>,
    options: &'a ReplayOptions,
    file: String,
    /// The moment that the first frame is said to have come at.
    began_at: Instant,
    summary: Summary,
    written: Option<Written>,
    out: &'a mut dyn Write,
}

impl<'a> Replay<'a> {
    fn new(
        detector: Box<dyn Detector>,
        camera: &'a CameraConfig,
        paths: Option<OutPaths>,
        options: &'a ReplayOptions,
        out: &'a mut dyn Write,
    ) -> Result<Self, ReplayError> {
        let catalog = Catalog::of(camera.model.clone(), detector.model().clone());
        let (_, mut settings) = catalog
            .resolve(camera)
            .map_err(|error| ReplayError::Settings(error.to_string()))?;
        if camera.track.enabled {
            settings.min_score = Tracker::lowest_score(camera.min_score);
        }
        let stage = Stage::new(
            StageSettings {
                track: camera.track,
                scene: camera.scene.clone(),
                min_score: camera.min_score,
            },
            Arc::new(TrackIds::default()),
        );
        let motion = match camera.motion.mode {
            MotionMode::Off => None,
            MotionMode::Gate => Some((
                MotionGate::default(),
                MotionRules::new(camera.motion, camera.track),
            )),
        };
        let written = paths.map(Written::create).transpose()?;
        let began_at = Instant::now();
        Ok(Self {
            detector,
            settings,
            camera,
            stage,
            motion,
            options,
            file: options.clip.to_string_lossy().into_owned(),
            began_at,
            summary: Summary::new(began_at),
            written,
            out,
        })
    }

    /// Takes a frame, and writes down what came of it.
    fn take(&mut self, held: HeldFrame, turn: Turn) -> Result<(), ReplayError> {
        let skipped = |reason| (Outcome::Skipped(reason), Vec::new());
        let (outcome, news) = match turn {
            Turn::Look if self.is_unchanged(&held.frame) => {
                let news = self.stage.unchanged(held.frame.timing());
                (Outcome::Skipped(SkipReason::Unchanged), news)
            }
            Turn::Look => self.look(&held)?,
            Turn::RateLimited => skipped(SkipReason::RateLimited),
            Turn::Stale => skipped(SkipReason::Stale),
        };
        let now = held.frame.received_at();
        let tracker = self.stage.tracker();
        let is_leaving = |id: u64| {
            let mut tracks = tracker.tracks().iter();
            tracks.any(|track| track.id == Some(id) && tracker.is_leaving(track.serial))
        };
        let report = FrameReport {
            number: held.number,
            time: held.time,
            size: held.frame.size(),
            outcome,
            news,
            tracks: self
                .stage
                .facts()
                .map(|facts| FollowedTrack::new(is_leaving(facts.id), facts, now))
                .collect(),
        };
        self.summary.note(&report, self.stage.scene().counts());
        let line = Line::new(&self.file, &report, self.detector.model(), self.began_at);
        if self.options.json {
            write_line(&mut *self.out, &line)?;
        }
        let Some(written) = &mut self.written else {
            return Ok(());
        };
        write_line(&mut written.lines, &line).map_err(|reason| ReplayError::Out {
            path: written.lines_path.clone(),
            reason,
        })?;
        let scene = self.stage.scene();
        let overlay = written.drawing.overlay(
            &report,
            (scene.config(), scene.counts()),
            self.detector.model(),
            self.settings.min_score,
        );
        to_rgb8(&held.frame.planes(), &mut written.rgb);
        let side = |length: usize| u32::try_from(length).unwrap_or(0);
        let rgb = std::mem::take(&mut written.rgb);
        let (width, height) = (side(report.size.width_px), side(report.size.height_px));
        let Some(mut image) = RgbImage::from_raw(width, height, rgb) else {
            return Ok(());
        };
        draw_overlay(&mut image, report.size, &overlay);
        if let Some(clip) = &mut written.clip {
            clip.push(&image, held.place)
                .map_err(|reason| ReplayError::AnnotatedClip {
                    path: written.clip_path.clone(),
                    reason: AnnotatedClipError(reason),
                })?;
        }
        written.rgb = image.into_raw();
        Ok(())
    }

    /// True for a frame that the camera's motion gate keeps from the model.
    fn is_unchanged(&mut self, frame: &Frame) -> bool {
        let is_settled = self.stage.is_settled();
        self.motion.as_mut().is_some_and(|(gate, rules)| {
            let verdict = gate.judge(frame.received_at(), &frame.planes(), *rules, is_settled);
            verdict == Verdict::Unchanged
        })
    }

    fn look(&mut self, held: &HeldFrame) -> Result<(Outcome, Vec<TrackNews>), ReplayError> {
        let picture = Picture::I420(held.frame.planes());
        let explained = self
            .detector
            .explain(picture, &self.settings, self.options.floor)
            .map_err(|reason| ReplayError::Detect {
                frame: held.number,
                reason,
            })?;
        if let Some((gate, _)) = &mut self.motion {
            gate.inferred();
        }
        let model = self.detector.model();
        let mut staged = self.stage.look(Look {
            timing: held.frame.timing(),
            size: held.frame.size(),
            objects: &explained.detections.objects,
            model,
        });
        let news = std::mem::take(&mut staged.news);
        let looked = Looked::new(&explained, staged, model, self.camera.min_score);
        Ok((Outcome::Looked(looked), news))
    }

    fn finish(mut self) -> Result<(), ReplayError> {
        if let Some(written) = self.written.take() {
            written.finish()?;
        }
        if !self.options.json {
            let scores = (self.settings.min_score, self.options.floor);
            let file = &self.options.clip;
            self.summary.write(file, self.camera, scores, self.out)?;
        }
        Ok(self.out.flush()?)
    }
}

impl Written {
    fn create(paths: OutPaths) -> Result<Self, ReplayError> {
        let lines = File::create(&paths.lines).map_err(|reason| ReplayError::Out {
            path: paths.lines.clone(),
            reason,
        })?;
        Ok(Self {
            lines_path: paths.lines,
            lines: BufWriter::new(lines),
            clip_path: paths.clip,
            clip: None,
            drawing: Drawing::default(),
            rgb: Vec::new(),
        })
    }

    fn finish(mut self) -> Result<(), ReplayError> {
        self.lines.flush().map_err(|reason| ReplayError::Out {
            path: self.lines_path,
            reason,
        })?;
        let Some(clip) = self.clip else {
            return Ok(());
        };
        clip.finish().map_err(|reason| ReplayError::AnnotatedClip {
            path: self.clip_path,
            reason: AnnotatedClipError(reason),
        })
    }
}

fn write_line(out: &mut dyn Write, line: &Line<'_>) -> std::io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    writeln!(out)
}
