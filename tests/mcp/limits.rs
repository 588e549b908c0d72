//! What is held in memory is bounded, and what is longer never leaves unpaid.

use super::{
    channels,
    client::{Call, PATIENCE, Shop, Stream},
    support::{
        channel::SETTINGS,
        devnet::{KAS, Wallet},
        patience::number,
        pay::HTTP,
    },
};
use serde_json::{Value, json};

const ROUTES: &str = r#"
  - path: /mcp
    kind: mcp
    message_limit_bytes: 65536
    body_limit_bytes: 16777216
    tools:
      - {tool: search, price: "0.25 KAS"}
      - {tool: ask, scheme: batch-settlement, price: "0.01 KAS"}
"#;
const MIB: usize = 1 << 20;

/// Resident memory of the gateway, bytes.
fn memory(shop: &Shop) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", shop.gateway.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[tokio::test]
async fn a_message_over_the_limit_is_withheld_and_costs_nothing_anew() {
    let shop = Shop::open(ROUTES, SETTINGS).await;
    let payer = Wallet::new(1);
    let coins = shop.devnet.fund(&payer, 10 * KAS, 2).await;
    for (index, how) in ["long", "long_sse"].into_iter().enumerate() {
        let call = Call::of("search", json!({"how": how}));
        let (transaction, payment) = shop.pay(&call, &payer, &coins[index..=index]).await;
        for run in 1..=2 {
            let got = shop.post(&call.message(run, Some(&payment))).await;
            assert!(!String::from_utf8_lossy(&got.body).contains("secret"), "{how}: {}", got.body.len());
            assert_eq!((&got.message["id"], got.result()["structuredContent"]["error"].as_str()), (&json!(run), Some("upstream_failed")));
            assert_eq!(got.receipt()["transaction"], transaction.id().to_string(), "{how}: the payment is still good");
        }
    }
    let books = shop.gateway.payments().await;
    assert_eq!(["settled", "delivered", "chargedSompi"].map(|name| number(&books, name)), [2, 0, KAS / 2], "{books}");

    let mut channel = channels::open(&shop, &payer, &Call::of("ask", json!({}))).await;
    for how in ["long", "long_sse"] {
        let call = Call::of("ask", json!({"how": how, "tag": "sold"}));
        channel.renewed = None;
        let payment = channels::paying(&shop, &mut channel, &call).await;
        let got = shop.post(&call.message(1, Some(&payment))).await;
        assert!(!String::from_utf8_lossy(&got.body).contains("secret"), "{how}: {}", got.body.len());
        assert_eq!(got.receipt()["extensions"]["kaspa"]["status"], "not_charged", "{how}: {got:?}");
    }
    let call = Call::of("ask", json!({}));
    channel.renewed = None;
    let payment = channels::paying(&shop, &mut channel, &call).await;
    let before = channel.charged;
    channel.served(&shop.post(&call.message(1, Some(&payment))).await.as_http());
    assert_eq!(channel.charged - before, KAS / 100, "nothing else was charged");

    // What is free and no event has any length; an event that cannot be looked at ends its stream.
    let free = shop.post(&Call::of("echo", json!({"how": "long"})).message(1, None)).await;
    assert!(free.text().len() > MIB && free.body.len() > MIB);
    let leak = shop.post(&Call::of("echo", json!({"how": "leaks", "of": "long-sold"})).message(1, None)).await;
    assert_eq!(
        (leak.status, String::from_utf8_lossy(&leak.body).contains("secret")),
        (502, false),
        "another call's, by a free one's answer"
    );
    let cut = Call::of("echo", json!({"how": "long_sse"})).message(1, None).to_string();
    assert_eq!(Stream::of(shop.begin(cut.as_bytes(), &[]).await).rest().await, Vec::<Value>::new());
    let stream = shop.listen(None).await;
    shop.server.push(json!({"jsonrpc": "2.0", "method": "long", "params": "x".repeat(MIB)}));
    assert_eq!(stream.rest().await, Vec::<Value>::new());
    let mut stream = shop.listen(None).await;
    shop.server.push(json!({"jsonrpc": "2.0", "method": "short"}));
    assert_eq!(stream.messages(1).await[0]["method"], "short");
}

#[tokio::test]
async fn a_long_result_is_given_again_whole_under_the_new_id() {
    let shop = Shop::open(&ROUTES.replace("65536", "4194304"), SETTINGS).await;
    let payer = Wallet::new(1);
    let coins = shop.devnet.fund(&payer, 10 * KAS, 2).await;
    let mut channel = channels::open(&shop, &payer, &Call::of("ask", json!({}))).await;
    for (index, how) in ["long", "long_sse"].into_iter().enumerate() {
        let exact = Call::of("search", json!({"how": how}));
        let (_, payment) = shop.pay(&exact, &payer, &coins[index..=index]).await;
        let voucher = Call::of("ask", json!({"how": how}));
        channel.renewed = None;
        let paid = channels::paying(&shop, &mut channel, &voucher).await;
        for (call, payment) in [(exact, payment), (voucher, paid)] {
            let first = shop.post(&call.message(1, Some(&payment))).await;
            assert!(first.text().len() > MIB && first.result()["isError"] != true, "{how} {}", call.tool);
            if call.tool == "ask" {
                channel.served(&first.as_http());
            }
            let runs = shop.server.runs(&call.tool);
            for id in [json!("again"), json!(-7)] {
                let again = shop.post(&call.message(id.clone(), Some(&payment))).await;
                assert_eq!((&again.message["id"], &again.result()["content"]), (&id, &first.result()["content"]), "{how} {}", call.tool);
                assert_eq!(again.result()["_meta"]["server"], "its own");
                assert_eq!((&again.receipt()["success"], &again.receipt()["transaction"]), (&json!(true), &first.receipt()["transaction"]));
            }
            assert_eq!(shop.server.runs(&call.tool), runs, "{how} {}: nothing ran again", call.tool);
        }
    }
}

#[tokio::test]
async fn ten_megabytes_of_arguments_are_sold_as_any_others() {
    let shop = Shop::open(ROUTES, SETTINGS).await;
    let payer = Wallet::new(1);
    let coins = shop.devnet.fund(&payer, 10 * KAS, 1).await;
    let call = Call::of("search", json!({"x": "x".repeat(10_000_000)}));
    let (transaction, payment) = shop.pay(&call, &payer, &coins).await;
    assert!(shop.server.seen().is_empty(), "only the offers were asked for");
    let other = Call::of("search", json!({"x": format!("{}y", "x".repeat(9_999_999))}));
    let refused = shop.post(&other.message(1, Some(&payment))).await;
    assert!(shop.server.seen().is_empty() && !refused.text().contains("secret"), "{:?}", refused.code());
    shop.post(&call.message(1, Some(&payment))).await.served(1, &transaction);
    assert!(shop.server.last().body.len() > 10_000_000);
    let too_long = call.message(1, None).to_string().replacen('x', &"x".repeat(7 * MIB), 1);
    let response = HTTP.post(shop.url()).header("content-type", "application/json").body(too_long).send().await;
    assert!(response.is_err() || response.is_ok_and(|response| response.status() == 413), "its body is not read to the end");
    assert_eq!(shop.server.runs("search"), 1);
}

/// What may lie between a server and a client that does not read: buffers of the kernel, and of both connections.
const BUFFERS: usize = 24 * MIB;

#[tokio::test]
async fn who_reads_slowly_holds_up_nobody_else_and_little_memory() {
    let shop = Shop::open(ROUTES, SETTINGS).await;
    let payer = Wallet::new(1);
    let coins = shop.devnet.fund(&payer, 10 * KAS, 2).await;
    // Everything that is needed once is there.
    let call = Call::of("search", json!({}));
    let (transaction, payment) = shop.pay(&call, &payer, &coins[..1]).await;
    shop.post(&call.message(1, Some(&payment))).await.served(1, &transaction);
    let before = memory(&shop);

    let slow = [shop.listen(Some("pours-slow")).await, shop.listen(Some("pours-slow")).await];
    let call = Call::of("search", json!({"how": "pours", "tag": "call"}));
    let (transaction, payment) = shop.pay(&call, &payer, &coins[1..]).await;
    let unread = shop.begin(call.message(2, Some(&payment)).to_string().as_bytes(), &[]).await;
    // Meanwhile others read as much as they like.
    let mut quick = shop.listen(Some("pours-quick")).await;
    let mut read = 0;
    while read < 64 * MIB {
        read += quick.chunk().await.expect("a stream without end").len();
        quick.text.clear();
        assert!(shop.server.poured("pours-slow") < 2 * BUFFERS, "the server is asked for no more than there is room for");
    }
    for id in 0..16 {
        assert_eq!(shop.post(&json!({"jsonrpc": "2.0", "id": id, "method": "ping"})).await.message["id"], id);
    }
    // A call that was paid for goes on although nobody takes what it says meanwhile.
    shop.gateway.until_within(PATIENCE, "read", async || shop.server.poured("pours-call") > 2 * BUFFERS).await;
    shop.server.open_gate();
    let got = shop.post(&call.message("later", Some(&payment))).await;
    got.served("later", &transaction);
    let grown = memory(&shop).saturating_sub(before);
    assert!(grown < 3 * BUFFERS, "{grown} bytes more");
    drop((slow, unread, quick));
    assert_eq!(shop.server.runs("search"), 2);
}

#[tokio::test]
async fn old_answers_give_way_and_are_still_what_their_payment_buys() {
    let shop = Shop::open(&ROUTES.replace("65536", "4194304"), SETTINGS).await;
    let payer = Wallet::new(1);
    let mut channel = channels::open(&shop, &payer, &Call::of("ask", json!({}))).await;
    let mut payments = Vec::new();
    // More than the 8 MiB that are kept for streams that are resumed late, each in a session of its own.
    for n in 0..10 {
        let call = Call::of("ask", json!({"how": "long_sse", "tag": n.to_string()}));
        channel.renewed = None;
        let payment = channels::paying(&shop, &mut channel, &call).await;
        let session = format!("session-{n}");
        let message = call.message(n, Some(&payment)).to_string();
        let got = shop.post_with(message.as_bytes(), &[("mcp-session-id", &session)]).await;
        channel.served(&got.as_http());
        payments.push((call, payment, got));
    }
    let (call, payment, first) = &payments[0];
    let mut early = shop.listen(Some("long-0")).await;
    shop.server.push(json!({"jsonrpc": "2.0", "method": "after"}));
    assert_eq!(early.messages(1).await[0]["method"], "after");
    assert!(!early.text.contains("secret") && !early.text.contains("kas402call"));
    let mut late = shop.listen(Some("long-9")).await;
    let answer = late.messages(1).await.remove(0);
    assert_eq!((&answer["id"], &answer["result"]), (&json!(9), payments[9].2.result()));
    let again = shop.post(&call.message("again", Some(payment))).await;
    assert_eq!((&again.message["id"], &again.result()["content"]), (&json!("again"), &first.result()["content"]));
    assert_eq!(shop.server.runs("ask"), 11, "the stored result, although it is over a mebibyte");
}
