//! The command line: arguments come in, a command runs, and an exit code goes out. Results go to standard output, logs
//! to standard error. Each command has a file, with its arguments and what runs it.
//!
//! It is part of the library because the compiler makes the code of an async function where it is awaited: were that
//! in the program, the program and its tests would each compile the node, the hub and the WebRTC stack once more.

mod arguments;
mod bridge;
mod camera;
mod capacity;
mod check;
mod demo;
mod detect;
mod discover;
mod health;
mod hub;
mod model;
mod output;
mod replay;
mod rtsp;
mod run;
mod shipped;
mod stop;
mod watch;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use self::bridge::BridgeArgs;
use self::camera::CameraArgs;
use self::capacity::CapacityArgs;
use self::check::CheckArgs;
use self::demo::DemoArgs;
use self::detect::DetectArgs;
use self::discover::DiscoverArgs;
use self::health::HealthArgs;
use self::hub::HubArgs;
use self::model::ModelArgs;
use self::replay::ReplayArgs;
use self::run::RunArgs;
use self::watch::WatchArgs;
use crate::config::{ConfigError, Env};
use crate::descriptors::Descriptors;
use crate::detect::manifest::ModelError;
use crate::node::models::UnfitCamera;
use crate::telemetry::logging::{self, LogFormat};

/// Why a command that joins a hub cannot.
const NO_HUB: &str = "there is no hub to join, since `hub.mode` is \"none\": choose another mode, for instance by TWINSIGHT_HUB__MODE";

/// Exit code of a configuration that cannot be used (`EX_CONFIG`).
const BAD_CONFIGURATION: u8 = 78;

/// What is still under way when a command has ended may take this long.
const RUNTIME_LIMIT: Duration = Duration::from_millis(500);

/// Whoever reads the log has this long to take what was said last.
const LAST_WORDS_LIMIT: Duration = Duration::from_millis(500);

/// The signal of a file that may not grow further (`SIGXFSZ`, `ulimit -f`).
#[cfg(unix)]
const FILE_SIZE_SIGNAL: i32 = 25;

/// Detects objects in the video of camera twins and sends what it sees to the hub.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    /// How log lines look: text or json. RUST_LOG sets what is logged.
    #[arg(long, global = true, default_value = "text")]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the node.
    Run(RunArgs),
    /// Makes twins of IP cameras.
    Bridge(BridgeArgs),
    /// Runs a hub, cameras and a node in one process and shows what is detected.
    Demo(DemoArgs),
    /// Shows the events of nodes as they come from the hub.
    Watch(WatchArgs),
    /// Runs the development hub.
    Hub(HubArgs),
    /// Runs a camera twin that sends what an IP camera sends, a clip, a picture or a test pattern.
    Camera(CameraArgs),
    /// Lists the IP cameras of the network with their streams.
    Discover(DiscoverArgs),
    /// Detects on pictures and clips.
    Detect(DetectArgs),
    /// Replays a recorded clip with a camera's settings, and says what became of each candidate.
    Replay(ReplayArgs),
    /// Lists, shows, adds, compares and removes detectors.
    Model(ModelArgs),
    /// Measures how many cameras this machine carries.
    Capacity(CapacityArgs),
    /// Tries everything that a node needs, and says what is wrong and what to do.
    Check(CheckArgs),
    /// Asks the running node whether it is healthy.
    Health(HealthArgs),
}

impl Command {
    /// What is logged of this command unless `RUST_LOG` says otherwise, where that differs from the default.
    fn quiet_filter(&self) -> Option<&'static str> {
        match self {
            // The table is the output, so only what goes wrong is logged beside it.
            Self::Demo(_) => Some(logging::QUIET_FILTER),
            // Its lines tell of the hub.
            Self::Watch(args) if !args.json => Some(logging::WATCH_FILTER),
            // There the output has nothing but events.
            Self::Watch(_) => Some(logging::QUIET_FILTER),
            // What a camera says of itself is the output.
            Self::Discover(_) => Some(logging::QUIET_FILTER),
            // The measurement goes on until there are too many cameras, so warnings about them are expected.
            Self::Capacity(_) => Some("error"),
            // The findings say everything that a log would.
            Self::Check(_) => Some("off"),
            Self::Bridge(args) if args.checks() => Some("off"),
            // What is tried and does not fit is said in the end, and a model that loads is no news.
            Self::Model(_) => Some("warn,ort=error"),
            Self::Run(_)
            | Self::Bridge(_)
            | Self::Hub(_)
            | Self::Camera(_)
            | Self::Detect(_)
            | Self::Replay(_)
            | Self::Health(_) => None,
        }
    }

    async fn execute(self, env: &Env, descriptors: Descriptors) -> Result<()> {
        // Taken, so that a log file that may not grow further is an error of its writer and not the end of the program.
        #[cfg(unix)]
        let _file_size = signal(SignalKind::from_raw(FILE_SIZE_SIGNAL));
        match self {
            Self::Run(args) => run::run(args, env, descriptors).await,
            Self::Bridge(args) => bridge::run(args, env, descriptors).await,
            Self::Demo(args) => demo::run(args, env).await,
            Self::Watch(args) => watch::run(args, env).await,
            Self::Hub(args) => hub::run(args).await,
            Self::Camera(args) => camera::run(args, env).await,
            Self::Discover(args) => discover::run(args, env).await,
            Self::Detect(args) => detect::run(args, env),
            Self::Replay(args) => replay::run(args, env).await,
            Self::Model(args) => model::run(args, env),
            Self::Capacity(args) => capacity::run(args, env).await,
            Self::Check(args) => check::run(args, env).await,
            Self::Health(args) => health::run(args, env).await,
        }
    }
}

/// Runs the command that the process's arguments name, and gives the exit code of the process. Wrong arguments end the
/// process here, with their usage.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let env = Env::of_process();
    let _last_words = LastWords;
    let descriptors = Descriptors::raise();
    let filter = env.get("RUST_LOG").or(cli.command.quiet_filter());
    let logging = logging::init(cli.log_format, filter, env.get("NO_COLOR").is_some());
    let result = logging.context("logging").and_then(|()| {
        threads_at_the_start()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        let result = runtime.block_on(cli.command.execute(&env, descriptors));
        runtime.shutdown_timeout(RUNTIME_LIMIT);
        result
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Other programs before `head` succeed too. Any other error is told and counts, whether or not somebody reads.
        Err(error) if output::is_of_reader_gone(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let wrong = error.downcast_ref::<ConfigError>();
            let sentences = wrong.map_or_else(|| vec![sentence(&error)], ConfigError::sentences);
            for sentence in sentences {
                logging::last_words(&format!("twinsight: {sentence}"));
            }
            if wrong.is_some() || shows_when_loaded(&error) {
                ExitCode::from(BAD_CONFIGURATION)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// Whether it is the configuration that cannot be used, which only shows once the models are there that it names.
fn shows_when_loaded(error: &anyhow::Error) -> bool {
    let is_unusable = matches!(error.downcast_ref(), Some(ModelError::Client { .. }));
    is_unusable || error.is::<UnfitCamera>()
}

/// Asks for the threads that the runtime starts with, because it would panic if it did not get them.
fn threads_at_the_start() -> Result<()> {
    /// Threads beside one for each core: those for work that blocks, and the first ones of a command.
    const OTHERS: usize = 4;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    twinsight_client::thread::try_grant(cores + OTHERS).with_context(|| {
        format!(
            "the system does not grant the {} threads that this program starts with: raise the limit of processes and \
             threads (`ulimit -u`, `pids_limit` of a container)",
            cores + OTHERS
        )
    })
}

/// Waits for the log when it is dropped, so that the last lines are written however the program ends.
struct LastWords;

impl Drop for LastWords {
    fn drop(&mut self) {
        logging::flush(LAST_WORDS_LIMIT);
    }
}

/// An error with its causes, without those that its own words tell already.
fn sentence(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}
