//! Payments of one request by one transaction.

use super::{Ledger, jobs::Progress};
use crate::{
    exchange::Got,
    net::FINAL_DEPTH,
    world::{Life, World},
};
use kas402::{
    protocol::{ids::TxId, network::Network},
    store::{Advanced, ClaimOutcome, PaymentKey, PaymentRecord, PaymentState, Query, Selection, StoreError, Submission},
};

/// What a client did with its money.
#[derive(Clone, Debug)]
pub struct Bought {
    pub owner: usize,
    pub txid: TxId,
    pub amount: u64,
    /// Depth below the tip that its route asks for.
    pub depth: u64,
}

#[derive(Debug)]
pub(super) struct Payment {
    pub bought: Bought,
    /// Requests for which its owner presented it.
    targets: Vec<String>,
    /// What it was forwarded for.
    served: Option<String>,
    /// Its record as it was last seen.
    seen: Option<PaymentRecord>,
    /// A gateway told its owner to pay anew.
    given_up: bool,
}

fn key_of(txid: &TxId) -> String {
    format!("kas402-{txid}")
}

impl Ledger {
    pub fn bought(&self, bought: Bought) -> String {
        let mut state = self.state();
        let name = format!("p{}", state.payments.len() + 1);
        state.names.insert(bought.txid, name.clone());
        let payment = Payment { targets: Vec::new(), served: None, seen: None, given_up: false, bought };
        state.payments.insert(payment.bought.txid, payment);
        name
    }

    /// Its owner presents it for this request.
    pub fn presents(&self, txid: &TxId, target: &str) {
        let mut state = self.state();
        let payment = state.payments.get_mut(txid).expect("bought before it is presented");
        if !payment.targets.iter().any(|known| known == target) {
            payment.targets.push(target.to_owned());
        }
    }

    /// Payments of others than this client.
    pub fn payments_of_others(&self, who: usize) -> Vec<(TxId, String)> {
        let state = self.state();
        let others = state.payments.values().filter(|payment| payment.bought.owner != who);
        others.filter_map(|payment| Some((payment.bought.txid, payment.targets.first()?.clone()))).collect()
    }

    pub(super) fn may_run_payment(&self, world: &World, key: &str, target: &str) -> Result<(), String> {
        let txid: TxId = key.trim_start_matches("kas402-").parse().map_err(|_| "no payment is named".to_owned())?;
        let deepest = world.net.deepest(&txid);
        let mut state = self.state();
        let payment = state.payments.get_mut(&txid).ok_or("nobody made this payment")?;
        match deepest {
            None => return Err("it was never paid".into()),
            Some(depth) if depth < payment.bought.depth => return Err(format!("it was never deeper than {depth}")),
            Some(_) => {}
        }
        if !payment.targets.iter().any(|known| known == target) {
            if !world.net.was_forgotten(&txid) {
                return Err("its payer never asked for that".into());
            }
            // Whoever sends first what the network forgot looks like its payer (docs/threats.md).
            world.trace.reached("stranger first after a lost mempool");
        }
        match &payment.served {
            Some(other) if other != target => return Err(format!("the same payment was forwarded for {other}")),
            _ => payment.served = Some(target.to_owned()),
        }
        Ok(())
    }

    /// Right after the store took a claim, whether or not the answer arrives.
    pub fn claimed(&self, life: &Life, txid: &TxId, result: &Result<ClaimOutcome, StoreError>) {
        if matches!(result, Ok(ClaimOutcome::Fresh(_) | ClaimOutcome::Resumed(..) | ClaimOutcome::Redeliver(..))) {
            self.state().grants.insert(*txid, life.number);
        }
    }

    /// Right after the store took a step, whether or not the answer arrives.
    pub fn advanced(&self, world: &World, life: &Life, txid: &TxId, name: &str, result: &Result<Advanced, StoreError>) {
        if !matches!(result, Ok(Advanced::Done)) {
            return;
        }
        let mut state = self.state();
        let granted = state.grants.get(txid).or_else(|| state.grants.get(state.aliases.get(txid)?)).copied();
        match name {
            "delivered" => state.job(&key_of(txid)).progress = Progress::Closed,
            "delivered unkept" => state.job(&key_of(txid)).progress = Progress::Unkept,
            _ => {}
        }
        drop(state);
        if granted != Some(life.number) && name != "rejected" && name != "released" {
            world.trace.wrong(format!("{life}: {name} of {} was done, but the store gave the payment to another since", self.name(txid)));
        }
    }

    pub fn payment_trouble(&self, txid: &TxId) {
        self.trouble(&key_of(txid));
    }

    /// A client holds an answer to a request that it paid with this transaction.
    pub async fn answered(&self, world: &World, who: usize, txid: &TxId, got: &Got) {
        let name = self.name(txid);
        let code = got.code();
        let stored = world.store.payment(&PaymentKey { network: Network::Simnet, txid: *txid }).await.ok().flatten();
        let owner = self.state().payments[txid].bought.owner;
        let paid = got.receipt().is_some_and(|receipt| receipt["success"] == true);
        if paid {
            if who != owner && !world.net.was_forgotten(txid) && got.status() < 400 {
                world.trace.wrong(format!("client {who} is served for {name}, which client {owner} paid"));
            }
            match &stored {
                Some(stored) if stored.record.charged => {}
                _ => world.trace.wrong(format!("a receipt for {name} was handed over, and the charge is not durable")),
            }
            if got.status() == 200 && got.stream.is_none() && !self.is_of_job(&key_of(txid), &got.answer.body) {
                world.trace.wrong(format!("an answer for {name} that the API never gave for it"));
            }
        }
        if who == owner && got.offers().is_some() {
            let conflict = world.net.conflict_depth(txid).is_some_and(|depth| depth + 1 >= FINAL_DEPTH);
            let invalid = code == "invalid_kaspa_exact_transaction_rejected" && !world.net.has(txid) && world.net.deepest(txid).is_none();
            if world.net.has(txid) && !conflict {
                world.trace.wrong(format!("client {who} is asked to pay again ({code}) while the network has {name}"));
            } else if stored.is_some_and(|stored| stored.record.state != PaymentState::Reversed) && !conflict && !invalid {
                world.trace.wrong(format!("client {who} is asked to pay again ({code}) while {name} is claimed"));
            }
            self.state().payments.get_mut(txid).expect("known").given_up = true;
        }
    }

    pub(super) async fn check_payments(&self, world: &World) {
        let query = Query { selection: Selection::All, after: 0, limit: 10_000 };
        let Ok(records) = world.store.payments(&query).await else { return };
        let totals = world.store.totals().await.expect("the store under test answers");
        let (mut charged, mut reversed, mut identifiers) = (0_u128, 0_u128, Vec::new());
        let wrong = |what: String| world.trace.wrong(what);
        let deepest: Vec<_> = records.iter().map(|record| world.net.deepest(&record.key.txid)).collect();
        let conflicts: Vec<_> = records.iter().map(|record| world.net.conflict_depth(&record.key.txid)).collect();
        let mut state = self.state();
        for ((record, deepest), conflict) in records.iter().zip(deepest).zip(conflicts) {
            let name = state.names.get(&record.key.txid).cloned().unwrap_or_default();
            let Some(payment) = state.payments.get_mut(&record.key.txid) else {
                wrong(format!("the store has a payment that nobody made: {}", record.key.txid));
                continue;
            };
            if record.charged {
                charged += u128::from(record.amount.sompi());
                if deepest.is_none_or(|depth| depth < payment.bought.depth) {
                    wrong(format!("{name} is charged, and the network accepted it never, or not deep enough: {deepest:?}"));
                }
                if record.amount.sompi() != payment.bought.amount {
                    wrong(format!("{name} is charged with {}", record.amount));
                }
                if let Some(identifier) = &record.identifier {
                    identifiers.push((identifier.clone(), record.identity));
                }
            }
            if record.state == PaymentState::Reversed {
                if record.charged {
                    reversed += u128::from(record.amount.sompi());
                }
                if conflict.is_none_or(|depth| depth < FINAL_DEPTH) {
                    wrong(format!("{name} is reversed, and no conflicting spend is final: {conflict:?}"));
                }
            }
            if let Some(seen) = &payment.seen {
                let back = (seen.charged && !record.charged)
                    || (seen.is_final && !record.is_final)
                    || (seen.state == PaymentState::Delivered && matches!(record.state, PaymentState::Pending | PaymentState::Settled))
                    || (seen.state == PaymentState::Settled && record.state == PaymentState::Pending)
                    || (seen.state == PaymentState::Reversed && record.state != PaymentState::Reversed)
                    || (seen.submission != Submission::None && record.submission == Submission::None);
                if back {
                    wrong(format!("{name} went back from {:?} to {:?}", seen.state, record.state));
                }
            }
            payment.seen = Some(record.clone());
        }
        for payment in state.payments.values() {
            let Some(seen) = &payment.seen else { continue };
            let gone = !records.iter().any(|record| record.key == seen.key);
            if gone && (seen.charged || seen.submission != Submission::None) {
                wrong(format!("the store forgot {}", state.names[&seen.key.txid]));
            }
        }
        let count = identifiers.len();
        identifiers.sort_by_key(|(identifier, identity)| (identifier.as_str().to_owned(), identity.0));
        identifiers.dedup();
        if identifiers.len() != count {
            wrong("one identifier was charged twice for one request".into());
        }
        if (totals.charged_sompi, totals.reversed_sompi) != (charged, reversed) {
            wrong(format!("sums: {totals:?}, but the records say {charged} charged and {reversed} reversed"));
        }
    }

    pub(super) async fn check_payments_at_the_end(&self, world: &World) {
        let state = self.state();
        for (txid, payment) in &state.payments {
            let name = &state.names[txid];
            let Some(seen) = &payment.seen else { continue };
            let is_accepted = world.net.is_accepted(txid);
            let conflict = world.net.conflict_depth(txid).is_some();
            if seen.submission != Submission::None && world.net.was_brought(txid) && !is_accepted && !conflict {
                world.trace.wrong(format!("{name} was sent by a gateway, and nobody brought it to the network again"));
            }
            if is_accepted && seen.submission != Submission::None && !seen.is_final {
                world.trace.wrong(format!("{name} is final, and its record does not say so: {:?}", seen.state));
            }
            if conflict && world.net.ever_had(txid) && seen.submission != Submission::None && seen.state != PaymentState::Reversed {
                world.trace.wrong(format!("{name} lost to another spend, and its record does not say so: {:?}", seen.state));
            }
        }
    }
}
