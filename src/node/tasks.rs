//! Tasks of the node that only look: after the hub, after the inference workers and after the cameras. What they find goes
//! to the probes, to the metrics and to the API. The node runs them and aborts them at its end.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use super::MAX_SILENCE;
use super::apply::{ActiveConfig, SharedPool};
use super::cameras::Cameras;
use crate::clock::WallClock;
use crate::detect::health::ModelHealth;
use crate::detect::pool::LOOK_EVERY;
use crate::http::api::{CameraFacts, HubFacts, ModelFacts};
use crate::http::state::HttpState;
use crate::publish::publisher::Publisher;
use crate::shard::Share;
use crate::telemetry::capacity::{Capacity, CapacityMeter};
use crate::telemetry::health::{Heartbeat, Readiness};
use crate::telemetry::metrics::Metrics;
use twinsight_client::hub::{AwayReason, HubClient, HubStatus};

/// How often it is looked how much of its capacity the node uses.
const METER_EVERY: Duration = Duration::from_secs(1);

/// Follows the hub. It keeps the node's readiness, has states sent again after the hub returned, and tells a refusal.
pub(super) async fn watch_hub(
    hub: HubClient,
    publisher: Publisher,
    readiness: Arc<Readiness>,
    refused: watch::Sender<Option<String>>,
) {
    let mut status = hub.status();
    loop {
        match status.borrow_and_update().clone() {
            HubStatus::Joined { .. } => {
                readiness.set_hub_joined(true);
                publisher.resend_statuses();
            }
            HubStatus::Refused { reason } => {
                readiness.set_hub_joined(false);
                readiness
                    .set_hub_last_error(format!("{} refuses this node ({reason})", hub.hub_url()));
                refused.send_replace(Some(reason));
            }
            HubStatus::Away { since, reason } => {
                readiness.set_hub_joined(false);
                readiness.set_hub_last_error(away_sentence(&hub.hub_url(), since, &reason));
            }
            HubStatus::Connecting { attempt } => {
                readiness.set_hub_joined(false);
                if attempt == 1 {
                    let url = hub.hub_url();
                    readiness.set_hub_last_error(format!("{url} is dialled"));
                }
            }
        }
        // This task is aborted before the client is closed, so that only a panic can end the client's task.
        if status.changed().await.is_err() {
            // A runtime that ends drops its tasks one after the other, and this one may see that the client's is gone.
            tokio::time::sleep(Duration::from_secs(1)).await;
            panic!("the hub client's task is gone");
        }
    }
}

/// Looks after the inference workers and tells what is wrong with them.
pub(super) async fn supervise(
    pool: SharedPool,
    models: Arc<ModelHealth>,
    readiness: Arc<Readiness>,
    metrics: Arc<Metrics>,
    heartbeat: Heartbeat,
) {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut meter = CapacityMeter::default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut metered_at = Instant::now();
    loop {
        tick.tick().await;
        let now = Instant::now();
        let last_error = match &mut *pool.lock() {
            Some(pool) => {
                pool.supervise(now);
                if now.saturating_duration_since(metered_at) >= METER_EVERY {
                    metered_at = now;
                    let workers = pool.workers();
                    let capacity = Capacity { workers, cores };
                    if let Some(used) = meter.read(pool.reading(now), capacity) {
                        metrics.capacity_used.set(used);
                    }
                }
                pool.last_error().map(str::to_owned)
            }
            // The pool was taken out because the node stops.
            None => return,
        };
        readiness
            .set_inference_errors(last_error.into_iter().chain(models.last_errors()).collect());
        heartbeat.beat(now);
    }
}

/// What `/readyz` says of a hub that is away. It names a time instead of a duration, since it is not made anew for each request.
pub(crate) fn away_sentence(url: &str, since: Instant, reason: &AwayReason) -> String {
    let clock = WallClock::read();
    // This is the last second that the format can write.
    let last = Duration::from_secs(253_402_300_799);
    let since = Duration::from_millis(clock.unix_ms(since)).min(last);
    let since = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + since);
    let mut sentence = format!("{url} is away since {since}: {reason}");
    let remedy = reason.remedy();
    if !remedy.is_empty() {
        sentence += ": ";
        sentence += remedy;
    }
    sentence
}

/// Keeps a copy of what is known of the cameras and of the node, for readers that must not wait for their locks: HTTP and the
/// reports. Once a second it also reads the counters into their history.
pub(super) async fn read_facts(
    cameras: Arc<tokio::sync::Mutex<Cameras>>,
    hub: Option<HubClient>,
    models: Arc<ModelHealth>,
    config: watch::Receiver<ActiveConfig>,
    share: Share,
    state: HttpState,
) {
    let HttpState {
        health, metrics, ..
    } = &state;
    let heartbeat = health.register("cameras", MAX_SILENCE, Instant::now());
    let status = hub.as_ref().map(HubClient::status);
    let mut tick = tokio::time::interval(Duration::from_millis(500));
    // Readings that come in a burst after a pause would say that nothing grew.
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut is_whole_second = false;
    loop {
        tick.tick().await;
        // This keeps one thread for work that blocks alive. A system that grants no further thread would else hold up the end of
        // a camera or the reading of a file for ever.
        drop(tokio::task::spawn_blocking(|| ()));
        let (read, ended) = {
            let mut cameras = cameras.lock().await;
            cameras.forget(Instant::now());
            cameras.look_for_blind_ones(&models);
            cameras.look_at_bridges();
            cameras.statuses().look_at_share();
            (cameras.facts(), cameras.ended())
        };
        for id in ended {
            health.panicked(format!("the task of camera stream {id}"), &"see the log");
        }
        *state.cameras.lock() = in_order(read, &config.borrow());
        let hub = match (&hub, &status) {
            (Some(hub), Some(status)) => {
                let last = state.node.lock().hub.clone();
                hub_facts(hub, &status.borrow(), last)
            }
            _ => HubFacts::none(),
        };
        let models = model_facts(&models, &config.borrow());
        let mut share = share.facts();
        if share.pool.is_none() {
            let twins = state.cameras.lock();
            let twins = twins.iter().map(|facts| &facts.status.id.twin_id);
            share.held = twins.collect::<BTreeSet<_>>().len();
        }
        state.readiness.set_pool_trouble(share.trouble.clone());
        {
            let mut node = state.node.lock();
            (node.hub, node.models, node.share) = (hub, models, share);
        }
        *state.config.lock() = config.borrow().facts();
        if is_whole_second {
            let now = Instant::now();
            metrics
                .all_streams()
                .iter()
                .for_each(|each| each.sample(now));
            let process = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
            let process = Duration::try_from(process).unwrap_or_default();
            state.node.lock().usage.sample(process, metrics, now);
        }
        is_whole_second = !is_whole_second;
        let tasks = tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks();
        metrics.tasks.set(i64::try_from(tasks).unwrap_or(i64::MAX));
        heartbeat.beat(Instant::now());
    }
}

/// People know their cameras in the order of the configuration.
fn in_order(mut read: Vec<CameraFacts>, config: &ActiveConfig) -> Vec<CameraFacts> {
    let order: HashMap<_, _> = config
        .cameras
        .iter()
        .map(|camera| &camera.id)
        .zip(0..)
        .collect();
    read.sort_by_key(|facts| order.get(&facts.status.id).copied().unwrap_or(usize::MAX));
    read
}

fn model_facts(models: &ModelHealth, config: &ActiveConfig) -> Vec<ModelFacts> {
    let hashes = config.models.iter().zip(&config.model_hashes);
    let facts = models.reports().into_iter().map(|report| {
        let hash = hashes.clone().find(|(each, _)| ***each == *report.name);
        ModelFacts {
            name: report.name.to_string(),
            sha256: hash.and_then(|(_, hash)| hash.as_deref().map(str::to_owned)),
            state: report.state,
            error: report.error,
            fallback: report.substitute.map(|name| name.to_string()),
            remote: report.remote,
        }
    });
    facts.collect()
}

/// A node that lost its hub is still known by the twin that it had there last.
fn hub_facts(hub: &HubClient, status: &HubStatus, last: HubFacts) -> HubFacts {
    let mut facts = HubFacts {
        mode: last.mode,
        url: Some(hub.hub_url()),
        twin_id: last.twin_id,
        ..HubFacts::default()
    };
    match status {
        HubStatus::Connecting { .. } => facts.state = "connecting",
        HubStatus::Joined { twin_id } => {
            facts.state = "joined";
            facts.twin_id = Some(twin_id.clone());
        }
        HubStatus::Away { since, reason } => {
            facts.state = "away";
            facts.since = Some(*since);
            let remedy = reason.remedy();
            facts.reason = Some(match remedy {
                "" => reason.to_string(),
                remedy => format!("{reason}: {remedy}"),
            });
        }
        HubStatus::Refused { reason } => {
            facts.state = "refused";
            facts.reason = Some(reason.clone());
        }
    }
    facts
}
