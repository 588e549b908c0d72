//! One exact payment against the chain.

use super::{Difference, PATIENCE, ReconcileError, Remedy, What};
use crate::{
    binding::exact_v1::decode,
    chain::{OutpointStatus, TxStatus},
    gateway::{Gateway, follow::Watch},
    protocol::ids::{Outpoint, TxId},
    store::{Acceptance, ChainFact, Observed, PaymentRecord, PaymentState},
};
use futures::future::{FutureExt, select_all};
use kaspa_addresses::Address;
use kaspa_consensus_core::tx::{ScriptPublicKey, Transaction};
use kaspa_txscript::pay_to_address_script;
use tokio::time::{Instant, timeout_at};

pub(super) enum Compared {
    Agrees,
    /// The node can tell nothing.
    Unsure,
    Differs(Difference),
}

/// What the chain says of a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Accepted; where, when the node could tell.
    There(Option<Acceptance>),
    /// Another transaction spent one of its coins, which is accepted there.
    Conflict {
        by: TxId,
        acceptance: Acceptance,
    },
    /// One of its coins is unspent, or its output was never there: not accepted, now.
    Absent,
    Unsure,
}

impl Gateway {
    pub(super) async fn compare_payment(&self, record: &PaymentRecord, repair: bool) -> Result<Compared, ReconcileError> {
        if record.from_channel.is_some() {
            // On the chain it is in the books of the gateway that keeps the channel.
            return Ok(Compared::Unsure);
        }
        let transaction = match decode::read_stored(&record.transaction) {
            Ok(transaction) => transaction,
            Err(error) => return Ok(Compared::Differs(difference(record, What::Unreadable, error.to_string(), Remedy::ByHand))),
        };
        let verdict = self.verdict(record, &transaction).await;
        let Some((what, chain, fact)) = judge(record, &verdict) else {
            return Ok(if verdict == Verdict::Unsure { Compared::Unsure } else { Compared::Agrees });
        };
        let deep = match verdict {
            Verdict::Conflict { acceptance, .. } => self.tip().blue_score >= acceptance.blue_score.saturating_add(self.limits.final_depth),
            _ => true,
        };
        let remedy = match fact {
            None => Remedy::ByHand,
            Some(_) if !deep => Remedy::NotFinal,
            Some(_) if !repair => Remedy::Provable,
            Some(fact) => {
                tracing::warn!(txid = %record.key.txid, ?fact, "booked by reconciliation");
                match self.ask(self.store.observe(&record.key, fact, self.now())).await? {
                    Observed::Done | Observed::Unchanged => Remedy::Repaired,
                    Observed::NotFound => Remedy::ByHand,
                }
            }
        };
        Ok(Compared::Differs(difference(record, what, chain, remedy)))
    }

    /// The node's word: what became of its output and of its coins. That a block has the transaction proves nothing: the block
    /// may have left the virtual chain.
    async fn verdict(&self, record: &PaymentRecord, transaction: &Transaction) -> Verdict {
        let txid = record.key.txid;
        let follow = self.follows.follow(transaction, record.acceptance, false);
        let followed = *follow.status.borrow();
        match followed {
            // What was given is only repeated; anything else is news.
            TxStatus::Accepted(acceptance) if record.acceptance != Some(acceptance) => return Verdict::There(Some(acceptance)),
            TxStatus::Conflicted { by, acceptance } => return Verdict::Conflict { by, acceptance },
            TxStatus::Accepted(_) | TxStatus::Unseen => {}
        }
        let known_unspent = Some(record.acceptance.map_or(record.offer_daa, |at| at.daa_score.min(record.offer_daa)));
        let output = Outpoint { txid, index: record.output_index };
        let mut watches = Vec::new();
        if let Some(script) = script(&record.pay_to) {
            watches.push((output, self.follows.watch(output, &script, known_unspent)));
        }
        if let Some(script) = record.payer.as_deref().and_then(script) {
            for input in &transaction.inputs {
                let coin = Outpoint { txid: input.previous_outpoint.transaction_id.into(), index: input.previous_outpoint.index };
                watches.push((coin, self.follows.watch(coin, &script, known_unspent)));
            }
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen: Vec<_> = watches.iter_mut().map(|(at, watch)| (*at, watch.status.borrow_and_update().clone())).collect();
            if let Some(verdict) = read(txid, &output, &seen) {
                return verdict;
            }
            if watches.is_empty() || timeout_at(deadline, changed(&mut watches)).await.is_err() {
                let absent = seen.iter().any(|(at, status)| *at == output && matches!(status, OutpointStatus::Absent));
                return if absent { Verdict::Absent } else { Verdict::Unsure };
            }
        }
    }
}

/// Ends when the chain says something new of one of them; never, when it went away.
async fn changed(watches: &mut [(Outpoint, Watch)]) {
    let all = watches.iter_mut().map(|(_, watch)| watch.status.changed().boxed());
    if select_all(all).await.0.is_err() {
        std::future::pending::<()>().await;
    }
}

fn script(address: &str) -> Option<ScriptPublicKey> {
    Address::try_from(address).ok().map(|address| pay_to_address_script(&address))
}

/// What decides at once; `None`: wait.
fn read(txid: TxId, output: &Outpoint, seen: &[(Outpoint, OutpointStatus)]) -> Option<Verdict> {
    let place = seen.iter().find_map(|(at, status)| match status {
        OutpointStatus::Spent { by, acceptance } if at != output && *by == txid => Some(*acceptance),
        _ => None,
    });
    if place.is_some() {
        return Some(Verdict::There(place));
    }
    seen.iter().find_map(|(at, status)| match status {
        // Spent or not, it was made.
        OutpointStatus::Unspent(_) | OutpointStatus::Spent { .. } if at == output => Some(Verdict::There(None)),
        OutpointStatus::Spent { by, acceptance } => Some(Verdict::Conflict { by: *by, acceptance: *acceptance }),
        OutpointStatus::Unspent(_) => Some(Verdict::Absent),
        OutpointStatus::Absent | OutpointStatus::Unknown => None,
    })
}

/// What is different, the chain's side in words, and the fact that would repair it if the node proves one.
fn judge(record: &PaymentRecord, verdict: &Verdict) -> Option<(What, String, Option<ChainFact>)> {
    let charged = matches!(record.state, PaymentState::Settled | PaymentState::Delivered);
    match (*verdict, record.state) {
        (Verdict::There(_), PaymentState::Reversed) => Some((What::ReversedButAccepted, "accepted".to_owned(), None)),
        (Verdict::There(Some(at)), _) if record.acceptance != Some(at) => {
            let what = if record.acceptance.is_none() { What::AcceptanceMissing } else { What::AcceptanceDiffers };
            // A final record is changed by nothing but its reversal: that it is accepted elsewhere is no loss.
            (!record.is_final).then(|| (what, format!("accepted at blue score {}", at.blue_score), Some(ChainFact::Accepted(at))))
        }
        (Verdict::There(None), _) if record.acceptance.is_none() => {
            Some((What::AcceptanceMissing, "accepted, the node does not tell where".to_owned(), None))
        }
        (Verdict::There(_), _) => None,
        (Verdict::Conflict { by, acceptance }, state) if state != PaymentState::Reversed => {
            let chain = format!("its coin was spent by {by} at blue score {}", acceptance.blue_score);
            Some((What::Conflict, chain, Some(ChainFact::Reversed { by })))
        }
        (Verdict::Absent, _) if charged && record.acceptance.is_some() => {
            Some((What::NotOnChain, "neither its output nor a spend of its coins is found".to_owned(), None))
        }
        // A payment that is not accepted yet, or was for the mempool only, may still come.
        (Verdict::Conflict { .. } | Verdict::Absent | Verdict::Unsure, _) => None,
    }
}

fn difference(record: &PaymentRecord, what: What, chain: String, remedy: Remedy) -> Difference {
    let place = record.acceptance.map_or("not accepted".to_owned(), |at| format!("accepted at blue score {}", at.blue_score));
    let state = match record.state {
        PaymentState::Pending => "pending",
        PaymentState::Settled => "settled",
        PaymentState::Delivered => "delivered",
        PaymentState::Reversed => "reversed",
    };
    let is_final = if record.is_final { ", final" } else { "" };
    Difference {
        what,
        txid: Some(record.key.txid),
        channel: None,
        amount: record.amount,
        store: format!("{state}, {place}{is_final}"),
        chain,
        remedy,
    }
}
