//! What several commands take: the text of an argument comes in, a checked value or a sentence for the user goes out.

use crate::dev::camera;

/// Frames a second that a camera can send.
pub(super) fn fps(text: &str) -> Result<f64, String> {
    let fps = text.parse().map_err(|_| "it is no number".to_owned())?;
    camera::check_fps(fps).map_err(|error| error.to_string())?;
    Ok(fps)
}

/// A number from 0 to `most`, with the limits that the configuration has for it.
pub(super) fn number(text: &str, most: f64) -> Result<f64, String> {
    let number = text
        .parse()
        .ok()
        .filter(|number| (0.0..=most).contains(number));
    number.ok_or_else(|| format!("it takes a number from 0 to {most}"))
}
