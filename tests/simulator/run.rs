//! Running seeds.

use crate::{
    net::FINAL_DEPTH,
    planted::Planted,
    shopper, subscriber,
    trace::{Record, catch_panics, release_panics},
    world::{Life, Over, World},
};
use kas402::gateway::channel::claim::Wanted;
use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

/// Everybody who does not give up is served so long after the last trouble.
const CALM_BOUND: Duration = Duration::from_secs(600);

const LOOK: Duration = Duration::from_millis(200);
/// No run takes so many looks, however busy the machine is.
const STUCK: u32 = 600;

pub fn play(seed: u64, planted: Option<Planted>) -> Record {
    play_over(Over::Memory, seed, planted)
}

pub fn play_over(over: Over, seed: u64, planted: Option<Planted>) -> Record {
    catch_panics();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let (world, record) = runtime.block_on(async {
        let world = World::new(seed, planted, over);
        run(&world).await;
        let record = world.trace.record();
        (world, record)
    });
    // What is left of the gateways ends before their world does.
    drop(runtime);
    drop(world);
    release_panics();
    record
}

/// Seeds over all cores, in order, while `goes_on`.
pub fn sweep(seeds: RangeInclusive<u64>, planted: Option<Planted>, goes_on: impl Fn(&Record) -> bool + Sync) -> BTreeMap<u64, Record> {
    let (next, last) = (AtomicU64::new(*seeds.start()), *seeds.end());
    let (stop, records) = (AtomicBool::new(false), Mutex::new(BTreeMap::new()));
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let running: Mutex<BTreeMap<u64, u32>> = Mutex::default();
    let workers = AtomicU64::new(u64::try_from(threads).unwrap());
    std::thread::scope(|scope| {
        // A run whose time stands still never ends by itself.
        scope.spawn(|| {
            while workers.load(Ordering::SeqCst) > 0 {
                std::thread::sleep(LOOK); // why: a run that is stuck reports nothing that could be awaited
                // Counted, not measured: a process that is stopped by somebody is not stuck.
                let mut running = running.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                running.values_mut().for_each(|looks| *looks += 1);
                if let Some((seed, _)) = running.iter().find(|(_, looks)| **looks > STUCK) {
                    println!("seed {seed} planted {planted:?}: time stands still; again: KAS402_SEED={seed}");
                    std::process::exit(1);
                }
            }
        });
        for _ in 0..threads {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed > last {
                        break;
                    }
                    running.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(seed, 0);
                    let mut record = play(seed, planted);
                    running.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(&seed);
                    stop.fetch_or(!goes_on(&record), Ordering::SeqCst);
                    if record.wrong.is_none() {
                        record.tail = Vec::new();
                    }
                    let mut records = records.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    records.insert(seed, record);
                    if records.len() % 500 == 0 {
                        println!("{} seeds", records.len());
                    }
                }
                workers.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    records.into_inner().unwrap()
}

async fn run(world: &Arc<World>) {
    world.start_missing().await;
    let mut clients: Vec<JoinHandle<()>> = Vec::new();
    for who in 0..world.weather.shoppers {
        clients.push(tokio::spawn(shopper::live(world.clone(), who)));
    }
    for who in 0..world.weather.subscribers {
        clients.push(tokio::spawn(subscriber::live(world.clone(), 20 + who)));
    }
    let thieves: Vec<_> = (0..world.weather.thieves).map(|thief| tokio::spawn(shopper::steal(world.clone(), 100 + thief))).collect();
    for _ in 0..world.weather.seconds {
        second(world).await;
        world.ledger.check(world).await;
        if world.trace.is_wrong() {
            return;
        }
    }
    world.stop_trouble();
    if !end(world, clients).await {
        return;
    }
    world.finish();
    if !end(world, thieves).await {
        return;
    }
    for _ in 0..40 {
        quiet_second(world).await;
    }
    claim_the_rest(world).await;
    // Whatever is accepted becomes final, and what was forgotten is sent again meanwhile.
    for _ in 0..FINAL_DEPTH * 2 + 40 {
        quiet_second(world).await;
    }
    world.ledger.check_end(world).await;
}

/// Waits for everybody, while the chain goes on. `false`: something is wrong.
async fn end(world: &Arc<World>, clients: Vec<JoinHandle<()>>) -> bool {
    let all = async {
        for client in clients {
            if client.await.is_err() {
                world.trace.wrong("a client panicked");
            }
        }
    };
    let calm = async {
        while !world.trace.is_wrong() {
            quiet_second(world).await;
            world.ledger.check(world).await;
        }
    };
    let over = timeout(CALM_BOUND, async {
        tokio::select! {
            biased;
            () = all => {}
            () = calm => {}
        }
    });
    if over.await.is_err() {
        world.trace.wrong("somebody is not served although all trouble is over");
    }
    !world.trace.is_wrong()
}

async fn quiet_second(world: &Arc<World>) {
    sleep(Duration::from_secs(1)).await; // why: time passes in the simulation, not here
    world.start_missing().await;
    world.net.block(world);
}

/// One second of trouble.
async fn second(world: &Arc<World>) {
    sleep(Duration::from_millis(world.dice.between(500, 1_500))).await; // why: time passes in the simulation, not here
    world.net.block(world);
    let weather = &world.weather;
    if world.dice.permille(weather.reorgs) {
        world.net.reorg(world, world.dice.between(1, 12), None);
    }
    for life in world.living() {
        if world.dice.permille(weather.partitions) {
            world.partition(&life, world.dice.between(1, 15));
        }
        if world.dice.permille(weather.node_faults) {
            if world.dice.one_in(3) {
                // All nodes are restarted.
                world.net.lose_mempool(world);
                world.living().iter().for_each(|life| away(world, life));
            } else {
                away(world, &life);
            }
        } else if world.dice.permille(weather.crashes) {
            world.kill(&life);
        }
    }
    if world.dice.one_in(4) {
        world.start_missing().await;
    }
}

/// The node of a gateway goes away for a while.
fn away(world: &Arc<World>, life: &Arc<Life>) {
    world.node(life, false);
    world.trace.reached("node down");
    let (world, life, seconds) = (world.clone(), life.clone(), world.dice.between(1, 12));
    tokio::spawn(async move {
        sleep(Duration::from_secs(seconds)).await; // why: time passes in the simulation, not here
        world.node(&life, true);
    });
}

/// What is owed and not due yet is claimed as an operator would.
async fn claim_the_rest(world: &Arc<World>) {
    for id in world.ledger.owing(world).await {
        let Some(gateway) = world.gateway_of(0) else { continue };
        let claimed = gateway.claim_channel(&id, Wanted::AnyFee).await;
        world.trace.note(format!("claim {} by hand: {:?}", world.ledger.channel_name(&id), claimed.map(|claim| claim.takes)));
    }
}
