//! Measures the physical limit of inference: sessions of one model run in a loop, with nothing around them. `make bench-compare`
//! compares the node with it.
//!
//! ```sh
//! cargo run --release --example bare_loop -- models/nanodet_g_coco_int8.onnx --sessions 2 --threads 1
//! ```

#![expect(clippy::print_stdout, reason = "an example tells what it does")]

use std::path::PathBuf;
use std::thread::Builder;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use clap::Parser;
use ndarray::ArrayD;
use ort::environment::Environment;
use ort::session::Session;
use ort::value::TensorRef;
use procfs::process::Process;
use serde_json::json;

#[derive(Parser)]
struct Args {
    /// The model.
    model: PathBuf,
    /// Sessions, each on a thread of its own.
    #[arg(long, default_value_t = 1)]
    sessions: usize,
    /// Threads within a session (intra-op).
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Pictures in a run, where the model's batch is dynamic.
    #[arg(long, default_value_t = 1)]
    batch: usize,
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    #[arg(long, default_value = ".runtime/onnxruntime/libonnxruntime.so")]
    library: PathBuf,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let (before_mb, loading) = (resident_mb()?, Instant::now());
    let environment = ort::init_from(&args.library)?.build()?;
    let sessions = (0..args.sessions)
        .map(|_| session(&environment, &args))
        .collect::<Result<Vec<_>>>()?;
    let load = loading.elapsed();
    let (cpu, started) = (process_cpu()?, Instant::now());
    let until = started + Duration::from_secs_f64(args.seconds);
    let threads = sessions.into_iter().enumerate().map(|(n, session)| {
        let batch = args.batch;
        let looping = move || infer_until(session, batch, until);
        Builder::new().name(format!("session-{n}")).spawn(looping)
    });
    let threads = threads.collect::<std::io::Result<Vec<_>>>()?;
    let (mut runs, mut sessions) = (Vec::new(), Vec::new());
    for thread in threads {
        let joined = thread.join().map_err(|_| anyhow!("a session panicked"))?;
        let (session, of_one) = joined?;
        // The session is kept, since its memory is measured at the end.
        sessions.push(session);
        runs.extend(of_one);
    }
    let (cpu, seconds) = (process_cpu()? - cpu, started.elapsed().as_secs_f64());
    runs.sort_unstable();
    let pictures = (runs.len() * args.batch) as f64;
    let at = |share: usize| runs[(runs.len() - 1) * share / 100].as_secs_f64() * 1e3;
    let rounded = |value: f64| (value * 100.0).round() / 100.0;
    println!(
        "{}",
        json!({
            "sessions": args.sessions, "threads": args.threads, "batch": args.batch,
            "per_second": rounded(pictures / seconds), "cpu_ms": rounded(cpu.as_secs_f64() * 1e3 / pictures),
            "p50_ms": rounded(at(50)), "p99_ms": rounded(at(99)), "load_ms": rounded(load.as_secs_f64() * 1e3),
            "session_mb": rounded(resident_mb()? - before_mb),
        })
    );
    Ok(())
}

fn session(environment: &Environment, args: &Args) -> Result<Session> {
    Session::builder(environment)
        .and_then(|builder| Ok(builder.with_intra_threads(args.threads)?))
        .and_then(|builder| Ok(builder.with_intra_op_spinning(false)?))
        .and_then(|mut builder| builder.commit_from_file(&args.model))
        .map_err(|error| anyhow!("the model cannot be loaded: {error}"))
}

/// Runs a session until this time, and gives it back with the time that each run took.
fn infer_until(
    mut session: Session,
    batch: usize,
    until: Instant,
) -> Result<(Session, Vec<Duration>)> {
    let input = session.inputs().first().context("the model has no input")?;
    let (name, shape) = (input.name().to_owned(), input.dtype().tensor_shape());
    let shape: Vec<usize> = shape
        .context("the input is no tensor")?
        .iter()
        .enumerate()
        .map(|(axis, &length)| match usize::try_from(length) {
            Ok(length) if axis > 0 || length > 0 => length,
            _ => batch,
        })
        .collect();
    let mut state = 1u32;
    let picture = ArrayD::from_shape_simple_fn(shape, || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as f32
    });
    let mut runs = Vec::new();
    // The first runs allocate memory, so they are not counted.
    for warm in (0..3).map(|_| true).chain(std::iter::repeat(false)) {
        let started = Instant::now();
        if started >= until {
            break;
        }
        session.run(ort::inputs![name.as_str() => TensorRef::from_array_view(&picture)?])?;
        if !warm {
            runs.push(started.elapsed());
        }
    }
    ensure!(!runs.is_empty(), "the time is too short for a run");
    Ok((session, runs))
}

/// The memory of this process that is resident now, in MiB.
fn resident_mb() -> Result<f64> {
    let kib = Process::myself()?.status()?.vmrss;
    Ok(kib.context("the kernel does not tell the resident memory")? as f64 / 1024.0)
}

/// The processor time that all threads have used so far.
fn process_cpu() -> Result<Duration> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Ok(Duration::new(
        u64::try_from(time.tv_sec)?,
        u32::try_from(time.tv_nsec)?,
    ))
}
