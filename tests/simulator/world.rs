//! One run: several gateways on one store and one network, their lives and deaths, and the requests that reach them.

use crate::{
    api::Api,
    dice::Dice,
    embedded::Embedded,
    exchange::{self, Ask, Got},
    ledger::Ledger,
    link::Link,
    net::{FINAL_DEPTH, Net, Node},
    planted::{Buggy, Planted},
    shop,
    trace::Trace,
    weather::Weather,
};
use kas402::{
    chain::Tip,
    gateway::{Environment, Gateway, Limits},
    protocol::{ids::StoreId, time::UnixMillis},
    store::{Store, memory::MemoryStore},
    telemetry::Metrics,
};
use std::{
    fmt,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};

const BEGIN: UnixMillis = UnixMillis(1_700_000_000_000);
pub const HOLD: Duration = Duration::from_secs(10);
/// Longer than any request may take: all waits of one request with a store that hangs at every step.
pub const REQUEST_BOUND: Duration = Duration::from_secs(180);

/// One process of a gateway, from its start to its death.
pub struct Life {
    pub number: u64,
    pub slot: usize,
    /// How many milliseconds its clock is ahead.
    pub ahead: u64,
    dead: AtomicBool,
    dying: Notify,
    node_down: AtomicBool,
    store_down: AtomicBool,
    /// What its node told last, the same for all who ask.
    tip: Mutex<Tip>,
    gateway: OnceLock<Arc<Gateway>>,
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "g{}#{}", self.slot + 1, self.number)
    }
}

impl Life {
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    pub fn node_up(&self) -> bool {
        !self.node_down.load(Ordering::SeqCst)
    }

    pub fn store_up(&self) -> bool {
        !self.store_down.load(Ordering::SeqCst)
    }

    /// The tip as this gateway knows it; `now` counts while its node is there.
    pub fn tip(&self, now: Tip) -> Tip {
        let mut tip = self.tip.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if self.node_up() {
            *tip = now;
        }
        *tip
    }

    /// What a dead process waits for never comes.
    pub async fn alive(&self) {
        if self.is_dead() {
            std::future::pending().await
        }
    }

    async fn death(&self) {
        let dying = self.dying.notified();
        if !self.is_dead() {
            dying.await;
        }
    }
}

struct Slot {
    life: Option<Arc<Life>>,
    /// How many milliseconds the clock of this machine is ahead.
    ahead: u64,
}

pub struct World {
    pub weather: Weather,
    pub dice: Dice,
    pub trace: Trace,
    pub net: Net,
    pub ledger: Ledger,
    /// The store under test, as every gateway reaches it over its own link.
    pub store: Arc<dyn Store>,
    pub planted: Option<Planted>,
    pub buggy: Option<Arc<Buggy>>,
    slots: Mutex<Vec<Slot>>,
    lives: AtomicU64,
    calm: OnceLock<Instant>,
    over: AtomicBool,
    origin: Instant,
}

/// What a run's money is kept in.
#[derive(Clone, Copy, Debug)]
pub enum Over {
    Memory,
    Embedded,
}

/// What a client sees.
pub enum Reply {
    Got(Got),
    /// The connection is refused, or breaks.
    Reset,
}

impl World {
    pub fn new(seed: u64, planted: Option<Planted>, over: Over) -> Arc<Self> {
        let dice = Dice::new(seed);
        let weather = Weather::draw(&dice);
        Arc::new_cyclic(|world| {
            let id = StoreId([7; 16]);
            let model: Arc<dyn Store> = match over {
                Over::Memory => Arc::new(MemoryStore::new(id)),
                Over::Embedded => Arc::new(Embedded::new(id)),
            };
            let buggy = planted.map(|bug| Arc::new(Buggy::new(model.clone(), bug, world.clone())));
            let store = buggy.clone().map_or(model, |buggy| -> Arc<dyn Store> { buggy });
            let trace = Trace::new();
            trace.note(format!("seed {seed} {weather:?} planted {planted:?}"));
            let ahead = |slot| if weather.skewed && slot == 1 { 12_000 } else { 0 };
            let slots = (0..weather.gateways).map(|slot| Slot { life: None, ahead: ahead(slot) }).collect();
            Self {
                weather,
                dice,
                trace,
                net: Net::new(planted),
                ledger: Ledger::default(),
                store,
                planted,
                buggy,
                slots: Mutex::new(slots),
                lives: AtomicU64::new(0),
                calm: OnceLock::new(),
                over: AtomicBool::new(false),
                origin: Instant::now(),
            }
        })
    }

    /// Several gateways are on one store only where its server has a clock of its own.
    pub fn is_shared(&self) -> bool {
        self.weather.gateways > 1
    }

    /// No trouble comes from outside any more.
    pub fn is_calm(&self) -> bool {
        self.calm.get().is_some()
    }

    pub fn calm_for(&self) -> Duration {
        self.calm.get().map_or(Duration::ZERO, Instant::elapsed)
    }

    /// Nobody begins anything new.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    pub fn finish(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    pub fn stop_trouble(&self) {
        self.calm.get_or_init(Instant::now);
        for life in self.living() {
            self.node(&life, true);
            life.store_down.store(false, Ordering::SeqCst);
        }
        self.trace.note("calm from now on");
    }

    pub fn now(&self) -> UnixMillis {
        BEGIN.plus_millis(u64::try_from(self.origin.elapsed().as_millis()).unwrap())
    }

    pub fn living(&self) -> Vec<Arc<Life>> {
        self.slots
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .iter()
            .filter_map(|slot| slot.life.clone())
            .filter(|life| !life.is_dead())
            .collect()
    }

    pub fn gateway_of(&self, slot: usize) -> Option<Arc<Gateway>> {
        let life = self.slots.lock().unwrap_or_else(std::sync::PoisonError::into_inner)[slot].life.clone()?;
        if life.is_dead() { None } else { life.gateway.get().cloned() }
    }

    pub fn node(&self, life: &Life, up: bool) {
        if up == life.node_up() {
            return;
        }
        life.node_down.store(!up, Ordering::SeqCst);
        self.trace.note(format!("{life}: node {}", if up { "up" } else { "down" }));
        if up { self.net.reconnect(life) } else { self.net.publish() }
    }

    pub fn partition(self: &Arc<Self>, life: &Arc<Life>, seconds: u64) {
        life.store_down.store(true, Ordering::SeqCst);
        self.trace.note(format!("{life}: store out of reach for {seconds} s"));
        self.trace.reached("store partition");
        let life = life.clone();
        tokio::spawn(async move {
            sleep(Duration::from_secs(seconds)).await; // why: time passes in the simulation, not here
            life.store_down.store(false, Ordering::SeqCst);
        });
    }

    /// `kill -9`.
    pub fn kill(&self, life: &Life) {
        if life.dead.swap(true, Ordering::SeqCst) {
            return;
        }
        self.trace.note(format!("{life}: killed"));
        self.trace.reached("gateway killed");
        life.dying.notify_waiters();
        self.net.forget(life);
        self.ledger.died(life.number);
    }

    /// Starts whatever does not run.
    pub async fn start_missing(self: &Arc<Self>) {
        let count = self.slots.lock().unwrap_or_else(std::sync::PoisonError::into_inner).len();
        for slot in 0..count {
            let (missing, ahead) = {
                let slots = self.slots.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                (slots[slot].life.as_ref().is_none_or(|life| life.is_dead()), slots[slot].ahead)
            };
            if missing {
                self.start(slot, ahead).await;
            }
        }
    }

    async fn start(self: &Arc<Self>, slot: usize, ahead: u64) {
        let life = Arc::new(Life {
            number: self.lives.fetch_add(1, Ordering::SeqCst),
            slot,
            ahead,
            dead: AtomicBool::new(false),
            dying: Notify::new(),
            node_down: AtomicBool::new(true),
            store_down: AtomicBool::new(false),
            tip: Mutex::default(),
            gateway: OnceLock::new(),
        });
        self.slots.lock().unwrap_or_else(std::sync::PoisonError::into_inner)[slot].life = Some(life.clone());
        let clock = Arc::downgrade(self);
        let chance = Arc::downgrade(self);
        let environment = Environment {
            now: Arc::new(move || clock.upgrade().map_or(BEGIN, |world| world.now().plus_millis(ahead))),
            random: Arc::new(move || chance.upgrade().map_or([0; 16], |world| world.dice.bytes16())),
        };
        let weak = Arc::downgrade(self);
        let gateway = Gateway::new(
            Arc::new(Link { life: life.clone(), world: weak.clone() }),
            Arc::new(Node { life: life.clone(), world: weak.clone() }),
            Arc::new(Api { life: life.clone(), world: weak }),
            environment,
            Arc::new(shop::policy()),
            Arc::new(shop::offer_keys(self.store.id())),
            Arc::new(shop::server_keys()),
            Limits { final_depth: FINAL_DEPTH, hold: HOLD, waiting: 64 },
            Arc::new(Metrics::new()),
        );
        self.trace.note(format!("{life}: starts"));
        let recovered = tokio::select! {
            biased;
            () = life.death() => return,
            recovered = gateway.clone().recover() => recovered,
        };
        match recovered {
            Ok(()) => {
                let _ = life.gateway.set(gateway);
                // Its node answers, and is caught up with, a moment after it knows what to follow.
                let (world, pause) = (self.clone(), self.dice.between(1, 800));
                tokio::spawn(async move {
                    sleep(Duration::from_millis(pause)).await; // why: time passes in the simulation, not here
                    world.node(&life, true);
                });
            }
            // Its operator starts it again.
            Err(error) => {
                self.trace.note(format!("{life}: cannot start: {error}"));
                self.trace.reached("start refused");
                self.kill(&life);
            }
        }
    }

    /// One request to the gateway of this slot, whole or not at all.
    pub async fn send(self: &Arc<Self>, slot: usize, ask: Ask) -> Reply {
        let life = self.slots.lock().unwrap_or_else(std::sync::PoisonError::into_inner)[slot].life.clone();
        let gateway = life.as_ref().filter(|life| !life.is_dead()).and_then(|life| life.gateway.get().cloned());
        let (Some(life), Some(gateway)) = (life, gateway) else {
            sleep(Duration::from_millis(1)).await; // why: time passes in the simulation, not here
            return Reply::Reset;
        };
        let request = async {
            tokio::select! {
                biased;
                () = life.death() => Reply::Reset,
                got = exchange::send(gateway, ask.clone()) => if life.is_dead() { Reply::Reset } else { Reply::Got(got) },
            }
        };
        match timeout(REQUEST_BOUND, request).await {
            Ok(reply) => reply,
            Err(_) => {
                self.trace.wrong(format!("a request never ended: {} {} at {life}", ask.method, ask.target));
                Reply::Reset
            }
        }
    }

    pub fn any_slot(&self) -> usize {
        self.dice.index(self.weather.gateways)
    }
}
