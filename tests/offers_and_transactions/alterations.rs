//! `accepted` must be what was offered: every field, changed, removed or added.

use crate::{support::pay::Ask, till::Till};
use serde_json::{Map, Value, json};

/// Status and code.
type Refused = (u16, &'static str);

/// Where the field is, something plausible to write there, and the refusal of that and of its absence.
#[rustfmt::skip]
const FIELDS: &[(&str, &str, Refused, Refused)] = &[
    ("/scheme", "\"upto\"", (402, "invalid_kaspa_x402_scheme"), (400, "payment_header_schema")),
    ("/network", "\"kaspa:testnet-10\"", (402, "invalid_kaspa_x402_network"), (400, "payment_header_schema")),
    ("/asset", "\"USDC\"", (402, "invalid_kaspa_x402_asset"), (400, "payment_header_schema")),
    ("/amount", "\"20000000\"", (402, "offer_not_ours"), (402, "offer_not_ours")),
    ("/payTo", "PAYER", (402, "offer_not_ours"), (402, "offer_not_ours")),
    ("/maxTimeoutSeconds", "86400", (402, "offer_not_ours"), (402, "offer_not_ours")),
    ("/extra/binding", "\"kaspa-exact-v2\"", (402, "invalid_kaspa_x402_binding"), (400, "payment_header_schema")),
    ("/extra/finality", "\"mempool\"", (402, "offer_not_ours"), (402, "offer_not_ours")),
    ("/extra/paymentFlow", "\"deferred\"", (402, "offer_not_ours"), (402, "offer_not_ours")),
    ("/extra/offer", "\"v1\"", (402, "offer_malformed"), (402, "offer_not_ours")),
];

/// One part of the token changed in its first character.
const TOKEN: &[(&str, &str)] = &[
    ("version", "offer_malformed"),
    ("key id", "offer_key_unknown"),
    ("issue", "offer_not_ours"),
    ("expiry", "offer_not_ours"),
    ("DAA score", "offer_not_ours"),
    ("nonce", "offer_not_ours"),
    ("MAC", "offer_not_ours"),
];

/// More ways to write a field, besides those of [`FIELDS`].
#[rustfmt::skip]
const SPELLINGS: &[(&str, &str, u16, &str)] = &[
    ("/network", "\"simnet\"", 402, "invalid_kaspa_x402_network"),
    ("/network", "\"kaspa:mainnet\"", 402, "invalid_kaspa_x402_network"),
    ("/network", "1", 400, "payment_header_schema"),
    ("/scheme", "\"batch-settlement\"", 402, "invalid_kaspa_x402_binding"),
    ("/scheme", "\"upto\"", 402, "invalid_kaspa_x402_scheme"),
    ("/amount", "25000000", 402, "offer_not_ours"),
    ("/amount", "\"025000000\"", 402, "offer_not_ours"),
    ("/amount", "\"25000001\"", 402, "offer_not_ours"),
    ("/amount", "\"0\"", 402, "offer_not_ours"),
    ("/extra/finality", "\"confirmed\"", 402, "offer_not_ours"),
    ("/maxTimeoutSeconds", "\"300\"", 402, "offer_not_ours"),
    ("/extra", "{}", 400, "payment_header_schema"),
    ("/extra/offer", "\"\"", 402, "offer_malformed"),
    ("/extra/offer", "7", 402, "offer_not_ours"),
];

pub async fn check(till: &Till) {
    let ask = Ask::get("/paid/report?n=1");
    let accepted = till.offer(&ask).await;
    let known: Vec<&str> = FIELDS.iter().map(|(pointer, ..)| *pointer).collect();
    let mut offered = Vec::new();
    leaves("", &accepted, &mut offered);
    for pointer in &offered {
        assert!(known.contains(&pointer.as_str()), "{pointer} is offered, but nothing here alters it");
    }
    assert_eq!(offered.len(), known.len(), "{offered:?}");

    for (pointer, value, changed, absent) in FIELDS {
        let value = if *value == "PAYER" { json!(till.payer.address().to_string()) } else { value.parse().unwrap() };
        refuse(till, &ask, &format!("{pointer} = {value}"), &with(&accepted, pointer, value), *changed).await;
        refuse(till, &ask, &format!("no {pointer}"), &without(&accepted, pointer), *absent).await;
    }
    for (pointer, value, status, code) in SPELLINGS {
        refuse(till, &ask, &format!("{pointer} = {value}"), &with(&accepted, pointer, value.parse().unwrap()), (*status, code)).await;
    }
    for pointer in ["", "/extra"] {
        let mut added = accepted.clone();
        added.pointer_mut(pointer).unwrap()["more"] = json!(1);
        refuse(till, &ask, &format!("{pointer}/more"), &added, (402, "offer_not_ours")).await;
    }
    let token: Vec<&str> = accepted["extra"]["offer"].as_str().unwrap().split('.').collect();
    assert_eq!(token.len(), TOKEN.len());
    for (index, (part, code)) in TOKEN.iter().enumerate() {
        let mut parts: Vec<String> = token.iter().map(ToString::to_string).collect();
        let other = if parts[index].starts_with('A') { "B" } else { "A" };
        parts[index].replace_range(..1, other);
        refuse(till, &ask, &format!("the token's {part}"), &with(&accepted, "/extra/offer", parts.join(".").into()), (402, code)).await;
    }
    till.refused_coin_still_pays(&ask).await;
}

/// The payment does exactly what the altered terms demand, as far as they can be followed.
async fn refuse(till: &Till, ask: &Ask, name: &str, altered: &Value, (status, code): (u16, &str)) {
    let original = till.offer(ask).await;
    let followed = |name: &str| altered[name].as_str().filter(|text| text.parse::<u64>().map_or(name == "payTo", |sompi| sompi > 0));
    let mut payable = original.clone();
    for name in ["amount", "payTo"] {
        if let Some(text) = followed(name) {
            payable[name] = text.into();
        }
    }
    let mut draft = till.draft(ask, &payable, till.refused_coin());
    draft.message["accepted"] = altered.clone();
    draft.set("requestHash", crate::till::request_hash(ask, altered));
    till.refuse(name, ask, &draft.message, status, code).await;
}

fn leaves(at: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(object) => object.iter().for_each(|(name, value)| leaves(&format!("{at}/{name}"), value, found)),
        _ => found.push(at.to_owned()),
    }
}

fn with(accepted: &Value, pointer: &str, value: Value) -> Value {
    let mut altered = accepted.clone();
    *altered.pointer_mut(pointer).unwrap() = value;
    altered
}

fn without(accepted: &Value, pointer: &str) -> Value {
    let mut altered = accepted.clone();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let object: &mut Map<String, Value> = altered.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    object.remove(name).unwrap();
    altered
}
