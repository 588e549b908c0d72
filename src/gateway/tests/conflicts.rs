//! Double spends, depth and reorgs.

use super::{
    pay::new_coin,
    shop::exact_terms,
    world::{Ask, FINAL_DEPTH, PRICE, World},
};
use crate::{
    protocol::{
        ids::TxId,
        refusal::Code,
        requirements::{Finality, FinalityRule},
    },
    store::PaymentState,
};
use std::time::Duration;

/// A shop whose payments count that deep.
pub async fn confirmed(depth: u64) -> World {
    let world =
        World::with(move |pricing| pricing.accepts[0].terms = exact_terms(FinalityRule { level: Finality::Confirmed, depth })).await;
    world.chain.accept_at_once(false);
    world
}

#[tokio::test(start_paused = true)]
async fn of_two_conflicting_transactions_one_buys_something() {
    let world = World::new().await;
    world.chain.accept_at_once(false);
    let coin = new_coin();
    let one = world.pay_from(Ask::get("/paid?1"), coin).await;
    let accepted = world.offer(&Ask::get("/paid?2")).await;
    // The same coin and payee: any difference makes it another transaction.
    let mut signed = world.sign(&accepted, coin);
    signed.transaction.payload = vec![2];
    signed.transaction.finalize();
    signed.txid = signed.transaction.id().into();
    let two = world.present(Ask::get("/paid?2"), accepted, signed, &world.payer);
    assert_ne!(one.txid, two.txid);
    let (first, second) = (world.spawn(&one.ask()), world.spawn(&two.ask()));
    world.until_submitted(2).await;
    world.chain.accept(one.txid);
    world.chain.conflict(two.txid, one.txid);
    first.await.unwrap().served(one.txid);
    // Accepted, but not final: the money of the second may still move.
    second.await.unwrap().pending(Code::SettlementPending, two.txid);
    let began = tokio::time::Instant::now();
    let waiting = world.spawn(&two.ask());
    tokio::task::yield_now().await;
    world.chain.advance(FINAL_DEPTH);
    waiting.await.unwrap().refused(Code::TransactionConflicted);
    assert_eq!(began.elapsed(), Duration::ZERO, "told at once");
    world.send(&two.ask()).await.refused(Code::TransactionConflicted);
    assert_eq!((world.upstream.count(), world.totals().await.charged_sompi), (1, u128::from(PRICE)));
    world.until("closed", async || world.totals().await.reversed == 1).await;
    assert_eq!(world.totals().await.reversed_sompi, 0, "it was never charged");
}

#[tokio::test(start_paused = true)]
async fn a_confirmed_payment_waits_for_its_depth_and_not_longer() {
    let world = confirmed(10).await;
    let payment = world.pay(Ask::get("/paid")).await;
    let asked = world.spawn(&payment.ask());
    world.until_submitted(1).await;
    world.chain.accept(payment.txid);
    for _ in 0..9 {
        world.chain.advance(1);
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        assert_eq!(world.upstream.count(), 0);
    }
    world.chain.advance(1);
    asked.await.unwrap().served(payment.txid);
}

#[tokio::test(start_paused = true)]
async fn an_acceptance_taken_back_while_waiting_releases_nothing() {
    let world = confirmed(10).await;
    let payment = world.pay(Ask::get("/paid")).await;
    let asked = world.spawn(&payment.ask());
    world.until_submitted(1).await;
    world.chain.accept(payment.txid);
    world.chain.advance(5);
    world.until("noted", async || world.record(payment.txid).await.unwrap().acceptance.is_some()).await;
    world.chain.take_back(payment.txid);
    world.chain.advance(50);
    asked.await.unwrap().pending(Code::SettlementPending, payment.txid);
    assert_eq!(world.record(payment.txid).await.unwrap().acceptance, None);
    assert_eq!((world.upstream.count(), world.totals().await.charged_sompi), (0, 0));
    // Accepted again, deeper blocks count from there.
    world.chain.accept(payment.txid);
    world.send(&payment.ask()).await.pending(Code::SettlementPending, payment.txid);
    world.chain.advance(10);
    world.send(&payment.ask()).await.served(payment.txid);
}

#[tokio::test(start_paused = true)]
async fn a_delivered_payment_whose_conflict_becomes_final_is_booked_back() {
    let world = World::new().await;
    let payment = world.pay(Ask::get("/paid")).await;
    world.send(&payment.ask()).await.served(payment.txid);
    world.chain.take_back(payment.txid);
    let conflict = world.chain.conflict(payment.txid, TxId([9; 32]));
    world.chain.advance(FINAL_DEPTH - 1);
    world.until("noted", async || world.record(payment.txid).await.unwrap().acceptance.is_none()).await;
    assert_eq!(world.record(payment.txid).await.unwrap().state, PaymentState::Delivered, "{conflict:?} is not final");
    world.chain.advance(1);
    world.until("reversed", async || world.gateway.metrics().reversed.get() == 1).await;
    let totals = world.totals().await;
    assert_eq!((totals.reversed, totals.reversed_sompi, totals.charged_sompi), (1, u128::from(PRICE), u128::from(PRICE)));
    assert_eq!(world.gateway.metrics().reversed_sompi.get(), PRICE);
    world.send(&payment.ask()).await.refused(Code::TransactionConflicted);
}

#[tokio::test(start_paused = true)]
async fn a_settled_request_is_not_served_while_its_payment_is_taken_back() {
    let world = World::new().await;
    world.upstream.play([super::fakes::answer(500, "down")]);
    let payment = world.pay(Ask::get("/paid")).await;
    assert_eq!(world.send(&payment.ask()).await.status(), 500);
    world.chain.take_back(payment.txid);
    world.until("noted", async || world.record(payment.txid).await.unwrap().acceptance.is_none()).await;
    world.send(&payment.ask()).await.pending(Code::SettlementPending, payment.txid);
    assert_eq!(world.upstream.count(), 1);
    world.chain.accept(payment.txid);
    world.send(&payment.ask()).await.served(payment.txid);
    assert_eq!(world.totals().await.charged_sompi, u128::from(PRICE));
    assert_eq!(world.gateway.metrics().charged_sompi.get(), PRICE);
}

#[tokio::test(start_paused = true)]
async fn a_mempool_payment_that_lost_its_race_is_not_served_later() {
    let world = World::with(|pricing| pricing.accepts[0].terms = exact_terms(FinalityRule { level: Finality::Mempool, depth: 0 })).await;
    world.chain.accept_at_once(false);
    let fast = world.pay(Ask::get("/paid?1")).await;
    world.send(&fast.ask()).await.served(fast.txid);
    let lost = world.pay(Ask::get("/paid?2")).await;
    world.store.fail(super::fakes::Verb::Settled, super::fakes::Fault::Before);
    world.send(&lost.ask()).await.pending(Code::StoreUnavailable, lost.txid);
    world.chain.conflict(lost.txid, TxId([9; 32]));
    world.send(&lost.ask()).await.pending(Code::SettlementPending, lost.txid);
    assert_eq!(world.upstream.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_final_payment_is_watched_no_longer() {
    let world = World::new().await;
    let payment = world.pay(Ask::get("/paid")).await;
    world.send(&payment.ask()).await.served(payment.txid);
    assert_eq!(world.gateway.metrics().followed.get(), 1);
    world.chain.advance(FINAL_DEPTH);
    world.until("final", async || world.gateway.metrics().followed.get() == 0).await;
    assert!(world.record(payment.txid).await.unwrap().is_final);
    assert_eq!(world.chain.followed(), 0);
}
