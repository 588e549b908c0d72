//! What the tasks of this folder and the trait share: the nodes, how well one is followed, and sending.
//!
//! Called by `KaspaChain` and `follower`; no lock is held across an await.

use super::{
    Options, follower,
    link::{LinkState, LinkWatch},
    node::{self, Node},
    submit_errors::{self, Verdict},
    tracker::Tracker,
};
use crate::{
    chain::{ChainError, Health, SubmitOutcome, Tip},
    protocol::{acceptance::Checkpoint, ids::TxId},
};
use kaspa_consensus_core::tx::Transaction;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, watch};

/// What the tasks and the trait share. No lock is held across an await.
pub(super) struct Shared {
    pub options: Arc<Options>,
    pub links: Vec<LinkWatch>,
    pub tracker: Mutex<Tracker>,
    pub checkpoint: Mutex<Option<Checkpoint>>,
    pub standing: Mutex<Standing>,
    pub health: watch::Sender<Health>,
    pub tip: watch::Sender<Tip>,
    /// Something was put into the tracker's lists from outside.
    pub wake: Notify,
}

/// Which node is followed, and how well.
#[derive(Default)]
pub(super) struct Standing {
    /// Index of the link, and its session.
    follows: Option<(usize, u64)>,
    /// Why nothing is followed.
    reason: String,
    disagreement: bool,
}

/// A poisoned lock means a panic in a short, pure section; its data is still the best there is.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// The connected nodes, the followed one first.
    pub fn nodes(&self) -> Vec<Node> {
        let followed = lock(&self.standing).follows.map(|(index, _)| index);
        let others = (0..self.links.len()).filter(|index| Some(*index) != followed);
        followed.into_iter().chain(others).filter_map(|index| self.node(index)).map(|(node, _)| node).collect()
    }

    pub fn other_nodes(&self, index: usize) -> Vec<Node> {
        (0..self.links.len()).filter(|other| *other != index).filter_map(|other| self.node(other)).map(|(node, _)| node).collect()
    }

    pub fn node(&self, index: usize) -> Option<(Node, u64)> {
        match &*self.links[index].borrow() {
            LinkState::Up { node, session, .. } => Some((node.clone(), *session)),
            LinkState::Down { .. } => None,
        }
    }

    pub fn first_up(&self) -> Option<(usize, Node, u64)> {
        (0..self.links.len()).find_map(|index| self.node(index).map(|(node, session)| (index, node, session)))
    }

    pub fn why_down(&self) -> String {
        self.links.first().map_or("disconnected: no node is configured".into(), |link| match &*link.borrow() {
            LinkState::Down { reason, .. } => reason.clone(),
            LinkState::Up { .. } => "catching_up: connected".into(),
        })
    }

    /// The first usable node; says why there is none while there is none.
    pub async fn wait_for_up(&self) -> (usize, Node, u64) {
        let mut links = self.links.clone();
        loop {
            // Seen before it is judged, so that no later change is missed and no earlier one is seen twice.
            for link in &mut links {
                link.mark_unchanged();
            }
            if let Some(up) = self.first_up() {
                return up;
            }
            self.not_ready(self.why_down());
            if links.is_empty() {
                return std::future::pending().await;
            }
            let changes = links.iter_mut().map(|link| Box::pin(link.changed()));
            if futures::future::select_all(changes).await.0.is_err() {
                // A link's task ended, which only a shutdown does.
                return std::future::pending().await;
            }
        }
    }

    pub fn not_ready(&self, reason: String) {
        {
            let mut standing = lock(&self.standing);
            standing.follows = None;
            standing.reason = reason;
        }
        self.publish_health();
    }

    pub fn enter_node(&self, index: usize, session: u64) {
        {
            let mut standing = lock(&self.standing);
            standing.follows = Some((index, session));
            standing.disagreement = false;
        }
        self.publish_health();
    }

    pub fn leave_node(&self) {
        lock(&self.standing).follows = None;
    }

    pub fn agree(&self, agreed: bool) {
        lock(&self.standing).disagreement = !agreed;
        self.publish_health();
    }

    pub fn publish_health(&self) {
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

    pub async fn resubmit_everywhere(self: Arc<Self>, transactions: Vec<Arc<Transaction>>) {
        for node in self.nodes() {
            self.resubmit(&node, &transactions).await;
        }
    }

    pub async fn resubmit(&self, node: &Node, transactions: &[Arc<Transaction>]) {
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

    pub fn a_node(&self) -> Result<Node, ChainError> {
        self.nodes().into_iter().next().ok_or_else(|| ChainError::Unavailable(self.why_down()))
    }

    /// One submit over all nodes. The followed node's answer counts: were they asked at the same time, a node could
    /// hear of the transaction from another before us, and an honest payer's would look like a stranger's.
    pub async fn submit(self: &Arc<Self>, transaction: &Transaction) -> SubmitOutcome {
        let txid = TxId::from(transaction.id());
        let mut nodes = self.nodes().into_iter();
        let Some(first) = nodes.next() else { return SubmitOutcome::Unavailable(self.why_down()) };
        let others: Vec<_> = nodes.collect();
        // A silent first node must leave the others their time.
        let deadline = if others.is_empty() { self.options.submit_deadline } else { self.options.submit_deadline / 2 };
        let answer = node::submit_to(&first, transaction, deadline).await;
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
                let asked = others.iter().map(|node| node::submit_to(node, transaction, deadline));
                let answers = futures::future::join_all(asked).await;
                // The first node's silence hides who was first: never `New`.
                let has_it = answers.iter().any(|answer| matches!(answer, Ok(()) | Err((Verdict::InMempool | Verdict::InSomeBlock, _))));
                if has_it { SubmitOutcome::Known } else { outcome }
            }
            // A proof: no node takes it.
            SubmitOutcome::Rejected(_) | SubmitOutcome::Unavailable(_) => outcome,
        }
    }

    /// Each node has a mempool of its own: it takes the transaction as new, or in place of another.
    pub async fn replace(self: &Arc<Self>, transaction: &Transaction) -> SubmitOutcome {
        let outcome = self.submit(transaction).await;
        if matches!(outcome, SubmitOutcome::New | SubmitOutcome::Rejected(_) | SubmitOutcome::Unavailable(_)) {
            return outcome;
        }
        let deadline = self.options.submit_deadline / 2;
        let nodes = self.nodes();
        let asked = nodes.iter().map(|node| node.replace(transaction, deadline));
        let answers = futures::future::join_all(asked).await;
        if answers.iter().any(Result::is_ok) { SubmitOutcome::New } else { outcome }
    }
}

/// The mempool is memory only: whenever a node comes (back), what is unseen is sent to it again.
pub(super) async fn resubmit_on_connect(shared: Arc<Shared>, index: usize) {
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
