//! Makes pictures smaller: the planes of a frame or of a part of it and a size come in, RGB bytes or smaller planes go out. Each pixel
//! is the mean of the area of the frame that it covers, so that thin lines do not flicker, as they do when only the nearest pixels are
//! taken. Previews and best shots run it on their threads.

use twinsight_media::color::convert;
use twinsight_media::picture::{I420, PictureSize, Plane};

/// JPEG holds sides of 16 bits.
const MAX_SIDE_PX: usize = 65_535;

/// The size of a frame that is made so wide and keeps its shape.
pub(crate) fn scaled_size(frame: PictureSize, width_px: usize) -> PictureSize {
    let PictureSize {
        width_px: frame_width,
        height_px: frame_height,
    } = frame;
    let mut width_px = width_px.clamp(1, MAX_SIDE_PX).min(frame_width.max(1));
    let rows = |width: usize| (frame_height * width + frame_width / 2) / frame_width.max(1);
    if rows(width_px) > MAX_SIDE_PX {
        width_px = (MAX_SIDE_PX * frame_width / frame_height).max(1);
    }
    PictureSize {
        width_px,
        height_px: rows(width_px).clamp(1, MAX_SIDE_PX),
    }
}

/// Makes pictures smaller, and keeps its buffers between them.
#[derive(Debug, Default)]
pub(crate) struct Scaler {
    planes: [Vec<u8>; 3],
    sums: Vec<f32>,
    row: [Vec<i16>; 3],
}

impl Scaler {
    /// Writes the picture in this size to `rgb`. The size is not larger than the picture's.
    pub(crate) fn scale(&mut self, picture: &I420<'_>, size: PictureSize, rgb: &mut Vec<u8>) {
        for (source, out) in sources(picture).iter().zip(&mut self.planes) {
            scale_plane(source, size, &mut self.sums, out);
        }
        for row in &mut self.row {
            row.resize(size.width_px, 0);
        }
        rgb.resize(3 * size.width_px * size.height_px, 0);
        let [ys, us, vs] = &self.planes;
        let rows = ys
            .chunks_exact(size.width_px)
            .zip(us.chunks_exact(size.width_px))
            .zip(vs.chunks_exact(size.width_px));
        for (((ys, us), vs), rgb) in rows.zip(rgb.chunks_exact_mut(3 * size.width_px)) {
            let out = self.row.each_mut().map(Vec::as_mut_slice);
            convert(picture.color, [ys, us, vs], out);
            let [reds, greens, blues] = &self.row;
            let pixels = reds.iter().zip(greens).zip(blues);
            for (rgb, ((&r, &g), &b)) in rgb.as_chunks_mut::<3>().0.iter_mut().zip(pixels) {
                *rgb = [r, g, b].map(clamped);
            }
        }
    }

    /// Writes the planes of the picture in this size to `i420`, one behind the other. The size is not larger than the picture's, and its
    /// sides are even.
    pub(crate) fn shrink(&mut self, picture: &I420<'_>, size: PictureSize, i420: &mut Vec<u8>) {
        let chroma = PictureSize {
            width_px: size.chroma_width_px(),
            height_px: size.chroma_height_px(),
        };
        i420.clear();
        for (source, size) in sources(picture).iter().zip([size, chroma, chroma]) {
            scale_plane(source, size, &mut self.sums, &mut self.planes[0]);
            i420.extend_from_slice(&self.planes[0]);
        }
    }
}

/// A plane of a picture as it is scaled.
struct Source<'a> {
    plane: Plane<'a>,
    /// Samples of its rows, and rows.
    len: PictureSize,
    /// The samples that the picture covers, of which the last may count in part.
    extent: [f64; 2],
}

/// The planes of a picture.
fn sources<'a>(picture: &I420<'a>) -> [Source<'a>; 3] {
    let frame = picture.size;
    let chroma = PictureSize {
        width_px: frame.chroma_width_px(),
        height_px: frame.chroma_height_px(),
    };
    let extent = [frame.width_px as f64, frame.height_px as f64];
    // The last chroma sample of an odd side covers one column or row of the picture alone.
    let half = extent.map(|side| side / 2.0);
    [
        (picture.y, frame, extent),
        (picture.u, chroma, half),
        (picture.v, chroma, half),
    ]
    .map(|(plane, len, extent)| Source { plane, len, extent })
}

/// Where an output position lies in the source: the share that each source position from `first` on has in it, which together
/// are 1.
struct Span {
    first: usize,
    /// The place of its shares among those of all spans.
    shares: std::ops::Range<usize>,
}

/// The spans of an axis.
struct Spans {
    spans: Vec<Span>,
    shares: Vec<f32>,
}

impl Spans {
    /// Divides `extent` source positions, of which there are `len` (the last may count in part), among `outputs`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positions in a picture are small and not negative"
    )]
    fn new(outputs: usize, extent: f64, len: usize) -> Self {
        let step = extent / outputs as f64;
        let mut shares = Vec::new();
        let spans = (0..outputs).map(|at| {
            let (from, to) = (at as f64 * step, (at + 1) as f64 * step);
            let first = (from as usize).min(len - 1);
            let end = (to.ceil() as usize).clamp(first + 1, len);
            let begin = shares.len();
            for position in first..end {
                let covered = to.min((position + 1) as f64) - from.max(position as f64);
                shares.push((covered / step) as f32);
            }
            // Rounding may leave an end without any share, and the last position may have to stand for what lies behind it.
            let own = &mut shares[begin..];
            let sum: f32 = own.iter().sum();
            if sum > 0.0 {
                own.iter_mut().for_each(|share| *share /= sum);
            } else {
                own[0] = 1.0;
            }
            Span {
                first,
                shares: begin..shares.len(),
            }
        });
        let spans = spans.collect();
        Self { spans, shares }
    }

    /// Whether each position is one of the source.
    fn is_one_to_one(&self) -> bool {
        let is_same = |(at, span): (usize, &Span)| at == span.first;
        self.shares.len() == self.spans.len() && self.spans.iter().enumerate().all(is_same)
    }
}

/// Scales a plane to the size. Rows are summed up first, since that loop is the one over all samples and the compiler can vectorise it.
fn scale_plane(source: &Source<'_>, size: PictureSize, sums: &mut Vec<f32>, out: &mut Vec<u8>) {
    let &Source { plane, len, extent } = source;
    let columns = Spans::new(size.width_px, extent[0], len.width_px);
    let rows = Spans::new(size.height_px, extent[1], len.height_px);
    if len == size && columns.is_one_to_one() && rows.is_one_to_one() {
        out.clear();
        let rows = plane.data.chunks(plane.stride).take(len.height_px);
        out.extend(rows.flat_map(|row| &row[..len.width_px]));
        return;
    }
    out.resize(size.width_px * size.height_px, 0);
    for (span, out) in rows.spans.iter().zip(out.chunks_exact_mut(size.width_px)) {
        sums.clear();
        sums.resize(len.width_px, 0.0);
        for (row, share) in (span.first..).zip(&rows.shares[span.shares.clone()]) {
            let samples = &plane.data[row * plane.stride..][..len.width_px];
            for (sum, sample) in sums.iter_mut().zip(samples) {
                *sum += share * f32::from(*sample);
            }
        }
        for (out, span) in out.iter_mut().zip(&columns.spans) {
            *out = byte(match &columns.shares[span.shares.clone()] {
                // Most positions of chroma, and those of a picture of half the size: a loop over so few takes several times as long.
                [_] => sums[span.first],
                [a, b] => a * sums[span.first] + b * sums[span.first + 1],
                shares => {
                    let sums = &sums[span.first..][..shares.len()];
                    shares
                        .iter()
                        .zip(sums)
                        .map(|(share, sum)| share * sum)
                        .sum()
                }
            });
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a saturating cast of a rounded number is what is wanted"
)]
fn byte(number: f32) -> u8 {
    (number + 0.5) as u8
}

#[expect(clippy::cast_sign_loss, reason = "limited to 0..=255")]
fn clamped(value: i16) -> u8 {
    value.clamp(0, 255) as u8
}

#[cfg(test)]
#[path = "scale_tests.rs"]
mod tests;
