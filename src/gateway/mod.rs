//! The use cases, over the two traits and a clock: route, sell, settle, deliver, recover.
//!
//! Never names a concrete store, pingora or the node's RPC. Called by `proxy` and `runtime`.
//! The order of one purchase is that of the contract: hold, settle, commit, forward, record
//! delivery. Whatever owns money runs in a task of its own, or in one that leaves it to such a task
//! (`errand`), so that a client that goes away stops nothing half-way.

pub mod answer;
pub mod channel;
pub(crate) mod crash;
mod deliver;
mod depth;
mod errand;
pub mod facilitate;
mod flag;
mod fleet;
mod flight;
mod follow;
mod forward;
mod hold;
pub mod ledger;
mod mcp;
pub mod pieces;
mod purchase;
mod quote;
pub mod reconcile;
mod recover;
pub mod remote;
mod respond;
mod sell;
mod settle;
pub mod upstream;

#[cfg(test)]
mod tests;

use crate::{
    binding::escrow_v1::ServerKeys,
    chain::{Chain, Health, Tip},
    protocol::{ids::RequestIdentity, offer::OfferKeys, policy::Policy, time::UnixMillis},
    store::{HolderId, PaymentKey, Store, StoreError},
    telemetry::Metrics,
};
use arc_swap::ArcSwap;
use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};
use tokio::{sync::Semaphore, time::timeout};
use upstream::Upstreams;

/// Time and chance, given from outside (`runtime` passes the system's).
#[derive(Clone)]
pub struct Environment {
    pub now: Arc<dyn Fn() -> UnixMillis + Send + Sync>,
    pub random: Arc<dyn Fn() -> [u8; 16] + Send + Sync>,
}

/// What an operator sets about the money path as a whole.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Blue score depth after which a payment is no longer watched.
    pub final_depth: u64,
    /// A hold of this gateway ends this long after its last renewal.
    pub hold: Duration,
    /// Payments settled or served at once; beyond it 503 `overloaded`.
    pub waiting: usize,
}

impl Limits {
    /// The length of a hold as the store takes it.
    fn hold_millis(&self) -> u64 {
        u64::try_from(self.hold.as_millis()).unwrap_or(u64::MAX)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { final_depth: crate::protocol::limits::FINAL_DEPTH, hold: Duration::from_secs(10), waiting: 4096 }
    }
}

/// The paywall.
pub struct Gateway {
    store: Arc<dyn Store>,
    chain: Arc<dyn Chain>,
    upstreams: Arc<dyn Upstreams>,
    environment: Environment,
    policy: ArcSwap<Policy>,
    keys: ArcSwap<OfferKeys>,
    server_keys: ArcSwap<ServerKeys>,
    limits: Limits,
    holder: HolderId,
    metrics: Arc<Metrics>,
    /// Cleared by a store error, set again by the next success.
    store_usable: AtomicBool,
    /// Requests of this process that wait for the same payment.
    flights: flight::Flights<(PaymentKey, RequestIdentity)>,
    /// One for each payment that may be settled or served at once.
    places: Arc<Semaphore>,
    follows: follow::Follows,
    depths: depth::Depths,
    watched: recover::Watched,
    channels: channel::Channels,
    /// Who settles for a gateway without a node.
    remote: OnceLock<Arc<dyn remote::RemoteFacilitator>>,
    calls: Arc<mcp::Calls>,
}

impl Gateway {
    #[allow(clippy::too_many_arguments, reason = "each is one part of the wiring, and all are needed")]
    pub fn new(
        store: Arc<dyn Store>,
        chain: Arc<dyn Chain>,
        upstreams: Arc<dyn Upstreams>,
        environment: Environment,
        policy: Arc<Policy>,
        keys: Arc<OfferKeys>,
        server_keys: Arc<ServerKeys>,
        limits: Limits,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let holder = HolderId((environment.random)());
        let depths = depth::Depths::new(chain.tip());
        let follows = follow::Follows::new(chain.clone());
        let channels = channel::Channels::new(chain.network());
        let places = Arc::new(Semaphore::new(limits.waiting.min(Semaphore::MAX_PERMITS)));
        metrics.store_ready.set(1);
        Arc::new(Self {
            store,
            chain,
            upstreams,
            environment,
            policy: ArcSwap::new(policy),
            keys: ArcSwap::new(keys),
            server_keys: ArcSwap::new(server_keys),
            limits,
            holder,
            metrics,
            store_usable: AtomicBool::new(true),
            flights: flight::Flights::default(),
            places,
            follows,
            depths,
            watched: recover::Watched::default(),
            channels,
            remote: OnceLock::new(),
            calls: Arc::default(),
        })
    }

    /// Replaces the policy and the offer keys; requests under way keep what they began with,
    /// and offers made before stay good until they expire.
    pub fn reload(&self, policy: Arc<Policy>, keys: Arc<OfferKeys>, server_keys: Arc<ServerKeys>) {
        self.policy.store(policy);
        self.keys.store(keys);
        self.server_keys.store(server_keys);
        if let Some(gateway) = self.arc() {
            // A store that fails is known to `ask`; what was not considered is when it changes.
            tokio::spawn(async move { drop(gateway.reconsider_channels().await) });
        }
    }

    /// Whether priced routes can be sold now, and why not.
    pub fn readiness(&self) -> Result<(), String> {
        if !self.store_usable.load(Ordering::Relaxed) {
            return Err("store_unavailable".into());
        }
        if let Health { ready: false, reason, .. } = &*self.chain.health().borrow() {
            return Err(reason.clone().unwrap_or_else(|| "node_unavailable".into()));
        }
        if self.policy.load().remote_channels && self.remote_channels().is_none() {
            return Err("facilitator_unavailable: it opens no channels for this gateway".into());
        }
        Ok(())
    }

    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    pub fn chain(&self) -> &Arc<dyn Chain> {
        &self.chain
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Scores of the virtual chain now; zero until the node was asked.
    fn tip(&self) -> Tip {
        self.depths.tip()
    }

    fn now(&self) -> UnixMillis {
        (self.environment.now)()
    }

    /// Asks the store, within the length of a hold: a step that takes longer helps nobody. Remembers
    /// whether the store works, for the routes that do not touch it.
    async fn ask<T>(&self, verb: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let late = |_| Err(StoreError::Unknown("no answer in time".into()));
        let mut verb = pin!(verb);
        // What is in memory is answered at once, and needs no clock.
        let result = match poll_fn(|cx| Poll::Ready(verb.as_mut().poll(cx))).await {
            Poll::Ready(result) => result,
            Poll::Pending => timeout(self.limits.hold, verb).await.unwrap_or_else(late),
        };
        let usable = !matches!(result, Err(StoreError::Unavailable(_) | StoreError::Unknown(_) | StoreError::Moved(_)));
        if let Err(error) = &result {
            tracing::error!(%error, "store");
        }
        self.store_usable.store(usable, Ordering::Relaxed);
        self.metrics.store_ready.set(i64::from(usable));
        result
    }
}
