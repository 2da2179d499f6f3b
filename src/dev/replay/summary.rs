//! What came of a clip, for people: the reports of all frames come in, and tables go out: its tracks, what was counted at its lines, and
//! what became of its candidates.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::report::{Fate, FrameReport, Outcome, SkipReason};
use crate::config::CameraConfig;
use crate::track::news::{Happening, TrackFacts};
use crate::track::scene::LineCounts;
use crate::track::tracker::Tracker;
use twinsight_media::picture::PictureSize;

/// What is known of a clip so far.
#[derive(Debug)]
pub(super) struct Summary {
    began_at: Instant,
    frames: usize,
    looked: usize,
    skipped: [usize; SkipReason::ALL.len()],
    /// How many candidates had each fate.
    fates: BTreeMap<usize, usize>,
    tracks: BTreeMap<u64, TrackSummary>,
    lines: Vec<LineCounts>,
    size: Option<PictureSize>,
    length: Duration,
}

#[derive(Debug)]
struct TrackSummary {
    facts: TrackFacts,
    /// Why it ended, if it did.
    end: Option<&'static str>,
    crossings: Vec<String>,
}

impl Summary {
    /// Of a clip whose first frame came at `began_at`.
    pub(super) fn new(began_at: Instant) -> Self {
        Self {
            began_at,
            frames: 0,
            looked: 0,
            skipped: [0; SkipReason::ALL.len()],
            fates: BTreeMap::new(),
            tracks: BTreeMap::new(),
            lines: Vec::new(),
            size: None,
            length: Duration::ZERO,
        }
    }

    /// Counts a frame. `lines` are the counts of all lines after it.
    pub(super) fn note(&mut self, report: &FrameReport, lines: &[LineCounts]) {
        self.frames += 1;
        self.size.get_or_insert(report.size);
        self.length = report.time;
        match &report.outcome {
            Outcome::Skipped(reason) => {
                let at = SkipReason::ALL.iter().position(|other| other == reason);
                if let Some(at) = at {
                    self.skipped[at] += 1;
                }
            }
            Outcome::Looked(looked) => {
                self.looked += 1;
                for (_, fate) in &looked.candidates {
                    *self.fates.entry(place(*fate)).or_default() += 1;
                }
                for track in &report.tracks {
                    self.track(&track.facts);
                }
            }
        }
        for news in &report.news {
            let track = self.track(&news.track);
            match &news.what {
                Happening::Start | Happening::Update(_) => {}
                Happening::End(reason) => track.end = Some(reason.as_str()),
                Happening::Crossed(crossing) => {
                    let line = &crossing.counts.line;
                    track
                        .crossings
                        .push(format!("{line} {}", crossing.direction.as_str()));
                }
            }
        }
        self.lines = lines.to_vec();
    }

    fn track(&mut self, facts: &TrackFacts) -> &mut TrackSummary {
        let track = self.tracks.entry(facts.id).or_insert_with(|| TrackSummary {
            facts: facts.clone(),
            end: None,
            crossings: Vec::new(),
        });
        track.facts = facts.clone();
        track
    }

    /// Writes all of it. `least` is the score from which objects are of use to the tracker, `floor` that from which candidates are
    /// explained.
    pub(super) fn write(
        &self,
        file: &Path,
        camera: &CameraConfig,
        (least, floor): (f32, f32),
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let size = self.size.map_or_else(String::new, |size| {
            format!("{}x{}, ", size.width_px, size.height_px)
        });
        writeln!(
            out,
            "{} ({size}{} frames, {}): {} looked at{}",
            file.display(),
            self.frames,
            clock(self.length),
            self.looked,
            self.skipped_clause()
        )?;
        if camera.track.enabled {
            self.write_tracks(out)?;
        }
        if !self.lines.is_empty() {
            writeln!(out, "\nlines")?;
            for line in &self.lines {
                writeln!(out, "  {}: {} in, {} out", line.line, line.r#in, line.out)?;
            }
        }
        writeln!(
            out,
            "\ncandidates with a score of {floor} or more, in all frames that were looked at"
        )?;
        let fates = fates(camera, least);
        let width = fates.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (n, (name, meaning)) in fates.iter().enumerate() {
            if let Some(count) = self.fates.get(&n) {
                writeln!(out, "  {name:<width$} {count:>8}  {meaning}")?;
            }
        }
        if self.fates.is_empty() {
            writeln!(out, "  none")?;
        }
        Ok(())
    }

    fn skipped_clause(&self) -> String {
        let counted = SkipReason::ALL.iter().zip(self.skipped);
        counted
            .filter(|(_, count)| *count > 0)
            .map(|(reason, count)| {
                let why = match reason {
                    SkipReason::RateLimited => "not due by max_fps",
                    SkipReason::Stale => "older than max_age_ms when due",
                    SkipReason::Unchanged => "unchanged by the motion gate",
                };
                format!(", {count} {why}")
            })
            .collect()
    }

    fn write_tracks(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut rows =
            vec![["track", "label", "from", "to", "end", "zones", "lines"].map(str::to_owned)];
        for (id, track) in &self.tracks {
            let facts = &track.facts;
            let since = |at: Instant| clock(at.saturating_duration_since(self.began_at));
            let zones: Vec<String> = facts
                .visited
                .iter()
                .map(|(zone, dwell)| format!("{zone} {:.1} s", dwell.as_secs_f64()))
                .collect();
            rows.push([
                id.to_string(),
                facts.label.to_string(),
                since(facts.first_seen_at),
                since(facts.last_seen_at),
                track.end.unwrap_or("-").to_owned(),
                zones.join(", "),
                track.crossings.join(", "),
            ]);
        }
        writeln!(out, "\ntracks: {}", self.tracks.len())?;
        if self.tracks.is_empty() {
            return Ok(());
        }
        let mut widths = [0; 7];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        for row in &rows {
            let cells = row.iter().zip(widths);
            let line: Vec<String> = cells
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            writeln!(out, "  {}", line.join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// The place of a fate among those of [`fates`].
fn place(fate: Fate) -> usize {
    match fate {
        Fate::Tracked(_) => 0,
        Fate::Reported => 1,
        Fate::Tentative => 2,
        Fate::Unclaimed => 3,
        Fate::Double(_) => 4,
        Fate::Suppressed(_) => 5,
        Fate::Masked => 6,
        Fate::ClassNotAsked => 7,
        Fate::BelowScore => 8,
    }
}

/// The fates with what each means for a camera with these settings.
fn fates(camera: &CameraConfig, least: f32) -> [(&'static str, String); 9] {
    let confirm = camera.track.confirm.as_millis();
    let low = if camera.track.enabled {
        format!(
            "below {least:.2}: `min_score` is {}, and tracks go on a little below it",
            camera.min_score
        )
    } else {
        format!("below `min_score`, which is {}", camera.min_score)
    };
    [
        ("tracked", "of a confirmed track".to_owned()),
        ("reported", "reported; tracks are off".to_owned()),
        (
            "tentative",
            format!(
                "of a track that was not confirmed yet: seen twice and `confirm_ms` ({confirm}) old"
            ),
        ),
        (
            "unclaimed",
            format!(
                "near no track, and below {:.2}, from which tracks begin",
                Tracker::birth_score(camera.min_score)
            ),
        ),
        (
            "double",
            "the same thing as a better candidate, by the tracker".to_owned(),
        ),
        (
            "suppressed",
            "the same thing as a better candidate, by the model's NMS".to_owned(),
        ),
        ("masked", "in one of the masks".to_owned()),
        (
            "classNotAsked",
            format!(
                "of another class than `classes`: {}",
                camera.classes.join(", ")
            ),
        ),
        ("belowScore", low),
    ]
}

/// A time of the clip in minutes, seconds and tenths.
pub(super) fn clock(time: Duration) -> String {
    let tenths = (time.as_millis() + 50) / 100;
    format!("{}:{:02}.{}", tenths / 600, tenths / 10 % 60, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_minutes_seconds_and_tenths() {
        let of = |ms| clock(Duration::from_millis(ms));
        assert_eq!(
            [of(0), of(9_949), of(61_250)],
            ["0:00.0", "0:09.9", "1:01.3"]
        );
    }

    #[test]
    fn the_table_knows_each_fate_by_its_name() {
        let all = [
            Fate::BelowScore,
            Fate::ClassNotAsked,
            Fate::Masked,
            Fate::Suppressed(0),
            Fate::Double(0),
            Fate::Unclaimed,
            Fate::Reported,
            Fate::Tentative,
            Fate::Tracked(1),
        ];
        let source = crate::config::ConfigSource::read(None, &crate::config::Env::default());
        let camera = source.unwrap().resolve_for_replay().unwrap().defaults;
        let table = fates(&camera, 0.35);
        for fate in all {
            assert_eq!(table[place(fate)].0, fate.as_str());
        }
    }
}
