//! Offers of media that no configured camera stream takes. They are counted, and logged with their names, so that an operator
//! finds a mistyped twin id.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use super::apply::ActiveConfig;
use crate::config::Connect;
use crate::telemetry::metrics::Metrics;
use twinsight_client::hub::text::brief;
use twinsight_client::hub::{HubClient, HubStatus};
use twinsight_client::rate_limit::{RATE_LIMIT, RateLimit};
use twinsight_client::stream_id::StreamId;
use twinsight_client::telemetry::{ClientSink, SignalRefusal};

/// So many offers may wait to be looked at.
const MAILBOX: usize = 64;

/// Runs until the hub client is closed.
pub(super) async fn run(
    hub: HubClient,
    metrics: Arc<Metrics>,
    active_config: watch::Receiver<ActiveConfig>,
) {
    let mut status = hub.status();
    let Ok(joined) = status
        .wait_for(|status| matches!(status, HubStatus::Joined { .. }))
        .await
        .map(|status| status.clone())
    else {
        return;
    };
    let HubStatus::Joined { twin_id: own } = joined else {
        return;
    };
    let mut offers = {
        let own = own.clone();
        hub.messages(MAILBOX, move |message| {
            message.twin_id == own && offered_stream(message.message_type(), &own).is_some()
        })
    };
    let warn = RateLimit::new(RATE_LIMIT);
    while let Some(message) = offers.recv().await {
        let Some(stream) = offered_stream(message.message_type(), &own) else {
            continue;
        };
        let source = &message.source_twin_id;
        let unsigned = *source == own;
        let cameras = Arc::clone(&active_config.borrow().cameras);
        let accepts = || {
            cameras
                .iter()
                .filter(|camera| camera.connect == Connect::Accept)
        };
        let signed_by = |id: &StreamId| id.twin_id.as_ref() == source;
        if accepts().any(|camera| {
            let signed = signed_by(&camera.id) || (unsigned && camera.allow_unsigned);
            camera.id.stream.as_ref() == stream && signed
        }) {
            continue;
        }
        let reason = if unsigned {
            SignalRefusal::Unsigned
        } else if accepts().any(|camera| signed_by(&camera.id)) {
            SignalRefusal::UnknownStream
        } else {
            SignalRefusal::UnknownTwin
        };
        metrics.signal_refused(reason);
        if let Some(suppressed) = warn.allow(reason.as_str(), Instant::now()) {
            // Whoever sends the offer chooses both names, so they are cut.
            tracing::warn!(
                twin = brief(source),
                stream = brief(stream),
                %reason,
                suppressed,
                "an offer of video was refused: add the twin and stream to [[cameras]] with connect = \"accept\" to take it"
            );
        }
    }
}

/// The name of the stream that an offer of media to the own twin is for.
fn offered_stream<'a>(message_type: Option<&'a str>, own: &str) -> Option<&'a str> {
    message_type?
        .strip_prefix("media-")?
        .strip_suffix(":offer")?
        .strip_suffix(own)?
        .strip_suffix('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_offers_of_media_to_us_are_judged() {
        assert_eq!(
            offered_stream(Some("media-default-node-1:offer"), "node-1"),
            Some("default")
        );
        assert_eq!(
            offered_stream(Some("media-a-b-node-1:offer"), "node-1"),
            Some("a-b")
        );
        for other in [
            "media-default-node-1:answer",
            "dc-default-node-1:offer",
            "media-default-cam:offer",
            "edgeInstance:x",
        ] {
            assert_eq!(offered_stream(Some(other), "node-1"), None);
        }
    }
}
