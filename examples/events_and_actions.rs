//! Twin messaging through the hub: events to whoever listens, and an action that is answered.
//!
//! ```sh
//! PHYSTACK_SIMULATOR_URL=http://127.0.0.1:55000 TWIN_ID=lamp-1 cargo run --example events_and_actions -- serve
//! PHYSTACK_SIMULATOR_URL=http://127.0.0.1:55000 TWIN_ID=app-1 cargo run --example events_and_actions -- ask lamp-1
//! ```

#![expect(clippy::print_stdout, reason = "an example tells what it does")]

use anyhow::{Context, Result, bail};
use serde_json::json;
use twinsight_client::hub::{ActionResult, HubClient, HubOptions, TwinEvent};

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let client = HubClient::connect(HubOptions::from_env()?).await?;
    match arguments.next().as_deref() {
        Some("serve") => serve(client).await,
        Some("ask") => ask(client, &arguments.next().context("give the twin to ask")?).await,
        _ => bail!("say `serve`, or `ask` and the twin to ask"),
    }
}

async fn serve(client: HubClient) -> Result<()> {
    let instance = client.instance();
    let lamp = instance.clone();
    instance.on("switch", move |action: TwinEvent| {
        let lamp = lamp.clone();
        async move {
            let Some(on) = action.data["on"].as_bool() else {
                let _ = action
                    .respond(ActionResult::error("say whether `on`"))
                    .await;
                return;
            };
            let _ = action
                .respond(ActionResult::success("switched", None))
                .await;
            // This goes to all who listen to this twin.
            let _ = lamp.emit("switched", json!({ "on": on })).await;
        }
    });
    instance.on_update_desired(|desired| async move { println!("desired: {desired:?}") });
    println!("ready");
    tokio::signal::ctrl_c().await?;
    client.close().await;
    Ok(())
}

async fn ask(client: HubClient, lamp: &str) -> Result<()> {
    client.subscribe(lamp).await?;
    let room = lamp.to_owned();
    let mut events = client.messages(16, move |message| message.twin_id == room);
    let answer = client
        .instance()
        .to(lamp)
        .request("switch", json!({ "on": true }))
        .await?;
    println!("{}: {}", answer.status.as_str(), answer.message);
    let event = events.recv().await.context("the client was closed")?;
    println!("event {}", event.data["data"]);
    client.close().await;
    Ok(())
}
