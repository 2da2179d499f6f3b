//! Two data channels to one peer: commands that must arrive, and a picture beside them. A large message on
//! one does not hold up the other.
//!
//! ```sh
//! PHYSTACK_SIMULATOR_URL=http://127.0.0.1:55000 TWIN_ID=robot-1 cargo run --example named_channels -- in
//! PHYSTACK_SIMULATOR_URL=http://127.0.0.1:55000 TWIN_ID=app-1 cargo run --example named_channels -- out robot-1
//! ```

#![expect(clippy::print_stdout, reason = "an example tells what it does")]

use anyhow::{Context, Result, bail};
use serde_json::json;
use twinsight_client::hub::{HubClient, HubOptions};
use twinsight_client::realtime::Message;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let client = HubClient::connect(HubOptions::from_env()?).await?;
    match arguments.next().as_deref() {
        Some("in") => receive(client).await,
        Some("out") => send(client, &arguments.next().context("give the twin to dial")?).await,
        _ => bail!("say `in`, or `out` and the twin to dial"),
    }
}

async fn receive(client: HubClient) -> Result<()> {
    let instance = client.instance();
    let control = instance.accept_data_channels("control", |channel| async move {
        let mut commands = channel.messages();
        while let Some(command) = commands.recv().await {
            println!("command {command:?}");
            let _ = channel.send(json!({ "done": true })).await;
        }
    })?;
    let pictures = instance.accept_data_channels("pictures", |channel| async move {
        let mut pieces = channel.messages();
        let mut came = 0;
        while let Some(message) = pieces.recv().await {
            match message {
                Message::Binary(piece) => came += piece.len(),
                other => println!("a picture of {came} bytes: {other:?}"),
            }
        }
    })?;
    println!("ready");
    tokio::signal::ctrl_c().await?;
    tokio::join!(control.close(), pictures.close());
    Ok(())
}

async fn send(client: HubClient, peer: &str) -> Result<()> {
    let instance = client.instance();
    let (control, pictures) = tokio::try_join!(
        instance.get_data_channel(peer, "control"),
        instance.get_data_channel(peer, "pictures"),
    )?;
    let mut answers = control.messages();
    let picture = async {
        pictures
            .send_in_pieces(vec![0x5a; 20_000_000], |progress| {
                if progress.sent_bytes == progress.total_bytes {
                    println!("the picture is out");
                }
            })
            .await?;
        pictures.send(json!({ "end": "picture" })).await
    };
    let commands = async {
        for number in 0..10 {
            control.send(json!({ "command": number })).await?;
            println!("answer {:?}", answers.recv().await);
        }
        Ok(())
    };
    tokio::try_join!(picture, commands)?;
    tokio::join!(control.close(), pictures.close());
    Ok(())
}
