//! The command line: arguments, configuration, logging, runtime, exit code. Results go to standard
//! output, logs to standard error.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use twinsight::check::{self, CheckOptions, Finding};
use twinsight::config::{Config, ConfigError, ConfigSource, Env, Settings};
use twinsight::descriptors::Descriptors;
use twinsight::detect::RuntimeOptions;
use twinsight::dev::camera::encode::Pictures;
use twinsight::dev::camera::{self, CameraOptions, CameraSource};
use twinsight::dev::capacity::{self, CapacityOptions};
use twinsight::dev::demo::{self, DemoOptions};
use twinsight::dev::detect::{self, DetectOptions};
use twinsight::dev::hub::{self as dev_hub, DevHubOptions};
use twinsight::http::{probe, server};
use twinsight::node::{Node, NodeParts};
use twinsight::telemetry::logging::{self, LogFormat};
use twinsight_client::hub::client::HubClient;
use twinsight_media::h264::clip::Clip;
use twinsight_media::picture::PictureSize;

/// Exit code of a configuration that cannot be used (`EX_CONFIG`).
const BAD_CONFIGURATION: u8 = 78;

/// A probe answers within this time or counts as failed.
const HEALTH_LIMIT: Duration = Duration::from_secs(3);

/// Exit code of a command that had to be ended.
const FORCED: u8 = 1;

/// The test pattern unless `--size` says otherwise.
const PATTERN_SIZE: PictureSize = PictureSize {
    width_px: 1280,
    height_px: 720,
};

/// The longest demo: a year.
const MAX_SECONDS: u64 = 366 * 24 * 3600;

/// A graceful stop may take this long, and with [`RUNTIME_LIMIT`] and [`LAST_WORDS_LIMIT`] five seconds in all.
const STOP_LIMIT: Duration = Duration::from_secs(4);

/// What is still under way when a command has ended may take this long.
const RUNTIME_LIMIT: Duration = Duration::from_millis(500);

/// Whoever reads the log has this long to take what was said last.
const LAST_WORDS_LIMIT: Duration = Duration::from_millis(500);

/// A command that has not ended so long after the first signal is ended: something of it hangs, as a write to a terminal
/// that nobody reads.
const FORCE_AFTER: Duration = Duration::from_secs(6);

/// The signal of a file that may not grow further (`SIGXFSZ`, `ulimit -f`).
#[cfg(unix)]
const FILE_SIZE_SIGNAL: i32 = 25;

/// Whoever reads standard output has gone: what is to be written there is wanted by nobody any more.
static READER_GONE: AtomicBool = AtomicBool::new(false);

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
    /// Runs a hub, cameras and a node in one process and shows what is detected.
    Demo(DemoArgs),
    /// Runs the development hub.
    Hub(HubArgs),
    /// Runs a camera twin that sends a clip, a picture or a test pattern.
    Camera(CameraArgs),
    /// Detects on pictures and clips.
    Detect(DetectArgs),
    /// Measures how many cameras this machine carries.
    Capacity(CapacityArgs),
    /// Tries everything that a node needs, and says what is wrong and what to do.
    Check(CheckArgs),
    /// Asks the running node whether it is healthy.
    Health(RunArgs),
}

#[derive(Args)]
struct RunArgs {
    /// The configuration; without it the environment and the defaults decide.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Args)]
struct CheckArgs {
    /// The configuration; without it the environment and the defaults decide.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A line of JSON for each finding.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct DemoArgs {
    /// Camera twins.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = cameras)]
    cameras: usize,
    /// Ends by itself after this many seconds.
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=MAX_SECONDS))]
    seconds: Option<u64>,
    /// Frames a second of each camera.
    #[arg(long, value_name = "N", default_value_t = 10.0, value_parser = fps)]
    fps: f64,
    /// The model.
    #[arg(long)]
    model: Option<String>,
}

#[derive(Args)]
struct CapacityArgs {
    /// The model; the default one unless given.
    #[arg(long)]
    model: Option<String>,
    /// What the cameras send: H.264, as a byte stream (Annex B) or in MP4; the shipped clip unless given.
    #[arg(long, value_name = "FILE")]
    clip: Option<PathBuf>,
    /// Frames a second of each camera.
    #[arg(long, value_name = "N", default_value_t = 10.0, value_parser = fps)]
    fps: f64,
    /// Detections a second of each camera at most, 0 for every frame; 10 unless given.
    #[arg(long, value_name = "N", value_parser = max_fps)]
    max_fps: Option<f64>,
    /// Writes the table there too, for plots.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// How long each number of cameras is measured.
    #[arg(long, value_name = "S", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=20))]
    step_seconds: u64,
}

#[derive(Args)]
struct HubArgs {
    /// Where to listen.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:55000")]
    listen: SocketAddr,
    /// A JSON array of twins; without it any twin id is known.
    #[arg(long, value_name = "FILE")]
    twins: Option<PathBuf>,
}

#[derive(Args)]
struct CameraArgs {
    /// The camera's twin id.
    #[arg(long, value_name = "ID")]
    twin: String,
    #[command(flatten)]
    source: SourceArgs,
    /// Width and height of the pattern, 1280x720 unless given.
    #[arg(long, value_name = "WxH", conflicts_with_all = ["clip", "image"], value_parser = picture_size)]
    size: Option<PictureSize>,
    /// Dials this node; without it the camera waits for viewers.
    #[arg(long, value_name = "NODE")]
    dial: Option<String>,
    /// The stream's name.
    #[arg(long, default_value = "default")]
    stream: String,
    /// Frames a second.
    #[arg(long, value_name = "N", default_value_t = 10.0, value_parser = fps)]
    fps: f64,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct SourceArgs {
    /// H.264, as a byte stream (Annex B) or in MP4, sent as it is and over again.
    #[arg(long, value_name = "FILE")]
    clip: Option<PathBuf>,
    /// A picture (JPEG, PNG), sent over and over.
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// A moving test pattern with the number of each frame in it.
    #[arg(long)]
    pattern: bool,
}

#[derive(Args)]
struct DetectArgs {
    /// Pictures (JPEG, PNG) and H.264 clips (byte streams of Annex B, MP4).
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The model.
    #[arg(long, default_value = "nanodet_g_coco")]
    model: String,
    /// Objects below it are left out; 0 to 1.
    #[arg(long, value_name = "S", default_value_t = 0.4, value_parser = min_score)]
    min_score: f32,
    /// A label to report; may be given several times. Without it: all.
    #[arg(long = "class", value_name = "LABEL")]
    classes: Vec<String>,
    /// Writes annotated pictures here.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// A line of JSON for each picture or frame.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let env = Env::of_process();
    let quiet = match cli.command {
        // A table is the output: only what goes wrong is logged beside it.
        Command::Demo(_) => Some(logging::QUIET_FILTER),
        // Too many cameras are a part of it.
        Command::Capacity(_) => Some("error"),
        // The findings say it all.
        Command::Check(_) => Some("off"),
        _ => None,
    };
    let _last_words = LastWords;
    let descriptors = Descriptors::raise();
    let logging = logging::init(cli.log_format, env.get("RUST_LOG").or(quiet));
    let result = logging.context("logging").and_then(|()| {
        threads_at_the_start()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        let result = runtime.block_on(execute(cli.command, &env, descriptors));
        runtime.shutdown_timeout(RUNTIME_LIMIT);
        result
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // As other programs before `head`. What else went wrong is said and counts, whoever reads.
        Err(error) if is_of_reader_gone(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let wrong = error.downcast_ref::<ConfigError>();
            let sentences = wrong.map_or_else(|| vec![sentence(&error)], ConfigError::sentences);
            for sentence in sentences {
                logging::last_words(&format!("twinsight: {sentence}"));
            }
            if wrong.is_some() {
                ExitCode::from(BAD_CONFIGURATION)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// True for an error of writing to standard output after its reader has gone.
fn is_of_reader_gone(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref());
    READER_GONE.load(Ordering::Relaxed) && causes.any(is_broken_pipe)
}

fn is_broken_pipe(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

/// The runtime would panic if it did not get its threads.
fn threads_at_the_start() -> Result<()> {
    /// Beside one for each core: what blocks, and the first threads of a command.
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

/// Waits for the log at the end of the program, however it ends.
struct LastWords;

impl Drop for LastWords {
    fn drop(&mut self) {
        logging::flush(LAST_WORDS_LIMIT);
    }
}

/// An error with its causes, but for those that its own words tell already.
fn sentence(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

async fn execute(command: Command, env: &Env, descriptors: Descriptors) -> Result<()> {
    // Taken, so that a log file that may not grow further is an error of its writer and not the end of the program.
    #[cfg(unix)]
    let _file_size = signal(SignalKind::from_raw(FILE_SIZE_SIGNAL));
    match command {
        Command::Run(args) => run(args.config.as_deref(), env, descriptors).await,
        Command::Demo(args) => run_demo(args, env).await,
        Command::Capacity(args) => run_capacity(args, env).await,
        Command::Hub(args) => run_hub(args).await,
        Command::Camera(args) => run_camera(args, env).await,
        Command::Detect(args) => run_detect(args, env),
        Command::Check(args) => run_check(args, env).await,
        Command::Health(args) => {
            let listen = Config::listen(args.config.as_deref(), env)?;
            probe::health(listen, HEALTH_LIMIT).await?;
            print(&format!("the node at {listen} is healthy"))
        }
    }
}

async fn run(config: Option<&Path>, env: &Env, descriptors: Descriptors) -> Result<()> {
    let source = ConfigSource::read(config, env)?;
    let config = source.resolve(&Settings::default())?;
    if descriptors.streams(1) < config.cameras.len() {
        tracing::warn!(
            limit = descriptors.limit,
            cameras = config.cameras.len(),
            "the limit of open files is too low for the cameras: raise it with `ulimit -n`, `LimitNOFILE=` of the service or `--ulimit nofile=` of the container"
        );
    }
    let mut stop = StopSignals::new()?;
    // From now on, so that one that comes early does not end the program.
    let hangup = signal(SignalKind::hangup())?;
    let listener = server::bind(config.http.listen).await?;
    let models_dir = shipped(&config.runtime.models_dir);
    let dylib_path = env.get("ORT_DYLIB_PATH").map(PathBuf::from);
    let parts = NodeParts::new(config, models_dir, dylib_path, listener);
    let mut node = tokio::select! {
        node = Node::start(parts) => node?,
        () = stop.next() => return Ok(()),
    };
    node.follow(source, Some(hangup));
    let result = tokio::select! {
        result = node.run() => result,
        () = stop.next() => Ok(()),
    };
    tracing::info!("stopping");
    tokio::select! {
        stopped = tokio::time::timeout(STOP_LIMIT, node.shutdown()) => if stopped.is_err() {
            tracing::warn!("the node did not stop in time");
        },
        () = stop.next() => tracing::warn!("stopped at once"),
    }
    result
}

async fn run_demo(args: DemoArgs, env: &Env) -> Result<()> {
    let mut stop = StopSignals::new()?;
    let options = DemoOptions {
        cameras: args.cameras,
        duration: args.seconds.map(Duration::from_secs),
        fps: args.fps,
        model: args.model,
        clip: shipped("media/pedestrians.h264"),
        models_dir: models_dir(env),
        env: env.as_map().clone(),
    };
    demo::run(options, stop.next(), &mut Output(io::stdout())).await
}

async fn run_capacity(args: CapacityArgs, env: &Env) -> Result<()> {
    let mut stop = StopSignals::new()?;
    let options = CapacityOptions {
        model: args.model,
        clip: args
            .clip
            .unwrap_or_else(|| shipped("media/pedestrians.h264")),
        fps: args.fps,
        max_fps: args.max_fps,
        step: Duration::from_secs(args.step_seconds),
        csv: args.csv,
        models_dir: models_dir(env),
        env: env.as_map().clone(),
    };
    capacity::run(options, stop.next(), &mut Output(io::stdout())).await
}

async fn run_hub(args: HubArgs) -> Result<()> {
    let mut stop = StopSignals::new()?;
    let twins = args.twins.as_deref().map(dev_hub::read_twins).transpose()?;
    let options = DevHubOptions {
        strict: twins.is_some(),
        twins: twins.unwrap_or_default(),
        ..DevHubOptions::default()
    };
    let listener = TcpListener::bind(args.listen).await.with_context(|| {
        format!(
            "the development hub cannot listen on {}: name another address with --listen",
            args.listen
        )
    })?;
    tracing::info!(address = %listener.local_addr()?, "the development hub listens");
    Ok(dev_hub::run(listener, options, async move { stop.next().await }).await?)
}

async fn run_camera(args: CameraArgs, env: &Env) -> Result<()> {
    let source = camera_source(&args)?;
    let mut variables: BTreeMap<String, String> = env.as_map().clone();
    variables.insert("TWIN_ID".to_owned(), args.twin);
    let config = Config::load(None, &variables.into_iter().collect())?;
    let mut stop = StopSignals::new()?;
    let hub = HubClient::start(config.hub.clone());
    let options = CameraOptions {
        stream: args.stream,
        dial: args.dial,
        fps: args.fps,
        start: 0,
        ice: config.ice.clone(),
    };
    tokio::select! {
        result = camera::run(hub.clone(), source, options) => result,
        () = stop.next() => {
            hub.close().await;
            Ok(())
        }
    }
}

fn camera_source(args: &CameraArgs) -> Result<CameraSource> {
    Ok(match (&args.source.clip, &args.source.image) {
        (Some(clip), _) => Arc::new(Clip::read(clip)?).into(),
        (None, Some(image)) => CameraSource::Pictures(Pictures::still(image)?),
        (None, None) => {
            CameraSource::Pictures(Pictures::pattern(args.size.unwrap_or(PATTERN_SIZE))?)
        }
    })
}

/// `1280x720`, of a size that the pattern can have.
fn picture_size(text: &str) -> Result<PictureSize, String> {
    let sides = text.split_once('x');
    let parsed = sides.and_then(|(width, height)| {
        Some(PictureSize {
            width_px: width.parse().ok()?,
            height_px: height.parse().ok()?,
        })
    });
    let size =
        parsed.ok_or_else(|| "a size is width and height in pixels, as in 1280x720".to_owned())?;
    Pictures::pattern(size).map_err(|error| error.to_string())?;
    Ok(size)
}

fn cameras(text: &str) -> Result<usize, String> {
    let count = text
        .parse()
        .ok()
        .filter(|count| demo::CAMERAS.contains(count));
    count.ok_or_else(|| {
        let (least, most) = (demo::CAMERAS.start(), demo::CAMERAS.end());
        format!("the demo takes {least} to {most} cameras")
    })
}

fn fps(text: &str) -> Result<f64, String> {
    let fps = text.parse().map_err(|_| "it is no number".to_owned())?;
    camera::check_fps(fps).map_err(|error| error.to_string())?;
    Ok(fps)
}

fn max_fps(text: &str) -> Result<f64, String> {
    number(text, 1000.0)
}

fn min_score(text: &str) -> Result<f32, String> {
    // 32 bits are what scores have; no value in range becomes another one that matters.
    number(text, 1.0)?;
    text.parse().map_err(|_| "it is no number".to_owned())
}

/// A number from 0 to `most`, as the configuration's.
fn number(text: &str, most: f64) -> Result<f64, String> {
    let number = text
        .parse()
        .ok()
        .filter(|number| (0.0..=most).contains(number));
    number.ok_or_else(|| format!("it takes a number from 0 to {most}"))
}

fn run_detect(args: DetectArgs, env: &Env) -> Result<()> {
    let options = DetectOptions {
        files: args.files,
        models: models_dir(env),
        model: args.model,
        min_score: args.min_score,
        classes: args.classes,
        out: args.out,
        json: args.json,
        runtime: RuntimeOptions {
            library: env.get("TWINSIGHT_RUNTIME__LIBRARY").map(PathBuf::from),
            dylib_path: env.get("ORT_DYLIB_PATH").map(PathBuf::from),
            threads: 0,
        },
        execution_providers: vec!["cpu".to_owned()],
    };
    let summary = detect::run(&options, &mut Output(io::stdout().lock()))?;
    anyhow::ensure!(
        summary.failures.is_empty(),
        "{} of {} files could not be used",
        summary.failures.len(),
        options.files.len()
    );
    Ok(())
}

async fn run_check(args: CheckArgs, env: &Env) -> Result<()> {
    let mut config = Config::load(args.config.as_deref(), env)?;
    config.runtime.models_dir = shipped(&config.runtime.models_dir);
    let options = CheckOptions {
        config,
        file: args.config,
        dylib_path: env.get("ORT_DYLIB_PATH").map(PathBuf::from),
    };
    let mut written = Ok(());
    let mut tell = |finding: &Finding| {
        let line = match args.json {
            true => serde_json::json!(finding).to_string(),
            false => finding.to_string(),
        };
        if written.is_ok() {
            written = print(&line);
        }
    };
    let mut stop = StopSignals::new()?;
    let tally = tokio::select! {
        tally = check::run(options, &mut tell) => tally,
        () = stop.next() => anyhow::bail!("stopped before everything was looked at"),
    };
    written?;
    anyhow::ensure!(
        tally.failures == 0,
        "{tally}: do what the lines that begin with `fail` say, and check again"
    );
    if !args.json {
        print(&tally.to_string())?;
    }
    Ok(())
}

/// A line of the result. Whoever reads it may have gone: that is no failure.
fn print(line: &str) -> Result<()> {
    match writeln!(Output(io::stdout()), "{line}") {
        Err(error) if is_broken_pipe(&error) => Ok(()),
        result => result.context("the result cannot be written to standard output"),
    }
}

/// Standard output, which remembers when whoever reads it has gone.
struct Output<W>(W);

impl<W> Output<W> {
    fn noted<T>(result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result
            && is_broken_pipe(error)
        {
            READER_GONE.store(true, Ordering::Relaxed);
        }
        result
    }
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Self::noted(self.0.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Self::noted(self.0.flush())
    }
}

/// The folder of the models where there is no configuration: of the variable that stands for `runtime.models_dir`, or
/// what is shipped.
fn models_dir(env: &Env) -> PathBuf {
    shipped(env.get("TWINSIGHT_RUNTIME__MODELS_DIR").unwrap_or("models"))
}

/// A file that is shipped with the program: in the working directory, or beside an ancestor of the
/// program's own file, where builds and containers have it.
fn shipped(path: impl AsRef<Path>) -> PathBuf {
    let path = path.as_ref();
    let beside_program = std::env::current_exe().ok().and_then(|exe| {
        exe.ancestors()
            .skip(1)
            .map(|folder| folder.join(path))
            .find(|candidate| candidate.exists())
    });
    let here = PathBuf::from(path);
    if here.exists() {
        here
    } else {
        beside_program.unwrap_or(here)
    }
}

/// SIGTERM and SIGINT: the first asks for a graceful stop, the second ends it.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn new() -> Result<Self> {
        let mut signals = Self::listen()?;
        // The task that runs the command may be in a write that never ends.
        tokio::spawn(async move {
            signals.next().await;
            tokio::select! {
                () = tokio::time::sleep(FORCE_AFTER) => {}
                () = async {
                    signals.next().await;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                } => {}
            }
            logging::last_words("twinsight: ended by force, since it did not stop");
            logging::flush(LAST_WORDS_LIMIT);
            std::process::exit(i32::from(FORCED));
        });
        Self::listen()
    }

    fn listen() -> Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
