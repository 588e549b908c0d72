//! Channels as this process last saw them: what saves reading a record again, never what a write is allowed by.

use super::super::Revision;
use crate::{
    protocol::ids::ChannelId,
    store::channels::{ChannelRecord, rules::Hold},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Channels kept, about 2 KiB each.
const CHANNELS: usize = 20_000;

/// A channel at one of its revisions.
#[derive(Clone, Debug)]
pub(in crate::store::redis) struct Known {
    pub record: Arc<ChannelRecord>,
    pub revision: Revision,
    pub hold: Option<Hold>,
}

#[derive(Debug, Default)]
pub(in crate::store::redis) struct Cache(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    channels: HashMap<ChannelId, (u64, Known)>,
    /// Counts uses, to find the longest unused.
    uses: u64,
}

impl Cache {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Nothing panics between two writes to it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get(&self, id: &ChannelId) -> Option<Known> {
        let mut kept = self.kept();
        kept.uses += 1;
        let now = kept.uses;
        let (used, known) = kept.channels.get_mut(id)?;
        *used = now;
        Some(known.clone())
    }

    pub fn put(&self, id: &ChannelId, known: Known) -> Arc<ChannelRecord> {
        let record = known.record.clone();
        let mut kept = self.kept();
        kept.uses += 1;
        let now = kept.uses;
        kept.channels.insert(*id, (now, known));
        if kept.channels.len() > CHANNELS {
            // The longest unused eighth.
            let mut uses: Vec<u64> = kept.channels.values().map(|(used, _)| *used).collect();
            let eighth = uses.len() / 8;
            let (_, oldest, _) = uses.select_nth_unstable(eighth);
            let oldest = *oldest;
            kept.channels.retain(|_, (used, _)| *used > oldest);
        }
        record
    }

    pub fn forget(&self, id: &ChannelId) {
        self.kept().channels.remove(id);
    }
}
