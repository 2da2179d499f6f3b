//! What a connection does for Home Assistant: it brings the board's states, and passes on what the broker has of them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rumqttc::{AsyncClient, Publish, QoS, SubscribeFilter};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::board::Board;

/// What was retained comes within this time after the broker has taken a subscription.
const RETAINED_COMES_WITHIN: Duration = Duration::from_secs(2);

/// Messages that the node has left are shorter than this, and so are their topics. Whatever else lies there is not kept in memory.
const MAX_KEPT_BYTES: usize = 4 << 10;
const MAX_TOPIC_BYTES: usize = 1 << 10;

/// What stands in place of a message that is too long to be one of the node's.
const FOREIGN: &[u8] = b"?";

/// What the broker tells.
#[derive(Debug)]
pub(crate) enum FromBroker {
    /// A message that it kept, of this run of the node or of an earlier one.
    Kept { topic: String, payload: Bytes },
    /// All that it kept was told.
    AllKeptTold,
    /// Home Assistant has started.
    Birth,
}

/// A connection's part in a home.
#[derive(Debug)]
pub(crate) struct HomeLink {
    pub(crate) board: Arc<Board>,
    /// Where the broker's messages go. One that finds no place is lost, which leaves an old message on the broker at worst.
    pub(crate) told: mpsc::Sender<FromBroker>,
    /// The topics on which the node may have left something.
    pub(crate) kept: Vec<String>,
    /// Where Home Assistant says that it has started.
    pub(crate) birth: String,
}

impl HomeLink {
    /// Looks for what earlier runs of the node have left, and listens for Home Assistant.
    pub(super) async fn listen(&self, client: &AsyncClient) -> Infallible {
        let filter = |topic: &String| SubscribeFilter::new(topic.clone(), QoS::AtMostOnce);
        // A broker that allows none of this has its states all the same.
        if let Ok(notice) = client
            .subscribe_many_tracked(self.kept.iter().map(filter))
            .await
            && notice.wait_async().await.is_ok()
        {
            sleep(RETAINED_COMES_WITHIN).await;
            let _ = self.told.send(FromBroker::AllKeptTold).await;
            for topic in &self.kept {
                let _ = client.unsubscribe(topic.clone()).await;
            }
        }
        let _ = client.subscribe(self.birth.clone(), QoS::AtMostOnce).await;
        std::future::pending().await
    }

    /// Takes in a message of the broker.
    pub(super) fn received(&self, message: &Publish) {
        let Ok(topic) = str::from_utf8(&message.topic) else {
            return;
        };
        let told = if topic == self.birth {
            // At the beginning of a connection everything is sent anyway.
            if message.retain || message.payload.as_ref() != b"online" {
                return;
            }
            FromBroker::Birth
        } else if message.retain && topic.len() <= MAX_TOPIC_BYTES {
            let payload = match message.payload.len() <= MAX_KEPT_BYTES {
                true => &message.payload,
                false => FOREIGN,
            };
            FromBroker::Kept {
                topic: topic.to_owned(),
                // A copy, since the message is a part of a larger buffer.
                payload: Bytes::copy_from_slice(payload),
            }
        } else {
            return;
        };
        let _ = self.told.try_send(told);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_have_left_there_takes_little_memory() {
        let (told, mut heard) = mpsc::channel(8);
        let link = HomeLink {
            board: Arc::default(),
            told,
            kept: Vec::new(),
            birth: "homeassistant/status".to_owned(),
        };
        let mut receive = |topic: String, payload: Vec<u8>| {
            let mut message = Publish::new(topic, QoS::AtMostOnce, payload, None);
            message.retain = true;
            link.received(&message);
            match heard.try_recv() {
                Ok(FromBroker::Kept { payload, .. }) => Some(payload.len()),
                _ => None,
            }
        };
        assert_eq!(receive("a".to_owned(), vec![b'x'; 700]), Some(700));
        assert_eq!(receive("a".to_owned(), vec![b'x'; 60_000]), Some(1));
        assert_eq!(receive("a".to_owned(), Vec::new()), Some(0));
        assert_eq!(receive("a".repeat(2000), vec![b'x']), None);
    }
}
