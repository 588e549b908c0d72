//! The refund: after the timeout the client takes the rest to its refund address.

use super::{Escrow, SpendError, SpendRules, digest, rules::settle_fee, witness};
use crate::protocol::{
    amount::Amount,
    ids::{SchnorrSignature, TxId},
};
use kaspa_consensus_core::{
    constants::TX_VERSION_TOCCATA,
    subnets::SUBNETWORK_ID_NATIVE,
    tx::{Transaction, TransactionInput, TransactionOutput},
};

/// Compute budget of the refund branch.
pub(super) const COMPUTE_BUDGET: u16 = 10;
/// The script demands it; it also keeps the lock time in force.
const SEQUENCE: u64 = 0;

/// Whether a block of this DAA score may hold the refund.
pub const fn refund_matured(timeout_daa: u64, current_daa: u64) -> bool {
    current_daa > timeout_daa
}

/// A refund that the network would take once it is mature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefundPlan {
    pub fee: Amount,
    /// What arrives at the refund address.
    pub amount: Amount,
    pub storage_mass: u64,
}

/// Plans the refund of all that the escrow holds.
pub fn plan_refund(escrow: Escrow<'_>, rules: &SpendRules) -> Result<RefundPlan, SpendError> {
    let priced = settle_fee(|fee| {
        let amount = escrow.funding.checked_sub(fee).filter(|amount| !amount.is_zero())?;
        let draft = transaction(escrow, amount);
        let storage_mass = rules.storage_mass(&[escrow.entry()], &draft.outputs)?;
        Some((rules.fee(&draft, storage_mass)?, (amount, storage_mass)))
    });
    let (fee, (amount, storage_mass)) = priced.map_err(|fee| SpendError::Uneconomic { amount: escrow.funding, fee })?;
    Ok(RefundPlan { fee, amount, storage_mass })
}

impl RefundPlan {
    /// Builds and signs the refund; `sign` is BIP340 by the client's key over 32 raw bytes.
    pub fn sign(&self, escrow: Escrow<'_>, sign: impl FnOnce(&[u8; 32]) -> [u8; 64]) -> (TxId, Transaction) {
        let mut transaction = transaction(escrow, self.amount).with_storage_mass(self.storage_mass);
        let signature = SchnorrSignature(sign(&digest(&transaction, vec![escrow.entry()])));
        transaction.inputs[0].signature_script = witness::refund(&signature, escrow.script.redeem_script());
        (transaction.id().into(), transaction)
    }
}

fn transaction(escrow: Escrow<'_>, amount: Amount) -> Transaction {
    let blank = witness::refund(&SchnorrSignature([0; 64]), escrow.script.redeem_script());
    Transaction::new(
        TX_VERSION_TOCCATA,
        vec![TransactionInput::new_with_compute_budget(escrow.outpoint.into(), blank, SEQUENCE, COMPUTE_BUDGET)],
        vec![TransactionOutput::new(amount.sompi(), escrow.script.refund_script().clone())],
        escrow.script.timeout_daa(),
        SUBNETWORK_ID_NATIVE,
        0,
        Vec::new(),
    )
}
