//! kaspad 2.1.0's answers to a submit, as one table.
//!
//! The node answers in prose. Every sentence it can say is listed here with what it proves; what is
//! not listed is [`Verdict::Unknown`]. Called by `KaspaChain::submit` only; never panics, never guesses.
//!
//! *Rejected* stands only where the transaction with these inputs can never be in a valid block of
//! any node: consensus rules that look at nothing that changes. A policy of one node's mempool (fee
//! too low, non-standard script) proves nothing: a miner may still take the transaction, so the money
//! can still move and the claim must be kept; the payer frees it by spending the same inputs otherwise.

use super::super::SubmitOutcome;
use crate::protocol::ids::TxId;

/// What a sentence proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// In this node's mempool already.
    InMempool,
    /// In some block this node has seen; says nothing about the virtual chain.
    InSomeBlock,
    /// Can never be valid.
    Rejected,
    /// Inputs are missing or spent: perhaps by this very transaction long ago, perhaps by another.
    Spent,
    /// Proves nothing.
    Unknown,
}

/// How a sentence is recognised, after the transaction id was cut out.
enum Says {
    /// `Starts(a, b)`: begins with `a` and contains `b`.
    Starts(&'static str, &'static str),
}
use Says::Starts;
use Verdict::{InMempool, InSomeBlock, Rejected, Spent, Unknown};

/// First match wins. Numbers and ids inside the sentences are skipped by the two-part patterns.
const TABLE: &[(Says, Verdict)] = &[
    // --- the mempool (kaspa-mining-errors, RuleError)
    (Starts("transaction ", "is already in the mempool"), InMempool),
    (Starts("transaction ", "was already accepted by the consensus"), InSomeBlock),
    // The other one's inputs are unspent on the chain, so ours was not accepted: nothing to look for.
    (Starts("output ", "already spent by transaction"), Unknown),
    (Starts("transaction ", "is an orphan where orphan is disallowed"), Spent),
    (Starts("orphan transaction ", "is already in the orphan pool"), Unknown),
    (Starts("orphan transaction ", "double spending an input from already existing orphan"), Unknown),
    (Starts("orphan transaction size", ""), Unknown),
    (Starts("number of high-priority transactions in orphan pool", ""), Unknown),
    (Starts("at least one outpoint of the transaction is lacking a matching UTXO entry", ""), Spent),
    // The parent is in the mempool and its id commits to its outputs: the named one can never exist.
    (Starts("at least one outpoint of the transaction is impossible to have", ""), Rejected),
    (Starts("coinbase transaction ", "cannot be added to the mempool"), Rejected),
    (Starts("transaction could not be added to the mempool because it's full", ""), Unknown),
    (Starts("one of the transaction inputs spends an immature UTXO", ""), Unknown),
    // Policy of this mempool; a miner may still include it.
    (Starts("transaction ", "is not standard:"), Unknown),
    // Limits of a block, by consensus: no block can hold it. The masses follow from the transaction and its inputs.
    (Starts("transaction compute mass of ", "is larger than max allowed"), Rejected),
    (Starts("transaction transient (storage) mass of ", "is larger than max allowed"), Rejected),
    (Starts("transaction storage mass of ", "is larger than max allowed"), Rejected),
    (Starts("transaction gas of ", "is larger than max allowed per-lane gas"), Rejected),
    (Starts("Rejected tx ", "due to incomputable storage mass"), Rejected),
    // --- consensus, looking at the transaction alone (kaspa-consensus-core, TxRuleError)
    (Starts("transaction has no inputs", ""), Rejected),
    (Starts("transaction has duplicate inputs", ""), Rejected),
    (Starts("transaction has non-zero gas", ""), Rejected),
    // A later version of the node may know it.
    (Starts("transaction version ", "is unknown"), Unknown),
    (Starts("transaction has ", "inputs where the max allowed is"), Rejected),
    (Starts("transaction has ", "outputs where the max allowed is"), Rejected),
    (Starts("transaction input #", "signature script is above"), Rejected),
    (Starts("transaction input #", "is not finalized"), Unknown),
    (Starts("coinbase ", ""), Rejected),
    (Starts("script public key of coinbase output", ""), Rejected),
    (Starts("transaction output ", "has zero value"), Rejected),
    (Starts("transaction output ", "value is higher than the max allowed"), Rejected),
    (Starts("transaction outputs value overflowed", ""), Rejected),
    (Starts("transaction total outputs value", ""), Rejected),
    (Starts("transaction subnetwork id ", "is neither native nor coinbase"), Rejected),
    (Starts("transaction output #", "has covenant field but transaction version is 0"), Rejected),
    (Starts("transaction input #", "has a sig op count field"), Rejected),
    (Starts("transaction input #", "has a compute budget field"), Rejected),
    // --- consensus, looking at the spent outputs, which never change
    (Starts("transaction total inputs spending amount", ""), Rejected),
    (Starts("transaction tries to spend ", "while its total inputs amount is"), Rejected),
    (Starts("input ", "sig op count is"), Rejected),
    (Starts("contextual mass (including storage mass) is incomputable", ""), Rejected),
    // Rules that an activation to come may change.
    (Starts("covenants error:", ""), Unknown),
    (Starts("failed to verify the signature script: attempt to execute", ""), Unknown),
    (Starts("failed to verify the signature script: opcode not supported", ""), Unknown),
    (Starts("failed to verify the signature script: covenants error", ""), Unknown),
    // Scripts that look at the chain may pass later.
    (Starts("failed to verify the signature script: block ", ""), Unknown),
    (Starts("failed to verify the signature script:", ""), Rejected),
    (Starts("failed to verify empty signature script.", ""), Rejected),
    // --- consensus, but of the moment, or of the encoding that another node sets itself
    (Starts("one of the transaction sequence locks conditions was not met", ""), Unknown),
    (Starts("outpoints corresponding to some transaction inputs are missing", ""), Spent),
    (Starts("calculated contextual mass", ""), Unknown),
    (Starts("fee rate per contextual mass gram is not greater", ""), Unknown),
    (Starts("replace by fee found", ""), Unknown),
];

/// The sentence that precedes the node's reason.
const REJECTED_TRANSACTION: &str = "Rejected transaction ";

/// What the node's `error` about `txid` proves.
pub(super) fn verdict(error: &str, txid: &TxId) -> Verdict {
    let Some(reason) = reason(error, txid) else { return Unknown };
    TABLE
        .iter()
        .find(|(Starts(start, part), _)| reason.starts_with(start) && reason.contains(part))
        .map_or(Unknown, |(_, verdict)| *verdict)
}

/// The outcome of a verdict; `error` is kept for people.
pub(super) fn outcome(verdict: Verdict, error: String) -> SubmitOutcome {
    match verdict {
        InMempool | InSomeBlock => SubmitOutcome::Known,
        Rejected => SubmitOutcome::Rejected(error),
        Spent | Unknown => SubmitOutcome::Unknown(error),
    }
}

/// The node's words after `Rejected transaction <our id>: `; an error about anything else proves nothing.
fn reason<'a>(error: &'a str, txid: &TxId) -> Option<&'a str> {
    let (_, rest) = error.split_once(REJECTED_TRANSACTION)?;
    rest.strip_prefix(&txid.to_string())?.strip_prefix(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use kaspa_consensus_core::{
        errors::tx::TxRuleError,
        tx::{TransactionId, TransactionOutpoint},
    };

    fn check(reason: impl std::fmt::Display, expect: Verdict) {
        let txid = TxId([7; 32]);
        let error = format!("RPC Server (remote error) -> Rejected transaction {txid}: {reason}");
        assert_eq!(verdict(&error, &txid), expect, "{error}");
        assert_eq!(verdict(&error, &TxId([8; 32])), Unknown, "an answer about another transaction proves nothing");
        assert_eq!(verdict(&reason.to_string(), &txid), Unknown, "words without the node's preface prove nothing");
    }

    #[test]
    fn every_consensus_rule_has_its_verdict() {
        let outpoint = TransactionOutpoint::new(TransactionId::from_bytes([1; 32]), 0);
        for (rule, expect) in [
            (TxRuleError::NoTxInputs, Rejected),
            (TxRuleError::TxDuplicateInputs, Rejected),
            (TxRuleError::TxHasGas("native"), Rejected),
            (TxRuleError::UnknownTxVersion(9), Unknown),
            (TxRuleError::TooManyInputs(9, 1), Rejected),
            (TxRuleError::TooManyOutputs(9, 1), Rejected),
            (TxRuleError::TooBigSignatureScript(0, 1), Rejected),
            (TxRuleError::NotFinalized(0), Unknown),
            (TxRuleError::CoinbaseHasInputs(1), Rejected),
            (TxRuleError::ImmatureCoinbaseSpend(0, outpoint, 1, 2, 3), Unknown),
            (TxRuleError::InputAmountOverflow, Rejected),
            (TxRuleError::InputAmountTooHigh, Rejected),
            (TxRuleError::TxOutZero(0), Rejected),
            (TxRuleError::TxOutTooHigh(0), Rejected),
            (TxRuleError::OutputsValueOverflow, Rejected),
            (TxRuleError::TotalTxOutTooHigh, Rejected),
            (TxRuleError::SpendTooHigh(2, 1), Rejected),
            (TxRuleError::SequenceLockConditionsAreNotMet, Unknown),
            (TxRuleError::MissingTxOutpoints, Spent),
            (TxRuleError::WrongSigOpCount(0, 1, 2), Rejected),
            (TxRuleError::MassIncomputable, Rejected),
            (TxRuleError::WrongMass(1, 2), Unknown),
            (TxRuleError::FeerateTooLow, Unknown),
            (TxRuleError::CovenantBindingInV0(0), Rejected),
            (TxRuleError::SigopCountInV1(0, 1), Rejected),
            (TxRuleError::ComputeBudgetInV0(0, 1), Rejected),
        ] {
            check(rule, expect);
        }
    }

    #[test]
    fn every_mempool_rule_has_its_verdict() {
        let id = TxId([7; 32]);
        for (sentence, expect) in [
            (format!("transaction {id} is already in the mempool"), InMempool),
            (format!("transaction {id} was already accepted by the consensus"), InSomeBlock),
            (format!("output (..., 0) already spent by transaction {id} in the mempool"), Unknown),
            (format!("transaction {id} is an orphan where orphan is disallowed"), Spent),
            ("at least one outpoint of the transaction is impossible to have a matching UTXO entry".into(), Rejected),
            ("transaction could not be added to the mempool because it's full with transactions with higher priority".into(), Unknown),
            (format!("transaction {id} is not standard: transaction has 1 fees which is under the required amount of 2"), Unknown),
            (format!("transaction {id} is not standard: transaction output #0: non-standard script form"), Unknown),
            ("transaction storage mass of 9 is larger than max allowed size of 1".into(), Rejected),
            ("transaction compute mass of 9 is larger than max allowed size of 1".into(), Rejected),
            ("failed to verify the signature script: signature invalid: malformed".into(), Rejected),
            ("failed to verify the signature script: block 00 not selected".into(), Unknown),
            ("failed to verify the signature script: attempt to execute reserved opcode OpX".into(), Unknown),
            ("something kaspad 3 says".into(), Unknown),
        ] {
            check(sentence, expect);
        }
    }

    #[test]
    fn time_outs_and_lost_connections_prove_nothing() {
        for error in ["", "WebSocket disconnected", "RPC request timeout", "Rejected transaction", "Rejected transaction : x"] {
            assert_eq!(verdict(error, &TxId([7; 32])), Unknown, "{error}");
        }
    }
}
