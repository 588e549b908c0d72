//! Requests that must not slip past the price list, and what is told without a node.

use super::world::{Ask, BODY_LIMIT, World};
use crate::protocol::refusal::Code;
use http::Method;

#[tokio::test(start_paused = true)]
async fn every_way_to_write_a_priced_path_is_priced_or_refused() {
    let world = World::new().await;
    for (request, status) in [
        (Ask::get("/paid"), 402),
        (Ask::get("//paid"), 402),
        (Ask::get("/./paid"), 402),
        (Ask::get("/free/../paid"), 402),
        (Ask::get("/p%61id"), 402),
        (Ask::get("/%2e/paid"), 402),
        (Ask::get("/paid?"), 402),
        (Ask::get("/paid").on("SHOP.example:8402"), 402),
        (Ask::get("/paid").on("elsewhere.example."), 402),
        (Ask::get("/paid").on(""), 402),
        (Ask::new(Method::DELETE, "/paid"), 402),
        (Ask::new(Method::HEAD, "/paid"), 402),
        (Ask::new(Method::HEAD, "/chat"), 402),
        (Ask::new(Method::from_bytes(b"get").unwrap(), "/paid"), 404),
        (Ask::new(Method::CONNECT, "/paid"), 404),
        (Ask::get("/nothing"), 404),
        (Ask::get("/paid%2F"), 400),
        (Ask::get("/paid%00"), 400),
        (Ask::get("/paid%zz"), 400),
        (Ask::get("/paid%5c"), 400),
        (Ask::get("/paid%c0%af"), 400),
    ] {
        let got = world.send(&request).await;
        assert!(!got.free, "{request:?}");
        assert_eq!(got.status(), status, "{request:?}");
    }
    assert_eq!(world.upstream.count(), 0);
    assert!(world.send(&Ask::get("/free")).await.free);
}

#[tokio::test(start_paused = true)]
async fn head_is_never_served() {
    let world = World::new().await;
    let payment = world.pay(Ask::get("/paid")).await;
    let got = world.send(&Ask::new(Method::HEAD, "/paid").paying(&payment.header())).await;
    assert_eq!(got.status(), 402);
    assert!(got.offers().is_some());
    world.chain.down("disconnected");
    let got = world.send(&Ask::new(Method::HEAD, "/paid")).await;
    assert_eq!((got.status(), got.offers()), (402, None));
    assert_eq!((world.upstream.count(), world.chain.submits().len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_too_long_is_refused_before_any_offer() {
    let world = World::new().await;
    let long = "x".repeat(BODY_LIMIT + 1);
    let got = world.send(&Ask::post("/paid", &long)).await;
    got.refused(Code::BodyTooLarge);
    assert!(got.answer.close);
    assert_eq!(world.send(&Ask::post("/paid", &long[1..])).await.status(), 402);
}

#[tokio::test(start_paused = true)]
async fn a_price_without_its_input_is_no_price() {
    let world = World::new().await;
    for request in [
        Ask::post("/chat", ""),
        Ask::post("/chat", "{}"),
        Ask::post("/chat", r#"{"model":"huge"}"#),
        Ask::post("/chat", r#"{"model":"small","model":"large"}"#),
        Ask::post("/chat", "model=small"),
        Ask::get("/header"),
        Ask::get("/header").with("x-model", "small").with("x-model", "large"),
        Ask::new(Method::PUT, "/method"),
    ] {
        world.send(&request).await.refused(Code::PriceInput);
    }
    assert_eq!(world.upstream.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn without_a_node_priced_routes_are_closed_and_free_ones_open() {
    let world = World::new().await;
    let payment = world.pay(Ask::get("/paid")).await;
    world.send(&payment.ask()).await.served(payment.txid);
    world.chain.down("not_synced");
    let got = world.send(&Ask::get("/paid")).await;
    got.refused(Code::NodeUnavailable);
    assert!(got.header("retry-after").is_some());
    assert!(world.send(&Ask::get("/free")).await.free);
    // What is paid already needs no node.
    world.send(&payment.ask()).await.served(payment.txid);
    world.chain.up();
    world.send(&Ask::get("/paid")).await.refused(Code::PaymentRequired);
}
