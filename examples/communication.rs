//! The other side of the official clients' communication suite (`test_communication.py` of the Python
//! package): events, actions, the default data channel, the named `control` and `data`, and a media stream.
//! Everything is ready from the start, and what is dialled is dialled until it is there, because the suite
//! waits for fixed times. Prints a line a part, and exits with 0 if all five passed.
//!
//! ```sh
//! PHYSTACK_SIMULATOR_URL=http://127.0.0.1:55000 TWIN_ID=rust cargo run --example communication -- --role responder --peer python
//! ```

#![expect(clippy::print_stdout, reason = "an example tells what it does")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Parser, ValueEnum};
use serde_json::{Value, json};
use tokio::sync::Notify;
use twinsight_client::hub::{ActionResult, ActionStatus, HubClient, HubOptions, Instance};
use twinsight_client::media::{Incoming, MediaStream};
use twinsight_client::realtime::{DataChannel, Message};

/// The suite sends this many messages of each kind, and wants as many back.
const MESSAGES: u32 = 3;

/// The suite takes about 62 s, and 15 s more for each part of it that fails.
const LIMIT: Duration = Duration::from_secs(150);

/// The suite goes on for this long after its last part began.
const LINGER: Duration = Duration::from_secs(8);

/// A message that was not answered is sent again after this time.
const AGAIN: Duration = Duration::from_secs(2);

const CHANNELS: [&str; 3] = ["default", "control", "data"];

#[derive(Parser)]
struct Args {
    /// Which side to play.
    #[arg(long)]
    role: Side,
    /// The twin that runs the suite in the other role.
    #[arg(long)]
    peer: String,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Side {
    Initiator,
    Responder,
}

/// How far each part has come.
#[derive(Default)]
struct Progress {
    events: AtomicU32,
    actions: AtomicU32,
    channels: [AtomicU32; CHANNELS.len()],
    media: AtomicU32,
    changed: Notify,
}

impl Progress {
    fn count(&self, part: &AtomicU32) {
        part.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// The five parts of the suite and whether they passed.
    fn parts(&self) -> [(&'static str, bool); 5] {
        let enough = |part: &AtomicU32| part.load(Ordering::Relaxed) >= MESSAGES;
        let [default, control, data] = &self.channels;
        [
            ("events", enough(&self.events)),
            ("actions", enough(&self.actions)),
            ("default data channel", enough(default)),
            ("named data channels", enough(control) && enough(data)),
            ("media stream", self.media.load(Ordering::Relaxed) > 0),
        ]
    }

    async fn complete(&self) {
        while !self.parts().iter().all(|(_, passed)| *passed) {
            self.changed.notified().await;
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let client = HubClient::connect(HubOptions::from_env()?).await?;
    let instance = client.instance();
    let progress = Arc::new(Progress::default());
    client.subscribe(&args.peer).await?;

    let stream = media(&client, &args, &progress)?;
    let run = async {
        match args.role {
            Side::Responder => respond(&instance, &args.peer, &progress).await,
            Side::Initiator => initiate(&instance, &args.peer, &progress).await,
        }
    };
    let timely = tokio::time::timeout(LIMIT, run).await;
    if let Ok(result) = timely {
        result?;
    }
    let parts = progress.parts();
    for (part, passed) in parts {
        println!("{} {part}", if passed { "passed" } else { "failed" });
    }
    stream.close().await;
    client.close().await;
    if !parts.iter().all(|(_, passed)| *passed) {
        bail!("not everything passed within {LIMIT:?}");
    }
    Ok(())
}

async fn respond(instance: &Instance, peer: &str, progress: &Arc<Progress>) -> Result<()> {
    let (echoes, seen, target) = (instance.to(peer), Arc::clone(progress), peer.to_owned());
    instance.on("test-event", move |event| {
        let (echoes, seen) = (echoes.clone(), Arc::clone(&seen));
        // Our own events would come back in a room that both listen to.
        let theirs = event.source_twin_id == target;
        async move {
            if !theirs {
                return;
            }
            let mut data = event.data;
            data["echo"] = json!(true);
            if echoes.emit("test-event", data).await.is_ok() {
                seen.count(&seen.events);
            }
        }
    });
    let seen = Arc::clone(progress);
    instance.on("test-action", move |action| {
        let seen = Arc::clone(&seen);
        async move {
            let done = ActionResult::success("Request processed", None);
            if action.respond(done).await.is_ok() {
                seen.count(&seen.actions);
            }
        }
    });
    let mut acceptors = Vec::new();
    for (index, name) in CHANNELS.into_iter().enumerate() {
        let seen = Arc::clone(progress);
        acceptors.push(instance.accept_data_channels(name, move |channel| {
            let seen = Arc::clone(&seen);
            async move { answer(channel, &seen, index).await }
        })?);
    }
    println!("ready");
    progress.complete().await;
    tokio::time::sleep(LINGER).await;
    Ok(())
}

async fn answer(channel: DataChannel, seen: &Progress, index: usize) {
    let mut messages = channel.messages();
    while let Some(message) = messages.recv().await {
        let Message::Json(value) = message else {
            continue;
        };
        if channel.send(json!({ "echo": value })).await.is_ok() {
            seen.count(&seen.channels[index]);
        }
    }
}

async fn initiate(instance: &Instance, peer: &str, progress: &Arc<Progress>) -> Result<()> {
    let seen = Arc::clone(progress);
    instance.on("test-event", move |event| {
        let seen = Arc::clone(&seen);
        async move {
            if event.data["echo"] == true {
                seen.count(&seen.events);
            }
        }
    });
    let mut channels = Vec::new();
    for (index, name) in CHANNELS.into_iter().enumerate() {
        let channel = instance.open_data_channel(peer, name)?;
        let seen = Arc::clone(progress);
        channel.on_message(move |message| {
            let seen = Arc::clone(&seen);
            async move {
                if matches!(message, Message::Json(value) if value["echo"].is_object()) {
                    seen.count(&seen.channels[index]);
                }
            }
        });
        channels.push(channel);
    }
    println!("ready");
    let events = async {
        for number in 1.. {
            if progress.events.load(Ordering::Relaxed) >= MESSAGES {
                return;
            }
            let event = json!({ "type": "test", "count": number });
            let _ = instance.to(peer).emit("test-event", event).await;
            tokio::time::sleep(AGAIN / 4).await;
        }
    };
    let actions = async {
        while progress.actions.load(Ordering::Relaxed) < MESSAGES {
            let request = json!({ "command": "process", "value": 10 });
            match instance.to(peer).request("test-action", request).await {
                Ok(answer) if answer.status == ActionStatus::Success => {
                    progress.count(&progress.actions);
                }
                _ => tokio::time::sleep(AGAIN).await,
            }
        }
    };
    let talking = async {
        let talks = channels.iter().zip(&progress.channels);
        futures_util::future::join_all(talks.map(|(channel, echoes)| talk(channel, echoes))).await;
    };
    tokio::join!(events, actions, talking, progress.complete());
    tokio::time::sleep(LINGER).await;
    Ok(())
}

/// Sends while the channel is open, until enough messages have come back.
async fn talk(channel: &DataChannel, echoes: &AtomicU32) {
    let mut number = 0;
    while echoes.load(Ordering::Relaxed) < MESSAGES && channel.opened().await.is_ok() {
        let message: Value = json!({ "channel": channel.channel_name(), "num": number });
        if channel.send(message).await.is_ok() {
            number += 1;
        }
        tokio::time::sleep(AGAIN / 8).await;
    }
}

/// Dials or accepts a media stream. The media part of the suite needs a connection, but no picture.
fn media(client: &HubClient, args: &Args, progress: &Arc<Progress>) -> Result<MediaStream> {
    let instance = client.instance();
    let stream = match args.role {
        Side::Initiator => instance.open_media_stream(&args.peer, "default")?,
        Side::Responder => {
            let accept = |incoming: Incoming| async move {
                // The listener's handle is enough to keep it.
                let _ = incoming.accept([]);
            };
            let listener = instance.on_media_stream(&args.peer, "default", accept)?;
            listener.stream().clone()
        }
    };
    let (connecting, progress) = (stream.clone(), Arc::clone(progress));
    tokio::spawn(async move {
        if connecting.connected().await {
            progress.count(&progress.media);
        }
    });
    Ok(stream)
}
