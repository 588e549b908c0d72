//! The embedded store: one SQLite file (write-ahead log, synchronous FULL).
//!
//! Promises: a verb that answered is on disk; a verb that answered `Unavailable` changed nothing; one writer
//! thread, so verbs are steps one after another ([`writer`] says how they share commits). A second process may
//! read, and write while a new version takes over: every transaction takes the file's write lock.
//! It never decides about money (`store::rules` does) and never reads a clock. Opened by the runtime and the CLI.

mod channels;
mod check;
mod lives;
mod moving;
mod read;
mod reader;
mod schema;
mod verbs;
mod writer;

#[cfg(test)]
#[allow(unused_must_use, reason = "many cases leave a hold to expire")]
mod tests;

use super::{
    Advanced, ChainFact, Checkpoint, Claim, ClaimOutcome, Fact, Held, Observed, PaymentKey, PaymentRecord, Query, Store, StoreError,
    StoredPayment, Totals, codec,
};
use crate::protocol::{ids::StoreId, time::UnixMillis};
use async_trait::async_trait;
use channels::Cache;
use lives::Life;
use std::path::Path;
use verbs::Claimed;
use writer::Writer;

pub use check::Whole;
pub use reader::EmbeddedReader;
pub use writer::WriterStats;

/// Responses dropped in one step, so that pruning never holds up payments.
const PRUNE_STEP: u64 = 256;

/// See the module.
#[derive(Debug)]
pub struct EmbeddedStore {
    // Before the writer: the last connection to close moves the log into the database, and only one that writes can.
    reader: EmbeddedReader,
    writer: Writer,
    channels: Cache,
    _life: Life,
}

impl EmbeddedStore {
    /// Opens the store, creating it as `new_store_id` (random, used only then) when the file does not exist;
    /// its directory must. Blocking: call it at start.
    pub fn open(path: &Path, new_store_id: StoreId) -> Result<Self, StoreError> {
        let (conn, id) = schema::open_writer(path, new_store_id)?;
        let life = Life::begin(path, || channels::end_stream_leases(&conn))?;
        let reader = EmbeddedReader::open(path)?;
        Ok(Self { writer: Writer::start(path.to_owned(), id, conn)?, reader, channels: Cache::default(), _life: life })
    }

    /// Opens an existing store beside whoever writes it.
    pub fn open_read_only(path: &Path) -> Result<EmbeddedReader, StoreError> {
        EmbeddedReader::open(path)
    }

    /// For metrics.
    pub fn stats(&self) -> WriterStats {
        self.writer.stats()
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    fn id(&self) -> StoreId {
        self.reader.id()
    }

    async fn claim(&self, claim: &Claim, now: UnixMillis) -> Result<ClaimOutcome, StoreError> {
        let claim = claim.clone();
        match self.writer.run(move |step| step.claim(&claim, now)).await? {
            Claimed::Outcome(outcome) => Ok(outcome),
            Claimed::Replay(record, response) => {
                let response = Some(codec::decode_response(&record.key, &response)?);
                Ok(ClaimOutcome::Delivered(Box::new(StoredPayment { record: *record, response })))
            }
        }
    }

    async fn advance(&self, hold: &Held, fact: Fact, now: UnixMillis) -> Result<Advanced, StoreError> {
        let (key, fence) = (hold.key, hold.fence);
        let response = fact.response().map(|response| codec::encode_response(&key, response));
        self.writer.run(move |step| step.advance(&key, fence, &fact, response.as_deref(), now)).await
    }

    async fn observe(&self, key: &PaymentKey, fact: ChainFact, now: UnixMillis) -> Result<Observed, StoreError> {
        let key = *key;
        self.writer.run(move |step| step.observe(&key, &fact, now)).await
    }

    async fn payment(&self, key: &PaymentKey) -> Result<Option<StoredPayment>, StoreError> {
        self.reader.payment(key).await
    }

    async fn payments(&self, query: &Query) -> Result<Vec<PaymentRecord>, StoreError> {
        self.reader.payments(query).await
    }

    async fn checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        self.reader.checkpoint().await
    }

    async fn set_checkpoint(&self, checkpoint: Checkpoint) -> Result<(), StoreError> {
        self.writer.run(move |step| step.set_checkpoint(&checkpoint)).await
    }

    async fn totals(&self) -> Result<Totals, StoreError> {
        self.reader.totals().await
    }

    async fn prune(&self, before: UnixMillis) -> Result<u64, StoreError> {
        let mut dropped = 0;
        loop {
            let (payments, charges) = self.writer.run(move |step| step.prune(before, PRUNE_STEP)).await?;
            dropped += payments + charges;
            if payments < PRUNE_STEP && charges < PRUNE_STEP {
                return Ok(dropped);
            }
        }
    }
}
