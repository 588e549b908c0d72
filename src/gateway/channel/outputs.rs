//! Who watches which output: the chain is told to stop when the last one of us does.

use crate::{
    chain::{Chain, OutpointStatus},
    protocol::ids::Outpoint,
};
use kaspa_consensus_core::tx::ScriptPublicKey;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};
use tokio::sync::watch;

pub(super) struct Outputs {
    chain: Arc<dyn Chain>,
    users: Arc<Mutex<HashMap<Outpoint, usize>>>,
}

/// One watcher; its drop ends only its own share.
pub(super) struct Watch {
    pub status: watch::Receiver<OutpointStatus>,
    outpoint: Outpoint,
    chain: Arc<dyn Chain>,
    users: Arc<Mutex<HashMap<Outpoint, usize>>>,
}

impl Outputs {
    pub fn new(chain: Arc<dyn Chain>) -> Self {
        Self { chain, users: Arc::default() }
    }

    /// See [`Chain::watch_outpoint`].
    pub fn watch(&self, outpoint: Outpoint, script: &ScriptPublicKey, known_unspent: Option<u64>) -> Watch {
        // The chain is called under the lock, so that nobody unwatches between the count and the call.
        let mut users = self.users.lock().expect("no panic while the map is locked");
        *users.entry(outpoint).or_default() += 1;
        let status = self.chain.watch_outpoint(outpoint, script, known_unspent);
        Watch { status, outpoint, chain: self.chain.clone(), users: self.users.clone() }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut users = self.users.lock().expect("no panic while the map is locked");
        let Some(count) = users.get_mut(&self.outpoint) else { return };
        *count -= 1;
        if *count == 0 {
            users.remove(&self.outpoint);
            self.chain.unwatch_outpoint(&self.outpoint);
        }
    }
}
