//! The real network over wRPC: the only folder that names node crates.
//!
//! Promises what [`Chain`] says. It connects in the background for ever (`link`), follows the virtual
//! chain of one node at a time (`follower`, `tracker`), looks back where it must (`search`), and knows
//! what kaspad's sentences prove (`submit_errors`). It never believes a payload about amounts, scripts
//! or acceptance, never takes absence for rejection, and never panics because a node went away.
//!
//! Limits, on purpose: a transaction accepted before our start is found while one of its outputs is
//! unspent or while it is younger than about 50,000 blue score; a conflicting spend is found back to
//! the beginning of the kept chain (6,000 blue score before a start without checkpoint, and the checkpoint otherwise), and the
//! spend of a watched output that was known to be unspent as far back as an acceptance.

mod followed;
mod follower;
mod link;
mod node;
mod outputs;
mod search;
mod shared;
mod submit_errors;
mod tracker;

use super::{AcceptedTransaction, Chain, ChainError, Health, OutpointStatus, Sighting, SubmitOutcome, Tip, TxStatus, Utxo};
use crate::protocol::{
    acceptance::{Acceptance, Checkpoint},
    ids::{Outpoint, TxId},
    network::Network,
    time::UnixMillis,
};
use async_trait::async_trait;
use kaspa_addresses::Address;
use kaspa_consensus_core::tx::{ScriptPublicKey, Transaction};
use kaspa_txscript::extract_script_pub_key_address;
use shared::{Shared, lock, resubmit_on_connect};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
};

/// The clock as an argument.
pub type Now = Arc<dyn Fn() -> UnixMillis + Send + Sync>;

/// How to reach the network.
#[derive(Clone)]
pub struct Options {
    pub network: Network,
    /// wRPC (Borsh) URLs, most trusted first.
    pub urls: Vec<String>,
    /// Without URLs: use nodes of strangers, found by the public resolver.
    pub trust_public_nodes: bool,
    /// Deadline of [`Chain::submit`] over all nodes.
    pub submit_deadline: Duration,
    /// Where the last process stopped.
    pub checkpoint: Option<Checkpoint>,
    pub now: Now,
}

impl Options {
    /// The usual options for these nodes.
    pub fn new(network: Network, urls: Vec<String>, now: Now) -> Self {
        Self { network, urls, trust_public_nodes: false, submit_deadline: Duration::from_secs(5), checkpoint: None, now }
    }
}

/// The network through one or several nodes.
pub struct KaspaChain {
    shared: Arc<Shared>,
    tasks: Vec<AbortHandle>,
}

impl KaspaChain {
    /// Starts connecting in the background, for ever; must be called inside a tokio runtime. Dropping it disconnects.
    pub fn connect(options: Options) -> Arc<Self> {
        let options = Arc::new(options);
        let urls: Vec<_> = if options.urls.is_empty() && options.trust_public_nodes {
            vec![None]
        } else {
            options.urls.iter().cloned().map(Some).collect()
        };
        let links = urls.into_iter().map(|url| link::start(options.clone(), url)).collect();
        let health = Health { ready: false, reason: Some("disconnected: not tried yet".into()), server_version: None };
        let shared = Arc::new(Shared {
            checkpoint: Mutex::new(options.checkpoint),
            options,
            links,
            tracker: Mutex::default(),
            standing: Mutex::default(),
            health: watch::Sender::new(health),
            tip: watch::Sender::new(Tip::default()),
            wake: Notify::new(),
        });
        let mut tasks = vec![tokio::spawn(follower::run(shared.clone())).abort_handle()];
        tasks.extend((0..shared.links.len()).map(|index| tokio::spawn(resubmit_on_connect(shared.clone(), index)).abort_handle()));
        Arc::new(Self { shared, tasks })
    }
}

impl Drop for KaspaChain {
    fn drop(&mut self) {
        // The links end by themselves when nobody watches them.
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

#[async_trait]
impl Chain for KaspaChain {
    fn network(&self) -> Network {
        self.shared.options.network
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.shared.health.subscribe()
    }

    fn tip(&self) -> watch::Receiver<Tip> {
        self.shared.tip.subscribe()
    }

    async fn submit(&self, transaction: &Transaction) -> SubmitOutcome {
        let deadline = self.shared.options.submit_deadline;
        let late = |_| SubmitOutcome::Unknown(format!("no answer in {} ms", deadline.as_millis()));
        tokio::time::timeout(deadline, self.shared.submit(transaction)).await.unwrap_or_else(late)
    }

    async fn replace(&self, transaction: &Transaction) -> SubmitOutcome {
        // Two steps, each with a deadline of its own.
        let deadline = self.shared.options.submit_deadline * 2;
        let late = |_| SubmitOutcome::Unknown(format!("no answer in {} ms", deadline.as_millis()));
        tokio::time::timeout(deadline, self.shared.replace(transaction)).await.unwrap_or_else(late)
    }

    fn follow(&self, transaction: &Transaction, known: Option<Acceptance>, resubmit: bool) -> watch::Receiver<TxStatus> {
        let receiver = lock(&self.shared.tracker).follow(transaction, known, resubmit, std::time::Instant::now());
        self.shared.wake.notify_one();
        receiver
    }

    fn unfollow(&self, txid: &TxId) {
        lock(&self.shared.tracker).unfollow(txid);
    }

    async fn sighting(&self, transaction: &Transaction) -> Result<Sighting, ChainError> {
        let node = self.shared.a_node()?;
        if node.in_mempool(transaction.id().into()).await? {
            return Ok(Sighting::Mempool);
        }
        let found = node.accepted_daa_scores(&[Arc::new(transaction.clone())], self.network()).await?;
        Ok(if found.is_empty() { Sighting::NotSeen } else { Sighting::UtxoSet })
    }

    fn watch_outpoint(&self, outpoint: Outpoint, script: &ScriptPublicKey, known_unspent: Option<u64>) -> watch::Receiver<OutpointStatus> {
        let Ok(address) = extract_script_pub_key_address(script, self.network().address_prefix()) else {
            // Nothing can be asked about it; a sender that is gone changes nothing any more.
            return watch::channel(OutpointStatus::Unknown).1;
        };
        let receiver = lock(&self.shared.tracker).watch(outpoint, address, known_unspent, std::time::Instant::now());
        self.shared.wake.notify_one();
        receiver
    }

    fn unwatch_outpoint(&self, outpoint: &Outpoint) {
        lock(&self.shared.tracker).unwatch(outpoint);
        self.shared.wake.notify_one();
    }

    async fn accepted(&self, txid: &TxId, acceptance: &Acceptance) -> Result<AcceptedTransaction, ChainError> {
        let sink_blue_score = self.shared.tip.borrow().blue_score;
        Ok(search::accepted(&self.shared.a_node()?, *txid, acceptance, sink_blue_score).await?)
    }

    async fn utxos(&self, address: &str) -> Result<Vec<Utxo>, ChainError> {
        let address = Address::try_from(address).map_err(|error| ChainError::NotFound(format!("not an address: {error}")))?;
        if address.prefix != self.network().address_prefix() {
            return Err(ChainError::NotFound(format!("{address} is not an address of {}", self.network())));
        }
        let entries = self.shared.a_node()?.unspent(vec![address]).await?;
        Ok(entries.into_iter().filter_map(node::utxo).collect())
    }

    fn checkpoint(&self) -> Option<Checkpoint> {
        *lock(&self.shared.checkpoint)
    }
}
