//! Clients that nobody here wrote pay a real gateway on a real node: the Kaspa SDK for Python, the x402 packages for
//! Python and JavaScript with the schemes of `examples/clients`, and a browser. What they need is pinned and installed by
//! the tests themselves ([`tools`]).

#[path = "../support/mod.rs"]
mod support;

mod browser;
mod guide;
mod shop;
mod stock;
mod tools;

use serde_json::{Value, json};
use shop::{PRICE, Payer, Shop, python};
use support::{devnet::KAS, pay::Ask};

/// A transaction that the Kaspa SDK built and signed, in a payment made here.
#[tokio::test]
async fn the_kaspa_sdk_for_python_signs_an_exact_payment() {
    let Some(interpreter) = tools::python() else { return };
    let shop = Shop::open().await;
    // Coins of which no single one is enough.
    shop.world.devnet.fund(&shop.wallet, KAS / 5, 3).await;
    let (ask, url) = (Ask::get("/paid/sdk"), shop.world.gateway.url());
    let accepted = ask.send(&url, None).await.offer();
    let mut sign = shop.command(&python(&interpreter), &shop.borsh);
    let terms = ["simnet", accepted["payTo"].as_str().unwrap(), accepted["amount"].as_str().unwrap()];
    sign.arg(tools::here().join("sdk_sign.py")).arg(&shop.borsh).args(terms);
    let signed: Value = serde_json::from_str(&shop::succeeded(sign).await).unwrap();
    assert!(signed["transaction"]["inputs"].as_array().unwrap().len() > 1, "{signed}");

    let message = json!({
        "x402Version": 2,
        "accepted": accepted,
        "payload": {
            "type": "exact-transfer",
            "transaction": hex::encode(signed["transaction"].to_string()),
            "transactionId": signed["id"],
            "paymentOutputIndex": 0,
            "requestHash": ask.request_hash(&accepted).to_string(),
        },
    });
    let bought = ask.send(&url, Some(&support::pay::encode(&message))).await;
    assert_eq!((bought.status, bought.text().as_str()), (200, "GET /paid/sdk "), "{bought:?}");
    let receipt = bought.receipt().unwrap();
    assert_eq!((&receipt["transaction"], &receipt["amount"]), (&signed["id"], &json!(PRICE.to_string())));
    support::patience::charged_once(&shop.world.gateway, PRICE).await;
}

#[tokio::test]
async fn the_x402_package_for_python_pays_with_its_requests_session() {
    let Some(interpreter) = tools::python() else { return };
    let shop = Shop::open().await;
    pays(&shop, &Payer::python(&interpreter, &shop)).await;
}

/// The other client of the package, over httpx.
#[tokio::test]
async fn the_x402_package_for_python_pays_with_its_asynchronous_client() {
    let Some(interpreter) = tools::asynchronous_python() else { return };
    let shop = Shop::open().await;
    pays(&shop, &Payer::asynchronous(&interpreter, &shop)).await;
}

#[tokio::test]
async fn the_x402_packages_for_javascript_pay_with_their_fetch() {
    let Some(modules) = tools::node_modules() else { return };
    let shop = Shop::open().await;
    pays(&shop, &Payer::javascript(&modules, &shop)).await;
}

async fn pays(shop: &Shop, payer: &Payer) {
    shop.world.devnet.fund(&shop.wallet, 10 * KAS, 4).await;
    for (charged, path) in (1..).zip(["/paid/report", "/named/report"]) {
        let bought = payer.pay(shop, path, PRICE).await;
        assert!(bought.succeeded, "{bought:?}");
        let transaction = bought.receipt("true");
        assert_eq!(bought.lines().next(), Some(format!("200 GET {path} ").as_str()), "{bought:?}");
        assert_eq!(shop.charged().await, (charged, charged * PRICE));
        assert!(shop.known(transaction).await, "{bought:?}");
    }
    let free = payer.pay(shop, "/free/x", PRICE).await;
    assert!(free.succeeded && free.lines().count() == 1, "{free:?}");

    let refused = payer.pay(shop, "/paid/dear", PRICE - 1).await;
    assert!(!refused.succeeded && refused.said.contains("spend"), "{refused:?}");
    assert_eq!(shop.world.upstream.count("/paid/dear"), 0);

    stopped_in_the_middle(shop, payer).await;
    assert_eq!(shop.charged().await, (3, 3 * PRICE));
    failed_after_the_payment(shop, payer).await;
    assert_eq!(shop.charged().await, (4, 4 * PRICE));
    assert_eq!(payer.kept(), 0, "a payment that is over is kept");
}

/// While the network stands still the gateway answers 503. The client is killed; the next one brings the same payment.
async fn stopped_in_the_middle(shop: &Shop, payer: &Payer) {
    let devnet = &shop.world.devnet;
    devnet.set_rate(0, 0.0).await;
    let mut first = payer.start(shop, "/slow/report", PRICE);
    let pending = async || support::patience::number(&shop.world.gateway.payments().await, "pending") == 1;
    shop.until("a pending payment", pending).await;
    first.kill().await.unwrap();
    assert_eq!(payer.kept(), 1);

    let second = payer.start(shop, "/slow/report", PRICE);
    devnet.set_rate(0, 10.0).await;
    let bought = shop::Told::by(second).await;
    assert!(bought.succeeded, "{bought:?}");
    assert!(shop.known(bought.receipt("true")).await, "{bought:?}");
    assert_eq!(shop.world.upstream.count("/slow/report"), 1);
}

/// The API answers 502 to a paid request, and then the goods: the same payment goes again.
async fn failed_after_the_payment(shop: &Shop, payer: &Payer) {
    let upstream = &shop.world.upstream;
    let before = upstream.seen().len();
    let buying = payer.start(shop, "/flaky/502", PRICE);
    upstream.arrived(before + 1).await;
    upstream.open_gate();
    let bought = shop::Told::by(buying).await;
    assert!(bought.succeeded && bought.said.starts_with("200 GET /flaky/502 "), "{bought:?}");
    assert!(shop.known(bought.receipt("true")).await && upstream.count("/flaky/502") > 1, "{bought:?}");
}
