//! Transactions are public: one that the network knew first is served only to who proves the payer's key,
//! and nobody who paid is asked for money again.

mod support;

use support::{
    devnet::{KAS, Wallet},
    gateway::World,
    patience::{Payment, balance, caught_up, charged_once, number, offers_over},
    pay::Ask,
};

const ROUTES: &str = "  - {path: \"/paid/{*rest}\", price: 0.25 KAS}\n  - {path: \"/brief/{*rest}\", price: 0.25 KAS, offer_seconds: 1}";
const PRICE: u64 = KAS / 4;

#[tokio::test]
async fn a_wallet_that_broadcast_first_is_served_once_it_proves_its_key() {
    let world = World::start(ROUTES, "").await;
    let (payer, url) = (Wallet::new(1), world.gateway.url());
    let coins = world.devnet.fund(&payer, 10 * KAS, 2).await;

    let accepted = Payment::prepare(Ask::get("/paid/accepted"), &url, &payer, &coins[..1]).await;
    world.devnet.submit(0, &accepted.transaction).await.unwrap();
    assert_eq!(balance(&world.devnet, &world.seller).await, PRICE);
    caught_up(&world).await;

    // One that is accepted already, and one that is only in the mempool.
    let fresh = Payment::prepare(Ask::post("/paid/mempool", "with a body"), &url, &payer, &coins[1..]).await;
    world.devnet.set_rate(0, 0.0).await;
    world.devnet.submit(0, &fresh.transaction).await.unwrap();
    for payment in [&accepted, &fresh] {
        let refused = payment.refused(&url, 409, "payer_proof_required").await;
        let receipt = refused.receipt().unwrap();
        let hash = payment.ask.request_hash(&payment.message["accepted"]).to_string();
        assert_eq!(receipt["extensions"]["kaspa"]["requestHash"], hash, "what is to be signed");
    }
    world.devnet.set_rate(0, 10.0).await;
    for payment in [&accepted, &fresh] {
        let served = payment.proven(&payer).send(&url).await;
        assert_eq!(served.status, 200, "{served:?}");
        assert_eq!(served.receipt().unwrap()["payer"], payer.address().to_string());
        assert_eq!(world.upstream.count(&payment.ask.target), 1);
    }
    assert_eq!(number(&world.gateway.payments().await, "chargedSompi"), 2 * PRICE);
}

#[tokio::test]
async fn a_thief_who_presents_a_public_transaction_first_gets_nothing_and_blocks_nobody() {
    let world = World::start(ROUTES, "").await;
    let (payer, thief, url) = (Wallet::new(1), Wallet::new(2), world.gateway.url());
    let coins = world.devnet.fund(&payer, 10 * KAS, 1).await;
    let paid = Payment::prepare(Ask::get("/paid/payer"), &url, &payer, &coins).await;
    let other = Ask::get("/paid/thief");
    let accepted = Payment::offer(&other, &url).await;
    let stolen = Payment::with(other, &accepted, paid.transaction.clone());

    world.devnet.set_rate(0, 0.0).await;
    world.devnet.submit(0, &paid.transaction).await.unwrap();
    stolen.refused(&url, 409, "payer_proof_required").await;
    paid.refused(&url, 409, "payer_proof_required").await;
    world.devnet.set_rate(0, 10.0).await;

    stolen.proven(&thief).refused(&url, 409, "payer_proof_invalid").await;
    // The payer's own proof, seen on the wire, is bound to the payer's request.
    let mut copied = stolen.clone();
    copied.message["extensions"] = paid.proven(&payer).message["extensions"].clone();
    copied.refused(&url, 409, "payer_proof_invalid").await;
    stolen.refused(&url, 409, "payer_proof_required").await;

    let served = paid.proven(&payer).send(&url).await;
    assert_eq!((served.status, served.text().as_str()), (200, "GET /paid/payer "), "{served:?}");
    for thief in [&stolen, &stolen.proven(&thief), &copied] {
        thief.refused(&url, 409, "invalid_kaspa_exact_replay").await;
    }
    assert_eq!((world.upstream.count("/paid/payer"), world.upstream.count("/paid/thief")), (1, 0));
    charged_once(&world.gateway, PRICE).await;
}

#[tokio::test]
async fn a_payment_copied_from_the_chain_buys_nothing() {
    let world = World::start(ROUTES, "").await;
    let (payer, thief, url) = (Wallet::new(1), Wallet::new(2), world.gateway.url());
    let coins = world.devnet.fund(&payer, 10 * KAS, 1).await;
    let paid = Payment::prepare(Ask::get("/paid/payer"), &url, &payer, &coins).await;
    // The thief's offer is older than the payment: only the claim and the key stand in the way.
    let other = Ask::get("/paid/thief");
    let accepted = Payment::offer(&other, &url).await;
    assert_eq!(paid.send(&url).await.status, 200);

    let copied = Payment::with(other, &accepted, paid.transaction.clone());
    for thief in [&copied, &copied.proven(&thief), &copied.proven(&payer)] {
        thief.refused(&url, 409, "invalid_kaspa_exact_replay").await;
    }
    assert_eq!(world.upstream.seen().len(), 1);
    charged_once(&world.gateway, PRICE).await;
}

#[tokio::test]
async fn a_transfer_older_than_the_offer_buys_nothing_even_for_its_payer() {
    let world = World::start(ROUTES, "").await;
    let (payer, url) = (Wallet::new(1), world.gateway.url());
    let coins = world.devnet.fund(&payer, 10 * KAS, 1).await;
    let transfer = payer.pay(&coins, &world.seller.script(), PRICE);
    world.devnet.submit(0, &transfer).await.unwrap();
    assert_eq!(balance(&world.devnet, &world.seller).await, PRICE);
    world.devnet.mine(0, 3).await;
    caught_up(&world).await;

    let ask = Ask::get("/paid/old");
    let accepted = Payment::offer(&ask, &url).await;
    let old = Payment::with(ask, &accepted, transfer);
    old.refused(&url, 409, "payer_proof_required").await;
    old.proven(&payer).refused(&url, 409, "kaspa_exact_older_than_offer").await;
    assert_eq!(world.upstream.seen().len(), 0);
    assert_eq!(number(&world.gateway.payments().await, "chargedSompi"), 0);
}

#[tokio::test]
async fn a_payment_first_presented_after_its_offer_asks_nobody_to_pay_again() {
    let world = World::start(ROUTES, "").await;
    let (payer, url) = (Wallet::new(1), world.gateway.url());
    let coins = world.devnet.fund(&payer, 10 * KAS, 2).await;
    let late = Payment::prepare(Ask::get("/brief/late"), &url, &payer, &coins[..1]).await;
    let probe = Payment::prepare(Ask::get("/brief/probe"), &url, &payer, &coins[1..]).await;
    offers_over(&world.gateway, &probe).await;

    let unpaid = late.send(&url).await;
    assert_eq!((unpaid.status, unpaid.code().as_str()), (402, "offer_expired"), "nothing has moved: {unpaid:?}");
    world.devnet.submit(0, &late.transaction).await.unwrap();
    for late in [&late, &late.proven(&payer)] {
        late.refused(&url, 409, "paid_late").await;
    }
    assert_eq!(world.upstream.seen().len(), 0);
    let payments = world.gateway.payments().await;
    assert_eq!(["pending", "chargedSompi"].map(|name| number(&payments, name)), [1, 0], "listed as unresolved: {payments}");
}
