//! `twinsight discover`: prints the cameras that are found with their streams, and fails if there are none.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use twinsight_client::secret::Secret;
use twinsight_client::secret_file::read_secret_file;

use super::arguments::number;
use super::output::print;
use super::rtsp::{PASSWORD, PASSWORD_FILE, USER};
use crate::config::{Env, RtspCredentials};
use crate::dev::discover::{self, Asker, CameraAddress, DiscoverOptions};
use crate::web_client::WebClient;

#[derive(Args)]
pub(super) struct DiscoverArgs {
    /// Looks only on the network of this interface; it may be given several times.
    #[arg(long = "interface", value_name = "NAME")]
    interfaces: Vec<String>,
    /// Asks this host, also where no search gets to; it may be given several times.
    #[arg(long = "address", value_name = "HOST[:PORT]", value_parser = address)]
    addresses: Vec<CameraAddress>,
    /// Waits this many seconds for answers to the search.
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0, value_parser = seconds)]
    wait: f64,
    /// The user that the cameras know, or TWINSIGHT_RTSP_USER.
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// A file with the password, or TWINSIGHT_RTSP_PASSWORD_FILE. TWINSIGHT_RTSP_PASSWORD has the password itself.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Certificates (PEM) to trust of cameras that speak HTTPS.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// A line of JSON for each camera.
    #[arg(long, conflicts_with = "config")]
    json: bool,
    /// A configuration with these cameras, ready to use.
    #[arg(long)]
    config: bool,
}

pub(super) async fn run(args: DiscoverArgs, env: &Env) -> Result<()> {
    let user = args.user.or_else(|| env.get(USER).map(str::to_owned));
    let password_file = args
        .password_file
        .or_else(|| env.get(PASSWORD_FILE).map(PathBuf::from));
    let credentials = credentials(user.as_deref(), password_file.as_deref(), env)?;
    let asker = Asker {
        user,
        password_file,
    };
    let options = DiscoverOptions {
        interfaces: args.interfaces,
        addresses: args.addresses,
        wait: Duration::from_secs_f64(args.wait),
        credentials,
        web: WebClient::new(args.ca_file.as_deref()).context("--ca-file")?,
    };
    let discovered = discover::run(options).await?;
    if args.config {
        return print(discovered.configuration(&asker).trim_end());
    }
    let lines = match args.json {
        true => discovered.json_lines(),
        false => discovered.lines(),
    };
    lines.iter().try_for_each(|line| print(line))
}

/// Who asks. The password is in a file or a variable, and never in an argument, which everybody on this machine can see.
fn credentials(
    user: Option<&str>,
    file: Option<&std::path::Path>,
    env: &Env,
) -> Result<Option<RtspCredentials>> {
    let password = match file {
        Some(file) => {
            let text = read_secret_file(file);
            let text = text.with_context(|| {
                format!(
                    "the file {} of --password-file or {PASSWORD_FILE} cannot be read",
                    file.display()
                )
            })?;
            let password = Secret::of_file(file, &text);
            Some(password.with_context(|| {
                format!("the file {} of --password-file or {PASSWORD_FILE} has no password in it: one line of visible ASCII", file.display())
            })?)
        }
        None => env.get(PASSWORD).map(Secret::new),
    };
    match (user, password) {
        (Some(user), Some(password)) => Ok(Some(RtspCredentials {
            user: user.to_owned(),
            password,
        })),
        (None, None) => Ok(None),
        (Some(_), None) => anyhow::bail!(
            "there is a user and no password: give it with --password-file, or in {PASSWORD}"
        ),
        (None, Some(_)) => {
            anyhow::bail!("there is a password and no user: give it with --user, or in {USER}")
        }
    }
}

fn address(text: &str) -> Result<CameraAddress, String> {
    CameraAddress::parse(text).ok_or_else(|| {
        "it takes a host or an IP address, and a port after a colon if it is not 80".to_owned()
    })
}

fn seconds(text: &str) -> Result<f64, String> {
    number(text, 60.0)
}
