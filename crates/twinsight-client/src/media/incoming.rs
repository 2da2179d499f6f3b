//! The content of a stream's connections: a twin's offer comes in; the tracks of the stream go out, at once or after the app has
//! accepted the offer. A `DescriptionTask` of the link waits for that.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::inbound_router::{InboundRouter, sink};
use super::local_track::LocalTrack;
use super::options::MediaStreamOptions;
use super::stream::MediaStream;
use crate::realtime::attempt::Attempt;
use crate::realtime::connect::{ConnectionContent, MediaContent};
use crate::realtime::description_task::ContentOf;
use crate::realtime::rtp_track::TrackKind;
use crate::realtime::sdp::Description;
use crate::realtime::sdp_section::SectionKind;

/// The offer of a twin that dials. Dropping it declines the offer; the app is asked again about the next one.
pub struct Incoming {
    stream: Option<MediaStream>,
    offered: Vec<TrackKind>,
    decision: watch::Sender<Decision>,
}

/// The decision about a twin's offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    /// The app was not asked, or it has declined.
    None,
    /// The app was asked and has not decided.
    Asked,
    /// The stream is accepted, with all its later connections.
    Accepted,
}

/// Asks the app about an offer.
pub(super) type Ask = Box<dyn FnMut(Incoming) -> BoxFuture<'static, ()> + Send>;

impl Incoming {
    /// The twin that dials.
    pub fn source_twin_id(&self) -> &str {
        self.stream.as_ref().map_or("", MediaStream::target_twin_id)
    }

    /// The kinds of tracks that the offer has sections for, in whichever direction they go.
    pub fn offered(&self) -> &[TrackKind] {
        &self.offered
    }

    /// Accepts the offer and every later one of the same twin, and sends these tracks.
    pub fn accept(mut self, tracks: impl IntoIterator<Item = LocalTrack>) -> MediaStream {
        let stream = self
            .stream
            .take()
            .expect("the stream is there until it is accepted or dropped");
        stream.shared.set_tracks(tracks.into_iter().collect());
        self.decision.send_replace(Decision::Accepted);
        stream
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if self.stream.is_some() {
            self.decision.send_replace(Decision::None);
        }
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("source", &self.source_twin_id())
            .field("offered", &self.offered)
            .finish_non_exhaustive()
    }
}

/// The content of each attempt. With `ask`, it waits until the app has accepted the offer.
pub(super) fn content(
    options: &MediaStreamOptions,
    stream: &MediaStream,
    router: Arc<InboundRouter>,
    ask: Option<Ask>,
) -> ContentOf {
    let (codecs, receives) = (options.codecs.clone(), options.received());
    let shared = Arc::clone(&stream.shared);
    let describe = Arc::new(move |attempt: Attempt| {
        let sends = shared.offer_tracks(attempt);
        ConnectionContent::Media(MediaContent {
            sink: sink(attempt, Arc::clone(&router)),
            codecs: codecs.clone(),
            receives: receives.clone(),
            sends: sends.iter().map(LocalTrack::described).collect(),
        })
    });
    let Some(ask) = ask else {
        return Box::new(move |attempt, _| Box::pin(std::future::ready(Some(describe(attempt)))));
    };
    let (ask, weak) = (Arc::new(Mutex::new(ask)), stream.downgrade());
    let decision = watch::Sender::new(Decision::None);
    Box::new(move |attempt, offer| {
        let first = decision.send_if_modified(|decision| {
            let first = *decision == Decision::None;
            if first {
                *decision = Decision::Asked;
            }
            first
        });
        if first && let Some(stream) = weak.upgrade() {
            let incoming = Incoming {
                stream: Some(stream),
                offered: offer.map(offered_kinds).unwrap_or_default(),
                decision: decision.clone(),
            };
            let ask = Arc::clone(&ask);
            // The app is asked on a task of its own, so that a handler that panics or blocks declines this offer and does no
            // other harm.
            tokio::spawn(async move {
                let asking = {
                    let mut ask = ask.lock();
                    ask(incoming)
                };
                asking.await;
            });
        }
        let (mut decided, describe) = (decision.subscribe(), Arc::clone(&describe));
        Box::pin(async move {
            let decided = decided.wait_for(|decision| *decision != Decision::Asked);
            let accepted = decided.await.is_ok_and(|d| *d == Decision::Accepted);
            accepted.then(|| describe(attempt))
        })
    })
}

/// The kinds of a description's sections.
fn offered_kinds(offer: &Description) -> Vec<TrackKind> {
    let has = |kind: &TrackKind| match kind {
        TrackKind::Video => offer.has(SectionKind::Video),
        TrackKind::Audio => offer.has(SectionKind::Audio),
    };
    TrackKind::ALL.into_iter().filter(has).collect()
}
