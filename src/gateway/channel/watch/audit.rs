//! One channel's record against the chain, for reconciliation: the same comparison that its watcher makes, asked for anew.

use super::{Gateway, facts, view::View};
use crate::{
    chain::OutpointStatus,
    gateway::reconcile::{Difference, PATIENCE, ReconcileError, Remedy, What, what_of},
    store::{
        Observed,
        channels::{ChannelRecord, ChannelSighting},
    },
};
use std::sync::Arc;
use tokio::time::{Instant, timeout_at};

/// Facts of one channel that follow from each other.
const STEPS: usize = 16;

/// What came of it.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Audit {
    /// The node could tell what became of the escrow.
    pub sure: bool,
    pub differences: Vec<Difference>,
}

impl Gateway {
    /// Compares; with `repair`, books what the node says.
    pub(in crate::gateway) async fn audit_channel(&self, record: &Arc<ChannelRecord>, repair: bool) -> Result<Audit, ReconcileError> {
        let script = match self.script(record) {
            Ok(script) => script,
            Err(error) => {
                let damaged = difference(record, What::Unreadable, error.to_string(), Remedy::ByHand);
                return Ok(Audit { sure: true, differences: vec![damaged] });
            }
        };
        let (mut view, mut record, mut audit) = (View::new(false), record.clone(), Audit::default());
        for _ in 0..STEPS {
            view.adjust(self, &record, &script);
            let deadline = Instant::now() + PATIENCE;
            let seen = loop {
                let seen = view.seen(self.tip(), self.now(), self.limits.final_depth);
                audit.sure = !matches!(seen.outputs.get(&record.outpoint), None | Some(OutpointStatus::Unknown));
                if audit.sure || timeout_at(deadline, view.changed()).await.is_err() {
                    break seen;
                }
            };
            // The watcher of this channel may have booked the same meanwhile.
            let Some(now) = self.ask(self.store.channel(&record.id)).await? else { return Ok(audit) };
            if now != record {
                record = now;
                continue;
            }
            let news = facts::news(&record, &seen).facts;
            let mut facts = news.iter().filter_map(|fact| Some((what_of(fact)?, fact)));
            let Some((what, fact)) = facts.next() else {
                audit.differences.extend(escrow(&record, script.script_public_key(), seen.outputs.get(&record.outpoint)));
                return Ok(audit);
            };
            let chain = words(fact);
            if !repair {
                audit.differences.push(difference(&record, what, chain, Remedy::Provable));
                audit.differences.extend(facts.map(|(what, fact)| difference(&record, what, words(fact), Remedy::Provable)));
                return Ok(audit);
            }
            let stored = self.sight(&record, fact.clone()).await == Observed::Done;
            let after = self.ask(self.store.channel(&record.id)).await?;
            // Its watcher may have been the faster one: the books say so all the same.
            let booked = stored || after.as_ref() != Some(&record);
            audit.differences.push(difference(&record, what, chain, if booked { Remedy::Repaired } else { Remedy::ByHand }));
            match after {
                Some(after) if booked => {
                    // Its watcher has to look at the new record.
                    self.watch_channel(&after);
                    record = after;
                }
                _ => return Ok(audit),
            }
        }
        Ok(audit)
    }
}

/// What no fact explains.
fn escrow(
    record: &ChannelRecord,
    script: &kaspa_consensus_core::tx::ScriptPublicKey,
    status: Option<&OutpointStatus>,
) -> Option<Difference> {
    match status {
        Some(OutpointStatus::Unspent(utxo)) if utxo.amount != record.parts.funding || utxo.script_public_key != *script => {
            Some(difference(record, What::EscrowDiffers, format!("holds {}", utxo.amount.to_kas()), Remedy::ByHand))
        }
        Some(OutpointStatus::Absent) if record.closure.is_none() && record.deposit.funded_daa.is_some() => {
            let chain = "not in the utxo set, and no spend of it is found".to_owned();
            Some(difference(record, What::EscrowMissing, chain, Remedy::ByHand))
        }
        _ => None,
    }
}

fn words(fact: &ChannelSighting) -> String {
    match fact {
        ChannelSighting::Funded { daa_score } => format!("deposit accepted at DAA score {daa_score}"),
        ChannelSighting::Unfunded => "deposit taken back".to_owned(),
        ChannelSighting::NeverFunded => "deposit never came".to_owned(),
        ChannelSighting::MoveAccepted { txid, acceptance } => format!("{txid} accepted at blue score {}", acceptance.blue_score),
        ChannelSighting::MoveTakenBack { txid } => format!("{txid} is not accepted"),
        ChannelSighting::MoveDropped { txid } => format!("{txid} can never be accepted"),
        ChannelSighting::Closed(closure) => format!("spent by {} at blue score {}", closure.by, closure.acceptance.blue_score),
        ChannelSighting::Reopened => "unspent".to_owned(),
        ChannelSighting::DepositFinal | ChannelSighting::MoveFinal { .. } => "deep enough".to_owned(),
    }
}

fn difference(record: &ChannelRecord, what: What, chain: String, remedy: Remedy) -> Difference {
    let closed = if record.closure.is_some() { "closed" } else { "open" };
    Difference {
        what,
        txid: None,
        channel: Some(record.id),
        amount: record.active(),
        store: format!("{closed}, escrow {} with {}", record.outpoint, record.parts.funding.to_kas()),
        chain,
        remedy,
    }
}
