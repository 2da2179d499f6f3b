//! What several commands take: the text of an argument comes in, a checked value or a sentence for the user goes out.

use crate::dev::camera;

/// Frames a second that a camera can send.
pub(super) fn fps(text: &str) -> Result<f64, String> {
    let fps = text.parse().map_err(|_| "it is no number".to_owned())?;
    camera::check_fps(fps).map_err(|error| error.to_string())?;
    Ok(fps)
}

/// Frames a second of a clip.
pub(super) fn frame_rate(text: &str) -> Result<f64, String> {
    let fps = number(text, 240.0)?;
    if fps < 0.1 {
        return Err("it takes a number from 0.1 to 240".to_owned());
    }
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

/// A score from 0 to 1. Who means it in percent is told so.
pub(super) fn score(text: &str) -> Result<f32, String> {
    number(text, 1.0).map_err(|problem| match text.parse::<f64>() {
        Ok(percent) if (1.0..=100.0).contains(&percent) => {
            format!("{problem}; is {} meant?", percent / 100.0)
        }
        _ => problem,
    })?;
    // Read again, since scores have 32 bits. No value in range becomes another one that matters.
    text.parse().map_err(|_| "it is no number".to_owned())
}

/// The id of a twin, as the configuration takes it.
pub(super) fn twin_id(text: &str) -> Result<String, String> {
    word(text, |_| false).ok_or_else(|| "it takes 1 to 256 characters without blanks".to_owned())
}

/// The name of a stream, as the configuration takes it.
pub(super) fn stream_name(text: &str) -> Result<String, String> {
    word(text, |c| c == ':')
        .ok_or_else(|| "it takes 1 to 256 characters without blanks and colons".to_owned())
}

fn word(text: &str, refused: fn(char) -> bool) -> Option<String> {
    let is_bad = |c: char| c.is_whitespace() || c.is_control() || refused(c);
    let fits = (1..=256).contains(&text.len()) && !text.contains(is_bad);
    fits.then(|| text.to_owned())
}
