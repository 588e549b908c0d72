//! The chain of a gateway that has no node: somebody else settles for it.
//!
//! Promises: says nothing about the network, sends nothing, and is ready exactly while it is told to be.

use super::{AcceptedTransaction, Chain, ChainError, Health, OutpointStatus, Sighting, SubmitOutcome, Tip, TxStatus, Utxo};
use crate::protocol::{
    acceptance::{Acceptance, Checkpoint},
    ids::{Outpoint, TxId},
    network::Network,
};
use async_trait::async_trait;
use kaspa_consensus_core::tx::{ScriptPublicKey, Transaction};
use tokio::sync::watch;

/// See the module.
pub struct AbsentChain {
    network: Network,
    health: watch::Sender<Health>,
    tip: watch::Sender<Tip>,
}

const NO_NODE: &str = "this gateway has no node";

impl AbsentChain {
    /// Not ready until [`Self::set_ready`] says so.
    pub fn new(network: Network) -> Self {
        let health = Health { ready: false, reason: Some("facilitator_unavailable: not asked yet".into()), server_version: None };
        Self { network, health: watch::channel(health).0, tip: watch::channel(Tip::default()).0 }
    }

    pub fn set_ready(&self, ready: Result<(), String>) {
        let health = Health { ready: ready.is_ok(), reason: ready.err(), server_version: None };
        self.health.send_if_modified(|current| {
            let changed = *current != health;
            *current = health;
            changed
        });
    }
}

#[async_trait]
impl Chain for AbsentChain {
    fn network(&self) -> Network {
        self.network
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    fn tip(&self) -> watch::Receiver<Tip> {
        self.tip.subscribe()
    }

    async fn submit(&self, _: &Transaction) -> SubmitOutcome {
        SubmitOutcome::Unavailable(NO_NODE.into())
    }

    fn follow(&self, _: &Transaction, _: Option<Acceptance>, _: bool) -> watch::Receiver<TxStatus> {
        watch::channel(TxStatus::Unseen).1
    }

    fn unfollow(&self, _: &TxId) {}

    async fn sighting(&self, _: &Transaction) -> Result<Sighting, ChainError> {
        Err(ChainError::Unavailable(NO_NODE.into()))
    }

    fn watch_outpoint(&self, _: Outpoint, _: &ScriptPublicKey, _: Option<u64>) -> watch::Receiver<OutpointStatus> {
        watch::channel(OutpointStatus::Unknown).1
    }

    fn unwatch_outpoint(&self, _: &Outpoint) {}

    async fn accepted(&self, _: &TxId, _: &Acceptance) -> Result<AcceptedTransaction, ChainError> {
        Err(ChainError::Unavailable(NO_NODE.into()))
    }

    async fn utxos(&self, _: &str) -> Result<Vec<Utxo>, ChainError> {
        Err(ChainError::Unavailable(NO_NODE.into()))
    }

    fn checkpoint(&self) -> Option<Checkpoint> {
        None
    }
}
