//! kill -9 of the gateway in the middle of a call that is paid for: afterwards the payer gets the result, is charged once, and the tool
//! ran for nobody else.

use super::{
    channels,
    client::{Call, Got, Shop, Stream},
    support::{
        channel::{Channel, SETTINGS},
        devnet::{Devnet, KAS, Wallet},
        patience::{balance, charged_once, number},
    },
};
use serde_json::{Value, json};
use std::sync::Arc;

const ROUTES: &str = r#"
  - path: /mcp
    kind: mcp
    tools:
      - {tool: search, price: "0.25 KAS"}
      - tool: ask
        scheme: batch-settlement
        price: "0.01 KAS"
        charge: {json: /structuredContent/tokens, unit_price: "1000 sompi"}
"#;

/// In the middle of the tool, from outside; the other moments are the gateway's own.
const TOOL_RUNS: &str = "";

/// Makes a call during which the gateway dies, and starts it again in health.
async fn dies(shop: &mut Shop, point: &str, call: &Call, payment: &Value) {
    let message = call.message(1, Some(payment)).to_string();
    if point == TOOL_RUNS {
        let mut stream = Stream::of(shop.begin(message.as_bytes(), &[]).await);
        assert_eq!(stream.messages(1).await[0]["method"], "notifications/progress");
        shop.gateway.kill().await;
        let told = stream.rest().await;
        assert_eq!(told.len(), 1, "{told:?}");
        shop.server.open_gate();
    } else {
        // A head may have been sent; the result never was.
        if let Ok(response) = shop.try_begin(message.as_bytes(), &[]).await {
            let told = Got::read(response).await;
            assert!(!String::from_utf8_lossy(&told.body).contains("secret"), "{point}: {told:?}");
        }
        shop.gateway.died().await;
    }
    shop.gateway.run(&[]).await;
    shop.gateway.ready().await;
}

/// A tool that answers at the end, or that is killed while it runs.
fn how(point: &str) -> &'static str {
    if point == TOOL_RUNS { "progress" } else { "sse" }
}

async fn an_exact_call(devnet: &Arc<Devnet>, seed: u8, point: &str, runs: usize, runs_in_all: usize) {
    let mut shop = Shop::prepare(devnet.clone(), 100 + seed, ROUTES, SETTINGS).await.run(point).await;
    let payer = Wallet::new(seed);
    let coins = devnet.fund(&payer, 10 * KAS, 1).await;
    let call = Call::of("search", json!({"how": how(point)}));
    let (transaction, payment) = shop.pay(&call, &payer, &coins).await;
    dies(&mut shop, point, &call, &payment).await;
    assert_eq!(shop.server.runs("search"), runs, "{point}");

    let unpaid = shop.post(&call.message("unpaid", None)).await;
    assert!(unpaid.result()["structuredContent"]["accepts"].is_array(), "{point}: {unpaid:?}");
    let got = shop.until_answered(&call, "later", &payment, &payer).await;
    got.served("later", &transaction);
    let again = shop.until_answered(&call, "again", &payment, &payer).await;
    again.served("again", &transaction);
    assert_eq!(again.result()["content"], got.result()["content"], "{point}");
    let other = Call::of("search", json!({"other": 1}));
    assert_eq!(shop.post(&other.message(1, Some(&payment))).await.code(), "invalid_kaspa_exact_replay", "{point}");

    let calls: Vec<_> = shop.server.seen().into_iter().filter(|seen| seen.method == "POST").collect();
    assert_eq!((shop.server.runs("search"), calls.len()), (runs_in_all, runs_in_all), "{point}");
    let key = format!("kas402-{}", transaction.id());
    assert!(calls.iter().all(|seen| seen.headers["idempotency-key"] == key), "{point}");
    charged_once(&shop.gateway, KAS / 4).await;
    assert_eq!(balance(devnet, &Wallet::new(100 + seed)).await, KAS / 4, "{point}");
}

#[tokio::test]
async fn a_gateway_killed_at_any_moment_of_an_exact_call_serves_it_once_after_its_restart() {
    let devnet = Arc::new(Devnet::start(1, 10.0).await);
    // At once: the hold of a dead process lasts ten seconds.
    tokio::join!(
        an_exact_call(&devnet, 1, "claimed", 0, 1),
        an_exact_call(&devnet, 2, "accepted", 0, 1),
        an_exact_call(&devnet, 3, "settled", 0, 1),
        // The tool ran, and nobody remembers: once more, under the same key.
        an_exact_call(&devnet, 4, TOOL_RUNS, 1, 2),
        an_exact_call(&devnet, 5, "answered", 1, 2),
    );
}

async fn charged(shop: &Shop) -> u64 {
    number(&shop.gateway.status().await["channels"], "chargedSompi")
}

async fn a_call_from_a_channel(devnet: &Arc<Devnet>, seed: u8, point: &str, charged_at_death: bool, runs_in_all: usize) {
    let mut shop = Shop::prepare(devnet.clone(), 100 + seed, ROUTES, SETTINGS).await.run("").await;
    let payer = Wallet::new(seed);
    let mut channel: Channel = channels::open(&shop, &payer, &Call::of("ask", json!({"tokens": 1}))).await;
    shop.gateway.kill().await;
    let mut shop = shop.run(point).await;
    let call = Call::of("ask", json!({"how": how(point), "tokens": 30}));
    channel.renewed = None;
    let payment = channels::paying(&shop, &mut channel, &call).await;
    dies(&mut shop, point, &call, &payment).await;
    // Nobody pays for a result that nobody can have.
    assert_eq!(charged(&shop).await, if charged_at_death { 31_000 } else { 1_000 }, "{point}");

    let got = shop.until_answered(&call, "later", &payment, &payer).await;
    channel.served(&got.as_http());
    assert_eq!((&got.message["id"], got.text().starts_with("secret of ask")), (&json!("later"), true), "{point}: {got:?}");
    let again = shop.post(&call.message("again", Some(&payment))).await;
    assert_eq!((&again.message["id"], &again.result()["content"]), (&json!("again"), &got.result()["content"]), "{point}");
    assert_eq!((channel.charged, charged(&shop).await), (31_000, 31_000), "{point}");
    // The opening's run, and those of the call.
    assert_eq!(shop.server.runs("ask"), 1 + runs_in_all, "{point}");
    let next = Call::of("ask", json!({"tokens": 2}));
    let payment = channels::paying(&shop, &mut channel, &next).await;
    channel.served(&shop.post(&next.message(1, Some(&payment))).await.as_http());
    assert_eq!((channel.charged, charged(&shop).await), (33_000, 33_000), "{point}");
}

#[tokio::test]
async fn a_gateway_killed_at_any_moment_of_a_call_from_a_channel_charges_it_once_after_its_restart() {
    let devnet = Arc::new(Devnet::start(1, 10.0).await);
    tokio::join!(
        a_call_from_a_channel(&devnet, 1, TOOL_RUNS, false, 2),
        a_call_from_a_channel(&devnet, 2, "channel_answered", false, 2),
        a_call_from_a_channel(&devnet, 3, "channel_charged", true, 1),
    );
}
