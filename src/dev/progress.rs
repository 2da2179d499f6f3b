//! The progress bar of commands that take a while, on standard error; on a terminal alone.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of `length` steps with a message before it and `counts` behind it, in the words of `indicatif`'s templates.
pub(super) fn progress_bar(message: String, length: u64, counts: &str) -> ProgressBar {
    let bar = ProgressBar::new(length);
    if let Ok(style) = ProgressStyle::with_template(&format!("{{msg}} {{wide_bar}} {counts}")) {
        bar.set_style(style);
    }
    bar.set_message(message);
    bar
}
