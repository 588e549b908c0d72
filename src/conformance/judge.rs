//! A payment, as far as a message alone can be judged: without a store, a chain, a key or a clock.

use crate::{
    binding::{
        escrow_v1::{self, EscrowTerms, payload::BatchPayload, spend::SpendRules, verify_deposit},
        exact_v1::{self, payer, verify},
    },
    protocol::{
        ids::RequestHash,
        limits,
        refusal::Code,
        requirements::{Extra, Requirements},
    },
    wire::{
        envelope::{self, Envelope, Fault, PayerProof},
        facilitator::Call,
        fingerprint, identifier,
    },
};
use kaspa_consensus_core::tx::ScriptPublicKey;
use serde_json::{Map, Value};

/// What a gateway knows besides the message. What is not known refuses nothing.
#[derive(Debug, Default)]
pub struct Facts {
    /// Method, URL and body of the request that is paid for.
    pub request: Option<(String, String, Vec<u8>)>,
    pub request_hash_required: bool,
    /// The network's, for lock times.
    pub daa_score: Option<u64>,
    /// The scripts that the transaction spends, where the network knew it first: its payer has to be proven.
    pub spent: Option<Vec<ScriptPublicKey>>,
}

/// What the gateway says to a message whose offer is authentic: envelope, identifier, payload, and the transaction or deposit in it.
pub fn judge_payment(message: Value) -> Result<(), Fault> {
    judge_payment_by(message, &Facts::default())
}

/// The same with what else is known.
pub fn judge_payment_by(message: Value, facts: &Facts) -> Result<(), Fault> {
    let envelope = envelope::parse(message)?;
    let required = envelope.extensions.get(identifier::NAME).is_some_and(|echo| echo.pointer("/info/required") == Some(&true.into()));
    identifier::read(&envelope.extensions, required).map_err(|code| Fault::new(code, "the payment identifier"))?;
    bounded(&envelope.accepted)?;
    paid(envelope, facts)
}

/// What a facilitator says to the body of a call, whoever calls.
pub fn judge_call(body: &[u8]) -> Result<(), Fault> {
    let called = Call::parse(body)?.payment()?;
    called.agreed()?;
    paid(called.envelope, &Facts::default())
}

fn paid(envelope: Envelope, facts: &Facts) -> Result<(), Fault> {
    match &envelope.accepted.extra {
        Extra::Exact(_) => exact(&envelope.accepted, envelope.payload, envelope.payer_proof, facts),
        Extra::Escrow(_) => batch(&envelope.accepted, envelope.payload),
    }
}

/// Terms by themselves.
pub fn judge_terms(accepted: Map<String, Value>) -> Result<(), Fault> {
    bounded(&envelope::terms(accepted)?)
}

/// The token's length; whose it is, only the gateway that signed it can say.
fn bounded(accepted: &Requirements) -> Result<(), Fault> {
    if accepted.extra.offer().len() > limits::OFFER_TOKEN_CHARS {
        return Err(Fault::new(Code::OfferMalformed, "accepted.extra.offer is too long"));
    }
    Ok(())
}

/// A payload of either scheme by itself.
pub fn judge_payload(payload: Map<String, Value>) -> Result<(), Fault> {
    if payload.get("type").and_then(Value::as_str) == Some("exact-transfer") {
        let transfer = exact_v1::payload::parse(payload)?;
        let decoded = exact_v1::decode::decode(&transfer.transaction);
        return decoded.map(drop).map_err(|error| Fault::new(Code::TransactionUndecodable, error.to_string()));
    }
    let BatchPayload::DepositVoucher(deposit) = escrow_v1::payload::parse(payload)? else { return Ok(()) };
    let config = &deposit.channel_config;
    let terms = EscrowTerms::of_channel(config);
    verify_deposit(&deposit, &terms, &SpendRules::of(config.network)).map(drop)
}

fn exact(accepted: &Requirements, payload: Map<String, Value>, proof: Option<PayerProof>, facts: &Facts) -> Result<(), Fault> {
    let transfer = exact_v1::payload::parse(payload)?;
    // The hash and the score are the gateway's to know; where nobody says them they refuse nothing.
    let request_hash = match &facts.request {
        Some((method, url, body)) => fingerprint::request_hash_of_offer(method, url, body, accepted),
        None => transfer.request_hash.unwrap_or(RequestHash([0; 32])),
    };
    let daa_score = facts.daa_score.unwrap_or(limits::LOCK_TIME_THRESHOLD);
    let known = verify::Facts { accepted, request_hash, require_request_hash: facts.request_hash_required, daa_score };
    let verified = exact_v1::verify(&transfer, proof, known)?;
    let Some(spent) = &facts.spent else { return Ok(()) };
    let Some(proof) = verified.payer_proof() else {
        return Err(Fault::new(Code::PayerProofRequired, "the payer is not proven"));
    };
    payer::check(proof, request_hash, spent).map_err(|error| Fault::new(Code::PayerProofInvalid, error.to_string()))
}

fn batch(accepted: &Requirements, payload: Map<String, Value>) -> Result<(), Fault> {
    let (Extra::Escrow(extra), BatchPayload::DepositVoucher(deposit)) = (&accepted.extra, escrow_v1::payload::parse(payload)?) else {
        return Ok(());
    };
    let terms = EscrowTerms::of(accepted, extra);
    verify_deposit(&deposit, &terms, &SpendRules::of(accepted.network)).map(drop)
}
