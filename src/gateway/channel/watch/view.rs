//! What the chain is asked about one channel, and its answers.
//!
//! An idle channel is one watched output. Transactions are followed, and sent again, while they are not final.

use super::facts::Seen;
use crate::{
    binding::{escrow_v1::EscrowScript, exact_v1::decode},
    chain::{OutpointStatus, Tip, TxStatus},
    gateway::{
        Gateway,
        follow::{Follow, Watch},
    },
    protocol::{
        ids::{Outpoint, TxId},
        time::UnixMillis,
    },
    store::{
        Acceptance,
        channels::{ChannelRecord, Move, MoveState},
    },
};
use futures::future::{BoxFuture, FutureExt, select_all};
use kaspa_consensus_core::tx::Transaction;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// A transaction that is not accepted is sent again so often: a mempool tells nobody what it drops or would take later.
const RESEND: Duration = Duration::from_secs(30);

/// Follows and watches of one channel; their drop ends them.
pub(super) struct View {
    sent: Vec<Sent>,
    outputs: Vec<(Outpoint, Watch)>,
    /// Taken up after a restart: nobody else sends what was built before.
    taken_up: bool,
}

/// A transaction that is seen through to its end.
struct Sent {
    txid: TxId,
    transaction: Arc<Transaction>,
    follow: Follow,
    resend_at: Instant,
}

impl View {
    pub fn new(taken_up: bool) -> Self {
        Self { sent: Vec::new(), outputs: Vec::new(), taken_up }
    }

    /// Asks for what the record needs now, and for nothing else.
    pub fn adjust(&mut self, gateway: &Gateway, record: &ChannelRecord, script: &EscrowScript) {
        let outpoints: Vec<Outpoint> = needed_outputs(record).collect();
        self.outputs.retain(|(outpoint, _)| outpoints.contains(outpoint));
        for outpoint in outpoints {
            if self.outputs.iter().all(|(other, _)| *other != outpoint) {
                let watch = gateway.follows.watch(outpoint, script.script_public_key(), unspent_at(record, &outpoint));
                self.outputs.push((outpoint, watch));
            }
        }
        let deposit = record.deposit.transaction.as_ref().map(|bytes| (record.deposit.outpoint.txid, bytes, None));
        let moves = record.moves.iter().map(|step| (step.txid, &step.transaction, acceptance(step)));
        let needed: Vec<_> = deposit.into_iter().chain(moves).collect();
        self.sent.retain(|sent| needed.iter().any(|(txid, ..)| *txid == sent.txid));
        for (txid, bytes, known) in needed {
            if self.sent.iter().all(|sent| sent.txid != txid) {
                self.follow(gateway, txid, bytes, known);
            }
        }
        self.taken_up = false;
    }

    fn follow(&mut self, gateway: &Gateway, txid: TxId, bytes: &[u8], known: Option<Acceptance>) {
        let transaction = match decode::read_stored(bytes) {
            Ok(transaction) => Arc::new(transaction),
            Err(error) => return tracing::error!(%error, %txid, "stored transaction cannot be read"),
        };
        let follow = gateway.follows.follow(&transaction, known, true);
        let resend_at = if self.taken_up { Instant::now() } else { Instant::now() + RESEND };
        self.sent.push(Sent { txid, transaction, follow, resend_at });
    }

    /// The answers so far; [`Self::changed`] ends with the next.
    pub fn seen(&mut self, tip: Tip, now: UnixMillis, final_depth: u64) -> Seen {
        Seen {
            transactions: self.sent.iter_mut().map(|sent| (sent.txid, *sent.follow.status.borrow_and_update())).collect(),
            outputs: self.outputs.iter_mut().map(|(at, watch)| (*at, watch.status.borrow_and_update().clone())).collect(),
            tip,
            now,
            final_depth,
        }
    }

    /// What is due to be sent again; its next time is set.
    pub fn take_to_resend(&mut self) -> Vec<(TxId, Arc<Transaction>)> {
        let now = Instant::now();
        let due = self.sent.iter_mut().filter(|sent| sent.resend_at <= now && sent.is_unseen());
        due.map(|sent| {
            sent.resend_at = now + RESEND;
            (sent.txid, sent.transaction.clone())
        })
        .collect()
    }

    pub fn resend_at(&self) -> Option<Instant> {
        self.sent.iter().filter(|sent| sent.is_unseen()).map(|sent| sent.resend_at).min()
    }

    /// The chain has told of every output.
    pub fn knows(&self) -> bool {
        self.outputs.iter().all(|(_, watch)| *watch.status.borrow() != OutpointStatus::Unknown)
    }

    pub fn is_idle(&self) -> bool {
        self.sent.is_empty() && self.outputs.len() <= 1
    }

    /// Ends when the chain says something new.
    pub async fn changed(&mut self) {
        if let (true, [(_, only)]) = (self.sent.is_empty(), &mut self.outputs[..]) {
            // Nothing is allocated for a channel that sleeps.
            if only.status.changed().await.is_ok() {
                return;
            }
            return std::future::pending().await;
        }
        let outputs = self.outputs.iter_mut().map(|(_, watch)| watch.status.changed().boxed());
        let all: Vec<BoxFuture<'_, _>> = self.sent.iter_mut().map(|sent| sent.follow.status.changed().boxed()).chain(outputs).collect();
        if all.is_empty() || select_all(all).await.0.is_err() {
            // A chain that went away says nothing any more.
            std::future::pending::<()>().await;
        }
    }
}

impl Sent {
    fn is_unseen(&self) -> bool {
        *self.follow.status.borrow() == TxStatus::Unseen
    }
}

fn acceptance(step: &Move) -> Option<Acceptance> {
    match step.state {
        MoveState::Accepted(acceptance) => Some(acceptance),
        MoveState::Built | MoveState::TakenBack => None,
    }
}

/// The active outpoint and those that a reorg could make active again.
fn needed_outputs(record: &ChannelRecord) -> impl Iterator<Item = Outpoint> {
    let spent = record.moves.iter().map(|step| step.spends);
    let mut outpoints: Vec<Outpoint> = spent.chain([record.outpoint]).collect();
    outpoints.sort_unstable();
    outpoints.dedup();
    outpoints.into_iter()
}

/// A DAA score from which on a spend of this output may be found; `None` while nobody knows that it was ever there.
fn unspent_at(record: &ChannelRecord, outpoint: &Outpoint) -> Option<u64> {
    if *outpoint == record.deposit.outpoint {
        return record.deposit.funded_daa;
    }
    match record.moves.iter().find(|step| step.continuation == *outpoint) {
        Some(made_by) => acceptance(made_by).map(|acceptance| acceptance.daa_score),
        // The move that made it is final and forgotten; it came after the deposit, and a search never begins too early.
        None => Some(record.deposit.funded_daa.unwrap_or_default()),
    }
}
