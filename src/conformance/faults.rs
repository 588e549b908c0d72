//! Under which names a refused value is refused.
//!
//! The first is the gateway's own code, where the value is a payment. The rest are the names that published vectors use for the same
//! fault: the word of the x402 vocabulary, and the diagnostic of the field. `vectors/README.md` has the table.

use super::{
    judge::{self, Facts},
    schemas,
};
use crate::wire::envelope::Fault;
use jsonschema::{ValidationError, error::ValidationErrorKind};
use serde_json::Value;

/// All names of the refusal, without repetition; none when nothing refuses the value.
pub fn of(schema: &str, value: &Value, facts: &Facts) -> Vec<&'static str> {
    let mut names = Vec::new();
    if let Err(fault) = decoded(schema, value, facts) {
        names.extend([fault.code.as_str(), fault.code.error_reason()]);
    }
    let faults = schemas::faults(schema, value);
    for fault in &faults {
        names.extend(field(schema, fault).into_iter().flat_map(names_of));
    }
    if !faults.is_empty() {
        names.extend(general(schema));
    }
    names.retain(|name| !name.is_empty());
    let mut seen = Vec::new();
    names.retain(|name| {
        !seen.contains(name) && {
            seen.push(*name);
            true
        }
    });
    names
}

/// What our decoder says, where there is one.
pub fn decoded(schema: &str, value: &Value, facts: &Facts) -> Result<(), Fault> {
    let not_an_object = || Fault::new(crate::protocol::refusal::Code::HeaderSchema, "not an object");
    match schema {
        "payment-payload" => judge::judge_payment_by(value.clone(), facts),
        "facilitator-request" => judge::judge_call(value.to_string().as_bytes()),
        "kaspa-payment-payload" => judge::judge_payload(value.as_object().cloned().ok_or_else(not_an_object)?),
        "payment-requirements" => judge::judge_terms(value.as_object().cloned().ok_or_else(not_an_object)?),
        _ => Ok(()),
    }
}

/// The field that a fault is about: the missing or unknown member, or the one at its place.
fn field(schema: &str, fault: &ValidationError<'_>) -> Option<String> {
    let named = match fault.kind() {
        ValidationErrorKind::Required { property } => property.as_str().map(str::to_owned),
        _ => None,
    };
    let place = fault.instance_path().to_string();
    let last = place.rsplit('/').find(|part| !part.is_empty() && !part.bytes().all(|byte| byte.is_ascii_digit()));
    named
        .or_else(|| last.map(str::to_owned))
        .map(|name| if schema.starts_with("settlement") && name == "transaction" { "settled".to_owned() } else { name })
}

/// The diagnostics of a field.
fn names_of(field: String) -> Vec<&'static str> {
    let names: &[&'static str] = match field.as_str() {
        "x402Version" => &["invalid_kaspa_x402_version", "invalid_x402_version"],
        "scheme" => &["invalid_kaspa_x402_scheme", "invalid_scheme", "unsupported_scheme"],
        "network" => &["invalid_kaspa_x402_network", "invalid_network"],
        "asset" => &["invalid_kaspa_x402_asset"],
        "binding" => &["invalid_kaspa_x402_binding"],
        "payTo" => &["invalid_kaspa_x402_pay_to"],
        "type" => &["invalid_kaspa_x402_payload_type", "invalid_kaspa_payment_payload_type"],
        "clientPublicKey" | "serverPublicKey" | "publicKey" => &["invalid_kaspa_public_key"],
        "txid" | "index" | "fundingOutpoint" | "activeOutpoint" | "claimOutpoint" | "continuationOutpoint" => &["invalid_kaspa_outpoint"],
        "signature" => &["invalid_kaspa_signature"],
        "channelId" => &["invalid_kaspa_escrow_channel_id", "invalid_kaspa_batch_channel_id"],
        "templateId" => &["invalid_kaspa_batch_template"],
        "transaction" => &["invalid_kaspa_exact_transaction"],
        "settled" => &["invalid_kaspa_transaction"],
        "id" => &["payment_identifier_malformed"],
        "minDepositSompi" | "fundingAmountSompi" | "signedMaxClaimable" => &["invalid_kaspa_x402_amount"],
        name if name == "amount" || name.ends_with("Amount") => &["invalid_kaspa_x402_amount"],
        _ => &[],
    };
    names.to_vec()
}

/// What any fault of such a message may be called.
fn general(schema: &str) -> &'static [&'static str] {
    match schema {
        "payment-required" | "payment-requirements" | "kaspa-requirements-extra" | "corrective-402" => {
            &["invalid_payment_requirements", "invalid_kaspa_x402_payload"]
        }
        "settlement-response" | "facilitator-settle-response" => &["invalid_kaspa_settlement_response"],
        "channel-state" => &["invalid_kaspa_batch_channel_state"],
        _ => &["invalid_payload", "invalid_kaspa_x402_payload"],
    }
}
