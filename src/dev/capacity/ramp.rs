//! The search for the number of cameras that the machine carries: the outcome of each step comes in, the number to try next goes
//! out, until the answer is known. The command runs it.

/// The search ends when the gap is at most this part (a tenth) of the cameras that are carried, since less is not worth a step.
const PRECISION: usize = 10;

/// The search. It doubles the cameras while they are carried, or quadruples them while that is easy, then halves the gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ramp {
    found: Found,
    /// The factor by which the number grows while none is known that is not carried.
    factor: usize,
    /// No more cameras than this are tried.
    most: usize,
}

/// The outcome of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Its cameras are carried, and took less than a quarter of the machine.
    Easy,
    /// Its cameras are carried.
    Carried,
    /// Its cameras are not carried.
    Refused,
}

/// What is known about the number that is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// This number is carried (0 if nothing was tried), and none is known that is not.
    AtLeast(usize),
    /// The first number is carried (0 if not even one camera is), the second one is not.
    Between(usize, usize),
}

impl Ramp {
    /// A search that begins with one camera and tries no more than `most`.
    pub(super) fn new(most: usize) -> Self {
        Self {
            found: Found::AtLeast(0),
            factor: 2,
            most: most.max(1),
        }
    }

    /// How many cameras the next step has; `None` if the answer is known.
    pub(super) fn next(&self) -> Option<usize> {
        match self.found {
            Found::AtLeast(0) => Some(1),
            Found::AtLeast(carried) if carried >= self.most => None,
            Found::AtLeast(carried) => Some((self.factor * carried).min(self.most)),
            Found::Between(carried, refused) => {
                let gap = refused - carried;
                (gap > (carried / PRECISION).max(1)).then_some(carried + gap / 2)
            }
        }
    }

    /// Notes the outcome of a step.
    pub(super) fn note(&mut self, cameras: usize, outcome: Outcome) {
        self.factor = if outcome == Outcome::Easy { 4 } else { 2 };
        self.found = match (self.found, outcome) {
            (Found::AtLeast(below) | Found::Between(below, _), Outcome::Refused) => {
                Found::Between(below, cameras)
            }
            (Found::AtLeast(_), _) => Found::AtLeast(cameras),
            (Found::Between(_, above), _) => Found::Between(cameras, above),
        };
    }

    /// What is known so far.
    pub(super) fn found(&self) -> Found {
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs it on a machine that carries `capacity` cameras; gives the steps and the end.
    fn on_a_machine_of(capacity: usize, most: usize) -> (Vec<usize>, Found) {
        let mut ramp = Ramp::new(most);
        let mut steps = Vec::new();
        while let Some(cameras) = ramp.next() {
            assert!(!steps.contains(&cameras), "{cameras} again after {steps:?}");
            steps.push(cameras);
            ramp.note(
                cameras,
                if cameras > capacity {
                    Outcome::Refused
                } else if 4 * cameras < capacity {
                    Outcome::Easy
                } else {
                    Outcome::Carried
                },
            );
        }
        (steps, ramp.found())
    }

    #[test]
    fn it_grows_and_then_halves_the_gap() {
        assert_eq!(
            on_a_machine_of(5, 128),
            (vec![1, 4, 8, 6, 5], Found::Between(5, 6))
        );
        assert_eq!(
            on_a_machine_of(2, 128),
            (vec![1, 2, 4, 3], Found::Between(2, 3))
        );
    }

    #[test]
    fn a_machine_that_carries_nothing_ends_it_at_once() {
        assert_eq!(on_a_machine_of(0, 128), (vec![1], Found::Between(0, 1)));
    }

    #[test]
    fn no_more_are_tried_than_there_may_be() {
        assert_eq!(
            on_a_machine_of(1000, 48),
            (vec![1, 4, 16, 48], Found::AtLeast(48))
        );
    }

    #[test]
    fn every_machine_is_found_to_a_tenth_within_ten_steps() {
        for capacity in 0..128 {
            let (steps, found) = on_a_machine_of(capacity, 128);
            let Found::Between(carried, refused) = found else {
                panic!("{capacity}: {found:?}");
            };
            assert!((carried..refused).contains(&capacity), "{found:?}");
            assert!(refused - carried <= (carried / 10).max(1), "{found:?}");
            assert!(steps.len() <= 10, "{capacity}: {steps:?}");
        }
    }
}
