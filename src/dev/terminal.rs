//! What commands know of a terminal: whether colours are wanted, how large it is, and how wide a text is on it. Texts come in and
//! go out with or without colour, cut to a width.

use std::io::IsTerminal as _;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::config::Env;

/// What ends a text that was cut.
const CUT: char = '…';

/// Whether standard output is painted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colours {
    /// Texts are painted.
    On,
    /// Texts are left as they are.
    Off,
}

/// How a text is painted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paint {
    /// Of less interest than what is around it.
    Dim,
    /// The name of something.
    Bold,
    /// All is well.
    Green,
    /// Something is under way or worth a look.
    Yellow,
    /// Something is wrong.
    Red,
}

/// The size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TerminalSize {
    pub(crate) columns: usize,
    pub(crate) rows: usize,
}

impl Colours {
    /// Colours for standard output: on a terminal, unless `NO_COLOR` is set (<https://no-color.org>) or `TERM` is `dumb`; elsewhere
    /// only where `CLICOLOR_FORCE` is set to something else than 0.
    pub(crate) fn of_stdout(env: &Env) -> Self {
        Self::choose(env, std::io::stdout().is_terminal())
    }

    fn choose(env: &Env, is_terminal: bool) -> Self {
        let forced = env.get("CLICOLOR_FORCE").is_some_and(|value| value != "0");
        let refused = env.get("NO_COLOR").is_some();
        let able = is_terminal && env.get("TERM") != Some("dumb");
        match !refused && (forced || able) {
            true => Self::On,
            false => Self::Off,
        }
    }

    /// The text in a colour, if colours are on.
    pub(crate) fn paint(self, paint: Paint, text: &str) -> String {
        let code = match paint {
            _ if self == Self::Off => return text.to_owned(),
            Paint::Dim => 2,
            Paint::Bold => 1,
            Paint::Green => 32,
            Paint::Yellow => 33,
            Paint::Red => 31,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// True if standard output is a terminal on which the cursor can go up again.
pub(crate) fn can_draw_over(env: &Env) -> bool {
    std::io::stdout().is_terminal() && env.get("TERM") != Some("dumb")
}

impl TerminalSize {
    /// The size of the terminal that standard output is; `None` if it is none or does not know its size.
    pub(crate) fn of_stdout() -> Option<Self> {
        let stdout = std::io::stdout();
        if !stdout.is_terminal() {
            return None;
        }
        let size = rustix::termios::tcgetwinsize(stdout).ok()?;
        let known = size.ws_col > 0 && size.ws_row > 0;
        known.then_some(Self {
            columns: size.ws_col.into(),
            rows: size.ws_row.into(),
        })
    }
}

/// How many columns a text takes.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// The text in at most so many columns; what is cut off is told by `…`.
pub(crate) fn cut(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut shown = String::new();
    let mut room = columns.saturating_sub(1);
    for c in text.chars() {
        let needs = c.width().unwrap_or_default();
        if needs > room {
            break;
        }
        room -= needs;
        shown.push(c);
    }
    if columns > 0 {
        shown.push(CUT);
    }
    shown
}

/// The text with blanks behind it, so that it takes so many columns; one that is wider stays as it is.
pub(crate) fn pad(text: &str, columns: usize) -> String {
    let blanks = columns.saturating_sub(text.width());
    format!("{text}{}", " ".repeat(blanks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_decide_about_colours() {
        let choose = |variables: &[(&str, &str)], is_terminal| {
            let env: Env = variables.iter().copied().collect();
            Colours::choose(&env, is_terminal)
        };
        assert_eq!(choose(&[], true), Colours::On);
        assert_eq!(choose(&[], false), Colours::Off);
        assert_eq!(choose(&[("NO_COLOR", "1")], true), Colours::Off);
        assert_eq!(choose(&[("NO_COLOR", "")], true), Colours::On);
        assert_eq!(choose(&[("TERM", "dumb")], true), Colours::Off);
        assert_eq!(choose(&[("CLICOLOR_FORCE", "1")], false), Colours::On);
        assert_eq!(choose(&[("CLICOLOR_FORCE", "0")], false), Colours::Off);
        let both = [("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")];
        assert_eq!(choose(&both, true), Colours::Off);
    }

    #[test]
    fn a_text_is_cut_and_padded_by_the_columns_that_it_takes() {
        assert_eq!(cut("front door", 10), "front door");
        assert_eq!(cut("front door", 6), "front…");
        assert_eq!(cut("玄関カメラ", 10), "玄関カメラ");
        assert_eq!(cut("玄関カメラ", 6), "玄関…");
        assert_eq!(cut("x", 0), "");
        assert_eq!(pad("玄関", 6), "玄関  ");
        assert_eq!(pad("yard", 2), "yard");
        assert_eq!(width("玄関 1"), 6);
    }

    #[test]
    fn paint_ends_with_the_text() {
        assert_eq!(Colours::On.paint(Paint::Red, "x"), "\x1b[31mx\x1b[0m");
        assert_eq!(Colours::Off.paint(Paint::Red, "x"), "x");
    }
}
