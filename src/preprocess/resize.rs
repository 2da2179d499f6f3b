//! Bilinear resizing with two taps and half-pixel centres, as OpenCV's `INTER_LINEAR` does it. The lengths of an axis in
//! picture and tensor come in, a table of taps goes out; [`Preprocessor`](super::Preprocessor) computes it once for a geometry.

/// The table of an axis: where each output position lies in the source.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Axis {
    taps: Vec<Tap>,
}

/// An output position between two source positions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Tap {
    /// The source position at it or before it.
    pub(crate) first: u32,
    /// The source position after it; at the end of the axis the same as `first`.
    pub(crate) second: u32,
    /// The share that `second` has in the output, from 0 to below 1.
    pub(crate) weight: f32,
}

impl Axis {
    /// Computes the table for an axis of `len` positions, at least one. Output position `i` samples the source at
    /// `(i + 0.5) * len / outputs - 0.5`, limited to its positions.
    pub(crate) fn fill(&mut self, outputs: usize, len: usize) {
        self.taps.clear();
        let step = len as f64 / outputs as f64;
        let last = len.saturating_sub(1);
        self.taps.extend((0..outputs).map(|i| {
            let position = ((i as f64 + 0.5) * step - 0.5).clamp(0.0, last as f64);
            tap(position, last)
        }));
    }

    /// The taps, one for each output position.
    pub(crate) fn taps(&self) -> &[Tap] {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn resize(row: &[f32], outputs: usize) -> Vec<f32> {
        let mut axis = Axis::default();
        axis.fill(outputs, row.len());
        let blend = |tap: &Tap| {
            let [first, second] = [tap.first, tap.second].map(|at| row[at as usize]);
            first + (second - first) * tap.weight
        };
        axis.taps().iter().map(blend).collect()
    }

    #[test]
    fn follows_opencv_down_up_and_same() {
        // cv2.resize of the same row as float32, INTER_LINEAR.
        assert_eq!(resize(&[0.0, 10.0, 20.0, 30.0], 2), [5.0, 25.0]);
        assert_eq!(resize(&[0.0, 100.0], 4), [0.0, 25.0, 75.0, 100.0]);
        assert_eq!(resize(&[7.0, 8.0, 9.0], 3), [7.0, 8.0, 9.0]);
        assert_eq!(resize(&[42.0], 3), [42.0; 3]);
        let thirds = resize(&[0.0, 30.0, 60.0, 90.0, 120.0], 3);
        for (found, expected) in thirds.iter().zip([10.0, 60.0, 110.0]) {
            assert!((found - expected).abs() < 1e-4, "{thirds:?}");
        }
    }
}
