//! Who is who. The objects of a camera stream's frame come in from postprocessing with the frame's media time, and what they
//! mean goes out: which track each object is of, and what begins, changes, ends and crosses a line. It runs on the
//! inference worker's thread, with one state for each camera stream.
//!
//! `media_clock` makes the time, `tracker` says who is who, `scene` judges zones and lines, and `stage` puts them in a row; what it has
//! to tell is `news`. `directory` keeps the stages of all camera streams, for the workers and for whoever asks.
//! Everything counts in seconds of media time, never in frames.

pub mod best_shot;
pub mod directory;
mod media_clock;
pub mod news;
pub mod scene;
pub mod stage;
pub mod tracker;

use std::sync::Arc;

/// A box in parts of the picture, from 0 to 1; its numbers are finite, and it has an area.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RelativeBox {
    /// The left edge.
    pub x1: f32,
    /// The upper edge.
    pub y1: f32,
    /// The right edge.
    pub x2: f32,
    /// The lower edge.
    pub y2: f32,
}

/// A label of the camera's models, by its number in the stream's [`Labels`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelId(pub u16);

/// An object that was seen in a frame, as the tracker needs it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observation {
    /// Where it is.
    pub bbox: RelativeBox,
    /// How sure the model is, from 0 to 1.
    pub score: f32,
    /// What the model takes it for.
    pub label: LabelId,
}

impl RelativeBox {
    /// Makes a box, cut to the picture. `None` if a number is not finite or nothing of it is in the picture.
    pub fn new(x1: f32, y1: f32, x2: f32, y2: f32) -> Option<Self> {
        let all = [x1, y1, x2, y2];
        if !all.iter().all(|edge| edge.is_finite()) {
            return None;
        }
        let [x1, y1, x2, y2] = all.map(|edge| edge.clamp(0.0, 1.0));
        (x2 > x1 && y2 > y1).then_some(Self { x1, y1, x2, y2 })
    }

    /// The distance of its left and right edges.
    pub fn width(&self) -> f32 {
        self.x2 - self.x1
    }

    /// The distance of its upper and lower edges.
    pub fn height(&self) -> f32 {
        self.y2 - self.y1
    }

    /// The middle of its lower edge: where whoever is in it stands.
    pub fn bottom_center(&self) -> crate::config::Point {
        crate::config::Point {
            x: f64::from(self.x1 + self.x2) / 2.0,
            y: f64::from(self.y2),
        }
    }
}

/// The labels that were seen in a camera stream, and the number of each. Labels of a model that is no longer used stay.
#[derive(Debug, Clone, Default)]
pub struct Labels(Vec<Label>);

/// A label and the class that it is of the model that gave it last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The model's name for the class.
    pub name: Arc<str>,
    /// The index of the class in that model's labels.
    pub class_id: usize,
}

impl Labels {
    /// The number of a label, which is made if it is new.
    pub fn id(&mut self, name: &str, class_id: usize) -> LabelId {
        let known = self.0.iter().position(|label| *label.name == *name);
        let at = known.unwrap_or_else(|| {
            self.0.push(Label {
                name: name.into(),
                class_id,
            });
            self.0.len() - 1
        });
        self.0[at].class_id = class_id;
        // Models have at most 65535 labels, and a camera has few models in its life. Beyond that they share the last number.
        LabelId(u16::try_from(at).unwrap_or(u16::MAX))
    }

    /// The label of a number that [`id`](Self::id) gave.
    pub fn get(&self, id: LabelId) -> Option<&Label> {
        self.0.get(usize::from(id.0))
    }
}
