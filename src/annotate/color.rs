//! The colours of annotations: a class comes in, its colour goes out.

/// Red, green and blue.
pub(super) type Rgb = [u8; 3];

pub(super) const INK: Rgb = [16, 18, 22];
pub(super) const PAPER: Rgb = [255, 255, 255];

/// The colour of a class. Hues advance by the golden angle, so that neighbouring classes differ most.
pub(super) fn color(class_id: usize) -> Rgb {
    let class = u16::try_from(class_id % 360).unwrap_or(0);
    let hue = (f32::from(class) * 137.508 + 150.0) % 360.0;
    let channel = |offset: f32| {
        let k = (offset + hue / 60.0) % 6.0;
        let dip = k.min(4.0 - k).clamp(0.0, 1.0);
        1.0 - 0.82 * dip
    };
    [5.0, 3.0, 1.0].map(|offset| byte(255.0 * channel(offset)))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a saturating cast is what is wanted"
)]
pub(super) fn byte(value: f32) -> u8 {
    value.round() as u8
}

pub(super) fn luminance([red, green, blue]: Rgb) -> f32 {
    0.299 * f32::from(red) + 0.587 * f32::from(green) + 0.114 * f32::from(blue)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_classes_have_colours_of_their_own() {
        let apart = |a: Rgb, b: Rgb| {
            a.iter()
                .zip(b)
                .map(|(&a, b)| a.abs_diff(b) as u32)
                .sum::<u32>()
        };
        for class in 0..20 {
            for other in class + 1..20 {
                assert!(apart(color(class), color(other)) > 10, "{class} {other}");
            }
            assert!(apart(color(class), color(class + 1)) > 150, "{class}");
        }
    }
}
