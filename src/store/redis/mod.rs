//! The Redis store: one server, its replicas behind sentinels, or a cluster; many gateways on one store.
//!
//! Promises: a verb judges the record by the rules that every store shares, and one script writes all of it, when record and lease are
//! still those it was judged by; else it is judged again. Records, their rows, the indexes that list them and the sums that count them lie in
//! one slot. What spans slots is set once and before what it protects: a name that points to nothing yet is healed by its next use
//! (`docs/decisions/0011-redis.md`). How durable an answer is says `durability`. Leases and holds end by the server's clock.
//! Opened by the runtime and the CLI.

mod channels;
mod demands;
mod durability;
pub mod endpoint;
mod keys;
mod link;
mod list;
mod moving;
mod names;
mod orphans;
mod payments;
mod reply;
mod start;
mod sums;
mod write;

#[cfg(test)]
#[allow(unused_must_use, reason = "many cases leave a hold to expire")]
mod tests;

pub use demands::Misfit;
pub use keys::SHARDS;
pub use start::OpenError;

use super::*;
use crate::protocol::{ids::StoreId, time::UnixMillis};
use async_trait::async_trait;
pub use endpoint::Durability;
use endpoint::Endpoint;
use keys::Keys;
use link::{Effect, Link};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use write::Revision;

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To make a connection.
    pub connect: Duration,
    /// To answer one command.
    pub answer: Duration,
    /// A whole verb, with everything that is tried again.
    pub verb: Duration,
}

/// Whose clock ends leases and holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseClock {
    /// The server's: gateways need not agree about the time.
    Server,
    /// The caller's, for tests that own the time.
    Caller,
}

/// How to open a store.
#[derive(Clone, Debug)]
pub struct Options {
    pub endpoint: Endpoint,
    /// Certificate authorities instead of the system's, PEM.
    pub ca_pem: Option<Vec<u8>>,
    /// Begins every key.
    pub prefix: String,
    pub durability: Durability,
    /// Replicas that must be there at start (strict). All that are there must have a write before it is answered.
    pub replicas: Option<u64>,
    pub timeouts: Timeouts,
    /// Of a new store; see [`SHARDS`].
    pub shards: u16,
    pub lease_clock: LeaseClock,
    /// Random; used when the store is new.
    pub new_store_id: StoreId,
    /// Random; names this process.
    pub process: [u8; 16],
}

/// See the module.
#[derive(Debug)]
pub struct RedisStore {
    id: StoreId,
    link: Link,
    keys: Keys,
    lease_clock: LeaseClock,
    process: [u8; 16],
    writes: AtomicU64,
    cache: channels::Cache,
    orphans: orphans::Orphans,
    checkpoints: start::Checkpoints,
}

impl RedisStore {
    /// Commands sent so far.
    pub fn commands(&self) -> u64 {
        self.link.sent()
    }

    fn next_revision(&self) -> Revision {
        let mut revision = self.process[..8].to_vec();
        revision.extend(self.writes.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        revision
    }

    /// One command that writes something of shard 0, unless the store has moved.
    async fn single(&self, name: &str, args: &[&[u8]], by: tokio::time::Instant) -> Result<::redis::Value, StoreError> {
        let keys = [self.keys.of(0, name), self.keys.guard(0)];
        let args: Vec<_> = args.iter().map(|arg| arg.to_vec()).collect();
        self.link.script(&link::Scripts::get().single, &keys, &args, Effect::Durable(0), by).await
    }

    /// Takes the next number of one of the store's counters.
    async fn count(&self, counter: &str, by: tokio::time::Instant) -> Result<u64, StoreError> {
        reply::number(self.link.command("INCR", &[&self.keys.of(0, counter)], Effect::Durable(0), by).await?)
    }
}

/// Between the caller's clock and that of the leases.
#[derive(Clone, Copy, Debug)]
struct Shift {
    ahead: u64,
    behind: u64,
}

impl Shift {
    fn between(clock: LeaseClock, caller: UnixMillis, server: u64) -> Self {
        match clock {
            LeaseClock::Server => Self { ahead: server.saturating_sub(caller.0), behind: caller.0.saturating_sub(server) },
            LeaseClock::Caller => Self { ahead: 0, behind: 0 },
        }
    }

    fn to_server(self, at: UnixMillis) -> UnixMillis {
        UnixMillis(at.0.saturating_add(self.ahead).saturating_sub(self.behind))
    }

    fn to_caller(self, at: UnixMillis) -> UnixMillis {
        UnixMillis(at.0.saturating_add(self.behind).saturating_sub(self.ahead))
    }
}

#[async_trait]
impl Store for RedisStore {
    fn id(&self) -> StoreId {
        self.id
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn claim(&self, claim: &Claim, now: UnixMillis) -> Result<ClaimOutcome, StoreError> {
        self.claim_payment(claim, now).await
    }

    async fn advance(&self, hold: &Held, fact: Fact, now: UnixMillis) -> Result<Advanced, StoreError> {
        self.advance_payment(hold, fact, now).await
    }

    async fn observe(&self, key: &PaymentKey, fact: ChainFact, now: UnixMillis) -> Result<Observed, StoreError> {
        self.observe_payment(key, &fact, now).await
    }

    async fn payment(&self, key: &PaymentKey) -> Result<Option<StoredPayment>, StoreError> {
        self.stored_payment(key).await
    }

    async fn payments(&self, query: &Query) -> Result<Vec<PaymentRecord>, StoreError> {
        self.list_payments(query).await
    }

    async fn checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        self.lowest_checkpoint().await
    }

    async fn set_checkpoint(&self, checkpoint: Checkpoint) -> Result<(), StoreError> {
        self.own_checkpoint(checkpoint).await
    }

    async fn totals(&self) -> Result<Totals, StoreError> {
        self.sums().await?.payments()
    }

    async fn prune(&self, before: UnixMillis) -> Result<u64, StoreError> {
        self.prune_responses(before).await
    }
}
