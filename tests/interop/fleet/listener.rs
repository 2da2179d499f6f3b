//! An app that hears all events of all nodes, and notes when each came.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use twinsight_client::hub::{HubClient, HubOptions};

use super::verdict::{Heard, Record, Rules};

/// So many events may wait. More are a fault of the test.
const QUEUE: usize = 1 << 14;

/// The app; ends with its handle.
pub(super) struct Listener {
    record: Arc<Mutex<Record>>,
    began: Instant,
    task: JoinHandle<()>,
    _hub: HubClient,
}

impl Listener {
    /// Listens to these nodes, which need not be there yet.
    pub(super) async fn start(url: &str, nodes: &[String], rules: Rules) -> Self {
        let hub = HubClient::connect(HubOptions::simulator(url, "listener"))
            .await
            .unwrap();
        let mut messages = hub.messages(QUEUE, |message| {
            let kind = message.message_type();
            kind.is_some_and(|kind| kind.starts_with("edgeInstance:"))
        });
        for node in nodes {
            hub.subscribe(node).await.unwrap();
        }
        let record = Arc::new(Mutex::new(Record::new(rules)));
        let began = Instant::now();
        let told = Arc::clone(&record);
        let task = tokio::spawn(async move {
            while let Some(message) = messages.recv().await {
                let at = began.elapsed();
                assert_eq!(messages.missed(), 0, "the listener keeps up");
                let kind = message.message_type().unwrap_or_default();
                let kind = kind.trim_start_matches("edgeInstance:");
                let event = &message.data["data"];
                if let Some(heard) = Heard::parse(at, &message.twin_id, kind, event) {
                    told.lock().unwrap().push(heard);
                }
            }
        });
        Self {
            record,
            began,
            task,
            _hub: hub,
        }
    }

    /// What it heard until now.
    pub(super) fn record(&self) -> MutexGuard<'_, Record> {
        assert!(!self.task.is_finished(), "the listener goes on");
        self.record.lock().unwrap()
    }

    /// The time on its clock.
    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}
