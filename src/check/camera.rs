//! Checks the cameras: their configuration and what is known of their twins come in, a finding for each goes out. Cameras that the
//! node dials are dialled once, several at a time; those that dial the node are not waited for.

use futures_util::StreamExt;

use super::dial::{DialResult, Dialler};
use super::finding::{Failure, Finding, Report};
use super::host::Ports;
use super::hub::JoinedHub;
use super::twins::CameraTwin;
use crate::config::{CameraConfig, Config, Connect};
use twinsight_client::hub::message::{IceServer, Twin};

/// This many cameras are dialled at once.
const AT_ONCE: usize = 8;

pub(super) async fn check(
    config: &Config,
    joined: Option<&JoinedHub>,
    twins: Vec<CameraTwin>,
    servers: &[IceServer],
    ports: Ports,
    report: &mut Report<'_>,
) {
    let Some(joined) = joined else {
        for camera in &config.cameras {
            report.add(Finding::skip(subject(camera), "the hub is not joined"));
        }
        return;
    };
    let at_once = match ports {
        Ports::Any => AT_ONCE,
        Ports::Free(free) => free.min(AT_ONCE),
    };
    let checks = config.cameras.iter().zip(twins).map(|(camera, twin)| {
        let dialler = Dialler {
            hub: joined.client.clone(),
            own_twin: joined.twin_id.clone(),
            camera: camera.clone(),
            ice: config.ice.clone(),
            servers: servers.to_vec(),
        };
        one(dialler, twin, at_once > 0)
    });
    let mut findings = futures_util::stream::iter(checks).buffered(at_once.max(1));
    while let Some(finding) = findings.next().await {
        report.add(finding);
    }
}

fn subject(camera: &CameraConfig) -> String {
    format!("camera {}", camera.id)
}

async fn one(dialler: Dialler, twin: CameraTwin, has_port: bool) -> Finding {
    let subject = subject(&dialler.camera);
    let CameraTwin::Known(twin) = twin else {
        return Finding::skip(subject, "its twin cannot be used");
    };
    if dialler.camera.source.is_some() {
        return Finding::ok(
            subject,
            "the node makes it a twin itself while it runs, so it was not dialled",
        );
    }
    if dialler.camera.connect == Connect::Accept {
        return Finding::ok(
            subject,
            "it dials this node (connect = \"accept\"), so it was only looked up",
        );
    }
    if !has_port {
        return Finding::skip(subject, "there is no free UDP port");
    }
    // It runs on a task of its own, so that a panic over the other side's text ends this call alone.
    let dialled = tokio::spawn(dialler.dial()).await.unwrap_or_else(|_| {
        Err(Failure::new(
            "its answer broke the WebRTC stack",
            "this is a bug: please report it with the camera's make",
        ))
    });
    match dialled {
        Ok(DialResult {
            answered,
            connected,
            codec,
        }) => Finding::ok(
            subject,
            format!(
                "answered after {} ms, connected after {} ms, {} video comes",
                answered.as_millis(),
                connected.as_millis(),
                codec.title()
            ),
        ),
        Err(failure) if failure.is_local => Finding::fail(subject, failure.found, failure.remedy),
        Err(failure) => Finding::fail(subject, failure.found + &aside(&twin), failure.remedy),
    }
}

/// What the hub knows of a camera that does not work, as a clause for its finding.
fn aside(twin: &Twin) -> String {
    match twin.status.as_str() {
        "" | "Online" => String::new(),
        status => format!(" (the hub says that it is {status})"),
    }
}
