//! The buyer's check of a claim: it took no more than what the buyer knows was charged.

use super::{Escrow, claim::CONTINUATION};
use crate::protocol::{amount::Amount, ids::Outpoint};
use kaspa_consensus_core::tx::Transaction;

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

/// Judges the transaction that spent `escrow`; `owed` is the buyer's own `C - K`.
pub fn check_continuation(transaction: &Transaction, escrow: Escrow<'_>, owed: Amount) -> Result<Continuation, ContinuationError> {
    if !transaction.inputs.iter().any(|input| Outpoint::from(input.previous_outpoint) == escrow.outpoint) {
        return Err(ContinuationError::NotASpend);
    }
    let [_, next] = &transaction.outputs[..] else { return Err(ContinuationError::NotContinued) };
    let funding = Amount::from_sompi(next.value).map_err(|_| ContinuationError::NotContinued)?;
    if &next.script_public_key != escrow.script.script_public_key() || next.covenant.is_some() {
        return Err(ContinuationError::NotContinued);
    }
    let taken = escrow.funding.checked_sub(funding).unwrap_or(Amount::ZERO);
    if taken > owed {
        return Err(ContinuationError::TookTooMuch { taken, owed });
    }
    Ok(Continuation { outpoint: Outpoint { txid: transaction.id().into(), index: CONTINUATION }, funding, taken })
}
