//! Many nodes on one store, in time that is made up: messages are slow or get lost, nodes crash, freeze and are cut off.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::memory::MemoryStore;
use super::super::rendezvous::{CameraDigest, target};
use super::*;

const DURATION: Duration = Duration::from_secs(6);
const STEP: Duration = Duration::from_millis(50);

/// What can happen to a node for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// All is well.
    Fine,
    /// The process does not run. Time passes all the same.
    Frozen,
    /// Neither its questions nor any answer gets through.
    CutOff,
    /// Its questions get through, and no answer does.
    Deaf,
    /// The process is gone, and comes back with nothing.
    Dead,
}

#[derive(Debug)]
enum Message {
    Ask(Op),
    /// The same, of which nobody awaits the answer any more.
    Late(Op),
    Answer(Done),
}

struct SimNode {
    name: Arc<str>,
    core: PoolCore,
    fence: Arc<Fence>,
    fate: Fate,
    /// When each message arrives.
    messages: Vec<(LeaseTime, Message)>,
    /// How far the node has read the history, and until when it does not.
    read: Option<usize>,
    stalled_until: LeaseTime,
    /// When the camera began to run, for those that run.
    runs_since: BTreeMap<Arc<str>, LeaseTime>,
    gave: Vec<(Arc<str>, Arc<str>)>,
    /// The cameras that it has ever said to be ready for, since it is this process.
    said_ready: BTreeSet<Arc<str>>,
    /// It was another process before, of which others may know.
    is_second: bool,
}

struct Sim {
    now: LeaseTime,
    store: MemoryStore,
    nodes: Vec<SimNode>,
    cameras: BTreeSet<Arc<str>>,
    random: u64,
    /// Per mille of messages that get lost.
    lost: u64,
    /// No message takes long.
    is_calm: bool,
}

fn at(ms: u64) -> LeaseTime {
    LeaseTime::at(Duration::from_millis(ms))
}

impl SimNode {
    fn new(name: Arc<str>, cameras: &BTreeSet<Arc<str>>, now: LeaseTime) -> Self {
        let fence = Arc::new(Fence::default());
        let record = MemberRecord {
            name: Arc::clone(&name),
            capacity: 10,
            started_at: u64::try_from(now.since(at(0)).as_millis()).unwrap(),
            leaving: false,
            ready: BTreeSet::new(),
            configured: super::super::store::Configured::default(),
        };
        let mut core = PoolCore::new(record, Timing::of(DURATION), Arc::clone(&fence), now);
        core.set_cameras(cameras, now);
        Self {
            name,
            core,
            fence,
            fate: Fate::Fine,
            messages: Vec::new(),
            read: None,
            stalled_until: now,
            runs_since: BTreeMap::new(),
            gave: Vec::new(),
            said_ready: BTreeSet::new(),
            is_second: false,
        }
    }
}

impl Sim {
    fn new(nodes: usize, cameras: usize, seed: u64) -> Self {
        let mut sim = Self {
            now: at(1_000_000),
            store: MemoryStore::new(DURATION),
            nodes: Vec::new(),
            cameras: (0..cameras).map(|n| format!("camera-{n}").into()).collect(),
            random: seed | 1,
            lost: 0,
            is_calm: false,
        };
        for n in 0..nodes {
            sim.add(n);
        }
        sim
    }

    fn add(&mut self, n: usize) {
        let name = format!("node-{n}").into();
        self.nodes.push(SimNode::new(name, &self.cameras, self.now));
    }

    fn random(&mut self, below: u64) -> u64 {
        // xorshift64
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    /// A message takes 1 to 50 ms, and now and then much longer.
    fn delay(&mut self) -> Duration {
        match self.random(50) {
            0 if !self.is_calm => Duration::from_millis(self.random(4_000)),
            _ => Duration::from_millis(1 + self.random(50)),
        }
    }

    fn step(&mut self) {
        self.now = self.now + STEP;
        let now = self.now;
        self.store.expire(now);
        for n in 0..self.nodes.len() {
            self.deliver(n);
            if matches!(self.nodes[n].fate, Fate::Frozen | Fate::Dead) {
                continue;
            }
            self.run(n);
        }
        self.check();
    }

    /// Brings what arrives by now: questions to the store, answers to the node.
    fn deliver(&mut self, n: usize) {
        let now = self.now;
        let due: Vec<_> = self.nodes[n]
            .messages
            .extract_if(.., |(at, message)| {
                *at <= now && !matches!(message, Message::Answer(_))
            })
            .collect();
        for (_, message) in due {
            let op = match message {
                Message::Ask(op) => op,
                Message::Late(Op::Write(write)) => {
                    let _ = self.store.write(&write, now);
                    continue;
                }
                Message::Late(_) | Message::Answer(_) => continue,
            };
            if self.nodes[n].fate == Fate::CutOff || self.random(1_000) < self.lost {
                let lost = Err(StoreError::new("lost"));
                let done = match op {
                    Op::Join(_) => Done::Join(lost),
                    Op::Renew(session, _) => Done::Renew(session, Err(StoreError::new("lost"))),
                    Op::Write(write) => Done::Write(write, Err(StoreError::new("lost"))),
                    Op::Leave(_) => Done::Leave(Err(StoreError::new("lost"))),
                };
                let at = now + Duration::from_secs(2);
                self.nodes[n].messages.push((at, Message::Answer(done)));
                continue;
            }
            // Of some questions the answer gets lost, and some are carried out long after the node has given up on them.
            let is_late = self.random(1_000) < self.lost;
            if is_late && let Op::Write(write) = &op {
                let failed = Done::Write(write.clone(), Err(StoreError::new("late")));
                let messages = &mut self.nodes[n].messages;
                messages.push((now, Message::Answer(failed)));
                messages.push((now + Duration::from_secs(3), Message::Late(op)));
                continue;
            }
            let done = match op {
                Op::Join(record) => Done::Join(Ok(self.store.join(record, now))),
                Op::Renew(session, record) => {
                    let renewal = self.store.renew(&session, record, now);
                    Done::Renew(session, Ok(renewal))
                }
                Op::Write(write) => {
                    let written = self.store.write(&write, now);
                    Done::Write(write, Ok(written))
                }
                Op::Leave(session) => {
                    self.store.end(&session);
                    Done::Leave(Ok(()))
                }
            };
            let lost = self.nodes[n].fate == Fate::Deaf || self.random(1_000) < self.lost;
            let (done, after) = match (lost, done) {
                (false, done) => (done, self.delay()),
                (true, Done::Write(write, _)) => {
                    let error = Err(StoreError::new("no answer"));
                    (Done::Write(write, error), Duration::from_secs(2))
                }
                (true, Done::Renew(session, _)) => {
                    let error = Err(StoreError::new("no answer"));
                    (Done::Renew(session, error), Duration::from_secs(2))
                }
                (true, Done::Join(_)) => (
                    Done::Join(Err(StoreError::new("no answer"))),
                    Duration::from_secs(2),
                ),
                (true, done) => (done, Duration::ZERO),
            };
            self.nodes[n]
                .messages
                .push((now + after, Message::Answer(done)));
        }
    }

    fn run(&mut self, n: usize) {
        let now = self.now;
        if !self.is_calm && self.random(200) == 0 {
            let stall = Duration::from_millis(self.random(3_000));
            self.nodes[n].stalled_until = now + stall;
        }
        let node = &mut self.nodes[n];
        let due: Vec<_> = node
            .messages
            .extract_if(.., |(at, message)| {
                *at <= now && matches!(message, Message::Answer(_))
            })
            .collect();
        for (_, message) in due {
            if let Message::Answer(done) = message {
                node.core.done(done, now);
            }
        }
        let reads = matches!(node.fate, Fate::Fine) && node.stalled_until <= now;
        if reads {
            let end = self.store.history.len();
            let batch = match node.read {
                None => vec![vec![self.store.all()]],
                Some(from) => self.store.history[from..end].to_vec(),
            };
            node.read = Some(end);
            for seen in batch {
                node.core.seen(seen, now);
            }
        } else if node.fate != Fate::Fine {
            // A watch that broke begins anew with all that there is.
            node.read = None;
        }
        node.core.tick(now);
        // A camera has its first picture a second after it was connected to.
        let duties = node.core.duties(now);
        node.runs_since.retain(|name, _| duties.contains_key(name));
        for name in duties.keys() {
            let since = *node.runs_since.entry(Arc::clone(name)).or_insert(now);
            if now.since(since) >= Duration::from_secs(1) && !node.fence.admits(name, now) {
                node.core.inferred(name, now);
            }
        }
        let mut asked = Vec::new();
        while let Some(op) = node.core.poll(now) {
            asked.push(op);
        }
        for news in node.core.take_news() {
            match news {
                News::Parting(name, ..) => node.core.parted(&name, now),
                News::Given(name, to) => {
                    node.gave.push((name, to));
                }
                _ => {}
            }
        }
        while let Some(op) = node.core.poll(now) {
            asked.push(op);
        }
        for op in asked {
            if let Op::Renew(_, Some(record)) = &op {
                let ready = record.ready.iter().cloned();
                self.nodes[n].said_ready.extend(ready);
            }
            let at = now + self.delay();
            self.nodes[n].messages.push((at, Message::Ask(op)));
        }
    }

    /// At no moment may two nodes publish one camera, and what is given goes to one that has pictures of it.
    fn check(&mut self) {
        for camera in &self.cameras {
            let publishing: Vec<_> = self
                .nodes
                .iter()
                .filter(|node| node.fate != Fate::Dead && node.fence.lets_out(camera, self.now))
                .map(|node| &node.name)
                .collect();
            assert!(
                publishing.len() <= 1,
                "{camera} is published by {publishing:?} at {:?}",
                self.now
            );
        }
        let gave: Vec<_> = self
            .nodes
            .iter_mut()
            .flat_map(|node| node.gave.drain(..))
            .collect();
        for (camera, to) in gave {
            let mut takers = self.nodes.iter().filter(|node| node.name == to);
            assert!(
                takers.any(|taker| {
                    let said = taker.said_ready.contains(&camera);
                    said || taker.fate == Fate::Dead || taker.is_second
                }),
                "{camera} was given to {to}, which never said that it has pictures of it"
            );
        }
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }

    /// Who publishes each camera.
    fn publishers(&self) -> BTreeMap<Arc<str>, Arc<str>> {
        let mut publishers = BTreeMap::new();
        for node in &self.nodes {
            for camera in &self.cameras {
                if node.fate == Fate::Fine && node.fence.admits(camera, self.now) {
                    publishers.insert(Arc::clone(camera), Arc::clone(&node.name));
                }
            }
        }
        publishers
    }

    /// Who each camera is meant for, among the nodes that are well.
    fn meant(&self) -> BTreeMap<Arc<str>, Arc<str>> {
        let fine = self.nodes.iter().filter(|node| node.fate == Fate::Fine);
        let all: Vec<_> = fine
            .map(|node| Candidate::new(Arc::clone(&node.name), 10))
            .collect();
        let of = |camera: &Arc<str>| {
            let at = target(&all, CameraDigest::new(camera)).unwrap();
            (Arc::clone(camera), Arc::clone(&all[at].name))
        };
        self.cameras.iter().map(of).collect()
    }

    fn set_fate(&mut self, n: usize, fate: Fate) {
        let was = self.nodes[n].fate;
        if was == Fate::Dead && fate != Fate::Dead {
            // It comes back as a new process, and its old messages are still on their way.
            let old = std::mem::take(&mut self.nodes[n].messages);
            let name = Arc::clone(&self.nodes[n].name);
            self.nodes[n] = SimNode::new(name, &self.cameras, self.now);
            self.nodes[n].is_second = true;
            let asks = old.into_iter().filter_map(|(at, message)| match message {
                Message::Ask(op) | Message::Late(op) => Some((at, Message::Late(op))),
                Message::Answer(_) => None,
            });
            self.nodes[n].messages = asks.collect();
        }
        self.nodes[n].fate = fate;
    }
}

#[test]
fn nodes_that_come_together_share_the_cameras() {
    let mut sim = Sim::new(5, 40, 7);
    sim.run_for(Duration::from_secs(12));
    assert_eq!(sim.publishers(), sim.meant());
}

#[test]
fn a_node_that_comes_takes_its_share_without_a_gap() {
    let mut sim = Sim::new(3, 40, 11);
    sim.run_for(Duration::from_secs(12));
    sim.add(3);
    let mut gaps: BTreeMap<Arc<str>, Duration> = BTreeMap::new();
    let mut longest = Duration::ZERO;
    for _ in 0..200 {
        sim.step();
        let publishers = sim.publishers();
        for camera in sim.cameras.clone() {
            let gap = gaps.entry(Arc::clone(&camera)).or_default();
            *gap = match publishers.contains_key(&camera) {
                true => Duration::ZERO,
                false => *gap + STEP,
            };
            longest = longest.max(*gap);
        }
    }
    assert_eq!(sim.publishers(), sim.meant());
    // Messages of this simulation may take four seconds, which is a gap as long.
    println!("the longest gap of a move: {longest:?}");
    assert!(longest <= Duration::from_secs(5), "{longest:?}");
}

#[test]
fn the_cameras_of_a_node_that_dies_are_taken_within_the_lease_and_a_moment() {
    let mut sim = Sim::new(5, 40, 13);
    sim.run_for(Duration::from_secs(12));
    sim.set_fate(2, Fate::Dead);
    sim.run_for(Duration::from_secs(11));
    assert_eq!(sim.publishers(), sim.meant());
    sim.set_fate(2, Fate::Fine);
    sim.run_for(Duration::from_secs(15));
    assert_eq!(sim.publishers(), sim.meant());
}

#[test]
fn while_the_store_is_away_nothing_is_published_and_then_everything_again() {
    let mut sim = Sim::new(3, 12, 17);
    sim.run_for(Duration::from_secs(12));
    for n in 0..3 {
        sim.set_fate(n, Fate::CutOff);
    }
    sim.run_for(Duration::from_secs(6));
    for node in &sim.nodes {
        for camera in &sim.cameras {
            assert!(!node.fence.lets_out(camera, sim.now));
        }
        assert!(node.core.trouble().is_some());
        // They stay connected, so that they see at once when the store answers.
        assert!(!node.core.duties(sim.now).is_empty());
    }
    for n in 0..3 {
        sim.set_fate(n, Fate::Fine);
    }
    sim.run_for(Duration::from_secs(15));
    assert_eq!(sim.publishers(), sim.meant());
}

#[test]
fn a_node_that_leaves_hands_its_cameras_over_first() {
    let mut sim = Sim::new(3, 30, 19);
    sim.run_for(Duration::from_secs(12));
    let now = sim.now;
    sim.nodes[1].core.leave(now);
    assert!(!sim.nodes[1].core.may_quit(sim.now));
    for _ in 0..200 {
        sim.step();
        if sim.nodes[1].core.may_quit(sim.now) {
            break;
        }
    }
    assert!(sim.nodes[1].core.may_quit(sim.now));
    sim.nodes[1].core.quit();
    sim.run_for(Duration::from_secs(1));
    sim.nodes[1].fate = Fate::Dead;
    assert_eq!(sim.publishers(), sim.meant());
    assert_eq!(sim.store.sessions().len(), 2);
}

#[test]
fn a_node_without_another_may_leave_at_once() {
    let mut sim = Sim::new(1, 3, 23);
    sim.run_for(Duration::from_secs(5));
    assert_eq!(sim.publishers().len(), 3);
    let now = sim.now;
    sim.nodes[0].core.leave(now);
    assert!(sim.nodes[0].core.may_quit(sim.now));
    sim.nodes[0].core.quit();
    for camera in &sim.cameras {
        assert!(!sim.nodes[0].fence.lets_out(camera, now));
    }
}

#[test]
fn of_two_with_one_name_the_newer_gets_the_cameras() {
    let mut sim = Sim::new(1, 6, 29);
    sim.run_for(Duration::from_secs(4));
    sim.add(0);
    sim.run_for(Duration::from_secs(15));
    assert!(sim.nodes[0].core.has_namesake());
    assert!(!sim.nodes[1].core.has_namesake());
    for camera in &sim.cameras {
        assert!(sim.nodes[1].fence.admits(camera, sim.now), "{camera}");
    }
}

#[test]
fn a_camera_that_the_one_it_is_meant_for_does_not_know_is_taken_by_another() {
    let mut sim = Sim::new(3, 30, 31);
    let (now, fewer) = (sim.now, sim.cameras.iter().skip(15).cloned().collect());
    sim.nodes[0].core.set_cameras(&fewer, now);
    sim.run_for(Duration::from_secs(20));
    assert_eq!(sim.publishers().len(), 30);
    // Once it is configured there, it goes where it is meant to be, and back when it is removed again.
    let (now, all) = (sim.now, sim.cameras.clone());
    sim.nodes[0].core.set_cameras(&all, now);
    sim.run_for(Duration::from_secs(15));
    assert_eq!(sim.publishers(), sim.meant());
    let now = sim.now;
    sim.nodes[0].core.set_cameras(&fewer, now);
    sim.run_for(Duration::from_secs(20));
    assert_eq!(sim.publishers().len(), 30);
}

#[test]
fn a_camera_that_the_taker_cannot_reach_stays_with_its_holder() {
    let mut sim = Sim::new(2, 20, 37);
    sim.run_for(Duration::from_secs(12));
    let before = sim.publishers();
    sim.add(2);
    // The new node never gets a picture.
    for _ in 0..400 {
        sim.nodes[2].runs_since.clear();
        sim.step();
    }
    assert_eq!(sim.publishers(), before);
    assert!(!sim.nodes[2].core.duties(sim.now).is_empty());
}

#[test]
fn a_store_that_begins_anew_is_taken_for_what_it_is() {
    let mut sim = Sim::new(3, 12, 41);
    sim.run_for(Duration::from_secs(12));
    assert_eq!(sim.publishers(), sim.meant());
    // Its versions begin anew, too, and it knows no lease.
    sim.store = MemoryStore::new(DURATION);
    for node in &mut sim.nodes {
        node.read = None;
    }
    sim.run_for(Duration::from_secs(15));
    assert_eq!(sim.publishers(), sim.meant());
}

#[test]
fn what_a_node_is_given_while_it_joins_is_told_at_once() {
    let cameras: BTreeSet<Arc<str>> = ["cam".into()].into();
    let mut node = SimNode::new("node".into(), &BTreeSet::new(), at(0));
    node.core.tick(at(0));
    let Some(Op::Join(asked)) = node.core.poll(at(0)) else {
        panic!("it asks for a lease");
    };
    node.core.set_cameras(&cameras, at(10));
    node.core.done(Done::Join(Ok("session".into())), at(20));
    let Some(Op::Renew(_, Some(told))) = node.core.poll(at(20)) else {
        panic!("it tells which cameras it has");
    };
    assert_ne!(told.configured, asked.configured);
    assert_eq!(told.configured.cameras, Some(CameraList::of(&cameras)));
}

#[test]
fn each_time_that_a_camera_is_opened_is_another_one() {
    let fence = Fence::default();
    let camera: Arc<str> = "cam".into();
    let now = at(1_000);
    fence.extend(at(2_000), now);
    fence.set(&camera, Passage::Open);
    let first = fence.open_epoch(&camera, now).unwrap();
    fence.set(&camera, Passage::Open);
    fence.extend(at(3_000), now);
    assert_eq!(fence.open_epoch(&camera, now), Some(first));
    fence.set(&camera, Passage::OutOnly);
    assert_eq!(fence.epoch(&camera, now), Some(first));
    assert_eq!(fence.closing_epoch(&camera), Some(first));
    fence.set(&camera, Passage::Open);
    let second = fence.open_epoch(&camera, now).unwrap();
    // The lease may have run out meanwhile.
    assert_eq!(fence.epoch(&camera, at(3_000)), None);
    fence.extend(at(5_000), at(3_500));
    let third = fence.open_epoch(&camera, at(3_500)).unwrap();
    fence.clear();
    fence.extend(at(9_000), at(4_000));
    fence.set(&camera, Passage::Open);
    let fourth = fence.open_epoch(&camera, at(4_000)).unwrap();
    assert!(first < second && second < third && third < fourth);
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        3 => Just(Fate::Fine),
        1 => Just(Fate::Frozen),
        1 => Just(Fate::CutOff),
        1 => Just(Fate::Deaf),
        1 => Just(Fate::Dead),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 48 } else { 256 }))]

    #[test]
    fn whatever_happens_no_camera_has_two_publishers_and_all_settles(
        seed in any::<u64>(),
        nodes in 2_usize..6,
        lost in 0_u64..150,
        happens in prop::collection::vec((0_usize..6, fate(), 200_u64..9_000), 1..14),
    ) {
        let mut sim = Sim::new(nodes, 6, seed);
        sim.lost = lost;
        for (n, fate, ms) in happens {
            sim.set_fate(n % nodes, fate);
            sim.run_for(Duration::from_millis(ms));
        }
        (sim.lost, sim.is_calm) = (0, true);
        for n in 0..nodes {
            sim.set_fate(n, Fate::Fine);
        }
        sim.run_for(Duration::from_secs(60));
        prop_assert_eq!(sim.publishers(), sim.meant());
        prop_assert_eq!(sim.store.holders().len(), 6);
    }
}
