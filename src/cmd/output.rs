//! Standard output: a command's result goes out, and it is remembered when nobody reads it any more.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

/// Set once whoever reads standard output has gone, so that what could not be written there is no failure of the command.
static READER_GONE: AtomicBool = AtomicBool::new(false);

/// True for an error of writing to standard output after its reader has gone.
pub(super) fn is_of_reader_gone(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref());
    READER_GONE.load(Ordering::Relaxed) && causes.any(is_broken_pipe)
}

/// Prints a line of the result. That its reader has gone is no error.
pub(super) fn print(line: &str) -> Result<()> {
    match writeln!(Output(io::stdout()), "{line}") {
        Err(error) if is_broken_pipe(&error) => Ok(()),
        result => result.context("the result cannot be written to standard output"),
    }
}

/// A writer to standard output that notes when its reader has gone.
pub(super) struct Output<W>(pub(super) W);

impl<W> Output<W> {
    fn noted<T>(result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result
            && is_broken_pipe(error)
        {
            READER_GONE.store(true, Ordering::Relaxed);
        }
        result
    }
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Self::noted(self.0.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Self::noted(self.0.flush())
    }
}

fn is_broken_pipe(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}
