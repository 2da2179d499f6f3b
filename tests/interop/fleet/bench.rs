//! Everything that runs: a hub, camera twins, nodes that share them by way of etcd, and the listener. What is done to the nodes
//! is in `scenarios.rs`.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::Value;
use tempfile::TempDir;

use super::cameras::{Cameras, FPS};
use super::listener::Listener;
use super::relay::{Relay, Way};
use super::store::Store;
use super::verdict::Rules;
use crate::common::{NodeProcess, Program, http_get, root};
use crate::made_models;

/// What a bench is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) nodes: usize,
    pub(super) cameras: usize,
    /// Members of etcd. With none of them there is no pool, and each node takes all cameras.
    pub(super) members: usize,
    /// A node that has not renewed its lease for this long is taken for dead.
    pub(super) lease: Duration,
    /// A camera that goes from one living node to another has no longer gap. One that stays where it is has none either.
    pub(super) handover_gap: Duration,
}

/// What the verdict takes for granted.
pub(super) fn rules() -> Rules {
    let frame_interval = Duration::from_secs_f64(1.0 / FPS);
    Rules {
        frame_interval,
        pause: 4 * frame_interval,
        overlap: Duration::from_secs(1),
    }
}

/// All that runs. It ends with its handle.
pub(super) struct Bench {
    pub(super) nodes: Vec<Node>,
    pub(super) store: Option<Store>,
    pub(super) listener: Listener,
    pub(super) twins: BTreeSet<Arc<str>>,
    pub(super) lease: Duration,
    pub(super) handover_gap: Duration,
    began: Instant,
    _cameras: Cameras,
    hub: Program,
    url: String,
    models: TempDir,
}

/// A node, whether it runs or not.
pub(super) struct Node {
    pub(super) name: String,
    pub(super) process: Option<NodeProcess>,
    /// Its own ways to the members of etcd.
    relays: Vec<Relay>,
}

impl Node {
    /// Whether it can reach etcd.
    pub(super) fn set_way(&self, way: Way) {
        for relay in &self.relays {
            relay.set(way);
        }
    }

    /// Whether it can reach one member of etcd.
    pub(super) fn set_way_to(&self, member: usize, way: Way) {
        self.relays[member].set(way);
    }

    pub(super) fn process(&self) -> &NodeProcess {
        self.process.as_ref().expect("the node runs")
    }

    /// Sends its process a signal.
    pub(super) fn signal(&self, name: &str) {
        self.process().program.signal(name);
    }

    /// Waits until its process has ended.
    pub(super) async fn ended(&mut self) {
        let mut process = self.process.take().expect("the node runs");
        process.program.ended().await;
        keep_log(&self.name, &mut process);
    }

    /// What it says of its share of the cameras.
    pub(super) fn share(&self) -> Value {
        let text = http_get(self.process().http, "/api/node");
        let mut facts: Value = serde_json::from_str(&text).unwrap();
        facts["share"].take()
    }
}

/// Where `FLEET_LOGS` names a folder, the nodes' logs are kept there.
fn keep_log(name: &str, process: &mut NodeProcess) {
    let Some(folder) = std::env::var_os("FLEET_LOGS") else {
        return;
    };
    use std::io::Write;
    let path = std::path::Path::new(&folder).join(format!("{name}.log"));
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.create(true).append(true).open(path).unwrap();
    for line in process.program.said() {
        writeln!(file, "{line}").unwrap();
    }
}

impl Bench {
    /// Starts everything but the nodes. `None` means that etcd is not installed.
    pub(super) async fn start(plan: Plan) -> Option<Self> {
        let store = match plan.members {
            0 => None,
            members => Some(Store::start(members).await?),
        };
        let models = tempfile::tempdir().unwrap();
        let person = made_models::constant(made_models::PERSON);
        made_models::install(models.path(), "quick", &person);
        let (hub, url) = start_hub().await;
        let twins: Vec<String> = (1..=plan.cameras)
            .map(|n| format!("camera-{n:02}"))
            .collect();
        let names: Vec<String> = (1..=plan.nodes).map(|n| format!("node-{n}")).collect();
        let listener = Listener::start(&url, &names, rules()).await;
        let mut bench = Self {
            nodes: Vec::new(),
            store,
            listener,
            twins: twins.iter().map(|twin| twin.as_str().into()).collect(),
            began: Instant::now(),
            lease: plan.lease,
            handover_gap: plan.handover_gap,
            _cameras: Cameras::start(&url, &twins),
            hub,
            url,
            models,
        };
        for name in names {
            let mut relays = Vec::new();
            for member in bench.store.iter().flat_map(|store| &store.members) {
                relays.push(Relay::start(member.address).await);
            }
            bench.nodes.push(Node {
                name,
                process: None,
                relays,
            });
        }
        Some(bench)
    }

    /// A process for a node that does not run.
    async fn node_process(&self, place: usize) -> NodeProcess {
        let node = &self.nodes[place];
        let env = [
            ("PHYSTACK_SIMULATOR_URL", self.url.as_str()),
            ("TWIN_ID", &node.name),
            ("TWINSIGHT_ICE__INTERFACES", "lo"),
        ];
        NodeProcess::start(&self.config(node), &env).await
    }

    fn config(&self, node: &Node) -> String {
        let urls: Vec<String> = node
            .relays
            .iter()
            .map(|relay| format!("\"http://{}\"", relay.address))
            .collect();
        let pool = match urls.as_slice() {
            [] => String::new(),
            urls => format!(
                "[node]\nname = \"{}\"\npool = \"shop\"\n\
                 [node.lease]\nengine = \"etcd\"\nurl = [{}]\nduration_ms = {}\n",
                node.name,
                urls.join(", "),
                self.lease.as_millis()
            ),
        };
        let cameras: String = self
            .twins
            .iter()
            .map(|twin| format!("[[cameras]]\ntwin_id = \"{twin}\"\n"))
            .collect();
        format!(
            "[runtime]\nthreads = 1\nmodels_dir = \"{}\"\n[defaults]\nmodel = \"quick\"\nmax_fps = {FPS:.1}\n{pool}{cameras}",
            self.models.path().display()
        )
    }

    /// Starts nodes that do not run, all at the same time.
    pub(super) async fn start_nodes(&mut self, places: &[usize]) {
        let starting = places.iter().map(|place| self.node_process(*place));
        let processes = join_all(starting).await;
        for (place, process) in places.iter().zip(processes) {
            self.nodes[*place].process = Some(process);
        }
    }

    /// The cameras of each node that has any.
    pub(super) fn shares(&self) -> BTreeMap<Arc<str>, BTreeSet<Arc<str>>> {
        let mut shares: BTreeMap<Arc<str>, BTreeSet<Arc<str>>> = BTreeMap::new();
        for (camera, (node, _)) in self.listener.record().latest() {
            shares.entry(node).or_default().insert(camera);
        }
        shares
    }

    pub(super) async fn rests(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Nothing that was heard since the beginning breaks a rule that holds always.
    pub(super) fn is_sound(&self) {
        let record = self.listener.record();
        assert_eq!(record.faults(), [], "two nodes publish one camera");
        let mut breaks = record.breaks();
        breaks.retain(|broken| broken.is_fault);
        assert_eq!(breaks, [], "events are lost or doubled");
        let foreign = record.foreign_states();
        assert!(
            foreign.is_empty(),
            "who does not hold a camera tells nothing of it: {foreign:#?}"
        );
    }

    /// The nodes that run.
    pub(super) fn running(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.process.is_some())
    }

    /// The time on the listener's clock.
    pub(super) fn now(&self) -> Duration {
        self.listener.now()
    }

    /// Waits until something is so; how long that took.
    pub(super) async fn until(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Self) -> bool,
    ) -> Duration {
        let begun = Instant::now();
        while !wanted(self) {
            if begun.elapsed() > limit {
                let latest = self.listener.record().latest();
                println!(
                    "{:.2?}: not within {limit:?}: {what}\n{latest:.2?}",
                    self.now()
                );
                for node in self.running() {
                    // A frozen one would never answer.
                    node.signal("CONT");
                    if self.store.is_some() {
                        println!("{}: {}", node.name, node.share());
                    }
                }
                panic!("not within {limit:?}: {what}");
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        begun.elapsed()
    }

    /// Waits until each camera has one of the running nodes as its only publisher for a while, and none has been about to go over
    /// meanwhile.
    pub(super) async fn settles(&self, limit: Duration) -> Duration {
        const WHILE: Duration = Duration::from_millis(1200);
        let running: Vec<&str> = self.running().map(|node| node.name.as_str()).collect();
        let what = format!("each camera has one of {running:?}");
        let agreed_since = Cell::new(None);
        self.until(&what, limit, |bench| {
            if bench.store.is_some() && !bench.agrees(running.len()) {
                agreed_since.set(None);
                return false;
            }
            let now = bench.now();
            let since = agreed_since.get().unwrap_or(now);
            agreed_since.set(Some(since));
            let record = bench.listener.record();
            now - since >= WHILE && record.each_has_one_of(&running, &bench.twins, now - WHILE)
        })
        .await
    }

    /// Whether the nodes say so too: all see each other, hold all cameras together, and are about to take no other.
    fn agrees(&self, members: usize) -> bool {
        let shares: Vec<Value> = self.running().map(Node::share).collect();
        let held = shares.iter().filter_map(|share| share["held"].as_u64());
        usize::try_from(held.sum::<u64>()).is_ok_and(|held| held == self.twins.len())
            && shares.iter().all(|share| {
                let seen = share["members"].as_array().map(Vec::len);
                seen == Some(members) && share["warm"] == 0
            })
    }

    /// What each process has used of a processor since the beginning.
    pub(super) fn load(&self) -> String {
        let since = self.began.elapsed().as_secs_f64();
        let of = |ids: &[u32]| ids.iter().map(|id| cpu_seconds(*id)).sum::<f64>() / since;
        let nodes: Vec<u32> = self
            .running()
            .map(|node| node.process().program.id())
            .collect();
        let store = self.store.as_ref().map_or(Vec::new(), Store::ids);
        format!(
            "of one processor: {} nodes {:.2}, etcd {:.2}, hub {:.2}, cameras and listener {:.2}",
            nodes.len(),
            of(&nodes),
            of(&store),
            of(&[self.hub.id()]),
            of(&[std::process::id()])
        )
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(process) = &mut node.process {
                keep_log(&node.name, process);
            }
        }
    }
}

async fn start_hub() -> (Program, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinsight"));
    command
        .args(["--log-format", "json", "hub", "--listen", "127.0.0.1:0"])
        .current_dir(root());
    let mut hub = Program::start(command, &[], true);
    let line = hub.until("the development hub listens").await;
    let line: Value = serde_json::from_str(&line).unwrap();
    let address = line["address"].as_str().unwrap();
    (hub, format!("http://{address}"))
}

/// User and system time of a process.
fn cpu_seconds(id: u32) -> f64 {
    /// `USER_HZ`, which Linux has as 100 everywhere.
    const TICKS: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // Behind the name in brackets, which may hold anything, the state is the first field and the times are the 12th and 13th.
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let times = fields.split(' ').skip(11).take(2);
    times
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum::<f64>()
        / TICKS
}
