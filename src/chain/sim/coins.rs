//! The simulated network's outputs: which exist, who spent them, and who watches.
//!
//! A transaction whose bytes were submitted or followed moves its outputs by itself when it is accepted or taken back;
//! the test moves all others. Called by `SimChain` under its lock, which also says when something is published.

use crate::{
    chain::{AcceptedInput, AcceptedTransaction, OutpointStatus, Output, Utxo},
    protocol::{
        acceptance::Acceptance,
        amount::Amount,
        ids::{Outpoint, TxId},
    },
};
use kaspa_consensus_core::tx::Transaction;
use std::collections::{BTreeMap, HashMap, HashSet};
use tokio::sync::watch;

#[derive(Default)]
pub(super) struct Coins {
    /// As far as their bytes are known.
    transactions: HashMap<TxId, Transaction>,
    /// What the test says of transactions without bytes, or instead of them.
    inputs: HashMap<TxId, Vec<AcceptedInput>>,
    /// Every output the virtual chain made, spent or not.
    made: BTreeMap<Outpoint, Utxo>,
    spends: HashMap<Outpoint, (TxId, Acceptance)>,
    /// Gone from the utxo set, and nobody knows yet by whom.
    vanished: HashSet<Outpoint>,
    watched: HashMap<Outpoint, watch::Sender<OutpointStatus>>,
}

pub(super) fn inputs(transaction: &Transaction) -> impl Iterator<Item = Outpoint> + '_ {
    let outpoint = |input: &kaspa_consensus_core::tx::TransactionInput| {
        let outpoint = input.previous_outpoint;
        Outpoint { txid: outpoint.transaction_id.into(), index: outpoint.index }
    };
    transaction.inputs.iter().map(outpoint)
}

fn made_by(transaction: &Transaction, daa_score: u64) -> impl Iterator<Item = Utxo> + '_ {
    let txid = TxId::from(transaction.id());
    (0..).zip(&transaction.outputs).map(move |(index, output)| Utxo {
        outpoint: Outpoint { txid, index },
        amount: Amount::from_sompi(output.value).expect("a test's amounts are possible"),
        script_public_key: output.script_public_key.clone(),
        daa_score,
        is_coinbase: false,
        covenant: output.covenant.is_some(),
    })
}

impl Coins {
    pub fn learn(&mut self, transaction: &Transaction) {
        self.transactions.insert(transaction.id().into(), transaction.clone());
    }

    pub fn set_inputs(&mut self, txid: TxId, inputs: Vec<AcceptedInput>) {
        self.inputs.insert(txid, inputs);
    }

    pub fn transaction(&self, txid: &TxId) -> Option<&Transaction> {
        self.transactions.get(txid)
    }

    /// Those other transactions of known bytes that spend one of these outputs.
    pub fn rivals(&self, txid: TxId, outpoints: &[Outpoint]) -> Vec<TxId> {
        let rival = |(id, other): &(&TxId, &Transaction)| **id != txid && inputs(other).any(|input| outpoints.contains(&input));
        self.transactions.iter().filter(rival).map(|(id, _)| *id).collect()
    }

    /// Who else spent one of its inputs already.
    pub fn spent_by_another(&self, transaction: &Transaction) -> Option<(TxId, Acceptance)> {
        let txid = TxId::from(transaction.id());
        inputs(transaction).find_map(|input| self.spends.get(&input).copied().filter(|(by, _)| *by != txid))
    }

    pub fn make(&mut self, utxo: Utxo) {
        self.vanished.remove(&utxo.outpoint);
        self.made.insert(utxo.outpoint, utxo);
    }

    pub fn unmake(&mut self, outpoint: &Outpoint) {
        self.made.remove(outpoint);
        self.vanished.remove(outpoint);
    }

    pub fn vanish(&mut self, outpoint: Outpoint) {
        self.vanished.insert(outpoint);
    }

    pub fn spend(&mut self, outpoint: Outpoint, by: TxId, acceptance: Acceptance) {
        self.vanished.remove(&outpoint);
        self.spends.insert(outpoint, (by, acceptance));
    }

    pub fn unspend(&mut self, outpoint: &Outpoint) {
        self.vanished.remove(outpoint);
        self.spends.remove(outpoint);
    }

    /// What an acceptance does to the utxo set, as far as the bytes are known; returns what was spent.
    pub fn accept(&mut self, txid: TxId, acceptance: Acceptance) -> Vec<Outpoint> {
        let Some(transaction) = self.transactions.get(&txid).cloned() else { return Vec::new() };
        let spent: Vec<_> = inputs(&transaction).collect();
        spent.iter().for_each(|outpoint| self.spend(*outpoint, txid, acceptance));
        made_by(&transaction, acceptance.daa_score).for_each(|utxo| self.make(utxo));
        spent
    }

    /// A transaction is taken back, with everything it did.
    pub fn take_back(&mut self, txid: TxId) {
        self.spends.retain(|_, (by, _)| *by != txid);
        if self.transactions.contains_key(&txid) {
            self.made.retain(|outpoint, _| outpoint.txid != txid);
        }
    }

    pub fn unspent(&self) -> impl Iterator<Item = &Utxo> {
        self.made.values().filter(|utxo| !self.spends.contains_key(&utxo.outpoint) && !self.vanished.contains(&utxo.outpoint))
    }

    /// What the network could tell of an accepted transaction.
    pub fn accepted(&self, txid: &TxId) -> Option<AcceptedTransaction> {
        let transaction = self.transactions.get(txid);
        let told = self.inputs.get(txid).cloned();
        let inputs = told.or_else(|| {
            let read = |input: &kaspa_consensus_core::tx::TransactionInput| {
                let outpoint = input.previous_outpoint;
                let outpoint = Outpoint { txid: outpoint.transaction_id.into(), index: outpoint.index };
                let spent = self.made.get(&outpoint).map(|utxo| Output {
                    amount: utxo.amount,
                    script_public_key: utxo.script_public_key.clone(),
                    covenant: utxo.covenant,
                });
                AcceptedInput { outpoint, signature_script: input.signature_script.clone(), spent }
            };
            transaction.map(|transaction| transaction.inputs.iter().map(read).collect())
        })?;
        let outputs = transaction.into_iter().flat_map(|transaction| made_by(transaction, 0)).map(|utxo| Output {
            amount: utxo.amount,
            script_public_key: utxo.script_public_key,
            covenant: utxo.covenant,
        });
        Some(AcceptedTransaction { inputs, outputs: outputs.collect() })
    }

    pub fn status(&self, outpoint: &Outpoint) -> OutpointStatus {
        match (self.spends.get(outpoint), self.made.get(outpoint)) {
            _ if self.vanished.contains(outpoint) => OutpointStatus::Unknown,
            (Some((by, acceptance)), _) => OutpointStatus::Spent { by: *by, acceptance: *acceptance },
            (None, Some(utxo)) => OutpointStatus::Unspent(utxo.clone()),
            (None, None) => OutpointStatus::Absent,
        }
    }

    /// `told` is what is published at once.
    pub fn watch(&mut self, outpoint: Outpoint, told: OutpointStatus) -> watch::Receiver<OutpointStatus> {
        self.watched.entry(outpoint).or_insert_with(|| watch::Sender::new(told)).subscribe()
    }

    pub fn unwatch(&mut self, outpoint: &Outpoint) {
        self.watched.remove(outpoint);
    }

    pub fn watched(&self) -> usize {
        self.watched.len()
    }

    pub fn publish(&self) {
        for (outpoint, sender) in &self.watched {
            let status = self.status(outpoint);
            sender.send_if_modified(|old| {
                *old != status && {
                    *old = status;
                    true
                }
            });
        }
    }
}
