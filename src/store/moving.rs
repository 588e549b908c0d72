//! Everything of one store into another: `kas402 store migrate`.
//!
//! Promises: the store id moves along (offers and server keys are bound to it), and at no moment can both stores sell: the source
//! is marked before the first record is read, and a marked store takes no step and opens for nothing but a move; the target
//! carries its own mark until every record, count and sum in it was compared. Whatever ends in the middle is run again from the
//! start, or undone. Leases and holds stay behind: they belong to processes that serve no more.
//!
//! A store joins by [`Moving`]: four verbs, all of them idempotent. Called by `runtime::moving`.

use super::{
    Checkpoint, PaymentRecord, Store, StoreError, StoredResponse,
    channels::{ChannelRecord, SettledMove, StoredCharge},
};
use crate::protocol::{
    ids::{ChannelId, Outpoint, StoreId, TxId, XOnlyKey},
    network::Network,
    time::UnixMillis,
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Records of one step.
const BATCH: u32 = 256;

/// Why a store takes no steps; durable in the store itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Its records are in, or on their way to, the store of this name.
    Left { to: String },
    /// Records of the store of this name are being written into it.
    Arriving { from: String },
}

impl Mark {
    /// Why a marked store takes no steps.
    pub(super) fn refusal(&self) -> StoreError {
        StoreError::Moved(match self {
            Self::Left { to } => format!("this store has moved to {to} and sells nothing any more"),
            Self::Arriving { from } => format!("the move from {from} into this store is not complete: run `kas402 store migrate` again"),
        })
    }
}

/// What is moved, in this order: a part never refers to a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    Payments,
    Channels,
    Charges,
    Moves,
    Outpoints,
    ServerKeys,
}

impl Part {
    pub const ALL: [Self; 6] = [Self::Payments, Self::Channels, Self::Charges, Self::Moves, Self::Outpoints, Self::ServerKeys];
}

/// One record, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// With its answer; of a charge that was booked back, when and by which transaction.
    Payment {
        record: Box<PaymentRecord>,
        response: Option<StoredResponse>,
        reversed: Option<(UnixMillis, Option<TxId>)>,
    },
    Channel(Arc<ChannelRecord>),
    Charge(Box<StoredCharge>),
    Move(SettledMove),
    /// Set once, for ever: also of channels that are no more.
    Outpoint {
        network: Network,
        outpoint: Outpoint,
        channel: ChannelId,
    },
    ServerKey(XOnlyKey),
}

/// Where a store's listing goes on; only that store knows what is in it.
pub type Place = Vec<u8>;

/// Numbers as a place.
pub(super) fn place(numbers: &[u64]) -> Place {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

pub(super) fn number(place: &Option<Place>, index: usize) -> u64 {
    let chunk = place.as_deref().and_then(|bytes| bytes.chunks_exact(8).nth(index));
    chunk.and_then(|chunk| chunk.try_into().ok()).map_or(0, u64::from_be_bytes)
}

/// Some items; `next` is `None` at the end of the part. May be empty and not the last.
#[derive(Debug, Default)]
pub struct Batch {
    pub items: Vec<Item>,
    pub next: Option<Place>,
}

/// What a store does for a move. Opened in its own way, past its mark.
#[async_trait]
pub trait Moving: Store {
    async fn mark(&self) -> Result<Option<Mark>, StoreError>;

    /// Replaces the mark. From now on, for as long as there is one, no verb of any process over this store succeeds but those here
    /// and reads; steps that succeeded before are in what is listed afterwards.
    async fn set_mark(&self, mark: Option<Mark>) -> Result<(), StoreError>;

    /// Items of a part, each once, in any order but that of the rows of a channel: by their numbers. About `limit` of them.
    async fn items(&self, part: Part, after: Option<Place>, limit: u32) -> Result<Batch, StoreError>;

    /// Writes items with everything that follows from them (indices, sums, ledger rows, counters). An item that is there is
    /// replaced by itself and changes no sum.
    async fn arrive(&self, items: Vec<Item>) -> Result<(), StoreError>;
}

/// Why nothing was moved, or not everything.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0} has moved to {1} already")]
    LeftAlready(String, String),
    #[error("{0} is itself the unfinished target of a move from {1}")]
    Unfinished(String, String),
    #[error("{0} is not empty: a move needs a new store")]
    NotEmpty(String),
    #[error("{0} is another store's (id {1})")]
    OtherStore(String, StoreId),
    #[error("{part:?} differ after the move: {from} records in {of}, {to} in the target; both stores stay closed")]
    Differs { part: Part, of: String, from: u64, to: u64 },
    #[error("the sums differ after the move; both stores stay closed")]
    SumsDiffer,
    #[error("{0} is complete and may have sold since: nothing is undone")]
    Complete(String),
}

/// A store and what it is called.
pub struct Named<'a> {
    pub name: &'a str,
    pub store: &'a dyn Moving,
}

/// What was moved, and is in the target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Moved {
    pub store_id: StoreId,
    pub parts: Vec<(Part, u64)>,
}

/// Is told how many items of a part were read so far, first of the source, then, compared, of the target.
pub type Heard<'a> = &'a (dyn Fn(Part, u64) + Sync);

/// Moves everything, compares, and opens the target. Run again after anything that went wrong in between.
pub async fn migrate(from: Named<'_>, to: Named<'_>, heard: Heard<'_>) -> Result<Moved, MoveError> {
    let (left, arriving) = (Mark::Left { to: to.name.to_owned() }, Mark::Arriving { from: from.name.to_owned() });
    if to.store.id() != from.store.id() {
        return Err(MoveError::OtherStore(to.name.to_owned(), to.store.id()));
    }
    match from.store.mark().await? {
        None => {}
        Some(mark) if mark == left => {}
        Some(Mark::Left { to }) => return Err(MoveError::LeftAlready(from.name.to_owned(), to)),
        Some(Mark::Arriving { from: source }) => return Err(MoveError::Unfinished(from.name.to_owned(), source)),
    }
    if to.store.mark().await?.as_ref() != Some(&arriving) {
        if !is_empty(to.store).await? {
            return Err(MoveError::NotEmpty(to.name.to_owned()));
        }
        to.store.set_mark(Some(arriving)).await?;
    }
    from.store.set_mark(Some(left)).await?;

    let mut sent = Vec::new();
    for part in Part::ALL {
        sent.push(walk(from.store, part, Some(to.store), heard).await?);
    }
    if let Some(checkpoint) = from.store.checkpoint().await? {
        copy_checkpoint(to.store, checkpoint).await?;
    }
    for (part, sent) in Part::ALL.into_iter().zip(&sent) {
        let found = walk(to.store, part, None, heard).await?;
        if found != *sent {
            return Err(MoveError::Differs { part, of: from.name.to_owned(), from: sent.count, to: found.count });
        }
    }
    let (totals, channel_totals) = (from.store.totals().await?, from.store.channel_totals().await?);
    if totals != to.store.totals().await? || channel_totals != to.store.channel_totals().await? {
        return Err(MoveError::SumsDiffer);
    }
    to.store.set_mark(None).await?;
    let parts = Part::ALL.into_iter().zip(sent.iter().map(|sent| sent.count)).collect();
    Ok(Moved { store_id: from.store.id(), parts })
}

/// Opens the source again after a move that was not completed. The target stays closed for good.
pub async fn undo(from: Named<'_>, to: Option<Named<'_>>) -> Result<(), MoveError> {
    if let Some(to) = to
        && to.store.id() == from.store.id()
        && !matches!(to.store.mark().await?, Some(Mark::Arriving { .. }))
    {
        return Err(MoveError::Complete(to.name.to_owned()));
    }
    match from.store.mark().await? {
        Some(Mark::Left { .. }) => Ok(from.store.set_mark(None).await?),
        Some(Mark::Arriving { from: source }) => Err(MoveError::Unfinished(from.name.to_owned(), source)),
        None => Ok(()),
    }
}

async fn copy_checkpoint(to: &dyn Moving, checkpoint: Checkpoint) -> Result<(), StoreError> {
    to.set_checkpoint(checkpoint).await
}

async fn is_empty(store: &dyn Moving) -> Result<bool, StoreError> {
    for part in Part::ALL {
        if walk(store, part, None, &|_, _| ()).await?.count > 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// How many items, and a sum of their hashes that no order changes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    count: u64,
    sum: [u64; 4],
}

impl Tally {
    fn add(&mut self, item: &Item) {
        // The program compares with itself, so its own way to write a record is as good as any.
        let hash: [u8; 32] = Sha256::digest(format!("{item:?}")).into();
        self.count += 1;
        for (sum, word) in self.sum.iter_mut().zip(hash.chunks_exact(8)) {
            *sum = sum.wrapping_add(u64::from_le_bytes(word.try_into().expect("chunks of 8")));
        }
    }
}

async fn walk(store: &dyn Moving, part: Part, into: Option<&dyn Moving>, heard: Heard<'_>) -> Result<Tally, StoreError> {
    let (mut tally, mut after) = (Tally::default(), None);
    loop {
        let batch = store.items(part, after, BATCH).await?;
        batch.items.iter().for_each(|item| tally.add(item));
        heard(part, tally.count);
        if let Some(into) = into.filter(|_| !batch.items.is_empty()) {
            into.arrive(batch.items).await?;
        }
        match batch.next {
            Some(next) => after = Some(next),
            None => return Ok(tally),
        }
    }
}
