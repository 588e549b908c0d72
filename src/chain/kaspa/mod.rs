//! The real network over wRPC: the only folder that names node crates.
//!
//! Promises what [`Chain`] says. It connects in the background for ever (`link`), follows the virtual
//! chain of one node at a time (`follower`, `tracker`), looks back where it must (`search`), and knows
//! what kaspad's sentences prove (`submit_errors`). It never believes a payload about amounts, scripts
//! or acceptance, never takes absence for rejection, and never panics because a node went away.
//!
//! Limits, on purpose: a transaction accepted before our start is found while one of its outputs is
//! unspent or while it is younger than about 50,000 blue score; a conflicting spend is found back to
//! the beginning of the kept chain (6,000 blue score before a start without checkpoint, and the checkpoint otherwise).

mod follower;
mod link;
mod node;
mod search;
mod submit_errors;
mod tracker;

use super::{Chain, ChainError, Health, Sighting, SpentOutput, SubmitOutcome, Tip, TxStatus, Utxo};
use crate::{
    protocol::{ids::TxId, network::Network, time::UnixMillis},
    store::{Acceptance, Checkpoint},
};
use async_trait::async_trait;
use kaspa_addresses::Address;
use kaspa_consensus_core::tx::Transaction;
use link::{LinkState, LinkWatch};
use node::{CallError, Node};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use submit_errors::Verdict;
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
};
use tracker::Tracker;

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

/// What the tasks and the trait share. No lock is held across an await.
struct Shared {
    options: Arc<Options>,
    links: Vec<LinkWatch>,
    tracker: Mutex<Tracker>,
    checkpoint: Mutex<Option<Checkpoint>>,
    standing: Mutex<Standing>,
    health: watch::Sender<Health>,
    tip: watch::Sender<Tip>,
    /// Something was put into the tracker's lists from outside.
    wake: Notify,
}

/// Which node is followed, and how well.
#[derive(Default)]
struct Standing {
    /// Index of the link, and its session.
    follows: Option<(usize, u64)>,
    /// Why nothing is followed.
    reason: String,
    disagreement: bool,
}

/// A poisoned lock means a panic in a short, pure section; its data is still the best there is.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

impl Shared {
    /// The connected nodes, the followed one first.
    fn nodes(&self) -> Vec<Node> {
        let followed = lock(&self.standing).follows.map(|(index, _)| index);
        let others = (0..self.links.len()).filter(|index| Some(*index) != followed);
        followed.into_iter().chain(others).filter_map(|index| self.node(index)).map(|(node, _)| node).collect()
    }

    fn other_nodes(&self, index: usize) -> Vec<Node> {
        (0..self.links.len()).filter(|other| *other != index).filter_map(|other| self.node(other)).map(|(node, _)| node).collect()
    }

    fn node(&self, index: usize) -> Option<(Node, u64)> {
        match &*self.links[index].borrow() {
            LinkState::Up { node, session, .. } => Some((node.clone(), *session)),
            LinkState::Down { .. } => None,
        }
    }

    fn first_up(&self) -> Option<(usize, Node, u64)> {
        (0..self.links.len()).find_map(|index| self.node(index).map(|(node, session)| (index, node, session)))
    }

    fn why_down(&self) -> String {
        self.links.first().map_or("disconnected: no node is configured".into(), |link| match &*link.borrow() {
            LinkState::Down { reason, .. } => reason.clone(),
            LinkState::Up { .. } => "catching_up: connected".into(),
        })
    }

    /// Waits until some link changes its state.
    async fn any_link_changed(&self) {
        let mut links = self.links.clone();
        if links.is_empty() {
            return std::future::pending().await;
        }
        let changes = links.iter_mut().map(|link| Box::pin(link.changed()));
        let (result, ..) = futures::future::select_all(changes).await;
        if result.is_err() {
            // A link's task ended, which only a shutdown does.
            std::future::pending().await
        }
    }

    fn not_ready(&self, reason: String) {
        {
            let mut standing = lock(&self.standing);
            standing.follows = None;
            standing.reason = reason;
        }
        self.publish_health();
    }

    fn enter_node(&self, index: usize, session: u64) {
        {
            let mut standing = lock(&self.standing);
            standing.follows = Some((index, session));
            standing.disagreement = false;
        }
        self.publish_health();
    }

    fn leave_node(&self) {
        lock(&self.standing).follows = None;
    }

    fn agree(&self, agreed: bool) {
        lock(&self.standing).disagreement = !agreed;
        self.publish_health();
    }

    fn publish_health(&self) {
        let health = {
            let standing = lock(&self.standing);
            let index = standing.follows.map_or(0, |(index, _)| index);
            let server_version = self.links.get(index).and_then(|link| match &*link.borrow() {
                LinkState::Up { version, .. } => Some(version.clone()),
                LinkState::Down { version, .. } => version.clone(),
            });
            let reason = match (standing.follows, standing.disagreement) {
                (None, _) => Some(standing.reason.clone()),
                (Some(_), true) => Some("nodes_disagree: two nodes are on different chains for more than 30 s".into()),
                (Some(_), false) => None,
            };
            Health { ready: reason.is_none(), reason, server_version }
        };
        self.health.send_if_modified(|old| {
            let changed = *old != health;
            *old = health;
            changed
        });
    }

    async fn resubmit_everywhere(self: Arc<Self>, transactions: Vec<Arc<Transaction>>) {
        for node in self.nodes() {
            self.resubmit(&node, &transactions).await;
        }
    }

    async fn resubmit(&self, node: &Node, transactions: &[Arc<Transaction>]) {
        for transaction in transactions {
            let txid = TxId::from(transaction.id());
            match node::submit_to(node, transaction, self.options.submit_deadline).await {
                Ok(()) => tracing::info!(%txid, "sent again"),
                Err((verdict, why)) => {
                    tracing::debug!(%txid, %why, "sent again, not taken");
                    follower::learn(self, &txid, verdict);
                }
            }
        }
    }

    fn a_node(&self) -> Result<Node, ChainError> {
        self.nodes().into_iter().next().ok_or_else(|| ChainError::Unavailable(self.why_down()))
    }

    /// One submit over all nodes. The followed node's answer counts: were they asked at the same time, a node could
    /// hear of the transaction from another before us, and an honest payer's would look like a stranger's.
    async fn submit(self: &Arc<Self>, transaction: &Transaction) -> SubmitOutcome {
        let txid = TxId::from(transaction.id());
        let mut nodes = self.nodes().into_iter();
        let Some(first) = nodes.next() else { return SubmitOutcome::Unavailable(self.why_down()) };
        let others: Vec<_> = nodes.collect();
        let answer = node::submit_to(&first, transaction, self.options.submit_deadline).await;
        let outcome = match answer {
            Ok(()) => SubmitOutcome::New,
            Err((verdict, why)) => {
                follower::learn(self, &txid, verdict);
                submit_errors::outcome(verdict, why)
            }
        };
        match outcome {
            SubmitOutcome::New | SubmitOutcome::Known => {
                let (shared, transaction) = (self.clone(), Arc::new(transaction.clone()));
                tokio::spawn(async move {
                    for node in others {
                        shared.resubmit(&node, std::slice::from_ref(&transaction)).await;
                    }
                });
                outcome
            }
            SubmitOutcome::Unknown(_) => {
                for node in others {
                    match node::submit_to(&node, transaction, self.options.submit_deadline).await {
                        // The first node's silence hides who was first: never `New`.
                        Ok(()) | Err((Verdict::InMempool | Verdict::InSomeBlock, _)) => return SubmitOutcome::Known,
                        Err(_) => {}
                    }
                }
                outcome
            }
            // A proof: no node takes it.
            SubmitOutcome::Rejected(_) | SubmitOutcome::Unavailable(_) => outcome,
        }
    }
}

/// The mempool is memory only: whenever a node comes (back), what is unseen is sent to it again.
async fn resubmit_on_connect(shared: Arc<Shared>, index: usize) {
    let mut link = shared.links[index].clone();
    let mut health = shared.health.subscribe();
    let mut last = None;
    loop {
        let up = link.wait_for(|state| matches!(state, LinkState::Up { session, .. } if Some(*session) != last)).await;
        let Ok((node, session)) = up.map(|state| match &*state {
            LinkState::Up { node, session, .. } => (Some(node.clone()), Some(*session)),
            LinkState::Down { .. } => (None, None),
        }) else {
            return;
        };
        // What was accepted while we were away is known only after catching up.
        if health.wait_for(|health| health.ready).await.is_err() {
            return;
        }
        last = session;
        if let Some(node) = node {
            let unsent = lock(&shared.tracker).unsent();
            shared.resubmit(&node, &unsent).await;
        }
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

    async fn spent_outputs(&self, txid: &TxId, acceptance: &Acceptance) -> Result<Vec<SpentOutput>, ChainError> {
        Ok(self.shared.a_node()?.spent_outputs(*txid, acceptance).await?)
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

impl From<CallError> for String {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Lost(why) | CallError::Refused(why) => why,
        }
    }
}
