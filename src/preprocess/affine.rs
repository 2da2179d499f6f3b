//! What a model wants done to the bytes of a picture before it takes them.

/// What a model wants done to a channel's bytes: `value * gain + bias`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChannelAffine {
    /// Factor of a byte.
    pub gain: f32,
    /// Added after it.
    pub bias: f32,
}

impl ChannelAffine {
    /// The value for a byte in 0..=255.
    #[inline(always)]
    pub fn apply(self, value: f32) -> f32 {
        value * self.gain + self.bias
    }
}
