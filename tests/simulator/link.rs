//! One gateway's way to the store: it fails before the verb, after it, half way, answers late, never, or sends it twice; and it is where
//! a gateway is killed in the middle of a step.

use crate::world::{Life, World};
use async_trait::async_trait;
use kas402::{
    protocol::{
        ids::{ChannelId, PaymentIdentifier, StoreId, TxId, XOnlyKey},
        time::UnixMillis,
    },
    store::{channels::*, *},
};
use std::{
    fmt::Write,
    future::Future,
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::time::sleep;

pub struct Link {
    pub life: Arc<Life>,
    pub world: Weak<World>,
}

/// What becomes of one verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Good,
    /// Not done, and the error says so.
    Before,
    /// Done, and the error does not say so.
    After,
    /// Not done, no answer.
    HangBefore,
    /// Done, no answer.
    HangAfter,
    /// Done twice, the first answer counts.
    Twice,
    /// Done twice, the second answer counts: the first was lost on its way.
    Again,
}

/// Which verbs a client of a store may send again by itself: those whose second answer is as good as the first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Repeatable,
    Once,
}

/// Whose verb it is.
#[derive(Clone, Copy)]
enum About {
    Payment(TxId),
    Channel(ChannelId),
    Nothing,
}

impl About {
    fn trouble(self, world: &World) {
        match self {
            Self::Payment(txid) => world.ledger.payment_trouble(&txid),
            Self::Channel(id) => world.ledger.channel_trouble(&id),
            Self::Nothing => {}
        }
    }
}

impl Link {
    fn world(&self) -> Arc<World> {
        self.world.upgrade().expect("a run outlives its gateways")
    }

    async fn call<T, F: Future<Output = Result<T, StoreError>> + Send>(
        &self,
        about: About,
        name: &str,
        kind: Kind,
        verb: impl Fn() -> F + Send,
    ) -> Result<T, StoreError> {
        let world = self.world();
        self.life.alive().await;
        if !self.life.store_up() {
            about.trouble(&world);
            sleep(Duration::from_millis(5)).await; // why: time passes in the simulation, not here
            self.life.alive().await;
            return Err(StoreError::Unavailable("partition".into()));
        }
        if kind == Kind::Read {
            let result = verb().await;
            self.life.alive().await;
            return result;
        }
        // Never quite at once: of two gateways at the same moment either may be the first.
        sleep(Duration::from_millis(world.dice.between(1, 3))).await; // why: time passes in the simulation, not here
        let (calm, weather) = (world.is_calm(), &world.weather);
        let fate = match world.dice.roll(6) {
            _ if calm || !world.dice.permille(weather.store_faults) => Fate::Good,
            0 => Fate::Before,
            1 => Fate::After,
            2 => Fate::HangBefore,
            3 => Fate::HangAfter,
            4 => Fate::Twice,
            _ if kind == Kind::Repeatable => Fate::Again,
            _ => Fate::Twice,
        };
        let slow = if !calm && world.dice.permille(weather.slow_store) { world.dice.between(50, 4_000) } else { 0 };
        let dies = if !calm && world.dice.permille(weather.crash_points) { world.dice.between(1, 2) } else { 0 };
        if fate != Fate::Good {
            about.trouble(&world);
            world.trace.note(format!("{}: {name}: {fate:?}", self.life));
            world.trace.reached(format!("fault {fate:?}"));
        }
        if slow > 0 {
            sleep(Duration::from_millis(slow / 2)).await; // why: time passes in the simulation, not here
        }
        if dies == 1 {
            world.trace.reached("killed before a verb");
            world.kill(&self.life);
        }
        self.life.alive().await;
        match fate {
            Fate::Before => return Err(StoreError::Unavailable("injected".into())),
            Fate::HangBefore => return std::future::pending().await,
            _ => {}
        }
        let mut result = verb().await;
        if dies == 2 {
            world.trace.reached("killed after a verb");
            world.kill(&self.life);
        }
        self.life.alive().await;
        if slow > 0 {
            sleep(Duration::from_millis(slow / 2)).await; // why: time passes in the simulation, not here
            self.life.alive().await;
        }
        match fate {
            Fate::After => result = result.and(Err(StoreError::Unknown("injected".into()))),
            Fate::HangAfter => return std::future::pending().await,
            Fate::Twice => drop(verb().await),
            Fate::Again => result = verb().await,
            _ => {}
        }
        result
    }

    /// The clock by which holds and leases end: a shared store has its own.
    fn clock(&self, caller: UnixMillis) -> UnixMillis {
        let world = self.world();
        if world.is_shared() { world.now() } else { caller }
    }

    /// A moment of the caller by the store's clock, and the other way round.
    fn ahead(&self) -> u64 {
        if self.world().is_shared() { self.life.ahead } else { 0 }
    }

    /// Says what a verb did to the ledger and to the trace.
    fn tell(&self, line: String) {
        let world = self.world();
        world.trace.reached(format!("verb {}", line.split(" p").next().unwrap_or(&line).split(" c").next().unwrap_or(&line)));
        world.trace.note(format!("{}: {line}", self.life));
    }
}

/// Takes the name of a variant, and spares the writing of what is in it.
struct FirstWord(String);

impl Write for FirstWord {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = text.find([' ', '(', '{']);
        self.0.push_str(&text[..end.unwrap_or(text.len())]);
        if end.is_some() { Err(std::fmt::Error) } else { Ok(()) }
    }
}

fn word<T: std::fmt::Debug>(result: &Result<T, StoreError>) -> String {
    match result {
        Ok(value) => {
            let mut first = FirstWord(String::new());
            // Ends with an error as soon as the word is over.
            let _ = write!(first, "{value:?}");
            first.0
        }
        Err(StoreError::Unavailable(_)) => "unavailable".into(),
        Err(StoreError::Unknown(_)) => "unknown".into(),
        Err(StoreError::Corrupt(_)) => "CORRUPT".into(),
        Err(StoreError::Moved(_)) => "MOVED".into(),
    }
}

fn fact_name(fact: &Fact) -> &'static str {
    match fact {
        Fact::Renewed { .. } => "renewed",
        Fact::Submitted(_) => "submitted",
        Fact::Rejected => "rejected",
        Fact::Proven => "proven",
        Fact::Settled { .. } => "settled",
        Fact::Forwarding => "forwarding",
        Fact::Delivered { response: Some(_), .. } => "delivered",
        Fact::Delivered { response: None, .. } => "delivered unkept",
        Fact::Undelivered { .. } => "undelivered",
        Fact::Released => "released",
    }
}

fn channel_fact_name(fact: &ChannelFact) -> &'static str {
    match fact {
        ChannelFact::Renewed { .. } => "renewed",
        ChannelFact::Reserved(_) => "reserved",
        ChannelFact::Metered { .. } => "metered",
        ChannelFact::Committed(_) => "committed",
        ChannelFact::Released => "released",
        ChannelFact::MoveBuilt(step) if step.added.is_zero() => "claim built",
        ChannelFact::MoveBuilt(_) => "top-up built",
    }
}

fn sighting_name(fact: &ChannelSighting) -> &'static str {
    match fact {
        ChannelSighting::Funded { .. } => "funded",
        ChannelSighting::Unfunded => "unfunded",
        ChannelSighting::DepositFinal => "deposit final",
        ChannelSighting::NeverFunded => "never funded",
        ChannelSighting::MoveAccepted { .. } => "move accepted",
        ChannelSighting::MoveTakenBack { .. } => "move taken back",
        ChannelSighting::MoveFinal { .. } => "move final",
        ChannelSighting::MoveDropped { .. } => "move dropped",
        ChannelSighting::Closed(closure) if closure.is_final => "closed for good",
        ChannelSighting::Closed(_) => "closed",
        ChannelSighting::Reopened => "reopened",
    }
}

#[async_trait]
impl Store for Link {
    fn id(&self) -> StoreId {
        self.world().store.id()
    }

    fn is_shared(&self) -> bool {
        self.world().is_shared()
    }

    async fn claim(&self, claim: &Claim, now: UnixMillis) -> Result<ClaimOutcome, StoreError> {
        let world = self.world();
        let store = world.store.clone();
        // An offer ends by the caller's clock.
        let accepted_until = UnixMillis(claim.accepted_until.0.saturating_sub(self.ahead()));
        let claim = &Claim { accepted_until, ..claim.clone() };
        let verb = || async {
            let mut result = store.claim(claim, self.clock(now)).await;
            if let Ok(ClaimOutcome::InFlight { until }) = &mut result {
                *until = until.plus_millis(self.ahead());
            }
            world.ledger.claimed(&self.life, &claim.key.txid, &result);
            result
        };
        let result = self.call(About::Payment(claim.key.txid), "claim", Kind::Repeatable, verb).await;
        self.tell(format!("claim {} {}", word(&result), world.ledger.name(&claim.key.txid)));
        result
    }

    async fn advance(&self, hold: &Held, fact: Fact, now: UnixMillis) -> Result<Advanced, StoreError> {
        let world = self.world();
        let store = world.store.clone();
        let (name, txid) = (fact_name(&fact), hold.key().txid);
        let verb = || async {
            let result = store.advance(hold, fact.clone(), self.clock(now)).await;
            world.ledger.advanced(&world, &self.life, &txid, name, &result);
            result
        };
        let result = self.call(About::Payment(txid), name, Kind::Repeatable, verb).await;
        self.tell(format!("{name} {} {}", word(&result), world.ledger.name(&txid)));
        result
    }

    async fn observe(&self, key: &PaymentKey, fact: ChainFact, now: UnixMillis) -> Result<Observed, StoreError> {
        let world = self.world();
        let store = world.store.clone();
        let name = match fact {
            ChainFact::Accepted(_) => "accepted",
            ChainFact::TakenBack => "taken back",
            ChainFact::Final => "final",
            ChainFact::Reversed { .. } => "reversed",
            ChainFact::Granted { .. } => "granted",
        };
        let result = self.call(About::Nothing, name, Kind::Repeatable, || store.observe(key, fact.clone(), now)).await;
        self.tell(format!("observe {name} {} {}", word(&result), world.ledger.name(&key.txid)));
        result
    }

    async fn payment(&self, key: &PaymentKey) -> Result<Option<StoredPayment>, StoreError> {
        let store = self.world().store.clone();
        self.call(About::Nothing, "payment", Kind::Read, || store.payment(key)).await
    }

    async fn payments(&self, query: &Query) -> Result<Vec<PaymentRecord>, StoreError> {
        let store = self.world().store.clone();
        self.call(About::Nothing, "payments", Kind::Read, || store.payments(query)).await
    }

    async fn checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        let store = self.world().store.clone();
        self.call(About::Nothing, "checkpoint", Kind::Read, || store.checkpoint()).await
    }

    async fn set_checkpoint(&self, checkpoint: Checkpoint) -> Result<(), StoreError> {
        let store = self.world().store.clone();
        self.call(About::Nothing, "set checkpoint", Kind::Read, || store.set_checkpoint(checkpoint)).await
    }

    async fn totals(&self) -> Result<Totals, StoreError> {
        self.world().store.totals().await
    }

    async fn prune(&self, before: UnixMillis) -> Result<u64, StoreError> {
        self.world().store.prune(before).await
    }
}

#[async_trait]
impl ChannelStore for Link {
    async fn open_channel(&self, opening: &Opening, now: UnixMillis) -> Result<Opened, StoreError> {
        let world = self.world();
        let store = world.store.clone();
        let result = self.call(About::Channel(opening.id), "open", Kind::Repeatable, || store.open_channel(opening, now)).await;
        self.tell(format!("open {} {}", word(&result), world.ledger.channel_name(&opening.id)));
        result
    }

    async fn lease(&self, ask: &LeaseAsk, now: UnixMillis) -> Result<Leased, StoreError> {
        let world = self.world();
        let store = world.store.clone();
        let verb = || async {
            let mut result = store.lease(ask, self.clock(now)).await;
            if let Ok(Leased::Busy { until, .. }) = &mut result {
                *until = until.plus_millis(self.ahead());
            }
            result
        };
        let result = self.call(About::Channel(ask.channel), "lease", Kind::Repeatable, verb).await;
        let purpose = if matches!(ask.purpose, Purpose::Upkeep) { "upkeep" } else { "request" };
        self.tell(format!("lease {purpose} {} {}", word(&result), world.ledger.channel_name(&ask.channel)));
        result
    }

    async fn advance_channel(&self, lease: &Lease, fact: ChannelFact, now: UnixMillis) -> Result<ChannelStep, StoreError> {
        let world = self.world();
        let store = world.store.clone();
        let name = channel_fact_name(&fact);
        let verb = || async {
            let result = store.advance_channel(lease, fact.clone(), self.clock(now)).await;
            world.ledger.channel_advanced(lease.channel(), &fact, &result);
            result
        };
        let result = self.call(About::Channel(*lease.channel()), name, Kind::Once, verb).await;
        self.tell(format!("{name} {} {}", word(&result), world.ledger.channel_name(lease.channel())));
        result
    }

    async fn observe_channel(&self, id: &ChannelId, fact: ChannelSighting, now: UnixMillis) -> Result<Observed, StoreError> {
        let world = self.world();
        let store = world.store.clone();
        let name = sighting_name(&fact);
        let result = self.call(About::Nothing, name, Kind::Repeatable, || store.observe_channel(id, fact.clone(), now)).await;
        self.tell(format!("observe {name} {} {}", word(&result), world.ledger.channel_name(id)));
        result
    }

    async fn channel(&self, id: &ChannelId) -> Result<Option<Arc<ChannelRecord>>, StoreError> {
        let store = self.world().store.clone();
        self.call(About::Nothing, "channel", Kind::Read, || store.channel(id)).await
    }

    async fn channels(&self, query: &ChannelQuery) -> Result<Vec<Arc<ChannelRecord>>, StoreError> {
        let store = self.world().store.clone();
        self.call(About::Nothing, "channels", Kind::Read, || store.channels(query)).await
    }

    async fn charge(&self, channel: &ChannelId, identifier: &PaymentIdentifier) -> Result<Option<StoredCharge>, StoreError> {
        let store = self.world().store.clone();
        self.call(About::Nothing, "charge", Kind::Read, || store.charge(channel, identifier)).await
    }

    async fn charges(&self, channel: &ChannelId, after: u64, limit: u32) -> Result<Vec<ChargeRecord>, StoreError> {
        let store = self.world().store.clone();
        self.call(About::Nothing, "charges", Kind::Read, || store.charges(channel, after, limit)).await
    }

    async fn settled_moves(&self, channel: &ChannelId, after: u64, limit: u32) -> Result<Vec<SettledMove>, StoreError> {
        let store = self.world().store.clone();
        self.call(About::Nothing, "settled moves", Kind::Read, || store.settled_moves(channel, after, limit)).await
    }

    async fn channel_totals(&self) -> Result<ChannelTotals, StoreError> {
        self.world().store.channel_totals().await
    }

    async fn add_server_key(&self, key: XOnlyKey) -> Result<bool, StoreError> {
        self.world().store.add_server_key(key).await
    }
}
