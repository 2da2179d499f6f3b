//! Findings: each is a line of the check, with what was found and what to do. The checks make them; the command line prints them.

use std::fmt;

use serde::Serialize;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// All is as it should be.
    Ok,
    /// The node runs, and the operator may want to know.
    Warn,
    /// The node, or one of its cameras, does not work.
    Fail,
    /// This was not checked, because something that it depends on failed.
    Skip,
}

/// A line of the check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(super) severity: Severity,
    pub(super) subject: String,
    pub(super) found: String,
    /// What the operator is to do; empty if nothing.
    pub(super) remedy: String,
}

/// How many findings there were of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    looked_at: usize,
    warnings: usize,
    /// How many findings are failures.
    pub(crate) failures: usize,
    skipped: usize,
}

/// Passes findings on as they are made, and counts them.
pub(super) struct Report<'a> {
    tell: &'a mut (dyn FnMut(&Finding) + Send),
    pub(super) tally: Tally,
}

/// Why something does not work, and what to do.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) found: String,
    pub(super) remedy: String,
    /// True if the cause is on this machine, so that nothing the other side tells explains it.
    pub(super) is_local: bool,
}

impl Severity {
    /// The first word of the line.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Skip => "skip",
        }
    }
}

impl Finding {
    pub(super) fn ok(subject: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(Severity::Ok, subject, found, "")
    }

    pub(super) fn skip(subject: impl Into<String>, because: impl Into<String>) -> Self {
        let found = format!("skipped, because {}", because.into());
        Self::new(Severity::Skip, subject, found, "")
    }

    pub(super) fn new(
        severity: Severity,
        subject: impl Into<String>,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            severity,
            subject: subject.into(),
            found: found.into(),
            remedy: remedy.into(),
        }
    }

    pub(super) fn warn(
        subject: impl Into<String>,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(Severity::Warn, subject, found, remedy)
    }

    pub(super) fn fail(
        subject: impl Into<String>,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(Severity::Fail, subject, found, remedy)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = self.found.replace(['\n', '\r'], " ");
        write!(
            f,
            "{:<4}  {}: {found}",
            self.severity.as_str(),
            self.subject
        )?;
        if self.remedy.is_empty() {
            Ok(())
        } else {
            write!(f, "; {}", self.remedy)
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            looked_at,
            warnings,
            failures,
            skipped,
        } = self;
        write!(
            f,
            "{looked_at} things looked at: {failures} failed, {warnings} to be aware of, {skipped} skipped"
        )
    }
}

impl<'a> Report<'a> {
    pub(super) fn new(tell: &'a mut (dyn FnMut(&Finding) + Send)) -> Self {
        Self {
            tell,
            tally: Tally::default(),
        }
    }

    pub(super) fn add(&mut self, finding: Finding) {
        match finding.severity {
            Severity::Skip => self.tally.skipped += 1,
            Severity::Ok => self.tally.looked_at += 1,
            Severity::Warn => {
                self.tally.looked_at += 1;
                self.tally.warnings += 1;
            }
            Severity::Fail => {
                self.tally.looked_at += 1;
                self.tally.failures += 1;
            }
        }
        (self.tell)(&finding);
    }
}

impl Failure {
    pub(super) fn new(found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            found: found.into(),
            remedy: remedy.into(),
            is_local: false,
        }
    }

    /// A failure whose cause is on this machine.
    pub(super) fn here(found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            is_local: true,
            ..Self::new(found, remedy)
        }
    }
}
