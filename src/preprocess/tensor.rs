//! The preprocessor: a picture comes in, the model's input tensor goes out. One pass over the tensor's rows samples the picture
//! as RGB, blends, scales and writes each channel, so that there is no whole RGB picture in between, and no allocation once
//! the geometry is known.

use super::affine::ChannelAffine;
use super::resize::Axis;
use super::sample::{Instructions, SampledRow, Sampler};
use twinsight_media::color::rows_of;
use twinsight_media::picture::{I420, PictureSize, Plane};

/// A picture that a detector takes.
#[derive(Debug, Clone, Copy)]
pub enum Picture<'a> {
    /// The planes of a decoded frame.
    I420(I420<'a>),
    /// Interleaved 8-bit RGB without padding, `3 * width * height` bytes: pictures from files.
    Rgb {
        /// The rows, from top to bottom.
        data: &'a [u8],
        /// Width and height of the picture.
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
    /// Width and height are scaled each by a factor of its own.
    Stretch,
    /// Both are scaled by one factor, and the rest of the tensor is padding.
    Letterbox {
        /// Where the picture lies in the tensor.
        align: Align,
        /// The padding's value in each channel, as a byte of a picture.
        pad: u8,
    },
}

/// Where a letterboxed picture lies in the tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// It lies in the middle; an odd row or column of padding goes below or to the right.
    Center,
    /// It lies at the top left.
    TopLeft,
}

/// The order of channels in the tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelOrder {
    /// Red comes first.
    Rgb,
    /// Blue comes first.
    Bgr,
}

/// The input tensor of a model: `[1, 3, height, width]` of `f32`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TensorSpec {
    /// The number of its columns.
    pub width: usize,
    /// The number of its rows.
    pub height: usize,
    /// The order of its three channels.
    pub order: ChannelOrder,
    /// The scaling of red, green and blue, in this order whatever the tensor's is.
    pub affine: [ChannelAffine; 3],
    /// How pictures are fitted to it.
    pub fit: Fit,
}

/// A box in tensor pixels, given by its corners. It may reach beyond the tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TensorBox {
    /// The left edge.
    pub x1: f32,
    /// The top edge.
    pub y1: f32,
    /// The right edge.
    pub x2: f32,
    /// The bottom edge.
    pub y2: f32,
}

/// Where a picture lies in the tensor, in tensor pixels. It maps boxes back to the picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placement {
    picture: PictureSize,
    left: usize,
    top: usize,
    width: usize,
    height: usize,
}

/// Turns pictures into tensors. It owns the tensor and everything that is reused from one picture to the next.
#[derive(Debug)]
pub struct Preprocessor {
    spec: TensorSpec,
    tensor: Vec<f32>,
    /// The geometry that the tables were computed for.
    geometry: Option<Placement>,
    sampler: Sampler,
    rows: Axis,
    /// The two rows of the picture that are blended.
    sampled: [CachedRow; 2],
}

/// A sampled row of a picture.
#[derive(Debug, Default)]
struct CachedRow {
    /// The row's number in this picture; `None` before its first row was sampled.
    row: Option<u32>,
    values: SampledRow,
}

impl Placement {
    /// Computes how a picture of this size, which must not be zero, lies in a tensor.
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

    /// Where the picture lies in the tensor.
    pub(crate) fn area(&self) -> TensorBox {
        TensorBox {
            x1: self.left as f32,
            y1: self.top as f32,
            x2: (self.left + self.width) as f32,
            y2: (self.top + self.height) as f32,
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
        Self::with(Instructions::best(), spec)
    }

    fn with(instructions: Instructions, spec: TensorSpec) -> Self {
        Self {
            spec,
            tensor: vec![0.0; 3 * spec.width * spec.height],
            geometry: None,
            sampler: Sampler::new(instructions),
            rows: Axis::default(),
            sampled: Default::default(),
        }
    }

    /// The tensor as the last [`run`](Self::run) left it: the three channels in the order of the spec, each row after row.
    pub fn tensor(&self) -> &[f32] {
        &self.tensor
    }

    /// Fills the tensor. Gives `None` if the picture has no pixels or fewer bytes than its size says.
    pub fn run(&mut self, picture: &Picture<'_>) -> Option<Placement> {
        if !is_whole(picture) {
            return None;
        }
        let placement = self.prepare(picture.size());
        let sampler = &mut self.sampler;
        let mut planes = channels(&mut self.tensor, &self.spec);
        let [upper, lower] = &mut self.sampled;
        (upper.row, lower.row) = (None, None);
        for (row, tap) in self.rows.taps().iter().enumerate() {
            // On the way down, the row below becomes the row above.
            if lower.row == Some(tap.first) {
                std::mem::swap(upper, lower);
            }
            upper.fill(tap.first, picture, sampler);
            let below = if tap.weight == 0.0 {
                &*upper
            } else {
                lower.fill(tap.second, picture, sampler);
                &*lower
            };
            let start = (placement.top + row) * self.spec.width + placement.left;
            let planes = planes.iter_mut().zip(self.spec.affine);
            for (channel, (plane, affine)) in planes.enumerate() {
                let pair = [&*upper, below].map(|row| &row.values[channel][..]);
                let out = &mut plane[start..start + placement.width];
                sampler.blend_rows(pair, tap.weight, affine, out);
            }
        }
        Some(placement)
    }

    /// Computes the tables and paints the padding when the geometry is new.
    fn prepare(&mut self, size: PictureSize) -> Placement {
        let placement = Placement::new(&self.spec, size);
        if self.geometry == Some(placement) {
            return placement;
        }
        let mut columns = Axis::default();
        columns.fill(placement.width, size.width_px);
        self.sampler.fill(&columns, size.width_px);
        self.rows.fill(placement.height, size.height_px);
        if let Fit::Letterbox { pad, .. } = self.spec.fit {
            let planes = channels(&mut self.tensor, &self.spec);
            for (plane, affine) in planes.into_iter().zip(self.spec.affine) {
                plane.fill(affine.apply(f32::from(pad)));
            }
        }
        self.geometry = Some(placement);
        placement
    }
}

impl CachedRow {
    /// Samples this row of the picture, unless it is the one that is held already.
    fn fill(&mut self, row: u32, picture: &Picture<'_>, sampler: &mut Sampler) {
        if self.row == Some(row) {
            return;
        }
        self.row = Some(row);
        let row = row as usize;
        match picture {
            Picture::I420(planes) => {
                sampler.sample_planes(planes.color, rows_of(planes, row), &mut self.values);
            }
            Picture::Rgb { data, size } => {
                let bytes = 3 * size.width_px;
                sampler.sample_rgb(&data[row * bytes..][..bytes], &mut self.values);
            }
        }
    }
}

/// The planes of red, green and blue, in this order, in a tensor.
fn channels<'t>(tensor: &'t mut [f32], spec: &TensorSpec) -> [&'t mut [f32]; 3] {
    let plane = spec.width * spec.height;
    let (first, rest) = tensor.split_at_mut(plane);
    let (second, third) = rest.split_at_mut(plane);
    match spec.order {
        ChannelOrder::Rgb => [first, second, third],
        ChannelOrder::Bgr => [third, second, first],
    }
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
        Picture::Rgb { data, size } => {
            let stride = 3 * size.width_px;
            fits(Plane { data, stride }, stride, size.height_px)
        }
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
    use twinsight_media::color::to_rgb8;
    use twinsight_media::picture::{Color, Matrix};

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

    /// Numbers that look random and are the same every time.
    fn noise(size: PictureSize) -> Vec<u8> {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..size.i420_bytes()).map(|_| next()).collect()
    }

    #[test]
    fn every_processor_gives_the_same() {
        // Every aarch64 with Linux has NEON. Without it here, the baseline would be compared with itself.
        #[cfg(target_arch = "aarch64")]
        assert_eq!(Instructions::best(), Instructions::Neon);
        let colors = [
            (Matrix::Bt601, false),
            (Matrix::Bt601, true),
            (Matrix::Bt709, false),
            (Matrix::Bt709, true),
        ]
        .map(|(matrix, full_range)| Color { matrix, full_range });
        // From one pixel over less than a window in chroma or both to much wider, odd and even.
        let widths = (1..=35).chain([63, 64, 65, 127, 320, 641, 1919]);
        for (index, width) in widths.enumerate() {
            let from = size(width, [2, 7, 33][index % 3]);
            let bytes = noise(from);
            let picture = I420::from_packed(&bytes, from, colors[index % 4]);
            let top_left = Fit::Letterbox {
                align: Align::TopLeft,
                pad: 114,
            };
            for fit in [Fit::Stretch, LETTERBOX, top_left] {
                for to in [(1, 1), (16, 5), (53, 31), (160, 96)] {
                    let mut of = spec(to.0, to.1, fit);
                    of.affine =
                        [0.017, 0.018, -0.02].map(|gain| ChannelAffine { gain, bias: -2.1 });
                    let mut best = Preprocessor::new(of);
                    let mut baseline = Preprocessor::with(Instructions::Baseline, of);
                    let picture = Picture::I420(picture);
                    assert_eq!(best.run(&picture), baseline.run(&picture));
                    assert_eq!(best.tensor(), baseline.tensor(), "{from:?} {of:?}");
                }
            }
        }
    }

    #[test]
    fn blends_four_pixels_by_their_shares() {
        // Full range and neutral chroma: grey is luma.
        let bytes = [&[0, 100, 200, 40, 60, 80][..], &[128; 4]].concat();
        let color = Color {
            full_range: true,
            ..Color::default()
        };
        let picture = I420::from_packed(&bytes, size(3, 2), color);
        let mut preprocessor = Preprocessor::new(spec(4, 3, Fit::Stretch));
        preprocessor.run(&Picture::I420(picture)).unwrap();
        // Columns at 0, 0.625, 1.375 and 2; rows at 0, 0.5 and 1.
        let expected = [
            [0.0, 62.5, 137.5, 200.0],
            [20.0, 57.5, 102.5, 140.0],
            [40.0, 52.5, 67.5, 80.0],
        ];
        assert_eq!(preprocessor.tensor()[..12], *expected.as_flattened());
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
                p.sampled.each_ref().map(|row| row.values[0].as_ptr()),
                p.rows.taps().as_ptr(),
            )
        };
        let before = address(&preprocessor);
        preprocessor.run(&picture).unwrap();
        assert_eq!(address(&preprocessor), before);
    }
}
