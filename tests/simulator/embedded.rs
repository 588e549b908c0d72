//! The embedded store under a run: the model's answers are known, so every run must be the same line by line. Its writer is a thread of
//! its own, which the clock of a run knows nothing of: each verb is waited for with everything standing still.

use async_trait::async_trait;
use futures::executor::block_on;
use kas402::{
    protocol::{
        acceptance::Checkpoint,
        ids::{ChannelId, PaymentIdentifier, StoreId, XOnlyKey},
        time::UnixMillis,
    },
    store::{channels::*, embedded::EmbeddedStore, *},
};
use std::{path::Path, sync::Arc};

/// Memory, where there is such a folder: what the disk does to a store is tested with the store.
const QUICK: &str = "/dev/shm";

pub struct Embedded {
    store: EmbeddedStore,
    _folder: tempfile::TempDir,
}

impl Embedded {
    pub fn new(id: StoreId) -> Self {
        let quick = Path::new(QUICK);
        let folder = if quick.is_dir() { tempfile::tempdir_in(quick) } else { tempfile::tempdir() }.unwrap();
        Self { store: EmbeddedStore::open(&folder.path().join("store.db"), id).unwrap(), _folder: folder }
    }
}

#[async_trait]
impl Store for Embedded {
    fn id(&self) -> StoreId {
        self.store.id()
    }

    async fn claim(&self, claim: &Claim, now: UnixMillis) -> Result<ClaimOutcome, StoreError> {
        block_on(self.store.claim(claim, now))
    }

    async fn advance(&self, hold: &Held, fact: Fact, now: UnixMillis) -> Result<Advanced, StoreError> {
        block_on(self.store.advance(hold, fact, now))
    }

    async fn observe(&self, key: &PaymentKey, fact: ChainFact, now: UnixMillis) -> Result<Observed, StoreError> {
        block_on(self.store.observe(key, fact, now))
    }

    async fn payment(&self, key: &PaymentKey) -> Result<Option<StoredPayment>, StoreError> {
        block_on(self.store.payment(key))
    }

    async fn payments(&self, query: &Query) -> Result<Vec<PaymentRecord>, StoreError> {
        block_on(self.store.payments(query))
    }

    async fn checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        block_on(self.store.checkpoint())
    }

    async fn set_checkpoint(&self, checkpoint: Checkpoint) -> Result<(), StoreError> {
        block_on(self.store.set_checkpoint(checkpoint))
    }

    async fn totals(&self) -> Result<Totals, StoreError> {
        block_on(self.store.totals())
    }

    async fn prune(&self, before: UnixMillis) -> Result<u64, StoreError> {
        block_on(self.store.prune(before))
    }
}

#[async_trait]
impl ChannelStore for Embedded {
    async fn open_channel(&self, opening: &Opening, now: UnixMillis) -> Result<Opened, StoreError> {
        block_on(self.store.open_channel(opening, now))
    }

    async fn lease(&self, ask: &LeaseAsk, now: UnixMillis) -> Result<Leased, StoreError> {
        block_on(self.store.lease(ask, now))
    }

    async fn advance_channel(&self, lease: &Lease, fact: ChannelFact, now: UnixMillis) -> Result<ChannelStep, StoreError> {
        block_on(self.store.advance_channel(lease, fact, now))
    }

    async fn observe_channel(&self, id: &ChannelId, fact: ChannelSighting, now: UnixMillis) -> Result<Observed, StoreError> {
        block_on(self.store.observe_channel(id, fact, now))
    }

    async fn channel(&self, id: &ChannelId) -> Result<Option<Arc<ChannelRecord>>, StoreError> {
        block_on(self.store.channel(id))
    }

    async fn channels(&self, query: &ChannelQuery) -> Result<Vec<Arc<ChannelRecord>>, StoreError> {
        block_on(self.store.channels(query))
    }

    async fn charge(&self, channel: &ChannelId, identifier: &PaymentIdentifier) -> Result<Option<StoredCharge>, StoreError> {
        block_on(self.store.charge(channel, identifier))
    }

    async fn charges(&self, channel: &ChannelId, after: u64, limit: u32) -> Result<Vec<ChargeRecord>, StoreError> {
        block_on(self.store.charges(channel, after, limit))
    }

    async fn settled_moves(&self, channel: &ChannelId, after: u64, limit: u32) -> Result<Vec<SettledMove>, StoreError> {
        block_on(self.store.settled_moves(channel, after, limit))
    }

    async fn channel_totals(&self) -> Result<ChannelTotals, StoreError> {
        block_on(self.store.channel_totals())
    }

    async fn add_server_key(&self, key: XOnlyKey) -> Result<bool, StoreError> {
        block_on(self.store.add_server_key(key))
    }
}
