//! Nothing priced reaches the upstream unpaid: not by tricks of paths, methods and framing, and not
//! when the store, the node or an input of the price is missing. Free routes work all the while.

mod support;

#[path = "no_free_lunch/tricks.rs"]
mod tricks;
#[path = "no_free_lunch/wire.rs"]
mod wire;

use http::Request;
use serde_json::json;
use support::{
    devnet::{KAS, Wallet},
    gateway::{Gateway, World},
    pay::{Answer, Ask, prepare},
};
use wire::{looks_priced, status};

const ROUTES: &str = r#"
  - {path: /paid, price: 0.25 KAS}
  - {path: /api/run, methods: [POST], price: 0.25 KAS}
  - {path: "/files/{*rest}", price: 0.25 KAS}
  - {path: "/{*rest}", free: true}
"#;

#[tokio::test]
async fn no_trick_reaches_what_is_priced() {
    let world = World::start(ROUTES, "edge: {h2c: true}").await;
    let address = world.gateway.address();
    let mut wrong = Vec::new();
    let mut known = 0;
    let mut judge = |name: &str, got: u16, expect: u16, answer: &str| {
        let seen = world.upstream.seen();
        let free = seen.len() > known;
        for seen in seen[known..].iter().filter(|seen| looks_priced(seen)) {
            wrong.push(format!("{name}: the upstream saw {} {}", seen.method, seen.target));
        }
        if got != expect || free != (expect == 200) {
            wrong.push(format!("{name}: {got} instead of {expect}, {} forwarded: {:.200}", seen.len() - known, answer));
        }
        known = seen.len();
    };
    for (target, expect) in tricks::PATHS {
        let answer = wire::raw(address, tricks::http1("GET", target, "", "").as_bytes()).await;
        judge(target, status(&answer), *expect, &answer);
    }
    for (name, bytes, expect) in tricks::requests() {
        let answer = wire::raw(address, bytes.as_bytes()).await;
        judge(name, status(&answer), expect, &answer);
    }
    for (method, target, (name, value), expect) in tricks::H2 {
        let request =
            Request::builder().method(*method).uri(*target).version(http::Version::HTTP_2).header(*name, *value).body(()).unwrap();
        let got = wire::h2(address, request).await;
        judge(&format!("HTTP/2 {method} {target} {name}: {value}"), got, *expect, "");
    }
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
    assert!(!world.upstream.seen().iter().any(looks_priced));
}

/// The code of a refusal without offer.
fn refused(answer: &Answer) -> (u16, String) {
    assert!(answer.required().is_none(), "{answer:?}");
    assert!(answer.status != 503 || answer.headers.contains_key("retry-after"), "{answer:?}");
    (answer.status, answer.code())
}

/// A free request is served while `other` is going on.
async fn beside_free<T>(gateway: &Gateway, other: impl Future<Output = T>) -> T {
    let url = gateway.url();
    let free = async {
        let answer = Ask::get("/free").send(&url, None).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "GET /free "));
    };
    let (other, ()) = tokio::join!(other, free);
    other
}

#[tokio::test]
async fn without_the_store_nothing_is_sold() {
    let world = World::start(ROUTES, "").await;
    let (payer, url, ask) = (Wallet::new(1), world.gateway.url(), Ask::get("/paid"));
    let coins = world.devnet.fund(&payer, 10 * KAS, 1).await;
    let (transaction, header) = prepare(&ask, &url, &payer, &coins).await;

    let lock = rusqlite::Connection::open(world.gateway.path("store.db")).unwrap();
    lock.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let answer = beside_free(&world.gateway, ask.send(&url, Some(&header))).await;
    assert_eq!(refused(&answer), (503, "store_unavailable".into()));
    assert_eq!(answer.receipt().unwrap()["transaction"], transaction.id().to_string());
    world.gateway.not_ready().await;
    let answer = beside_free(&world.gateway, ask.send(&url, None)).await;
    assert_eq!(refused(&answer), (503, "store_unavailable".into()), "no offer that could not be kept");
    assert_eq!(world.upstream.count("/paid"), 0);

    lock.execute_batch("ROLLBACK").unwrap();
    world.gateway.ready().await;
    assert_eq!(ask.send(&url, None).await.status, 402, "it recovers by itself");
    assert_eq!(ask.send(&url, Some(&header)).await.status, 200);
    assert_eq!(world.upstream.count("/paid"), 1);
}

#[tokio::test]
async fn without_the_node_nothing_is_sold() {
    let world = World::start(ROUTES, "").await;
    let (payer, url, ask) = (Wallet::new(1), world.gateway.url(), Ask::get("/paid"));
    let coins = world.devnet.fund(&payer, 10 * KAS, 1).await;
    let (_, header) = prepare(&ask, &url, &payer, &coins).await;

    world.devnet.stop_node(0).await;
    world.gateway.not_ready().await;
    for payment in [None, Some(header.as_str())] {
        let answer = beside_free(&world.gateway, ask.send(&url, payment)).await;
        assert_eq!(refused(&answer), (503, "node_unavailable".into()));
    }
    let head = wire::raw(world.gateway.address(), tricks::http1("HEAD", "/paid", "", "").as_bytes()).await;
    assert_eq!(status(&head), 402, "HEAD is 402 whatever happens: {head}");
    assert_eq!(world.upstream.count("/paid"), 0);

    world.devnet.start_node(0).await;
    world.gateway.ready().await;
    assert_eq!(ask.send(&url, Some(&header)).await.status, 200);
}

const TABLES: &str = r#"
  - {id: body, path: /chat, methods: [POST], price: {by: {json: /model}, table: {small: 0.25 KAS, large: 1 KAS}}, body_limit_bytes: 2000}
  - {id: header, path: /tier, price: {by: {header: x-tier}, table: {slow: 0.25 KAS, fast: 1 KAS}}}
  - {id: query, path: /size, price: {by: {query: size}, table: {s: 0.25 KAS, l: 1 KAS}}}
  - {id: method, path: /verb, price: {by: method, table: {GET: 0.25 KAS, POST: 1 KAS}}}
  - {path: "/{*rest}", free: true}
"#;

#[tokio::test]
async fn without_its_input_or_over_its_limit_nothing_is_priced() {
    let world = World::start(TABLES, "").await;
    let url = world.gateway.url();
    let chat = |body: &str| Ask::post("/chat", body);
    let small = json!({ "model": "small" }).to_string();
    let padded = |bytes: usize| small.clone() + &" ".repeat(bytes - small.len());
    for (name, ask, expect) in [
        ("the input", chat(&small), (402, "payment_required")),
        ("no body", chat(""), (400, "price_input")),
        ("no field", chat("{}"), (400, "price_input")),
        ("an unlisted value", chat(r#"{"model":"huge"}"#), (400, "price_input")),
        ("null", chat(r#"{"model":null}"#), (400, "price_input")),
        ("two fields", chat(r#"{"model":"small","model":"large"}"#), (400, "price_input")),
        ("two cases", chat(r#"{"model":"small","Model":"large"}"#), (400, "price_input")),
        ("no JSON", chat("model=small"), (400, "price_input")),
        ("JSON for a form reader", chat(&small).header("content-type", "application/x-www-form-urlencoded"), (400, "price_input")),
        ("compressed", chat(&small).header("content-encoding", "gzip"), (400, "price_input")),
        ("a body at the limit", chat(&padded(2000)), (402, "payment_required")),
        ("a body over the limit", chat(&padded(2001)), (413, "body_too_large")),
        ("a body over the limit, without its input", chat(&"x".repeat(4000)), (413, "body_too_large")),
        ("a header", Ask::get("/tier").header("x-tier", "slow"), (402, "payment_required")),
        ("no header", Ask::get("/tier"), (400, "price_input")),
        ("two headers", Ask::get("/tier").header("x-tier", "slow").header("x-tier", "fast"), (400, "price_input")),
        ("a header and its underscore", Ask::get("/tier").header("x-tier", "slow").header("x_tier", "fast"), (400, "price_input")),
        ("a query", Ask::get("/size?size=s"), (402, "payment_required")),
        ("no query", Ask::get("/size"), (400, "price_input")),
        ("two queries", Ask::get("/size?size=s&size=l"), (400, "price_input")),
        ("two cases of a query", Ask::get("/size?size=s&SIZE=l"), (400, "price_input")),
        ("a query behind a semicolon", Ask::get("/size?size=s;size=l"), (400, "price_input")),
        ("an unlisted method", Ask { method: "PUT".parse().unwrap(), ..Ask::get("/verb") }, (400, "price_input")),
    ] {
        let answer = beside_free(&world.gateway, ask.send(&url, None)).await;
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        let code = if answer.required().is_some() { "payment_required" } else { body["error"].as_str().unwrap() };
        assert_eq!((answer.status, code), expect, "{name}: {}", answer.text());
    }
    // Chunked: the length is known only after reading. No end is sent: the refusal comes at the limit.
    let chunk = format!("{:x}\r\n{}\r\n", 1500, "x".repeat(1500));
    let endless = tricks::http1("POST", "/chat", "Transfer-Encoding: chunked\r\n", &chunk.repeat(2));
    let answer = beside_free(&world.gateway, wire::raw(world.gateway.address(), endless.as_bytes())).await;
    assert_eq!(status(&answer), 413, "{answer}");
    assert!(!answer.to_lowercase().contains("payment-required"));
    assert!(world.upstream.seen().iter().all(|seen| seen.target == "/free"), "only free requests arrived");
}
