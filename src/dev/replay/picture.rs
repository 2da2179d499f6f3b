//! The annotated picture of a frame: its report comes in, shapes go out for `annotate`.

use std::collections::VecDeque;
use std::time::Duration;

use super::report::{Fate, FrameReport, Outcome, SkipReason};
use super::summary::clock;
use crate::annotate::overlay::{Arrow, Overlay, OverlayBox, Region, RegionKind, Stroke};
use crate::config::{Point, SceneConfig};
use crate::detect::{BBox, ModelInfo};
use crate::track::RelativeBox;
use crate::track::news::{Happening, TrackNews};
use crate::track::scene::LineCounts;
use twinsight_media::picture::PictureSize;

/// What happened is written on the picture for so long.
const TOLD_FOR: Duration = Duration::from_secs(3);

/// And at most so many lines of it.
const MOST_TOLD: usize = 5;

/// Of the candidates with too low a score those are drawn that reach this share of it; all of them would hide the picture.
const WORTH_DRAWING: f32 = 0.5;

/// Zones have colours beside those of the first tracks and classes.
const ZONE_COLORS: usize = 200;

/// Draws the frames of a clip.
#[derive(Debug, Default)]
pub(super) struct Drawing {
    /// What happened lately, and when.
    told: VecDeque<(Duration, String)>,
}

impl Drawing {
    /// What is drawn on a frame. `least` is the score from which objects are of use to the tracker.
    pub(super) fn overlay(
        &mut self,
        report: &FrameReport,
        (scene, lines): (&SceneConfig, &[LineCounts]),
        model: &ModelInfo,
        least: f32,
    ) -> Overlay {
        let size = report.size;
        let mut overlay = Overlay {
            regions: regions(scene, size),
            arrows: arrows(scene, lines, size),
            boxes: Vec::new(),
            caption: Vec::new(),
        };
        for track in &report.tracks {
            let facts = &track.facts;
            if !track.is_seen && !track.is_coasting {
                continue;
            }
            let stroke = if track.is_seen {
                Stroke::Solid
            } else {
                Stroke::Dashed
            };
            overlay.boxes.push(OverlayBox {
                bbox: in_pixels(&facts.bbox, facts.frame),
                color: number(facts.id),
                stroke,
                text: Some(format!("{} {}", facts.label, facts.id)),
            });
        }
        if let Outcome::Looked(looked) = &report.outcome {
            for (candidate, fate) in &looked.candidates {
                let shown = match fate {
                    // The better candidate stands for it.
                    Fate::Tracked(_) | Fate::Suppressed(_) => continue,
                    Fate::BelowScore if candidate.score < WORTH_DRAWING * least => continue,
                    Fate::Tentative | Fate::Reported => (
                        match fate {
                            Fate::Tentative => Stroke::Dashed,
                            _ => Stroke::Solid,
                        },
                        Some(format!(
                            "{} {:.2}",
                            model.label(candidate.class_id),
                            candidate.score
                        )),
                    ),
                    _ => (Stroke::Faint, None),
                };
                overlay.boxes.push(OverlayBox {
                    bbox: candidate.bbox,
                    color: candidate.class_id,
                    stroke: shown.0,
                    text: shown.1,
                });
            }
            for news in &report.news {
                if let Some(sentence) = sentence(news) {
                    self.told.push_back((report.time, sentence));
                }
            }
        }
        while let Some((at, _)) = self.told.front()
            && (report.time.saturating_sub(*at) > TOLD_FOR || self.told.len() > MOST_TOLD)
        {
            self.told.pop_front();
        }
        overlay.caption = self.told.iter().map(|(_, line)| line.clone()).collect();
        overlay.caption.push(caption(report));
        overlay
    }
}

fn caption(report: &FrameReport) -> String {
    let why = match report.outcome {
        Outcome::Looked(_) => "",
        Outcome::Skipped(SkipReason::RateLimited) => "  not looked at: not due by max_fps",
        Outcome::Skipped(SkipReason::Stale) => "  not looked at: older than max_age_ms",
        Outcome::Skipped(SkipReason::Unchanged) => "  not looked at: unchanged",
    };
    format!("{}  frame {}{why}", clock(report.time), report.number)
}

/// What is written of an event. Updates that come by time tell nothing new.
fn sentence(news: &TrackNews) -> Option<String> {
    let track = &news.track;
    let who = format!("{} {}", track.label, track.id);
    Some(match &news.what {
        Happening::Start => format!("{who} starts"),
        Happening::Update(reason) => {
            use crate::track::news::UpdateReason;
            match reason {
                UpdateReason::Zones if track.zones.is_empty() => format!("{who} is in no zone"),
                UpdateReason::Zones => format!("{who} is in {}", track.zones.join(", ")),
                UpdateReason::Label => format!("{who} by now"),
                UpdateReason::Stationary if track.stationary => format!("{who} is stationary"),
                UpdateReason::Stationary => format!("{who} moves"),
                UpdateReason::Interval => return None,
            }
        }
        Happening::End(reason) => format!("{who} ends: {}", reason.as_str()),
        Happening::Crossed(crossing) => {
            let line = &crossing.counts.line;
            format!("{who} crosses {line}: {}", crossing.direction.as_str())
        }
    })
}

fn regions(scene: &SceneConfig, size: PictureSize) -> Vec<Region> {
    let corners = |corners: &[Point]| corners.iter().map(|corner| spot(*corner, size)).collect();
    let masks = scene.masks.iter().map(|mask| Region {
        corners: corners(mask.polygon.corners()),
        kind: RegionKind::Mask,
    });
    let zones = scene.zones.iter().enumerate().map(|(n, zone)| Region {
        corners: corners(zone.polygon.corners()),
        kind: RegionKind::Zone {
            text: zone.name.to_string(),
            color: ZONE_COLORS + n,
        },
    });
    masks.chain(zones).collect()
}

fn arrows(scene: &SceneConfig, counts: &[LineCounts], size: PictureSize) -> Vec<Arrow> {
    let arrow = |line: &crate::config::LineConfig| {
        let counted = counts.iter().find(|counts| counts.line == line.name);
        let (r#in, out) = counted.map_or((0, 0), |counts| (counts.r#in, counts.out));
        Arrow {
            from: spot(line.from, size),
            to: spot(line.to, size),
            text: format!("{}: {} in, {out} out", line.name, r#in),
        }
    };
    scene.lines.iter().map(arrow).collect()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "places in a picture need no 52 bits"
)]
fn spot(point: Point, size: PictureSize) -> [f32; 2] {
    [
        (point.x * size.width_px as f64) as f32,
        (point.y * size.height_px as f64) as f32,
    ]
}

#[expect(
    clippy::cast_precision_loss,
    reason = "pictures have far fewer than 2^24 pixels in a row"
)]
fn in_pixels(bbox: &RelativeBox, size: PictureSize) -> BBox {
    let (width, height) = (size.width_px as f32, size.height_px as f32);
    BBox {
        x: bbox.x1 * width,
        y: bbox.y1 * height,
        width: bbox.width() * width,
        height: bbox.height() * height,
    }
}

/// The number of a colour, which the id of a track chooses.
fn number(id: u64) -> usize {
    usize::try_from(id % 360).unwrap_or(0)
}
