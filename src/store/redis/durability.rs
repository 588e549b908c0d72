//! Waiting for replicas: with `durability: strict` a verb returns when they have what it wrote.
//!
//! `WAIT` holds up its connection, and it speaks of what that connection wrote. So waits have a connection of their own: a mark is written
//! there, after the fact was acknowledged, and waited for. Whoever comes while a wait is under way shares the next one.

use super::{
    keys::{Keys, names},
    link::Link,
};
use crate::store::StoreError;
use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout_at},
};

/// See the module.
#[derive(Debug)]
pub(super) struct Replicas {
    link: Link,
    keys: Keys,
    /// Replicas that must have it.
    wanted: u64,
    /// The server can say when they have it on disk too (Redis 7.2).
    on_disk: bool,
    /// One for all shards of a single server, one for each of a cluster.
    turns: std::sync::Mutex<HashMap<u16, Arc<Turns>>>,
}

/// Waits of one server, numbered; a wait that begins after a write covers it.
#[derive(Debug, Default)]
struct Turns {
    begun: AtomicU64,
    covered: Mutex<u64>,
}

impl Replicas {
    pub fn new(link: Link, keys: Keys, wanted: u64, on_disk: bool) -> Self {
        Self { link, keys, wanted, on_disk, turns: std::sync::Mutex::default() }
    }

    /// Returns when everything that this shard's server acknowledged before the call is with its replicas.
    pub async fn wait(&self, shard: u16, by: Instant) -> Result<(), StoreError> {
        let shard = if self.link.is_cluster() { shard } else { 0 };
        let turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner).entry(shard).or_default().clone();
        // A wait with a later number began after this moment.
        let mine = turns.begun.load(Ordering::SeqCst);
        let late = || StoreError::Unknown("the replicas did not answer in time".to_owned());
        let mut covered = timeout_at(by, turns.covered.lock()).await.map_err(|_| late())?;
        if *covered > mine {
            return Ok(());
        }
        let number = turns.begun.fetch_add(1, Ordering::SeqCst) + 1;
        self.once(shard, by).await?;
        *covered = number;
        Ok(())
    }

    async fn once(&self, shard: u16, by: Instant) -> Result<(), StoreError> {
        let mark = self.keys.of(shard, names::WAITS);
        loop {
            let have = self.link.replicated(&mark, self.wanted, self.on_disk, by).await.map_err(in_doubt)?;
            if have >= self.wanted {
                return Ok(());
            }
            if Instant::now() >= by {
                return Err(StoreError::Unknown(format!("{have} of {} replicas have it", self.wanted)));
            }
        }
    }
}

/// The fact itself was written.
fn in_doubt(error: StoreError) -> StoreError {
    match error {
        StoreError::Unavailable(why) => StoreError::Unknown(why),
        other => other,
    }
}
