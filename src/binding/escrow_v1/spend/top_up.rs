//! The top-up: a claim that the client builds, in which its own coins join the continuation.
//!
//! Input 0 is the escrow with an empty witness, which the gateway fills in last. The client signs its inputs
//! over the whole transaction; signatures do not cover witnesses, so ours leaves theirs valid.

use super::{
    Escrow, SpendError, SpendRules,
    claim::{self, SignedClaim, plan_claim},
    digest, engine,
    rules::settle_fee,
    witness,
};
use crate::{
    binding::escrow_v1::voucher::SignedVoucher,
    protocol::{
        amount::Amount,
        ids::{Outpoint, SchnorrSignature},
        limits,
        refusal::Code,
    },
    wire::envelope::Fault,
};
use kaspa_consensus_core::{
    constants::{MAX_TX_IN_SEQUENCE_NUM, TX_VERSION_TOCCATA},
    subnets::SUBNETWORK_ID_NATIVE,
    tx::{PopulatedTransaction, Transaction, TransactionInput, UtxoEntry},
};
use std::collections::HashSet;

/// Compute budget of an ordinary signed input: one signature.
const COIN_COMPUTE_BUDGET: u16 = 10;

/// One of the client's own outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coin {
    pub outpoint: Outpoint,
    pub entry: UtxoEntry,
}

/// A top-up before it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopUpPlan {
    /// Input 0 is the escrow, its witness empty; the client signs the others.
    pub transaction: Transaction,
    /// What the inputs spend, in order.
    pub entries: Vec<UtxoEntry>,
    /// What the continuation gains.
    pub added: Amount,
}

/// Plans a top-up with all of `coins`. The gateway pays the fee of a plain claim; what the coins add to the
/// transaction's weight comes out of the coins, and there is no change.
pub fn plan_top_up(escrow: Escrow<'_>, takes: Amount, coins: &[Coin], rules: &SpendRules) -> Result<TopUpPlan, SpendError> {
    let alone = plan_claim(escrow, takes, rules)?;
    let brought = coins.iter().try_fold(Amount::ZERO, |sum, coin| sum.checked_add(Amount::from_sompi(coin.entry.amount).ok()?));
    let brought = brought.ok_or(SpendError::ExceedsFunding { takes, funding: escrow.funding })?;
    let entries: Vec<UtxoEntry> = std::iter::once(escrow.entry()).chain(coins.iter().map(|coin| coin.entry.clone())).collect();
    let priced = settle_fee(|extra| {
        let added = brought.checked_sub(extra).filter(|added| !added.is_zero())?;
        let draft = transaction(escrow, coins, alone.payout, alone.continuation.checked_add(added)?);
        let storage_mass = rules.storage_mass(&entries, &draft.outputs)?;
        let fee = rules.fee(&draft, storage_mass)?;
        Some((fee.checked_sub(alone.fee).unwrap_or(Amount::ZERO), (added, draft, storage_mass)))
    });
    let (_, (added, mut draft, storage_mass)) = priced.map_err(|fee| SpendError::Uneconomic { amount: brought, fee })?;
    for input in &mut draft.inputs {
        input.signature_script.clear();
    }
    Ok(TopUpPlan { transaction: draft.with_storage_mass(storage_mass), entries, added })
}

/// With witnesses of full length and no signatures in them.
fn transaction(escrow: Escrow<'_>, coins: &[Coin], payout: Amount, continuation: Amount) -> Transaction {
    let signed = witness::spend_signature(&SchnorrSignature([0; 64]));
    let own = coins.iter().map(|coin| {
        TransactionInput::new_with_compute_budget(coin.outpoint.into(), signed.clone(), MAX_TX_IN_SEQUENCE_NUM, COIN_COMPUTE_BUDGET)
    });
    Transaction::new(
        TX_VERSION_TOCCATA,
        std::iter::once(claim::input(escrow, claim::blank_witness(escrow.script))).chain(own).collect(),
        claim::outputs(escrow.script, payout, continuation),
        0,
        SUBNETWORK_ID_NATIVE,
        0,
        Vec::new(),
    )
}

/// A top-up that may be signed by the server. Made only by [`check_top_up`].
#[must_use]
#[derive(Clone, Debug)]
pub struct CheckedTopUp {
    transaction: Transaction,
    takes: Amount,
    payout: Amount,
    continuation: Amount,
    added: Amount,
    storage_mass: Option<u64>,
}

/// Judges a client's top-up, rebuilt by `exact_v1::decode`: it pays out `takes` less at most the fee of a plain claim, and continues the same
/// escrow with more. `spent` are the outputs of inputs 1.., from the node; without them their scripts are the node's to judge.
pub fn check_top_up(
    transaction: Transaction,
    escrow: Escrow<'_>,
    takes: Amount,
    spent: Option<&[UtxoEntry]>,
    rules: &SpendRules,
) -> Result<CheckedTopUp, Fault> {
    if takes.is_zero() {
        return Err(Fault::new(Code::TopUpNothingToClaim, "nothing is charged that was not claimed"));
    }
    form(&transaction, escrow)?;
    let (payout, continuation, added) = amounts(&transaction, escrow, takes, rules)?;
    let storage_mass = spent.map(|spent| spends(&transaction, escrow, spent, rules)).transpose()?;
    Ok(CheckedTopUp { transaction, takes, payout, continuation, added, storage_mass })
}

/// Inputs, outputs and fields of a cooperative claim, and nothing else.
fn form(transaction: &Transaction, escrow: Escrow<'_>) -> Result<(), Fault> {
    let fault = |detail: &str| Err(Fault::new(Code::TopUpForm, detail));
    let plain = transaction.version == TX_VERSION_TOCCATA
        && transaction.subnetwork_id == SUBNETWORK_ID_NATIVE
        && (transaction.gas, transaction.lock_time) == (0, 0)
        && transaction.payload.is_empty();
    if !plain {
        return fault("the transaction is not a plain native one of version 1 without lock time and payload");
    }
    let [first, own @ ..] = &transaction.inputs[..] else { return fault("the transaction has no inputs") };
    if own.is_empty() || transaction.inputs.len() > limits::TX_INPUTS {
        return fault("the transaction has no inputs besides the escrow, or too many");
    }
    if Outpoint::from(first.previous_outpoint) != escrow.outpoint {
        return fault("input 0 does not spend the active outpoint");
    }
    if !first.signature_script.is_empty() {
        return fault("the witness of input 0 is not empty");
    }
    if first.compute_commit.compute_budget() != Some(claim::COMPUTE_BUDGET) {
        return fault("the compute budget of input 0 is not that of a claim");
    }
    if transaction.inputs.iter().any(|input| input.sequence != MAX_TX_IN_SEQUENCE_NUM) {
        return fault("an input has a sequence lock");
    }
    let distinct: HashSet<_> = transaction.inputs.iter().map(|input| Outpoint::from(input.previous_outpoint)).collect();
    if distinct.len() != transaction.inputs.len() {
        return fault("two inputs spend one outpoint");
    }
    let [payout, next] = &transaction.outputs[..] else { return fault("the transaction has not exactly two outputs") };
    if payout.covenant.is_some() || next.covenant.is_some() {
        return fault("an output is bound to a covenant");
    }
    if &payout.script_public_key != escrow.script.payout_script() {
        return fault("output 0 does not pay to the recipient");
    }
    if &next.script_public_key != escrow.script.script_public_key() {
        return fault("output 1 does not continue the escrow");
    }
    let signed = witness::spend_signature(&SchnorrSignature([0; 64]));
    let (length, kind) = (signed.len(), signed.last());
    let all = |input: &TransactionInput| input.signature_script.len() == length && input.signature_script.last() == kind;
    let at = own.iter().position(|input| !all(input) || input.signature_script.first() != signed.first());
    at.map_or(Ok(()), |at| Err(Fault::new(Code::TopUpSignature, format!("input {} is not signed with SIGHASH_ALL", at + 1))))
}

/// `(payout, continuation, added)`.
fn amounts(transaction: &Transaction, escrow: Escrow<'_>, takes: Amount, rules: &SpendRules) -> Result<(Amount, Amount, Amount), Fault> {
    let fault = |detail: String| Fault::new(Code::TopUpAmount, detail);
    let alone = plan_claim(escrow, takes, rules).map_err(|error| Fault::new(Code::TopUpNothingToClaim, error.to_string()))?;
    let value = |index: usize| Amount::from_sompi(transaction.outputs[index].value).map_err(|error| fault(error.to_string()));
    let (payout, continuation) = (value(0)?, value(1)?);
    if payout < alone.payout || payout > takes {
        return Err(fault(format!("output 0 pays {payout} sompi; it must pay {} to {takes}", alone.payout)));
    }
    let added = continuation.checked_sub(alone.continuation).filter(|added| !added.is_zero());
    let added =
        added.ok_or_else(|| fault(format!("output 1 holds {continuation} sompi; it must hold more than {}", alone.continuation)))?;
    Ok((payout, continuation, added))
}

/// With the spent outputs at hand: every other input is really signed, and the network takes the whole. Gives the storage mass.
fn spends(transaction: &Transaction, escrow: Escrow<'_>, spent: &[UtxoEntry], rules: &SpendRules) -> Result<u64, Fault> {
    if spent.len() + 1 != transaction.inputs.len() {
        return Err(Fault::new(Code::TopUpForm, "an input's output is not known"));
    }
    let entries: Vec<UtxoEntry> = std::iter::once(escrow.entry()).chain(spent.iter().cloned()).collect();
    let unpaid = |detail: &str| Fault::new(Code::TopUpAmount, detail);
    let storage_mass =
        rules.storage_mass(&entries, &transaction.outputs).ok_or_else(|| unpaid("the network does not take outputs this small"))?;
    let mut full = transaction.clone();
    full.inputs[0].signature_script = claim::blank_witness(escrow.script);
    let fee = rules.fee(&full, storage_mass).ok_or_else(|| unpaid("the transaction is too heavy"))?;
    // 128 bits: no number of 64-bit amounts that fits a transaction overflows them.
    let inputs: u128 = entries.iter().map(|entry| u128::from(entry.amount)).sum();
    let outputs: u128 = transaction.outputs.iter().map(|output| u128::from(output.value)).sum();
    if inputs.checked_sub(outputs).is_none_or(|paid| paid < u128::from(fee.sompi())) {
        return Err(unpaid(&format!("the inputs do not pay the outputs and a fee of {fee} sompi")));
    }
    engine::run(&PopulatedTransaction::new(transaction, entries), 1..transaction.inputs.len())
        .map_err(|why| Fault::new(Code::TopUpSignature, why))?;
    Ok(storage_mass)
}

impl CheckedTopUp {
    pub fn added(&self) -> Amount {
        self.added
    }

    pub fn payout(&self) -> Amount {
        self.payout
    }

    /// What the escrow holds afterwards.
    pub fn continuation(&self) -> Amount {
        self.continuation
    }

    /// Adds the gateway's witness; `sign` is BIP340 by the server's key over 32 raw bytes.
    pub fn sign(
        self,
        escrow: Escrow<'_>,
        voucher: &SignedVoucher,
        sign: impl FnOnce(&[u8; 32]) -> [u8; 64],
    ) -> Result<SignedClaim, SpendError> {
        if voucher.amount < self.takes {
            return Err(SpendError::VoucherTooLow { voucher: voucher.amount, takes: self.takes });
        }
        // A signature covers the output its own input spends, and of the others the outpoints alone.
        let mut entries = vec![escrow.entry()];
        entries.resize(self.transaction.inputs.len(), escrow.entry());
        let mut transaction = self.transaction;
        let signature = SchnorrSignature(sign(&digest(&transaction, entries)));
        transaction.inputs[0].signature_script = witness::claim(&signature, voucher, escrow.script.redeem_script());
        if let Some(storage_mass) = self.storage_mass {
            transaction.set_storage_mass(storage_mass);
        }
        Ok(SignedClaim::of(transaction, self.continuation))
    }
}
