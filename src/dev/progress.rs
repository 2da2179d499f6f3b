//! Progress of commands that take a while, on standard error: a bar where that is a terminal, else a line of the log from time to
//! time.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How often a line comes.
const INTERVAL: Duration = Duration::from_secs(10);

/// Makes a bar of `length` steps with a message before it and `counts`, a template of `indicatif`, behind it. It is drawn on
/// standard error, if that is a terminal.
pub(super) fn progress_bar(message: String, length: u64, counts: &str) -> ProgressBar {
    let bar = ProgressBar::new(length);
    if let Ok(style) = ProgressStyle::with_template(&format!("{{msg}} {{wide_bar}} {counts}")) {
        bar.set_style(style);
    }
    bar.set_message(message);
    bar
}

/// The progress with the frames of a clip.
#[derive(Debug)]
pub(super) enum FrameProgress {
    /// Standard error is a terminal.
    Bar(ProgressBar),
    /// Standard error is a file or a pipe.
    Lines(ProgressLines),
}

/// Says where a long work stands, once in a while.
#[derive(Debug)]
pub(super) struct ProgressLines {
    name: String,
    done: usize,
    total: usize,
    began_at: Instant,
    told_at: Instant,
}

impl FrameProgress {
    pub(super) fn new(name: String, frames: usize, now: Instant) -> Self {
        if std::io::stderr().is_terminal() {
            let length = u64::try_from(frames).unwrap_or(u64::MAX);
            Self::Bar(progress_bar(name, length, "{pos}/{len} frames, {eta} left"))
        } else {
            Self::Lines(ProgressLines::new(name, frames, now))
        }
    }

    /// One more frame is done.
    pub(super) fn step(&mut self, now: Instant) {
        match self {
            Self::Bar(bar) => bar.inc(1),
            Self::Lines(lines) => {
                if let Some(line) = lines.step(now) {
                    tracing::info!("{line}");
                }
            }
        }
    }

    pub(super) fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

impl ProgressLines {
    fn new(name: String, total: usize, now: Instant) -> Self {
        Self {
            name,
            done: 0,
            total,
            began_at: now,
            told_at: now,
        }
    }

    /// Counts a frame, and gives the line that is due.
    fn step(&mut self, now: Instant) -> Option<String> {
        self.done += 1;
        if now.saturating_duration_since(self.told_at) < INTERVAL || self.done >= self.total {
            return None;
        }
        self.told_at = now;
        let spent = now.saturating_duration_since(self.began_at);
        let frames = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let left = spent / frames(self.done) * frames(self.total - self.done);
        let left = match left.as_secs() {
            seconds @ ..120 => format!("{} s", seconds.max(1)),
            seconds => format!("{} min", (seconds + 30) / 60),
        };
        let Self {
            name, done, total, ..
        } = self;
        Some(format!("{name}: {done} of {total} frames, {left} left"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_every_ten_seconds_and_not_at_the_end() {
        let began = Instant::now();
        let mut lines = ProgressLines::new("clip.mp4".to_owned(), 795, began);
        let mut told = Vec::new();
        for frame in 1..=795 {
            let now = began + Duration::from_millis(40) * frame;
            told.extend(lines.step(now));
        }
        assert_eq!(
            told,
            [
                "clip.mp4: 250 of 795 frames, 21 s left",
                "clip.mp4: 500 of 795 frames, 11 s left",
                "clip.mp4: 750 of 795 frames, 1 s left",
            ]
        );
    }

    #[test]
    fn a_short_clip_has_no_line_and_a_long_one_has_minutes() {
        let began = Instant::now();
        let mut short = ProgressLines::new("a".to_owned(), 2, began);
        assert_eq!(short.step(began + Duration::from_secs(9)), None);
        assert_eq!(
            short.step(began + Duration::from_secs(30)),
            None,
            "it is done"
        );
        let mut long = ProgressLines::new("b".to_owned(), 100, began);
        let line = long.step(began + Duration::from_secs(10)).unwrap();
        assert_eq!(line, "b: 1 of 100 frames, 17 min left");
    }
}
