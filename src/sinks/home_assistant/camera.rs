//! A camera stream in a home: its frames and states come in, and which labels there are and whether it is seen go out.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::occupancy::Occupancy;
use crate::publish::lane::ObservedFrame;
use crate::sinks::mqtt::topics::slug;
use twinsight_client::telemetry::CameraState;

/// The most labels of a camera that get entities.
pub(super) const MAX_LABELS: usize = 32;

/// A camera that has shown no frame for this long, or for three times the time between its last two, is not seen.
const BLIND_AFTER: Duration = Duration::from_secs(15);

/// A longer time between two frames is one in which the camera was away.
const LONGEST_GAP: Duration = Duration::from_secs(20);

/// Under the motion gate, what was there is gone by the passing of time only if so many frames in a row did not show it.
const MISSES_BEFORE_PAUSE: u32 = 2;

/// A picture is taken at most this often.
const SHOT_EVERY: Duration = Duration::from_secs(5);

/// A shot is better if its best object has a score that is higher by this.
const BETTER_BY: f32 = 0.05;

/// A camera stream.
#[derive(Debug)]
pub(super) struct HomeCamera {
    pub(super) name: Arc<str>,
    state: Option<CameraState>,
    /// When the newest frame came, and how long after the one before it.
    last_frame: Option<(Instant, Duration)>,
    /// Under the motion gate: how long after a frame the next one may come although the camera is seen.
    max_skip: Option<Duration>,
    pub(super) sight: Sight,
    /// By their names in topics.
    pub(super) labels: BTreeMap<String, CameraLabel>,
    /// The names of labels in topics, so that they are made once.
    slugs: HashMap<Arc<str>, String>,
    /// Only these labels are reported at all.
    is_closed: bool,
    has_complained: bool,
    shot: Option<Shot>,
}

/// Whether it is known what is before a camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// Frames are received and inferred.
    Seen,
    /// They are not.
    Blind,
}

/// A label before a camera.
#[derive(Debug)]
pub(super) struct CameraLabel {
    pub(super) name: Arc<str>,
    pub(super) occupancy: Occupancy,
    /// How many frames in a row did not show it.
    misses: u32,
    /// It has entities.
    pub(super) is_listed: bool,
}

/// The last picture.
#[derive(Debug, Clone, Copy)]
struct Shot {
    at: Instant,
    score: f32,
}

/// What a frame changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct FrameChanges {
    /// Labels have entities now.
    pub(super) is_listing_longer: bool,
    /// A picture should be taken.
    pub(super) wants_shot: bool,
}

impl HomeCamera {
    /// A camera that reports these classes, or all if there are none.
    pub(super) fn new(name: Arc<str>, classes: &[String]) -> Self {
        let mut camera = Self {
            name,
            state: None,
            last_frame: None,
            max_skip: None,
            sight: Sight::Blind,
            labels: BTreeMap::new(),
            slugs: HashMap::new(),
            is_closed: !classes.is_empty() && classes.len() <= MAX_LABELS,
            has_complained: false,
            shot: None,
        };
        if camera.is_closed {
            for class in classes {
                camera.list(slug(class), class.as_str().into());
            }
        }
        camera
    }

    /// True if labels get entities when they are seen.
    pub(super) fn is_open(&self) -> bool {
        !self.is_closed
    }

    /// Gives a label entities. `false` means that there are too many.
    pub(super) fn list(&mut self, slug: String, name: Arc<str>) -> bool {
        if self.labels.len() >= MAX_LABELS && !self.labels.contains_key(&slug) {
            return false;
        }
        let label = self.labels.entry(slug).or_insert_with(|| CameraLabel {
            name,
            occupancy: Occupancy::default(),
            misses: 0,
            is_listed: true,
        });
        label.is_listed = true;
        true
    }

    pub(super) fn frame(&mut self, frame: &ObservedFrame, now: Instant) -> FrameChanges {
        let gap = self.last_frame.map_or(Duration::ZERO, |(last, _)| {
            frame.at.saturating_duration_since(last).min(LONGEST_GAP)
        });
        self.last_frame = Some((frame.at, gap));
        self.max_skip = frame.max_skip;
        // Frames that were still on their way when a camera went do not bring it back.
        if matches!(self.state, None | Some(CameraState::Receiving)) {
            self.see(now);
        }
        for (name, _) in &frame.objects {
            self.meet(name);
        }
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for slug in frame
            .objects
            .iter()
            .filter_map(|(name, _)| self.slugs.get(name))
        {
            *counts.entry(slug).or_insert(0) += 1;
        }
        let was_occupied = self
            .labels
            .values()
            .any(|label| label.occupancy.is_occupied());
        let mut changes = FrameChanges::default();
        let mut is_new_there = false;
        for (slug, label) in &mut self.labels {
            let before = label.occupancy.is_occupied();
            let count = counts.get(slug.as_str()).copied().unwrap_or(0);
            if frame.max_skip.is_some() && label.misses == 0 && before {
                // Nothing has changed since it was seen, so that it was there until now.
                label.occupancy.look_again(frame.at);
            }
            label.occupancy.frame(frame.at, count);
            label.misses = match count {
                0 => label.misses.saturating_add(1),
                _ => 0,
            };
            if label.occupancy.is_occupied() && !before {
                is_new_there = true;
                changes.is_listing_longer |= !label.is_listed;
                label.is_listed = true;
            }
        }
        let is_left_out = counts.keys().any(|slug| !self.labels.contains_key(*slug));
        self.labels
            .retain(|_, label| label.is_listed || !label.occupancy.is_absent());
        if is_left_out && !self.has_complained {
            self.has_complained = true;
            tracing::warn!(camera = %frame.id, limit = MAX_LABELS, "Home Assistant is told of no more labels of this camera: list the ones that you need with `classes`");
        }
        changes.wants_shot = self.wants_shot(frame, was_occupied, is_new_there);
        changes
    }

    /// Notes a label that a frame shows.
    fn meet(&mut self, name: &Arc<str>) {
        if !self.slugs.contains_key(name) && self.slugs.len() < 4 * MAX_LABELS {
            self.slugs.insert(Arc::clone(name), slug(name));
        }
        if let Some(slug) = self.slugs.get(name)
            && !self.labels.contains_key(slug)
            && self.labels.len() < MAX_LABELS
        {
            let label = CameraLabel {
                name: Arc::clone(name),
                occupancy: Occupancy::default(),
                misses: 0,
                is_listed: false,
            };
            self.labels.insert(slug.clone(), label);
        }
    }

    fn wants_shot(&mut self, frame: &ObservedFrame, was_occupied: bool, is_new: bool) -> bool {
        let is_occupied = self
            .labels
            .values()
            .any(|label| label.occupancy.is_occupied());
        let best = frame.objects.iter().map(|(_, score)| *score);
        let Some(score) = best.reduce(f32::max).filter(|_| is_occupied) else {
            return false;
        };
        let is_wanted = self.shot.is_none_or(|shot| {
            let is_better = is_new || score > shot.score + BETTER_BY;
            frame.at.saturating_duration_since(shot.at) >= SHOT_EVERY
                && (is_better || !was_occupied)
        });
        if is_wanted {
            self.shot = Some(Shot {
                at: frame.at,
                score,
            });
        }
        is_wanted
    }

    pub(super) fn state(&mut self, state: CameraState, now: Instant) {
        self.state = Some(state);
        if state == CameraState::Receiving {
            self.pass(now);
        } else {
            self.sight = Sight::Blind;
        }
    }

    /// Lets time pass.
    pub(super) fn pass(&mut self, now: Instant) {
        let Some((at, gap)) = self.last_frame else {
            self.sight = Sight::Blind;
            return;
        };
        // A gate that finds nothing new says that all is as before, so that its pauses count for nothing.
        let pause = self.max_skip.unwrap_or_default();
        if now.saturating_duration_since(at) > BLIND_AFTER.max(3 * gap) + pause {
            self.sight = Sight::Blind;
        }
        if self.sight == Sight::Seen {
            // Where one frame misses what is there and nothing moves behind it, no other frame shows it again.
            let misses = match self.max_skip {
                Some(_) => MISSES_BEFORE_PAUSE,
                None => 0,
            };
            for label in self.labels.values_mut() {
                if label.misses >= misses {
                    label.occupancy.pass(now);
                }
            }
        }
    }

    fn see(&mut self, now: Instant) {
        if self.sight == Sight::Blind {
            self.sight = Sight::Seen;
            for label in self.labels.values_mut() {
                label.occupancy.look_again(now);
            }
        }
    }
}
