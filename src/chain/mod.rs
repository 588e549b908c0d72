//! The Kaspa network behind one narrow trait.
//!
//! Amounts, scripts and acceptance come from the node, never from a payload. Errors say
//! *rejected* (a proof), *unknown* (keep the hold) or *unavailable* (nothing was sent); absence
//! is never rejection. `kaspa` is the only place that names node crates; `sim` injects faults.

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

    /// Follows a transaction until [`Chain::unfollow`]: its status is pushed, survives reconnects,
    /// restarts of the node and reorgs, and while it is [`TxStatus::Unseen`] and `resubmit` is set it is
    /// sent again, byte for byte, on every reconnect and after being taken back. Following twice is harmless, and the latest bytes are the ones resubmitted (an id does not cover signatures);
    /// `resubmit` can only be raised; raise it after the first submit was answered, otherwise a reconnect in between
    /// sends the transaction first and your own submit is told [`SubmitOutcome::Known`].
    fn follow(&self, transaction: &Transaction, known: Option<Acceptance>, resubmit: bool) -> watch::Receiver<TxStatus>;

    fn unfollow(&self, txid: &TxId);

    /// Whether the network knows this transaction at all: mempool, or any of its outputs in the utxo set.
    async fn sighting(&self, transaction: &Transaction) -> Result<Sighting, ChainError>;

    /// The outputs an accepted transaction spent, from the node, in the order of its inputs.
    async fn spent_outputs(&self, txid: &TxId, acceptance: &Acceptance) -> Result<Vec<SpentOutput>, ChainError>;

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

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpentOutput {
    pub outpoint: Outpoint,
    pub amount: Amount,
    pub script_public_key: ScriptPublicKey,
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
