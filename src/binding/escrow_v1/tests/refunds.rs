//! Refunds in the node's own engine.

use super::world::*;
use crate::binding::escrow_v1::spend::{SpendError, plan_refund, refund_matured};
use kaspa_consensus_core::tx::{Transaction, TransactionOutput};
use kaspa_txscript::{opcodes::codes::OpFalse, pay_to_address_script};
use serde_json::Value;
use std::{fs, path::Path};

const FUNDING: u64 = 7 * KAS;

fn refund() -> Transaction {
    let script = script();
    let escrow = escrow(&script, FUNDING);
    plan_refund(escrow, &rules()).unwrap().sign(escrow, sign(CLIENT)).1
}

#[test]
fn a_refund_after_the_timeout_is_accepted_within_its_budget() {
    let transaction = refund();
    let fee = audit(&transaction, &[locked(&script(), FUNDING)]);
    assert_eq!(transaction.outputs[0].value, FUNDING - fee);
    assert_eq!(transaction.lock_time, TIMEOUT, "the first block that may hold it has a greater DAA score");
}

#[test]
fn a_refund_against_the_rules_is_refused() {
    let script = script();
    let entries = [locked(&script, FUNDING)];
    let check = |name: &str, change: &dyn Fn(&mut Transaction), by: u8| {
        let mut transaction = refund();
        change(&mut transaction);
        resign(&mut transaction, &entries, by);
        let result = execute(&transaction, &entries);
        if name.is_empty() { result.unwrap() } else { result.expect_err(name).truncate(0) }
    };
    check("", &|_| {}, CLIENT);
    check("", &|tx| tx.lock_time = TIMEOUT + 1, CLIENT);
    check("before the timeout", &|tx| tx.lock_time = TIMEOUT - 1, CLIENT);
    check("without lock time", &|tx| tx.lock_time = 0, CLIENT);
    check("by a timestamp", &|tx| tx.lock_time = 500_000_000_000, CLIENT);
    check("final sequence", &|tx| tx.inputs[0].sequence = u64::MAX, CLIENT);
    check("any other sequence", &|tx| tx.inputs[0].sequence = 1, CLIENT);
    check("by the server", &|_| {}, SERVER);
    check("by a stranger", &|_| {}, STRANGER);
    check("to somebody else", &|tx| tx.outputs[0].script_public_key = pay_to_address_script(&address(STRANGER)), CLIENT);
    check("to the recipient", &|tx| tx.outputs[0].script_public_key = script.payout_script().clone(), CLIENT);
    check("two outputs", &|tx| tx.outputs.push(TransactionOutput::new(KAS, script.refund_script().clone())), CLIENT);
    check("no output", &|tx| tx.outputs.clear(), CLIENT);
    check("the claim branch with a refund's witness", &|tx| tx.inputs[0].signature_script[66] = OpFalse, CLIENT);
}

#[test]
fn a_refund_that_is_not_worth_its_fee_is_not_planned() {
    let script = script();
    assert!(matches!(plan_refund(escrow(&script, 100_000), &rules()), Err(SpendError::Uneconomic { .. })));
    // A continuation at the reserve can still be refunded.
    plan_refund(escrow(&script, 2_000_000), &rules()).unwrap();
}

#[test]
fn a_refund_matures_as_the_vectors_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/escrow-v1");
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let vector: Value = serde_json::from_slice(&fs::read(entry.unwrap().path()).unwrap()).unwrap();
        if vector["kind"] == "refund-maturity" {
            let number = |name: &str| vector[name].as_str().unwrap().parse().unwrap();
            assert_eq!(refund_matured(number("timeoutDaa"), number("currentDaa")), vector["expected"].as_bool().unwrap());
            seen += 1;
        }
    }
    assert_eq!(seen, 3);
}
