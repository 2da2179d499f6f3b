//! Many things go wrong at once, in an order that a seed decides: nodes die while they take cameras over, freeze while they give them
//! away, and come back while others go.

use std::time::Duration;

use super::bench::Bench;
use super::relay::Way;
use super::scenarios::{Figures, LIMIT, POOL};

/// So many nodes are well at any time.
const WELL: usize = 2;

/// How many things happen.
const STEPS: u32 = 60;

/// What is wrong with a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Ended,
    Frozen,
    CutOff,
}

/// Numbers by chance: xorshift, as Marsaglia gives it for 64 bits.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make long"]
async fn each_camera_has_one_node_in_a_storm() {
    let seed = std::env::var("FLEET_SEED").map_or(18, |seed| seed.parse().unwrap());
    println!("seed {seed}, which FLEET_SEED sets");
    let Some(mut bench) = Bench::start(POOL).await else {
        return;
    };
    let mut figures = Figures::default();
    figures.start(&mut bench, POOL.nodes).await;
    let mut chance = Chance(seed);
    let mut troubles = [None; POOL.nodes];
    for _ in 0..STEPS {
        let place = chance.below(POOL.nodes);
        let well = troubles.iter().filter(|trouble| trouble.is_none()).count();
        troubles[place] = match troubles[place] {
            Some(trouble) => {
                end(&mut bench, place, trouble).await;
                None
            }
            None if well > WELL => Some(begin(&mut bench, place, chance.below(5)).await),
            None => None,
        };
        let pause = 300 + chance.below(4000);
        tokio::time::sleep(Duration::from_millis(pause.try_into().unwrap())).await;
        bench.is_sound();
    }
    for (place, trouble) in troubles.into_iter().enumerate() {
        if let Some(trouble) = trouble {
            end(&mut bench, place, trouble).await;
        }
    }
    let took = bench.settles(LIMIT).await;
    println!("settled {took:.2?} after the storm");
    figures.print(&bench);
    bench.is_sound();
}

async fn begin(bench: &mut Bench, place: usize, what: usize) -> Trouble {
    let now = bench.now();
    let node = &mut bench.nodes[place];
    let (trouble, way) = match what {
        0 | 1 => {
            node.signal(["KILL", "TERM"][what]);
            node.ended().await;
            (Trouble::Ended, None)
        }
        2 => {
            node.signal("STOP");
            (Trouble::Frozen, None)
        }
        _ => (Trouble::CutOff, Some([Way::Hung, Way::Cut][what - 3])),
    };
    if let Some(way) = way {
        node.set_way(way);
    }
    println!("{now:7.2?} {} {trouble:?}", node.name);
    trouble
}

async fn end(bench: &mut Bench, place: usize, trouble: Trouble) {
    println!("{:7.2?} {} is well", bench.now(), bench.nodes[place].name);
    match trouble {
        Trouble::Ended => bench.start_nodes(&[place]).await,
        Trouble::Frozen => bench.nodes[place].signal("CONT"),
        Trouble::CutOff => bench.nodes[place].set_way(Way::Open),
    }
}
