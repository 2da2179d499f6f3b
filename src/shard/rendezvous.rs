//! Weighted rendezvous hashing: which of the living nodes a camera is meant for. Names and capacities come in, and every node that
//! knows the same nodes computes the same answer, without asking anybody.
//!
//! Each node has a score for each camera, and the highest one wins: `-capacity / ln(h)`, where `h` between 0 and 1 is made of both
//! names. A node that comes only takes cameras to itself, and one that goes only gives up its own; shares follow the capacities.
//! `h` is made so that it can be computed anywhere: the first 8 bytes of the SHA-256 of each name, big end first, are the numbers
//! `n` (node) and `c` (camera), and `h = (mix(n ^ mix(c)) >> 11 + ½) / 2⁵³`, where `mix` is the finaliser of splitmix64.

use std::sync::Arc;

use sha2::{Digest, Sha256};

/// A node that cameras may be meant for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Candidate {
    pub(super) name: Arc<str>,
    digest: u64,
    capacity: f64,
}

/// What a camera's name is made to before it is compared with nodes.
#[derive(Debug, Clone, Copy)]
pub(super) struct CameraDigest(u64);

impl CameraDigest {
    pub(super) fn new(camera: &str) -> Self {
        Self(mix(digest(camera)))
    }
}

impl Candidate {
    pub(super) fn new(name: Arc<str>, capacity: u32) -> Self {
        Self {
            digest: digest(&name),
            name,
            capacity: f64::from(capacity),
        }
    }

    fn score(&self, camera: CameraDigest) -> f64 {
        // 53 bits fit into a double, and the half keeps both ends of the range out.
        let bits = mix(self.digest ^ camera.0) >> 11;
        let high = f64::from(u32::try_from(bits >> 32).unwrap_or_default());
        let low = f64::from(u32::try_from(bits & 0xffff_ffff).unwrap_or_default());
        let h = (high * 4_294_967_296.0 + low + 0.5) / 9_007_199_254_740_992.0;
        -self.capacity / h.ln()
    }
}

/// The place in the list of the node that a camera is meant for. `None` without any node.
pub(super) fn target(candidates: &[Candidate], camera: CameraDigest) -> Option<usize> {
    let mut best: Option<(f64, usize)> = None;
    for (at, candidate) in candidates.iter().enumerate() {
        let score = candidate.score(camera);
        let is_better = best.is_none_or(|(highest, before)| {
            score > highest || (score == highest && candidate.name < candidates[before].name)
        });
        if is_better {
            best = Some((score, at));
        }
    }
    best.map(|(_, at)| at)
}

/// How many nodes a camera is meant for before this one.
pub(super) fn rank(candidates: &[Candidate], own: usize, camera: CameraDigest) -> usize {
    let own_score = candidates[own].score(camera);
    let before = |candidate: &&Candidate| candidate.score(camera) > own_score;
    candidates.iter().filter(before).count()
}

fn digest(name: &str) -> u64 {
    let hash = Sha256::digest(name.as_bytes());
    let first: [u8; 8] = std::array::from_fn(|at| hash[at]);
    u64::from_be_bytes(first)
}

/// The finaliser of splitmix64: every bit of the result depends on every bit of what comes in.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn nodes(count: usize) -> Vec<Candidate> {
        (0..count)
            .map(|n| Candidate::new(format!("node-{n}").into(), 10))
            .collect()
    }

    fn cameras(count: usize) -> Vec<CameraDigest> {
        (0..count)
            .map(|n| CameraDigest::new(&format!("camera-{n}")))
            .collect()
    }

    fn targets(nodes: &[Candidate], cameras: &[CameraDigest]) -> Vec<Arc<str>> {
        let name = |at: usize| Arc::clone(&nodes[at].name);
        let targets = cameras.iter().map(|camera| target(nodes, *camera));
        targets.map(|at| name(at.unwrap())).collect()
    }

    fn moved(before: &[Arc<str>], after: &[Arc<str>]) -> f64 {
        let moved = before.iter().zip(after).filter(|(one, other)| one != other);
        moved.count() as f64 / before.len() as f64
    }

    #[test]
    fn the_hash_is_the_one_that_is_written_down() {
        assert_eq!(digest("camera-front-door"), 0x566b_6836_d014_21ce);
        assert_eq!(mix(1), 0x5692_161d_100b_05e5);
        let nodes = nodes(5);
        let of = |camera: &str| target(&nodes, CameraDigest::new(camera)).unwrap();
        let all: Vec<usize> = ["camera-0", "camera-1", "camera-2", "camera-3"]
            .map(of)
            .to_vec();
        assert_eq!(all, [4, 0, 0, 4]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_node_that_comes_takes_cameras_to_itself_alone(
            names in prop::collection::btree_set("[a-z]{1,12}", 2..40),
            capacities in prop::collection::vec(1_u32..200, 40),
        ) {
            let all: Vec<Candidate> = names
                .iter()
                .zip(capacities)
                .map(|(name, capacity)| Candidate::new(name.as_str().into(), capacity))
                .collect();
            let cameras = cameras(200);
            let (newest, fewer) = all.split_last().unwrap();
            let (before, after) = (targets(fewer, &cameras), targets(&all, &cameras));
            for (before, after) in before.iter().zip(&after) {
                prop_assert!(before == after || *after == newest.name);
            }
            // The order of the list says nothing.
            let mut turned = all.clone();
            turned.reverse();
            prop_assert_eq!(targets(&turned, &cameras), after);
            let own = all.len() - 1;
            for camera in &cameras {
                prop_assert_eq!(rank(&all, own, *camera) == 0, target(&all, *camera) == Some(own));
            }
        }
    }

    #[test]
    fn shares_follow_the_capacities() {
        let nodes: Vec<Candidate> = [5, 10, 20, 40]
            .into_iter()
            .map(|capacity| Candidate::new(format!("n{capacity}").into(), capacity))
            .collect();
        let mut shares: BTreeMap<Arc<str>, f64> = BTreeMap::new();
        for target in targets(&nodes, &cameras(20_000)) {
            *shares.entry(target).or_default() += 1.0 / 20_000.0;
        }
        for (name, capacity) in [("n5", 5.0), ("n10", 10.0), ("n20", 20.0), ("n40", 40.0)] {
            let (share, fair) = (shares[name], capacity / 75.0);
            assert!(
                (share / fair - 1.0).abs() < 0.1,
                "{name}: {share} of {fair}"
            );
        }
    }

    #[test]
    fn of_a_thousand_nodes_one_more_or_less_moves_its_share() {
        const NODES: usize = 1_000;
        let cameras = cameras(20_000);
        let all = nodes(NODES + 10);
        let before = targets(&all[..NODES], &cameras);
        let mut fewest = usize::MAX;
        let mut most = 0;
        let mut counts: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for target in &before {
            *counts.entry(target).or_default() += 1;
        }
        for count in counts.values() {
            (fewest, most) = (fewest.min(*count), most.max(*count));
        }
        println!("20000 cameras on {NODES} nodes: {fewest} to {most} cameras a node");
        // One node of a thousand has 20 cameras give or take the root of that, so that a single one says little: the mean of several
        // is what the bound is about.
        let mut shares = Vec::new();
        for n in 0..10 {
            let mut more = all[..NODES].to_vec();
            more.push(all[NODES + n].clone());
            let share = moved(&before, &targets(&more, &cameras));
            println!(
                "adding node {}: {:.5} moved, 1/N is {:.5}",
                NODES + n,
                share,
                1.0 / 1001.0
            );
            shares.push(share * 1001.0);
        }
        let mean = shares.iter().sum::<f64>() / 10.0;
        assert!(mean <= 1.3, "adding one moved {mean} of its share");
        let ten = moved(&before, &targets(&all, &cameras));
        println!(
            "adding 10 nodes: {ten:.5} moved, 10/N is {:.5}",
            10.0 / 1010.0
        );
        assert!(ten <= 1.3 * 10.0 / 1010.0, "{ten}");
        let fewer = moved(&before, &targets(&all[10..NODES], &cameras));
        println!(
            "removing 10 nodes: {fewer:.5} moved, 10/N is {:.5}",
            10.0 / 1000.0
        );
        assert!(fewer <= 1.3 * 10.0 / 1000.0, "{fewer}");
    }

    #[test]
    fn of_five_nodes_one_more_or_less_moves_its_share() {
        let cameras = cameras(20_000);
        let all = nodes(6);
        let before = targets(&all[..5], &cameras);
        let more = moved(&before, &targets(&all, &cameras));
        let fewer = moved(&before, &targets(&all[1..5], &cameras));
        println!("a sixth of 5 nodes: {more:.4} moved; one of 5 less: {fewer:.4}");
        assert!(more <= 1.3 / 6.0 && fewer <= 1.3 / 5.0);
    }
}
