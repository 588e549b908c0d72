//! The node goes away at every moment of a payment: nobody pays twice, nothing is released unpaid, nobody has to help.

mod support;

use std::time::Duration;
use support::{
    devnet::{KAS, Wallet},
    gateway::World,
    patience::{Payment, balance, charged_once, in_mempool, number},
    pay::Ask,
};

const ROUTES: &str = "  - {path: \"/brief/{*rest}\", price: 0.25 KAS, settle_wait_seconds: 1}\n  - {path: \"/paid/{*rest}\", price: 0.25 KAS}\n  - {path: \"/{*rest}\", free: true}";
const PRICE: u64 = KAS / 4;

#[tokio::test]
async fn a_node_that_dies_after_the_submit_and_comes_back_settles_the_same_header() {
    let world = World::start(ROUTES, "").await;
    let (payer, url) = (Wallet::new(1), world.gateway.url());
    let coins = world.devnet.fund(&payer, 10 * KAS, 1).await;
    let payment = Payment::prepare(Ask::get("/brief/report"), &url, &payer, &coins).await;

    world.devnet.set_rate(0, 0.0).await;
    let pending = async || {
        let answer = payment.refused(&url, 503, "settlement_pending").await;
        assert_eq!(answer.receipt().unwrap()["extensions"]["kaspa"]["status"], "pending");
    };
    pending().await;
    world.devnet.stop_node(0).await;
    world.gateway.not_ready().await;
    pending().await;
    let unpaid = Ask::get("/brief/other").send(&url, None).await;
    assert_eq!((unpaid.status, unpaid.code().as_str()), (503, "node_unavailable"), "no offer that nobody could settle");
    assert!(unpaid.required().is_none());
    assert_eq!(Ask::get("/free").send(&url, None).await.status, 200, "free routes need no node");

    // The mempool died with the node: the gateway brings the transaction again.
    world.devnet.start_node(0).await;
    world.gateway.ready().await;
    in_mempool(&world.devnet, 0, &payment.txid()).await;
    assert_eq!(world.upstream.count("/brief/report"), 0, "nothing is released before the acceptance");
    world.devnet.set_rate(0, 10.0).await;
    let served = payment.until_served(&world.gateway, &payer).await;
    assert_eq!(served.receipt().unwrap()["transaction"], payment.txid());
    assert_eq!(world.upstream.count("/brief/report"), 1);
    charged_once(&world.gateway, PRICE).await;
    assert_eq!(balance(&world.devnet, &world.seller).await, PRICE);
}

#[tokio::test]
async fn a_request_that_waits_while_the_node_restarts_is_served() {
    let world = World::start(ROUTES, "").await;
    let (payer, url) = (Wallet::new(1), world.gateway.url());
    let coins = world.devnet.fund(&payer, 10 * KAS, 1).await;
    let payment = Payment::prepare(Ask::get("/paid/report"), &url, &payer, &coins).await;
    world.devnet.set_rate(0, 0.0).await;
    let waiting = tokio::spawn({
        let (payment, url) = (payment.clone(), url.clone());
        async move { payment.send(&url).await }
    });
    in_mempool(&world.devnet, 0, &payment.txid()).await;
    world.devnet.restart_node(0).await;
    in_mempool(&world.devnet, 0, &payment.txid()).await;
    world.devnet.set_rate(0, 10.0).await;
    let served = waiting.await.unwrap();
    assert_eq!(served.status, 200, "{served:?}");
    charged_once(&world.gateway, PRICE).await;
}

#[tokio::test]
async fn a_node_that_restarts_between_two_payments_needs_nobodys_help() {
    let world = World::start(ROUTES, "").await;
    let (payer, url) = (Wallet::new(1), world.gateway.url());
    let coins = world.devnet.fund(&payer, 10 * KAS, 2).await;
    let first = Payment::prepare(Ask::get("/paid/first"), &url, &payer, &coins[..1]).await;
    assert_eq!(first.send(&url).await.status, 200);
    world.devnet.stop_node(0).await;
    world.gateway.not_ready().await;
    let again = first.send(&url).await;
    assert_eq!((again.status, again.text().as_str()), (200, "GET /paid/first "), "what is stored needs no node");
    world.devnet.start_node(0).await;
    world.gateway.ready().await;
    let second = Payment::prepare(Ask::get("/paid/second"), &url, &payer, &coins[1..]).await;
    let served = second.send(&url).await;
    assert_eq!(served.status, 200, "{served:?}");
    let payments = world.gateway.payments().await;
    assert_eq!(["delivered", "chargedSompi"].map(|name| number(&payments, name)), [2, 2 * PRICE], "{payments}");
}

#[tokio::test]
async fn a_node_that_is_down_before_the_submit_costs_nothing_and_the_same_header_settles_later() {
    let world = World::start(ROUTES, "").await;
    let (payer, url) = (Wallet::new(1), world.gateway.url());
    let coins = world.devnet.fund(&payer, 10 * KAS, 1).await;
    let payment = Payment::prepare(Ask::get("/paid/report"), &url, &payer, &coins).await;
    world.devnet.stop_node(0).await;
    world.gateway.not_ready().await;
    payment.refused(&url, 503, "node_unavailable").await;
    assert_eq!(number(&world.gateway.payments().await, "chargedSompi"), 0);
    world.devnet.start_node(0).await;
    world.gateway.ready().await;
    let served = payment.send(&url).await;
    assert_eq!(served.status, 200, "its own submit: no proof is needed: {served:?}");
    assert_eq!(world.upstream.count("/paid/report"), 1);
    charged_once(&world.gateway, PRICE).await;
}

#[tokio::test]
async fn a_proven_rejection_offers_anew_and_the_corrected_payment_works() {
    let world = World::start(ROUTES, "").await;
    let (payer, url) = (Wallet::new(1), world.gateway.url());
    let coins = world.devnet.fund(&payer, 10 * KAS, 1).await;
    let payment = Payment::prepare(Ask::get("/paid/report"), &url, &payer, &coins).await;
    let forged = payment.forged();
    assert_eq!(forged.txid(), payment.txid(), "an id covers no signature");
    for _ in 0..2 {
        let rejected = forged.send(&url).await;
        assert_eq!((rejected.status, rejected.code().as_str()), (402, "invalid_kaspa_exact_transaction_rejected"), "{rejected:?}");
        assert!(rejected.required().is_some(), "nothing has moved: paying is safe");
        assert_eq!(number(&world.gateway.payments().await, "pending"), 0, "the claim is freed");
    }
    let served = tokio::time::timeout(Duration::from_secs(60), payment.send(&url)).await.unwrap();
    assert_eq!(served.status, 200, "{served:?}");
    assert_eq!(world.upstream.seen().len(), 1);
    charged_once(&world.gateway, PRICE).await;
}
