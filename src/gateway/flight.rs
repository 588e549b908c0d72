//! One flight per payment and request in this process: the others wait for its end, then ask the
//! store themselves. Saves work and latency only; the store alone decides who may forward.

use crate::{protocol::ids::RequestIdentity, store::PaymentKey};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};
use tokio::sync::watch;

type Key = (PaymentKey, RequestIdentity);

#[derive(Default)]
pub(super) struct Flights {
    landing: Arc<Mutex<HashMap<Key, watch::Receiver<()>>>>,
}

/// The leading flight; its drop wakes the followers.
pub(super) struct Flight {
    key: Key,
    landing: Arc<Mutex<HashMap<Key, watch::Receiver<()>>>>,
    _wake: watch::Sender<()>,
}

impl Flights {
    /// Leads, or waits: the receiver ends when the leading flight does.
    pub fn enter(&self, key: Key) -> Result<Flight, watch::Receiver<()>> {
        let mut landing = self.landing.lock().expect("no panic while the map is locked");
        if let Some(leader) = landing.get(&key) {
            return Err(leader.clone());
        }
        let (wake, leader) = watch::channel(());
        landing.insert(key, leader);
        Ok(Flight { key, landing: self.landing.clone(), _wake: wake })
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        // Before the sender drops, so that whoever wakes finds the place free.
        self.landing.lock().expect("no panic while the map is locked").remove(&self.key);
    }
}
