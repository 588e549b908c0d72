//! The store against the chain: what was booked and what the network says of it (`kas402 reconcile`).
//!
//! A running gateway follows everything that is open, so differences are what nobody watches any more, what happened where
//! the chain could not be followed, and damage. Absence proves nothing: a difference is repaired only with a fact that the node
//! proves, through the verbs by which the watchers book the same fact. Pages are small, for each question waits for the node.
//! Called by `admin`.

mod payments;

use super::{Gateway, ledger::Cursor};
use crate::{
    chain::Health,
    protocol::{
        amount::Amount,
        ids::{ChannelId, TxId},
    },
    store::{
        Query, Selection, StoreError,
        channels::{ChannelQuery, ChannelSelection, ChannelSighting},
    },
};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::time::Instant;

/// Records of one page that are asked about.
const PAGE: u32 = 32;
/// Records read for one page: what is too old to be asked about is only counted.
const SCAN: u64 = 4_096;
/// A page ends after so long, whatever it has: whoever asked waits for it.
const BUDGET: Duration = Duration::from_secs(20);
/// How long the node is waited for about one record.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Blue score behind the sink up to which the node can tell where something was accepted or spent; as in `chain::kaspa`.
const REACH: u64 = 50_000;

/// Some records, and what is different.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reconciled {
    /// Records that agree or differ.
    pub checked: u64,
    /// Records of which the node can tell nothing (any more), for or against.
    pub unverified: u64,
    pub differences: Vec<Difference>,
    /// `None` at the end.
    pub next: Option<Cursor>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    pub what: What,
    /// Of a payment.
    pub txid: Option<TxId>,
    pub channel: Option<ChannelId>,
    /// What is at stake.
    pub amount: Amount,
    /// For people.
    pub store: String,
    pub chain: String,
    pub remedy: Remedy,
}

/// What is different; the codes are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The chain accepted a payment, and the store does not know it.
    AcceptanceMissing,
    /// The chain accepted a payment in another block than the store says.
    AcceptanceDiffers,
    /// Another transaction spent a payment's coins.
    Conflict,
    /// A charged payment is not on the chain; who spent its coins is not known.
    NotOnChain,
    /// A payment that was booked back is on the chain.
    ReversedButAccepted,
    /// A stored transaction cannot be read.
    Unreadable,
    /// The client, or somebody else, spent the escrow.
    EscrowSpent,
    /// The escrow is not in the utxo set, and no spend of it is found.
    EscrowMissing,
    /// The escrow holds another amount, or is locked by another script, than the store says.
    EscrowDiffers,
    /// The escrow of a channel that counts as closed is there.
    EscrowThere,
    /// The deposit was accepted, and the store does not know it.
    DepositMissing,
    /// The deposit was taken back, or can never come.
    DepositGone,
    /// A claim or top-up was accepted, and the store does not know it.
    ClaimMissing,
    /// A claim or top-up was taken back, or can never be accepted.
    ClaimGone,
}

impl What {
    pub fn as_str(self) -> String {
        serde_json::to_value(self).ok().and_then(|code| code.as_str().map(str::to_owned)).unwrap_or_default()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remedy {
    /// The node proves it: `--repair` books it.
    Provable,
    Repaired,
    /// Will be provable once it is deep enough.
    NotFinal,
    /// Nothing proves it: a person has to look.
    ByHand,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    #[error("the node is not usable: {0}")]
    Node(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Gateway {
    /// Compares a page of records after a place. With `repair`, books what the node proves.
    pub async fn reconcile(&self, after: Cursor, repair: bool) -> Result<Reconciled, ReconcileError> {
        if let Health { ready: false, reason, .. } = &*self.chain.health().borrow() {
            return Err(ReconcileError::Node(reason.clone().unwrap_or_else(|| "node_unavailable".into())));
        }
        match after {
            Cursor::Payment(sequence) => self.reconcile_payments(sequence, repair).await,
            Cursor::Charge { channel, .. } => self.reconcile_channels(channel, repair).await,
        }
    }

    async fn reconcile_payments(&self, mut after: u64, repair: bool) -> Result<Reconciled, ReconcileError> {
        let mut found = Reconciled::default();
        let (mut asked, mut read) = (0, 0);
        let oldest = self.tip().blue_score.saturating_sub(REACH);
        let begun = Instant::now();
        while asked < PAGE && read < SCAN && begun.elapsed() < BUDGET {
            let page = self.ask(self.store.payments(&Query { selection: Selection::All, after, limit: PAGE })).await?;
            if page.is_empty() {
                found.next = Some(Cursor::Charge { channel: 0, number: 0 });
                return Ok(found);
            }
            for record in &page {
                (after, read) = (record.sequence, read + 1);
                // Nothing on the chain is asked about what no node can tell.
                if record.is_final && record.acceptance.is_some_and(|at| at.blue_score < oldest) {
                    found.unverified += 1;
                    continue;
                }
                asked += 1;
                match self.compare_payment(record, repair).await? {
                    payments::Compared::Agrees => found.checked += 1,
                    payments::Compared::Unsure => found.unverified += 1,
                    payments::Compared::Differs(difference) => {
                        found.checked += 1;
                        found.differences.push(difference);
                    }
                }
                if asked >= PAGE || begun.elapsed() >= BUDGET {
                    break;
                }
            }
        }
        found.next = Some(Cursor::Payment(after));
        Ok(found)
    }

    async fn reconcile_channels(&self, after: u64, repair: bool) -> Result<Reconciled, ReconcileError> {
        let mut found = Reconciled::default();
        // A channel that is closed for good has nothing on the chain any more.
        let query = ChannelQuery { selection: ChannelSelection::Open, after, limit: PAGE };
        let page = self.ask(self.store.channels(&query)).await?;
        let begun = Instant::now();
        for record in &page {
            found.next = Some(Cursor::Charge { channel: record.sequence, number: 0 });
            let audit = self.audit_channel(record, repair).await?;
            if audit.sure {
                found.checked += 1;
            } else {
                found.unverified += 1;
            }
            found.differences.extend(audit.differences);
            if begun.elapsed() >= BUDGET {
                break;
            }
        }
        Ok(found)
    }
}

/// What a fact of a channel that the store lacks is called; `None` for what only says that something is deep enough, which its
/// watcher books in its own time.
pub(super) fn what_of(fact: &ChannelSighting) -> Option<What> {
    Some(match fact {
        ChannelSighting::Funded { .. } => What::DepositMissing,
        ChannelSighting::Unfunded | ChannelSighting::NeverFunded => What::DepositGone,
        ChannelSighting::MoveAccepted { .. } => What::ClaimMissing,
        ChannelSighting::MoveTakenBack { .. } | ChannelSighting::MoveDropped { .. } => What::ClaimGone,
        ChannelSighting::Closed(_) => What::EscrowSpent,
        ChannelSighting::Reopened => What::EscrowThere,
        ChannelSighting::DepositFinal | ChannelSighting::MoveFinal { .. } => return None,
    })
}
