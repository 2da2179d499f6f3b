//! What is missing between the events of a node. The run and the number of each event come in; that events were missed, or that the
//! node began anew, goes out.

use std::collections::HashMap;

/// Camera streams whose numbers are remembered. More than a node has; whoever makes up names finds that all are forgotten.
const MAX_STREAMS: usize = 4096;

/// Runs that are remembered, so that two nodes with the same twin are told once each and not with every event.
const MAX_RUNS: usize = 16;

/// What the number of an event tells.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Noticed {
    /// The event is of a run that was not seen before, and it is not the first run.
    pub(super) new_run: bool,
    /// So many events of its camera stream did not come.
    pub(super) missed: u64,
}

/// The numbers that came last.
#[derive(Debug, Default)]
pub(super) struct Sequences {
    runs: Vec<String>,
    last: HashMap<(String, String), u64>,
}

impl Sequences {
    /// Takes the number of an event of a camera stream in a run of the node.
    pub(super) fn note(&mut self, run: &str, stream: &str, sequence: u64) -> Noticed {
        let mut noticed = Noticed::default();
        if !self.runs.iter().any(|known| known == run) {
            noticed.new_run = !self.runs.is_empty();
            if self.runs.len() >= MAX_RUNS {
                self.runs.remove(0);
            }
            self.runs.push(run.to_owned());
        }
        if self.last.len() >= MAX_STREAMS {
            self.last.clear();
        }
        let last = self
            .last
            .insert((run.to_owned(), stream.to_owned()), sequence);
        // A camera that was taken out of the configuration for long begins with 1 again, which is no loss.
        if let Some(last) = last {
            noticed.missed = sequence.saturating_sub(last.saturating_add(1));
        }
        noticed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_told_for_each_stream_by_itself() {
        let mut sequences = Sequences::default();
        let mut missed = |stream, sequence| sequences.note("run", stream, sequence).missed;
        assert_eq!(missed("a", 7), 0, "what came before is not known");
        assert_eq!(missed("b", 100), 0);
        assert_eq!(missed("a", 8), 0);
        assert_eq!(missed("a", 12), 3);
        assert_eq!(missed("b", 101), 0);
        assert_eq!(missed("a", 1), 0, "the camera was removed and came back");
        assert_eq!(missed("a", u64::MAX), u64::MAX - 2);
        assert_eq!(missed("a", u64::MAX), 0);
    }

    #[test]
    fn a_run_is_new_once() {
        let mut sequences = Sequences::default();
        let mut new_run = |run: &str, sequence| sequences.note(run, "a", sequence);
        assert!(!new_run("one", 5).new_run);
        let restarted = Noticed {
            new_run: true,
            missed: 0,
        };
        assert_eq!(new_run("two", 1), restarted);
        // Two nodes with the same twin take turns.
        assert_eq!(new_run("one", 6), Noticed::default());
        assert_eq!(new_run("two", 2), Noticed::default());
        for n in 0..100 {
            new_run(&format!("run {n}"), 1);
        }
        assert_eq!(sequences.runs.len(), MAX_RUNS);
    }

    #[test]
    fn made_up_streams_cost_no_memory_without_end() {
        let mut sequences = Sequences::default();
        for n in 0..10_000 {
            sequences.note("run", &n.to_string(), 1);
        }
        assert!(sequences.last.len() <= MAX_STREAMS);
    }
}
