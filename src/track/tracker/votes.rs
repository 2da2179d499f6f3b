//! What a track was taken for. Labels come in with the time for which they were seen, and the one that it was taken for most of its
//! life goes out. The weight is time and not looks, so that the rate of frames does not matter.

use crate::track::LabelId;

/// This many labels of a track are remembered. What is mistaken is mistaken for one or two other things.
const REMEMBERED: usize = 4;
/// A first sighting counts as this many seconds, so that there is a label from the beginning.
pub(super) const FIRST_SIGHTING_S: f32 = 1e-3;

/// The labels of a track and the weight of each.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Votes {
    /// The first ones are taken, up to a weight of 0.
    weights: [(LabelId, f32); REMEMBERED],
}

impl Votes {
    pub(super) fn new(label: LabelId, score: f32) -> Self {
        let mut votes = Self {
            weights: [(label, 0.0); REMEMBERED],
        };
        votes.add(label, FIRST_SIGHTING_S, score);
        votes
    }

    /// Takes in a sighting that stands for this many seconds.
    pub(super) fn add(&mut self, label: LabelId, seconds: f32, score: f32) {
        let weight = seconds * score;
        let known = |entry: &&mut (LabelId, f32)| entry.0 == label && entry.1 > 0.0;
        if let Some(entry) = self.weights.iter_mut().find(known) {
            entry.1 += weight;
            return;
        }
        // With all places taken the newcomer gets the least one's place and weight, so that a label that is seen again
        // and again has its turn.
        let least = self
            .weights
            .iter_mut()
            .min_by(|a, b| a.1.total_cmp(&b.1))
            .expect("there is room for labels, because REMEMBERED is not 0");
        *least = (label, least.1 + weight);
    }

    /// The label of most weight.
    pub(super) fn majority(&self) -> LabelId {
        let most = self.weights.iter().max_by(|a, b| a.1.total_cmp(&b.1));
        most.expect("there is a label, because `new` adds one").0
    }

    /// Whether it was ever taken for this, as far as is remembered.
    pub(super) fn knows(&self, label: LabelId) -> bool {
        self.weights
            .iter()
            .any(|(known, weight)| *known == label && *weight > 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAR: LabelId = LabelId(2);
    const TRUCK: LabelId = LabelId(7);

    #[test]
    fn the_longest_wins_and_not_the_most_frequent() {
        let mut votes = Votes::new(TRUCK, 0.9);
        assert_eq!(votes.majority(), TRUCK);
        (0..20).for_each(|_| votes.add(TRUCK, 0.03, 0.6));
        votes.add(CAR, 1.0, 0.6);
        assert_eq!(votes.majority(), CAR);
        assert!(votes.knows(TRUCK) && !votes.knows(LabelId(0)));
    }

    #[test]
    fn many_labels_fit_into_little() {
        let mut votes = Votes::new(CAR, 0.9);
        for n in 0..1000 {
            votes.add(LabelId(n), 0.1, 0.5);
            votes.add(CAR, 0.5, 0.9);
        }
        assert_eq!(votes.majority(), CAR);
    }
}
