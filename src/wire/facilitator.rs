//! The calls of a facilitator and what it answers (PROTOCOL section 7).
//!
//! Promises: strict JSON within bounds; what a call says of itself is told apart from what is wrong with its payment. Never believes
//! anything in it. Called by `gateway::facilitate` and by the client of a facilitator.

use super::{
    canonical,
    envelope::{self, Envelope, Fault},
    messages::X402_VERSION,
};
use crate::protocol::{
    amount::Amount,
    ids::RequestHash,
    json, limits,
    network::Network,
    refusal::Code,
    requirements::{Binding, Scheme, TemplateId},
};
use serde_json::{Map, Value, json};

/// A call of `/verify` or `/settle`. Its payment is not looked into.
#[derive(Clone, Debug)]
pub struct Call {
    payment: Value,
    requirements: Value,
    /// The tenant's own fingerprint of what is sold.
    pub request_hash: Option<RequestHash>,
    /// How deep an exact payment has to be before it counts, beyond what its terms say.
    pub confirmations: Option<u64>,
    /// The answer has to say whether the network knows the transaction.
    pub sighting: bool,
    /// What a payment from a channel costs, when that is less than its terms allow.
    pub charge: Option<Amount>,
    /// Its deposit is brought in, and nothing is charged.
    pub deposit: bool,
}

/// A payment of a call whose envelope is well-formed.
#[derive(Clone, Debug)]
pub struct Called {
    /// `accepted` as far as this facilitator knows it; further members of `extra` are the resource server's own.
    pub envelope: Envelope,
    /// `paymentRequirementsHash` of `accepted` as it was sent.
    pub requirements_hash: [u8; 32],
    /// Of the whole payment, as it was sent.
    pub payment_hash: [u8; 32],
    /// `accepted` is `paymentRequirements`, member by member.
    agreed: bool,
}

impl Called {
    /// The payment is for what the call requires.
    pub fn agreed(&self) -> Result<(), Fault> {
        if self.agreed { Ok(()) } else { Err(Fault::new(Code::OfferNotOurs, "accepted is not paymentRequirements")) }
    }
}

impl Call {
    /// Reads the body of a call.
    pub fn parse(body: &[u8]) -> Result<Self, Fault> {
        let wrong = |detail: String| Fault::new(Code::CallMalformed, detail);
        let value = json::parse_strict(body, limits::JSON_DEPTH).map_err(|error| wrong(error.to_string()))?;
        let Value::Object(mut call) = value else { return Err(wrong("the call is not a JSON object".to_owned())) };
        if call.remove("x402Version").as_ref().and_then(Value::as_u64) != Some(X402_VERSION) {
            return Err(wrong("x402Version must be 2".to_owned()));
        }
        let mut object = |name: &str| match call.remove(name) {
            Some(value @ Value::Object(_)) => Ok(value),
            _ => Err(wrong(format!("{name} is missing or not an object"))),
        };
        let (payment, requirements) = (object("paymentPayload")?, object("paymentRequirements")?);
        let request_hash = match call.remove("requestHash") {
            None => None,
            Some(Value::String(hash)) => Some(hash.parse().map_err(|error| wrong(format!("requestHash: {error}")))?),
            Some(_) => return Err(wrong("requestHash is not a string".to_owned())),
        };
        let confirmations = match call.remove("confirmations").map(|depth| depth.as_u64()) {
            None => None,
            Some(Some(depth)) => Some(depth),
            Some(None) => return Err(wrong("confirmations is not a number of blocks".to_owned())),
        };
        let charge = match call.remove("charge") {
            None => None,
            Some(Value::String(sompi)) => Some(Amount::parse_wire(&sompi).map_err(|error| wrong(format!("charge: {error}")))?),
            Some(_) => return Err(wrong("charge is not a string of sompi".to_owned())),
        };
        let mut flag = |name: &str| match call.remove(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(_) => Err(wrong(format!("{name} is neither true nor false"))),
        };
        let (sighting, deposit) = (flag("sighting")?, flag("deposit")?);
        // What is sold, for people: nothing here depends on it.
        if call.remove("resource").is_some_and(|resource| !resource.is_object()) {
            return Err(wrong("resource is not an object".to_owned()));
        }
        match call.keys().next() {
            Some(unknown) => Err(wrong(format!("unknown field {unknown:?}"))),
            None => Ok(Self { payment, requirements, request_hash, confirmations, sighting, charge, deposit }),
        }
    }

    /// The payment's envelope.
    pub fn payment(self) -> Result<Called, Fault> {
        let Self { mut payment, requirements, .. } = self;
        let payment_hash = canonical::tree_sha256(&payment);
        let sent = payment.get("accepted").unwrap_or(&Value::Null);
        let (requirements_hash, agreed) = (canonical::tree_sha256(sent), *sent == requirements);
        if let Some(Value::Object(accepted)) = payment.get_mut("accepted") {
            known_terms(accepted);
        }
        let envelope = envelope::parse(payment)?;
        Ok(Called { envelope, requirements_hash, payment_hash, agreed })
    }
}

/// Leaves the members of `extra` that are spoken here and adds those that another resource server need not write.
fn known_terms(accepted: &mut Map<String, Value>) {
    let batch = accepted.get("scheme").and_then(Value::as_str) == Some(Scheme::BatchSettlement.as_str());
    let (known, defaults): (&[&str], &[(&str, &str)]) = if batch {
        (
            &[
                "binding",
                "channelState",
                "claimPolicy",
                "minDepositSompi",
                "offer",
                "refundTimeoutDaa",
                "serverPublicKey",
                "templateId",
                "voucherState",
            ],
            &[("offer", ""), ("minDepositSompi", "0"), ("templateId", TemplateId::EscrowV1.as_str())],
        )
    } else {
        (&["binding", "finality", "offer", "paymentFlow"], &[("offer", ""), ("finality", "accepted"), ("paymentFlow", "upfront")])
    };
    let Some(Value::Object(extra)) = accepted.get_mut("extra") else { return };
    extra.retain(|name, _| known.contains(&name.as_str()));
    for (name, value) in defaults {
        extra.entry(*name).or_insert_with(|| (*value).into());
    }
}

/// One element of `kinds`; `more` are further members of `extra`.
pub fn kind(scheme: Scheme, network: Network, modes: &[&str], more: Map<String, Value>) -> Value {
    let mut extra = more;
    extra.insert("asset".into(), "KAS".into());
    extra.insert("binding".into(), Binding::of(scheme).as_str().into());
    extra.insert("modes".into(), modes.into());
    json!({ "x402Version": X402_VERSION, "scheme": scheme, "network": network, "extra": extra })
}

/// The answer of `/supported`.
pub fn supported(kinds: Vec<Value>) -> Value {
    json!({ "kinds": kinds, "extensions": [], "signers": {} })
}

/// The answer of `/verify` to a payment that is good now.
pub fn valid(payer: Option<&str>, kaspa: Value) -> Value {
    let mut answer = json!({ "isValid": true, "extensions": { "kaspa": kaspa } });
    if let Some(payer) = payer {
        answer["payer"] = payer.into();
    }
    with_state(answer)
}

/// The answer of `/verify` to one that is not.
pub fn invalid(reason: &str, message: &str, kaspa: Value) -> Value {
    let mut answer = json!({ "isValid": false, "invalidReason": reason, "extensions": { "kaspa": kaspa } });
    if !message.is_empty() {
        answer["invalidMessage"] = message.into();
    }
    with_state(answer)
}

/// The channel's state stands in `extra` too, where the profile asks for it.
fn with_state(mut answer: Value) -> Value {
    if let Some(state) = answer.pointer("/extensions/kaspa/channelState").cloned() {
        answer["extra"] = json!({ "channelState": state });
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms() -> Value {
        json!({
            "scheme": "exact", "network": "kaspa:simnet", "amount": "1", "asset": "KAS", "payTo": "kaspasim:q", "maxTimeoutSeconds": 60,
            "extra": {"binding": "kaspa-exact-v1", "asset": "KAS", "modes": ["verify"]},
        })
    }

    fn call() -> Value {
        json!({"x402Version": 2, "paymentPayload": {"x402Version": 2, "accepted": terms(), "payload": {}}, "paymentRequirements": terms()})
    }

    #[test]
    fn each_fault_of_a_call_has_its_code() {
        let set = |pointer: &str, value: Value| {
            let mut call = call();
            *call.pointer_mut(pointer).unwrap() = value;
            call
        };
        let add = |name: &str, value: Value| {
            let mut call = call();
            call[name] = value;
            call
        };
        let without = |name: &str| {
            let mut call = call();
            call.as_object_mut().unwrap().remove(name);
            call
        };
        for (call, expect) in [
            (call(), None),
            (add("requestHash", json!("AB".repeat(32))), None),
            (add("resource", json!({"url": "https://x"})), None),
            (json!([]), Some(Code::CallMalformed)),
            (set("/x402Version", json!(1)), Some(Code::CallMalformed)),
            (set("/x402Version", json!("2")), Some(Code::CallMalformed)),
            (without("paymentPayload"), Some(Code::CallMalformed)),
            (without("paymentRequirements"), Some(Code::CallMalformed)),
            (set("/paymentPayload", json!("x")), Some(Code::CallMalformed)),
            (add("confirmations", json!(100)), None),
            (add("sighting", json!(true)), None),
            (add("confirmations", json!("100")), Some(Code::CallMalformed)),
            (add("confirmations", json!(-1)), Some(Code::CallMalformed)),
            (add("confirmations", json!(1.5)), Some(Code::CallMalformed)),
            (add("sighting", json!("yes")), Some(Code::CallMalformed)),
            (add("charge", json!("0")), None),
            (add("charge", json!("01")), Some(Code::CallMalformed)),
            (add("charge", json!(1)), Some(Code::CallMalformed)),
            (add("charge", json!(null)), Some(Code::CallMalformed)),
            (add("deposit", json!(true)), None),
            (add("deposit", json!("true")), Some(Code::CallMalformed)),
            (add("requestHash", json!("ab")), Some(Code::CallMalformed)),
            (add("requestHash", json!(null)), Some(Code::CallMalformed)),
            (add("resource", json!("https://x")), Some(Code::CallMalformed)),
            (add("more", json!(1)), Some(Code::CallMalformed)),
            (set("/paymentPayload/x402Version", json!(1)), Some(Code::Version)),
            (set("/paymentPayload/accepted/scheme", json!("upto")), Some(Code::Scheme)),
            (set("/paymentPayload/accepted/amount", json!("2")), Some(Code::OfferNotOurs)),
            (set("/paymentPayload/accepted/extra/modes", json!([])), Some(Code::OfferNotOurs)),
            (set("/paymentRequirements/payTo", json!("kaspasim:p")), Some(Code::OfferNotOurs)),
            (set("/paymentPayload/accepted/amount", json!(1)), Some(Code::OfferNotOurs)),
        ] {
            let read = Call::parse(call.to_string().as_bytes()).and_then(Call::payment).and_then(|called| called.agreed());
            assert_eq!(read.err().map(|fault| fault.code), expect, "{call}");
        }
        for body in ["", "{", r#"{"x402Version":2,"x402Version":2}"#, &format!("{} x", call()), &"[".repeat(100)] {
            assert_eq!(Call::parse(body.as_bytes()).err().map(|fault| fault.code), Some(Code::CallMalformed), "{body}");
        }
    }

    #[test]
    fn answers_are_what_the_profile_says() {
        let modes = ["verify", "settle"];
        let spoken = kind(Scheme::Exact, Network::Simnet, &modes, Map::from_iter([("finality".to_owned(), json!("accepted"))]));
        let expect = json!({
            "x402Version": 2, "scheme": "exact", "network": "kaspa:simnet",
            "extra": {"asset": "KAS", "binding": "kaspa-exact-v1", "modes": modes, "finality": "accepted"},
        });
        assert_eq!(spoken, expect);
        assert_eq!(supported(vec![spoken]), json!({"kinds": [expect], "extensions": [], "signers": {}}));

        let stated = json!({"channelState": {"channelId": "c"}});
        let told = |answer: Value, expect: Value| assert_eq!(answer, expect);
        told(valid(None, json!({})), json!({"isValid": true, "extensions": {"kaspa": {}}}));
        told(
            valid(Some("kaspasim:q"), stated.clone()),
            json!({"isValid": true, "payer": "kaspasim:q", "extensions": {"kaspa": stated}, "extra": stated}),
        );
        told(
            invalid("invalid_payload", "", json!({"reason": "x"})),
            json!({"isValid": false, "invalidReason": "invalid_payload", "extensions": {"kaspa": {"reason": "x"}}}),
        );
        told(
            invalid("invalid_payload", "why", stated.clone()),
            json!({
                "isValid": false, "invalidReason": "invalid_payload", "invalidMessage": "why",
                "extensions": {"kaspa": stated}, "extra": stated,
            }),
        );
    }

    #[test]
    fn the_terms_of_other_servers_need_not_have_what_only_we_write() {
        let called = Call::parse(call().to_string().as_bytes()).unwrap().payment().unwrap();
        assert_eq!(called.envelope.accepted.extra.offer(), "");
        assert_eq!(called.requirements_hash, canonical::sha256(&terms()), "as they were sent");
    }
}
