//! kill -9 of the gateway at every moment of a purchase: nothing is charged twice, nothing paid is lost,
//! nothing unpaid is released.

mod support;

use support::{
    devnet::{Devnet, KAS, Wallet},
    gateway::{Gateway, World, yaml},
    patience::{Payment, balance, charged_once, in_mempool, number, rival},
    pay::Ask,
    upstream::Upstream,
};

const ROUTES: &str = "  - {path: \"/paid/{*rest}\", price: 0.25 KAS}";
const MORE: &str = "limits: {final_depth: 30}";
const PRICE: u64 = KAS / 4;

/// A gateway, with a seller of its own, that dies at `point` while it sells, and is started again.
async fn dies_and_recovers(devnet: &Devnet, seed: u8, point: &str, forwards: usize, forwards_in_all: usize) {
    let (upstream, seller, payer) = (Upstream::start().await, Wallet::new(100 + seed), Wallet::new(seed));
    let mut gateway = Gateway::prepare(&yaml(&devnet.wrpc, &seller, &upstream.url(), ROUTES, MORE)).await;
    gateway.run(&[("KAS402_CRASH", point)]).await;
    gateway.ready().await;
    let coins = devnet.fund(&payer, 10 * KAS, 1).await;
    let payment = Payment::prepare(Ask::post("/paid/report", "a body"), &gateway.url(), &payer, &coins).await;
    payment.try_send(&gateway.url()).await.expect_err("the connection dies with the process");
    gateway.died().await;
    assert_eq!(upstream.seen().len(), forwards, "{point}");

    gateway.run(&[]).await;
    gateway.ready().await;
    let other = Payment::with(Ask::get("/paid/other"), &payment.message["accepted"], payment.transaction.clone());
    let served = payment.until_served(&gateway, &payer).await;
    assert_eq!((served.status, served.text().as_str()), (200, "POST /paid/report a body"), "{point}: {served:?}");
    let receipt = served.receipt().unwrap();
    assert_eq!((&receipt["success"], &receipt["transaction"]), (&true.into(), &payment.txid().into()), "{point}");
    // Whoever had to prove the key once has to prove it for the replay too.
    let again = payment.until_served(&gateway, &payer).await;
    assert_eq!((again.status, again.text(), again.receipt()), (200, served.text(), Some(receipt)), "{point}: {again:?}");
    other.refused(&gateway.url(), 409, "invalid_kaspa_exact_replay").await;

    assert_eq!(upstream.seen().len(), forwards_in_all, "{point}");
    let key = format!("kas402-{}", payment.txid());
    assert!(upstream.seen().iter().all(|seen| seen.headers["idempotency-key"] == key), "{point}");
    charged_once(&gateway, PRICE).await;
    assert_eq!(balance(devnet, &seller).await, PRICE, "{point}");
}

#[tokio::test]
async fn a_gateway_killed_at_any_moment_of_a_purchase_finishes_it_once_after_its_restart() {
    let devnet = Devnet::start(1, 10.0).await;
    // At once: the hold of a dead process lasts ten seconds.
    tokio::join!(
        dies_and_recovers(&devnet, 1, "claimed", 0, 1),
        dies_and_recovers(&devnet, 2, "submitted", 0, 1),
        dies_and_recovers(&devnet, 3, "accepted", 0, 1),
        dies_and_recovers(&devnet, 4, "settled", 0, 1),
        // The upstream answered, and nobody remembers: asked once more, with the same key.
        dies_and_recovers(&devnet, 5, "answered", 1, 2),
    );
}

#[tokio::test]
async fn a_gateway_killed_while_it_waits_for_the_acceptance_releases_nothing_early_and_loses_nothing() {
    let mut world = World::start(ROUTES, MORE).await;
    let payer = Wallet::new(1);
    let coins = world.devnet.fund(&payer, 10 * KAS, 1).await;
    let payment = Payment::prepare(Ask::get("/paid/report"), &world.gateway.url(), &payer, &coins).await;
    world.devnet.set_rate(0, 0.0).await;
    let waiting = tokio::spawn({
        let (payment, url) = (payment.clone(), world.gateway.url());
        async move { payment.try_send(&url).await }
    });
    in_mempool(&world.devnet, 0, &payment.txid()).await;
    world.gateway.until("pending", async || number(&world.gateway.payments().await, "pending") == 1).await;
    world.gateway.kill().await;
    waiting.await.unwrap().expect_err("the connection dies with the process");

    // Accepted while nobody looks.
    world.devnet.set_rate(0, 10.0).await;
    assert_eq!(balance(&world.devnet, &world.seller).await, PRICE);
    assert_eq!(world.upstream.seen().len(), 0);
    world.gateway.run(&[]).await;
    world.gateway.ready().await;
    assert_eq!(payment.until_served(&world.gateway, &payer).await.status, 200);
    assert_eq!(world.upstream.seen().len(), 1);
    charged_once(&world.gateway, PRICE).await;
}

#[tokio::test]
async fn a_claim_whose_money_went_elsewhere_while_the_gateway_was_dead_releases_nothing() {
    let mut world = World::start(ROUTES, MORE).await;
    let payer = Wallet::new(1);
    let coins = world.devnet.fund(&payer, 10 * KAS, 2).await;
    world.gateway.kill().await;
    world.gateway.run(&[("KAS402_CRASH", "claimed")]).await;
    world.gateway.ready().await;
    let payment = Payment::prepare(Ask::get("/paid/report"), &world.gateway.url(), &payer, &coins[..1]).await;
    payment.try_send(&world.gateway.url()).await.expect_err("the connection dies with the process");
    world.gateway.died().await;
    world.devnet.submit(0, &rival(&payer, &coins[..1])).await.unwrap();
    world.devnet.mine(0, 3).await;

    world.gateway.run(&[]).await;
    world.gateway.ready().await;
    let refused = payment.until_refused(&world.gateway, "invalid_kaspa_exact_conflicting_spend").await;
    assert_eq!(refused.status, 402);
    assert_eq!(world.upstream.seen().len(), 0);
    let anew = Payment::prepare(payment.ask.clone(), &world.gateway.url(), &payer, &coins[1..]).await;
    assert_eq!(anew.send(&world.gateway.url()).await.status, 200);
    let books = world.gateway.payments().await;
    assert_eq!(["delivered", "chargedSompi", "reversedSompi"].map(|name| number(&books, name)), [1, PRICE, 0], "{books}");
}
