//! The claim: what was charged goes to the payout script, the rest stays under the same escrow script.

use super::{Escrow, SpendError, SpendRules, digest, rules::settle_fee, witness};
use crate::{
    binding::escrow_v1::{script::EscrowScript, voucher::SignedVoucher},
    protocol::{
        amount::Amount,
        ids::{Outpoint, SchnorrSignature, TxId},
    },
};
use kaspa_consensus_core::{
    constants::{MAX_TX_IN_SEQUENCE_NUM, TX_VERSION_TOCCATA},
    subnets::SUBNETWORK_ID_NATIVE,
    tx::{Transaction, TransactionInput, TransactionOutput},
};

/// Compute budget of the claim branch.
pub(super) const COMPUTE_BUDGET: u16 = 20;
/// The output that continues the escrow.
pub(super) const CONTINUATION: u32 = 1;

/// A claim that the network would take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimPlan {
    /// What leaves the escrow: `payout + fee`.
    pub takes: Amount,
    pub fee: Amount,
    pub payout: Amount,
    /// What stays: `funding - takes`.
    pub continuation: Amount,
    pub storage_mass: u64,
}

/// A claim or top-up that only needs to be sent.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedClaim {
    pub transaction: Transaction,
    pub txid: TxId,
    /// The active outpoint once it is accepted.
    pub continuation: Outpoint,
    pub funding: Amount,
}

/// Plans a claim of `takes`; the fee comes out of the payout.
pub fn plan_claim(escrow: Escrow<'_>, takes: Amount, rules: &SpendRules) -> Result<ClaimPlan, SpendError> {
    let exceeds = SpendError::ExceedsFunding { takes, funding: escrow.funding };
    let continuation = escrow.funding.checked_sub(takes).filter(|rest| !rest.is_zero()).ok_or(exceeds)?;
    let priced = settle_fee(|fee| {
        let payout = takes.checked_sub(fee).filter(|payout| !payout.is_zero())?;
        let draft = transaction(escrow, payout, continuation);
        let storage_mass = rules.storage_mass(&[escrow.entry()], &draft.outputs)?;
        Some((rules.fee(&draft, storage_mass)?, (payout, storage_mass)))
    });
    let (fee, (payout, storage_mass)) = priced.map_err(|fee| SpendError::Uneconomic { amount: takes, fee })?;
    Ok(ClaimPlan { takes, fee, payout, continuation, storage_mass })
}

/// The smallest continuation whose claim the network takes, when all the rest of `funding` is claimed at once;
/// `None` when no claim of this escrow is possible at all. Computed from the storage mass limit, to a few sompi.
pub fn reserve(script: &EscrowScript, funding: Amount, rules: &SpendRules) -> Option<Amount> {
    let escrow = Escrow { script, outpoint: Outpoint { txid: TxId([0; 32]), index: 0 }, funding };
    // Anybody may ask for this with a deposit that is not there: all but the amounts is weighed once.
    let entry = [escrow.entry()];
    let relay = rules.relay_mass(&transaction(escrow, Amount::ZERO, Amount::ZERO))?;
    let fits = |rest: u64| {
        let continuation = Amount::from_sompi(rest).ok()?;
        let takes = funding.checked_sub(continuation)?;
        let priced = settle_fee(|fee| {
            let payout = takes.checked_sub(fee).filter(|payout| !payout.is_zero())?;
            let storage_mass = rules.storage_mass(&entry, &outputs(script, payout, continuation))?;
            Some((rules.fee_of(relay, storage_mass)?, ()))
        });
        priced.ok()
    };
    // Up to half of what is held, a larger continuation only weighs less.
    let (mut too_small, mut enough) = (0, funding.sompi() / 2);
    fits(enough)?;
    while enough - too_small > 1 {
        let middle = too_small + (enough - too_small) / 2;
        match fits(middle) {
            Some(_) => enough = middle,
            None => too_small = middle,
        }
    }
    Amount::from_sompi(enough).ok()
}

impl ClaimPlan {
    /// Builds and signs the claim; `sign` is BIP340 by the server's key over 32 raw bytes.
    pub fn sign(
        &self,
        escrow: Escrow<'_>,
        voucher: &SignedVoucher,
        sign: impl FnOnce(&[u8; 32]) -> [u8; 64],
    ) -> Result<SignedClaim, SpendError> {
        if voucher.amount < self.takes {
            return Err(SpendError::VoucherTooLow { voucher: voucher.amount, takes: self.takes });
        }
        let mut transaction = transaction(escrow, self.payout, self.continuation).with_storage_mass(self.storage_mass);
        let signature = SchnorrSignature(sign(&digest(&transaction, vec![escrow.entry()])));
        transaction.inputs[0].signature_script = witness::claim(&signature, voucher, escrow.script.redeem_script());
        Ok(SignedClaim::of(transaction, self.continuation))
    }
}

impl SignedClaim {
    pub(super) fn of(transaction: Transaction, funding: Amount) -> Self {
        let txid = transaction.id().into();
        Self { transaction, txid, continuation: Outpoint { txid, index: CONTINUATION }, funding }
    }
}

/// The claim with a witness of full length and no signatures in it. Its id is final.
fn transaction(escrow: Escrow<'_>, payout: Amount, continuation: Amount) -> Transaction {
    Transaction::new(
        TX_VERSION_TOCCATA,
        vec![input(escrow, blank_witness(escrow.script))],
        outputs(escrow.script, payout, continuation),
        0,
        SUBNETWORK_ID_NATIVE,
        0,
        Vec::new(),
    )
}

pub(super) fn input(escrow: Escrow<'_>, witness: Vec<u8>) -> TransactionInput {
    TransactionInput::new_with_compute_budget(escrow.outpoint.into(), witness, MAX_TX_IN_SEQUENCE_NUM, COMPUTE_BUDGET)
}

pub(super) fn outputs(script: &EscrowScript, payout: Amount, continuation: Amount) -> Vec<TransactionOutput> {
    vec![
        TransactionOutput::new(payout.sompi(), script.payout_script().clone()),
        TransactionOutput::new(continuation.sompi(), script.script_public_key().clone()),
    ]
}

/// As long as a real one: masses and fees are right before anything is signed.
pub(super) fn blank_witness(script: &EscrowScript) -> Vec<u8> {
    let blank = SchnorrSignature([0; 64]);
    witness::claim(&blank, &SignedVoucher { amount: Amount::ZERO, signature: blank }, script.redeem_script())
}
