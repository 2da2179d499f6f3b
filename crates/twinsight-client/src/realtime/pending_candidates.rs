//! Candidates that come before the offer that they belong to, for an acceptor: a candidate with its peer's key comes in, all
//! candidates of a peer go out when its offer has come. Peers make up their keys, so both the peers and the candidates of one
//! are bounded, and candidates that no offer follows are forgotten. The acceptor's task runs it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// At most this many candidates of one peer are kept.
pub(crate) const MAX_CANDIDATES: usize = 32;

/// At most this many peers have candidates kept.
const MAX_PEERS: usize = 64;

/// Candidates that no offer has followed for this long are forgotten.
const KEPT_FOR: Duration = Duration::from_secs(10);

/// The candidates that wait, by the key of their peer.
#[derive(Debug)]
pub(crate) struct PendingCandidates<T> {
    peers: HashMap<String, Waiting<T>>,
}

#[derive(Debug)]
struct Waiting<T> {
    since: Instant,
    candidates: Vec<T>,
}

impl<T> Default for PendingCandidates<T> {
    fn default() -> Self {
        Self {
            peers: HashMap::new(),
        }
    }
}

impl<T> PendingCandidates<T> {
    /// Keeps a candidate; false if there is no room for it.
    pub(crate) fn keep(&mut self, now: Instant, key: String, candidate: T) -> bool {
        self.forget(now);
        if let Some(waiting) = self.peers.get_mut(&key) {
            let has_room = waiting.candidates.len() < MAX_CANDIDATES;
            if has_room {
                waiting.candidates.push(candidate);
            }
            return has_room;
        }
        if self.peers.len() >= MAX_PEERS {
            return false;
        }
        self.peers.insert(
            key,
            Waiting {
                since: now,
                candidates: vec![candidate],
            },
        );
        true
    }

    /// Takes out the candidates of a peer whose offer has come.
    pub(crate) fn take(&mut self, now: Instant, key: &str) -> Vec<T> {
        self.forget(now);
        self.peers
            .remove(key)
            .map(|waiting| waiting.candidates)
            .unwrap_or_default()
    }

    fn forget(&mut self, now: Instant) {
        self.peers
            .retain(|_, waiting| now.saturating_duration_since(waiting.since) < KEPT_FOR);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_wait_for_their_offer_and_no_longer() {
        let (mut early, start) = (PendingCandidates::default(), Instant::now());
        assert!(early.keep(start, "a".to_owned(), 1) && early.keep(start, "a".to_owned(), 2));
        assert!(early.take(start, "b").is_empty());
        assert_eq!(early.take(start, "a"), [1, 2]);
        assert!(early.keep(start, "a".to_owned(), 3));
        assert!(early.take(start + KEPT_FOR, "a").is_empty());
    }

    #[test]
    fn neither_many_candidates_nor_many_peers_take_more_room() {
        let (mut early, start) = (PendingCandidates::default(), Instant::now());
        let kept = (0..1000)
            .filter(|n| early.keep(start, "a".to_owned(), *n))
            .count();
        assert_eq!(kept, MAX_CANDIDATES);
        let kept = (0..10_000)
            .filter(|n| early.keep(start, format!("peer-{n}"), *n))
            .count();
        assert_eq!(kept, MAX_PEERS - 1);
        let later = start + KEPT_FOR;
        assert!(
            early.keep(later, "late".to_owned(), 1),
            "the others were forgotten"
        );
        assert_eq!(early.peers.len(), 1);
    }
}
