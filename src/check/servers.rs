//! Checks a model that runs on servers: whether one of them has it ready, whether it fits the manifest, and what it answers for a
//! picture. The configuration comes in, findings go out.

use std::sync::Arc;
use std::time::Duration;

use super::finding::{Finding, Report};
use super::models::{blocking, wrong_classes};
use crate::config::{CameraConfig, Config, RemoteModelConfig};
use crate::detect::DetectSettings;
use crate::detect::judge::{self, TestPicture};
use crate::detect::remote::RemoteModel;
use crate::telemetry::metrics::Metrics;

/// Servers have this long to say that they have a model ready.
const CONTACT_LIMIT: Duration = Duration::from_secs(10);

/// What came of a picture that a server looked at.
struct Tried {
    ms: f64,
    found: usize,
}

pub(super) async fn check(
    config: &Config,
    remote: &RemoteModelConfig,
    cameras: &[CameraConfig],
    report: &mut Report<'_>,
) {
    let subject = format!("model {}", remote.name);
    let handle = tokio::runtime::Handle::current();
    let metrics = Arc::new(Metrics::new());
    let folder = &config.runtime.models_dir;
    let model = match RemoteModel::open(remote, folder, &handle, &metrics) {
        Ok(model) => model,
        Err(error) => {
            report.add(Finding::fail(subject, error.to_string(), ""));
            return;
        }
    };
    let contact = model.first_contact(CONTACT_LIMIT).await;
    if let Err(reason) = contact {
        // The sentence has the remedy of a model that does not fit, and of a port of another protocol.
        let told = ["correct `", ": use ", "this looks like the server's"];
        let remedy = match told.iter().any(|words| reason.contains(words)) {
            true => "",
            false => {
                "see that the server runs, that its address is right, and that it has the model loaded"
            }
        };
        report.add(match &remote.fallback {
            Some(fallback) => Finding::warn(
                subject,
                format!("{reason}; meanwhile {fallback} takes its place"),
                remedy,
            ),
            None => Finding::fail(subject, reason, remedy),
        });
        model.close();
        return;
    }
    let facts = model.facts();
    for server in facts.servers.iter().filter(|server| server.state == "away") {
        let reason = server.reason.as_deref().unwrap_or("it is not met yet");
        report.add(Finding::warn(
            subject.clone(),
            format!("{} cannot be used: {reason}", server.url),
            "see that it runs and has the model loaded, or remove it from `url`",
        ));
    }
    let detector = model.detector();
    let tried = blocking(move || try_picture(detector)).await;
    let input = facts.input.map_or_else(String::new, |input| {
        format!(
            "; it is sent {} as {} {:?}, {} bytes a frame",
            input.form, input.datatype, input.shape, input.frame_bytes
        )
    });
    report.add(match tried {
        Ok(Tried { found: 0, .. }) if judge::are_coco(&model.info().labels) => Finding::warn(
            subject,
            format!("it answers, and sees nothing on a picture of a footballer, although it has labels for it{input}"),
            "compare scale, mean, std and color_order in its manifest with what the server's model expects",
        ),
        Ok(Tried { ms, .. }) => Finding::ok(
            subject,
            format!("a server answered for a picture in {ms:.0} ms{input}"),
        ),
        Err(error) => Finding::fail(
            subject,
            error,
            "see the log of the server, and compare the manifest with its model",
        ),
    });
    for (camera, sentence) in wrong_classes(remote.name.clone(), model.info(), cameras) {
        report.add(Finding::fail(camera, sentence, ""));
    }
    model.close();
}

fn try_picture(mut detector: Box<dyn crate::detect::Detector>) -> Result<Tried, String> {
    let picture = TestPicture::new();
    let subject = format!("model {}: ", detector.model().name);
    let detections = detector.detect(picture.as_it_is(), &DetectSettings::default());
    let detections = detections.map_err(|error| {
        let sentence = error.to_string();
        let rest = sentence.strip_prefix(&subject);
        rest.unwrap_or(&sentence).to_owned()
    })?;
    Ok(Tried {
        ms: 1000.0 * detections.inference.wall.as_secs_f64(),
        found: detections.objects.len(),
    })
}
