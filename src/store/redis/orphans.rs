//! Leases and holds that were asked for and perhaps given, and whose answer reached nobody: the wait for it was given up, or the request went
//! away. Each would block its record until it expires. This process knows their names (see [`super::write`]), so its next attempt takes them over:
//! nobody else was ever given them.

use super::Revision;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Names kept, the newest; one that is forgotten expires.
const NAMES: usize = 1_024;
/// Of one record.
const OF_ONE: usize = 4;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Orphans(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// By the record's key.
    names: HashMap<Vec<u8>, Vec<Revision>>,
    order: VecDeque<Vec<u8>>,
}

/// An attempt that is under way. Dropped before its answer came, it leaves an orphan.
#[must_use]
#[derive(Debug)]
pub(super) struct Attempt<'o> {
    orphans: &'o Orphans,
    record: Vec<u8>,
    name: Revision,
    answered: bool,
}

impl Orphans {
    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing panics between two writes to it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn attempt(&self, record: &[u8], name: &Revision) -> Attempt<'_> {
        Attempt { orphans: self, record: record.to_vec(), name: name.clone(), answered: false }
    }

    /// The names of a record's orphans, one after another.
    pub fn of(&self, record: &[u8]) -> Vec<u8> {
        self.known().names.get(record).map(|names| names.concat()).unwrap_or_default()
    }

    pub fn contain(&self, record: &[u8], name: &Revision) -> bool {
        self.known().names.get(record).is_some_and(|names| names.contains(name))
    }
}

impl Attempt<'_> {
    pub fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        let mut known = self.orphans.known();
        let names = known.names.entry(self.record.clone()).or_default();
        names.push(self.name.clone());
        if names.len() > OF_ONE {
            names.remove(0);
        }
        if names.len() == 1 {
            known.order.push_back(self.record.clone());
        }
        if known.order.len() > NAMES
            && let Some(oldest) = known.order.pop_front()
        {
            known.names.remove(&oldest);
        }
    }
}
