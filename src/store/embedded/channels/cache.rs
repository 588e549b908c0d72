//! Channels in memory: what the hot path asks, answered without a disk or another thread.
//!
//! A channel has a slot while it is in use. Its turn, one at a time, holds the record as it is on the disk, who holds the channel, and
//! fingerprints of all it has used up. A step takes the record out of the turn before it is written and puts the new one in once
//! that is durable: whatever happens in between, nobody sees what the disk does not have, and a record that is not there is read anew.
//! Leases live here alone. Idle slots are given up, the longest unused first; one with a lease that lasts never is.

use super::{codec::UsedKey, read::Versioned};
use crate::{
    protocol::{ids::ChannelId, time::UnixMillis},
    store::channels::{ChannelRecord, rules::Hold},
};
use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};
use tokio::sync::OwnedMutexGuard;

/// Channels kept in memory while nobody uses them, about 2 KiB each.
const IDLE_CHANNELS: usize = 20_000;
/// Fingerprints over all channels, about 20 bytes each.
const FINGERPRINTS: usize = 4_000_000;
/// Fingerprints of one channel; one that has used up more is looked up on the disk.
const CHANNEL_FINGERPRINTS: usize = 131_072;

#[derive(Debug)]
pub(in crate::store::embedded) struct Cache {
    slots: Mutex<HashMap<ChannelId, Arc<Slot>>>,
    limits: Limits,
    /// Fingerprints in memory.
    prints: Arc<AtomicUsize>,
    /// Keyed anew in each process: nobody can aim at a collision, and one costs a read and nothing else.
    hasher: RandomState,
    /// Last one given out. Begins anywhere, so that no lease of another process is ever taken for one of this.
    fence: AtomicU64,
    /// Counts uses, to find the longest unused.
    uses: AtomicU64,
    /// The latest moment that a verb named.
    now: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
pub(in crate::store::embedded) struct Limits {
    pub channels: usize,
    pub prints: usize,
    pub channel_prints: usize,
}

#[derive(Debug)]
pub(super) struct Slot {
    /// The record of the last durable step; readers wait for nobody.
    current: Mutex<Option<Arc<ChannelRecord>>>,
    turn: Arc<tokio::sync::Mutex<Turn>>,
    used_at: AtomicU64,
}

/// What only one step at a time may see.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// The slot is no longer the channel's: look for it again.
    retired: bool,
    /// `None` until it is read, while a step is being written, and after one in doubt.
    pub cached: Option<Cached>,
    pub hold: Option<Hold>,
}

#[derive(Debug)]
pub(super) struct Cached {
    pub record: Arc<ChannelRecord>,
    pub revision: u64,
    /// `None` until somebody asks.
    pub used: Option<Prints>,
}

/// Fingerprints of the identifiers and nonces of a channel.
#[derive(Debug)]
pub(super) struct Prints {
    /// `None`: too many.
    prints: Option<HashSet<u64>>,
    limit: usize,
    hasher: RandomState,
    total: Arc<AtomicUsize>,
}

/// A channel's turn, with the slot that it belongs to.
#[derive(Debug)]
pub(super) struct Taken {
    pub id: ChannelId,
    pub slot: Arc<Slot>,
    pub turn: OwnedMutexGuard<Turn>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics between two writes to what these hold.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for Cache {
    fn default() -> Self {
        Self::with_limits(Limits { channels: IDLE_CHANNELS, prints: FINGERPRINTS, channel_prints: CHANNEL_FINGERPRINTS })
    }
}

impl Cache {
    pub fn with_limits(limits: Limits) -> Self {
        let hasher = RandomState::new();
        Self {
            slots: Mutex::default(),
            limits,
            prints: Arc::default(),
            // Half of the numbers are left to count on.
            fence: AtomicU64::new(hasher.hash_one("fence") >> 1),
            hasher,
            uses: AtomicU64::default(),
            now: AtomicU64::default(),
        }
    }

    /// The record, when it is in memory.
    pub(super) fn record(&self, id: &ChannelId) -> Option<Arc<ChannelRecord>> {
        let slot = locked(&self.slots).get(id)?.clone();
        self.touch(&slot);
        locked(&slot.current).clone()
    }

    /// Waits for the channel's turn; nothing is read yet.
    pub(super) async fn take(&self, id: &ChannelId) -> Taken {
        loop {
            let slot = self.slot(id);
            let turn = slot.turn.clone().lock_owned().await;
            if !turn.retired {
                return Taken { id: *id, slot, turn };
            }
        }
    }

    /// Gives the slot up.
    pub(super) fn retire(&self, mut taken: Taken) {
        taken.turn.retired = true;
        let mut slots = locked(&self.slots);
        if slots.get(&taken.id).is_some_and(|slot| Arc::ptr_eq(slot, &taken.slot)) {
            slots.remove(&taken.id);
        }
    }

    pub(super) fn next_fence(&self) -> u64 {
        self.fence.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn at(&self, now: UnixMillis) {
        self.now.fetch_max(now.0, Ordering::Relaxed);
    }

    /// Most keys of one channel that are worth reading.
    pub(super) fn channel_prints(&self) -> usize {
        self.limits.channel_prints
    }

    pub(super) fn prints(&self, keys: &[UsedKey]) -> Prints {
        let prints = Some(HashSet::with_capacity(keys.len().min(self.limits.channel_prints)));
        let (limit, hasher) = (self.limits.channel_prints, self.hasher.clone());
        let mut prints = Prints { prints, limit, hasher, total: self.prints.clone() };
        keys.iter().for_each(|key| prints.insert(key));
        self.make_room(&mut locked(&self.slots));
        prints
    }

    fn slot(&self, id: &ChannelId) -> Arc<Slot> {
        let mut slots = locked(&self.slots);
        if let Some(slot) = slots.get(id) {
            self.touch(slot);
            return slot.clone();
        }
        self.make_room(&mut slots);
        let slot = Arc::new(Slot { current: Mutex::default(), turn: Arc::default(), used_at: AtomicU64::default() });
        self.touch(&slot);
        slots.insert(*id, slot.clone());
        slot
    }

    fn touch(&self, slot: &Slot) {
        slot.used_at.store(self.uses.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Gives up the longest unused eighth when there is too much.
    fn make_room(&self, slots: &mut HashMap<ChannelId, Arc<Slot>>) {
        let full = |slots: &HashMap<_, _>| slots.len() >= self.limits.channels || self.prints.load(Ordering::Relaxed) > self.limits.prints;
        if !full(slots) {
            return;
        }
        let mut by_use: Vec<(u64, ChannelId)> = slots.iter().map(|(id, slot)| (slot.used_at.load(Ordering::Relaxed), *id)).collect();
        by_use.sort_unstable();
        let now = UnixMillis(self.now.load(Ordering::Relaxed));
        let enough = by_use.len() / 8 + 1;
        let mut given_up = 0;
        for (_, id) in by_use {
            if given_up >= enough && !full(slots) {
                break;
            }
            // Whoever has the turn, or a lease that lasts, keeps the slot.
            let Some(mut turn) = slots.get(&id).and_then(|slot| slot.turn.clone().try_lock_owned().ok()) else { continue };
            if turn.hold.as_ref().is_none_or(|hold| !hold.live(now)) {
                turn.retired = true;
                turn.cached = None;
                slots.remove(&id);
                given_up += 1;
            }
        }
    }

    #[cfg(test)]
    pub fn size(&self) -> (usize, usize) {
        (locked(&self.slots).len(), self.prints.load(Ordering::Relaxed))
    }
}

impl Taken {
    /// What is durable from now on.
    pub fn put(&mut self, record: Arc<ChannelRecord>, revision: u64, used: Option<Prints>) {
        *locked(&self.slot.current) = Some(record.clone());
        self.turn.cached = Some(Cached { record, revision, used });
    }

    pub fn put_read(&mut self, read: Versioned) -> Arc<ChannelRecord> {
        let record = Arc::new(read.record);
        self.put(record.clone(), read.revision, None);
        record
    }

    /// What is on the disk is not known: the next one reads it.
    pub fn forget(&mut self) {
        *locked(&self.slot.current) = None;
        self.turn.cached = None;
    }
}

impl Prints {
    pub fn insert(&mut self, key: &UsedKey) {
        let Some(prints) = &mut self.prints else { return };
        if prints.len() >= self.limit {
            self.clear();
        } else if prints.insert(self.hasher.hash_one(key)) {
            self.total.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// `false` is certain.
    pub fn may_contain(&self, key: &UsedKey) -> bool {
        self.prints.as_ref().is_none_or(|prints| prints.contains(&self.hasher.hash_one(key)))
    }

    fn clear(&mut self) {
        let prints = self.prints.take().unwrap_or_default();
        self.total.fetch_sub(prints.len(), Ordering::Relaxed);
    }
}

impl Drop for Prints {
    fn drop(&mut self) {
        self.clear();
    }
}
