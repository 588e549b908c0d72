//! The escrow script of each channel in use, derived once.

use crate::{
    binding::escrow_v1::{EscrowScript, config::ConfigError},
    protocol::ids::ChannelId,
    store::channels::ChannelRecord,
};
use std::{
    collections::HashMap,
    mem,
    sync::{Arc, RwLock},
};

/// Scripts of one generation; there are two. About 1 KB each.
const GENERATION: usize = 16_384;

/// A bounded cache. What was used since the last generation began stays; the rest is derived again when it is needed.
#[derive(Default)]
pub(in crate::gateway) struct Scripts(RwLock<Generations>);

#[derive(Default)]
struct Generations {
    young: HashMap<ChannelId, Arc<EscrowScript>>,
    old: HashMap<ChannelId, Arc<EscrowScript>>,
}

impl Scripts {
    /// Fails only on a record whose configuration no opening would have taken.
    pub fn of(&self, record: &ChannelRecord) -> Result<Arc<EscrowScript>, ConfigError> {
        let hit = self.0.read().expect("no panic while the cache is locked").young.get(&record.id).cloned();
        if let Some(script) = hit {
            return Ok(script);
        }
        // Derived outside the lock: two at once do the same work, and nobody waits.
        let aged = self.0.read().expect("no panic while the cache is locked").old.get(&record.id).cloned();
        let script = match aged {
            Some(script) => script,
            None => Arc::new(EscrowScript::of(&record.config)?),
        };
        self.0.write().expect("no panic while the cache is locked").put(record.id, script.clone());
        Ok(script)
    }
}

impl Generations {
    fn put(&mut self, id: ChannelId, script: Arc<EscrowScript>) {
        if self.young.len() >= GENERATION {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(id, script);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_keeps_what_is_used_and_never_more_than_two_generations() {
        let script = Arc::new(EscrowScript::of(&crate::gateway::tests::channels::config(1, 1)).unwrap());
        let id = |number: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&u64::try_from(number).unwrap().to_be_bytes());
            ChannelId(bytes)
        };
        let mut cache = Generations::default();
        for number in 0..3 * GENERATION {
            cache.put(id(number), script.clone());
            assert!(cache.young.len() <= GENERATION && cache.old.len() <= GENERATION);
        }
        assert!(cache.young.contains_key(&id(3 * GENERATION - 1)));
        assert!(!cache.young.contains_key(&id(0)) && !cache.old.contains_key(&id(0)));
    }
}
