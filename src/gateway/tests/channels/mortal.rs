//! A process that meets one mishap at an exact step: it dies, and from then on nothing it does has any effect, and nothing is
//! answered; or that step alone fails.

use crate::{
    chain::{Chain, ChainError, Health, OutpointStatus, Sighting, SubmitOutcome, Tip, TxStatus, Utxo, sim::SimChain},
    protocol::{
        acceptance::{Acceptance, Checkpoint},
        ids::{ChannelId, Outpoint, PaymentIdentifier, StoreId, TxId, XOnlyKey},
        network::Network,
        time::UnixMillis,
    },
    store::{channels::*, memory::MemoryStore, *},
};
use async_trait::async_trait;
use kaspa_consensus_core::tx::{ScriptPublicKey, Transaction};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};
use tokio::sync::watch;

/// Before the step, or after it was done and before anybody was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Before,
    After,
}

/// What happens at the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    Death,
    /// Store or node answer with an error; they may have done it all the same.
    Error,
}

/// One life of a gateway.
#[derive(Default)]
pub struct Life {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    dead: bool,
    /// Writes and submits so far.
    steps: Vec<&'static str>,
    mishap: Option<(usize, When, Mishap)>,
    /// Steps of these names fail before they do anything.
    refuses: BTreeSet<&'static str>,
    followed: Vec<TxId>,
    watched: Vec<Outpoint>,
}

impl Life {
    /// What happens at the step of this number, from 0.
    pub fn meets(&self, step: usize, when: When, mishap: Mishap) {
        self.state.lock().unwrap().mishap = Some((step, when, mishap));
    }

    /// Whether steps of this name fail.
    pub fn refuses(&self, name: &'static str, yes: bool) {
        let mut state = self.state.lock().unwrap();
        let _ = if yes { state.refuses.insert(name) } else { state.refuses.remove(name) };
    }

    pub fn is_dead(&self) -> bool {
        self.state.lock().unwrap().dead
    }

    /// What it did, in order.
    pub fn steps(&self) -> Vec<&'static str> {
        self.state.lock().unwrap().steps.clone()
    }

    /// Ends it; its connection to the node goes with it.
    pub fn end(&self, chain: &SimChain) {
        let mut state = self.state.lock().unwrap();
        state.dead = true;
        state.followed.drain(..).for_each(|txid| chain.unfollow(&txid));
        state.watched.drain(..).for_each(|outpoint| chain.unwatch_outpoint(&outpoint));
    }

    /// `failed` is what whoever asked is told of an error.
    async fn step<T>(&self, name: &'static str, does: impl Future<Output = T>, failed: impl FnOnce(When) -> T) -> T {
        let (mishap, refused) = {
            let mut state = self.state.lock().unwrap();
            let number = state.steps.len();
            let mishap = state.mishap.filter(|(at, ..)| *at == number).map(|(_, when, mishap)| (when, mishap));
            state.dead |= mishap == Some((When::Before, Mishap::Death));
            if !state.dead {
                state.steps.push(name);
            }
            (mishap, state.refuses.contains(name))
        };
        self.alive().await;
        if refused || mishap == Some((When::Before, Mishap::Error)) {
            return failed(When::Before);
        }
        let done = does.await;
        self.state.lock().unwrap().dead |= mishap == Some((When::After, Mishap::Death));
        self.alive().await;
        if mishap == Some((When::After, Mishap::Error)) { failed(When::After) } else { done }
    }

    async fn write<T>(&self, name: &'static str, does: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let failed = |when| match when {
            When::Before => Err(StoreError::Unavailable("injected".into())),
            When::After => Err(StoreError::Unknown("injected".into())),
        };
        self.step(name, does, failed).await
    }

    async fn alive(&self) {
        if self.is_dead() {
            std::future::pending().await
        }
    }

    async fn read<T>(&self, does: impl Future<Output = T>) -> T {
        self.alive().await;
        does.await
    }
}

/// The store as one life sees it.
pub struct MortalStore {
    pub model: Arc<MemoryStore>,
    pub life: Arc<Life>,
}

/// The chain as one life sees it.
pub struct MortalChain {
    pub sim: Arc<SimChain>,
    pub life: Arc<Life>,
}

#[async_trait]
impl ChannelStore for MortalStore {
    async fn open_channel(&self, opening: &Opening, now: UnixMillis) -> Result<Opened, StoreError> {
        self.life.write("open", self.model.open_channel(opening, now)).await
    }

    async fn lease(&self, ask: &LeaseAsk, now: UnixMillis) -> Result<Leased, StoreError> {
        self.life.write("lease", self.model.lease(ask, now)).await
    }

    async fn advance_channel(&self, lease: &Lease, fact: ChannelFact, now: UnixMillis) -> Result<ChannelStep, StoreError> {
        let name = match fact {
            ChannelFact::MoveBuilt(_) => "built",
            ChannelFact::Committed(_) => "committed",
            _ => "advance",
        };
        self.life.write(name, self.model.advance_channel(lease, fact, now)).await
    }

    async fn observe_channel(&self, id: &ChannelId, fact: ChannelSighting, now: UnixMillis) -> Result<Observed, StoreError> {
        let name = match fact {
            ChannelSighting::Funded { .. } => "funded",
            ChannelSighting::MoveAccepted { .. } => "accepted",
            ChannelSighting::MoveTakenBack { .. } => "taken back",
            ChannelSighting::MoveFinal { .. } => "final",
            ChannelSighting::Closed(_) => "closed",
            _ => "observe",
        };
        self.life.write(name, self.model.observe_channel(id, fact, now)).await
    }

    async fn channel(&self, id: &ChannelId) -> Result<Option<Arc<ChannelRecord>>, StoreError> {
        self.life.read(self.model.channel(id)).await
    }

    async fn channels(&self, query: &ChannelQuery) -> Result<Vec<Arc<ChannelRecord>>, StoreError> {
        self.life.read(self.model.channels(query)).await
    }

    async fn charge(&self, channel: &ChannelId, identifier: &PaymentIdentifier) -> Result<Option<StoredCharge>, StoreError> {
        self.life.read(self.model.charge(channel, identifier)).await
    }

    async fn charges(&self, channel: &ChannelId, after: u64, limit: u32) -> Result<Vec<ChargeRecord>, StoreError> {
        self.life.read(self.model.charges(channel, after, limit)).await
    }

    async fn settled_moves(&self, channel: &ChannelId, after: u64, limit: u32) -> Result<Vec<SettledMove>, StoreError> {
        self.life.read(self.model.settled_moves(channel, after, limit)).await
    }

    async fn channel_totals(&self) -> Result<ChannelTotals, StoreError> {
        self.life.read(self.model.channel_totals()).await
    }

    async fn add_server_key(&self, key: XOnlyKey) -> Result<bool, StoreError> {
        self.model.add_server_key(key).await
    }
}

/// Payments of whole transactions are not what these tests are about.
#[async_trait]
impl Store for MortalStore {
    fn id(&self) -> StoreId {
        self.model.id()
    }

    async fn claim(&self, claim: &Claim, now: UnixMillis) -> Result<ClaimOutcome, StoreError> {
        self.model.claim(claim, now).await
    }

    async fn advance(&self, hold: &Held, fact: Fact, now: UnixMillis) -> Result<Advanced, StoreError> {
        self.model.advance(hold, fact, now).await
    }

    async fn observe(&self, key: &PaymentKey, fact: ChainFact, now: UnixMillis) -> Result<Observed, StoreError> {
        self.model.observe(key, fact, now).await
    }

    async fn payment(&self, key: &PaymentKey) -> Result<Option<StoredPayment>, StoreError> {
        self.model.payment(key).await
    }

    async fn payments(&self, query: &Query) -> Result<Vec<PaymentRecord>, StoreError> {
        self.model.payments(query).await
    }

    async fn checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        self.model.checkpoint().await
    }

    async fn set_checkpoint(&self, checkpoint: Checkpoint) -> Result<(), StoreError> {
        self.model.set_checkpoint(checkpoint).await
    }

    async fn totals(&self) -> Result<Totals, StoreError> {
        self.model.totals().await
    }

    async fn prune(&self, before: UnixMillis) -> Result<u64, StoreError> {
        self.model.prune(before).await
    }
}

#[async_trait]
impl Chain for MortalChain {
    fn network(&self) -> Network {
        self.sim.network()
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.sim.health()
    }

    fn tip(&self) -> watch::Receiver<Tip> {
        self.sim.tip()
    }

    async fn submit(&self, transaction: &Transaction) -> SubmitOutcome {
        let failed = |when| match when {
            When::Before => SubmitOutcome::Unavailable("injected".into()),
            When::After => SubmitOutcome::Unknown("injected".into()),
        };
        self.life.step("submit", self.sim.submit(transaction), failed).await
    }

    async fn replace(&self, transaction: &Transaction) -> SubmitOutcome {
        let failed = |when| match when {
            When::Before => SubmitOutcome::Unavailable("injected".into()),
            When::After => SubmitOutcome::Unknown("injected".into()),
        };
        self.life.step("submit", self.sim.replace(transaction), failed).await
    }

    fn follow(&self, transaction: &Transaction, known: Option<Acceptance>, resubmit: bool) -> watch::Receiver<TxStatus> {
        if self.life.is_dead() {
            return watch::channel(TxStatus::Unseen).1;
        }
        self.life.state.lock().unwrap().followed.push(transaction.id().into());
        self.sim.follow(transaction, known, resubmit)
    }

    fn unfollow(&self, txid: &TxId) {
        if !self.life.is_dead() {
            self.sim.unfollow(txid);
        }
    }

    async fn sighting(&self, transaction: &Transaction) -> Result<Sighting, ChainError> {
        self.sim.sighting(transaction).await
    }

    fn watch_outpoint(&self, outpoint: Outpoint, script: &ScriptPublicKey, known: Option<u64>) -> watch::Receiver<OutpointStatus> {
        if self.life.is_dead() {
            return watch::channel(OutpointStatus::Unknown).1;
        }
        self.life.state.lock().unwrap().watched.push(outpoint);
        self.sim.watch_outpoint(outpoint, script, known)
    }

    fn unwatch_outpoint(&self, outpoint: &Outpoint) {
        if !self.life.is_dead() {
            self.sim.unwatch_outpoint(outpoint);
        }
    }

    async fn accepted(&self, txid: &TxId, acceptance: &Acceptance) -> Result<crate::chain::AcceptedTransaction, ChainError> {
        self.sim.accepted(txid, acceptance).await
    }

    async fn utxos(&self, address: &str) -> Result<Vec<Utxo>, ChainError> {
        self.sim.utxos(address).await
    }

    fn checkpoint(&self) -> Option<Checkpoint> {
        self.sim.checkpoint()
    }
}
