//! Asks each camera that is no twin by itself for its pictures, and looks at them for a moment. The cameras of the configuration come
//! in, and a finding for each goes out: what it sends, or why nothing comes.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tokio::sync::mpsc;

use super::finding::{Finding, Report};
use crate::bridge::source::{Source, SourceEvent, SourceFacts, SourceState};
use crate::config::{CameraConfig, SourceConfig};

/// So many cameras are asked at once.
const AT_ONCE: usize = 8;

/// A camera has this long to send its first picture.
const FIRST_PICTURE_LIMIT: Duration = Duration::from_secs(20);

/// So long are its pictures looked at.
const LOOK_FOR: Duration = Duration::from_secs(3);

/// A viewer waits this long for its next picture after a loss at most, before it is worth a warning.
const LONG_GOP: Duration = Duration::from_secs(4);

/// So many events of a source may wait to be looked at.
const EVENTS: usize = 256;

/// What was seen of a camera's pictures.
#[derive(Debug)]
struct Look {
    facts: SourceFacts,
    pictures: u32,
    keyframes: u32,
    dropped: u64,
    bytes: usize,
    took: Duration,
}

/// Asks all cameras that have a source, in the order of the configuration.
pub(super) async fn check(cameras: &[CameraConfig], report: &mut Report<'_>) {
    let checks = cameras.iter().filter_map(|camera| {
        let source = camera.source.clone()?;
        Some(one(format!("camera {} source", camera.id), source))
    });
    let mut findings = futures_util::stream::iter(checks).buffered(AT_ONCE);
    while let Some(found) = findings.next().await {
        for finding in found {
            report.add(finding);
        }
    }
}

async fn one(subject: String, source: SourceConfig) -> Vec<Finding> {
    let looked = look(&subject, source).await;
    match looked {
        Ok(look) => findings(&subject, &look),
        Err(reason) => {
            let (found, remedy) = parted(&reason);
            vec![Finding::fail(subject, found, remedy)]
        }
    }
}

/// The reason of a source is a sentence with its remedy behind the last colon.
fn parted(reason: &str) -> (&str, &str) {
    reason.rsplit_once(": ").unwrap_or((reason, ""))
}

async fn look(subject: &str, source: SourceConfig) -> Result<Look, String> {
    let (sender, mut events) = mpsc::channel(EVENTS);
    let source = Source::open(
        subject,
        source,
        // What does not fit is left out, since the source must not wait.
        Box::new(move |event| drop(sender.try_send(event))),
    );
    let looked = tokio::time::timeout(FIRST_PICTURE_LIMIT + LOOK_FOR, follow(&mut events)).await;
    source.close().await;
    looked.unwrap_or_else(|_| {
        let limit = FIRST_PICTURE_LIMIT.as_secs();
        Err(format!(
            "no picture came within {limit} s: see whether the camera shows any elsewhere"
        ))
    })
}

async fn follow(events: &mut mpsc::Receiver<SourceEvent>) -> Result<Look, String> {
    let mut look: Option<(Look, Instant)> = None;
    loop {
        let until = look.as_ref().map(|(_, since)| *since + LOOK_FOR);
        let over = async {
            match until {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        let event = tokio::select! {
            event = events.recv() => event,
            () = over => None,
        };
        match (event, &mut look) {
            (Some(SourceEvent::State(SourceState::Down { reason, .. })), _) => {
                return Err(reason.to_string());
            }
            (Some(SourceEvent::State(SourceState::Receiving(facts))), None) => {
                let new = Look {
                    facts,
                    pictures: 0,
                    keyframes: 0,
                    dropped: 0,
                    bytes: 0,
                    took: Duration::ZERO,
                };
                look = Some((new, Instant::now()));
            }
            (Some(SourceEvent::State(SourceState::Receiving(facts))), Some((look, _))) => {
                look.facts = facts;
            }
            (Some(SourceEvent::Unit(unit)), Some((look, _))) => {
                look.pictures += 1;
                look.keyframes += u32::from(unit.is_keyframe);
                look.bytes += unit.data.len();
            }
            (Some(SourceEvent::Dropped(_, count)), Some((look, _))) => look.dropped += count,
            (Some(_), _) => {}
            (None, _) => {
                let Some((mut look, since)) = look else {
                    return Err(
                        "the source ended: this is a bug, please report it with the camera's model"
                            .to_owned(),
                    );
                };
                look.took = since.elapsed();
                return Ok(look);
            }
        }
    }
}

fn findings(subject: &str, look: &Look) -> Vec<Finding> {
    let seconds = look.took.as_secs_f64();
    let mut found = "H.264 video comes".to_owned();
    if let Some([profile, constraints, level]) = look.facts.profile_level_id {
        found += &format!(
            " ({} profile, level {}.{}, profile-level-id {profile:02x}{constraints:02x}{level:02x})",
            profile_name(profile, constraints),
            level / 10,
            level % 10
        );
    }
    if let Some(size) = look.facts.size {
        found += &format!(", {}x{}", size.width_px, size.height_px);
    }
    let fps = f64::from(look.pictures) / seconds.max(0.001);
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let kbits = look.bytes as f64 * 8.0 / 1000.0 / seconds.max(0.001);
    found += &format!(
        ", {fps:.0} frames/s, {kbits:.0} kbit/s, {} keyframes in {seconds:.0} s, no B frames",
        look.keyframes
    );
    let mut findings = Vec::new();
    if look.pictures == 0 {
        findings.push(Finding::fail(
            subject,
            format!("it answers, and no picture came within {seconds:.0} s"),
            "set the keyframe interval (I-frame interval, GOP) to 1 s in the camera's settings, and see that its network is good",
        ));
        return findings;
    }
    findings.push(Finding::ok(subject, found));
    let gop = look.took / look.keyframes.max(1);
    if look.keyframes <= 1 && gop >= LOOK_FOR.min(LONG_GOP) {
        findings.push(Finding::warn(
            subject,
            format!("its keyframes are {seconds:.0} s apart or more, which is how long a viewer waits after a loss"),
            "set the keyframe interval (I-frame interval, GOP) to 1 s in the camera's settings",
        ));
    }
    if look.dropped > 0 {
        findings.push(Finding::warn(
            subject,
            format!(
                "{} pictures were lost on the way or could not be used",
                look.dropped
            ),
            "see that its network is good, or take `rtsp_transport = \"tcp\"`",
        ));
    }
    findings
}

/// How people call a profile (ITU-T H.264, annex A.2).
fn profile_name(profile_idc: u8, constraints: u8) -> &'static str {
    match profile_idc {
        66 if constraints & 0x40 != 0 => "constrained baseline",
        66 => "baseline",
        77 => "main",
        88 => "extended",
        100 => "high",
        _ => "another",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use twinsight_media::picture::PictureSize;

    fn seen(pictures: u32, keyframes: u32, dropped: u64) -> Vec<String> {
        let look = Look {
            facts: SourceFacts {
                size: Some(PictureSize {
                    width_px: 1920,
                    height_px: 1080,
                }),
                profile_level_id: Some([0x4d, 0x00, 0x28]),
                fps: None,
            },
            pictures,
            keyframes,
            dropped,
            bytes: 750_000,
            took: Duration::from_secs(3),
        };
        let findings = findings("camera a/default source", &look);
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_a_camera_sends_is_said_with_what_to_set() {
        assert_eq!(
            seen(45, 3, 0),
            [
                "ok    camera a/default source: H.264 video comes (main profile, level 4.0, profile-level-id 4d0028), 1920x1080, \
                 15 frames/s, 2000 kbit/s, 3 keyframes in 3 s, no B frames"
            ]
        );
        let long = seen(45, 1, 2);
        assert!(long[1].contains("keyframe interval"), "{long:?}");
        assert!(long[2].contains("2 pictures were lost"), "{long:?}");
        assert!(seen(0, 0, 0)[0].starts_with("fail"));
    }

    #[test]
    fn a_reason_has_its_remedy_behind_its_last_colon() {
        let reason =
            "the camera at rtsp://a:554/b refuses the password (401): see that it is right";
        assert_eq!(
            parted(reason),
            (
                "the camera at rtsp://a:554/b refuses the password (401)",
                "see that it is right"
            )
        );
    }
}
