//! What a gateway emits, against `schemas/`: nothing that does not fit, and no member that they do not name.
#![allow(dead_code)]

use kas402::{conformance::schemas, protocol::refusal::Code};
use serde_json::Value;
use std::{collections::BTreeSet, sync::LazyLock};

/// Every member that some schema names.
static NAMED: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let mut named = BTreeSet::new();
    for (name, text) in schemas::FILES {
        if *name != "config" {
            collect(&serde_json::from_str(text).unwrap(), &mut named);
        }
    }
    named
});

fn collect(schema: &Value, named: &mut BTreeSet<String>) {
    match schema {
        Value::Object(members) => {
            if let Some(Value::Object(properties)) = members.get("properties") {
                named.extend(properties.keys().cloned());
            }
            members.values().for_each(|member| collect(member, named));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, named)),
        _ => {}
    }
}

fn every_member_is_named(message: &Value) {
    match message {
        Value::Object(members) => {
            for (name, member) in members {
                assert!(NAMED.contains(name), "no schema names {name:?} of {message}");
                // The identifier's own schema is data here.
                if name != "schema" {
                    every_member_is_named(member);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(every_member_is_named),
        _ => {}
    }
}

fn fits(schema: &str, message: &Value) {
    schemas::validate(schema, message).unwrap_or_else(|why| panic!("not a {schema}: {why}\n{message}"));
    every_member_is_named(message);
}

/// `PAYMENT-REQUIRED`, and a corrective one as such.
pub fn required(message: &Value) {
    fits("payment-required", message);
    let corrective = message["accepts"].as_array().unwrap().iter().any(|terms| terms["extra"].get("channelState").is_some());
    if corrective {
        fits("corrective-402", message);
    }
}

/// `PAYMENT-RESPONSE`. Its reason is a word of the vocabulary.
pub fn receipt(message: &Value) {
    fits("settlement-response", message);
    if let Some(reason) = message.get("errorReason") {
        assert!(Code::ALL.iter().any(|code| code.error_reason() == reason), "{reason} is no word of x402");
    }
}

/// The last event of a stream that a channel paid, and the answer of a receipt's own address.
pub fn delivered(content_type: &str, body: &[u8]) {
    if content_type.starts_with("text/event-stream") {
        let text = String::from_utf8_lossy(body);
        if let Some((_, data)) = text.rsplit_once("event: payment-response\ndata: ") {
            receipt(&serde_json::from_str(data.trim_end()).unwrap_or_else(|error| panic!("no receipt: {error}: {data}")));
        }
    } else if let Ok(message) = serde_json::from_slice::<Value>(body)
        && message.get("success").is_some()
        && message.get("transaction").is_some()
    {
        receipt(&message);
    }
}

/// What a tenant is told at this path.
pub fn facilitator(path: &str, status: u16, body: &Value) {
    match path {
        "/supported" if status == 200 => fits("facilitator-supported", body),
        "/verify" => fits("facilitator-verify-response", body),
        // Elsewhere refusals have the form of a settlement.
        _ => fits("facilitator-settle-response", body),
    }
    for reason in [body.get("errorReason"), body.get("invalidReason")].into_iter().flatten() {
        assert!(Code::ALL.iter().any(|code| code.error_reason() == reason), "{reason} is no word of x402");
    }
}

/// The payment members of a JSON-RPC answer: offers, and receipts of results and of errors.
pub fn answered(message: &Value) {
    let (result, error) = (&message["result"], &message["error"]);
    for offers in [&result["structuredContent"], &error["data"]].into_iter().filter(|words| words["accepts"].is_array()) {
        required(offers);
        if offers == &result["structuredContent"] {
            let said: Value = serde_json::from_str(result["content"][0]["text"].as_str().unwrap()).unwrap();
            assert_eq!(said, *offers, "the text says the same");
        }
    }
    for place in [&result["_meta"], &error["data"]] {
        if let Some(paid) = place.get("x402/payment-response") {
            receipt(paid);
        }
    }
}
