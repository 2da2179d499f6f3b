//! A picture to a model's input tensor in one pass over its rows: converted to RGB, blended, sampled, scaled and
//! written to their channel, with no whole RGB picture in between and no allocation once the geometry is known.

use super::color::{ChannelAffine, RowConverter};
use super::resize::{Axis, BLENDED_ONE, Tap, blend_rows, sample_rgb_row, sample_row};
use crate::decode::frame::{I420, PictureSize, Plane};

/// What a detector takes.
#[derive(Debug, Clone, Copy)]
pub enum Picture<'a> {
    /// A decoded frame.
    I420(I420<'a>),
    /// Interleaved 8-bit RGB without padding, `3 * width * height` bytes: pictures from files.
    Rgb {
        /// Row after row.
        data: &'a [u8],
        /// Width and height.
        size: PictureSize,
    },
}

impl Picture<'_> {
    /// Width and height.
    pub fn size(&self) -> PictureSize {
        match self {
            Self::I420(planes) => planes.size,
            Self::Rgb { size, .. } => *size,
        }
    }
}

/// How a picture is fitted to the tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// Width and height scaled each on its own.
    Stretch,
    /// Scaled by one factor and placed; the rest is padding.
    Letterbox {
        /// Where the picture lies.
        align: Align,
        /// The padding's value in each channel, as a byte.
        pad: u8,
    },
}

/// Where a letterboxed picture lies in the tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// In the middle; the odd row or column of padding is below or right.
    Center,
    /// At the top left.
    TopLeft,
}

/// The order of channels in the tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelOrder {
    /// Red first.
    Rgb,
    /// Blue first.
    Bgr,
}

/// The input tensor of a model: `[1, 3, height, width]` of `f32`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TensorSpec {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Order of the three channels.
    pub order: ChannelOrder,
    /// What is done to the bytes of red, green and blue.
    pub affine: [ChannelAffine; 3],
    /// How pictures are fitted.
    pub fit: Fit,
}

/// A box in tensor pixels, by its corners. Not limited to the tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TensorBox {
    /// Left.
    pub x1: f32,
    /// Top.
    pub y1: f32,
    /// Right.
    pub x2: f32,
    /// Bottom.
    pub y2: f32,
}

/// Where a picture lies in the tensor: maps boxes back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placement {
    picture: PictureSize,
    left: usize,
    top: usize,
    width: usize,
    height: usize,
}

/// Turns pictures to tensors; owns the tensor and everything that is reused from one picture to the next.
#[derive(Debug)]
pub struct Preprocessor {
    spec: TensorSpec,
    tensor: Vec<f32>,
    geometry: Option<Geometry>,
    columns: Axis,
    rows: Axis,
    /// A row of samples, blended from two.
    blended: Vec<f32>,
    /// The two source rows of a frame that are blended, as RGB.
    rgb_rows: [RgbRow; 2],
    converter: RowConverter,
}

/// A converted row of a frame.
#[derive(Debug, Default)]
struct RgbRow {
    /// Which one it is, unless none of this picture yet.
    row: Option<u32>,
    planes: [Vec<u8>; 3],
}

/// What the tables were computed for.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Geometry {
    placement: Placement,
    interleaved: bool,
}

impl Placement {
    /// How `picture` lies in a tensor. The size must not be zero.
    pub fn new(spec: &TensorSpec, picture: PictureSize) -> Self {
        let (width, height) = match spec.fit {
            Fit::Stretch => (spec.width, spec.height),
            Fit::Letterbox { .. } => {
                let factor = (spec.width as f64 / picture.width_px as f64)
                    .min(spec.height as f64 / picture.height_px as f64);
                (
                    scaled(picture.width_px, factor, spec.width),
                    scaled(picture.height_px, factor, spec.height),
                )
            }
        };
        let (left, top) = match spec.fit {
            Fit::Letterbox {
                align: Align::Center,
                ..
            } => ((spec.width - width) / 2, (spec.height - height) / 2),
            _ => (0, 0),
        };
        Self {
            picture,
            left,
            top,
            width,
            height,
        }
    }

    /// The corners of a box in pixels of the picture, limited to it.
    pub fn to_picture(&self, corners: &TensorBox) -> TensorBox {
        let across = self.picture.width_px as f32 / self.width as f32;
        let down = self.picture.height_px as f32 / self.height as f32;
        let x = |x: f32| ((x - self.left as f32) * across).clamp(0.0, self.picture.width_px as f32);
        let y = |y: f32| ((y - self.top as f32) * down).clamp(0.0, self.picture.height_px as f32);
        TensorBox {
            x1: x(corners.x1),
            y1: y(corners.y1),
            x2: x(corners.x2),
            y2: y(corners.y2),
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "limited to the tensor's size"
)]
fn scaled(length: usize, factor: f64, most: usize) -> usize {
    ((length as f64 * factor).round() as usize).clamp(1, most)
}

impl Preprocessor {
    /// A preprocessor for a model's input.
    pub fn new(spec: TensorSpec) -> Self {
        Self {
            spec,
            tensor: vec![0.0; 3 * spec.width * spec.height],
            geometry: None,
            columns: Axis::default(),
            rows: Axis::default(),
            blended: Vec::new(),
            rgb_rows: Default::default(),
            converter: RowConverter::new(),
        }
    }

    /// What the tensor is.
    pub fn spec(&self) -> &TensorSpec {
        &self.spec
    }

    /// The tensor as the last [`run`](Self::run) left it: red, green and blue (or the other way round), row after row.
    pub fn tensor(&self) -> &[f32] {
        &self.tensor
    }

    /// Fills the tensor. `None` if the picture has no pixels or its bytes are fewer than its size says.
    pub fn run(&mut self, picture: &Picture<'_>) -> Option<Placement> {
        if !is_whole(picture) {
            return None;
        }
        let placement = self.prepare(picture);
        match picture {
            Picture::I420(planes) => self.fill_from_planes(planes, placement),
            Picture::Rgb { data, size } => self.fill_from_rgb(data, *size, placement),
        }
        Some(placement)
    }

    /// Computes the tables and paints the padding when the geometry is new.
    fn prepare(&mut self, picture: &Picture<'_>) -> Placement {
        let size = picture.size();
        let geometry = Geometry {
            placement: Placement::new(&self.spec, size),
            interleaved: matches!(picture, Picture::Rgb { .. }),
        };
        let placement = geometry.placement;
        if self.geometry == Some(geometry) {
            return placement;
        }
        self.columns.fill(placement.width, size.width_px);
        self.rows.fill(placement.height, size.height_px);
        if geometry.interleaved {
            self.blended.resize(3 * size.width_px, 0.0);
        } else {
            self.blended.resize(size.width_px, 0.0);
            let rows = self.rgb_rows.iter_mut().flat_map(|row| &mut row.planes);
            for row in rows {
                row.resize(size.width_px, 0);
            }
        }
        if let Fit::Letterbox { pad, .. } = self.spec.fit {
            let affine = self.spec.affine;
            for (plane, affine) in self.planes().into_iter().zip(affine) {
                plane.fill(affine.apply(f32::from(pad)));
            }
        }
        self.geometry = Some(geometry);
        placement
    }

    /// The tensor's planes of red, green and blue.
    fn planes(&mut self) -> [&mut [f32]; 3] {
        channels(&mut self.tensor, &self.spec)
    }

    fn fill_from_planes(&mut self, picture: &I420<'_>, placement: Placement) {
        self.converter.start(picture);
        let affine = self.spec.affine.map(of_blended);
        let mut planes = channels(&mut self.tensor, &self.spec);
        let [upper, lower] = &mut self.rgb_rows;
        (upper.row, lower.row) = (None, None);
        for (row, tap) in self.rows.taps().iter().enumerate() {
            // Going down, the row below becomes the row above.
            if lower.row == Some(tap.first) {
                std::mem::swap(upper, lower);
            }
            upper.fill(tap.first, picture, &mut self.converter);
            lower.fill(tap.second, picture, &mut self.converter);
            let start = (placement.top + row) * self.spec.width + placement.left;
            let planes = planes.iter_mut().zip(&affine);
            for (channel, (plane, affine)) in planes.enumerate() {
                let pair = [&upper.planes[channel][..], &lower.planes[channel]];
                blend_rows(pair, tap.weight, &mut self.blended);
                let out = &mut plane[start..start + placement.width];
                sample_row(&self.blended, &self.columns, out);
                apply(*affine, out);
            }
        }
    }

    fn fill_from_rgb(&mut self, data: &[u8], size: PictureSize, placement: Placement) {
        let plane = Plane {
            data,
            stride: 3 * size.width_px,
        };
        let affine = self.spec.affine.map(of_blended);
        let line = &mut self.blended;
        let width = placement.width;
        let [reds, greens, blues] = channels(&mut self.tensor, &self.spec);
        for (row, tap) in self.rows.taps().iter().enumerate() {
            let pair = row_pair(plane, *tap, 3 * size.width_px);
            blend_rows(pair, tap.weight, line);
            let start = (placement.top + row) * self.spec.width + placement.left;
            let mut out = [
                &mut reds[start..start + width],
                &mut greens[start..start + width],
                &mut blues[start..start + width],
            ];
            sample_rgb_row(line, &self.columns, out.each_mut().map(|row| &mut **row));
            for (row, affine) in out.into_iter().zip(affine) {
                apply(affine, row);
            }
        }
    }
}

impl RgbRow {
    /// Makes it the row of that number, if it is not.
    fn fill(&mut self, row: u32, picture: &I420<'_>, converter: &mut RowConverter) {
        if self.row != Some(row) {
            self.row = Some(row);
            let planes = self.planes.each_mut().map(Vec::as_mut_slice);
            converter.convert(picture, row as usize, planes);
        }
    }
}

/// What is done to a blended value instead of a byte.
fn of_blended(affine: ChannelAffine) -> ChannelAffine {
    ChannelAffine {
        gain: affine.gain / BLENDED_ONE,
        bias: affine.bias,
    }
}

fn apply(affine: ChannelAffine, row: &mut [f32]) {
    for value in row {
        *value = affine.apply(*value);
    }
}

/// The planes of red, green and blue in a tensor.
fn channels<'t>(tensor: &'t mut [f32], spec: &TensorSpec) -> [&'t mut [f32]; 3] {
    let plane = spec.width * spec.height;
    let (first, rest) = tensor.split_at_mut(plane);
    let (second, third) = rest.split_at_mut(plane);
    match spec.order {
        ChannelOrder::Rgb => [first, second, third],
        ChannelOrder::Bgr => [third, second, first],
    }
}

/// The two rows that a tap blends.
fn row_pair(plane: Plane<'_>, tap: Tap, width: usize) -> [&[u8]; 2] {
    [tap.first, tap.second].map(|row| &plane.data[row as usize * plane.stride..][..width])
}

/// True when every row lies inside its plane.
fn is_whole(picture: &Picture<'_>) -> bool {
    let fits = |plane: Plane<'_>, width: usize, height: usize| {
        width > 0
            && height > 0
            && plane.stride >= width
            && plane.data.len() >= (height - 1) * plane.stride + width
    };
    match picture {
        Picture::I420(planes) => {
            let size = planes.size;
            let (width, height) = (size.chroma_width_px(), size.chroma_height_px());
            fits(planes.y, size.width_px, size.height_px)
                && fits(planes.u, width, height)
                && fits(planes.v, width, height)
        }
        Picture::Rgb { data, size } => fits(
            Plane {
                data,
                stride: 3 * size.width_px,
            },
            3 * size.width_px,
            size.height_px,
        ),
    }
}

#[cfg(test)]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small numbers of a test"
)]
mod tests {
    use super::*;
    use crate::decode::frame::Color;
    use crate::preprocess::color::to_rgb8;

    const BYTES: [ChannelAffine; 3] = [ChannelAffine {
        gain: 1.0,
        bias: 0.0,
    }; 3];

    fn spec(width: usize, height: usize, fit: Fit) -> TensorSpec {
        TensorSpec {
            width,
            height,
            order: ChannelOrder::Rgb,
            affine: BYTES,
            fit,
        }
    }

    fn size(width_px: usize, height_px: usize) -> PictureSize {
        PictureSize {
            width_px,
            height_px,
        }
    }

    const LETTERBOX: Fit = Fit::Letterbox {
        align: Align::Center,
        pad: 114,
    };

    /// A picture with colours up to and over the limits.
    fn smooth(size: PictureSize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut plane = |width: usize, height: usize, phase: f64, step: f64| {
            for y in 0..height {
                for x in 0..width {
                    let (x, y) = ((x as f64 + 0.5) * step, (y as f64 + 0.5) * step);
                    let wave = (x / 37.0 + phase).sin() * (y / 23.0 - phase).cos();
                    bytes.push((128.0 + 127.0 * wave) as u8);
                }
            }
        };
        plane(size.width_px, size.height_px, 0.0, 1.0);
        plane(size.chroma_width_px(), size.chroma_height_px(), 1.0, 2.0);
        plane(size.chroma_width_px(), size.chroma_height_px(), 2.0, 2.0);
        bytes
    }

    #[test]
    fn planes_give_what_their_rgb_picture_gives() {
        for (from, to, fit) in [
            (size(320, 180), (160, 160), LETTERBOX),
            (size(101, 77), (160, 120), Fit::Stretch),
            (size(64, 200), (96, 96), LETTERBOX),
        ] {
            let bytes = smooth(from);
            let planes = I420::from_packed(&bytes, from, Color::default());
            let mut rgb = Vec::new();
            to_rgb8(&planes, &mut rgb);
            let mut a = Preprocessor::new(spec(to.0, to.1, fit));
            let mut b = Preprocessor::new(spec(to.0, to.1, fit));
            let placed = a.run(&Picture::I420(planes)).unwrap();
            assert_eq!(
                Some(placed),
                b.run(&Picture::Rgb {
                    data: &rgb,
                    size: from
                })
            );
            assert_eq!(a.tensor(), b.tensor(), "{from:?}");
        }
    }

    #[test]
    fn letterbox_pads_and_maps_back() {
        let from = size(200, 100);
        let data = vec![10; 3 * 200 * 100];
        let mut preprocessor = Preprocessor::new(spec(100, 100, LETTERBOX));
        let placement = preprocessor
            .run(&Picture::Rgb {
                data: &data,
                size: from,
            })
            .unwrap();
        let red = &preprocessor.tensor()[..100 * 100];
        assert!(red[..25 * 100].iter().all(|&value| value == 114.0));
        assert!(red[25 * 100..75 * 100].iter().all(|&value| value == 10.0));
        assert!(red[75 * 100..].iter().all(|&value| value == 114.0));
        let corners = TensorBox {
            x1: 10.0,
            y1: 20.0,
            x2: 60.0,
            y2: 90.0,
        };
        let expected = TensorBox {
            x1: 20.0,
            y1: 0.0,
            x2: 120.0,
            y2: 100.0,
        };
        assert_eq!(placement.to_picture(&corners), expected);
    }

    #[test]
    fn a_new_geometry_leaves_nothing_of_the_old() {
        let mut used = Preprocessor::new(spec(64, 64, LETTERBOX));
        for from in [size(100, 30), size(30, 100), size(99, 31)] {
            let bytes = smooth(from);
            let picture = Picture::I420(I420::from_packed(&bytes, from, Color::default()));
            used.run(&picture).unwrap();
            let mut fresh = Preprocessor::new(spec(64, 64, LETTERBOX));
            fresh.run(&picture).unwrap();
            assert_eq!(used.tensor(), fresh.tensor(), "{from:?}");
        }
    }

    #[test]
    fn the_next_picture_has_nothing_of_the_one_before() {
        for from in [size(90, 60), size(64, 2), size(3, 1)] {
            let mut used = Preprocessor::new(spec(64, 64, LETTERBOX));
            let bytes = smooth(from);
            for bytes in [
                bytes.clone(),
                bytes.into_iter().map(|byte| 255 - byte).collect(),
            ] {
                let picture = Picture::I420(I420::from_packed(&bytes, from, Color::default()));
                used.run(&picture).unwrap();
                let mut fresh = Preprocessor::new(spec(64, 64, LETTERBOX));
                fresh.run(&picture).unwrap();
                assert_eq!(used.tensor(), fresh.tensor(), "{from:?}");
            }
        }
    }

    #[test]
    fn boxes_of_a_narrow_picture_are_moved_left() {
        let placement = Placement::new(&spec(100, 100, LETTERBOX), size(100, 200));
        let corners = TensorBox {
            x1: 35.0,
            y1: 10.0,
            x2: 60.0,
            y2: 90.0,
        };
        let expected = TensorBox {
            x1: 20.0,
            y1: 20.0,
            x2: 70.0,
            y2: 180.0,
        };
        assert_eq!(placement.to_picture(&corners), expected);
    }

    #[test]
    fn channel_order_and_affine_reach_their_channel() {
        let mut of = spec(2, 2, Fit::Stretch);
        of.order = ChannelOrder::Bgr;
        of.affine = [1.0, 2.0, 3.0].map(|gain| ChannelAffine { gain, bias: 0.5 });
        let mut preprocessor = Preprocessor::new(of);
        let data = [10, 20, 30].repeat(4);
        preprocessor
            .run(&Picture::Rgb {
                data: &data,
                size: size(2, 2),
            })
            .unwrap();
        assert_eq!(
            preprocessor.tensor(),
            [
                90.5, 90.5, 90.5, 90.5, 40.5, 40.5, 40.5, 40.5, 10.5, 10.5, 10.5, 10.5
            ]
        );
    }

    #[test]
    fn short_and_empty_pictures_are_refused() {
        let mut preprocessor = Preprocessor::new(spec(8, 8, LETTERBOX));
        let short = Picture::Rgb {
            data: &[0; 11],
            size: size(2, 2),
        };
        let empty = Picture::Rgb {
            data: &[],
            size: size(0, 0),
        };
        assert_eq!(preprocessor.run(&short), None);
        assert_eq!(preprocessor.run(&empty), None);
    }

    #[test]
    fn a_steady_geometry_keeps_its_buffers() {
        let from = size(320, 180);
        let bytes = smooth(from);
        let picture = Picture::I420(I420::from_packed(&bytes, from, Color::default()));
        let mut preprocessor = Preprocessor::new(spec(160, 160, LETTERBOX));
        preprocessor.run(&picture).unwrap();
        let address = |p: &Preprocessor| {
            (
                p.tensor.as_ptr(),
                p.blended.as_ptr(),
                p.rows.taps().as_ptr(),
            )
        };
        let before = address(&preprocessor);
        preprocessor.run(&picture).unwrap();
        assert_eq!(address(&preprocessor), before);
    }
}
