//! A paid result never leaves by another door than the answer that was paid for.

use super::{
    channels,
    client::{Call, Shop, Stream},
    exact::ROUTES,
    support::{
        channel::SETTINGS,
        devnet::{KAS, Wallet},
        patience::number,
        pay::HTTP,
    },
};
use serde_json::{Value, json};

/// A tool whose results are let out only when they say what they cost.
const STRICT: &str = r#"
  - path: /mcp
    kind: mcp
    tools:
      - tool: strict
        scheme: batch-settlement
        price: "0.01 KAS"
        charge: {json: /structuredContent/tokens, unit_price: "1000 sompi", on_unknown: refuse}
"#;

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
async fn a_stream_that_is_cut_is_resumed_and_its_result_comes_after_its_charge_only() {
    let shop = Shop::open(ROUTES, "").await;
    let payer = Wallet::new(1);
    let coins = shop.devnet.fund(&payer, 10 * KAS, 2).await;
    for (index, stays) in [(0, true), (1, false)] {
        let tag = index.to_string();
        let call = Call::of("search", json!({"how": "cuts", "tag": tag}));
        let (transaction, payment) = shop.pay(&call, &payer, &coins[index..=index]).await;
        let mut stream = Stream::of(shop.begin(call.message(7, Some(&payment)).to_string().as_bytes(), &[]).await);
        assert_eq!(stream.messages(1).await[0]["method"], "notifications/progress");
        shop.server.cut();
        // Who stays gets it from the gateway, which resumes the stream; who was cut off, too, resumes it as the protocol says.
        let answer = if stays {
            stream.messages(2).await.remove(1)
        } else {
            drop(stream);
            shop.listen(Some(&format!("cuts-{tag}"))).await.messages(1).await.remove(0)
        };
        assert_eq!(
            (&answer["id"], &answer["result"]["_meta"]["x402/payment-response"]["transaction"]),
            (&json!(7), &json!(transaction.id().to_string()))
        );
        let seen = shop.server.seen();
        assert!(seen.iter().any(|seen| seen.method == "GET" && seen.headers["last-event-id"] == format!("cuts-{tag}")));
        let again = shop.post(&call.message("again", Some(&payment))).await;
        again.served("again", &transaction);
        assert_eq!(again.result()["content"], answer["result"]["content"]);
        let unpaid = shop.post(&call.message(1, None)).await;
        assert!(unpaid.result()["structuredContent"]["accepts"].is_array());
        assert_eq!(shop.server.runs("search"), index + 1);
    }
}

#[tokio::test]
async fn an_answer_on_the_standalone_stream_reaches_its_call() {
    let shop = Shop::open(ROUTES, "").await;
    let payer = Wallet::new(1);
    let coins = shop.devnet.fund(&payer, 10 * KAS, 1).await;
    let mut standalone = shop.listen(None).await;
    let call = Call::of("search", json!({"how": "moves"}));
    let (transaction, payment) = shop.pay(&call, &payer, &coins).await;
    let mut stream = Stream::of(shop.begin(call.message(1, Some(&payment)).to_string().as_bytes(), &[]).await);
    stream.messages(1).await;
    shop.server.push(shop.server.owed("moves-0"));
    let both = [standalone.messages(1).await.remove(0), stream.messages(2).await.remove(1)];
    assert_eq!(both[0], both[1]);
    assert_eq!((&both[0]["id"], standalone.text.contains("kas402call")), (&json!(1), false));
    assert_eq!(both[0]["result"]["_meta"]["x402/payment-response"]["transaction"], transaction.id().to_string());
}

#[tokio::test]
async fn no_door_lets_out_a_result_that_cannot_be_charged() {
    let shop = Shop::open(STRICT, SETTINGS).await;
    let payer = Wallet::new(1);
    let mut channel = channels::open(&shop, &payer, &Call::of("strict", json!({"tokens": 3}))).await;
    // Everything that clients were told, whatever door it came by.
    let mut told: Vec<String> = Vec::new();
    let withheld = |message: &Value| message["result"]["structuredContent"]["error"] == "upstream_failed";
    for how in ["json", "sse", "closes", "cuts", "progress", "standalone", "moves", "leaks", "leaks_sse", "tasks/get", "tasks/result"] {
        let answers = if ["standalone", "leaks", "leaks_sse"].contains(&how) || how.contains('/') { "moves" } else { how };
        let tag = how.replace('/', "-");
        let place = format!("{answers}-{tag}");
        let call = Call::of("strict", json!({"how": answers, "tag": tag}));
        channel.renewed = None;
        let payment = channels::paying(&shop, &mut channel, &call).await;
        let message = call.message(1, Some(&payment)).to_string();
        let mut standalone = shop.listen(None).await;
        let mut stream = Stream::of(shop.begin(message.as_bytes(), &[]).await);
        match how {
            "progress" | "cuts" => {
                stream.messages(1).await;
                drop(stream);
                if how == "cuts" {
                    shop.server.cut();
                }
                let mut resumed = shop.listen(Some(&place)).await;
                assert!(withheld(&resumed.messages(1).await[0]), "{how}: {}", resumed.text);
                told.push(resumed.text);
            }
            "standalone" => {
                stream.messages(1).await;
                shop.server.push(shop.server.owed(&place));
                assert!(withheld(&standalone.messages(1).await[0]), "{how}: {}", standalone.text);
                assert!(withheld(&stream.messages(2).await[1]), "{how}: {}", stream.text);
                told.push(stream.text);
            }
            "moves" => {
                stream.messages(1).await;
                let mut resumed = shop.listen(Some(&place)).await;
                assert!(withheld(&resumed.messages(1).await[0]), "{how}: {}", resumed.text);
                assert!(withheld(&stream.messages(2).await[1]), "{how}: {}", stream.text);
                told.extend([resumed.text, stream.text]);
            }
            "leaks" | "leaks_sse" => {
                stream.messages(1).await;
                let free = shop.post(&Call::of("echo", json!({"how": how, "of": place})).message(2, None)).await;
                told.push(String::from_utf8(free.body).unwrap());
                shop.server.push(shop.server.owed(&place));
                assert!(withheld(&stream.messages(2).await[1]), "{how}: {}", stream.text);
            }
            "tasks/get" | "tasks/result" => {
                stream.messages(1).await;
                let task = json!({"jsonrpc": "2.0", "id": 2, "method": how, "params": {"taskId": place}});
                let asked = shop.post(&task).await;
                assert_eq!(asked.status, 502, "{asked:?}");
                told.push(String::from_utf8(asked.body).unwrap());
                shop.server.push(shop.server.owed(&place));
                assert!(withheld(&stream.messages(2).await[1]), "{how}: {}", stream.text);
            }
            _ => {
                while stream.chunk().await.is_some() {}
                assert!(stream.text.contains("upstream_failed"), "{how}: {}", stream.text);
                told.push(stream.text);
            }
        }
        told.push(standalone.text);
        // Nor does who comes late, or from another session, find it.
        for session in ["session-1", "session-2", "stale"] {
            let request = HTTP.get(shop.url()).header("mcp-session-id", session).header("last-event-id", &place);
            let response = request.send().await.unwrap();
            assert_eq!(response.status() == 404, session == "stale", "{how}");
            if response.status() != 404 {
                let mut late = Stream::of(response);
                shop.server.push(json!({"jsonrpc": "2.0", "method": "last"}));
                while !late.text.contains("\"last\"") {
                    late.chunk().await.expect("more to come");
                }
                told.push(late.text);
            }
        }
    }
    for text in &told {
        assert!(!text.contains("secret of strict") && !text.contains("kas402call"), "{text}");
    }
    let charged = number(&shop.gateway.status().await["channels"], "chargedSompi");
    assert_eq!(charged, 3_000, "nothing was charged for what nobody got");
    let call = Call::of("strict", json!({"tokens": 4}));
    channel.renewed = None;
    let payment = channels::paying(&shop, &mut channel, &call).await;
    channel.served(&shop.post(&call.message(1, Some(&payment))).await.as_http());
    assert_eq!(channel.charged, 7_000);
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
