//! The network under all gateways of a run: the simulated chain, made to obey the rules of a chain (an output is spent once, what is
//! spent exists), with blocks, reorganisations, double spends and lost mempools; and the node that one gateway is connected to.
//!
//! Everybody who watches gets a channel of their own, in a fixed order: a run must not depend on who is woken first.

use crate::{
    planted::Planted,
    world::{Life, World},
};
use async_trait::async_trait;
use kas402::{
    chain::{AcceptedTransaction, Chain, ChainError, Health, OutpointStatus, Sighting, SubmitOutcome, Tip, TxStatus, Utxo, sim::SimChain},
    protocol::{
        acceptance::{Acceptance, Checkpoint},
        amount::Amount,
        ids::{Outpoint, TxId},
        network::Network,
    },
};
use kaspa_consensus_core::tx::{ScriptPublicKey, Transaction};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, Weak},
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// Blue score after which nothing is taken back any more.
pub const FINAL_DEPTH: u64 = 30;
/// Deeper than this no reorganisation goes.
const REORG_DEPTH: u64 = 12;

pub struct Net {
    sim: Arc<SimChain>,
    state: Mutex<State>,
    /// Nodes do not tell what a reorganisation took.
    deaf: bool,
}

#[derive(Default)]
struct State {
    known: BTreeMap<TxId, Transaction>,
    /// Spendable only from this DAA score on.
    locked: BTreeMap<TxId, u64>,
    invalid: BTreeSet<TxId>,
    coins: BTreeMap<Outpoint, u64>,
    mempool: BTreeSet<TxId>,
    /// Was in a mempool or in a block at some time.
    had: BTreeSet<TxId>,
    branch: Vec<(TxId, Acceptance)>,
    deepest: BTreeMap<TxId, u64>,
    /// Blue score of the tip when it was accepted first.
    first: BTreeMap<TxId, u64>,
    /// Since when a reorganisation has it off the chain.
    gone: BTreeMap<TxId, Instant>,
    /// The network had it when a gateway had sent it: from then on it is the gateway's to look after.
    brought: BTreeSet<TxId>,
    /// Their owners send them again until they are accepted.
    kept: BTreeSet<TxId>,
    /// Dropped from the mempool or by a reorganisation at some time: nobody can tell any more who sent it first.
    forgotten: BTreeSet<TxId>,
    transactions: BTreeMap<TxId, watch::Receiver<TxStatus>>,
    outputs: BTreeMap<Outpoint, watch::Receiver<OutpointStatus>>,
    listeners: Vec<Listener>,
}

struct Listener {
    life: Arc<Life>,
    ear: Ear,
}

enum Ear {
    Tip(watch::Sender<Tip>),
    Health(watch::Sender<Health>),
    Transaction { txid: TxId, resubmit: bool, status: watch::Sender<TxStatus> },
    Output { outpoint: Outpoint, status: watch::Sender<OutpointStatus> },
}

pub fn inputs(transaction: &Transaction) -> impl Iterator<Item = Outpoint> + '_ {
    transaction.inputs.iter().map(|input| input.previous_outpoint.into())
}

fn tell<T: PartialEq>(sender: &watch::Sender<T>, now: T) -> bool {
    sender.send_if_modified(|old| {
        let news = *old != now;
        if news {
            *old = now;
        }
        news
    })
}

impl State {
    fn accepted(&self, txid: &TxId) -> Option<Acceptance> {
        self.branch.iter().find(|(other, _)| other == txid).map(|(_, acceptance)| *acceptance)
    }

    /// Who spends this output on the branch.
    fn spender(&self, outpoint: &Outpoint) -> Option<TxId> {
        let spends = |txid: &TxId| inputs(&self.known[txid]).any(|input| input == *outpoint);
        self.branch.iter().map(|(txid, _)| *txid).find(spends)
    }

    fn exists(&self, outpoint: &Outpoint) -> bool {
        self.coins.contains_key(outpoint) || self.accepted(&outpoint.txid).is_some()
    }

    fn rival_in_mempool(&self, transaction: &Transaction) -> bool {
        let own: Vec<_> = inputs(transaction).collect();
        let txid = TxId::from(transaction.id());
        self.mempool.iter().any(|other| *other != txid && inputs(&self.known[other]).any(|input| own.contains(&input)))
    }

    fn note_depths(&mut self, tip: Tip) {
        for (txid, acceptance) in &self.branch {
            let depth = tip.blue_score.saturating_sub(acceptance.blue_score);
            let deepest = self.deepest.entry(*txid).or_default();
            *deepest = depth.max(*deepest);
        }
    }
}

impl Net {
    pub fn new(planted: Option<Planted>) -> Self {
        Self { sim: SimChain::new(Network::Simnet), state: Mutex::default(), deaf: planted == Some(Planted::ReorgUnseen) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn tip(&self) -> Tip {
        *self.sim.tip().borrow()
    }

    /// Money from before the run.
    pub fn coin(&self, outpoint: Outpoint, amount: Amount, script: ScriptPublicKey) {
        self.state().coins.insert(outpoint, amount.sompi());
        self.sim.fund(Utxo { outpoint, amount, script_public_key: script, daa_score: 1, is_coinbase: false, covenant: false });
    }

    /// Never valid, whoever sends it.
    pub fn invalid(&self, txid: TxId) {
        self.state().invalid.insert(txid);
    }

    /// Its owner sends it, and looks after it.
    pub fn keep(&self, transaction: &Transaction) {
        self.take(transaction);
        self.state().kept.insert(transaction.id().into());
    }

    pub fn locked_until(&self, txid: TxId, daa_score: u64) {
        self.state().locked.insert(txid, daa_score);
    }

    /// The greatest depth below the tip that it ever had; `None` when it was never accepted.
    pub fn deepest(&self, txid: &TxId) -> Option<u64> {
        let mut state = self.state();
        state.note_depths(self.tip());
        state.deepest.get(txid).copied()
    }

    pub fn is_accepted(&self, txid: &TxId) -> bool {
        self.state().accepted(txid).is_some()
    }

    /// The network has it: accepted, or waiting to be.
    pub fn has(&self, txid: &TxId) -> bool {
        let state = self.state();
        state.mempool.contains(txid) || state.accepted(txid).is_some()
    }

    pub fn transaction(&self, txid: &TxId) -> Option<Transaction> {
        self.state().known.get(txid).cloned()
    }

    /// Blocks since it was accepted first, whatever a reorganisation did meanwhile; `None`: never.
    pub fn first_seen(&self, txid: &TxId) -> Option<u64> {
        let first = self.state().first.get(txid).copied()?;
        Some(self.tip().blue_score.saturating_sub(first))
    }

    /// How long it has been off the chain since it was on it.
    pub fn gone_for(&self, txid: &TxId) -> Duration {
        self.state().gone.get(txid).map_or(Duration::ZERO, Instant::elapsed)
    }

    /// The network had it at some time.
    pub fn ever_had(&self, txid: &TxId) -> bool {
        self.state().had.contains(txid)
    }

    pub fn was_brought(&self, txid: &TxId) -> bool {
        self.state().brought.contains(txid)
    }

    pub fn was_forgotten(&self, txid: &TxId) -> bool {
        self.state().forgotten.contains(txid)
    }

    /// How deep the spend lies that took one of its inputs.
    pub fn conflict_depth(&self, txid: &TxId) -> Option<u64> {
        let state = self.state();
        let tip = self.tip();
        let depth = |(rival, acceptance): &(TxId, Acceptance)| {
            let spends = inputs(&state.known[rival]).any(|input| inputs(&state.known[txid]).any(|own| own == input));
            (rival != txid && spends).then(|| tip.blue_score.saturating_sub(acceptance.blue_score))
        };
        state.known.contains_key(txid).then(|| state.branch.iter().find_map(depth)).flatten()
    }

    pub fn spender(&self, outpoint: &Outpoint) -> Option<TxId> {
        self.state().spender(outpoint)
    }

    pub fn is_unspent(&self, outpoint: &Outpoint) -> bool {
        let state = self.state();
        state.exists(outpoint) && state.spender(outpoint).is_none()
    }

    pub fn value(&self, outpoint: &Outpoint) -> Option<u64> {
        let state = self.state();
        if let Some(value) = state.coins.get(outpoint) {
            return Some(*value);
        }
        let output = state.known.get(&outpoint.txid)?.outputs.get(usize::try_from(outpoint.index).ok()?)?;
        Some(output.value)
    }

    /// A node is given a transaction.
    pub fn take(&self, transaction: &Transaction) -> SubmitOutcome {
        let txid = TxId::from(transaction.id());
        let mut state = self.state();
        state.known.entry(txid).or_insert_with(|| transaction.clone());
        if state.invalid.contains(&txid) {
            return SubmitOutcome::Rejected("a signature is wrong".into());
        }
        if state.mempool.contains(&txid) || state.accepted(&txid).is_some() {
            return SubmitOutcome::Known;
        }
        let spent = inputs(transaction).any(|input| state.spender(&input).is_some());
        let orphan = inputs(transaction).any(|input| !state.exists(&input) && !state.mempool.contains(&input.txid));
        let rival = state.rival_in_mempool(transaction);
        if !spent && !orphan && !rival {
            state.mempool.insert(txid);
            state.had.insert(txid);
        }
        drop(state);
        if orphan {
            return SubmitOutcome::Unknown("an orphan".into());
        }
        if rival {
            return SubmitOutcome::Unknown("a double spend in the mempool".into());
        }
        futures::FutureExt::now_or_never(self.sim.submit(transaction)).expect("submits are not held");
        self.publish();
        if spent { SubmitOutcome::Unknown("an input is spent".into()) } else { SubmitOutcome::New }
    }

    fn accept(&self, world: &World, txid: TxId) {
        let acceptance = self.sim.accept(txid);
        {
            let mut state = self.state();
            state.branch.push((txid, acceptance));
            state.had.insert(txid);
            state.mempool.remove(&txid);
            state.gone.remove(&txid);
            state.first.entry(txid).or_insert(acceptance.blue_score);
            let lost = |other: &TxId| inputs(&state.known[other]).any(|input| inputs(&state.known[&txid]).any(|own| own == input));
            let lost: Vec<TxId> = state.mempool.iter().filter(|other| lost(other)).copied().collect();
            state.mempool.retain(|other| !lost.contains(other));
        }
        world.trace.note(format!("chain: {} accepted", world.ledger.name(&txid)));
        world.ledger.accepted(world, &txid);
    }

    /// The chain grows; what waits is accepted, mostly.
    pub fn block(&self, world: &World) {
        self.sim.advance(1);
        let kept: Vec<TxId> = self.state().kept.iter().copied().filter(|_| world.dice.one_in(3)).collect();
        for txid in kept {
            if !self.has(&txid) {
                let transaction = self.state().known[&txid].clone();
                self.take(&transaction);
            }
        }
        let waiting: Vec<TxId> = self.state().mempool.iter().copied().collect();
        for txid in waiting {
            let ready = {
                let state = self.state();
                let transaction = &state.known[&txid];
                let locked = state.locked.get(&txid).is_some_and(|until| self.tip().daa_score <= *until);
                !locked && inputs(transaction).all(|input| state.exists(&input) && state.spender(&input).is_none())
            };
            if ready && world.dice.permille(if world.is_calm() { 1_000 } else { world.weather.blocks }) {
                self.accept(world, txid);
            }
        }
        self.state().note_depths(self.tip());
        self.publish();
    }

    /// The last blocks are replaced. What they accepted returns to the mempool, or is forgotten by it; `instead` is accepted by the
    /// winning branch before anything else.
    pub fn reorg(&self, world: &World, blocks: u64, instead: Option<&Transaction>) {
        let tip = self.tip();
        let from = tip.blue_score.saturating_sub(blocks.min(REORG_DEPTH));
        self.state().note_depths(tip);
        let mut undone = Vec::new();
        loop {
            let last = {
                let mut state = self.state();
                match state.branch.last() {
                    Some((_, acceptance)) if acceptance.blue_score >= from => state.branch.pop(),
                    _ => None,
                }
            };
            let Some((txid, _)) = last else { break };
            self.sim.take_back(txid);
            self.state().gone.insert(txid, Instant::now());
            world.trace.note(format!("chain: {} taken back", world.ledger.name(&txid)));
            world.trace.reached("chain taken back");
            undone.push(txid);
        }
        if let Some(transaction) = instead {
            let txid = TxId::from(transaction.id());
            let possible = {
                let mut state = self.state();
                state.known.entry(txid).or_insert_with(|| transaction.clone());
                inputs(transaction).all(|input| state.exists(&input) && state.spender(&input).is_none())
            };
            if possible {
                futures::FutureExt::now_or_never(self.sim.submit(transaction)).expect("submits are not held");
                self.accept(world, txid);
                world.trace.reached("chain double spend");
            }
        }
        for txid in undone.into_iter().rev() {
            let returns = world.dice.permille(700);
            let transaction = self.state().known[&txid].clone();
            if !returns || matches!(self.take(&transaction), SubmitOutcome::Unknown(_)) {
                self.state().forgotten.insert(txid);
            }
        }
        self.publish();
    }

    /// Nodes are restarted: what waited is gone until somebody sends it again.
    pub fn lose_mempool(&self, world: &World) {
        {
            let mut state = self.state();
            let lost = std::mem::take(&mut state.mempool);
            if !lost.is_empty() {
                world.trace.reached("chain mempool lost");
            }
            state.forgotten.extend(lost);
        }
        self.sim.lose_mempool();
        world.trace.note("chain: mempool lost");
    }

    /// A gateway and its node, or both, are gone.
    pub fn forget(&self, life: &Life) {
        let mut state = self.state();
        state.listeners.retain(|listener| listener.life.number != life.number);
    }

    /// Tells everybody who is connected what they do not know; sends again what a node forgot.
    pub fn publish(&self) {
        loop {
            let mut again = Vec::new();
            {
                let mut state = self.state();
                // Whoever looked once and went away.
                state.listeners.retain(|listener| match &listener.ear {
                    Ear::Tip(sender) => sender.receiver_count() > 0,
                    Ear::Health(sender) => sender.receiver_count() > 0,
                    Ear::Transaction { .. } | Ear::Output { .. } => true,
                });
                let tip = self.tip();
                for Listener { life, ear } in &state.listeners {
                    let connected = life.node_up();
                    match ear {
                        Ear::Health(health) => {
                            tell(health, self.health(life));
                        }
                        _ if !connected => {}
                        Ear::Tip(sender) => {
                            tell(sender, life.tip(tip));
                        }
                        Ear::Output { outpoint, status } => {
                            let now = state.outputs[outpoint].borrow().clone();
                            if !(self.deaf && now == OutpointStatus::Absent) {
                                tell(status, now);
                            }
                        }
                        Ear::Transaction { txid, resubmit, status } => {
                            let now = *state.transactions[txid].borrow();
                            if self.deaf && now == TxStatus::Unseen {
                                continue;
                            }
                            let taken_back = tell(status, now) && now == TxStatus::Unseen;
                            if taken_back && *resubmit {
                                again.push(*txid);
                            }
                        }
                    }
                }
            }
            if !self.send_again(again) {
                return;
            }
        }
    }

    fn send_again(&self, txids: Vec<TxId>) -> bool {
        let mut any = false;
        for txid in txids {
            let transaction = self.state().known[&txid].clone();
            any |= matches!(self.take_quietly(&transaction), SubmitOutcome::New);
        }
        any
    }

    fn take_quietly(&self, transaction: &Transaction) -> SubmitOutcome {
        self.take(transaction)
    }

    /// A gateway's node is connected again: it hears of everything, and what is unseen is sent again.
    pub fn reconnect(&self, life: &Life) {
        let unseen: Vec<TxId> = {
            let state = self.state();
            let unseen = |listener: &Listener| match &listener.ear {
                Ear::Transaction { txid, resubmit: true, .. } if listener.life.number == life.number => Some(*txid),
                _ => None,
            };
            state.listeners.iter().filter_map(unseen).filter(|txid| *state.transactions[txid].borrow() == TxStatus::Unseen).collect()
        };
        self.publish();
        self.send_again(unseen);
        self.publish();
    }

    fn health(&self, life: &Life) -> Health {
        let ready = life.node_up();
        Health { ready, reason: (!ready).then(|| "disconnected".to_owned()), server_version: None }
    }

    fn listen(&self, life: &Arc<Life>, ear: Ear) {
        if !life.is_dead() {
            self.state().listeners.push(Listener { life: life.clone(), ear });
        }
    }
}

/// The node of one gateway, over one life of it.
pub struct Node {
    pub life: Arc<Life>,
    pub world: Weak<World>,
}

impl Node {
    fn world(&self) -> Arc<World> {
        self.world.upgrade().expect("a run outlives its gateways")
    }
}

#[async_trait]
impl Chain for Node {
    fn network(&self) -> Network {
        Network::Simnet
    }

    fn health(&self) -> watch::Receiver<Health> {
        let world = self.world();
        let (sender, receiver) = watch::channel(world.net.health(&self.life));
        world.net.listen(&self.life, Ear::Health(sender));
        receiver
    }

    fn tip(&self) -> watch::Receiver<Tip> {
        let world = self.world();
        let (sender, receiver) = watch::channel(self.life.tip(world.net.tip()));
        world.net.listen(&self.life, Ear::Tip(sender));
        receiver
    }

    async fn submit(&self, transaction: &Transaction) -> SubmitOutcome {
        let world = self.world();
        let txid = TxId::from(transaction.id());
        self.life.alive().await;
        world.ledger.sent(&world, &self.life, transaction).await;
        let name = world.ledger.name(&txid);
        tokio::time::sleep(Duration::from_millis(world.dice.between(1, 20))).await; // why: time passes in the simulation, not here
        self.life.alive().await;
        let fate = if world.is_calm() || !world.dice.permille(world.weather.submit_faults) { 9 } else { world.dice.roll(3) };
        let outcome = match fate {
            _ if !self.life.node_up() => SubmitOutcome::Unavailable("disconnected".into()),
            0 => SubmitOutcome::Unavailable("no node answers".into()),
            1 => SubmitOutcome::Unknown("no answer in time".into()),
            2 => {
                world.net.take(transaction);
                tokio::time::sleep(Duration::from_millis(world.dice.between(1, 5_000))).await; // why: time passes in the simulation, not here
                SubmitOutcome::Unknown("the answer was lost".into())
            }
            _ => world.net.take(transaction),
        };
        if world.net.has(&txid) {
            world.net.state().brought.insert(txid);
        }
        let word = match outcome {
            SubmitOutcome::New => "new",
            SubmitOutcome::Known => "known",
            SubmitOutcome::Rejected(_) => "rejected",
            SubmitOutcome::Unknown(_) => "unknown",
            SubmitOutcome::Unavailable(_) => "unavailable",
        };
        world.trace.note(format!("{}: submit {name}: {word}", self.life));
        world.trace.reached(format!("submit {word}"));
        self.life.alive().await;
        match outcome {
            SubmitOutcome::Unknown(reason) if world.planted == Some(Planted::FreedOnUnknown) => SubmitOutcome::Rejected(reason),
            outcome => outcome,
        }
    }

    fn follow(&self, transaction: &Transaction, known: Option<Acceptance>, resubmit: bool) -> watch::Receiver<TxStatus> {
        let world = self.world();
        let txid = TxId::from(transaction.id());
        let resubmit = resubmit && world.planted != Some(Planted::NoRebroadcast);
        let status = {
            let mut state = world.net.state();
            state.known.entry(txid).or_insert_with(|| transaction.clone());
            let told = state.transactions.entry(txid).or_insert_with(|| world.net.sim.follow(transaction, None, false));
            let status = *told.borrow();
            // A node that is not there tells what was known before.
            if self.life.node_up() { status } else { known.map_or(TxStatus::Unseen, TxStatus::Accepted) }
        };
        let status = match status {
            TxStatus::Unseen if world.planted == Some(Planted::UnpaidIsPaid) && world.net.has(&txid) => {
                let tip = world.net.tip();
                let block = kas402::protocol::ids::BlockHash([1; 32]);
                TxStatus::Accepted(Acceptance { block, blue_score: tip.blue_score, daa_score: tip.daa_score })
            }
            status => status,
        };
        {
            // Raised for all who follow it through this gateway.
            let mut state = world.net.state();
            for listener in state.listeners.iter_mut().filter(|listener| listener.life.number == self.life.number) {
                if let Ear::Transaction { txid: other, resubmit: raised, .. } = &mut listener.ear {
                    *raised |= resubmit && *other == txid;
                }
            }
        }
        let (sender, receiver) = watch::channel(status);
        world.net.listen(&self.life, Ear::Transaction { txid, resubmit, status: sender });
        receiver
    }

    fn unfollow(&self, txid: &TxId) {
        let world = self.world();
        let ours = |listener: &Listener| {
            listener.life.number == self.life.number && matches!(&listener.ear, Ear::Transaction { txid: other, .. } if other == txid)
        };
        world.net.state().listeners.retain(|listener| !ours(listener));
    }

    async fn sighting(&self, transaction: &Transaction) -> Result<Sighting, ChainError> {
        let world = self.world();
        self.life.alive().await;
        if !self.life.node_up() {
            return Err(ChainError::Unavailable("disconnected".into()));
        }
        let txid = TxId::from(transaction.id());
        Ok(if world.net.is_accepted(&txid) {
            Sighting::UtxoSet
        } else if world.net.has(&txid) {
            Sighting::Mempool
        } else {
            Sighting::NotSeen
        })
    }

    fn watch_outpoint(&self, outpoint: Outpoint, script: &ScriptPublicKey, known: Option<u64>) -> watch::Receiver<OutpointStatus> {
        let world = self.world();
        let status = {
            let mut state = world.net.state();
            let told = state.outputs.entry(outpoint).or_insert_with(|| world.net.sim.watch_outpoint(outpoint, script, known));
            let status = told.borrow().clone();
            if self.life.node_up() { status } else { OutpointStatus::Unknown }
        };
        let (sender, receiver) = watch::channel(status);
        world.net.listen(&self.life, Ear::Output { outpoint, status: sender });
        receiver
    }

    fn unwatch_outpoint(&self, outpoint: &Outpoint) {
        let world = self.world();
        let ours = |listener: &Listener| {
            listener.life.number == self.life.number && matches!(&listener.ear, Ear::Output { outpoint: other, .. } if other == outpoint)
        };
        world.net.state().listeners.retain(|listener| !ours(listener));
    }

    async fn accepted(&self, txid: &TxId, acceptance: &Acceptance) -> Result<AcceptedTransaction, ChainError> {
        self.life.alive().await;
        if !self.life.node_up() {
            return Err(ChainError::Unavailable("disconnected".into()));
        }
        self.world().net.sim.accepted(txid, acceptance).await
    }

    async fn utxos(&self, address: &str) -> Result<Vec<Utxo>, ChainError> {
        self.life.alive().await;
        self.world().net.sim.utxos(address).await
    }

    fn checkpoint(&self) -> Option<Checkpoint> {
        self.world().net.sim.checkpoint()
    }
}
