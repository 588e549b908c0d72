//! The payment a client sends: `PaymentPayload`, checked alone (PROTOCOL sections 1 and 4).

use super::{header, messages::X402_VERSION};
use crate::protocol::{
    limits,
    network::Network,
    refusal::Code,
    requirements::{Binding, Extra, Requirements, Scheme},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A payment whose envelope is well-formed; nothing in it is believed yet.
#[derive(Clone, Debug)]
pub struct Envelope {
    pub accepted: Requirements,
    /// The scheme's own payload, for the binding to decode.
    pub payload: Map<String, Value>,
    pub extensions: Map<String, Value>,
    pub payer_proof: Option<PayerProof>,
}

/// `extensions.kaspa.payerProof`: the presenter holds the key of an input (PROTOCOL section 4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PayerProof {
    pub r#type: ProofType,
    /// x-only, hex.
    pub public_key: crate::protocol::ids::XOnlyKey,
    /// 64 bytes, hex.
    pub signature: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProofType {
    /// BIP340 over the 32 bytes of the request hash.
    Schnorr,
    /// A Kaspa personal message: the request hash as lower-case hex text.
    PersonalMessage,
}

/// A refusal with what is wrong in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub code: Code,
    pub detail: String,
}

impl Fault {
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}

/// Decodes and checks the envelope of one `PAYMENT-SIGNATURE` value.
pub fn decode(value: &[u8]) -> Result<Envelope, Fault> {
    let message = header::decode(value).map_err(|error| Fault::new(error.code(), error.to_string()))?;
    parse(message)
}

/// Checks the envelope of a decoded message; also the entry of the facilitator and of MCP.
pub fn parse(message: Value) -> Result<Envelope, Fault> {
    let schema = |detail: &str| Fault::new(Code::HeaderSchema, detail);
    let Value::Object(mut message) = message else { return Err(schema("the payment is not a JSON object")) };
    match message.remove("x402Version") {
        Some(Value::Number(version)) if version.as_u64() == Some(X402_VERSION) => {}
        Some(Value::Number(_)) => return Err(Fault::new(Code::Version, "x402Version must be 2")),
        _ => return Err(schema("x402Version is missing or not a number")),
    }
    if message.remove("resource").is_some_and(|resource| !resource.is_object()) {
        return Err(schema("resource is not an object"));
    }
    let accepted = match message.remove("accepted") {
        Some(Value::Object(accepted)) => terms(accepted)?,
        _ => return Err(schema("accepted is missing or not an object")),
    };
    let Some(Value::Object(payload)) = message.remove("payload") else {
        return Err(schema("payload is missing or not an object"));
    };
    let extensions = match message.remove("extensions") {
        None => Map::new(),
        Some(Value::Object(extensions)) => extensions,
        Some(_) => return Err(schema("extensions is not an object")),
    };
    if let Some(unknown) = message.keys().next() {
        return Err(schema(&format!("unknown field {unknown:?}")));
    }
    let payer_proof = payer_proof(&extensions)?;
    Ok(Envelope { accepted, payload, extensions, payer_proof })
}

/// Typed terms. What is known to the vocabulary but not spoken here gets its own code; terms of
/// the wrong shape were never offered.
pub fn terms(accepted: Map<String, Value>) -> Result<Requirements, Fault> {
    let text = |name: &str| accepted.get(name).and_then(Value::as_str);
    let known = |value: Option<&str>, ok: bool, code: Code, name: &str| match value {
        Some(_) if ok => Ok(()),
        Some(value) => Err(Fault::new(code, format!("{name} {value:?} is not spoken here"))),
        None => Err(Fault::new(Code::HeaderSchema, format!("accepted.{name} is missing or not a string"))),
    };
    let scheme = Scheme::ALL.into_iter().find(|scheme| text("scheme") == Some(scheme.as_str()));
    known(text("scheme"), scheme.is_some(), Code::Scheme, "scheme")?;
    known(text("network"), text("network").is_some_and(|name| name.parse::<Network>().is_ok()), Code::Network, "network")?;
    known(text("asset"), text("asset") == Some("KAS"), Code::Asset, "asset")?;
    let binding = accepted.get("extra").and_then(|extra| extra.get("binding")).and_then(Value::as_str);
    known(binding, scheme.map(|scheme| Binding::of(scheme).as_str()) == binding, Code::Binding, "extra.binding")?;
    let terms: Requirements = serde_json::from_value(Value::Object(accepted))
        .map_err(|error| Fault::new(Code::OfferNotOurs, format!("accepted is not what was offered: {error}")))?;
    possible(&terms).map(|()| terms)
}

/// Whether [`terms`] reads terms of this type from what they are printed as.
pub(super) fn spoken(terms: &Requirements) -> bool {
    terms.extra.binding() == Binding::of(terms.scheme) && possible(terms).is_ok()
}

/// Terms that nobody could have offered, though each of their fields is well-formed.
fn possible(terms: &Requirements) -> Result<(), Fault> {
    let never = |detail: &str| Err(Fault::new(Code::OfferNotOurs, detail));
    if !(1..=limits::JSON_INTEGER).contains(&terms.max_timeout_seconds) {
        return never("accepted.maxTimeoutSeconds is 0, or more than a JSON number holds exactly");
    }
    if let Extra::Escrow(extra) = &terms.extra {
        if terms.network == Network::Mainnet {
            return Err(Fault::new(Code::Network, "no escrow is offered on mainnet"));
        }
        if extra.refund_timeout_daa >= limits::LOCK_TIME_THRESHOLD {
            return never("accepted.extra.refundTimeoutDaa is a timestamp to the network");
        }
        if extra.channel_state.is_some() != extra.voucher_state.is_some() {
            return never("accepted.extra has one of channelState and voucherState");
        }
    }
    let named = terms.pay_to.split_once(':').map(|(prefix, _)| prefix).unwrap_or_default();
    match Network::ALL.into_iter().find(|network| network.address_prefix().to_string() == named) {
        Some(network) if network == terms.network => {}
        Some(network) => return Err(Fault::new(Code::Network, format!("accepted.payTo is an address of {network}"))),
        None => return never("accepted.payTo is no address"),
    }
    Ok(())
}

fn payer_proof(extensions: &Map<String, Value>) -> Result<Option<PayerProof>, Fault> {
    let Some(proof) = extensions.get("kaspa").and_then(|kaspa| kaspa.get("payerProof")) else { return Ok(None) };
    serde_json::from_value(proof.clone())
        .map(Some)
        .map_err(|error| Fault::new(Code::HeaderSchema, format!("extensions.kaspa.payerProof: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn valid() -> Value {
        json!({
            "x402Version": 2,
            "resource": {"url": "https://x/a"},
            "accepted": {
                "scheme": "exact", "network": "kaspa:simnet", "amount": "1", "asset": "KAS", "payTo": "kaspasim:q",
                "maxTimeoutSeconds": 60,
                "extra": {"binding": "kaspa-exact-v1", "finality": "accepted", "paymentFlow": "upfront", "offer": "v1"},
            },
            "payload": {},
        })
    }

    #[test]
    fn each_fault_of_an_envelope_has_its_code() {
        let set = |pointer: &str, value: Value| {
            let mut message = valid();
            *message.pointer_mut(pointer).unwrap() = value;
            message
        };
        let add = |name: &str, value: Value| {
            let mut message = valid();
            message[name] = value;
            message
        };
        for (message, expect) in [
            (valid(), None),
            (json!([]), Some(Code::HeaderSchema)),
            (set("/x402Version", json!(1)), Some(Code::Version)),
            (set("/x402Version", json!("2")), Some(Code::HeaderSchema)),
            (set("/resource", json!("https://x")), Some(Code::HeaderSchema)),
            (set("/accepted", json!(null)), Some(Code::HeaderSchema)),
            (set("/payload", json!([])), Some(Code::HeaderSchema)),
            (add("extensions", json!([])), Some(Code::HeaderSchema)),
            (add("more", json!(1)), Some(Code::HeaderSchema)),
            (set("/accepted/scheme", json!("upto")), Some(Code::Scheme)),
            (set("/accepted/scheme", json!("auth-capture")), Some(Code::Scheme)),
            (set("/accepted/scheme", json!(1)), Some(Code::HeaderSchema)),
            (set("/accepted/network", json!("simnet")), Some(Code::Network)),
            (set("/accepted/network", json!("kaspa:testnet-11")), Some(Code::Network)),
            (set("/accepted/asset", json!("kas")), Some(Code::Asset)),
            (set("/accepted/extra/binding", json!("kaspa-exact-v2")), Some(Code::Binding)),
            (set("/accepted/extra", json!({})), Some(Code::HeaderSchema)),
            (set("/accepted/amount", json!(1)), Some(Code::OfferNotOurs)),
            (set("/accepted/amount", json!("01")), Some(Code::OfferNotOurs)),
            (set("/accepted/extra/finality", json!("soon")), Some(Code::OfferNotOurs)),
            (add("extensions", json!({"kaspa": {"payerProof": {"publicKey": "00"}}})), Some(Code::HeaderSchema)),
        ] {
            assert_eq!(parse(message.clone()).err().map(|fault| fault.code), expect, "{message}");
        }
    }
}
