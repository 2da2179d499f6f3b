//! The scaling of a channel: a byte of the picture comes in, the value that the model was trained on goes out.

/// Scales a channel's bytes: `value * gain + bias`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChannelAffine {
    /// The factor.
    pub gain: f32,
    /// Added to the product.
    pub bias: f32,
}

impl ChannelAffine {
    /// Leaves bytes as they are.
    pub const PLAIN: Self = Self {
        gain: 1.0,
        bias: 0.0,
    };

    /// The tensor's value for a byte, given as 0.0 to 255.0.
    #[inline(always)]
    pub(crate) fn apply(self, value: f32) -> f32 {
        value * self.gain + self.bias
    }
}
