//! How far two models agree: what each saw on the same pictures comes in; how many of its objects the other has too goes out. Labels are
//! compared by their names, since two models may number them differently.

use std::collections::BTreeSet;

use crate::detect::{BBox, ModelInfo, Object};

/// The overlaps from which on two boxes are of one object.
const IOUS: [f32; 2] = [0.5, 0.7];

/// An object that a model saw.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seen {
    pub(super) label: String,
    pub(super) score: f32,
    pub(super) bbox: BBox,
}

/// What two models have in common.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Agreement {
    /// How many objects the first one saw.
    pub(super) a: usize,
    /// How many objects the second one saw.
    pub(super) b: usize,
    /// How many pairs there are at each overlap.
    matched: [usize; 2],
    /// The sum of what the second one's score is higher, over the pairs of the smaller overlap.
    difference: f64,
    /// Labels that only one of them saw.
    pub(super) only_a: Vec<String>,
    pub(super) only_b: Vec<String>,
}

impl Seen {
    pub(super) fn of(object: &Object, model: &ModelInfo) -> Self {
        Self {
            label: model.label(object.class_id).to_owned(),
            score: object.score,
            bbox: object.bbox,
        }
    }
}

impl Agreement {
    /// Compares what was seen, picture by picture.
    pub(super) fn of(a: &[Vec<Seen>], b: &[Vec<Seen>]) -> Self {
        let mut agreement = Self {
            a: a.iter().map(Vec::len).sum(),
            b: b.iter().map(Vec::len).sum(),
            ..Self::default()
        };
        for (a, b) in a.iter().zip(b) {
            for (at, least) in IOUS.into_iter().enumerate() {
                for (first, second) in pairs(a, b, least) {
                    agreement.matched[at] += 1;
                    if at == 0 {
                        agreement.difference += f64::from(second.score) - f64::from(first.score);
                    }
                }
            }
        }
        let labels = |all: &[Vec<Seen>]| -> BTreeSet<String> {
            all.iter()
                .flatten()
                .map(|seen| seen.label.clone())
                .collect()
        };
        let (in_a, in_b) = (labels(a), labels(b));
        agreement.only_a = in_a.difference(&in_b).cloned().collect();
        agreement.only_b = in_b.difference(&in_a).cloned().collect();
        agreement
    }

    /// The share of the first one's objects that the second one has too, at one of the overlaps.
    pub(super) fn share_of_a(&self, at: usize) -> Option<f64> {
        share(self.matched[at], self.a)
    }

    /// The share of the second one's objects that the first one has too.
    pub(super) fn share_of_b(&self, at: usize) -> Option<f64> {
        share(self.matched[at], self.b)
    }

    /// By how much the second one's scores are higher, in the mean over what both have.
    pub(super) fn mean_difference(&self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "there are far fewer than 2^52")]
        let count = self.matched[0] as f64;
        (count > 0.0).then(|| self.difference / count)
    }
}

#[expect(clippy::cast_precision_loss, reason = "there are far fewer than 2^52")]
fn share(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Pairs of objects of one label that overlap at least so much, the largest overlaps first, each object in one pair at most.
fn pairs<'a>(a: &'a [Seen], b: &'a [Seen], least: f32) -> Vec<(&'a Seen, &'a Seen)> {
    let mut all = Vec::new();
    for (i, first) in a.iter().enumerate() {
        for (j, second) in b.iter().enumerate() {
            let iou = iou(&first.bbox, &second.bbox);
            if first.label == second.label && iou >= least {
                all.push((iou, i, j));
            }
        }
    }
    all.sort_by(|x, y| y.0.total_cmp(&x.0));
    let (mut used_a, mut used_b) = (BTreeSet::new(), BTreeSet::new());
    let mut found = Vec::new();
    for (_, i, j) in all {
        if !used_a.contains(&i) && !used_b.contains(&j) {
            used_a.insert(i);
            used_b.insert(j);
            found.push((&a[i], &b[j]));
        }
    }
    found
}

fn iou(a: &BBox, b: &BBox) -> f32 {
    let width = (a.x + a.width).min(b.x + b.width) - a.x.max(b.x);
    let height = (a.y + a.height).min(b.y + b.height) - a.y.max(b.y);
    let shared = width.max(0.0) * height.max(0.0);
    let all = a.width * a.height + b.width * b.height - shared;
    if all > 0.0 { shared / all } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(label: &str, score: f32, x: f32) -> Seen {
        Seen {
            label: label.to_owned(),
            score,
            bbox: BBox {
                x,
                y: 0.0,
                width: 10.0,
                height: 10.0,
            },
        }
    }

    #[test]
    fn objects_are_paired_once_by_label_and_place() {
        let a = [vec![seen("person", 0.8, 0.0), seen("car", 0.5, 100.0)]];
        let b = [vec![
            seen("person", 0.9, 1.0),
            seen("person", 0.7, 2.0),
            seen("truck", 0.6, 100.0),
        ]];
        let agreement = Agreement::of(&a, &b);
        assert_eq!(
            (agreement.a, agreement.b, agreement.matched),
            (2, 3, [1, 1])
        );
        assert_eq!(agreement.share_of_a(0), Some(0.5));
        assert!((agreement.mean_difference().unwrap() - 0.1).abs() < 1e-6);
        assert_eq!(agreement.only_a, ["car"]);
        assert_eq!(agreement.only_b, ["truck"]);
    }

    #[test]
    fn nothing_seen_is_no_agreement() {
        let agreement = Agreement::of(&[vec![]], &[vec![]]);
        assert_eq!(
            (agreement.share_of_a(0), agreement.mean_difference()),
            (None, None)
        );
    }

    #[test]
    fn a_smaller_overlap_counts_for_the_smaller_limit() {
        // 10 x 10 boxes that are 2.5 apart share 75 of 125.
        let agreement = Agreement::of(&[vec![seen("a", 0.5, 0.0)]], &[vec![seen("a", 0.5, 2.5)]]);
        assert_eq!(agreement.matched, [1, 0]);
    }
}
