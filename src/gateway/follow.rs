//! Who follows which transaction and who watches which output: the chain is told to stop when the last one of us does.
//!
//! A request that settles and the watcher that sees a payment through to its end follow the same
//! transaction, and a stranger may name the output of somebody else's channel; nobody may end another's view.

use crate::{
    chain::{Chain, OutpointStatus, TxStatus},
    protocol::ids::{Outpoint, TxId},
    store::Acceptance,
};
use kaspa_consensus_core::tx::{ScriptPublicKey, Transaction};
use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex},
};
use tokio::sync::watch;

pub(super) struct Follows {
    chain: Arc<dyn Chain>,
    transactions: Users<TxId>,
    outputs: Users<Outpoint>,
}

type Users<K> = Arc<Mutex<HashMap<K, usize>>>;

/// One follower of a transaction.
pub(super) type Follow = Share<TxId, TxStatus>;

/// One watcher of an output.
pub(super) type Watch = Share<Outpoint, OutpointStatus>;

/// What the chain says of one thing; its drop ends only its own share.
pub(super) struct Share<K: Copy + Eq + Hash, T> {
    pub status: watch::Receiver<T>,
    key: K,
    chain: Arc<dyn Chain>,
    users: Users<K>,
    end: fn(&dyn Chain, &K),
}

impl Follows {
    pub fn new(chain: Arc<dyn Chain>) -> Self {
        Self { chain, transactions: Arc::default(), outputs: Arc::default() }
    }

    /// See [`Chain::follow`].
    pub fn follow(&self, transaction: &Transaction, known: Option<Acceptance>, resubmit: bool) -> Follow {
        let begin = |chain: &dyn Chain| chain.follow(transaction, known, resubmit);
        Share::new(&self.chain, &self.transactions, transaction.id().into(), begin, |chain, txid| chain.unfollow(txid))
    }

    /// See [`Chain::watch_outpoint`].
    pub fn watch(&self, outpoint: Outpoint, script: &ScriptPublicKey, known_unspent: Option<u64>) -> Watch {
        let begin = |chain: &dyn Chain| chain.watch_outpoint(outpoint, script, known_unspent);
        Share::new(&self.chain, &self.outputs, outpoint, begin, |chain, outpoint| chain.unwatch_outpoint(outpoint))
    }
}

impl<K: Copy + Eq + Hash, T> Share<K, T> {
    fn new(
        chain: &Arc<dyn Chain>,
        users: &Users<K>,
        key: K,
        begin: impl FnOnce(&dyn Chain) -> watch::Receiver<T>,
        end: fn(&dyn Chain, &K),
    ) -> Self {
        // The chain is called under the lock, so that nobody ends it between the count and the call.
        let mut counts = users.lock().expect("no panic while the map is locked");
        *counts.entry(key).or_default() += 1;
        let status = begin(chain.as_ref());
        Self { status, key, chain: chain.clone(), users: users.clone(), end }
    }
}

impl<K: Copy + Eq + Hash, T> Drop for Share<K, T> {
    fn drop(&mut self) {
        let mut users = self.users.lock().expect("no panic while the map is locked");
        let Some(count) = users.get_mut(&self.key) else { return };
        *count -= 1;
        if *count == 0 {
            users.remove(&self.key);
            (self.end)(self.chain.as_ref(), &self.key);
        }
    }
}
