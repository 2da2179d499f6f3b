//! Where the live table is drawn: lines come in, and go out over those that were drawn before if standard output is a terminal, else one
//! table follows the other.

use std::io::{self, Write};

use crate::dev::terminal::TerminalSize;

/// A terminal that does not tell its size is taken for one of this.
const USUAL: TerminalSize = TerminalSize {
    columns: 80,
    rows: 24,
};

/// What was drawn last.
#[derive(Debug)]
pub(super) struct Screen {
    over_itself: bool,
    /// Lines above the cursor that the next table takes the place of.
    lines: usize,
}

impl Screen {
    pub(super) fn new(over_itself: bool) -> Self {
        Self {
            over_itself,
            lines: 0,
        }
    }

    /// The room that there is, asked for each time, since windows are resized. `None` if there is no end of it.
    pub(super) fn size(&self) -> Option<TerminalSize> {
        self.over_itself
            .then(|| TerminalSize::of_stdout().unwrap_or(USUAL))
    }

    /// Draws these lines in place of the last ones.
    pub(super) fn draw(&mut self, out: &mut impl Write, lines: &[String]) -> io::Result<()> {
        let mut text = self.over_last();
        for line in lines {
            text += line;
            text.push('\n');
        }
        self.lines = lines.len();
        // In one piece, so that no half of a table is seen.
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// Says on a terminal what is waited for, until the next table takes its place.
    pub(super) fn wait(&mut self, out: &mut impl Write, what: &str) -> io::Result<()> {
        match self.over_itself {
            true => self.draw(out, &[what.to_owned()]),
            false => Ok(()),
        }
    }

    /// Takes the last lines away, where they would stay above what follows.
    pub(super) fn clear(&mut self, out: &mut impl Write) -> io::Result<()> {
        let text = self.over_last();
        self.lines = 0;
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// What brings the cursor to the first of the last lines, and takes these away.
    fn over_last(&self) -> String {
        match self.over_itself && self.lines > 0 {
            true => format!("\x1b[{}A\x1b[J", self.lines),
            false => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_takes_the_place_of_the_last_on_a_terminal_alone() {
        let drawn = |over_itself| {
            let mut screen = Screen::new(over_itself);
            let mut out = Vec::new();
            let lines = |words: &[&str]| {
                words
                    .iter()
                    .map(|&word| word.to_owned())
                    .collect::<Vec<_>>()
            };
            screen.wait(&mut out, "wait").unwrap();
            screen.clear(&mut out).unwrap();
            screen.draw(&mut out, &lines(&["a", "b"])).unwrap();
            screen.draw(&mut out, &lines(&["c"])).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(drawn(false), "a\nb\nc\n");
        assert_eq!(drawn(true), "wait\n\x1b[1A\x1b[Ja\nb\n\x1b[2A\x1b[Jc\n");
    }
}
