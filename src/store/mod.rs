//! Durable money state behind one narrow trait.
//!
//! Each verb is one business fact and one atomic step, durable before it returns; outcomes are
//! enums that say why, so that a retrying honest client and a thief never share a code path.
//! The same conformance suite (`store::conformance`) runs against every implementation.
//! Called by `gateway` and the CLI; names neither the chain nor the wire.

pub mod channels;
mod codec;
mod compress;
pub mod embedded;
pub mod memory;
pub mod moving;
mod reading;
mod records;
pub mod redis;
mod rules;

#[cfg(test)]
#[allow(unused_must_use, reason = "many cases leave a hold to expire")]
mod conformance;
#[cfg(test)]
pub(crate) mod sample_books;

pub use reading::Reading;
pub use records::*;

use crate::protocol::{ids::StoreId, time::UnixMillis};
use async_trait::async_trait;

/// Why a verb did nothing. Every priced route answers 503; nothing was changed unless [`StoreError::Unknown`].
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The store did not take the step.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The step may or may not be durable: treat it as done when spending, as not done when releasing.
    #[error("the store did not answer: {0}")]
    Unknown(String),
    /// A record cannot be read: a newer version, or damaged.
    #[error("a stored record cannot be read: {0}")]
    Corrupt(String),
    /// The store was moved elsewhere, or is the target of a move that is not complete: it takes no step any more. Nothing was changed.
    #[error("store_moved: {0}")]
    Moved(String),
}

/// The store. All times are the caller's clock; leases of the embedded store live in one process, those of Redis in the server, by its clock.
#[async_trait]
pub trait Store: channels::ChannelStore {
    /// Drawn once when the store was created.
    fn id(&self) -> StoreId;

    /// Other gateways may be on it at the same time, and end before what they began.
    fn is_shared(&self) -> bool {
        false
    }

    /// Claims `(network, txid)` for one request, once and for ever (PROTOCOL section 4).
    /// Everything a crash needs to resume is durable when this returns [`ClaimOutcome::Fresh`].
    async fn claim(&self, claim: &Claim, now: UnixMillis) -> Result<ClaimOutcome, StoreError>;

    /// A step of the request that holds the payment. A hold that expired and was taken by
    /// another changes nothing and answers [`Advanced::Stale`].
    async fn advance(&self, hold: &Held, fact: Fact, now: UnixMillis) -> Result<Advanced, StoreError>;

    /// What the chain says about a payment, whoever holds it. Idempotent.
    async fn observe(&self, key: &PaymentKey, fact: ChainFact, now: UnixMillis) -> Result<Observed, StoreError>;

    /// One payment with its stored response.
    async fn payment(&self, key: &PaymentKey) -> Result<Option<StoredPayment>, StoreError>;

    /// Payments in the order of their claims, `limit` at a time, after `query.after`.
    async fn payments(&self, query: &Query) -> Result<Vec<PaymentRecord>, StoreError>;

    /// The block up to which the chain was followed, and replacing it.
    async fn checkpoint(&self) -> Result<Option<Checkpoint>, StoreError>;
    async fn set_checkpoint(&self, checkpoint: Checkpoint) -> Result<(), StoreError>;

    /// Sums over the ledger, which equal the sums over the records at any moment.
    async fn totals(&self) -> Result<Totals, StoreError>;

    /// Drops stored responses delivered before `before`, never the consumed ids. Returns how many.
    async fn prune(&self, before: UnixMillis) -> Result<u64, StoreError>;
}
