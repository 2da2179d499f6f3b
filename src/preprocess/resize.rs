//! Two-tap bilinear resize with half-pixel centres, as OpenCV's `INTER_LINEAR`: tables for an axis are
//! computed once for a geometry, rows of bytes are blended vertically, then sampled horizontally.

/// Where each output position of an axis lies in the source.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Axis {
    taps: Vec<Tap>,
}

/// An output position between two source positions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tap {
    /// The source position at or before.
    pub first: u32,
    /// The source position after it; at the end the same again.
    pub second: u32,
    /// The share of `second`, 0..1.
    pub weight: f32,
}

impl Axis {
    /// The table of an axis of `len` positions, at least one: output position `i` samples the source at
    /// `(i + 0.5) * len / outputs - 0.5`, limited to its positions.
    pub fn fill(&mut self, outputs: usize, len: usize) {
        self.taps.clear();
        let step = len as f64 / outputs as f64;
        let last = len.saturating_sub(1);
        self.taps.extend((0..outputs).map(|i| {
            let position = ((i as f64 + 0.5) * step - 0.5).clamp(0.0, last as f64);
            tap(position, last)
        }));
    }

    /// The positions in order.
    pub fn taps(&self) -> &[Tap] {
        &self.taps
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a position in a picture is small and not negative"
)]
fn tap(position: f64, last: usize) -> Tap {
    let first = position.floor() as u32;
    Tap {
        first,
        second: (first + 1).min(last as u32),
        weight: position.fract() as f32,
    }
}

/// What blended rows are multiples of: `1 / BLENDED_ONE` of a sample.
pub(super) const BLENDED_ONE: f32 = 256.0;

/// Blends two rows of samples, in 16 bits so that the compiler makes it wide.
pub(super) fn blend_rows(rows: [&[u8]; 2], weight: f32, out: &mut [f32]) {
    let below = share(weight);
    let above = 256 - below;
    for ((out, &a), &b) in out.iter_mut().zip(rows[0]).zip(rows[1]) {
        *out = f32::from(u16::from(a) * above + u16::from(b) * below);
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a weight is in 0..1"
)]
fn share(weight: f32) -> u16 {
    (weight * BLENDED_ONE).round() as u16
}

/// Samples a blended row at the positions of an axis.
pub(super) fn sample_row(line: &[f32], axis: &Axis, out: &mut [f32]) {
    for (out, tap) in out.iter_mut().zip(axis.taps()) {
        let [left, right] = [line[tap.first as usize], line[tap.second as usize]];
        *out = left + (right - left) * tap.weight;
    }
}

/// As [`sample_row`], for interleaved RGB.
pub(super) fn sample_rgb_row(line: &[f32], axis: &Axis, out: [&mut [f32]; 3]) {
    let [reds, greens, blues] = out;
    let pixels = reds.iter_mut().zip(greens).zip(blues);
    for (((red, green), blue), tap) in pixels.zip(axis.taps()) {
        let left = &line[3 * tap.first as usize..][..3];
        let right = &line[3 * tap.second as usize..][..3];
        let blend = |channel: usize| left[channel] + (right[channel] - left[channel]) * tap.weight;
        (*red, *green, *blue) = (blend(0), blend(1), blend(2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resize(row: &[u8], outputs: usize) -> Vec<f32> {
        let mut axis = Axis::default();
        axis.fill(outputs, row.len());
        let mut line = vec![0.0; row.len()];
        blend_rows([row, row], 0.5, &mut line);
        let mut out = vec![0.0; outputs];
        sample_row(&line, &axis, &mut out);
        out.iter().map(|value| value / BLENDED_ONE).collect()
    }

    #[test]
    fn follows_opencv_down_up_and_same() {
        // cv2.resize of the same row as float32, INTER_LINEAR.
        assert_eq!(resize(&[0, 10, 20, 30], 2), [5.0, 25.0]);
        assert_eq!(resize(&[0, 100], 4), [0.0, 25.0, 75.0, 100.0]);
        assert_eq!(resize(&[7, 8, 9], 3), [7.0, 8.0, 9.0]);
        assert_eq!(resize(&[42], 3), [42.0; 3]);
        let thirds = resize(&[0, 30, 60, 90, 120], 3);
        for (found, expected) in thirds.iter().zip([10.0, 60.0, 110.0]) {
            assert!((found - expected).abs() < 1e-4, "{thirds:?}");
        }
    }

    #[test]
    fn interleaved_rgb_gives_the_same_as_planes() {
        let rgb: Vec<u8> = (0..30).map(|i| i * 7 + i % 3 * 10).collect();
        let mut axis = Axis::default();
        axis.fill(7, 10);
        let mut line = vec![0.0; 30];
        blend_rows([&rgb, &rgb], 0.0, &mut line);
        let mut planes = [vec![0.0; 7], vec![0.0; 7], vec![0.0; 7]];
        let [r, g, b] = &mut planes;
        sample_rgb_row(&line, &axis, [r, g, b]);
        for (channel, plane) in planes.iter_mut().enumerate() {
            plane.iter_mut().for_each(|value| *value /= BLENDED_ONE);
            let row: Vec<u8> = rgb.iter().skip(channel).step_by(3).copied().collect();
            assert_eq!(*plane, resize(&row, 7));
        }
    }
}
