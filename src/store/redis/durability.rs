//! Waiting for replicas: with `durability: strict` a verb returns when they have what it wrote.
//!
//! `WAIT` holds up its connection, and it speaks of what that connection wrote. So waits have a connection of their own: a mark is written
//! there, after the fact was acknowledged, and waited for. Whoever comes while a wait is under way shares the next one.
//!
//! The wait may reach another server than the fact did, when one was promoted in between: then it says nothing about the fact. So both say which
//! history they belong to, and a fact of another one is sent again.
//!
//! Every replica that follows the server must have it, and never fewer than there once were: a sentinel promotes whichever it thinks best, by
//! what it was told a second ago. With one left out, that one may be promoted, without the fact.

use super::{
    keys::{Keys, names},
    link::{History, Link},
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
    /// Replicas that must have it at least.
    wanted: u64,
    /// The server can say when they have it on disk too (Redis 7.2).
    on_disk: bool,
    /// One for all shards of a single server, one for each of a cluster.
    turns: std::sync::Mutex<HashMap<u16, Arc<Turns>>>,
}

/// Waits of one server, numbered; a wait that begins after a write covers it.
#[derive(Debug)]
struct Turns {
    /// Replicas that must have it: rises when one more follows the server, and does not fall.
    wanted: AtomicU64,
    begun: AtomicU64,
    covered: Mutex<(u64, History)>,
}

impl Replicas {
    pub fn new(link: Link, keys: Keys, wanted: u64, on_disk: bool) -> Self {
        Self { link, keys, wanted, on_disk, turns: std::sync::Mutex::default() }
    }

    /// Returns when everything that this shard's server acknowledged before the call is with its replicas, and which history that server writes:
    /// another one than the fact was written in may be without it.
    pub async fn wait(&self, shard: u16, by: Instant) -> Result<History, StoreError> {
        let shard = if self.link.is_cluster() { shard } else { 0 };
        let turns = self
            .turns
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(shard)
            .or_insert_with(|| Arc::new(Turns::new(self.wanted)))
            .clone();
        // A wait with a later number began after this moment.
        let mine = turns.begun.load(Ordering::SeqCst);
        let late = || StoreError::Unknown("the replicas did not answer in time".to_owned());
        let mut covered = timeout_at(by, turns.covered.lock()).await.map_err(|_| late())?;
        if covered.0 > mine {
            return Ok(covered.1.clone());
        }
        let number = turns.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let history = self.once(shard, &turns.wanted, by).await?;
        *covered = (number, history.clone());
        Ok(history)
    }

    async fn once(&self, shard: u16, wanted: &AtomicU64, by: Instant) -> Result<History, StoreError> {
        let mark = self.keys.of(shard, names::WAITS);
        loop {
            let (have, follow, history) =
                self.link.replicated(&mark, wanted.load(Ordering::SeqCst), self.on_disk, by).await.map_err(in_doubt)?;
            let wanted = wanted.fetch_max(follow, Ordering::SeqCst).max(follow);
            if have >= wanted {
                return Ok(history);
            }
            if Instant::now() >= by {
                return Err(StoreError::Unknown(format!("{have} of {wanted} replicas have it")));
            }
        }
    }
}

impl Turns {
    fn new(wanted: u64) -> Self {
        Self { wanted: AtomicU64::new(wanted), begun: AtomicU64::default(), covered: Mutex::default() }
    }
}

/// The fact itself was written.
fn in_doubt(error: StoreError) -> StoreError {
    match error {
        StoreError::Unavailable(why) => StoreError::Unknown(why),
        other => other,
    }
}
