//! `twinsight watch`: prints the events of nodes as they come from the hub, until it is stopped.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;

use super::NO_HUB;
use super::arguments::twin_id;
use super::output::Output;
use super::stop::StopSignals;
use crate::config::{Config, Env};
use crate::dev::terminal::Colours;
use crate::dev::watch::{self, MAX_NODES, WatchOptions};
use twinsight_client::hub::options::HubMode;

/// The variables that say who an app is.
const IDENTITY: &[&str] = &["TWINSIGHT_HUB__TWIN_ID", "TWIN_ID", "INSTANCE_ID"];

#[derive(Args)]
pub(super) struct WatchArgs {
    /// The node's twin id; those of several nodes, such as the ones of a pool, are watched together.
    #[arg(value_name = "TWIN", required = true, num_args = 1..=MAX_NODES, value_parser = twin_id)]
    twins: Vec<String>,
    /// Prints each event as it came, a line of JSON each.
    #[arg(long)]
    pub(super) json: bool,
    /// A configuration whose `[hub]` says which hub; without it the environment does.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) async fn run(args: WatchArgs, env: &Env) -> Result<()> {
    if let Some(twice) = named_twice(&args.twins) {
        bail!("`{twice}` is named twice: name each node once");
    }
    let mut stop = StopSignals::new()?;
    let given = IDENTITY.iter().find_map(|name| env.get(name));
    let node_itself = args.twins.iter().find(|twin| given == Some(twin.as_str()));
    // The node's own id in its file or in the variables of its shell is not taken: a client with the same id gets what is meant for the
    // node. A development hub takes an app that nobody knows; the hub of a PhyOS device knows only the app that runs there.
    let own = given.filter(|_| node_itself.is_none());
    let own = own.map_or_else(made_up, str::to_owned);
    let mut variables: BTreeMap<String, String> = env.as_map().clone();
    variables.insert("TWINSIGHT_HUB__TWIN_ID".to_owned(), own);
    let config = Config::load(args.config.as_deref(), &variables.into_iter().collect())?;
    let mut hub = config.hub.context(NO_HUB)?;
    if let (HubMode::Phyos, Some(node)) = (&hub.mode, node_itself) {
        hub.twin_id.clone_from(node);
    }
    let options = WatchOptions {
        hub,
        twins: args.twins,
        json: args.json,
        colours: Colours::of_stdout(env),
    };
    watch::run(options, stop.next(), &mut Output(io::stdout())).await
}

/// A twin that is in the list more than once.
fn named_twice(twins: &[String]) -> Option<&String> {
    let mut others = twins.iter().enumerate();
    others
        .find(|(place, twin)| twins[..*place].contains(twin))
        .map(|(_, twin)| twin)
}

/// An id for an app that nobody knows.
fn made_up() -> String {
    format!("watch-{:08x}", rand::random::<u32>())
}
