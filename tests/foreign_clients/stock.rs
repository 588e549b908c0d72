//! Everything a buyer is sent, read by the x402 packages as they are.

use crate::{
    shop::{self, PRICE, Program, Shop, python},
    support::{
        channel::{Channel, SETTINGS},
        devnet::KAS,
        patience::Payment,
        pay::{Answer, Ask},
    },
    tools,
};
use serde_json::{Map, Value, json};
use std::process::Stdio;
use tokio::io::AsyncWriteExt;

const ROUTES: &str = "  - {path: \"/paid/{*rest}\", price: 0.25 KAS, description: a report, mime_type: text/plain}\n  \
    - {path: \"/slow/{*rest}\", price: 0.25 KAS, settle_wait_seconds: 1}\n  \
    - {path: \"/channel/{*rest}\", scheme: batch-settlement, price: 0.01 KAS, min_deposit: 2 KAS}";

#[tokio::test]
async fn the_packages_read_every_offer_and_receipt() {
    let python = tools::python().map(|interpreter| {
        let mut program = python(&interpreter);
        program.arguments.push(tools::here().join("parse.py").display().to_string());
        (program, None)
    });
    let javascript = tools::node_modules().map(|modules| {
        let code = tools::javascript(&modules);
        let arguments = vec![code.path().join("parse.mjs").display().to_string()];
        (Program { name: "node".into(), arguments, environment: Vec::new() }, Some(code))
    });
    if python.is_none() && javascript.is_none() {
        return;
    }
    let shop = Shop::of(ROUTES, SETTINGS).await;
    let answers = answers(&shop).await;
    for (program, _code) in python.iter().chain(&javascript) {
        let read = read(&shop, program, &answers).await;
        assert_eq!(read.len(), answers.len());
        for ((what, answer), read) in answers.iter().zip(&read) {
            agrees(what, answer, read);
        }
    }
}

/// One answer of every kind, with a name.
async fn answers(shop: &Shop) -> Vec<(&'static str, Answer)> {
    let (devnet, url) = (&shop.world.devnet, shop.world.gateway.url());
    let coins = devnet.fund(&shop.wallet, 10 * KAS, 3).await;
    let ask = Ask::get("/paid/report");
    let payment = Payment::prepare(ask.clone(), &url, &shop.wallet, &coins[..1]).await;
    let mut answers = vec![
        ("an offer", ask.send(&url, None).await),
        ("an offer of a channel", Ask::get("/channel/x").send(&url, None).await),
        ("a rejection", payment.forged().send(&url).await),
        ("a receipt", payment.send(&url).await),
        ("a stored receipt", payment.send(&url).await),
        ("a replay", Payment { ask: Ask::get("/paid/other"), ..payment.clone() }.send(&url).await),
        ("nonsense", ask.send(&url, Some("nonsense")).await),
    ];
    let mut channel = Channel::open(devnet, &Ask::get("/channel/x"), &shop.world.gateway, &shop.wallet, 5 * KAS).await;
    answers.push(("a receipt of a channel", channel.buy(&Ask::get("/channel/x"), &url).await));
    let accepted = channel.offer(&Ask::get("/channel/x"), &url).await;
    let low = channel.paying_exactly(&accepted, channel.active(), "identifier-of-a-low-voucher");
    answers.push(("a correction", Ask::get("/channel/x").send(&url, Some(&low)).await));

    let slow = Payment::prepare(Ask::get("/slow/report"), &url, &shop.wallet, &coins[1..2]).await;
    devnet.set_rate(0, 0.0).await;
    answers.push(("an undecided payment", slow.send(&url).await));
    let statuses: Vec<u16> = answers.iter().map(|(_, answer)| answer.status).collect();
    assert_eq!(statuses, [402, 402, 402, 200, 200, 409, 400, 200, 402, 503], "{answers:?}");
    answers
}

async fn read(shop: &Shop, program: &Program, answers: &[(&'static str, Answer)]) -> Vec<Value> {
    let plain = |(_, answer): &(&str, Answer)| {
        let text = |name: &str| Some((name.to_owned(), json!(answer.headers.get(name)?.to_str().unwrap())));
        let headers: Map<String, Value> = ["PAYMENT-REQUIRED", "PAYMENT-RESPONSE"].into_iter().filter_map(text).collect();
        json!({ "status": answer.status, "headers": headers })
    };
    let input = Value::from(answers.iter().map(plain).collect::<Vec<_>>()).to_string();
    let mut child = shop.command(program, &shop.borsh).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
    let told = shop::Told::by(child).await;
    assert!(told.succeeded, "{}", told.said);
    serde_json::from_str(&told.said).unwrap()
}

/// The package read what was sent, nothing less. It may leave out what it does not know.
fn agrees(what: &str, answer: &Answer, read: &Value) {
    let same = |sent: &Value, read: &Value, names: &[&str]| {
        for name in names {
            assert_eq!(sent.get(name), read.get(name), "{name} of {what}: sent {sent}, read {read}");
        }
    };
    assert_eq!(answer.required().is_some(), read["required"].is_object(), "{what}: {read}");
    // Who sends nonsense names no network, and none may be made up; the Python package wants one in every receipt.
    let unread = read["unread"] == json!(["network"]) && what == "nonsense";
    assert_eq!(answer.receipt().is_some_and(|_| !unread), read["receipt"].is_object(), "{what}: {read}");
    if let Some(required) = answer.required() {
        same(&required, &read["required"], &["x402Version", "error", "resource", "extensions"]);
        let pairs = required["accepts"].as_array().unwrap().iter().zip(read["required"]["accepts"].as_array().unwrap());
        for (sent, read) in pairs {
            same(sent, read, &["scheme", "network", "amount", "asset", "payTo", "maxTimeoutSeconds", "extra"]);
        }
    }
    if let Some(receipt) = answer.receipt().filter(|_| !unread) {
        same(&receipt, &read["receipt"], &["success", "errorReason", "transaction", "network", "payer", "amount", "extensions"]);
    }
    // What the JavaScript package makes of the answer as a whole.
    if let Some(status) = read["status"].as_str() {
        let expect = match answer.receipt() {
            Some(receipt) if receipt["success"] == true => "settled",
            Some(_) => "settle_failed",
            None if answer.status == 402 => "payment_required",
            None => "none",
        };
        assert_eq!(status, expect, "{what}");
    }
    if what == "a receipt" {
        assert_eq!(read["receipt"]["amount"], PRICE.to_string());
    }
}
