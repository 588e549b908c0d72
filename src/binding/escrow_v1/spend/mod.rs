//! Transactions that spend an escrow: claim, top-up and refund, built and checked without any I/O.
//!
//! All are version 1. Keys stay outside: a spend asks for a signature over 32 bytes and gets 64.

mod claim;
mod continuation;
mod engine;
mod refund;
mod rules;
mod top_up;
mod witness;

pub use claim::{ClaimPlan, SignedClaim, plan_claim, reserve};
pub use continuation::{Continuation, ContinuationError, SpendFacts, check_continuation, check_spend};
pub use engine::allows;
pub use refund::{RefundPlan, plan_refund, refund_matured};
pub use rules::SpendRules;
pub use top_up::{CheckedTopUp, Coin, TopUpPlan, check_top_up, plan_top_up};
pub use witness::claimed_voucher;

use super::script::EscrowScript;
use crate::protocol::{amount::Amount, ids::Outpoint};
use kaspa_consensus_core::{
    hashing::{
        sighash::{SigHashReusedValuesUnsync, calc_schnorr_signature_hash},
        sighash_type::SIG_HASH_ALL,
    },
    tx::{PopulatedTransaction, Transaction, UtxoEntry},
};

/// An escrow as it lies on the chain.
#[derive(Clone, Copy, Debug)]
pub struct Escrow<'a> {
    pub script: &'a EscrowScript,
    pub outpoint: Outpoint,
    pub funding: Amount,
}

/// Compute budgets of the claim branch and of the refund branch.
pub const fn budgets() -> (u16, u16) {
    (claim::COMPUTE_BUDGET, refund::COMPUTE_BUDGET)
}

/// Why no transaction is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpendError {
    #[error("the escrow of {funding} sompi does not hold {takes} sompi and a continuation")]
    ExceedsFunding { takes: Amount, funding: Amount },
    #[error("{amount} sompi after a fee of {fee} sompi are no output that the network takes")]
    Uneconomic { amount: Amount, fee: Amount },
    #[error("the voucher of {voucher} sompi does not cover {takes} sompi")]
    VoucherTooLow { voucher: Amount, takes: Amount },
}

impl Escrow<'_> {
    /// The output that is spent. Signatures do not cover its age.
    fn entry(&self) -> UtxoEntry {
        UtxoEntry::new(self.funding.sompi(), self.script.script_public_key().clone(), 0, false, None)
    }
}

/// What the owner of input 0 signs (SIGHASH_ALL); `entries` are the outputs that all inputs spend.
fn digest(transaction: &Transaction, entries: Vec<UtxoEntry>) -> [u8; 32] {
    let populated = PopulatedTransaction::new(transaction, entries);
    calc_schnorr_signature_hash(&populated, 0, SIG_HASH_ALL, &SigHashReusedValuesUnsync::new()).as_bytes()
}
