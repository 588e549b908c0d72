//! The Kaspa network behind one narrow trait.
//!
//! Amounts, scripts and acceptance come from the node, never from a payload. Errors say
//! *rejected* (a proof), *unknown* (keep the hold) or *unavailable* (nothing was sent); absence
//! is never rejection. `kaspa` is the only place that names node crates; `sim` injects faults.

pub mod absent;
pub mod kaspa;
pub mod sim;

use crate::protocol::{
    acceptance::{Acceptance, Checkpoint},
    amount::Amount,
    ids::{Outpoint, TxId},
    network::Network,
};
use async_trait::async_trait;
use kaspa_consensus_core::tx::{ScriptPublicKey, Transaction};
use tokio::sync::watch;

/// The network. Cheap to call: reads that can be pushed are kept current in the background.
#[async_trait]
pub trait Chain: Send + Sync + 'static {
    fn network(&self) -> Network;

    /// Whether priced routes may be sold right now, kept current.
    fn health(&self) -> watch::Receiver<Health>;

    /// Scores of the virtual chain, kept current; only moves while caught up.
    fn tip(&self) -> watch::Receiver<Tip>;

    /// Submits to every configured node, within the submit deadline. Follow the transaction first.
    async fn submit(&self, transaction: &Transaction) -> SubmitOutcome;

    /// [`Chain::submit`] of what pays a greater fee rate than another spend of the same input in the nodes' mempools, which it takes the place
    /// of. Where there is no other it is like any submit.
    async fn replace(&self, transaction: &Transaction) -> SubmitOutcome {
        self.submit(transaction).await
    }

    /// Follows a transaction until [`Chain::unfollow`]: its status is pushed, survives reconnects,
    /// restarts of the node and reorgs, and while it is [`TxStatus::Unseen`] and `resubmit` is set it is
    /// sent again, byte for byte, on every reconnect and after being taken back. Following twice is harmless, and the latest bytes are the ones resubmitted (an id does not cover signatures);
    /// `resubmit` can only be raised; raise it after the first submit was answered, otherwise a reconnect in between
    /// sends the transaction first and your own submit is told [`SubmitOutcome::Known`].
    fn follow(&self, transaction: &Transaction, known: Option<Acceptance>, resubmit: bool) -> watch::Receiver<TxStatus>;

    fn unfollow(&self, txid: &TxId);

    /// Whether the network knows this transaction at all: mempool, or any of its outputs in the utxo set.
    async fn sighting(&self, transaction: &Transaction) -> Result<Sighting, ChainError>;

    /// Watches one output until [`Chain::unwatch_outpoint`]: its status is pushed and survives reconnects, restarts of the
    /// node and reorgs. `script` is the one its address is derived from (without an address it stays
    /// unknown); what the output really pays to is in
    /// [`OutpointStatus::Unspent`]. `known_unspent` is a DAA score at which the caller knows that it existed and was unspent
    /// (the funding's, or a later one): with it a spend from before is searched, without it none, so that naming
    /// outputs that never were costs the node nothing. Watching twice is harmless and keeps the later score.
    fn watch_outpoint(&self, outpoint: Outpoint, script: &ScriptPublicKey, known_unspent: Option<u64>) -> watch::Receiver<OutpointStatus>;

    fn unwatch_outpoint(&self, outpoint: &Outpoint);

    /// What an accepted transaction spent and made, from the node, not from what anybody presented.
    async fn accepted(&self, txid: &TxId, acceptance: &Acceptance) -> Result<AcceptedTransaction, ChainError>;

    /// Unspent outputs of an address (needs the node's utxo index).
    async fn utxos(&self, address: &str) -> Result<Vec<Utxo>, ChainError>;

    /// The block to continue from after a restart.
    fn checkpoint(&self) -> Option<Checkpoint>;
}

/// `ready` only while connected, on the right network, synced, with utxo index and caught up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    pub ready: bool,
    /// Why not, for people; stable words first (`disconnected`, `wrong_network`, `not_synced`, `no_utxo_index`, `catching_up`, `clock_skew`, `nodes_disagree`).
    pub reason: Option<String>,
    pub server_version: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tip {
    /// Virtual DAA score.
    pub daa_score: u64,
    /// Blue score of the sink.
    pub blue_score: u64,
}

/// What the virtual chain says of a followed transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxStatus {
    /// Not accepted; says nothing about the mempool.
    Unseen,
    Accepted(Acceptance),
    /// Another transaction that spends one of the same inputs is accepted, at this place.
    Conflicted {
        by: TxId,
        acceptance: Acceptance,
    },
}

/// What the network says of a watched output. Money is promised only by `Unspent`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutpointStatus {
    /// Not known now: not asked yet, or it was unspent, is gone from the utxo set, and its spend is not on the virtual
    /// chain yet or not found yet. Lasts a moment while blocks are made.
    Unknown,
    /// Neither in the utxo set nor known to be spent: not accepted yet, taken back by a reorg, or spent where nobody looked
    /// (see `known_unspent` of [`Chain::watch_outpoint`]). Never a proof: after a reorg it may become any of the others.
    Absent,
    Unspent(Utxo),
    /// By this transaction, which was accepted at this place; see [`Chain::accepted`].
    Spent {
        by: TxId,
        acceptance: Acceptance,
    },
}

/// The node's answer to a submit. kaspad's errors are strings; `kaspa::submit_errors` is the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubmitOutcome {
    /// The node had not known it.
    New,
    /// The node had it in its mempool, or in some block already.
    Known,
    /// Proof that it can never be valid (malformed, bad signature, bad mass...), never an orphan or a double spend.
    Rejected(String),
    /// Anything else, a time-out or a lost connection included: it may have been sent.
    Unknown(String),
    /// Nothing was sent.
    Unavailable(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sighting {
    Mempool,
    UtxoSet,
    NotSeen,
}

/// A transaction as the virtual chain accepted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedTransaction {
    pub inputs: Vec<AcceptedInput>,
    pub outputs: Vec<Output>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedInput {
    pub outpoint: Outpoint,
    pub signature_script: Vec<u8>,
    /// The output it spent. A node that has the transaction may still be unable to tell: kaspad fails for the whole accepting
    /// block when anything in it touches a script without an address.
    pub spent: Option<Output>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    pub amount: Amount,
    pub script_public_key: ScriptPublicKey,
    pub covenant: bool,
}

impl AcceptedTransaction {
    /// The outputs it spent, in the order of its inputs; all or none.
    pub fn into_spent(self) -> Option<Vec<Output>> {
        self.inputs.into_iter().map(|input| input.spent).collect()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Utxo {
    pub outpoint: Outpoint,
    pub amount: Amount,
    pub script_public_key: ScriptPublicKey,
    pub daa_score: u64,
    pub is_coinbase: bool,
    pub covenant: bool,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum ChainError {
    /// Nothing was learned; try again.
    #[error("the node is unavailable: {0}")]
    Unavailable(String),
    /// The node no longer has the data (pruned) or never had it.
    #[error("the node does not have it: {0}")]
    NotFound(String),
}
