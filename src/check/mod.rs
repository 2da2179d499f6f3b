//! `twinsight check`: a configuration comes in; findings go out, each a line with its remedy. Everything that a node needs is tried
//! in the order in which it would need it: what the configuration says, the machine, ONNX Runtime and the models, the hub, the twins, the cameras, their zones and
//! lines, the sinks. A step that depends on a failed one is reported as skipped, and every step has a time limit. Without a hub the
//! cameras are asked themselves, as the node would. The command line runs it and prints.

mod camera;
mod dial;
mod finding;
mod host;
mod hub;
mod ice;
mod models;
mod pool;
mod scene;
mod servers;
mod settings;
mod sinks;
mod source;
mod twins;

use std::collections::BTreeSet;
use std::path::PathBuf;

pub(crate) use finding::{Finding, Tally};

use self::finding::Report;
use crate::config::Config;
use crate::descriptors::Descriptors;
use twinsight_client::hub::{HubMode, HubOptions};

/// What is to be checked.
#[derive(Debug)]
pub(crate) struct CheckOptions {
    /// The configuration, which was resolved without errors.
    pub(crate) config: Config,
    /// The file of the configuration, if there is one.
    pub(crate) file: Option<PathBuf>,
    /// The value of `ORT_DYLIB_PATH`.
    pub(crate) dylib_path: Option<PathBuf>,
}

/// Checks what a program needs that only bridges cameras: the machine, the hub as each of the cameras, and the cameras.
pub(crate) async fn run_for_bridge(
    options: CheckOptions,
    tell: &mut (dyn FnMut(&Finding) + Send),
) -> Tally {
    let CheckOptions {
        config,
        file,
        dylib_path: _,
    } = options;
    let mut report = Report::new(tell);
    configuration(&config, file, &mut report);
    let _ = host::http_listen(config.http.listen, &mut report).await;
    let streams = pool::own_streams(&config);
    host::open_files(Descriptors::of_process(), &config.ice, streams, &mut report);
    let hub = config.hub.as_ref().map(hub::options);
    if let Some(hub) = &hub
        && hub::reach(hub, &mut report).await
    {
        let is_direct = hub.mode == HubMode::Direct;
        let twins: BTreeSet<&str> = match is_direct {
            true => BTreeSet::from([""]),
            false => config
                .cameras
                .iter()
                .map(|camera| &*camera.id.twin_id)
                .collect(),
        };
        for twin_id in twins {
            let subject = match twin_id {
                "" => "joining the hub".to_owned(),
                twin_id => format!("camera {twin_id} joining the hub"),
            };
            let options = HubOptions {
                twin_id: twin_id.to_owned(),
                ..hub.clone()
            };
            if let Some(joined) = hub::join_as(options, &subject, &mut report).await {
                joined.leave().await;
            }
        }
    } else {
        report.add(Finding::skip("joining the hub", "it was not reached"));
    }
    source::check(&config.cameras, &mut report).await;
    report.tally
}

/// Checks everything, and calls `tell` with each finding as soon as it is made.
pub(crate) async fn run(options: CheckOptions, tell: &mut (dyn FnMut(&Finding) + Send)) -> Tally {
    let CheckOptions {
        config,
        file,
        dylib_path,
    } = options;
    let mut report = Report::new(tell);
    configuration(&config, file, &mut report);
    settings::check(&config, &mut report);
    let neighbour = host::http_listen(config.http.listen, &mut report).await;
    let streams = config.cameras.len();
    host::open_files(Descriptors::of_process(), &config.ice, streams, &mut report);
    let Some(hub) = &config.hub else {
        models::check(&config, dylib_path, &mut report).await;
        source::check(&config.cameras, &mut report).await;
        scene::check(&config, neighbour, &mut report).await;
        sinks::check(&config, &mut report).await;
        pool::check(&config, &mut report).await;
        return report.tally;
    };
    let ports = host::udp_ports(&config.ice, streams, neighbour, &mut report);
    models::check(&config, dylib_path, &mut report).await;
    let joined = hub::check(hub, &mut report).await;
    let servers = ice::check(&config, hub, joined.as_ref(), &mut report).await;
    let twins = twins::check(&config, hub, joined.as_ref(), &mut report).await;
    source::check(&config.cameras, &mut report).await;
    camera::check(
        &config,
        joined.as_ref(),
        twins,
        &servers,
        ports,
        &mut report,
    )
    .await;
    scene::check(&config, neighbour, &mut report).await;
    if let Some(joined) = joined {
        joined.leave().await;
    }
    sinks::check(&config, &mut report).await;
    pool::check(&config, &mut report).await;
    report.tally
}

fn configuration(config: &Config, file: Option<PathBuf>, report: &mut Report<'_>) {
    let subject = file.map_or_else(
        || "configuration (variables and defaults)".to_owned(),
        |file| format!("configuration {}", file.display()),
    );
    report.add(match config.cameras.len() {
        0 => Finding::warn(
            subject,
            "it names no camera",
            "add a `[[cameras]]` with a `twin_id`, or set TWINSIGHT_CAMERAS",
        ),
        1 => Finding::ok(subject, "complete, with 1 camera stream"),
        n => Finding::ok(subject, format!("complete, with {n} camera streams")),
    });
}
