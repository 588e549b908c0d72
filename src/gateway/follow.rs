//! Who follows which transaction: the chain is told to stop when the last one of us does.
//!
//! A request that settles and the watcher that sees a payment through to its end follow the same
//! transaction; neither may end the other's view of it.

use crate::{
    chain::{Chain, TxStatus},
    protocol::ids::TxId,
    store::Acceptance,
};
use kaspa_consensus_core::tx::Transaction;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};
use tokio::sync::watch;

pub(super) struct Follows {
    chain: Arc<dyn Chain>,
    users: Arc<Mutex<HashMap<TxId, usize>>>,
}

/// One follower; its drop ends only its own share.
pub(super) struct Follow {
    pub status: watch::Receiver<TxStatus>,
    txid: TxId,
    chain: Arc<dyn Chain>,
    users: Arc<Mutex<HashMap<TxId, usize>>>,
}

impl Follows {
    pub fn new(chain: Arc<dyn Chain>) -> Self {
        Self { chain, users: Arc::default() }
    }

    pub fn follow(&self, transaction: &Transaction, known: Option<Acceptance>, resubmit: bool) -> Follow {
        let txid = TxId::from(transaction.id());
        // The chain is called under the lock, so that nobody unfollows between the count and the call.
        let mut users = self.users.lock().expect("no panic while the map is locked");
        *users.entry(txid).or_default() += 1;
        let status = self.chain.follow(transaction, known, resubmit);
        Follow { status, txid, chain: self.chain.clone(), users: self.users.clone() }
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        let mut users = self.users.lock().expect("no panic while the map is locked");
        let Some(count) = users.get_mut(&self.txid) else { return };
        *count -= 1;
        if *count == 0 {
            users.remove(&self.txid);
            self.chain.unfollow(&self.txid);
        }
    }
}
