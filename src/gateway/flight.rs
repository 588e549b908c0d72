//! One flight per payment and request in this process: the others wait for its end, then ask the
//! store themselves. Saves work and latency only; the store alone decides who may forward.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex},
};
use tokio::sync::watch;

type Landing<K> = Arc<Mutex<HashMap<K, watch::Receiver<()>>>>;

/// `K` names a payment and its request.
pub(super) struct Flights<K> {
    landing: Landing<K>,
}

impl<K> Default for Flights<K> {
    fn default() -> Self {
        Self { landing: Arc::default() }
    }
}

/// The leading flight; its drop wakes the followers.
pub(super) struct Flight<K: Eq + Hash> {
    key: K,
    landing: Landing<K>,
    _wake: watch::Sender<()>,
}

impl<K: Eq + Hash + Clone> Flights<K> {
    /// Leads, or waits: the receiver ends when the leading flight does.
    pub fn enter(&self, key: K) -> Result<Flight<K>, watch::Receiver<()>> {
        let mut landing = self.landing.lock().expect("no panic while the map is locked");
        if let Some(leader) = landing.get(&key) {
            return Err(leader.clone());
        }
        let (wake, leader) = watch::channel(());
        landing.insert(key.clone(), leader);
        Ok(Flight { key, landing: self.landing.clone(), _wake: wake })
    }
}

impl<K: Eq + Hash> Drop for Flight<K> {
    fn drop(&mut self) {
        // Before the sender drops, so that whoever wakes finds the place free.
        self.landing.lock().expect("no panic while the map is locked").remove(&self.key);
    }
}
