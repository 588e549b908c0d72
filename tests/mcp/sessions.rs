//! What belongs to a session of the protocol goes on around what is sold: questions of the server, resumption, ids, lists.

use super::{
    client::{Call, Shop, Stream},
    exact::ROUTES,
    server::LIST,
    support::{
        devnet::{KAS, Wallet},
        patience::number,
    },
};
use serde_json::{Value, json};

#[tokio::test]
async fn a_server_asks_its_client_in_the_middle_of_a_call_that_was_paid_for() {
    let shop = Shop::open(ROUTES, "").await;
    let payer = Wallet::new(1);
    let coins = shop.devnet.fund(&payer, 10 * KAS, 1).await;
    let call = Call::of("search", json!({"how": "elicits"}));
    let (transaction, payment) = shop.pay(&call, &payer, &coins).await;
    let mut stream = Stream::of(shop.begin(call.message(1, Some(&payment)).to_string().as_bytes(), &[]).await);
    let asked = stream.messages(1).await.remove(0);
    assert_eq!((&asked["id"], &asked["method"]), (&json!("elicit"), &json!("elicitation/create")), "under the server's own id");
    let answer = json!({"jsonrpc": "2.0", "id": "elicit", "result": {"action": "accept", "content": {}}});
    assert_eq!(shop.post(&answer).await.status, 202);
    assert_eq!(shop.server.last().body, answer.to_string().as_bytes());
    let told = stream.messages(2).await.remove(1);
    assert_eq!(told["result"]["_meta"]["x402/payment-response"]["transaction"], transaction.id().to_string());
    assert_eq!((&told["id"], shop.server.runs("search")), (&json!(1), 1));
}

#[tokio::test]
async fn a_free_stream_is_resumed_by_its_client() {
    let shop = Shop::open(ROUTES, "").await;
    let call = Call::of("echo", json!({"how": "closes"}));
    let told = Stream::of(shop.begin(call.message("free", None).to_string().as_bytes(), &[]).await).rest().await;
    assert!(told.is_empty(), "{told:?}");
    let mut resumed = shop.listen(Some("closes-0")).await;
    let answer = resumed.messages(1).await.remove(0);
    assert_eq!((&answer["id"], &answer["result"]["_meta"]), (&json!("free"), &json!({"server": "its own"})));
    assert!(resumed.text.starts_with(": open\n\nevent: message\nid: closes-0-answer\ndata: "), "as the server sent it: {}", resumed.text);
    let seen = shop.server.last();
    assert_eq!((seen.method.as_str(), &seen.headers["last-event-id"]), ("GET", &"closes-0".parse().unwrap()));
}

#[tokio::test]
async fn calls_under_one_id_at_once_get_what_each_of_them_paid_for() {
    let shop = Shop::open(ROUTES, "").await;
    let payer = Wallet::new(1);
    let coins = shop.devnet.fund(&payer, 10 * KAS, 2).await;
    let mut streams = Vec::new();
    for index in 0..2 {
        let call = Call::of("search", json!({"how": "progress", "tag": index.to_string()}));
        let (transaction, payment) = shop.pay(&call, &payer, &coins[index..=index]).await;
        let mut stream = Stream::of(shop.begin(call.message(1, Some(&payment)).to_string().as_bytes(), &[]).await);
        stream.messages(1).await;
        streams.push((stream, transaction));
    }
    let unpaid = Call::of("search", json!({"how": "progress", "tag": "0"}));
    assert!(shop.post(&unpaid.message(1, None)).await.result()["structuredContent"]["accepts"].is_array());
    let free = shop.post(&Call::of("echo", json!({})).message(1, None)).await;
    assert_eq!((&free.message["id"], free.text()), (&json!(1), "secret of echo {}"));
    shop.server.open_gate();
    for (index, (mut stream, transaction)) in streams.into_iter().enumerate() {
        let told = stream.messages(2).await.remove(1);
        assert!(told["result"]["content"][0]["text"].as_str().unwrap().contains(&format!("\"tag\":\"{index}\"")), "{told}");
        assert_eq!(told["result"]["_meta"]["x402/payment-response"]["transaction"], transaction.id().to_string());
    }
    assert_eq!(number(&shop.gateway.payments().await, "delivered"), 2);
}

/// What the gateway puts into [`LIST`].
const PRICE: &str = r#","kas402/price":{"accepts":[{"amount":"25000000","scheme":"exact"}],"asset":"KAS"}"#;
const SENTENCE: &str = r#","description":"Each call costs 0.25 KAS, paid by x402.""#;

#[tokio::test]
async fn prices_are_put_into_a_list_of_which_every_other_byte_stays() {
    for (shown, price, sentence) in [("description", PRICE, SENTENCE), ("meta", PRICE, ""), ("off", "", "")] {
        let shop = Shop::open(&ROUTES.replace("list_prices: description", &format!("list_prices: {shown}")), "").await;
        let ask = |how: &str| json!({"jsonrpc": "2.0", "id": 7, "method": "tools/list", "params": {"how": how}});
        let got = shop.post(&ask("json")).await;
        let list = LIST.replace("$id", "7");
        let text = String::from_utf8(got.body).unwrap();
        assert_eq!(without(&text, &[price, sentence]), list, "{shown}");
        assert_eq!((&got.headers["x-own"], text.len()), (&"kept".parse().unwrap(), list.len() + price.len() + sentence.len()));
        let told: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(told["result"]["tools"][1]["_meta"].get("kas402/price").is_some(), !price.is_empty());
        let mut stream = Stream::of(shop.begin(ask("sse").to_string().as_bytes(), &[]).await);
        while stream.chunk().await.is_some() {}
        assert_eq!(without(&stream.text, &[price, sentence]), format!(": list\nid: 9\nretry: 70\ndata: {list}\n\n"), "{shown}");
    }
}

/// Without what has to be in there once each.
fn without(text: &str, parts: &[&str]) -> String {
    parts.iter().filter(|part| !part.is_empty()).fold(text.to_owned(), |text, part| {
        assert_eq!(text.matches(part).count(), 1, "{part} in {text}");
        text.replacen(part, "", 1)
    })
}
