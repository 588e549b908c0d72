//! A deterministic chain for fault injection: the test says what the network does, and when.
//!
//! It keeps the promises of [`Chain`] and nothing happens by itself: no clock, no mining, no tasks.
//! While it is down nothing is pushed; `up` pushes what happened meanwhile and resubmits, as the real
//! chain does after catching up. Used by tests only; `check` never selects it.

mod coins;

use super::{AcceptedInput, AcceptedTransaction, Chain, ChainError, Health, OutpointStatus, Sighting, SubmitOutcome, Tip, TxStatus, Utxo};
use crate::protocol::{
    acceptance::{Acceptance, Checkpoint},
    ids::{BlockHash, Outpoint, TxId},
    network::Network,
};
use async_trait::async_trait;
use coins::Coins;
use kaspa_addresses::Address;
use kaspa_consensus_core::tx::{ScriptPublicKey, Transaction};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{Notify, watch};

/// What happens to one submit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnSubmit {
    /// The node takes it; the answer is lost.
    DropAnswer,
    /// The node does not get it; the answer is this.
    Answer(SubmitOutcome),
}

struct Followed {
    resubmit: bool,
    status: watch::Sender<TxStatus>,
}

#[derive(Default)]
struct State {
    followed: HashMap<TxId, Followed>,
    /// What the virtual chain says; published while up.
    places: HashMap<TxId, TxStatus>,
    mempool: BTreeSet<TxId>,
    submits: Vec<TxId>,
    replacements: Vec<TxId>,
    faults: VecDeque<OnSubmit>,
    held: bool,
    accept_at_once: bool,
    coins: Coins,
    utxos: BTreeMap<String, Vec<Utxo>>,
    blocks: u64,
    down: Option<String>,
}

/// The simulated network.
pub struct SimChain {
    network: Network,
    state: Mutex<State>,
    health: watch::Sender<Health>,
    tip: watch::Sender<Tip>,
    released: Notify,
}

impl SimChain {
    /// Up, at DAA score 1,000 and blue score 1,000.
    pub fn new(network: Network) -> Arc<Self> {
        Arc::new(Self {
            network,
            state: Mutex::default(),
            health: watch::Sender::new(Health { ready: true, reason: None, server_version: Some("sim".into()) }),
            tip: watch::Sender::new(Tip { daa_score: 1_000, blue_score: 1_000 }),
            released: Notify::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, txid: TxId, status: TxStatus) {
        self.change(|state| state.place(txid, status));
    }

    /// Changes the virtual chain, and publishes what came of it while up.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        if state.down.is_none() {
            state.publish_all();
        }
    }

    fn next_block(&self) -> Acceptance {
        let mut state = self.lock();
        state.blocks += 1;
        let mut block = [0xb0; 32];
        block[24..].copy_from_slice(&state.blocks.to_be_bytes());
        let tip = *self.tip.borrow();
        Acceptance { block: BlockHash(block), blue_score: tip.blue_score, daa_score: tip.daa_score }
    }

    /// The next block, at the present tip, accepts the transaction.
    pub fn accept(&self, txid: TxId) -> Acceptance {
        let acceptance = self.next_block();
        self.accept_at(txid, acceptance);
        acceptance
    }

    pub fn accept_at(&self, txid: TxId, acceptance: Acceptance) {
        self.place(txid, TxStatus::Accepted(acceptance));
    }

    /// A reorg removes the block that accepted the transaction, or its conflict.
    pub fn take_back(&self, txid: TxId) {
        self.place(txid, TxStatus::Unseen);
    }

    /// The next block accepts another spend of one of its inputs.
    pub fn conflict(&self, txid: TxId, by: TxId) -> Acceptance {
        let acceptance = self.next_block();
        self.place(txid, TxStatus::Conflicted { by, acceptance });
        acceptance
    }

    pub fn set_tip(&self, tip: Tip) {
        self.tip.send_replace(tip);
    }

    /// Both scores move by `blocks`.
    pub fn advance(&self, blocks: u64) {
        self.tip.send_modify(|tip| (tip.daa_score, tip.blue_score) = (tip.daa_score + blocks, tip.blue_score + blocks));
    }

    /// The node is gone; `reason` begins with one of the stable words of [`Health`].
    pub fn down(&self, reason: &str) {
        self.lock().down = Some(reason.to_owned());
        self.health.send_replace(Health { ready: false, reason: Some(reason.to_owned()), server_version: None });
    }

    /// The node is back: what happened meanwhile is pushed, what is unseen is sent again.
    pub fn up(&self) {
        {
            let mut state = self.lock();
            state.down = None;
            state.publish_all();
        }
        self.health.send_replace(Health { ready: true, reason: None, server_version: Some("sim".into()) });
    }

    /// A restarted node has an empty mempool.
    pub fn lose_mempool(&self) {
        self.lock().mempool.clear();
    }

    /// What happens to the next submits, in order.
    pub fn on_submit(&self, faults: impl IntoIterator<Item = OnSubmit>) {
        self.lock().faults.extend(faults);
    }

    /// Submits wait until [`SimChain::release_submits`].
    pub fn hold_submits(&self) {
        self.lock().held = true;
    }

    pub fn release_submits(&self) {
        self.lock().held = false;
        self.released.notify_waiters();
    }

    /// Whatever the node takes is accepted in the same moment.
    pub fn accept_at_once(&self, yes: bool) {
        self.lock().accept_at_once = yes;
    }

    /// Every submit and resubmit that reached the node, in order.
    pub fn submits(&self) -> Vec<TxId> {
        self.lock().submits.clone()
    }

    /// What was sent in place of another, in order; each is among the submits too.
    pub fn replacements(&self) -> Vec<TxId> {
        self.lock().replacements.clone()
    }

    /// How many transactions are followed.
    pub fn followed(&self) -> usize {
        self.lock().followed.len()
    }

    /// What the node says of the inputs of a transaction, whatever its bytes say.
    pub fn set_inputs(&self, txid: TxId, inputs: Vec<AcceptedInput>) {
        self.lock().coins.set_inputs(txid, inputs);
    }

    /// The next block makes this output.
    pub fn fund(&self, utxo: Utxo) {
        self.change(|state| state.coins.make(utxo));
    }

    /// A reorg removes the block that made the output.
    pub fn unfund(&self, outpoint: &Outpoint) {
        self.change(|state| state.coins.unmake(outpoint));
    }

    /// The next block accepts a transaction of which only the id is known, and which spends this output.
    pub fn spend(&self, outpoint: Outpoint, by: TxId) -> Acceptance {
        let acceptance = self.next_block();
        self.change(|state| state.spend(outpoint, by, acceptance));
        acceptance
    }

    /// A reorg removes the block with that spend.
    pub fn unspend(&self, outpoint: &Outpoint) {
        self.change(|state| {
            if let OutpointStatus::Spent { by, .. } = state.coins.status(outpoint) {
                state.free_rivals(by);
            }
            state.coins.unspend(outpoint);
        });
    }

    /// The output left the utxo set and the virtual chain does not say by whom yet.
    pub fn vanish(&self, outpoint: Outpoint) {
        self.change(|state| state.coins.vanish(outpoint));
    }

    /// How many outputs are watched.
    pub fn watched(&self) -> usize {
        self.lock().coins.watched()
    }

    pub fn set_utxos(&self, address: &str, utxos: Vec<Utxo>) {
        self.lock().utxos.insert(address.to_owned(), utxos);
    }

    fn unavailable(&self) -> Result<MutexGuard<'_, State>, ChainError> {
        let state = self.lock();
        match &state.down {
            Some(reason) => Err(ChainError::Unavailable(reason.clone())),
            None => Ok(state),
        }
    }

    async fn until_released(&self) {
        loop {
            let released = self.released.notified();
            if !self.lock().held {
                return;
            }
            released.await;
        }
    }
}

impl State {
    fn place(&mut self, txid: TxId, status: TxStatus) {
        match status {
            TxStatus::Unseen => {
                // Kept, so that whoever follows it later with an acceptance from before the reorg is not believed.
                if let Some(TxStatus::Conflicted { by, .. }) = self.places.insert(txid, TxStatus::Unseen) {
                    self.coins.take_back(by);
                }
                self.coins.take_back(txid);
                self.free_rivals(txid);
            }
            TxStatus::Accepted(acceptance) => {
                self.settle(txid, status);
                let spent = self.coins.accept(txid, acceptance);
                self.beat_rivals(txid, &spent, acceptance);
            }
            TxStatus::Conflicted { by, acceptance } => {
                self.settle(txid, status);
                let inputs: Vec<_> = self.coins.transaction(&txid).into_iter().flat_map(coins::inputs).collect();
                inputs.iter().for_each(|input| self.coins.spend(*input, by, acceptance));
            }
        }
    }

    fn settle(&mut self, txid: TxId, status: TxStatus) {
        self.mempool.remove(&txid);
        self.places.insert(txid, status);
    }

    fn spend(&mut self, outpoint: Outpoint, by: TxId, acceptance: Acceptance) {
        self.coins.spend(outpoint, by, acceptance);
        self.beat_rivals(by, &[outpoint], acceptance);
    }

    /// Every other transaction that spends one of these outputs has lost.
    fn beat_rivals(&mut self, by: TxId, spent: &[Outpoint], acceptance: Acceptance) {
        for rival in self.coins.rivals(by, spent) {
            self.settle(rival, TxStatus::Conflicted { by, acceptance });
        }
    }

    fn free_rivals(&mut self, by: TxId) {
        self.places.retain(|_, place| !matches!(place, TxStatus::Conflicted { by: winner, .. } if *winner == by));
    }

    fn publish_all(&mut self) {
        let followed: Vec<_> = self.followed.keys().copied().collect();
        followed.iter().for_each(|txid| self.publish(txid));
        self.coins.publish();
    }

    fn publish(&mut self, txid: &TxId) {
        let Some(followed) = self.followed.get(txid) else { return };
        let status = self.places.get(txid).copied().unwrap_or(TxStatus::Unseen);
        followed.status.send_if_modified(|old| std::mem::replace(old, status) != status);
        if followed.resubmit && status == TxStatus::Unseen && self.mempool.insert(*txid) {
            self.submits.push(*txid);
        }
    }
}

#[async_trait]
impl Chain for SimChain {
    fn network(&self) -> Network {
        self.network
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    fn tip(&self) -> watch::Receiver<Tip> {
        self.tip.subscribe()
    }

    async fn submit(&self, transaction: &Transaction) -> SubmitOutcome {
        self.until_released().await;
        let txid = TxId::from(transaction.id());
        let (outcome, accept) = {
            let mut state = self.lock();
            if let Some(reason) = &state.down {
                return SubmitOutcome::Unavailable(reason.clone());
            }
            let fault = state.faults.pop_front();
            if let Some(OnSubmit::Answer(outcome)) = fault {
                return outcome;
            }
            state.submits.push(txid);
            state.coins.learn(transaction);
            if let Some((by, acceptance)) = state.coins.spent_by_another(transaction) {
                state.settle(txid, TxStatus::Conflicted { by, acceptance });
                state.publish(&txid);
            }
            let placed = matches!(state.places.get(&txid), Some(TxStatus::Accepted(_)));
            let conflicted = matches!(state.places.get(&txid), Some(TxStatus::Conflicted { .. }));
            let new = !placed && !conflicted && state.mempool.insert(txid);
            let outcome = match (fault, conflicted, new) {
                (Some(_), ..) => SubmitOutcome::Unknown("the answer was lost".into()),
                (None, true, _) => SubmitOutcome::Unknown("an input is spent".into()),
                (None, false, true) => SubmitOutcome::New,
                (None, false, false) => SubmitOutcome::Known,
            };
            (outcome, new && state.accept_at_once)
        };
        if accept {
            self.accept(txid);
        }
        outcome
    }

    async fn replace(&self, transaction: &Transaction) -> SubmitOutcome {
        self.lock().replacements.push(transaction.id().into());
        self.submit(transaction).await
    }

    fn follow(&self, transaction: &Transaction, known: Option<Acceptance>, resubmit: bool) -> watch::Receiver<TxStatus> {
        let txid = TxId::from(transaction.id());
        let mut state = self.lock();
        state.coins.learn(transaction);
        if let Some(followed) = state.followed.get_mut(&txid) {
            followed.resubmit |= resubmit;
            return followed.status.subscribe();
        }
        if let Some(acceptance) = known {
            state.places.entry(txid).or_insert(TxStatus::Accepted(acceptance));
        }
        let status = state.places.get(&txid).copied().unwrap_or(TxStatus::Unseen);
        let (sender, receiver) = watch::channel(status);
        state.followed.insert(txid, Followed { resubmit, status: sender });
        receiver
    }

    fn unfollow(&self, txid: &TxId) {
        self.lock().followed.remove(txid);
    }

    async fn sighting(&self, transaction: &Transaction) -> Result<Sighting, ChainError> {
        let txid = TxId::from(transaction.id());
        let state = self.unavailable()?;
        Ok(match state.places.get(&txid) {
            Some(TxStatus::Accepted(_)) => Sighting::UtxoSet,
            _ if state.mempool.contains(&txid) => Sighting::Mempool,
            _ => Sighting::NotSeen,
        })
    }

    fn watch_outpoint(&self, outpoint: Outpoint, _: &ScriptPublicKey, _: Option<u64>) -> watch::Receiver<OutpointStatus> {
        let mut state = self.lock();
        let told = if state.down.is_none() { state.coins.status(&outpoint) } else { OutpointStatus::Unknown };
        state.coins.watch(outpoint, told)
    }

    fn unwatch_outpoint(&self, outpoint: &Outpoint) {
        self.lock().coins.unwatch(outpoint);
    }

    async fn accepted(&self, txid: &TxId, _: &Acceptance) -> Result<AcceptedTransaction, ChainError> {
        self.unavailable()?.coins.accepted(txid).ok_or_else(|| ChainError::NotFound("the test did not say".into()))
    }

    /// What the test set for the address, and what its transactions made.
    async fn utxos(&self, address: &str) -> Result<Vec<Utxo>, ChainError> {
        let state = self.unavailable()?;
        let mut found = state.utxos.get(address).cloned().unwrap_or_default();
        if let Ok(script) = Address::try_from(address).map(|address| kaspa_txscript::pay_to_address_script(&address)) {
            found.extend(state.coins.unspent().filter(|utxo| utxo.script_public_key == script).cloned());
        }
        Ok(found)
    }

    fn checkpoint(&self) -> Option<Checkpoint> {
        let blue_score = self.tip.borrow().blue_score;
        Some(Checkpoint { block: BlockHash([0xb0; 32]), blue_score })
    }
}

#[cfg(test)]
mod tests;
