//! The escrow scripts that this process has heard of.
//!
//! A transaction that spends one is a claim, a top-up or a refund of a channel. A claim and a top-up pay the recipient what the channel owed
//! already, in an output that could look like an `exact` payment; so nothing that spends an escrow is ever one (PROTOCOL section 4: a
//! payment is consumed at most once).

use super::super::Gateway;
use crate::{
    chain::Output,
    store::{StoreError, channels::ChannelRecord},
};
use kaspa_consensus_core::tx::ScriptPublicKey;
use kaspa_txscript::script_class::ScriptClass;
use std::{collections::HashSet, sync::RwLock};

/// Some 100 bytes a channel, for the life of the process: a channel that is over may have moved money a moment ago.
#[derive(Default)]
pub(super) struct Escrows(RwLock<HashSet<ScriptPublicKey>>);

impl Escrows {
    fn note(&self, script: &ScriptPublicKey) {
        if !self.has(script) {
            self.0.write().expect("no panic while the set is locked").insert(script.clone());
        }
    }

    fn has(&self, script: &ScriptPublicKey) -> bool {
        self.0.read().expect("no panic while the set is locked").contains(script)
    }
}

impl Gateway {
    /// Whether one of the outputs that a transaction spent was the escrow of a channel. Another gateway on the same store may have opened it a
    /// moment ago, so for a script that could be one its channels are looked through too.
    pub(in crate::gateway) async fn spends_an_escrow(&self, spent: &[Output]) -> Result<bool, StoreError> {
        let hashed: Vec<_> = spent
            .iter()
            .map(|output| &output.script_public_key)
            .filter(|script| ScriptClass::is_pay_to_script_hash(script.script()))
            .collect();
        let known = || hashed.iter().any(|script| self.channels.escrows.has(script));
        if hashed.is_empty() || known() || !self.store.is_shared() {
            return Ok(known());
        }
        self.each_open_channel(|record| self.note_escrow(record)).await?;
        Ok(known())
    }

    /// Before anything is served from the channel, or sent for it.
    pub(super) fn note_escrow(&self, record: &ChannelRecord) {
        // One without a script has never been opened.
        if let Ok(script) = self.script(record) {
            self.channels.escrows.note(script.script_public_key());
        }
    }
}
