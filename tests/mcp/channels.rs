//! Calls that a channel pays for.

use super::{
    client::{Call, Got, Shop, Stream},
    support::{
        channel::{Channel, SETTINGS, batch_of},
        devnet::{KAS, Wallet},
    },
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio::time::Instant;

const ROUTES: &str = r#"
  - path: /mcp
    kind: mcp
    tools:
      - tool: ask
        scheme: batch-settlement
        price: "0.01 KAS"
        charge: {json: /structuredContent/tokens, unit_price: "1000 sompi", floor: "500 sompi"}
        on_error: free
      - tool: ask_always
        scheme: batch-settlement
        price: "0.01 KAS"
        charge: {json: /structuredContent/tokens, unit_price: "1000 sompi", floor: "500 sompi"}
      - {tool: fixed, scheme: batch-settlement, price: "0.01 KAS"}
"#;
const CEILING: u64 = KAS / 100;

/// A payment header as the message it codes.
pub fn decoded(header: &str) -> Value {
    serde_json::from_slice(&STANDARD.decode(header).unwrap()).unwrap()
}

/// Opens a channel with a call.
pub async fn open(shop: &Shop, wallet: &Wallet, call: &Call) -> Channel {
    let coins = shop.devnet.fund(wallet, 6 * KAS, 1).await;
    let accepted = batch_of(&shop.post(&call.message(1, None)).await.as_http());
    let mut channel = Channel::under(&accepted, wallet, &coins, 5 * KAS);
    let payment = decoded(&channel.depositing(&accepted));
    let until = Instant::now() + super::client::PATIENCE;
    loop {
        let got = shop.post(&call.message(1, Some(&payment))).await;
        if got.code() != "settlement_pending" {
            channel.served(&got.as_http());
            return channel;
        }
        assert!(Instant::now() < until, "{got:?}");
    }
}

/// The payment of another call.
pub async fn paying(shop: &Shop, channel: &mut Channel, call: &Call) -> Value {
    let accepted = match channel.renewed.take() {
        Some(offer) => offer,
        None => batch_of(&shop.post(&call.message(1, None)).await.as_http()),
    };
    decoded(&channel.paying(&accepted))
}

#[tokio::test]
async fn a_call_costs_what_its_result_says() {
    let shop = Shop::open(ROUTES, SETTINGS).await;
    let wallet = Wallet::new(1);
    let mut channel = open(&shop, &wallet, &Call::of("ask", json!({"tokens": 7}))).await;
    assert_eq!(channel.charged, 7_000);
    for (how, tokens, charge) in
        [("json", json!(20), 20_000), ("sse", json!(1.5), 1_500), ("closes", json!(0), 500), ("json", json!("x"), CEILING)]
    {
        let call = Call::of("ask", json!({"how": how, "tokens": tokens}));
        let payment = paying(&shop, &mut channel, &call).await;
        let before = channel.charged;
        let got = shop.post(&call.message("m", Some(&payment))).await;
        channel.served(&got.as_http());
        assert_eq!((channel.charged - before, &got.message["id"]), (charge, &json!("m")), "{how} {tokens}");
        assert_eq!(got.result()["_meta"]["server"], "its own");
        let runs = shop.server.runs("ask");
        let again = shop.post(&call.message("again", Some(&payment))).await;
        assert_eq!((&again.message["id"], again.result()["content"] == got.result()["content"]), (&json!("again"), true), "{again:?}");
        assert_eq!(shop.server.runs("ask"), runs, "the stored result");
    }

    // An error of the tool is free here, and so is what the server did not serve.
    for how in ["error", "fails", "status", "breaks", "asks"] {
        let call = Call::of("ask", json!({"how": how}));
        let accepted = batch_of(&shop.post(&call.message(1, None)).await.as_http());
        let got = shop.post(&call.message(2, Some(&decoded(&channel.paying(&accepted))))).await;
        if how != "status" && how != "fails" {
            assert_eq!(got.receipt()["extensions"]["kaspa"]["status"], "not_charged", "{how}: {got:?}");
        }
        if how == "error" {
            assert!(got.text().starts_with("secret of ask"), "the policy lets it out: {got:?}");
        }
    }

    channel.renewed = None;
    // Charged as any other where the policy says so: by what it says, which other flaws of it do not change.
    for (tokens, charge) in [(json!(9), 9_000), (json!(0), 500), (json!(null), CEILING), (json!("12.5"), 12_500)] {
        let call = Call::of("ask_always", json!({"how": "error", "tokens": tokens}));
        let payment = paying(&shop, &mut channel, &call).await;
        let before = channel.charged;
        let got = shop.post(&call.message("m", Some(&payment))).await;
        channel.served(&got.as_http());
        assert_eq!((channel.charged - before, &got.result()["isError"]), (charge, &json!(true)), "{tokens}: {got:?}");
        let runs = shop.server.runs("ask_always");
        let again = shop.post(&call.message("again", Some(&payment))).await;
        assert_eq!((&again.message["id"], &again.result()["isError"]), (&json!("again"), &json!(true)), "{again:?}");
        assert_eq!((&again.result()["content"], shop.server.runs("ask_always")), (&got.result()["content"], runs), "the stored result");
    }
    let call = Call::of("ask_always", json!({"how": "flawed", "tokens": 11}));
    let payment = paying(&shop, &mut channel, &call).await;
    let before = channel.charged;
    let got = shop.post(&call.message("m", Some(&payment))).await;
    let text = String::from_utf8(got.body).unwrap();
    assert!(text.contains(r#""cut":"\ud83d""#) && text.contains(r#""twice":1e999"#), "they are passed on: {text}");
    let message: Value = serde_json::from_str(&text.replace("\\ud83d", "").replace("1e999", "1")).unwrap();
    assert_eq!(channel.read(&message["result"]["_meta"]["x402/payment-response"]), 11_000, "and do not hide the meter");
    assert_eq!((channel.charged - before, got.status), (11_000, 200));

    let call = Call::of("fixed", json!({}));
    channel.renewed = None;
    let accepted = batch_of(&shop.post(&call.message(1, None)).await.as_http());
    let before = channel.charged;
    channel.served(&shop.post(&call.message(2, Some(&decoded(&channel.paying(&accepted))))).await.as_http());
    assert_eq!(channel.charged - before, CEILING, "the books agree: nothing else was charged");
}

#[tokio::test]
async fn who_hangs_up_is_charged_and_finds_the_result() {
    let shop = Shop::open(ROUTES, SETTINGS).await;
    let wallet = Wallet::new(1);
    let mut channel = open(&shop, &wallet, &Call::of("ask", json!({"tokens": 1}))).await;

    let call = Call::of("ask", json!({"how": "progress", "tokens": 30}));
    let payment = paying(&shop, &mut channel, &call).await;
    let mut stream = Stream::of(shop.begin(call.message(1, Some(&payment)).to_string().as_bytes(), &[]).await);
    assert_eq!(stream.messages(1).await[0]["method"], "notifications/progress");
    drop(stream);
    // Whoever resumes gets it only after its charge.
    let mut resumed = shop.listen(Some("progress-0")).await;
    let answer = resumed.messages(1).await.remove(0);
    assert_eq!(channel.read(&answer["result"]["_meta"]["x402/payment-response"]), 30_000);
    let got: Got = shop.post(&call.message("again", Some(&payment))).await;
    assert_eq!((got.text().starts_with("secret of ask"), got.code().as_str()), (true, "-"), "{got:?}");

    // Another call with the same payment buys nothing.
    let other = Call::of("ask", json!({"how": "json", "tokens": 31}));
    let refused = shop.post(&other.message(1, Some(&payment))).await;
    assert!(refused.result()["isError"] == true && !refused.text().contains("secret"), "{refused:?}");
    assert_eq!(shop.server.runs("ask"), 2);
}
