//! A paid result never leaves by another door than the answer that was paid for.

use super::{
    client::{Call, Shop, Stream},
    exact::ROUTES,
    support::devnet::{KAS, Wallet},
};
use serde_json::json;

#[tokio::test]
async fn who_hangs_up_finds_the_result_again_and_the_tool_ran_once() {
    let shop = Shop::open(ROUTES, "").await;
    let payer = Wallet::new(1);
    let coins = shop.devnet.fund(&payer, 10 * KAS, 2).await;

    // By the same payment.
    let call = Call::of("search", json!({"how": "progress", "tag": "a"}));
    let (transaction, payment) = shop.pay(&call, &payer, &coins[..1]).await;
    let mut stream = Stream::of(shop.begin(call.message(1, Some(&payment)).to_string().as_bytes(), &[]).await);
    stream.messages(1).await;
    drop(stream);
    // Nor does taking it back stop it: the server does not know the call by this id.
    let cancelled = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}});
    assert_eq!(shop.post(&cancelled).await.status, 202);
    assert_eq!(shop.server.last().body, cancelled.to_string().as_bytes());
    shop.server.open_gate();
    let got = shop.post(&call.message("later", Some(&payment))).await;
    got.served("later", &transaction);
    assert_eq!(shop.server.runs("search"), 1);
    shop.server.close_gate();

    // By resuming the stream: the server sends it at once, the gateway only after it is recorded, under the client's id.
    let call = Call::of("search", json!({"how": "progress", "tag": "b"}));
    let (transaction, payment) = shop.pay(&call, &payer, &coins[1..]).await;
    let mut stream = Stream::of(shop.begin(call.message(2, Some(&payment)).to_string().as_bytes(), &[]).await);
    stream.messages(1).await;
    drop(stream);
    let mut resumed = shop.listen(Some("progress-b")).await;
    let answer = resumed.messages(1).await.remove(0);
    assert_eq!(
        (&answer["id"], &answer["result"]["_meta"]["x402/payment-response"]["transaction"]),
        (&json!(2), &json!(transaction.id().to_string()))
    );
    assert!(resumed.text.contains("id: progress-b-answer\n") && !resumed.text.contains("kas402call"), "{}", resumed.text);
    let mut late = shop.listen(Some("progress-b")).await;
    assert_eq!(late.messages(1).await[0], answer, "also to who resumes later");
    assert_eq!(shop.server.runs("search"), 2);
}

#[tokio::test]
async fn an_answer_that_moved_to_another_stream_reaches_its_call() {
    let shop = Shop::open(ROUTES, "").await;
    let payer = Wallet::new(1);
    let coins = shop.devnet.fund(&payer, 10 * KAS, 1).await;
    let call = Call::of("search", json!({"how": "moves"}));
    let (transaction, payment) = shop.pay(&call, &payer, &coins).await;
    let mut stream = Stream::of(shop.begin(call.message(1, Some(&payment)).to_string().as_bytes(), &[]).await);
    stream.messages(1).await;
    let mut resumed = shop.listen(Some("moves-0")).await;
    let both = [resumed.messages(1).await.remove(0), stream.messages(2).await.remove(1)];
    assert_eq!(both[0], both[1]);
    assert_eq!(both[0]["result"]["_meta"]["x402/payment-response"]["transaction"], transaction.id().to_string());
    assert_eq!(shop.post(&call.message("again", Some(&payment))).await.message["id"], "again");
    assert_eq!(shop.server.runs("search"), 1);
}

#[tokio::test]
async fn what_belongs_to_no_call_of_this_gateway_is_withheld() {
    let mut shop = Shop::open(ROUTES, "").await;
    let payer = Wallet::new(1);
    let coins = shop.devnet.fund(&payer, 10 * KAS, 1).await;
    let call = Call::of("search", json!({"how": "progress"}));
    let (transaction, payment) = shop.pay(&call, &payer, &coins).await;
    let mut stream = Stream::of(shop.begin(call.message(1, Some(&payment)).to_string().as_bytes(), &[]).await);
    stream.messages(1).await;
    shop.gateway.restart().await;

    // The server still has the answer for who asks.
    let mut resumed = shop.listen(Some("progress-0")).await;
    let own = json!({"jsonrpc": "2.0", "id": "kas402callx", "result": {"content": [{"type": "text", "text": "secret"}]}});
    for withheld in [own.clone(), json!([own]), json!({"result": own["result"], "id": "kas402call"})] {
        shop.server.push(withheld);
    }
    shop.server.push(json!({"jsonrpc": "2.0", "method": "last"}));
    assert_eq!(resumed.messages(1).await[0]["method"], "last");
    assert!(!resumed.text.contains("secret") && !resumed.text.contains("kas402call"), "{}", resumed.text);

    // It was paid for: the same payment gets it, by another run.
    shop.server.open_gate();
    let got = shop.post(&call.message(2, Some(&payment))).await;
    assert_eq!((&got.message["id"], &got.receipt()["transaction"]), (&json!(2), &json!(transaction.id().to_string())));
}

#[tokio::test]
async fn a_stale_session_costs_nothing_and_opens_nothing() {
    let shop = Shop::open(ROUTES, "").await;
    let payer = Wallet::new(1);
    let coins = shop.devnet.fund(&payer, 10 * KAS, 1).await;
    let call = Call::of("search", json!({}));
    let unpaid = shop.post_with(call.message(1, None).to_string().as_bytes(), &[("mcp-session-id", "stale")]).await;
    assert!(unpaid.result()["structuredContent"]["accepts"].is_array() && shop.server.seen().is_empty());
    let (transaction, payment) = shop.pay(&call, &payer, &coins).await;
    let message = call.message(2, Some(&payment)).to_string();
    let stale = shop.post_with(message.as_bytes(), &[("mcp-session-id", "stale")]).await;
    assert_eq!((stale.status, &stale.message["error"]["message"]), (404, &json!("Session not found")), "the client has to know");
    shop.post_with(message.as_bytes(), &[]).await.served(2, &transaction);
}

#[tokio::test]
async fn no_task_is_made_of_a_sold_tool() {
    let shop = Shop::open(ROUTES, "").await;
    let payer = Wallet::new(1);
    let coins = shop.devnet.fund(&payer, 10 * KAS, 1).await;
    let call = Call::of("search", json!({}));
    let (_, payment) = shop.pay(&call, &payer, &coins).await;
    for task in [json!({"ttl": 1000}), json!({}), json!(null), json!(false)] {
        for payment in [None, Some(&payment)] {
            let mut message = call.message(1, payment);
            message["params"]["task"] = task.clone();
            let got = shop.post(&message).await;
            assert_eq!((got.status, got.code().as_str(), &got.message["id"]), (400, "mcp_task", &json!(1)), "{got:?}");
        }
    }
    assert!(shop.server.seen().is_empty());
    // Of a free tool it is the server's business, and so is what became of it.
    let mut free = Call::of("echo", json!({})).message(1, None);
    free["params"]["task"] = json!({"ttl": 1000});
    assert_eq!(shop.post(&free).await.status, 200);
    for method in ["tasks/list", "tasks/get", "tasks/result", "tasks/cancel"] {
        let got = shop.post(&json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": {"taskId": "1"}})).await;
        assert_eq!(got.result()["method"], method);
    }
}
