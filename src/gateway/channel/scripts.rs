//! Redeem scripts of channels, derived once: a client key is decompressed once per channel, not once per voucher.

use crate::{
    binding::escrow_v1::{ConfigError, EscrowScript},
    protocol::ids::ChannelId,
    store::channels::ChannelRecord,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

/// Kept scripts; at this many they are forgotten and derived again as they are needed.
const KEPT: usize = 50_000;

#[derive(Default)]
pub(super) struct Scripts(Mutex<HashMap<ChannelId, Arc<EscrowScript>>>);

impl Scripts {
    /// The script of a stored channel. Fails for a damaged record alone: nothing else was ever opened.
    pub fn of(&self, record: &ChannelRecord) -> Result<Arc<EscrowScript>, ConfigError> {
        let mut kept = self.0.lock().expect("no panic while the map is locked");
        if let Some(script) = kept.get(&record.id) {
            return Ok(script.clone());
        }
        let script = Arc::new(EscrowScript::of(&record.config)?);
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(record.id, script.clone());
        Ok(script)
    }
}
