//! The node's own script engine, over spends that are not on the network yet.

use super::Escrow;
use crate::protocol::ids::Outpoint;
use kaspa_consensus_core::{
    hashing::sighash::SigHashReusedValuesUnsync,
    tx::{PopulatedTransaction, Transaction, VerifiableTransaction},
};
use kaspa_txscript::{EngineCtx, MAX_SCRIPT_PUBLIC_KEY_VERSION, TxScriptEngine, caches::Cache, covenants::CovenantsContext};
use std::ops::Range;

/// Runs the scripts of these inputs, as the node will.
pub(super) fn run(transaction: &PopulatedTransaction<'_>, inputs: Range<usize>) -> Result<(), String> {
    let covenants = CovenantsContext::from_tx(transaction).map_err(|error| error.to_string())?;
    let (cache, reused) = (Cache::new(0), SigHashReusedValuesUnsync::new());
    let context = EngineCtx::new(&cache).with_reused(&reused).with_covenants_ctx(&covenants);
    for (index, (input, entry)) in transaction.populated_inputs().enumerate().take(inputs.end).skip(inputs.start) {
        // The engine lets unknown versions pass unread; the mempool does not.
        if entry.script_public_key.version() > MAX_SCRIPT_PUBLIC_KEY_VERSION {
            return Err(format!("input {index} spends a script of an unknown version"));
        }
        let limit = input.compute_commit.allowed_script_units();
        let mut engine = TxScriptEngine::from_transaction_input_with_script_units_limit(
            transaction,
            input,
            index,
            entry,
            context,
            Default::default(),
            limit,
        );
        engine.execute().map_err(|error| format!("input {index}: {error}"))?;
    }
    Ok(())
}

/// Whether the escrow's script lets the transaction spend it. Says nothing of fees, masses and the other inputs, nor whether the network has
/// reached the lock time.
pub fn allows(transaction: &Transaction, escrow: Escrow<'_>) -> Result<(), String> {
    let at = transaction.inputs.iter().position(|input| Outpoint::from(input.previous_outpoint) == escrow.outpoint);
    let at = at.ok_or("the escrow is not spent")?;
    // The script looks at the output its own input spends, and at no other.
    let entries = vec![escrow.entry(); transaction.inputs.len()];
    run(&PopulatedTransaction::new(transaction, entries), at..at + 1)
}
