//! Calls of a facilitator, messages of MCP and event streams made to hurt: their verdict, within the same bounds as payments.
//!
//! A megabyte each, and ten of arguments: more than the listeners let in unless they are told to.

use super::measure::{within, within_of};
use kas402::{
    protocol::refusal::Code,
    wire::{
        facilitator::Call,
        mcp::{
            answer::{self, Verdict},
            events::{Events, TooLong},
            request::{self, Posted},
        },
    },
};
use serde_json::{Value, json};
use std::{fs, path::Path};

const MEGABYTE: usize = 1 << 20;
const TEN: usize = 10 * MEGABYTE;

fn right(file: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/x402-http").join(file);
    let vector: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    vector["paymentPayload"].clone()
}

/// A text of about `bytes` bytes, `item` again and again.
fn filled(bytes: usize, item: impl Fn(usize) -> String) -> String {
    let mut out = String::with_capacity(bytes + 64);
    let mut at = 0;
    while out.len() < bytes {
        out += &item(at);
        at += 1;
    }
    out
}

/// Values that are much work to read, each a JSON text, and whether it is one.
fn heavy(bytes: usize) -> Vec<(&'static str, String, bool)> {
    let list = |item: &str| format!("[{}1]", filled(bytes, |_| item.to_owned()));
    vec![
        ("a text", format!("\"{}\"", "x".repeat(bytes)), true),
        ("escapes", format!("\"{}\"", filled(bytes, |_| "\\u00e9".into())), true),
        ("numbers", list("1,"), true),
        ("fractions", list("0.30000000000000004,"), true),
        ("texts of nothing", list("\"\","), true),
        ("lists of nothing", list("[],"), true),
        ("objects of nothing", list("{},"), true),
        ("small objects", list("{\"\":0},"), true),
        ("names", format!("{{{}\"z\":1}}", filled(bytes, |at| format!("\"k{at}\":0,"))), true),
        ("long names", format!("{{{}\"z\":1}}", filled(bytes, |at| format!("\"{at:0>1000}\":0,"))), true),
        ("a fraction of many digits", format!("0.{}", "9".repeat(bytes)), true),
        ("an exponent of many digits", format!("1e-{}", "9".repeat(bytes)), true),
        ("spaces", format!("{}1", " ".repeat(bytes)), true),
        ("a number of many digits", "9".repeat(bytes), false),
        ("an exponent beyond floats", format!("1e{}", "9".repeat(bytes)), false),
        ("a name twice", format!("{{{}\"k0\":1}}", filled(bytes, |at| format!("\"k{at}\":0,"))), false),
        ("a name twice, escaped", format!("{{{}\"\\u006b0\":1}}", filled(bytes, |at| format!("\"k{at}\":0,"))), false),
        ("open lists", "[".repeat(bytes), false),
        ("open objects", "{\"a\":".repeat(bytes / 5), false),
        ("an open text", format!("\"{}", "x".repeat(bytes)), false),
        ("half a pair of surrogates", format!("\"{}\\ud800\"", "x".repeat(bytes)), false),
        ("a control character", format!("\"{}\u{1}\"", "x".repeat(bytes)), false),
        ("text after it", format!("1 {}", "x".repeat(bytes)), false),
    ]
}

/// Reads within the bounds for the text.
fn read_within<T>(name: &str, body: &str, read: impl FnOnce(&[u8]) -> T) -> T {
    within(name, body.len(), || read(body.as_bytes()))
}

#[test]
fn a_call_of_a_facilitator_is_judged_within_bounds() {
    let payment = right("exact.json");
    let whole = json!({"x402Version": 2, "paymentPayload": payment, "paymentRequirements": payment["accepted"]});
    let judge = |body: &[u8]| Call::parse(body).and_then(Call::payment).and_then(|called| called.agreed()).err().map(|fault| fault.code);
    assert_eq!(judge(whole.to_string().as_bytes()), None, "the call itself is right");
    let put = |from: &str, to: String| {
        let text = whole.to_string();
        assert!(text.contains(from), "{from}");
        text.replacen(from, &to, 1)
    };
    for (name, text, json) in heavy(MEGABYTE) {
        for (place, body, taken) in [
            ("alone", text.clone(), Some(Code::CallMalformed)),
            (
                "as an unknown member",
                put("{\"paymentPayload\"", format!("{{\"more\":{text},\"paymentPayload\"")),
                Some(Code::CallMalformed),
            ),
            (
                "as the request's hash",
                put("{\"paymentPayload\"", format!("{{\"requestHash\":{text},\"paymentPayload\"")),
                Some(Code::CallMalformed),
            ),
            ("in a payment", put("\"x402Version\":2", format!("\"more\":{text},\"x402Version\":2")), Some(Code::HeaderSchema)),
            (
                "in the terms",
                put("\"finality\":\"accepted\"", format!("\"finality\":\"accepted\",\"more\":{text}")),
                Some(Code::OfferNotOurs),
            ),
            ("in an extension", put("\"extensions\":{", format!("\"extensions\":{{\"more\":{text},")), None),
        ] {
            let expect = if json { taken } else { Some(Code::CallMalformed) };
            let got = read_within(&format!("call, {name} {place}"), &body, judge);
            assert_eq!(got, expect, "{name} {place}");
        }
    }
}

/// What a message is, and what is made of it.
fn posted(body: &[u8]) -> &'static str {
    match request::read(body) {
        Ok(Posted::Call(call)) => {
            assert!(!call.forwarded(Some("kas402call0")).is_empty());
            if call.payment.is_some() { "paid call" } else { "call" }
        }
        Ok(Posted::Other { .. }) => "other",
        Ok(Posted::Batch { .. }) => "batch",
        Err(_) => "refused",
    }
}

#[test]
fn a_message_of_a_client_is_read_within_bounds() {
    let call = |inside: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"a",{inside}}}}}"#);
    for (name, text, json) in heavy(MEGABYTE) {
        for (place, body, taken) in [
            ("alone", text.clone(), "refused"),
            ("as arguments", call(&format!("\"arguments\":{text}")), "call"),
            ("as a payment", call(&format!("\"_meta\":{{\"x402/payment\":{text}}}")), "paid call"),
            ("in the metadata", call(&format!("\"_meta\":{{\"more\":{text}}}")), "call"),
            ("beside the parameters", format!(r#"{{"id":1,"method":"ping","more":{text}}}"#), "other"),
            ("as an id", format!(r#"{{"id":[{text}],"method":"ping"}}"#), "refused"),
            ("in a batch", format!("[{},{{\"id\":2,\"result\":{text}}}]", call("\"arguments\":{}")), "batch"),
        ] {
            let got = read_within(&format!("message, {name} {place}"), &body, posted);
            assert_eq!(got, if json { taken } else { "refused" }, "{name} {place}");
        }
    }
    for (name, text, json) in heavy(TEN) {
        let body = call(&format!("\"arguments\":{text}"));
        let got = read_within(&format!("ten megabytes of arguments, {name}"), &body, posted);
        assert_eq!(got, if json { "call" } else { "refused" }, "{name}");
    }
    let deep = |levels: usize| call(&format!("\"arguments\":{}1{}", "[".repeat(levels), "]".repeat(levels)));
    let many = format!("[{}{}]", filled(MEGABYTE, |at| format!("{{\"id\":{at},\"method\":\"ping\"}},")), call("\"arguments\":{}"));
    let name = format!(r#"{{"id":1,"method":"tools/call","params":{{"name":"{}"}}}}"#, "a".repeat(MEGABYTE));
    let method = format!(r#"{{"id":1,"method":"{}"}}"#, "a".repeat(MEGABYTE));
    let alike = format!(r#"{{"id":1,"method":"ping",{}"METHOD":1}}"#, filled(MEGABYTE, |at| format!("\"\u{17f}{at}\":0,")));
    for (what, body, expect) in [
        ("as deep as may be", deep(97), "call"),
        ("deeper", deep(99), "refused"),
        ("a batch of many", many, "batch"),
        ("a long name", name, "call"),
        ("a long method", method, "other"),
        ("names that fold, and one that is a known one", alike, "refused"),
    ] {
        assert_eq!(read_within(&format!("message, {what}"), &body, posted), expect, "{what}");
    }
}

#[test]
fn an_answer_of_a_server_is_read_within_bounds() {
    let own = "kas402call0123456789abcdef0123456789abcdef";
    let receipt = json!({"success": true});
    // What the gateway does with one: read it, judge the result, write it under the client's id.
    let handled = |body: &[u8]| {
        let Some(answered) = answer::read(body) else { return (answer::hides_own_id(body), answer::names_own_id(body), 0) };
        let id = serde_json::value::to_raw_value("7").unwrap();
        let result = answered.result.map(|result| {
            let _ = Verdict::of(result);
            answer::result(&id, result.get().as_bytes(), Some(&receipt))
        });
        let error = answered.error.map(|error| answer::error(&id, error.get().as_bytes(), Some(&receipt)));
        let written = [result, error].into_iter().flatten().flatten().map(|made| made.len()).sum::<usize>();
        (answered.own_id().is_some(), true, written)
    };
    for (name, text, _) in heavy(MEGABYTE) {
        for (place, body) in [
            ("alone", text.clone()),
            ("as a result", format!(r#"{{"id":"{own}","result":{text}}}"#)),
            ("in a result", format!(r#"{{"id":"{own}","result":{{"content":{text}}}}}"#)),
            ("in its metadata", format!(r#"{{"id":"{own}","result":{{"_meta":{{"more":{text}}}}}}}"#)),
            ("in an error", format!(r#"{{"id":"{own}","error":{{"code":1,"message":"","data":{{"more":{text}}}}}}}"#)),
            ("as an id", format!(r#"{{"id":{text},"result":{{}}}}"#)),
            ("before an own id", format!(r#"[{text},{{"id":"{own}","result":{{}}}}]"#)),
        ] {
            let (ours, ..) = within(&format!("answer, {name} {place}"), body.len(), || handled(body.as_bytes()));
            // Whatever it is, an answer to one of the gateway's calls is not overlooked.
            assert_eq!(ours, body.contains(own), "{name} {place}");
        }
    }
}

/// What a connection gives at once.
const CHUNK: usize = 64 * 1024;
/// The longest event of the tests, as the default of `message_limit_bytes`.
const LIMIT: usize = 4 * MEGABYTE;

#[test]
fn an_event_stream_is_read_within_bounds() {
    for (name, stream, whole) in [
        ("line feeds", "\n".repeat(MEGABYTE), true),
        ("carriage returns", "\r".repeat(MEGABYTE), true),
        ("both", "\r\n".repeat(MEGABYTE / 2), true),
        ("events of nothing", "data\n\n".repeat(MEGABYTE / 6), true),
        ("small events", "id: 7\nretry: 5\ndata: {}\n\n".repeat(MEGABYTE / 26), true),
        ("data lines of nothing", format!("{}\n", "data\n".repeat(MEGABYTE / 5)), true),
        ("comments", format!("{}\n", ":\n".repeat(MEGABYTE / 2)), true),
        ("ids", format!("{}\n", "id: 7\n".repeat(MEGABYTE / 6)), true),
        ("a long id", format!("id: {}\n\n", "7".repeat(MEGABYTE)), true),
        ("a long wait", format!("retry: {}\n\n", "9".repeat(MEGABYTE)), true),
        ("a long line", format!("data: {}\n\n", "x".repeat(LIMIT - 16)), true),
        ("an open line", "data: {}".repeat(MEGABYTE / 8), true),
        ("one line too long", format!("data: {}\n\n", "x".repeat(LIMIT)), false),
        ("many lines too many", "data: x\n".repeat(LIMIT / 8 + 1), false),
        ("an end that never comes", "x".repeat(TEN), false),
    ] {
        for chunk in [1, 7, CHUNK] {
            // What is passed on is let go: the reader holds one event, the chunk's events its caller.
            let read = || {
                let mut events = Events::new(LIMIT);
                for chunk in stream.as_bytes().chunks(chunk) {
                    drop(events.feed(chunk)?);
                }
                drop(events.last());
                Ok::<_, TooLong>(())
            };
            // Every byte of a chunk may be an event, which is a hundred bytes and more.
            let got = within_of(&format!("stream of {name} by {chunk}"), CHUNK.min(stream.len()) * 4, stream.len(), read);
            assert_eq!(got.is_ok(), whole, "{name} by {chunk}");
        }
    }
}
