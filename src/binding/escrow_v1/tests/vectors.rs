//! Every vector of `vectors/escrow-v1`: given ones, and those that `vectors/independent/escrow_v1.py` computed.

use crate::{
    binding::escrow_v1::{
        ChannelConfig, EscrowParams, EscrowScript, SignedVoucher, TemplateId, VoucherKey,
        hashes::{BatchTerms, Commitment},
        script::serialize,
        voucher,
    },
    protocol::{
        amount::{Amount, parse_canonical_u64},
        ids::{Outpoint, SchnorrSignature, XOnlyKey},
        network::Network,
    },
};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, fs, path::Path};

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{pointer} of {value}"))
}

fn read<T: for<'de> Deserialize<'de>>(value: &Value, pointer: &str) -> T {
    serde_json::from_value(value.pointer(pointer).unwrap_or_else(|| panic!("{pointer}")).clone()).unwrap()
}

fn number(value: &Value, pointer: &str) -> u64 {
    parse_canonical_u64(text(value, pointer)).unwrap()
}

fn bytes(value: &Value, pointer: &str) -> Vec<u8> {
    hex::decode(text(value, pointer)).unwrap()
}

fn hash(value: &Value, pointer: &str) -> [u8; 32] {
    bytes(value, pointer).try_into().unwrap()
}

fn check_channel_id(vector: &Value) {
    let config: ChannelConfig = read(vector, "/input");
    assert_eq!(hex::encode(config.id_preimage()), text(vector, "/expected/preimage"));
    assert_eq!(config.channel_id().to_string(), text(vector, "/expected/channelId"));
    assert_eq!(serde_json::to_value(&config).unwrap(), vector["input"], "emitted as it was read");
    EscrowScript::of(&config).unwrap();
}

fn check_voucher_digest(vector: &Value) {
    for case in vector["cases"].as_array().unwrap() {
        let script_hash = Sha256::digest(bytes(case, "/input/activeScriptPublicKey")).into();
        let outpoint: Outpoint = read(case, "/input/outpoint");
        let preimage = voucher::preimage(read(case, "/input/network"), &script_hash, outpoint, number(case, "/input/amount"));
        assert_eq!(hex::encode(preimage), text(case, "/expected/preimage"), "{}", case["name"]);
        assert_eq!(hex::encode(Sha256::digest(preimage)), text(case, "/expected/digest"), "{}", case["name"]);
    }
}

fn check_voucher_signature(vector: &Value) {
    let key: XOnlyKey = read(vector, "/input/publicKey");
    let signature: SchnorrSignature = read(vector, "/input/signature");
    let valid = VoucherKey::parse(key).is_some_and(|key| key.verify(&hash(vector, "/input/digest"), &signature));
    assert_eq!(valid, vector["expected"]["valid"].as_bool().unwrap());
}

fn check_escrow_script(vector: &Value) {
    let params = EscrowParams {
        client_key: read(vector, "/input/clientPublicKey"),
        server_key: read(vector, "/input/serverPublicKey"),
        network: read(vector, "/input/network"),
        payout_script_hash: hash(vector, "/input/payoutScriptPublicKeyHash"),
        refund_script_hash: hash(vector, "/input/refundScriptPublicKeyHash"),
        timeout_daa: number(vector, "/input/timeoutDaa"),
    };
    let redeem = params.redeem_script().unwrap();
    assert_eq!(hex::encode(&redeem), text(vector, "/expected/redeemScript"));
    let lock = kaspa_txscript::pay_to_script_hash_script(&redeem);
    assert_eq!(hex::encode(serialize(&lock)), text(vector, "/expected/scriptPublicKey"));
}

fn terms(accepted: &Value) -> BatchTerms<'_> {
    BatchTerms {
        network: read(accepted, "/network"),
        amount: read(accepted, "/amount"),
        pay_to: text(accepted, "/payTo"),
        max_timeout_seconds: accepted["maxTimeoutSeconds"].as_u64().unwrap(),
        template: read(accepted, "/extra/templateId"),
        server_key: read(accepted, "/extra/serverPublicKey"),
        min_deposit: read(accepted, "/extra/minDepositSompi"),
        refund_timeout_daa: number(accepted, "/extra/refundTimeoutDaa"),
    }
}

fn check_requirements_hash(vector: &Value) {
    assert_eq!(hex::encode(terms(&vector["input"]).hash()), text(vector, "/expected/hash"));
}

fn check_commitment_id(vector: &Value) {
    let commitment = Commitment {
        channel: read(vector, "/input/channelId"),
        request_hash: read(vector, "/input/requestFingerprint"),
        requirements_hash: terms(&vector["input"]["accepted"]).hash(),
        outpoint: read(vector, "/input/activeOutpoint"),
        voucher: read::<SignedVoucher>(vector, "/input/voucher"),
        charge: read(vector, "/input/chargedAmount"),
        charged_before: read(vector, "/input/chargedCumulativeBefore"),
        charged_after: read(vector, "/input/chargedCumulativeAfter"),
        claimed: read(vector, "/input/claimedCumulativeAmount"),
    };
    assert_eq!(commitment.id().to_string(), text(vector, "/expected/commitmentId"));
}

#[test]
fn every_vector_of_the_escrow_is_met() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/escrow-v1");
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let vector: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        println!("{}", path.display());
        let kind = text(&vector, "/kind");
        match kind {
            "channel-id" => check_channel_id(&vector),
            "voucher-digest" => check_voucher_digest(&vector),
            "voucher-signature" => check_voucher_signature(&vector),
            "escrow-script" => check_escrow_script(&vector),
            "requirements-hash" => check_requirements_hash(&vector),
            "commitment-id" => check_commitment_id(&vector),
            "refund-maturity" => {}
            other => panic!("no check for {other}"),
        }
        *counts.entry(kind.to_owned()).or_default() += 1;
    }
    assert_eq!(counts.len(), 7, "{counts:?}");
}

#[test]
fn the_vectors_are_what_the_independent_program_computes() {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/independent/escrow_v1.py");
    let Ok(run) = std::process::Command::new("python3").arg("-B").arg(program).arg("--check").output() else {
        eprintln!("SKIPPED: no python3 here, the vectors were not computed anew");
        return;
    };
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

#[test]
fn a_public_key_hash_of_the_wire_is_that_of_the_serialized_script() {
    let key = [0x55; 32];
    let script = kaspa_txscript::pay_to_address_script(&kaspa_addresses::Address::new(
        Network::Testnet10.address_prefix(),
        kaspa_addresses::Version::PubKey,
        &key,
    ));
    // The payout script and its hash as the given sample has them.
    assert_eq!(hex::encode(serialize(&script)), format!("000020{}ac", "55".repeat(32)));
    let expect = "b99ac42fd048ced7f710abe60dfcf6c7dfcd0772cfba99716574c9d47bf6962f";
    assert_eq!(hex::encode(Sha256::digest(serialize(&script))), expect);
}

#[test]
fn no_voucher_reaches_the_numbers_that_a_script_reads_as_negative() {
    let amount = Amount::from_sompi(crate::protocol::amount::MAX_SOMPI).unwrap();
    assert!(amount.sompi() < 1 << 63);
    assert_eq!(TemplateId::EscrowV1.as_str(), "kaspa-x402-escrow-v1");
}
