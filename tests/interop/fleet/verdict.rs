//! Judges who published what of which camera. What a listener heard of all nodes of a pool comes in, in the order in which it came and
//! with the times of its arrival. What was wrong with it goes out, beside figures. Nothing here knows of sockets or processes.
//!
//! The rules:
//! 1. **Publisher.** A node publishes a camera while `detections`, `track` or `lineCrossed` of that camera come from it. A pause of
//!    [`Rules::pause`] ends that.
//! 2. **One at a time.** What comes from a node while another one publishes the camera, that is between two events of the other which
//!    are no further apart than a pause, is a *double*. Doubles that follow each other within a pause are one *overlap*, which lasts from
//!    the first to the last of them. In principle there is none but where a camera goes to another node and back within a pause,
//!    which looks the same and has no length. One that lasts longer than [`Rules::overlap`] is a fault.
//! 3. **Gap.** From one event `detections` of a camera to its next one, whoever publishes them, less [`Rules::frame_interval`]: how
//!    long the camera was without a result that it should have had. What gap may be is asked for a time and some cameras
//!    ([`Record::worst_gap`]), since it depends on what is done to the nodes. A camera of which nothing comes any more has a gap
//!    up to the moment at which it is asked for.
//! 4. **Change.** A camera changes nodes when one publishes `detections` after another did. A double is no change.
//! 5. **Numbers.** Within a run of a node, the `sequence` of a camera's `detections`, `track` and `lineCrossed` begins with 1 and grows
//!    by 1 with each of them. Anything else is a fault, but for events that were under way when the node's lease ran out, which it may not
//!    send any more: after a pause the numbers go on with a higher one.
//! 6. **States.** A `cameraStatus` other than `removed` that comes from a node while another one publishes the camera is counted as
//!    a *foreign state*.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

/// What the verdict takes for granted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// The time between two frames of a camera.
    pub(super) frame_interval: Duration,
    /// A node that said nothing of a camera for longer than this does not publish it.
    pub(super) pause: Duration,
    /// For this long two nodes may publish one camera.
    pub(super) overlap: Duration,
}

/// What an event of a node tells of a camera.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// A frame was looked at.
    Detections { run: Arc<str>, sequence: u64 },
    /// A track or a line crossing.
    Track { run: Arc<str>, sequence: u64 },
    /// The state that the node has for the camera, and why.
    Status { state: String, reason: String },
}

/// An event, as it was heard.
#[derive(Debug, Clone)]
pub(super) struct Heard {
    /// Since the listener began.
    pub(super) at: Duration,
    pub(super) node: Arc<str>,
    pub(super) camera: Arc<str>,
    pub(super) what: What,
}

/// Two nodes that published one camera.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Overlap {
    pub(super) camera: Arc<str>,
    pub(super) nodes: BTreeSet<Arc<str>>,
    pub(super) from: Duration,
    pub(super) to: Duration,
    /// How many events of it were doubles.
    pub(super) doubles: usize,
}

/// A time without results of a camera.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) camera: Arc<str>,
    /// Who published before, and who after; nobody while it still lasts.
    pub(super) nodes: (Arc<str>, Option<Arc<str>>),
    pub(super) from: Duration,
    pub(super) to: Duration,
    /// Its length, without the interval of the camera's frames.
    pub(super) length: Duration,
}

/// A camera that another node published from some moment on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) camera: Arc<str>,
    pub(super) from: Arc<str>,
    pub(super) to: Arc<str>,
    /// The first event of the node that it went to.
    pub(super) at: Duration,
    pub(super) gap: Duration,
}

/// A number that was not the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Break {
    pub(super) camera: Arc<str>,
    pub(super) node: Arc<str>,
    pub(super) at: Duration,
    pub(super) expected: u64,
    pub(super) found: u64,
    /// The node published the camera and had not paused.
    pub(super) is_fault: bool,
}

/// All that was heard.
#[derive(Debug)]
pub(super) struct Record {
    rules: Rules,
    cameras: BTreeMap<Arc<str>, Vec<Heard>>,
}

impl Heard {
    /// Reads an event: the type with which it came, and its content. `None` for what does not concern a camera.
    pub(super) fn parse(at: Duration, node: &str, kind: &str, event: &Value) -> Option<Self> {
        let numbered = || {
            let run = event["runId"].as_str()?.into();
            Some((run, event["sequence"].as_u64()?))
        };
        let what = match kind {
            "detections" => {
                let (run, sequence) = numbered()?;
                What::Detections { run, sequence }
            }
            "track" | "lineCrossed" => {
                let (run, sequence) = numbered()?;
                What::Track { run, sequence }
            }
            "cameraStatus" => What::Status {
                state: event["state"].as_str()?.to_owned(),
                reason: event["reason"].as_str().unwrap_or_default().to_owned(),
            },
            _ => return None,
        };
        Some(Self {
            at,
            node: node.into(),
            camera: event["camera"]["twinId"].as_str()?.into(),
            what,
        })
    }

    fn is_detections(&self) -> bool {
        matches!(self.what, What::Detections { .. })
    }

    fn is_published(&self) -> bool {
        !matches!(self.what, What::Status { .. })
    }
}

impl Record {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            cameras: BTreeMap::new(),
        }
    }

    pub(super) fn push(&mut self, heard: Heard) {
        let camera = Arc::clone(&heard.camera);
        self.cameras.entry(camera).or_default().push(heard);
    }

    pub(super) fn len(&self) -> usize {
        self.cameras.values().map(Vec::len).sum()
    }

    /// Who published each camera last, and when.
    pub(super) fn latest(&self) -> BTreeMap<Arc<str>, (Arc<str>, Duration)> {
        let latest = |heard: &Vec<Heard>| {
            let last = heard.iter().rev().find(|heard| heard.is_detections())?;
            Some((Arc::clone(&last.camera), (Arc::clone(&last.node), last.at)))
        };
        self.cameras.values().filter_map(latest).collect()
    }

    /// The cameras that this node published last.
    pub(super) fn cameras_of(&self, node: &str) -> BTreeSet<Arc<str>> {
        let latest = self.latest().into_iter();
        latest
            .filter(|(_, (publisher, _))| &**publisher == node)
            .map(|(camera, _)| camera)
            .collect()
    }

    /// Whether all of these cameras were published since then, and each by one node alone, which is among `nodes`.
    pub(super) fn each_has_one_of(
        &self,
        nodes: &[&str],
        cameras: &BTreeSet<Arc<str>>,
        since: Duration,
    ) -> bool {
        cameras.iter().all(|camera| {
            let publishers: BTreeSet<&str> = self
                .published(camera)
                .rev()
                .take_while(|heard| heard.at >= since)
                .filter(|heard| heard.is_detections())
                .map(|heard| &*heard.node)
                .collect();
            publishers.len() == 1 && publishers.iter().all(|node| nodes.contains(node))
        })
    }

    /// Each time for which two nodes published one camera.
    pub(super) fn overlaps(&self) -> Vec<Overlap> {
        let mut overlaps = Vec::new();
        for camera in self.cameras.keys() {
            let mut open: Option<Overlap> = None;
            for (place, double) in self.doubles(camera) {
                match &mut open {
                    Some(overlap) if double.at - overlap.to <= self.rules.pause => {
                        overlap.to = double.at;
                        overlap.doubles += 1;
                        overlap.nodes.insert(Arc::clone(&double.node));
                    }
                    _ => {
                        overlaps.extend(open.replace(Overlap {
                            camera: Arc::clone(camera),
                            nodes: [&double.node, &place.node].map(Arc::clone).into(),
                            from: double.at,
                            to: double.at,
                            doubles: 1,
                        }));
                    }
                }
            }
            overlaps.extend(open);
        }
        overlaps
    }

    /// The overlaps that last too long.
    pub(super) fn faults(&self) -> Vec<Overlap> {
        let mut overlaps = self.overlaps();
        overlaps.retain(|overlap| overlap.to - overlap.from > self.rules.overlap);
        overlaps
    }

    /// The events of a camera that came while another node published it, each with an event of that node.
    fn doubles(&self, camera: &str) -> Vec<(&Heard, &Heard)> {
        let published: Vec<&Heard> = self.published(camera).collect();
        let is_double = |place: usize| {
            let double = published[place];
            let (before, after) = (&published[..place], &published[place + 1..]);
            let before = before
                .iter()
                .rev()
                .take_while(|heard| double.at - heard.at <= self.rules.pause)
                .filter(|heard| heard.node != double.node);
            before.copied().find(|before| {
                after
                    .iter()
                    .take_while(|after| after.at - before.at <= self.rules.pause)
                    .any(|after| after.node == before.node)
            })
        };
        (0..published.len())
            .filter_map(|place| Some((is_double(place)?, published[place])))
            .collect()
    }

    /// States of a camera that a node told while another one published it.
    pub(super) fn foreign_states(&self) -> Vec<&Heard> {
        let all = self.cameras.values();
        all.flat_map(|heard| {
            heard.iter().enumerate().filter(|(place, status)| {
                let What::Status { state, .. } = &status.what else {
                    return false;
                };
                let others = |others: &Heard| others.is_published() && others.node != status.node;
                let before = heard[..*place]
                    .iter()
                    .rev()
                    .find(|heard| heard.is_published());
                let after = heard[*place..].iter().find(|heard| heard.is_published());
                state != "removed"
                    && before.zip(after).is_some_and(|(before, after)| {
                        others(before)
                            && before.node == after.node
                            && after.at - before.at <= self.rules.pause
                    })
            })
        })
        .map(|(_, status)| status)
        .collect()
    }

    /// All gaps, up to a moment.
    pub(super) fn gaps(&self, until: Duration) -> Vec<Gap> {
        let mut gaps = Vec::new();
        for camera in self.cameras.keys() {
            let seen: Vec<&Heard> = self
                .published(camera)
                .filter(|heard| heard.is_detections() && heard.at <= until)
                .collect();
            let gap = |from: &Heard, to: Duration, next: Option<&Heard>| Gap {
                camera: Arc::clone(camera),
                nodes: (
                    Arc::clone(&from.node),
                    next.map(|next| Arc::clone(&next.node)),
                ),
                from: from.at,
                to,
                length: (to - from.at).saturating_sub(self.rules.frame_interval),
            };
            gaps.extend(
                seen.windows(2)
                    .map(|two| gap(two[0], two[1].at, Some(two[1]))),
            );
            gaps.extend(seen.last().map(|last| gap(last, until, None)));
        }
        gaps
    }

    /// The longest gap that these cameras had, at least in part, between two moments.
    pub(super) fn worst_gap(
        &self,
        (from, to): (Duration, Duration),
        cameras: impl Fn(&str) -> bool,
    ) -> Option<Gap> {
        let gaps = self.gaps(to).into_iter();
        gaps.filter(|gap| gap.to >= from && cameras(&gap.camera))
            .max_by_key(|gap| gap.length)
    }

    /// All changes of nodes between two moments.
    pub(super) fn changes(&self, (from, to): (Duration, Duration)) -> Vec<Change> {
        let mut changes = Vec::new();
        for camera in self.cameras.keys() {
            let doubles: Vec<*const Heard> = self
                .doubles(camera)
                .into_iter()
                .map(|(_, double)| std::ptr::from_ref(double))
                .collect();
            let seen: Vec<&Heard> = self
                .published(camera)
                .filter(|heard| {
                    heard.is_detections() && !doubles.contains(&std::ptr::from_ref(*heard))
                })
                .collect();
            for two in seen.windows(2) {
                if two[0].node != two[1].node && (from..=to).contains(&two[1].at) {
                    changes.push(Change {
                        camera: Arc::clone(camera),
                        from: Arc::clone(&two[0].node),
                        to: Arc::clone(&two[1].node),
                        at: two[1].at,
                        gap: (two[1].at - two[0].at).saturating_sub(self.rules.frame_interval),
                    });
                }
            }
        }
        changes
    }

    /// How long after a moment another node than `victim` published each of these cameras; those that nobody did are missing.
    pub(super) fn taken_over(
        &self,
        cameras: &BTreeSet<Arc<str>>,
        victim: &str,
        since: Duration,
    ) -> BTreeMap<Arc<str>, Duration> {
        let first = |camera: &Arc<str>| {
            let mut seen = self.published(camera);
            let by_another = seen.find(|heard| {
                heard.is_detections() && heard.at >= since && &*heard.node != victim
            })?;
            Some((Arc::clone(camera), by_another.at - since))
        };
        cameras.iter().filter_map(first).collect()
    }

    /// Numbers that were not the next ones.
    pub(super) fn breaks(&self) -> Vec<Break> {
        let mut last: BTreeMap<(&str, &str), (u64, Duration)> = BTreeMap::new();
        let mut breaks = Vec::new();
        for heard in self.cameras.values().flatten() {
            let (What::Detections { run, sequence } | What::Track { run, sequence }) = &heard.what
            else {
                continue;
            };
            let (last, at) = last.entry((run, &heard.camera)).or_insert((0, heard.at));
            if *sequence != *last + 1 {
                let has_paused = heard.at - *at > self.rules.pause;
                breaks.push(Break {
                    camera: Arc::clone(&heard.camera),
                    node: Arc::clone(&heard.node),
                    at: heard.at,
                    expected: *last + 1,
                    found: *sequence,
                    is_fault: *sequence <= *last || !has_paused,
                });
            }
            (*last, *at) = (*sequence, heard.at);
        }
        breaks
    }

    fn published(&self, camera: &str) -> impl DoubleEndedIterator<Item = &Heard> {
        let heard = self.cameras.get(camera).into_iter().flatten();
        heard.filter(|heard| heard.is_published())
    }
}
