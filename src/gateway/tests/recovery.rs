//! Another process takes up what one left open.

use super::world::{Ask, FINAL_DEPTH, HOLD, World};
use crate::{protocol::refusal::Code, store::PaymentState};

#[tokio::test(start_paused = true)]
async fn what_was_sent_is_followed_and_sent_again_after_a_restart() {
    let mut world = World::new().await;
    world.chain.accept_at_once(false);
    let payment = world.pay(Ask::get("/paid")).await;
    world.send(&payment.ask()).await.pending(Code::SettlementPending, payment.txid);
    world.restart().await;
    world.chain.down("disconnected");
    world.chain.lose_mempool();
    world.chain.up();
    assert_eq!(world.chain.submits(), [payment.txid, payment.txid]);
    world.chain.accept(payment.txid);
    world.until("noted", async || world.record(payment.txid).await.unwrap().acceptance.is_some()).await;
    world.send(&payment.ask()).await.served(payment.txid);
    world.chain.advance(FINAL_DEPTH);
    world.until("final", async || world.record(payment.txid).await.unwrap().is_final).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_perhaps_never_sent_is_not_sent_by_the_gateway() {
    let mut world = World::new().await;
    world.chain.accept_at_once(false);
    let payment = world.pay(Ask::get("/paid")).await;
    world.chain.hold_submits();
    let asked = world.spawn(&payment.ask());
    world.until("claimed", async || world.record(payment.txid).await.is_some()).await;
    asked.abort();
    world.restart().await;
    world.chain.down("disconnected");
    world.chain.up();
    assert_eq!(world.chain.submits(), []);
    assert_eq!(world.record(payment.txid).await.unwrap().state, PaymentState::Pending);
}

#[tokio::test(start_paused = true)]
async fn a_hold_of_a_dead_process_is_waited_for() {
    let mut world = World::new().await;
    let payment = world.pay(Ask::get("/paid")).await;
    // Claimed, and the answer lost: nobody renews that hold.
    world.store.fail(super::fakes::Verb::Claim, super::fakes::Fault::After);
    world.send(&payment.ask()).await.refused(Code::StoreUnavailable);
    world.restart().await;
    let began = tokio::time::Instant::now();
    world.send(&payment.ask()).await.served(payment.txid);
    assert!(began.elapsed() <= HOLD + HOLD / 2, "{:?}", began.elapsed());
    assert_eq!(world.upstream.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_paid_request_of_a_dead_process_is_served_without_a_node() {
    let mut world = World::new().await;
    world.upstream.play([super::fakes::answer(500, "")]);
    let payment = world.pay(Ask::get("/paid")).await;
    assert_eq!(world.send(&payment.ask()).await.status(), 500);
    world.restart().await;
    world.chain.down("disconnected");
    world.send(&payment.ask()).await.served(payment.txid);
    assert_eq!(world.chain.submits().len(), 1);
}
