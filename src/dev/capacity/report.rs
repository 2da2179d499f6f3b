//! The output of `twinsight capacity`: measured steps come in; the table, the answer in sentences and the CSV file go out. The
//! command runs it.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::measured::{CARRIED_SHARE, Demand, Limit, Measured, Refusal};
use super::{CapacityOptions, End, Found, Scene, step_of};
use crate::config::{CameraConfig, DEFAULT_MODEL};
use twinsight_media::h264::clip::Clip;
use twinsight_media::h264::nal::{NalType, annex_b};
use twinsight_media::h264::sps::Sps;
use twinsight_media::picture::PictureSize;

/// Other programs that use more than this share of the machine make the answer unreliable.
const BUSY_MACHINE: f64 = 0.05;

/// The CSV file cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be written ({source}): name a file for --csv in a folder that is there", path.display())]
pub(super) struct CsvError {
    path: PathBuf,
    source: io::Error,
}

/// What is measured, and the writer of the table.
#[derive(Debug)]
pub(super) struct Head {
    model: String,
    clip: PathBuf,
    size: Option<PictureSize>,
    fps: f64,
    max_fps: f64,
    scene: Option<Scene>,
    /// How many cores this program may use.
    pub(super) cores: usize,
}

impl Head {
    pub(super) fn new(camera: &CameraConfig, options: &CapacityOptions, clip: &Clip) -> Self {
        Self {
            model: camera.model.clone(),
            clip: options.clip.clone(),
            size: picture_size(clip),
            fps: options.fps,
            max_fps: camera.max_fps,
            scene: options.scene,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }

    /// Prints the line that says what is measured, and the names of the columns.
    pub(super) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let size = self.size.map_or_else(String::new, |size| {
            format!(" ({}x{})", size.width_px, size.height_px)
        });
        writeln!(
            out,
            "model {}, {}{}{size} at {} frames a second, {}{}; {}",
            self.model,
            match self.scene {
                Some(Scene::Still) => "the first picture of ",
                Some(Scene::Clip) | None => "",
            },
            self.clip.display(),
            self.fps,
            match self.max_fps {
                0.0 => "every one to be inferred".to_owned(),
                max_fps => format!("inferred {max_fps} times a second at most"),
            },
            match self.scene {
                Some(_) => " unless nothing moves",
                None => "",
            },
            match self.cores {
                1 => "1 core".to_owned(),
                cores => format!("{cores} cores"),
            },
        )?;
        writeln!(
            out,
            "{:>7}  {:>8}  {:>12}  {:>10}  {:>10}  {:>8}  {:>11}  carried",
            "cameras",
            "inferred",
            "worst camera",
            "age p50 ms",
            "age p99 ms",
            "node CPU",
            "cameras CPU",
        )?;
        out.flush()
    }

    /// Prints the line of a step.
    pub(super) fn row(
        &self,
        out: &mut impl Write,
        step: &Measured,
        demand: &Demand,
    ) -> io::Result<()> {
        let age = |percent| match step.age_ms(percent) {
            Some(age_ms) => format!("{age_ms:.1}"),
            None => "-".to_owned(),
        };
        writeln!(
            out,
            "{:>7}  {:>6.1} %  {:>10.1} %  {:>10}  {:>10}  {:>6.0} %  {:>9.1} %  {}",
            step.cameras(),
            100.0 * step.share(demand),
            100.0 * step.least_share(demand),
            age(50),
            age(99),
            self.percent(step.cpu.node),
            self.percent(step.cpu.outside),
            match step.refusal(demand) {
                None => "yes",
                Some(_) => "no",
            },
        )?;
        out.flush()
    }

    /// What follows from the steps, in sentences.
    pub(super) fn answer(
        &self,
        found: Found,
        end: End,
        steps: &[Measured],
        demand: &Demand,
    ) -> Vec<String> {
        let mut said = Vec::new();
        let rate = format!("{} frames a second", self.fps);
        match found {
            Found::AtLeast(0) => said.push("Stopped before anything was measured.".to_owned()),
            Found::AtLeast(carried) => said.push(format!(
                "This machine carries at least {carried} such {} at {rate}: {}.",
                cameras(carried),
                match end {
                    End::Answered => "no more are tried",
                    End::TimeOver => "there was no time to try more",
                    End::Stopped => "stopped before more were tried",
                }
            )),
            Found::Between(carried, refused) => {
                let why = step_of(steps, refused).map_or_else(String::new, |step| {
                    format!(": with {refused}, {}", self.why(step, demand))
                });
                let carries = match carried {
                    0 => "not even one such camera".to_owned(),
                    carried => format!("{carried} such {}", cameras(carried)),
                };
                said.push(format!("This machine carries {carries} at {rate}{why}."));
                if end != End::Answered {
                    said.push(format!(
                        "It may be up to {}: {} before what lies between was tried.",
                        refused - 1,
                        match end {
                            End::TimeOver => "the time was over",
                            _ => "it was stopped",
                        }
                    ));
                }
                said.extend(step_of(steps, refused).map(|step| self.limit(step, demand)));
            }
        }
        let carried = match found {
            Found::AtLeast(carried) | Found::Between(carried, _) => carried,
        };
        if let (Some(step), Some(_)) = (step_of(steps, carried), self.scene) {
            said.push(format!(
                "With `motion = \"gate\"` {:.1} % of their frames were not inferred, since nothing had moved.",
                100.0 * step.unchanged_share()
            ));
        }
        if let Some(step) = step_of(steps, carried) {
            said.push(format!(
                "The cameras and the hub ran here too and took {:.1} % of the machine, which is free when they are elsewhere.",
                self.percent(step.cpu.outside)
            ));
        }
        let others = steps.iter().map(|step| step.cpu.others);
        let others = others.max_by(f64::total_cmp).unwrap_or_default();
        if others > BUSY_MACHINE * self.cores as f64 {
            said.push(format!(
                "Other programs took up to {:.0} % of the machine meanwhile: stop them for a better answer.",
                self.percent(others)
            ));
        }
        said
    }

    fn why(&self, step: &Measured, demand: &Demand) -> String {
        match step.refusal(demand) {
            Some(Refusal::Skipped(share)) => format!(
                "of the frames that `max_fps` allows {:.0} % of the worst camera's are inferred, and at least {:.0} % should be",
                // This is rounded down, so that it is never the same as what it should be.
                (100.0 * share).floor(),
                100.0 * CARRIED_SHARE
            ),
            Some(Refusal::Old(age_ms)) => format!(
                "the age's p99 is {age_ms:.0} ms, more than `max_age_ms` {}",
                demand.max_age.as_millis()
            ),
            None => "all are".to_owned(),
        }
    }

    /// A sentence about what there is not enough of and what would help.
    fn limit(&self, step: &Measured, demand: &Demand) -> String {
        match step.limit() {
            Limit::Inference => {
                let mut text = format!(
                    "Inference limits: {:.1} a second, {:.0} ms each.",
                    step.inferences_per_second(),
                    step.inference_ms().unwrap_or_default(),
                );
                let half = demand.inferences_per_second() / 2.0;
                // With the gate, what is inferred does not follow from the rate.
                let more = step.cameras_at(half).filter(|_| self.scene.is_none());
                if let Some(more) = more.filter(|more| *more >= 1.0) {
                    text += &format!(" With `max_fps` {half} it would be about {more:.0} cameras.");
                }
                // No other model that is shipped takes less time for a picture.
                if self.model != DEFAULT_MODEL {
                    text += &format!(" A faster model carries more: try --model {DEFAULT_MODEL}.");
                }
                text
            }
            Limit::Decoding => format!(
                "Receiving and decoding limit: {:.0} % of the machine went into decoding. Fewer frames a second or smaller \
                 pictures help; `max_fps` and another model do less.",
                self.percent(step.cpu.decoding)
            ),
        }
    }

    /// Converts a number of busy cores to percent of the machine.
    fn percent(&self, cores: f64) -> f64 {
        100.0 * cores / self.cores as f64
    }
}

fn cameras(count: usize) -> &'static str {
    if count == 1 { "camera" } else { "cameras" }
}

/// The size of the clip's pictures, from its first sequence parameter set.
fn picture_size(clip: &Clip) -> Option<PictureSize> {
    let unit = clip.units().first()?;
    let sps = annex_b(&unit.data).find(|nal| {
        nal.first()
            .is_some_and(|&header| NalType::of(header) == NalType::Sps)
    })?;
    Some(Sps::parse(sps).ok()?.size)
}

/// The table as a file. Shares are from 0 to 1; those of CPU time are of the whole machine.
#[derive(Debug)]
pub(super) struct Csv {
    path: PathBuf,
    file: File,
}

impl Csv {
    /// Makes the file, so that one that cannot be written is known before anything is measured.
    pub(super) fn create(path: &Path) -> Result<Self, CsvError> {
        let failed = |source| CsvError {
            path: path.to_owned(),
            source,
        };
        let mut csv = Self {
            path: path.to_owned(),
            file: File::create(path).map_err(failed)?,
        };
        csv.line(
            "cameras,carried,inferred_share,worst_camera_share,age_p50_ms,age_p99_ms,inferences_per_second,inference_ms,\
             node_cpu_share,decoding_cpu_share,cameras_cpu_share,others_cpu_share,unchanged_share",
        )?;
        Ok(csv)
    }

    /// Writes the line of a step at once, so that a user who stops the command keeps what was measured.
    pub(super) fn row(
        &mut self,
        step: &Measured,
        demand: &Demand,
        cores: usize,
    ) -> Result<(), CsvError> {
        let given =
            |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.2}"));
        let share = |busy: f64| format!("{:.4}", busy / cores as f64);
        let cells = [
            step.cameras().to_string(),
            u8::from(step.refusal(demand).is_none()).to_string(),
            format!("{:.4}", step.share(demand)),
            format!("{:.4}", step.least_share(demand)),
            given(step.age_ms(50)),
            given(step.age_ms(99)),
            format!("{:.2}", step.inferences_per_second()),
            given(step.inference_ms()),
            share(step.cpu.node),
            share(step.cpu.decoding),
            share(step.cpu.outside),
            share(step.cpu.others),
            format!("{:.4}", step.unchanged_share()),
        ];
        self.line(&cells.join(","))
    }

    fn line(&mut self, line: &str) -> Result<(), CsvError> {
        writeln!(self.file, "{line}").map_err(|source| CsvError {
            path: self.path.clone(),
            source,
        })
    }
}
