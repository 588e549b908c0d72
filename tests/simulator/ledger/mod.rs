//! The independent model: what was paid, signed, forwarded and handed over, in the words of clients, the network and the API. It knows
//! nothing of the rules of the store; it reads the store's records and says where they contradict what happened.

mod channels;
mod exact;
mod jobs;

use crate::{
    net::inputs,
    world::{Life, World},
};
pub use channels::Signed;
pub use exact::Bought;
use jobs::Job;
use kas402::protocol::ids::{ChannelId, Outpoint, TxId};
use kaspa_consensus_core::tx::Transaction;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard},
};

#[derive(Default)]
pub struct Ledger {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    jobs: BTreeMap<String, Job>,
    dead: BTreeSet<u64>,
    names: BTreeMap<TxId, String>,
    payments: BTreeMap<TxId, exact::Payment>,
    channels: BTreeMap<ChannelId, channels::Channel>,
    /// Every escrow that ever was, or could be: outputs of deposits, claims and top-ups.
    escrows: BTreeMap<Outpoint, channels::Escrow>,
    /// What each top-up settles.
    top_ups: BTreeMap<TxId, u64>,
    /// The life to which the store last gave a payment.
    grants: BTreeMap<TxId, u64>,
    /// The ids that presenters wrote into transactions.
    written: BTreeMap<TxId, TxId>,
    /// The same, the other way round.
    aliases: BTreeMap<TxId, TxId>,
    numbers: u64,
}

impl Ledger {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// For identifiers, targets and salts.
    pub fn number(&self) -> u64 {
        let mut state = self.state();
        state.numbers += 1;
        state.numbers
    }

    pub fn name(&self, txid: &TxId) -> String {
        self.state().names.get(txid).cloned().unwrap_or_else(|| format!("t{}", &txid.to_string()[..6]))
    }

    pub fn called(&self, txid: TxId, name: String) {
        self.state().names.entry(txid).or_insert(name);
    }

    pub fn died(&self, life: u64) {
        self.state().dead.insert(life);
    }

    pub fn deaths(&self) -> usize {
        self.state().dead.len()
    }

    pub fn writes_id(&self, txid: TxId, id: TxId) {
        let mut state = self.state();
        state.written.insert(txid, id);
        state.aliases.insert(id, txid);
    }

    /// Taken once.
    pub fn written_id(&self, txid: &TxId) -> Option<TxId> {
        self.state().written.remove(txid)
    }

    /// A gateway sends a transaction: whatever it is for must be durable by now.
    pub async fn sent(&self, world: &World, life: &Life, transaction: &Transaction) {
        self.learns(world, transaction);
        let txid = &TxId::from(transaction.id());
        let key = kas402::store::PaymentKey { network: kas402::protocol::network::Network::Simnet, txid: *txid };
        let known = world.store.payment(&key).await.ok().flatten().is_some() || self.is_of_a_channel(world, txid).await;
        if !known {
            world.trace.wrong(format!("{life} sends {} before anything of it is durable", self.name(txid)));
        }
    }

    /// The network accepted a transaction.
    pub fn accepted(&self, world: &World, txid: &TxId) {
        if let Some(transaction) = world.net.transaction(txid) {
            let spent: Vec<Outpoint> = inputs(&transaction).collect();
            self.escrow_spent(world, txid, &transaction, &spent);
        }
    }

    /// Everything that must hold at any moment.
    pub async fn check(&self, world: &World) {
        self.check_payments(world).await;
        self.check_channels(world).await;
    }

    /// Everything that must hold once all trouble is over and all is final.
    pub async fn check_end(&self, world: &World) {
        self.check(world).await;
        self.check_payments_at_the_end(world).await;
        self.check_channels_at_the_end(world).await;
    }
}
