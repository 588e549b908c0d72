//! The exact binding against a transaction that the Kaspa SDK signed, and against every single change of it.

use super::{
    ExactTransfer, decode,
    payload::ExactType,
    verify::{self, Facts, verify},
};
use crate::protocol::{
    amount::Amount,
    ids::{RequestHash, TxId},
    limits,
    network::Network,
    refusal::Code,
    requirements::{Asset, ExactExtra, Extra, Finality, PaymentFlow, Requirements, Scheme},
};
use crate::wire::envelope::{PayerProof, ProofType};
use kaspa_consensus_core::{
    subnets::{SUBNETWORK_ID_COINBASE, SUBNETWORK_ID_REGISTRY},
    tx::{ComputeCommit, CovenantBinding, Transaction},
};
use kaspa_hashes::Hash;
use serde_json::Value;

const PRICE: u64 = 25_000_000;

fn vector() -> Value {
    serde_json::from_str(include_str!("../../../vectors/sdk-transaction.json")).unwrap()
}

fn txid() -> TxId {
    vector()["transactionId"].as_str().unwrap().parse().unwrap()
}

fn signed() -> Transaction {
    decode::decode(vector()["plainHex"].as_str().unwrap()).unwrap()
}

fn accepted() -> Requirements {
    let script = signed().outputs[0].script_public_key.clone();
    let address = kaspa_txscript::extract_script_pub_key_address(&script, kaspa_addresses::Prefix::Simnet).unwrap();
    Requirements {
        scheme: Scheme::Exact,
        network: Network::Simnet,
        amount: Amount::from_sompi(PRICE).unwrap(),
        asset: Asset::Kas,
        pay_to: address.to_string(),
        max_timeout_seconds: 60,
        extra: Extra::Exact(ExactExtra { finality: Finality::Accepted, payment_flow: PaymentFlow::Upfront, offer: "v1".into() }),
    }
}

const HASH: RequestHash = RequestHash([5; 32]);

fn transfer(transaction: &str) -> ExactTransfer {
    ExactTransfer {
        r#type: ExactType::ExactTransfer,
        payer_address: None,
        transaction: transaction.to_owned(),
        transaction_id: None,
        payment_output_index: 0,
        request_hash: None,
    }
}

/// The code of the refusal; `None` when the payment is right.
fn judge(transfer: &ExactTransfer, accepted: &Requirements, require_request_hash: bool) -> Option<Code> {
    let facts = Facts { accepted, request_hash: HASH, require_request_hash, daa_score: 1_000 };
    verify(transfer, None, facts).err().map(|fault| fault.code)
}

/// Borsh, with the id and the mass as the sender likes them.
fn hex_of(transaction: &Transaction) -> String {
    hex::encode(borsh::to_vec(transaction).unwrap())
}

/// The verdict on the SDK's transaction after one change.
fn changed(change: impl Fn(&mut Transaction)) -> Option<Code> {
    let mut transaction = signed();
    change(&mut transaction);
    judge(&transfer(&hex_of(&transaction)), &accepted(), false)
}

#[test]
fn the_sdks_transaction_decodes_in_every_encoding_to_the_same_id() {
    for name in ["plainHex", "safeHex"] {
        let transaction = decode::decode(vector()[name].as_str().unwrap()).unwrap();
        assert_eq!(TxId::from(transaction.id()), txid(), "{name}");
        assert_eq!(decode::decode(&hex_of(&transaction)).unwrap(), transaction, "{name} as Borsh");
        assert_eq!(decode::read_stored(&decode::encode(&transaction)).unwrap(), transaction, "{name} as stored");
    }
    assert_eq!(judge(&transfer(vector()["plainHex"].as_str().unwrap()), &accepted(), false), None);
    assert_eq!(judge(&transfer(vector()["safeHex"].as_str().unwrap()), &accepted(), false), None);
    assert_eq!(judge(&transfer(&vector()["safeHex"].as_str().unwrap().to_uppercase()), &accepted(), false), None);
}

#[test]
fn an_id_inside_an_encoding_is_never_believed() {
    // JSON: the id field says something else.
    let mut json = vector()["plain"].clone();
    json["id"] = "ff".repeat(32).into();
    let transaction = decode::decode(&hex::encode(json.to_string())).unwrap();
    assert_eq!(TxId::from(transaction.id()), txid());
    // Borsh: the last 32 bytes are the id, the 8 before it the mass.
    let mut bytes = borsh::to_vec(&signed()).unwrap();
    let end = bytes.len();
    bytes[end - 40..].fill(0xff);
    let transaction = decode::decode(&hex::encode(bytes)).unwrap();
    assert_eq!(TxId::from(transaction.id()), txid());
    assert_eq!(transaction.storage_mass(), 0);
}

#[test]
fn what_is_no_transaction_is_refused() {
    let plain = vector()["plain"].clone();
    let json = |change: &dyn Fn(&mut Value)| {
        let mut value = plain.clone();
        change(&mut value);
        hex::encode(value.to_string())
    };
    let borsh = hex_of(&signed());
    for (name, transaction) in [
        ("empty", String::new()),
        ("not hex", "zz".into()),
        ("odd hex", "000".into()),
        ("cut Borsh", borsh[..borsh.len() - 2].to_owned()),
        ("trailing Borsh", format!("{borsh}00")),
        ("trailing JSON", format!("{}{}", hex::encode(plain.to_string()), hex::encode(" {}"))),
        ("an unknown field", json(&|v| v["more"] = 1.into())),
        ("an unknown input field", json(&|v| v["inputs"][0]["more"] = 1.into())),
        ("a negative number", json(&|v| v["lockTime"] = (-1).into())),
        ("a float", json(&|v| v["gas"] = 0.5.into())),
        ("a leading zero", json(&|v| v["outputs"][0]["value"] = "025000000".into())),
        ("a missing field", json(&|v| drop(v.as_object_mut().unwrap().remove("gas")))),
        ("a budget on version 0", json(&|v| v["inputs"][0]["computeBudget"] = 1.into())),
        ("signature operations on version 1", json(&|v| v["version"] = 1.into())),
        ("too long", "00".repeat(limits::TX_BYTES + 1)),
        ("a vector length of 4 GiB", format!("0000{}", "ff".repeat(4))),
    ] {
        assert_eq!(judge(&transfer(&transaction), &accepted(), false), Some(Code::TransactionUndecodable), "{name}");
    }
}

#[test]
fn the_output_pays_exactly_the_price_to_exactly_the_recipient_once() {
    assert_eq!(changed(|_| {}), None);
    assert_eq!(changed(|tx| tx.outputs[0].value += 1), Some(Code::OutputAmount));
    assert_eq!(changed(|tx| tx.outputs[0].value -= 1), Some(Code::OutputAmount));
    assert_eq!(changed(|tx| tx.outputs[0].script_public_key = tx.outputs[1].script_public_key.clone()), Some(Code::OutputRecipient));
    assert_eq!(changed(|tx| tx.outputs.push(tx.outputs[0].clone())), Some(Code::OutputAmbiguous));
    assert_eq!(changed(|tx| tx.outputs.insert(0, tx.outputs[0].clone())), Some(Code::OutputAmbiguous));
    assert_eq!(changed(|tx| tx.outputs.clear()), Some(Code::OutputIndex));
    let two_prices = |tx: &mut Transaction| {
        let mut other = tx.outputs[0].clone();
        other.value += 1;
        tx.outputs.push(other);
    };
    assert_eq!(changed(two_prices), None, "another amount to the recipient is not a second payment");
    let covenant = |tx: &mut Transaction| {
        tx.version = 1;
        tx.inputs[0].compute_commit = ComputeCommit::ComputeBudget(10.into());
        tx.outputs[0].covenant = Some(CovenantBinding::new(0, Hash::from_bytes([1; 32])));
    };
    assert_eq!(changed(covenant), Some(Code::OutputCovenant));
}

#[test]
fn hints_must_be_true_and_the_index_must_exist() {
    let borsh = hex_of(&signed());
    let with = |change: &dyn Fn(&mut ExactTransfer)| {
        let mut payload = transfer(&borsh);
        change(&mut payload);
        judge(&payload, &accepted(), false)
    };
    assert_eq!(with(&|p| p.transaction_id = Some(txid())), None);
    assert_eq!(with(&|p| p.transaction_id = Some(TxId([1; 32]))), Some(Code::TransactionId));
    assert_eq!(with(&|p| p.payment_output_index = 1), Some(Code::OutputRecipient));
    assert_eq!(with(&|p| p.payment_output_index = 2), Some(Code::OutputIndex));
    assert_eq!(with(&|p| p.payment_output_index = u32::MAX), Some(Code::OutputIndex));
    assert_eq!(with(&|p| p.payer_address = Some("not believed".into())), None);
}

#[test]
fn the_request_hash_must_be_this_requests_when_present_or_required() {
    let borsh = hex_of(&signed());
    let with = |hash, required| judge(&ExactTransfer { request_hash: hash, ..transfer(&borsh) }, &accepted(), required);
    assert_eq!(with(None, false), None);
    assert_eq!(with(Some(HASH), false), None);
    assert_eq!(with(Some(HASH), true), None);
    assert_eq!(with(None, true), Some(Code::RequestHashRequired));
    assert_eq!(with(Some(RequestHash([6; 32])), false), Some(Code::RequestHashMismatch));
    assert_eq!(with(Some(RequestHash([6; 32])), true), Some(Code::RequestHashMismatch));
}

#[test]
fn only_an_ordinary_final_transaction_pays() {
    let budget = |tx: &mut Transaction| tx.inputs[0].compute_commit = ComputeCommit::ComputeBudget(10.into());
    for (name, verdict, expect) in [
        (
            "version 1 with a budget",
            changed(|tx| {
                tx.version = 1;
                budget(tx);
            }),
            None,
        ),
        ("version 1 without a budget", changed(|tx| tx.version = 1), Some(Code::TransactionForm)),
        ("version 0 with a budget", changed(budget), Some(Code::TransactionForm)),
        (
            "version 2",
            changed(|tx| {
                tx.version = 2;
                budget(tx);
            }),
            Some(Code::TransactionForm),
        ),
        ("coinbase", changed(|tx| tx.subnetwork_id = SUBNETWORK_ID_COINBASE), Some(Code::TransactionForm)),
        ("registry", changed(|tx| tx.subnetwork_id = SUBNETWORK_ID_REGISTRY), Some(Code::TransactionForm)),
        ("gas", changed(|tx| tx.gas = 1), Some(Code::TransactionForm)),
        ("no input", changed(|tx| tx.inputs.clear()), Some(Code::TransactionForm)),
        ("too many inputs", changed(|tx| tx.inputs = vec![tx.inputs[0].clone(); limits::TX_INPUTS + 1]), Some(Code::TransactionForm)),
        ("lock time reached", changed(|tx| tx.lock_time = 999), None),
        ("lock time now", changed(|tx| tx.lock_time = 1_000), Some(Code::TransactionForm)),
        ("lock time as a timestamp", changed(|tx| tx.lock_time = limits::LOCK_TIME_THRESHOLD), Some(Code::TransactionForm)),
        (
            "lock time without effect",
            changed(|tx| {
                tx.lock_time = u64::MAX;
                tx.inputs[0].sequence = u64::MAX;
            }),
            None,
        ),
    ] {
        assert_eq!(verdict, expect, "{name}");
    }
}

#[test]
fn a_payment_may_be_as_large_as_its_limits_and_no_larger() {
    let of_inputs = |count| changed(move |tx| tx.inputs = vec![tx.inputs[0].clone(); count]);
    assert_eq!((of_inputs(limits::TX_INPUTS), of_inputs(limits::TX_INPUTS + 1)), (None, Some(Code::TransactionForm)));
    let of_outputs = |count| changed(move |tx| tx.outputs.resize(count, tx.outputs[1].clone()));
    assert_eq!((of_outputs(limits::TX_OUTPUTS), of_outputs(limits::TX_OUTPUTS + 1)), (None, Some(Code::TransactionForm)));
    let of_bytes = |bytes: usize| {
        let mut transaction = signed();
        transaction.payload = vec![0; bytes - borsh::to_vec(&transaction).unwrap().len()];
        let encoded = hex_of(&transaction);
        assert_eq!(encoded.len(), 2 * bytes);
        decode::decode(&encoded).map(|read| read.payload.len() == transaction.payload.len())
    };
    assert_eq!((of_bytes(limits::TX_BYTES), of_bytes(limits::TX_BYTES + 1)), (Ok(true), Err(decode::DecodeError::TooLarge)));
}

#[test]
fn a_lock_time_that_the_network_reads_as_a_time_is_never_reached_by_a_score() {
    let mut transaction = signed();
    let mut judged = |lock_time| {
        transaction.lock_time = lock_time;
        verify::form(&transaction, u64::MAX).err().map(|fault| fault.code)
    };
    assert_eq!(judged(limits::LOCK_TIME_THRESHOLD - 1), None);
    assert_eq!(judged(limits::LOCK_TIME_THRESHOLD), Some(Code::TransactionForm));
}

#[test]
fn a_verified_payment_says_what_was_verified() {
    let mut other = signed();
    other.outputs.swap(0, 1);
    let proof = PayerProof { r#type: ProofType::Schnorr, public_key: crate::protocol::ids::XOnlyKey([1; 32]), signature: "ab".repeat(64) };
    let terms = accepted();
    for (transaction, index, proof) in [(signed(), 0, None), (other, 1, Some(proof))] {
        let payload = ExactTransfer { payment_output_index: index, ..transfer(&hex_of(&transaction)) };
        let facts = Facts { accepted: &terms, request_hash: HASH, require_request_hash: false, daa_score: 1_000 };
        let transaction = decode::decode(&payload.transaction).unwrap();
        let verified = verify(&payload, proof.clone(), facts).unwrap();
        assert_eq!(verified.transaction(), &transaction);
        assert_eq!((verified.txid(), verified.output_index()), (TxId::from(transaction.id()), index));
        assert_eq!((verified.request_hash(), verified.payer_proof()), (HASH, proof.as_ref()));
    }
}
