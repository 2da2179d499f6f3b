//! Checks a model that runs on servers: whether one of them has it ready, whether it fits the manifest, and what it answers for a
//! picture. The configuration comes in, findings go out.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::finding::Finding;
use super::models::{blocking, wrong_classes};
use crate::config::{CameraConfig, RemoteModelConfig};
use crate::detect::DetectSettings;
use crate::detect::judge::{self, TestPicture};
use crate::detect::remote::RemoteModel;
use crate::telemetry::ledger::InferenceFailure;
use crate::telemetry::metrics::Metrics;

/// Servers have this long to say that they have a model ready.
const CONTACT_LIMIT: Duration = Duration::from_secs(10);

/// Servers that have all said that they cannot be used, or do not answer, have so long to change their mind.
const PATIENCE: Duration = Duration::from_secs(3);

/// So many pictures may be late in a row before the model counts as too slow. A server takes long for the first one after it was loaded.
const TRIES: u32 = 3;

/// What came of a picture that a server was asked about.
enum Tried {
    /// It was answered after so many milliseconds, with so many objects.
    Answered { ms: f64, found: usize },
    /// There was no answer by the deadline, as this sentence says.
    Late(String),
}

/// Checks one model, and the classes that its cameras ask for.
pub(super) async fn check(
    models_dir: &Path,
    remote: &RemoteModelConfig,
    cameras: &[CameraConfig],
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let subject = format!("model {}", remote.name);
    let handle = tokio::runtime::Handle::current();
    let metrics = Arc::new(Metrics::new());
    let model = match RemoteModel::open(remote, models_dir, &handle, &metrics) {
        Ok(model) => model,
        Err(error) => {
            findings.push(Finding::fail(subject, error.to_string(), ""));
            return findings;
        }
    };
    let mut contact = model.first_contact(PATIENCE).await;
    if contact.is_err() && !model.are_all_known() {
        contact = model.first_contact(CONTACT_LIMIT - PATIENCE).await;
    }
    if let Err(reason) = contact {
        let remedy = remedy(
            &reason,
            "see that the server runs, that its address is right, and that it has the model loaded",
        );
        findings.push(match &remote.fallback {
            Some(fallback) => Finding::warn(
                subject,
                format!("{reason}; meanwhile {fallback} takes its place"),
                remedy,
            ),
            None => Finding::fail(subject, reason, remedy),
        });
        model.close();
        return findings;
    }
    let facts = model.facts();
    for server in facts.servers.iter().filter(|server| server.state == "away") {
        let reason = server.reason.as_deref().unwrap_or("it is not met yet");
        findings.push(Finding::warn(
            subject.clone(),
            format!("{} cannot be used: {reason}", server.url),
            remedy(
                reason,
                "see that it runs and has the model loaded, or remove it from `url`",
            ),
        ));
    }
    let tried = try_pictures(&model).await;
    let input = facts.input.map_or_else(String::new, |input| {
        format!(
            "; it is sent {} as {} {:?}, {} bytes a frame",
            input.form, input.datatype, input.shape, input.frame_bytes
        )
    });
    findings.push(match tried {
        Ok(Tried::Answered { found: 0, .. }) if judge::are_coco(&model.info().labels) => Finding::warn(
            subject,
            format!("it answers, and sees nothing on a picture of a footballer, although it has labels for it{input}"),
            "compare scale, mean, std and color_order in its manifest with what the server's model expects",
        ),
        Ok(Tried::Answered { ms, .. }) => Finding::ok(
            subject,
            format!("a server answered for a picture in {ms:.0} ms{input}"),
        ),
        Ok(Tried::Late(sentence)) => Finding::fail(
            subject,
            sentence,
            "see what else the server has to do, or give it longer by `deadline_ms`",
        ),
        Err(error) => Finding::fail(
            subject,
            error,
            "see the log of the server, and compare the manifest with its model",
        ),
    });
    for (camera, sentence) in wrong_classes(remote.name.clone(), model.info(), cameras) {
        findings.push(Finding::fail(camera, sentence, ""));
    }
    model.close();
    findings
}

/// What to do about a server that cannot be used for this reason. Some sentences have it in them.
fn remedy(reason: &str, otherwise: &'static str) -> &'static str {
    let says = |words: &[&str]| words.iter().any(|words| reason.contains(words));
    let refuses_us = [
        "answered 401",
        "answered 403",
        "answered Unauthenticated",
        "answered PermissionDenied",
    ];
    if says(&[
        "correct `",
        ": use ",
        "this looks like the server's",
        "raise the limit",
    ]) {
        ""
    } else if says(&refuses_us) {
        "give the token that the server wants by the model's `token_file`, or correct the one in that file"
    } else {
        otherwise
    }
}

/// Lets a server look at a picture, and again if that was late.
async fn try_pictures(model: &Arc<RemoteModel>) -> Result<Tried, String> {
    let mut tries = 1;
    loop {
        let detector = model.detector();
        let tried = blocking(move || try_picture(detector)).await;
        // The server may have been left for being late, and comes back if it answers a trial.
        let is_last = tries == TRIES || !matches!(tried, Ok(Tried::Late(_)));
        if is_last || model.first_contact(CONTACT_LIMIT).await.is_err() {
            return tried;
        }
        tries += 1;
    }
}

fn try_picture(mut detector: Box<dyn crate::detect::Detector>) -> Result<Tried, String> {
    let picture = TestPicture::new();
    let subject = format!("model {}: ", detector.model().name);
    match detector.detect(picture.as_it_is(), &DetectSettings::default()) {
        Ok(detections) => Ok(Tried::Answered {
            ms: 1000.0 * detections.inference.wall.as_secs_f64(),
            found: detections.objects.len(),
        }),
        Err(error) => {
            let sentence = error.to_string();
            let rest = sentence.strip_prefix(&subject).unwrap_or(&sentence);
            match error.failure() {
                InferenceFailure::Deadline => Ok(Tried::Late(rest.to_owned())),
                _ => Err(rest.to_owned()),
            }
        }
    }
}

#[cfg(test)]
#[path = "servers_tests.rs"]
mod tests;
