//! What passes to the upstream, and what browsers may read.

use super::world::{Ask, PRICE, World};
use http::Method;
use serde_json::{Value, json};

#[tokio::test(start_paused = true)]
async fn what_the_gateway_says_is_never_taken_from_a_client() {
    let world = World::new().await;
    let request = Ask::post("/paid?q=%7e", "body")
        .with("x-kas402-payer", "forged")
        .with("x_kas402_payer", "forged")
        .with("x-kas402-amount-sompi", "1")
        .with("x-kas402-txid", "forged")
        .with("idempotency-key", "forged")
        .with("idempotency_key", "forged")
        .with("x-request-id", "forged")
        .with("x_request_id", "forged")
        .with("payment-response", "forged")
        .with("payment_signature", "forged")
        .with("x-payment", "forged")
        .with("x-http-method-override", "DELETE")
        .with("x-original-url", "/free")
        .with("x_rewrite_url", "/free")
        .with("connection", "x-hop")
        .with("x-hop", "forged")
        .with("te", "forged")
        .with("authorization", "Bearer kept")
        .with("x-custom", "a")
        .with("x-custom", "b");
    let payment = world.pay(request).await;
    world.send(&payment.ask()).await.served(payment.txid);
    let seen = world.upstream.take();
    assert_eq!((seen.method, seen.path_and_query.as_str(), &seen.body[..]), (Method::POST, "/paid?q=%7e", &b"body"[..]));
    let (payer, txid) = (world.payer.address().to_string(), payment.txid.to_string());
    for (name, value) in [
        ("x-kas402-payer", payer.as_str()),
        ("x-kas402-amount-sompi", &PRICE.to_string()),
        ("x-kas402-txid", &txid),
        ("idempotency-key", &format!("kas402-{txid}")),
        ("x-request-id", "r-1"),
        ("authorization", "Bearer kept"),
    ] {
        assert_eq!(seen.headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>(), [value], "{name}");
    }
    assert_eq!(seen.headers.get_all("x-custom").iter().count(), 2);
    for (name, value) in &seen.headers {
        assert!(value != "forged" && value != "DELETE" && value != "/free", "{name}");
        assert!(!name.as_str().starts_with("payment") && name != "connection", "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_payer_is_named_only_by_the_node() {
    let world = World::new().await;
    let payment = world.pay(Ask::get("/paid")).await.changed(|m| m["payload"]["payerAddress"] = "kaspasim:forged".into());
    world.chain.set_inputs(payment.txid, vec![]);
    let got = world.send(&payment.ask()).await;
    got.served(payment.txid);
    assert!(got.receipt().unwrap().get("payer").is_none());
    assert!(!world.upstream.take().headers.contains_key("x-kas402-payer"));
}

#[tokio::test(start_paused = true)]
async fn browsers_read_offers_and_receipts() {
    let world = World::new().await;
    let paid = Ask::get("/paid").with("origin", "https://app.example");
    let payment = world.pay(paid.clone()).await;
    for got in [world.send(&paid).await, world.send(&payment.ask()).await, world.send(&payment.ask()).await] {
        assert_eq!(got.header("access-control-allow-origin"), Some("*"));
        let exposed = got.header("access-control-expose-headers").unwrap();
        assert!(exposed.contains("payment-required") && exposed.contains("payment-response"), "{exposed}");
        assert_eq!(got.header("x-request-id"), Some("r-1"));
    }
    let preflight = Ask::new(Method::OPTIONS, "/paid")
        .with("origin", "https://app.example")
        .with("access-control-request-method", "GET")
        .with("access-control-request-headers", "x-model");
    let got = world.send(&preflight).await;
    assert_eq!((got.status(), got.header("access-control-allow-methods")), (204, Some("GET")));
    assert_eq!(got.header("access-control-allow-headers"), Some("payment-signature, x-model"));
    // Without the preflight's headers it is a request like any other.
    assert_eq!(world.send(&Ask::new(Method::OPTIONS, "/paid")).await.status(), 402);
}

/// Other people's clients want a network in every receipt.
#[tokio::test(start_paused = true)]
async fn a_refusal_names_the_network_that_the_payment_names_and_makes_none_up() {
    let world = World::new().await;
    let payment = world.pay(Ask::get("/paid")).await;
    for (named, told) in [
        (json!("kaspa:simnet"), json!("kaspa:simnet")),
        (json!("kaspa:testnet-10"), json!("kaspa:testnet-10")),
        (json!("simnet"), Value::Null),
        (json!(7), Value::Null),
    ] {
        let mut altered = payment.clone();
        altered.accepted["network"] = named.clone();
        altered.accepted["amount"] = json!("1");
        let got = world.send(&altered.ask()).await;
        assert_eq!(got.receipt().unwrap()["network"], told, "{named}");
    }
}

#[tokio::test(start_paused = true)]
async fn offers_are_in_the_header_and_the_body() {
    let world = World::new().await;
    let got = world.send(&Ask::get("/paid?q=1")).await;
    let offers = got.offers().unwrap();
    assert_eq!(offers, serde_json::from_slice::<serde_json::Value>(&got.answer.body).unwrap());
    assert_eq!((&offers["x402Version"], &offers["resource"]["url"]), (&2.into(), &"https://shop.example/paid?q=1".into()));
    assert!(offers["extensions"]["payment-identifier"]["schema"].is_object());
    assert_eq!(got.header("cache-control"), Some("private, no-store"));
    assert!(got.receipt().is_none(), "nothing was settled");
}
