//! Whether the nodes of a pool have one configuration. What each of them says of its own comes in, and which of them differs from this
//! node for longer than a rolling change takes goes out, with what differs. It is plain state with `now` passed in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::store::{CameraList, Configured, MemberRecord};
use super::time::LeaseTime;

/// Nodes get another configuration one after the other, so that they may differ for this long.
const ROLLING_CHANGE: Duration = Duration::from_secs(60);

/// What two nodes do not have in common. At least one of both is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Difference {
    /// The configured cameras of this node, and of the other one.
    pub(super) cameras: Option<(CameraList, CameraList)>,
    /// How long their leases last, in milliseconds.
    pub(super) lease_ms: Option<(u64, u64)>,
}

/// The nodes that differ, by their names.
#[derive(Debug, Default)]
pub(super) struct Differences {
    nodes: BTreeMap<Arc<str>, Lasting>,
}

#[derive(Debug)]
struct Lasting {
    difference: Difference,
    since: LeaseTime,
    /// It has lasted for long, and was said.
    is_said: bool,
}

impl Difference {
    /// What of the other's configuration is not as the own. What one of them does not tell is taken for the same.
    pub(super) fn between(own: &Configured, other: &Configured) -> Option<Self> {
        let difference = Self {
            cameras: own.cameras.zip(other.cameras).filter(|(a, b)| a != b),
            lease_ms: own.lease_ms.zip(other.lease_ms).filter(|(a, b)| a != b),
        };
        (difference.cameras.is_some() || difference.lease_ms.is_some()).then_some(difference)
    }

    /// The sentence for people, in which the other one is the subject.
    pub(super) fn sentence(&self) -> String {
        let cameras = self.cameras.map(|(own, other)| {
            if own.count == other.count {
                format!(
                    "it has {} cameras in its configuration, and they are not those of this node",
                    other.count
                )
            } else {
                format!(
                    "it has {} cameras in its configuration, and this node has {}",
                    other.count, own.count
                )
            }
        });
        let lease = self.lease_ms.map(|(own, other)| {
            format!("its leases last {other} ms, and those of this node {own} ms")
        });
        let parts: Vec<String> = cameras.into_iter().chain(lease).collect();
        parts.join("; ")
    }
}

impl Differences {
    /// Takes in what the members say of themselves. Gives those that have differed for long and of which that is news.
    pub(super) fn look<'a>(
        &mut self,
        own: &MemberRecord,
        members: impl Iterator<Item = &'a MemberRecord>,
        now: LeaseTime,
    ) -> Vec<(Arc<str>, Difference)> {
        let others = members.filter(|member| !member.leaving && member.name != own.name);
        let differing: BTreeMap<&Arc<str>, Difference> = others
            .filter_map(|member| {
                let difference = Difference::between(&own.configured, &member.configured)?;
                Some((&member.name, difference))
            })
            .collect();
        self.nodes
            .retain(|name, lasting| differing.get(name) == Some(&lasting.difference));
        let mut news = Vec::new();
        for (name, difference) in differing {
            let lasting = self
                .nodes
                .entry(Arc::clone(name))
                .or_insert_with(|| Lasting {
                    difference,
                    since: now,
                    is_said: false,
                });
            if !lasting.is_said && now.since(lasting.since) > ROLLING_CHANGE {
                lasting.is_said = true;
                news.push((Arc::clone(name), difference));
            }
        }
        news
    }

    /// What a member differs in, once that has lasted.
    pub(super) fn of(&self, name: &str) -> Option<Difference> {
        let lasting = self.nodes.get(name).filter(|lasting| lasting.is_said)?;
        Some(lasting.difference)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn at(seconds: u64) -> LeaseTime {
        LeaseTime::at(Duration::from_secs(seconds))
    }

    fn member(name: &str, cameras: &[&str], lease_ms: u64) -> MemberRecord {
        let cameras: BTreeSet<Arc<str>> = cameras.iter().copied().map(Arc::from).collect();
        MemberRecord {
            name: name.into(),
            capacity: 1,
            started_at: 0,
            leaving: false,
            ready: BTreeSet::new(),
            configured: Configured {
                cameras: Some(CameraList::of(&cameras)),
                lease_ms: Some(lease_ms),
            },
        }
    }

    #[test]
    fn a_difference_that_outlasts_a_rolling_change_is_said_once() {
        let own = member("a", &["x", "y"], 6_000);
        let same = member("b", &["y", "x"], 6_000);
        let fewer = member("b", &["x"], 6_000);
        let mut differences = Differences::default();
        let mut look = |other: &MemberRecord, seconds| {
            let all = [own.clone(), other.clone()];
            let news = differences.look(&own, all.iter(), at(seconds));
            let lasts = differences.of("b").map(|difference| difference.sentence());
            (news.len(), lasts)
        };
        assert_eq!(look(&same, 0), (0, None));
        assert_eq!(look(&fewer, 10), (0, None));
        assert_eq!(look(&fewer, 70), (0, None));
        let sentence = "it has 1 cameras in its configuration, and this node has 2";
        assert_eq!(look(&fewer, 71), (1, Some(sentence.to_owned())));
        assert_eq!(look(&fewer, 500), (0, Some(sentence.to_owned())));
        // Another difference is news again, once it has lasted.
        let others = member("b", &["x", "z"], 3_000);
        assert_eq!(look(&others, 501), (0, None));
        let sentence = "it has 2 cameras in its configuration, and they are not those of this node; its leases last 3000 ms, and those of \
                        this node 6000 ms";
        assert_eq!(look(&others, 562), (1, Some(sentence.to_owned())));
        // One that was put right begins anew.
        assert_eq!(look(&same, 563), (0, None));
        assert_eq!(look(&fewer, 564), (0, None));
        assert_eq!(look(&fewer, 600), (0, None));
    }

    #[test]
    fn who_does_not_tell_and_who_leaves_does_not_differ() {
        let own = member("a", &["x"], 6_000);
        let silent = MemberRecord {
            configured: Configured::default(),
            ..member("b", &[], 3_000)
        };
        let leaving = MemberRecord {
            leaving: true,
            ..member("c", &[], 3_000)
        };
        let namesake = member("a", &["x", "y"], 6_000);
        let all = [silent, leaving, namesake];
        let mut differences = Differences::default();
        for seconds in [0, 100] {
            assert!(differences.look(&own, all.iter(), at(seconds)).is_empty());
        }
    }
}
