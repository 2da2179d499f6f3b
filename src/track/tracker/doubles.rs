//! Objects that are seen twice in a picture. The observations of a look come in with the best score first, and each goes out
//! alone or as the double of a better one. The detector's own suppression leaves pairs that overlap a little less, and half
//! persons within whole ones, which would become tracks of their own.

use super::geometry::{LooseBox, Sweep};
use crate::track::Observation;

/// Boxes of one label that share this much, as intersection over union, are of one object.
const SAME_IOU: f32 = 0.45;
/// A box of which this part lies in a better one of its label is a part of the same object.
const PART_INSIDE: f32 = 0.75;
/// Boxes of different labels are of one object only if they are nearly the same: a rider is not the bicycle.
const OTHER_LABEL_IOU: f32 = 0.7;

/// Finds doubles, in memory that it keeps from look to look.
#[derive(Debug, Default)]
pub(super) struct Doubles {
    sweep: Sweep,
    /// For each observation, in the order of scores: the better one that it is a double of.
    of: Vec<Option<usize>>,
}

impl Doubles {
    /// For each observation, as numbered in `order` with the best score first: the place in `order` of the better one that it
    /// doubles. Doubles of doubles count as single.
    pub(super) fn find(
        &mut self,
        observations: &[Observation],
        order: &[usize],
    ) -> &[Option<usize>] {
        let at = |place: usize| &observations[order[place]];
        let boxes = (0..order.len()).map(|place| (place, LooseBox::from(at(place).bbox)));
        self.sweep.fill(boxes);
        self.of.clear();
        for place in 0..order.len() {
            let this = at(place);
            let bbox = LooseBox::from(this.bbox);
            let better = self.sweep.near(&bbox).filter(|&other| {
                other < place
                    && self.of[other].is_none()
                    && is_double(&bbox, &at(other).bbox.into(), this.label == at(other).label)
            });
            let best = better.min();
            self.of.push(best);
        }
        &self.of
    }
}

fn is_double(worse: &LooseBox, better: &LooseBox, same_label: bool) -> bool {
    let iou = worse.iou(better);
    if same_label {
        iou > SAME_IOU || worse.part_in(better) > PART_INSIDE
    } else {
        iou > OTHER_LABEL_IOU
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::track::{LabelId, RelativeBox};

    fn observation(x1: f32, y1: f32, x2: f32, y2: f32, label: u16) -> Observation {
        Observation {
            bbox: RelativeBox::new(x1, y1, x2, y2).unwrap(),
            score: 0.5,
            label: LabelId(label),
        }
    }

    fn doubles(observations: &[Observation]) -> Vec<Option<usize>> {
        let order: Vec<_> = (0..observations.len()).collect();
        Doubles::default().find(observations, &order).to_vec()
    }

    #[test]
    fn the_same_box_twice_and_half_a_person() {
        let whole = observation(0.4, 0.2, 0.5, 0.6, 0);
        let shifted = observation(0.41, 0.22, 0.51, 0.61, 0);
        let torso = observation(0.4, 0.2, 0.5, 0.4, 0);
        let beside = observation(0.5, 0.2, 0.6, 0.6, 0);
        let found = doubles(&[whole, shifted, torso, beside]);
        assert_eq!(found, [None, Some(0), Some(0), None]);
    }

    #[test]
    fn a_double_takes_nothing_with_it() {
        // Each shares 60 % with the next, and the third shares little with the first.
        let row: Vec<_> = [0.0, 0.1, 0.2]
            .map(|x| observation(0.2 + x, 0.2, 0.6 + x, 0.6, 0))
            .to_vec();
        assert_eq!(doubles(&row), [None, Some(0), None]);
    }

    #[test]
    fn a_person_in_a_car_is_a_person_and_a_truck_on_a_car_is_a_double() {
        let car = observation(0.2, 0.2, 0.8, 0.8, 2);
        let person = observation(0.4, 0.3, 0.5, 0.7, 0);
        let truck = observation(0.21, 0.21, 0.8, 0.8, 7);
        assert_eq!(doubles(&[car, person, truck]), [None, None, Some(0)]);
    }
}
