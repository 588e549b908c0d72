//! One transaction per call.

use super::{
    client::{Call, Shop, Stream, header},
    support::{
        devnet::{KAS, Wallet},
        patience::number,
    },
};
use serde_json::{Value, json};

pub const ROUTES: &str = r#"
  - path: /mcp
    kind: mcp
    list_prices: description
    tools:
      - {tool: search, price: "0.25 KAS"}
      - {tool: lookup, price: "0.25 KAS", on_error: free}
      - tool: "image_*"
        price: {by: {argument: /size}, table: {small: "0.25 KAS", large: "1 KAS"}}
      - {tool: image_preview, free: true}
"#;

#[tokio::test]
async fn a_call_is_sold_and_everything_else_is_free() {
    let shop = Shop::open(ROUTES, "").await;
    let call = Call::of("search", json!({"q": "kaspa"}));

    let got = shop.post(&call.message("unpaid", None)).await;
    assert_eq!((got.status, &got.message["id"], &got.result()["isError"]), (200, &json!("unpaid"), &json!(true)));
    let required = &got.result()["structuredContent"];
    assert_eq!((&required["x402Version"], &required["accepts"][0]["amount"]), (&json!(2), &json!("25000000")), "{required}");
    assert_eq!(required["resource"]["url"], "http://paid.test/mcp");
    assert_eq!(serde_json::from_str::<Value>(got.text()).unwrap(), *required, "the same twice");
    assert!(shop.server.seen().is_empty());

    let payer = Wallet::new(1);
    let coins = shop.devnet.fund(&payer, 10 * KAS, 3).await;
    let (transaction, payment) = shop.pay(&call, &payer, &coins[..1]).await;
    let got = shop.post(&call.message(7, Some(&payment))).await;
    got.served(7, &transaction);
    let seen = shop.server.last();
    let forwarded: Value = serde_json::from_slice(&seen.body).unwrap();
    assert_eq!(forwarded["params"], json!({"name": "search", "arguments": {"q": "kaspa"}, "_meta": {"progressToken": "token-1"}}));
    assert!(forwarded["id"].as_str().unwrap().starts_with("kas402call"), "{forwarded}");
    assert_eq!(seen.headers["x-kas402-txid"], transaction.id().to_string());
    assert_eq!(seen.headers["mcp-session-id"], "session-1");

    // The same payment and call again: the stored result, under the new id.
    let again = shop.post(&call.message("again", Some(&payment))).await;
    again.served("again", &transaction);
    assert_eq!(again.result()["content"], got.result()["content"]);
    assert_eq!(shop.server.runs("search"), 1);

    // For other arguments, or another tool, it is no payment, and nobody is asked to pay again.
    for other in [Call::of("search", json!({"q": "other"})), Call::of("image_1", json!({"size": "small"}))] {
        let got = shop.post(&other.message(1, Some(&payment))).await;
        assert_eq!((got.code().as_str(), got.result()["isError"].as_bool()), ("invalid_kaspa_exact_replay", Some(true)), "{got:?}");
        assert!(got.result()["structuredContent"].get("accepts").is_none());
    }

    // In the header it is a payment too; twice it is one too many.
    let call = Call::of("image_1", json!({"size": "small"}));
    let (transaction, payment) = shop.pay(&call, &payer, &coins[1..2]).await;
    let value = header(&payment);
    let twice = shop.post_with(call.message(1, Some(&payment)).to_string().as_bytes(), &[("payment-signature", &value)]).await;
    assert_eq!(twice.code(), "payment_header_duplicated");
    let got = shop.post_with(call.message(1, None).to_string().as_bytes(), &[("payment-signature", &value)]).await;
    got.served(1, &transaction);
    assert!(!shop.server.last().headers.contains_key("payment-signature"));

    // Dearer arguments are not bought with a cheap offer.
    let (_, payment) = shop.pay(&call, &payer, &coins[2..]).await;
    let got = shop.post(&Call::of("image_1", json!({"size": "large"})).message(1, Some(&payment))).await;
    assert_eq!(got.code(), "offer_other_price");
    assert_eq!(number(&shop.gateway.payments().await, "chargedSompi"), KAS / 2);
}

#[tokio::test]
async fn what_is_free_passes_unchanged_and_prices_are_listed() {
    let shop = Shop::open(ROUTES, "").await;
    let body = br#"{ "jsonrpc" : "2.0", "id" : 1, "method" : "tools/call", "params" : { "name" : "echo", "arguments" : { "n" : 1.10 } } }"#;
    let got = shop.post_with(body, &[]).await;
    assert_eq!((got.status, got.text()), (200, r#"secret of echo {"n":1.1}"#));
    assert_eq!(shop.server.last().body, &body[..]);
    assert!(got.result()["_meta"].get("x402/payment-response").is_none());
    for message in [
        json!({"jsonrpc": "2.0", "id": "i", "method": "initialize", "params": {"capabilities": {}}}),
        json!({"jsonrpc": "2.0", "id": 3, "method": "ping"}),
        json!({"jsonrpc": "2.0", "id": 4, "method": "tools/call", "params": {"name": "image_preview"}}),
    ] {
        let got = shop.post(&message).await;
        assert_eq!((got.status, &got.message["id"]), (200, &message["id"]), "{got:?}");
        assert_eq!(shop.server.last().body, message.to_string().as_bytes());
        assert_eq!(got.headers["mcp-session-id"], "session-1");
    }
    let got = shop.post(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
    assert_eq!((got.status, got.body.len()), (202, 0));
    let got = shop.post(&json!([{"jsonrpc": "2.0", "id": 1, "method": "ping"}])).await;
    assert_eq!(got.status, 202, "a batch of free messages is the server's business");

    // A payment for nothing is not shown to the server.
    shop.post(&json!({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"_meta": {"x402/payment": {"secret": 1}}}})).await;
    assert_eq!(shop.server.last().body, &br#"{"id":1,"jsonrpc":"2.0","method":"ping","params":{}}"#[..]);

    let got = shop.post(&json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})).await;
    let tools = &got.result()["tools"];
    assert_eq!(tools[0]["_meta"]["kas402/price"], json!({"asset": "KAS", "accepts": [{"scheme": "exact", "amount": "25000000"}]}));
    assert_eq!(tools[0]["description"], "Searches.\n\nEach call costs 0.25 KAS, paid by x402.");
    assert_eq!(tools[1]["_meta"]["kas402/price"]["accepts"][0]["by"], json!({"argument": "/size"}));
    assert_eq!(tools[1]["description"], "Each call costs 0.25 KAS to 1 KAS, paid by x402.");
    assert_eq!(tools[2], json!({"name": "echo", "inputSchema": {"type": "object"}}));

    let mut stream = shop.listen(None).await;
    shop.server.push(json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}));
    assert_eq!(stream.messages(1).await[0]["method"], "notifications/tools/list_changed");
    let response = super::support::pay::HTTP.delete(shop.url()).header("mcp-session-id", "session-1").send().await.unwrap();
    assert_eq!(response.status(), 204);
    assert_eq!(shop.server.last().method, "DELETE");
}

#[tokio::test]
async fn a_stream_passes_at_once_and_ends_with_the_receipt() {
    let shop = Shop::open(ROUTES, "").await;
    let payer = Wallet::new(1);
    let coins = shop.devnet.fund(&payer, 10 * KAS, 2).await;

    let call = Call::of("search", json!({"how": "progress"}));
    let (transaction, payment) = shop.pay(&call, &payer, &coins[..1]).await;
    let response = shop.begin(call.message(5, Some(&payment)).to_string().as_bytes(), &[]).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut stream = Stream::of(response);
    let first = stream.messages(1).await;
    assert_eq!(first[0]["params"], json!({"progressToken": "token-1", "progress": 1, "message": "on its way"}));
    assert!(!stream.text.contains("secret"), "its gate is closed");
    shop.server.open_gate();
    let both = stream.messages(2).await;
    assert_eq!(both[1]["id"], 5);
    assert_eq!(both[1]["result"]["_meta"]["x402/payment-response"]["transaction"], transaction.id().to_string());
    assert!(both[1]["result"]["content"][0]["text"].as_str().unwrap().starts_with("secret of search"));
    let again = shop.post(&call.message("again", Some(&payment))).await;
    again.served("again", &transaction);

    // A server that closes its stream to be asked again (revision 2025-11-25) is asked by the gateway.
    let call = Call::of("search", json!({"how": "closes"}));
    let (transaction, payment) = shop.pay(&call, &payer, &coins[1..]).await;
    let got = shop.post(&call.message(6, Some(&payment))).await;
    got.served(6, &transaction);
    assert_eq!(shop.server.last().headers["last-event-id"], "closes-0");
    assert_eq!(shop.server.runs("search"), 2);
}

#[tokio::test]
async fn what_the_server_did_not_serve_stays_paid() {
    let shop = Shop::open(ROUTES, "").await;
    let payer = Wallet::new(1);
    let coins = shop.devnet.fund(&payer, 10 * KAS, 9).await;
    for (index, how) in ["fails", "status", "breaks", "asks", "coded", "half", "task", "error"].into_iter().enumerate() {
        let call = Call::of(if how == "error" { "lookup" } else { "search" }, json!({"how": how}));
        let (transaction, payment) = shop.pay(&call, &payer, &coins[index..=index]).await;
        for run in 1..=2 {
            let got = shop.post(&call.message(run, Some(&payment))).await;
            let text = String::from_utf8_lossy(&got.body);
            assert!(how == "error" || !text.contains("secret"), "{how}: {text}");
            let receipt = match how {
                "fails" => got.message["error"]["data"]["x402/payment-response"].clone(),
                "status" => Value::Null,
                _ => got.receipt().clone(),
            };
            if how == "status" {
                assert_eq!((got.status, got.body.as_slice()), (503, &b"later"[..]));
            } else {
                assert_eq!((got.status, &got.message["id"]), (200, &json!(run)), "{how}: {got:?}");
                assert_eq!(receipt["transaction"], transaction.id().to_string(), "{how}: {got:?}");
            }
        }
        assert_eq!(shop.server.seen().len(), 2 * (index + 1), "{how}: forwarded again, not stored");
    }
    // By default an error of the tool is a result.
    let call = Call::of("search", json!({"how": "error"}));
    let (_, payment) = shop.pay(&call, &payer, &coins[8..]).await;
    for run in 1..=2 {
        let got = shop.post(&call.message(run, Some(&payment))).await;
        assert_eq!((&got.result()["isError"], &got.receipt()["success"]), (&json!(true), &json!(true)), "{got:?}");
    }
    assert_eq!(shop.server.seen().len(), 17);
}

#[tokio::test]
async fn a_payment_whose_outcome_is_not_known_is_refused_in_the_shape_of_a_result_and_good_later() {
    let routes = "  - {path: /mcp, kind: mcp, settle_wait_seconds: 1, tools: [{tool: search, price: \"0.25 KAS\"}]}";
    let shop = Shop::open(routes, "").await;
    let payer = Wallet::new(1);
    let coins = shop.devnet.fund(&payer, 10 * KAS, 1).await;
    let call = Call::of("search", json!({"q": 1}));
    let (transaction, payment) = shop.pay(&call, &payer, &coins).await;
    shop.devnet.set_rate(0, 0.0).await;
    let got = shop.post(&call.message("early", Some(&payment))).await;
    let (result, receipt) = (got.result(), got.receipt());
    assert_eq!((got.status, &got.message["id"], &result["isError"]), (200, &json!("early"), &json!(true)), "{got:?}");
    assert_eq!((got.code().as_str(), &receipt["success"]), ("settlement_pending", &json!(false)), "{got:?}");
    assert_eq!(
        (&receipt["transaction"], &receipt["extensions"]["kaspa"]["status"]),
        (&json!(transaction.id().to_string()), &json!("pending"))
    );
    assert!(result["_meta"]["kas402/retry-after-seconds"].as_u64().is_some_and(|seconds| seconds > 0), "{got:?}");
    let words = &result["structuredContent"];
    assert_eq!((&serde_json::from_str::<Value>(got.text()).unwrap(), words.get("accepts")), (words, None), "the same twice, and no offer");
    assert!(shop.server.seen().is_empty());
    shop.devnet.set_rate(0, 10.0).await;
    shop.until_answered(&call, "later", &payment, &payer).await.served("later", &transaction);
    assert_eq!(shop.server.runs("search"), 1);
}
