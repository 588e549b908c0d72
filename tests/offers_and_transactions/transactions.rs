//! PROTOCOL section 4, and the envelope of section 1: what is wrong with a payment under a right offer.

use crate::{
    support::pay::Ask,
    till::{Draft, Till, request_hash},
};
use kaspa_consensus_core::{
    sign::sign,
    subnets::{SUBNETWORK_ID_COINBASE, SUBNETWORK_ID_NATIVE},
    tx::{ComputeCommit, CovenantBinding, SignableTransaction, Transaction, TransactionInput, TransactionOutput},
};
use kaspa_hashes::Hash;
use serde_json::json;

const FALSE_ID: [u8; 32] = [0xff; 32];

type Change = fn(&mut Draft<'_>);

fn borsh_of(draft: &Draft<'_>) -> String {
    hex::encode(borsh::to_vec(&draft.transaction).unwrap())
}

/// The draft's payment in a transaction of this version and lock time, validly signed.
fn signed(draft: &Draft<'_>, version: u16, lock_time: u64) -> Transaction {
    let input = match version {
        0 => TransactionInput::new(draft.coin.outpoint, vec![], 0, 1),
        _ => TransactionInput::new_with_compute_budget(draft.coin.outpoint, vec![], 0, 20),
    };
    let outputs = draft.transaction.outputs.clone();
    let transaction = Transaction::new(version, vec![input], outputs, lock_time, SUBNETWORK_ID_NATIVE, 0, vec![]);
    transaction.set_storage_mass(draft.transaction.storage_mass());
    sign(SignableTransaction::with_entries(transaction, vec![draft.coin.entry.clone()]), draft.payer.keypair).tx
}

#[rustfmt::skip]
const REFUSED: &[(&str, u16, &str, Change)] = &[
    // the amount, the recipient, the output
    ("1 sompi too much", 402, "invalid_kaspa_exact_payment_output", |d| { let mut o = d.payment(); o.value += 1; d.pay(vec![o]); }),
    ("1 sompi too little", 402, "invalid_kaspa_exact_payment_output", |d| { let mut o = d.payment(); o.value -= 1; d.pay(vec![o]); }),
    ("the right amount to somebody else", 402, "invalid_kaspa_exact_recipient", |d| {
        let o = TransactionOutput::new(d.payment().value, d.payer.script()); d.pay(vec![o]);
    }),
    ("the index of the change", 402, "invalid_kaspa_exact_recipient", |d| d.set("paymentOutputIndex", 1)),
    ("an index behind the outputs", 402, "invalid_kaspa_exact_output_index", |d| d.set("paymentOutputIndex", 2)),
    ("the largest index", 402, "invalid_kaspa_exact_output_index", |d| d.set("paymentOutputIndex", u32::MAX)),
    ("an index over 32 bits", 400, "payment_header_schema", |d| d.set("paymentOutputIndex", 1_u64 << 32)),
    ("a second output that pays the same", 402, "invalid_kaspa_exact_ambiguous_output", |d| { let o = d.payment(); d.pay(vec![o.clone(), o]); }),
    ("a payment bound to a covenant", 402, "invalid_kaspa_exact_covenant_output", |d| d.spoil(|tx| {
        tx.version = 1;
        tx.inputs[0].compute_commit = ComputeCommit::ComputeBudget(20.into());
        tx.outputs[0].covenant = Some(CovenantBinding::new(0, Hash::from_bytes([1; 32])));
    })),
    // the id
    ("a hint of another id", 402, "invalid_kaspa_exact_transaction_id", |d| d.set("transactionId", hex::encode(FALSE_ID))),
    ("a hint that agrees with a false id in the JSON", 402, "invalid_kaspa_exact_transaction_id", |d| {
        d.sdk_json(false, &hex::encode(FALSE_ID)); d.set("transactionId", hex::encode(FALSE_ID));
    }),
    ("a hint that agrees with a false id in the Borsh", 402, "invalid_kaspa_exact_transaction_id", |d| {
        let text = borsh_of(d); d.hex(&(text[..text.len() - 64].to_owned() + &hex::encode(FALSE_ID))); d.set("transactionId", hex::encode(FALSE_ID));
    }),
    ("a hint that is no id", 400, "payment_header_schema", |d| d.set("transactionId", "ff")),
    // the encoding
    ("a byte after the Borsh", 402, "invalid_kaspa_exact_transaction", |d| { let text = borsh_of(d); d.hex(&(text + "00")); }),
    ("a byte after the JSON", 402, "invalid_kaspa_exact_transaction", |d| {
        d.sdk_json(true, ""); let text = d.message["payload"]["transaction"].as_str().unwrap().to_owned(); d.hex(&(text + "7d"));
    }),
    ("Borsh cut short", 402, "invalid_kaspa_exact_transaction", |d| { let text = borsh_of(d); d.hex(&text[..text.len() - 2]); }),
    ("half a byte", 402, "invalid_kaspa_exact_transaction", |d| { let text = borsh_of(d); d.hex(&text[1..]); }),
    ("no hex", 402, "invalid_kaspa_exact_transaction", |d| { let text = borsh_of(d); d.hex(&format!("zz{text}")); }),
    ("nothing", 402, "invalid_kaspa_exact_transaction", |d| d.hex("")),
    ("an unknown field in the JSON", 402, "invalid_kaspa_exact_transaction", |d| d.hex(&hex::encode(r#"{"more":1}"#))),
    ("a vector of 4 GiB", 402, "invalid_kaspa_exact_transaction", |d| d.hex("0000ffffffff")),
    // the form
    ("an unknown version", 402, "invalid_kaspa_exact_transaction_form", |d| d.spoil(|tx| {
        tx.version = 2; tx.inputs[0].compute_commit = ComputeCommit::ComputeBudget(20.into());
    })),
    ("version 1 without a compute budget", 402, "invalid_kaspa_exact_transaction_form", |d| d.spoil(|tx| tx.version = 1)),
    ("version 0 with a compute budget", 402, "invalid_kaspa_exact_transaction_form", |d| d.spoil(|tx| tx.inputs[0].compute_commit = ComputeCommit::ComputeBudget(20.into()))),
    ("a coinbase", 402, "invalid_kaspa_exact_transaction_form", |d| d.spoil(|tx| tx.subnetwork_id = SUBNETWORK_ID_COINBASE)),
    ("gas", 402, "invalid_kaspa_exact_transaction_form", |d| d.spoil(|tx| tx.gas = 1)),
    ("a lock time in the future", 402, "invalid_kaspa_exact_transaction_form", |d| { let tx = signed(d, 0, 1 << 32); d.put(tx); }),
    ("no input", 402, "invalid_kaspa_exact_transaction_form", |d| d.spoil(|tx| tx.inputs.clear())),
    ("257 inputs", 402, "invalid_kaspa_exact_transaction_form", |d| d.spoil(|tx| tx.inputs = vec![tx.inputs[0].clone(); 257])),
    ("65 outputs", 402, "invalid_kaspa_exact_transaction_form", |d| d.spoil(|tx| tx.outputs.extend(vec![tx.outputs[1].clone(); 63]))),
    // the request
    ("the hash of nothing", 402, "invalid_kaspa_exact_request_hash", |d| d.set("requestHash", "00".repeat(32))),
    ("the hash of another path", 402, "invalid_kaspa_exact_request_hash", |d| { let h = request_hash(&Ask::get("/paid/other"), &d.accepted); d.set("requestHash", h); }),
    ("the hash of another query", 402, "invalid_kaspa_exact_request_hash", |d| { let h = request_hash(&Ask::get("/paid/report?n=2"), &d.accepted); d.set("requestHash", h); }),
    ("the hash of another method", 402, "invalid_kaspa_exact_request_hash", |d| { let h = request_hash(&Ask::post("/paid/report?n=1", ""), &d.accepted); d.set("requestHash", h); }),
    ("the hash of another body", 402, "invalid_kaspa_exact_request_hash", |d| {
        let h = request_hash(&Ask { body: b"x".to_vec(), ..Ask::get("/paid/report?n=1") }, &d.accepted); d.set("requestHash", h);
    }),
    ("the hash under another host", 402, "invalid_kaspa_exact_request_hash", |d| { let h = request_hash(&Ask::get("/paid/report?n=1").header("host", "a.test"), &d.accepted); d.set("requestHash", h); }),
    ("the hash under another offer", 402, "invalid_kaspa_exact_request_hash", |d| {
        let mut other = d.accepted.clone(); other["extra"]["offer"] = "v1".into();
        let h = request_hash(&Ask::get("/paid/report?n=1"), &other); d.set("requestHash", h);
    }),
    ("a hash that is none", 400, "payment_header_schema", |d| d.set("requestHash", "00")),
    // the envelope
    ("another version of x402", 402, "invalid_kaspa_x402_version", |d| d.message["x402Version"] = json!(1)),
    ("a version as text", 400, "payment_header_schema", |d| d.message["x402Version"] = json!("2")),
    ("a voucher", 402, "invalid_kaspa_x402_payload_type", |d| d.set("type", "voucher")),
    ("a claim", 402, "invalid_kaspa_x402_payload_type", |d| d.set("type", "claim")),
    ("an unknown field of the payload", 400, "payment_header_schema", |d| d.set("more", 1)),
    ("no transaction", 400, "payment_header_schema", |d| d.unset("transaction")),
    ("a top-level extra", 400, "payment_header_schema", |d| d.message["extra"] = json!({})),
    ("no accepted", 400, "payment_header_schema", |d| d.message["accepted"] = json!(null)),
    ("a proof without a signature", 400, "payment_header_schema", |d| d.message["extensions"] = json!({"kaspa": {"payerProof": {"type": "schnorr"}}})),
    // the node
    ("a wrong signature", 402, "invalid_kaspa_exact_transaction_rejected", |d| d.spoil(|tx| tx.inputs[0].signature_script[5] ^= 1)),
];

#[rustfmt::skip]
const ACCEPTED: &[(&str, Change)] = &[
    ("as it should be", |_| {}),
    ("without hints", |d| { d.unset("transactionId"); d.unset("requestHash"); }),
    ("an address nobody believes", |d| d.set("payerAddress", "kaspasim:somebody")),
    ("upper-case hex", |d| for field in ["transaction", "transactionId", "requestHash"] {
        let text = d.message["payload"][field].as_str().unwrap().to_uppercase(); d.set(field, text);
    }),
    ("the payment behind another output", |d| {
        let o = d.payment(); d.pay(vec![TransactionOutput::new(o.value, d.payer.script()), o]); d.set("paymentOutputIndex", 1);
    }),
    ("another amount to the recipient besides", |d| { let o = d.payment(); let mut more = o.clone(); more.value += 1; d.pay(vec![o, more]); }),
    ("a false id in the SDK's plain JSON", |d| d.sdk_json(false, &hex::encode(FALSE_ID))),
    ("a false id in the SDK's safe JSON", |d| d.sdk_json(true, &hex::encode(FALSE_ID))),
    ("a false id and mass in the Borsh", |d| { let text = borsh_of(d); d.hex(&(text[..text.len() - 80].to_owned() + &"ff".repeat(40))); }),
    ("a lock time that is reached", |d| { let tx = signed(d, 0, 1); d.put(tx); }),
    ("version 1 with a compute budget", |d| { let tx = signed(d, 1, 0); d.put(tx); }),
];

pub async fn check(till: &Till) {
    let ask = Ask::get("/paid/report?n=1");
    let accepted = till.offer(&ask).await;
    for (name, status, code, change) in REFUSED {
        let mut draft = till.draft(&ask, &accepted, till.refused_coin());
        change(&mut draft);
        till.refuse(name, &ask, &draft.message, *status, code).await;
    }
    till.refused_coin_still_pays(&ask).await;
    for (name, change) in ACCEPTED {
        let mut draft = till.draft(&ask, &accepted, till.coin());
        change(&mut draft);
        till.sell(name, &ask, &draft.message, &draft.transaction).await;
    }
}

/// Accepted payments of [`check`], besides the coin of the refused ones.
pub const PURCHASES: usize = ACCEPTED.len();
