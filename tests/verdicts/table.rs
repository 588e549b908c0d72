//! The negative cases: what is changed in a good payment, and the code that it gets for it.

use crate::support::{
    channel::{self, Channel},
    devnet::{Coin, Wallet},
    pay::{self, Ask},
};
use kas402::wire::identifier;
use kaspa_consensus_core::{
    mass::ComputeBudget,
    subnets::SUBNETWORK_ID_COINBASE,
    tx::{ComputeCommit, CovenantBinding, Transaction, TransactionInput},
};
use kaspa_hashes::Hash;
use serde_json::{Value, json};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Exact,
    /// A `deposit-voucher` for a channel that nobody knows yet.
    Batch,
}

impl Scheme {
    pub fn word(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Batch => "batch-settlement",
        }
    }
}

pub struct Case {
    pub name: &'static str,
    pub scheme: Scheme,
    pub change: fn(&mut Value),
    pub code: &'static str,
    /// Only the node can tell.
    pub by_node: bool,
}

/// Of every good payment.
pub const IDENTIFIER: &str = "identifier-of-this-payment";

/// A good payment under these terms, without the client's own request hash; nothing of it is sent.
pub fn base(scheme: Scheme, payer: &Wallet, coins: &[Coin], terms: &Value) -> Value {
    let mut message = match scheme {
        Scheme::Exact => pay::message(&Ask::get("/"), terms, &pay::transaction(payer, coins, terms)),
        Scheme::Batch => {
            let channel = Channel::under(terms, payer, coins, 600_000_000);
            let amount = channel::number(&terms["amount"]);
            let payload = channel.deposit_payload(Some(&channel.deposit), channel.outpoint, channel.funding, amount);
            json!({"x402Version": 2, "accepted": terms, "payload": payload})
        }
    };
    message["payload"].as_object_mut().unwrap().remove("requestHash");
    message["extensions"][identifier::NAME] = identifier::advertise(true).clone();
    message["extensions"][identifier::NAME]["info"]["id"] = IDENTIFIER.into();
    message
}

const fn exact(name: &'static str, code: &'static str, change: fn(&mut Value)) -> Case {
    Case { name, scheme: Scheme::Exact, change, code, by_node: false }
}

const fn batch(name: &'static str, code: &'static str, change: fn(&mut Value)) -> Case {
    Case { name, scheme: Scheme::Batch, change, code, by_node: false }
}

fn without(value: &mut Value, name: &str) {
    value.as_object_mut().unwrap().remove(name);
}

/// The transaction of an exact payment.
pub fn decoded_transaction(message: &Value) -> Transaction {
    borsh::from_slice(&hex::decode(message["payload"]["transaction"].as_str().unwrap()).unwrap()).unwrap()
}

/// Another transaction in the same payment, under its own id.
fn transaction(message: &mut Value, change: impl FnOnce(&mut Transaction)) {
    let mut transaction = decoded_transaction(message);
    change(&mut transaction);
    transaction.finalize();
    message["payload"]["transaction"] = hex::encode(borsh::to_vec(&transaction).unwrap()).into();
    message["payload"]["transactionId"] = transaction.id().to_string().into();
}

const OTHER_HASH: &str = "5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c";

pub const CASES: &[Case] = &[
    // the envelope
    exact("another version", "invalid_kaspa_x402_version", |m| m["x402Version"] = 1.into()),
    exact("no version", "payment_header_schema", |m| without(m, "x402Version")),
    exact("a version in words", "payment_header_schema", |m| m["x402Version"] = "2".into()),
    exact("a member too many", "payment_header_schema", |m| m["more"] = 1.into()),
    exact("no terms", "payment_header_schema", |m| without(m, "accepted")),
    exact("no payload", "payment_header_schema", |m| without(m, "payload")),
    exact("a payload that is a list", "payment_header_schema", |m| m["payload"] = json!([])),
    exact("extensions that are a list", "payment_header_schema", |m| m["extensions"] = json!([])),
    exact("a resource that is a word", "payment_header_schema", |m| m["resource"] = "x".into()),
    exact("a proof of nothing", "payment_header_schema", |m| m["extensions"]["kaspa"] = json!({"payerProof": {}})),
    exact("a scheme of others", "invalid_kaspa_x402_scheme", |m| m["accepted"]["scheme"] = "upto".into()),
    exact("no scheme", "payment_header_schema", |m| without(&mut m["accepted"], "scheme")),
    exact("a network that is none", "invalid_kaspa_x402_network", |m| m["accepted"]["network"] = "kaspa:nowhere".into()),
    exact("another network", "invalid_kaspa_x402_network", |m| m["accepted"]["network"] = "kaspa:testnet-10".into()),
    exact("another asset", "invalid_kaspa_x402_asset", |m| m["accepted"]["asset"] = "USDC".into()),
    exact("another binding", "invalid_kaspa_x402_binding", |m| m["accepted"]["extra"]["binding"] = "kaspa-exact-v2".into()),
    exact("the other scheme's binding", "invalid_kaspa_x402_binding", |m| m["accepted"]["extra"]["binding"] = "kaspa-escrow-v1".into()),
    // the terms
    exact("a lower price", "offer_not_ours", |m| m["accepted"]["amount"] = "1".into()),
    exact("a price that is a number", "offer_not_ours", |m| m["accepted"]["amount"] = 25_000_000.into()),
    exact("a price with a zero in front", "offer_not_ours", |m| m["accepted"]["amount"] = "025000000".into()),
    exact("another recipient", "offer_not_ours", |m| m["accepted"]["payTo"] = Wallet::new(99).address().to_string().into()),
    exact("more time", "offer_not_ours", |m| m["accepted"]["maxTimeoutSeconds"] = 86_400.into()),
    // the payload
    exact("a voucher", "invalid_kaspa_x402_payload_type", |m| m["payload"]["type"] = "voucher".into()),
    exact("no type", "payment_header_schema", |m| without(&mut m["payload"], "type")),
    exact("no transaction", "payment_header_schema", |m| without(&mut m["payload"], "transaction")),
    exact("no output index", "payment_header_schema", |m| without(&mut m["payload"], "paymentOutputIndex")),
    exact("an output index below zero", "payment_header_schema", |m| m["payload"]["paymentOutputIndex"] = (-1).into()),
    exact("an id that is too short", "payment_header_schema", |m| m["payload"]["transactionId"] = "ab".into()),
    exact("a payload with more", "payment_header_schema", |m| m["payload"]["more"] = 1.into()),
    exact("a request hash that is none", "payment_header_schema", |m| m["payload"]["requestHash"] = "zz".into()),
    exact("the request hash of another", "invalid_kaspa_exact_request_hash", |m| m["payload"]["requestHash"] = OTHER_HASH.into()),
    // the transaction
    exact("no hex", "invalid_kaspa_exact_transaction", |m| m["payload"]["transaction"] = "zz".into()),
    exact("nothing", "invalid_kaspa_exact_transaction", |m| m["payload"]["transaction"] = "".into()),
    exact("half a transaction", "invalid_kaspa_exact_transaction", |m| {
        let hex = m["payload"]["transaction"].as_str().unwrap();
        m["payload"]["transaction"] = hex[..hex.len() / 4 * 2].into();
    }),
    exact("a byte too many", "invalid_kaspa_exact_transaction", |m| {
        m["payload"]["transaction"] = format!("{}00", m["payload"]["transaction"].as_str().unwrap()).into();
    }),
    exact("another id", "invalid_kaspa_exact_transaction_id", |m| m["payload"]["transactionId"] = OTHER_HASH.into()),
    exact("an output that is not there", "invalid_kaspa_exact_output_index", |m| m["payload"]["paymentOutputIndex"] = 99.into()),
    exact("the change", "invalid_kaspa_exact_recipient", |m| m["payload"]["paymentOutputIndex"] = 1.into()),
    exact("a sompi too little", "invalid_kaspa_exact_payment_output", |m| transaction(m, |t| t.outputs[0].value -= 1)),
    exact("a sompi too much", "invalid_kaspa_exact_payment_output", |m| transaction(m, |t| t.outputs[0].value += 1)),
    exact("twice the same output", "invalid_kaspa_exact_ambiguous_output", |m| {
        transaction(m, |t| t.outputs.push(t.outputs[0].clone()));
    }),
    exact("an output bound to a covenant", "invalid_kaspa_exact_covenant_output", |m| {
        transaction(m, |t| {
            t.version = 1;
            t.inputs.iter_mut().for_each(|input| input.compute_commit = ComputeCommit::ComputeBudget(ComputeBudget(10)));
            t.outputs[0].covenant = Some(CovenantBinding::new(0, Hash::from_bytes([1; 32])));
        });
    }),
    exact("no inputs", "invalid_kaspa_exact_transaction_form", |m| transaction(m, |t| t.inputs.clear())),
    exact("too many inputs", "invalid_kaspa_exact_transaction_form", |m| {
        transaction(m, |t| t.inputs = vec![TransactionInput::new(t.inputs[0].previous_outpoint, vec![], 0, 1); 300]);
    }),
    exact("gas", "invalid_kaspa_exact_transaction_form", |m| transaction(m, |t| t.gas = 1)),
    exact("a coinbase", "invalid_kaspa_exact_transaction_form", |m| transaction(m, |t| t.subnetwork_id = SUBNETWORK_ID_COINBASE)),
    exact("a lock time far ahead", "invalid_kaspa_exact_transaction_form", |m| transaction(m, |t| t.lock_time = 400_000_000_000)),
    Case {
        name: "a signature of nobody's",
        scheme: Scheme::Exact,
        change: |m| transaction(m, |t| t.inputs[0].signature_script[10] ^= 1),
        code: "invalid_kaspa_exact_transaction_rejected",
        by_node: true,
    },
    // a deposit and its voucher
    batch("a type of nobody's", "invalid_kaspa_x402_payload_type", |m| m["payload"]["type"] = "exact-transfer".into()),
    batch("a refund", "payment_type_not_allowed", |m| {
        let payload = &m["payload"];
        m["payload"] = json!({
            "type": "refund", "channelId": payload["channelId"], "fundingOutpoint": payload["fundingOutpoint"],
            "activeScriptPublicKey": payload["activeScriptPublicKey"], "voucher": payload["voucher"],
            "refundAddress": payload["channelConfig"]["refundAddress"], "refundAmount": "1",
        });
    }),
    batch("a voucher of a channel nobody knows", "channel_unknown", |m| {
        let payload = &m["payload"];
        m["payload"] = json!({
            "type": "voucher", "channelId": payload["channelId"], "clientPublicKey": payload["channelConfig"]["clientPublicKey"],
            "fundingOutpoint": payload["fundingOutpoint"], "activeScriptPublicKey": payload["activeScriptPublicKey"],
            "voucher": payload["voucher"],
        });
    }),
    batch("an identifier that is too short", "payment_identifier_malformed", |m| {
        m["extensions"][identifier::NAME]["info"]["id"] = "x".into()
    }),
    batch("no voucher", "payment_header_schema", |m| without(&mut m["payload"], "voucher")),
    batch("no configuration", "payment_header_schema", |m| without(&mut m["payload"], "channelConfig")),
    batch("a deposit with more", "payment_header_schema", |m| m["payload"]["more"] = 1.into()),
    batch("a lower ceiling", "offer_not_ours", |m| m["accepted"]["amount"] = "1".into()),
    batch("another server key in the terms", "offer_not_ours", |m| m["accepted"]["extra"]["serverPublicKey"] = OTHER_HASH.into()),
    batch("another server key", "invalid_kaspa_escrow_server_key", |m| {
        m["payload"]["channelConfig"]["serverPublicKey"] = OTHER_HASH.into()
    }),
    batch("another recipient", "invalid_kaspa_escrow_pay_to", |m| {
        m["payload"]["channelConfig"]["payTo"] = Wallet::new(99).address().to_string().into();
    }),
    batch("another timeout", "invalid_kaspa_escrow_refund_timeout", |m| m["payload"]["channelConfig"]["refundTimeoutDaa"] = "1".into()),
    batch("another network", "invalid_kaspa_x402_network", |m| m["payload"]["channelConfig"]["network"] = "kaspa:testnet-10".into()),
    batch("another channel's id", "invalid_kaspa_escrow_channel_id", |m| m["payload"]["channelId"] = OTHER_HASH.into()),
    batch("another script", "invalid_kaspa_escrow_script", |m| {
        let script = m["payload"]["activeScriptPublicKey"].as_str().unwrap();
        m["payload"]["activeScriptPublicKey"] = format!("{}{OTHER_HASH}{}", &script[..8], &script[72..]).into();
    }),
    batch("another address", "invalid_kaspa_escrow_address", |m| {
        m["payload"]["escrowAddress"] = Wallet::new(99).address().to_string().into();
    }),
    batch("a deposit below the least", "deposit_too_small", |m| m["payload"]["fundingAmountSompi"] = "499999999".into()),
    batch("more than the output holds", "invalid_kaspa_escrow_funding_amount", |m| m["payload"]["fundingAmountSompi"] = "600000001".into()),
    batch("a voucher of nobody's", "voucher_signature", |m| m["payload"]["voucher"]["signature"] = "5c".repeat(64).into()),
    batch("a voucher for more than it says", "voucher_signature", |m| m["payload"]["voucher"]["amount"] = "25000001".into()),
    batch("another output", "voucher_signature", |m| m["payload"]["fundingOutpoint"]["index"] = 9.into()),
    batch("a deposit that is no transaction", "invalid_kaspa_escrow_funding_transaction", |m| {
        m["payload"]["fundingTransaction"] = "zz".into();
    }),
];
