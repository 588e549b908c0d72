//! The buyer's check of a claim: it took no more than what the buyer knows was charged.

use super::{Escrow, claim::CONTINUATION};
use crate::protocol::{
    amount::Amount,
    ids::{Outpoint, TxId},
};
use kaspa_consensus_core::tx::{ScriptPublicKey, Transaction, TransactionOutput};

/// The escrow after a claim or top-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Continuation {
    pub outpoint: Outpoint,
    pub funding: Amount,
    /// What left the escrow; zero when a top-up added more than was taken.
    pub taken: Amount,
}

/// Why a transaction is no honest claim of the escrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContinuationError {
    #[error("the transaction does not spend the escrow")]
    NotASpend,
    #[error("output 1 does not continue the escrow under its script")]
    NotContinued,
    #[error("the claim took {taken} sompi; at most {owed} were charged")]
    TookTooMuch { taken: Amount, owed: Amount },
}

/// A transaction as a node tells it, without its bytes.
#[derive(Clone, Debug)]
pub struct SpendFacts<'a> {
    pub txid: TxId,
    pub spends: Vec<Outpoint>,
    /// Amount, script and whether it is bound to a covenant.
    pub outputs: Vec<(Amount, &'a ScriptPublicKey, bool)>,
}

/// Judges the transaction that spent `escrow`; `owed` is the buyer's own `C - K`.
pub fn check_continuation(transaction: &Transaction, escrow: Escrow<'_>, owed: Amount) -> Result<Continuation, ContinuationError> {
    let output = |output: &'_ TransactionOutput| Amount::from_sompi(output.value).ok();
    let amounts: Option<Vec<Amount>> = transaction.outputs.iter().map(output).collect();
    let outputs = amounts.ok_or(ContinuationError::NotContinued)?.into_iter().zip(&transaction.outputs);
    let facts = SpendFacts {
        txid: transaction.id().into(),
        spends: transaction.inputs.iter().map(|input| input.previous_outpoint.into()).collect(),
        outputs: outputs.map(|(amount, output)| (amount, &output.script_public_key, output.covenant.is_some())).collect(),
    };
    check_spend(&facts, escrow, owed)
}

/// [`check_continuation`] of what a node tells.
pub fn check_spend(facts: &SpendFacts<'_>, escrow: Escrow<'_>, owed: Amount) -> Result<Continuation, ContinuationError> {
    if !facts.spends.contains(&escrow.outpoint) {
        return Err(ContinuationError::NotASpend);
    }
    let [_, (funding, script, covenant)] = facts.outputs[..] else { return Err(ContinuationError::NotContinued) };
    if script != escrow.script.script_public_key() || covenant {
        return Err(ContinuationError::NotContinued);
    }
    let taken = escrow.funding.checked_sub(funding).unwrap_or(Amount::ZERO);
    if taken > owed {
        return Err(ContinuationError::TookTooMuch { taken, owed });
    }
    Ok(Continuation { outpoint: Outpoint { txid: facts.txid, index: CONTINUATION }, funding, taken })
}
