//! The durable state of channels (PROTOCOL section 5): the second narrow trait of a store.
//!
//! Promises: an outpoint belongs to one channel, for ever; a charge and its answer are one durable step; of one
//! channel only the holder of its lease changes what a request may change, and a stale lease changes nothing. What a
//! request must not do while a claim is on its way is refused by the record itself, so that no crash forgets it.
//! The rules are `binding::escrow_v1::state`, applied in [`rules`] once for every store that runs in this process.

mod records;
pub(in crate::store) mod rules;

pub use records::*;

use super::{Observed, StoreError};
use crate::protocol::{
    ids::{ChannelId, Outpoint, PaymentIdentifier, TxId, XOnlyKey},
    network::Network,
    time::UnixMillis,
};
use async_trait::async_trait;
use std::sync::Arc;

/// The channels of a store. Times are the caller's clock; leases of the embedded store live in one process, but for those of streams.
#[async_trait]
pub trait ChannelStore: Send + Sync + 'static {
    /// Sets `(network, outpoint)` to this channel, once and for ever, then the record.
    async fn open_channel(&self, opening: &Opening, now: UnixMillis) -> Result<Opened, StoreError>;

    /// Takes a channel for one request, or says why not. An identifier or an offer that was used before never takes it. While a stream runs
    /// (from [`ChannelFact::Reserved`] to its end, as long as its lease is renewed) the channel is busy to every process on the store, also
    /// where other leases are known to one process alone, and after its holder died, unless a store knows that it did: whoever is given a
    /// channel with a stream in it finds that stream's holder dead.
    async fn lease(&self, ask: &LeaseAsk, now: UnixMillis) -> Result<Leased, StoreError>;

    /// A step of whoever holds the channel. A lease that expired and was taken by another changes nothing and answers
    /// [`ChannelStep::Stale`]. `Ok(Done)` carries the record after the step.
    async fn advance_channel(&self, lease: &Lease, fact: ChannelFact, now: UnixMillis) -> Result<ChannelStep, StoreError>;

    /// What the chain says about a channel, whoever holds it. Idempotent.
    async fn observe_channel(&self, id: &ChannelId, fact: ChannelSighting, now: UnixMillis) -> Result<Observed, StoreError>;

    /// One channel.
    async fn channel(&self, id: &ChannelId) -> Result<Option<Arc<ChannelRecord>>, StoreError>;

    /// The same as this process last saw it, when it did: another gateway may have written since. Enough to check a signature by; what
    /// fails against it is checked against [`ChannelStore::channel`] again.
    async fn recent_channel(&self, id: &ChannelId) -> Result<Option<Arc<ChannelRecord>>, StoreError> {
        self.channel(id).await
    }

    /// Channels in the order of their openings, `limit` at a time, after `query.after`.
    async fn channels(&self, query: &ChannelQuery) -> Result<Vec<Arc<ChannelRecord>>, StoreError>;

    /// One charge with its stored response.
    async fn charge(&self, channel: &ChannelId, identifier: &PaymentIdentifier) -> Result<Option<StoredCharge>, StoreError>;

    /// The charges of a channel in their order, `limit` at a time, after the given [`ChargeRecord::number`].
    async fn charges(&self, channel: &ChannelId, after: u64, limit: u32) -> Result<Vec<ChargeRecord>, StoreError>;

    /// The claims and top-ups of a channel that the chain accepted, in that order, `limit` at a time, after the given
    /// [`SettledMove::number`].
    async fn settled_moves(&self, channel: &ChannelId, after: u64, limit: u32) -> Result<Vec<SettledMove>, StoreError>;

    /// Sums over the channels, which equal the sums over the charges and moves at any moment.
    async fn channel_totals(&self) -> Result<ChannelTotals, StoreError>;

    /// Remembers for ever that this key signs claims for this store. `false`: it did before.
    async fn add_server_key(&self, key: XOnlyKey) -> Result<bool, StoreError>;
}

/// Which channel an outpoint backs, for records and errors.
pub type OutpointKey = (Network, Outpoint);

/// The transaction of a move.
pub type MoveId = TxId;
