//! One shop: a gateway with everything around it faked, and the requests sent to it.

use super::{
    exchange::send,
    fakes::{FakeUpstream, FaultStore},
    shop::{from_channels, policy, server_keys},
};
pub use super::{
    exchange::{Ask, Got},
    shop::{payee, sompi},
};
use crate::{
    chain::{Chain, sim::SimChain},
    client::wallet::Wallet,
    gateway::{Environment, Gateway, Limits},
    protocol::{
        charge::ChargeRule,
        ids::{StoreId, TxId},
        network::Network,
        offer::{OfferKey, OfferKeys},
        policy::{Channels, Policy, Pricing},
        time::UnixMillis,
    },
    store::{PaymentKey, PaymentRecord, Store, Totals},
    telemetry::Metrics,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

pub const PRICE: u64 = 25_000_000;
pub const DEAR: u64 = 90_000_000;
pub const BODY_LIMIT: usize = 256;
pub const REPLAY_LIMIT: usize = 64;
pub const SETTLE_WAIT: Duration = Duration::from_secs(20);
pub const TIMEOUT: Duration = Duration::from_secs(5);
pub const HOLD: Duration = Duration::from_secs(10);
pub const OFFER_SECONDS: u64 = 60;
pub const FINAL_DEPTH: u64 = 100;
const BEGIN: UnixMillis = UnixMillis(1_700_000_000_000);

pub struct World {
    pub gateway: Arc<Gateway>,
    pub store: Arc<FaultStore>,
    pub chain: Arc<SimChain>,
    pub upstream: Arc<FakeUpstream>,
    pub payer: Wallet,
    skipped: Arc<AtomicU64>,
    environment: Environment,
    limits: Limits,
    policy: Arc<dyn Fn() -> Policy>,
}

impl World {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// `change` is applied to how every route is sold.
    pub async fn with(change: impl Fn(&mut Pricing) + 'static) -> Self {
        Self::build(1, 1_000, change).await
    }

    pub async fn build(store: u8, waiting: usize, change: impl Fn(&mut Pricing) + 'static) -> Self {
        Self::of(store, waiting, Arc::new(move || policy(&change))).await
    }

    /// A shop that is also paid from channels, at most `ceiling` a request.
    pub async fn channels(ceiling: u64, charge: ChargeRule) -> Self {
        Self::with(move |pricing| from_channels(pricing, ceiling, charge.clone())).await
    }

    pub async fn of(store: u8, waiting: usize, policy: Arc<dyn Fn() -> Policy>) -> Self {
        let skipped = Arc::new(AtomicU64::new(0));
        let (origin, shift) = (tokio::time::Instant::now(), skipped.clone());
        let drawn = AtomicU64::new(0);
        let environment = Environment {
            now: Arc::new(move || {
                let passed = u64::try_from(origin.elapsed().as_millis()).unwrap();
                BEGIN.plus_millis(passed + shift.load(Ordering::SeqCst))
            }),
            random: Arc::new(move || u128::from(drawn.fetch_add(1, Ordering::SeqCst)).to_be_bytes()),
        };
        let chain = SimChain::new(Network::Simnet);
        chain.accept_at_once(true);
        let store = Arc::new(FaultStore::new(StoreId([store; 16])));
        let upstream = Arc::new(FakeUpstream::default());
        let limits = Limits { final_depth: FINAL_DEPTH, hold: HOLD, waiting };
        let payer = Wallet::from_secret(Network::Simnet, &[7; 32]).unwrap();
        let gateway = start(&store, &chain, &upstream, &environment, policy(), &limits).await;
        Self { gateway, store, chain, upstream, payer, skipped, environment, limits, policy }
    }

    /// The process reaches its store no more; the next one starts from what is durable.
    pub fn die(&mut self) {
        self.store = Arc::new(self.store.heir());
    }

    /// Another process over the same store and network.
    pub async fn restart(&mut self) {
        self.gateway = start(&self.store, &self.chain, &self.upstream, &self.environment, (self.policy)(), &self.limits).await;
    }

    /// Another gateway on the same store, with a node of its own; what this one left open before is taken up at once, the rest by rounds.
    pub async fn sibling(&self, chain: Arc<SimChain>) -> Self {
        let store = Arc::new(self.store.shared());
        let (upstream, environment, limits) = (Arc::new(FakeUpstream::default()), self.environment.clone(), self.limits.clone());
        let gateway = start(&store, &chain, &upstream, &environment, (self.policy)(), &limits).await;
        let payer = Wallet::from_secret(Network::Simnet, &[7; 32]).unwrap();
        Self { gateway, store, chain, upstream, payer, skipped: self.skipped.clone(), environment, limits, policy: self.policy.clone() }
    }

    /// What holds for all channels from the next reload or restart on.
    pub fn configure_channels(&mut self, change: impl Fn(&mut Channels) + 'static) {
        let before = self.policy.clone();
        self.policy = Arc::new(move || {
            let mut policy = before();
            change(policy.channels.as_mut().unwrap());
            policy
        });
    }

    /// Another configuration of what holds for all channels.
    pub fn reload_channels(&self, change: impl Fn(&mut Channels)) {
        let mut policy = (self.policy)();
        change(policy.channels.as_mut().unwrap());
        let keys = Arc::new(offer_keys(self.store.id(), &[("a", 7, None)]));
        self.gateway.reload(Arc::new(policy), keys, Arc::new(server_keys()));
    }

    pub fn reload(&self, change: impl Fn(&mut Pricing), keys: &[(&str, u8, Option<UnixMillis>)]) {
        self.gateway.reload(Arc::new(policy(&change)), Arc::new(offer_keys(self.store.id(), keys)), Arc::new(server_keys()));
    }

    /// The clock jumps; no timer runs.
    pub fn skip(&self, seconds: u64) {
        self.skipped.fetch_add(seconds * 1_000, Ordering::SeqCst);
    }

    /// Lets time pass, with every timer.
    pub async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await; // why: the clock of these tests stands still; a sleep moves it
    }

    pub fn now(&self) -> UnixMillis {
        (self.environment.now)()
    }

    pub async fn send(&self, request: &Ask) -> Got {
        send(self.gateway.clone(), request.clone()).await
    }

    pub fn spawn(&self, request: &Ask) -> JoinHandle<Got> {
        tokio::spawn(send(self.gateway.clone(), request.clone()))
    }

    pub async fn record(&self, txid: TxId) -> Option<PaymentRecord> {
        let key = PaymentKey { network: Network::Simnet, txid };
        self.store.payment(&key).await.unwrap().map(|stored| stored.record)
    }

    pub async fn totals(&self) -> Totals {
        self.store.totals().await.unwrap()
    }

    /// Lets everything run that can run without time passing.
    pub async fn until(&self, what: &str, mut reached: impl AsyncFnMut() -> bool) {
        for _ in 0..10_000 {
            if reached().await {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("never happened: {what}");
    }

    pub async fn until_submitted(&self, count: usize) {
        self.until("submit", async || self.chain.submits().len() == count).await;
    }
}

async fn start(
    store: &Arc<FaultStore>,
    chain: &Arc<SimChain>,
    upstream: &Arc<FakeUpstream>,
    environment: &Environment,
    policy: Policy,
    limits: &Limits,
) -> Arc<Gateway> {
    let keys = Arc::new(offer_keys(store.id(), &[("a", 7, None)]));
    let network: Arc<dyn Chain> = chain.clone();
    let metrics = Arc::new(Metrics::new());
    let gateway = Gateway::new(
        store.clone(),
        network,
        upstream.clone(),
        environment.clone(),
        Arc::new(policy),
        keys,
        Arc::new(server_keys()),
        limits.clone(),
        metrics,
    );
    gateway.clone().recover().await.unwrap();
    gateway
}

fn offer_keys(store: StoreId, keys: &[(&str, u8, Option<UnixMillis>)]) -> OfferKeys {
    let key = |&(kid, byte, not_after): &(&str, u8, Option<UnixMillis>)| OfferKey {
        kid: kid.to_owned(),
        key: Zeroizing::new(vec![byte; 32]),
        not_after,
    };
    OfferKeys::derive(&keys.iter().map(key).collect::<Vec<_>>(), store)
}
