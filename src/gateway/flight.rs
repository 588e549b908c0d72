//! One flight per payment and request in this process: the others wait for its end, then ask the
//! store themselves. Saves work and latency only; the store alone decides who may forward.

use super::flag::Flag;
use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex},
};

type Landings<K> = Arc<Mutex<HashMap<K, Arc<Flag>>>>;

/// `K` names a payment and its request.
pub(super) struct Flights<K> {
    landings: Landings<K>,
}

impl<K> Default for Flights<K> {
    fn default() -> Self {
        Self { landings: Arc::default() }
    }
}

/// The leading flight; its drop wakes the followers.
pub(super) struct Flight<K: Eq + Hash> {
    key: K,
    landings: Landings<K>,
    landed: Arc<Flag>,
}

impl<K: Eq + Hash + Clone> Flights<K> {
    /// Leads, or has to wait for the flag that the leading flight raises when it ends.
    pub fn enter(&self, key: K) -> Result<Flight<K>, Arc<Flag>> {
        let mut landings = self.landings.lock().expect("no panic while the map is locked");
        if let Some(leader) = landings.get(&key) {
            return Err(leader.clone());
        }
        let landed = Arc::new(Flag::default());
        landings.insert(key.clone(), landed.clone());
        Ok(Flight { key, landings: self.landings.clone(), landed })
    }
}

impl<K: Eq + Hash> Drop for Flight<K> {
    fn drop(&mut self) {
        // First, so that whoever wakes finds the place free.
        self.landings.lock().expect("no panic while the map is locked").remove(&self.key);
        self.landed.set(true);
    }
}
