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
