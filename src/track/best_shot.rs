//! The picture in which a track was seen best: frames and boxes come in as tracks are seen, and the crop of the best one is kept
//! in memory, within bounds, for whoever asks by HTTP.
//!
//! A crop costs time on the inference worker's thread, so one is made only where it is clearly better than the one before, not too
//! often for a track, and for few tracks at a look. It is kept small and as planes: a JPEG is made when somebody asks.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{self, AtomicUsize};
use std::time::Duration;

use super::RelativeBox;
use super::tracker::Track;
use crate::scale::Scaler;
use twinsight_media::picture::{Color, Frame, I420, PictureSize, Plane};

/// The longer side of a kept picture is no longer than this.
const MAX_SIDE_PX: usize = 320;

/// So much of the box's size is kept around it, on each side.
const MARGIN: f32 = 0.12;

/// The shots of all cameras of a node take no more memory than this.
const NODE_BYTES: usize = 32 << 20;

/// The shots of one camera stream take no more memory than this, which holds some 130 standing persons.
const STREAM_BYTES: usize = 8 << 20;

/// A better picture of a track is not taken sooner than this after the last one.
const PAUSE: Duration = Duration::from_millis(250);

/// For this long a picture has to be much better than the last one, since a track that comes nearer is seen better in every frame.
const SETTLING: Duration = Duration::from_secs(2);

/// So much better a picture has to be within [`SETTLING`], and later.
const BETTER: (f32, f32) = (1.5, 1.15);

/// So many pictures are taken at a look. Other tracks wait for the next one.
const AT_A_LOOK: usize = 2;

/// Rows of a crop for each row of the shot. With more of them, some are left out: a box of a large frame would take milliseconds.
const MAX_ROWS_PER_ROW: usize = 4;

/// The memory that the shots of all streams of a node share.
#[derive(Debug)]
pub struct ShotBudget {
    used_bytes: AtomicUsize,
    limit_bytes: usize,
}

/// Bytes of the budget that a shot has, until it is dropped.
#[derive(Debug)]
struct Reserved {
    budget: Arc<ShotBudget>,
    bytes: usize,
}

/// A picture of a track.
#[derive(Debug)]
pub struct Shot {
    planes: Vec<u8>,
    size: PictureSize,
    color: Color,
    /// Names this picture among all that were ever taken in its stream.
    number: u64,
    quality: f32,
    taken_at: Duration,
    _reserved: Reserved,
}

/// The best pictures of the tracks of one camera stream.
#[derive(Debug)]
pub struct BestShots {
    budget: Arc<ShotBudget>,
    limit_bytes: usize,
    bytes: usize,
    /// By the tracks' ids.
    shots: BTreeMap<u64, Arc<Shot>>,
    /// Tracks that ended and have a shot, the one that ended first in front.
    ended: VecDeque<u64>,
    numbers: u64,
    scaler: Scaler,
    /// The tracks of a look that are to have a new picture.
    wanted: Vec<Wanted>,
}

/// A track that is to have a new picture.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    id: u64,
    bbox: RelativeBox,
    quality: f32,
    /// How much better it is than the last one; infinite for the first one.
    gain: f32,
}

/// A part of a frame. Its numbers are even, so that it begins and ends with a sample of chroma.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Region {
    x_px: usize,
    y_px: usize,
    size: PictureSize,
}

impl Default for ShotBudget {
    fn default() -> Self {
        Self::new(NODE_BYTES)
    }
}

impl ShotBudget {
    fn new(limit_bytes: usize) -> Self {
        Self {
            used_bytes: AtomicUsize::new(0),
            limit_bytes,
        }
    }

    /// The bytes that all shots have together.
    pub fn used_bytes(&self) -> usize {
        self.used_bytes.load(atomic::Ordering::Relaxed)
    }

    fn reserve(self: &Arc<Self>, bytes: usize) -> Option<Reserved> {
        let fits = |used: usize| {
            let used = used.checked_add(bytes)?;
            (used <= self.limit_bytes).then_some(used)
        };
        let order = atomic::Ordering::Relaxed;
        self.used_bytes.fetch_update(order, order, fits).ok()?;
        Some(Reserved {
            budget: Arc::clone(self),
            bytes,
        })
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let used = &self.budget.used_bytes;
        used.fetch_sub(self.bytes, atomic::Ordering::Relaxed);
    }
}

impl Shot {
    /// The picture.
    pub fn picture(&self) -> I420<'_> {
        I420::from_packed(&self.planes, self.size, self.color)
    }

    /// Names this picture among all that were ever taken in its stream.
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl BestShots {
    /// No shots yet; their memory comes out of `budget`.
    pub fn new(budget: &Arc<ShotBudget>) -> Self {
        Self {
            budget: Arc::clone(budget),
            limit_bytes: STREAM_BYTES,
            bytes: 0,
            shots: BTreeMap::new(),
            ended: VecDeque::new(),
            numbers: 0,
            scaler: Scaler::default(),
            wanted: Vec::new(),
        }
    }

    /// Finds out which confirmed tracks the frame of the last look shows better than any before. `tracks` are all of the stream, as that
    /// look left them. [`take`](Self::take) takes their pictures.
    pub fn judge(&mut self, now: Duration, frame: PictureSize, tracks: &[Track]) {
        self.wanted.clear();
        for track in tracks {
            let (Some(id), Some(_)) = (track.id, track.observation) else {
                continue;
            };
            let last = self.shots.get(&id);
            let needed = last.map_or(0.0, |last| last.needed_at(now));
            let alone = quality(&track.bbox, track.score, frame);
            if alone <= needed {
                continue;
            }
            let quality = alone * visible(track, tracks);
            if quality > needed {
                self.wanted.push(Wanted {
                    id,
                    bbox: track.bbox,
                    quality,
                    gain: last.map_or(f32::INFINITY, |last| quality / last.quality.max(1e-6)),
                });
            }
        }
        let rank = |a: &Wanted, b: &Wanted| -> Ordering {
            (b.gain.total_cmp(&a.gain)).then(b.quality.total_cmp(&a.quality))
        };
        self.wanted.sort_unstable_by(rank);
        self.wanted.truncate(AT_A_LOOK);
    }

    /// Takes the pictures that [`judge`](Self::judge) found worth it, out of the frame that it was told of.
    pub fn take(&mut self, now: Duration, frame: &Frame) {
        for n in 0..self.wanted.len() {
            self.take_one(self.wanted[n], now, frame);
        }
        self.wanted.clear();
    }

    /// The best picture of a track, if there is one.
    pub fn get(&self, id: u64) -> Option<&Arc<Shot>> {
        self.shots.get(&id)
    }

    /// Notes that a track ended. Its picture stays until it is forgotten, or its memory is needed for the picture of another track.
    pub fn ended(&mut self, id: u64) {
        if self.shots.contains_key(&id) {
            self.ended.push_back(id);
        }
    }

    /// Forgets the picture of a track that is not listed any more.
    pub fn forget(&mut self, id: u64) {
        if let Some(shot) = self.shots.remove(&id) {
            self.bytes -= shot.planes.len();
            self.ended.retain(|ended| *ended != id);
        }
    }

    /// Takes a picture, unless there is no memory for it: then the one before stays.
    fn take_one(&mut self, wanted: Wanted, now: Duration, frame: &Frame) {
        let Some(region) = Region::around(&wanted.bbox, frame.size()) else {
            return;
        };
        let size = region.shot_size();
        let before = self.shots.remove(&wanted.id);
        let before_bytes = before.as_ref().map_or(0, |shot| shot.planes.len());
        self.bytes -= before_bytes;
        let bytes = size.i420_bytes();
        let Some(reserved) = self.reserve(bytes) else {
            if let Some(before) = before {
                self.bytes += before_bytes;
                self.shots.insert(wanted.id, before);
            }
            return;
        };
        let mut planes = match before.map(Arc::try_unwrap) {
            Some(Ok(shot)) => shot.planes,
            // Somebody looks at it, or there is none.
            Some(Err(_)) | None => Vec::new(),
        };
        planes.reserve_exact(bytes.saturating_sub(planes.len()));
        self.scaler
            .shrink(&region.of(frame, size), size, &mut planes);
        planes.shrink_to(bytes);
        self.bytes += planes.len();
        self.numbers += 1;
        let shot = Shot {
            planes,
            size,
            color: frame.planes().color,
            number: self.numbers,
            quality: wanted.quality,
            taken_at: now,
            _reserved: reserved,
        };
        self.shots.insert(wanted.id, Arc::new(shot));
    }

    /// Makes room for so many bytes. Pictures of tracks that ended make way, the one that ended first before the others.
    fn reserve(&mut self, bytes: usize) -> Option<Reserved> {
        loop {
            if self.bytes + bytes <= self.limit_bytes
                && let Some(reserved) = self.budget.reserve(bytes)
            {
                return Some(reserved);
            }
            let first = *self.ended.front()?;
            self.forget(first);
        }
    }
}

impl Shot {
    /// How good a picture has to be to take the place of this one.
    fn needed_at(&self, now: Duration) -> f32 {
        let age = now.saturating_sub(self.taken_at);
        if age < PAUSE {
            f32::INFINITY
        } else if age < SETTLING {
            self.quality * BETTER.0
        } else {
            self.quality * BETTER.1
        }
    }
}

/// How well an object is seen that nothing hides, from 0 to 1: large, whole, and with a good score.
fn quality(bbox: &RelativeBox, score: f32, frame: PictureSize) -> f32 {
    /// An object of this side is half as good as one that fills any screen.
    const HALF_GOOD_PX: f32 = 96.0;
    /// What an edge of the picture that cuts the object costs.
    const CUT: f32 = 0.6;
    /// A box ends at an edge of the picture if it is as near as this.
    const EDGE: f32 = 0.004;
    let side_px =
        (bbox.width() * pixels(frame.width_px) * bbox.height() * pixels(frame.height_px)).sqrt();
    let edges = [bbox.x1, bbox.y1, 1.0 - bbox.x2, 1.0 - bbox.y2];
    let cuts = edges.into_iter().filter(|edge| *edge < EDGE);
    let whole: f32 = cuts.map(|_| CUT).product();
    score * whole * side_px / (side_px + HALF_GOOD_PX)
}

/// How much of a track is not hidden by others that were seen with it, from 0 to 1. Who stands lower in the picture is nearer to the
/// camera and hides those behind; the box of one behind is a distraction, but hides little.
fn visible(track: &Track, all: &[Track]) -> f32 {
    const BEHIND: f32 = 0.3;
    let area = track.bbox.width() * track.bbox.height();
    let others = all
        .iter()
        .filter(|other| other.serial != track.serial && other.observation.is_some());
    let hidden = others.map(|other| {
        let (a, b) = (&track.bbox, &other.bbox);
        let width = (a.x2.min(b.x2) - a.x1.max(b.x1)).max(0.0);
        let height = (a.y2.min(b.y2) - a.y1.max(b.y1)).max(0.0);
        let weight = if b.y2 > a.y2 { 1.0 } else { BEHIND };
        weight * width * height / area
    });
    (1.0 - hidden.sum::<f32>()).max(0.05)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a side of a picture is far below 2^24"
)]
fn pixels(side_px: usize) -> f32 {
    side_px as f32
}

impl Region {
    /// The part of a frame that has a box in it, with a margin. `None` for a frame that is too small to have parts.
    fn around(bbox: &RelativeBox, frame: PictureSize) -> Option<Self> {
        let axis = |from: f32, to: f32, side_px: usize| {
            let side_px = side_px / 2 * 2;
            let margin = (to - from) * MARGIN;
            let at = |part: f32| pixel(part * pixels(side_px)).min(side_px) / 2 * 2;
            let from_px = at((from - margin).max(0.0)).min(side_px.checked_sub(2)?);
            // The last pixel that the box touches is in it.
            let to_px = at(to + margin) + 2;
            Some((from_px, to_px.min(side_px).max(from_px + 2) - from_px))
        };
        let (x_px, width_px) = axis(bbox.x1, bbox.x2, frame.width_px)?;
        let (y_px, height_px) = axis(bbox.y1, bbox.y2, frame.height_px)?;
        let size = PictureSize {
            width_px,
            height_px,
        };
        Some(Self { x_px, y_px, size })
    }

    /// The size of the shot that is made of it, with even sides. It keeps its shape, and does not become larger.
    fn shot_size(self) -> PictureSize {
        let PictureSize {
            width_px,
            height_px,
        } = self.size;
        let longer = width_px.max(height_px).max(MAX_SIDE_PX);
        let side = |px: usize| (px * MAX_SIDE_PX / longer / 2 * 2).max(2);
        PictureSize {
            width_px: side(width_px),
            height_px: side(height_px),
        }
    }

    /// The samples of a frame in it, without rows that a shot of `size` has no need of.
    fn of<'a>(&self, frame: &'a Frame, size: PictureSize) -> I420<'a> {
        let whole = frame.planes();
        let every = (self.size.height_px / (MAX_ROWS_PER_ROW * size.height_px)).max(1);
        let part = |plane: Plane<'a>, x: usize, y: usize| Plane {
            data: &plane.data[y * plane.stride + x..],
            stride: plane.stride * every,
        };
        let (x, y) = (self.x_px, self.y_px);
        I420 {
            y: part(whole.y, x, y),
            u: part(whole.u, x / 2, y / 2),
            v: part(whole.v, x / 2, y / 2),
            size: PictureSize {
                width_px: self.size.width_px,
                height_px: self.size.height_px / every / 2 * 2,
            },
            color: whole.color,
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a saturating cast of a place in the picture is what is wanted"
)]
fn pixel(place: f32) -> usize {
    place as usize
}

#[cfg(test)]
#[path = "best_shot_tests.rs"]
mod tests;
