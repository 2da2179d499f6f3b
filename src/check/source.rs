//! Checks the cameras of a node without a hub: their configuration comes in, and a finding for each goes out. Each is asked for its
//! pictures as the node would ask, several at a time, until the first picture comes or the camera says why there is none.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tokio::sync::mpsc;

use super::finding::{Finding, Report};
use crate::bridge::source::{Source, SourceEvent, SourceFacts, SourceState};
use crate::config::CameraConfig;

/// This many cameras are asked at once.
const AT_ONCE: usize = 8;

/// The first picture has this long to come. A camera that sends a keyframe every ten seconds is slow, and not broken.
const LIMIT: Duration = Duration::from_secs(20);

/// What is told until then. A source that tells more is not waited for, since the first of it decides.
const EVENTS: usize = 16;

pub(super) async fn check(cameras: &[CameraConfig], report: &mut Report<'_>) {
    let checks = cameras.iter().map(one);
    let mut findings = futures_util::stream::iter(checks).buffered(AT_ONCE);
    while let Some(finding) = findings.next().await {
        report.add(finding);
    }
}

/// What came of asking.
enum Told {
    Facts(SourceFacts),
    Picture,
    Down(String),
}

async fn one(camera: &CameraConfig) -> Finding {
    let subject = format!("camera {}", camera.id);
    let Some(config) = camera.source.clone() else {
        return Finding::skip(subject, "it names nothing to ask for pictures");
    };
    let begun = Instant::now();
    let (sender, mut told) = mpsc::channel(EVENTS);
    let handler = move |event| {
        let told = match event {
            SourceEvent::Unit(_) => Told::Picture,
            SourceEvent::State(SourceState::Receiving(facts)) => Told::Facts(facts),
            SourceEvent::State(SourceState::Down { reason, .. }) => Told::Down(reason.to_string()),
            SourceEvent::State(SourceState::Connecting { .. }) | SourceEvent::Dropped(..) => return,
        };
        let _ = sender.try_send(told);
    };
    let source = Source::open(&camera.id.to_string(), config, Box::new(handler));
    let asked = async {
        let mut facts = None;
        while let Some(event) = told.recv().await {
            match event {
                Told::Facts(told) => facts = Some(told),
                Told::Picture => return Ok(facts),
                Told::Down(reason) => return Err(reason),
            }
        }
        Err("its source has ended: this is a bug in Twinsight".to_owned())
    };
    let outcome = tokio::time::timeout(LIMIT, asked).await;
    source.close().await;
    match outcome {
        Ok(Ok(facts)) => {
            let size = facts.and_then(|facts| facts.size);
            let size = size.map_or_else(String::new, |size| {
                format!("{}x{} ", size.width_px, size.height_px)
            });
            let after = begun.elapsed().as_millis();
            Finding::ok(
                subject,
                format!("{size}H.264 video comes, the first picture after {after} ms"),
            )
        }
        // The reason has its remedy.
        Ok(Err(reason)) => Finding::fail(subject, reason, ""),
        Err(_) => Finding::fail(
            subject,
            format!("no picture came within {} s", LIMIT.as_secs()),
            "see whether it shows pictures elsewhere, and set its keyframe interval (GOP) to 1 s",
        ),
    }
}
