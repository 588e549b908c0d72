//! Input made to hurt: refused with its code, and with no more memory than its size allows.
//!
//! Time is work, and work on such input is reading and allocating: both are counted and bounded; the clock of a busy machine judges nothing.

use super::measure::within;
use base64::{Engine, engine::general_purpose::STANDARD};
use kas402::{
    conformance::judge_payment,
    protocol::{json, limits, refusal::Code},
    wire::envelope,
};
use serde_json::{Value, json};
use std::{fs, path::Path};

fn code_of(header: &[u8]) -> Option<Code> {
    let judged = envelope::decode(header).and_then(|_| judge_payment(kas402::wire::header::decode(header).unwrap()));
    judged.err().map(|fault| fault.code)
}

fn right() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/x402-http/exact.json");
    let vector: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    vector["paymentPayload"].clone()
}

/// The text of a payment with `from` replaced once.
fn text(from: &str, to: &str) -> Vec<u8> {
    let text = right().to_string();
    assert!(text.contains(from), "{from}");
    text.replacen(from, to, 1).into_bytes()
}

#[test]
fn every_hostile_text_is_refused_with_its_code_within_bounds() {
    let header_room = limits::PAYMENT_HEADER_BYTES / 4 * 3;
    let fill = |open: &str, close: &str, times: usize| [open.repeat(times), "1".to_owned(), close.repeat(times)].concat();
    let many = |item: &dyn Fn(usize) -> String, bytes: usize| {
        let mut out = String::new();
        let mut at = 0;
        while out.len() < bytes {
            out += &item(at);
            at += 1;
        }
        out
    };
    for (name, message, expect) in [
        ("a key twice", text(r#""x402Version":2"#, r#""x402Version":2,"x402Version":2"#), Code::HeaderNotJson),
        (
            "a key twice, escaped",
            text(r#""x402Version":2"#, r#""x402Version":2,"\u00782Version":1,"\u0078402Version":2"#),
            Code::HeaderNotJson,
        ),
        ("a key twice below", text(r#""scheme":"exact""#, r#""scheme":"exact","scheme":"exact""#), Code::HeaderNotJson),
        ("text after it", [right().to_string().into_bytes(), b" {}".to_vec()].concat(), Code::HeaderNotJson),
        ("a zero after it", [right().to_string().into_bytes(), vec![0]].concat(), Code::HeaderNotJson),
        ("a byte order mark", ["\u{feff}".as_bytes(), right().to_string().as_bytes()].concat(), Code::HeaderNotJson),
        ("UTF-16", vec![0xff, 0xfe, 0x7b, 0], Code::HeaderNotJson),
        ("an overlong letter", vec![b'"', 0xc0, 0xaf, b'"'], Code::HeaderNotJson),
        ("a lone surrogate", text(r#""payerAddress":"kaspasim"#, r#""payerAddress":"\ud800"#), Code::HeaderNotJson),
        ("nothing", Vec::new(), Code::HeaderNotJson),
        ("deep lists", fill("[", "]", header_room / 2 - 8).into_bytes(), Code::HeaderNotJson),
        ("deep objects", fill("{\"a\":", "}", header_room / 6 - 8).into_bytes(), Code::HeaderNotJson),
        ("open lists", "[".repeat(header_room).into_bytes(), Code::HeaderNotJson),
        ("deep below", text(r#""resource":{"#, &format!(r#""resource":{{"deep":{},"#, fill("[", "]", 40))), Code::HeaderNotJson),
        ("a number beyond floats", text(r#""maxTimeoutSeconds":60"#, r#""maxTimeoutSeconds":1e400"#), Code::HeaderNotJson),
        (
            "a number of many digits",
            text(r#""maxTimeoutSeconds":60"#, &format!(r#""maxTimeoutSeconds":{}"#, "9".repeat(60_000))),
            Code::HeaderNotJson,
        ),
        (
            "a fraction of many digits",
            text(r#""maxTimeoutSeconds":60"#, &format!(r#""maxTimeoutSeconds":0.{}"#, "9".repeat(60_000))),
            Code::OfferNotOurs,
        ),
        ("an amount of many digits", text(r#""amount":"25000000""#, &format!(r#""amount":"{}""#, "9".repeat(60_000))), Code::OfferNotOurs),
        ("a scheme of many letters", text(r#""scheme":"exact""#, &format!(r#""scheme":"{}""#, "x".repeat(60_000))), Code::Scheme),
        ("an unknown field", text(r#""x402Version":2"#, r#""x402Version":2,"critical":true"#), Code::HeaderSchema),
        (
            "an unknown field of the payload",
            text(r#""type":"exact-transfer""#, r#""type":"exact-transfer","critical":true"#),
            Code::HeaderSchema,
        ),
        ("an unknown field of the terms", text(r#""scheme":"exact""#, r#""scheme":"exact","critical":true"#), Code::OfferNotOurs),
        (
            "an unknown field of extra",
            text(r#""binding":"kaspa-exact-v1""#, r#""binding":"kaspa-exact-v1","critical":true"#),
            Code::OfferNotOurs,
        ),
        (
            "many fields",
            format!("{{{}\"z\":1}}", many(&|at| format!("\"k{at}\":{at},"), header_room - 64)).into_bytes(),
            Code::HeaderSchema,
        ),
        ("many small values", format!("[{}1]", many(&|_| "1,".to_owned(), header_room - 8)).into_bytes(), Code::HeaderSchema),
        ("many empty objects", format!("[{}1]", many(&|_| "{},".to_owned(), header_room - 8)).into_bytes(), Code::HeaderSchema),
        ("many small objects", format!("[{}1]", many(&|_| "{\"\":0},".to_owned(), header_room - 8)).into_bytes(), Code::HeaderSchema),
        ("many escapes", format!("\"{}\"", many(&|_| "\\u0061".to_owned(), header_room - 16)).into_bytes(), Code::HeaderSchema),
    ] {
        let header = STANDARD.encode(&message);
        let got = within(name, header.len(), || code_of(header.as_bytes()));
        assert_eq!(got, Some(expect), "{name}");
    }
}

#[test]
fn every_base64_that_is_not_the_one_spelling_is_refused() {
    let good = STANDARD.encode(right().to_string());
    assert_eq!(code_of(good.as_bytes()), None, "the message itself is right");
    let padded = STANDARD.encode("{} ");
    for (name, header, expect) in [
        ("without padding", STANDARD.encode(r#"{"a":1}"#).trim_end_matches('=').to_owned(), Code::HeaderNotBase64),
        ("more padding", format!("{padded}===="), Code::HeaderNotBase64),
        ("bits behind the end", "e31=".to_owned(), Code::HeaderNotBase64),
        ("a space before", format!(" {good}"), Code::HeaderNotBase64),
        ("a line break", format!("{good}\n"), Code::HeaderNotBase64),
        ("a line break inside", format!("{}\r\n{}", &good[..76], &good[76..]), Code::HeaderNotBase64),
        ("the other alphabet", "e30-".to_owned(), Code::HeaderNotBase64),
        ("two values joined", format!("{good},{good}"), Code::HeaderNotBase64),
        ("beyond ASCII", "é".repeat(8), Code::HeaderNotBase64),
        ("too long", "A".repeat(limits::PAYMENT_HEADER_BYTES + 4), Code::HeaderTooLarge),
        ("much too long", "A".repeat(16 * 1024 * 1024), Code::HeaderTooLarge),
    ] {
        let got = within(name, header.len().min(limits::PAYMENT_HEADER_BYTES), || code_of(header.as_bytes()));
        assert_eq!(got, Some(expect), "{name}");
    }
}

#[test]
fn a_transaction_that_promises_more_than_it_has_takes_no_memory() {
    let with = |transaction: String| {
        let mut payment = right();
        payment["payload"]["transaction"] = transaction.into();
        payment["payload"].as_object_mut().unwrap().remove("transactionId");
        STANDARD.encode(payment.to_string())
    };
    let outpoint = "00".repeat(36);
    for (name, transaction) in [
        ("4 GiB of inputs", format!("0000{}", "ff".repeat(4))),
        ("4 GiB of witness", format!("000001000000{outpoint}{}", "ff".repeat(4))),
        ("16 Mi inputs, as many bytes as fit", format!("000000000001{}", "00".repeat(limits::TX_BYTES - 6))),
        ("4 GiB of outputs", format!("000000000000{}", "ff".repeat(4))),
        ("4 GiB of payload", format!("00000000000000000000{}{}", "00".repeat(8 + 20 + 8), "ff".repeat(4))),
        ("JSON nested deeply", hex::encode("{\"inputs\":".to_owned() + &"[".repeat(limits::TX_BYTES - 16))),
        ("JSON of empty inputs", hex::encode(format!("{{\"inputs\":[{}{{}}]}}", "{},".repeat(limits::TX_BYTES / 3 - 16)))),
        ("the most there can be", "00".repeat(limits::TX_BYTES)),
    ] {
        let header = with(transaction);
        let got = within(name, header.len(), || code_of(header.as_bytes()));
        assert!(
            matches!(got, Some(Code::TransactionUndecodable | Code::TransactionForm | Code::OutputIndex | Code::HeaderTooLarge)),
            "{name}: {got:?}"
        );
    }
}

/// What a member of this type may not be.
fn of_other_types(value: &Value) -> Vec<Value> {
    let all = [json!(null), json!(true), json!(1), json!(0.5), json!("x"), json!([]), json!({}), json!([[{}]])];
    let kind = |value: &Value| std::mem::discriminant(value);
    all.into_iter().filter(|other| kind(other) != kind(value)).collect()
}

fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    if let Value::Object(members) = value {
        members.iter().for_each(|(name, member)| places(member, &format!("{at}/{}", name.replace('/', "~1")), found));
    }
}

#[test]
fn a_wrong_type_in_any_field_is_refused() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/x402-http");
    for name in ["exact", "deposit", "voucher"] {
        let vector: Value = serde_json::from_slice(&fs::read(folder.join(format!("{name}.json"))).unwrap()).unwrap();
        let payment = &vector["paymentPayload"];
        let mut found = Vec::new();
        places(payment, "", &mut found);
        // What a resource says of itself is for people, and no payment depends on it.
        for place in found.into_iter().filter(|place| !place.starts_with("/resource/")) {
            for other in of_other_types(payment.pointer(&place).unwrap()) {
                let mut wrong = payment.clone();
                *wrong.pointer_mut(&place).unwrap() = other.clone();
                let header = STANDARD.encode(wrong.to_string());
                let got = within(&format!("{name}{place} as {other}"), header.len(), || code_of(header.as_bytes()));
                assert!(got.is_some(), "{name}: {other} is taken at {place}");
            }
        }
    }
}

#[test]
fn a_vector_file_is_read_within_the_same_bounds() {
    for (name, text) in [
        ("deep", "[".repeat(1_000_000)),
        ("deep cases", format!("{{\"kind\":\"finality\",\"cases\":{}", "[".repeat(1_000_000))),
        ("many cases", format!("{{\"kind\":\"finality\",\"cases\":[{}1]}}", "1,".repeat(10_000))),
    ] {
        let checked = within(name, text.len(), || kas402::conformance::check(text.as_bytes()));
        assert!(checked.iter().all(|checked| checked.outcome.is_err()), "{name}");
    }
    let deep = "[".repeat(1_000_000);
    assert_eq!(within("deep JSON", deep.len(), || json::parse_strict(deep.as_bytes(), limits::JSON_DEPTH)), Err(json::JsonError::TooDeep));
}
