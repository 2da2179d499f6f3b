//! The progress bar of commands that take a while. It is drawn on standard error, if that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// Makes a bar of `length` steps with a message before it and `counts`, a template of `indicatif`, behind it.
pub(super) fn progress_bar(message: String, length: u64, counts: &str) -> ProgressBar {
    let bar = ProgressBar::new(length);
    if let Ok(style) = ProgressStyle::with_template(&format!("{{msg}} {{wide_bar}} {counts}")) {
        bar.set_style(style);
    }
    bar.set_message(message);
    bar
}
